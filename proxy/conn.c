/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one downstream connection: see conn.h. */
#include "proxy/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/exchange.h"
#include "proxy/log.h"
#include "proxy/orphan.h"
#include "proxy/recorder.h"
#include "proxy/upstream.h"

#define DRAIN_MAX (64 * 1024) /* of the body of a request that we refused */
#define LINGER_MAX (1024 * 1024) /* after the goodbye */

#define MAY(state) (1U << (state))
static const unsigned may_follow[] = {
	[CONN_NEW] = MAY(CONN_OPEN) | MAY(CONN_CLOSING),
	[CONN_OPEN] = MAY(CONN_LINGER) | MAY(CONN_CLOSING),
	[CONN_LINGER] = MAY(CONN_CLOSING),
	[CONN_CLOSING] = 0,
};

static const char *const state_name[] = {
	[CONN_NEW] = "new",
	[CONN_OPEN] = "open",
	[CONN_LINGER] = "linger",
	[CONN_CLOSING] = "closing",
};

static void conn_enter(struct conn *c, enum conn_state next)
{
	assert(may_follow[c->state] & MAY(next));
	log_debug("conn %u-%llu: %s -> %s (%s)", c->worker->index, (unsigned long long)c->id,
		  state_name[c->state], state_name[next], reason_word(c->why));
	c->state = next;
}

void conn_working(struct conn *c, uint64_t told)
{
	if (told != 0)
		stopwatch_run(&c->watch, CLOCK_OF_QUEUE, told);
	stopwatch_run(&c->watch, CLOCK_OF_WORK, io_now());
}

static struct exchange *conn_exchange(struct conn *c)
{
	return list_empty(&c->exchanges) ? NULL
					 : container_of(c->exchanges.next, struct exchange, link);
}

/* The bytes that this connection keeps are counted at the end of every turn. */
static void conn_count_buffered(struct conn *c, size_t now)
{
	if (now == c->buffered)
		return;
	atomic_fetch_add_explicit(&seat_usage(c->seat)->buffered, now - c->buffered,
				  memory_order_relaxed);
	c->buffered = now;
}

static size_t conn_holds(const struct conn *c)
{
	size_t n = c->ops->holds(c->codec);

	return c->upstream != NULL ? n + c->upstream->ops->holds(c->upstream->codec) : n;
}

/* Who asks again at once finds the memory of the request before. */
static void idle_expired(struct deadline *d)
{
	struct conn *c = container_of(d, struct conn, head_limit);

	c->ops->trim(c->codec);
	if (c->upstream != NULL)
		c->upstream->ops->trim(c->upstream->codec);
}

static void idle_watch(struct conn *c)
{
	if (c->state == CONN_OPEN && list_empty(&c->head_limit.link) && c->bytes_in > 0 &&
	    !c->ops->partial(c->codec))
		deadline_set(&c->worker->idle_limit, &c->head_limit, idle_expired);
}

void conn_settle(struct conn *c)
{
	struct exchange *x = conn_exchange(c);

	if (c->state == CONN_CLOSING)
		return;
	if (x == NULL)
		idle_watch(c);
	conn_count_buffered(c, conn_holds(c));
	stopwatch_run(&c->watch, x ? exchange_waits(x) : CLOCK_OF_HEAD, io_now());
}

size_t conn_backlog(struct conn *c)
{
	return c->ops->pending(c->codec).len;
}

bool conn_writes(struct conn *c)
{
	return c->state == CONN_OPEN && (c->io.ready & IO_WRITE) && conn_backlog(c) > 0;
}

void conn_wake(struct conn *c)
{
	io_wake(&c->io);
}

size_t conn_may_read(struct conn *c, size_t backlog)
{
	if (seat_is_full(c->seat))
		return backlog == 0 ? READ_WHEN_FULL : 0;
	return backlog < BACKLOG_HIGH ? BACKLOG_HIGH - backlog : 0;
}

/* How much may be read for the server now. */
static size_t conn_room(struct conn *c)
{
	return conn_may_read(c, c->upstream != NULL ? upstream_backlog(c->upstream) : 0);
}

