// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The hooks that flows pass, by the names that the fence has them under, with programs that do nothing: what they cost is
 * the kernel's, however little is done in them.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define NOTHING(section, name, context) \
	SEC(section) int name(struct context *ctx) \
	{ \
		return 1; \
	}

NOTHING("cgroup/sock_create", vg_create, bpf_sock)
NOTHING("cgroup/sock_release", vg_release, bpf_sock)
NOTHING("cgroup/post_bind4", vg_post_bind4, bpf_sock)
NOTHING("cgroup/post_bind6", vg_post_bind6, bpf_sock)
NOTHING("cgroup/setsockopt", vg_setsockopt, bpf_sockopt)
NOTHING("cgroup/connect4", vg_connect4, bpf_sock_addr)
NOTHING("cgroup/connect6", vg_connect6, bpf_sock_addr)
NOTHING("cgroup/sendmsg4", vg_sendmsg4, bpf_sock_addr)
NOTHING("cgroup/sendmsg6", vg_sendmsg6, bpf_sock_addr)
NOTHING("cgroup_skb/egress", vg_egress, __sk_buff)
NOTHING("sockops", vg_closed, bpf_sock_ops)
NOTHING("cgroup/connect4", vg_handed_connect4, bpf_sock_addr)
NOTHING("cgroup/connect6", vg_handed_connect6, bpf_sock_addr)
NOTHING("cgroup/sendmsg4", vg_handed_sendmsg4, bpf_sock_addr)
NOTHING("cgroup/sendmsg6", vg_handed_sendmsg6, bpf_sock_addr)

SEC("tp_btf/sock_send_length")
int vg_foreign(__u64 *ctx)
{
	return 0;
}
