/* SPDX-License-Identifier: Apache-2.0 */
/* Drives one codec as a connection would: feeds pieces, drains events, answers each request
 * when it is whole, writes the output in small pieces. Shared by unit tests and fuzzer. */
#ifndef SHUNT_TEST_CODEC_RUN_H
#define SHUNT_TEST_CODEC_RUN_H

#include "codec_trace.h"

#include <errno.h>

struct run {
	const struct codec_ops *ops;
	struct codec *k;
	enum codec_role role;
	struct trace events; /* and how it ended */
	struct trace out; /* bytes emitted, goodbye included */
	int err; /* the first failure */
	bool mute; /* do not answer */
	bool last_later; /* say last() when the first head was read */
	size_t piece; /* bytes written at once */
};

static inline int run_emit(struct run *r, enum codec_event_type type, uint32_t stream,
			   const struct message *m, const char *data)
{
	struct codec_event ev = {.type = type, .stream = stream, .head = m};

	if (data != NULL)
		ev.data = (struct slice){data, strlen(data)};
	return r->ops->emit(r->k, &ev);
}

static inline void run_note(struct run *r, int err)
{
	if (err < 0 && r->err == 0)
		r->err = err;
}

/* 200 with a small body; every second one of unknown length. */
static inline void run_answer(struct run *r, uint32_t stream)
{
	static const struct field fields[] = {{{"Server", 6}, {"test", 4}},
					      {{"X-Empty", 7}, {"", 0}}};
	struct message m = {
		.status = 200,
		.reason_phrase = {"OK", 2},
		.version = MESSAGE_HTTP11,
		.content_length = stream % 2 == 1 ? 5 : MESSAGE_LENGTH_UNKNOWN,
		.fields = fields,
		.field_count = 2,
	};

	run_note(r, run_emit(r, CODEC_EV_HEAD, stream, &m, NULL));
	run_note(r, run_emit(r, CODEC_EV_BODY, stream, NULL, "he"));
	run_note(r, run_emit(r, CODEC_EV_BODY, stream, NULL, "llo"));
	run_note(r, run_emit(r, CODEC_EV_END, stream, NULL, NULL));
}

static inline void run_drain(struct run *r)
{
	struct codec_event ev;

	while (r->ops->next(r->k, &ev)) {
		uint32_t stream = ev.stream;

		if (ev.type == CODEC_EV_FAILED) {
			run_note(r, ev.error);
			continue;
		}
		trace_event(&r->events, &ev);
		if (ev.type == CODEC_EV_HEAD && r->last_later)
			r->ops->last(r->k);
		if (ev.type == CODEC_EV_END && r->role == CODEC_SERVER && !r->mute)
			run_answer(r, stream);
	}
}

/* Drains and writes until nothing moves any more. */
static inline void run_settle(struct run *r)
{
	struct slice s;
	size_t n;

	do {
		run_drain(r);
		s = r->ops->pending(r->k);
		n = s.len < r->piece ? s.len : r->piece;
		trace_bytes(&r->out, s.p, n);
		run_note(r, r->ops->sent(r->k, n));
		run_drain(r);
		s = r->ops->pending(r->k);
	} while (s.len != 0);
}

static inline bool run_open(struct run *r, const struct codec_ops *ops, enum codec_role role,
			    const struct codec_limits *limits)
{
	*r = (struct run){.ops = ops, .role = role, .piece = 7};
	r->k = ops->open(role, limits, NULL);
	return r->k != NULL;
}

static inline void run_feed(struct run *r, const char *p, size_t n)
{
	char *copy;

	if (r->err != 0 || r->ops->full(r->k))
		return; /* full: a tunnel, which nobody takes over here */
	copy = malloc(n + 1); /* of its own, so that a slice kept too long is seen */
	if (copy == NULL)
		abort();
	memcpy(copy, p, n);
	run_note(r, r->ops->feed(r->k, (struct slice){copy, n}));
	run_settle(r);
	free(copy);
}

static inline void run_finish(struct run *r)
{
	if (r->err == 0)
		run_note(r, r->ops->finish(r->k));
	run_settle(r);
}

static inline void run_close(struct run *r)
{
	r->ops->close(r->k);
	trace_free(&r->events);
	trace_free(&r->out);
}

/* Three requests asked at once, for a client-role codec: GET, HEAD, POST. */
static inline void run_ask(struct run *r)
{
	static const char *const method[] = {"GET", "HEAD", "POST"};

	for (uint32_t i = 0; i < 3; i++) {
		struct message m = {
			.method = {method[i], strlen(method[i])},
			.target = {"/", 1},
			.path = {"/", 1},
			.authority = {"a", 1},
			.version = MESSAGE_HTTP11,
		};

		run_note(r, run_emit(r, CODEC_EV_HEAD, i + 1, &m, NULL));
		run_note(r, run_emit(r, CODEC_EV_END, i + 1, NULL, NULL));
	}
	run_settle(r);
}

#endif
