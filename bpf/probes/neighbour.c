/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Neighbour entries (ARP, NDP): a packet waits for one before it leaves, or is dropped for want of one. */

inline_always int emit_neighbour(struct neighbour *neighbour, struct net_device *device, int family,
				 s32 state)
{
	struct cpu_state *cpu = this_cpu();
	struct tuple flow = {};
	struct record *record;
	u32 netns = 0, ifindex = 0;

	if (!cpu || !device)
		return 0;
	read_device(cpu, device, &ifindex, &netns);
	flow.family = family;
	if (family == AF_INET6)
		bpf_probe_read_kernel(flow.daddr, 16, neighbour->primary_key);
	else
		bpf_probe_read_kernel(flow.daddr, 4, neighbour->primary_key);
	if (!want_flow(cpu, &flow, netns, 0))
		return 0;
	record = begin(cpu, KIND_NEIGHBOUR);
	if (!record)
		return 0;
	store_tuple(record, &flow);
	record->netns = netns;
	record->ifindex = ifindex;
	record->error = state;
	send(record);
	return 0;
}

/* The family of a table of neighbours, 0 for one that is not traced. */
inline_always int family_of(const struct neigh_table *table)
{
	int family = 0;

	READ(family, &table->family);
	return family == AF_INET || (TRACE_IPV6 && family == AF_INET6) ? family : 0;
}

TRACEPOINT(neigh_create)
{
	int family = family_of((void *)ctx->args[0]);

	return family ? emit_neighbour((void *)ctx->args[3], (void *)ctx->args[1], family, 0) : 0;
}

TRACEPOINT(neigh_update)
{
	struct neighbour *neighbour = (void *)ctx->args[0];
	struct neigh_table *table = 0;
	struct net_device *device = 0;
	int family;

	READ(table, &neighbour->tbl);
	family = table ? family_of(table) : 0;
	if (!family)
		return 0;
	READ(device, &neighbour->dev);
	return emit_neighbour(neighbour, device, family, (u8)ctx->args[2]);
}
