/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk of a decision through the tables: fib_table_lookup fires once per search, net/ipv4/fib_trie.c. */

#define SHOWN 24
#define SLOTS 4 /* a softirq, and some tasks that may be preempted in the middle of a walk */
#define STACK_FRAMES 24
#define EEXIST 17
#define EAGAIN 11
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

/* Members that the route shares with its first nexthop: read in one go, as they lie in one allocation. */
#define ROUTE_SPAN                                                                    \
	(offsetof(struct fib_info, fib_nh) + offsetof(struct fib_nh, nh_parent) + 8 - \
	 offsetof(struct fib_info, fib_flags))
#define ROUTE(slot, member) PICK((slot)->route, struct fib_info, fib_flags, member)
#define PARENT_AT                                                                 \
	(offsetof(struct fib_info, fib_nh) + offsetof(struct fib_nh, nh_parent) - \
	 offsetof(struct fib_info, fib_flags))
#define NEXTHOP_AT (offsetof(struct fib_info, fib_nh) - offsetof(struct fib_info, fib_flags))
#define NEXTHOP(slot, member)                                                                         \
	(*(typeof(MEMBER(struct fib_nh_common, member)) *)((const char *)(slot)->route + NEXTHOP_AT + \
							   offsetof(struct fib_nh_common, member)))

struct slot {
	u64 since_ns; /* struct walk_pending */
	struct walk_key key;
	u64 flow;
	u64 sequence;
	u32 saddr;
	u32 daddr;
	u32 first_table;
	u32 iif;
	u16 lookups;
	u8 open;
	u8 pad[5];
	u32 tables[SHOWN];
	s32 errors[SHOWN];
	BUFFER(route, ROUTE_SPAN);
};

BPF_PERCPU_ARRAY(slots, struct slot, SLOTS);
BPF_TABLE("percpu_hash", struct walk_key, struct walk_count, ways, WAYS);
BPF_HASH(infos, struct walk_key, struct walk_info, WAYS);
BPF_PERCPU_ARRAY(new_info, struct walk_info, 1);
BPF_TABLE("stacktrace", int, struct frames, stacks, 16384);

/* One lookup: what the tracepoint says, and the flow key. */
struct lookup {
	u64 flow;
	struct fib_nh_common *nhc;
	u32 table;
	s32 error;
};

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
inline_always void read_object(struct walk_key *key, struct fib_nh_common *nhc)
{
	struct nexthop *object = 0;

	key->hints = HINT_NEXTHOP_OBJECT;
	READ(object, &((struct nh_info *)((char *)nhc - offsetof(struct nh_info, fib_nhc)))->nh_parent);
	if (object)
		READ(key->nexthop_id, &object->id);
}

inline_always void take_route(struct slot *slot, const struct lookup *lookup)
{
	const char *nhc = (const char *)lookup->nhc;
	struct walk_key *key = &slot->key;
	u64 parent = 0;

	/* Most often the nexthop is the first of its route, and the route lies in front of it. */
	if (bpf_probe_read_kernel(slot->route, ROUTE_SPAN, nhc - NEXTHOP_AT))
		slot->route[0] = 0;
	parent = *(u64 *)((char *)slot->route + PARENT_AT);
	if (NEXTHOP(slot, nhc_family) != AF_INET)
		parent = 0; /* a fib6_nh: only nexthop objects lend those to IPv4 */
	key->nexthop = (u64)nhc;
	key->device = (u64)NEXTHOP(slot, nhc_dev);
	key->gateway_family = NEXTHOP(slot, nhc_gw_family);
	if (key->gateway_family == AF_INET) {
		key->gateway = *(u32 *)&NEXTHOP(slot, nhc_gw);
	} else if (key->gateway_family == AF_INET6) {
		const u32 *words = (const u32 *)&NEXTHOP(slot, nhc_gw);

		key->gateway = words[0] ^ words[1] * 3 ^ words[2] * 5 ^ words[3] * 7;
	}
	if (!parent) {
		read_object(key, lookup->nhc);
		return;
	}
	if (parent != (u64)(nhc - offsetof(struct fib_info, fib_nh)) &&
	    bpf_probe_read_kernel(slot->route, SPAN(struct fib_info, fib_flags, fib_priority),
				  (char *)parent + offsetof(struct fib_info, fib_flags)))
		return;
	key->owner_table = ROUTE(slot, fib_tb_id);
	key->route_type = ROUTE(slot, fib_type);
	key->route_protocol = ROUTE(slot, fib_protocol);
	key->route_scope = ROUTE(slot, fib_scope);
	key->priority = ROUTE(slot, fib_priority);
}

