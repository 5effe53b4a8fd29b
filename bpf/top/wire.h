/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What crosses between the counters of `fibtrace top` and Python, in the same subset of C as bpf/wire.h. The
 * maps hold a counter for each way in which a decision was seen to go; Python makes rules and routes of it.
 */
#ifndef FIBTRACE_TOP_WIRE_H
#define FIBTRACE_TOP_WIRE_H

/*
 * One way that a decision went. Two that differ in what a rule or a route may depend on are two. The maps know it by a
 * number mixed of all its bytes, because a short key is found faster.
 */
struct walk_key {
	__u64 nexthop; /* address of the nexthop (IPv6: the route) that the walk ended in, 0 when it ended in none */
	__u64 device;   /* without a nexthop, and always of IPv6: address of what names the namespace */
	__u64 prefix;   /* IPv6: the prefixes of the route that the walk ended in, mixed into a number */
	__u64 sequence; /* of the lookups before the last: their tables and results, mixed into a number */
	__u64 site;     /* where the kernel was called from: with the shape of the flow key, one caller */
	__u32 epoch;    /* number of the settings by which it was counted */
	__u32 table;    /* table that was searched last */
	__s32 error;    /* what the last lookup returned: 0 or -errno */
	__u32 iif;      /* flow key: input interface */
	__u32 oif;      /* flow key: output interface */
	__u32 mark;     /* flow key: firewall mark, the bits that rules look at */
	__u32 source_class; /* interval of the source address between those that rules tell apart */
	__u32 target_class; /* interval of the destination address between those that routes or rules tell apart */
	__u32 uid_class;   /* interval of the user id between those that rules tell apart */
	__u16 sport_class; /* the same of the source port */
	__u16 dport_class; /* the same of the destination port */
	__u16 sport_bits;  /* bits of the source port that rules look at */
	__u16 dport_bits;  /* bits of the destination port that rules look at */
	__u16 lookups;     /* how many tables were searched */
	__u8 proto;        /* flow key: IP protocol */
	__u8 tos;          /* flow key: TOS byte, the bits that rules or routes look at */
	__u8 scope;        /* flow key: scope */
	__u8 flags;        /* flow key: FLOWI_FLAG_* */
	__u8 shape;        /* flow key: which of its other members are not zero */
	__u8 family;       /* AF_INET or AF_INET6 */
	__u8 reserved[4];  /* zero */
};

struct walk_count {
	__u64 hits;    /* decisions that went this way, on one CPU */
	__u64 last_ns; /* when the last of them did, CLOCK_MONOTONIC */
};

/* One decision of those that a key stands for: what there is to say of it beyond the key. Follows it in `infos`. */
struct walk_info {
	__u8 saddr[16];      /* source address; IPv4 in the first four bytes */
	__u8 daddr[16];      /* destination address */
	__u8 gateway[16];    /* gateway of the nexthop, zero when on link */
	__u32 netns;         /* inode of the network namespace, 0 when unknown */
	__u32 ifindex;       /* device of the nexthop */
	__u32 uid;           /* flow key: user id */
	__u32 mark;          /* flow key: firewall mark */
	__u32 pid;           /* process id of the current task */
	__u32 owner_table;   /* table that the route lives in, 0 when unknown */
	__u32 priority;      /* metric of the route */
	__u32 nexthop_id;    /* id of the nexthop object, 0 when none */
	__s32 stack;         /* id in the stack map of the caller, negative when none */
	__u16 sport;         /* flow key: source port */
	__u16 dport;         /* flow key: destination port */
	__u8 family;         /* AF_INET or AF_INET6 */
	__u8 tos;            /* flow key: TOS byte */
	__u8 context_kind;   /* enum context_kind */
	__u8 route_type;     /* RTN_* of the route */
	__u8 route_scope;    /* scope of the route */
	__u8 route_protocol; /* RTPROT_* of the route */
	__u8 gateway_family; /* AF_INET, AF_INET6, or 0: the destination is on link */
	__u8 hints;          /* enum record_hint */
	__u8 prefix_length;  /* IPv6: of the route, in bits */
	__u8 source_length;  /* IPv6: of the route's source prefix, in bits */
	__u8 reserved[6];    /* zero */
	__u32 tables[24];    /* the tables that were searched, in their order, as far as there is room */
	__s32 errors[24];    /* what each of these lookups returned */
};

