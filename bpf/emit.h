/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The ring, the state of each CPU, and how a record is begun and sent. */
#ifndef FIBTRACE_EMIT_H
#define FIBTRACE_EMIT_H

#define CONTEXT_SOFTIRQ_BIT (1ULL << 63)

/* A probe on a raw tracepoint; which are loaded and attached is decided by the table in tracer/kernel/probes.py. */
#define TRACEPOINT(name) int tracepoint_##name(struct bpf_raw_tracepoint_args *ctx)

struct cpu_state {
	u64 seq;       /* records of this CPU so far, refused ones included */
	u32 softirq;   /* 1 + vector while a softirq runs on this CPU */
	u32 receiving; /* the last record was a receive: the next one may be of the same list */
	u32 wanted;    /* the packet being received passed the filter */
	u32 netns;     /* inode of `net` */
	u32 arp;       /* the packet received last was no IP packet but ARP */
	u32 pad;
	u64 net;   /* network namespace met last in this softirq: what follows is mostly of the same */
	u64 runs;  /* softirqs begun on this CPU so far */
	u64 calls; /* calls of probed functions entered on this CPU so far */
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_PERCPU_ARRAY(cpu_states, struct cpu_state, 1);
BPF_PERCPU_ARRAY(refused, u64, KIND_COUNT);

inline_always struct cpu_state *this_cpu(void)
{
	int zero = 0;

	return cpu_states.lookup(&zero);
}

inline_always void refuse(int kind)
{
	u64 *count = refused.lookup(&kind);

	if (count)
		*count += 1;
}

/* Reserve a record and fill what every record has. NULL when the ring is full: counted as refused. */
inline_always struct record *begin(struct cpu_state *cpu, int kind)
{
	struct record *record;
	u64 seq = ++cpu->seq;

	record = events.ringbuf_reserve(sizeof(struct record));
	if (!record) {
		refuse(kind);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->ts_ns = bpf_ktime_get_ns();
	record->seq = seq;
	record->kind = kind;
	record->stack = -1;
	record->cpu = bpf_get_smp_processor_id();
	record->pid = bpf_get_current_pid_tgid() >> 32;
	if (cpu->softirq) {
		record->context_kind = CONTEXT_SOFTIRQ;
		record->context = CONTEXT_SOFTIRQ_BIT | (cpu->runs << 17 >> 1) | record->cpu;
	} else {
		record->context = bpf_get_current_task();
		bpf_get_current_comm(record->comm, sizeof(record->comm));
	}
	return record;
}

/*
 * The reader drains on a timer; it is woken only once per WAKE_EVERY records of a CPU (a small part of the ring),
 * since a wake-up per record doubles what a packet costs.
 */
inline_always void send(struct record *record)
{
	u64 flags = record->seq % WAKE_EVERY ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP;

	events.ringbuf_submit(record, flags);
}

#endif
