/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets coming in from and going out to devices: net/core/dev.c. */

inline_always int emit_packet(struct cpu_state *cpu, struct packet *packet, struct sk_buff *skb, int kind)
{
	struct record *record = begin(cpu, kind);

	if (!record)
		return 0;
	store_packet(record, packet, skb);
	send(record);
	return 0;
}

TRACEPOINT(netif_receive_skb)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	struct cpu_state *cpu = this_cpu();
	struct packet packet = {};
	bool wanted;

	if (!cpu || !read_packet(cpu, &packet, skb, true, true))
		return 0;
	cpu->arp = packet.ethertype == ETH_P_ARP;
	wanted = want_packet(cpu, &packet, skb, KIND_RECEIVE);
	/* A list is announced whole before its first packet is routed: one wanted packet makes all lookups so. */
	cpu->wanted = wanted || (cpu->receiving && cpu->wanted);
	cpu->receiving = 1;
	return wanted ? emit_packet(cpu, &packet, skb, KIND_RECEIVE) : 0;
}

inline_always int outgoing(struct sk_buff *skb, int kind)
{
	struct cpu_state *cpu = this_cpu();
	struct packet packet = {};

	if (!cpu || !read_packet(cpu, &packet, skb, false, true))
		return 0;
	cpu->receiving = 0;
	return want_packet(cpu, &packet, skb, kind) ? emit_packet(cpu, &packet, skb, kind) : 0;
}

/* Only where a discipline may hold the packet: else net_dev_start_xmit follows at once and says the same. */
TRACEPOINT(net_dev_queue)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	struct net_device *device = 0;
	struct Qdisc *discipline = 0;
	void *enqueue = 0;

	READ(device, &skb->dev);
	if (device)
		READ(discipline, &device->qdisc);
	if (discipline)
		READ(enqueue, &discipline->enqueue);
	return enqueue ? outgoing(skb, KIND_QUEUE) : 0;
}

TRACEPOINT(net_dev_start_xmit)
{
	return outgoing((void *)ctx->args[0], KIND_XMIT);
}
