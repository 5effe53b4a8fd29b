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
	READ(call->daddr, &((struct flowi4 *)flow)->daddr);
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

/*
 * Which rule is asked. One that ends the walk by itself is told as a lookup of no table: then `lookup` has its error, and
 * true is returned.
 */
inline_always bool asked(struct cpu_state *cpu, const struct fib_rule *rule, struct lookup *lookup)
{
	struct calls *calls;
	u8 action = 0;

	if (!cpu || !the_filter())
		return false;
	calls = calls_or_new(cpu);
	if (!calls)
		return false;
	READ(action, &rule->action);
	READ(calls->rule, &rule->pref);
	READ(calls->rule_table, &rule->table);
	calls->rule_flow = lookup->flow;
	calls->rule_number = innermost_number(calls);
	if (action == FR_ACT_TO_TBL)
		return false;
	calls->rule_table = 0;
	lookup->error = -EINVAL;
	if (action == FR_ACT_UNREACHABLE)
		lookup->error = -ENETUNREACH;
	else if (action == FR_ACT_PROHIBIT)
		lookup->error = -EACCES;
	return true;
}

ENTRY(fib4_rule_action)
{
	const struct fib_rule *rule = (void *)ARGUMENT(ctx, 1);
	struct lookup lookup = {.flow = ARGUMENT(ctx, 2)};
	struct cpu_state *cpu = this_cpu();

	return asked(cpu, rule, &lookup) ? emit_lookup(ctx, cpu, &lookup) : 0;
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

inline_always int was_suppressed(bool suppressed)
{
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

RETURN(fib4_rule_suppress)
{
	return was_suppressed((u8)RESULT(ctx, 3));
}

inline_always void store_rtable(struct record *record, const struct rtable *route)
{
	u16 type = 0;

	READ(type, &route->rt_type);
	record->route_type = type;
	READ(record->gateway_family, &route->rt_gw_family);
	if (record->gateway_family == AF_INET)
		bpf_probe_read_kernel(record->gateway, 4, &route->rt_gw4);
	else if (record->gateway_family == AF_INET6)
		bpf_probe_read_kernel(record->gateway, 16, &route->rt_gw6);
}

/*
 * End a call, with the route that was made of the decision: its nexthop is chosen after the lookup (fib_select_path(),
 * fib6_select_path()). `route` is that of an output call; an input call leaves its route with the packet. NULL when nobody
 * wants to know.
 */
inline_always struct record *end_call(struct cpu_state *cpu, u8 kind, s32 result,
				      const struct dst_entry **route)
{
	struct net_device *device = 0;
	struct record *record;
	struct call call;
	u64 refdst = 0;
	u32 netns = 0;
	s16 error = 0;

	if (!cpu || !the_filter() || !pop_call(cpu, kind, &call) || !call.wanted)
		return 0;
	record = begin_call(cpu, &call, KIND_RESULT);
	if (!record)
		return 0;
	record->error = result;
	record->outcome = result < 0 || (kind == CALL_INPUT && result) ? OUTCOME_FAILED : OUTCOME_PASSED;
	if (kind == CALL_INPUT && !result) {
		READ(refdst, &((struct sk_buff *)call.token)->_skb_refdst);
		*route = dst_of(refdst);
	}
	if (!*route)
		return record;
	READ(device, &(*route)->dev);
	read_device(cpu, device, &record->ifindex, &netns);
	READ(error, &(*route)->error);
	record->error = error;
	return record;
}

inline_always int leave_call(u8 kind, s32 result, const struct dst_entry *route)
{
	struct record *record = end_call(this_cpu(), kind, result, &route);

	if (!record)
		return 0;
	if (route)
		store_rtable(record, (const struct rtable *)route);
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
	return leave_call(CALL_OUTPUT, 0, (const struct dst_entry *)route);
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