/* What rules and routes can tell of the flow key, and what tells the caller. */
inline_always void take_flow(struct slot *slot, const struct top_settings *now, const struct flowi4 *flow,
			     const struct cpu_state *cpu)
{
	u8 proto = flow->__fl_common.flowic_proto;
	struct walk_key *key = &slot->key;
	u16 sport = 0, dport = 0;
	u32 number;

	if (has_ports(proto)) {
		sport = host16(flow->uli.ports.sport);
		dport = host16(flow->uli.ports.dport);
	}
	key->epoch = now->epoch;
	key->iif = flow->__fl_common.flowic_iif;
	key->oif = flow->__fl_common.flowic_oif;
	key->mark = flow->__fl_common.flowic_mark & now->mark_bits;
	key->proto = proto;
	key->tos = flow->__fl_common.FLOW_TOS & now->tos_bits;
	key->scope = flow->__fl_common.flowic_scope;
	key->flags = flow->__fl_common.flowic_flags;
	key->sport_bits = sport & now->sport_bits;
	key->dport_bits = dport & now->dport_bits;
	key->shape = (flow->saddr ? SHAPE_SADDR : 0) | (sport ? SHAPE_SPORT : 0) | (dport ? SHAPE_DPORT : 0);
	/* As for traces (probes/lookup.c): a system call begins at a random depth, so there the process counts. */
	if (cpu->softirq) {
		key->site = slot->flow & KSTACK_MASK;
		key->shape |= cpu->arp ? SHAPE_ARP : 0;
	} else {
		key->site = (bpf_get_current_pid_tgid() >> 32) << 4 | (slot->flow & KSTACK_MASK) >> 10;
		key->shape |= SHAPE_TASK;
	}
	number = __builtin_bswap32(flow->daddr);
	key->target_class = count_below(now, EDGE_TARGETS, edge(now, EDGE_FIRST + (number >> 16)),
					edge(now, EDGE_FIRST + (number >> 16) + 1), number);
	if (now->sources)
		key->source_class =
			count_below(now, EDGE_SOURCES, 0, now->sources, __builtin_bswap32(flow->saddr));
	if (now->uids)
		key->uid_class = count_below(now, EDGE_UIDS, 0, now->uids, flow->__fl_common.flowic_uid.val);
	if (now->sports)
		key->sport_class = count_below(now, EDGE_SPORTS, 0, now->sports, sport);
	if (now->dports)
		key->dport_class = count_below(now, EDGE_DPORTS, 0, now->dports, dport);
}

/* The namespace: of the nexthop's device, of the packet being received, or of the task. */
inline_always void find_netns(struct walk_info *info, const struct walk_key *key, struct cpu_state *cpu)
{
	const struct net *net = 0;
	u32 ifindex = 0, netns = 0;

	if (key->nexthop || cpu->softirq) {
		read_device(cpu, (const struct net_device *)key->device, &ifindex, &netns);
		if (key->nexthop)
			info->ifindex = ifindex;
		else if (key->iif > 1 && key->iif != ifindex)
			netns = 0; /* several packets were announced before the first was routed */
	} else {
		net = (const struct net *)key->device;
		netns = netns_of(cpu, net);
	}
	info->netns = netns;
}

/* A way that was not seen before in this epoch: keep what there is to say of it. */
inline_always bool introduce(void *ctx, struct slot *slot, const struct flowi4 *flow, struct cpu_state *cpu)
{
	u8 proto = flow->__fl_common.flowic_proto;
	struct walk_info *info;
	int zero = 0;

	info = new_info.lookup(&zero);
	if (!info)
		return false;
	__builtin_memset(info, 0, sizeof(*info));
	__builtin_memcpy(info->saddr, &flow->saddr, 4);
	__builtin_memcpy(info->daddr, &flow->daddr, 4);
	if (slot->key.gateway_family == AF_INET)
		__builtin_memcpy(info->gateway, &slot->key.gateway, 4);
	else if (slot->key.gateway_family == AF_INET6)
		bpf_probe_read_kernel(info->gateway, 16,
				      &((struct fib_nh_common *)slot->key.nexthop)->nhc_gw);
	info->uid = flow->__fl_common.flowic_uid.val;
	info->mark = flow->__fl_common.flowic_mark;
	info->tos = flow->__fl_common.FLOW_TOS;
	info->family = AF_INET;
	info->context_kind = cpu->softirq ? CONTEXT_SOFTIRQ : CONTEXT_TASK;
	info->pid = bpf_get_current_pid_tgid() >> 32;
	if (has_ports(proto)) {
		info->sport = host16(flow->uli.ports.sport);
		info->dport = host16(flow->uli.ports.dport);
	}
	find_netns(info, &slot->key, cpu);
	__builtin_memcpy(info->tables, slot->tables, sizeof(info->tables));
	__builtin_memcpy(info->errors, slot->errors, sizeof(info->errors));
	info->stack = take_stack(ctx);
	return !infos.update(&slot->key, info);
}

