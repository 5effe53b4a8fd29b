/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One lookup of either family: what its tracepoint says, and what the flow key asks for. */
#ifndef FIBTRACE_TOP_FLOW_H
#define FIBTRACE_TOP_FLOW_H

/* One lookup: what the tracepoint says. Only that of IPv6 names the namespace and the route. */
struct lookup {
	u64 flow;
	struct fib_nh_common *nhc;
	const struct net *net;
	const struct fib6_info *route;
	u32 table;
	s32 error;
	u8 type; /* of the route, IPv6 */
};

/* The flow key; an IPv4 address is in the first four bytes, the rest is zero. */
struct asked {
	u64 saddr[2];
	u64 daddr[2];
	u32 iif;
	u32 oif;
	u32 mark;
	u32 uid;
	u16 sport;
	u16 dport;
	u8 proto;
	u8 tos;
	u8 scope;
	u8 flags;
	u8 family;
};

inline_always void take_key(struct asked *asked, const struct flowi_common *common,
			    const union flowi_uli *uli)
{
	asked->iif = common->flowic_iif;
	asked->oif = common->flowic_oif;
	asked->mark = common->flowic_mark;
	asked->uid = common->flowic_uid.val;
	asked->proto = common->flowic_proto;
	asked->scope = common->flowic_scope;
	asked->flags = common->flowic_flags;
	if (has_ports(asked->proto)) {
		asked->sport = host16(uli->ports.sport);
		asked->dport = host16(uli->ports.dport);
	}
}

inline_always bool read_flow4(struct asked *asked, u64 at)
{
	struct flowi4 flow = {};

	if (READ(flow, at))
		return false;
	asked->family = AF_INET;
	asked->saddr[0] = flow.saddr;
	asked->daddr[0] = flow.daddr;
	asked->tos = flow.__fl_common.FLOW_TOS;
	take_key(asked, &flow.__fl_common, &flow.uli);
	return true;
}

#if TRACE_IPV6
inline_always bool read_flow6(struct asked *asked, u64 at)
{
	struct flowi6 flow = {};

	if (READ(flow, at))
		return false;
	asked->family = AF_INET6;
	__builtin_memcpy(asked->saddr, &flow.saddr, 16);
	__builtin_memcpy(asked->daddr, &flow.daddr, 16);
	asked->tos = __builtin_bswap32(flow.flowlabel) >> 20; /* ip6_tclass() */
	take_key(asked, &flow.__fl_common, &flow.uli);
	return true;
}
#endif

#endif
