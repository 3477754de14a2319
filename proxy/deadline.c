/* SPDX-License-Identifier: Apache-2.0 */
/* Time limits of one length: see deadline.h. */
#include "proxy/deadline.h"

static void deadline_arm(struct deadline_queue *q);

static void deadline_tick(uv_timer_t *timer)
{
	struct deadline_queue *q = container_of(timer, struct deadline_queue, timer);

	while (!list_empty(&q->waiting)) {
		struct deadline *d = container_of(q->waiting.next, struct deadline, link);

		if (d->at > uv_now(timer->loop))
			break;
		list_remove(&d->link);
		d->expired(d);
	}
	deadline_arm(q);
}

static void deadline_arm(struct deadline_queue *q)
{
	uint64_t now = uv_now(q->timer.loop);
	struct deadline *first;

	if (list_empty(&q->waiting)) /* a cleared one lets the timer run out once */
		return;
	first = container_of(q->waiting.next, struct deadline, link);
	uv_timer_start(&q->timer, deadline_tick, first->at > now ? first->at - now : 0, 0);
}

int deadline_queue_init(struct deadline_queue *q, uv_loop_t *uv, uint64_t length)
{
	list_init(&q->waiting);
	q->length = length;
	return uv_timer_init(uv, &q->timer);
}

void deadline_queue_close(struct deadline_queue *q)
{
	uv_close((uv_handle_t *)&q->timer, NULL);
}

void deadline_init(struct deadline *d)
{
	list_init(&d->link);
}

void deadline_set(struct deadline_queue *q, struct deadline *d, void (*expired)(struct deadline *d))
{
	list_remove(&d->link);
	d->at = uv_now(q->timer.loop) + q->length;
	d->expired = expired;
	list_append(&q->waiting, &d->link);
	if (!uv_is_active((uv_handle_t *)&q->timer))
		deadline_arm(q);
}

void deadline_clear(struct deadline *d)
{
	list_remove(&d->link);
}
