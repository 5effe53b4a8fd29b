/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Neighbour entries (ARP): a packet waits for one before it leaves, or is dropped for want of one. */

inline_always int emit_neighbour(struct neighbour *neighbour, struct net_device *device, s32 state)
{
	struct cpu_state *cpu = this_cpu();
	struct tuple flow = {};
	struct record *record;
	u32 netns = 0, ifindex = 0;

	if (!cpu || !device)
		return 0;
	read_device(cpu, device, &ifindex, &netns);
	flow.family = AF_INET;
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

inline_always bool is_ipv4(const struct neigh_table *table)
{
	int family = 0;

	READ(family, &table->family);
	return family == AF_INET;
}

TRACEPOINT(neigh_create)
{
	if (!is_ipv4((void *)ctx->args[0]))
		return 0;
	return emit_neighbour((void *)ctx->args[3], (void *)ctx->args[1], 0);
}

TRACEPOINT(neigh_update)
{
	struct neighbour *neighbour = (void *)ctx->args[0];
	struct neigh_table *table = 0;
	struct net_device *device = 0;

	READ(table, &neighbour->tbl);
	if (!table || !is_ipv4(table))
		return 0;
	READ(device, &neighbour->dev);
	return emit_neighbour(neighbour, device, (u8)ctx->args[2]);
}
