/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events to HTTP/1 bytes. A head is written anew from its fields; the framing is this hop's
 * own. Room for all of an event is taken first, so that one that fails leaves no half of it
 * behind.
 */
#include "http1.h"

#include <errno.h>
#include <string.h>

/* Where to write; there is room. */
struct sink {
	char *p;
	size_t n;
};

static void put(struct sink *to, struct slice s)
{
	if (s.len != 0)
		memcpy(to->p + to->n, s.p, s.len);
	to->n += s.len;
}

/* Inline, so that the length of a literal is a constant. */
static inline __attribute__((always_inline)) void put_text(struct sink *to, const char *text)
{
	size_t n = strlen(text);

	memcpy(to->p + to->n, text, n);
	to->n += n;
}

static void put_number(struct sink *to, uint64_t n, unsigned base)
{
	char digits[24];
	size_t at = sizeof digits;

	do {
		digits[--at] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n != 0);
	put(to, (struct slice){digits + at, sizeof digits - at});
}

static void put_field(struct sink *to, struct slice name, struct slice value)
{
	put(to, name);
	put_text(to, ": ");
	put(to, value);
	put_text(to, "\r\n");
}

/* -- what may be written -- */

static bool is_writable_field(struct field f)
{
	return http1_is_token(f.name) && http1_is_value(f.value);
}

/* Spans were checked when they were read. */
static bool is_writable(const struct message *m)
{
	for (size_t i = 0; m->fields != NULL && i < m->field_count; i++)
		if (!is_writable_field(m->fields[i]))
			return false;
	for (size_t i = 0; i < m->added_count; i++)
		if (!is_writable_field(m->added[i]))
			return false;
	return http1_is_value(m->reason_phrase);
}

static const char *reason_of(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 408:
		return "Request Timeout";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "";
	}
}

/* -- heads -- */

/* Everything that decides how one head is written. */
struct plan {
	const struct message *m;
	enum http1_framing framing;
	bool length; /* write Content-Length */
	bool upgrade; /* write Upgrade */
	bool close, keep_alive;
};

static void put_request_line(struct sink *to, const struct message *m)
{
	put(to, m->method);
	put_text(to, " ");
	put(to, slice_is(m->method, "CONNECT") ? m->target : m->path);
	put_text(to, " HTTP/1.1\r\n");
}

static void put_status_line(struct sink *to, const struct message *m)
{
	put_text(to, "HTTP/1.1 ");
	put_number(to, m->status, 10);
	put_text(to, " ");
	if (m->reason_phrase.p != NULL)
		put(to, m->reason_phrase);
	else
		put_text(to, reason_of(m->status));
	put_text(to, "\r\n");
}

static bool is_left_out(const struct message *m, struct slice name)
{
	for (const char *const *without = m->without; without != NULL && *without != NULL;
	     without++)
		if (slice_reads_as(name, *without))
			return true;
	return false;
}

/* Host is the authority, in the place where the client wrote it (RFC 9112 3.2.2); a client
 * of HTTP/1.0 may have written none. */
static void put_fields(struct sink *to, const struct message *m)
{
	bool host = !message_is_request(m);

	for (size_t i = 0; !host && i < m->field_count; i++)
		host = message_kind(m, i) == FIELD_HOST;
	if (!host)
		put_field(to, (struct slice){"Host", 4}, m->authority);
	host = !message_is_request(m);
	for (size_t i = 0; i < m->field_count; i++) {
		struct field f = message_nth(m, i);

		switch (message_kind(m, i)) {
		case FIELD_HOST:
			if (!host)
				put_field(to, f.name, m->authority);
			host = true;
			break;
		case FIELD_CONTENT_LENGTH:
		case FIELD_TRANSFER_ENCODING:
		case FIELD_CONNECTION:
		case FIELD_HOP:
			break; /* this hop's own are written below */
		case FIELD_OTHER:
		case FIELD_EXPECT:
		case FIELD_NOT_IN_TRAILERS:
			if (!is_left_out(m, f.name))
				put_field(to, f.name, f.value);
			break;
		}
	}
	for (size_t i = 0; i < m->added_count; i++)
		put_field(to, m->added[i].name, m->added[i].value);
}

static void put_connection(struct sink *to, const struct plan *plan)
{
	const char *const options[] = {
		plan->m->trailers ? "TE" : NULL,
		plan->upgrade ? "Upgrade" : NULL,
		plan->close ? "close" : NULL,
		plan->keep_alive ? "keep-alive" : NULL,
	};
	const char *before = "Connection: ";

	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
		if (options[i] == NULL)
			continue;
		put_text(to, before);
		put_text(to, options[i]);
		before = ", ";
	}
	if (*before == ',')
		put_text(to, "\r\n");
}

