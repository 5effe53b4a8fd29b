/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every byte that crosses between the kernel and Python, declared once: C includes this file and
 * tracer/wire/layout.py reads it. Hence the small subset: fixed-width types, one-dimensional arrays,
 * one comment on every field, explicit padding; no bitfields, unions or pointers. Numbers are in host
 * order, addresses in network order.
 */
#ifndef FIBTRACE_WIRE_H
#define FIBTRACE_WIRE_H

enum record_kind {
	KIND_LOOKUP = 1,      /* one table was searched: fib_table_lookup(), fib6_table_lookup() */
	KIND_RECEIVE = 2,     /* a device handed a packet to the stack: netif_receive_skb */
	KIND_QUEUE = 3,       /* a packet entered a queueing discipline: net_dev_queue */
	KIND_XMIT = 4,        /* a packet was handed to a device: net_dev_start_xmit */
	KIND_DROP = 5,        /* a packet was freed as dropped: kfree_skb */
	KIND_CONSUME = 6,     /* a packet was freed as used: consume_skb */
	KIND_COPY = 7,        /* a process read a datagram: skb_copy_datagram_iovec */
	KIND_STATE = 8,       /* a TCP socket changed state: inet_sock_set_state */
	KIND_READY = 9,       /* a socket was told that data is there: sk_data_ready */
	KIND_OWNER = 10,      /* a process was seen using a socket: sock_send_length, sock_recv_length */
	KIND_NEIGHBOUR = 11,  /* a neighbour entry was created or changed: neigh_create, neigh_update */
	KIND_RESULT = 12,     /* a call of a routing function ended: ip_route_input_noref(), ... */
	KIND_SUPPRESSED = 13, /* a rule threw the last hit away: fib4_rule_suppress(), fib6_rule_suppress() */
	KIND_STAGE = 14,      /* a packet passed a function of the IP layer: ip_forward(), ... */
	KIND_READ = 15,       /* a process read from a UDP socket: sock_recv_length */
	KIND_COUNT = 16,      /* one more than the last kind */
};

enum record_hint {
	HINT_TASK_NETNS = 1,     /* netns is that of the current task, for want of a device */
	HINT_STACK_SHARED = 2,   /* stack was taken at an earlier call from the same site */
	HINT_NEXTHOP_OBJECT = 4, /* the route uses a nexthop object: owner, type, protocol unknown */
	HINT_TRACKED = 8,        /* passed the filter because this packet passed before */
	HINT_RULE = 16,          /* rule and rule_table were read from the rule itself */
	HINT_PREFIX = 32,     /* prefix_length was read from the result of the search (of IPv6: the route) */
	HINT_SUPPRESSED = 64, /* a rule was seen to throw this hit away */
	HINT_CHOSEN = 128,    /* nexthop and gateway are those of the route that was made of the decision */
};

/* Whose call a lookup was seen in, where functions are probed. */
enum call_kind {
	CALL_NONE = 0,   /* not known */
	CALL_INPUT = 1,  /* ip_route_input_noref(), ip6_route_input(), for the packet `routed` */
	CALL_OUTPUT = 2, /* ip_route_output_key_hash_rcu(), ip6_route_output_flags() */
	CALL_CHECK = 3,  /* fib_validate_source(), for the packet `routed` */
	CALL_OTHER = 4,  /* ip_route_input_noref() for something that is not the packet it was given */
};

enum outcome {
	OUTCOME_UNKNOWN = 0, /* not seen */
	OUTCOME_PASSED = 1,  /* the call succeeded */
	OUTCOME_FAILED = 2,  /* the call failed */
};

/* Functions of the IP layer that a packet was seen in, or-ed. */
enum stage {
	STAGE_FORWARD = 1,  /* ip_forward(), ip6_forward() */
	STAGE_DELIVER = 2,  /* ip_local_deliver(), ip6_input() */
	STAGE_OUTPUT = 4,   /* ip_output(), ip6_output() */
	STAGE_ENCRYPT = 8,  /* xfrm_output() */
	STAGE_DECRYPT = 16, /* xfrm_input() */
};

enum context_kind {
	CONTEXT_TASK = 0,    /* a system call or kernel thread */
	CONTEXT_SOFTIRQ = 1, /* a softirq: the current task is only what it interrupted */
	CONTEXT_HARDIRQ = 2, /* a hardware interrupt */
};

