/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time limits of one length: because every member waits equally long, the queue stays sorted
 * by itself and one uv timer serves them all. One thread.
 */
#ifndef SHUNT_DEADLINE_H
#define SHUNT_DEADLINE_H

#include <uv.h>

#include "proxy/list.h"

struct deadline {
	struct list link;
	uint64_t at; /* ms, uv_now() */
	void (*expired)(struct deadline *d);
};

struct deadline_queue {
	uv_timer_t timer;
	uint64_t length; /* ms */
	struct list waiting;
};

__attribute__((warn_unused_result)) int deadline_queue_init(struct deadline_queue *q, uv_loop_t *uv,
							    uint64_t length);
void deadline_queue_close(struct deadline_queue *q); /* nobody is called; the loop must run */

void deadline_init(struct deadline *d);
void deadline_set(struct deadline_queue *q, struct deadline *d,
		  void (*expired)(struct deadline *d)); /* from now; again: anew */
void deadline_clear(struct deadline *d); /* twice is harmless */

#endif