static bool conn_wants(struct conn *c)
{
	return c->state == CONN_OPEN && !c->fin && !c->failed && !c->ops->full(c->codec) &&
	       conn_room(c) > 0;
}

void conn_count_held_back(struct conn *c, bool unread)
{
	if (unread && c->state == CONN_OPEN && seat_is_full(c->seat))
		atomic_fetch_add_explicit(&c->worker->held_back, 1, memory_order_relaxed);
}

void conn_wake_reader(struct conn *c)
{
	if ((c->io.ready & IO_READ) && conn_wants(c))
		io_wake(&c->io);
}

/* Inside a head no more. */
static void head_done(struct conn *c)
{
	if (list_empty(&c->head_link))
		return;
	list_remove(&c->head_link);
	atomic_fetch_sub_explicit(&seat_usage(c->seat)->heads, 1, memory_order_relaxed);
}

/* Last step, run when no event of this round can name the conn any more. */
static void conn_free(struct later *later)
{
	struct conn *c = container_of(later, struct conn, later);

	if (c->ops != NULL)
		c->ops->close(c->codec);
	card_unref(c->src.card);
	card_unref(c->dst.card);
	free(c->policy_name);
	free(c->rule_name);
	free(c);
}

void conn_close(struct conn *c, enum reason why, bool reset)
{
	if (c->state == CONN_CLOSING)
		return;
	if (c->why == REASON_NONE)
		c->why = why;
	conn_enter(c, CONN_CLOSING);
	conn_working(c, 0);
	while (!list_empty(&c->exchanges)) {
		struct exchange *x = conn_exchange(c);

		exchange_abandon(x, c->why); /* one that had ended keeps its reason */
		exchange_left(x);
	}
	if (c->upstream != NULL)
		upstream_close(c->upstream, reset);
	record_connection(c);
	conn_count_buffered(c, 0);
	head_done(c);
	deadline_clear(&c->head_limit);
	deadline_clear(&c->body_limit);
	list_remove(&c->link);
	origdst_release(&c->origdst);
	io_unwatch(&c->io);
	if (reset)
		close_reset(c->io.fd);
	else if (c->ops == &codec_opaque)
		orphan_adopt(c->seat, c->io.fd);
	else
		close(c->io.fd);
	worker_count_conns(c->worker, c->seat->enrolled->index, -1);
	loop_later(&c->worker->io, &c->later, conn_free);
}

static void linger_expired(struct deadline *d)
{
	/* Not by a reset: what is in the kernel's send buffer is still on its way. */
	conn_close(container_of(d, struct conn, head_limit), REASON_CLOSED_BY_DESTINATION, false);
}

/* Everything is said. The client closes next; closing before it would turn what it still
 * sends into an RST that may overtake our last bytes. */
static void conn_linger(struct conn *c, enum reason why)
{
	if (c->why == REASON_NONE)
		c->why = why;
	if (!c->shut)
		shutdown(c->io.fd, SHUT_WR);
	c->shut = true;
	if (c->fin) {
		conn_close(c, REASON_CLOSED_BY_SOURCE, false);
		return;
	}
	conn_enter(c, CONN_LINGER);
	if (c->upstream != NULL)
		upstream_close(c->upstream, false);
	deadline_set(&c->worker->linger_limit, &c->head_limit, linger_expired);
	c->dropped = 0;
	io_wake(&c->io);
}

static void linger_turn(struct conn *c)
{
	struct io *io = &c->io;

	while (io_readable(io)) {
		ssize_t n = io_recv(io, c->worker->buffer, sizeof c->worker->buffer);

		if (n > 0)
			c->dropped += (size_t)n;
		if (n == 0 || (n < 0 && n != -EAGAIN) || c->dropped > LINGER_MAX) {
			conn_close(c, REASON_CLOSED_BY_SOURCE, n < 0);
			return;
		}
	}
	if (io->ready & IO_READ)
		io_wake(io);
}

static enum reason reason_of(int err)
{
	switch (err) {
	case CODEC_TOO_LARGE:
		return REASON_HEAD_TOO_LARGE;
	case CODEC_NOT_READABLE:
		return REASON_PROTOCOL_NOT_READABLE;
	case CODEC_CUT:
		return REASON_CLIENT_CLOSED;
	case CODEC_UNSUPPORTED:
		return REASON_NOT_SUPPORTED;
	case -ENOMEM:
		return REASON_NO_MEMORY;
	default:
		return REASON_BAD_REQUEST;
	}
}

