/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of hostile messages at codec level: what a client or a server sends goes through
 * the two codecs of a proxied connection, joined as the daemon joins them, and the bytes that
 * come out on the other side are compared with the table.
 */
#include "message_table.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TABLE "test/http1/messages.txt"

/* One proxied connection: a client, `down`, `up`, a server. */
struct pair {
	const struct row *row;
	struct codec *down; /* reads the client */
	struct codec *up; /* reads the server; NULL between two connections */
	struct trace to_server, to_client;
	int err; /* of down */
	uint32_t stream;
	bool live; /* an exchange waits for the server */
	bool whole; /* its request is */
	bool begun; /* its answer is */
	bool head; /* it is a HEAD */
	bool connect;
	bool answered; /* the server has said what the row says */
	bool aborted;
	bool tunnel;
	size_t first, step; /* how the hostile bytes are cut */
};

static unsigned complaints;

/* One row that is wrong does not hide the others. */
#define complain(...) (complaints++, print_error(__VA_ARGS__), print_error("\n"))

static void note(struct pair *p, int err)
{
	if (err < 0 && p->err == 0)
		p->err = err;
}

static int emit(struct codec *k, enum codec_event_type type, uint32_t stream,
		const struct message *m)
{
	return codec_http1.emit(k,
				&(struct codec_event){.type = type, .stream = stream, .head = m});
}

static void upstream_drop(struct pair *p)
{
	codec_http1.close(p->up);
	p->up = NULL;
}

/* The server broke the rules: 502 while nothing was said, else the client is cut off. */
static void upstream_bad(struct pair *p)
{
	struct message m = {.status = 502, .version = MESSAGE_HTTP11, .content_length = 0};

	upstream_drop(p);
	if (!p->live)
		return;
	p->live = false;
	if (p->begun) {
		p->aborted = true;
		return;
	}
	note(p, emit(p->down, CODEC_EV_HEAD, p->stream, &m));
	note(p, emit(p->down, CODEC_EV_END, p->stream, NULL));
}

static void become_tunnel(struct pair *p)
{
	struct slice in = codec_http1.pending(p->down);

	trace_bytes(&p->to_client, in.p, in.len);
	in = codec_http1.rest(p->up);
	trace_bytes(&p->to_client, in.p, in.len);
	in = codec_http1.pending(p->up);
	trace_bytes(&p->to_server, in.p, in.len);
	in = codec_http1.rest(p->down);
	trace_bytes(&p->to_server, in.p, in.len);
	p->tunnel = true;
}

static void server_said(struct pair *p)
{
	struct codec_event ev;

	while (p->up != NULL && p->live && codec_http1.next(p->up, &ev)) {
		if (ev.type == CODEC_EV_FAILED) {
			upstream_bad(p);
			return;
		}
		ev.stream = p->stream;
		if (codec_http1.emit(p->down, &ev) < 0) {
			upstream_bad(p);
			return;
		}
		if (ev.type == CODEC_EV_HEAD && !message_is_interim(ev.head)) {
			p->begun = true;
			if (ev.head->status == 101 || (p->connect && ev.head->status / 100 == 2)) {
				become_tunnel(p);
				return;
			}
		}
		if (ev.type == CODEC_EV_END) {
			p->live = false;
			if (!p->whole)
				upstream_drop(p);
		}
	}
}

static void server_feed(struct pair *p, const char *bytes, size_t n)
{
	int err;

	if (p->tunnel) {
		trace_bytes(&p->to_client, bytes, n);
		return;
	}
	if (p->up == NULL)
		return;
	err = codec_http1.feed(p->up, (struct slice){bytes, n});
	server_said(p);
	if (err < 0 && p->up != NULL)
		upstream_bad(p);
}

