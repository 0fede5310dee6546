// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What a governed process may do to the network. Attached to the slice, in force when all else of ours is dead.
 *
 * connect judges a destination and keeps the verdict on the socket; egress looks at that verdict only, never at a
 * mark, port or uid that the process could choose:
 *
 *   INSPECT  passes to the relay's port on the loopback device. Getting it there is the work of nftables.
 *   DIRECT   passes. Judged again when the rules change. Over lo only to the vendor's own, see inside.h.
 *   INSIDE   passes over lo: an accepted connection of the same vendor, whose client is direct.
 *   KEPT     passes until the rules deny it: from before the fence, by `existing_connections: keep`.
 *   none     is dropped: UDP-Lite, raw, sockets from before the fence or from outside, accepted connections.
 *   QUEUED   each packet passes by a verdict of the packet engine, which has marked it.
 *   UDP      has no verdict of its own: each packet's destination must be direct, or the engine has marked the packet.
 *
 * The engine's mark is no mark that a process could choose: a number of 32 bits drawn at random, of which only root knows.
 *
 * The flow is written to `peers` by what it sends, not at TCP_CONNECT_CB: egress runs after NAT, and NAT changes
 * the source port when two connections to different servers share one (the kernel does share them). Only the
 * address on the packet is the one that the relay's accept() returns, and conntrack keeps it unique. The packet is
 * the one that completes the handshake: accept() cannot come before it, and SYNs alone cost their sender nothing, so
 * with them one vendor could drive the entries of all others out of the map.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vendorgate.h"
#include "lineage.h"
#include "ledger.h"
#include "judge.h"
#include "packet.h"
#include "inside.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Copy who connects. Left all zero, and so unknown, unless the entry is of the process that runs this. */
static __always_inline void identify(struct vg_flow *flow)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct vg_process *entry = bpf_map_lookup_elem(&lineage, &pid);

	flow->process.started = 0;
	flow->uid = (__u32)bpf_get_current_uid_gid();
	flow->pid = pid;
	if (entry && entry->started == BPF_CORE_READ(task, group_leader, start_boottime)) {
		connects(entry);
		bpf_probe_read_kernel(&flow->process, sizeof(flow->process), entry);
		return;
	}
	count(account(flow->cgroup), VG_UNKNOWN_PROCESS);
}

#include "speakers.h"

/* Send this socket the relay's way, whatever device or mark the process chose. Zero when done. */
static __always_inline int steer(struct bpf_sock_addr *ctx)
{
	int device = 0, mark = VG_STEER_MARK;

	if (bpf_setsockopt(ctx, SOCKET, BIND_TO_INDEX, &device, sizeof(device)))
		return -1;
	return bpf_setsockopt(ctx, SOCKET, MARK, &mark, sizeof(mark));
}

static __always_inline int connect_direct(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_coverage *mine,
					  struct vg_socket *kept, struct vg_address *to, bool here)
{
	int none = 0;

	if (!here && is_loopback(to) && !may_be_own(ctx, set, to))
		return refuse_flow(VG_REFUSE_LOOPBACK, REFUSED);
	/* A socket that was steered before would be sent to the relay again, or to the engine. */
	if (told(ctx, true) || (ctx->sk->mark == VG_STEER_MARK && bpf_setsockopt(ctx, SOCKET, MARK, &none, sizeof(none))))
		return refuse_flow(VG_REFUSE_HOST, REFUSED);
	kept->flags = here ? VG_SOCKET_HERE : 0;
	kept->verdict = VG_DIRECT;
	open_flow(mine, VG_WAY_DIRECT);
	return 1;
}

/* True when the relay can be reached from the socket's network namespace, and reaches what the socket means: the relay
 * connects from its own, where the loopback addresses of another are those of the host.
 */
static __always_inline bool served(struct vg_settings *set, struct vg_socket *kept)
{
	if (kept->netns == set->netns)
		return true;
	return !is_loopback(&kept->to) && bpf_map_lookup_elem(&namespaces, &kept->netns);
}

