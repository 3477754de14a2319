/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/path_readings.h"

static struct path_readings readings;

static void is_slice(struct slice s, const char *want)
{
	if (want == NULL) {
		assert_null(s.p);
		return;
	}
	assert_non_null(s.p);
	if (s.len != strlen(want) || memcmp(s.p, want, s.len) != 0)
		fail_msg("'%.*s' is not '%s'", (int)s.len, s.p, want);
}

/* normal NULL: there is one reading only; lenient NULL: there is no lenient one. */
static void reads(const char *path, const char *normal, const char *lenient)
{
	path_readings_make(&readings, (struct slice){path, strlen(path)});
	is_slice(readings.item[0], path);
	if (normal == NULL) {
		assert_int_equal(readings.count, 1);
		return;
	}
	assert_int_equal(readings.count, 3);
	is_slice(readings.item[1], normal);
	is_slice(readings.item[2], lenient);
}

static void a_path_that_invites_no_other_reading_has_one(void **state)
{
	(void)state;
	reads("/", NULL, NULL);
	reads("/public/a?x=1", NULL, NULL);
	reads("*", NULL, NULL);
	reads("", NULL, NULL);
	reads("/a.b/c..d", NULL, NULL);
	reads("/a?x=%2e%2e//..\\", NULL, NULL); /* the query is not a path */
}

static void each_sign_of_another_reading_is_noticed(void **state)
{
	(void)state;
	reads("/a%zz", "/a%zz", "/a%zz");
	reads("//a", "//a", "/a");
	reads("/a\\b", "/a\\b", "/a/b");
	reads("/.a", "/.a", "/.a");
}

static void the_examples_of_the_manual_read_as_it_says(void **state)
{
	(void)state;
	reads("/public/%61", "/public/a", "/public/a");
	reads("/public/../admin", "/admin", "/admin");
	reads("/public/..%2fadmin", "/public/..%2fadmin", "/admin");
	reads("/public/..%5c..%255cadmin", "/public/..%5c..%255cadmin", "/admin");
	reads("//public/a", "//public/a", "/public/a");
}

static void the_query_stays_unread_behind_every_reading(void **state)
{
	(void)state;
	reads("/a/../b?x=../%2e", "/b?x=../%2e", "/b?x=../%2e");
	reads("/a%3fb?c", "/a%3fb?c", "/a?b?c");
}

static void dot_segments_go_as_rfc_3986_says(void **state)
{
	(void)state;
	reads("/a/b/c/./../../g", "/a/g", "/a/g");
	reads("/..", "/", "/");
	reads("/../../a", "/a", "/a");
	reads("/a/.", "/a/", "/a/");
	reads("/a/..", "/", "/");
	reads("/a/../", "/", "/");
	reads("/a//../b", "/a/b", "/b");
	reads("/...", "/...", "/...");
	reads("/.../..a/.b", "/.../..a/.b", "/.../..a/.b");
	reads("/%2e%2e/a", "/a", "/a");
}

static void escapes_are_decoded_three_times_at_most(void **state)
{
	(void)state;
	reads("/%2f", "/%2f", "/");
	reads("/%252fa", "/%252fa", "/a");
	reads("/%25252fa", "/%25252fa", "/a");
	reads("/%2525252fa", "/%2525252fa", NULL);
	reads("/%2525252525a", "/%2525252525a", NULL);
	reads("/%252", "/%252", "/%2");
	reads("/%", "/%", "/%");
	reads("/%25zz", "/%25zz", "/%zz");
}

static void a_nul_that_was_escaped_is_kept_in_the_lenient_reading(void **state)
{
	(void)state;
	path_readings_make(&readings, (struct slice){"/a%00/..%2fb", 12});
	assert_int_equal(readings.count, 3);
	assert_int_equal(readings.item[2].len, 2);
	assert_memory_equal(readings.item[2].p, "/b", 2);
}

static void the_longest_target_is_read_and_a_longer_one_has_no_other_readings(void **state)
{
	static char path[PATH_READING_MAX + 1];

	(void)state;
	memset(path, 'a', sizeof(path));
	memcpy(path, "/./", 3);
	path_readings_make(&readings, (struct slice){path, PATH_READING_MAX});
	assert_int_equal(readings.item[1].len, PATH_READING_MAX - 2);
	assert_int_equal(readings.item[2].len, PATH_READING_MAX - 2);
	path_readings_make(&readings, (struct slice){path, PATH_READING_MAX + 1});
	assert_int_equal(readings.count, 3);
	assert_null(readings.item[1].p);
	assert_null(readings.item[2].p);
}

/* Reading a reading again changes nothing: otherwise a backend that reads once more would
 * see a path that no rule was asked about. */
static void readings_are_stable(void **state)
{
	static const char alphabet[] = "/.\\%2e2f5ca";
	static struct path_readings again;
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 200000; round++) {
		char path[24] = "/";
		size_t n = 1 + (size_t)(rand_r(&seed) % 20);

		for (size_t i = 1; i < n; i++)
			path[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
		path_readings_make(&readings, (struct slice){path, n});
		if (readings.count == 1 || readings.item[2].p == NULL)
			continue;
		path_readings_make(&again, readings.item[2]);
		if (again.count == 1)
			continue;
		assert_non_null(again.item[2].p);
		assert_int_equal(again.item[2].len, readings.item[2].len);
		assert_memory_equal(again.item[2].p, readings.item[2].p, again.item[2].len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_that_invites_no_other_reading_has_one),
		cmocka_unit_test(each_sign_of_another_reading_is_noticed),
		cmocka_unit_test(the_examples_of_the_manual_read_as_it_says),
		cmocka_unit_test(the_query_stays_unread_behind_every_reading),
		cmocka_unit_test(dot_segments_go_as_rfc_3986_says),
		cmocka_unit_test(escapes_are_decoded_three_times_at_most),
		cmocka_unit_test(a_nul_that_was_escaped_is_kept_in_the_lenient_reading),
		cmocka_unit_test(the_longest_target_is_read_and_a_longer_one_has_no_other_readings),
		cmocka_unit_test(readings_are_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
