/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The end of a packet: net/core/skbuff.c. kfree_skb is a drop, with a reason where the kernel gives one. */

inline_always int freed(struct sk_buff *skb, int kind, u64 location, s32 reason)
{
	struct cpu_state *cpu = this_cpu();
	struct packet packet = {};
	struct record *record;
	bool wanted;

	if (!cpu || !read_packet(cpu, &packet, skb, false, true) || packet.ethertype == ETH_P_ARP) {
		forget_packet(skb);
		return 0;
	}
	cpu->receiving = 0;
	wanted = want_packet(cpu, &packet, skb, kind);
	forget_packet(skb);
	if (!wanted)
		return 0;
	record = begin(cpu, kind);
	if (!record)
		return 0;
	store_packet(record, &packet, skb);
	record->location = location;
	record->error = reason;
	send(record);
	return 0;
}

TRACEPOINT(kfree_skb)
{
#if KFREE_SKB_ARGUMENTS >= 3
	return freed((void *)ctx->args[0], KIND_DROP, ctx->args[1], (s32)ctx->args[2]);
#else
	return freed((void *)ctx->args[0], KIND_DROP, ctx->args[1], 0);
#endif
}

TRACEPOINT(consume_skb)
{
#if CONSUME_SKB_ARGUMENTS >= 2
	return freed((void *)ctx->args[0], KIND_CONSUME, ctx->args[1], 0);
#else
	return freed((void *)ctx->args[0], KIND_CONSUME, 0, 0);
#endif
}
