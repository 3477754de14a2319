/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/stopwatch.h"

static uint64_t sum(const struct stopwatch *s)
{
	uint64_t total = 0;

	for (size_t i = 0; i < CLOCK_COUNT; i++)
		total += s->ns[i];
	return total;
}

static void time_goes_to_the_clock_that_runs(void **state)
{
	struct stopwatch s;

	(void)state;
	stopwatch_start(&s, CLOCK_OF_HEAD, 1000);
	stopwatch_run(&s, CLOCK_OF_POLICY, 1100);
	stopwatch_run(&s, CLOCK_OF_WAIT, 1101);
	stopwatch_run(&s, CLOCK_OF_WORK, 5000);
	stopwatch_run(&s, CLOCK_OF_WAIT, 5010);
	stopwatch_run(&s, CLOCK_OF_WAIT, 5020);
	assert_int_equal(s.ns[CLOCK_OF_HEAD], 100);
	assert_int_equal(s.ns[CLOCK_OF_POLICY], 1);
	assert_int_equal(s.ns[CLOCK_OF_WAIT], 3899 + 10);
	assert_int_equal(s.ns[CLOCK_OF_WORK], 10);
	assert_int_equal(stopwatch_total(&s), 4020);
	assert_int_equal(stopwatch_proxy(&s), 11);
	assert_int_equal(sum(&s), 4020);
}

static void a_stamp_of_the_past_counts_as_the_last_switch(void **state)
{
	struct stopwatch s;

	(void)state;
	stopwatch_start(&s, CLOCK_OF_HEAD, 1000);
	stopwatch_run(&s, CLOCK_OF_WORK, 1500);
	stopwatch_run(&s, CLOCK_OF_QUEUE, 900);
	stopwatch_run(&s, CLOCK_OF_WORK, 1600);
	assert_int_equal(s.ns[CLOCK_OF_WORK], 0);
	assert_int_equal(s.ns[CLOCK_OF_QUEUE], 100);
	assert_int_equal(stopwatch_total(&s), 600);
	assert_int_equal(sum(&s), 600);
}

static void the_clocks_add_up_whatever_comes(void **state)
{
	struct stopwatch s;
	uint64_t now = 1U << 20;
	uint32_t x = 1;

	(void)state;
	stopwatch_start(&s, CLOCK_OF_ACCEPT, now);
	for (int i = 0; i < 100000; i++) {
		x = x * 1664525 + 1013904223;
		now += x >> 16 & 0xfff;
		stopwatch_run(&s, (enum clock)(x % CLOCK_COUNT), now - (x >> 28) * 100);
		assert_int_equal(sum(&s), stopwatch_total(&s));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_goes_to_the_clock_that_runs),
		cmocka_unit_test(a_stamp_of_the_past_counts_as_the_last_switch),
		cmocka_unit_test(the_clocks_add_up_whatever_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
