/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Refusals per reason and CPU: complete even where the events are rate limited. */
#ifndef SHUNT_LIB_COUNT_H
#define SHUNT_LIB_COUNT_H

#include "maps.h"

static __always_inline void count_reason(enum reason reason)
{
	__u32 key = reason;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n != NULL)
		++*n; /* this CPU's own */
}

#endif
