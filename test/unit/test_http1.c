/* SPDX-License-Identifier: Apache-2.0 */
#include "codec_run.h"
#include "failmalloc.h"
#include "proxy/codec/http1.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT(literal) literal, sizeof(literal) - 1
#define HOST "Host: a.example\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST "\r\n"

/* -- what a field is -- */

static enum field_kind field_of(const char *name)
{
	return field_kind_of((struct slice){name, strlen(name)});
}

static void every_field_that_a_codec_knows_is_found(void **state)
{
	static const struct {
		const char *name;
		enum field_kind field;
	} rows[] = {
		{"Host", FIELD_HOST},
		{"Expect", FIELD_EXPECT},
		{"Content-Length", FIELD_CONTENT_LENGTH},
		{"Transfer-Encoding", FIELD_TRANSFER_ENCODING},
		{"Connection", FIELD_CONNECTION},
		{"TE", FIELD_HOP},
		{"Upgrade", FIELD_HOP},
		{"Keep-Alive", FIELD_HOP},
		{"Proxy-Connection", FIELD_HOP},
		{"Range", FIELD_NOT_IN_TRAILERS},
		{"Cookie", FIELD_NOT_IN_TRAILERS},
		{"Trailer", FIELD_NOT_IN_TRAILERS},
		{"Content-Type", FIELD_NOT_IN_TRAILERS},
		{"Max-Forwards", FIELD_NOT_IN_TRAILERS},
		{"Authorization", FIELD_NOT_IN_TRAILERS},
		{"Content-Range", FIELD_NOT_IN_TRAILERS},
		{"Content-Encoding", FIELD_NOT_IN_TRAILERS},
		{"Proxy-Authorization", FIELD_NOT_IN_TRAILERS},
	};
	char name[64];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t len = strlen(rows[i].name);

		assert_int_equal(field_of(rows[i].name), rows[i].field);
		for (size_t at = 0; at <= len; at++) /* with a NUL */
			name[at] = (char)tolower((unsigned char)rows[i].name[at]);
		assert_int_equal(field_of(name), rows[i].field);
		for (size_t at = 0; at < len; at++)
			name[at] = (char)toupper((unsigned char)rows[i].name[at]);
		assert_int_equal(field_of(name), rows[i].field);
		name[len - 1]++;
		assert_int_equal(field_of(name), FIELD_OTHER);
	}
	for (size_t len = 0; len < sizeof name; len++) {
		memset(name, 'x', sizeof name);
		assert_int_equal(field_kind_of((struct slice){name, len}), FIELD_OTHER);
	}
}

/* -- helpers -- */

static void as(struct run *r, enum codec_role role)
{
	assert_true(run_open(r, &codec_http1, role, &codec_limits_default));
}

static void play(struct run *r, enum codec_role role, const char *p, size_t n, size_t step)
{
	as(r, role);
	if (role == CODEC_CLIENT)
		run_ask(r);
	for (size_t at = 0; at < n; at += step)
		run_feed(r, p + at, step < n - at ? step : n - at);
	run_finish(r);
}

static void play_in_two(struct run *r, enum codec_role role, const char *p, size_t n, size_t cut)
{
	as(r, role);
	if (role == CODEC_CLIENT)
		run_ask(r);
	run_feed(r, p, cut);
	run_feed(r, p + cut, n - cut);
	run_finish(r);
}

static void assert_same(const struct run *a, const struct run *b)
{
	assert_int_equal(a->err, b->err);
	assert_int_equal(a->events.len, b->events.len);
	assert_memory_equal(a->events.p, b->events.p, a->events.len);
	assert_int_equal(a->out.len, b->out.len);
	assert_memory_equal(a->out.p, b->out.p, a->out.len);
}

/* Whole, cut at every place, and byte by byte: always the same; the whole run is left in *r. */
static void play_every_way(struct run *r, enum codec_role role, const char *p, size_t n)
{
	struct run other;

	play(r, role, p, n, n);
	trace_bytes(&r->events, "", 0);
	trace_bytes(&r->out, "", 0);
	for (size_t cut = 0; cut <= n; cut++) {
		if (cut == 0)
			play(&other, role, p, n, 1);
		else
			play_in_two(&other, role, p, n, cut);
		trace_bytes(&other.events, "", 0);
		trace_bytes(&other.out, "", 0);
		assert_same(r, &other);
		run_close(&other);
	}
}

static void assert_has(const struct trace *t, const char *text)
{
	if (t->p == NULL || strstr(t->p, text) == NULL)
		fail_msg("no \"%s\" in:\n%s", text, t->p != NULL ? t->p : "");
}

static void assert_has_not(const struct trace *t, const char *text)
{
	if (t->p != NULL && strstr(t->p, text) != NULL)
		fail_msg("\"%s\" in:\n%s", text, t->p);
}

/* The request begun by `text` stays unanswered; what the codec said is in r->events. */
static void begin(struct run *r, const char *text)
{
	as(r, CODEC_SERVER);
	r->mute = true;
	run_feed(r, text, strlen(text));
}

static struct message answer(unsigned status, int64_t length)
{
	return (struct message){
		.status = status, .version = MESSAGE_HTTP11, .content_length = length};
}

static void emit_head(struct run *r, uint32_t stream, struct message m)
{
	assert_int_equal(run_emit(r, CODEC_EV_HEAD, stream, &m, NULL), 0);
}

static void emit_body(struct run *r, uint32_t stream, const char *text)
{
	assert_int_equal(run_emit(r, CODEC_EV_BODY, stream, NULL, text), 0);
}

static void emit_end(struct run *r, uint32_t stream)
{
	assert_int_equal(run_emit(r, CODEC_EV_END, stream, NULL, NULL), 0);
}

static struct message request(const char *method, const char *path, int64_t length)
{
	return (struct message){.method = {method, strlen(method)},
				.target = {path, strlen(path)},
				.path = {path, strlen(path)},
				.authority = {"a", 1},
				.version = MESSAGE_HTTP11,
				.content_length = length};
}

/* Reads `out` as a client that asked with `method` would. */
static void read_back(struct run *r, const char *method, const struct trace *out)
{
	struct message m = request(method, "/", 0);

	as(r, CODEC_CLIENT);
	emit_head(r, 1, m);
	emit_end(r, 1);
	codec_http1.sent(r->k, codec_http1.pending(r->k).len);
	run_feed(r, out->p, out->len);
	run_finish(r);
}

/* -- reading requests -- */

static void a_request_is_read_into_its_parts(void **state)
{
	struct run r;

	(void)state;
	play(&r, CODEC_SERVER,
	     TEXT("GET /a?b=c HTTP/1.1\r\nhOST: a.example:80\r\nX-One:  1 \t\r\nX-Two:\r\n"
		  "X-One: \xe9\r\n\r\n"),
	     1000);
	assert_string_equal(r.events.p,
			    "HEAD 1 wire=74 method=GET target=/a?b=c path=/a?b=c "
			    "authority=a.example:80 version=11 length=0\n"
			    "  hOST: a.example:80\n  X-One: 1\n  X-Two: \n  X-One: \xe9\n"
			    "END 1\nLEFT 1\n");
	assert_int_equal(r.err, 0);
	run_close(&r);
}

