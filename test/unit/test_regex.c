/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proxy/regex.h"

static bool matches(const char *pattern, const char *text)
{
	char error[128];
	struct regex *r = regex_new(pattern, strlen(pattern), error, sizeof(error));
	bool m;

	assert_non_null(r);
	assert_string_equal(error, "");
	m = regex_match(r, text, strlen(text));
	regex_free(r);
	return m;
}

static void a_pattern_matches_the_whole_text_or_not_at_all(void **state)
{
	(void)state;
	assert_true(matches("/a[0-9]+", "/a12"));
	assert_false(matches("/a[0-9]+", "/a12/"));
	assert_false(matches("/a[0-9]+", "x/a12"));
	assert_false(matches("a|ab", "abc"));
	assert_true(matches("a|ab", "ab")); /* alternatives are anchored as one */
}

static void case_counts_unless_the_pattern_says_otherwise(void **state)
{
	(void)state;
	assert_false(matches("/Admin", "/admin"));
	assert_true(matches("(?i)/Admin", "/admin"));
}

static void a_dot_matches_neither_newline_nor_broken_utf8(void **state)
{
	(void)state;
	assert_false(matches("/a.*", "/a\nb"));
	assert_true(matches("/a.*", "/a\xc3\xa9"));
	assert_false(matches("/a.*", "/a\xff"));
}

static void what_re2_cannot_do_in_linear_time_is_refused_with_words(void **state)
{
	static const char *const wrong[] = {"(", "a(?=b)", "(a)\\1", "[z-a]", "a**{", "*a"};
	char error[128];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct regex *r = regex_new(wrong[i], strlen(wrong[i]), error, sizeof(error));

		if (r != NULL) /* RE2 is lenient about a repeated repeat */
			assert_string_equal(wrong[i], "a**{");
		else
			assert_string_not_equal(error, "");
		regex_free(r);
	}
}

static void a_pattern_has_a_bounded_length(void **state)
{
	static char pattern[REGEX_PATTERN_MAX + 1];
	char error[128];
	struct regex *r;

	(void)state;
	memset(pattern, 'a', sizeof(pattern));
	r = regex_new(pattern, REGEX_PATTERN_MAX, error, sizeof(error));
	assert_non_null(r);
	regex_free(r);
	assert_null(regex_new(pattern, REGEX_PATTERN_MAX + 1, error, sizeof(error)));
	assert_string_equal(error, "longer than 1024 bytes");
}

static void a_hostile_text_takes_no_time(void **state)
{
	static char text[16384];
	struct timespec a, b;
	char error[128];
	struct regex *r = regex_new("(a+)+b", 6, error, sizeof(error));

	(void)state;
	memset(text, 'a', sizeof(text));
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_false(regex_match(r, text, sizeof(text)));
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 500);
	regex_free(r);
}

static void out_of_its_memory_a_pattern_is_refused_not_run(void **state)
{
	static const char pattern[] = "((a{100}){100}){100}";
	char error[128];

	(void)state;
	assert_null(regex_new(pattern, strlen(pattern), error, sizeof(error)));
	assert_string_not_equal(error, "");
}

static void texts_with_nul_are_matched_by_length(void **state)
{
	char error[128];
	struct regex *r = regex_new("/a.b", 4, error, sizeof(error));

	(void)state;
	assert_true(regex_match(r, "/a\0b", 4));
	assert_false(regex_match(r, "/a\0bc", 5));
	regex_free(r);
	regex_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pattern_matches_the_whole_text_or_not_at_all),
		cmocka_unit_test(case_counts_unless_the_pattern_says_otherwise),
		cmocka_unit_test(a_dot_matches_neither_newline_nor_broken_utf8),
		cmocka_unit_test(what_re2_cannot_do_in_linear_time_is_refused_with_words),
		cmocka_unit_test(a_pattern_has_a_bounded_length),
		cmocka_unit_test(a_hostile_text_takes_no_time),
		cmocka_unit_test(out_of_its_memory_a_pattern_is_refused_not_run),
		cmocka_unit_test(texts_with_nul_are_matched_by_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
