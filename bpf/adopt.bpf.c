// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* `existing_connections: keep`: an iterator over the TCP sockets of one network namespace, run once, when the fence is
 * put up where there was none. Those that governed processes hold connected get a verdict of their own and are reported;
 * all others that have none stay without. What connects meanwhile is judged already.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vendorgate.h"
#include "lineage.h"
#include "ledger.h"
#include "judge.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Connected, in any stage of being closed: enum in net/tcp_states.h. */
#define CONNECTED (1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT | 1 << TCP_LAST_ACK | 1 << TCP_CLOSING)

/* Return the id of the cgroup that made the socket, 0 when it is not the slice nor below it. */
static __always_inline __u64 governed_by(struct sock *sk, __u64 slice)
{
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	__u64 own = BPF_CORE_READ(cgroup, kn, id);

	for (int i = 0; i < VG_LEVELS && cgroup; i++) {
		if (BPF_CORE_READ(cgroup, kn, id) == slice)
			return own;
		struct cgroup_subsys_state *above = BPF_CORE_READ(cgroup, self.parent);

		cgroup = above ? container_of(above, struct cgroup, self) : NULL;
	}
	return 0;
}

static __always_inline void address_of(struct vg_address *out, struct sock_common *sk, bool peer)
{
	__u32 v6[4];

	out->protocol = IPPROTO_TCP;
	out->port = peer ? sk->skc_dport : bpf_htons(sk->skc_num);
	if (sk->skc_family == INET6) {
		bpf_probe_read_kernel(v6, sizeof(v6), peer ? &sk->skc_v6_daddr : &sk->skc_v6_rcv_saddr);
		if (v6[0] || v6[1] || v6[2] != bpf_htonl(0xffff)) {
			out->family = INET6;
			__builtin_memcpy(out->ip, v6, sizeof(v6));
			return;
		}
	}
	out->family = INET;
	__u32 v4 = peer ? sk->skc_daddr : sk->skc_rcv_saddr;

	__builtin_memcpy(out->ip, &v4, sizeof(v4));
}

SEC("iter/tcp")
int vg_adopt(struct bpf_iter__tcp *ctx)
{
	struct vg_settings *set = current_settings();
	struct sock_common *sk = ctx->sk_common;
	struct vg_kept report = {};
	struct vg_socket *kept;

	if (!sk || !set || !(1 << sk->skc_state & CONNECTED))
		return 0;
	report.cgroup = governed_by((void *)sk, set->slice);
	if (!report.cgroup || bpf_sk_storage_get(&sockets, (void *)sk, 0, 0))
		return 0;
	kept = bpf_sk_storage_get(&sockets, (void *)sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return 0;
	address_of(&report.from, sk, false);
	address_of(&report.to, sk, true);
	kept->to = report.to;
	kept->cgroup = report.cgroup;
	kept->revision = set->revision;
	kept->verdict = VG_KEPT;
	if (!BPF_CORE_READ((struct sock *)sk, sk_socket)) /* closed by its process: it may say the rest */
		return 0;
	open_flow(account(report.cgroup), VG_WAY_KEPT);
	bpf_seq_write(ctx->meta->seq, &report, sizeof(report));
	return 0;
}
