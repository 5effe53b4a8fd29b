/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One search of one table: fib_table_lookup(), net/ipv4/fib_trie.c, and fib6_table_lookup() with its kin, net/ipv6. Fires
 * once per search.
 */

#define STACK_FRAMES 24
#define EEXIST 17
#define KSTACK_MASK 0x3fff /* kernel stacks are aligned to 16 KiB: the rest is the depth of the call */

struct frames {
	u64 ip[STACK_FRAMES];
};

BPF_TABLE("stacktrace", int, struct frames, stacks, 16384);
BPF_TABLE("lru_hash", u64, s32, call_sites, 8192);

/*
 * A call site is told by what kind of flow key it has, and how deep on the stack that lies: calls along another way put
 * it at another depth. A system call begins at a random depth (randomize_kstack_offset, below 1 KiB), so there the
 * process counts and of the depth only the rest. A softirq has a stack of its own; whether it received an ARP packet
 * counts, which is routed at the depth of others.
 */
inline_always u64 call_site(const struct cpu_state *cpu, const struct record *record)
{
	u64 depth = record->flow & KSTACK_MASK, site;

	site = cpu->softirq ? depth << 1 | cpu->arp : (u64)record->pid << 4 | depth >> 10;
	site = site << 8 | record->proto;
	site = site << 4 | (record->flow_scope & 3) << 2 | (record->sport != 0) << 1 | (record->dport != 0);
	site = site << 8 | record->flow_flags;
	site = site << 2 | (record->iif == 0 ? 0 : record->iif == 1 ? 1 : 2);
	site = site << 1 | (record->oif != 0);
	site = site << 1 | (cpu->softirq != 0);
	site = site << 1 | (record->family == AF_INET6);
	return site << 1 | !is_unset(record->saddr);
}

inline_always void take_stack(void *ctx, struct cpu_state *cpu, struct record *record, u32 mode)
{
	u64 site = call_site(cpu, record);
	s32 *known, stack;

	known = mode == 1 ? call_sites.lookup(&site) : 0;
	if (known) {
		record->stack = *known;
		record->hints |= HINT_STACK_SHARED;
		return;
	}
	/* -EEXIST: another stack has this bucket. Less of the innermost frames is another bucket. */
	stack = stacks.get_stackid(ctx, 0);
	if (stack == -EEXIST)
		stack = stacks.get_stackid(ctx, 1);
	if (stack == -EEXIST)
		stack = stacks.get_stackid(ctx, 2);
	record->stack = stack;
	if (mode == 1 && stack >= 0)
		call_sites.update(&site, &stack);
}

/* What the flow keys of both families have. */
inline_always void read_flow_key(struct tuple *flow, const struct flowi_common *common,
				 const union flowi_uli *uli)
{
	flow->proto = common->flowic_proto;
	if (has_ports(flow->proto)) {
		flow->sport = host16(uli->ports.sport);
		flow->dport = host16(uli->ports.dport);
	} else if (is_icmp(flow->proto)) {
		flow->detail = (u16)uli->icmpt.type << 8 | uli->icmpt.code;
	}
}

#define ROUTE(buffer, member) PICK(buffer, struct fib_info, fib_flags, member)

inline_always void store_info(struct record *record, const struct fib_info *info)
{
	BUFFER(route, SPAN(struct fib_info, fib_flags, fib_priority));

	if (bpf_probe_read_kernel(route, SPAN(struct fib_info, fib_flags, fib_priority), &info->fib_flags))
		return;
	record->owner_table = ROUTE(route, fib_tb_id);
	record->route_type = ROUTE(route, fib_type);
	record->route_protocol = ROUTE(route, fib_protocol);
	record->route_scope = ROUTE(route, fib_scope);
	record->priority = ROUTE(route, fib_priority);
}

/* The route behind an embedded nexthop, or the id of the nexthop object when there is one. */
inline_always void read_route(struct record *record, struct fib_nh_common *nhc)
{
	struct fib_info *info = 0;
	struct nexthop *object = 0;

	READ(info, &((struct fib_nh *)nhc)->nh_parent);
	if (info) {
		store_info(record, info);
		return;
	}
	record->hints |= HINT_NEXTHOP_OBJECT;
	READ(object, &((struct nh_info *)((char *)nhc - offsetof(struct nh_info, fib_nhc)))->nh_parent);
	if (object)
		READ(record->nexthop_id, &object->id);
}

#define NEXTHOP(buffer, member) PICK(buffer, struct fib_nh_common, nhc_dev, member)

/* The nexthop, and the family of the memory that it lies in (struct fib_nh or fib6_nh). */
inline_always u8 read_nexthop(struct cpu_state *cpu, struct record *record, const struct fib_nh_common *nhc)
{
	BUFFER(nexthop, SPAN(struct fib_nh_common, nhc_dev, nhc_gw));

	if (bpf_probe_read_kernel(nexthop, SPAN(struct fib_nh_common, nhc_dev, nhc_gw), &nhc->nhc_dev))
		return 0;
	record->gateway_family = NEXTHOP(nexthop, nhc_gw_family);
	record->nexthop_flags = NEXTHOP(nexthop, nhc_flags);
	read_device(cpu, NEXTHOP(nexthop, nhc_dev), &record->ifindex, &record->netns);
	if (record->gateway_family == AF_INET)
		__builtin_memcpy(record->gateway, &NEXTHOP(nexthop, nhc_gw), 4);
	else if (record->gateway_family == AF_INET6)
		__builtin_memcpy(record->gateway, &NEXTHOP(nexthop, nhc_gw), 16);
	return NEXTHOP(nexthop, nhc_family);
}