static __always_inline int connect_inspected(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_socket *kept)
{
	struct vg_flow *flow;

	if (!served(set, kept) || is_link_local(&kept->to))
		return refuse_flow(VG_REFUSE_UNSTEERABLE, REFUSED);
	if (too_many(current_vendor(set->slice)))
		return refuse_flow(VG_REFUSE_RATE, REFUSED);
	if (!numbered(kept->cgroup))
		return refuse_flow(VG_REFUSE_LEDGER, REFUSED);
	flow = bpf_sk_storage_get(&flows, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!flow || steer(ctx))
		return refuse_flow(VG_REFUSE_HOST, REFUSED);
	flow->cookie = bpf_get_socket_cookie(ctx);
	flow->netns = kept->netns;
	flow->cgroup = kept->cgroup;
	flow->to = kept->to;
	flow->opened = bpf_ktime_get_boot_ns();
	flow->sequence = 0;
	identify(flow);
	kept->verdict = VG_INSPECT;
	return 1;
}

static __always_inline int connect_queued(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_socket *kept)
{
	if (too_many(current_vendor(set->slice)))
		return refuse_flow(VG_REFUSE_RATE, REFUSED);
	if (!given_to_engine(ctx, set, &kept->to))
		return refuse_flow(VG_REFUSE_UNSTEERABLE, REFUSED);
	kept->verdict = VG_QUEUED;
	open_flow(account(kept->cgroup), VG_WAY_ENGINE);
	return 1;
}

extern void *bpf_cast_to_kern_ctx(void *) __ksym __weak;

/* Return what a socket owes from the beginning: nobody says that one which the kernel itself uses is closed. */
static __always_inline __u64 owed_by(struct sock *sk)
{
	return !sk || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) ? VG_OWED_NEVER : 0;
}

static __always_inline int connect_tcp(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_address *to)
{
	struct vg_socket *kept = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct bpf_sock_addr_kern *kern;
	struct vg_coverage *mine;
	__u32 said;

	if (!kept)
		return refuse_flow(VG_REFUSE_HOST, REFUSED);
	settle(kept);
	kern = bpf_cast_to_kern_ctx ? bpf_cast_to_kern_ctx(ctx) : NULL; /* before linux 6.2 it cannot be asked */
	kept->owed = owed_by(kern ? kern->sk : NULL);
	kept->verdict = VG_NONE;
	kept->flags = 0;
	kept->revision = set->revision;
	kept->to = *to;
	kept->netns = bpf_get_netns_cookie(ctx);
	kept->cgroup = bpf_get_current_cgroup_id();
	mine = account(kept->cgroup);
	if (!mine)
		return refuse_flow(VG_REFUSE_LEDGER, REFUSED);
	if (set->relay_port && bpf_ntohs(to->port) == set->relay_port && is_loopback(to))
		return refuse_flow(VG_REFUSE_RELAY, REFUSED);
	said = judgement(set, kept->cgroup, to);
	if (said == VG_JUDGE_DENY)
		return refuse_flow(VG_REFUSE_RULE, REFUSED);
	if (is_direct(said))
		return connect_direct(ctx, set, mine, kept, to, said == VG_JUDGE_HERE);
	if (said == VG_JUDGE_QUEUE)
		return connect_queued(ctx, set, kept);
	return connect_inspected(ctx, set, kept);
}

static __always_inline int connect(struct bpf_sock_addr *ctx, struct vg_address *to)
{
	struct vg_settings *set = current_settings();
	__u32 said;

	if (!set || !ctx->sk)
		return refuse_flow(VG_REFUSE_HOST, REFUSED);
	to->protocol = ctx->protocol;
	to->port = ctx->user_port;
	if (to->protocol == IPPROTO_TCP)
		return connect_tcp(ctx, set, to);
	if (to->protocol == IPPROTO_ICMP || to->protocol == IPPROTO_ICMPV6) {
		to->port = 0;
		if (!pings())
			return refuse_flow(VG_REFUSE_SOCKET, NO_PROTOCOL);
	} else if (to->protocol != IPPROTO_UDP) {
		return refuse_flow(VG_REFUSE_SOCKET, NO_PROTOCOL);
	}
	said = judgement(set, bpf_get_current_cgroup_id(), to);
	if (said == VG_JUDGE_DENY)
		return refuse_flow(VG_REFUSE_RULE, REFUSED);
	if (is_direct(said))
		return told(ctx, true) ? refuse_flow(VG_REFUSE_HOST, REFUSED) : 1;
	/* Others may connect: name resolution does so to choose a source address. What the engine is not given never passes. */
	given_to_engine(ctx, set, to);
	return 1;
}

