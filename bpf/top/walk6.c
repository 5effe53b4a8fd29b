/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk through the tables of IPv6: fib6_table_lookup fires once per search, and names the route that it ended in. */

#define EHOSTUNREACH 113
#define RTN_UNREACHABLE 7
#define RTN_PROHIBIT 8
#define RTN_THROW 9
#define RTN_LAST_USABLE 5

/* What a route of this type makes of a lookup: fib6_prop[], net/ipv6/route.c. */
inline_always s32 error_of(u8 type)
{
	if (type <= RTN_LAST_USABLE)
		return 0;
	if (type == RTN_UNREACHABLE)
		return -EHOSTUNREACH;
	if (type == RTN_PROHIBIT)
		return -EACCES;
	return type == RTN_THROW ? -EAGAIN : -EINVAL;
}

TRACEPOINT(fib6_table_lookup)
{
	const struct net *net = (void *)ctx->args[0];
	const struct fib6_table *table = (void *)ctx->args[2];
	struct lookup lookup = {.flow = ctx->args[3], .net = net, .error = -EAGAIN};
	const struct top_settings *now = settings_in_use();
	const struct fib6_info *none = 0;
	struct fib6_result found = {};
	struct asked asked = {};

	if (!now || READ(found, (void *)ctx->args[1]) || !read_flow6(&asked, lookup.flow) ||
	    !is_wanted(now, &asked))
		return 0;
	READ(none, &net->ipv6.fib6_null_entry);
	READ(lookup.table, &table->tb6_id);
	if (found.f6i != none && found.f6i) {
		lookup.route = found.f6i;
		lookup.type = found.fib6_type;
		lookup.error = error_of(found.fib6_type);
		if (found.nh)
			lookup.nhc = &found.nh->nh_common;
	}
	return count_lookup(ctx, &lookup, &asked, now);
}
