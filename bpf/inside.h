/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Whose socket it is that listens on this host. A way over lo leads to whatever runs here: a proxy, another vendor.
 * A direct rule that is about networks does not mean those; one that names the address does (VG_JUDGE_HERE). A vendor
 * may speak with itself. A vendor is what is below one child of the slice. Included by fence.bpf.c only.
 */
#ifndef VENDORGATE_INSIDE_H
#define VENDORGATE_INSIDE_H

/* Which vendor bound a socket, told in process context; egress asks the socket's cgroup itself. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} owners SEC(".maps");

/* Return the vendor of the process that runs this: the id of the child of the slice; 0 outside. */
static __always_inline __u64 current_vendor(__u64 slice)
{
	for (int i = 0; i < VG_LEVELS; i++)
		if (bpf_get_current_ancestor_cgroup_id(i) == slice)
			return bpf_get_current_ancestor_cgroup_id(i + 1) ?: slice;
	return 0;
}

static __always_inline __u64 vendor_of(struct bpf_sock *sk, __u64 slice)
{
	for (int i = 0; i < VG_LEVELS; i++)
		if (bpf_sk_ancestor_cgroup_id(sk, i) == slice)
			return bpf_sk_ancestor_cgroup_id(sk, i + 1) ?: slice;
	return 0;
}

static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, struct vg_address *from, struct vg_address *to)
{
	if (to->family == INET) {
		__builtin_memcpy(&tuple->ipv4.saddr, from->ip, 4);
		__builtin_memcpy(&tuple->ipv4.daddr, to->ip, 4);
		tuple->ipv4.sport = from->port;
		tuple->ipv4.dport = to->port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, from->ip, 16);
	__builtin_memcpy(tuple->ipv6.daddr, to->ip, 16);
	tuple->ipv6.sport = from->port;
	tuple->ipv6.dport = to->port;
	return sizeof(tuple->ipv6);
}

enum whose { OTHERS, NOBODYS, OWN_LISTENER, OWN };

/* Whose TCP socket would take a packet over lo: OWN is the other end of the connection itself. With `asked`, to be OWN it
 * must also be one that was let go there: the client of a connection, when `sk` is the one that accepts.
 */
static __always_inline enum whose to_tcp(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
					 struct vg_address *from, struct vg_address *to, bool asked)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = tuple_of(&tuple, from, to);
	__u64 vendor = vendor_of(sk, set->slice);
	struct vg_socket *kept;
	struct bpf_sock *peer;
	bool own, listens;

	if (size == sizeof(tuple.ipv4))
		peer = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		peer = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!peer)
		return NOBODYS; /* the kernel will say so */
	own = vendor && vendor_of(peer, set->slice) == vendor;
	listens = peer->state == LISTEN;
	if (own && asked) {
		kept = bpf_sk_storage_get(&sockets, peer, 0, 0);
		own = kept && kept->verdict == VG_DIRECT;
	}
	bpf_sk_release(peer);
	if (!own)
		return OTHERS;
	return listens ? OWN_LISTENER : OWN;
}

static __always_inline bool to_own_udp(struct __sk_buff *skb, struct bpf_sock *sk, struct vg_settings *set,
				       struct vg_address *from, struct vg_address *to)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = tuple_of(&tuple, from, to);
	__u64 vendor = vendor_of(sk, set->slice);
	struct bpf_sock *peer;
	bool own;

	if (size == sizeof(tuple.ipv4))
		peer = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		peer = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!peer)
		return true;
	own = vendor && vendor_of(peer, set->slice) == vendor;
	bpf_sk_release(peer);
	return own;
}

/* True when nobody else's listener is at this loopback address. Egress decides; this is for an answer at once. */
static __always_inline bool may_be_own(struct bpf_sock_addr *ctx, struct vg_settings *set, struct vg_address *to)
{
	struct vg_address from = {};
	struct bpf_sock_tuple tuple = {};
	__u32 size = tuple_of(&tuple, &from, to);
	struct bpf_sock *peer;
	__u64 *owner;
	bool own;

	if (size == sizeof(tuple.ipv4))
		peer = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		peer = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!peer)
		return true;
	owner = bpf_sk_storage_get(&owners, peer, 0, 0);
	own = owner && *owner == current_vendor(set->slice);
	bpf_sk_release(peer);
	return own;
}

#endif
