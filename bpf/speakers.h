/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Sockets whose packets go to the packet engine: how they are marked, and who speaks over them. Included by fence.bpf.c
 * only.
 *
 * nftables queues by the mark of the socket, and udp_sendmsg() reads that before any hook sees the destination. So a UDP
 * socket is marked when it is made, and only a bit of the mark says whether what it sends now is direct; nftables reads
 * that from the socket, behind the hook. Where two threads turn it for each other, what is to be judged may be dropped
 * by egress, and what is direct may be judged: never the other way round.
 *
 * The mark also says which of the kernel's queues takes the packets. Each vendor has one for itself while there are not
 * more vendors than queues, so one that sends more than the engine can judge fills its own.
 */
#ifndef VENDORGATE_SPEAKERS_H
#define VENDORGATE_SPEAKERS_H

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vg_passage);
} passage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_SPEAKERS);
	__type(key, __u32);
	__type(value, struct vg_speaker);
} speakers SEC(".maps");

/* The number of a socket, from 1, and above it that of its queue: as they are in its mark. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} slots SEC(".maps");

/* How many numbers each vendor has; the key 0 has how many numbers were ever given out for the first time. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VG_SCOPES);
	__type(key, __u64);
	__type(value, struct vg_share);
} shares SEC(".maps");

/* How many numbers have their packets in each queue. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VG_QUEUES);
	__type(key, __u32);
	__type(value, __u64);
} crowds SEC(".maps");

/* Numbers whose sockets were closed: those of which nothing can wait for the engine, and the others, the first closed first. */
struct numbers {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, VG_SPEAKERS);
	__uint(key_size, 0);
	__uint(value_size, sizeof(__u32));
};
struct numbers unused SEC(".maps");
struct numbers lingering SEC(".maps");

static const struct vg_speaker nobody = {};

/* Return the mark that lets packets pass; 0: no engine is in force. */
static __always_inline __u32 pass_mark(void)
{
	__u32 zero = 0;
	struct vg_passage *now = bpf_map_lookup_elem(&passage, &zero);

	return now ? now->mark : 0;
}

static __always_inline bool pings(void)
{
	__u32 zero = 0;
	struct vg_passage *now = bpf_map_lookup_elem(&passage, &zero);

	return now && now->mark && now->flags & VG_PASSAGE_PING;
}

static __always_inline struct vg_share *share(__u64 vendor)
{
	struct vg_share none = {}, *mine = bpf_map_lookup_elem(&shares, &vendor);

	if (mine)
		return mine;
	bpf_map_update_elem(&shares, &vendor, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&shares, &vendor);
}

static __always_inline void crowd(__u32 queue, __s64 more)
{
	__u64 *there = bpf_map_lookup_elem(&crowds, &queue);

	if (there)
		__sync_fetch_and_add(there, more);
}

/* Return the queue that the fewest sockets share: one that is nobody's, if there is such. */
static __always_inline __u32 emptiest(void)
{
	__u64 least = -1, *there;
	__u32 found = 0;

	for (__u32 i = 0; i < VG_QUEUES; i++) {
		__u32 queue = i;

		there = bpf_map_lookup_elem(&crowds, &queue);
		if (there && *there < least) {
			least = *there;
			found = i;
		}
	}
	return found;
}

/* Take a number from its vendor: it may be anybody's. */
static __always_inline void disown(__u32 slot, struct vg_speaker *speaker)
{
	__u64 vendor = speaker->vendor;
	struct vg_share *theirs = vendor ? bpf_map_lookup_elem(&shares, &vendor) : NULL;

	speaker->vendor = 0;
	crowd(speaker->queue, -1);
	if (theirs)
		__sync_fetch_and_add(&theirs->numbers, -1);
	bpf_map_push_elem(&unused, &slot, 0);
}

/* True while packets of a closed socket may wait for the engine. */
static __always_inline bool lingers(struct vg_speaker *speaker, __u64 now)
{
	return speaker->closed + (__u64)VG_LINGER * SECOND > now;
}

/* Disown numbers that were closed long enough ago. Each socket that is made frees more than it takes. */
static __always_inline void reclaim(__u64 now)
{
	for (int i = 0; i < VG_PROBES; i++) {
		struct vg_speaker *there;
		__u32 slot = 0;

		if (bpf_map_peek_elem(&lingering, &slot))
			return;
		there = bpf_map_lookup_elem(&speakers, &slot);
		if (there && lingers(there, now))
			return;
		/* Another processor may have taken that one, and this be the next. */
		if (bpf_map_pop_elem(&lingering, &slot))
			return;
		there = bpf_map_lookup_elem(&speakers, &slot);
		if (there && lingers(there, now)) {
			bpf_map_push_elem(&lingering, &slot, 0);
			return;
		}
		if (there)
			disown(slot, there);
	}
}

/* Return a number that nobody has, its entry made; 0: all are in use. */
static __always_inline __u32 vacant(__u64 *given)
{
	__u32 slot = 0;
	__u64 first;

	if (!bpf_map_pop_elem(&unused, &slot))
		return slot;
	first = __sync_fetch_and_add(given, 1) + 1;
	if (first > VG_SPEAKERS)
		return 0;
	slot = first;
	bpf_map_update_elem(&speakers, &slot, &nobody, BPF_NOEXIST);
	return slot;
}

