/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/text.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_follow_each_other),
		cmocka_unit_test(a_long_text_grows),
		cmocka_unit_test(json_escapes_what_it_must),
		cmocka_unit_test(json_is_utf8_whatever_came),
		cmocka_unit_test(addresses_read_as_people_write_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
