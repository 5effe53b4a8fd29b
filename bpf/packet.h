/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an sk_buff says of the packet in it. */
#ifndef FIBTRACE_PACKET_H
#define FIBTRACE_PACKET_H

/* The flow of a packet or of a flow key, as the filter and the records need it. */
struct tuple {
	u8 saddr[16];
	u8 daddr[16];
	u16 sport;
	u16 dport;
	u8 proto;
	u8 family;
	u8 tos;
	u8 ttl;
	u16 ip_id;
	u16 detail;
};

struct packet {
	struct tuple flow;
	u64 head;
	struct sock *sock;
	u32 ifindex;
	u32 netns;
	u32 mark;
	u32 length;
	u16 ethertype;
	u8 packet_type;
};

struct ipv4_header {
	u8 version_length;
	u8 tos;
	u16 total_length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 proto;
	u16 checksum;
	u8 saddr[4];
	u8 daddr[4];
};

struct ipv6_header {
	u8 version_class[4];
	u16 payload_length;
	u8 next_header;
	u8 hop_limit;
	u8 saddr[16];
	u8 daddr[16];
};

/* The first bytes of an extension header: what follows, and how long this one is (of a fragment: where it lies). */
struct ipv6_extension {
	u8 next_header;
	u8 length;
	u16 fragment;
	u32 rest;
};

/* The first bytes of any transport header: ports, or ICMP type and code; TCP's flags are byte 13. */
struct transport_header {
	u16 first;
	u16 second;
	u8 rest[10];
};

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132
#define PROTO_UDPLITE 136
#define PROTO_HOP_BY_HOP 0
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AUTHENTICATION 51
#define PROTO_OPTIONS 60
#define EXTENSIONS_AT_MOST 6
#define FRAGMENT_OFFSET 0x1fff
#define FRAGMENT_OFFSET_IPV6 0xfff8
#define PKT_TYPE_MASK 7 /* the three bits of skb->pkt_type, first in their byte on little-endian machines */

inline_always bool has_ports(u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP || proto == PROTO_UDPLITE;
}

inline_always bool is_icmp(u8 proto)
{
	return proto == PROTO_ICMP || proto == PROTO_ICMPV6;
}

inline_always bool is_extension(u8 proto)
{
	return proto == PROTO_HOP_BY_HOP || proto == PROTO_ROUTING || proto == PROTO_FRAGMENT ||
	       proto == PROTO_AUTHENTICATION || proto == PROTO_OPTIONS;
}

inline_always u32 netns_of(struct cpu_state *cpu, const struct net *net)
{
	u32 inode = 0;

	if (!net)
		return 0;
	if (cpu->softirq && cpu->net == (u64)net)
		return cpu->netns;
	READ(inode, &net->ns.inum);
	if (cpu->softirq) {
		cpu->net = (u64)net;
		cpu->netns = inode;
	}
	return inode;
}

#define DEVICE_INDEX offsetof(struct net_device, ifindex)
#define DEVICE_NET offsetof(struct net_device, nd_net.net)
#define DEVICE_FROM ((DEVICE_INDEX < DEVICE_NET ? DEVICE_INDEX : DEVICE_NET) & ~7UL)
#define DEVICE_TO ((DEVICE_INDEX < DEVICE_NET ? DEVICE_NET : DEVICE_INDEX) + 8)
#define DEVICE_SPAN (DEVICE_TO - DEVICE_FROM)
#define DEVICE_NEAR 128 /* bytes between the two up to which one read is cheaper */

/* Index and namespace of a device. */
inline_always void read_device(struct cpu_state *cpu, const struct net_device *device, u32 *ifindex,
			       u32 *netns)
{
	const char *at = (const char *)device + DEVICE_FROM;
	BUFFER(near, DEVICE_NEAR);
	const struct net *net = 0;

	if (!device)
		return;
	if (DEVICE_SPAN <= DEVICE_NEAR) {
		if (bpf_probe_read_kernel(near, DEVICE_SPAN, at))
			return;
		*ifindex = *(u32 *)((char *)near + DEVICE_INDEX - DEVICE_FROM);
		net = *(const struct net **)((char *)near + DEVICE_NET - DEVICE_FROM);
	} else {
		READ(*ifindex, &device->ifindex);
		READ(net, &device->nd_net.net);
	}
	*netns = netns_of(cpu, net);
}

inline_always void take_transport(struct tuple *flow, const struct transport_header *transport)
{
	if (has_ports(flow->proto)) {
		flow->sport = host16(transport->first);
		flow->dport = host16(transport->second);
		if (flow->proto == PROTO_TCP)
			flow->detail = transport->rest[9];
	} else if (is_icmp(flow->proto)) {
		flow->detail = host16(transport->first);
	}
}

/* Most packets have no IP options: both headers are read in one go. */
struct ipv4_headers {
	struct ipv4_header ip;
	struct transport_header transport;
};

inline_always bool read_ipv4(struct tuple *flow, const void *at)
{
	struct ipv4_headers headers = {};
	struct ipv4_header *ip = &headers.ip;
	u8 length;

	if (READ(headers, at) && bpf_probe_read_kernel(&headers, sizeof(*ip) + 8, at))
		return false;
	if (ip->version_length >> 4 != 4)
		return false;
	flow->family = AF_INET;
	flow->proto = ip->proto;
	flow->tos = ip->tos;
	flow->ttl = ip->ttl;
	flow->ip_id = host16(ip->id);
	__builtin_memcpy(flow->saddr, ip->saddr, 4);
	__builtin_memcpy(flow->daddr, ip->daddr, 4);
	if (host16(ip->fragment) & FRAGMENT_OFFSET)
		return true;
	length = (ip->version_length & 15) * 4;
	if (length != sizeof(*ip))
		READ(headers.transport, at + length);
	take_transport(flow, &headers.transport);
	return true;
}

