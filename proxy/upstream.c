/* SPDX-License-Identifier: Apache-2.0 */
/* The other leg of a connection: see upstream.h. */
#include "proxy/upstream.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/exchange.h"
#include "proxy/log.h"
#include "proxy/orphan.h"

/* A socket on its way from the helper thread. Outlives an upstream that gave up. */
struct socket_ask {
	struct netns_ask ask;
	struct work work;
	struct worker *worker;
	struct upstream *owner; /* NULL: nobody waits any more; worker's thread */
	int fd;
};

static void upstream_turn(struct io *io);

static void upstream_free(struct later *later)
{
	struct upstream *u = container_of(later, struct upstream, later);

	u->ops->close(u->codec);
	free(u);
}

void upstream_close(struct upstream *u, bool reset)
{
	struct conn *c = u->conn;

	if (u->state == UPSTREAM_CLOSED)
		return;
	if (u->ask != NULL)
		u->ask->owner = NULL;
	u->ask = NULL;
	deadline_clear(&u->connect_limit);
	if (u->state != UPSTREAM_ASKING) {
		io_unwatch(&u->io);
		if (reset)
			close_reset(u->io.fd);
		else if (u->ops == &codec_opaque)
			orphan_adopt(c->seat, u->io.fd);
		else
			close(u->io.fd);
	}
	dial_release(c->worker, u->dial);
	u->state = UPSTREAM_CLOSED;
	u->exchange = NULL;
	if (c->upstream == u)
		c->upstream = NULL;
	conn_wake_reader(c); /* its backlog held the client back */
	loop_later(&c->worker->io, &u->later, upstream_free);
}

static enum reason reason_of_connect(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return REASON_CONNECT_REFUSED;
	case ETIMEDOUT:
		return REASON_CONNECT_TIMEOUT;
	case EMFILE:
	case ENFILE:
		return REASON_NO_DESCRIPTORS;
	default:
		return REASON_CONNECT_FAILED;
	}
}

/* A connection that had served requests ends without a word on this one: most times its server
 * had given it up when the request was on its way. The client's own connection has served them
 * too. Without us it would meet that end, knows that it may come, and knows whether it may ask
 * again; an answer of ours would be taken for the server's. */
static bool is_stale_end(const struct upstream *u, enum reason why)
{
	const struct exchange *x = u->exchange;

	return x->reused && !u->heard &&
	       (why == REASON_UPSTREAM_CLOSED || why == REASON_UPSTREAM_RESET);
}

/* Ends what it served; nobody is left waiting. Between two requests that is nothing: the
 * answer before may still be on its way to the client, and the next request dials anew. */
static void upstream_fail(struct upstream *u, enum reason why)
{
	struct exchange *x = u->exchange;
	struct conn *c = u->conn;

	if (x != NULL && !x->opaque && why == REASON_RESET_BY_DESTINATION)
		why = REASON_UPSTREAM_RESET;
	if (x != NULL && is_stale_end(u, why))
		conn_close(c, why, why == REASON_UPSTREAM_RESET);
	else if (x != NULL)
		exchange_end(x, why);
	else if (u->ops == &codec_opaque)
		conn_close(c, why, true);
	upstream_close(u, true);
}

static void connect_expired(struct deadline *d)
{
	struct upstream *u = container_of(d, struct upstream, connect_limit);
	struct conn *c = u->conn;

	conn_working(c, 0);
	upstream_fail(u, REASON_CONNECT_TIMEOUT);
	conn_settle(c);
}

/* The seat in whose namespace the destination lies, or NULL when that is not on this node, or
 * is an explicit listener's upstream. */
static struct seat *local_seat(const struct conn *c)
{
	if (c->dst.index == DIRECTORY_NOT_LOCAL || c->seat->enrolled->upstream != NULL)
		return NULL;
	return c->worker->seats[c->dst.index];
}

/* Nobody listens at a local destination, though the kernel gave the connection to us. */
static void doubt_registry(const struct upstream *u, int err)
{
	const struct seat *seat = local_seat(u->conn);

	if (err == ECONNREFUSED && seat != NULL)
		atomic_store_explicit(seat->enrolled->refused, true, memory_order_relaxed);
}

static enum reason reason_of_dial(const struct worker *w, int err)
{
	if (err == -EADDRNOTAVAIL)
		return REASON_DIALS_FULL;
	log_warnx("worker %u: dial: %s", w->index, strerror(-err));
	return REASON_INTERNAL;
}

