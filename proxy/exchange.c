/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its response, or one opaque stream: see exchange.h. */
#include "proxy/exchange.h"

#include <errno.h>
#include <string.h>

#include "config/text.h"
#include "proxy/forwarding.h"
#include "proxy/recorder.h"
#include "proxy/upstream.h"

static void exchange_free(struct later *later)
{
	struct exchange *x = container_of(later, struct exchange, later);

	policy_unref(x->policy);
	slab_put(&x->conn->worker->exchanges, x);
}

static struct exchange *exchange_find(struct conn *c, uint32_t stream)
{
	for (struct list *l = c->exchanges.next; l != &c->exchanges; l = l->next) {
		struct exchange *x = container_of(l, struct exchange, link);

		if (x->stream == stream)
			return x;
	}
	return NULL;
}

/* Copies for the record; what does not fit is cut. */
static struct slice keep(struct exchange *x, size_t *at, struct slice s)
{
	size_t room = sizeof x->text - *at;
	size_t n = s.len < room ? s.len : room;
	struct slice kept = {x->text + *at, n};

	if (n > 0)
		memcpy(x->text + *at, s.p, n);
	*at += n;
	return kept;
}

static struct slice without_query(struct slice path)
{
	const char *query = path.len ? memchr(path.p, '?', path.len) : NULL;

	if (query != NULL)
		path.len = (size_t)(query - path.p);
	return path;
}

static void exchange_describe(struct exchange *x, const struct codec_event *ev)
{
	const struct message *head = ev->head;
	size_t at = 0;

	x->expects = head->expects;
	x->protocol = head->version == MESSAGE_HTTP10 ? (struct slice){"HTTP/1.0", 8}
						      : (struct slice){"HTTP/1.1", 8};
	x->request_header_bytes = ev->wire;
	x->request_whole = slice_is(head->method, "CONNECT"); /* no END comes for it */
	x->method = keep(x, &at, head->method);
	x->authority = keep(x, &at, head->authority);
	x->path = keep(x, &at,
		       x->conn->worker->view->options.access_log_query ? head->path
								       : without_query(head->path));
}

static void response_expired(struct deadline *d)
{
	struct exchange *x = container_of(d, struct exchange, limit);
	struct conn *c = x->conn;

	conn_working(c, 0);
	exchange_end(x, REASON_RESPONSE_TIMEOUT);
	conn_settle(c);
}

/* Is it the server's turn? It has all of the request, or its client waits for a 100 first. */
static void exchange_limit(struct exchange *x)
{
	struct deadline_queue *limit = &x->conn->worker->response_limit;

	if (limit->length == 0 || x->opaque || x->ended || x->response_begun)
		return;
	if (x->request_whole || x->expects)
		deadline_set(limit, &x->limit, response_expired);
	else
		deadline_clear(&x->limit);
}

/* By the policy of this moment: a kept connection meets the new one with its next request. The
 * head in *ev becomes the one to forward. */
static enum reason exchange_judge(struct exchange *x, struct codec_event *ev)
{
	struct conn *c = x->conn;

	stopwatch_run(&c->watch, CLOCK_OF_POLICY, io_now());
	conn_identify(c);
	x->decision = policy_request(x->policy, &c->flow, ev->head, c->worker->scratch);
	x->mismatches = *policy_mismatches(c->worker->scratch);
	ev->head = policy_head(c->worker->scratch);
	stopwatch_run(&c->watch, CLOCK_OF_WORK, io_now());
	return x->decision.verdict == VERDICT_DENY ? x->decision.reason : REASON_NONE;
}

/* An answer of our own. Returns as emit() does. */
static int exchange_say(struct exchange *x, unsigned status, const char *type, struct slice content)
{
	struct conn *c = x->conn;
	struct field field = {{"content-type", 12}, {type, strlen(type)}};
	struct message head = {
		.status = status,
		.version = MESSAGE_HTTP11,
		.content_length = (int64_t)content.len,
		.fields = &field,
		.field_count = content.len > 0,
	};
	struct codec_event ev = {.type = CODEC_EV_HEAD, .stream = x->stream, .head = &head};
	size_t before = conn_backlog(c);
	int err;

	x->status = status;
	x->response_begun = true;
	err = c->ops->emit(c->codec, &ev);
	x->response_header_bytes += conn_backlog(c) - before;
	ev = (struct codec_event){.type = CODEC_EV_BODY, .stream = x->stream, .data = content};
	if (err == 0)
		err = c->ops->emit(c->codec, &ev);
	if (!slice_is(x->method, "HEAD")) /* the codec leaves the content of that out */
		x->response_body_bytes = content.len;
	ev = (struct codec_event){.type = CODEC_EV_END, .stream = x->stream};
	return err < 0 ? err : c->ops->emit(c->codec, &ev);
}

