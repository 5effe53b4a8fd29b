/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The calls around the lookups: net/ipv4/route.c, fib_frontend.c, fib_rules.c. The lookups themselves are always those
 * of the tracepoint (probes/lookup.c), which loses none; these probes add whose they are, the rule and the result.
 */

#define ERROR_POINTER ((u64)-4095)
#define FR_ACT_TO_TBL 1
#define FR_ACT_UNREACHABLE 7
#define FR_ACT_PROHIBIT 8

/* Whether the packet's own header has these ends: icmp_route_lookup() routes a packet with its ends swapped. */
inline_always bool is_own_route(struct sk_buff *skb, u32 daddr, u32 saddr)
{
	const unsigned char *head = 0;
	struct ipv4_header ip = {};
	u16 offset = 0, protocol = 0;

	READ(protocol, &skb->protocol);
	if (host16(protocol) != ETH_P_IP)
		return false; /* arp_process() */
	READ(head, &skb->head);
	READ(offset, &skb->network_header);
	if (READ(ip, head + offset))
		return false;
	return *(u32 *)ip.daddr == daddr && *(u32 *)ip.saddr == saddr;
}

ENTRY(ip_route_input_noref)
{
	struct sk_buff *skb = (void *)ARGUMENT(ctx, 1);
	u32 daddr = ARGUMENT(ctx, 2), saddr = ARGUMENT(ctx, 3);
	struct net_device *device = (void *)ARGUMENT(ctx, 5);
	struct cpu_state *cpu = this_cpu();
	struct call *call;

	if (!cpu || !the_filter())
		return 0;
	call = push_call(cpu, is_own_route(skb, daddr, saddr) ? CALL_INPUT : CALL_OTHER);
	if (!call)
		return 0;
	call->token = (u64)skb;
	call->daddr = daddr;
	call->saddr = saddr;
	read_device(cpu, device, &call->ifindex, &call->netns);
	return 0;
}

/* Not ip_route_output_key_hash(): the compiler has put that into ip_route_output_flow(). */
ENTRY(ip_route_output_key_hash_rcu)
{
	const struct net *net = (void *)ARGUMENT(ctx, 1);
	u64 flow = ARGUMENT(ctx, 2);
	struct cpu_state *cpu = this_cpu();
	struct call *call;

	if (!cpu || !the_filter())
		return 0;
	call = push_call(cpu, CALL_OUTPUT);
	if (!call)
		return 0;
	call->token = flow;
	call->netns = netns_of(cpu, net);
	return 0;
}

/* A check of a route that is not the packet's own is none of the packet's either. */
inline_always int enter_check(struct sk_buff *skb, u32 source, u32 target, struct net_device *device)
{
	struct cpu_state *cpu = this_cpu();
	struct call *call, *around;
	struct calls *calls;

	if (!cpu || !the_filter())
		return 0;
	calls = calls_here(cpu);
	around = calls ? innermost(calls) : 0;
	call = push_call(cpu, around && around->kind == CALL_OTHER ? CALL_OTHER : CALL_CHECK);
	if (!call)
		return 0;
	call->token = (u64)skb;
	call->daddr = source;
	call->saddr = target;
	read_device(cpu, device, &call->ifindex, &call->netns);
	return 0;
}

ENTRY(fib_validate_source)
{
	return enter_check((void *)ARGUMENT(ctx, 1), ARGUMENT(ctx, 2), ARGUMENT(ctx, 3),
			   (void *)ARGUMENT(ctx, 6));
}

#if FUNCTIONS == FUNCTIONS_FENTRY
/* It has eight arguments; before 6.12 fentry takes six. */
KPROBE_ENTRY(fib_validate_source)
{
	return enter_check((void *)KPROBE_ARGUMENT(ctx, 1), KPROBE_ARGUMENT(ctx, 2), KPROBE_ARGUMENT(ctx, 3),
			   (void *)KPROBE_ARGUMENT(ctx, 6));
}
#endif

/* Where the result of the search that begins is going to be; it is there before the tracepoint fires. */
ENTRY(fib_table_lookup)
{
	struct cpu_state *cpu = this_cpu();
	struct calls *calls;

	if (!cpu || !the_filter())
		return 0;
	calls = calls_or_new(cpu);
	if (!calls)
		return 0;
	calls->searched = ARGUMENT(ctx, 2);
	calls->result = ARGUMENT(ctx, 3);
	return 0;
}

