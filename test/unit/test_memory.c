/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile peer's bytes cost: the heap of the two codecs of a proxied connection, while
 * nobody on the other side reads, is at most eight times the bytes fed, beyond what they cost
 * before any (printed). The bytes move as the daemon moves them: what is waiting to be written
 * holds back the reading.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec_trace.h"
#include "failmalloc.h"

#define TIMES 8
#define FIRST 1600 /* the first block, queue and buffers of a codec, for the first byte of all */
#define BACKLOG 65536 /* as BACKLOG_HIGH of proxy/conn.h */
#define READ_MAX 65536

static const struct codec_limits limits = {1 << 20, 1 << 20, 10000};

/* A client and a server with us between them. */
struct way {
	struct codec *down; /* reads the client */
	struct codec *up; /* reads the server */
	ptrdiff_t base; /* heap before a byte was fed, the first pieces counted in */
	size_t fed, peak;
	bool tight; /* the bound was met at every step */
	int err;
};

static void look(struct way *w)
{
	ptrdiff_t peak = failmalloc_peak();
	size_t now = peak > w->base ? (size_t)(peak - w->base) : 0;

	if (now > w->peak)
		w->peak = now;
	w->tight = w->tight && now <= TIMES * w->fed;
}

static void way_open(struct way *w)
{
	*w = (struct way){.tight = true};
	w->down = codec_http1.open(CODEC_SERVER, &limits, NULL);
	w->up = codec_http1.open(CODEC_CLIENT, &limits, NULL);
	assert_non_null(w->down);
	assert_non_null(w->up);
}

static void way_measure(struct way *w)
{
	failmalloc_measure();
	w->base = failmalloc_live() + 2 * FIRST;
	w->peak = 0;
	w->tight = true;
}

static void way_close(struct way *w, const char *what)
{
	print_message("%-50s %8zu bytes fed, %8zu held: %.1f times\n", what, w->fed, w->peak,
		      (double)w->peak / (double)w->fed);
	codec_http1.close(w->down);
	codec_http1.close(w->up);
}

static void passed(struct way *w, int err)
{
	if (err < 0 && w->err == 0)
		w->err = err;
	look(w);
}

/* All that `from` has read goes to `to`. */
static void pass_on(struct way *w, struct codec *from, struct codec *to)
{
	struct codec_event ev;

	while (codec_http1.next(from, &ev)) {
		if (ev.type == CODEC_EV_FAILED)
			passed(w, ev.error);
		else if (ev.type != CODEC_EV_LEFT)
			passed(w, codec_http1.emit(to, &ev));
	}
	look(w);
}

/* Bytes that `from` reads in reads of at most `piece`, as long as `to` may have more waiting. */
static void send_bytes(struct way *w, struct codec *from, struct codec *to, const struct trace *t,
		       size_t piece)
{
	for (size_t at = 0; at < t->len && w->err == 0 && !codec_http1.full(from);) {
		size_t waiting = codec_http1.pending(to).len;
		size_t n = t->len - at;

		if (waiting >= BACKLOG)
			return;
		n = n < piece ? n : piece;
		n = n < BACKLOG - waiting ? n : BACKLOG - waiting;
		w->fed += n;
		passed(w, codec_http1.feed(from, (struct slice){t->p + at, n}));
		pass_on(w, from, to);
		at += n;
	}
}

static void fill(struct trace *t, const char *begin, const char *again, size_t until,
		 const char *end)
{
	*t = (struct trace){0};
	trace_bytes(t, begin, strlen(begin));
	while (t->len + strlen(again) + strlen(end) <= until)
		trace_bytes(t, again, strlen(again));
	trace_bytes(t, end, strlen(end));
}

#define KIB 1024
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
	const char *what, *begin, *again;
	size_t until;
	const char *end;
} requests[] = {
	{"200 empty fields of one letter", POST, "a:\r\n", 26 + 199 * 4, "\r\n"},
	{"8 KiB of such fields", POST, "a:\r\n", 8 * KIB, "\r\n"},
	{"more than half a buffer of them", POST, "a:\r\n", 26300, "\r\n"},
	{"10000 of them", POST, "a:\r\n", 26 + 9999 * 4, "\r\n"},
	{"fields of one letter with values", POST, "a:b\r\n", 40 * KIB, "\r\n"},
	{"a long field", POST "a:", "b", 900 * KIB, "\r\n\r\n"},
	{"a long target", "GET /", "a", 900 * KIB, " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a head that does not end", POST "a:", "b", 900 * KIB, ""},
	{"a name that does not end", POST "a", "b", 60 * KIB, ""},
	{"fields that do not end", POST, "a:\r\n", 26 + 9999 * 4, ""},
	{"a length and its content", POST "Content-Length: 1000000\r\n\r\n", "b", 300 * KIB, ""},
	{"chunks of one byte", POST CHUNKED, "1\r\na\r\n", 300 * KIB, "0\r\n\r\n"},
	{"chunks of 70 bytes", POST CHUNKED,
	 "46\r\n"
	 "0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
	 300 * KIB, ""},
	{"chunks with extensions", POST CHUNKED, "1;a\r\na\r\n", 300 * KIB, ""},
	{"an extension that does not end", POST CHUNKED "1;", "a", 300, ""},
	{"trailers", POST CHUNKED "0\r\n", "a:\r\n", 40000, "\r\n"},
	{"trailers just above half a buffer", POST CHUNKED "0\r\n", "a:\r\n", 26300, "\r\n"},
	{"trailers just above a quarter", POST CHUNKED "0\r\n", "a:\r\n", 13200, "\r\n"},
	{"trailers that do not end", POST CHUNKED "0\r\n", "a:\r\n", 40000, ""},
	{"requests sent ahead", "", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 300 * KIB, ""},
	{"requests sent ahead of an upload", "GET / HTTP/1.1\r\nHost:\r\n\r\n" POST CHUNKED,
	 "1\r\na\r\n", 300 * KIB, ""},
	{"bytes behind an upgrade",
	 "GET / HTTP/1.1\r\nHost:\r\nUpgrade: a\r\nConnection: Upgrade\r\n\r\n", "a", 300 * KIB,
	 ""},
	{"bytes behind a CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost:\r\n\r\n", "a", 300 * KIB, ""},
	{"names in Connection", POST "Connection: ", "a,", 150, "a\r\n\r\n"},
	{"protocols in Upgrade", "GET / HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: ",
	 "a,", 60 * KIB, "a\r\n\r\n"},
};

