/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The fence's maps, and what the rules say of a destination. Included by fence.bpf.c only. */
#ifndef VENDORGATE_JUDGE_H
#define VENDORGATE_JUDGE_H

enum {
	INET = 2,
	INET6 = 10,
	LOOPBACK = 1, /* index of lo in every namespace */
	LISTEN = 10,
	IPPROTO_ICMPV6 = 58,
	SOCKET = 1, /* SOL_SOCKET */
	MARK = 36,
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

/* Of those to inspect: what the relay is told. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct vg_flow);
} flows SEC(".maps");

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

/* Cookies of the network namespaces, beside its own, that the relay listens in. Filled when it does, never before. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VG_NAMESPACES);
	__type(key, __u64);
	__type(value, __u32);
} namespaces SEC(".maps");

static __always_inline struct vg_settings *current_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Without this, one vendor's connects would fill the relay's listen queues, and others' would wait behind them. By the
 * vendor, not by the cgroup: who is delegated one makes as many more as it likes.
 */
static __always_inline bool too_many(__u64 vendor)
{
	struct vg_opened first = {.second = bpf_ktime_get_ns() / SECOND, .count = 1};
	struct vg_opened *now = bpf_map_lookup_elem(&rates, &vendor);

	if (!now || now->second != first.second) {
		bpf_map_update_elem(&rates, &vendor, &first, BPF_ANY);
		return false;
	}
	return __sync_fetch_and_add(&now->count, 1) >= VG_RATE;
}

/* Return what the rules of a scope say: the longest prefix holds the whole answer (appliance/kernel/judge.py). Global,
 * so that the verifier looks through it once and not at each of its calls.
 */
__noinline __u32 said_of(__u32 scope, struct vg_address *to)
{
	struct vg_prefix key = {.length = 8 * (sizeof(key) - sizeof(key.length)), .scope = scope};
	struct vg_ranges *ranges;
	__u16 port;

	if (!to)
		return VG_JUDGE_INSPECT;
	port = bpf_ntohs(to->port);
	key.family = to->family;
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

/* Read the IPv4 address that a translator or tunnel on the way would take from an IPv6 one. False if there is none:
 * NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214), IPv4-compatible (RFC 4291), IPv4-translated
 * (RFC 2765).
 */
static __always_inline bool inner(struct vg_address *to, struct vg_address *v4)
{
	__u32 word[4], turn = 0;

	if (to->family != INET6)
		return false;
	__builtin_memcpy(word, to->ip, sizeof(word));
	if (word[0] == bpf_htonl(0x0064ff9b) || (!word[0] && !word[1] && !word[2] && bpf_ntohl(word[3]) > 1) ||
	    (!word[0] && !word[1] && word[2] == bpf_htonl(0xffff0000))) {
		turn = word[3];
	} else if ((word[0] & bpf_htonl(0xffff0000)) == bpf_htonl(0x20020000)) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		turn = (word[0] << 16) | (word[1] >> 16);
#else
		turn = (word[0] >> 16) | (word[1] << 16);
#endif
	} else if (word[0] == bpf_htonl(0x20010000)) {
		turn = ~word[3];
	} else if ((word[2] & bpf_htonl(0xfdffffff)) == bpf_htonl(0x00005efe)) {
		turn = word[3];
	} else {
		return false;
	}
	v4->family = INET;
	v4->port = to->port;
	v4->protocol = to->protocol;
	__builtin_memcpy(v4->ip, &turn, sizeof(turn));
	return true;
}

static __always_inline bool is_direct(__u32 judgement)
{
	return judgement == VG_JUDGE_DIRECT || judgement == VG_JUDGE_HERE;
}

static __always_inline __u32 judgement(struct vg_settings *set, __u64 cgroup, struct vg_address *to)
{
	__u32 *given = bpf_map_lookup_elem(&scopes, &cgroup);
	__u32 scope = given ? *given : set->unknown_scope;
	__u32 said = said_of(scope, to);
	struct vg_address v4 = {};

	if (said != VG_JUDGE_DENY && inner(to, &v4)) {
		__u32 also = said_of(scope, &v4);

		if (also == VG_JUDGE_DENY || also == VG_JUDGE_INSPECT || (also == VG_JUDGE_QUEUE && is_direct(said)))
			return also;
	}
	return said;
}

/* The rules changed since connect: ask them again, about the destination that the process named. */
static __always_inline bool still(struct vg_settings *set, struct vg_socket *kept)
{
	__u32 revision = set->revision, said; /* read before the rules are: what changes meanwhile is asked of again */
	struct vg_address to = kept->to;

	if (kept->revision == revision)
		return true;
	said = judgement(set, kept->cgroup, &to);
	if (kept->verdict == VG_DIRECT ? !is_direct(said) : said == VG_JUDGE_DENY)
		return false;
	if (said == VG_JUDGE_HERE)
		kept->flags |= VG_SOCKET_HERE;
	else
		kept->flags &= ~VG_SOCKET_HERE;
	kept->revision = revision;
	return true;
}

#endif