/* A decision of which only the next lookup tells whether it has ended; the start of each element of `slots`. */
struct walk_pending {
	__u64 since_ns; /* when its last lookup was made, 0 when there is no such decision */
	__u64 name;     /* its number in the maps */
};

struct drop_key {
	__u64 location; /* code address that freed the packet */
	__u32 reason;   /* SKB_DROP_REASON_*, 0 where the kernel gives none */
	__u32 netns;    /* inode of the network namespace, 0 when unknown */
	__u32 ifindex;  /* device that the packet was on */
	__u32 family;   /* AF_INET or AF_INET6 */
};

/* Written twice, in turns: `active` says which is in use. */
struct top_settings {
	__u64 may_suppress[4]; /* tables whose hits a rule may throw away, a bit for each of 256 hashes */
	__u64 may_end[4];      /* tables after whose miss a walk may end */
	__u8 saddr[16];        /* filter: source prefix */
	__u8 smask[16];        /* its mask */
	__u8 daddr[16];        /* filter: destination prefix */
	__u8 dmask[16];        /* its mask */
	__u8 haddr[16];        /* filter: prefix of either end */
	__u8 hmask[16];        /* its mask */
	__u32 active;          /* filter: enum filter_term, or-ed */
	__u32 wanted_mark;     /* filter: firewall mark */
	__u32 wanted_mask;     /* filter: bits of it that count */
	__u32 wanted_uid;      /* filter: user id */
	__u32 epoch;           /* number of these settings, from 1; nothing is counted before */
	__u32 mark_bits;       /* bits of the mark that rules look at */
	__u32 half;            /* which half of `edges` goes with them */
	__u32 sources;         /* how many edges of source addresses there are */
	__u32 uids;            /* of user ids */
	__u32 sports;          /* of source ports */
	__u32 dports;          /* of destination ports */
	__u32 sources6;        /* of IPv6 source addresses */
	__u32 targets6;        /* of IPv6 destination addresses */
	__u32 wanted_family;   /* filter: AF_INET or AF_INET6 */
	__u16 sport_bits;      /* bits of the source port that rules look at */
	__u16 dport_bits;      /* bits of the destination port that rules look at */
	__u8 tos_bits;         /* bits of the TOS byte that rules or routes look at */
	__u8 reserved[3];      /* zero */
};

/*
 * Where the parts of each half of the map `edges` begin. An edge is where an interval begins; they are in order and in
 * host order.
 */
enum edge_part {
	EDGE_TARGETS = 0,      /* destination addresses, 65536 at most */
	EDGE_FIRST = 65536,    /* for the upper half of an address: how many of these lie below it */
	EDGE_SOURCES = 131080, /* source addresses, 4096 at most */
	EDGE_UIDS = 135176,    /* user ids, 256 at most, as the rest */
	EDGE_SPORTS = 135432,  /* source ports */
	EDGE_DPORTS = 135688,  /* destination ports */
	EDGE_END = 135944,     /* the size of a half */
};

/* An edge of IPv6 addresses, in host order. */
struct edge6 {
	__u64 high; /* its first 64 bits */
	__u64 low;  /* the rest */
};

/* The same for each half of the map `edges6`: of IPv6 only rules tell addresses apart, a route is read from its tracepoint. */
enum edge6_part {
	EDGE6_SOURCES = 0,    /* source addresses, 4096 at most */
	EDGE6_TARGETS = 4096, /* destination addresses, as many */
	EDGE6_END = 8192,     /* the size of a half */
};

#endif
