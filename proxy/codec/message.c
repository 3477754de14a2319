/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a message head, whatever codec made it: see message.h. */
#include "message.h"

#include <string.h>

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool slice_is(struct slice s, const char *text)
{
	return s.len == strlen(text) && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

bool slice_is_nocase(struct slice s, const char *text)
{
	if (s.len != strlen(text))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (lower(s.p[i]) != lower(text[i]))
			return false;
	return true;
}

struct slice message_field(const struct message *m, const char *name)
{
	for (size_t i = 0; i < m->field_count; i++) {
		struct field f = message_nth(m, i);

		if (slice_is_nocase(f.name, name))
			return f.value;
	}
	return (struct slice){NULL, 0};
}
