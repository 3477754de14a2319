/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and its response, or one opaque stream: its verdict, its upstream, its record.
 * An exchange that has ended stays until its answer has left (the codec's LEFT) or the
 * connection ends, because only then bytes and times are known.
 */
#ifndef SHUNT_EXCHANGE_H
#define SHUNT_EXCHANGE_H

#include "proxy/conn.h"

#define EXCHANGE_TEXT 2048 /* of method, authority and path, kept for the record */

#define EXCHANGE_ZEROED offsetof(struct exchange, text)

struct exchange {
	struct list link; /* in conn->exchanges */
	struct conn *conn;
	struct later later;
	uint32_t stream; /* in the codec that reads the client now */
	uint32_t number; /* which request of its connection, for the record */
	struct upstream *upstream; /* NULL once ended, or refused */
	struct deadline limit; /* of the wait for the response's head */
	enum reason why; /* NONE while it goes on */
	bool opaque; /* any bytes, from the first on or since the connection switched to them */
	bool ended; /* no more is done for it */
	bool left; /* opaque: its last byte for the client is gone */
	bool expects; /* its client waits for a 100 before it sends more */
	bool request_whole;
	bool response_begun;
	bool response_whole;
	bool reused;
	unsigned attempts;
	unsigned status;
	struct decision decision; /* its rule is borrowed from `policy` */
	struct policy_mismatches mismatches; /* and so are these */
	struct policy *policy; /* the one that judged it; held for the exchange only */

	uint64_t mark[CLOCK_COUNT]; /* watch.ns where it began */
	uint64_t mark_at;
	uint64_t request_header_bytes;
	uint64_t request_body_bytes;
	uint64_t response_header_bytes;
	uint64_t response_body_bytes;

	struct slice protocol;
	struct slice method; /* into text */
	struct slice authority;
	struct slice path;
	char text[EXCHANGE_TEXT]; /* last, and not zeroed */
};

/* An event of the downstream codec. */
void exchange_take(struct conn *c, const struct codec_event *ev);
/* An event of the upstream's codec, for the exchange it serves. */
void exchange_answer(struct exchange *x, const struct codec_event *ev);
/* Both ways of an opaque stream are whole and gone? Then it has left. */
void exchange_settled(struct exchange *x);

/* The one end; idempotent, the first reason wins. Answers in the protocol's own words where
 * the response has not begun, else the connection is cut. */
void exchange_end(struct exchange *x, enum reason why);

/* As exchange_end(), but says nothing to the client: the codec or the connection does. */
void exchange_abandon(struct exchange *x, enum reason why);

/* Its answer has left, or the connection is over: recorded, given back. */
void exchange_left(struct exchange *x);

/* What it waits for now. */
enum clock exchange_waits(const struct exchange *x);

#endif