static void server_answers(struct pair *p)
{
	static const char canned[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	const struct row *row = p->row;
	const struct trace *t = row->response ? &row->in : &row->answer;

	if (p->answered || t->p == NULL) {
		server_feed(p, canned, sizeof canned - 1 - (p->head ? 2 : 0));
		return;
	}
	p->answered = true;
	if (!row->response) {
		server_feed(p, t->p, t->len);
		return;
	}
	for (size_t at = 0, n = p->first; at < t->len; at += n, n = p->step) {
		if (n > t->len - at)
			n = t->len - at;
		server_feed(p, t->p + at, n);
	}
	if (row->fin && p->up != NULL) {
		int err = codec_http1.finish(p->up);

		server_said(p);
		if ((err < 0 || p->live) && p->up != NULL)
			upstream_bad(p);
	}
}

static void pass_on(struct pair *p, const struct codec_event *ev)
{
	if (p->up == NULL)
		return;
	if (codec_http1.emit(p->up, ev) < 0)
		complain("%s: what was read cannot be passed on", p->row->name);
}

static void client_head(struct pair *p, const struct codec_event *ev)
{
	if (p->up != NULL && codec_http1.done(p->up))
		upstream_drop(p);
	if (p->up == NULL)
		p->up = codec_http1.open(CODEC_CLIENT, &codec_limits_default, NULL);
	p->stream = ev->stream;
	p->live = true;
	p->whole = p->begun = false;
	p->head = slice_is(ev->head->method, "HEAD");
	p->connect = slice_is(ev->head->method, "CONNECT");
	pass_on(p, ev);
}

static void written(struct pair *p)
{
	struct slice s;

	if (p->up != NULL) {
		s = codec_http1.pending(p->up);
		trace_bytes(&p->to_server, s.p, s.len);
		note(p, codec_http1.sent(p->up, s.len));
	}
	s = codec_http1.pending(p->down);
	trace_bytes(&p->to_client, s.p, s.len);
	note(p, codec_http1.sent(p->down, s.len));
}

static void client_event(struct pair *p, const struct codec_event *ev)
{
	bool now = ev->type == CODEC_EV_END;

	if (ev->type == CODEC_EV_FAILED)
		note(p, ev->error);
	if (ev->type == CODEC_EV_LEFT || ev->type == CODEC_EV_FAILED)
		return;
	if (ev->type == CODEC_EV_HEAD) {
		client_head(p, ev);
		now = p->connect || p->row->early;
	} else if (p->live) {
		pass_on(p, ev);
	}
	p->whole = p->whole || ev->type == CODEC_EV_END;
	if (now && p->live && !p->begun) {
		written(p);
		server_answers(p);
	}
}

/* Acts on what the client has said until nothing moves. */
static void settle(struct pair *p)
{
	struct codec_event ev;
	bool moved;

	do {
		moved = false;
		while (!p->tunnel && codec_http1.next(p->down, &ev)) {
			client_event(p, &ev);
			moved = true;
		}
		if (p->tunnel)
			return;
		moved = moved || codec_http1.pending(p->down).len != 0;
		written(p);
	} while (moved);
}

static void client_feed(struct pair *p, const char *bytes, size_t n)
{
	if (p->tunnel) {
		trace_bytes(&p->to_server, bytes, n);
		return;
	}
	if (p->err < 0 || p->aborted || codec_http1.full(p->down))
		return;
	note(p, codec_http1.feed(p->down, (struct slice){bytes, n}));
	settle(p);
}

static void play(struct pair *p, const struct row *row, size_t first, size_t step)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

	*p = (struct pair){.row = row, .first = first, .step = step};
	p->down = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	assert_non_null(p->down);
	trace_bytes(&p->to_server, "", 0);
	trace_bytes(&p->to_client, "", 0);
	if (row->response) {
		if (row->ask.p != NULL)
			client_feed(p, row->ask.p, row->ask.len);
		else
			client_feed(p, get, sizeof get - 1);
		if (row->rest.p != NULL)
			client_feed(p, row->rest.p, row->rest.len);
		return;
	}
	for (size_t at = 0, n = first; at < row->in.len; at += n, n = step) {
		if (n > row->in.len - at)
			n = row->in.len - at;
		client_feed(p, row->in.p + at, n);
	}
	if (row->fin && p->err == 0) {
		note(p, codec_http1.finish(p->down));
		settle(p);
	}
}

static void over(struct pair *p)
{
	codec_http1.close(p->down);
	codec_http1.close(p->up);
	trace_free(&p->to_server);
	trace_free(&p->to_client);
}

/* -- judging -- */

/* Appends [from, from + n) of messages that this codec wrote with the chunks of each made one. */
static void join_chunks(struct trace *to, const char *p, size_t n)
{
	const char *end = p + n;

	trace_bytes(to, "", 0);
	while (p < end) {
		const char *body = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
		const char *coding;
		struct trace data = {0};
		char *at;

		body = body != NULL ? body + 4 : end;
		coding = memmem(p, (size_t)(body - p), "\r\nTransfer-Encoding: chunked\r\n", 30);
		trace_bytes(to, p, (size_t)(body - p));
		p = body;
		if (coding == NULL)
			continue;
		while (p < end && *p != '0') {
			size_t size = strtoul(p, &at, 16);

			trace_bytes(&data, at + 2, size);
			p = at + 2 + size + 2;
		}
		if (data.len != 0)
			trace_text(to, "%zx\r\n", data.len);
		trace_bytes(to, data.p, data.len);
		trace_bytes(to, "\r\n", data.len != 0 ? 2 : 0);
		trace_free(&data);
	}
}

