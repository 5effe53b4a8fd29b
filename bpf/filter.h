/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The filter, evaluated before a record is reserved. It lets through all that may belong to a wanted packet, and
 * the collector decides on whole paths: a flow key may not know its ports yet, and a source check has its ends
 * swapped. A packet once wanted stays wanted after NAT changed its addresses (`tracked`), and so do the
 * answers of a wanted flow whose ends NAT or the socket's owner tell (`flows`).
 */
#ifndef FIBTRACE_FILTER_H
#define FIBTRACE_FILTER_H

#ifndef WITH_FILTER
#define WITH_FILTER 1 /* 0 leaves all tests out: faster to compile and to run when nothing is filtered */
#endif
#define TERMS_OWNER (TERM_PID | TERM_COMM | TERM_UID)
#define TERMS_PREFIX (TERM_SRC | TERM_DST | TERM_HOST)

/* A flow with its ends in one order, so that both directions are the same key. */
struct ends {
	u8 low[16];
	u8 high[16];
	u16 low_port;
	u16 high_port;
	u8 proto;
	u8 pad[3];
};

/* A port that a wanted process has a socket on: what comes to it may be for that process. */
struct port {
	u16 number;
	u8 proto;
	u8 pad;
};

BPF_ARRAY(settings, struct filter, 1);
BPF_TABLE("lru_hash", struct port, u8, ports, 4096);
BPF_TABLE("lru_hash", struct ends, u8, flows, 16384);
BPF_TABLE("lru_hash", u64, u64, tracked, 16384);

/* NULL before the collector has set it: nothing is recorded until then. */
inline_always struct filter *the_filter(void)
{
	struct filter *filter;
	int zero = 0;

	filter = settings.lookup(&zero);
	return filter && filter->enabled ? filter : 0;
}

inline_always bool in_prefix(const u8 *address, const u8 *prefix, const u8 *mask)
{
	const u64 *a = (const u64 *)address, *p = (const u64 *)prefix, *m = (const u64 *)mask;

	return !((a[0] ^ p[0]) & m[0]) && !((a[1] ^ p[1]) & m[1]);
}

inline_always bool is_unset(const u8 *address)
{
	const u64 *words = (const u64 *)address;

	return !(words[0] | words[1]);
}

/* Zero ports, protocol and addresses match anything when `lenient`: a flow key may not have them yet. */
inline_always bool match_direction(struct filter *filter, const struct tuple *flow, bool swapped,
				   bool lenient)
{
	const u8 *source = swapped ? flow->daddr : flow->saddr, *target = swapped ? flow->saddr : flow->daddr;
	u16 sport = swapped ? flow->dport : flow->sport, dport = swapped ? flow->sport : flow->dport;
	bool no_ports = lenient && !sport && !dport;
	u32 terms = filter->active;

	if ((terms & TERM_FAMILY) && flow->family != filter->family)
		return false;
	if ((terms & TERM_PROTO) && flow->proto != filter->proto && !(lenient && !flow->proto))
		return false;
	if ((terms & TERM_SRC) && !in_prefix(source, filter->saddr, filter->smask) &&
	    !(lenient && is_unset(source)))
		return false;
	if ((terms & TERM_DST) && !in_prefix(target, filter->daddr, filter->dmask) &&
	    !(lenient && is_unset(target)))
		return false;
	if ((terms & TERM_HOST) && !in_prefix(source, filter->haddr, filter->hmask) &&
	    !in_prefix(target, filter->haddr, filter->hmask) &&
	    !(lenient && (is_unset(source) || is_unset(target))))
		return false;
	if ((terms & TERM_SPORT) && sport != filter->sport && !(lenient && !sport))
		return false;
	if ((terms & TERM_DPORT) && dport != filter->dport && !(lenient && !dport))
		return false;
	if ((terms & TERM_PORT) && sport != filter->port && dport != filter->port && !no_ports)
		return false;
	return true;
}

inline_always void order_ends(struct ends *ends, const struct tuple *flow)
{
	const u64 *s = (const u64 *)flow->saddr, *d = (const u64 *)flow->daddr;
	bool swap =
		s[0] > d[0] || (s[0] == d[0] && (s[1] > d[1] || (s[1] == d[1] && flow->sport > flow->dport)));

	__builtin_memset(ends, 0, sizeof(*ends));
	__builtin_memcpy(ends->low, swap ? flow->daddr : flow->saddr, 16);
	__builtin_memcpy(ends->high, swap ? flow->saddr : flow->daddr, 16);
	ends->low_port = swap ? flow->dport : flow->sport;
	ends->high_port = swap ? flow->sport : flow->dport;
	ends->proto = flow->proto;
}

inline_always void remember_flow(const struct tuple *flow)
{
	struct ends ends;
	u8 one = 1;

	order_ends(&ends, flow);
	flows.update(&ends, &one);
}

inline_always bool known_flow(const struct tuple *flow)
{
	struct ends ends;

	order_ends(&ends, flow);
	return flows.lookup(&ends) != 0;
}

