/* SPDX-License-Identifier: Apache-2.0 */
/* The small event queue every codec uses: see queue.h. */
#include "queue.h"

#include <errno.h>
#include <string.h>

#define QUEUE_FIRST 8 /* events */
#define QUEUE_KEEP 256 /* events: 16 KiB */

/* Of the block at q->at: the pool's size for so many events. */
static size_t queue_size(const struct queue *q)
{
	return pool_size(q->room * sizeof *q->at);
}

static int queue_grow(struct queue *q)
{
	size_t room = q->room != 0 ? q->room * 2 : QUEUE_FIRST;
	size_t size = pool_size(room * sizeof *q->at);
	struct codec_event *at;

	if (q->first > q->room / 2) { /* the front half is free: move down instead */
		memmove(q->at, q->at + q->first, q->count * sizeof *q->at);
		q->first = 0;
		return 0;
	}
	at = pool_get(q->pool, size);
	if (at == NULL)
		return -ENOMEM;
	if (q->count != 0)
		memcpy(at, q->at + q->first, q->count * sizeof *at);
	pool_put(q->pool, q->at, queue_size(q));
	q->at = at;
	q->room = size / sizeof *at;
	q->first = 0;
	return 0;
}

int queue_push(struct queue *q, const struct codec_event *ev)
{
	int err;

	if (ev->type == CODEC_EV_BODY && q->count != 0) {
		struct codec_event *last = &q->at[q->first + q->count - 1];

		if (last->type == CODEC_EV_BODY && last->stream == ev->stream &&
		    last->data.p + last->data.len == ev->data.p) {
			last->data.len += ev->data.len;
			return 0;
		}
	}
	if (q->first + q->count == q->room) {
		err = queue_grow(q);
		if (err < 0)
			return err;
	}
	q->at[q->first + q->count++] = *ev;
	return 0;
}

bool queue_pop(struct queue *q, struct codec_event *ev)
{
	if (q->count == 0)
		return false;
	*ev = q->at[q->first++];
	if (--q->count == 0)
		q->first = 0;
	return true;
}

void queue_shrink(struct queue *q)
{
	if (q->count == 0 && q->room > QUEUE_KEEP)
		queue_free(q);
}

void queue_free(struct queue *q)
{
	pool_put(q->pool, q->at, queue_size(q));
	*q = (struct queue){.pool = q->pool};
}