/* True when the datagram goes where the one that is kept went, and by the same rules. */
static __always_inline bool as_before(struct vg_socket *kept, __u32 revision, struct vg_address *to)
{
	__u64 then[3], now[3];

	__builtin_memcpy(then, &kept->to, sizeof(then));
	__builtin_memcpy(now, to, sizeof(now));
	return kept->revision == revision && then[0] == now[0] && then[1] == now[1] && then[2] == now[2];
}

/* What the rules say of a datagram, which may be what egress found when it judged one before. */
static __always_inline __u32 said_of_datagram(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_address *to)
{
	struct vg_socket *kept = ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, 0, 0) : NULL;
	__u64 cgroup = bpf_get_current_cgroup_id();

	if (kept && kept->verdict == VG_SENT && kept->cgroup == cgroup && as_before(kept, set->revision, to))
		return VG_JUDGE_DIRECT;
	return judgement(set, cgroup, to);
}

/* A datagram that names its destination. Egress judges each packet; this answers before one is made. */
static __always_inline int send(struct bpf_sock_addr *ctx, struct vg_address *to)
{
	struct vg_settings *set = current_settings();
	__u32 said;

	if (!set)
		return refuse(VG_REFUSE_HOST, REFUSED);
	to->protocol = IPPROTO_UDP;
	to->port = ctx->user_port;
	said = said_of_datagram(ctx, set, to);
	if (said == VG_JUDGE_DENY)
		return refuse(VG_REFUSE_RULE, REFUSED);
	if (is_direct(said))
		return told(ctx, true) ? refuse(VG_REFUSE_HOST, REFUSED) : 1;
	return given_to_engine(ctx, set, to) ? 1 : refuse(VG_DROP_DATAGRAM, NOT_PERMITTED);
}

static __always_inline void set_v4(struct vg_address *to, __u32 ip)
{
	/* Zero means this host, and so the kernel takes it as 127.0.0.1. */
	if (!ip)
		ip = bpf_htonl(0x7f000001);
	to->family = INET;
	__builtin_memcpy(to->ip, &ip, 4);
}

static __always_inline bool set_v6(struct bpf_sock_addr *ctx, struct vg_address *to)
{
	__u32 ip[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return false;
	if (!ip[0] && !ip[1] && ip[2] == bpf_htonl(0xffff)) {
		set_v4(to, ip[3]);
	} else if (!ip[0] && !ip[1] && !ip[2] && !ip[3]) {
		/* This host; over IPv4 when the socket is bound to a mapped address. */
		if (sk->src_ip6[2] == bpf_htonl(0xffff)) {
			set_v4(to, 0);
		} else {
			to->family = INET6;
			to->ip[15] = 1;
		}
	} else {
		to->family = INET6;
		__builtin_memcpy(to->ip, ip, sizeof(ip));
	}
	return true;
}

SEC("cgroup/connect4")
int vg_connect4(struct bpf_sock_addr *ctx)
{
	struct vg_address to = {};

	set_v4(&to, ctx->user_ip4);
	return connect(ctx, &to);
}

SEC("cgroup/connect6")
int vg_connect6(struct bpf_sock_addr *ctx)
{
	struct vg_address to = {};

	if (!set_v6(ctx, &to))
		return refuse_flow(VG_REFUSE_HOST, REFUSED);
	return connect(ctx, &to);
}

SEC("cgroup/sendmsg4")
int vg_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct vg_address to = {};

	set_v4(&to, ctx->user_ip4);
	return send(ctx, &to);
}

