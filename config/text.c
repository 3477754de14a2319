/* SPDX-License-Identifier: Apache-2.0 */
/* Text builder, see text.h. Grows by doubling; nothing here can fail half-way. */
#include "config/text.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void text_fixed(struct text *t, char *buf, size_t size)
{
	buf[0] = '\0';
	*t = (struct text){.p = buf, .size = size, .fixed = true};
}

void text_free(struct text *t)
{
	if (!t->fixed)
		free(t->p);
	*t = (struct text){0};
}

static bool text_grow(struct text *t, size_t need)
{
	size_t size = t->size < 64 ? 64 : t->size;
	char *p;

	while (size < need)
		size *= 2;
	p = realloc(t->p, size);
	if (p == NULL) {
		t->failed = true;
		return false;
	}
	t->p = p;
	t->size = size;
	return true;
}

/* As many of the n bytes as fit, whole characters only. */
static size_t text_cut(const struct text *t, const char *p, size_t n)
{
	size_t room = t->size - 1 - t->len;

	if (n <= room)
		return n;
	while (room > 0 && ((unsigned char)p[room] & 0xc0) == 0x80)
		room--;
	return room;
}

void text_add_n(struct text *t, const char *p, size_t n)
{
	if (t->failed)
		return;
	if (t->fixed) {
		size_t take = text_cut(t, p, n);

		t->failed = take < n;
		n = take;
	} else if (t->len + n + 1 > t->size && !text_grow(t, t->len + n + 1)) {
		return;
	}
	if (n > 0)
		memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = '\0';
}

void text_add(struct text *t, const char *s)
{
	if (s != NULL)
		text_add_n(t, s, strlen(s));
}

char *text_reserve(struct text *t, size_t n)
{
	assert(!t->fixed);
	if (t->failed || (t->len + n + 1 > t->size && !text_grow(t, t->len + n + 1)))
		return NULL;
	return t->p + t->len;
}

void text_commit(struct text *t, char *end)
{
	t->len = (size_t)(end - t->p);
	assert(t->len < t->size);
	*end = '\0';
}

/* Two digits at a time, from the last one. */
char *text_put_number(char *to, uint64_t n)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324"
				    "25262728293031323334353637383940414243444546474849"
				    "50515253545556575859606162636465666768697071727374"
				    "75767778798081828384858687888990919293949596979899";
	char digits[TEXT_NUMBER_MAX];
	char *const end = digits + sizeof digits;
	char *p = end;

	for (; n >= 100; n /= 100)
		memcpy(p -= 2, pairs + n % 100 * 2, 2);
	if (n >= 10)
		memcpy(p -= 2, pairs + n * 2, 2);
	else
		*--p = (char)('0' + n);
	memcpy(to, p, (size_t)(end - p));
	return to + (end - p);
}

void text_add_number(struct text *t, uint64_t n)
{
	char digits[TEXT_NUMBER_MAX];

	text_add_n(t, digits, (size_t)(text_put_number(digits, n) - digits));
}

void text_add_slice(struct text *t, struct slice s)
{
	text_add_n(t, s.p, s.len);
}

void text_add_char(struct text *t, char c)
{
	text_add_n(t, &c, 1);
}

void text_adds(struct text *t, ...)
{
	va_list ap;
	const char *s;

	va_start(ap, t);
	while ((s = va_arg(ap, const char *)) != NULL)
		text_add(t, s);
	va_end(ap);
}

