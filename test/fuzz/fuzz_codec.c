/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One harness for all codecs (-DCODEC=codec_http1): however the same bytes are cut, the codec
 * must say the same events, the same bytes and the same error; and what it passes on must
 * read the same to whoever is next. Input: one byte of options, two bytes that say where to
 * cut, then what the peer sends.
 */
#include "test/unit/codec_run.h"

#ifndef CODEC
#error "say which codec: -DCODEC=codec_http1"
#endif

enum {
	AS_CLIENT = 1, /* else as server */
	SMALL_LIMITS = 2,
	LAST_AT_ONCE = 4, /* server: last() is said before the first byte */
	LAST_LATER = 8, /* ... or when the first head was read */
	STEP_MAX = 4096, /* longer inputs are not fed byte by byte */
};

static const struct codec_limits small = {.head = 256, .target = 32, .fields = 6};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void begin(struct run *r, uint8_t options)
{
	enum codec_role role = (options & AS_CLIENT) != 0 ? CODEC_CLIENT : CODEC_SERVER;

	if (!run_open(r, &CODEC, role,
		      (options & SMALL_LIMITS) != 0 ? &small : &codec_limits_default))
		abort();
	if (role == CODEC_CLIENT && strcmp(CODEC.name, "http1") == 0)
		run_ask(r);
	if (role == CODEC_SERVER && (options & LAST_AT_ONCE) != 0)
		CODEC.last(r->k);
	r->last_later = role == CODEC_SERVER && (options & LAST_LATER) != 0;
	run_settle(r);
}

/* Feeds cut[0], cut[1] .. bytes, the last of them again and again. */
static void play(struct run *r, uint8_t options, const char *p, size_t n, size_t cut, size_t step)
{
	begin(r, options);
	for (size_t at = 0, m = cut; at < n; at += m, m = step) {
		if (m > n - at)
			m = n - at;
		run_feed(r, p + at, m);
	}
	run_finish(r);
}

static void compare(const struct run *a, struct run *b, const char *how)
{
	if (a->err != b->err || !trace_same(&a->events, &b->events) ||
	    !trace_same(&a->out, &b->out)) {
		fprintf(stderr,
			"%s differs: error %d, not %d\n== whole:\n%s\n-- %s\n== cut:\n%s\n-- %s\n",
			how, b->err, a->err, a->events.p != NULL ? a->events.p : "",
			a->out.p != NULL ? a->out.p : "", b->events.p != NULL ? b->events.p : "",
			b->out.p != NULL ? b->out.p : "");
		abort();
	}
	run_close(b);
}

/* -- passing on: HTTP/1 only -- */

/* What must not change on the way: not the framing, nor what belongs to one connection. */
static void essence(struct trace *t, const struct codec_event *ev)
{
	struct codec_event copy = *ev;
	struct message m;

	if (ev->type == CODEC_EV_LEFT)
		return;
	copy.wire = 0;
	if (ev->head == NULL) {
		trace_event(t, &copy);
		return;
	}
	m = *ev->head;
	m.target = (struct slice){"", 0}; /* absolute-form becomes origin-form */
	m.version = MESSAGE_HTTP11;
	m.content_length = 0;
	m.length_given = false;
	m.field_count = 0;
	copy.head = &m;
	trace_event(t, &copy);
	for (size_t i = 0; i < ev->head->field_count; i++) {
		const struct field nth = message_nth(ev->head, i), *f = &nth;

		if (slice_is_nocase(f->name, "host"))
			continue; /* the authority says it */
		trace_slice(t, " ", f->name);
		trace_slice(t, " ", f->value);
		trace_text(t, "\n");
	}
}

static const char *const three_requests =
	"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

static void must(int err)
{
	if (err < 0)
		abort();
}

/* Passes on every event of `in`; `way` is the codec on the other side of us. */
static void pass_on(struct run *in, struct run *way, struct trace *said)
{
	struct codec_event ev;

	while (CODEC.next(in->k, &ev)) {
		bool last = ev.type == CODEC_EV_END;

		if (ev.type == CODEC_EV_FAILED) {
			run_note(in, ev.error);
			continue;
		}
		essence(said, &ev);
		if (ev.type == CODEC_EV_LEFT)
			continue;
		must(CODEC.emit(way->k, &ev));
		if (way->role == CODEC_SERVER && last)
			run_settle(way); /* the next answer needs this one gone */
	}
}

static void check_passing_on(uint8_t options, const char *p, size_t n)
{
	static const struct codec_limits wide = {1 << 20, 1 << 20, 1000};
	struct run in, way, next;
	struct trace said = {0}, heard = {0};
	struct codec_event ev;
	uint32_t stream = 0;

	begin(&in, options);
	if (!run_open(&way, &CODEC, in.role == CODEC_SERVER ? CODEC_CLIENT : CODEC_SERVER, &wide) ||
	    !run_open(&next, &CODEC, in.role, &wide))
		abort();
	way.mute = next.mute = true;
	if (way.role == CODEC_SERVER) {
		must(CODEC.feed(way.k, (struct slice){three_requests, strlen(three_requests)}));
		run_drain(&way);
		run_ask(&next);
	}
	run_note(&in, CODEC.feed(in.k, (struct slice){p, n}));
	pass_on(&in, &way, &said);
	if (in.role == CODEC_SERVER) { /* only the first request: nobody answers it */
		run_settle(&way);
	} else {
		if (in.err == 0)
			run_note(&in, CODEC.finish(in.k));
		pass_on(&in, &way, &said);
		run_settle(&way);
	}
	if (way.out.len != 0 && CODEC.rest(in.k).len == 0) {
		must(CODEC.feed(next.k, (struct slice){way.out.p, way.out.len}));
		while (CODEC.next(next.k, &ev)) {
			must(ev.type == CODEC_EV_FAILED ? ev.error : 0);
			stream = ev.stream;
			essence(&heard, &ev);
		}
		if (!trace_same(&said, &heard)) {
			fprintf(stderr, "stream %u: passed on\n%s\n== as\n%s\n== read as\n%s\n",
				stream, said.p, way.out.p, heard.p != NULL ? heard.p : "");
			abort();
		}
	}
	trace_free(&said);
	trace_free(&heard);
	run_close(&in);
	run_close(&way);
	run_close(&next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole, other;
	const char *p;
	size_t n, cut;

	if (size < 4)
		return 0;
	p = (const char *)data + 3;
	n = size - 3;
	cut = ((size_t)data[1] << 8 | data[2]) % n;
	if (cut == 0)
		cut = 1;
	play(&whole, data[0], p, n, n, 1);
	play(&other, data[0], p, n, cut, n);
	compare(&whole, &other, "cut in two");
	if (n <= STEP_MAX) {
		play(&other, data[0], p, n, 1, 1);
		compare(&whole, &other, "byte by byte");
	}
	run_close(&whole);
	if (strcmp(CODEC.name, "http1") == 0)
		check_passing_on(data[0], p, n);
	return 0;
}