static const struct {
	enum codec_role role;
	const char *text;
} messages[] = {
	{CODEC_SERVER, GET GET GET},
	{CODEC_SERVER, "\r\n" GET "\r\n\r\n" GET},
	{CODEC_SERVER, "POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello" GET},
	{CODEC_SERVER,
	 "POST /p HTTP/1.1\r\n" HOST CHUNKED
	 "\r\n5;x=y\r\nhello\r\n00a\r\n0123456789\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n" GET},
	{CODEC_SERVER, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
		       "GET /older HTTP/1.0\r\n\r\nnobody reads this"},
	{CODEC_SERVER, "BREW http://pot.example?milk HTTP/1.1\r\n" HOST
		       "Connection: x, close\r\nX: y\r\n\r\nnor this"},
	{CODEC_SERVER, "PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n"
		       "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nhi" GET},
	{CODEC_SERVER, GET "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel"},
	{CODEC_SERVER, GET "GARBAGE\r\n\r\n"},
	{CODEC_SERVER, "POST / HTTP/1.1\r\n" HOST CHUNKED "\r\n3\r\nabcd\r\n0\r\n\r\n"},
	{CODEC_SERVER, "POST / HTTP/1.1\r\n" HOST CHUNKED "\r\n3\r\nabc\r\n0\r\nHost: b\r\n\r\n"},
	{CODEC_SERVER, "CONNECT a.example:443 HTTP/1.1\r\n" HOST "\r\n\x16\x03\x01"},
	{CODEC_SERVER,
	 "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c, a/1,b\r\n\r\n"
	 "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: x y\r\n\r\n"},
	{CODEC_CLIENT, "HTTP/1.1 426 No\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
		       "Content-Length: 0\r\n\r\n"},
	{CODEC_CLIENT, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
		       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
		       "HTTP/1.1 201 Created\r\n" CHUNKED "\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n"},
	{CODEC_CLIENT, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
		       "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"
		       "HTTP/1.1 200 \r\n\r\nuntil the end"},
	{CODEC_CLIENT, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\naxxx"},
	{CODEC_CLIENT, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"},
};

static void the_same_bytes_in_any_pieces_are_the_same_events(void **state)
{
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
		play_every_way(&r, messages[i].role, messages[i].text, strlen(messages[i].text));
		run_close(&r);
	}
}

static void content_is_not_copied(void **state)
{
	static const char text[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello";
	struct codec_event ev;
	struct run r;

	(void)state;
	as(&r, CODEC_SERVER);
	assert_int_equal(codec_http1.feed(r.k, (struct slice){text, sizeof text - 1}), 0);
	assert_true(codec_http1.next(r.k, &ev));
	assert_int_equal(ev.type, CODEC_EV_HEAD);
	assert_true(codec_http1.next(r.k, &ev));
	assert_int_equal(ev.type, CODEC_EV_BODY);
	assert_ptr_equal(ev.data.p, text + sizeof text - 1 - 5);
	run_close(&r);
}

static void a_method_is_any_token(void **state)
{
	struct run r;

	(void)state;
	play_every_way(&r, CODEC_SERVER,
		       TEXT("QUERY /q HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nok"
			    "x!#$%&'*+-.^_`|~9 / HTTP/1.1\r\n" HOST "\r\n"
			    "get / HTTP/1.1\r\n" HOST "\r\n"
			    "PRI / HTTP/1.1\r\n" HOST "\r\n"));
	assert_int_equal(r.err, 0);
	assert_has(&r.events, "method=QUERY ");
	assert_has(&r.events, "BODY 1 ok\n");
	assert_has(&r.events, "method=x!#$%&'*+-.^_`|~9 ");
	assert_has(&r.events, "method=get ");
	assert_has(&r.events, "method=PRI ");
	run_close(&r);
}

static void fields_of_one_connection_are_taken_out(void **state)
{
	struct run r;

	(void)state;
	play(&r, CODEC_SERVER,
	     TEXT("GET / HTTP/1.1\r\n" HOST "X-A: 1\r\nConnection: x-a, keep-alive,,\r\n"
		  "CONNECTION: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
		  "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
		  "Trailer: X-T\r\nX-B: 2\r\n\r\n"),
	     1000);
	assert_string_equal(strchr(r.events.p, '\n') + 1,
			    "  Host: a.example\n  Trailer: X-T\n  X-B: 2\nEND 1\nLEFT 1\n");
	run_close(&r);
}

static void an_absolute_target_wins_over_host(void **state)
{
	static const struct {
		const char *line, *path, *authority;
	} row[] = {
		{"GET http://b.example/x?y HTTP/1.1", "/x?y", "b.example"},
		{"GET HTTPS://b.example:81?y HTTP/1.1", "/?y", "b.example:81"},
		{"GET http://b.example HTTP/1.1", "/", "b.example"},
		{"OPTIONS http://b.example HTTP/1.1", "*", "b.example"},
		{"OPTIONS * HTTP/1.1", "*", "a.example"},
		{"GET http://[::1]:8/ HTTP/1.1", "/", "[::1]:8"},
		{"GET //b.example/ HTTP/1.1", "//b.example/", "a.example"},
	};
	char text[256], want[256];
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		snprintf(text, sizeof text, "%s\r\n" HOST "\r\n", row[i].line);
		snprintf(want, sizeof want, " path=%s authority=%s version", row[i].path,
			 row[i].authority);
		play_every_way(&r, CODEC_SERVER, text, strlen(text));
		assert_has(&r.events, want);
		run_close(&r);
	}
}

static void connect_has_a_head_and_the_rest_is_kept(void **state)
{
	struct run r;
	struct slice rest;

	(void)state;
	begin(&r, "CONNECT b.example:443 HTTP/1.1\r\n" HOST "\r\nhello");
	assert_has(&r.events, "method=CONNECT target=b.example:443 path= authority=b.example:443");
	assert_has_not(&r.events, "END");
	rest = codec_http1.rest(r.k);
	assert_int_equal(rest.len, 5);
	assert_memory_equal(rest.p, "hello", 5);
	emit_head(&r, 1, answer(501, 0));
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "Connection: close\r\n");
	assert_has(&r.events, "LEFT 1");
	assert_true(codec_http1.done(r.k));
	run_close(&r);
}

/* -- refusing -- */