/* The codec reads no more of this client. Its goodbye, if it has one, is what is pending. */
static void conn_fail(struct conn *c, enum reason why)
{
	if (c->why == REASON_NONE)
		c->why = why;
	conn_working(c, 0);
	head_done(c);
	/* What waits for the client of a stream of any bytes is no goodbye: behind it a FIN would
	 * say that it was all. */
	if (c->ops == &codec_opaque || conn_backlog(c) == 0) {
		conn_close(c, why, true);
		return;
	}
	c->failed = true;
	deadline_set(&c->worker->linger_limit, &c->head_limit, linger_expired);
	if (list_empty(&c->exchanges) && c->ops->refused(c->codec) != 0)
		record_refusal(c, c->ops->refused(c->codec));
	while (!list_empty(&c->exchanges)) { /* the goodbye is their answer */
		struct exchange *x = conn_exchange(c);

		if (!x->response_begun)
			x->status = c->ops->refused(c->codec);
		exchange_abandon(x, why);
		exchange_left(x);
	}
}

/* Waits no longer for the rest of what this client has begun. */
static void conn_expire(struct conn *c, enum reason why)
{
	conn_working(c, 0);
	c->ops->expire(c->codec);
	conn_fail(c, why);
	conn_flush(c);
	conn_settle(c);
}

static void head_expired(struct deadline *d)
{
	conn_expire(container_of(d, struct conn, head_limit), REASON_HEAD_TIMEOUT);
}

/* A head has begun that did not come whole. Of too many the first goes: who sends one at once is
 * never among them. Those of other workers count, but each worker ends its own. */
static void head_begun(struct conn *c)
{
	unsigned before =
		atomic_fetch_add_explicit(&seat_usage(c->seat)->heads, 1, memory_order_relaxed);
	struct conn *first;

	list_append(&c->seat->heads, &c->head_link);
	first = container_of(c->seat->heads.next, struct conn, head_link);
	if (before >= c->worker->view->options.heads_per_workload && first != c)
		conn_expire(first, REASON_HEADS_QUOTA);
}

static void heads_watch(struct conn *c)
{
	bool inside = c->ops->partial(c->codec);

	if (inside && list_empty(&c->head_link))
		head_begun(c);
	else if (!inside)
		head_done(c);
}

/* Is a body to come whose rate somebody wants to know? */
static bool body_is_watched(struct conn *c)
{
	struct exchange *x = conn_exchange(c);

	return c->worker->view->options.body_rate > 0 && x != NULL && !x->opaque && !x->ended &&
	       !x->request_whole;
}

static void body_watch(struct conn *c);

/* Only time in which nothing but the client was waited for counts: the clock of the body. */
static void body_looked_at(struct deadline *d)
{
	struct conn *c = container_of(d, struct conn, body_limit);
	struct exchange *x = conn_exchange(c);
	uint64_t enough = c->worker->body_limit.length * 1000000 / 10 * 8;
	uint64_t waited, bytes, due;

	if (!body_is_watched(c))
		return;
	conn_working(c, 0);
	waited = c->watch.ns[CLOCK_OF_BODY] - c->body_waited;
	bytes = x->request_body_bytes - c->body_bytes;
	due = waited / 1000000 * c->worker->view->options.body_rate / 1000;
	if (waited >= enough && bytes < due) {
		conn_expire(c, REASON_BODY_TOO_SLOW);
		return;
	}
	if (waited < enough)
		deadline_set(&c->worker->body_limit, &c->body_limit, body_looked_at);
	else
		body_watch(c);
	conn_settle(c);
}

static void body_watch(struct conn *c)
{
	c->body_waited = c->watch.ns[CLOCK_OF_BODY];
	c->body_bytes = conn_exchange(c)->request_body_bytes;
	deadline_set(&c->worker->body_limit, &c->body_limit, body_looked_at);
}

