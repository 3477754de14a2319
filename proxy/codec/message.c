/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a message head, whatever codec made it: see message.h. */
#include "message.h"

bool bytes_are_nocase(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i] && ascii_lower(a[i]) != ascii_lower(b[i]))
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
