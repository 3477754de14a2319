/* SPDX-License-Identifier: Apache-2.0 */
#include "failmalloc.h"
#include "proxy/codec/pool.h"
#include "proxy/codec/queue.h"
#include "proxy/codec/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct codec_event body(uint32_t stream, const char *p, size_t len)
{
	return (struct codec_event){.type = CODEC_EV_BODY, .stream = stream, .data = {p, len}};
}

static struct codec_event end(uint32_t stream)
{
	return (struct codec_event){.type = CODEC_EV_END, .stream = stream};
}

static void push(struct queue *q, struct codec_event ev)
{
	assert_int_equal(queue_push(q, &ev), 0);
}

static void events_leave_in_the_order_they_came(void **state)
{
	struct queue q = {0};
	struct codec_event ev;
	uint32_t in = 0, out = 0;

	(void)state;
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 7; i++)
			push(&q, end(in++));
		for (int i = 0; i < 5; i++) {
			assert_true(queue_pop(&q, &ev));
			assert_int_equal(ev.stream, out++);
		}
	}
	while (queue_pop(&q, &ev))
		assert_int_equal(ev.stream, out++);
	assert_int_equal(in, out);
	queue_free(&q);
}

static void bytes_that_continue_the_last_body_are_joined_to_it(void **state)
{
	static const char text[] = "abcdef";
	struct queue q = {0};
	struct codec_event ev;

	(void)state;
	push(&q, body(1, text, 2));
	push(&q, body(1, text + 2, 2));
	push(&q, body(2, text + 4, 1)); /* another stream */
	push(&q, body(2, text, 1)); /* elsewhere */
	assert_true(queue_pop(&q, &ev));
	assert_int_equal(ev.data.len, 4);
	assert_true(queue_pop(&q, &ev));
	assert_int_equal(ev.data.len, 1);
	assert_true(queue_pop(&q, &ev));
	assert_ptr_equal(ev.data.p, text);
	assert_false(queue_pop(&q, &ev));
	queue_free(&q);
}

static void a_pool_gives_what_was_put_and_keeps_a_bounded_rest(void **state)
{
	static void *block[POOL_KEEP / POOL_MIN + 8];
	const size_t most = POOL_KEEP / POOL_MIN, n = most + 8;
	struct pool pool = {0};
	ptrdiff_t before = failmalloc_live();

	(void)state;
	assert_int_equal(pool_size(1), POOL_MIN);
	assert_int_equal(pool_size(POOL_MIN + 1), 2 * POOL_MIN);
	assert_int_equal(pool_size(POOL_MAX), POOL_MAX);
	assert_int_equal(pool_size(POOL_MAX + 1), POOL_MAX + 1);
	for (size_t i = 0; i < n; i++)
		block[i] = pool_get(&pool, POOL_MIN);
	for (size_t i = 0; i < n; i++)
		pool_put(&pool, block[i], POOL_MIN);
	failmalloc_at(0);
	for (size_t i = 0; i < most; i++) {
		block[i] = pool_get(&pool, POOL_MIN);
		memset(block[i], 'x', POOL_MIN);
	}
	assert_int_equal(failmalloc_count(), 0);
	block[most] = pool_get(&pool, POOL_MIN); /* it kept no more */
	assert_int_equal(failmalloc_count(), 1);
	for (size_t i = 0; i <= most; i++)
		pool_put(&pool, block[i], POOL_MIN);
	for (int i = 0; i < 2; i++) { /* not one of its sizes: never kept */
		block[0] = pool_get(&pool, POOL_MIN + 1);
		pool_put(&pool, block[0], POOL_MIN + 1);
	}
	assert_int_equal(failmalloc_count(), 3);
	pool_put(&pool, NULL, POOL_MIN);
	pool_drop(&pool);
	assert_int_equal(failmalloc_live(), before);
}