/* An OPTIONS or TRACE that is to go no further: answered here (RFC 9110 7.6.2). */
static void exchange_reflect(struct exchange *x, const struct message *head)
{
	char buf[8192];
	struct text t;
	unsigned status = 200;

	exchange_abandon(x, REASON_NONE);
	text_fixed(&t, buf, sizeof buf);
	if (slice_is(head->method, "TRACE"))
		forwarding_trace(&t, head);
	if (text_failed(&t)) { /* half of it would be a lie */
		status = 431;
		t.len = 0;
	}
	if (exchange_say(x, status, "message/http", (struct slice){buf, t.len}) < 0)
		conn_close(x->conn, REASON_NO_MEMORY, true);
	else
		conn_wake(x->conn);
}

/* Its head, for the server. */
static enum reason exchange_ask(struct exchange *x, const struct codec_event *ev)
{
	const struct conn *c = x->conn;
	const struct options *o = &c->worker->view->options;
	struct codec_event out = *ev;
	struct forwarding f;
	int err;

	if (x->opaque || !forwarding_is_on(o))
		return upstream_send(x->upstream, ev) < 0 ? REASON_INTERNAL : REASON_NONE;
	err = forwarding_request(&f, ev->head, o, &c->origdst.client.ip, c->origdst.dst.port);
	out.head = &f.head;
	if (err == 0)
		err = upstream_send(x->upstream, &out);
	forwarding_free(&f);
	if (err == 0)
		return REASON_NONE;
	return err == -ENOMEM ? REASON_NO_MEMORY : REASON_INTERNAL;
}

static void exchange_begin(struct conn *c, const struct codec_event *ev)
{
	struct codec_event out = *ev;
	struct exchange *x = slab_get(&c->worker->exchanges);
	enum reason why = REASON_NONE;

	if (x == NULL) {
		conn_close(c, REASON_NO_MEMORY, true);
		return;
	}
	x->conn = c;
	x->stream = ev->stream;
	x->number = ev->stream;
	x->policy = policy_ref(c->worker->view->policy);
	memcpy(x->mark, c->mark, sizeof x->mark);
	x->mark_at = c->mark_at;
	deadline_init(&x->limit);
	list_append(&c->exchanges, &x->link);
	c->dropped = 0;
	c->drops_all = false;
	deadline_clear(&c->head_limit);
	conn_request_begun(c);
	x->opaque = ev->head == NULL;
	if (!x->opaque) {
		exchange_describe(x, ev);
		why = exchange_judge(x, &out);
	}
	if (why == REASON_NONE && !x->opaque &&
	    forwarding_ends_here(&c->worker->view->options, ev->head)) {
		exchange_reflect(x, ev->head);
		return;
	}
	/* A dial may fail at once, and has ended the exchange then. */
	if (why == REASON_NONE && !upstream_acquire(x))
		why = REASON_NO_MEMORY;
	else if (why == REASON_NONE && x->upstream != NULL)
		why = exchange_ask(x, &out);
	if (why != REASON_NONE)
		exchange_end(x, why);
	exchange_limit(x);
}

static void exchange_drop(struct conn *c, const struct codec_event *ev)
{
	c->dropped += ev->data.len;
	if (c->ops->credit(c->codec, ev->stream, ev->data.len) < 0)
		conn_close(c, REASON_NO_MEMORY, true);
}

/* A piece of the request for its upstream. */
static void exchange_forward(struct exchange *x, const struct codec_event *ev)
{
	bool waited = x->expects;
	struct codec_event out = *ev;
	struct message trailers;

	if (ev->type == CODEC_EV_TRAILERS) {
		/* They may say again what a rule has taken out of the head (RFC 9110 6.5.1: some
		 * servers merge them into it). */
		if (x->decision.edited)
			return;
		forwarding_trailers(&trailers, ev->head, &x->conn->worker->view->options);
		out.head = &trailers;
	}
	if (ev->type == CODEC_EV_BODY)
		x->request_body_bytes += ev->data.len;
	x->expects = false;
	if (ev->type == CODEC_EV_END) {
		x->request_whole = true;
		if (x->opaque && x->conn->shut_by == REASON_NONE)
			x->conn->shut_by = REASON_CLOSED_BY_SOURCE;
	}
	if (upstream_send(x->upstream, &out) < 0)
		exchange_end(x, REASON_INTERNAL);
	if (waited != x->expects || ev->type == CODEC_EV_END)
		exchange_limit(x);
}

