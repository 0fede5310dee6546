/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The fence's maps, its counters, and what the rules say of a destination. Included by fence.bpf.c only. */
#ifndef VENDORGATE_JUDGE_H
#define VENDORGATE_JUDGE_H

enum {
	INET = 2,
	INET6 = 10,
	LOOPBACK = 1, /* index of lo in every namespace */
	LISTEN = 10,
	SOCKET = 1, /* SOL_SOCKET */
	MARK = 36,
	IP = 0, /* SOL_IP */
	IP_OPTIONS = 4,
	BIND_TO_DEVICE = 25,
	BIND_TO_INDEX = 62,
	PAGE = 4096,
	SECOND = 1000000000,
	NOT_PERMITTED = 1,
	IN_USE = 98,
	NO_PROTOCOL = 93,
	REFUSED = 111,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vg_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_socket);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, VG_PEERS);
	__type(key, struct vg_peer);
	__type(value, struct vg_flow);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_PREFIXES);
	__type(key, struct vg_prefix);
	__type(value, struct vg_ranges);
} judge SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VG_SCOPES);
	__type(key, __u64);
	__type(value, __u32);
} scopes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, VG_SCOPES);
	__type(key, __u64);
	__type(value, struct vg_opened);
} rates SEC(".maps");

/* Both filled by lineage.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_PROCESSES);
	__type(key, __u32);
	__type(value, struct vg_process);
} lineage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VG_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 reason)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &reason);

	if (value)
		(*value)++;
}

static __always_inline int drop(__u32 reason)
{
	count(reason);
	return 0;
}

static __always_inline int pass(__u32 reason)
{
	count(reason);
	return 1;
}

/* An error at once instead of a connection that hangs until it times out. */
static __always_inline int refuse(__u32 reason, int error)
{
	bpf_set_retval(-error);
	return drop(reason);
}

static __always_inline struct vg_settings *current_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Without this, one vendor's connects would fill the relay's listen queues, and others' would wait behind them. */
static __always_inline bool too_many(__u64 cgroup)
{
	struct vg_opened first = {.second = bpf_ktime_get_ns() / SECOND, .count = 1};
	struct vg_opened *now = bpf_map_lookup_elem(&rates, &cgroup);

	if (!now || now->second != first.second) {
		bpf_map_update_elem(&rates, &cgroup, &first, BPF_ANY);
		return false;
	}
	return __sync_fetch_and_add(&now->count, 1) >= VG_RATE;
}

static __always_inline __u32 judgement(struct vg_settings *set, __u64 cgroup, struct vg_address *to)
{
	__u32 *scope = bpf_map_lookup_elem(&scopes, &cgroup);
	__u16 port = bpf_ntohs(to->port);
	struct vg_prefix key = {
		.length = 8 * (sizeof(key) - sizeof(key.length)),
		.scope = scope ? *scope : set->unknown_scope,
		.family = to->family,
	};
	struct vg_ranges *ranges;

	__builtin_memcpy(key.ip, to->ip, sizeof(key.ip));
	ranges = bpf_map_lookup_elem(&judge, &key);
	if (!ranges)
		return VG_JUDGE_INSPECT;
	for (__u32 i = 0; i < VG_RANGES && i < ranges->count; i++) {
		struct vg_range *range = &ranges->range[i];

		if (range->protocol == to->protocol && port >= range->low && port <= range->high)
			return range->judgement;
	}
	return VG_JUDGE_INSPECT;
}

#endif
