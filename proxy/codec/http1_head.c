/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one HTTP/1 head means. Two readers look at every head: this file decides which fields
 * there are and how the content is framed, by the letter of RFC 9112; llhttp (http1_read.c)
 * then reads the same bytes, and a head that the two frame differently is refused.
 */
#include "http1.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
	IS_TOKEN = 1,
	IS_VALUE = 2, /* HTAB, SP, visible, obs-text */
	IS_TARGET = 4, /* visible, but for # */
	IS_NAME = 8, /* reg-name of RFC 3986, but for the comma */
};

/* clang-format off */
static const unsigned char table[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 15, 6, 3, 15, 15, 15, 15, 14, 14, 15, 15, 6, 15, 15, 6,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6, 14, 6, 14, 6, 6,
	6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6, 6, 6, 7, 15,
	7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
	15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6, 7, 6, 15, 0,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
};
/* clang-format on */

static bool all(struct slice s, unsigned char what)
{
	for (size_t i = 0; i < s.len; i++)
		if ((table[(unsigned char)s.p[i]] & what) == 0)
			return false;
	return true;
}

bool http1_is_token(struct slice s)
{
	return s.len != 0 && all(s, IS_TOKEN);
}

bool http1_is_value(struct slice s)
{
	return all(s, IS_VALUE);
}

bool http1_is_target(struct slice s)
{
	return s.len != 0 && all(s, IS_TARGET);
}

static struct slice cut(struct slice s, size_t from, size_t to)
{
	return (struct slice){s.p + from, to - from};
}

