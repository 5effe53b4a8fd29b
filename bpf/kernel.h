/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every probe needs of the kernel: its types (from BTF) and the one way to read its memory. */
#ifndef FIBTRACE_KERNEL_H
#define FIBTRACE_KERNEL_H

#include <kernel_types.h> /* written for the running kernel by tracer/kernel/btf.py */

#define offsetof(type, member) __builtin_offsetof(type, member)
#define true 1
#define false 0
#define AF_INET 2
#define AF_INET6 10
#define EAGAIN 11
#define EACCES 13
#define EINVAL 22
#define ENETUNREACH 101
#define FUNCTIONS_FENTRY 1
#define FUNCTIONS_KPROBE 2
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_ARP 0x0806

/*
 * bcc turns pointer dereferences into reads, but misses those that went through a cast or the stack; so no
 * kernel pointer is ever dereferenced here. Reads as many bytes as `dst` has.
 */
#define READ(dst, pointer) bpf_probe_read_kernel(&(dst), sizeof(dst), (const void *)(pointer))

/*
 * A read costs more than the bytes it brings: members that lie near each other are read in one go. SPAN is how many
 * bytes there are from one member (aligned to eight bytes) to the end of another, BUFFER makes room for them, PICK
 * takes a member out.
 */
#define MEMBER(type, member) (((type *)0)->member)
#define SPAN(type, first, last) (offsetof(type, last) + sizeof(MEMBER(type, last)) - offsetof(type, first))
#define BUFFER(name, bytes) u64 name[((bytes) + 7) / 8]
#define PICK(buffer, type, first, member)                                                    \
	(*(typeof(MEMBER(type, member)) *)((const char *)(buffer) + offsetof(type, member) - \
					   offsetof(type, first)))

#define inline_always static __always_inline

/* Host order of a big-endian 16-bit number, without headers that differ between distributions. */
inline_always u16 host16(u16 number)
{
	return __builtin_bswap16(number);
}

#endif