SEC("cgroup/sendmsg6")
int vg_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct vg_address to = {};

	if (!set_v6(ctx, &to))
		return refuse(VG_REFUSE_HOST, REFUSED);
	return send(ctx, &to);
}

/* Nobody governed may hold the relay's port while the relay is away. Asked when the port is chosen, by whomever. */
static __always_inline int post_bind(struct bpf_sock *ctx)
{
	struct vg_settings *set = current_settings();
	__u64 *owner;

	if (!set || (set->relay_port && ctx->src_port == set->relay_port))
		return refuse(VG_REFUSE_RELAY, IN_USE);
	owner = bpf_sk_storage_get(&owners, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner)
		*owner = current_vendor(set->slice);
	return 1;
}

SEC("cgroup/post_bind4")
int vg_post_bind4(struct bpf_sock *ctx)
{
	return post_bind(ctx);
}

SEC("cgroup/post_bind6")
int vg_post_bind6(struct bpf_sock *ctx)
{
	return post_bind(ctx);
}

/* Options that name another way or another sender than the addresses do: linux/in.h, linux/in6.h. Of packet and XDP
 * sockets, all: this hook is the only one that sees those, and without options they go by the slow way or not at all.
 */
static __always_inline bool misleads(__s32 level, __s32 name)
{
	if (level == 255 /* SOL_RAW */ || level == 263 /* SOL_PACKET */ || level == 283 /* SOL_XDP */)
		return true;
	if (level == SOCKET)
		return name == MARK || name == 75 /* SO_RCVMARK */;
	/* What is joined, the kernel announces on the wire: addresses of groups and sources that the vendor chooses. */
	if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && name >= 42 /* MCAST_JOIN_GROUP */ &&
	    name <= 48 /* MCAST_MSFILTER */)
		return true;
	if (level == IPPROTO_IP && name >= 35 /* IP_ADD_MEMBERSHIP */ && name <= 41 /* IP_MSFILTER */)
		return true;
	if (level == IPPROTO_IPV6 && (name == 20 /* IPV6_JOIN_GROUP */ || name == 27 /* IPV6_JOIN_ANYCAST */))
		return true;
	if (level == IPPROTO_IP)
		return name == 3 /* IP_HDRINCL */ || name == 4 /* IP_OPTIONS */ || name == 15 /* IP_FREEBIND */ ||
		       name == 19 /* IP_TRANSPARENT */;
	if (level == IPPROTO_IPV6)
		return name == 6 /* IPV6_2292PKTOPTIONS */ || name == 36 /* IPV6_HDRINCL */ ||
		       name == 54 /* IPV6_HOPOPTS */ || name == 55 /* IPV6_RTHDRDSTOPTS */ || name == 57 /* IPV6_RTHDR */ ||
		       name == 59 /* IPV6_DSTOPTS */ || name == 75 /* IPV6_TRANSPARENT */ || name == 78 /* IPV6_FREEBIND */;
	return false;
}

/* Binding TCP to a device does nothing here: a redirected packet would still be routed to that device, and connect
 * may not undo the binding of a process without CAP_NET_RAW.
 */
SEC("cgroup/setsockopt")
int vg_setsockopt(struct bpf_sockopt *ctx)
{
	if (ctx->level == SOCKET && (ctx->optname == BIND_TO_DEVICE || ctx->optname == BIND_TO_INDEX) && ctx->sk &&
	    ctx->sk->protocol == IPPROTO_TCP)
		ctx->optlen = -1; /* success, without asking the kernel */
	else if (misleads(ctx->level, ctx->optname))
		return refuse(VG_REFUSE_OPTION, NOT_PERMITTED);
	else if (ctx->optlen > PAGE)
		ctx->optlen = 0; /* more than the kernel shows to us: leave it all to the kernel */
	return 1;
}