struct ipv6_headers {
	struct ipv6_header ip;
	struct transport_header transport;
};

/*
 * Go over the extension headers at `at` to the transport header, and read that; `flow->proto` is then its number. False
 * where there is none: in a fragment but the first, or behind more headers than anybody sends.
 */
inline_always bool skip_extensions(struct tuple *flow, struct transport_header *transport, const void *at)
{
#pragma unroll
	for (int i = 0; i < EXTENSIONS_AT_MOST; i++) {
		struct ipv6_extension extension = {};
		u8 proto = flow->proto;

		if (!is_extension(proto))
			break;
		if (READ(extension, at))
			return false;
		flow->proto = extension.next_header;
		if (proto == PROTO_FRAGMENT && host16(extension.fragment) & FRAGMENT_OFFSET_IPV6)
			return false;
		if (proto == PROTO_FRAGMENT)
			at += sizeof(extension);
		else if (proto == PROTO_AUTHENTICATION)
			at += (extension.length + 2) * 4;
		else
			at += (extension.length + 1) * 8;
	}
	return !is_extension(flow->proto) && !READ(*transport, at);
}

inline_always bool read_ipv6(struct tuple *flow, const void *at)
{
	struct ipv6_headers headers = {};
	struct ipv6_header *ip = &headers.ip;

	if (READ(headers, at) && bpf_probe_read_kernel(&headers, sizeof(*ip) + 8, at))
		return false;
	if (ip->version_class[0] >> 4 != 6)
		return false;
	flow->family = AF_INET6;
	flow->proto = ip->next_header;
	flow->ttl = ip->hop_limit;
	flow->tos = (ip->version_class[0] & 15) << 4 | ip->version_class[1] >> 4;
	flow->ip_id = ip->version_class[2] << 8 | ip->version_class[3];
	__builtin_memcpy(flow->saddr, ip->saddr, 16);
	__builtin_memcpy(flow->daddr, ip->daddr, 16);
	if (is_extension(flow->proto) && !skip_extensions(flow, &headers.transport, at + sizeof(*ip)))
		return true;
	take_transport(flow, &headers.transport);
	return true;
}

#define SKB(buffer, member) PICK(buffer, struct sk_buff, len, member)

/*
 * Read a packet; false when it is not IP (ARP is kept: it is routed too) or its headers cannot be read.
 * `at_data`: the network header is where skb->data points (on receive, before the offsets are set).
 * `on_device`: the packet is on a device; in a socket's queue skb->dev is something else.
 */
inline_always bool read_packet(struct cpu_state *cpu, struct packet *packet, struct sk_buff *skb,
			       bool at_data, bool on_device)
{
	BUFFER(members, SPAN(struct sk_buff, len, data));
	BUFFER(ends, SPAN(struct sk_buff, dev, sk));
	const unsigned char *data;

	if (bpf_probe_read_kernel(members, SPAN(struct sk_buff, len, data), &skb->len))
		return false;
	packet->ethertype = host16(SKB(members, protocol));
	if (packet->ethertype != ETH_P_IP && packet->ethertype != ETH_P_ARP &&
	    !(TRACE_IPV6 && packet->ethertype == ETH_P_IPV6))
		return false;
	packet->head = (u64)SKB(members, head);
	packet->mark = SKB(members, mark);
	packet->length = SKB(members, len);
	packet->packet_type = *((u8 *)members + offsetof(struct sk_buff, __pkt_type_offset) -
				offsetof(struct sk_buff, len)) &
			      PKT_TYPE_MASK;
	if (on_device) {
		if (bpf_probe_read_kernel(ends, SPAN(struct sk_buff, dev, sk), &skb->dev))
			return false;
		packet->sock = PICK(ends, struct sk_buff, dev, sk);
		read_device(cpu, PICK(ends, struct sk_buff, dev, dev), &packet->ifindex, &packet->netns);
	} else {
		READ(packet->sock, &skb->sk);
	}
	if (packet->ethertype == ETH_P_ARP)
		return true;
	data = at_data ? SKB(members, data) : SKB(members, head) + SKB(members, network_header);
	return packet->ethertype == ETH_P_IP ? read_ipv4(&packet->flow, data)
					     : read_ipv6(&packet->flow, data);
}

inline_always void store_tuple(struct record *record, const struct tuple *flow)
{
	__builtin_memcpy(record->saddr, flow->saddr, 16);
	__builtin_memcpy(record->daddr, flow->daddr, 16);
	record->sport = flow->sport;
	record->dport = flow->dport;
	record->proto = flow->proto;
	record->family = flow->family;
	record->tos = flow->tos;
	record->ttl = flow->ttl;
	record->ip_id = flow->ip_id;
	record->detail = flow->detail;
}

inline_always void store_packet(struct record *record, const struct packet *packet, struct sk_buff *skb)
{
	store_tuple(record, &packet->flow);
	record->skb = (u64)skb;
	record->head = packet->head;
	record->sock = (u64)packet->sock;
	record->netns = packet->netns;
	record->ifindex = packet->ifindex;
	record->mark = packet->mark;
	record->length = packet->length;
	record->ethertype = packet->ethertype;
	record->packet_type = packet->packet_type;
}

#endif
