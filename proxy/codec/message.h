/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message head that no protocol owns: what policy, route and access log read, whatever
 * codec parsed it. Words of RFC 9110. All slices are borrowed from the codec that made the
 * event (see codec.h for how long they hold), or from the caller that emits.
 */
#ifndef SHUNT_CODEC_MESSAGE_H
#define SHUNT_CODEC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const char *p;
	size_t len;
};

struct field {
	struct slice name; /* case as received */
	struct slice value; /* without white space around it */
};

/* What a field is to whoever passes it on (RFC 9110 7.6.1, 6.5.1). */
enum field_kind {
	FIELD_OTHER, /* end-to-end */
	FIELD_HOST,
	FIELD_EXPECT,
	FIELD_CONTENT_LENGTH,
	FIELD_TRANSFER_ENCODING,
	FIELD_CONNECTION,
	FIELD_HOP, /* other fields of one connection */
	FIELD_NOT_IN_TRAILERS, /* end-to-end, but must be in the head */
};
enum field_kind field_kind_of(struct slice name);

/* A field of a head that was read, as places in its text: half as big as a struct field, since
 * one that takes four bytes on the wire is kept with all that belong to it. Whoever makes one has
 * checked that the name is a token and the value has no control characters. */
struct field_span {
	uint32_t name, value, value_len;
	uint32_t name_len : 24;
	uint32_t kind : 8; /* enum field_kind */
};

enum message_version {
	MESSAGE_HTTP10 = 10,
	MESSAGE_HTTP11 = 11,
};

#define MESSAGE_LENGTH_UNKNOWN INT64_C(-1)

struct message {
	/* request: status is 0 */
	struct slice method; /* any token */
	struct slice target; /* request-target as received: origin-form, absolute-form or * */
	struct slice path; /* of the target, query included; "/" or "*" where it has none;
			    * empty for CONNECT. emit() writes this, not `target` */
	struct slice authority; /* of the target if it has one, else Host; may be empty. emit()
				 * writes it as Host */
	/* response: method is empty */
	unsigned status; /* 100..599; 1xx other than 101 is interim: no END follows it */
	struct slice reason_phrase;

	/* Protocols to switch to, a list without HTTP's own (h2c is never passed on); empty: none.
	 * Request: offered. 101: the one chosen. 426: wanted. emit() writes it as Upgrade. */
	struct slice upgrade;

	bool expects; /* request: who sent it may wait for a 100 before its content */
	bool trailers; /* request: who sent it reads trailers; emit() writes it as TE */
	enum message_version version;
	/* What the head says of its content: bytes, 0 for none, or MESSAGE_LENGTH_UNKNOWN
	 * (chunked, or a response delimited by the end of the connection). */
	int64_t content_length;
	bool length_given; /* the head has a Content-Length, were it 0 */
	bool last; /* nothing follows this message in its connection (Connection: close, an
		    * answer that the end of the connection delimits): emitted, an answer tells
		    * its client so too */
	/* End-to-end fields in order. Connection-specific ones (RFC 9110 7.6.1: Connection and
	 * what it names, Keep-Alive, Proxy-Connection, TE, Transfer-Encoding, Upgrade) and
	 * Content-Length are the codec's business: taken out by the parser, written by emit().
	 * Host stays in place. */
	const struct field *fields; /* or NULL: `spans` of `text`; read both by message_nth() */
	const struct field_span *spans;
	const char *text;
	size_t field_count;
	/* What a hop changes, for emit() alone: end-to-end fields and trailers of these names (lower
	 * case, ended by NULL; _ counts as -) are left out, those of `added` follow the others. */
	const char *const *without;
	const struct field *added;
	size_t added_count;
};

static inline bool message_is_request(const struct message *m)
{
	return m->status == 0;
}

/* A 1xx response other than 101: another head will follow it. */
static inline bool message_is_interim(const struct message *m)
{
	return m->status >= 100 && m->status < 200 && m->status != 101;
}

/* The i-th of m->field_count fields. */
static inline struct field message_nth(const struct message *m, size_t i)
{
	const struct field_span *s;

	if (m->fields != NULL)
		return m->fields[i];
	s = &m->spans[i];
	return (struct field){{m->text + s->name, s->name_len}, {m->text + s->value, s->value_len}};
}

static inline enum field_kind message_kind(const struct message *m, size_t i)
{
	return m->fields != NULL ? field_kind_of(m->fields[i].name)
				 : (enum field_kind)m->spans[i].kind;
}

/* The value of the first field of that name (case ignored), or a slice with p == NULL. */
struct slice message_field(const struct message *m, const char *name);

static inline unsigned char ascii_lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* The same `n` bytes, but for the case of ASCII letters? */
bool bytes_are_nocase(const char *a, const char *b, size_t n);

static inline bool slice_same_nocase(struct slice a, struct slice b)
{
	return a.len == b.len && bytes_are_nocase(a.p, b.p, a.len);
}

/* CGI and what learned from it take _ and - for the same: is it such a reading of `name`, which is
 * in lower case and has no _? */
bool slice_reads_as(struct slice s, const char *name);

/* Inline, so that the length of a literal is a constant. */
static inline bool slice_is(struct slice s, const char *text) /* same bytes */
{
	return s.len == strlen(text) && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

static inline bool slice_is_nocase(struct slice s, const char *text) /* ASCII case ignored */
{
	return s.len == strlen(text) && bytes_are_nocase(s.p, text, s.len);
}

#endif
