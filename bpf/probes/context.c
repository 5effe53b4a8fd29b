/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which context a record comes from: a softirq interrupts tasks, and its current task means nothing. */

TRACEPOINT(softirq_entry)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu) {
		cpu->softirq = 1 + (u32)ctx->args[0];
		cpu->runs += 1;
		cpu->wanted = 0;
		cpu->receiving = 0;
		cpu->net = 0;
	}
	return 0;
}

TRACEPOINT(softirq_exit)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu)
		cpu->softirq = 0;
	return 0;
}