void exchange_take(struct conn *c, const struct codec_event *ev)
{
	struct exchange *x;

	if (ev->type == CODEC_EV_HEAD) {
		exchange_begin(c, ev);
		return;
	}
	x = exchange_find(c, ev->stream);
	if (ev->type == CODEC_EV_LEFT) {
		if (x == NULL)
			return;
		x->left = true;
		if (!x->opaque || x->ended)
			exchange_left(x);
		else
			exchange_settled(x);
	} else if (x != NULL && x->upstream != NULL) {
		exchange_forward(x, ev);
	} else if (ev->type == CODEC_EV_BODY) { /* dropped, but its room is given back */
		exchange_drop(c, ev);
	}
}

/* The response is whole: its upstream is free for the next request, if it took all of this
 * one. */
static void exchange_answered(struct exchange *x)
{
	struct upstream *u = x->upstream;

	x->response_whole = true;
	if (x->opaque) {
		if (x->conn->shut_by == REASON_NONE)
			x->conn->shut_by = REASON_CLOSED_BY_DESTINATION;
		return;
	}
	x->upstream = NULL;
	x->ended = true;
	x->conn->drops_all = !x->request_whole; /* a server that answers early reads on */
	upstream_release(u, x->request_whole);
}

/* After this answer the connection carries any bytes: 101, or a 2xx to CONNECT. */
static bool exchange_switches(const struct exchange *x, const struct message *head)
{
	return head->status == 101 || (slice_is(x->method, "CONNECT") && head->status / 100 == 2);
}

/* A codec of any bytes that begins where an HTTP one ends: `pending` is what that had still to
 * write, `rest` what the other leg's read and did not take. NULL when memory is short. */
static struct codec *codec_go_on(enum codec_role role, struct slice pending, struct slice rest,
				 struct pool *pool)
{
	struct codec *k = codec_opaque.open(role, &codec_limits_default, pool);
	struct codec_event head = {.type = CODEC_EV_HEAD, .stream = 1};
	struct codec_event body = {.type = CODEC_EV_BODY, .stream = 1, .data = pending};
	int err;

	if (k == NULL)
		return NULL;
	(void)codec_opaque.next(k, &(struct codec_event){0}); /* its HEAD: nobody waits for it */
	err = codec_opaque.emit(k, &head);
	if (err == 0 && pending.len > 0)
		err = codec_opaque.emit(k, &body);
	body.data = rest;
	if (err == 0 && rest.len > 0)
		err = codec_opaque.emit(k, &body);
	if (err == 0)
		return k;
	codec_opaque.close(k);
	return NULL;
}

/* From here on both legs are as those of an opaque stream; only its record is a request's. */
static void exchange_switch(struct exchange *x)
{
	struct conn *c = x->conn;
	struct upstream *u = x->upstream;
	struct slice asked = c->ops->rest(c->codec);
	struct slice answered = u->ops->rest(u->codec);
	struct pool *pool = &c->worker->pool;
	struct codec *down = codec_go_on(CODEC_SERVER, c->ops->pending(c->codec), answered, pool);
	struct codec *up = codec_go_on(CODEC_CLIENT, u->ops->pending(u->codec), asked, pool);

	if (down == NULL || up == NULL) {
		codec_opaque.close(down);
		codec_opaque.close(up);
		exchange_end(x, REASON_NO_MEMORY);
		return;
	}
	x->request_body_bytes += asked.len;
	x->response_body_bytes += answered.len;
	c->ops->close(c->codec);
	u->ops->close(u->codec);
	c->ops = u->ops = &codec_opaque;
	c->codec = down;
	u->codec = up;
	x->opaque = true;
	x->stream = 1;
	x->request_whole = false; /* now the FINs say what is whole */
	if (c->fin && c->ops->finish(c->codec) < 0)
		exchange_end(x, REASON_NO_MEMORY);
	conn_wake(c);
}

/* The server wants the content: its client is waited for again. */
static void exchange_continue(struct exchange *x)
{
	if (!x->expects)
		return;
	x->expects = false;
	exchange_limit(x);
}