static void a_queue_keeps_small_memory_and_gives_back_big(void **state)
{
	struct queue q = {0};
	struct codec_event ev;

	(void)state;
	push(&q, end(1));
	assert_true(queue_pop(&q, &ev));
	queue_shrink(&q);
	assert_non_null(q.at);
	for (uint32_t i = 0; i < 1000; i++)
		push(&q, end(i));
	queue_shrink(&q); /* not while events wait */
	assert_int_equal(q.count, 1000);
	while (queue_pop(&q, &ev))
		;
	queue_shrink(&q);
	assert_null(q.at);
	queue_free(&q);
}

static void a_failed_push_leaves_the_queue_as_it_was(void **state)
{
	struct queue q = {0};
	struct codec_event ev;
	uint32_t n = 0;

	(void)state;
	for (unsigned at = 1; at <= 2; at++) {
		failmalloc_at(at);
		for (;;) {
			ev = end(n);
			if (queue_push(&q, &ev) < 0)
				break;
			n++;
		}
		assert_true(failmalloc_hit());
	}
	assert_true(n > 0);
	for (uint32_t i = 0; i < n; i++) {
		assert_true(queue_pop(&q, &ev));
		assert_int_equal(ev.stream, i);
	}
	assert_false(queue_pop(&q, &ev));
	queue_free(&q);
}

static void what_an_arena_gave_does_not_move_while_text_grows(void **state)
{
	struct store a = {0};
	char *kept[50];

	(void)state;
	for (int i = 0; i < 50; i++) {
		kept[i] = store_take(&a, 100);
		assert_non_null(kept[i]);
		memset(kept[i], i, 100);
		for (int j = 0; j < 300; j++)
			assert_int_equal(store_append(&a, "x", 1), 0);
		assert_int_equal(a.text_len, 300);
		store_text_done(&a);
	}
	for (int i = 0; i < 50; i++)
		for (int j = 0; j < 100; j++)
			assert_int_equal(kept[i][j], i);
	store_reset(&a);
	store_free(&a);
}

static void open_text_survives_a_reset(void **state)
{
	struct store a = {0};
	char want[5000];

	(void)state;
	assert_non_null(store_take(&a, 1500));
	for (size_t i = 0; i < sizeof want; i++) {
		want[i] = (char)('a' + i % 26);
		assert_int_equal(store_append(&a, &want[i], 1), 0);
		if (i % 100 == 0)
			store_reset(&a);
	}
	assert_int_equal(a.text_len, sizeof want);
	assert_memory_equal(a.text, want, sizeof want);
	store_text_drop(&a);
	assert_int_equal(a.text_len, 0);
	store_free(&a);
}

static void a_buffer_gives_the_oldest_bytes_first(void **state)
{
	struct buffer b = {0};
	unsigned in = 0, out = 0;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < round % 13; i++) {
			char c = (char)(in++ % 101);

			assert_int_equal(buffer_append(&b, &c, 1), 0);
		}
		for (int i = 0; i < round % 11 && buffer_live(&b).len != 0; i++) {
			assert_int_equal(buffer_live(&b).p[0], (char)(out++ % 101));
			buffer_drop(&b, 1);
		}
	}
	assert_int_equal(buffer_live(&b).len, in - out);
	buffer_drop(&b, 1 << 20); /* more than there is */
	assert_int_equal(buffer_live(&b).len, 0);
	buffer_shrink(&b);
	buffer_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_leave_in_the_order_they_came),
		cmocka_unit_test(bytes_that_continue_the_last_body_are_joined_to_it),
		cmocka_unit_test(a_pool_gives_what_was_put_and_keeps_a_bounded_rest),
		cmocka_unit_test(a_queue_keeps_small_memory_and_gives_back_big),
		cmocka_unit_test(a_failed_push_leaves_the_queue_as_it_was),
		cmocka_unit_test(what_an_arena_gave_does_not_move_while_text_grows),
		cmocka_unit_test(open_text_survives_a_reset),
		cmocka_unit_test(a_buffer_gives_the_oldest_bytes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
