/* SPDX-License-Identifier: Apache-2.0 */
/* Text builder, see text.h. Grows by doubling; nothing here can fail half-way. */
#include "config/text.h"

#include <arpa/inet.h>
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

void text_add_number(struct text *t, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	text_add_n(t, digits + i, sizeof(digits) - i);
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

static void text_add_json_byte(struct text *t, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	if (c == '"' || c == '\\') {
		char e[2] = {'\\', (char)c};

		text_add_n(t, e, 2);
	} else if (c == '\n') {
		text_add(t, "\\n");
	} else if (c == '\t') {
		text_add(t, "\\t");
	} else if (c < 0x20 || c == 0x7f) {
		text_add_n(t, u, sizeof(u));
	} else {
		text_add_n(t, (const char *)&c, 1);
	}
}

void text_add_json(struct text *t, const char *p, size_t n)
{
	text_add(t, "\"");
	while (n > 0) {
		size_t len = text_utf8(p, n);

		if (len == 0)
			text_add(t, "\xef\xbf\xbd");
		else if (len == 1)
			text_add_json_byte(t, (unsigned char)*p);
		else
			text_add_n(t, p, len);
		len = len == 0 ? 1 : len;
		p += len;
		n -= len;
	}
	text_add(t, "\"");
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

void text_add_address(struct text *t, const struct addr16 *ip)
{
	char out[INET6_ADDRSTRLEN];

	if (ip->word[0] == 0 && ip->word[1] == 0 && ip->word[2] == htonl(0xffff))
		inet_ntop(AF_INET, &ip->word[3], out, sizeof out);
	else
		inet_ntop(AF_INET6, ip, out, sizeof out);
	text_add(t, out);
}

void text_add_endpoint(struct text *t, const struct addr16 *ip, uint16_t port_net)
{
	bool v4 = ip->word[0] == 0 && ip->word[1] == 0 && ip->word[2] == htonl(0xffff);

	if (!v4)
		text_add_char(t, '[');
	text_add_address(t, ip);
	text_add(t, v4 ? ":" : "]:");
	text_add_number(t, ntohs(port_net));
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
