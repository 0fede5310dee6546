// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What a governed process may do to the network. Attached to the slice, in force when all else of ours is dead.
 *
 * connect judges a destination and keeps the verdict on the socket; egress looks at that verdict only, never at a
 * mark, port or uid that the process could choose:
 *
 *   INSPECT  passes to the relay's port on the loopback device. Getting it there is the work of nftables.
 *   DIRECT   passes. Judged again when the rules change.
 *   none     is dropped: UDP-Lite, raw, sockets from before the fence or from outside, accepted connections.
 *   UDP      has no verdict of its own: each packet's destination must be direct.
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
#include "judge.h"

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
	if (entry && entry->started == BPF_CORE_READ(task, group_leader, start_boottime))
		bpf_probe_read_kernel(&flow->process, sizeof(flow->process), entry);
	else
		count(VG_UNKNOWN_PROCESS);
}

static __always_inline bool is_loopback(struct vg_address *to)
{
	if (to->family == INET)
		return to->ip[0] == 127;
	for (int i = 0; i < 15; i++)
		if (to->ip[i])
			return false;
	return to->ip[15] == 1;
}

/* No redirect keeps a link-local destination: routing holds it to the interface of its scope. */
static __always_inline bool is_link_local(struct vg_address *to)
{
	return to->family == INET6 && to->ip[0] == 0xfe && (to->ip[1] & 0xc0) == 0x80;
}

/* Send this socket the relay's way, whatever device or mark the process chose. Zero when done. */
static __always_inline int steer(struct bpf_sock_addr *ctx)
{
	int device = 0, mark = VG_STEER_MARK;

	if (bpf_setsockopt(ctx, SOCKET, BIND_TO_INDEX, &device, sizeof(device)))
		return -1;
	return bpf_setsockopt(ctx, SOCKET, MARK, &mark, sizeof(mark));
}

static __always_inline int connect_tcp(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_address *to)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct vg_socket *kept;
	int none = 0;

	kept = bpf_sk_storage_get(&sockets, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return refuse(VG_REFUSE_HOST, REFUSED);
	kept->verdict = VG_NONE;
	kept->revision = set->revision;
	kept->flow.to = *to;
	kept->flow.netns = bpf_get_netns_cookie(ctx);
	if (set->relay_port && bpf_ntohs(to->port) == set->relay_port && is_loopback(to))
		return refuse(VG_REFUSE_RELAY, REFUSED);
	switch (judgement(set, cgroup, to)) {
	case VG_JUDGE_DENY:
		return refuse(VG_REFUSE_RULE, REFUSED);
	case VG_JUDGE_DIRECT:
		/* A socket that was steered before would be sent to the relay again. */
		if (ctx->sk->mark == VG_STEER_MARK && bpf_setsockopt(ctx, SOCKET, MARK, &none, sizeof(none)))
			return refuse(VG_REFUSE_HOST, REFUSED);
		kept->verdict = VG_DIRECT;
		return 1;
	}
	if (kept->flow.netns != set->netns || is_link_local(to))
		return refuse(VG_REFUSE_UNSTEERABLE, REFUSED);
	if (too_many(cgroup))
		return refuse(VG_REFUSE_RATE, REFUSED);
	if (steer(ctx))
		return refuse(VG_REFUSE_HOST, REFUSED);
	kept->flow.cookie = bpf_get_socket_cookie(ctx);
	kept->flow.cgroup = cgroup;
	kept->flow.opened = bpf_ktime_get_boot_ns();
	identify(&kept->flow);
	kept->verdict = VG_INSPECT;
	return 1;
}

static __always_inline int connect(struct bpf_sock_addr *ctx, struct vg_address *to)
{
	struct vg_settings *set = current_settings();

	if (!set || !ctx->sk)
		return refuse(VG_REFUSE_HOST, REFUSED);
	to->protocol = ctx->protocol;
	to->port = ctx->user_port;
	if (to->protocol == IPPROTO_TCP)
		return connect_tcp(ctx, set, to);
	if (to->protocol != IPPROTO_UDP)
		return refuse(VG_REFUSE_SOCKET, NO_PROTOCOL);
	/* Others may connect: name resolution does so to choose a source address. Nothing they send passes. */
	if (judgement(set, bpf_get_current_cgroup_id(), to) == VG_JUDGE_DENY)
		return refuse(VG_REFUSE_RULE, REFUSED);
	return 1;
}

