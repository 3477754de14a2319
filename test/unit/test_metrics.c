/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostile.h"
#include "proxy/metrics.h"

#define S(text) ((struct slice){(text), sizeof(text) - 1})

static const struct metrics_suppressed suppressed[] = {{"shop/web", 3}};
static const struct metrics_gauges gauges = {
	.version = "0.1.0",
	.node = "n1",
	.policy_revision = 7,
	.reload_ok = true,
	.reload_time = 1791195302.25,
	.connections = 5,
	.slots = 65536,
	.kernel_denials = {[REASON_POLICY_L4] = 42, [REASON_AWAY_ALLOWED] = 17},
	.workloads = 11,
	.workloads_absent = 12,
	.bypassed = 13,
	.registries = 14,
	.lost_waiting = 15,
	.lost_open = 16,
	.suppressed = suppressed,
	.suppressed_count = 1,
};

static struct record a_request(enum record_security security, enum direction direction)
{
	return (struct record){
		.type = RECORD_REQUEST,
		.direction = direction,
		.src = {.card = 1, .workload = S("web"), .namespace = S("shop"), .app = S("web")},
		.dst = {.card = 2, .workload = S("api-1"), .namespace = S("shop"), .app = S("api")},
		.security = security,
		.protocol = S("HTTP/1.1"),
		.status = 200,
		.t = {[CLOCK_OF_WAIT] = 3000000, [CLOCK_OF_WORK] = 1},
	};
}

static char *rendered(struct metrics *m)
{
	struct text t = {0};

	metrics_render(m, &gauges, &t);
	assert_false(text_failed(&t));
	return text_take(&t);
}

/* The value of the one sample whose line begins with `name` and contains all of `parts`
 * (ended by NULL). */
static double sample(const char *all, const char *name, const char *const *parts)
{
	double value = -1;
	char line[4096];

	for (const char *p = all; *p != '\0'; p += strcspn(p, "\n") + 1) {
		size_t len = strcspn(p, "\n");
		bool match = strncmp(p, name, strlen(name)) == 0 &&
			     (p[strlen(name)] == '{' || p[strlen(name)] == ' ');

		assert_true(len < sizeof line);
		memcpy(line, p, len);
		line[len] = '\0';
		for (size_t i = 0; match && parts[i] != NULL; i++)
			match = strstr(line, parts[i]) != NULL;
		if (match) {
			assert_true(value < 0); /* only one */
			value = strtod(strrchr(line, ' '), NULL);
		}
	}
	return value;
}
#define SAMPLE(all, name, ...) sample(all, name, (const char *const[]){__VA_ARGS__, NULL})

static void a_local_request_counts_for_both_reporters(void **state)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_LOCAL, DIRECTION_EGRESS);
	char *all;

	(void)state;
	metrics_count(m, &r);
	metrics_count(m, &r);
	all = rendered(m);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"source\"",
			   "source_workload=\"web\"", "destination_workload=\"api-1\"",
			   "source_principal=\"unknown\"", "destination_app=\"api\"",
			   "request_protocol=\"http\"", "response_code=\"200\"",
			   "response_flags=\"-\"", "connection_security_policy=\"local\"") == 2);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"destination\"") == 2);
	free(all);
	metrics_free(m);
}

static void traffic_with_the_world_has_one_reporter(void **state)
{
	struct metrics *m = metrics_new();
	struct record in = a_request(SECURITY_PLAINTEXT, DIRECTION_INGRESS);
	struct record out = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char *all;

	(void)state;
	metrics_count(m, &in);
	all = rendered(m);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"destination\"",
			   "connection_security_policy=\"none\"") == 1);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"source\"") == -1);
	free(all);
	metrics_count(m, &out);
	all = rendered(m);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"source\"") == 1);
	assert_true(SAMPLE(all, "istio_requests_total", "reporter=\"destination\"") == 1);
	free(all);
	metrics_free(m);
}

static void durations_fall_into_cumulative_buckets(void **state)
{
	static const char name[] = "istio_request_duration_milliseconds_bucket";
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char *all;

	(void)state;
	metrics_count(m, &r); /* 3.000001 ms */
	r.t[CLOCK_OF_WAIT] = 500000 - 1; /* with t_work: the bound itself */
	metrics_count(m, &r);
	r.t[CLOCK_OF_WAIT] = UINT64_C(4000000000000);
	metrics_count(m, &r);
	all = rendered(m);
	assert_true(SAMPLE(all, name, "le=\"0.5\"") == 1);
	assert_true(SAMPLE(all, name, "le=\"1\"") == 1);
	assert_true(SAMPLE(all, name, "le=\"5\"") == 2);
	assert_true(SAMPLE(all, name, "le=\"3600000\"") == 2);
	assert_true(SAMPLE(all, name, "le=\"+Inf\"") == 3);
	assert_true(SAMPLE(all, "istio_request_duration_milliseconds_count", "") == 3);
	assert_non_null(strstr(all, "} 4000003.500002\n"));
	free(all);
	metrics_free(m);
}

