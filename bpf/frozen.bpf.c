// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A filter of sockets that lets nothing in. The relay attaches it before it looks, for the last time, at what a client
 * sent and it did not read: between that look and the close nothing more is taken, so the ledger is exact. Loaded by
 * the hub and handed to workers: one without rights may attach a program, but not always make one.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("socket")
int vg_frozen(struct __sk_buff *skb)
{
	return 0;
}
