/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* First file of every bcc program: the kernel's short names for fixed-width integers. */
#ifndef FIBTRACE_KCONFIG_H
#define FIBTRACE_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#include <linux/types.h>
#include <linux/stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
#endif
