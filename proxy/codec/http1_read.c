/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 bytes to events. Lines (heads, chunk sizes, trailers) are collected here, checked
 * one by one and shown to llhttp when they are whole; content goes to llhttp as it comes,
 * which reports it without its framing:
 *
 *	IDLE -> HEAD -> BODY ---------------------------------> whole
 *	         |  `-> CHUNK_LINE <-> CHUNK_DATA               ^
 *	         |          `-> TRAILERS -----------------------|
 *	         `----------------------------------------------'
 *
 * so that nothing depends on how the bytes were cut.
 */
#include "http1.h"

#include <errno.h>
#include <string.h>

#if LLHTTP_VERSION_MAJOR < 9 && !LLHTTP_STRICT_MODE
#error "this llhttp reads loosely by default: compile it and this with -DLLHTTP_STRICT_MODE=1"
#endif

int http1_refuse(struct codec *k, int error, unsigned status, const char *why)
{
	k->error = error;
	if (k->role == CODEC_SERVER && status != 0 && k->answer == HTTP1_NOT_BEGUN)
		http1_goodbye(k, status, why);
	return error;
}

static int malformed(struct codec *k, const char *why)
{
	return http1_refuse(k, CODEC_MALFORMED, 400, why);
}

static int push(struct codec *k, const struct codec_event *ev)
{
	int err = queue_push(&k->queue, ev);

	if (err < 0)
		k->error = err;
	return err;
}

/* -- llhttp's callbacks: they only append -- */

/* The second opinion: llhttp and http1_head() must frame the content alike. An answer that
 * has no content whatever its fields say (to HEAD, 204, 304, 1xx) is not llhttp's to know. */
static int on_headers_complete(llhttp_t *p)
{
	struct codec *k = p->data;
	bool chunked = (p->flags & F_CHUNKED) != 0;
	bool length = (p->flags & F_CONTENT_LENGTH) != 0;
	bool agreed = chunked == (k->framing == HTTP1_CHUNKED);

	if (length)
		agreed = agreed && k->framing != HTTP1_UNTIL_CLOSE &&
			 p->content_length == (uint64_t)k->length;
	else
		agreed = agreed && k->framing != HTTP1_LENGTH;
	if (!agreed && !(k->role == CODEC_CLIENT && k->framing == HTTP1_NO_BODY)) {
		malformed(k, "the head is ambiguous");
		return -1;
	}
	p->upgrade = 0; /* never passed on */
	return k->framing == HTTP1_NO_BODY ? 1 : 0;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
	struct codec *k = p->data;

	return push(k, &(struct codec_event){
			       .type = CODEC_EV_BODY, .stream = k->stream, .data = {at, len}});
}

static int on_chunk_complete(llhttp_t *p)
{
	struct codec *k = p->data;

	if (k->phase != HTTP1_CHUNK_DATA)
		return 0; /* the last chunk, which has no data */
	k->phase = HTTP1_CHUNK_LINE;
	return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *p)
{
	struct codec *k = p->data;

	k->whole = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_chunk_complete = on_chunk_complete,
	.on_message_complete = on_message_complete,
};

/* Shows bytes to llhttp; returns how many it took. Fewer than all: it paused, or k->error. */
static size_t parse(struct codec *k, struct slice in)
{
	llhttp_errno_t rc = llhttp_execute(&k->parser, in.p, in.len);
	size_t used = in.len;

	if (rc == HPE_PAUSED) {
		used = (size_t)(llhttp_get_error_pos(&k->parser) - in.p);
		llhttp_resume(&k->parser);
	} else if (rc != HPE_OK && k->error == 0) {
		malformed(k, "the request is malformed");
	}
	return used;
}

/* Shows llhttp bytes that were checked here: it has to take them all. */
static int parse_all(struct codec *k, struct slice in)
{
	size_t used = parse(k, in);

	if (k->error == 0 && used != in.len)
		malformed(k, "the request is malformed");
	return k->error;
}

/* -- whole messages -- */

static void message_begin(struct codec *k)
{
	k->phase = HTTP1_HEAD;
	k->interim_len = k->interim ? k->interim_len + k->head_len : 0;
	k->head_len = 0;
	k->line = 0;
	k->target_at = 0;
	k->field_count = 0;
	k->whole = false;
	k->interim = false;
	if (k->role == CODEC_SERVER)
		k->answer = HTTP1_NOT_BEGUN;
}

/* An answer is read before its request was sent whole: what the server would make of the
 * rest is unknown, so the connection serves nothing else. */
static void answer_read(struct codec *k)
{
	buffer_drop(&k->asked, 1);
	if (buffer_live(&k->asked).len == 0 && k->answer != HTTP1_ENDED)
		k->last = true;
	k->phase = k->last ? HTTP1_LAST : HTTP1_IDLE;
}

static void message_end(struct codec *k)
{
	if (k->interim) { /* no END: the answer itself follows */
		k->phase = HTTP1_IDLE;
		return;
	}
	if (push(k, &(struct codec_event){.type = CODEC_EV_END, .stream = k->stream}) < 0)
		return;
	if (k->role == CODEC_CLIENT)
		answer_read(k);
	else if (k->last)
		k->phase = HTTP1_LAST;
	else
		k->phase = k->owed ? HTTP1_WAIT : HTTP1_IDLE;
}

/* llhttp 8 and 9 know different methods, and a rule may name any token: it is shown one that
 * both know. Only CONNECT changes how a request is read, and its content is not read. */
static int show_head(struct codec *k, struct slice text, const struct message *m)
{
	size_t skip = k->role == CODEC_SERVER ? m->method.len : 0;

	llhttp_init(&k->parser, k->role == CODEC_SERVER ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	k->parser.data = k;
	if (k->role == CODEC_SERVER && parse_all(k, (struct slice){"POST", 4}) < 0)
		return k->error;
	return parse_all(k, (struct slice){text.p + skip, text.len - skip});
}

static void head_end(struct codec *k)
{
	struct slice text = {k->arena.text, k->arena.text_len};
	struct slice lines = {text.p, text.len - 2};
	struct message *m;
	bool tunnel;

	store_text_done(&k->arena);
	if (http1_head(k, lines, &m) < 0)
		return;
	tunnel = k->role == CODEC_CLIENT && m->status == 101;
	if (k->asks == HTTP1_ASKED_CONNECT)
		tunnel = k->role == CODEC_SERVER || (m->status >= 200 && m->status < 300);
	/* the authority-form is only good for CONNECT, which llhttp is not shown */
	if (!(tunnel && k->role == CODEC_SERVER) && show_head(k, text, m) < 0)
		return;
	if (k->whole != (k->framing == HTTP1_NO_BODY) && !tunnel) {
		malformed(k, "the head is ambiguous");
		return;
	}
	k->first = false;
	if (k->role == CODEC_SERVER) {
		k->stream++;
		k->owed = true;
	}
	if (push(k, &(struct codec_event){.type = CODEC_EV_HEAD,
					  .stream = k->stream,
					  .head = m,
					  .wire = k->head_len}) < 0)
		return;
	if (tunnel)
		k->phase = HTTP1_TUNNEL;
	else if (k->framing == HTTP1_CHUNKED)
		k->phase = HTTP1_CHUNK_LINE;
	else if (k->framing == HTTP1_NO_BODY)
		message_end(k);
	else
		k->phase = HTTP1_BODY;
}

static void trailers_end(struct codec *k)
{
	struct slice text = {k->arena.text, k->arena.text_len};
	struct message *m;

	store_text_done(&k->arena);
	if (text.len > 2) {
		if (http1_trailers(k, (struct slice){text.p, text.len - 2}, &m) < 0)
			return;
		if (push(k, &(struct codec_event){
				    .type = CODEC_EV_TRAILERS, .stream = k->stream, .head = m}) < 0)
			return;
	}
	if (parse_all(k, text) < 0)
		return;
	if (!k->whole)
		malformed(k, "the trailers are ambiguous");
	else
		message_end(k);
}

/* -- lines -- */

static int not_readable(struct codec *k)
{
	if (!k->first)
		return malformed(k, "the request line is malformed");
	return http1_refuse(k, CODEC_NOT_READABLE, 0, NULL);
}

/* Looks at the first line as far as it is there: what can never become one is refused at
 * once, before the peer waits for an answer to something else. */
static int start_check(struct codec *k)
{
	struct slice s = {k->arena.text, k->arena.text_len};
	size_t i;

	if (k->role == CODEC_CLIENT) {
		for (i = 0; i < s.len && i < 5; i++)
			if (s.p[i] != "HTTP/"[i])
				return not_readable(k);
		return 0;
	}
	if (k->target_at == 0) {
		if (k->first && s.len >= 4 && memcmp(s.p, "SSH-", 4) == 0)
			return not_readable(k); /* a banner may look like a method */
		for (i = 0; i < s.len && i <= HTTP1_TOKEN_MAX && s.p[i] != ' '; i++)
			if (!http1_is_token((struct slice){s.p + i, 1}))
				return not_readable(k);
		if (i == 0 || i > HTTP1_TOKEN_MAX)
			return not_readable(k);
		if (i == s.len)
			return 0;
		k->target_at = i + 1;
	}
	return 0;
}

/* Between requests empty lines are skipped (RFC 9112 2.2). True: the text is one, or may
 * become one. */
static bool skip_blank(struct codec *k)
{
	struct slice s = {k->arena.text, k->arena.text_len};

	if (k->role == CODEC_CLIENT || s.p[0] != '\r')
		return false;
	if (s.len == 1)
		return true;
	if (s.p[1] != '\n' || k->blank + 2 > HTTP1_BLANK_MAX)
		return false;
	k->blank += 2;
	k->head_len = 0;
	store_text_drop(&k->arena);
	return true;
}

static bool target_is_long(const struct codec *k)
{
	static const size_t after = sizeof " HTTP/1.1\r\n" - 1;

	return k->target_at != 0 && k->arena.text_len - k->target_at > k->limits->target + after;
}

static int too_large(struct codec *k, bool first_line)
{
	if (first_line && k->target_at != 0)
		return http1_refuse(k, CODEC_TOO_LARGE, 414, "the request target is too long");
	return http1_refuse(k, CODEC_TOO_LARGE, 431, "the head is too large");
}

/* A line is whole: text[k->line..] with its LF. */
static void line_end(struct codec *k)
{
	struct slice line = {k->arena.text + k->line, k->arena.text_len - k->line};
	bool start = k->phase == HTTP1_HEAD && k->line == 0;

	if (line.len < 2 || line.p[line.len - 2] != '\r') {
		malformed(k, "a line does not end in CRLF");
		return;
	}
	line.len -= 2;
	k->line = k->arena.text_len;
	if (start)
		(void)!http1_start_line(k, line);
	else if (line.len != 0)
		(void)!http1_field_line(k, line);
	else if (k->phase == HTTP1_HEAD)
		head_end(k);
	else
		trailers_end(k);
}

/* Takes bytes up to the end of one line of a head or of trailers; returns how many. */
static size_t take_line(struct codec *k, struct slice in)
{
	const char *lf = memchr(in.p, '\n', in.len);
	size_t n = lf != NULL ? (size_t)(lf - in.p) + 1 : in.len;
	size_t used = k->head_len + k->interim_len;
	size_t room = used < k->limits->head ? k->limits->head - used : 0;
	bool over = n > room;
	bool start = k->phase == HTTP1_HEAD && k->line == 0;

	if (over)
		n = room;
	if (n != 0 && store_append(&k->arena, in.p, n) < 0) {
		k->error = -ENOMEM;
		return 0;
	}
	k->head_len += n;
	if (start && n != 0) {
		if (skip_blank(k))
			return n;
		if (start_check(k) < 0)
			return n;
		if (target_is_long(k)) {
			too_large(k, true);
			return n;
		}
	}
	if (over)
		too_large(k, start);
	else if (lf != NULL)
		line_end(k);
	return n;
}

/* chunk-size [ chunk-ext ] CRLF; extensions are dropped (RFC 9112 7.1.1). */
static int chunk_line_end(struct codec *k)
{
	struct slice s = {k->arena.text, k->arena.text_len - 2};
	char c;
	size_t n = 0;
	uint64_t size = 0;

	for (; n < s.len; n++) {
		c = s.p[n];
		if (c >= '0' && c <= '9')
			size = size << 4 | (uint64_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			size = size << 4 | (uint64_t)((c | 0x20) - 'a' + 10);
		else
			break;
	}
	if (n == 0 || n > 15 || (n < s.len && s.p[n] != ';') ||
	    !http1_is_value((struct slice){s.p + n, s.len - n}))
		return malformed(k, "a chunk size is malformed");
	k->phase = size != 0 ? HTTP1_CHUNK_DATA : HTTP1_TRAILERS;
	k->line = 0;
	if (parse_all(k, (struct slice){s.p, n}) < 0)
		return k->error;
	return parse_all(k, (struct slice){"\r\n", 2});
}

static size_t take_chunk_line(struct codec *k, struct slice in)
{
	size_t room = HTTP1_CHUNK_LINE_MAX - k->arena.text_len;
	const char *lf = memchr(in.p, '\n', in.len < room ? in.len : room);
	size_t n = lf != NULL ? (size_t)(lf - in.p) + 1 : in.len < room ? in.len : room;

	if (store_append(&k->arena, in.p, n) < 0) {
		k->error = -ENOMEM;
		return 0;
	}
	if (lf == NULL && n == room) {
		malformed(k, "a chunk extension is too long");
	} else if (lf != NULL) {
		if (k->arena.text_len < 2 || k->arena.text[k->arena.text_len - 2] != '\r')
			malformed(k, "a line does not end in CRLF");
		else
			(void)!chunk_line_end(k);
		store_text_drop(&k->arena);
	}
	return n;
}

static size_t take_body(struct codec *k, struct slice in)
{
	size_t n = parse(k, in);

	if (k->error == 0 && k->whole)
		message_end(k);
	return n;
}

/* -- order -- */

static size_t take_idle(struct codec *k)
{
	if (k->role == CODEC_CLIENT) {
		if (buffer_live(&k->asked).len == 0) { /* an answer to nothing */
			http1_refuse(k, CODEC_MALFORMED, 0, NULL);
			return 0;
		}
		if (!k->interim)
			k->stream++;
	}
	message_begin(k);
	k->blank = 0;
	return 0;
}

size_t http1_take(struct codec *k, struct slice in)
{
	size_t used = 0;

	while (used < in.len && k->error == 0 && k->queue.count < HTTP1_EVENTS_AHEAD) {
		struct slice rest = {in.p + used, in.len - used};

		switch (k->phase) {
		case HTTP1_IDLE:
			used += take_idle(k);
			break;
		case HTTP1_HEAD:
		case HTTP1_TRAILERS:
			used += take_line(k, rest);
			break;
		case HTTP1_CHUNK_LINE:
			k->expects = false; /* it did not wait */
			used += take_chunk_line(k, rest);
			break;
		case HTTP1_BODY:
		case HTTP1_CHUNK_DATA:
			k->expects = false;
			used += take_body(k, rest);
			break;
		case HTTP1_WAIT:
		case HTTP1_TUNNEL:
			return used;
		case HTTP1_LAST:
			return in.len;
		}
	}
	return used;
}

int http1_finish(struct codec *k)
{
	bool between = k->phase == HTTP1_IDLE || (k->phase == HTTP1_HEAD && k->head_len == 0);

	switch (k->phase) {
	case HTTP1_IDLE:
	case HTTP1_HEAD:
		if (k->role == CODEC_CLIENT ? buffer_live(&k->asked).len == 0 : between)
			break;
		return http1_refuse(k, CODEC_CUT, 400, "the request ended early");
	case HTTP1_BODY:
		if (k->framing != HTTP1_UNTIL_CLOSE)
			return http1_refuse(k, CODEC_CUT, 400, "the request ended early");
		message_end(k);
		break;
	case HTTP1_CHUNK_LINE:
	case HTTP1_CHUNK_DATA:
	case HTTP1_TRAILERS:
		return http1_refuse(k, CODEC_CUT, 400, "the request ended early");
	case HTTP1_WAIT:
	case HTTP1_TUNNEL:
	case HTTP1_LAST:
		break;
	}
	k->last = true;
	if (k->phase == HTTP1_IDLE || k->phase == HTTP1_HEAD)
		k->phase = HTTP1_LAST;
	return k->error;
}