/* Acts on every event the last bytes completed; the parser is off the stack. */
static void conn_step(struct conn *c, int err)
{
	struct codec_event ev;

	while (c->state == CONN_OPEN && c->ops->next(c->codec, &ev)) {
		if (ev.type == CODEC_EV_FAILED)
			err = ev.error;
		else
			exchange_take(c, &ev);
	}
	if (c->state != CONN_OPEN)
		return;
	heads_watch(c);
	/* The head limit runs from a head's first byte, also of one that was held back. */
	if (list_empty(&c->exchanges) && c->ops->partial(c->codec) &&
	    list_empty(&c->head_limit.link))
		deadline_set(&c->worker->head_limit, &c->head_limit, head_expired);
	if (list_empty(&c->body_limit.link) && body_is_watched(c))
		body_watch(c);
	if (err != 0)
		conn_fail(c, reason_of(err));
	else if (c->dropped > DRAIN_MAX && !c->drops_all)
		conn_linger(c, REASON_REFUSED_BODY);
}

/* All that the codec has for the client is written. */
static void conn_flushed(struct conn *c)
{
	bool idle = list_empty(&c->exchanges);
	bool tunnel = c->ops == &codec_opaque;

	if (c->ops->done(c->codec)) {
		if (!tunnel) {
			conn_linger(c, c->fin ? REASON_CLOSED_BY_SOURCE
					      : REASON_CLOSED_BY_DESTINATION);
			return;
		}
		if (!c->shut)
			shutdown(c->io.fd, SHUT_WR);
		c->shut = true;
	}
	if (!idle)
		return;
	if (c->fin)
		conn_close(c, tunnel ? c->shut_by : REASON_CLOSED_BY_SOURCE, false);
	else if (c->upstream != NULL && c->upstream->fin)
		conn_linger(c, REASON_CLOSED_BY_DESTINATION); /* as its other leg did */
}

enum written {
	WRITTEN_BLOCKED, /* the client takes no more now, or the connection has ended */
	WRITTEN_SOME,
	WRITTEN_ALL,
};

static enum written conn_write(struct conn *c)
{
	struct slice out = c->ops->pending(c->codec);
	ssize_t n = 0;

	if (out.len > 0) {
		n = io_send(&c->io, out.p, out.len);
		if (n < 0 && n != -EAGAIN)
			io_wake(&c->io); /* its turn reads what came before */
		if (n < 0)
			return WRITTEN_BLOCKED;
		c->bytes_out += (uint64_t)n;
	}
	/* Also with nothing written: an answer may have ended without a byte of its own. */
	conn_step(c, c->ops->sent(c->codec, (size_t)n));
	if (c->state != CONN_OPEN)
		return WRITTEN_BLOCKED;
	return out.len == 0 && conn_backlog(c) == 0 ? WRITTEN_ALL : WRITTEN_SOME;
}

void conn_flush(struct conn *c)
{
	enum written written;

	if (c->state != CONN_OPEN)
		return;
	do
		written = conn_write(c);
	while (written == WRITTEN_SOME);
	if (written == WRITTEN_ALL)
		conn_flushed(c);
	if (c->state == CONN_OPEN && c->upstream != NULL)
		upstream_wake(c->upstream, conn_backlog(c) < BACKLOG_LOW);
}

static void conn_read(struct conn *c)
{
	char *buffer = c->worker->buffer;

	while (conn_wants(c) && io_readable(&c->io)) {
		ssize_t n = io_recv(&c->io, buffer, conn_room(c));

		c->fin = n == 0;
		if (n > 0) {
			c->bytes_in += (uint64_t)n;
			c->pipelined = 0;
			if (c->head_limit.expired == idle_expired)
				deadline_clear(&c->head_limit);
			conn_step(c, c->ops->feed(c->codec, (struct slice){buffer, (size_t)n}));
		} else if (n == 0) {
			if (list_empty(&c->exchanges) && c->why == REASON_NONE &&
			    !c->ops->partial(c->codec))
				c->why = REASON_CLOSED_BY_SOURCE;
			conn_step(c, c->ops->finish(c->codec));
		}
	}
}

/* The daemon stops, and this one is between two requests, with nothing left to read. One that
 * never asked anything has just been accepted: it may. */
