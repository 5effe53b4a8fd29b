/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The walk through the tables of IPv6: fib6_table_lookup fires once per search, and names the route that it ended in. */

#include "route_type.h"

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
