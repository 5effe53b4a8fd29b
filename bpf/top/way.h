/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The way that a decision went: how it is told from others, and its counter. */
#ifndef FIBTRACE_TOP_WAY_H
#define FIBTRACE_TOP_WAY_H

#define SHOWN 24
#define SLOTS 4 /* a softirq, and some tasks that may be preempted in the middle of a walk */
#define STACK_FRAMES 24
#define EEXIST 17
#define KSTACK_MASK 0x3fff
#define SHAPE_SADDR 1
#define SHAPE_SPORT 2
#define SHAPE_DPORT 4
#define SHAPE_ARP 8
#define SHAPE_TASK 16
#define MIX 0x9E3779B97F4A7C15ULL

struct frames {
	u64 ip[STACK_FRAMES];
};

#define ROUTE_SPAN SPAN(struct fib_info, fib_flags, fib_priority)
#define ROUTE(slot, member) PICK((slot)->route, struct fib_info, fib_flags, member)
#define NEXTHOP_SPAN SPAN(struct fib_nh_common, nhc_dev, nhc_gw)
#define NEXTHOP(slot, member) PICK((slot)->nexthop, struct fib_nh_common, nhc_dev, member)
#if TRACE_IPV6
#define ROUTE6_SPAN SPAN(struct fib6_info, fib6_dst, nh)
#define ROUTE6(slot, member) PICK((slot)->route6, struct fib6_info, fib6_dst, member)
#else
#define ROUTE6_SPAN 8
#endif

struct slot {
	u64 since_ns; /* struct walk_pending */
	u64 name;
	struct walk_key key;
	u64 flow;
	u64 sequence;
	struct asked asked;
	u32 first_table;
	u16 lookups;
	u8 open;
	u32 tables[SHOWN];
	s32 errors[SHOWN];
	BUFFER(route, ROUTE_SPAN);
	BUFFER(route6, ROUTE6_SPAN);
	BUFFER(nexthop, NEXTHOP_SPAN);
};

BPF_PERCPU_ARRAY(slots, struct slot, SLOTS);
struct known {
	struct walk_key key;
	struct walk_info info;
};

BPF_TABLE("percpu_hash", u64, struct walk_count, ways, WAYS);
BPF_HASH(infos, u64, struct known, WAYS);
BPF_PERCPU_ARRAY(new_known, struct known, 1);
BPF_TABLE("stacktrace", int, struct frames, stacks, 16384);

inline_always s32 take_stack(void *ctx)
{
	s32 stack = stacks.get_stackid(ctx, 0);

	/* -EEXIST: another stack has this bucket. Less of the innermost frames is another bucket. */
	if (stack == -EEXIST)
		stack = stacks.get_stackid(ctx, 1);
	if (stack == -EEXIST)
		stack = stacks.get_stackid(ctx, 2);
	return stack;
}

/* The network namespace of the current task: of a system call, never of a softirq. */
inline_always u64 net_of_task(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct nsproxy *proxy = 0;
	struct net *net = 0;

	READ(proxy, &task->nsproxy);
	if (proxy)
		READ(net, &proxy->net_ns);
	return (u64)net;
}

/* The route that a nexthop object was found through says nothing of itself; the object has an id. */
inline_always void read_object(struct walk_info *info, struct fib_nh_common *nhc)
{
	struct nexthop *object = 0;

	info->hints = HINT_NEXTHOP_OBJECT;
	READ(object, &((struct nh_info *)((char *)nhc - offsetof(struct nh_info, fib_nhc)))->nh_parent);
	if (object)
		READ(info->nexthop_id, &object->id);
}

/* Device and gateway of the nexthop; false when it cannot be read. */
inline_always bool take_nexthop(struct slot *slot, struct walk_info *info, struct fib_nh_common *nhc,
				struct cpu_state *cpu)
{
	if (bpf_probe_read_kernel(slot->nexthop, NEXTHOP_SPAN, &nhc->nhc_dev))
		return false;
	read_device(cpu, NEXTHOP(slot, nhc_dev), &info->ifindex, &info->netns);
	info->gateway_family = NEXTHOP(slot, nhc_gw_family);
	if (info->gateway_family == AF_INET)
		__builtin_memcpy(info->gateway, &NEXTHOP(slot, nhc_gw), 4);
	else if (info->gateway_family == AF_INET6)
		__builtin_memcpy(info->gateway, &NEXTHOP(slot, nhc_gw), 16);
	return true;
}

inline_always void take_route(struct slot *slot, struct walk_info *info, struct fib_nh_common *nhc,
			      struct cpu_state *cpu)
{
	u64 parent = 0;

