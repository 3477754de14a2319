/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes, and what JSON makes of them: for tests that compare renderings. */
#ifndef SHUNT_TEST_HOSTILE_H
#define SHUNT_TEST_HOSTILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "config/text.h"

/* A sequence that is the same in every run. */
static inline uint32_t chance(uint32_t below)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005U + 1442695040888963407U;
	return (uint32_t)(state >> 33) % below;
}

/* JSON byte by byte, as its RFC has it. */
static inline size_t json_of(const unsigned char *p, size_t n, char *out)
{
	char *to = out;

	*to++ = '"';
	for (size_t i = 0, len; i < n; i += len) {
		len = text_utf8((const char *)p + i, n - i);
		if (len > 1) {
			to += sprintf(to, "%.*s", (int)len, p + i);
			continue;
		}
		if (len == 0)
			to = stpcpy(to, "\xef\xbf\xbd");
		else if (p[i] == '"' || p[i] == '\\')
			to += sprintf(to, "\\%c", p[i]);
		else if (p[i] == '\n' || p[i] == '\t')
			to = stpcpy(to, p[i] == '\n' ? "\\n" : "\\t");
		else
			to += sprintf(to, p[i] < ' ' || p[i] > '~' ? "\\u%04x" : "%c", p[i]);
		len = 1;
	}
	*to++ = '"';
	return (size_t)(to - out);
}

/* Some of them plain, some characters of several bytes, some nothing at all. */
static inline size_t hostile_string(char *out, size_t most)
{
	static const char *const pieces[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
					     "\"",	 "\\",		 "\n",
					     "\x7f",	 "\xed\xa0"};
	size_t n = 0, len = chance((uint32_t)most - 4);

	while (n < len) {
		const char *piece = pieces[chance(sizeof pieces / sizeof pieces[0])];

		switch (chance(4)) {
		case 0:
			memcpy(out + n, piece, strlen(piece));
			n += strlen(piece);
			break;
		case 1:
			out[n++] = (char)chance(256);
			break;
		default:
			out[n++] = (char)('a' + chance(26));
		}
	}
	return n;
}

#endif
