/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#include "hostile.h"
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
			S("spiffe://cluster.local/ns/shop/sa/cart"), S("cart"), 1},
		.dst = {endpoint4("10.244.1.9", 8080), S("pay-7c9b5"), S("shop"),
			S("spiffe://cluster.local/ns/shop/sa/pay"), S("pay"), 2},
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
			S("spiffe://cluster.local/ns/shop/sa/intruder"), S("intruder"), 3},
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

static void expect_line_of(const struct record *r, const char *node, const char *line)
{
	struct text t = {0};

	record_json(&t, r, node);
	assert_false(text_failed(&t));
	assert_string_equal(t.p, line);
	text_free(&t);
}

static void expect_line(const struct record *r, const char *line)
{
	expect_line_of(r, "n1", line);
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

/* --- against a renderer that is only simple --- */

static void ref_number(char **to, const char *key, uint64_t n)
{
	*to += sprintf(*to, ",\"%s\":%llu", key, (unsigned long long)n);
}

static void ref_slice(char **to, const char *key, struct slice s)
{
	if (s.len == 0)
		return;
	*to += sprintf(*to, ",\"%s\":", key);
	*to += json_of((const unsigned char *)s.p, s.len, *to);
}

static void ref_word(char **to, const char *key, const char *word)
{
	ref_slice(to, key, (struct slice){word, strlen(word)});
}

static void ref_endpoint(char **to, const char *key, const struct endpoint *e)
{
	char ip[INET6_ADDRSTRLEN];

	if (e->family == 0)
		return;
	inet_ntop(e->family, e->family == AF_INET ? (const void *)&e->ip.word[3] : &e->ip, ip,
		  sizeof ip);
	*to += sprintf(*to, e->family == AF_INET ? ",\"%s\":\"%s:%u\"" : ",\"%s\":\"[%s]:%u\"", key,
		       ip, ntohs(e->port));
}

static void ref_start(char **to, const struct record *r)
{
	time_t seconds = (time_t)(r->start_time / 1000000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	*to += strftime(*to, 64, "{\"start_time\":\"%Y-%m-%dT%H:%M:%S", &tm);
	*to += sprintf(*to, ".%09uZ\"", (unsigned)(r->start_time % 1000000000));
	ref_word(to, "type", r->type == RECORD_REQUEST ? "request" : "connection");
	ref_word(to, "direction", r->direction == DIRECTION_EGRESS ? "outbound" : "inbound");
}

static void ref_ends(char **to, const struct record *r)
{
	ref_endpoint(to, "src.addr", &r->src.addr);
	ref_slice(to, "src.workload", r->src.workload);
	ref_slice(to, "src.namespace", r->src.namespace);
	ref_slice(to, "src.identity", r->src.identity);
	ref_endpoint(to, "dst.addr", &r->dst.addr);
	ref_slice(to, "dst.workload", r->dst.workload);
	ref_slice(to, "dst.namespace", r->dst.namespace);
	ref_slice(to, "dst.identity", r->dst.identity);
	ref_endpoint(to, "backend", &r->backend);
	if (r->security != SECURITY_ABSENT)
		ref_word(to, "security", r->security == SECURITY_LOCAL ? "local" : "plaintext");
}

static void ref_request(char **to, const struct record *r, const char *node)
{
	ref_slice(to, "protocol", r->protocol);
	ref_slice(to, "method", r->method);
	ref_slice(to, "authority", r->authority);
	ref_slice(to, "path", r->path);
	if (r->conn != 0)
		*to += sprintf(*to, ",\"conn_id\":\"%s-%u-%llu\"", node, r->worker,
			       (unsigned long long)r->conn);
	if (r->stream != 0)
		ref_number(to, "stream_id", r->stream);
	if (r->status != 0)
		ref_number(to, "status", r->status);
	if (r->type == RECORD_REQUEST) {
		ref_number(to, "request_header_bytes", r->request_header_bytes);
		ref_number(to, "request_body_bytes", r->request_body_bytes);
		ref_number(to, "response_header_bytes", r->response_header_bytes);
		ref_number(to, "response_body_bytes", r->response_body_bytes);
	}
	ref_number(to, "bytes_sent", r->bytes_sent);
	ref_number(to, "bytes_recv", r->bytes_recv);
}

static void ref_decision(char **to, const struct record *r)
{
	ref_word(to, "verdict", r->denied ? "denied" : "allowed");
	ref_slice(to, "policy", r->policy);
	ref_slice(to, "rule", r->rule);
	if (r->reason != REASON_NONE)
		ref_word(to, "reason", reason_word(r->reason));
	ref_slice(to, "reading", r->reading);
	ref_slice(to, "mismatch", r->mismatch);
	if (strcmp(reason_flag(r->reason), "-") != 0)
		ref_word(to, "response_flags", reason_flag(r->reason));
	ref_number(to, "attempts", r->attempts);
}

static void ref_way(char **to, const struct record *r)
{
	ref_slice(to, "accel", r->accel);
	ref_slice(to, "accel_reason", r->accel_reason);
	if (r->conn != 0)
		*to += sprintf(*to, ",\"reused\":%s", r->reused ? "true" : "false");
	ref_number(to, "drop_count", r->drop_count);
	if (r->pid != 0)
		ref_number(to, "pid", r->pid);
	ref_slice(to, "comm", r->comm);
	ref_slice(to, "cgroup", r->cgroup);
	if (r->has_tcp) {
		ref_number(to, "srtt_us", r->srtt_us);
		ref_number(to, "min_rtt_us", r->min_rtt_us);
		ref_number(to, "retransmissions", r->retransmissions);
		ref_number(to, "packet_loss", r->packet_loss);
	}
	if (r->errno_value != 0) {
		const char *name = strerrorname_np(r->errno_value);

		ref_word(to, "errno", name != NULL ? name : "unknown");
		ref_number(to, "suppressed", r->suppressed);
	}
}

static void reference(char *to, const struct record *r, const char *node)
{
	static const char *const keys[] = {
#define X(name, key) key,
		CLOCKS(X)
#undef X
	};

	ref_start(&to, r);
	ref_ends(&to, r);
	ref_request(&to, r, node);
	ref_decision(&to, r);
	ref_way(&to, r);
	for (size_t i = 0; i < CLOCK_COUNT; i++)
		ref_number(&to, keys[i], r->t[i]);
	ref_number(&to, "t_proxy",
		   r->t[CLOCK_OF_QUEUE] + r->t[CLOCK_OF_POLICY] + r->t[CLOCK_OF_WORK]);
	ref_number(&to, "t_total", record_total(r));
	strcpy(to, "}");
}

/* Of all sizes; often 0. */
static uint64_t any_number(void)
{
	uint64_t n = (uint64_t)chance(1U << 31) << 33 | chance(1U << 31);

	return chance(3) == 0 ? 0 : n >> chance(64);
}

static struct endpoint any_endpoint(void)
{
	uint16_t port = (uint16_t)chance(65536);
	struct endpoint e =
		chance(2) == 0 ? endpoint4("10.0.0.0", port) : endpoint6("fd00::", port);

	if (chance(5) == 0)
		return (struct endpoint){0};
	e.ip.word[3] |= (uint32_t)any_number();
	if (e.family == AF_INET6)
		e.ip.word[1] |= (uint32_t)any_number();
	return e;
}

#define STRING_MOST 96U

/* In memory of its own, so that ASan sees who reads past it; free() it. */
static struct slice any_string(void)
{
	char bytes[STRING_MOST], *copy;
	size_t n = chance(3) == 0 ? 0 : hostile_string(bytes, sizeof bytes);

	copy = malloc(n + 1);
	memcpy(copy, bytes, n);
	return (struct slice){realloc(copy, n > 0 ? n : 1), n};
}

static void each_string(struct record *r, void (*take)(struct slice *s))
{
	struct slice *all[] = {
		&r->src.workload, &r->src.namespace, &r->src.identity, &r->src.app,
		&r->dst.workload, &r->dst.namespace, &r->dst.identity, &r->dst.app,
		&r->protocol,	  &r->method,	     &r->authority,    &r->path,
		&r->policy,	  &r->rule,	     &r->reading,      &r->mismatch,
		&r->accel,	  &r->accel_reason,  &r->comm,	       &r->cgroup,
	};

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		take(all[i]);
}

static void make_string(struct slice *s)
{
	*s = any_string();
}

static void free_string(struct slice *s)
{
	free((char *)s->p);
}

static void short_string(struct slice *s)
{
	*s = S("x");
}

static struct record any_record(void)
{
	struct record r = {
		.type = chance(2) == 0 ? RECORD_REQUEST : RECORD_CONNECTION,
		.direction = chance(2) == 0 ? DIRECTION_EGRESS : DIRECTION_INGRESS,
		.start_time = any_number(),
		.security = (enum record_security)chance(3),
		.worker = (uint32_t)any_number(),
		.conn = any_number(),
		.stream = (uint32_t)any_number(),
		.status = chance(1000),
		.request_header_bytes = any_number(),
		.request_body_bytes = any_number(),
		.response_header_bytes = any_number(),
		.response_body_bytes = any_number(),
		.bytes_sent = any_number(),
		.bytes_recv = any_number(),
		.denied = chance(2) == 0,
		.reason = (enum reason)chance(70),
		.attempts = chance(3),
		.reused = chance(2) == 0,
		.drop_count = any_number(),
		.has_tcp = chance(2) == 0,
		.srtt_us = (uint32_t)any_number(),
		.min_rtt_us = (uint32_t)any_number(),
		.retransmissions = (uint32_t)any_number(),
		.packet_loss = (uint32_t)any_number(),
		.pid = (uint32_t)any_number(),
		.errno_value = chance(2) == 0 ? 0 : (int)chance(200),
		.suppressed = (uint32_t)any_number(),
	};

	r.src.addr = any_endpoint();
	r.dst.addr = any_endpoint();
	r.backend = any_endpoint();
	each_string(&r, make_string);
	for (size_t i = 0; i < CLOCK_COUNT; i++)
		r.t[i] = any_number();
	return r;
}

static void any_record_reads_as_the_reference_has_it(void **state)
{
	static char want[32 * STRING_MOST * 6];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct record r = any_record();

		reference(want, &r, "n1.example");
		expect_line_of(&r, "n1.example", want);
		each_string(&r, free_string);
	}
}

/* All that is in it but its strings. */
static void the_longest_line_has_room(void **state)
{
	struct endpoint far = endpoint6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
	struct record r;
	struct text t = {0};

	(void)state;
	memset(&r, 0xff, sizeof r);
	each_string(&r, short_string);
	r.src.addr = r.dst.addr = r.backend = far;
	r.direction = DIRECTION_EGRESS;
	r.denied = r.reused = r.has_tcp = true;
	r.errno_value = EPFNOSUPPORT;
	for (unsigned type = RECORD_REQUEST; type <= RECORD_CONNECTION; type++) {
		for (unsigned reason = 0; reason < REASON_MAX; reason++) {
			r.type = (enum record_type)type;
			r.security = SECURITY_PLAINTEXT;
			r.reason = (enum reason)reason;
			t.len = 0;
			record_json(&t, &r, "");
			assert_in_range(t.len, 1000, RECORD_JSON_FIXED);
		}
	}
	text_free(&t);
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
		cmocka_unit_test(any_record_reads_as_the_reference_has_it),
		cmocka_unit_test(the_longest_line_has_room),
		cmocka_unit_test(a_packed_record_keeps_every_string),
		cmocka_unit_test(every_reason_has_its_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