static const struct {
	const char *what, *begin, *again;
	size_t until;
	const char *end;
} responses[] = {
	{"answer: empty fields of one letter", "HTTP/1.1 200\r\n", "a:\r\n", 40000, "\r\n"},
	{"answer: a long field", "HTTP/1.1 200\r\na:", "b", 900 * KIB, "\r\n\r\n"},
	{"answer: a long reason", "HTTP/1.1 200 ", "b", 900 * KIB, "\r\n\r\n"},
	{"answer: interim ones", "", "HTTP/1.1 100\r\n\r\n", 300 * KIB, ""},
	{"answer: interim ones with a field", "", "HTTP/1.1 100\r\na:\r\n\r\n", 300 * KIB, ""},
	{"answer: chunks of one byte", "HTTP/1.1 200\r\n" CHUNKED, "1\r\na\r\n", 300 * KIB, ""},
	{"answer: content until the end", "HTTP/1.1 200\r\n\r\n", "a", 300 * KIB, ""},
	{"answer: trailers", "HTTP/1.1 200\r\n" CHUNKED "0\r\n", "a:\r\n", 40000, "\r\n"},
	{"answer: something behind it", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "a", 300 * KIB,
	 ""},
};

static const size_t pieces[] = {READ_MAX, 1, 3, 1448};
#define PIECES (sizeof pieces / sizeof pieces[0])

static void what_a_client_sends_costs_at_most_eight_times_its_size(void **state)
{
	bool tight = true;

	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
		for (size_t n = 0; n < PIECES; n++) {
			struct way w;
			struct trace t;

			fill(&t, requests[i].begin, requests[i].again, requests[i].until,
			     requests[i].end);
			way_open(&w);
			way_measure(&w);
			send_bytes(&w, w.down, w.up, &t, pieces[n]);
			tight = tight && w.tight;
			way_close(&w, requests[i].what);
			trace_free(&t);
		}
	assert_true(tight);
}

static void what_a_server_sends_costs_at_most_eight_times_its_size(void **state)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	bool tight = true;

	(void)state;
	for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++)
		for (size_t n = 0; n < PIECES; n++) {
			struct way w;
			struct trace t;

			fill(&t, responses[i].begin, responses[i].again, responses[i].until,
			     responses[i].end);
			way_open(&w);
			assert_int_equal(
				codec_http1.feed(w.down, (struct slice){get, sizeof get - 1}), 0);
			pass_on(&w, w.down, w.up);
			assert_int_equal(codec_http1.sent(w.up, codec_http1.pending(w.up).len), 0);
			way_measure(&w);
			send_bytes(&w, w.up, w.down, &t, pieces[n]);
			tight = tight && w.tight;
			way_close(&w, responses[i].what);
			trace_free(&t);
		}
	assert_true(tight);
}

/* After requests of every kind, and their answers. */
static void between_two_requests_a_codec_gives_all_back(void **state)
{
	static const char *const asks[] = {
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		POST CHUNKED "3\r\nabc\r\n0\r\na: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	};
	static const char answer[] =
		"HTTP/1.1 103\r\n\r\nHTTP/1.1 200\r\n" CHUNKED "3\r\nabc\r\n0\r\na: b\r\n\r\n";
	ptrdiff_t before = failmalloc_live(), base;
	struct way w;

	(void)state;
	way_open(&w);
	base = failmalloc_live();
	print_message("a codec of its own: %td bytes, for the first byte at most %d\n",
		      (base - before) / 2, FIRST);
	for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
		assert_int_equal(codec_http1.feed(w.down, (struct slice){asks[i], strlen(asks[i])}),
				 0);
		pass_on(&w, w.down, w.up);
		assert_int_equal(codec_http1.sent(w.up, codec_http1.pending(w.up).len), 0);
		assert_int_equal(codec_http1.feed(w.up, (struct slice){answer, sizeof answer - 1}),
				 0);
		pass_on(&w, w.up, w.down);
		assert_true(failmalloc_live() > base);
		codec_http1.trim(w.up); /* inside a message: nothing */
		codec_http1.trim(w.down);
		assert_int_equal(codec_http1.sent(w.down, codec_http1.pending(w.down).len), 0);
		pass_on(&w, w.down, w.up);
		assert_int_equal(w.err, 0);
		assert_int_equal(codec_http1.holds(w.down) + codec_http1.holds(w.up), 0);
		codec_http1.trim(w.down);
		codec_http1.trim(w.up);
		assert_int_equal(failmalloc_live(), base);
	}
	codec_http1.close(w.down);
	codec_http1.close(w.up);
	assert_int_equal(failmalloc_live(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_client_sends_costs_at_most_eight_times_its_size),
		cmocka_unit_test(what_a_server_sends_costs_at_most_eight_times_its_size),
		cmocka_unit_test(between_two_requests_a_codec_gives_all_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
