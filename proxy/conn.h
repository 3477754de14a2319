/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one downstream connection, top to bottom: accepted, its destination claimed, a
 * codec chosen by what policy says, its exchanges served, closed in one place with a reason.
 */
#ifndef SHUNT_CONN_H
#define SHUNT_CONN_H

#include "bpf/reason.h"
#include "proxy/codec/codec.h"
#include "proxy/deadline.h"
#include "proxy/io.h"
#include "proxy/origdst.h"
#include "proxy/policy.h"
#include "proxy/stopwatch.h"
#include "proxy/worker.h"

/* Bytes not yet written. Who reads for a leg reads no further than to the first, and is woken
 * below the second. What a codec makes of the bytes it was fed may be more. */
#define BACKLOG_HIGH (64 * 1024)
#define BACKLOG_LOW (16 * 1024)
/* While a workload's buffers are full, a leg for which nothing waits is read so much at once. */
#define READ_WHEN_FULL (4 * 1024)

enum conn_state {
	CONN_NEW,
	CONN_OPEN,
	CONN_LINGER, /* everything said; reads on until the peer closes, so that no RST overtakes
			the goodbye */
	CONN_CLOSING,
};

struct conn {
	struct io io;
	struct worker *worker;
	struct seat *seat;
	struct list link; /* in seat->conns */
	struct list head_link; /* in seat->heads */
	size_t buffered; /* bytes of both legs, as they were counted last */
	enum conn_state state;
	enum reason why; /* of its end */
	enum reason shut_by; /* any bytes: who closed its half first; the end may be another's */
	uint64_t id;
	bool fin; /* the peer's was read */
	bool shut; /* ours was sent */
	bool failed; /* no more of it is read; the goodbye is still to be written */

	struct origdst origdst;
	struct flow flow; /* by the view of this serial */
	uint64_t identified_by;
	struct directory_entry src; /* cards are this conn's references */
	struct directory_entry dst;
	bool denied; /* as a connection */
	char *policy_name; /* of the connection's verdict; owned copies, or NULL */
	char *rule_name;

	struct codec_limits limits; /* of requests */
	const struct codec_ops *ops;
	struct codec *codec;
	bool http; /* it began as HTTP, whatever it is by now */
	struct list exchanges;
	struct upstream *upstream; /* kept between exchanges; NULL before the first */

	/* The hand of this connection: what runs now. An exchange's times are the difference
	 * between two states of it. */
	struct stopwatch watch;
	uint64_t mark[CLOCK_COUNT]; /* watch.ns where the coming message began */
	uint64_t mark_at;
	struct deadline head_limit; /* what its client is given for a head, a pause, a goodbye */
	struct deadline body_limit; /* the next look at how fast a body comes */
	uint64_t body_waited; /* CLOCK_OF_BODY at the last one, and the bytes it had */
	uint64_t body_bytes;
	struct later later;

	uint64_t bytes_in; /* read from the client */
	uint64_t bytes_out; /* written to it */
	unsigned attempts; /* dials */
	bool upstream_served; /* one of them was answered */
	size_t dropped; /* body bytes of a request that is over */
	bool drops_all; /* its server answered it, and keeps its own connection */
	unsigned pipelined; /* requests begun since the last read */
};

/* Takes over an accepted socket; refuses it as node_refuses() says. */
void conn_accept(struct worker *w, struct seat *seat, enum listener_kind kind, int fd);
/* Resets it, with a record that says who was refused and why. */
void conn_refuse(struct worker *w, struct seat *seat, enum listener_kind kind, int fd,
		 enum reason why);

/* The daemon stops: an idle connection ends, others with their answer; an opaque one goes on. */
void conn_drain(struct conn *c);

/* Looks up again who speaks with whom if the worker's view is another one by now: a kept
 * connection is judged by the labels of today. */
void conn_identify(struct conn *c);

/* The one end; idempotent, the first reason wins. `reset`: RST instead of FIN. */
void conn_close(struct conn *c, enum reason why, bool reset);

/* How much may be read now for a leg of which `backlog` bytes wait to be written; 0: nothing. Who
 * is held back has a backlog, and is woken as that is written. */
size_t conn_may_read(struct conn *c, size_t backlog);
/* At the end of a turn: counts it if it left bytes `unread` while the buffers are full. */
void conn_count_held_back(struct conn *c, bool unread);

void conn_flush(struct conn *c); /* writes what it can now */
void conn_wake(struct conn *c); /* a turn of its own, in this round or the next */
void conn_wake_reader(struct conn *c); /* the same, if it has bytes to read and may */
void conn_mark(struct conn *c); /* the next message begins now */
void conn_request_begun(struct conn *c); /* its head was read; counts those sent ahead */

size_t conn_backlog(struct conn *c); /* bytes for the client, not yet written */
bool conn_writes(struct conn *c); /* there are, and the client may take them: next turn */

/* Puts the hand on what the connection waits for. At the end of every turn. */
void conn_settle(struct conn *c);
/* The hand on our own work: at the begin of a turn that was told of at `told` (0: by us). */
void conn_working(struct conn *c, uint64_t told);

#endif
