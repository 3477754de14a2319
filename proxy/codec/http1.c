/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.0 and 1.1 behind the contract: what happens when. One exchange at a time: the next
 * request is looked at when this one and its answer are whole and gone. */
#include "http1.h"

#include <errno.h>
#include <stdlib.h>

static struct codec *http1_open(enum codec_role role, const struct codec_limits *limits,
				struct pool *pool)
{
	struct codec *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	k->role = role;
	k->limits = limits;
	k->first = true;
	k->queue.pool = k->arena.pool = pool;
	k->held.pool = k->asked.pool = k->offered.pool = k->out.pool = pool;
	return k;
}

static void memory_free(struct codec *k)
{
	queue_free(&k->queue);
	store_free(&k->arena);
	buffer_free(&k->held);
	buffer_free(&k->asked);
	buffer_free(&k->offered);
	buffer_free(&k->out);
}

static void http1_close(struct codec *k)
{
	if (k == NULL)
		return;
	memory_free(k);
	free(k);
}

/* The events given out so far are the past: their memory may be used again. */
static void recycle(struct codec *k)
{
	store_reset(&k->arena);
	queue_shrink(&k->queue);
	buffer_shrink(&k->held);
	if (k->answer == HTTP1_ENDED)
		buffer_shrink(&k->out);
}

static bool http1_full(const struct codec *k)
{
	return k->error == 0 && (k->phase == HTTP1_WAIT || k->phase == HTTP1_TUNNEL) &&
	       buffer_live(&k->held).len != 0;
}

static int told(struct codec *k)
{
	k->told = k->error != 0;
	return k->error;
}

/* Keeps what was fed and may not be looked at yet. */
static void hold(struct codec *k)
{
	if (!k->fed_held && buffer_append(&k->held, k->fed.p, k->fed.len) < 0)
		k->error = -ENOMEM;
	k->fed.len = 0;
}

/* Reads on in what was fed. */
static void read_on(struct codec *k)
{
	size_t used = http1_take(k, k->fed);

	if (used != 0)
		k->fed = (struct slice){k->fed.p + used, k->fed.len - used};
	if (k->fed_held)
		buffer_drop(&k->held, used);
	if (k->error != 0)
		k->fed.len = 0;
	else if (k->phase == HTTP1_WAIT || k->phase == HTTP1_TUNNEL)
		hold(k);
	if (!k->fin || k->error != 0 || k->fed.len != 0 || http1_full(k))
		return;
	k->fin = false;
	(void)http1_finish(k);
}

static int http1_feed(struct codec *k, struct slice in)
{
	if (k->error != 0)
		return told(k);
	if (http1_full(k) || k->fin || k->fed.len != 0)
		return -EINVAL;
	recycle(k);
	k->fed = in;
	k->fed_held = false;
	read_on(k);
	return told(k);
}

static int http1_fin(struct codec *k)
{
	if (k->error != 0)
		return told(k);
	if (k->fed.len != 0)
		return -EINVAL;
	recycle(k);
	if (http1_full(k)) {
		k->fin = true; /* it counts after them */
		return 0;
	}
	(void)http1_finish(k);
	return told(k);
}

/* Between two messages, with nothing in either direction. */
static bool is_between(const struct codec *k)
{
	return k->error == 0 && k->phase == HTTP1_IDLE && !k->owed &&
	       buffer_live(&k->asked).len == 0 && buffer_live(&k->out).len == 0;
}

static bool http1_next(struct codec *k, struct codec_event *ev)
{
	while (k->queue.count == 0 && k->fed.len != 0) {
		recycle(k);
		read_on(k);
	}
	if (queue_pop(&k->queue, ev))
		return true;
	if (is_between(k))
		recycle(k); /* of what it keeps nothing is held any more */
	if (k->error == 0 || k->told)
		return false;
	*ev = (struct codec_event){.type = CODEC_EV_FAILED, .stream = k->stream, .error = told(k)};
	return true;
}

static int http1_credit(struct codec *k, uint32_t stream, size_t n)
{
	(void)k;
	(void)stream;
	(void)n;
	return 0;
}

static struct slice http1_pending(struct codec *k)
{
	return buffer_live(&k->out);
}

static int http1_sent(struct codec *k, size_t n)
{
	int err;

	buffer_drop(&k->out, n);
	if (!k->owed || k->answer != HTTP1_ENDED || buffer_live(&k->out).len != 0)
		return 0;
	recycle(k);
	err = queue_push(&k->queue,
			 &(struct codec_event){.type = CODEC_EV_LEFT, .stream = k->stream});
	if (err < 0) {
		k->error = err;
		return told(k);
	}
	k->owed = false;
	if (k->error != 0 || k->phase != HTTP1_WAIT)
		return 0;
	k->phase = k->last ? HTTP1_LAST : HTTP1_IDLE;
	k->fed = buffer_live(&k->held); /* goes on with what was held while an answer was due */
	k->fed_held = true;
	read_on(k);
	return told(k);
}

static bool http1_done(const struct codec *k)
{
	if (k->error != 0)
		return true;
	if (k->role == CODEC_CLIENT)
		return k->phase == HTTP1_LAST;
	return k->last && (!k->owed || k->answer == HTTP1_ENDED);
}

static unsigned http1_refused(const struct codec *k)
{
	return k->refused;
}

static size_t http1_holds(const struct codec *k)
{
	return store_used(&k->arena) + buffer_live(&k->held).len + buffer_live(&k->out).len;
}

static bool http1_partial(const struct codec *k)
{
	return k->phase == HTTP1_HEAD && k->error == 0;
}

static void http1_expire(struct codec *k)
{
	k->told = true;
	switch (k->phase) {
	case HTTP1_HEAD:
		http1_refuse(k, CODEC_CUT, 408, "the request head did not arrive in time");
		break;
	case HTTP1_BODY:
	case HTTP1_CHUNK_LINE:
	case HTTP1_CHUNK_DATA:
	case HTTP1_TRAILERS:
		http1_refuse(k, CODEC_CUT, 408, "the request body arrives too slowly");
		break;
	case HTTP1_IDLE:
	case HTTP1_WAIT:
	case HTTP1_TUNNEL:
	case HTTP1_LAST:
		k->error = CODEC_CUT;
		break;
	}
}

static void http1_last(struct codec *k)
{
	k->ending = true;
	if (k->owed)
		k->last = true; /* its head was read before this was said */
}

static void http1_trim(struct codec *k)
{
	if (is_between(k) && k->queue.count == 0)
		memory_free(k);
}

static struct slice http1_rest(struct codec *k)
{
	if (k->phase != HTTP1_TUNNEL)
		return (struct slice){NULL, 0};
	return buffer_live(&k->held);
}

const struct codec_ops codec_http1 = {
	.name = "http1",
	.open = http1_open,
	.feed = http1_feed,
	.full = http1_full,
	.finish = http1_fin,
	.refused = http1_refused,
	.holds = http1_holds,
	.partial = http1_partial,
	.expire = http1_expire,
	.last = http1_last,
	.next = http1_next,
	.emit = http1_emit,
	.credit = http1_credit,
	.pending = http1_pending,
	.sent = http1_sent,
	.done = http1_done,
	.trim = http1_trim,
	.rest = http1_rest,
	.close = http1_close,
};
