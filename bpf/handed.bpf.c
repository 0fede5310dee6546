// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Attached to the root cgroup, where the hooks of all sockets run: a governed process may not connect or send over one
 * that was opened outside the slice. For everybody else this is one comparison at connect.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "vendorgate.h"
#include "foreign.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

extern void *bpf_cast_to_kern_ctx(void *) __ksym;

static __always_inline int check(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);

	__u32 why = past_the_fence(kern->sk);

	if (!why)
		return 1;
	bump(why);
	bpf_set_retval(-1); /* EPERM */
	return 0;
}

SEC("cgroup/connect4")
int vg_handed_connect4(struct bpf_sock_addr *ctx)
{
	return check(ctx);
}

SEC("cgroup/connect6")
int vg_handed_connect6(struct bpf_sock_addr *ctx)
{
	return check(ctx);
}

SEC("cgroup/sendmsg4")
int vg_handed_sendmsg4(struct bpf_sock_addr *ctx)
{
	return check(ctx);
}

SEC("cgroup/sendmsg6")
int vg_handed_sendmsg6(struct bpf_sock_addr *ctx)
{
	return check(ctx);
}
