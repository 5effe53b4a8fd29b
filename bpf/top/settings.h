/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The settings in use, the filter in them, and the class of an address or port: which interval it lies in. */
#ifndef FIBTRACE_TOP_SETTINGS_H
#define FIBTRACE_TOP_SETTINGS_H

BPF_ARRAY(active, u32, 1);
BPF_ARRAY(settings, struct top_settings, 2);
BPF_ARRAY(edges, u32, 2 * EDGE_END);
BPF_ARRAY(edges6, struct edge6, 2 * EDGE6_END);

#define HALVINGS 17 /* that find one of 65536 edges */

inline_always bool same_prefix(const u8 *address, const u8 *prefix, const u8 *mask)
{
	const u64 *a = (const u64 *)address, *p = (const u64 *)prefix, *m = (const u64 *)mask;

	return !((a[0] ^ p[0]) & m[0]) && !((a[1] ^ p[1]) & m[1]);
}

/* Whether a lookup is counted: by what its flow key shows, which has addresses and mark, but no ports on input. */
inline_always bool wanted(const struct top_settings *now, const u8 *saddr, const u8 *daddr, u32 mark, u32 uid,
			  u8 family)
{
	u32 terms = now->active;

	if (!terms)
		return true;
	if ((terms & TERM_FAMILY) && family != now->wanted_family)
		return false;
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

inline_always u32 edge(const struct top_settings *now, u32 at)
{
	u32 index = (now->half ? EDGE_END : 0) + at, *found = edges.lookup(&index);

	return found ? *found : 0;
}

/* How many edges of a part, from `low` up to before `high`, are not above the value. */
inline_always u32 count_below(const struct top_settings *now, u32 part, u32 low, u32 high, u32 value)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < HALVINGS; i++) {
		u32 middle = (low + high) / 2;

		if (low >= high)
			break;
		if (edge(now, part + middle) <= value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The same of the edges of IPv6 addresses. */
inline_always u32 count_below6(const struct top_settings *now, u32 part, u32 high, const u64 *address)
{
	u64 upper = __builtin_bswap64(address[0]), rest = __builtin_bswap64(address[1]);
	u32 low = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < HALVINGS; i++) {
		u32 middle = (low + high) / 2, index = (now->half ? EDGE6_END : 0) + part + middle;
		const struct edge6 *found;

		if (low >= high)
			break;
		found = edges6.lookup(&index);
		if (!found)
			break;
		if (found->high < upper || (found->high == upper && found->low <= rest))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The bit of a table in may_suppress and may_end. Two tables may share one: then more is kept than needed. */
inline_always bool has_table(const u64 *bits, u32 table)
{
	u32 bit = (table * 2654435761U) >> 24;

	return bits[bit >> 6] >> (bit & 63) & 1;
}

#endif