size_t text_utf8(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t len;
	unsigned min = 0x80, max = 0xbf; /* of the second byte */

	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	len = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (u[0] == 0xe0)
		min = 0xa0; /* overlong */
	else if (u[0] == 0xed)
		max = 0x9f; /* surrogates */
	else if (u[0] == 0xf0)
		min = 0x90;
	else if (u[0] == 0xf4)
		max = 0x8f;
	if (n < len || u[1] < min || u[1] > max)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Bytes that stand in a JSON string as they are, as long as they are no part of a character of
 * several. */
static const bool plain[256] = {
	[' ' ... '!'] = true,
	['#' ... '['] = true,
	[']' ... '~'] = true,
};

static char *put_escape(char *to, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	*to++ = '\\';
	if (c == '"' || c == '\\') {
		*to++ = (char)c;
	} else if (c == '\n') {
		*to++ = 'n';
	} else if (c == '\t') {
		*to++ = 't';
	} else {
		memcpy(to, "u00", 3);
		to[3] = hex[c >> 4];
		to[4] = hex[c & 15];
		to += 5;
	}
	return to;
}

/* The character at *p, of those that are not plain: at most six bytes. */
static char *put_character(char *to, const char **p, const char *end)
{
	size_t len = text_utf8(*p, (size_t)(end - *p));

	if (len > 1)
		memcpy(to, *p, len);
	else if (len == 0)
		memcpy(to, "\xef\xbf\xbd", 3);
	else
		return put_escape(to, (unsigned char)*(*p)++);
	*p += len == 0 ? 1 : len;
	return to + (len == 0 ? 3 : len);
}

/* Are all eight bytes plain? The highest bit of a byte tells that it has it, that it is DEL, or
 * that a difference fell below zero; the lowest byte of which that is true is always found. */
static bool all_plain(uint64_t bytes)
{
	const uint64_t each = UINT64_C(0x0101010101010101), high = each << 7;
	uint64_t quote = bytes ^ each * '"', backslash = bytes ^ each * '\\';

	return ((bytes | (bytes + each) | (bytes - each * ' ') | (quote - each) |
		 (backslash - each)) &
		high) == 0;
}

char *text_put_json(char *to, struct slice s)
{
	const char *p = s.p, *end = s.p + s.len;
	uint64_t bytes;

	*to++ = '"';
	for (; end - p >= (long)sizeof bytes; p += sizeof bytes, to += sizeof bytes) {
		memcpy(&bytes, p, sizeof bytes);
		if (!all_plain(bytes))
			break;
		memcpy(to, &bytes, sizeof bytes);
	}
	while (p < end) {
		if (plain[(unsigned char)*p])
			*to++ = *p++;
		else
			to = put_character(to, &p, end);
	}
	*to++ = '"';
	return to;
}

void text_add_json(struct text *t, const char *p, size_t n)
{
	const char *end = p + n, *from;
	char character[6];

	text_add_char(t, '"');
	while (p < end) {
		for (from = p; p < end && plain[(unsigned char)*p]; p++) {
		}
		text_add_n(t, from, (size_t)(p - from));
		if (p < end)
			text_add_n(t, character,
				   (size_t)(put_character(character, &p, end) - character));
	}
	text_add_char(t, '"');
}

void text_add_json_string(struct text *t, const char *s)
{
	if (s == NULL)
		text_add(t, "null");
	else
		text_add_json(t, s, strlen(s));
}

void text_add_json_slice(struct text *t, struct slice s)
{
	text_add_json(t, s.p, s.len);
}

static bool is_v4(const struct addr16 *ip)
{
	return ip->word[0] == 0 && ip->word[1] == 0 && ip->word[2] == htonl(0xffff);
}

static char *put_v4(char *to, const unsigned char *ip)
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*to++ = '.';
		to = text_put_number(to, ip[i]);
	}
	return to;
}

static char *put_hex(char *to, unsigned n)
{
	static const char hex[] = "0123456789abcdef";

	for (unsigned shift = 12; shift > 0; shift -= 4)
		if (n >> shift != 0)
			*to++ = hex[n >> shift & 15];
	*to++ = hex[n & 15];
	return to;
}

/* The first of the longest runs of zero groups, two at least: RFC 5952 4.2. */
static void longest_zeros(const unsigned group[8], int *start, int *len)
{
	int run = 0;

	*start = *len = 0;
	for (int i = 0; i < 8; i++) {
		run = group[i] == 0 ? run + 1 : 0;
		if (run > *len) {
			*len = run;
			*start = i - run + 1;
		}
	}
	if (*len < 2)
		*start = *len = 0;
}

/* RFC 5952; the IPv4 addresses in ::/96, long out of use, as inet_ntop() has them. */
static char *put_v6(char *to, const unsigned char *ip)
{
	unsigned group[8];
	int start, len;

	for (int i = 0; i < 8; i++)
		group[i] = (unsigned)ip[2 * i] << 8 | ip[2 * i + 1];
	longest_zeros(group, &start, &len);
	for (int i = 0; i < 8; i++) {
		if (len > 0 && i == start) {
			*to++ = ':';
			i += len - 1;
			if (i == 7)
				*to++ = ':';
			continue;
		}
		if (i > 0)
			*to++ = ':';
		if (i == 6 && start == 0 && len == 6)
			return put_v4(to, ip + 12);
		to = put_hex(to, group[i]);
	}
	return to;
}

char *text_put_address(char *to, const struct addr16 *ip)
{
	if (is_v4(ip))
		return put_v4(to, (const unsigned char *)&ip->word[3]);
	return put_v6(to, (const unsigned char *)ip);
}

char *text_put_endpoint(char *to, const struct addr16 *ip, uint16_t port_net)
{
	if (is_v4(ip)) {
		to = text_put_address(to, ip);
	} else {
		*to++ = '[';
		to = text_put_address(to, ip);
		*to++ = ']';
	}
	*to++ = ':';
	return text_put_number(to, ntohs(port_net));
}

void text_add_address(struct text *t, const struct addr16 *ip)
{
	char out[TEXT_ENDPOINT_MAX];

	text_add_n(t, out, (size_t)(text_put_address(out, ip) - out));
}

void text_add_endpoint(struct text *t, const struct addr16 *ip, uint16_t port_net)
{
	char out[TEXT_ENDPOINT_MAX];

	text_add_n(t, out, (size_t)(text_put_endpoint(out, ip, port_net) - out));
}

bool text_failed(const struct text *t)
{
	return t->failed;
}

char *text_take(struct text *t)
{
	char *p;

	text_add_n(t, "", 0);
	p = t->p;
	if (t->failed) {
		text_free(t);
		return NULL;
	}
	*t = (struct text){0};
	return p;
}

const char *text_string(const struct text *t)
{
	return t->p == NULL ? "" : t->p;
}
