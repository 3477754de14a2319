/* SPDX-License-Identifier: Apache-2.0 */
/* What a hop that shows itself writes into a head: the bytes that come out of a codec. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec_trace.h"
#include "failmalloc.h"
#include "proxy/addr.h"
#include "proxy/forwarding.h"

static struct addr16 v4;

/* What the server of `in` gets, with these options. */
static char *passed_on(const char *in, const struct options *o, const struct addr16 *client)
{
	struct codec *down = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	struct codec *up = codec_http1.open(CODEC_CLIENT, &codec_limits_default, NULL);
	struct codec_event ev;
	struct forwarding f;
	struct slice out;
	char *text;

	assert_int_equal(codec_http1.feed(down, (struct slice){in, strlen(in)}), 0);
	assert_true(codec_http1.next(down, &ev));
	assert_int_equal(forwarding_request(&f, ev.head, o, client, htons(8080)), 0);
	ev.head = &f.head;
	assert_int_equal(codec_http1.emit(up, &ev), 0);
	forwarding_free(&f);
	out = codec_http1.pending(up);
	text = strndup(out.p, out.len);
	codec_http1.close(down);
	codec_http1.close(up);
	return text;
}

static void assert_passed(const char *in, const struct options *o, const struct addr16 *client,
			  const char *out)
{
	char *got = passed_on(in, o, client);

	assert_string_equal(got, out);
	free(got);
}

#define OLD                                                                                        \
	"Via: 1.0 gate\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=x\r\nMax-Forwards: 3\r\n"   \
	"X-Forwarded-Proto: https\r\nX-FORWARDED-HOST: b\r\nX-Forwarded-Port: 1\r\n"
#define KEPT "Via: 1.0 gate\r\nMax-Forwards: 3\r\n"

static void unless_asked_for_nothing_changes(void **state)
{
	const struct options o = {.via = false};

	(void)state;
	assert_false(forwarding_is_on(&o));
	assert_passed("GET / HTTP/1.1\r\nHost: a\r\n" OLD "\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: a\r\n" OLD "\r\n");
}

static void via_is_appended_with_the_version_that_came(void **state)
{
	const struct options o = {.via = true};

	(void)state;
	assert_true(forwarding_is_on(&o));
	assert_passed("GET / HTTP/1.1\r\nHost: a\r\n" OLD "\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: a\r\n" OLD "Via: 1.1 shunt\r\n\r\n");
	assert_passed("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 shunt\r\n\r\n");
}

static void a_response_gets_via_too(void **state)
{
	static const struct field fields[] = {{{"Via", 3}, {"1.1 inner", 9}}};
	struct message head = {
		.status = 200, .version = MESSAGE_HTTP10, .fields = fields, .field_count = 1};
	struct message out;

	(void)state;
	forwarding_response(&out, &head);
	assert_int_equal(out.field_count, 1);
	assert_int_equal(out.added_count, 1);
	assert_true(slice_is(out.added[0].name, "Via"));
	assert_true(slice_is(out.added[0].value, "1.0 shunt"));
	head.version = MESSAGE_HTTP11;
	forwarding_response(&out, &head);
	assert_true(slice_is(out.added[0].value, "1.1 shunt"));
}

static void forwarded_replaces_what_the_client_said_of_itself(void **state)
{
	const struct options o = {.forwarded = FORWARDED_STANDARD};
	struct addr16 v6;

	(void)state;
	assert_passed("GET / HTTP/1.1\r\nHost: a:80\r\n" OLD "\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: a:80\r\n" KEPT
		      "Forwarded: for=10.0.0.1;proto=http;host=\"a:80\"\r\n\r\n");
	assert_int_equal(inet_pton(AF_INET6, "fd00:78::11", &v6), 1);
	assert_passed("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", &o, &v6,
		      "GET / HTTP/1.1\r\nHost: [::1]:80\r\n"
		      "Forwarded: for=\"[fd00:78::11]\";proto=http;host=\"[::1]:80\"\r\n\r\n");
	assert_passed("GET / HTTP/1.1\r\nHost:\r\n\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: \r\nForwarded: for=10.0.0.1;proto=http\r\n\r\n");
}

static void so_do_the_fields_that_begin_with_x(void **state)
{
	const struct options o = {.via = true, .forwarded = FORWARDED_X};
	struct addr16 v6;

	(void)state;
	assert_passed("GET / HTTP/1.1\r\nHost: a:80\r\n" OLD "\r\n", &o, &v4,
		      "GET / HTTP/1.1\r\nHost: a:80\r\n" KEPT "Via: 1.1 shunt\r\n"
		      "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n"
		      "X-Forwarded-Host: a:80\r\nX-Forwarded-Port: 8080\r\n\r\n");
	assert_int_equal(inet_pton(AF_INET6, "fd00:78::11", &v6), 1);
	assert_passed("GET / HTTP/1.0\r\n\r\n", &o, &v6,
		      "GET / HTTP/1.1\r\nHost: \r\nVia: 1.0 shunt\r\n"
		      "X-Forwarded-For: fd00:78::11\r\nX-Forwarded-Proto: http\r\n"
		      "X-Forwarded-Port: 8080\r\n\r\n");
}