static const struct {
	const char *what, *text;
	size_t len;
	int err;
	unsigned status; /* of the goodbye; 0: none */
} bad[] = {
#define BAD(what, text, status)                                                                    \
	{                                                                                          \
		what, TEXT(text), CODEC_MALFORMED, status                                          \
	}
#define REQ "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST
	BAD("obs-fold", REQ HOST "X: a\r\n b\r\n\r\n", 400),
	BAD("a fold before the first field", REQ " x\r\n" HOST "\r\n", 400),
	BAD("empty field name", REQ HOST ": a\r\n\r\n", 400),
	BAD("no colon", REQ HOST "X\r\n\r\n", 400),
	BAD("space before the colon", REQ "Host : a\r\n\r\n", 400),
	BAD("a field name that is no token", REQ HOST "X(y): a\r\n\r\n", 400),
	BAD("NUL in a value", REQ HOST "X: a\0b\r\n\r\n", 400),
	BAD("DEL in a value", REQ HOST "X: a\177b\r\n\r\n", 400),
	BAD("bare CR in a value", REQ HOST "X: a\rb\r\n\r\n", 400),
	BAD("two CRs", REQ HOST "X: a\r\r\n\r\n", 400),
	BAD("LF only", "GET / HTTP/1.1\nHost: a\n\n", 400),
	BAD("LF only after a field", REQ HOST "X: a\n\r\n", 400),
	BAD("LF only at the end of the head", REQ HOST "\n", 400),
	BAD("HTTP/0.9", "GET /\r\n", 400),
	BAD("no version", "GET / \r\n" HOST "\r\n", 400),
	BAD("lower-case version", "GET / http/1.1\r\n" HOST "\r\n", 400),
	BAD("a long version", "GET / HTTP/1.10\r\n" HOST "\r\n", 400),
	BAD("two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("two spaces before the version", "GET /  HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a space at the end of the line", "GET / HTTP/1.1 \r\n" HOST "\r\n", 400),
	BAD("a tab in the request line", "GET /\tHTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("# in the target", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a control byte in the target", "GET /a\1b HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("an 8-bit byte in the target", "GET /\xe9 HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a target that is no path", "GET a HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("* for GET", "GET * HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("authority-form for GET", "GET a:80 HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a path for CONNECT", "CONNECT / HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("CONNECT without a port", "CONNECT a HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("CONNECT with content", "CONNECT a:1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx",
	    400),
	BAD("a user in the target", "GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("an empty authority", "GET http:///a HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("another scheme", "GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("no Host", REQ "\r\n", 400),
	BAD("no Host beside an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n", 400),
	BAD("two Hosts", REQ HOST HOST "\r\n", 400),
	BAD("two Hosts, one empty", REQ HOST "Host:\r\n\r\n", 400),
	BAD("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", 400),
	BAD("Host with a path", REQ "Host: a/b\r\n\r\n", 400),
	BAD("Host with a user", REQ "Host: u@a\r\n\r\n", 400),
	BAD("Host with a space", REQ "Host: a b\r\n\r\n", 400),
	BAD("Host that is a list", REQ "Host: a,b\r\n\r\n", 400),
	BAD("Host with a bad port", REQ "Host: a:8x\r\n\r\n", 400),
	BAD("Host that is only a port", REQ "Host: :80\r\n\r\n", 400),
	BAD("Host with half a bracket", REQ "Host: [::1\r\n\r\n", 400),
	BAD("Host with empty brackets", REQ "Host: []\r\n\r\n", 400),
	BAD("Host with a slash in brackets", REQ "Host: [::/1]\r\n\r\n", 400),
	BAD("Host with something after the brackets", REQ "Host: [::1]a\r\n\r\n", 400),
	BAD("CL and TE", POST "Content-Length: 3\r\n" CHUNKED "\r\n0\r\n\r\n", 400),
	BAD("TE and CL", POST CHUNKED "Content-Length: 3\r\n\r\n0\r\n\r\n", 400),
	BAD("two lengths", POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
	BAD("the same length twice", POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
	BAD("a list of lengths", POST "Content-Length: 3, 3\r\n\r\nabc", 400),
	BAD("a signed length", POST "Content-Length: +3\r\n\r\nabc", 400),
	BAD("a negative length", POST "Content-Length: -3\r\n\r\nabc", 400),
	BAD("a length in hex", POST "Content-Length: 0x3\r\n\r\nabc", 400),
	BAD("an empty length", POST "Content-Length:\r\n\r\n", 400),
	BAD("a length with a space inside", POST "Content-Length: 1 2\r\n\r\nabc", 400),
	BAD("a huge length", POST "Content-Length: 99999999999999999999\r\n\r\n", 400),
	BAD("chunked twice", POST CHUNKED CHUNKED "\r\n0\r\n\r\n", 400),
	BAD("chunked not last", POST "Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
	BAD("an empty coding", POST "Transfer-Encoding:\r\n\r\n", 400),
	BAD("an empty coding in a list", POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400),
	BAD("a coding that is no token", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 400),
	BAD("chunked with a parameter", POST "Transfer-Encoding: chunked;a=b\r\n\r\n", 400),
	BAD("TE in HTTP/1.0", "POST / HTTP/1.0\r\n" CHUNKED "\r\n0\r\n\r\n", 400),
	BAD("Connection names Content-Length",
	    POST "Connection: content-length\r\nContent-Length: 1\r\n\r\na", 400),
	BAD("Connection names Transfer-Encoding",
	    POST "Connection: close, transfer-encoding\r\n" CHUNKED "\r\n0\r\n\r\n", 400),
	BAD("Connection names Host", REQ HOST "Connection: host\r\n\r\n", 400),
	BAD("Connection names no token", REQ HOST "Connection: a b\r\n\r\n", 400),
	BAD("a bad chunk size", POST CHUNKED "\r\n5x\r\nhello\r\n0\r\n\r\n", 400),
	BAD("an empty chunk size", POST CHUNKED "\r\n\r\nhello\r\n0\r\n\r\n", 400),
	BAD("a signed chunk size", POST CHUNKED "\r\n+5\r\nhello\r\n0\r\n\r\n", 400),
	BAD("a huge chunk size", POST CHUNKED "\r\nfffffffffffffffff\r\n", 400),
	BAD("a space after the chunk size", POST CHUNKED "\r\n5 \r\nhello\r\n0\r\n\r\n", 400),
	BAD("LF only after a chunk size", POST CHUNKED "\r\n5\nhello\r\n0\r\n\r\n", 400),
	BAD("CR inside an extension", POST CHUNKED "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
	BAD("a chunk longer than its size", POST CHUNKED "\r\n2\r\nhello\r\n0\r\n\r\n", 400),
	BAD("LF only after a chunk", POST CHUNKED "\r\n2\r\nhe\n0\r\n\r\n", 400),
	BAD("a trailer that frames", POST CHUNKED "\r\n0\r\nContent-Length: 4\r\n\r\n", 400),
	BAD("a trailer that routes", POST CHUNKED "\r\n0\r\nHost: b\r\n\r\n", 400),
	BAD("a trailer that authorises", POST CHUNKED "\r\n0\r\nAuthorization: b\r\n\r\n", 400),
	BAD("a folded trailer", POST CHUNKED "\r\n0\r\nX: b\r\n c\r\n\r\n", 400),
	BAD("LF only after the trailers", POST CHUNKED "\r\n0\r\n\n", 400),
	{"another coding", TEXT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), CODEC_UNSUPPORTED,
	 501},
	{"an unknown coding", TEXT(POST "Transfer-Encoding: identity\r\n\r\n"), CODEC_UNSUPPORTED,
	 501},
	{"HTTP/2.0", TEXT("GET / HTTP/2.0\r\n" HOST "\r\n"), CODEC_UNSUPPORTED, 505},
	{"HTTP/1.2", TEXT("GET / HTTP/1.2\r\n" HOST "\r\n"), CODEC_UNSUPPORTED, 505},
	{"a head cut short", TEXT("GET / HTTP/1.1\r\nHos"), CODEC_CUT, 400},
	{"content cut short", TEXT(POST "Content-Length: 9\r\n\r\nabc"), CODEC_CUT, 400},
	{"a chunk cut short", TEXT(POST CHUNKED "\r\n9\r\nabc"), CODEC_CUT, 400},
	{"no last chunk", TEXT(POST CHUNKED "\r\n3\r\nabc\r\n"), CODEC_CUT, 400},
	{"trailers cut short", TEXT(POST CHUNKED "\r\n0\r\n"), CODEC_CUT, 400},
	{"TLS", TEXT("\x16\x03\x01\x02\x00\x01\x00"), CODEC_NOT_READABLE, 0},
	{"SSH", TEXT("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), CODEC_NOT_READABLE, 0},
	{"SSH without a comment", TEXT("SSH-2.0-OpenSSH_9.2p1\r\n"), CODEC_NOT_READABLE, 0},
	{"binary", TEXT("\0\1\2"), CODEC_NOT_READABLE, 0},
	{"a leading space", TEXT(" GET / HTTP/1.1\r\n" HOST "\r\n"), CODEC_NOT_READABLE, 0},
	{"a very long method", TEXT("ABCDEFGHIJABCDEFGHIJABCDEFGHIJABC / HTTP/1.1\r\n"),
	 CODEC_NOT_READABLE, 0},
	{"too many empty lines", TEXT("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" GET),
	 CODEC_NOT_READABLE, 0},
};

static void what_is_malformed_is_refused_however_it_is_cut(void **state)
{
	struct run r, back;
	char want[64];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		play_every_way(&r, CODEC_SERVER, bad[i].text, bad[i].len);
		if (r.err != bad[i].err)
			fail_msg("%s: %d, not %d", bad[i].what, r.err, bad[i].err);
		if (strstr(r.events.p, "END") != NULL)
			fail_msg("%s: was taken as whole", bad[i].what);
		assert_true(codec_http1.done(r.k));
		assert_int_equal(codec_http1.feed(r.k, (struct slice){"x", 1}), bad[i].err);
		if (bad[i].status == 0) {
			assert_int_equal(r.out.len, 0);
			run_close(&r);
			continue;
		}
		snprintf(want, sizeof want, "HTTP/1.1 %u ", bad[i].status);
		if (strncmp(r.out.p, want, strlen(want)) != 0)
			fail_msg("%s: answered %.20s", bad[i].what, r.out.p);
		assert_has(&r.out, "Connection: close\r\n");
		assert_has(&r.out, "Content-Type: text/plain\r\n");
		/* our own reader said no; llhttp, the second one, was not needed */
		assert_has_not(&r.out, "ambiguous");
		if (strstr(r.out.p, "the request is malformed") != NULL &&
		    strstr(bad[i].what, "a chunk") == NULL)
			fail_msg("%s: only llhttp refused it", bad[i].what);
		read_back(&back, "GET", &r.out);
		assert_int_equal(back.err, 0);
		assert_has(&back.events, "END 1");
		run_close(&back);
		run_close(&r);
	}
}

static void after_a_good_request_the_next_is_judged_alike(void **state)
{
	char text[512];
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		memcpy(text, GET, sizeof GET - 1);
		memcpy(text + sizeof GET - 1, bad[i].text, bad[i].len);
		play_every_way(&r, CODEC_SERVER, text, sizeof GET - 1 + bad[i].len);
		if (r.err == 0)
			fail_msg("%s: accepted", bad[i].what);
		if (strstr(r.events.p, "END 2") != NULL)
			fail_msg("%s: was taken as whole", bad[i].what);
		assert_has(&r.events, "LEFT 1\n");
		assert_has(&r.out, "\r\n\r\nhelloHTTP/1.1 ");
		run_close(&r);
	}
}

static void unreadable_bytes_are_known_by_the_first_of_them(void **state)
{
	struct run r;

	(void)state;
	as(&r, CODEC_SERVER);
	run_feed(&r, "\x16", 1);
	assert_int_equal(r.err, CODEC_NOT_READABLE);
	run_close(&r);
	as(&r, CODEC_SERVER);
	run_feed(&r, "ABCDEFGHIJABCDEFGHIJABCDEFGHIJAB", 32);
	assert_int_equal(r.err, 0);
	run_feed(&r, "C", 1);
	assert_int_equal(r.err, CODEC_NOT_READABLE);
	run_close(&r);
	as(&r, CODEC_CLIENT);
	run_ask(&r);
	run_feed(&r, "HTT", 3);
	assert_int_equal(r.err, 0);
	run_feed(&r, "X", 1);
	assert_int_equal(r.err, CODEC_NOT_READABLE);
	run_close(&r);
}

static void an_http2_client_is_told_to_speak_http1(void **state)
{
	static const char goodbye[] = "\0\0\0\4\0\0\0\0\0"
				      "\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\15";
	struct run r;

	(void)state;
	play_every_way(&r, CODEC_SERVER,
		       TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"));
	assert_int_equal(r.err, CODEC_NOT_READABLE);
	assert_int_equal(r.out.len, sizeof goodbye - 1);
	assert_memory_equal(r.out.p, goodbye, sizeof goodbye - 1);
	assert_true(codec_http1.done(r.k));
	run_close(&r);
}

static void events_before_the_malformed_byte_count(void **state)
{
	struct run r;

	(void)state;
	play(&r, CODEC_SERVER, TEXT(POST CHUNKED "\r\n3\r\nabc\r\nzz\r\n"), 1000);
	assert_int_equal(r.err, CODEC_MALFORMED);
	assert_has(&r.events, "HEAD 1");
	assert_has(&r.events, "BODY 1 abc");
	assert_has(&r.events, "LEFT 1"); /* the goodbye was its answer */
	run_close(&r);
}

static void an_answer_that_has_begun_gets_no_goodbye(void **state)
{
	struct run r;

	(void)state;
	begin(&r, POST CHUNKED "\r\n3\r\nabc\r\n");
	emit_head(&r, 1, answer(200, 5));
	run_settle(&r);
	run_feed(&r, TEXT("zz\r\n"));
	assert_int_equal(r.err, CODEC_MALFORMED);
	assert_has_not(&r.out, "400");
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	run_close(&r);
}

static void a_goodbye_to_head_has_no_content(void **state)
{
	struct run r, back;

	(void)state;
	play(&r, CODEC_SERVER, TEXT("HEAD / HTTP/1.1\r\n" HOST CHUNKED "\r\nzz\r\n"), 1000);
	read_back(&back, "HEAD", &r.out);
	assert_int_equal(back.err, 0);
	assert_has(&back.events, "status=400");
	run_close(&back);
	run_close(&r);
}

/* -- limits -- */

static const struct codec_limits tight = {.head = 200, .target = 20, .fields = 4};

static void limited(struct run *r, size_t step, const char *text)
{
	assert_true(run_open(r, &codec_http1, CODEC_SERVER, &tight));
	for (size_t at = 0; at < strlen(text); at += step)
		run_feed(r, text + at, step < strlen(text) - at ? step : strlen(text) - at);
}

static void a_head_over_the_limit_is_refused_before_its_end(void **state)
{
	static const struct {
		const char *text;
		int err;
		const char *status;
	} row[] = {
		{"GET /23456789.123456789. HTTP/1.1\r\n" HOST "\r\n", 0, "200"},
		{"GET /23456789.123456789.x HTTP/1.1\r\n" HOST "\r\n", CODEC_TOO_LARGE, "414"},
		{"GET /3456789.123456789.123456789.123456789", CODEC_TOO_LARGE, "414"},
		{REQ HOST "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", 0, "200"},
		{REQ HOST "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n", CODEC_TOO_LARGE, "431"},
		{POST CHUNKED "\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", 0, "200"},
		{POST CHUNKED "\r\n0\r\nA: 1\r\nB: 2\r\nC: 3\r\n", CODEC_TOO_LARGE, "431"},
		{REQ HOST "A: "
			  "123456789.123456789.123456789.123456789.123456789."
			  "123456789.123456789.123456789.123456789.123456789."
			  "123456789.123456789.123456789.123456789.123456789.123456789.12345",
		 CODEC_TOO_LARGE, "431"},
		{POST CHUNKED "\r\n0\r\nA: "
			      "123456789.123456789.123456789.123456789.123456789."
			      "123456789.123456789.123456789.123456789.123456789."
			      "123456789.123456789.123456789.123456789.",
		 CODEC_TOO_LARGE, "431"},
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		for (size_t step = 1; step < 300; step += 7) {
			limited(&r, step, row[i].text);
			if (r.err != row[i].err)
				fail_msg("row %zu: error %d, not %d", i, r.err, row[i].err);
			assert_memory_equal(r.out.p + 9, row[i].status, 3);
			run_close(&r);
		}
	}
}

static void a_chunk_extension_is_bounded(void **state)
{
	struct run r;

	(void)state;
	begin(&r, POST CHUNKED "\r\n1;");
	for (int i = 0; i < 253; i++)
		run_feed(&r, "x", 1);
	assert_int_equal(r.err, 0);
	run_feed(&r, "x", 1);
	assert_int_equal(r.err, CODEC_MALFORMED);
	run_close(&r);
}

static void connection_may_name_only_so_many_fields(void **state)
{
	struct run r;

	(void)state;
	begin(&r, REQ HOST "Connection: x");
	for (int i = 0; i < 64; i++)
		run_feed(&r, TEXT(",x"));
	run_feed(&r, TEXT("\r\n\r\n"));
	assert_int_equal(r.err, CODEC_TOO_LARGE);
	run_close(&r);
}

static void interim_answers_do_not_pile_up(void **state)
{
	struct run r;
	unsigned before;

	(void)state;
	as(&r, CODEC_CLIENT);
	run_ask(&r);
	r.mute = true;
	for (int i = 0; i < 100; i++)
		codec_http1.feed(r.k, (struct slice){TEXT("HTTP/1.1 100 C\r\n\r\nHTTP/1")}),
			run_drain(&r),
			codec_http1.feed(r.k, (struct slice){TEXT(".1 100 C\r\nA: b\r\n\r\nH")}),
			run_drain(&r),
			codec_http1.feed(r.k, (struct slice){TEXT("TTP/1.1 100 C\r\n\r\n")}),
			run_drain(&r);
	failmalloc_at(0);
	trace_free(&r.events);
	for (int i = 0; i < 100; i++) {
		struct codec_event ev;

		codec_http1.feed(r.k, (struct slice){TEXT("HTTP/1.1 100 C\r\n\r\nHTTP/1")});
		while (codec_http1.next(r.k, &ev))
			;
		codec_http1.feed(r.k, (struct slice){TEXT(".1 100 C\r\nA: b\r\n\r\n")});
		while (codec_http1.next(r.k, &ev))
			;
	}
	before = failmalloc_count();
	assert_int_equal(before, 0);
	run_close(&r);
}

/* -- the order of requests and answers -- */

static void a_pipelined_request_waits_for_the_answer_before_it(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET GET);
	assert_true(codec_http1.full(r.k));
	assert_has(&r.events, "END 1");
	assert_has_not(&r.events, "HEAD 2");
	assert_int_equal(codec_http1.feed(r.k, (struct slice){"x", 1}), -EINVAL);
	emit_head(&r, 1, answer(200, 2));
	emit_body(&r, 1, "ok");
	emit_end(&r, 1);
	codec_http1.sent(r.k, codec_http1.pending(r.k).len - 1);
	run_drain(&r);
	assert_has_not(&r.events, "LEFT 1"); /* a byte of it is still here */
	assert_int_equal(codec_http1.sent(r.k, 1), 0);
	run_drain(&r);
	assert_has(&r.events, "LEFT 1\nHEAD 2");
	assert_has(&r.events, "END 2");
	assert_false(codec_http1.full(r.k));
	run_close(&r);
}

static void left_comes_with_sent_even_if_the_end_wrote_nothing(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET GET);
	emit_head(&r, 1, answer(200, 2));
	emit_body(&r, 1, "ok");
	run_settle(&r);
	assert_has_not(&r.events, "LEFT");
	emit_end(&r, 1);
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	assert_int_equal(codec_http1.sent(r.k, 0), 0);
	run_drain(&r);
	assert_has(&r.events, "LEFT 1\nHEAD 2");
	run_close(&r);
}

static void an_early_answer_leaves_the_rest_of_the_request_to_be_read(void **state)
{
	struct run r;

	(void)state;
	begin(&r, POST "Content-Length: 6\r\n\r\nabc");
	emit_head(&r, 1, answer(403, 2));
	emit_body(&r, 1, "no");
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.events, "LEFT 1");
	assert_false(codec_http1.done(r.k));
	run_feed(&r, TEXT("def" GET));
	assert_has(&r.events, "BODY 1 def\nEND 1\nHEAD 2");
	assert_false(codec_http1.full(r.k));
	run_close(&r);
}

static void a_fin_counts_after_the_bytes_that_are_held(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET GET "GET / HT");
	assert_int_equal(codec_http1.finish(r.k), 0);
	assert_false(codec_http1.done(r.k));
	for (uint32_t i = 1; i <= 2; i++) {
		emit_head(&r, i, answer(204, 0));
		emit_end(&r, i);
		run_settle(&r);
	}
	assert_has(&r.events, "LEFT 2");
	assert_int_equal(r.err, CODEC_CUT);
	assert_has(&r.out, "HTTP/1.1 400 ");
	run_close(&r);

	begin(&r, GET);
	assert_int_equal(codec_http1.finish(r.k), 0);
	assert_false(codec_http1.done(r.k)); /* the answer is still due */
	emit_head(&r, 1, answer(204, 0));
	emit_end(&r, 1);
	assert_true(codec_http1.done(r.k));
	run_settle(&r);
	assert_int_equal(r.err, 0);
	run_close(&r);
}

static void a_connection_ends_when_its_client_says_so(void **state)
{
	static const struct {
		const char *text;
		bool done;
	} row[] = {
		{GET, false},
		{REQ HOST "Connection: close\r\n\r\n", true},
		{REQ HOST "Connection: keep-alive, CLOSE\r\n\r\n", true},
		{"GET / HTTP/1.0\r\n\r\n", true},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false},
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		begin(&r, row[i].text);
		assert_false(codec_http1.done(r.k)); /* the answer is due */
		emit_head(&r, 1, answer(200, 0));
		assert_false(codec_http1.done(r.k));
		emit_end(&r, 1);
		assert_int_equal(codec_http1.done(r.k), row[i].done);
		run_settle(&r);
		assert_int_equal(codec_http1.done(r.k), row[i].done);
		if (row[i].done)
			assert_has(&r.out, "Connection: close\r\n");
		else
			assert_has_not(&r.out, "close");
		run_close(&r);
	}
}

static void a_connection_ends_when_the_answer_says_so(void **state)
{
	struct message m = answer(200, 0);
	struct run r;

	(void)state;
	m.last = true; /* as an upstream that closes had said */
	begin(&r, GET);
	emit_head(&r, 1, m);
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "Connection: close\r\n");
	assert_true(codec_http1.done(r.k));
	run_close(&r);
}