	if (!take_nexthop(slot, info, nhc, cpu))
		return;
	if (NEXTHOP(slot, nhc_family) ==
	    AF_INET) /* else a fib6_nh: only nexthop objects lend those to IPv4 */
		READ(parent, &((struct fib_nh *)nhc)->nh_parent);
	if (!parent) {
		read_object(info, nhc);
		return;
	}
	if (bpf_probe_read_kernel(slot->route, ROUTE_SPAN,
				  (char *)parent + offsetof(struct fib_info, fib_flags)))
		return;
	info->owner_table = ROUTE(slot, fib_tb_id);
	info->route_type = ROUTE(slot, fib_type);
	info->route_protocol = ROUTE(slot, fib_protocol);
	info->route_scope = ROUTE(slot, fib_scope);
	info->priority = ROUTE(slot, fib_priority);
}

#if TRACE_IPV6
/* The route as its search said, like probes/lookup6.c; the prefix tells it from one that lies there after it. */
inline_always void find_route6(struct slot *slot, const struct fib6_info *route)
{
	const u64 *target = (const u64 *)&ROUTE6(slot, fib6_dst), *source;
	u64 prefix;

	if (bpf_probe_read_kernel(slot->route6, ROUTE6_SPAN, &route->fib6_dst))
		return;
	source = (const u64 *)&ROUTE6(slot, fib6_src);
	prefix = (((target[0] * MIX) ^ target[1]) * MIX ^ source[0]) * MIX ^ source[1];
	slot->key.prefix = prefix * MIX ^ ROUTE6(slot, fib6_dst).plen << 8 ^ ROUTE6(slot, fib6_src).plen;
}

inline_always void take_route6(struct slot *slot, struct walk_info *info, const struct lookup *lookup,
			       struct cpu_state *cpu)
{
	const struct nexthop *object;

	info->hints = HINT_PREFIX;
	info->owner_table = lookup->table;
	info->prefix_length = ROUTE6(slot, fib6_dst).plen;
	info->source_length = ROUTE6(slot, fib6_src).plen;
	info->priority = ROUTE6(slot, fib6_metric);
	info->route_protocol = ROUTE6(slot, fib6_protocol);
	info->route_type = lookup->type;
	object = ROUTE6(slot, nh);
	if (object)
		READ(info->nexthop_id, &object->id);
	if (lookup->nhc)
		take_nexthop(slot, info, lookup->nhc, cpu);
}
#else
#define find_route6(slot, route)
#define take_route6(slot, info, lookup, cpu)
#endif

/* The intervals that rules, and the routes of IPv4, tell addresses apart by. */
inline_always void class_addresses(struct walk_key *key, const struct top_settings *now,
				   const struct asked *asked)
{
	u32 number;

	if (asked->family == AF_INET6) {
		key->source_class = count_below6(now, EDGE6_SOURCES, now->sources6, asked->saddr);
		key->target_class = count_below6(now, EDGE6_TARGETS, now->targets6, asked->daddr);
		return;
	}
	number = __builtin_bswap32(asked->daddr[0]);
	key->target_class = count_below(now, EDGE_TARGETS, edge(now, EDGE_FIRST + (number >> 16)),
					edge(now, EDGE_FIRST + (number >> 16) + 1), number);
	if (now->sources)
		key->source_class =
			count_below(now, EDGE_SOURCES, 0, now->sources, __builtin_bswap32(asked->saddr[0]));
}

/* What rules and routes can tell of the flow key, and what tells the caller. */
inline_always void take_flow(struct slot *slot, const struct top_settings *now, const struct asked *asked,
			     const struct cpu_state *cpu)
{
	struct walk_key *key = &slot->key;

	key->epoch = now->epoch;
	key->iif = asked->iif;
	key->oif = asked->oif;
	key->mark = asked->mark & now->mark_bits;
	key->proto = asked->proto;
	key->tos = asked->tos & now->tos_bits;
	key->scope = asked->scope;
	key->flags = asked->flags;
	key->family = asked->family;
	key->sport_bits = asked->sport & now->sport_bits;
	key->dport_bits = asked->dport & now->dport_bits;
	key->shape = (asked->saddr[0] | asked->saddr[1] ? SHAPE_SADDR : 0) |
		     (asked->sport ? SHAPE_SPORT : 0) | (asked->dport ? SHAPE_DPORT : 0);
	/* As for traces (probes/lookup.c): a system call begins at a random depth, so there the process counts. */
	if (cpu->softirq) {
		key->site = slot->flow & KSTACK_MASK;
		key->shape |= cpu->arp ? SHAPE_ARP : 0;
	} else {
		key->site = (bpf_get_current_pid_tgid() >> 32) << 4 | (slot->flow & KSTACK_MASK) >> 10;
		key->shape |= SHAPE_TASK;
	}
	class_addresses(key, now, asked);
	if (now->uids)
		key->uid_class = count_below(now, EDGE_UIDS, 0, now->uids, asked->uid);
	if (now->sports)
		key->sport_class = count_below(now, EDGE_SPORTS, 0, now->sports, asked->sport);
	if (now->dports)
		key->dport_class = count_below(now, EDGE_DPORTS, 0, now->dports, asked->dport);
}

