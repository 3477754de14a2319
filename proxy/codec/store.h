/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two kinds of memory a codec keeps: an arena for heads, whose bytes never move once a
 * slice points at them, and a buffer for bytes on their way out (or held back). All zero is an
 * empty one; its blocks are of `pool`, which outlives them.
 */
#ifndef SHUNT_CODEC_STORE_H
#define SHUNT_CODEC_STORE_H

#include "message.h"
#include "pool.h"

/* What is kept of an idle store; more than this is given back. Bytes. */
#define STORE_KEEP 16384

/*
 *	newest block                     older
 *	[ done | done | text..... | room ] -> [ done | done ] -> NULL
 *
 * `text` grows at the end of the newest block and moves to a bigger one when it must; what
 * was taken before stays where it is.
 */
struct arena_block;
struct store {
	struct pool *pool;
	struct arena_block *newest;
	char *text;
	size_t text_len;
};

/* Room for `n` bytes, aligned for any struct of a message; NULL when memory is short. Valid
 * until store_reset(). Not while text is open. */
void *store_take(struct store *a, size_t n);

/* Appends to the open text (opened by the first call): 0 or -ENOMEM. a->text may move. */
int store_append(struct store *a, const char *p, size_t n) __attribute__((warn_unused_result));
size_t store_used(const struct store *a); /* bytes taken, the open text among them */
void store_text_drop(struct store *a); /* the text was not wanted: its room is free again */
void store_text_done(struct store *a); /* the text is whole; from now on it does not move */

/* Forgets everything but the open text, which may move. */
void store_reset(struct store *a);
void store_free(struct store *a);

/* Bytes p[off..len) are live. */
struct buffer {
	struct pool *pool;
	char *p;
	size_t off, len, room;
};

static inline struct slice buffer_live(const struct buffer *b)
{
	return b->off == b->len ? (struct slice){NULL, 0}
				: (struct slice){b->p + b->off, b->len - b->off};
}

/* Makes room for `n` more bytes and returns where they go, or NULL when memory is short;
 * buffer_grown() then makes the first `n` of them live. May move the live bytes. */
char *buffer_reserve(struct buffer *b, size_t n);
void buffer_grown(struct buffer *b, size_t n);
int buffer_append(struct buffer *b, const char *p, size_t n) __attribute__((warn_unused_result));
void buffer_drop(struct buffer *b, size_t n); /* the oldest `n`; they stay readable */
void buffer_shrink(struct buffer *b); /* gives back a big buffer that is empty */
void buffer_free(struct buffer *b);

#endif
