/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the HTTP/1 codec only: its state, and what its files say to each other.
 * http1.c: the table and the order of things; http1_read.c: bytes to events;
 * http1_head.c: what one head means; http1_write.c: events to bytes. */
#ifndef SHUNT_CODEC_HTTP1_H
#define SHUNT_CODEC_HTTP1_H

#include "queue.h"
#include "store.h"

#include <llhttp.h>

#define HTTP1_TOKEN_MAX 32 /* bytes of a method */
#define HTTP1_CHUNK_LINE_MAX 256 /* bytes of a chunk's size and extensions */
#define HTTP1_BLANK_MAX 16 /* bytes of empty lines before a request */
#define HTTP1_NOMINATED_MAX 64 /* fields a head may name in Connection */
#define HTTP1_EVENTS_AHEAD 6 /* no more bytes are read while as many events wait */

enum http1_phase {
	HTTP1_IDLE, /* between messages */
	HTTP1_HEAD, /* inside a head; its bytes so far are the arena's text */
	HTTP1_BODY, /* llhttp takes the bytes: a length, or until the FIN */
	HTTP1_CHUNK_LINE,
	HTTP1_CHUNK_DATA, /* llhttp takes the bytes, and the CRLF after them */
	HTTP1_TRAILERS,
	HTTP1_WAIT, /* a request is whole, its answer is not: bytes are held */
	HTTP1_TUNNEL, /* after CONNECT or 101: bytes are held for whoever follows */
	HTTP1_LAST, /* nothing can follow: bytes are dropped */
};

enum http1_framing {
	HTTP1_NO_BODY,
	HTTP1_LENGTH,
	HTTP1_CHUNKED,
	HTTP1_UNTIL_CLOSE,
};

enum http1_answer { /* how far the message being emitted is */
		    HTTP1_NOT_BEGUN,
		    HTTP1_BEGUN,
		    HTTP1_TRAILED, /* its trailers are written */
		    HTTP1_ENDED,
};

enum http1_asked { /* what a request says of its answer */
		   HTTP1_ASKED_ANY,
		   HTTP1_ASKED_HEAD,
		   HTTP1_ASKED_CONNECT,
		   HTTP1_ASKED_UPGRADE, /* 101 may answer it */
};

struct codec {
	enum codec_role role;
	const struct codec_limits *limits;
	struct queue queue;
	struct store arena;
	llhttp_t parser;

	/* reading */
	enum http1_phase phase;
	enum http1_framing framing;
	int error; /* 0, -ENOMEM or a codec_error: nothing more is read */
	bool first; /* no head was whole yet */
	bool whole; /* llhttp says that the message is */
	bool fin; /* came while bytes were held */
	bool told; /* the caller knows of `error` */
	unsigned refused; /* status of the goodbye, 0: none */
	size_t head_len; /* bytes of head and trailers so far */
	size_t interim_len; /* client: bytes of the 1xx heads of this answer before this head */
	size_t line; /* where the line being read begins in the text */
	size_t target_at; /* where the target begins, 0 while unknown */
	size_t blank; /* bytes of empty lines skipped */
	size_t field_count; /* trailers too */
	int64_t length; /* as the head said, or MESSAGE_LENGTH_UNKNOWN */
	struct slice fed; /* not looked at yet; of the caller, or all that is held */
	bool fed_held;
	struct buffer held;

	/* the exchange: server: the request being read or answered; client: the request
	 * whose answer is read, the oldest of `asked` */
	uint32_t stream;
	bool last; /* no other message follows this one */
	bool ending; /* ... nor the next one: last() was said */
	bool owed; /* server: HEAD was given out, LEFT was not */
	bool interim; /* client: the head being read is a 1xx */
	bool old_peer; /* HTTP/1.0 */
	bool expects; /* server: the request waits for a 100, which has not been emitted */
	enum http1_asked asks; /* server: the request; client: the one whose answer is read */
	struct buffer asked; /* client: one enum http1_asked, a byte, for each answer due */
	struct buffer offered; /* client: the `upgrade` of the request that asked for one */

	/* writing */
	enum http1_answer answer; /* client: the request */
	enum http1_framing out_framing;
	int64_t out_left; /* bytes still to come of a HTTP1_LENGTH */
	size_t chunk; /* content of the chunk that `out` ends with; 0: with something else */
	struct buffer out;
};

/* http1_head.c */

/* One line without its CRLF: 0, or a codec_error through http1_refuse(). */
int http1_start_line(struct codec *k, struct slice line) __attribute__((warn_unused_result));
int http1_field_line(struct codec *k, struct slice line) __attribute__((warn_unused_result));

/* The head (without the empty line after it), whose lines were good each: sets the codec's
 * framing, length, last and so on, and gives the message, which lives in the arena. */
int http1_head(struct codec *k, struct slice text, struct message **m)
	__attribute__((warn_unused_result));
int http1_trailers(struct codec *k, struct slice text, struct message **m)
	__attribute__((warn_unused_result));

bool http1_is_token(struct slice s);
bool http1_is_value(struct slice s); /* of a field */
bool http1_is_target(struct slice s);
/* One of the comma-separated `list`, case ignored? */
bool http1_is_listed(struct slice list, struct slice name);

/* http1_read.c */

/* Takes bytes until they may not be looked at yet, or enough events wait; returns how many.
 * Errors: k->error. */
size_t http1_take(struct codec *k, struct slice in);
int http1_finish(struct codec *k);

/* The one way to fail: remembers `error` and, to a client that has no answer yet, writes the
 * goodbye. `status` and `why` are what it says; status 0: no goodbye. Returns `error`. */
int http1_refuse(struct codec *k, int error, unsigned status, const char *why);

/* http1_write.c */

int http1_emit(struct codec *k, const struct codec_event *ev);
/* A whole answer that ends the connection; forgotten when memory is short. */
void http1_goodbye(struct codec *k, unsigned status, const char *why);
/* Tells an HTTP/2 client that only HTTP/1.1 is spoken here. */
void http1_goodbye_http2(struct codec *k);

#endif
