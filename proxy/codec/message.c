/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a message head, whatever codec made it: see message.h. */
#include "message.h"

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool bytes_are_nocase(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
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