/* Where `c` is in s from `from` on, or s.len. */
static size_t find(struct slice s, size_t from, char c)
{
	const char *p = from < s.len ? memchr(s.p + from, c, s.len - from) : NULL;

	return p != NULL ? (size_t)(p - s.p) : s.len;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
	while (s.len != 0 && is_space(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len != 0 && is_space(s.p[s.len - 1]))
		s.len--;
	return s;
}

/* Cuts the first element off a comma-separated list; false when none is left. */
static bool element(struct slice *list, struct slice *el)
{
	size_t comma;

	if (list->p == NULL)
		return false;
	comma = find(*list, 0, ',');
	*el = trim(cut(*list, 0, comma));
	*list = comma < list->len ? cut(*list, comma + 1, list->len) : (struct slice){NULL, 0};
	return true;
}

bool http1_is_listed(struct slice list, struct slice name)
{
	struct slice el;

	while (element(&list, &el))
		if (slice_same_nocase(el, name))
			return true;
	return false;
}

/* -- the start line -- */

struct start {
	struct slice method, target; /* request */
	unsigned status; /* response */
	struct slice reason;
	struct slice version;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_version(struct slice s)
{
	return s.len == 8 && memcmp(s.p, "HTTP/", 5) == 0 && is_digit(s.p[5]) && s.p[6] == '.' &&
	       is_digit(s.p[7]);
}

static bool split_request(struct slice line, struct start *s)
{
	size_t sp1 = find(line, 0, ' ');
	size_t sp2 = find(line, sp1 + 1, ' ');

	if (sp2 >= line.len)
		return false; /* HTTP/0.9, or less */
	s->method = cut(line, 0, sp1);
	s->target = cut(line, sp1 + 1, sp2);
	s->version = cut(line, sp2 + 1, line.len);
	return true;
}

static bool split_status(struct slice line, struct start *s)
{
	if (line.len < 12 || !is_version(cut(line, 0, 8)) || line.p[8] != ' ' ||
	    !is_digit(line.p[9]) || !is_digit(line.p[10]) || !is_digit(line.p[11]))
		return false;
	s->version = cut(line, 0, 8);
	s->status =
		(unsigned)((line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0'));
	/* "HTTP/1.1 200" without the space after it is common and harmless */
	if (line.len > 12 && line.p[12] != ' ')
		return false;
	s->reason = line.len > 12 ? cut(line, 13, line.len) : (struct slice){"", 0};
	return s->status >= 100 && s->status <= 599;
}

static int request_line(struct codec *k, struct slice line)
{
	struct start s;
	struct slice rest;

	if (k->first && slice_is(line, "PRI * HTTP/2.0")) {
		k->error = CODEC_NOT_READABLE;
		http1_goodbye_http2(k);
		return k->error;
	}
	if (!split_request(line, &s) || !http1_is_token(s.method))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request line is malformed");
	/* a space too many shows as an empty target, or as one inside the version */
	if (!http1_is_target(s.target))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request target is malformed");
	rest = s.version;
	if (!is_version(rest))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request line is malformed");
	if (!slice_is(rest, "HTTP/1.1") && !slice_is(rest, "HTTP/1.0"))
		return http1_refuse(k, CODEC_UNSUPPORTED, 505,
				    "this version of HTTP is not spoken here");
	return 0;
}

static int status_line(struct codec *k, struct slice line)
{
	struct start s;

	if (!split_status(line, &s) || !http1_is_value(s.reason))
		return http1_refuse(k, CODEC_MALFORMED, 0, NULL);
	if (!slice_is(s.version, "HTTP/1.1") && !slice_is(s.version, "HTTP/1.0"))
		return http1_refuse(k, CODEC_UNSUPPORTED, 0, NULL);
	return 0;
}

int http1_start_line(struct codec *k, struct slice line)
{
	return k->role == CODEC_SERVER ? request_line(k, line) : status_line(k, line);
}

/* -- fields -- */

int http1_field_line(struct codec *k, struct slice line)
{
	size_t colon = find(line, 0, ':');

	/* a name that is a token leaves no room for obs-fold, nor for space before the colon */
	if (colon == line.len || !http1_is_token(cut(line, 0, colon)))
		return http1_refuse(k, CODEC_MALFORMED, 400, "a field name is malformed");
	if (!http1_is_value(cut(line, colon + 1, line.len)))
		return http1_refuse(k, CODEC_MALFORMED, 400, "a field value is malformed");
	if (++k->field_count > k->limits->fields)
		return http1_refuse(k, CODEC_TOO_LARGE, 431, "there are too many fields");
	return 0;
}

/* The next line of a text whose lines all end in CRLF. */
static struct slice next_line(struct slice *text)
{
	size_t lf = find(*text, 0, '\n');
	struct slice line = cut(*text, 0, lf - 1);

	*text = cut(*text, lf + 1, text->len);
	return line;
}

/* A message with all the fields of `text`, which are no more than `n`; NULL when memory is
 * short. */
static struct message *message_split(struct codec *k, struct slice text, size_t n)
{
	struct message *m;
	struct slice rest = text;
	struct field_span *s;

	m = store_take(&k->arena, sizeof *m + n * sizeof *s);
	if (m == NULL)
		return NULL;
	s = (struct field_span *)(m + 1);
	*m = (struct message){.content_length = MESSAGE_LENGTH_UNKNOWN, .text = text.p, .spans = s};
	for (; rest.len != 0; s++, m->field_count++) {
		struct slice line = next_line(&rest);
		size_t colon = find(line, 0, ':');
		struct slice value = trim(cut(line, colon + 1, line.len));

		s->name = (uint32_t)(line.p - text.p);
		s->name_len = (uint32_t)colon & 0xffffff; /* a head is shorter */
		s->kind = field_kind_of(cut(line, 0, colon)) & 0xff;
		s->value = (uint32_t)(value.p - text.p);
		s->value_len = (uint32_t)value.len;
	}
	return m;
}

/* What the fields of one head say to the codec. */
struct facts {
	unsigned hosts, lengths, codings;
	struct slice host;
	int64_t length;
	bool chunked;
	bool close, keep_alive;
	bool expects;
	bool upgrade; /* named by Connection */
	bool trailers; /* named by TE */
	size_t nominated_count;
	struct slice nominated[HTTP1_NOMINATED_MAX]; /* not cleared: most heads have none */
};

static void facts_begin(struct facts *f)
{
	memset(f, 0, offsetof(struct facts, nominated));
	f->host = (struct slice){"", 0};
}

static int read_length(struct codec *k, struct facts *f, struct slice value)
{
	int64_t n = 0;

	/* 18 digits: no overflow, and more than anyone has */
	if (f->lengths++ != 0 || value.len == 0 || value.len > 18)
		return http1_refuse(k, CODEC_MALFORMED, 400, "Content-Length is malformed");
	for (size_t i = 0; i < value.len; i++) {
		if (!is_digit(value.p[i]))
			return http1_refuse(k, CODEC_MALFORMED, 400, "Content-Length is malformed");
		n = n * 10 + (value.p[i] - '0');
	}
	f->length = n;
	return 0;
}

/* Only "chunked", once, is implemented. Other codings before it are well formed. */
static int read_codings(struct codec *k, struct facts *f, struct slice value)
{
	struct slice el;

	while (element(&value, &el)) {
		struct slice name = trim(cut(el, 0, find(el, 0, ';')));

		if (!http1_is_token(name) || f->chunked)
			return http1_refuse(k, CODEC_MALFORMED, 400,
					    "Transfer-Encoding is malformed");
		if (slice_is_nocase(name, "chunked")) {
			if (name.len != el.len)
				return http1_refuse(k, CODEC_MALFORMED, 400,
						    "Transfer-Encoding is malformed");
			f->chunked = true;
		}
		f->codings++;
	}
	return 0;
}

static void read_expect(struct facts *f, struct slice value)
{
	struct slice el;

	while (element(&value, &el))
		f->expects = f->expects || slice_is_nocase(el, "100-continue");
}

/* Codings are this hop's own, and none but chunked is done here. Trailers are passed on, so a
 * server may be told that they are read (RFC 9110 10.1.4). */
static void read_te(struct facts *f, struct field field)
{
	static const struct slice trailers = {"trailers", 8};

	if (slice_is_nocase(field.name, "te"))
		f->trailers = f->trailers || http1_is_listed(field.value, trailers);
}

static int read_connection(struct codec *k, struct facts *f, struct slice value)
{
	struct slice el;

	while (element(&value, &el)) {
		if (el.len == 0)
			continue; /* RFC 9110 5.6.1.2: empty elements are ignored */
		if (!http1_is_token(el))
			return http1_refuse(k, CODEC_MALFORMED, 400, "Connection is malformed");
		if (slice_is_nocase(el, "close")) {
			f->close = true;
			continue;
		}
		if (slice_is_nocase(el, "keep-alive")) {
			f->keep_alive = true;
			continue;
		}
		f->upgrade = f->upgrade || slice_is_nocase(el, "upgrade");
		switch (field_kind_of(el)) {
		case FIELD_HOST:
		case FIELD_CONTENT_LENGTH:
		case FIELD_TRANSFER_ENCODING:
			return http1_refuse(k, CODEC_MALFORMED, 400,
					    "Connection names a field that frames the message");
		case FIELD_CONNECTION:
		case FIELD_HOP: /* go in any case */
			continue;
		case FIELD_OTHER:
		case FIELD_EXPECT:
		case FIELD_NOT_IN_TRAILERS:
			break;
		}
		if (f->nominated_count == HTTP1_NOMINATED_MAX)
			return http1_refuse(k, CODEC_TOO_LARGE, 431,
					    "Connection names too many fields");
		f->nominated[f->nominated_count++] = el;
	}
	return 0;
}

static int read_fields(struct codec *k, const struct message *m, struct facts *f)
{
	for (size_t i = 0; i < m->field_count; i++) {
		struct field field = message_nth(m, i);
		struct slice value = field.value;
		int err = 0;

		switch (message_kind(m, i)) {
		case FIELD_HOST:
			f->host = value;
			f->hosts++;
			break;
		case FIELD_EXPECT:
			read_expect(f, value);
			break;
		case FIELD_CONTENT_LENGTH:
			err = read_length(k, f, value);
			break;
		case FIELD_TRANSFER_ENCODING:
			err = read_codings(k, f, value);
			break;
		case FIELD_CONNECTION:
			err = read_connection(k, f, value);
			break;
		case FIELD_HOP:
			read_te(f, field);
			break;
		case FIELD_OTHER:
		case FIELD_NOT_IN_TRAILERS:
			break;
		}
		if (err < 0)
			return err;
	}
	return 0;
}

static bool is_nominated(const struct facts *f, struct slice name)
{
	for (size_t i = 0; i < f->nominated_count; i++)
		if (slice_same_nocase(f->nominated[i], name))
			return true;
	return false;
}

/* HTTP by other means would pass the rules by, so it is no protocol to switch to. */
static bool is_http(struct slice protocol)
{
	struct slice name = cut(protocol, 0, find(protocol, 0, '/'));

	return slice_is_nocase(name, "h2c") || slice_is_nocase(name, "h2") ||
	       slice_is_nocase(name, "http");
}

static bool is_protocol(struct slice s)
{
	size_t slash = find(s, 0, '/');

	return http1_is_token(cut(s, 0, slash)) &&
	       (slash == s.len || http1_is_token(cut(s, slash + 1, s.len)));
}

/* Appends what may be passed on of one Upgrade field; *n counts while `to` is NULL. */
static bool add_protocols(struct slice value, char *to, size_t *n)
{
	struct slice el;

	while (element(&value, &el)) {
		if (el.len == 0)
			continue;
		if (!is_protocol(el))
			return false;
		if (is_http(el))
			continue;
		if (*n != 0 && to != NULL)
			memcpy(to + *n, ", ", 2);
		*n += *n != 0 ? 2 : 0;
		if (to != NULL)
			memcpy(to + *n, el.p, el.len);
		*n += el.len;
	}
	return true;
}

/* Before the hop's own fields are taken out: m->upgrade, where the head may ask for one. */
static int read_upgrade(struct codec *k, struct message *m)
{
	char *to = NULL;
	size_t n;

	for (;;) {
		n = 0;
		for (size_t i = 0; i < m->field_count; i++) {
			struct field f = message_nth(m, i);

			if (slice_is_nocase(f.name, "upgrade") && !add_protocols(f.value, to, &n))
				return http1_refuse(k, CODEC_MALFORMED, 400,
						    "Upgrade is malformed");
		}
		if (n == 0 || to != NULL)
			break;
		to = store_take(&k->arena, n);
		if (to == NULL)
			return k->error = -ENOMEM;
	}
	m->upgrade = (struct slice){to, n};
	return 0;
}

/* Takes out what belongs to one connection only (RFC 9110 7.6.1), and the framing. */
static void keep_end_to_end(struct message *m, struct field_span *spans, const struct facts *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->field_count; i++) {
		enum field_kind what = message_kind(m, i);

		if (what == FIELD_CONTENT_LENGTH || what == FIELD_TRANSFER_ENCODING ||
		    what == FIELD_CONNECTION || what == FIELD_HOP)
			continue;
		if (f->nominated_count != 0 && is_nominated(f, message_nth(m, i).name))
			continue;
		/* RFC 9110 10.1.1: HTTP/1.0 has no 100; passed on as 1.1 it would ask for one */
		if (what == FIELD_EXPECT && m->version == MESSAGE_HTTP10)
			continue;
		spans[kept++] = spans[i];
	}
	m->field_count = kept;
}

/* -- target and authority -- */

/* host [ ":" port ]; both may be empty only where the caller allows it. */
static bool is_authority(struct slice s)
{
	size_t at;

	if (s.len != 0 && s.p[0] == '[') {
		at = find(s, 0, ']');
		if (at == s.len || at < 3)
			return false;
		for (size_t i = 1; i < at; i++)
			if ((table[(unsigned char)s.p[i]] & IS_NAME) == 0 && s.p[i] != ':')
				return false;
		at++;
	} else {
		at = find(s, 0, ':');
		if (!all(cut(s, 0, at), IS_NAME))
			return false;
	}
	if (at == s.len)
		return true;
	if (s.p[at] != ':' || s.len - at > 6)
		return false;
	for (at++; at < s.len; at++)
		if (!is_digit(s.p[at]))
			return false;
	return true;
}

/* http://authority/path?query: the authority wins over Host (RFC 9112 3.2.2). */
static int absolute_form(struct codec *k, struct message *m)
{
	struct slice t = m->target;
	size_t colon = find(t, 0, ':');
	size_t end;

	if (colon + 3 > t.len || memcmp(t.p + colon, "://", 3) != 0 ||
	    (!slice_is_nocase(cut(t, 0, colon), "http") &&
	     !slice_is_nocase(cut(t, 0, colon), "https")))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request target is malformed");
	for (end = colon + 3; end < t.len && t.p[end] != '/' && t.p[end] != '?'; end++)
		;
	m->authority = cut(t, colon + 3, end);
	m->path = cut(t, end, t.len);
	if (m->authority.len == 0 || m->authority.p[0] == ':' || !is_authority(m->authority))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request target is malformed");
	if (m->path.len == 0) {
		m->path = (struct slice){slice_is(m->method, "OPTIONS") ? "*" : "/", 1};
	} else if (m->path.p[0] == '?') {
		char *p = store_take(&k->arena, m->path.len + 1);

		if (p == NULL)
			return k->error = -ENOMEM;
		p[0] = '/';
		memcpy(p + 1, m->path.p, m->path.len);
		m->path = (struct slice){p, m->path.len + 1};
	}
	return 0;
}

/* The target of a CONNECT: host and a port that can be dialled (RFC 9110 9.3.6). */
static bool is_destination(struct slice s)
{
	size_t at = s.len;
	unsigned port = 0;

	if (!is_authority(s) || s.p[0] == ':')
		return false;
	while (at > 0 && is_digit(s.p[at - 1]))
		at--;
	if (at == 0 || s.p[at - 1] != ':')
		return false;
	for (; at < s.len; at++)
		port = port * 10 + (unsigned)(s.p[at] - '0');
	return port > 0 && port <= 65535;
}

static int read_target(struct codec *k, struct message *m, const struct facts *f)
{
	if (f->hosts > 1 || (f->hosts == 0 && m->version == MESSAGE_HTTP11))
		return http1_refuse(k, CODEC_MALFORMED, 400, "there must be one Host field");
	if (!is_authority(f->host) || (f->host.len != 0 && f->host.p[0] == ':'))
		return http1_refuse(k, CODEC_MALFORMED, 400, "Host is malformed");
	m->authority = f->host;
	m->path = m->target;
	if (k->asks == HTTP1_ASKED_CONNECT) {
		m->path = (struct slice){"", 0};
		m->authority = m->target;
		if (!is_destination(m->target))
			return http1_refuse(k, CODEC_MALFORMED, 400,
					    "the request target is malformed");
		return 0;
	}
	if (m->target.p[0] == '/')
		return 0;
	if (!slice_is(m->target, "*"))
		return absolute_form(k, m);
	if (!slice_is(m->method, "OPTIONS"))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request target is malformed");
	return 0;
}

/* -- framing: RFC 9112 6.3 -- */

static int read_framing(struct codec *k, const struct message *m, const struct facts *f)
{
	if (f->codings != 0 && (f->lengths != 0 || m->version == MESSAGE_HTTP10))
		return http1_refuse(k, CODEC_MALFORMED, 400,
				    "Transfer-Encoding does not fit the rest of the head");
	if (f->codings > 1 || (f->codings == 1 && !f->chunked))
		return http1_refuse(k, CODEC_UNSUPPORTED, 501,
				    "this transfer coding is not implemented");
	k->length = MESSAGE_LENGTH_UNKNOWN;
	if (f->codings != 0) {
		k->framing = HTTP1_CHUNKED;
	} else if (f->lengths != 0) {
		k->framing = f->length != 0 ? HTTP1_LENGTH : HTTP1_NO_BODY;
		k->length = f->length;
	} else if (k->role == CODEC_SERVER) {
		k->framing = HTTP1_NO_BODY;
		k->length = 0;
	} else {
		k->framing = HTTP1_UNTIL_CLOSE;
	}
	return 0;
}

static int request_head(struct codec *k, struct message *m, const struct facts *f)
{
	int err;

	k->asks = slice_is(m->method, "HEAD")	   ? HTTP1_ASKED_HEAD
		  : slice_is(m->method, "CONNECT") ? HTTP1_ASKED_CONNECT
						   : HTTP1_ASKED_ANY;
	err = read_target(k, m, f);
	if (err < 0)
		return err;
	if (k->asks == HTTP1_ASKED_CONNECT) { /* RFC 9110 9.3.6: content has no meaning here */
		if (f->codings != 0 || f->lengths != 0)
			return http1_refuse(k, CODEC_MALFORMED, 400, "CONNECT has no content");
		k->last = true;
	}
	m->trailers = f->trailers && m->version == MESSAGE_HTTP11;
	k->expects = f->expects && k->framing != HTTP1_NO_BODY && m->version == MESSAGE_HTTP11;
	m->expects = k->expects;
	/* A server may pass over an Upgrade (RFC 9110 7.8); so do we, where it would come with
	 * content or in HTTP/1.0. */
	if (f->upgrade && k->asks == HTTP1_ASKED_ANY && k->framing == HTTP1_NO_BODY &&
	    m->version == MESSAGE_HTTP11) {
		err = read_upgrade(k, m);
		if (err < 0)
			return err;
		if (m->upgrade.len != 0)
			k->asks = HTTP1_ASKED_UPGRADE;
	}
	return 0;
}

/* 101 answers a request that asked for it, with one of the protocols it offered. */
static int switched_head(struct codec *k, struct message *m, const struct facts *f)
{
	struct slice offered = buffer_live(&k->offered);

	if (k->asks != HTTP1_ASKED_UPGRADE || !f->upgrade || m->version != MESSAGE_HTTP11)
		return http1_refuse(k, CODEC_UNSUPPORTED, 0, NULL);
	if (read_upgrade(k, m) < 0)
		return k->error;
	if (m->upgrade.len == 0 || !http1_is_listed(offered, m->upgrade))
		return http1_refuse(k, CODEC_UNSUPPORTED, 0, NULL);
	k->last = true;
	return 0;
}

static int response_head(struct codec *k, struct message *m, const struct facts *f)
{
	enum http1_asked asked = (enum http1_asked)(unsigned char)buffer_live(&k->asked).p[0];

	k->asks = asked;
	if (m->status == 101 && switched_head(k, m, f) < 0)
		return k->error;
	if (m->status == 426 && f->upgrade && read_upgrade(k, m) < 0)
		return k->error;
	k->interim = message_is_interim(m);
	if (k->interim)
		k->last = false; /* the answer itself is still to come */
	if (k->interim || m->status == 101 || m->status == 204 ||
	    (asked == HTTP1_ASKED_CONNECT && m->status / 100 == 2)) {
		k->framing = HTTP1_NO_BODY;
		k->length = 0;
	} else if (asked == HTTP1_ASKED_HEAD || m->status == 304) {
		k->framing = HTTP1_NO_BODY; /* the length is that of another answer */
	}
	return 0;
}

int http1_head(struct codec *k, struct slice text, struct message **out)
{
	struct slice rest = text;
	struct slice line = next_line(&rest);
	struct facts f;
	struct start s = {.status = 0};
	struct message *m = message_split(k, rest, k->field_count);
	int err;

	facts_begin(&f);
	if (m == NULL)
		return k->error = -ENOMEM;
	if (!(k->role == CODEC_SERVER ? split_request(line, &s) : split_status(line, &s)))
		return http1_refuse(k, CODEC_MALFORMED, 400, "the request line is malformed");
	m->method = s.method;
	m->target = s.target;
	m->status = s.status;
	m->reason_phrase = s.reason;
	m->version = slice_is(s.version, "HTTP/1.0") ? MESSAGE_HTTP10 : MESSAGE_HTTP11;
	err = read_fields(k, m, &f);
	if (err < 0)
		return err;
	k->last = k->ending || f.close || (m->version == MESSAGE_HTTP10 && !f.keep_alive);
	err = read_framing(k, m, &f);
	if (err < 0)
		return err;
	k->old_peer = m->version == MESSAGE_HTTP10;
	err = k->role == CODEC_SERVER ? request_head(k, m, &f) : response_head(k, m, &f);
	if (err < 0)
		return err;
	if (k->framing == HTTP1_UNTIL_CLOSE)
		k->last = true;
	m->content_length = k->length;
	m->length_given = f.lengths != 0;
	m->last = k->last;
	keep_end_to_end(m, (struct field_span *)m->spans, &f);
	*out = m;
	return 0;
}

static size_t count_lines(struct slice text)
{
	size_t n = 0;

	for (size_t lf = find(text, 0, '\n'); lf < text.len; lf = find(text, lf + 1, '\n'))
		n++;
	return n;
}

int http1_trailers(struct codec *k, struct slice text, struct message **out)
{
	struct message *m = message_split(k, text, count_lines(text));

	if (m == NULL)
		return k->error = -ENOMEM;
	for (size_t i = 0; i < m->field_count; i++)
		if (message_kind(m, i) != FIELD_OTHER)
			return http1_refuse(k, CODEC_MALFORMED, 400,
					    "a trailer field belongs into the head");
	*out = m;
	return 0;
}