static __always_inline void set_v4(struct vg_address *to, __u32 ip)
{
	/* Zero means this host, and so the kernel takes it as 127.0.0.1. */
	if (!ip)
		ip = bpf_htonl(0x7f000001);
	to->family = INET;
	__builtin_memcpy(to->ip, &ip, 4);
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
	__u32 ip[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
	struct vg_address to = {};
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return refuse(VG_REFUSE_HOST, REFUSED);
	if (!ip[0] && !ip[1] && ip[2] == bpf_htonl(0xffff)) {
		set_v4(&to, ip[3]);
	} else if (!ip[0] && !ip[1] && !ip[2] && !ip[3]) {
		/* This host; over IPv4 when the socket is bound to a mapped address. */
		if (sk->src_ip6[2] == bpf_htonl(0xffff)) {
			set_v4(&to, 0);
		} else {
			to.family = INET6;
			to.ip[15] = 1;
		}
	} else {
		to.family = INET6;
		__builtin_memcpy(to.ip, ip, sizeof(ip));
	}
	return connect(ctx, &to);
}

/* Nobody governed may hold the relay's port while the relay is away. */
static __always_inline int bind(struct bpf_sock_addr *ctx)
{
	struct vg_settings *set = current_settings();

	if (set && set->relay_port && bpf_ntohs(ctx->user_port) == set->relay_port)
		return refuse(VG_REFUSE_RELAY, IN_USE);
	return 1;
}

SEC("cgroup/bind4")
int vg_bind4(struct bpf_sock_addr *ctx)
{
	return bind(ctx);
}

SEC("cgroup/bind6")
int vg_bind6(struct bpf_sock_addr *ctx)
{
	return bind(ctx);
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
	else if (ctx->level == IP && ctx->optname == IP_OPTIONS)
		return drop(VG_REFUSE_SOCKET); /* a source route would name another destination */
	else if (ctx->optlen > PAGE)
		ctx->optlen = 0; /* more than the kernel shows to us: leave it all to the kernel */
	return 1;
}

/* An allow-list. MPTCP and the like get the errno that makes programs fall back to TCP. */
SEC("cgroup/sock_create")
int vg_create(struct bpf_sock *ctx)
{
	if (ctx->family != INET && ctx->family != INET6)
		return refuse(VG_REFUSE_SOCKET, NO_PROTOCOL);
	if (ctx->type == SOCK_RAW)
		return refuse(VG_REFUSE_SOCKET, NOT_PERMITTED);
	if (ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP)
		return 1;
	if (ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP)
		return 1;
	return refuse(VG_REFUSE_SOCKET, NO_PROTOCOL);
}

/* Read the packet's addresses and ports as they leave, after NAT. Return its TCP flags or 0, or -1 if malformed. */
static __always_inline int parse(struct __sk_buff *skb, struct vg_address *from, struct vg_address *to)
{
	__u32 l4 = 40;
	__u8 first, flags = 0;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return -1;
	if (first >> 4 == 4) {
		__u8 protocol;

		if (bpf_skb_load_bytes(skb, 9, &protocol, 1) || bpf_skb_load_bytes(skb, 12, from->ip, 4) ||
		    bpf_skb_load_bytes(skb, 16, to->ip, 4))
			return -1;
		to->protocol = protocol;
		to->family = from->family = INET;
		l4 = 20;
		if ((first & 15) != 5) /* options: a source route would name another destination */
			return -1;
	} else if (first >> 4 == 6) {
		__u8 next; /* an extension header is no protocol we pass */

		if (bpf_skb_load_bytes(skb, 6, &next, 1) || bpf_skb_load_bytes(skb, 8, from->ip, 16) ||
		    bpf_skb_load_bytes(skb, 24, to->ip, 16))
			return -1;
		to->protocol = next;
		to->family = from->family = INET6;
	} else {
		return -1;
	}
	if (bpf_skb_load_bytes(skb, l4, &from->port, 2) || bpf_skb_load_bytes(skb, l4 + 2, &to->port, 2))
		return -1;
	if (to->protocol == IPPROTO_TCP && bpf_skb_load_bytes(skb, l4 + 13, &flags, 1))
		return -1;
	return flags;
}

/* True when this packet may be the last that leaves before the relay accepts. A SYN is that only with fast open. */
static __always_inline bool completes(struct __sk_buff *skb, struct vg_address *from, int flags)
{
	__u32 l4 = from->family == INET ? 20 : 40;
	__u8 words;

	if (!(flags & 0x06)) /* neither SYN nor RST */
		return true;
	if ((flags & 0x06) != 0x02 || bpf_skb_load_bytes(skb, l4 + 12, &words, 1))
		return false;
	return skb->len > l4 + (words >> 4) * 4;
}

static __always_inline int egress_inspect(struct __sk_buff *skb, struct vg_settings *set, struct vg_socket *kept)
{
	struct vg_address from = {}, to = {};
	struct vg_peer key = {};
	int flags = parse(skb, &from, &to);

	if (flags < 0 || to.protocol != IPPROTO_TCP)
		return drop(VG_DROP_MALFORMED);
	if (skb->ifindex != LOOPBACK || !set->relay_port || bpf_ntohs(to.port) != set->relay_port ||
	    !is_loopback(&to) || kept->flow.netns != set->netns)
		return drop(VG_DROP_NOT_RELAY);
	if (kept->verdict != VG_TOLD && completes(skb, &from, flags)) {
		key.netns = kept->flow.netns;
		key.port = from.port;
		key.family = from.family;
		__builtin_memcpy(key.ip, from.ip, sizeof(key.ip));
		if (bpf_map_update_elem(&peers, &key, &kept->flow, BPF_ANY))
			return drop(VG_REFUSE_HOST);
		kept->verdict = VG_TOLD;
		count(VG_INSPECTED);
	}
	return pass(VG_PASS_RELAY);
}

/* The rules changed since connect: ask them again, about the destination that the process named. */
static __always_inline bool still_direct(struct __sk_buff *skb, struct vg_settings *set, struct vg_socket *kept)
{
	struct vg_address to = kept->flow.to;

	if (kept->revision == set->revision)
		return true;
	if (judgement(set, bpf_skb_cgroup_id(skb), &to) != VG_JUDGE_DIRECT)
		return false;
	kept->revision = set->revision;
	return true;
}

static __always_inline int egress_datagram(struct __sk_buff *skb, struct vg_settings *set)
{
	struct vg_address from = {}, to = {};

	if (parse(skb, &from, &to) < 0 || to.protocol != IPPROTO_UDP)
		return drop(VG_DROP_MALFORMED);
	if (judgement(set, bpf_skb_cgroup_id(skb), &to) != VG_JUDGE_DIRECT)
		return drop(VG_DROP_DATAGRAM);
	return pass(VG_PASS_DATAGRAM);
}

SEC("cgroup_skb/egress")
int vg_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct vg_settings *set = current_settings();
	struct vg_socket *kept;

	if (!set || !sk)
		return drop(VG_DROP_NO_SOCKET);
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return drop(VG_DROP_NO_SOCKET);
	if (sk->protocol == IPPROTO_UDP)
		return egress_datagram(skb, set);
	if (sk->protocol != IPPROTO_TCP)
		return drop(VG_DROP_PROTOCOL);
	kept = bpf_sk_storage_get(&sockets, sk, 0, 0);
	/* A socket that was judged, disconnected and made to listen answers whoever calls. */
	if (!kept || sk->state == LISTEN)
		return drop(VG_DROP_NO_VERDICT);
	if (kept->verdict == VG_INSPECT || kept->verdict == VG_TOLD)
		return egress_inspect(skb, set, kept);
	if (kept->verdict != VG_DIRECT)
		return drop(VG_DROP_NO_VERDICT);
	return still_direct(skb, set, kept) ? pass(VG_PASS_DIRECT) : drop(VG_DROP_REVOKED);
}
