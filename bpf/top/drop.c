/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets that were dropped, by reason and place: net/core/skbuff.c. */

BPF_TABLE("percpu_hash", struct drop_key, struct walk_count, drops, DROPS);

TRACEPOINT(kfree_skb)
{
	const struct top_settings *now = settings_in_use();
	struct cpu_state *cpu = this_cpu();
	struct walk_count none = {}, *count;
	struct sk_buff *skb = (void *)ctx->args[0];
	struct net_device *device = 0;
	struct packet packet = {};
	u16 protocol = 0;
	struct drop_key key = {};

	if (!now || !cpu)
		return 0;
	READ(protocol, &skb->protocol);
	protocol = host16(protocol);
	if (protocol != ETH_P_IP && !(TRACE_IPV6 && protocol == ETH_P_IPV6))
		return 0;
	key.family = protocol == ETH_P_IP ? AF_INET : AF_INET6;
	if (now->active) {
		if (!read_packet(cpu, &packet, skb, false, true) ||
		    !wanted(now, packet.flow.saddr, packet.flow.daddr, packet.mark, now->wanted_uid,
			    key.family))
			return 0;
	}
	READ(device, &skb->dev);
	read_device(cpu, device, &key.ifindex, &key.netns);
	key.location = ctx->args[1];
#if KFREE_SKB_ARGUMENTS >= 3
	key.reason = ctx->args[2];
#endif
	count = drops.lookup_or_try_init(&key, &none);
	if (!count) {
		lose(LOST_DROPS, 1);
		return 0;
	}
	count->hits += 1;
	count->last_ns = bpf_ktime_get_ns();
	return 0;
}
