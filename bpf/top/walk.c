/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk of a decision through the tables; fib_table_lookup fires once per search, net/ipv4/fib_trie.c. */

inline_always bool goes_on(const struct slot *slot, const struct lookup *lookup, const struct asked *asked)
{
	const struct asked *before = &slot->asked;

	return slot->open && slot->flow == lookup->flow && before->family == asked->family &&
	       before->saddr[0] == asked->saddr[0] && before->saddr[1] == asked->saddr[1] &&
	       before->daddr[0] == asked->daddr[0] && before->daddr[1] == asked->daddr[1] &&
	       before->iif == asked->iif && slot->first_table != lookup->table;
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

inline_always bool is_wanted(const struct top_settings *now, const struct asked *asked)
{
	return wanted(now, (const u8 *)asked->saddr, (const u8 *)asked->daddr, asked->mark, asked->uid,
		      asked->family);
}

inline_always void add_lookup(struct slot *slot, const struct lookup *lookup, const struct asked *asked)
{
	u32 number;

	if (!goes_on(slot, lookup, asked)) {
		if (slot->since_ns)
			count_pending(slot);
		else if (slot->open && slot->lookups) {
			lose_walk(slot, LOST_ENDS);
		}
		slot->flow = lookup->flow;
		__builtin_memcpy(&slot->asked, asked, sizeof(*asked));
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

inline_always int count_lookup(void *ctx, const struct lookup *lookup, const struct asked *asked,
			       const struct top_settings *now)
{
	struct cpu_state *cpu = this_cpu();
	struct walk_count *count;
	struct slot *slot;
	bool may_go_on, may_end;

	slot = cpu ? slot_of(cpu, lookup->flow) : 0;
	if (!slot)
		return 0;
	add_lookup(slot, lookup, asked);
	may_go_on =
		lookup->error == -EAGAIN || (!lookup->error && has_table(now->may_suppress, lookup->table));
	may_end = lookup->error != -EAGAIN || has_table(now->may_end, lookup->table);
	slot->open = may_go_on;
	if (may_end) {
		count = counter_of(ctx, slot, lookup, asked, now);
		if (may_go_on && count) {
			slot->since_ns = bpf_ktime_get_ns();
		} else if (count) {
			count->hits += 1;
			count->last_ns = bpf_ktime_get_ns();
		} else {
			lose_walk(slot, LOST_DECISIONS);
			slot->open = 0;
		}
	}
	slot->sequence = (slot->sequence ^ ((u64)lookup->table << 32 | (u32)lookup->error)) * MIX;
	slot->sequence ^= slot->sequence >> 29;
	return 0;
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
	struct asked asked = {};

	if (!now || !read_flow4(&asked, lookup.flow) || !is_wanted(now, &asked))
		return 0;
	return count_lookup(ctx, &lookup, &asked, now);
}
