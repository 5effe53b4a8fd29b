/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sockets: who reads a datagram, who owns a socket, what TCP sockets become. */

struct owner {
	u32 pid;
	u32 pad;
	char comm[16];
};

BPF_TABLE("lru_hash", u64, struct owner, owners, 16384);

#if TRACE_IPV6
/* An address that an IPv6 socket has for an IPv4 one: ::ffff:a.b.c.d. */
inline_always bool is_mapped(const u8 *address)
{
	return !*(const u64 *)address && *(const u32 *)(address + 8) == 0xffff0000;
}
#endif

/* The ends of a socket. One of IPv6 may speak IPv4; then it has the addresses of that, too. */
inline_always void read_ends(struct tuple *flow, struct sock *sk)
{
#if TRACE_IPV6
	if (flow->family == AF_INET6) {
		bpf_probe_read_kernel(flow->saddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(flow->daddr, 16, &sk->__sk_common.skc_v6_daddr);
		if (!is_mapped(flow->saddr) && !is_mapped(flow->daddr))
			return;
		flow->family = AF_INET;
		__builtin_memset(flow->saddr, 0, 16);
		__builtin_memset(flow->daddr, 0, 16);
	}
#endif
	bpf_probe_read_kernel(flow->saddr, 4, &sk->__sk_common.skc_rcv_saddr);
	bpf_probe_read_kernel(flow->daddr, 4, &sk->__sk_common.skc_daddr);
}

inline_always bool is_traced(u16 family)
{
	return family == AF_INET || (TRACE_IPV6 && family == AF_INET6);
}

inline_always void read_socket(struct cpu_state *cpu, struct tuple *flow, struct sock *sk, u32 *netns)
{
	struct net *net = 0;
	u16 family = 0, proto = 0;

	READ(family, &sk->__sk_common.skc_family);
	flow->family = family;
	READ(flow->sport, &sk->__sk_common.skc_num);
	READ(flow->dport, &sk->__sk_common.skc_dport);
	flow->dport = host16(flow->dport);
	READ(proto, &sk->sk_protocol);
	flow->proto = proto;
	read_ends(flow, sk);
	READ(net, &sk->__sk_common.skc_net.net);
	*netns = netns_of(cpu, net);
}

/* With a filter by process: watch the port of each socket that such a process is seen to use. */
inline_always void remember_socket(struct cpu_state *cpu, const struct tuple *flow)
{
	struct filter *filter = the_filter();

	if (WITH_FILTER && filter && (filter->active & TERMS_OWNER) && !cpu->softirq && owner_matches(filter))
		remember_port(flow);
}

inline_always int emit_socket(struct sock *sk, int kind, s32 new_state, u16 old_state)
{
	struct cpu_state *cpu = this_cpu();
	struct tuple flow = {};
	struct record *record;
	u32 netns = 0;

	if (!cpu)
		return 0;
	read_socket(cpu, &flow, sk, &netns);
	remember_socket(cpu, &flow);
	if (!is_traced(flow.family) || !want_flow(cpu, &flow, netns, 0))
		return 0;
	record = begin(cpu, kind);
	if (!record)
		return 0;
	store_tuple(record, &flow);
	record->sock = (u64)sk;
	record->netns = netns;
	record->error = new_state;
	record->detail = old_state;
	if (kind == KIND_READ)
		record->length = new_state;
	READ(record->socket_state, &sk->__sk_common.skc_state);
	send(record);
	return 0;
}

/* Say it once per socket and process: a busy socket costs one map lookup per call. */
inline_always int note_owner(struct sock *sk)
{
	struct owner owner = {}, *known;
	u64 key = (u64)sk;
	u16 family = 0;

	READ(family, &sk->__sk_common.skc_family);
	if (!is_traced(family))
		return 0;
	owner.pid = bpf_get_current_pid_tgid() >> 32;
	known = owners.lookup(&key);
	if (known && known->pid == owner.pid)
		return 0;
	bpf_get_current_comm(owner.comm, sizeof(owner.comm));
	owners.update(&key, &owner);
	return emit_socket(sk, KIND_OWNER, 0, 0);
}

TRACEPOINT(skb_copy_datagram_iovec)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	struct cpu_state *cpu = this_cpu();
	struct packet packet = {};
	struct record *record;
	bool wanted;

	if (!cpu || !read_packet(cpu, &packet, skb, false, false) || packet.ethertype == ETH_P_ARP)
		return 0;
	wanted = want_packet(cpu, &packet, skb, KIND_COPY);
	/* What a socket has read is freed without a word (skb_attempt_defer_free): another packet gets its address. */
	forget_packet(skb);
	if (!wanted)
		return 0;
	record = begin(cpu, KIND_COPY);
	if (!record)
		return 0;
	store_packet(record, &packet, skb);
	send(record);
	return 0;
}

TRACEPOINT(inet_sock_set_state)
{
	struct sock *sk = (void *)ctx->args[0];
	u64 key = (u64)sk;

	if (ctx->args[2] == 7 /* TCP_CLOSE */)
		owners.delete(&key);
	return emit_socket(sk, KIND_STATE, (s32)ctx->args[2], (u16)ctx->args[1]);
}

#if HAVE_SK_DATA_READY
TRACEPOINT(sk_data_ready)
{
	return emit_socket((void *)ctx->args[0], KIND_READY, 0, 0);
}
#endif

#if HAVE_SOCK_RECV_LENGTH
#define MSG_PEEK 2
#define MSG_ERRQUEUE 0x2000

/*
 * A datagram was read. skb_copy_datagram_iovec says so only of those that do not lie in one piece; which one it was
 * the collector knows from the order in which the socket got them.
 */
inline_always int note_read(struct sock *sk, s32 length, u32 flags)
{
	u16 proto = 0;

	READ(proto, &sk->sk_protocol);
	if (length <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) || proto != 17 /* UDP */)
		return 0;
	return emit_socket(sk, KIND_READ, length, 0);
}

TRACEPOINT(sock_recv_length)
{
	note_owner((void *)ctx->args[0]);
	return note_read((void *)ctx->args[0], (s32)ctx->args[1], (u32)ctx->args[2]);
}

TRACEPOINT(sock_send_length)
{
	return note_owner((void *)ctx->args[0]);
}
#endif
