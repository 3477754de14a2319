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

bool slice_reads_as(struct slice s, const char *name)
{
	size_t i = 0;

	for (; i < s.len && name[i] != '\0'; i++)
		if (ascii_lower(s.p[i] == '_' ? '-' : s.p[i]) != (unsigned char)name[i])
			return false;
	return i == s.len && name[i] == '\0';
}

enum field_kind field_kind_of(struct slice name)
{
	/* By length, which tells most of them apart; row[first[n]] is the first of length n. */
	static const struct {
		const char *name;
		size_t len;
		enum field_kind kind;
	} row[] = {
#define ROW(name, kind) {name, sizeof name - 1, kind}
		ROW("te", FIELD_HOP),
		ROW("host", FIELD_HOST),
		ROW("range", FIELD_NOT_IN_TRAILERS),
		ROW("cookie", FIELD_NOT_IN_TRAILERS),
		ROW("expect", FIELD_EXPECT),
		ROW("trailer", FIELD_NOT_IN_TRAILERS),
		ROW("upgrade", FIELD_HOP),
		ROW("connection", FIELD_CONNECTION),
		ROW("keep-alive", FIELD_HOP),
		ROW("content-type", FIELD_NOT_IN_TRAILERS),
		ROW("max-forwards", FIELD_NOT_IN_TRAILERS),
		ROW("authorization", FIELD_NOT_IN_TRAILERS),
		ROW("content-range", FIELD_NOT_IN_TRAILERS),
		ROW("content-length", FIELD_CONTENT_LENGTH),
		ROW("content-encoding", FIELD_NOT_IN_TRAILERS),
		ROW("proxy-connection", FIELD_HOP),
		ROW("transfer-encoding", FIELD_TRANSFER_ENCODING),
		ROW("proxy-authorization", FIELD_NOT_IN_TRAILERS),
#undef ROW
	};
	enum { LONGEST = sizeof "proxy-authorization" - 1 };
	static const unsigned char first[LONGEST + 1] = {
		[2] = 0,  [4] = 1,   [5] = 2,	[6] = 3,   [7] = 5,   [10] = 7,
		[12] = 9, [13] = 11, [14] = 13, [16] = 14, [17] = 16, [LONGEST] = 17,
	};

	if (name.len > LONGEST)
		return FIELD_OTHER;
	for (size_t i = first[name.len]; i < sizeof row / sizeof row[0]; i++) {
		if (row[i].len != name.len)
			break;
		if (bytes_are_nocase(name.p, row[i].name, name.len))
			return row[i].kind;
	}
	return FIELD_OTHER;
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