static void upstream_connect(struct upstream *u, int fd)
{
	struct conn *c = u->conn;
	struct seat *seat = local_seat(c);
	struct sockaddr_storage sa;
	socklen_t len = endpoint_to_sockaddr(&c->origdst.dst, &sa);
	int err = io_watch(&c->worker->io, &u->io, fd, &c->seat->share, upstream_turn);

	if (err < 0) {
		close(fd);
		upstream_fail(u, REASON_INTERNAL);
		return;
	}
	u->state = UPSTREAM_CONNECTING;
	c->seat->share.deficit -= IO_SETUP_COST;
	if (seat != NULL) {
		u->dial = dial_bind(c->worker, seat->enrolled, fd, &c->origdst.client);
		if (u->dial < 0) {
			upstream_fail(u, reason_of_dial(c->worker, (int)u->dial));
			return;
		}
	}
	c->attempts++;
	if (u->exchange != NULL)
		u->exchange->attempts++;
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) {
		doubt_registry(u, errno);
		upstream_fail(u, reason_of_connect(errno));
		return;
	}
	deadline_set(&c->worker->connect_limit, &u->connect_limit, connect_expired);
}

static void ask_answered(struct worker *w, struct work *work)
{
	struct socket_ask *a = container_of(work, struct socket_ask, work);
	struct upstream *u = a->owner;
	int fd = a->fd;

	(void)w;
	free(a);
	if (u == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	u->ask = NULL;
	conn_working(u->conn, 0);
	if (fd >= 0)
		upstream_connect(u, fd);
	else
		upstream_fail(u, reason_of_connect(-fd));
	conn_settle(u->conn);
}

/* On the helper thread. */
static void ask_deliver(struct netns_ask *ask, int fd)
{
	struct socket_ask *a = container_of(ask, struct socket_ask, ask);

	a->fd = fd;
	a->work.run = ask_answered;
	worker_post(a->worker, &a->work);
}

/* From the daemon's own namespace, which a worker is in. */
static bool upstream_dial_explicit(struct upstream *u, int family)
{
	int fd = netns_socket_here(family);

	if (fd < 0)
		upstream_fail(u, reason_of_connect(-fd));
	else
		upstream_connect(u, fd);
	return true;
}

static bool upstream_dial(struct upstream *u)
{
	struct conn *c = u->conn;
	struct seat *seat = local_seat(c);
	const struct enrolled *e = seat ? seat->enrolled : c->seat->enrolled;
	int family = addr_is_v4(&c->origdst.dst.ip) ? AF_INET : AF_INET6;
	struct socket_ask *a;
	int fd;

	if (c->seat->enrolled->upstream != NULL)
		return upstream_dial_explicit(u, family);
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return false;
	a->worker = c->worker;
	a->owner = u;
	a->ask.deliver = ask_deliver;
	fd = netns_socket(e->pool, family, &a->ask);
	if (fd == -EAGAIN) {
		u->ask = a;
		return true;
	}
	free(a);
	upstream_connect(u, fd);
	return true;
}

static bool upstream_new(struct exchange *x)
{
	struct conn *c = x->conn;
	struct upstream *u = calloc(1, sizeof *u);

	if (u == NULL)
		return false;
	u->conn = c;
	u->dial = -1;
	u->ops = c->ops;
	deadline_init(&u->connect_limit);
	u->codec = u->ops->open(CODEC_CLIENT, &codec_limits_default, &c->worker->pool);
	if (u->codec == NULL) {
		free(u);
		return false;
	}
	u->exchange = x;
	x->upstream = u;
	c->upstream = u;
	if (upstream_dial(u))
		return true;
	x->upstream = NULL;
	upstream_close(u, false);
	return false;
}

/* Has its server said nothing since its last answer? What it said would be taken for the next
 * one. A bit that is not set was cleared by a read that left nothing. */
static bool upstream_is_quiet(const struct upstream *u)
{
	char byte;

	if (u->fin || (u->io.ready & IO_ERROR) || u->ops->done(u->codec))
		return false;
	if (!(u->io.ready & IO_READ))
		return true;
	return recv(u->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool upstream_acquire(struct exchange *x)
{
	struct upstream *u = x->conn->upstream;

	if (u != NULL && !upstream_is_quiet(u)) {
		upstream_close(u, false);
		u = NULL;
	}
	if (u == NULL)
		return upstream_new(x);
	u->exchange = x;
	u->heard = false;
	x->upstream = u;
	x->reused = true;
	return true;
}

void upstream_release(struct upstream *u, bool whole)
{
	if (u == NULL || u->state == UPSTREAM_CLOSED)
		return;
	u->exchange = NULL;
	if (!whole || upstream_backlog(u) > 0)
		upstream_close(u, true);
}

int upstream_send(struct upstream *u, const struct codec_event *ev)
{
	return u->ops->emit(u->codec, ev);
}

size_t upstream_backlog(struct upstream *u)
{
	return u->ops->pending(u->codec).len;
}

bool upstream_dials(const struct upstream *u)
{
	return u->state == UPSTREAM_ASKING || u->state == UPSTREAM_CONNECTING;
}

static bool upstream_wants(struct upstream *u)
{
	return u->state == UPSTREAM_OPEN && !u->fin &&
	       conn_may_read(u->conn, conn_backlog(u->conn)) > 0;
}

bool upstream_writes(struct upstream *u)
{
	return u->state == UPSTREAM_OPEN && (u->io.ready & IO_WRITE) && upstream_backlog(u) > 0;
}

void upstream_wake(struct upstream *u, bool read)
{
	bool reads = read && (u->io.ready & IO_READ) && upstream_wants(u);

	if (reads || upstream_writes(u))
		io_wake(&u->io);
}

static void upstream_shut(struct upstream *u)
{
	if (u->ops != &codec_opaque || u->shut || !u->ops->done(u->codec))
		return;
	shutdown(u->io.fd, SHUT_WR);
	u->shut = true;
	if (u->exchange != NULL)
		exchange_settled(u->exchange);
}

void upstream_flush(struct upstream *u)
{
	struct conn *c = u->conn;

	while (u->state == UPSTREAM_OPEN) {
		struct slice out = u->ops->pending(u->codec);
		ssize_t n;

		if (out.len == 0) {
			upstream_shut(u);
			break;
		}
		n = io_send(&u->io, out.p, out.len);
		if (n < 0 && n != -EAGAIN)
			io_wake(&u->io); /* its turn reads what came before */
		if (n < 0)
			break;
		if (u->ops->sent(u->codec, (size_t)n) < 0) {
			upstream_fail(u, REASON_NO_MEMORY);
			return;
		}
	}
	if (u->state == UPSTREAM_OPEN && upstream_backlog(u) < BACKLOG_LOW)
		conn_wake_reader(c);
}

static enum reason reason_of_response(int err)
{
	if (err == -ENOMEM)
		return REASON_NO_MEMORY;
	return err == CODEC_CUT ? REASON_UPSTREAM_CLOSED : REASON_UPSTREAM_PROTOCOL;
}

/* Acts on every event the last bytes completed. */
static void upstream_step(struct upstream *u, int err)
{
	struct codec_event ev;

	while (u->state == UPSTREAM_OPEN && u->ops->next(u->codec, &ev)) {
		if (ev.type == CODEC_EV_FAILED)
			err = ev.error;
		else if (u->exchange != NULL && ev.type != CODEC_EV_LEFT)
			exchange_answer(u->exchange, &ev);
	}
	if (u->state == UPSTREAM_OPEN && err != 0)
		upstream_fail(u, reason_of_response(err));
	else if (u->state == UPSTREAM_OPEN && u->fin && u->exchange != NULL && !u->exchange->opaque)
		upstream_fail(u, REASON_UPSTREAM_CLOSED);
}

static void upstream_read(struct upstream *u)
{
	struct conn *c = u->conn;
	char *buffer = c->worker->buffer;

	while (upstream_wants(u) && io_readable(&u->io)) {
		ssize_t n = io_recv(&u->io, buffer, conn_may_read(c, conn_backlog(c)));

		u->fin = n == 0;
		u->heard = u->heard || n > 0;
		if (n > 0)
			upstream_step(u, u->ops->feed(u->codec, (struct slice){buffer, (size_t)n}));
		else if (n == 0)
			upstream_step(u, u->ops->finish(u->codec));
	}
}

/* The connection broke, and what came before that has been read and written as far as the client
 * took it at once. A client that takes nothing does not keep a stream of any bytes from ending;
 * of a response it gets what was read later. */
static void upstream_check(struct upstream *u)
{
	bool full = conn_may_read(u->conn, conn_backlog(u->conn)) == 0;
	bool reads = (u->io.ready & IO_READ) && !u->fin;

	if (u->state != UPSTREAM_OPEN || !(u->io.ready & IO_ERROR))
		return;
	if (conn_writes(u->conn)) /* its share is used up */
		io_wake(&u->io);
	else if (!reads || (full && u->ops == &codec_opaque))
		upstream_fail(u, REASON_RESET_BY_DESTINATION);
}

static void upstream_connected(struct upstream *u)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (!(u->io.ready & IO_WRITE))
		return;
	if (getsockopt(u->io.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	deadline_clear(&u->connect_limit);
	doubt_registry(u, err);
	if (err == ECONNRESET || err == EPIPE) { /* it was connected, and has broken since */
		u->io.error = err == EPIPE ? 0 : err;
		u->io.ready |= IO_ERROR | IO_READ;
		err = 0;
	}
	if (err != 0) {
		upstream_fail(u, reason_of_connect(err));
		return;
	}
	u->state = UPSTREAM_OPEN;
	u->conn->upstream_served = true;
	if (u->conn->io.ready & IO_ERROR)
		conn_wake(u->conn); /* it has waited for us */
}

static void upstream_turn(struct io *io)
{
	struct upstream *u = container_of(io, struct upstream, io);
	struct conn *c = u->conn;

	conn_working(c, io->told);
	io->told = 0;
	if (u->state == UPSTREAM_CONNECTING)
		upstream_connected(u);
	upstream_flush(u);
	upstream_read(u);
	conn_flush(c);
	upstream_check(u);
	if ((io->ready & IO_READ) && upstream_wants(u))
		io_again(io);
	conn_count_held_back(c, (io->ready & IO_READ) && !u->fin);
	conn_settle(c);
}
