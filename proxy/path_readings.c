/* SPDX-License-Identifier: Apache-2.0 */
/* Readings of a path, see path_readings.h. No reading is longer than the path itself. */
#include "proxy/path_readings.h"

#include <string.h>

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The byte that an escape at p stands for, or -1 when there is none. */
static int escape(const char *p, size_t left)
{
	if (left < 3 || p[0] != '%' || hex(p[1]) < 0 || hex(p[2]) < 0)
		return -1;
	return hex(p[1]) * 16 + hex(p[2]);
}

static bool unreserved(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* Decodes in place, all escapes or only those of unreserved characters. */
static size_t decode(char *p, size_t n, bool all)
{
	size_t out = 0;

	for (size_t i = 0; i < n;) {
		int c = escape(p + i, n - i);

		if (c >= 0 && (all || unreserved(c))) {
			p[out++] = (char)c;
			i += 3;
		} else {
			p[out++] = p[i++];
		}
	}
	return out;
}

static bool has_escape(const char *p, size_t n)
{
	for (size_t i = 0; i + 3 <= n; i++)
		if (escape(p + i, n - i) >= 0)
			return true;
	return false;
}

/* RFC 3986 5.2.4 in place. */
static size_t remove_dots(char *p, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n;) {
		size_t end = i + 1, len;
		bool last;

		while (end < n && p[end] != '/')
			end++;
		len = end - i;
		last = end == n;
		if (p[i] == '/' && len == 2 && p[i + 1] == '.') {
			if (last)
				p[out++] = '/';
		} else if (p[i] == '/' && len == 3 && p[i + 1] == '.' && p[i + 2] == '.') {
			while (out > 0 && p[--out] != '/')
				;
			if (last)
				p[out++] = '/';
		} else {
			memmove(p + out, p + i, len);
			out += len;
		}
		i = end;
	}
	return out;
}

static size_t merge_slashes(char *p, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		char c = p[i] == '\\' ? '/' : p[i];

		if (c != '/' || out == 0 || p[out - 1] != '/')
			p[out++] = c;
	}
	return out;
}

static bool one_reading(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '%' || p[i] == '\\')
			return false;
		if (p[i] == '/' && i + 1 < n && (p[i + 1] == '/' || p[i + 1] == '.'))
			return false;
	}
	return true;
}

static struct slice with_query(char *p, size_t n, struct slice query)
{
	if (query.len > 0)
		memcpy(p + n, query.p, query.len);
	return (struct slice){p, n + query.len};
}

void path_readings_make(struct path_readings *out, struct slice path)
{
	const char *mark = path.len > 0 ? memchr(path.p, '?', path.len) : NULL;
	size_t len = mark == NULL ? path.len : (size_t)(mark - path.p), n;
	struct slice query = {path.p + len, path.len - len};

	out->count = 1;
	out->item[0] = path;
	if (one_reading(path.p, len))
		return;
	out->count = 3;
	out->item[1] = out->item[2] = (struct slice){NULL, 0};
	if (path.len > PATH_READING_MAX)
		return;

	memcpy(out->normal, path.p, len);
	n = decode(out->normal, len, false);
	out->item[1] = with_query(out->normal, remove_dots(out->normal, n), query);

	memcpy(out->lenient, path.p, len);
	n = len;
	for (int i = 0; i < 3; i++)
		n = decode(out->lenient, n, true);
	if (has_escape(out->lenient, n))
		return;
	n = merge_slashes(out->lenient, n);
	out->item[2] = with_query(out->lenient, remove_dots(out->lenient, n), query);
}