static void assert_joined(const struct pair *p, const char *what, const struct trace *got,
			  const struct trace *want)
{
	struct trace a = {0}, b = {0};

	join_chunks(&a, got->p, got->len);
	join_chunks(&b, want->p, want->len);
	if (!trace_same(&a, &b))
		complain("%s\ncut at %zu, then by %zu; to the %s went:\n%s\n-- not:\n%s",
			 p->row->name, p->first, p->step, what, a.p, b.p);
	trace_free(&a);
	trace_free(&b);
}

/* The status codes of all heads that the client got. */
static void statuses(const struct trace *t, struct trace *to)
{
	const char *end = t->p + t->len;

	trace_bytes(to, "", 0);
	for (const char *p = t->p; (p = memmem(p, (size_t)(end - p), "HTTP/1.1 ", 9)) != NULL;
	     p += 9)
		trace_text(to, "%s%.3s", to->len != 0 ? " " : "", p + 9);
}

static enum row_end ended(const struct pair *p)
{
	if (p->aborted)
		return ROW_ABORT;
	if (p->tunnel)
		return ROW_TUNNEL;
	if (p->err < 0 && p->to_client.len == 0)
		return ROW_RESET;
	return codec_http1.done(p->down) ? ROW_CLOSE : ROW_KEEP;
}

static void judge(const struct pair *p)
{
	const struct row *row = p->row;
	struct trace got = {0};

	statuses(&p->to_client, &got);
	if (strcmp(got.p, row->is.p) != 0)
		complain("%s\ncut at %zu, then by %zu: answered %s, not %s", row->name, p->first,
			 p->step, got.p, row->is.p);
	trace_free(&got);
	if (ended(p) != row->end)
		complain("%s\ncut at %zu, then by %zu: ended as %d, not %d", row->name, p->first,
			 p->step, (int)ended(p), (int)row->end);
	if (!row->response)
		assert_joined(p, "server", &p->to_server, &row->out);
	else if (row->out.p != NULL)
		assert_joined(p, "client", &p->to_client, &row->out);
}

static void judge_cut(const struct row *row, size_t first, size_t step)
{
	struct pair p;

	play(&p, row, first, step);
	judge(&p);
	over(&p);
}

static void for_each_row(void (*check)(const struct row *row))
{
	FILE *f = fopen(TABLE, "r");
	struct row row;

	complaints = 0;
	if (f == NULL)
		fail_msg("%s: run this from the root of the tree", TABLE);
	while (row_read(f, &row)) {
		check(&row);
		row_free(&row);
	}
	fclose(f);
	assert_int_equal(complaints, 0);
}

static void check_whole(const struct row *row)
{
	judge_cut(row, row->in.len + 1, 1);
}

static void each_message_becomes_what_the_table_says(void **state)
{
	(void)state;
	for_each_row(check_whole);
}

/* Long ones at some places only, else this takes minutes. */
static void check_cut(const struct row *row)
{
	size_t n = row->in.len;

	unsigned before = complaints;

	for (size_t at = 1; at < n && complaints == before;
	     at += n > 4096 && at > 300 && at < n - 300 ? 1009 : 1)
		judge_cut(row, at, n);
	if (complaints == before)
		judge_cut(row, 1, 1);
}

static void a_message_cut_anywhere_becomes_the_same(void **state)
{
	(void)state;
	for_each_row(check_cut);
}

static unsigned seen[2][ROW_TUNNEL + 1];

static void count_row(const struct row *row)
{
	seen[row->response][row->end]++;
	assert_non_null(row->is.p);
}

static void the_table_has_both_directions_and_every_end(void **state)
{
	(void)state;
	for_each_row(count_row);
	for (int end = ROW_KEEP; end <= ROW_TUNNEL; end++)
		assert_true(seen[0][end] + seen[1][end] > 0);
	assert_true(seen[0][ROW_CLOSE] >= 100);
	assert_true(seen[0][ROW_KEEP] >= 30);
	assert_true(seen[1][ROW_KEEP] >= 50);
	assert_true(seen[1][ROW_ABORT] >= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_both_directions_and_every_end),
		cmocka_unit_test(each_message_becomes_what_the_table_says),
		cmocka_unit_test(a_message_cut_anywhere_becomes_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
