/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostile.h"
#include "proxy/history.h"

static unsigned char byte_of(uint64_t n)
{
	return (unsigned char)(n * 31 + n / 251);
}

static void add(struct history *h, size_t len)
{
	unsigned char byte = byte_of(history_next(h));
	void *p = history_add(h, len);

	assert_non_null(p);
	memset(p, byte, len);
}

/* All of it is what was written there, as long as it says it is there. */
static void expect_whole(const struct history *h, const size_t *lens)
{
	for (uint64_t n = history_first(h); n < history_next(h); n++) {
		size_t len;
		const unsigned char *p = history_get(h, n, &len);

		assert_int_equal(len, lens[n]);
		for (size_t i = 0; i < len; i++)
			if (p[i] != byte_of(n))
				fail_msg("byte %zu of record %zu of %zu", i, (size_t)n, len);
	}
}

static void records_stay_whole_until_they_give_way(void **state)
{
	enum { RECORDS = 20000 };
	struct history *h = history_new();
	size_t *lens = calloc(RECORDS, sizeof *lens), kept = 0;

	(void)state;
	for (size_t n = 0; n < RECORDS; n++) {
		lens[n] = n < RECORDS / 2 ? chance(1000) : chance(8192);
		assert_int_equal(history_next(h), n);
		add(h, lens[n]);
		if (n % 1000 == 999 || n % 1000 == 0)
			expect_whole(h, lens);
		if (n == RECORDS / 2 - 1) /* their number is the bound */
			assert_int_equal(history_next(h) - history_first(h), HISTORY_RECORDS);
	}
	for (uint64_t n = history_first(h); n < history_next(h); n++)
		kept += lens[n];
	assert_in_range(kept, HISTORY_BYTES - 4 * 8192, HISTORY_BYTES); /* their size is */
	history_free(h);
	free(lens);
}

static void one_may_take_all_the_room_and_none_more(void **state)
{
	struct history *h = history_new();
	size_t len;

	(void)state;
	assert_int_equal(history_first(h), history_next(h));
	add(h, 10);
	assert_null(history_add(h, HISTORY_BYTES + 1));
	assert_int_equal(history_next(h), 1);
	add(h, HISTORY_BYTES);
	assert_int_equal(history_first(h), 1);
	assert_int_equal(history_next(h), 2);
	history_get(h, 1, &len);
	assert_int_equal(len, HISTORY_BYTES);
	add(h, 0);
	add(h, 1);
	assert_int_equal(history_next(h), 4);
	history_free(h);
	history_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_stay_whole_until_they_give_way),
		cmocka_unit_test(one_may_take_all_the_room_and_none_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
