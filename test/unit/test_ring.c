/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/ring.h"

static bool put(struct ring *r, const void *p, size_t len)
{
	void *to = ring_reserve(r, len);

	if (to == NULL)
		return false;
	memcpy(to, p, len);
	ring_commit(r, len);
	return true;
}

static void expect(struct ring *r, const char *text)
{
	size_t len = 0;
	const char *p = ring_peek(r, &len);

	assert_non_null(p);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(p, text, len);
	ring_consume(r);
}

static void messages_come_out_in_order_and_whole(void **state)
{
	struct ring *r = ring_new(256);
	size_t len;

	(void)state;
	assert_null(ring_peek(r, &len));
	assert_true(put(r, "one", 3));
	assert_true(put(r, "", 0));
	assert_true(put(r, "three of them", 13));
	expect(r, "one");
	expect(r, "");
	expect(r, "three of them");
	assert_null(ring_peek(r, &len));
	ring_free(r);
}

static void a_full_ring_refuses_and_takes_again_once_read(void **state)
{
	struct ring *r = ring_new(64);
	size_t len;

	(void)state;
	assert_false(ring_crowded(r));
	assert_true(put(r, "12345678", 8));
	assert_true(put(r, "12345678", 8));
	assert_false(ring_crowded(r));
	assert_true(put(r, "12345678", 8));
	assert_true(ring_crowded(r));
	assert_true(put(r, "12345678", 8)); /* exactly full */
	assert_false(ring_empty(r));
	assert_null(ring_reserve(r, 0));
	expect(r, "12345678");
	assert_true(put(r, "abcdefgh", 8));
	for (int i = 0; i < 3; i++)
		expect(r, "12345678");
	expect(r, "abcdefgh");
	assert_false(ring_crowded(r));
	assert_true(ring_empty(r));
	assert_null(ring_peek(r, &len));
	ring_free(r);
}

static void a_message_that_can_never_fit_is_refused(void **state)
{
	struct ring *r = ring_new(64);

	(void)state;
	assert_null(ring_reserve(r, 57));
	assert_null(ring_reserve(r, 64));
	assert_null(ring_reserve(r, SIZE_MAX));
	assert_non_null(ring_reserve(r, 56));
	ring_free(r);
}

static void a_message_that_does_not_fit_before_the_end_begins_anew(void **state)
{
	struct ring *r = ring_new(128);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		char text[64] = {0};
		size_t len = (size_t)(i * 7 % 41);

		memset(text, 'a' + i % 26, len);
		assert_true(put(r, text, len));
		expect(r, text);
	}
	ring_free(r);
}

#define COUNT 300000U

static size_t length_of(uint32_t n)
{
	return sizeof n + n * 2654435761U % 100;
}

static void *produce(void *arg)
{
	char message[128];

	for (uint32_t n = 0; n < COUNT;) {
		memset(message, (int)(n & 0xff), sizeof message);
		memcpy(message, &n, sizeof n);
		if (put(arg, message, length_of(n)))
			n++;
	}
	return NULL;
}

static void two_threads_lose_and_tear_nothing(void **state)
{
	struct ring *r = ring_new(4096);
	pthread_t producer;
	const unsigned char *p;
	uint32_t number;
	size_t len;

	(void)state;
	assert_int_equal(pthread_create(&producer, NULL, produce, r), 0);
	for (uint32_t n = 0; n < COUNT;) {
		p = ring_peek(r, &len);
		if (p == NULL)
			continue;
		memcpy(&number, p, sizeof number);
		assert_int_equal(number, n);
		assert_int_equal(len, length_of(n));
		for (size_t i = sizeof number; i < len; i++)
			assert_int_equal(p[i], n & 0xff);
		ring_consume(r);
		n++;
	}
	pthread_join(producer, NULL);
	assert_null(ring_peek(r, &len));
	ring_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_come_out_in_order_and_whole),
		cmocka_unit_test(a_full_ring_refuses_and_takes_again_once_read),
		cmocka_unit_test(a_message_that_can_never_fit_is_refused),
		cmocka_unit_test(a_message_that_does_not_fit_before_the_end_begins_anew),
		cmocka_unit_test(two_threads_lose_and_tear_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