static bool conn_is_to_end(struct conn *c)
{
	return c->worker->draining && c->state == CONN_OPEN && c->bytes_in > 0 &&
	       !(c->io.ready & IO_READ) && list_empty(&c->exchanges) &&
	       !c->ops->partial(c->codec) && conn_backlog(c) == 0;
}

/* The connection broke, and what came before that has been read and written as far as the other
 * side took it at once. A stream of any bytes that is not connected yet waits for that: the
 * server hears what it would have heard without us. */
static void conn_check(struct conn *c)
{
	bool reads = (c->io.ready & IO_READ) && conn_wants(c);

	if (c->state != CONN_OPEN || !(c->io.ready & IO_ERROR) || reads)
		return;
	if (c->ops == &codec_opaque && c->upstream != NULL && upstream_dials(c->upstream))
		return;
	if (c->upstream != NULL && upstream_writes(c->upstream)) {
		conn_wake(c); /* the share is used up */
		return;
	}
	conn_close(c, REASON_RESET_BY_SOURCE, true);
}

static void conn_turn(struct io *io)
{
	struct conn *c = container_of(io, struct conn, io);
	uint64_t told = io->told;

	io->told = 0;
	if (c->state == CONN_LINGER) {
		linger_turn(c);
		return;
	}
	if (told != 0)
		stopwatch_run(&c->watch, CLOCK_OF_QUEUE, told);
	if (list_empty(&c->exchanges) && !c->ops->partial(c->codec))
		conn_mark(c); /* if bytes come now, this is when their message began */
	conn_working(c, 0);
	conn_read(c);
	if (c->state == CONN_OPEN && c->upstream != NULL)
		upstream_flush(c->upstream);
	conn_flush(c);
	conn_check(c);
	if ((io->ready & IO_READ) && conn_wants(c))
		io_again(io);
	conn_count_held_back(c, io->ready & IO_READ);
	if (conn_is_to_end(c))
		conn_linger(c, REASON_SHUTDOWN);
	conn_settle(c);
}

/* What is held back was read at once, so it is at most one read's worth. */
void conn_request_begun(struct conn *c)
{
	c->seat->share.deficit -= IO_TURN_COST;
	deadline_clear(&c->body_limit); /* it was about the request before */
	if (c->ops == &codec_opaque || c->pipelined++ < c->worker->view->options.max_pipelined)
		return;
	if (c->why == REASON_NONE)
		c->why = REASON_TOO_MANY_PIPELINED;
	c->ops->last(c->codec);
}

void conn_mark(struct conn *c)
{
	memcpy(c->mark, c->watch.ns, sizeof c->mark);
	c->mark_at = c->watch.since;
}

void conn_identify(struct conn *c)
{
	const struct view *view = c->worker->view;
	struct directory_entry *own;

	if (c->identified_by == view->serial)
		return;
	c->identified_by = view->serial;
	card_unref(c->src.card);
	card_unref(c->dst.card);
	c->src = directory_find(view->directory, &c->origdst.client.ip);
	c->dst = directory_find(view->directory, &c->origdst.dst.ip);
	/* Several workloads share the host's addresses: connect() knew which it is. */
	if (c->dst.index == DIRECTORY_NOT_LOCAL && c->origdst.slot != NULL &&
	    c->origdst.slot->peer != ADDRESS_NOT_LOCAL) {
		struct directory_entry peer =
			directory_local(view->directory, c->origdst.slot->peer);

		c->dst = peer.index != DIRECTORY_NOT_LOCAL ? peer : c->dst;
	}
	/* Our own end is known by its namespace, whatever its address. */
	own = c->origdst.direction == DIRECTION_EGRESS ? &c->src : &c->dst;
	*own = directory_local(view->directory, c->seat->enrolled->index);
	if (own == &c->src && addr_is_loopback(&c->origdst.client.ip) && !addr_is_zero(&own->ip4))
		c->origdst.client.ip = own->ip4; /* the destination shall see the workload */
	card_ref(c->src.card);
	card_ref(c->dst.card);
	c->flow = (struct flow){c->src.identity, c->dst.identity, ntohs(c->origdst.dst.port)};
}

