/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The functions of the IP layer that a packet passes after it was routed: net/ipv4/ip_input.c, net/ipv6/ip6_input.c and their neighbours. */

/*
 * A packet that was seen before and lives on: its address says which, so nothing is read of it. With a filter, one that
 * passed it before.
 */
inline_always int passed(struct sk_buff *skb, u8 stage)
{
	struct cpu_state *cpu = this_cpu();
	struct record *record;

	if (!cpu || !want_tracked(skb))
		return 0;
	record = begin(cpu, KIND_STAGE);
	if (!record)
		return 0;
	record->routed = (u64)skb;
	record->stage = stage;
	send(record);
	return 0;
}

ENTRY(ip_forward)
{
	return passed((void *)ARGUMENT(ctx, 1), STAGE_FORWARD);
}

ENTRY(ip_local_deliver)
{
	return passed((void *)ARGUMENT(ctx, 1), STAGE_DELIVER);
}

ENTRY(ip_output)
{
	return passed((void *)ARGUMENT(ctx, 3), STAGE_OUTPUT);
}

#if TRACE_IPV6
ENTRY(ip6_forward)
{
	return passed((void *)ARGUMENT(ctx, 1), STAGE_FORWARD);
}

/* ip6_mc_input() calls it too. */
ENTRY(ip6_input)
{
	return passed((void *)ARGUMENT(ctx, 1), STAGE_DELIVER);
}

ENTRY(ip6_output)
{
	return passed((void *)ARGUMENT(ctx, 3), STAGE_OUTPUT);
}
#endif

ENTRY(xfrm_input)
{
	return passed((void *)ARGUMENT(ctx, 1), STAGE_DECRYPT);
}

/* The packet as it was routed: on the device it will only be seen as ESP. */
ENTRY(xfrm_output)
{
	struct sk_buff *skb = (void *)ARGUMENT(ctx, 2);
	struct cpu_state *cpu = this_cpu();
	struct packet packet = {};
	struct record *record;
	u64 refdst = 0;

	if (!cpu || !read_packet(cpu, &packet, skb, false, true) || packet.ethertype == ETH_P_ARP)
		return 0;
	if (!packet.netns) { /* made here: on no device yet */
		READ(refdst, &skb->_skb_refdst);
		read_device(cpu, dst_device(refdst), &packet.ifindex, &packet.netns);
	}
	if (!want_packet(cpu, &packet, skb, KIND_STAGE))
		return 0;
	record = begin(cpu, KIND_STAGE);
	if (!record)
		return 0;
	store_packet(record, &packet, skb);
	record->routed = (u64)skb;
	record->stage = STAGE_ENCRYPT;
	send(record);
	return 0;
}
