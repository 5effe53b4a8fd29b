/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Only used by bcc for sizes that are powers of two already. */
#define roundup_pow_of_two(n) (n)
