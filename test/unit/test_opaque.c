/* SPDX-License-Identifier: Apache-2.0 */
#include "codec_run.h"
#include "failmalloc.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_stream_begins_before_its_first_byte(void **state)
{
	struct codec *k = codec_opaque.open(CODEC_SERVER, &codec_limits_default, NULL);
	struct codec_event ev;

	(void)state;
	assert_true(codec_opaque.next(k, &ev));
	assert_int_equal(ev.type, CODEC_EV_HEAD);
	assert_int_equal(ev.stream, 1);
	assert_null(ev.head);
	assert_false(codec_opaque.next(k, &ev));
	codec_opaque.close(k);
}

static void bytes_are_content_and_the_fin_is_the_end(void **state)
{
	static const char bytes[] = "\0\1any bytes\xff";
	struct run r;

	(void)state;
	assert_true(run_open(&r, &codec_opaque, CODEC_SERVER, &codec_limits_default));
	r.mute = true;
	run_feed(&r, bytes, 3);
	run_feed(&r, bytes + 3, sizeof bytes - 1 - 3);
	assert_false(codec_opaque.full(r.k));
	run_finish(&r);
	assert_int_equal(r.err, 0);
	assert_int_equal(r.events.len, sizeof "HEAD 1 wire=0\nBODY 1 \nEND 1\n" - 1 + 12);
	assert_memory_equal(r.events.p, "HEAD 1 wire=0\nBODY 1 \0\1any bytes\xff\nEND 1\n",
			    r.events.len);
	assert_int_equal(codec_opaque.feed(r.k, (struct slice){"x", 1}), -EINVAL);
	run_close(&r);
}

static void what_is_emitted_leaves_as_it_is_and_left_follows_the_last_byte(void **state)
{
	struct run r;

	(void)state;
	assert_true(run_open(&r, &codec_opaque, CODEC_SERVER, &codec_limits_default));
	r.mute = true;
	run_drain(&r);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "x"), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, NULL, NULL), 0);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, NULL, NULL), -EINVAL);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "hello, world"), 0);
	run_settle(&r);
	assert_string_equal(r.out.p, "hello, world");
	assert_false(codec_opaque.done(r.k));
	assert_null(strstr(r.events.p, "LEFT"));
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "!"), 0);
	assert_int_equal(run_emit(&r, CODEC_EV_END, 1, NULL, NULL), 0);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "x"), -EINVAL);
	assert_true(codec_opaque.done(r.k));
	assert_null(strstr(r.events.p, "LEFT"));
	run_settle(&r);
	run_settle(&r); /* once only */
	assert_string_equal(r.events.p, "HEAD 1 wire=0\nLEFT 1\n");
	run_close(&r);
}

static void that_the_connection_is_to_end_changes_nothing(void **state)
{
	struct run r;

	(void)state;
	assert_true(run_open(&r, &codec_opaque, CODEC_SERVER, &codec_limits_default));
	r.mute = true;
	run_feed(&r, "ab", 2);
	codec_opaque.last(r.k);
	assert_false(codec_opaque.done(r.k));
	assert_int_equal(codec_opaque.pending(r.k).len, 0);
	run_feed(&r, "cd", 2);
	assert_int_equal(run_emit(&r, CODEC_EV_HEAD, 1, NULL, NULL), 0);
	assert_int_equal(run_emit(&r, CODEC_EV_BODY, 1, NULL, "e"), 0);
	run_settle(&r);
	assert_false(codec_opaque.done(r.k));
	assert_string_equal(r.events.p, "HEAD 1 wire=0\nBODY 1 abcd");
	run_close(&r);
}

static int scenario(void)
{
	struct codec *k = codec_opaque.open(CODEC_SERVER, &codec_limits_default, NULL);
	struct codec_event ev = {.type = CODEC_EV_HEAD, .stream = 1};
	struct codec_event got;
	static char bytes[5000];
	int err;

	if (k == NULL)
		return -ENOMEM;
	err = codec_opaque.emit(k, &ev);
	for (int i = 0; i < 20 && err == 0; i++)
		err = codec_opaque.feed(k, (struct slice){bytes + i * 2, 1});
	ev = (struct codec_event){.type = CODEC_EV_BODY, .stream = 1, .data = {bytes, 5000}};
	for (int i = 0; i < 5 && err == 0; i++)
		err = codec_opaque.emit(k, &ev);
	if (err == 0)
		err = codec_opaque.finish(k);
	ev = (struct codec_event){.type = CODEC_EV_END, .stream = 1};
	if (err == 0)
		err = codec_opaque.emit(k, &ev);
	if (err == 0)
		err = codec_opaque.sent(k, 25000);
	while (codec_opaque.next(k, &got))
		;
	codec_opaque.close(k);
	return err;
}

static void each_allocation_that_fails_is_reported(void **state)
{
	unsigned n;
	int rc;

	(void)state;
	for (n = 1;; n++) {
		failmalloc_at(n);
		rc = scenario();
		if (!failmalloc_hit())
			break;
		assert_int_equal(rc, -ENOMEM);
	}
	assert_int_equal(rc, 0);
	assert_true(n > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_begins_before_its_first_byte),
		cmocka_unit_test(bytes_are_content_and_the_fin_is_the_end),
		cmocka_unit_test(what_is_emitted_leaves_as_it_is_and_left_follows_the_last_byte),
		cmocka_unit_test(that_the_connection_is_to_end_changes_nothing),
		cmocka_unit_test(each_allocation_that_fails_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
