/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The settings in use, the filter in them, and the class of an address or port: which interval it lies in. */
#ifndef FIBTRACE_TOP_SETTINGS_H
#define FIBTRACE_TOP_SETTINGS_H

BPF_ARRAY(active, u32, 1);
BPF_ARRAY(settings, struct top_settings, 2);
BPF_ARRAY(classes, struct top_classes, 2);

#define TARGET_STEPS 17 /* halvings that find one of 65536 edges */
#define SOURCE_STEPS 13
#define SMALL_STEPS 9

inline_always bool same_prefix(const u8 *address, const u8 *prefix, const u8 *mask)
{
	const u64 *a = (const u64 *)address, *p = (const u64 *)prefix, *m = (const u64 *)mask;

	return !((a[0] ^ p[0]) & m[0]) && !((a[1] ^ p[1]) & m[1]);
}

/* Whether a lookup is counted: by what its flow key shows, which has addresses and mark, but no ports on input. */
inline_always bool wanted(const struct top_settings *now, const u8 *saddr, const u8 *daddr, u32 mark, u32 uid)
{
	u32 terms = now->active;

	if (!terms)
		return true;
	if ((terms & TERM_SRC) && !same_prefix(saddr, now->saddr, now->smask))
		return false;
	if ((terms & TERM_DST) && !same_prefix(daddr, now->daddr, now->dmask))
		return false;
	if ((terms & TERM_HOST) && !same_prefix(saddr, now->haddr, now->hmask) &&
	    !same_prefix(daddr, now->haddr, now->hmask))
		return false;
	if ((terms & TERM_MARK) && (mark ^ now->wanted_mark) & now->wanted_mask)
		return false;
	return !(terms & TERM_UID) || uid == now->wanted_uid;
}

/* How many edges are not above the value; `size` is a power of two, to keep the verifier sure of the index. */
#define COUNT_BELOW(edges, size, steps, from, to, value)                \
	({                                                              \
		u32 low_ = (from), high_ = (to);                        \
		_Pragma("clang loop unroll(disable)")                   \
		for (int i_ = 0; i_ < (steps); i_++) {                  \
			u32 middle_ = ((low_ + high_) / 2) & ((size)-1); \
			if (low_ >= high_)                              \
				break;                                  \
			if ((edges)[middle_] <= (value))                \
				low_ = middle_ + 1;                     \
			else                                            \
				high_ = middle_;                        \
		}                                                       \
		low_;                                                   \
	})

/* The bit of a table in may_suppress and may_end. Two tables may share one: then more is kept than needed. */
inline_always bool has_table(const u64 *bits, u32 table)
{
	u32 bit = (table * 2654435761U) >> 24;

	return bits[bit >> 6] >> (bit & 63) & 1;
}

#endif
