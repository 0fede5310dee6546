// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Where the kernel takes no LSM programs (lsm.bpf.c): a governed process that sends over a socket from outside, or of a
 * family that no hook of the slice sees (packet, vsock), is killed for it. The send has been made by then, so the first
 * one leaves; that is the promise that is lost without them.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "vendorgate.h"
#include "foreign.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sock_send_length")
int BPF_PROG(vg_foreign, struct sock *sk, int ret, int flags)
{
	if (ret < 0 || !past_the_fence(sk))
		return 0;
	bump(VG_KILL_FOREIGN);
	bpf_send_signal(9);
	return 0;
}
