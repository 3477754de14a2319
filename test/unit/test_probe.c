/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/text.h"
#include "proxy/probe.h"

#define HEAD                                                                                       \
	"# HELP shunt_capability What the kernel was seen to do; always 1, the answer is in the "  \
	"labels.\n"                                                                                \
	"# TYPE shunt_capability gauge\n"

static const struct probe_result three[] = {
	{.name = "sk_lookup", .what = "gives connections", .state = PROBE_OK, .detail = "steered"},
	{.name = "ktls",
	 .what = "encrypts",
	 .state = PROBE_MISSING,
	 .detail = "no \"tls\"",
	 .fallback = "own records"},
	{.name = "fionread_tcp",
	 .what = "counts",
	 .state = PROBE_FAILED,
	 .detail = "0 of 21",
	 .fallback = "ask the owner"},
};

static char *rendered(void (*render)(const struct probe_result *, size_t, struct text *), size_t n)
{
	struct text t = {0};

	render(three, n, &t);
	assert_false(text_failed(&t));
	return text_take(&t);
}

static void a_metric_says_what_each_mechanism_did(void **state)
{
	char *all = rendered(probe_metrics, 3);

	(void)state;
	assert_string_equal(all,
			    HEAD "shunt_capability{name=\"sk_lookup\",state=\"ok\"} 1\n"
				 "shunt_capability{name=\"ktls\",state=\"missing\"} 1\n"
				 "shunt_capability{name=\"fionread_tcp\",state=\"failed\"} 1\n");
	free(all);
}

static void json_has_every_field_and_null_where_there_is_no_fallback(void **state)
{
	char *all = rendered(probe_json, 3);

	(void)state;
	assert_string_equal(
		all, "[{\"name\":\"sk_lookup\",\"what\":\"gives connections\",\"state\":\"ok\","
		     "\"detail\":\"steered\",\"fallback\":null,\"required\":true},"
		     "{\"name\":\"ktls\",\"what\":\"encrypts\",\"state\":\"missing\","
		     "\"detail\":\"no \\\"tls\\\"\",\"fallback\":\"own records\","
		     "\"required\":false},"
		     "{\"name\":\"fionread_tcp\",\"what\":\"counts\",\"state\":\"failed\","
		     "\"detail\":\"0 of 21\",\"fallback\":\"ask the owner\","
		     "\"required\":false}]");
	free(all);
}

static void nothing_probed_is_well_formed_too(void **state)
{
	char *metrics = rendered(probe_metrics, 0);
	char *json = rendered(probe_json, 0);

	(void)state;
	assert_string_equal(metrics, HEAD);
	assert_string_equal(json, "[]");
	free(metrics);
	free(json);
}

static void asking_for_none_runs_none_and_says_how_many_there_are(void **state)
{
	size_t n = probe_run(NULL, 0);

	(void)state;
	assert_true(n > 8);
	assert_int_equal(probe_run(NULL, 0), n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_metric_says_what_each_mechanism_did),
		cmocka_unit_test(json_has_every_field_and_null_where_there_is_no_fallback),
		cmocka_unit_test(nothing_probed_is_well_formed_too),
		cmocka_unit_test(asking_for_none_runs_none_and_says_how_many_there_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
