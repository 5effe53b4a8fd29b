/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which call of a routing function a lookup is made in. Each context (a task, or the softirq of a CPU) has a stack of
 * the calls it is in; a lookup belongs to the innermost one that it fits. Nothing is believed by depth alone: probes
 * are missed (a softirq that interrupts a probe), so every entry carries what it was called with, and what does not fit
 * is left to the collector's inference.
 */
#ifndef FIBTRACE_CALLS_H
#define FIBTRACE_CALLS_H

/*
 * The same body for fentry/fexit and kprobe/kretprobe. Arguments count from 1; of a return only the result is known
 * (kretprobe has no more), `arguments` tells fexit where it is.
 */
#define KPROBE_ENTRY(name) int kprobe_##name(struct pt_regs *ctx)
#define KPROBE_ARGUMENT(ctx, number) PT_REGS_PARM##number(ctx)
#if FUNCTIONS == FUNCTIONS_FENTRY
#define ENTRY(name) int FENTRY_NAME(name)(unsigned long long *ctx)
#define RETURN(name) int FEXIT_NAME(name)(unsigned long long *ctx)
#define ARGUMENT(ctx, number) ((ctx)[(number)-1])
#define RESULT(ctx, arguments) ((ctx)[arguments])
#else
#define ENTRY(name) KPROBE_ENTRY(name)
#define RETURN(name) int kretprobe_##name(struct pt_regs *ctx)
#define ARGUMENT(ctx, number) KPROBE_ARGUMENT(ctx, number)
#define RESULT(ctx, arguments) PT_REGS_RC(ctx)
#endif

#define CALLS_DEEP 8 /* a power of two; input, its check, an ICMP error's output are three */

struct call {
	u64 number; /* CPU and count: unique in a run, so that what is left over from a lost return is known as old */
	u64 token; /* address of the flow key (output) or of the sk_buff (input, check) */
	u32 saddr; /* the lookup's source, folded (input) */
	u32 daddr; /* the lookup's destination, folded: of a check the packet's source */
	u32 netns;
	u32 ifindex;
	u8 kind;   /* enum call_kind */
	u8 wanted; /* a lookup of it passed the filter */
	u8 pad[6];
};

struct calls {
	u32 depth;
	u32 pad;
	u64 searched; /* flow key of the search that runs, and where its result is going to be */
	u64 result;
	u64 rule_flow; /* flow key of the rule that is being asked, and in which call */
	u64 rule_number;
	u32 rule;
	u32 rule_table;
	struct call stack[CALLS_DEEP];
};

enum call_count {
	COUNT_NO_RETURN, /* calls whose return was not seen */
	COUNT_NO_ENTRY,  /* returns whose entry was not seen */
	COUNT_TOO_DEEP,  /* calls that found the stack full */
	COUNT_END,
};

BPF_TABLE("lru_hash", u64, struct calls, contexts, 8192);
BPF_ARRAY(no_calls, struct calls, 1);
BPF_PERCPU_ARRAY(call_counts, u64, COUNT_END);

inline_always void count_call(int which)
{
	u64 *count = call_counts.lookup(&which);

	if (count)
		*count += 1;
}

inline_always u64 context_of(const struct cpu_state *cpu)
{
	return cpu->softirq ? CONTEXT_SOFTIRQ_BIT | bpf_get_smp_processor_id() : bpf_get_current_task();
}

inline_always struct calls *calls_here(const struct cpu_state *cpu)
{
	u64 context = context_of(cpu);

	return contexts.lookup(&context);
}

inline_always struct calls *calls_or_new(const struct cpu_state *cpu)
{
	u64 context = context_of(cpu);
	struct calls *calls = contexts.lookup(&context), *none;
	int zero = 0;

	if (calls)
		return calls;
	none = no_calls.lookup(&zero);
	if (none)
		contexts.update(&context, none);
	return contexts.lookup(&context);
}

/* skb->_skb_refdst: the lowest bit says that no reference is held. */
inline_always const struct dst_entry *dst_of(u64 refdst)
{
	return (const struct dst_entry *)(refdst & ~1ULL);
}

