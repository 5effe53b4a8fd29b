/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The calls around the lookups of IPv6: net/ipv6/route.c, fib6_rules.c. What they share with IPv4 is in route.c. */

/* The packet is routed by its own header, and only by that. */
ENTRY(ip6_route_input)
{
	struct sk_buff *skb = (void *)ARGUMENT(ctx, 1);
	struct cpu_state *cpu = this_cpu();
	struct net_device *device = 0;
	const unsigned char *head = 0;
	struct ipv6_header ip = {};
	struct call *call;
	u16 offset = 0;

	if (!cpu || !the_filter())
		return 0;
	READ(head, &skb->head);
	READ(offset, &skb->network_header);
	READ(device, &skb->dev);
	if (READ(ip, head + offset))
		return 0;
	call = push_call(cpu, CALL_INPUT);
	if (!call)
		return 0;
	call->token = (u64)skb;
	call->daddr = folded(ip.daddr);
	call->saddr = folded(ip.saddr);
	read_device(cpu, device, &call->ifindex, &call->netns);
	return 0;
}

ENTRY(ip6_route_output_flags)
{
	const struct net *net = (void *)ARGUMENT(ctx, 1);
	u64 flow = ARGUMENT(ctx, 3);
	struct cpu_state *cpu = this_cpu();
	struct in6_addr daddr = {};
	struct call *call;

	if (!cpu || !the_filter())
		return 0;
	READ(daddr, &((struct flowi6 *)flow)->daddr);
	call = push_call(cpu, CALL_OUTPUT);
	if (!call)
		return 0;
	call->token = flow;
	call->daddr = folded(&daddr);
	call->netns = netns_of(cpu, net);
	return 0;
}

ENTRY(fib6_rule_action)
{
	const struct fib_rule *rule = (void *)ARGUMENT(ctx, 1);
	struct lookup lookup = {.flow = ARGUMENT(ctx, 2)};
	struct cpu_state *cpu = this_cpu();
	const struct net *net = 0;

	if (!asked(cpu, rule, &lookup))
		return 0;
	READ(net, &rule->fr_net);
	lookup.netns = netns_of(cpu, net);
	return emit_lookup6(ctx, cpu, &lookup, 0);
}

RETURN(fib6_rule_suppress)
{
	return was_suppressed((u8)RESULT(ctx, 3));
}

#define RTF_GATEWAY 2

inline_always void store_rt6(struct record *record, const struct rt6_info *route)
{
	const struct fib6_info *from = 0;
	u32 flags = 0;

	READ(from, &route->from);
	if (from)
		READ(record->route_type, &from->fib6_type);
	READ(flags, &route->rt6i_flags);
	if (!(flags & RTF_GATEWAY))
		return;
	record->gateway_family = AF_INET6;
	bpf_probe_read_kernel(record->gateway, 16, &route->rt6i_gateway);
}

inline_always int leave_call6(u8 kind, const struct dst_entry *route)
{
	struct record *record = end_call(this_cpu(), kind, 0, &route);

	if (!record)
		return 0;
	if (route)
		store_rt6(record, (const struct rt6_info *)route);
	send(record);
	return 0;
}

RETURN(ip6_route_input)
{
	return leave_call6(CALL_INPUT, 0);
}

/* There always is a route; one that refuses has an error. */
RETURN(ip6_route_output_flags)
{
	return leave_call6(CALL_OUTPUT, (const struct dst_entry *)RESULT(ctx, 4));
}