/* Names that CGI reads as ours, and a second place for fields. */
static void what_reads_like_such_a_field_goes_too(void **state)
{
	static const char in[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
				 "X_Forwarded-For: b\r\nx_forwarded_proto: https\r\nX: y\r\n\r\n"
				 "0\r\nForwarded: for=b\r\nz: 1\r\nX_FORWARDED_FOR: b\r\n\r\n";
	const struct options o = {.forwarded = FORWARDED_STANDARD};
	struct codec *down = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	struct codec *up = codec_http1.open(CODEC_CLIENT, &codec_limits_default, NULL);
	struct codec_event ev;
	struct forwarding f;
	struct message trailers;
	struct slice out;

	(void)state;
	assert_int_equal(codec_http1.feed(down, (struct slice){in, sizeof in - 1}), 0);
	assert_true(codec_http1.next(down, &ev));
	assert_int_equal(forwarding_request(&f, ev.head, &o, &v4, 0), 0);
	ev.head = &f.head;
	assert_int_equal(codec_http1.emit(up, &ev), 0);
	forwarding_free(&f);
	assert_true(codec_http1.next(down, &ev));
	forwarding_trailers(&trailers, ev.head, &o);
	ev.head = &trailers;
	assert_int_equal(codec_http1.emit(up, &ev), 0);
	assert_true(codec_http1.next(down, &ev));
	assert_int_equal(codec_http1.emit(up, &ev), 0);
	out = codec_http1.pending(up);
	assert_true(slice_is(out, "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n"
				  "Forwarded: for=10.0.0.1;proto=http;host=\"a\"\r\n"
				  "Transfer-Encoding: chunked\r\n\r\n0\r\nz: 1\r\n\r\n"));
	codec_http1.close(down);
	codec_http1.close(up);
}

/* { what a client sends, what goes on; NULL: it ends here } */
static const struct {
	const char *method, *hops, *left;
} hops[] = {
	{"OPTIONS", "0", NULL},	 {"TRACE", "0", NULL},
	{"TRACE", "000", NULL},	 {"OPTIONS", "1", "0"},
	{"TRACE", "10", "9"},	 {"OPTIONS", "99999999999999999999999999", "2147483646"},
	{"GET", "0", "0"},	 {"options", "0", "0"},
	{"OPTIONS", "-1", "-1"}, {"OPTIONS", "1 2", "1 2"},
	{"OPTIONS", "", ""},
};

static void max_forwards_is_counted_down_to_the_end(void **state)
{
	const struct options off = {.forwarded = FORWARDED_X}, on = {.via = true};

	(void)state;
	for (size_t i = 0; i < sizeof hops / sizeof hops[0]; i++) {
		struct field field = {{"max-Forwards", 12}, {hops[i].hops, strlen(hops[i].hops)}};
		struct message head = {.method = {hops[i].method, strlen(hops[i].method)},
				       .version = MESSAGE_HTTP11,
				       .fields = &field,
				       .field_count = 1};
		char in[256], out[256];

		assert_false(forwarding_ends_here(&off, &head));
		assert_int_equal(forwarding_ends_here(&on, &head), hops[i].left == NULL);
		if (hops[i].left == NULL)
			continue;
		snprintf(in, sizeof in, "%s / HTTP/1.1\r\nHost: a\r\nMax-Forwards: %s\r\n\r\n",
			 hops[i].method, hops[i].hops);
		snprintf(out, sizeof out,
			 "%s / HTTP/1.1\r\nHost: a\r\nMax-Forwards: %s\r\nVia: 1.1 shunt\r\n\r\n",
			 hops[i].method, hops[i].left);
		assert_passed(in, &on, &v4, out);
	}
}

static void a_trace_reflects_the_request_without_its_secrets(void **state)
{
	static const struct field fields[] = {
		{{"Host", 4}, {"a", 1}},
		{{"Cookie", 6}, {"b=c", 3}},
		{{"AUTHORIZATION", 13}, {"d", 1}},
		{{"Proxy-Authorization", 19}, {"e", 1}},
		{{"X", 1}, {"", 0}},
	};
	struct message head = {.method = {"TRACE", 5},
			       .target = {"/?x", 3},
			       .version = MESSAGE_HTTP11,
			       .fields = fields,
			       .field_count = 5};
	struct text t = {0};

	(void)state;
	forwarding_trace(&t, &head);
	assert_string_equal(text_string(&t), "TRACE /?x HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n");
	text_free(&t);
}

static void memory_that_is_short_is_told(void **state)
{
	const struct options o = {.forwarded = FORWARDED_X};
	struct message head = {.method = {"GET", 3}, .authority = {"a", 1}};
	struct forwarding f;

	(void)state;
	failmalloc_at(1);
	assert_int_equal(forwarding_request(&f, &head, &o, &v4, 0), -ENOMEM);
	assert_true(failmalloc_hit());
	forwarding_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unless_asked_for_nothing_changes),
		cmocka_unit_test(via_is_appended_with_the_version_that_came),
		cmocka_unit_test(a_response_gets_via_too),
		cmocka_unit_test(forwarded_replaces_what_the_client_said_of_itself),
		cmocka_unit_test(so_do_the_fields_that_begin_with_x),
		cmocka_unit_test(what_reads_like_such_a_field_goes_too),
		cmocka_unit_test(max_forwards_is_counted_down_to_the_end),
		cmocka_unit_test(a_trace_reflects_the_request_without_its_secrets),
		cmocka_unit_test(memory_that_is_short_is_told),
	};

	v4 = addr_from_v4(htonl(0x0a000001));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