/* Return a number for one more socket of a vendor, and above it that of its queue; 0: there is none. */
static __noinline __u32 claim(__u64 vendor)
{
	struct vg_share *given = share(0), *mine = share(vendor);
	struct vg_speaker *there;
	__u64 before;
	__u32 slot;

	if (!given || !mine || !vendor)
		goto none;
	reclaim(bpf_ktime_get_boot_ns());
	before = __sync_fetch_and_add(&mine->numbers, 1);
	if (before >= VG_SHARE)
		goto back;
	if (!before)
		mine->queue = emptiest();
	slot = vacant(&given->numbers);
	there = slot ? bpf_map_lookup_elem(&speakers, &slot) : NULL;
	if (there) {
		there->vendor = vendor;
		there->closed = 0;
		there->used = 0;
		there->queue = mine->queue;
		crowd(there->queue, 1);
		return slot | there->queue << VG_QUEUE_TURN;
	}
back:
	__sync_fetch_and_add(&mine->numbers, -1);
none:
	count(0, VG_REFUSE_SPEAKER);
	return 0;
}

/* The socket of a number is closed, or was never made. */
static __always_inline void released(__u32 slot, struct vg_speaker *speaker)
{
	if (!speaker->used) {
		disown(slot, speaker);
		return;
	}
	speaker->closed = bpf_ktime_get_boot_ns();
	bpf_map_push_elem(&lingering, &slot, 0);
}

/* Put down who speaks over a socket now, and where to. */
static __always_inline void speaks(struct vg_speaker *speaker, struct vg_address *to)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct vg_process *entry = bpf_map_lookup_elem(&lineage, &pid);
	struct vg_flow *flow = &speaker->flow;

	if (to)
		flow->to = *to;
	flow->uid = (__u32)bpf_get_current_uid_gid();
	if (entry && flow->pid == pid && flow->process.started == entry->started &&
	    flow->process.executed == entry->executed && flow->cgroup == bpf_get_current_cgroup_id())
		return;
	flow->cgroup = bpf_get_current_cgroup_id();
	identify(flow);
}

static __always_inline void begins(struct vg_speaker *speaker, __u64 netns)
{
	speaker->flow.netns = netns;
	speaker->flow.opened = bpf_ktime_get_boot_ns();
	speaker->flow.cookie = 0;
	speaker->flow.sequence = 0;
	speaker->flow.pid = 0;
	__builtin_memset(&speaker->flow.to, 0, sizeof(speaker->flow.to));
	speaks(speaker, 0);
}

/* Return the entry of a number with its queue above it; NULL if it is 0. */
static __always_inline struct vg_speaker *speaker_of(__u32 number)
{
	__u32 slot = number & VG_QUEUE_SLOT;

	return slot ? bpf_map_lookup_elem(&speakers, &slot) : NULL;
}

/* Mark a socket that is being made. False: it has no number, and is not to send to the engine. */
static __always_inline bool enlist(struct bpf_sock *ctx, struct vg_settings *set)
{
	struct vg_speaker *speaker;
	__u32 number, *kept;

	number = claim(current_vendor(set->slice));
	speaker = speaker_of(number);
	kept = speaker ? bpf_sk_storage_get(&slots, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!kept) {
		if (speaker)
			released(number & VG_QUEUE_SLOT, speaker);
		return false;
	}
	*kept = number;
	begins(speaker, bpf_get_netns_cookie(ctx));
	ctx->mark = VG_QUEUE_MARK | number;
	return true;
}

/* The same for a socket that is there; a datagram of it that is under way already is dropped. */
static __always_inline struct vg_speaker *enlisted(struct bpf_sock_addr *ctx, struct vg_settings *set)
{
	struct vg_speaker *speaker;
	__u32 number, *kept;

	if (!ctx->sk)
		return NULL;
	kept = bpf_sk_storage_get(&slots, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return NULL;
	if (*kept)
		return speaker_of(*kept);
	number = claim(current_vendor(set->slice));
	speaker = speaker_of(number);
	if (!speaker)
		return NULL;
	*kept = number;
	begins(speaker, bpf_get_netns_cookie(ctx));
	return speaker;
}

/* Say to nftables whether what the socket sends next is for the engine. Zero when it is said. */
static __always_inline int told(struct bpf_sock_addr *ctx, bool direct)
{
	__u32 *slot, mark;

	if (direct && ctx->sk && !ctx->sk->mark) /* one that has a number has a mark */
		return 0;
	slot = ctx->sk ? bpf_sk_storage_get(&slots, ctx->sk, 0, 0) : NULL;
	if (!slot || !*slot)
		return direct ? 0 : -1;
	mark = VG_QUEUE_MARK | *slot | (direct ? VG_QUEUE_DIRECT : 0);
	if (ctx->sk->mark == mark)
		return 0;
	return bpf_setsockopt(ctx, SOCKET, MARK, &mark, sizeof(mark));
}

/* True when the engine may judge what this socket sends to `to`: it is marked, and its speaker is put down. */
static __always_inline bool given_to_engine(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_address *to)
{
	struct vg_speaker *speaker;
	__u64 netns;
	__u32 *how;

	if (!pass_mark())
		return false;
	netns = bpf_get_netns_cookie(ctx);
	if (netns != set->netns) {
		how = bpf_map_lookup_elem(&namespaces, &netns);
		if (!how || !(*how & VG_SERVED_QUEUE))
			return false;
	}
	speaker = enlisted(ctx, set);
	if (!speaker || told(ctx, false))
		return false;
	if (!speaker->flow.cookie)
		speaker->flow.cookie = bpf_get_socket_cookie(ctx);
	speaker->used = 1;
	speaks(speaker, to);
	return true;
}

#endif