/* An allow-list. MPTCP and the like get the errno that makes programs fall back to TCP. */
SEC("cgroup/sock_create")
int vg_create(struct bpf_sock *ctx)
{
	struct vg_settings *set = current_settings();

	if (ctx->family != INET && ctx->family != INET6)
		return refuse(VG_REFUSE_SOCKET, NO_PROTOCOL);
	if (ctx->type == SOCK_RAW)
		return refuse(VG_REFUSE_SOCKET, NOT_PERMITTED);
	if (ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP)
		return 1;
	if (ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP) {
		if (set && pass_mark())
			enlist(ctx, set); /* without a number, for what is direct only */
		return 1;
	}
	if (ctx->type == SOCK_DGRAM && (ctx->protocol == IPPROTO_ICMP || ctx->protocol == IPPROTO_ICMPV6) && set && pings() &&
	    enlist(ctx, set))
		return 1;
	return refuse(VG_REFUSE_SOCKET, NO_PROTOCOL);
}

/* The ledger gets what the socket owes. UDP gets something to keep if it has nothing: a packet of it may still come out of
 * a queue, and what it owed then, nobody would collect.
 * A number is not given to another while packets of its socket may wait for the engine.
 */
SEC("cgroup/sock_release")
int vg_release(struct bpf_sock *ctx)
{
	__u64 make = ctx->protocol == IPPROTO_UDP ? BPF_SK_STORAGE_GET_F_CREATE : 0;
	struct vg_socket *kept = bpf_sk_storage_get(&sockets, ctx, 0, make);
	struct vg_speaker *speaker;
	__u32 *slot, number;

	if (kept)
		settle_last(kept);
	if (!ctx->mark) /* one that has a number has a mark */
		return 1;
	slot = bpf_sk_storage_get(&slots, ctx, 0, 0);
	number = slot ? *slot : 0;
	speaker = speaker_of(number);
	if (speaker) {
		*slot = 0;
		released(number & VG_QUEUE_SLOT, speaker);
	}
	return 1;
}

/* Put the flow where the relay's accept() finds it, with its number. False if that cannot be. */
static __always_inline bool publish(struct vg_settings *set, struct bpf_sock *sk, struct vg_socket *kept,
				    struct vg_address *from)
{
	struct vg_peer key = {.netns = kept->netns, .port = from->port, .family = from->family};
	struct vg_flow *flow = bpf_sk_storage_get(&flows, sk, 0, 0);

	if (!flow)
		return false;
	if (!flow->sequence) {
		flow->sequence = next_number(kept->cgroup);
		flow->epoch = set->epoch;
	}
	__builtin_memcpy(key.ip, from->ip, sizeof(key.ip));
	if (!flow->sequence || bpf_map_update_elem(&peers, &key, flow, BPF_ANY))
		return false;
	kept->verdict = VG_TOLD;
	return true;
}

/* Return how many bytes of the stream leave with this packet for the first time. */
static __always_inline __u32 fresh(struct vg_socket *kept, struct packet *packet)
{
	__u32 first = packet->sequence + (packet->flags & SYN ? 1 : 0), behind = first + packet->payload, new;

	if (!(kept->flags & VG_SOCKET_STREAM)) {
		kept->next = first;
		kept->flags |= VG_SOCKET_STREAM;
	}
	new = behind - kept->next;
	if (!packet->payload || (__s32)new <= 0) /* without payload: an acknowledgement behind a FIN, which has a number */
		return 0;
	kept->next = behind;
	return new;
}

static __always_inline int egress_inspect(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
					  struct vg_socket *kept)
{
	struct vg_coverage *mine = account(kept->cgroup);
	struct packet packet = {};

	if (!parse_tcp(skb, &packet))
		return drop(mine, VG_DROP_MALFORMED, skb->len);
	if (skb->ifindex != LOOPBACK || !set->relay_port || bpf_ntohs(packet.to.port) != set->relay_port ||
	    !is_loopback(&packet.to) || !served(set, kept))
		return drop(mine, VG_DROP_NOT_RELAY, skb->len);
	if (kept->verdict != VG_TOLD && completes(&packet)) {
		if (!publish(set, sk, kept, &packet.from))
			return drop(mine, VG_REFUSE_HOST, skb->len);
		count(0, VG_INSPECTED);
		open_flow(mine, VG_WAY_RELAY);
	}
	return pass(mine, VG_PASS_RELAY, VG_WAY_RELAY, fresh(kept, &packet));
}

