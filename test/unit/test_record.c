/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#include "proxy/record.h"

#define S(text) ((struct slice){(text), sizeof(text) - 1})

static struct endpoint endpoint4(const char *ip, uint16_t port)
{
	struct endpoint e = {.family = AF_INET, .port = htons(port)};

	e.ip.word[2] = htonl(0xffff);
	assert_int_equal(inet_pton(AF_INET, ip, &e.ip.word[3]), 1);
	return e;
}

static struct endpoint endpoint6(const char *ip, uint16_t port)
{
	struct endpoint e = {.family = AF_INET6, .port = htons(port)};

	assert_int_equal(inet_pton(AF_INET6, ip, &e.ip), 1);
	return e;
}

/* 2026-10-05T10:15:02.114203117Z */
#define WHEN (1791195302 * UINT64_C(1000000000) + 114203117)

static struct record a_request(void)
{
	return (struct record){
		.type = RECORD_REQUEST,
		.direction = DIRECTION_EGRESS,
		.start_time = WHEN,
		.src = {endpoint4("10.244.1.7", 40122), S("cart-6d4f8"), S("shop"),
			S("spiffe://cluster.local/ns/shop/sa/cart"), S("cart")},
		.dst = {endpoint4("10.244.1.9", 8080), S("pay-7c9b5"), S("shop"),
			S("spiffe://cluster.local/ns/shop/sa/pay"), S("pay")},
		.backend = endpoint4("10.244.1.9", 8080),
		.security = SECURITY_LOCAL,
		.protocol = S("HTTP/1.1"),
		.method = S("POST"),
		.authority = S("pay.shop"),
		.path = S("/v1/charge"),
		.worker = 2,
		.conn = 88213,
		.stream = 4,
		.status = 200,
		.request_header_bytes = 184,
		.request_body_bytes = 328,
		.response_header_bytes = 121,
		.response_body_bytes = 98,
		.bytes_sent = 512,
		.bytes_recv = 219,
		.policy = S("shop/allow-cart"),
		.rule = S("conf.d/20-pay.yaml:14"),
		.attempts = 1,
		.accel = S("copy"),
		.accel_reason = S("l7"),
		.reused = true,
		.t = {[CLOCK_OF_QUEUE] = 31207,
		      [CLOCK_OF_POLICY] = 8412,
		      [CLOCK_OF_WORK] = 52630,
		      [CLOCK_OF_SEND] = 1904,
		      [CLOCK_OF_WAIT] = 11903518},
	};
}

static struct record a_kernel_denial(void)
{
	return (struct record){
		.type = RECORD_CONNECTION,
		.direction = DIRECTION_EGRESS,
		.start_time = WHEN,
		.src = {endpoint4("10.244.1.66", 0), S("intruder"), S("shop"),
			S("spiffe://cluster.local/ns/shop/sa/intruder"), S("intruder")},
		.dst = {.addr = endpoint4("10.244.1.14", 8080), .workload = S("api-1")},
		.protocol = S("TCP"),
		.denied = true,
		.policy = S("shop/api-l7"),
		.rule = S("conf.d/20-api.yaml:3"),
		.reason = REASON_POLICY_L4,
		.accel = S("none"),
		.pid = 4171,
		.comm = S("curl"),
		.cgroup = S("/kubepods/pod0b1d2/intruder"),
		.errno_value = ECONNREFUSED,
		.suppressed = 12,
		.t = {[CLOCK_OF_POLICY] = 1873},
	};
}

static void expect_line(const struct record *r, const char *line)
{
	struct text t = {0};

	record_json(&t, r, "n1");
	assert_false(text_failed(&t));
	assert_string_equal(t.p, line);
	text_free(&t);
}