inline_always u32 netns_of_task(struct cpu_state *cpu)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct nsproxy *proxy = 0;
	struct net *net = 0;

	READ(proxy, &task->nsproxy);
	if (proxy)
		READ(net, &proxy->net_ns);
	return netns_of(cpu, net);
}

/* One search, or a rule that ended the walk without one: then the table is 0. */
struct lookup {
	u64 flow; /* address of the flow key */
	struct fib_nh_common *nhc;
	u32 netns; /* 0 when not known */
	u32 table;
	s32 error;
};

#if FUNCTIONS
/* Where fib_table_lookup() was told to put its result is what the tracepoint does not say: the prefix. */
inline_always void observe_result(struct calls *calls, struct record *record, const struct lookup *lookup)
{
	struct fib_result result = {};

	if (!lookup->error && calls->searched == lookup->flow && !READ(result, calls->result) &&
	    result.nhc == lookup->nhc) {
		record->prefix_length = result.prefixlen;
		record->hints |= HINT_PREFIX;
		if (!record->owner_table && result.fi)
			store_info(record, result.fi);
	}
	calls->searched = 0;
}

/* What the probed functions around a lookup know of it: whose it is, the rule, and where the result says it is. */
inline_always void observe(struct cpu_state *cpu, struct record *record, const struct lookup *lookup,
			   const struct tuple *key)
{
	struct calls *calls = calls_here(cpu);
	struct call *call;

	if (!calls)
		return;
	call = call_of_lookup(calls, lookup->flow, key);
	if (call) {
		call->wanted = 1;
		record->call = call->number;
		record->call_kind = call->kind;
		record->routed = routed_by(call);
		if (call->netns)
			record->netns = call->netns;
	}
	if (calls->rule_flow == lookup->flow && calls->rule_number == innermost_number(calls) &&
	    (!calls->rule_table || calls->rule_table == lookup->table)) {
		record->rule = calls->rule;
		record->rule_table = calls->rule_table;
		record->hints |= HINT_RULE;
	}
	calls->rule_flow = 0;
	if (key->family == AF_INET)
		observe_result(calls, record, lookup);
}
#endif

/* Begin the record of a lookup that is wanted; NULL else. */
inline_always struct record *begin_lookup(struct cpu_state *cpu, const struct lookup *lookup,
					  const struct tuple *flow, const struct flowi_common *common)
{
	struct record *record;

	cpu->receiving = 0;
	if (!want_flow(cpu, flow, lookup->netns, common->flowic_mark))
		return 0;
	record = begin(cpu, KIND_LOOKUP);
	if (!record)
		return 0;
	store_tuple(record, flow);
	record->flow = lookup->flow;
	record->walked_table = lookup->table;
	record->error = lookup->error;
	record->netns = lookup->netns;
	record->iif = common->flowic_iif;
	record->oif = common->flowic_oif;
	record->mark = common->flowic_mark;
	record->flow_scope = common->flowic_scope;
	record->flow_flags = common->flowic_flags;
	record->uid = common->flowic_uid.val;
	return record;
}

/* Add what the functions around it say, and who asked, and send it. */
inline_always int send_lookup(void *ctx, struct cpu_state *cpu, struct record *record,
			      const struct lookup *lookup, const struct tuple *flow)
{
	struct filter *filter = the_filter();

#if FUNCTIONS
	observe(cpu, record, lookup, flow);
#endif
	if (!record->netns && !cpu->softirq) {
		record->netns = netns_of_task(cpu);
		record->hints |= HINT_TASK_NETNS;
	}
	if (filter && filter->stacks)
		take_stack(ctx, cpu, record, filter->stacks);
	send(record);
	return 0;
}

inline_always int emit_lookup(void *ctx, struct cpu_state *cpu, const struct lookup *lookup)
{
	struct tuple flow = {.family = AF_INET};
	struct record *record;
	struct flowi4 key = {};

	if (!the_filter() || READ(key, lookup->flow))
		return 0;
	__builtin_memcpy(flow.saddr, &key.saddr, 4);
	__builtin_memcpy(flow.daddr, &key.daddr, 4);
	flow.tos = key.__fl_common.FLOW_TOS;
	read_flow_key(&flow, &key.__fl_common, &key.uli);
	record = begin_lookup(cpu, lookup, &flow, &key.__fl_common);
	if (!record)
		return 0;
	if (lookup->nhc) {
		if (read_nexthop(cpu, record, lookup->nhc) == AF_INET)
			read_route(record, lookup->nhc);
		else
			record->hints |= HINT_NEXTHOP_OBJECT; /* a fib6_nh: only nexthop objects lend those */
	}
	return send_lookup(ctx, cpu, record, lookup, &flow);
}

TRACEPOINT(fib_table_lookup)
{
	struct cpu_state *cpu = this_cpu();
	struct lookup lookup = {
		.flow = ctx->args[1],
		.nhc = (void *)ctx->args[2],
		.table = ctx->args[0],
		.error = (s32)ctx->args[3],
	};

	return cpu ? emit_lookup(ctx, cpu, &lookup) : 0;
}
