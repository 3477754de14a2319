/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes, behind the same table as every protocol: one stream that begins with the
 * connection (its server may speak first) and ends with the FIN. */
#include "queue.h"
#include "store.h"

#include <errno.h>
#include <stdlib.h>

struct codec {
	enum codec_role role;
	struct queue queue;
	struct buffer out;
	bool fin; /* the peer's */
	bool begun, ended; /* our side: HEAD, END were emitted */
	bool left; /* LEFT was queued */
};

static int push(struct codec *k, enum codec_event_type type, struct slice data)
{
	return queue_push(&k->queue,
			  &(struct codec_event){.type = type, .stream = 1, .data = data});
}

static void opaque_close(struct codec *k)
{
	if (k == NULL)
		return;
	queue_free(&k->queue);
	buffer_free(&k->out);
	free(k);
}

static struct codec *opaque_open(enum codec_role role, const struct codec_limits *limits,
				 struct pool *pool)
{
	struct codec *k = calloc(1, sizeof *k);

	(void)limits;
	if (k == NULL)
		return NULL;
	k->role = role;
	k->queue.pool = k->out.pool = pool;
	if (push(k, CODEC_EV_HEAD, (struct slice){NULL, 0}) < 0) {
		opaque_close(k);
		return NULL;
	}
	return k;
}

static int opaque_feed(struct codec *k, struct slice in)
{
	if (in.len == 0)
		return 0;
	return k->fin ? -EINVAL : push(k, CODEC_EV_BODY, in);
}

static bool opaque_full(const struct codec *k)
{
	(void)k;
	return false;
}

static int opaque_finish(struct codec *k)
{
	if (k->fin)
		return 0;
	k->fin = true;
	return push(k, CODEC_EV_END, (struct slice){NULL, 0});
}

static bool opaque_next(struct codec *k, struct codec_event *ev)
{
	if (queue_pop(&k->queue, ev))
		return true;
	queue_free(&k->queue); /* a stream may rest for hours */
	return false;
}

static int opaque_emit(struct codec *k, const struct codec_event *ev)
{
	if (ev->stream != 1 || k->ended)
		return -EINVAL;
	switch (ev->type) {
	case CODEC_EV_HEAD:
		if (k->begun)
			return -EINVAL;
		k->begun = true;
		return 0;
	case CODEC_EV_BODY:
		return k->begun ? buffer_append(&k->out, ev->data.p, ev->data.len) : -EINVAL;
	case CODEC_EV_END:
		if (!k->begun)
			return -EINVAL;
		k->ended = true;
		return 0;
	case CODEC_EV_TRAILERS:
	case CODEC_EV_RESET:
	case CODEC_EV_LEFT:
	case CODEC_EV_FAILED:
		break;
	}
	return -EINVAL;
}

static int opaque_credit(struct codec *k, uint32_t stream, size_t n)
{
	(void)k;
	(void)stream;
	(void)n;
	return 0;
}

static struct slice opaque_pending(struct codec *k)
{
	return buffer_live(&k->out);
}

static int opaque_sent(struct codec *k, size_t n)
{
	int err;

	buffer_drop(&k->out, n);
	if (buffer_live(&k->out).len == 0)
		buffer_free(&k->out);
	if (k->role != CODEC_SERVER || !k->ended || k->left || buffer_live(&k->out).len != 0)
		return 0;
	err = push(k, CODEC_EV_LEFT, (struct slice){NULL, 0});
	k->left = err == 0;
	return err;
}

static bool opaque_done(const struct codec *k)
{
	return k->ended;
}

static unsigned opaque_refused(const struct codec *k)
{
	(void)k;
	return 0;
}

static size_t opaque_holds(const struct codec *k)
{
	return buffer_live(&k->out).len;
}

static bool opaque_partial(const struct codec *k)
{
	(void)k;
	return false;
}

static void opaque_expire(struct codec *k)
{
	(void)k; /* no heads, no limits */
}

static void opaque_last(struct codec *k)
{
	(void)k; /* one stream, however long */
}

static void opaque_trim(struct codec *k)
{
	(void)k; /* keeps none */
}

static struct slice opaque_rest(struct codec *k)
{
	(void)k;
	return (struct slice){NULL, 0};
}

const struct codec_ops codec_opaque = {
	.name = "opaque",
	.open = opaque_open,
	.feed = opaque_feed,
	.full = opaque_full,
	.finish = opaque_finish,
	.refused = opaque_refused,
	.holds = opaque_holds,
	.partial = opaque_partial,
	.expire = opaque_expire,
	.last = opaque_last,
	.next = opaque_next,
	.emit = opaque_emit,
	.credit = opaque_credit,
	.pending = opaque_pending,
	.sent = opaque_sent,
	.done = opaque_done,
	.trim = opaque_trim,
	.rest = opaque_rest,
	.close = opaque_close,
};