/* -- last(): the connection is to end -- */

/* Answers stream `n` with nothing, and writes it out. */
static void answer_shortly(struct run *r, uint32_t n)
{
	emit_head(r, n, answer(200, 0));
	emit_end(r, n);
	run_settle(r);
}

static void between_two_requests_the_next_one_is_the_last(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET);
	answer_shortly(&r, 1);
	codec_http1.last(r.k);
	run_settle(&r);
	assert_false(codec_http1.done(r.k)); /* one that is on its way is served */
	run_feed(&r, TEXT(GET GET));
	assert_has(&r.events, "END 2\n");
	assert_has_not(&r.out, "close");
	assert_false(codec_http1.done(r.k));
	answer_shortly(&r, 2);
	assert_has(&r.out, "Connection: close\r\n");
	assert_has(&r.events, "LEFT 2\n");
	assert_true(codec_http1.done(r.k));
	assert_has_not(&r.events, "HEAD 3");
	run_feed(&r, TEXT(GET));
	assert_has_not(&r.events, "HEAD 3");
	assert_int_equal(r.err, 0);
	run_close(&r);

	begin(&r, ""); /* before the first one */
	codec_http1.last(r.k);
	assert_false(codec_http1.done(r.k));
	run_feed(&r, TEXT(GET));
	answer_shortly(&r, 1);
	assert_has(&r.out, "Connection: close\r\n");
	assert_true(codec_http1.done(r.k));
	run_close(&r);
}

