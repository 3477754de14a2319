/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other leg: one per downstream connection and destination (no pool across clients, the
 * application must see each client's own address). Dialled from the destination's namespace
 * when that is local, else from the source's own.
 */
#ifndef SHUNT_UPSTREAM_H
#define SHUNT_UPSTREAM_H

#include "proxy/codec/codec.h"
#include "proxy/conn.h"

struct exchange;
struct socket_ask;

enum upstream_state {
	UPSTREAM_ASKING, /* for a socket of the right namespace */
	UPSTREAM_CONNECTING,
	UPSTREAM_OPEN,
	UPSTREAM_CLOSED,
};

struct upstream {
	struct io io;
	struct conn *conn;
	struct exchange *exchange; /* the one it serves, or NULL */
	enum upstream_state state;
	const struct codec_ops *ops;
	struct codec *codec;
	struct socket_ask *ask; /* while ASKING */
	int64_t dial; /* number, or -1 */
	bool fin;
	bool shut;
	bool heard; /* something of the answer to `exchange` */
	struct deadline connect_limit;
	struct later later;
};

/* Gives the exchange its upstream: the connection's kept one, or a new dial. A dial that fails
 * ends the exchange by exchange_end(), now or later; x->upstream is NULL then. Returns false
 * when memory is short. */
bool upstream_acquire(struct exchange *x);
/* The exchange is over. Kept for the next one if request and response are whole (`whole`),
 * else closed. */
void upstream_release(struct upstream *u, bool whole);

/* An event for the server. Returns as codec_ops.emit. */
__attribute__((warn_unused_result)) int upstream_send(struct upstream *u,
						      const struct codec_event *ev);
void upstream_flush(struct upstream *u); /* writes what it can now */
/* A turn, if it has something to write (a pipelined request that came out as the answer before
 * it left) or, with `read`, to read. */
void upstream_wake(struct upstream *u, bool read);
size_t upstream_backlog(struct upstream *u); /* bytes for the server, not yet written */
bool upstream_writes(struct upstream *u); /* there are, and the server may take them: next turn */
bool upstream_dials(const struct upstream *u); /* not connected yet */

/* Closes (resets: by RST); idempotent. */
void upstream_close(struct upstream *u, bool reset);

#endif