static __always_inline int egress_direct(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
					 struct vg_socket *kept)
{
	struct vg_coverage *mine = account(kept->cgroup);
	struct vg_address from = {}, to = {};

	if (!still(set, kept))
		return drop(mine, VG_DROP_REVOKED, skb->len);
	if (kept->verdict == VG_KEPT)
		return pass(mine, VG_PASS_KEPT, VG_WAY_KEPT, skb->len);
	if (skb->ifindex == LOOPBACK && !(kept->flags & (VG_SOCKET_HERE | VG_SOCKET_INSIDE))) {
		if (!parse(skb, IPPROTO_TCP, &from, &to))
			return drop(mine, VG_DROP_MALFORMED, skb->len);
		switch (to_tcp(skb, sk, set, &from, &to, false)) {
		case OTHERS:
			return drop(mine, VG_REFUSE_LOOPBACK, skb->len);
		case NOBODYS:
		case OWN_LISTENER: /* it may be another's when this packet is sent again */
			break;
		case OWN:
			kept->flags |= VG_SOCKET_INSIDE;
		}
	} else if (!plain(skb, IPPROTO_TCP)) {
		return drop(mine, VG_DROP_MALFORMED, skb->len);
	}
	return pass_direct(kept, skb->len);
}

/* A socket that was never judged: accepted, made to listen after it was, or not of ours at all. It may answer the same
 * vendor's client over lo, and nobody else.
 */
static __always_inline int egress_accepted(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
					   struct vg_socket *kept)
{
	__u64 cgroup = bpf_skb_cgroup_id(skb);
	struct vg_coverage *mine = account(cgroup);
	struct vg_address from = {}, to = {};

	if (skb->ifindex != LOOPBACK || !parse(skb, IPPROTO_TCP, &from, &to))
		return drop(mine, VG_DROP_NO_VERDICT, skb->len);
	if (!kept || kept->verdict != VG_INSIDE || sk->state == LISTEN) {
		if (to_tcp(skb, sk, set, &from, &to, true) != OWN)
			return drop(mine, VG_DROP_NO_VERDICT, skb->len);
		if (!kept && sk->state != LISTEN) {
			kept = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
			if (!kept)
				return drop(mine, VG_REFUSE_HOST, skb->len);
			kept->cgroup = cgroup;
			kept->verdict = VG_INSIDE;
			open_flow(mine, VG_WAY_INSIDE);
		}
	}
	return pass(mine, VG_PASS_INSIDE, VG_WAY_INSIDE, skb->len);
}

/* Keep where the first datagram of a socket went that was direct, so that the next is compared instead of judged. Two
 * processors may send over one socket at the same time, and half of one destination with half of another may be what no
 * rule allows: what is here is written once, and afterwards only the revision that it was judged by.
 */
static __always_inline void remember(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_socket *kept, __u32 revision,
				     struct vg_address *to, __u64 cgroup)
{
	struct vg_socket one = {.verdict = VG_SENT, .revision = revision, .to = *to, .cgroup = cgroup};
	struct sk_buff *kern;

	if (kept && kept->verdict == VG_SENT && as_before(kept, kept->revision, to))
		kept->revision = revision;
	if (kept)
		return;
	kern = bpf_cast_to_kern_ctx ? bpf_cast_to_kern_ctx(skb) : NULL;
	one.owed = owed_by(kern ? kern->sk : NULL);
	bpf_sk_storage_get(&sockets, sk, &one, BPF_SK_STORAGE_GET_F_CREATE);
}

#define VG_PIECES 64 /* of one datagram, chained: more than 64 KiB in pieces of an Ethernet frame make */

static __always_inline bool lent(struct skb_shared_info *info)
{
	/* SKBFL_ZEROCOPY_ENABLE, SHARED_FRAG, PURE_ZEROCOPY, MANAGED_FRAG_REFS: linux/skbuff.h */
	return BPF_CORE_READ(info, nr_frags) && BPF_CORE_READ(info, flags) & 0x17;
}

