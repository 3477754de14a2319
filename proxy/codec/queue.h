/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of one codec, first in, first out. A parser's callbacks only push; the
 * connection pops when the parser is off the stack. The memory is kept and reused; it is of
 * `pool`, which outlives it.
 */
#ifndef SHUNT_CODEC_QUEUE_H
#define SHUNT_CODEC_QUEUE_H

#include "codec.h"
#include "pool.h"

struct queue { /* all zero is an empty queue */
	struct pool *pool;
	struct codec_event *at;
	size_t first, count, room; /* at[first .. first + count) wait */
};

/* Copies *ev (not what its slices point at): 0 or -ENOMEM. A BODY that continues the bytes
 * of the last one of its stream is joined to it. */
int queue_push(struct queue *q, const struct codec_event *ev) __attribute__((warn_unused_result));
bool queue_pop(struct queue *q, struct codec_event *ev); /* false: none is left */
void queue_shrink(struct queue *q); /* gives back a big queue that is empty */
void queue_free(struct queue *q);

#endif
