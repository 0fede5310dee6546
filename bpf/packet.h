/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A packet as it leaves, after NAT. Included by fence.bpf.c only. */
#ifndef VENDORGATE_PACKET_H
#define VENDORGATE_PACKET_H

enum { FIN = 0x01, SYN = 0x02, RST = 0x04, ACK = 0x10 };

struct packet {
	struct vg_address from, to;
	__u32 sequence; /* of TCP, of the first byte */
	__u32 payload;	/* bytes */
	__u8 flags;
};

/* Return `size` bytes of the packet from its IP header on, where they lie; NULL when they are not in one piece. A program
 * that reads them there costs a third of one that asks for a copy.
 */
static __always_inline __u8 *lying(struct __sk_buff *skb, __u32 size)
{
	__u8 *data = (void *)(long)skb->data;

	return data + size <= (__u8 *)(long)skb->data_end ? data : NULL;
}

/* Return the length of the IP header, or 0 when it is none or carries what we do not pass: options, extension headers
 * (a source route would name another destination), another protocol than `protocol`.
 */
static __always_inline __u32 plain(struct __sk_buff *skb, __u8 protocol)
{
	__u8 *at = lying(skb, 20), head[10];

	if (at && at[0] == 0x45)
		return at[9] == protocol ? 20 : 0;
	if (at && at[0] >> 4 == 6 && at[6] == protocol)
		return 40;
	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return 0;
	if (head[0] == 0x45)
		return head[9] == protocol ? 20 : 0;
	if (head[0] >> 4 != 6)
		return 0;
	if (head[6] == protocol)
		return 40;
	/* The one extension that the kernel adds by itself: the length of a packet of over 65,535 bytes (RFC 2675). */
	if (head[6] || bpf_skb_load_bytes(skb, 40, head, 4))
		return 0;
	return head[0] == protocol && head[1] == 0 && head[2] == 0xc2 && head[3] == 4 ? 48 : 0;
}

/* Read the packet's addresses and ports. Return the length of its IP header, 0 if malformed. */
static __always_inline __u32 parse(struct __sk_buff *skb, __u8 protocol, struct vg_address *from, struct vg_address *to)
{
	__u32 l4 = plain(skb, protocol);
	__u8 *at = lying(skb, 24);
	__u16 ports[2];

	to->protocol = protocol;
	if (l4 == 20 && at) {
		to->family = from->family = INET;
		__builtin_memcpy(from->ip, at + 12, 4);
		__builtin_memcpy(to->ip, at + 16, 4);
		__builtin_memcpy(&from->port, at + 20, 2);
		__builtin_memcpy(&to->port, at + 22, 2);
		return l4;
	}
	at = lying(skb, 44);
	if (l4 == 40 && at) {
		to->family = from->family = INET6;
		__builtin_memcpy(from->ip, at + 8, 16);
		__builtin_memcpy(to->ip, at + 24, 16);
		__builtin_memcpy(&from->port, at + 40, 2);
		__builtin_memcpy(&to->port, at + 42, 2);
		return l4;
	}
	if (l4 == 20) {
		if (bpf_skb_load_bytes(skb, 12, from->ip, 4) || bpf_skb_load_bytes(skb, 16, to->ip, 4))
			return 0;
		to->family = from->family = INET;
	} else if (l4) {
		if (bpf_skb_load_bytes(skb, 8, from->ip, 16) || bpf_skb_load_bytes(skb, 24, to->ip, 16))
			return 0;
		to->family = from->family = INET6;
	} else {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return 0;
	from->port = ports[0];
	to->port = ports[1];
	return l4;
}

/* The same for TCP, with what it says of the stream. False if malformed. */
static __always_inline bool parse_tcp(struct __sk_buff *skb, struct packet *packet)
{
	__u32 l4 = parse(skb, IPPROTO_TCP, &packet->from, &packet->to);
	__u8 head[14];
	__u32 before;

	if (!l4 || bpf_skb_load_bytes(skb, l4, head, sizeof(head)))
		return false;
	__builtin_memcpy(&packet->sequence, head + 4, sizeof(packet->sequence));
	packet->sequence = bpf_ntohl(packet->sequence);
	packet->flags = head[13];
	before = l4 + (head[12] >> 4) * 4;
	if (before > skb->len)
		return false;
	packet->payload = skb->len - before;
	return true;
}

/* True when this packet may be the last that leaves before the relay accepts. A SYN is that only with fast open. */
static __always_inline bool completes(struct packet *packet)
{
	if (packet->flags & RST)
		return false;
	return !(packet->flags & SYN) || packet->payload;
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

#endif
