/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * `fibtrace top`: counters in the kernel, no stream. Every lookup is added to the walk that its decision is on; when the
 * walk ends, the counter of its way (struct walk_key) goes up by one. What the way says of rules and routes is worked
 * out in Python, once for each.
 */
#include "kernel.h"
#include "wire.h"
#include "top/wire.h"

#define TRACEPOINT(name) int tracepoint_##name(struct bpf_raw_tracepoint_args *ctx)
#define WAYS 32768
#define DROPS 4096

/* What is known of this CPU: the first three as packet.h needs them. */
struct cpu_state {
	u64 net;
	u32 netns;
	u32 softirq;  /* 1 + vector while a softirq runs */
	u64 received; /* device that handed over the last packet, in this softirq */
	u32 arp;      /* and that packet was ARP */
	u32 pad;
};

enum lost {
	LOST_DECISIONS, /* found the map full */
	LOST_LOOKUPS,   /* the lookups of these */
	LOST_DROPS,     /* dropped packets that found the map full */
	LOST_ENDS,      /* decisions whose last lookup was not known to be the last */
	LOST_END,
};

BPF_PERCPU_ARRAY(cpu_states, struct cpu_state, 1);
BPF_PERCPU_ARRAY(lost, u64, LOST_END);

inline_always struct cpu_state *this_cpu(void)
{
	int zero = 0;

	return cpu_states.lookup(&zero);
}

inline_always void lose(int what, u64 number)
{
	u64 *count = lost.lookup(&what);

	if (count)
		*count += number;
}

#include "packet.h"
#include "top/settings.h"
#include "top/context.c"
#include "top/flow.h"
#include "top/way.h"
#include "top/walk.c"
#if TRACE_IPV6
#include "top/walk6.c"
#endif
#include "top/drop.c"