struct record {
	__u64 ts_ns;   /* CLOCK_MONOTONIC, nanoseconds */
	__u64 seq;     /* number of this record on its CPU, from 1; a gap is a loss */
	__u64 context; /* address of the task_struct; in softirq bit 63, the number of its run, and the CPU */
	__u64 skb;     /* address of the sk_buff, 0 when there is none */
	__u64 head;    /* skb->head: clones of one packet share it */
	__u64 sock;    /* address of the socket, 0 when none */
	__u64 flow;    /* address of the flow key of a lookup: equal within one decision */
	__u64 location;   /* code address that freed the packet (drop, consume) */
	__u64 call;       /* number of the call that a lookup was made in, unique in a run; 0 when unknown */
	__u64 routed;     /* address of the sk_buff that the call is for, 0 when none */
	__u8 saddr[16];   /* source address; IPv4 in the first four bytes */
	__u8 daddr[16];   /* destination address */
	__u8 gateway[16]; /* gateway of the nexthop, zero when on link */
	__u32 netns;      /* inode of the network namespace, 0 when unknown */
	__u32 ifindex;    /* device the packet is on; of a lookup: the nexthop's device */
	__u32 iif;        /* flow key: input interface (1 for output lookups) */
	__u32 oif;        /* flow key: output interface a socket is bound to */
	__u32 mark;       /* firewall mark of the flow key or packet */
	__u32 uid;        /* user id in the flow key */
	__u32 pid;        /* process id (thread group) of the current task */
	__u32 walked_table; /* id of the table object that was searched */
	__u32 owner_table;  /* id of the table that the route lives in, 0 when unknown */
	__s32 error;        /* lookup: 0 or -errno; drop: the reason; state: the new state */
	__u32 priority;     /* metric of the route */
	__u32 nexthop_id;   /* id of the nexthop object, 0 when none */
	__s32 stack;        /* id in the stack map of the caller, negative when none */
	__u32 length; /* of the packet or of what was read, in bytes; IPv6 lookup: the route's source prefix in bits */
	__u32 rule;          /* preference of the rule that asked for the lookup */
	__u32 rule_table;    /* table that the rule names, 0 when its action is another (l3mdev, prohibit) */
	__u16 sport;         /* source port, host order, 0 when none */
	__u16 dport;         /* destination port, host order, 0 when none */
	__u16 ip_id;         /* IPv4 identification field, low half of the IPv6 flow label; host order */
	__u16 cpu;           /* CPU the probe ran on */
	__u16 ethertype;     /* skb->protocol, host order */
	__u16 detail;        /* TCP flags, or ICMP type << 8 | code; state: the old state */
	__u8 kind;           /* enum record_kind */
	__u8 family;         /* AF_INET or AF_INET6 */
	__u8 proto;          /* IP protocol number */
	__u8 tos;            /* TOS byte of the flow key or packet */
	__u8 ttl;            /* time to live of the packet */
	__u8 flow_scope;     /* flow key: scope */
	__u8 flow_flags;     /* flow key: FLOWI_FLAG_* */
	__u8 context_kind;   /* enum context_kind */
	__u8 route_scope;    /* scope of the route */
	__u8 route_type;     /* RTN_*: unicast, local, broadcast; 0 when unknown */
	__u8 route_protocol; /* RTPROT_*: who installed the route */
	__u8 gateway_family; /* AF_INET, AF_INET6, or 0: the destination is on link */
	__u8 nexthop_flags;  /* RTNH_F_* of the nexthop */
	__u8 hints;          /* enum record_hint */
	__u8 packet_type;    /* PACKET_HOST, PACKET_BROADCAST, ... of the packet */
	__u8 socket_state;   /* TCP state of the socket */
	__u8 comm[16];       /* name of the current task, zero in softirq */
	__u8 call_kind;      /* enum call_kind */
	__u8 outcome;        /* enum outcome, of the call */
	__u8 stage;          /* enum stage, or-ed */
	__u8 prefix_length;  /* of the route that was found, in bits */
};

struct filter {
	__u8 saddr[16];      /* source prefix */
	__u8 smask[16];      /* its mask */
	__u8 daddr[16];      /* destination prefix */
	__u8 dmask[16];      /* its mask */
	__u8 haddr[16];      /* prefix of either end */
	__u8 hmask[16];      /* its mask */
	__u8 comm[16];       /* name of the process */
	__u32 active;        /* enum filter_term, or-ed: the terms to test */
	__u32 netns;         /* inode of the network namespace */
	__u32 pid;           /* process id */
	__u32 uid;           /* user id */
	__u32 mark;          /* firewall mark */
	__u32 mark_mask;     /* bits of it that count */
	__u32 own_pid;       /* the collector, never traced */
	__u16 port;          /* port of either end */
	__u16 sport;         /* source port */
	__u16 dport;         /* destination port */
	__u8 proto;          /* IP protocol number */
	__u8 family;         /* AF_INET or AF_INET6 */
	__u8 stacks;         /* 0 none, 1 first of each call site, 2 all */
	__u8 in_devices;     /* how many entries in_device has */
	__u8 enabled;        /* nothing is recorded before this is 1 */
	__u8 reserved;       /* zero */
	__u32 in_device[16]; /* ifindexes a packet may come in by */
	__u32 in_netns[16];  /* the namespace of each */
};

enum filter_term {
	TERM_SRC = 1,          /* source prefix */
	TERM_DST = 2,          /* destination prefix */
	TERM_HOST = 4,         /* prefix of either end */
	TERM_PROTO = 8,        /* IP protocol */
	TERM_PORT = 16,        /* port of either end */
	TERM_SPORT = 32,       /* source port */
	TERM_DPORT = 64,       /* destination port */
	TERM_FAMILY = 128,     /* address family */
	TERM_MARK = 256,       /* firewall mark */
	TERM_NETNS = 512,      /* network namespace */
	TERM_PID = 1024,       /* process id */
	TERM_COMM = 2048,      /* process name */
	TERM_UID = 4096,       /* user id */
	TERM_IN_DEVICE = 8192, /* input device */
};

#endif