inline_always struct net_device *dst_device(u64 refdst)
{
	struct net_device *device = 0;

	if (refdst)
		READ(device, &dst_of(refdst)->dev);
	return device;
}

/* The compiler must not reason about the index: it then leaves out the mask, without which the verifier refuses. */
inline_always struct call *call_at(struct calls *calls, u32 index)
{
	asm volatile("" : "+r"(index));
	return &calls->stack[index & (CALLS_DEEP - 1)];
}

/* The innermost call, NULL when there is none. */
inline_always struct call *innermost(struct calls *calls)
{
	return calls->depth ? call_at(calls, calls->depth - 1) : 0;
}

/* The sk_buff that a call is for, 0 when it is for none. */
inline_always u64 routed_by(const struct call *call)
{
	return call->kind == CALL_INPUT || call->kind == CALL_CHECK ? call->token : 0;
}

inline_always u64 innermost_number(struct calls *calls)
{
	struct call *call = innermost(calls);

	return call ? call->number : 0;
}

/* Enter a call; what it was called with is filled in by the caller. NULL when there is no room. */
inline_always struct call *push_call(struct cpu_state *cpu, u8 kind)
{
	struct calls *calls = calls_or_new(cpu);
	struct call *call;
	u32 depth;

	if (!calls)
		return 0;
	depth = calls->depth;
	/* Output calls do not nest: what is left over is one whose return was missed, or is not probed. */
	if (kind == CALL_OUTPUT && depth && call_at(calls, depth - 1)->kind == CALL_OUTPUT)
		depth -= 1;
	if (depth >= CALLS_DEEP) { /* all of them are left over: nothing nests so deep */
		count_call(COUNT_TOO_DEEP);
		depth = 0;
	}
	call = call_at(calls, depth);
	__builtin_memset(call, 0, sizeof(*call));
	calls->depth = depth + 1;
	cpu->calls += 1;
	call->number = (u64)bpf_get_smp_processor_id() << 48 | cpu->calls;
	call->kind = kind;
	return call;
}

/* Leave the innermost call of this kind, and what was left over above it; copies it out. False when none is there. */
inline_always bool pop_call(struct cpu_state *cpu, u8 kind, struct call *out)
{
	struct calls *calls = calls_here(cpu);
	u32 depth = calls ? calls->depth : 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < CALLS_DEEP; i++) {
		struct call *call;

		if (!calls || depth == 0 || depth > CALLS_DEEP)
			break;
		depth -= 1;
		call = call_at(calls, depth);
		if (call->kind == kind || (kind != CALL_OUTPUT && call->kind == CALL_OTHER)) {
			__builtin_memcpy(out, call, sizeof(*out));
			calls->depth = depth;
			return true;
		}
		if (call->kind != CALL_OUTPUT)
			count_call(COUNT_NO_RETURN);
	}
	count_call(COUNT_NO_ENTRY);
	return false;
}

/* An address as one number: an IPv4 address is itself, as the rest is zero. */
inline_always u32 folded(const void *address)
{
	const u32 *words = address;

	return words[0] ^ words[1] ^ words[2] ^ words[3];
}

inline_always bool call_fits(const struct call *call, u64 flow, const struct tuple *key)
{
	u32 daddr = folded(key->daddr);

	if (call->kind == CALL_OUTPUT)
		return call->token == flow && call->daddr == daddr;
	return call->daddr == daddr && (call->kind == CALL_CHECK || call->saddr == folded(key->saddr));
}

/* The innermost call that a lookup with this flow key fits, NULL when there is none. */
inline_always struct call *call_of_lookup(struct calls *calls, u64 flow, const struct tuple *key)
{
	u32 depth = calls->depth;

#pragma clang loop unroll(disable)
	for (int i = 0; i < CALLS_DEEP; i++) {
		struct call *call;

		if (depth == 0 || depth > CALLS_DEEP)
			break;
		depth -= 1;
		call = call_at(calls, depth);
		if (call_fits(call, flow, key))
			return call;
	}
	return 0;
}

#endif