/* The namespace of a lookup that found nothing: of the packet being received, or of the task. */
inline_always void find_netns(struct walk_info *info, const struct walk_key *key, struct cpu_state *cpu)
{
	u32 ifindex = 0;

	if (!cpu->softirq) {
		info->netns = netns_of(cpu, (const struct net *)key->device);
		return;
	}
	read_device(cpu, (const struct net_device *)key->device, &ifindex, &info->netns);
	if (key->iif > 1 && key->iif != ifindex)
		info->netns = 0; /* several packets were announced before the first was routed */
}

/* A way that was not seen before in this epoch: keep what there is to say of it. */
inline_always struct walk_count *introduce(void *ctx, struct slot *slot, const struct lookup *lookup,
					   const struct asked *asked, struct cpu_state *cpu)
{
	struct walk_count none = {};
	struct walk_info *info;
	struct known *known;
	int zero = 0;

	known = new_known.lookup(&zero);
	if (!known)
		return 0;
	info = &known->info;
	__builtin_memcpy(&known->key, &slot->key, sizeof(known->key));
	__builtin_memset(info, 0, sizeof(*info));
	__builtin_memcpy(info->saddr, asked->saddr, 16);
	__builtin_memcpy(info->daddr, asked->daddr, 16);
	info->uid = asked->uid;
	info->mark = asked->mark;
	info->tos = asked->tos;
	info->family = asked->family;
	info->sport = asked->sport;
	info->dport = asked->dport;
	info->context_kind = cpu->softirq ? CONTEXT_SOFTIRQ : CONTEXT_TASK;
	info->pid = bpf_get_current_pid_tgid() >> 32;
	if (lookup->route)
		take_route6(slot, info, lookup, cpu);
	else if (lookup->nhc)
		take_route(slot, info, lookup->nhc, cpu);
	if (lookup->net)
		info->netns = netns_of(cpu, lookup->net);
	else if (!lookup->nhc)
		find_netns(info, &slot->key, cpu);
	__builtin_memcpy(info->tables, slot->tables, sizeof(info->tables));
	__builtin_memcpy(info->errors, slot->errors, sizeof(info->errors));
	info->stack = take_stack(ctx);
	if (infos.update(&slot->name, known))
		return 0;
	return ways.lookup_or_try_init(&slot->name, &none);
}

inline_always void lose_walk(const struct slot *slot, int what)
{
	lose(what, 1);
	lose(LOST_LOOKUPS, slot->lookups);
}

inline_always void count_pending(struct slot *slot)
{
	struct walk_count *count = ways.lookup(&slot->name);

	if (!count) {
		lose_walk(slot, LOST_DECISIONS);
		return;
	}
	count->hits += 1;
	count->last_ns = slot->since_ns;
}

inline_always u64 name_of(const struct walk_key *key)
{
	const u64 *words = (const u64 *)key;
	u64 name = 0;

#pragma unroll
	for (int i = 0; i < sizeof(*key) / 8; i++) {
		name = (name ^ words[i]) * MIX;
		name ^= name >> 32;
	}
	return name;
}

/* The walk ends here, or may: the counter of its way. */
inline_always struct walk_count *counter_of(void *ctx, struct slot *slot, const struct lookup *lookup,
					    const struct asked *asked, const struct top_settings *now)
{
	struct cpu_state *cpu = this_cpu();
	struct walk_count *count;

	if (!cpu)
		return 0;
	__builtin_memset(&slot->key, 0, sizeof(slot->key));
	slot->key.sequence = slot->sequence;
	slot->key.table = lookup->table;
	slot->key.error = lookup->error;
	slot->key.lookups = slot->lookups;
	slot->key.nexthop = lookup->route ? (u64)lookup->route : (u64)lookup->nhc;
	if (lookup->net)
		slot->key.device = (u64)lookup->net;
	else if (!lookup->nhc)
		slot->key.device = cpu->softirq ? cpu->received : net_of_task();
	if (lookup->route)
		find_route6(slot, lookup->route);
	take_flow(slot, now, asked, cpu);
	slot->name = name_of(&slot->key);
	count = ways.lookup(&slot->name);
	return count ? count : introduce(ctx, slot, lookup, asked, cpu);
}

#endif
