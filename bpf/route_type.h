/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the type of a route makes of a lookup that ends in it. */
#ifndef FIBTRACE_ROUTE_TYPE_H
#define FIBTRACE_ROUTE_TYPE_H

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

#endif
