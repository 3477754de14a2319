/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of every protocol: bytes in, events out, and back. A codec holds no
 * descriptor, reads no clock, logs nothing and has no globals; fed the same bytes in any
 * chunking it reports the same events (neighbouring BODY pieces of one stream count as one).
 * It never calls its user: callbacks of a parser only append to the queue (queue.h), and the
 * connection acts when the parser is off the stack.
 *
 * Sizes are bytes. Errors are -ENOMEM or one of enum codec_error.
 */
#ifndef SHUNT_CODEC_CODEC_H
#define SHUNT_CODEC_CODEC_H

#include "message.h"
#include "pool.h"

enum codec_role {
	CODEC_SERVER, /* its peer is a client: reads requests, emits responses */
	CODEC_CLIENT, /* its peer is a server: emits requests, reads responses */
};

enum codec_event_type {
	CODEC_EV_HEAD, /* a message begins: `head` */
	CODEC_EV_BODY, /* `data`, a piece of its content, framing taken off */
	CODEC_EV_TRAILERS, /* `head`->fields only; before END; at most once */
	CODEC_EV_END, /* the message is whole */
	CODEC_EV_RESET, /* the peer gave up this stream; nothing more follows on it */
	CODEC_EV_LEFT, /* the answer to this stream's HEAD is whole and sent, or never comes */
	CODEC_EV_FAILED, /* what was fed behind the events before it cannot be read: `error` */
};

struct codec_event {
	enum codec_event_type type;
	uint32_t stream; /* HTTP/1: counts requests of this connection from 1; opaque: 1.
			  * A client-role HTTP/1 codec ignores it in emit(): see there */
	const struct message *head; /* HEAD, TRAILERS; NULL for opaque streams */
	struct slice data; /* BODY */
	size_t wire; /* HEAD: bytes the head took on the wire */
	int error; /* FAILED: as feed() returns it */
};

enum codec_error {
	CODEC_MALFORMED = -2001, /* 400, or an unreadable response */
	CODEC_TOO_LARGE = -2002, /* 431 or 414: a limit of struct codec_limits */
	CODEC_NOT_READABLE = -2003, /* not this protocol from its first bytes on */
	CODEC_CUT = -2004, /* the FIN cut a message short */
	CODEC_UNSUPPORTED = -2005, /* 501 or 505: well formed, but not implemented here */
};

struct codec_limits {
	size_t head; /* all of a head, request line included (431) */
	size_t target; /* the request-target (414) */
	size_t fields; /* number of fields, trailers too (431) */
};
extern const struct codec_limits codec_limits_default; /* 64 KiB, 16 KiB, 200 */

struct codec;

/* One table per protocol: codec_http1, codec_opaque. Every pointer is set; a protocol with
 * nothing to do still says so. */
struct codec_ops {
	const char *name; /* "http1", "opaque" */

	/* Makes a codec, or NULL when memory is short. The caller owns it and ends it with
	 * close(). `limits` is borrowed and must outlive the codec, and so must `pool`, where its
	 * memory comes from (NULL: malloc(3)). */
	struct codec *(*open)(enum codec_role role, const struct codec_limits *limits,
			      struct pool *pool);

	/* Takes all of `in` and queues the first events it completes; next() reads on when they
	 * have been popped, so that `in` has to stay until next() says that none is left: a byte
	 * that was fed does not cost many times its size in events. Returns 0, -ENOMEM or a
	 * codec_error, or next() gives it as FAILED, once; after a failure feed no more: the
	 * events before it still count, pending() holds the goodbye (a 400 with Connection:
	 * close, a GOAWAY to an HTTP/2 preface, nothing for other unreadable bytes). Not to be
	 * called while full(). */
	int (*feed)(struct codec *k, struct slice in);

	/* True while the codec holds bytes that it may not look at yet: in HTTP/1 a pipelined
	 * request whose predecessor has not been answered whole. sent() makes it go on. */
	bool (*full)(const struct codec *k);

	/* The peer sent FIN: queues the END of a message that the end of the connection
	 * delimits, or returns CODEC_CUT if the FIN cut one short. With bytes held back (full)
	 * the FIN counts after them. */
	int (*finish)(struct codec *k);

	/* The status of the goodbye that a failed codec left in pending(), for the record; 0 when
	 * it left none that has a status. */
	unsigned (*refused)(const struct codec *k);

	/* Bytes that it keeps now: of the head that is read or was read last, held back, and not
	 * yet written. */
	size_t (*holds)(const struct codec *k);

	/* True inside a head: some of it was read, its HEAD has not come. */
	bool (*partial)(const struct codec *k);

	/* The peer takes too long: refuses the head or the content that it has begun and not
	 * finished (408). Nothing is read after it, pending() holds the goodbye if there is one. */
	void (*expire)(struct codec *k);

	/* The connection is to end: the request that is read or answered now is the last one, or,
	 * between two, the next that comes. Its answer tells the client so. */
	void (*last)(struct codec *k);

	/* Pops the oldest event into *ev: true, or false when none is left. Slices in *ev point
	 * into the bytes last fed or into the codec, and hold until the next next(), feed(),
	 * finish(), sent() or close(). Drain events before any but the first and the last. */
	bool (*next)(struct codec *k, struct codec_event *ev);

	/* Encodes one event (HEAD, BODY, TRAILERS, END) for the peer into the codec's output;
	 * copies ev->data. Heads are written anew from their fields, framing is regenerated.
	 * Returns 0, -ENOMEM, or -EINVAL when the event does not fit the stream's state (a body
	 * before its head, more body than its Content-Length). A client-role codec learns HEAD
	 * and CONNECT, which change how a response is delimited, from the order of emit(): in
	 * HTTP/1 the n-th response answers the n-th head emitted. */
	int (*emit)(struct codec *k, const struct codec_event *ev);

	/* `n` body bytes of `stream` have left for the other side: the peer may send as many
	 * again. Returns 0 or -ENOMEM; the stream may be gone. */
	int (*credit)(struct codec *k, uint32_t stream, size_t n);

	/* Encoded bytes not yet written, oldest first; len 0 when there are none. Valid until
	 * the next call on `k`. sent() forgets the first `n` of them; in the server role it
	 * queues LEFT, once for each HEAD given out, when the answer to it is whole and gone (a
	 * goodbye is one too), and then goes on with bytes held back: returns as feed() does.
	 * Call it after each END emitted, with n = 0 if that left nothing to write. */
	struct slice (*pending)(struct codec *k);
	int (*sent)(struct codec *k, size_t n);

	/* True once no further message can follow in this connection (Connection: close,
	 * HTTP/1.0, a FIN, an error, a response delimited by the end of the connection) and the
	 * last answer is whole: when pending() is empty, close. For opaque: END was emitted, the
	 * peer is to get a FIN. A client-role codec is also done when an answer ended before its
	 * request did: such a connection is not to be used again. */
	bool (*done)(const struct codec *k);

	/* Gives back the memory that it keeps for the next message. Between two of them only, with
	 * nothing in either direction; else it does nothing. */
	void (*trim)(struct codec *k);

	/* After a CONNECT that got its 2xx, and after a 101: the bytes fed that are no longer this
	 * protocol's, for the codec that follows. Valid until close(). len 0 otherwise. No END
	 * comes for such an answer (nor for a CONNECT), and no LEFT. */
	struct slice (*rest)(struct codec *k);

	/* Frees everything the codec owns. NULL is allowed. */
	void (*close)(struct codec *k);
};

extern const struct codec_ops codec_http1;
extern const struct codec_ops codec_opaque;

#endif
