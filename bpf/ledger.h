/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What passed and what did not: by reason, by cgroup and way, and the number of each inspected flow. Included by
 * fence.bpf.c only. All additions are atomic: a softirq may send for a cgroup in the middle of its own program.
 */
#ifndef VENDORGATE_LEDGER_H
#define VENDORGATE_LEDGER_H

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_LEDGER);
	__type(key, __u64);
	__type(value, struct vg_coverage);
} coverage SEC(".maps");

/* How many flows of a cgroup were put into `peers`. One number for all processors, unlike the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_LEDGER);
	__type(key, __u64);
	__type(value, __u64);
} sequences SEC(".maps");

static const struct vg_coverage nothing = {};

/* Return the account of a cgroup, opened if need be; NULL when there is no room. */
static __always_inline struct vg_coverage *account(__u64 cgroup)
{
	struct vg_coverage *mine = bpf_map_lookup_elem(&coverage, &cgroup);

	if (mine)
		return mine;
	bpf_map_update_elem(&coverage, &cgroup, &nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(&coverage, &cgroup);
}

static __always_inline void count(struct vg_coverage *mine, __u32 reason)
{
	bump(reason);
	if (mine && reason < VG_REASON_ROOM)
		__sync_fetch_and_add(&mine->reasons[reason], 1);
}

static __always_inline void open_flow(struct vg_coverage *mine, __u32 way)
{
	if (mine)
		__sync_fetch_and_add(&mine->flows[way], 1);
}

/* Count a packet that passes. */
static __always_inline int pass(struct vg_coverage *mine, __u32 reason, __u32 way, __u64 bytes)
{
	count(0, reason);
	if (mine) {
		__sync_fetch_and_add(&mine->packets[way], 1);
		__sync_fetch_and_add(&mine->bytes[way], bytes);
	}
	return 1;
}

/* Take what a socket owes to the ledger. What finds no room there stays owed. */
static __always_inline void settle(struct vg_socket *kept)
{
	__u64 owed = kept->owed & ~VG_OWED_NEVER ? __sync_fetch_and_and(&kept->owed, VG_OWED_NEVER) & ~VG_OWED_NEVER : 0;
	struct vg_coverage *mine = owed ? account(kept->cgroup) : NULL;

	if (mine) {
		bump_by(kept->verdict == VG_SENT ? VG_PASS_DATAGRAM : VG_PASS_DIRECT, owed / VG_OWED_PACKET);
		__sync_fetch_and_add(&mine->packets[VG_WAY_DIRECT], owed / VG_OWED_PACKET);
		__sync_fetch_and_add(&mine->bytes[VG_WAY_DIRECT], owed % VG_OWED_PACKET);
	} else if (owed && owed < VG_OWED_MOST) {
		__sync_fetch_and_add(&kept->owed, owed);
	}
}

/* The same, once and for all: what passes from here on is counted at once. Who adds sees the bit, or is seen here. */
static __always_inline void settle_last(struct vg_socket *kept)
{
	__sync_fetch_and_or(&kept->owed, VG_OWED_NEVER);
	settle(kept);
}

/* Count a packet that passes directly: on its socket, where there is one addition to make and nothing to look up. */
static __always_inline int pass_direct(struct vg_socket *kept, __u64 bytes)
{
	__u64 before = __sync_fetch_and_add(&kept->owed, VG_OWED_PACKET | bytes);

	if (before >= VG_OWED_MOST)
		settle(kept);
	return 1;
}

/* Count a packet that does not. */
static __always_inline int drop(struct vg_coverage *mine, __u32 reason, __u64 bytes)
{
	count(mine, reason);
	if (mine) {
		__sync_fetch_and_add(&mine->packets[VG_WAY_DROPPED], 1);
		__sync_fetch_and_add(&mine->bytes[VG_WAY_DROPPED], bytes);
	}
	return 0;
}

/* An error at once instead of a connection that hangs until it times out. */
static __always_inline int refuse(__u32 reason, int error)
{
	count(account(bpf_get_current_cgroup_id()), reason);
	bpf_set_retval(-error);
	return 0;
}

/* The same for a flow that was to be opened. */
static __always_inline int refuse_flow(__u32 reason, int error)
{
	open_flow(account(bpf_get_current_cgroup_id()), VG_WAY_DROPPED);
	return refuse(reason, error);
}

/* Return whether there is room to number the flows of this cgroup. */
static __always_inline bool numbered(__u64 cgroup)
{
	__u64 none = 0;

	if (bpf_map_lookup_elem(&sequences, &cgroup))
		return true;
	bpf_map_update_elem(&sequences, &cgroup, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sequences, &cgroup);
}

/* Return the next number of this cgroup, from 1; 0 when there is none to be had. */
static __always_inline __u64 next_number(__u64 cgroup)
{
	__u64 *last = bpf_map_lookup_elem(&sequences, &cgroup);

	return last ? __sync_fetch_and_add(last, 1) + 1 : 0;
}

#endif