static void a_request_that_is_being_read_is_the_last(void **state)
{
	static const char text[] =
		"POST / HTTP/1.1\r\n" HOST CHUNKED "\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n";
	struct run r;

	(void)state;
	for (size_t cut = 1; cut <= sizeof text - 1; cut++) {
		begin(&r, "");
		run_feed(&r, text, cut);
		codec_http1.last(r.k);
		assert_false(codec_http1.done(r.k));
		run_feed(&r, text + cut, sizeof text - 1 - cut);
		run_feed(&r, TEXT(GET)); /* nobody reads this */
		assert_int_equal(r.err, 0);
		assert_has(&r.events, "BODY 1 ab\nTRAILERS 1");
		assert_has(&r.events, "END 1\n");
		answer_shortly(&r, 1);
		assert_has(&r.out, "Connection: close\r\n");
		assert_true(codec_http1.done(r.k));
		assert_has_not(&r.events, "HEAD 2");
		run_close(&r);
	}
}

static void pipelined_requests_that_are_held_back_are_not_served_any_more(void **state)
{
	struct run r;

	(void)state;
	for (int fin = 0; fin < 2; fin++) {
		begin(&r, GET GET GET);
		assert_true(codec_http1.full(r.k));
		codec_http1.last(r.k);
		if (fin)
			run_finish(&r);
		answer_shortly(&r, 1);
		assert_has(&r.out, "Connection: close\r\n");
		assert_true(codec_http1.done(r.k));
		assert_false(codec_http1.full(r.k));
		assert_has_not(&r.events, "HEAD 2");
		assert_int_equal(r.err, 0);
		run_close(&r);
	}
}

/* Its head is gone: only the end of the connection can tell the client. */
static void an_answer_under_way_is_whole_and_then_it_ends(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET GET);
	emit_head(&r, 1, answer(200, 4));
	emit_body(&r, 1, "ab");
	run_settle(&r);
	codec_http1.last(r.k);
	assert_false(codec_http1.done(r.k));
	emit_body(&r, 1, "cd");
	assert_false(codec_http1.done(r.k));
	emit_end(&r, 1);
	run_settle(&r);
	assert_string_equal(r.out.p, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd");
	assert_true(codec_http1.done(r.k));
	assert_has(&r.events, "LEFT 1\n");
	assert_has_not(&r.events, "HEAD 2");
	run_close(&r);

	begin(&r, GET GET); /* the answer is whole, but not gone */
	emit_head(&r, 1, answer(200, 0));
	emit_end(&r, 1);
	codec_http1.last(r.k);
	assert_true(codec_http1.done(r.k));
	run_settle(&r);
	assert_has_not(&r.events, "HEAD 2");
	run_close(&r);
}

static void an_interim_answer_does_not_say_that_it_is_the_last(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET);
	codec_http1.last(r.k);
	emit_head(&r, 1, answer(103, 0));
	run_settle(&r);
	assert_has_not(&r.out, "close");
	assert_false(codec_http1.done(r.k));
	answer_shortly(&r, 1);
	assert_has(&r.out, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n");
	run_close(&r);
}

static void an_old_client_that_would_stay_is_told_too(void **state)
{
	static const char old[] = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
	struct run r;

	(void)state;
	begin(&r, old);
	answer_shortly(&r, 1);
	assert_has(&r.out, "Connection: keep-alive\r\n");
	codec_http1.last(r.k);
	run_feed(&r, TEXT(old));
	r.out.len = 0;
	answer_shortly(&r, 2);
	assert_has(&r.out, "Connection: close\r\n");
	assert_has_not(&r.out, "keep-alive");
	assert_true(codec_http1.done(r.k));
	run_close(&r);
}

static void a_head_that_takes_too_long_is_refused(void **state)
{
	struct run r;

	(void)state;
	begin(&r, "GET / HT");
	codec_http1.expire(r.k);
	assert_true(codec_http1.done(r.k));
	run_settle(&r);
	assert_has(&r.out, "HTTP/1.1 408 Request Timeout\r\n");
	run_close(&r);

	begin(&r, ""); /* nothing begun: nothing to say */
	codec_http1.expire(r.k);
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	run_close(&r);
}

static void after_a_no_to_expect_the_connection_ends(void **state)
{
	static const char put[] =
		"PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
	struct run r;

	(void)state;
	begin(&r, put);
	assert_has(&r.events, "  Expect: 100-continue\n");
	emit_head(&r, 1, answer(403, 0));
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "Connection: close\r\n");
	assert_true(codec_http1.done(r.k));
	run_close(&r);

	begin(&r, put); /* told to go on */
	emit_head(&r, 1, answer(100, 0));
	emit_head(&r, 1, answer(403, 0));
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "HTTP/1.1 100 \r\n\r\nHTTP/1.1 403 Forbidden\r\n");
	assert_has_not(&r.out, "close");
	run_close(&r);

	begin(&r, put); /* did not wait */
	run_feed(&r, "a", 1);
	emit_head(&r, 1, answer(403, 0));
	emit_end(&r, 1);
	run_settle(&r);
	assert_has_not(&r.out, "close");
	run_close(&r);
}

/* -- writing answers -- */