inline_always void count_walk(struct slot *slot, u64 now_ns)
{
	struct walk_count *count = ways.lookup(&slot->key);

	if (count) {
		count->hits += 1;
		count->last_ns = now_ns;
	} else {
		lose(LOST_DECISIONS, 1);
		lose(LOST_LOOKUPS, slot->key.lookups);
	}
}

/* The walk ends here, or may: make its key, and its entry if it is a new one. */
inline_always void describe(void *ctx, struct slot *slot, const struct lookup *lookup,
			    const struct flowi4 *flow)
{
	const struct top_settings *now;
	struct walk_count none = {};
	struct cpu_state *cpu = this_cpu();
	u32 zero = 0, *which = active.lookup(&zero);

	if (!which || !cpu)
		return;
	zero = *which & 1;
	now = settings.lookup(&zero);
	if (!now)
		return;
	__builtin_memset(&slot->key, 0, sizeof(slot->key));
	slot->key.sequence = slot->sequence;
	slot->key.table = lookup->table;
	slot->key.error = lookup->error;
	slot->key.lookups = slot->lookups;
	if (lookup->nhc)
		take_route(slot, lookup);
	else
		slot->key.device = cpu->softirq ? cpu->received : net_of_task();
	take_flow(slot, now, flow, cpu);
	if (!ways.lookup(&slot->key) && introduce(ctx, slot, flow, cpu))
		ways.update(&slot->key, &none);
}

inline_always bool goes_on(const struct slot *slot, const struct lookup *lookup, const struct flowi4 *flow)
{
	return slot->open && slot->flow == lookup->flow && slot->saddr == flow->saddr &&
	       slot->daddr == flow->daddr && slot->iif == flow->__fl_common.flowic_iif &&
	       slot->first_table != lookup->table;
}

inline_always const struct top_settings *settings_in_use(void)
{
	const struct top_settings *now;
	u32 zero = 0, *which = active.lookup(&zero);

	if (!which)
		return 0;
	zero = *which & 1;
	now = settings.lookup(&zero);
	return now && now->epoch ? now : 0;
}

inline_always struct slot *slot_of(const struct cpu_state *cpu, u64 flow)
{
	u32 index = cpu->softirq ? 0 : 1 + (u32)(flow >> 14) % (SLOTS - 1);

	return slots.lookup(&index);
}

inline_always bool is_wanted(const struct top_settings *now, const struct flowi4 *flow)
{
	u64 saddr[2] = {flow->saddr}, daddr[2] = {flow->daddr};

	return !now->active || wanted(now, (u8 *)saddr, (u8 *)daddr, flow->__fl_common.flowic_mark,
				      flow->__fl_common.flowic_uid.val);
}

inline_always void add_lookup(struct slot *slot, const struct lookup *lookup, const struct flowi4 *flow)
{
	u32 number;

	if (!goes_on(slot, lookup, flow)) {
		if (slot->since_ns)
			count_walk(slot, slot->since_ns);
		else if (slot->open && slot->lookups) {
			lose(LOST_ENDS, 1);
			lose(LOST_LOOKUPS, slot->lookups);
		}
		slot->flow = lookup->flow;
		slot->saddr = flow->saddr;
		slot->daddr = flow->daddr;
		slot->iif = flow->__fl_common.flowic_iif;
		slot->first_table = lookup->table;
		slot->sequence = 0;
		slot->lookups = 0;
	}
	slot->since_ns = 0;
	number = slot->lookups;
	if (number < SHOWN) {
		slot->tables[number & 31] = lookup->table;
		slot->errors[number & 31] = lookup->error;
	}
	slot->lookups = number + 1;
}

TRACEPOINT(fib_table_lookup)
{
	struct lookup lookup = {
		.flow = ctx->args[1],
		.nhc = (void *)ctx->args[2],
		.table = ctx->args[0],
		.error = (s32)ctx->args[3],
	};
	const struct top_settings *now = settings_in_use();
	struct cpu_state *cpu = this_cpu();
	struct flowi4 flow = {};
	struct slot *slot;
	bool may_go_on, may_end;

	if (!now || !cpu || READ(flow, lookup.flow) || !is_wanted(now, &flow))
		return 0;
	slot = slot_of(cpu, lookup.flow);
	if (!slot)
		return 0;
	add_lookup(slot, &lookup, &flow);
	may_go_on = lookup.error == -EAGAIN || (!lookup.error && has_table(now->may_suppress, lookup.table));
	may_end = lookup.error != -EAGAIN || has_table(now->may_end, lookup.table);
	if (may_end)
		describe(ctx, slot, &lookup, &flow);
	slot->open = may_go_on;
	if (!may_go_on)
		count_walk(slot, bpf_ktime_get_ns());
	else if (may_end)
		slot->since_ns = bpf_ktime_get_ns();
	slot->sequence = (slot->sequence ^ ((u64)lookup.table << 32 | (u32)lookup.error)) * MIX;
	slot->sequence ^= slot->sequence >> 29;
	return 0;
}