/* Whether the current task is one of those asked for; meaningless in softirq. */
inline_always bool owner_matches(struct filter *filter)
{
	u64 comm[2] = {};

	if ((filter->active & TERM_PID) && bpf_get_current_pid_tgid() >> 32 != filter->pid)
		return false;
	if ((filter->active & TERM_UID) && (u32)bpf_get_current_uid_gid() != filter->uid)
		return false;
	if (filter->active & TERM_COMM) {
		const u64 *wanted = (const u64 *)filter->comm;

		bpf_get_current_comm(comm, sizeof(comm));
		return comm[0] == wanted[0] && comm[1] == wanted[1];
	}
	return true;
}

inline_always bool known_port(const struct tuple *flow)
{
	struct port source = {.number = flow->sport, .proto = flow->proto};
	struct port target = {.number = flow->dport, .proto = flow->proto};

	return (flow->dport && ports.lookup(&target)) || (flow->sport && ports.lookup(&source));
}

/* A socket of a wanted process: its local port is worth watching. */
inline_always void remember_port(const struct tuple *flow)
{
	struct port port = {.number = flow->sport, .proto = flow->proto};
	u8 one = 1;

	if (flow->sport)
		ports.update(&port, &one);
}

inline_always bool in_device_matches(struct filter *filter, u32 ifindex, u32 netns)
{
#pragma unroll
	for (int i = 0; i < 16; i++)
		if (i < filter->in_devices && filter->in_device[i] == ifindex && filter->in_netns[i] == netns)
			return true;
	return false;
}

/* The terms that a packet shows by itself. */
inline_always bool packet_matches(struct filter *filter, struct cpu_state *cpu, const struct packet *packet,
				  int kind)
{
	if (packet->ethertype == ETH_P_ARP)
		return !(filter->active & ~(TERM_NETNS | TERM_IN_DEVICE));
	if ((filter->active & TERM_MARK) && (packet->mark ^ filter->mark) & filter->mark_mask)
		return false;
	if ((filter->active & TERM_IN_DEVICE) &&
	    (kind != KIND_RECEIVE || !in_device_matches(filter, packet->ifindex, packet->netns)))
		return false;
	if (!match_direction(filter, &packet->flow, false, false))
		return false;
	if (!(filter->active & TERMS_OWNER))
		return true;
	return (!cpu->softirq && owner_matches(filter)) || known_port(&packet->flow);
}

/* Whether a record of this packet is wanted. `skb` is the packet's identity across devices and namespaces. */
inline_always bool want_packet(struct cpu_state *cpu, const struct packet *packet, struct sk_buff *skb,
			       int kind)
{
	struct filter *filter = the_filter();
	u64 key = (u64)skb, own_head = packet->head, *head;

	if (!filter)
		return false;
	if (!WITH_FILTER || !filter->active)
		return true;
	if ((filter->active & TERM_NETNS) && packet->netns && packet->netns != filter->netns)
		return false;
	if (packet_matches(filter, cpu, packet, kind)) {
		if (filter->active & TERMS_OWNER)
			remember_flow(&packet->flow);
		if (filter->active & ~TERM_NETNS)
			tracked.update(&key, &own_head);
		return true;
	}
	head = tracked.lookup(&key);
	if (head && *head == own_head) {
		if (filter->active & TERMS_PREFIX)
			remember_flow(&packet->flow);
		return true;
	}
	return known_flow(&packet->flow);
}

/* Whether a packet is wanted because one of its records was: for probes that read nothing of it. */
inline_always bool want_tracked(struct sk_buff *skb)
{
	struct filter *filter = the_filter();
	u64 key = (u64)skb, head = 0, *known;

	if (!filter)
		return false;
	if (!WITH_FILTER || !(filter->active & ~TERM_NETNS))
		return true;
	known = tracked.lookup(&key);
	READ(head, &skb->head);
	return known && *known == head;
}

/* Whether a lookup or a socket's record with this flow is wanted. */
inline_always bool want_flow(struct cpu_state *cpu, const struct tuple *flow, u32 netns, u32 mark)
{
	struct filter *filter = the_filter();

	if (!filter || (!cpu->softirq && bpf_get_current_pid_tgid() >> 32 == filter->own_pid))
		return false;
	if (!WITH_FILTER || !filter->active)
		return true;
	if ((filter->active & TERM_NETNS) && netns && netns != filter->netns)
		return false;
	if (cpu->softirq)
		return cpu->wanted || known_flow(flow) ||
		       (!(filter->active & (TERMS_OWNER | TERM_IN_DEVICE | TERM_MARK)) &&
			match_direction(filter, flow, false, false));
	if ((filter->active & TERM_MARK) && mark && (mark ^ filter->mark) & filter->mark_mask)
		return false;
	if ((filter->active & TERMS_OWNER) && !owner_matches(filter))
		return known_flow(flow);
	if (filter->active & TERM_IN_DEVICE)
		return cpu->wanted;
	return match_direction(filter, flow, false, true) || match_direction(filter, flow, true, true);
}

inline_always void forget_packet(struct sk_buff *skb)
{
	u64 key = (u64)skb;
	struct filter *filter = the_filter();

	if (WITH_FILTER && filter && filter->active)
		tracked.delete(&key);
}

#endif
