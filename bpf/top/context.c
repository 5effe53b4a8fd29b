/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Softirq or task, and the device of the packet being received: a lookup that fails names no namespace. */

TRACEPOINT(softirq_entry)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu) {
		cpu->softirq = 1 + (u32)ctx->args[0];
		cpu->received = 0;
		cpu->arp = 0;
	}
	return 0;
}

TRACEPOINT(softirq_exit)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu)
		cpu->softirq = 0;
	return 0;
}

TRACEPOINT(netif_receive_skb)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	struct cpu_state *cpu = this_cpu();
	u16 protocol = 0;

	if (!cpu)
		return 0;
	READ(cpu->received, &skb->dev);
	READ(protocol, &skb->protocol);
	cpu->arp = host16(protocol) == ETH_P_ARP;
	return 0;
}
