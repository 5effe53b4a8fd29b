/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bcc asks whether the kernel is newer than some old ones; nothing of ours asks for a version. */
#define LINUX_VERSION_CODE 330240
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