/* True when the packet's bytes may still change: sendfile(), splice() and MSG_ZEROCOPY put pages into packets that are the
 * process's own, or a file's, and the engine has judged a copy. One for which the engine gave its copy back has none.
 */
static __always_inline bool changeable(struct __sk_buff *skb)
{
	struct skb_shared_info *info;
	struct sk_buff *kern, *piece;

	if (!bpf_cast_to_kern_ctx) /* before linux 6.2 */
		return false;
	kern = bpf_cast_to_kern_ctx(skb);
	info = (void *)(kern->head + kern->end);
	if (lent(info))
		return true;
	piece = BPF_CORE_READ(info, frag_list);
	for (int i = 0; i < VG_PIECES && piece; i++) {
		if (lent((void *)(BPF_CORE_READ(piece, head) + BPF_CORE_READ(piece, end))))
			return true;
		piece = BPF_CORE_READ(piece, next);
	}
	return piece != NULL;
}

/* Pass what the engine has judged and marked. */
static __always_inline int egress_judged(struct __sk_buff *skb, struct vg_coverage *mine, __u32 without)
{
	__u32 mark = pass_mark();

	if (mark && skb->mark == mark)
		return changeable(skb) ? drop(mine, VG_DROP_SHARED, skb->len) : pass(mine, VG_PASS_ENGINE, VG_WAY_ENGINE, skb->len);
	if (!skb->mark || (skb->mark & VG_QUEUE_TAG) == VG_QUEUE_MARK)
		return drop(mine, without, skb->len);
	return drop(mine, VG_DROP_FORGED, skb->len);
}

static __always_inline int egress_ping(struct __sk_buff *skb, __u8 protocol, struct vg_settings *set)
{
	__u64 cgroup = bpf_skb_cgroup_id(skb);
	struct vg_coverage *mine = account(cgroup);
	struct vg_address from = {}, to = {};

	if (!mine)
		return drop(mine, VG_REFUSE_LEDGER, skb->len);
	if (!parse(skb, protocol, &from, &to))
		return drop(mine, VG_DROP_MALFORMED, skb->len);
	to.port = 0;
	if (judgement(set, cgroup, &to) == VG_JUDGE_DENY)
		return drop(mine, VG_DROP_PROTOCOL, skb->len);
	return egress_judged(skb, mine, VG_DROP_PROTOCOL);
}

static __always_inline int egress_queued(struct __sk_buff *skb, struct vg_settings *set, struct vg_socket *kept)
{
	struct vg_coverage *mine = account(kept->cgroup);

	if (!plain(skb, IPPROTO_TCP))
		return drop(mine, VG_DROP_MALFORMED, skb->len);
	if (!still(set, kept))
		return drop(mine, VG_DROP_REVOKED, skb->len);
	return egress_judged(skb, mine, VG_DROP_ENGINE);
}

static __always_inline int egress_datagram(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
					   struct vg_socket *kept)
{
	struct vg_address from = {}, to = {};
	__u32 l4 = parse(skb, IPPROTO_UDP, &from, &to), revision = set->revision, said;
	__u64 cgroup = bpf_skb_cgroup_id(skb);
	struct vg_coverage *mine = account(cgroup);

	if (!mine)
		return drop(mine, VG_REFUSE_LEDGER, skb->len);
	if (!l4)
		return drop(mine, VG_DROP_MALFORMED, skb->len);
	said = judgement(set, cgroup, &to);
	if (said == VG_JUDGE_DENY)
		return drop(mine, VG_DROP_DATAGRAM, skb->len);
	if (!is_direct(said))
		return egress_judged(skb, mine, pass_mark() ? VG_DROP_ENGINE : VG_DROP_DATAGRAM);
	if (skb->ifindex != LOOPBACK)
		remember(skb, sk, kept, revision, &to, cgroup);
	else if (said != VG_JUDGE_HERE && !to_own_udp(skb, sk, set, &from, &to))
		return drop(mine, VG_REFUSE_LOOPBACK, skb->len);
	return pass(mine, VG_PASS_DATAGRAM, VG_WAY_DIRECT, skb->len);
}

