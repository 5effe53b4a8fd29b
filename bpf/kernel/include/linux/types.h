/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef FIBTRACE_TYPES_H
#define FIBTRACE_TYPES_H
#include </usr/include/linux/types.h>
#endif