static void connections_are_opened_closed_or_failed(void **state)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char *all;

	(void)state;
	r.protocol = S("TCP");
	r.status = 0;
	r.type = RECORD_OPENED;
	metrics_count(m, &r);
	r.type = RECORD_CONNECTION;
	r.reason = REASON_CLOSED_BY_SOURCE;
	r.bytes_sent = 10;
	r.bytes_recv = 200;
	metrics_count(m, &r);
	r.reason = REASON_CONNECT_REFUSED;
	r.protocol = S("HTTP/1.1");
	r.bytes_sent = r.bytes_recv = 0;
	metrics_count(m, &r);
	r.reason = REASON_POLICY_L4;
	r.denied = true;
	r.errno_value = ECONNREFUSED;
	r.unopened = true;
	metrics_count(m, &r);
	all = rendered(m);
	assert_true(SAMPLE(all, "istio_tcp_connections_opened_total", "request_protocol=\"tcp\"") ==
		    1);
	/* opened means closed at some time, also where nobody answered */
	assert_true(SAMPLE(all, "istio_tcp_connections_closed_total", "_flags=\"-\"") == 1);
	assert_true(SAMPLE(all, "istio_tcp_connections_closed_total", "_flags=\"UF\"") == 1);
	assert_true(SAMPLE(all, "istio_tcp_connections_closed_total", "_flags=\"DENY\"") == -1);
	assert_true(SAMPLE(all, "istio_tcp_connections_failed_total", "_flags=\"UF\"") == 1);
	assert_true(SAMPLE(all, "istio_tcp_connections_failed_total", "_flags=\"DENY\"") == 1);
	assert_true(SAMPLE(all, "istio_tcp_sent_bytes_total", "") == 200);
	assert_true(SAMPLE(all, "istio_tcp_received_bytes_total", "") == 10);
	assert_true(SAMPLE(all, "istio_requests_total", "") == -1);
	/* kernel denials are counted by the kernel, all of them */
	assert_true(SAMPLE(all, "shunt_ends_total", "reason=\"policy_l4\"") == -1);
	assert_true(SAMPLE(all, "shunt_ends_total", "type=\"connection\"",
			   "reason=\"connect_refused\"") == 1);
	assert_true(SAMPLE(all, "shunt_kernel_denials_total", "reason=\"policy_l4\"") == 42);
	free(all);
	metrics_free(m);
}

static void the_number_of_series_is_bounded(void **state)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char name[32], *all;
	size_t series = 0;

	(void)state;
	for (int i = 0; i < 2500; i++) {
		snprintf(name, sizeof name, "w%d", i);
		r.src.workload = (struct slice){name, strlen(name)};
		r.src.card = 10 + (unsigned)i;
		metrics_count(m, &r);
		metrics_count(m, &r);
	}
	all = rendered(m);
	for (const char *p = all; (p = strstr(p, "istio_requests_total{")) != NULL; p++)
		series++;
	assert_int_equal(series, 2000);
	assert_true(SAMPLE(all, "shunt_metrics_series_dropped_total", "") == 1000);
	assert_true(SAMPLE(all, "istio_requests_total", "\"w1999\"") == 2);
	free(all);
	metrics_free(m);
}

static void a_card_made_anew_goes_on_where_the_old_one_was(void **state)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char *all;

	(void)state;
	metrics_count(m, &r);
	r.src.card = 17;
	metrics_count(m, &r);
	r.dst.card = 18;
	metrics_count(m, &r);
	metrics_count(m, &r);
	all = rendered(m);
	assert_true(SAMPLE(all, "istio_requests_total", "") == 4);
	free(all);
	metrics_free(m);
}

/* Of more kinds than there may be series. */
static struct record any_record(void)
{
	static const struct slice names[] = {{NULL, 0}, S("web"), S("api"), S("db"), S("cart")};
	static const struct slice protocols[] = {S("HTTP/1.1"), S("TCP"), {NULL, 0}};
	struct record r = {
		.type = (enum record_type)chance(3),
		.direction = (enum direction)chance(2),
		.security = (enum record_security)chance(3),
		.protocol = protocols[chance(3)],
		.status = 200 + chance(3),
		.reason = (enum reason)chance(8),
		.denied = chance(2) == 0,
		.unopened = chance(4) == 0,
		.bytes_sent = chance(1000),
		.bytes_recv = chance(1000),
	};

	r.src.card = chance(5);
	r.dst.card = chance(5);
	r.src.workload = r.src.namespace = names[r.src.card];
	r.dst.workload = r.dst.app = names[r.dst.card];
	r.t[CLOCK_OF_WAIT] = chance(1U << 31);
	return r;
}

