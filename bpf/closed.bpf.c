// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What passed to the relay and was never taken by it: the relay's side was closed first, its listen queue was full, or
 * the packet was lost on the way. The ledger counts a byte when it passes the fence; here is told, when a client's
 * socket is closed, how many of those the other end did not acknowledge. They died in this host.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "vendorgate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { CLOSE = 7, SYN_SENT = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_socket);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_LEDGER);
	__type(key, __u64);
	__type(value, struct vg_coverage);
} coverage SEC(".maps");

SEC("sockops")
int vg_closed(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct vg_coverage *mine;
	struct vg_socket *kept;
	__u32 left;

	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB) { /* connect has judged it */
		kept = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;
		if (kept && kept->verdict == VG_INSPECT)
			bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		return 1;
	}
	if (ctx->op != BPF_SOCK_OPS_STATE_CB || ctx->args[1] != CLOSE || !sk)
		return 1;
	kept = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!kept || !(kept->flags & VG_SOCKET_STREAM))
		return 1;
	left = kept->next - ctx->snd_una;
	if (ctx->args[0] == SYN_SENT) /* the SYN has a number too */
		left--;
	mine = bpf_map_lookup_elem(&coverage, &kept->cgroup);
	if (mine && (__s32)left > 0)
		__sync_fetch_and_add(&mine->reasons[VG_UNTAKEN], left);
	kept->flags &= ~VG_SOCKET_STREAM;
	return 1;
}