static void answers_are_framed_for_their_client(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
		int64_t length;
		const char *body, *want;
	} row[] = {
		{GET, 200, 3, "abc", "200 OK\r\nContent-Length: 3\r\n\r\nabc"},
		{GET, 200, 0, NULL, "200 OK\r\nContent-Length: 0\r\n\r\n"},
		{GET, 200, -1, "abc",
		 "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{GET, 200, -1, "", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{GET, 204, 0, NULL, "204 \r\n\r\n"},
		{GET, 304, -1, NULL, "304 \r\n\r\n"},
		{GET, 304, 7, NULL, "304 \r\nContent-Length: 7\r\n\r\n"},
		{"HEAD / HTTP/1.1\r\n" HOST "\r\n", 200, 7, NULL,
		 "200 OK\r\nContent-Length: 7\r\n\r\n"},
		{"HEAD / HTTP/1.1\r\n" HOST "\r\n", 200, -1, NULL, "200 OK\r\n\r\n"},
		{"HEAD / HTTP/1.1\r\n" HOST "\r\n", 403, 3, "abc",
		 "403 Forbidden\r\nContent-Length: 3\r\n\r\n"},
		{"GET / HTTP/1.0\r\n\r\n", 200, -1, "abc",
		 "200 OK\r\nConnection: close\r\n\r\nabc"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, -1, "abc",
		 "200 OK\r\nConnection: close\r\n\r\nabc"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, 3, "abc",
		 "200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"},
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		begin(&r, row[i].request);
		emit_head(&r, 1, answer(row[i].status, row[i].length));
		if (row[i].body != NULL)
			emit_body(&r, 1, row[i].body);
		emit_end(&r, 1);
		run_settle(&r);
		assert_memory_equal(r.out.p, "HTTP/1.1 ", 9);
		assert_string_equal(r.out.p + 9, row[i].want);
		assert_has(&r.events, "LEFT 1");
		run_close(&r);
	}
}

static void interim_answers_pass_but_not_to_old_clients(void **state)
{
	struct run r;

	(void)state;
	begin(&r, GET);
	emit_head(&r, 1, answer(103, 0));
	emit_head(&r, 1, answer(200, 0));
	emit_end(&r, 1);
	run_settle(&r);
	assert_string_equal(r.out.p,
			    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	run_close(&r);
	begin(&r, "GET / HTTP/1.0\r\n\r\n");
	emit_head(&r, 1, answer(103, 0));
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	run_close(&r);
}

static void trailers_follow_only_where_they_have_a_place(void **state)
{
	static const struct field fields[] = {{{"X-Sum", 5}, {"1", 1}}, {{"Host", 4}, {"h", 1}}};
	struct message m = {.fields = fields, .field_count = 2};
	struct run r;

	(void)state;
	begin(&r, GET);
	emit_head(&r, 1, answer(200, -1));
	emit_body(&r, 1, "a");
	assert_int_equal(run_emit(&r, CODEC_EV_TRAILERS, 1, &m, NULL), 0);
	assert_int_equal(run_emit(&r, CODEC_EV_TRAILERS, 1, &m, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "a"), -EINVAL);
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n");
	run_close(&r);
	begin(&r, GET);
	emit_head(&r, 1, answer(200, 1));
	emit_body(&r, 1, "a");
	assert_int_equal(run_emit(&r, CODEC_EV_TRAILERS, 1, &m, NULL), 0);
	emit_end(&r, 1);
	run_settle(&r);
	assert_has(&r.out, "Content-Length: 1\r\n\r\na");
	assert_has_not(&r.out, "X-Sum");
	run_close(&r);
}

static void events_out_of_order_are_not_written(void **state)
{
	struct message ok = answer(200, 3);
	struct message interim = answer(100, 0);
	struct message upgrade = answer(101, 0);
	struct message get = request("GET", "/", 0);
	struct run r;

	(void)state;
	as(&r, CODEC_SERVER);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 0, &ok, NULL), -EINVAL); /* unasked */
	run_close(&r);
	begin(&r, GET);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "x"), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_END, 1, NULL, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 2, &ok, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &upgrade, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &get, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, NULL, NULL), -EINVAL);
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	emit_head(&r, 1, ok);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &ok, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &interim, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "abcd"), -EINVAL); /* too much */
	emit_body(&r, 1, "ab");
	assert_int_equal(run_emit(&r, CODEC_EV_END, 1, NULL, NULL), -EINVAL); /* too little */
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "cd"), -EINVAL);
	emit_body(&r, 1, "c");
	emit_end(&r, 1);
	assert_int_equal(run_emit(&r, CODEC_EV_END, 1, NULL, NULL), -EINVAL);
	run_close(&r);
}

static void a_field_that_would_break_the_head_is_not_written(void **state)
{
	static const struct field evil[] = {
		{{"X", 1}, {"a\r\nSet-Cookie: b", 17}},
		{{"X", 1}, {"a\0b", 3}},
		{{"X: y\r\nZ", 7}, {"a", 1}},
		{{"", 0}, {"a", 1}},
		{{"X", 1}, {"a\nb", 3}},
	};
	struct message m;
	struct run r;

	(void)state;
	begin(&r, GET);
	for (size_t i = 0; i < sizeof evil / sizeof evil[0]; i++) {
		m = answer(200, 0);
		m.fields = &evil[i];
		m.field_count = 1;
		assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &m, NULL), -EINVAL);
	}
	m = answer(200, 0);
	m.reason_phrase = (struct slice){"a\r\nb", 4};
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &m, NULL), -EINVAL);
	assert_int_equal(codec_http1.pending(r.k).len, 0);
	run_close(&r);
	as(&r, CODEC_CLIENT);
	m = request("GET", "/ HTTP/1.1\r\nX: y", 0);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &m, NULL), -EINVAL);
	m = request("GET", "/a b", 0);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &m, NULL), -EINVAL);
	m = request("G T", "/", 0);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, &m, NULL), -EINVAL);
	run_close(&r);
}

static void framing_fields_of_the_emitter_are_not_written(void **state)
{
	static const struct field fields[] = {
		{{"Content-Length", 14}, {"9", 1}},
		{{"connection", 10}, {"close", 5}},
		{{"Transfer-Encoding", 17}, {"x", 1}},
		{{"Upgrade", 7}, {"x", 1}},
		{{"X", 1}, {"y", 1}},
	};
	struct message m = answer(200, 0);
	struct run r;

	(void)state;
	begin(&r, GET);
	m.fields = fields;
	m.field_count = 5;
	emit_head(&r, 1, m);
	emit_end(&r, 1);
	run_settle(&r);
	assert_string_equal(r.out.p, "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n");
	run_close(&r);
}

/* -- writing requests -- */

static void requests_are_framed_by_their_length(void **state)
{
	static const struct {
		const char *method;
		int64_t length;
		bool given;
		const char *body, *want;
	} row[] = {
		{"GET", 0, false, NULL, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET", 0, true, NULL, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"POST", 0, false, NULL, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"FOO", 2, true, "ok", "FOO / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"},
		{"GET", -1, false, "ok",
		 "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "2\r\nok\r\n0\r\n\r\n"},
	};
	struct message m;
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		as(&r, CODEC_CLIENT);
		m = request(row[i].method, "/", row[i].length);
		m.length_given = row[i].given;
		emit_head(&r, 1, m);
		if (row[i].body != NULL)
			emit_body(&r, 1, row[i].body);
		emit_end(&r, 1);
		run_settle(&r);
		assert_string_equal(r.out.p, row[i].want);
		run_close(&r);
	}
}

/* Every event of `from` (drained of what was fed) into `to`. */
static void relay(struct codec *from, struct run *to, uint32_t stream)
{
	struct codec_event ev;

	while (codec_http1.next(from, &ev)) {
		ev.stream = stream;
		if (ev.type != CODEC_EV_LEFT)
			assert_int_equal(codec_http1.emit(to->k, &ev), 0);
	}
}

static void a_request_that_is_passed_on_reads_the_same_behind_us(void **state)
{
	static const struct {
		const char *in, *out;
	} row[] = {
		{"GET /a?b HTTP/1.1\r\nX: 1\r\nhOst: h\r\nCookie: c\r\nX: 2\r\n\r\n",
		 "GET /a?b HTTP/1.1\r\nX: 1\r\nhOst: h\r\nCookie: c\r\nX: 2\r\n\r\n"},
		{"GET http://b/a HTTP/1.1\r\nX: 1\r\nHost: h\r\n\r\n",
		 "GET /a HTTP/1.1\r\nX: 1\r\nHost: b\r\n\r\n"},
		{"OPTIONS http://b HTTP/1.1\r\nHost: h\r\n\r\n",
		 "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"},
		{"GET / HTTP/1.0\r\nX: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\nX: 1\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTransfer-Encoding: ChunkeD\r\n\r\n"
		 "3;x\r\nabc\r\n0\r\nX: y\r\n\r\n",
		 "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n"
		 "Connection: TE\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"},
		{"PUT /%2e%2E/#x HTTP/1.1\r\nHost: h\r\n\r\n", NULL},
		{"PUT /..%2f//\\ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok",
		 "PUT /..%2f//\\ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"},
	};
	struct run in, out;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		struct slice text = {row[i].in, strlen(row[i].in)};
		int err;

		as(&in, CODEC_SERVER);
		as(&out, CODEC_CLIENT);
		err = codec_http1.feed(in.k, text);
		if (row[i].out == NULL) {
			assert_int_equal(err, CODEC_MALFORMED);
		} else {
			assert_int_equal(err, 0);
			relay(in.k, &out, 1);
			run_settle(&out);
			assert_string_equal(out.out.p, row[i].out);
		}
		run_close(&in);
		run_close(&out);
	}
}

