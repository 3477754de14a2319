/* SPDX-License-Identifier: Apache-2.0 */
/* shunt probe: table, verdict and exit status. The kernel's side is made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/cli/cli.h"
#include "proxy/probe.h"
#include "test/unit/cli_run.h"

static struct probe_result results[200];
static size_t count;
static unsigned runs;

/* In place of the one in libproxy.a. */
size_t probe_run(struct probe_result *to, size_t n)
{
	memcpy(to, results, (count < n ? count : n) * sizeof *to);
	runs++;
	return count;
}

static int run(const char *words)
{
	char line[256], *argv[128];
	int argc;

	snprintf(line, sizeof line, "shunt probe%s%s", *words != '\0' ? "|" : "", words);
	argc = cli_words(line, argv);
	optind = 0;
	return cli_run(cli_probe, argc, argv);
}

static int setup(void **state)
{
	(void)state;
	runs = 0;
	results[0] = (struct probe_result){"sk_lookup", "steers", PROBE_OK, "seen", NULL};
	results[1] = (struct probe_result){"ktls", "encrypts", PROBE_MISSING, "EN\x1bOENT", "us"};
	results[2] = (struct probe_result){"fentry", "watches", PROBE_FAILED, "", "nothing"};
	count = 3;
	return 0;
}

static void needs_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void what_has_a_fallback_may_be_missing(void **state)
{
	(void)state;
	needs_root();
	assert_int_equal(run(""), 0);
	assert_string_equal(out, "MECHANISM  STATE    SEEN     USED INSTEAD\n"
				 "sk_lookup  ok       seen     -\n"
				 "ktls       missing  EN?OENT  us\n"
				 "fentry     failed   -        nothing\n"
				 "\nshuntd can run here\n");
	assert_string_equal(err, "");
}

static void what_has_none_may_not(void **state)
{
	(void)state;
	needs_root();
	results[0].state = PROBE_MISSING;
	results[2].fallback = NULL;
	assert_int_equal(run(""), 1);
	assert_non_null(strstr(out, "\nshuntd cannot run here, for want of sk_lookup, fentry\n"));
	assert_non_null(strstr(out, "seen     none: shuntd cannot run without it\n"));
	assert_int_equal(run("-o|json"), 1);
}

static void where_nothing_could_be_tried_there_is_no_verdict(void **state)
{
	(void)state;
	needs_root();
	results[0].state = PROBE_FAILED;
	results[1].state = PROBE_FAILED;
	assert_int_equal(run(""), 3);
	assert_null(strstr(out, "\nshuntd can"));
	assert_non_null(strstr(err, "nothing could be tried"));
	count = 0;
	assert_int_equal(run(""), 3);
}

static void the_answer_comes_as_json_too(void **state)
{
	(void)state;
	needs_root();
	assert_int_equal(run("--output|json"), 0);
	assert_memory_equal(out, "[{\"name\":\"sk_lookup\"", 20);
	assert_string_equal(out + strlen(out) - 2, "]\n");
	assert_null(strstr(out, "\nshuntd can"));
}

static void more_than_there_is_room_for_is_cut(void **state)
{
	size_t lines = 0;

	(void)state;
	needs_root();
	for (size_t i = 3; i < 200; i++)
		results[i] = results[0];
	count = 200;
	assert_int_equal(run(""), 0);
	for (const char *p = out; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	assert_int_equal(lines, 1 + 128 + 2);
}

static void without_root_nothing_is_tried(void **state)
{
	bool root = geteuid() == 0;
	int status;

	(void)state;
	if (root && seteuid(65534) < 0)
		skip();
	status = run("");
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(status, 3);
	assert_non_null(strstr(err, "needs root"));
	assert_int_equal(runs, 0);
}

static void help_and_wrong_usage_try_nothing(void **state)
{
	static const char *const lines[] = {"now", "-x", "-o|yaml", "--output", "--name|a"};

	(void)state;
	assert_int_equal(run("--help"), 0);
	assert_non_null(strstr(out, "\nExamples:\n"));
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		assert_int_equal(run(lines[i]), 2);
		assert_string_equal(out, "");
		assert_string_not_equal(err, "");
	}
	assert_int_equal(runs, 0);
}

#define T(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_has_a_fallback_may_be_missing),
		T(what_has_none_may_not),
		T(where_nothing_could_be_tried_there_is_no_verdict),
		T(the_answer_comes_as_json_too),
		T(more_than_there_is_room_for_is_cut),
		T(without_root_nothing_is_tried),
		T(help_and_wrong_usage_try_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