/* The connection's verdict, and what reads it: a port with http rules is read as HTTP/1,
 * everything else is any bytes. */
static enum reason conn_judge(struct conn *c)
{
	struct decision d;

	stopwatch_run(&c->watch, CLOCK_OF_POLICY, io_now());
	d = policy_connection(c->worker->view->policy, &c->flow);
	stopwatch_run(&c->watch, CLOCK_OF_WORK, io_now());
	if (d.rule != NULL) {
		c->policy_name = strdup(d.rule->policy);
		c->rule_name = strdup(d.rule->place);
	}
	c->denied = d.verdict == VERDICT_DENY;
	if (c->denied)
		return d.reason;
	c->ops = d.verdict == VERDICT_PROXY ? &codec_http1 : &codec_opaque;
	c->http = c->ops == &codec_http1;
	c->codec = c->ops->open(CODEC_SERVER, &c->limits, &c->worker->pool);
	return c->codec ? REASON_NONE : REASON_NO_MEMORY;
}

void conn_drain(struct conn *c)
{
	if (c->state != CONN_OPEN || c->ops == &codec_opaque)
		return;
	c->ops->last(c->codec);
	c->io.ready |= IO_READ; /* what has come is still served, told of or not */
	conn_wake(c);
}

/* Refused before there was a conn: counted nowhere else, so the log says it. */
static void refuse(struct seat *seat, enum listener_kind kind, int fd, int err)
{
	log_warnx("worker %u: connection refused: %s", seat->worker->index, strerror(-err));
	listener_refuse(seat, kind, fd);
}

/* `refused`: NONE, or why it is not to be served. */
static void conn_begin(struct worker *w, struct seat *seat, enum listener_kind kind, int fd,
		       enum reason refused)
{
	struct conn *c = calloc(1, sizeof *c);
	enum reason why;
	int err = -ENOMEM;

	if (c == NULL) { /* refuse this one and go on: its edge has more to serve */
		refuse(seat, kind, fd, -ENOMEM);
		return;
	}
	seat->share.deficit -= IO_SETUP_COST;
	c->worker = w;
	c->seat = seat;
	c->id = ++w->next_conn;
	list_init(&c->exchanges);
	list_init(&c->head_link);
	deadline_init(&c->head_limit);
	deadline_init(&c->body_limit);
	c->limits.head = w->view->options.head_size;
	c->limits.fields = w->view->options.head_fields;
	c->limits.target = w->view->options.target_size;
	stopwatch_start(&c->watch, CLOCK_OF_ACCEPT, io_now());
	err = io_watch(&w->io, &c->io, fd, &seat->share, conn_turn);
	if (err < 0) {
		refuse(seat, kind, fd, err);
		free(c);
		return;
	}
	c->io.ready = IO_WRITE;
	list_append(&seat->conns, &c->link);
	worker_count_conns(w, seat->enrolled->index, 1);
	why = REASON_ORIGDST_UNKNOWN; /* before any byte: never dial a guess */
	err = origdst_claim(w, seat->enrolled, kind, fd, &c->origdst);
	if (err < 0)
		goto fail;
	conn_identify(c);
	why = refused != REASON_NONE ? refused : conn_judge(c);
	if (why != REASON_NONE)
		goto fail;
	conn_enter(c, CONN_OPEN);
	record_opened(c);
	if (w->draining)
		c->ops->last(c->codec);
	if (c->ops != &codec_opaque)
		deadline_set(&w->head_limit, &c->head_limit, head_expired);
	conn_mark(c);
	conn_step(c, 0); /* an opaque stream begins before its first byte */
	conn_settle(c);
	return;
fail:
	conn_close(c, why, true);
}

void conn_accept(struct worker *w, struct seat *seat, enum listener_kind kind, int fd)
{
	enum reason refused = is_last_descriptor(fd) ? REASON_NO_DESCRIPTORS
						     : node_refuses(w->node, seat->enrolled->index);

	conn_begin(w, seat, kind, fd, refused);
}

void conn_refuse(struct worker *w, struct seat *seat, enum listener_kind kind, int fd,
		 enum reason why)
{
	conn_begin(w, seat, kind, fd, why);
}