static void put_head(struct sink *to, const struct plan *plan)
{
	const struct message *m = plan->m;

	if (message_is_request(m))
		put_request_line(to, m);
	else
		put_status_line(to, m);
	put_fields(to, m);
	if (plan->length) {
		put_text(to, "Content-Length: ");
		put_number(to, (uint64_t)m->content_length, 10);
		put_text(to, "\r\n");
	}
	if (plan->framing == HTTP1_CHUNKED)
		put_text(to, "Transfer-Encoding: chunked\r\n");
	if (plan->upgrade)
		put_field(to, (struct slice){"Upgrade", 7}, m->upgrade);
	if (m->trailers)
		put_text(to, "TE: trailers\r\n");
	put_connection(to, plan);
	put_text(to, "\r\n");
}

/* Of what a head or trailers have besides fields and other slices: version, status, our own
 * phrase for it, Content-Length, Transfer-Encoding, the names of Host, Upgrade, TE, Connection
 * and all its options. */
#define FRAME_MAX 256

/* No fewer bytes than all its fields take. */
static size_t fields_room(const struct message *m)
{
	size_t n = m->field_count * 4;

	for (size_t i = 0; i < m->field_count; i++) {
		struct field f = message_nth(m, i);

		n += f.name.len + f.value.len;
	}
	for (size_t i = 0; i < m->added_count; i++)
		n += m->added[i].name.len + m->added[i].value.len + 4;
	return n;
}

static int write_head(struct codec *k, const struct plan *plan)
{
	const struct message *m = plan->m;
	size_t target = m->path.len > m->target.len ? m->path.len : m->target.len;
	struct sink to = {.n = 0};

	to.p = buffer_reserve(&k->out, FRAME_MAX + m->method.len + target + m->authority.len +
					       m->reason_phrase.len + m->upgrade.len +
					       fields_room(m));
	if (to.p == NULL)
		return -ENOMEM;
	put_head(&to, plan);
	buffer_grown(&k->out, to.n);
	return 0;
}

static void begin(struct codec *k, const struct plan *plan)
{
	k->answer = HTTP1_BEGUN;
	k->out_framing = plan->framing;
	k->chunk = 0;
	k->out_left = plan->framing == HTTP1_LENGTH ? plan->m->content_length : 0;
}

static bool gives_length(const struct message *m)
{
	return slice_is(m->method, "POST") || slice_is(m->method, "PUT") ||
	       slice_is(m->method, "PATCH") || m->length_given;
}

static enum http1_asked asked_by(const struct message *m)
{
	if (slice_is(m->method, "HEAD"))
		return HTTP1_ASKED_HEAD;
	if (slice_is(m->method, "CONNECT"))
		return HTTP1_ASKED_CONNECT;
	return m->upgrade.len != 0 ? HTTP1_ASKED_UPGRADE : HTTP1_ASKED_ANY;
}

static int emit_request(struct codec *k, const struct message *m)
{
	struct plan plan = {.m = m, .framing = HTTP1_NO_BODY};
	bool connect = slice_is(m->method, "CONNECT");
	char asked = (char)asked_by(m);
	int err;

	if (k->answer != HTTP1_NOT_BEGUN && k->answer != HTTP1_ENDED)
		return -EINVAL;
	plan.upgrade = asked == HTTP1_ASKED_UPGRADE;
	/* what it offers is kept for one request at a time */
	if (plan.upgrade && (m->content_length != 0 || buffer_live(&k->asked).len != 0 ||
			     !http1_is_value(m->upgrade)))
		return -EINVAL;
	if (!message_is_request(m) || k->last || k->error != 0 || !http1_is_token(m->method) ||
	    !http1_is_target(connect ? m->target : m->path) || !http1_is_value(m->authority) ||
	    m->content_length < MESSAGE_LENGTH_UNKNOWN || !is_writable(m))
		return -EINVAL;
	if (!connect && m->content_length == MESSAGE_LENGTH_UNKNOWN)
		plan.framing = HTTP1_CHUNKED;
	else if (!connect && m->content_length > 0)
		plan.framing = HTTP1_LENGTH;
	plan.length = plan.framing == HTTP1_LENGTH ||
		      (!connect && m->content_length == 0 && gives_length(m));
	if (buffer_reserve(&k->asked, 1) == NULL)
		return -ENOMEM;
	buffer_drop(&k->offered, buffer_live(&k->offered).len);
	if (plan.upgrade && buffer_append(&k->offered, m->upgrade.p, m->upgrade.len) < 0)
		return -ENOMEM;
	err = write_head(k, &plan);
	if (err < 0)
		return err;
	err = buffer_append(&k->asked, &asked, 1);
	begin(k, &plan);
	return err;
}