/* The one knows the ends by their cards, the other has never seen a card before. */
static void records_are_counted_where_their_labels_say(void **state)
{
	struct metrics *m = metrics_new(), *by_labels = metrics_new();
	char *all, *want;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct record r = any_record();

		metrics_count(m, &r);
		r.src.card = 100 + 2 * i;
		r.dst.card = 101 + 2 * i;
		metrics_count(by_labels, &r);
	}
	all = rendered(m);
	want = rendered(by_labels);
	assert_string_equal(all, want);
	free(all);
	free(want);
	metrics_free(m);
	metrics_free(by_labels);
}

static void label_values_cannot_end_their_string(void **state)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_PLAINTEXT, DIRECTION_EGRESS);
	char *all;

	(void)state;
	r.src.workload = S("a\"} 1\nb\\");
	metrics_count(m, &r);
	all = rendered(m);
	assert_non_null(strstr(all, "source_workload=\"a\\\"} 1 b\\\\\","));
	free(all);
	metrics_free(m);
}

static void the_daemons_own_numbers_are_there(void **state)
{
	struct metrics *m = metrics_new();
	char *all = rendered(m);

	(void)state;
	assert_true(SAMPLE(all, "shunt_build_info", "version=\"0.1.0\"", "node=\"n1\"") == 1);
	assert_true(SAMPLE(all, "shunt_policy_revision", "") == 7);
	assert_true(SAMPLE(all, "shunt_config_last_reload_successful", "") == 1);
	assert_true(SAMPLE(all, "shunt_config_last_reload_timestamp_seconds", "") == 1791195302.25);
	assert_true(SAMPLE(all, "shunt_kernel_denials_suppressed_total", "\"shop/web\"") == 3);
	assert_true(SAMPLE(all, "shunt_log_records_dropped_total", "") == 0);
	assert_true(SAMPLE(all, "shunt_connections", "") == 5);
	free(all);
	metrics_free(m);
}

static void workloads_are_counted_by_state(void **state)
{
	struct metrics *m = metrics_new();
	char *all = rendered(m);

	(void)state;
	assert_true(SAMPLE(all, "shunt_workloads", "state=\"enrolled\"") == 11);
	assert_true(SAMPLE(all, "shunt_workloads", "state=\"absent\"") == 12);
	assert_true(SAMPLE(all, "shunt_workloads_bypassed", "") == 13);
	assert_true(SAMPLE(all, "shunt_registries_complete", "") == 14);
	assert_true(SAMPLE(all, "shunt_restart_lost_connections", "state=\"waiting\"") == 15);
	assert_true(SAMPLE(all, "shunt_restart_lost_connections", "state=\"open\"") == 16);
	free(all);
	metrics_free(m);
}

static void what_passed_unjudged_is_no_denial(void **state)
{
	struct metrics *m = metrics_new();
	char *all = rendered(m);

	(void)state;
	assert_true(SAMPLE(all, "shunt_passed_unjudged_total", "") == 17);
	assert_true(SAMPLE(all, "shunt_kernel_denials_total", "reason=\"policy_l4\"") == 42);
	assert_null(strstr(all, "away_allowed"));
	free(all);
	metrics_free(m);
}

/* For `promtool check metrics`: one record of every kind. */
static int print_metrics(void)
{
	struct metrics *m = metrics_new();
	struct record r = a_request(SECURITY_LOCAL, DIRECTION_EGRESS);
	char *all;

	metrics_count(m, &r);
	r.status = 403;
	r.denied = true;
	r.reason = REASON_POLICY_L7;
	metrics_count(m, &r);
	r.type = RECORD_CONNECTION;
	metrics_count(m, &r);
	r.type = RECORD_OPENED;
	metrics_count(m, &r);
	r.type = RECORD_CONNECTION;
	r.denied = false;
	r.reason = REASON_CLOSED_BY_SOURCE;
	r.bytes_sent = 1;
	r.bytes_recv = 1;
	metrics_count(m, &r);
	all = rendered(m);
	fputs(all, stdout);
	free(all);
	metrics_free(m);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_local_request_counts_for_both_reporters),
		cmocka_unit_test(traffic_with_the_world_has_one_reporter),
		cmocka_unit_test(durations_fall_into_cumulative_buckets),
		cmocka_unit_test(connections_are_opened_closed_or_failed),
		cmocka_unit_test(the_number_of_series_is_bounded),
		cmocka_unit_test(a_card_made_anew_goes_on_where_the_old_one_was),
		cmocka_unit_test(records_are_counted_where_their_labels_say),
		cmocka_unit_test(label_values_cannot_end_their_string),
		cmocka_unit_test(the_daemons_own_numbers_are_there),
		cmocka_unit_test(workloads_are_counted_by_state),
		cmocka_unit_test(what_passed_unjudged_is_no_denial),
	};

	if (argc > 1 && strcmp(argv[1], "--print") == 0)
		return print_metrics();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
