/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/text.h"
#include "hostile.h"

#define S(text) ((struct slice){(text), sizeof(text) - 1})

static void expect(struct text *t, const char *text)
{
	assert_false(text_failed(t));
	assert_string_equal(t->p, text);
	assert_int_equal(t->len, strlen(text));
	text_free(t);
}

static void pieces_follow_each_other(void **state)
{
	struct text t = {0};

	(void)state;
	text_add(&t, "a");
	text_add(&t, NULL);
	text_add_char(&t, 'b');
	text_add_slice(&t, S("cd"));
	text_add_slice(&t, (struct slice){NULL, 0});
	text_add_number(&t, 0);
	text_add_number(&t, UINT64_MAX);
	expect(&t, "abcd018446744073709551615");
}

static void a_long_text_grows(void **state)
{
	struct text t = {0};
	char *p;

	(void)state;
	for (int i = 0; i < 100000; i++)
		text_add_char(&t, (char)('a' + i % 26));
	assert_int_equal(t.len, 100000);
	p = text_take(&t);
	assert_int_equal(strlen(p), 100000);
	assert_int_equal(p[99999], 'a' + 99999 % 26);
	free(p);
	p = text_take(&t);
	assert_string_equal(p, "");
	free(p);
}

static void json_escapes_what_it_must(void **state)
{
	struct text t = {0};

	(void)state;
	text_add_json_string(&t, NULL);
	text_add_json_string(&t, "a\"b\\c/d");
	text_add_json_slice(&t, S("\n\0\x1f"));
	text_add_json_slice(&t, S(""));
	expect(&t, "null\"a\\\"b\\\\c/d\"\"\\n\\u0000\\u001f\"\"\"");
}

static void json_is_utf8_whatever_came(void **state)
{
	static const struct {
		struct slice in;
		const char *out;
	} cases[] = {
		{S("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
		 "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
		{S("a\xff"), "\"a\xef\xbf\xbd\""},
		{S("\xc3"), "\"\xef\xbf\xbd\""}, /* cut */
		{S("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\""}, /* overlong */
		{S("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* surrogate */
		{S("\xf4\x90\x80\x80"),
		 "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* past U+10FFFF */
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct text t = {0};

		text_add_json_slice(&t, cases[i].in);
		expect(&t, cases[i].out);
	}
}

static struct addr16 address(const char *text)
{
	struct addr16 a = {.word = {0, 0, htonl(0xffff), 0}};

	assert_int_equal(strchr(text, ':') != NULL ? inet_pton(AF_INET6, text, &a)
						   : inet_pton(AF_INET, text, &a.word[3]),
			 1);
	return a;
}

static void addresses_read_as_people_write_them(void **state)
{
	struct addr16 v4 = address("10.244.1.7"), v6 = address("2001:db8::1");
	struct text t = {0};

	(void)state;
	text_add_address(&t, &v4);
	text_add_char(&t, ' ');
	text_add_endpoint(&t, &v4, htons(80));
	text_add_char(&t, ' ');
	text_add_address(&t, &v6);
	text_add_char(&t, ' ');
	text_add_endpoint(&t, &v6, htons(65535));
	expect(&t, "10.244.1.7 10.244.1.7:80 2001:db8::1 [2001:db8::1]:65535");
}

static void numbers_are_decimal(void **state)
{
	char put[TEXT_NUMBER_MAX + 1], want[32];
	uint64_t n = 1;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		*text_put_number(put, n) = '\0';
		snprintf(want, sizeof want, "%llu", (unsigned long long)n);
		assert_string_equal(put, want);
		n = i < 20 ? n * 10 : i < 40 ? n / 10 - 1 : UINT64_MAX >> chance(64);
		n -= i > 40 ? chance(3) : 0;
	}
}

/* What inet_ntop() makes of it is what every other program says. */
static void every_address_reads_as_libc_writes_it(void **state)
{
	char put[TEXT_ENDPOINT_MAX + 1], want[INET6_ADDRSTRLEN + 8], ip[INET6_ADDRSTRLEN];
	size_t longest = 0;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		struct addr16 a = {{0, 0, htonl(0xffff), 0}};
		unsigned char *byte = (unsigned char *)&a;
		unsigned zeros = chance(4), port = chance(65536);
		bool v4 = chance(3) == 0;

		for (unsigned j = v4 ? 12 : 0; j < 16; j += 2) {
			bool zero = zeros > 0 && chance(4) < zeros;

			byte[j] = (unsigned char)(zero ? 0 : chance(256) >> chance(9));
			byte[j + 1] = (unsigned char)(zero ? 0 : chance(256) >> chance(9));
		}
		v4 = v4 || memcmp(byte, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
		assert_non_null(
			inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? byte + 12 : byte, ip, sizeof ip));
		*text_put_address(put, &a) = '\0';
		assert_string_equal(put, ip);
		snprintf(want, sizeof want, v4 ? "%s:%u" : "[%s]:%u", ip, port);
		*text_put_endpoint(put, &a, htons((uint16_t)port)) = '\0';
		assert_string_equal(put, want);
		longest = strlen(put) > longest ? strlen(put) : longest;
	}
	assert_in_range(longest, 40, TEXT_ENDPOINT_MAX);
}

static void json_of_any_bytes_is_that_of_the_reference(void **state)
{
	char *in = malloc(64), want[TEXT_JSON_MAX(64)], put[TEXT_JSON_MAX(64)];

	(void)state;
	for (int i = 0; i < 50000; i++) {
		size_t n = hostile_string(in, 64), len;
		char *at = in + 64 - n; /* what reads past it is seen by ASan */
		struct text t = {0};

		memmove(at, in, n);
		len = json_of((const unsigned char *)at, n, want);
		assert_int_equal(text_put_json(put, (struct slice){at, n}) - put, len);
		assert_memory_equal(put, want, len);
		text_add_json(&t, at, n);
		assert_int_equal(t.len, len);
		assert_memory_equal(t.p, want, len);
		text_free(&t);
	}
	free(in);
}

static void reserved_room_takes_what_is_put_there(void **state)
{
	struct text t = {0};
	char *p;

	(void)state;
	text_add(&t, "n=");
	for (int i = 0; i < 100; i++) {
		p = text_reserve(&t, TEXT_NUMBER_MAX);
		assert_non_null(p);
		text_commit(&t, text_put_number(p, UINT64_MAX));
	}
	assert_int_equal(t.len, 2 + 100 * TEXT_NUMBER_MAX);
	assert_int_equal(strlen(t.p), t.len);
	assert_string_equal(t.p + t.len - 20, "18446744073709551615");
	text_free(&t);
	t.failed = true;
	assert_null(text_reserve(&t, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_follow_each_other),
		cmocka_unit_test(a_long_text_grows),
		cmocka_unit_test(json_escapes_what_it_must),
		cmocka_unit_test(json_is_utf8_whatever_came),
		cmocka_unit_test(addresses_read_as_people_write_them),
		cmocka_unit_test(numbers_are_decimal),
		cmocka_unit_test(every_address_reads_as_libc_writes_it),
		cmocka_unit_test(json_of_any_bytes_is_that_of_the_reference),
		cmocka_unit_test(reserved_room_takes_what_is_put_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
