/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One search of one IPv6 table. Its tracepoint names the namespace and the route itself, so the prefix is read here. */

#include "route_type.h"

#define ROUTE6(buffer, member) PICK(buffer, struct fib6_info, fib6_dst, member)

/* Unlike an IPv4 route that of IPv6 can be read whatever its nexthop is; a nexthop object tells its id as well. */
inline_always void read_route6(struct record *record, const struct fib6_info *info)
{
	BUFFER(route, SPAN(struct fib6_info, fib6_dst, nh));
	const struct nexthop *object;

	if (bpf_probe_read_kernel(route, SPAN(struct fib6_info, fib6_dst, nh), &info->fib6_dst))
		return;
	record->owner_table = record->walked_table;
	record->prefix_length = ROUTE6(route, fib6_dst).plen;
	record->length = ROUTE6(route, fib6_src).plen;
	record->hints |= HINT_PREFIX;
	record->priority = ROUTE6(route, fib6_metric);
	record->route_protocol = ROUTE6(route, fib6_protocol);
	object = ROUTE6(route, nh);
	if (object)
		READ(record->nexthop_id, &object->id);
}

/* The lookup of a rule that ended the walk by itself has no `found`; that of a search with no match has no route in it. */
inline_always int emit_lookup6(void *ctx, struct cpu_state *cpu, struct lookup *lookup,
			       const struct fib6_result *found)
{
	struct tuple flow = {.family = AF_INET6};
	struct record *record;
	struct flowi6 key = {};

	if (!the_filter() || READ(key, lookup->flow))
		return 0;
	__builtin_memcpy(flow.saddr, &key.saddr, 16);
	__builtin_memcpy(flow.daddr, &key.daddr, 16);
	flow.tos = __builtin_bswap32(key.flowlabel) >> 20; /* ip6_tclass() */
	read_flow_key(&flow, &key.__fl_common, &key.uli);
	record = begin_lookup(cpu, lookup, &flow, &key.__fl_common);
	if (!record)
		return 0;
	if (found && found->f6i) {
		read_route6(record, found->f6i);
		record->route_type = found->fib6_type;
		if (found->nh)
			read_nexthop(cpu, record, &found->nh->nh_common);
		record->netns = lookup->netns;
	}
	return send_lookup(ctx, cpu, record, lookup, &flow);
}

TRACEPOINT(fib6_table_lookup)
{
	const struct net *net = (void *)ctx->args[0];
	const struct fib6_result *result = (void *)ctx->args[1];
	const struct fib6_table *table = (void *)ctx->args[2];
	struct lookup lookup = {.flow = ctx->args[3]};
	struct cpu_state *cpu = this_cpu();
	const struct fib6_info *none = 0;
	struct fib6_result found = {};

	if (!cpu || !the_filter() || READ(found, result))
		return 0;
	READ(none, &net->ipv6.fib6_null_entry);
	READ(lookup.table, &table->tb6_id);
	lookup.netns = netns_of(cpu, net);
	if (found.f6i == none)
		found.f6i = 0;
	lookup.error = found.f6i ? error_of(found.fib6_type) : -EAGAIN;
	return emit_lookup6(ctx, cpu, &lookup, &found);
}