/* Interim: nothing of the final answer is decided by it; HTTP/1.0 does not know it. */
static int emit_interim(struct codec *k, const struct message *m)
{
	struct plan plan = {.m = m, .framing = HTTP1_NO_BODY};

	if (k->old_peer)
		return 0;
	if (m->status == 100)
		k->expects = false;
	return write_head(k, &plan);
}

/* The last head of this connection: what follows belongs to another protocol. */
static int emit_switched(struct codec *k, const struct message *m)
{
	struct plan plan = {.m = m, .framing = HTTP1_NO_BODY, .upgrade = true};
	int err;

	if (k->asks != HTTP1_ASKED_UPGRADE || k->phase != HTTP1_WAIT || m->upgrade.len == 0)
		return -EINVAL;
	err = write_head(k, &plan);
	if (err < 0)
		return err;
	k->last = true;
	k->phase = HTTP1_TUNNEL;
	begin(k, &plan);
	return 0;
}

static int emit_response(struct codec *k, const struct message *m)
{
	struct plan plan = {.m = m, .framing = HTTP1_NO_BODY};
	bool connected = k->asks == HTTP1_ASKED_CONNECT && m->status / 100 == 2;
	bool none = m->status == 204 || connected;
	bool last = k->last || m->last;
	int err;

	if (!k->owed || k->answer != HTTP1_NOT_BEGUN || m->status < 100 || m->status > 599 ||
	    m->content_length < MESSAGE_LENGTH_UNKNOWN || !is_writable(m) ||
	    !http1_is_value(m->upgrade))
		return -EINVAL;
	if (m->status == 101)
		return emit_switched(k, m);
	if (message_is_interim(m))
		return emit_interim(k, m);
	if (none || m->status == 304 || k->asks == HTTP1_ASKED_HEAD) {
		plan.length = !none && m->content_length >= 0;
	} else if (m->content_length >= 0) {
		plan.framing = m->content_length != 0 ? HTTP1_LENGTH : HTTP1_NO_BODY;
		plan.length = true;
	} else {
		plan.framing = k->old_peer ? HTTP1_UNTIL_CLOSE : HTTP1_CHUNKED;
	}
	/* A client that was told no instead of 100 may send its content or not: where the next
	 * request begins cannot be known (RFC 9110 10.1.1). */
	last = last || plan.framing == HTTP1_UNTIL_CLOSE || k->expects;
	plan.close = last && !connected;
	plan.keep_alive = !last && k->old_peer;
	plan.upgrade = m->status == 426 && m->upgrade.len != 0;
	err = write_head(k, &plan);
	if (err < 0)
		return err;
	k->last = last;
	begin(k, &plan);
	return 0;
}

/* -- content -- */

static size_t hex_digits(size_t n)
{
	size_t digits = 1;

	while (n >>= 4)
		digits++;
	return digits;
}

/* The chunk at the end of `out`, if none of it has left, becomes longer: a server that sends
 * byte by byte to a client that does not read costs a byte for a byte. */
static int grow_chunk(struct codec *k, struct slice data)
{
	size_t old = hex_digits(k->chunk), digits = hex_digits(k->chunk + data.len);
	struct sink to = {.n = 0};
	char *end = buffer_reserve(&k->out, data.len + digits - old);
	char *begin;

	if (end == NULL)
		return -ENOMEM;
	begin = end - (old + 2 + k->chunk + 2);
	if (digits != old)
		memmove(begin + digits + 2, begin + old + 2, k->chunk);
	to.p = begin;
	put_number(&to, k->chunk + data.len, 16);
	put_text(&to, "\r\n");
	to.n += k->chunk;
	put(&to, data);
	put_text(&to, "\r\n");
	buffer_grown(&k->out, data.len + digits - old);
	k->chunk += data.len;
	return 0;
}

static int write_chunk(struct codec *k, struct slice data)
{
	struct sink to = {.n = 0};

	if (k->chunk != 0 && buffer_live(&k->out).len >= hex_digits(k->chunk) + 4 + k->chunk)
		return grow_chunk(k, data);
	to.p = buffer_reserve(&k->out, hex_digits(data.len) + 4 + data.len);
	if (to.p == NULL)
		return -ENOMEM;
	put_number(&to, data.len, 16);
	put_text(&to, "\r\n");
	put(&to, data);
	put_text(&to, "\r\n");
	buffer_grown(&k->out, to.n);
	k->chunk = data.len;
	return 0;
}