/* True when the packet is one more of what was judged direct, by these rules. Over lo it may be another's listener by now. */
static __always_inline bool again(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
				  struct vg_socket *kept)
{
	struct vg_address from = {}, to = {};

	if (kept->revision != set->revision || skb->ifindex == LOOPBACK)
		return false;
	/* A socket that was judged, disconnected and made to listen answers whoever calls. */
	if (kept->verdict == VG_DIRECT)
		return sk->state != LISTEN && plain(skb, IPPROTO_TCP);
	return kept->verdict == VG_SENT && parse(skb, IPPROTO_UDP, &from, &to) && as_before(kept, set->revision, &to);
}

SEC("cgroup_skb/egress")
int vg_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct vg_settings *set = current_settings();
	struct vg_socket *kept;

	if (!set || !sk)
		return drop(0, VG_DROP_NO_SOCKET, 0);
	kept = bpf_sk_storage_get(&sockets, sk, 0, 0); /* none of what is no whole socket */
	if (kept && again(skb, sk, set, kept))
		return pass_direct(kept, skb->len);
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return drop(0, VG_DROP_NO_SOCKET, 0);
	if (sk->protocol == IPPROTO_UDP)
		return egress_datagram(skb, sk, set, kept);
	if (sk->protocol == IPPROTO_ICMP || sk->protocol == IPPROTO_ICMPV6)
		return egress_ping(skb, sk->protocol, set);
	if (sk->protocol != IPPROTO_TCP)
		return drop(account(bpf_skb_cgroup_id(skb)), VG_DROP_PROTOCOL, skb->len);
	if (kept && sk->state != LISTEN) {
		if (kept->verdict == VG_INSPECT || kept->verdict == VG_TOLD)
			return egress_inspect(skb, sk, set, kept);
		if (kept->verdict == VG_DIRECT || kept->verdict == VG_KEPT)
			return egress_direct(skb, sk, set, kept);
		if (kept->verdict == VG_QUEUED)
			return egress_queued(skb, set, kept);
	}
	return egress_accepted(skb, sk, set, kept);
}

/* What comes in for a socket whose peers the engine judges must have been judged too. nftables takes answers to the engine
 * by the mark of their connection, which others' rules may change, and which what is not tracked does not have. On its way
 * into the queue a packet is given the mark of the socket, and nowhere else.
 */
static __always_inline bool answered(struct __sk_buff *skb, struct bpf_sock *sk, __u32 mark)
{
	struct vg_address from = {}, to = {};
	struct vg_settings *set;

	if (mark && (skb->mark == mark || (skb->mark & ~VG_QUEUE_DIRECT) == (sk->mark & ~VG_QUEUE_DIRECT)))
		return true;
	if (sk->protocol == IPPROTO_TCP)
		return sk->mark & VG_QUEUE_DIRECT;
	set = current_settings();
	if (sk->protocol != IPPROTO_UDP || !set || !parse(skb, IPPROTO_UDP, &from, &to))
		return false;
	from.protocol = IPPROTO_UDP;
	return is_direct(judgement(set, bpf_sk_cgroup_id(sk), &from));
}

SEC("cgroup_skb/ingress")
int vg_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	bool tagged;
	__u32 mark;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk)
		return 1;
	tagged = (sk->mark & VG_QUEUE_TAG) == VG_QUEUE_MARK;
	if (!tagged && !skb->mark)
		return 1;
	mark = pass_mark();
	if (tagged && !answered(skb, sk, mark)) {
		count(account(bpf_sk_cgroup_id(sk)), VG_DROP_ANSWER);
		return 0;
	}
	/* A filter of the socket could tell its process what the mark is. */
	if (tagged || skb->mark == mark)
		skb->mark = 0;
	return 1;
}

/* Run over all sockets that something is kept on before the ledger is read: it is exact up to there. */
SEC("iter/bpf_sk_storage_map")
int vg_settle(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct vg_socket *kept = ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, 0, 0) : NULL;

	if (kept)
		settle(kept);
	return 0;
}
