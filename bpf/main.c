/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The program, one file per group of probes; FUNCTIONS says how functions are probed: not at all (the tracepoint
 * backend), by fentry and fexit, or by kprobe and kretprobe. tracer/kernel/source.py joins the files it
 * names, because bcc rewrites maps and helpers in the main file only.
 */
#include "kernel.h"
#include "wire.h"
#include "emit.h"
#include "packet.h"
#include "filter.h"
#if FUNCTIONS
#include "calls.h"
#endif
#include "probes/context.c"
#include "probes/lookup.c"
#if TRACE_IPV6
#include "probes/lookup6.c"
#endif
#include "probes/device.c"
#include "probes/free.c"
#include "probes/socket.c"
#include "probes/neighbour.c"
#if FUNCTIONS
#include "probes/route.c"
#if TRACE_IPV6
#include "probes/route6.c"
#endif
#include "probes/stage.c"
#endif