static int emit_body(struct codec *k, struct slice data)
{
	int err;

	if (k->answer != HTTP1_BEGUN)
		return -EINVAL;
	if (data.len == 0)
		return 0;
	switch (k->out_framing) {
	case HTTP1_NO_BODY:
		/* the answer to a HEAD may be made like any other: its content is dropped */
		return k->role == CODEC_SERVER && k->asks == HTTP1_ASKED_HEAD ? 0 : -EINVAL;
	case HTTP1_LENGTH:
		if ((uint64_t)k->out_left < data.len)
			return -EINVAL;
		err = buffer_append(&k->out, data.p, data.len);
		if (err == 0)
			k->out_left -= (int64_t)data.len;
		return err;
	case HTTP1_CHUNKED:
		return write_chunk(k, data);
	case HTTP1_UNTIL_CLOSE:
		return buffer_append(&k->out, data.p, data.len);
	}
	return -EINVAL;
}

static void put_trailers(struct sink *to, const struct message *m)
{
	put_text(to, "0\r\n");
	for (size_t i = 0; i < m->field_count; i++) {
		struct field f = message_nth(m, i);

		if (message_kind(m, i) == FIELD_OTHER && !is_left_out(m, f.name))
			put_field(to, f.name, f.value);
	}
}

static int emit_trailers(struct codec *k, const struct message *m)
{
	struct sink to = {.n = 0};

	if (k->answer != HTTP1_BEGUN || m == NULL || !is_writable(m))
		return -EINVAL;
	if (k->out_framing == HTTP1_CHUNKED) { /* no other framing has a place for them */
		to.p = buffer_reserve(&k->out, sizeof "0\r\n" + fields_room(m));
		if (to.p == NULL)
			return -ENOMEM;
		put_trailers(&to, m);
		buffer_grown(&k->out, to.n);
	}
	k->answer = HTTP1_TRAILED;
	return 0;
}

static int emit_end(struct codec *k)
{
	int err = 0;

	if ((k->answer != HTTP1_BEGUN && k->answer != HTTP1_TRAILED) || k->out_left != 0)
		return -EINVAL;
	if (k->out_framing == HTTP1_CHUNKED)
		err = k->answer == HTTP1_TRAILED ? buffer_append(&k->out, "\r\n", 2)
						 : buffer_append(&k->out, "0\r\n\r\n", 5);
	if (err < 0)
		return err;
	k->answer = HTTP1_ENDED;
	return 0;
}

int http1_emit(struct codec *k, const struct codec_event *ev)
{
	if (k->role == CODEC_SERVER && ev->stream != k->stream)
		return -EINVAL;
	switch (ev->type) {
	case CODEC_EV_HEAD:
		if (ev->head == NULL)
			return -EINVAL;
		return k->role == CODEC_SERVER ? emit_response(k, ev->head)
					       : emit_request(k, ev->head);
	case CODEC_EV_BODY:
		return emit_body(k, ev->data);
	case CODEC_EV_TRAILERS:
		return emit_trailers(k, ev->head);
	case CODEC_EV_END:
		return emit_end(k);
	case CODEC_EV_RESET:
	case CODEC_EV_LEFT:
	case CODEC_EV_FAILED:
		break;
	}
	return -EINVAL;
}

/* -- goodbyes -- */

void http1_goodbye(struct codec *k, unsigned status, const char *why)
{
	static const struct field type = {{"Content-Type", 12}, {"text/plain", 10}};
	struct message m = {
		.status = status,
		.version = MESSAGE_HTTP11,
		.content_length = (int64_t)strlen(why) + 1,
		.fields = &type,
		.field_count = 1,
	};
	struct plan plan = {.m = &m, .framing = HTTP1_LENGTH, .length = true, .close = true};

	k->last = true;
	k->answer = HTTP1_ENDED;
	if (write_head(k, &plan) < 0)
		return;
	k->refused = status;
	if (k->owed && k->asks == HTTP1_ASKED_HEAD)
		return;
	if (buffer_append(&k->out, why, strlen(why)) < 0 || buffer_append(&k->out, "\n", 1) < 0)
		buffer_drop(&k->out, buffer_live(&k->out).len);
}

void http1_goodbye_http2(struct codec *k)
{
	static const char bytes[] = "\0\0\0\4\0\0\0\0\0" /* SETTINGS, empty */
				    "\0\0\10\7\0\0\0\0\0" /* GOAWAY, 8 bytes */
				    "\0\0\0\0" /* last stream: none */
				    "\0\0\0\15"; /* HTTP_1_1_REQUIRED */

	k->last = true;
	(void)!buffer_append(&k->out, bytes, sizeof bytes - 1);
}