static void an_answer_that_is_passed_on_reads_the_same_before_us(void **state)
{
	static const char text[] =
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
		"HTTP/1.1 200 Fine\r\nServer: s\r\nTransfer-Encoding: chunked\r\n"
		"Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
	struct run up, down, back;
	struct message m = request("GET", "/", 0);
	struct trace want = {0};

	(void)state;
	begin(&down, GET);
	as(&up, CODEC_CLIENT);
	emit_head(&up, 1, m);
	emit_end(&up, 1);
	assert_int_equal(codec_http1.feed(up.k, (struct slice){TEXT(text)}), 0);
	relay(up.k, &down, 1);
	run_settle(&down);
	assert_true(codec_http1.done(up.k));
	assert_string_equal(down.out.p,
			    "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
			    "HTTP/1.1 200 Fine\r\nServer: s\r\nTransfer-Encoding: chunked\r\n"
			    "Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n");
	read_back(&back, "GET", &down.out);
	assert_int_equal(back.err, 0);
	trace_free(&want);
	run_close(&back);
	run_close(&up);
	run_close(&down);
}

/* -- reading answers -- */

static void what_was_asked_says_how_the_answer_is_read(void **state)
{
	struct run r;

	(void)state;
	play_every_way(&r, CODEC_CLIENT, /* GET, HEAD, POST */
		       TEXT("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
			    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
			    "HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\n"));
	assert_int_equal(r.err, 0);
	assert_string_equal(r.events.p,
			    "HEAD 1 wire=38 status=200 reason=OK version=11 length=2 given\n"
			    "BODY 1 hi\nEND 1\n"
			    "HEAD 2 wire=38 status=200 reason=OK version=11 length=2 given\nEND 2\n"
			    "HEAD 3 wire=40 status=204 reason=None version=11 length=0 given\n"
			    "END 3\n");
	run_close(&r);
}

static void answers_that_cannot_be_read_are_refused_without_a_word(void **state)
{
	static const struct {
		const char *what, *text;
		int err;
	} row[] = {
#define R200 "HTTP/1.1 200 OK\r\n"
		{"one answer too many",
		 R200 "Content-Length: 0\r\n\r\n" R200 "\r\n" R200 "Content-Length: 0\r\n\r\n" R200,
		 CODEC_MALFORMED},
		{"101", "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		 CODEC_UNSUPPORTED},
		{"another coding", R200 "Transfer-Encoding: gzip, chunked\r\n\r\n",
		 CODEC_UNSUPPORTED},
		{"CL and TE", R200 CHUNKED "Content-Length: 1\r\n\r\n0\r\n\r\n", CODEC_MALFORMED},
		{"two lengths", R200 "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		 CODEC_MALFORMED},
		{"TE in HTTP/1.0", "HTTP/1.0 200 OK\r\n" CHUNKED "\r\n0\r\n\r\n", CODEC_MALFORMED},
		{"obs-fold", R200 "X: a\r\n b\r\n\r\n", CODEC_MALFORMED},
		{"LF only", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", CODEC_MALFORMED},
		{"status 99", "HTTP/1.1 099 OK\r\n\r\n", CODEC_MALFORMED},
		{"status 600", "HTTP/1.1 600 OK\r\n\r\n", CODEC_MALFORMED},
		{"a long status", "HTTP/1.1 2000 OK\r\n\r\n", CODEC_MALFORMED},
		{"no status", "HTTP/1.1 OK\r\n\r\n", CODEC_MALFORMED},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", CODEC_UNSUPPORTED},
		{"another protocol", "220 smtp.example\r\n", CODEC_NOT_READABLE},
		{"cut in the head", "HTTP/1.1 200 O", CODEC_CUT},
		{"cut in the content", R200 "Content-Length: 3\r\n\r\nab", CODEC_CUT},
		{"cut in a chunk", R200 CHUNKED "\r\n3\r\nab", CODEC_CUT},
		{"no answer", "", CODEC_CUT},
		{"no second answer", R200 "Content-Length: 0\r\n\r\n", CODEC_CUT},
	};
	struct run r;
	size_t asked;

	(void)state;
	as(&r, CODEC_CLIENT);
	run_ask(&r);
	asked = r.out.len;
	run_close(&r);
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		play_every_way(&r, CODEC_CLIENT, row[i].text, strlen(row[i].text));
		if (r.err != row[i].err)
			fail_msg("%s: %d, not %d", row[i].what, r.err, row[i].err);
		assert_int_equal(r.out.len, asked);
		assert_true(codec_http1.done(r.k));
		run_close(&r);
	}
}

static void a_server_connection_says_whether_it_may_be_used_again(void **state)
{
	static const struct {
		const char *text;
		bool whole; /* the request, when the answer comes */
		bool done;
	} row[] = {
		{R200 "Content-Length: 0\r\n\r\n", true, false},
		{R200 "Content-Length: 0\r\n\r\n", false, true},
		{R200 "Content-Length: 0\r\nConnection: close\r\n\r\n", true, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true,
		 false},
		{"HTTP/1.1 100 C\r\nConnection: close\r\n\r\n" R200 "Content-Length: 0\r\n\r\n",
		 true, false},
	};
	struct run r;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
		struct message m = request("POST", "/", 3);

		as(&r, CODEC_CLIENT);
		emit_head(&r, 1, m);
		emit_body(&r, 1, row[i].whole ? "abc" : "ab");
		if (row[i].whole)
			emit_end(&r, 1);
		run_settle(&r);
		run_feed(&r, row[i].text, strlen(row[i].text));
		assert_has(&r.events, "END 1");
		assert_has_not(&r.events, "LEFT");
		assert_int_equal(r.err, 0);
		assert_int_equal(codec_http1.done(r.k), row[i].done);
		assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 2, &m, NULL),
				 row[i].done ? -EINVAL : 0);
		run_close(&r);
	}
}

static void an_interim_answer_decides_nothing(void **state)
{
	struct message m = request("GET", "/", 0);
	struct run r;

	(void)state;
	as(&r, CODEC_CLIENT);
	emit_head(&r, 1, m);
	emit_end(&r, 1);
	run_settle(&r);
	run_feed(&r, TEXT("HTTP/1.1 103 E\r\nConnection: close\r\n\r\n"));
	assert_false(codec_http1.done(r.k));
	emit_head(&r, 2, m);
	run_close(&r);
}

static void a_tunnel_begins_after_a_good_answer_to_connect(void **state)
{
	struct message m = request("CONNECT", "b:1", 0);
	struct codec_event ev;
	struct run r;
	struct slice rest;

	(void)state;
	for (int good = 0; good <= 1; good++) {
		as(&r, CODEC_CLIENT);
		emit_head(&r, 1, m);
		emit_end(&r, 1);
		run_settle(&r);
		assert_string_equal(r.out.p, "CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n");
		run_feed(&r,
			 good ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nrest"
			      : "HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nrest",
			 42);
		assert_int_equal(r.err, 0);
		rest = codec_http1.rest(r.k);
		assert_int_equal(rest.len, good ? 4 : 0);
		if (good)
			assert_has_not(&r.events, "END");
		else
			assert_has(&r.events, "BODY 1 rest\nEND 1");
		assert_false(codec_http1.next(r.k, &ev));
		run_close(&r);
	}
}

static void a_field_is_found_by_its_name_in_any_case(void **state)
{
	struct codec_event ev;
	struct run r;

	(void)state;
	as(&r, CODEC_SERVER);
	assert_int_equal(codec_http1.feed(r.k, (struct slice){TEXT(REQ HOST "A: 1\r\na: 2\r\nE:\r\n"
									    "\r\n")}),
			 0);
	assert_true(codec_http1.next(r.k, &ev));
	assert_true(slice_is(message_field(ev.head, "a"), "1"));
	assert_true(slice_is_nocase(message_field(ev.head, "HOST"), "A.Example"));
	assert_non_null(message_field(ev.head, "e").p);
	assert_null(message_field(ev.head, "nobody").p);
	assert_int_equal(codec_http1.credit(r.k, 1, 5), 0);
	run_close(&r);
}

