/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One search of one IPv4 table: fib_table_lookup(), net/ipv4/fib_trie.c. Fires once per search. */

#define STACK_FRAMES 16
#define EEXIST 17
#define KSTACK_MASK 0x3fff /* kernel stacks are aligned to 16 KiB: the rest is the depth of the call */

struct frames {
	u64 ip[STACK_FRAMES];
};

BPF_TABLE("stacktrace", int, struct frames, stacks, 16384);
BPF_TABLE("lru_hash", u64, s32, call_sites, 8192);

/*
 * A call site is told by how deep on the stack its flow key lies, and by what kind of key it is: calls along
 * another way put it at another depth.
 */
inline_always u64 call_site(u64 flow, const struct record *record)
{
	u64 site = flow & KSTACK_MASK;

	site = site << 8 | record->proto;
	site = site << 8 | record->flow_scope;
	site = site << 8 | record->flow_flags;
	site = site << 2 | (record->iif == 0 ? 0 : record->iif == 1 ? 1 : 2);
	site = site << 1 | (record->oif != 0);
	site = site << 2 | record->context_kind;
	return site << 1 | (*(u32 *)record->saddr != 0);
}

inline_always void take_stack(void *ctx, struct record *record, u32 mode)
{
	u64 site = call_site(record->flow, record);
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

inline_always void read_flow_key(struct tuple *flow, const struct flowi4 *key)
{
	__builtin_memcpy(flow->saddr, &key->saddr, 4);
	__builtin_memcpy(flow->daddr, &key->daddr, 4);
	flow->family = AF_INET;
	flow->proto = key->__fl_common.flowic_proto;
	flow->tos = key->__fl_common.FLOW_TOS;
	if (has_ports(flow->proto)) {
		flow->sport = host16(key->uli.ports.sport);
		flow->dport = host16(key->uli.ports.dport);
	} else if (flow->proto == PROTO_ICMP) {
		flow->detail = (u16)key->uli.icmpt.type << 8 | key->uli.icmpt.code;
	}
}

/* The route behind an embedded nexthop, or the id of the nexthop object when there is one. */
inline_always void read_route(struct record *record, struct fib_nh_common *nhc)
{
	struct fib_info *info = 0;
	struct nexthop *object = 0;

	READ(info, &((struct fib_nh *)nhc)->nh_parent);
	if (info) {
		READ(record->owner_table, &info->fib_tb_id);
		READ(record->route_type, &info->fib_type);
		READ(record->route_protocol, &info->fib_protocol);
		READ(record->route_scope, &info->fib_scope);
		READ(record->priority, &info->fib_priority);
		return;
	}
	record->hints |= HINT_NEXTHOP_OBJECT;
	READ(object, &((struct nh_info *)((char *)nhc - offsetof(struct nh_info, fib_nhc)))->nh_parent);
	if (object)
		READ(record->nexthop_id, &object->id);
}

inline_always void read_nexthop(struct record *record, struct fib_nh_common *nhc)
{
	struct net_device *device = 0;
	u8 family = 0;

	READ(family, &nhc->nhc_family);
	READ(record->gateway_family, &nhc->nhc_gw_family);
	READ(record->nexthop_flags, &nhc->nhc_flags);
	READ(device, &nhc->nhc_dev);
	if (device) {
		READ(record->ifindex, &device->ifindex);
		record->netns = netns_of_device(device);
	}
	if (record->gateway_family == AF_INET)
		bpf_probe_read_kernel(record->gateway, 4, &nhc->nhc_gw.ipv4);
	else if (record->gateway_family == AF_INET6)
		bpf_probe_read_kernel(record->gateway, 16, &nhc->nhc_gw.ipv6);
	if (family == AF_INET)
		read_route(record, nhc);
	else
		record->hints |= HINT_NEXTHOP_OBJECT; /* a fib6_nh: only nexthop objects lend those to IPv4 */
}

inline_always u32 netns_of_task(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct nsproxy *proxy = 0;
	struct net *net = 0;
	u32 inode = 0;

	READ(proxy, &task->nsproxy);
	if (proxy)
		READ(net, &proxy->net_ns);
	if (net)
		READ(inode, &net->ns.inum);
	return inode;
}

TRACEPOINT(fib_table_lookup)
{
	struct fib_nh_common *nhc = (void *)ctx->args[2];
	struct cpu_state *cpu = this_cpu();
	struct filter *filter = the_filter();
	struct tuple flow = {};
	struct flowi4 key = {};
	struct record *record;

	if (!cpu || !filter || READ(key, ctx->args[1]))
		return 0;
	cpu->receiving = 0;
	read_flow_key(&flow, &key);
	if (!want_flow(cpu, &flow, 0, key.__fl_common.flowic_mark))
		return 0;
	record = begin(cpu, KIND_LOOKUP);
	if (!record)
		return 0;
	store_tuple(record, &flow);
	record->flow = ctx->args[1];
	record->walked_table = ctx->args[0];
	record->error = (s32)ctx->args[3];
	record->iif = key.__fl_common.flowic_iif;
	record->oif = key.__fl_common.flowic_oif;
	record->mark = key.__fl_common.flowic_mark;
	record->flow_scope = key.__fl_common.flowic_scope;
	record->flow_flags = key.__fl_common.flowic_flags;
	READ(record->uid, &((struct flowi4 *)ctx->args[1])->__fl_common.flowic_uid);
	if (nhc)
		read_nexthop(record, nhc);
	if (!record->netns && !cpu->softirq) {
		record->netns = netns_of_task();
		record->hints |= HINT_TASK_NETNS;
	}
	if (filter->stacks)
		take_stack(ctx, record, filter->stacks);
	send(record);
	return 0;
}