static void a_request_reads(void **state)
{
	struct record r = a_request();

	(void)state;
	expect_line(&r,
		    "{\"start_time\":\"2026-10-05T10:15:02.114203117Z\",\"type\":\"request\","
		    "\"direction\":\"outbound\",\"src.addr\":\"10.244.1.7:40122\","
		    "\"src.workload\":\"cart-6d4f8\",\"src.namespace\":\"shop\","
		    "\"src.identity\":\"spiffe://cluster.local/ns/shop/sa/cart\","
		    "\"dst.addr\":\"10.244.1.9:8080\",\"dst.workload\":\"pay-7c9b5\","
		    "\"dst.namespace\":\"shop\","
		    "\"dst.identity\":\"spiffe://cluster.local/ns/shop/sa/pay\","
		    "\"backend\":\"10.244.1.9:8080\",\"security\":\"local\","
		    "\"protocol\":\"HTTP/1.1\",\"method\":\"POST\",\"authority\":\"pay.shop\","
		    "\"path\":\"/v1/charge\",\"conn_id\":\"n1-2-88213\",\"stream_id\":4,"
		    "\"status\":200,\"request_header_bytes\":184,\"request_body_bytes\":328,"
		    "\"response_header_bytes\":121,\"response_body_bytes\":98,\"bytes_sent\":512,"
		    "\"bytes_recv\":219,\"verdict\":\"allowed\",\"policy\":\"shop/allow-cart\","
		    "\"rule\":\"conf.d/20-pay.yaml:14\",\"attempts\":1,\"accel\":\"copy\","
		    "\"accel_reason\":\"l7\",\"reused\":true,\"drop_count\":0,\"t_accept\":0,"
		    "\"t_queue\":31207,\"t_head\":0,\"t_policy\":8412,\"t_work\":52630,"
		    "\"t_connect\":0,\"t_tls\":0,\"t_body\":0,\"t_send\":1904,"
		    "\"t_wait\":11903518,\"t_recv\":0,\"t_flush\":0,\"t_open\":0,"
		    "\"t_proxy\":92249,\"t_total\":11997671}");
}

static void a_denied_request_names_rule_reason_and_reading(void **state)
{
	struct record r = a_request();

	(void)state;
	r.direction = DIRECTION_INGRESS;
	r.backend = (struct endpoint){0};
	r.method = S("GET");
	r.path = S("/public/..%2fadmin");
	r.status = 403;
	r.denied = true;
	r.reason = REASON_POLICY_L7;
	r.reading = S("lenient");
	r.attempts = 0;
	r.reused = false;
	memset(r.t, 0, sizeof r.t);
	r.t[CLOCK_OF_POLICY] = 11377;
	expect_line(&r,
		    "{\"start_time\":\"2026-10-05T10:15:02.114203117Z\",\"type\":\"request\","
		    "\"direction\":\"inbound\",\"src.addr\":\"10.244.1.7:40122\","
		    "\"src.workload\":\"cart-6d4f8\",\"src.namespace\":\"shop\","
		    "\"src.identity\":\"spiffe://cluster.local/ns/shop/sa/cart\","
		    "\"dst.addr\":\"10.244.1.9:8080\",\"dst.workload\":\"pay-7c9b5\","
		    "\"dst.namespace\":\"shop\","
		    "\"dst.identity\":\"spiffe://cluster.local/ns/shop/sa/pay\","
		    "\"security\":\"local\",\"protocol\":\"HTTP/1.1\",\"method\":\"GET\","
		    "\"authority\":\"pay.shop\",\"path\":\"/public/..%2fadmin\","
		    "\"conn_id\":\"n1-2-88213\",\"stream_id\":4,\"status\":403,"
		    "\"request_header_bytes\":184,\"request_body_bytes\":328,"
		    "\"response_header_bytes\":121,\"response_body_bytes\":98,\"bytes_sent\":512,"
		    "\"bytes_recv\":219,\"verdict\":\"denied\",\"policy\":\"shop/allow-cart\","
		    "\"rule\":\"conf.d/20-pay.yaml:14\",\"reason\":\"policy_l7\","
		    "\"reading\":\"lenient\",\"response_flags\":\"DENY\",\"attempts\":0,"
		    "\"accel\":\"copy\",\"accel_reason\":\"l7\",\"reused\":false,\"drop_count\":0,"
		    "\"t_accept\":0,\"t_queue\":0,\"t_head\":0,\"t_policy\":11377,\"t_work\":0,"
		    "\"t_connect\":0,\"t_tls\":0,\"t_body\":0,\"t_send\":0,\"t_wait\":0,"
		    "\"t_recv\":0,\"t_flush\":0,\"t_open\":0,\"t_proxy\":11377,\"t_total\":11377}");
}

