// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Cuts what was direct and is so no longer, or was the packet engine's and is denied: an iterator over the TCP sockets of
 * one network namespace, run whenever the rules change. Egress drops what such a socket sends in any case; this ends it,
 * so that its program is told at once (ECONNABORTED) and what the server still sends is not taken. An object of its own:
 * bpf_sock_destroy() is of linux 6.5.
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

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

SEC("iter/tcp")
int vg_revoke(struct bpf_iter__tcp *ctx)
{
	struct vg_settings *set = current_settings();
	struct sock_common *sk = ctx->sk_common;
	struct vg_socket *kept;

	if (!sk || !set || sk->skc_state == TCP_TIME_WAIT || sk->skc_state == TCP_NEW_SYN_RECV)
		return 0;
	kept = bpf_sk_storage_get(&sockets, (void *)sk, 0, 0);
	if (!kept || (kept->verdict != VG_DIRECT && kept->verdict != VG_KEPT && kept->verdict != VG_QUEUED) || still(set, kept))
		return 0;
	kept->revision = set->revision; /* lets the reset pass, so that the server is told too; the socket is locked */
	bpf_sock_destroy(sk);
	settle(kept);
	kept->verdict = VG_NONE;
	count(account(kept->cgroup), VG_DROP_REVOKED);
	return 0;
}
