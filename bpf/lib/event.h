/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One record per refusal in the ring buffer, as many as the workload's bucket allows; what is
 * left out is counted, and the next event carries the number.
 */
#ifndef SHUNT_LIB_EVENT_H
#define SHUNT_LIB_EVENT_H

#include "count.h"
#include "maps.h"

#define EVENT_SECOND 1000000000ULL

/* A bucket of `rate` tokens, refilled within a second, kept as one time stamp: the moment up
 * to which tokens are spent. One word, so that two CPUs cannot tear it. */
static __always_inline bool event_allowed(__u64 *stamp, __u64 rate, __u64 now)
{
	__u64 spent = *(volatile __u64 *)stamp;
	__u64 floor = now > EVENT_SECOND ? now - EVENT_SECOND : 0;
	__u64 from = spent < floor ? floor : spent;

	if (rate == 0 || from + EVENT_SECOND / rate > now)
		return false;
	return __sync_val_compare_and_swap(stamp, spent, from + EVENT_SECOND / rate) == spent;
}

static __always_inline void event_suppress(struct workload *w)
{
	__sync_fetch_and_add(&w->suppressed, 1);
	__sync_fetch_and_add(&w->suppressed_since, 1);
}

/* Counts the refusal and hands the event out if it may. Completes `leave`, `workload` and
 * `suppressed`. */
static __always_inline void event_refused(struct workload *w, __u64 rate, struct event *e)
{
	count_reason(e->reason);
	e->leave = bpf_ktime_get_ns();
	e->workload = w->index;
	if (!event_allowed(&w->event_stamp, rate, e->leave)) {
		event_suppress(w);
		return;
	}
	e->suppressed = __sync_lock_test_and_set(&w->suppressed_since, 0);
	if (bpf_ringbuf_output(&events, e, sizeof *e, 0) < 0) {
		__sync_fetch_and_add(&w->suppressed_since, e->suppressed);
		event_suppress(w);
	}
}

#endif