static void an_opaque_connection_reads(void **state)
{
	struct record r = {
		.type = RECORD_CONNECTION,
		.direction = DIRECTION_INGRESS,
		.start_time = WHEN,
		.src = {.addr = endpoint6("2001:db8::1", 47116)},
		.dst = {.addr = endpoint6("fd00::40", 5432),
			.workload = S("db-0"),
			.namespace = S("shop")},
		.backend = endpoint6("fd00::40", 5432),
		.security = SECURITY_PLAINTEXT,
		.protocol = S("TCP"),
		.conn = 7,
		.bytes_sent = 20417,
		.bytes_recv = 1893220,
		.reason = REASON_CLOSED_BY_SOURCE,
		.attempts = 1,
		.accel = S("copy"),
		.drop_count = 3,
		.has_tcp = true,
		.srtt_us = 412,
		.min_rtt_us = 187,
		.retransmissions = 1,
		.t = {[CLOCK_OF_ACCEPT] = 41870,
		      [CLOCK_OF_QUEUE] = 12055,
		      [CLOCK_OF_POLICY] = 6240,
		      [CLOCK_OF_WORK] = 318402,
		      [CLOCK_OF_CONNECT] = 203911,
		      [CLOCK_OF_OPEN] = 8713455120},
	};

	(void)state;
	expect_line(&r,
		    "{\"start_time\":\"2026-10-05T10:15:02.114203117Z\",\"type\":\"connection\","
		    "\"direction\":\"inbound\",\"src.addr\":\"[2001:db8::1]:47116\","
		    "\"dst.addr\":\"[fd00::40]:5432\",\"dst.workload\":\"db-0\","
		    "\"dst.namespace\":\"shop\",\"backend\":\"[fd00::40]:5432\","
		    "\"security\":\"plaintext\",\"protocol\":\"TCP\",\"conn_id\":\"n1-0-7\","
		    "\"bytes_sent\":20417,\"bytes_recv\":1893220,\"verdict\":\"allowed\","
		    "\"reason\":\"closed_by_source\",\"attempts\":1,\"accel\":\"copy\","
		    "\"reused\":false,\"drop_count\":3,\"srtt_us\":412,\"min_rtt_us\":187,"
		    "\"retransmissions\":1,\"packet_loss\":0,\"t_accept\":41870,"
		    "\"t_queue\":12055,\"t_head\":0,\"t_policy\":6240,\"t_work\":318402,"
		    "\"t_connect\":203911,\"t_tls\":0,\"t_body\":0,\"t_send\":0,\"t_wait\":0,"
		    "\"t_recv\":0,\"t_flush\":0,\"t_open\":8713455120,\"t_proxy\":336697,"
		    "\"t_total\":8714037598}");
}

static void a_kernel_denial_reads(void **state)
{
	struct record r = a_kernel_denial();

	(void)state;
	expect_line(&r,
		    "{\"start_time\":\"2026-10-05T10:15:02.114203117Z\",\"type\":\"connection\","
		    "\"direction\":\"outbound\",\"src.addr\":\"10.244.1.66:0\","
		    "\"src.workload\":\"intruder\",\"src.namespace\":\"shop\","
		    "\"src.identity\":\"spiffe://cluster.local/ns/shop/sa/intruder\","
		    "\"dst.addr\":\"10.244.1.14:8080\",\"dst.workload\":\"api-1\","
		    "\"protocol\":\"TCP\",\"bytes_sent\":0,\"bytes_recv\":0,"
		    "\"verdict\":\"denied\",\"policy\":\"shop/api-l7\","
		    "\"rule\":\"conf.d/20-api.yaml:3\",\"reason\":\"policy_l4\","
		    "\"response_flags\":\"DENY\",\"attempts\":0,\"accel\":\"none\","
		    "\"drop_count\":0,\"pid\":4171,\"comm\":\"curl\","
		    "\"cgroup\":\"/kubepods/pod0b1d2/intruder\",\"errno\":\"ECONNREFUSED\","
		    "\"suppressed\":12,\"t_accept\":0,\"t_queue\":0,\"t_head\":0,"
		    "\"t_policy\":1873,\"t_work\":0,\"t_connect\":0,\"t_tls\":0,\"t_body\":0,"
		    "\"t_send\":0,\"t_wait\":0,\"t_recv\":0,\"t_flush\":0,\"t_open\":0,"
		    "\"t_proxy\":1873,\"t_total\":1873}");
}

static double number(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	assert_true(cJSON_IsNumber(item));
	return item->valuedouble;
}

static void every_clock_is_there_and_they_add_up(void **state)
{
	static const char *const all[] = {
#define X(name, key) key,
		CLOCKS(X)
#undef X
	};
	struct record r = a_kernel_denial();
	double total = 0;

	(void)state;
	for (size_t i = 0; i < CLOCK_COUNT; i++) {
		struct text t = {0};
		cJSON *json;

		r.t[i] = (i + 1) * 1000003;
		record_json(&t, &r, "n1");
		json = cJSON_Parse(t.p);
		assert_non_null(json);
		total = 0;
		for (size_t j = 0; j < CLOCK_COUNT; j++)
			total += number(json, all[j]);
		assert_true(total == number(json, "t_total"));
		assert_true(number(json, "t_queue") + number(json, "t_policy") +
				    number(json, "t_work") ==
			    number(json, "t_proxy"));
		cJSON_Delete(json);
		text_free(&t);
	}
	assert_true(total > 0);
}