/* Which rule is asked. One that ends the walk by itself is told as a lookup of no table. */
ENTRY(fib4_rule_action)
{
	struct fib_rule *rule = (void *)ARGUMENT(ctx, 1);
	struct lookup lookup = {.flow = ARGUMENT(ctx, 2)};
	struct cpu_state *cpu = this_cpu();
	struct calls *calls;
	u8 action = 0;

	if (!cpu || !the_filter())
		return 0;
	calls = calls_or_new(cpu);
	if (!calls)
		return 0;
	READ(action, &rule->action);
	READ(calls->rule, &rule->pref);
	READ(calls->rule_table, &rule->table);
	calls->rule_flow = lookup.flow;
	calls->rule_number = innermost_number(calls);
	if (action == FR_ACT_TO_TBL)
		return 0;
	calls->rule_table = 0;
	lookup.error = -EINVAL;
	if (action == FR_ACT_UNREACHABLE)
		lookup.error = -ENETUNREACH;
	else if (action == FR_ACT_PROHIBIT)
		lookup.error = -EACCES;
	return emit_lookup(ctx, cpu, &lookup);
}

/* A record about a call, not about a packet. */
inline_always struct record *begin_call(struct cpu_state *cpu, const struct call *call, int kind)
{
	struct record *record = begin(cpu, kind);

	if (!record)
		return 0;
	record->call = call->number;
	record->call_kind = call->kind;
	record->routed = routed_by(call);
	record->netns = call->netns;
	return record;
}

RETURN(fib4_rule_suppress)
{
	bool suppressed = (u8)RESULT(ctx, 3);
	struct cpu_state *cpu = this_cpu();
	struct record *record;
	struct calls *calls;
	struct call *call;

	if (!suppressed || !cpu)
		return 0;
	calls = calls_here(cpu);
	call = calls ? innermost(calls) : 0;
	if (!call || !call->wanted)
		return 0;
	record = begin_call(cpu, call, KIND_SUPPRESSED);
	if (record)
		send(record);
	return 0;
}

/* The route that was made of a decision: its nexthop is chosen after the lookup (fib_select_path()). */
inline_always void store_route(struct cpu_state *cpu, struct record *record, const struct rtable *route)
{
	struct net_device *device = 0;
	u32 netns = 0;
	u16 type = 0;
	s16 error = 0;

	READ(device, &route->dst.dev);
	read_device(cpu, device, &record->ifindex, &netns);
	READ(type, &route->rt_type);
	record->route_type = type;
	READ(error, &route->dst.error);
	record->error = error;
	READ(record->gateway_family, &route->rt_gw_family);
	if (record->gateway_family == AF_INET)
		bpf_probe_read_kernel(record->gateway, 4, &route->rt_gw4);
	else if (record->gateway_family == AF_INET6)
		bpf_probe_read_kernel(record->gateway, 16, &route->rt_gw6);
}

inline_always int leave_call(u8 kind, s32 result, const struct rtable *route)
{
	struct cpu_state *cpu = this_cpu();
	struct record *record;
	struct call call;
	u64 refdst = 0;

	if (!cpu || !the_filter() || !pop_call(cpu, kind, &call) || !call.wanted)
		return 0;
	record = begin_call(cpu, &call, KIND_RESULT);
	if (!record)
		return 0;
	record->error = result;
	record->outcome = result < 0 || (kind == CALL_INPUT && result) ? OUTCOME_FAILED : OUTCOME_PASSED;
	if (kind == CALL_INPUT && !result) {
		READ(refdst, &((struct sk_buff *)call.token)->_skb_refdst);
		route = (const struct rtable *)dst_of(refdst);
	}
	if (route)
		store_route(cpu, record, route);
	send(record);
	return 0;
}

RETURN(ip_route_input_noref)
{
	return leave_call(CALL_INPUT, (s32)RESULT(ctx, 5), 0);
}

RETURN(ip_route_output_key_hash_rcu)
{
	u64 route = RESULT(ctx, 4);

	if (route >= ERROR_POINTER)
		return leave_call(CALL_OUTPUT, (s32)route, 0);
	return leave_call(CALL_OUTPUT, 0, (const struct rtable *)route);
}

RETURN(fib_validate_source)
{
	return leave_call(CALL_CHECK, (s32)RESULT(ctx, 8), 0);
}

#if FUNCTIONS == FUNCTIONS_FENTRY
int kretprobe_fib_validate_source(struct pt_regs *ctx)
{
	return leave_call(CALL_CHECK, (s32)PT_REGS_RC(ctx), 0);
}
#endif