/* -- memory -- */

static int drop(struct codec *k, int err)
{
	struct codec_event ev;

	while (codec_http1.next(k, &ev))
		if (ev.type == CODEC_EV_FAILED)
			err = ev.error;
	return err;
}

static int emit(struct codec *k, enum codec_event_type type, uint32_t stream,
		const struct message *m, struct slice data)
{
	return codec_http1.emit(
		k, &(struct codec_event){.type = type, .stream = stream, .head = m, .data = data});
}

static char big[9000];

/* Two pipelined requests with big heads, trailers, pieces; two answers. */
static int serve(void)
{
	static const char rest[] =
		"\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n1\r\nf\r\n"
		"0\r\nX: y\r\n\r\n" GET;
	struct codec *k = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	struct message m = answer(200, -1);
	int err;

	if (k == NULL)
		return -ENOMEM;
	err = drop(k, codec_http1.feed(k, (struct slice){TEXT(POST CHUNKED "X: ")}));
	if (err == 0)
		err = drop(k, codec_http1.feed(k, (struct slice){big, sizeof big}));
	if (err == 0)
		err = drop(k, codec_http1.feed(k, (struct slice){TEXT("\r\n")}));
	if (err == 0)
		err = codec_http1.feed(k, (struct slice){rest, sizeof rest - 1});
	err = drop(k, err);
	for (uint32_t i = 1; i <= 2 && err == 0; i++) {
		err = emit(k, CODEC_EV_HEAD, i, &m, (struct slice){NULL, 0});
		if (err == 0)
			err = emit(k, CODEC_EV_BODY, i, NULL, (struct slice){big, sizeof big});
		if (err == 0)
			err = emit(k, CODEC_EV_END, i, NULL, (struct slice){NULL, 0});
		if (err == 0)
			err = drop(k, codec_http1.sent(k, codec_http1.pending(k).len));
	}
	codec_http1.close(k);
	return err;
}

/* A head whose fields do not fit beside its text. */
static int serve_many_fields(void)
{
	struct codec *k = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	int err;

	if (k == NULL)
		return -ENOMEM;
	err = codec_http1.feed(k, (struct slice){TEXT(REQ HOST)});
	for (int i = 0; i < 150 && err == 0; i++)
		err = codec_http1.feed(k, (struct slice){TEXT("A:b\r\n")});
	if (err == 0)
		err = codec_http1.feed(k, (struct slice){TEXT("\r\n")});
	err = drop(k, err);
	codec_http1.close(k);
	codec_http1.close(NULL);
	return err;
}

static int ask(void)
{
	static const char text[] = R200 CHUNKED "\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n"
						"1\r\ne\r\n1\r\nf\r\n1\r\ng\r\n0\r\nX: y\r\n\r\n";
	struct codec *k = codec_http1.open(CODEC_CLIENT, &codec_limits_default, NULL);
	struct message m = request("GET", "/", 0);
	int err;

	if (k == NULL)
		return -ENOMEM;
	err = emit(k, CODEC_EV_HEAD, 1, &m, (struct slice){NULL, 0});
	if (err == 0)
		err = emit(k, CODEC_EV_END, 1, NULL, (struct slice){NULL, 0});
	if (err == 0)
		err = codec_http1.feed(k, (struct slice){text, sizeof text - 1});
	err = drop(k, err);
	codec_http1.close(k);
	return err;
}

static void fail_each(int (*scenario)(void))
{
	unsigned n;
	int rc;

	for (n = 1;; n++) {
		failmalloc_at(n);
		rc = scenario();
		if (!failmalloc_hit())
			break;
		assert_int_equal(rc, -ENOMEM);
	}
	assert_int_equal(rc, 0);
	assert_true(n > 3);
}

static void each_allocation_that_fails_is_reported(void **state)
{
	(void)state;
	memset(big, 'x', sizeof big);
	fail_each(serve);
	fail_each(serve_many_fields);
	fail_each(ask);
}

static void a_goodbye_that_has_no_room_is_left_out(void **state)
{
	(void)state;
	for (unsigned n = 1; n < 20; n++) {
		struct codec *k;
		int err;

		failmalloc_at(n);
		k = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
		if (k == NULL)
			continue;
		err = codec_http1.feed(k, (struct slice){TEXT("GET /#x HTTP/1.1\r\n")});
		assert_true(err == CODEC_MALFORMED || err == -ENOMEM);
		assert_true(codec_http1.done(k));
		codec_http1.close(k);
	}
	failmalloc_at(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_that_a_codec_knows_is_found),
		cmocka_unit_test(a_request_is_read_into_its_parts),
		cmocka_unit_test(the_same_bytes_in_any_pieces_are_the_same_events),
		cmocka_unit_test(content_is_not_copied),
		cmocka_unit_test(a_method_is_any_token),
		cmocka_unit_test(fields_of_one_connection_are_taken_out),
		cmocka_unit_test(an_absolute_target_wins_over_host),
		cmocka_unit_test(connect_has_a_head_and_the_rest_is_kept),
		cmocka_unit_test(what_is_malformed_is_refused_however_it_is_cut),
		cmocka_unit_test(after_a_good_request_the_next_is_judged_alike),
		cmocka_unit_test(unreadable_bytes_are_known_by_the_first_of_them),
		cmocka_unit_test(an_http2_client_is_told_to_speak_http1),
		cmocka_unit_test(events_before_the_malformed_byte_count),
		cmocka_unit_test(an_answer_that_has_begun_gets_no_goodbye),
		cmocka_unit_test(a_goodbye_to_head_has_no_content),
		cmocka_unit_test(a_head_over_the_limit_is_refused_before_its_end),
		cmocka_unit_test(a_chunk_extension_is_bounded),
		cmocka_unit_test(connection_may_name_only_so_many_fields),
		cmocka_unit_test(interim_answers_do_not_pile_up),
		cmocka_unit_test(a_pipelined_request_waits_for_the_answer_before_it),
		cmocka_unit_test(left_comes_with_sent_even_if_the_end_wrote_nothing),
		cmocka_unit_test(an_early_answer_leaves_the_rest_of_the_request_to_be_read),
		cmocka_unit_test(a_fin_counts_after_the_bytes_that_are_held),
		cmocka_unit_test(a_connection_ends_when_its_client_says_so),
		cmocka_unit_test(after_a_no_to_expect_the_connection_ends),
		cmocka_unit_test(answers_are_framed_for_their_client),
		cmocka_unit_test(interim_answers_pass_but_not_to_old_clients),
		cmocka_unit_test(trailers_follow_only_where_they_have_a_place),
		cmocka_unit_test(events_out_of_order_are_not_written),
		cmocka_unit_test(a_field_that_would_break_the_head_is_not_written),
		cmocka_unit_test(framing_fields_of_the_emitter_are_not_written),
		cmocka_unit_test(requests_are_framed_by_their_length),
		cmocka_unit_test(a_request_that_is_passed_on_reads_the_same_behind_us),
		cmocka_unit_test(an_answer_that_is_passed_on_reads_the_same_before_us),
		cmocka_unit_test(what_was_asked_says_how_the_answer_is_read),
		cmocka_unit_test(answers_that_cannot_be_read_are_refused_without_a_word),
		cmocka_unit_test(a_server_connection_says_whether_it_may_be_used_again),
		cmocka_unit_test(an_interim_answer_decides_nothing),
		cmocka_unit_test(a_tunnel_begins_after_a_good_answer_to_connect),
		cmocka_unit_test(a_field_is_found_by_its_name_in_any_case),
		cmocka_unit_test(a_connection_ends_when_the_answer_says_so),
		cmocka_unit_test(between_two_requests_the_next_one_is_the_last),
		cmocka_unit_test(a_request_that_is_being_read_is_the_last),
		cmocka_unit_test(pipelined_requests_that_are_held_back_are_not_served_any_more),
		cmocka_unit_test(an_answer_under_way_is_whole_and_then_it_ends),
		cmocka_unit_test(an_interim_answer_does_not_say_that_it_is_the_last),
		cmocka_unit_test(an_old_client_that_would_stay_is_told_too),
		cmocka_unit_test(a_head_that_takes_too_long_is_refused),
		cmocka_unit_test(each_allocation_that_fails_is_reported),
		cmocka_unit_test(a_goodbye_that_has_no_room_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