/* What peers send must neither end the string nor begin a second line. */
static void hostile_bytes_stay_inside_their_string(void **state)
{
	struct record r = a_request();
	struct text t = {0};
	cJSON *json;

	(void)state;
	r.path = S("/\",\"verdict\":\"allowed\n{\\ \x1b[2J \xff\xc3");
	r.method = S("G\0T");
	r.authority = S("h\xc3\xb6st");
	record_json(&t, &r, "n1");
	assert_null(memchr(t.p, '\n', t.len));
	assert_null(memchr(t.p, 0x1b, t.len));
	assert_int_equal(strlen(t.p), t.len);
	json = cJSON_Parse(t.p);
	assert_non_null(json);
	assert_string_equal(cJSON_GetObjectItemCaseSensitive(json, "path")->valuestring,
			    "/\",\"verdict\":\"allowed\n{\\ \x1b[2J \xef\xbf\xbd\xef\xbf\xbd");
	assert_string_equal(cJSON_GetObjectItemCaseSensitive(json, "authority")->valuestring,
			    "h\xc3\xb6st");
	cJSON_Delete(json);
	text_free(&t);
}

static void dates_are_those_of_the_calendar(void **state)
{
	static const struct {
		uint64_t seconds;
		const char *date;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000000000Z"},
		{951782399, "2000-02-28T23:59:59.000000000Z"},
		{951782400, "2000-02-29T00:00:00.000000000Z"},
		{951868800, "2000-03-01T00:00:00.000000000Z"},
		{1709164800, "2024-02-29T00:00:00.000000000Z"},
		{1735689599, "2024-12-31T23:59:59.000000000Z"},
		{4107542400, "2100-03-01T00:00:00.000000000Z"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct record r = {.start_time = cases[i].seconds * 1000000000};
		struct text t = {0};

		record_json(&t, &r, "n1");
		assert_memory_equal(t.p + sizeof "{\"start_time\":\"" - 1, cases[i].date,
				    strlen(cases[i].date));
		text_free(&t);
	}
}

/* Everything in memory of its own, which is gone when the record is read. */
static void a_packed_record_keeps_every_string(void **state)
{
	struct record r = a_request(), out;
	struct slice *all[] = {
		&r.src.workload,  &r.src.namespace, &r.src.identity, &r.src.app,  &r.dst.workload,
		&r.dst.namespace, &r.dst.identity,  &r.dst.app,	     &r.protocol, &r.method,
		&r.authority,	  &r.path,	    &r.policy,	     &r.rule,	  &r.reading,
		&r.accel,	  &r.accel_reason,  &r.comm,	     &r.cgroup,
	};
	const size_t n = sizeof all / sizeof all[0];
	char strings[sizeof all / sizeof all[0]][8];
	struct text before = {0}, after = {0};
	size_t size;
	char *packed;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		memset(strings[i], 'a' + (int)i, sizeof strings[i]);
		*all[i] = (struct slice){strings[i], 1 + i % sizeof strings[i]};
	}
	r.reason = REASON_POLICY_L7;
	r.pid = 1;
	record_json(&before, &r, "n1");
	size = record_size(&r);
	packed = malloc(size + 2);
	record_pack(&r, packed + 1); /* any alignment */
	memset(strings, '!', sizeof strings);
	assert_true(record_unpack(&out, packed + 1, size));
	record_json(&after, &out, "n1");
	assert_string_equal(before.p, after.p);
	assert_memory_equal(out.src.app.p, "dddd", out.src.app.len);
	assert_memory_equal(out.dst.app.p, "hhhhhhhh", 8);
	text_free(&before);
	text_free(&after);
	for (size_t len = 0; len < size; len++)
		assert_false(record_unpack(&out, packed + 1, len));
	assert_false(record_unpack(&out, packed + 1, size + 1));
	free(packed);
}

static void every_reason_has_its_words(void **state)
{
	(void)state;
#define X(number, name, word, flag, text)                                                          \
	assert_string_equal(reason_word(REASON_##name), word);                                     \
	assert_string_equal(reason_flag(REASON_##name), flag);                                     \
	assert_string_equal(reason_text(REASON_##name), text);
	REASONS(X)
#undef X
	assert_string_equal(reason_word((enum reason)63), "internal");
	assert_string_equal(reason_word((enum reason)4000), "internal");
	assert_string_equal(reason_word((enum reason) - 1), "internal");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_reads),
		cmocka_unit_test(a_denied_request_names_rule_reason_and_reading),
		cmocka_unit_test(an_opaque_connection_reads),
		cmocka_unit_test(a_kernel_denial_reads),
		cmocka_unit_test(every_clock_is_there_and_they_add_up),
		cmocka_unit_test(hostile_bytes_stay_inside_their_string),
		cmocka_unit_test(dates_are_those_of_the_calendar),
		cmocka_unit_test(a_packed_record_keeps_every_string),
		cmocka_unit_test(every_reason_has_its_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