void exchange_answer(struct exchange *x, const struct codec_event *ev)
{
	struct conn *c = x->conn;
	struct codec_event out = *ev;
	size_t before = conn_backlog(c);
	struct message head;
	int err;

	out.stream = x->stream;
	if (ev->type == CODEC_EV_HEAD && ev->head != NULL && c->worker->view->options.via) {
		forwarding_response(&head, ev->head);
		out.head = &head;
	}
	err = c->ops->emit(c->codec, &out);
	if (err < 0) {
		exchange_end(x, err == -ENOMEM ? REASON_NO_MEMORY : REASON_UPSTREAM_PROTOCOL);
		return;
	}
	if (ev->type == CODEC_EV_HEAD && ev->head != NULL) {
		x->response_header_bytes += conn_backlog(c) - before;
		if (ev->head->status == 100)
			exchange_continue(x);
		if (!message_is_interim(ev->head)) {
			x->status = ev->head->status;
			x->response_begun = true;
			deadline_clear(&x->limit);
			if (exchange_switches(x, ev->head))
				exchange_switch(x);
		}
	} else if (ev->type == CODEC_EV_BODY) {
		x->response_begun = true;
		x->response_body_bytes += ev->data.len;
	} else if (ev->type == CODEC_EV_END) {
		exchange_answered(x);
	}
}

void exchange_settled(struct exchange *x)
{
	if (x->opaque && x->left && x->request_whole && (x->upstream == NULL || x->upstream->shut))
		exchange_left(x);
}

static unsigned status_of(enum reason why)
{
	switch (why) {
	case REASON_POLICY_L4:
	case REASON_POLICY_L7:
	case REASON_POLICY_MEMORY:
		return 403;
	case REASON_NOT_SUPPORTED:
		return 501;
	case REASON_CONNECT_TIMEOUT:
	case REASON_RESPONSE_TIMEOUT:
		return 504;
	case REASON_CONNECT_REFUSED:
	case REASON_CONNECT_FAILED:
	case REASON_DIALS_FULL:
	case REASON_NO_MEMORY:
	case REASON_NO_DESCRIPTORS:
	case REASON_INTERNAL:
		return 503;
	default:
		return 502;
	}
}

/* An answer in HTTP's own words. Denials say what everybody's do; the others say what an
 * operator can act on. */
static int exchange_refuse(struct exchange *x, enum reason why)
{
	bool denied = status_of(why) == 403;
	char buf[256];
	struct text t;

	text_fixed(&t, buf, sizeof buf);
	text_adds(&t, denied ? "Access denied" : reason_text(why), "\r\n", NULL);
	return exchange_say(x, status_of(why), "text/plain", (struct slice){buf, t.len});
}

void exchange_abandon(struct exchange *x, enum reason why)
{
	struct upstream *u = x->upstream;

	if (x->ended)
		return;
	x->ended = true;
	x->why = why;
	deadline_clear(&x->limit);
	x->upstream = NULL;
	if (u != NULL)
		upstream_release(u, false);
}

void exchange_end(struct exchange *x, enum reason why)
{
	struct conn *c = x->conn;

	if (x->ended)
		return;
	exchange_abandon(x, why);
	if (x->opaque || x->response_begun || exchange_refuse(x, why) < 0) {
		conn_close(c, why, true);
		return;
	}
	conn_wake(c); /* its own turn writes the answer */
}

void exchange_left(struct exchange *x)
{
	struct conn *c = x->conn;

	conn_working(c, 0);
	if (x->protocol.len > 0) /* was asked for in HTTP, whatever it is by now */
		record_exchange(x);
	conn_mark(c);
	list_remove(&x->link);
	loop_later(&c->worker->io, &x->later, exchange_free);
}

enum clock exchange_waits(const struct exchange *x)
{
	struct conn *c = x->conn;
	const struct upstream *u = x->upstream;

	if (conn_backlog(c) > 0 && (x->ended || x->response_begun) && !x->opaque)
		return CLOCK_OF_FLUSH;
	if (u != NULL && u->state == UPSTREAM_ASKING)
		return CLOCK_OF_QUEUE;
	if (u != NULL && u->state == UPSTREAM_CONNECTING)
		return CLOCK_OF_CONNECT;
	if (x->opaque)
		return CLOCK_OF_OPEN;
	if (x->response_begun || u == NULL)
		return CLOCK_OF_RECV;
	if (upstream_backlog(x->upstream) > 0)
		return CLOCK_OF_SEND;
	return x->request_whole || x->expects ? CLOCK_OF_WAIT : CLOCK_OF_BODY;
}
