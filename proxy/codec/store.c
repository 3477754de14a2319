/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a codec: see store.h. It grows no further than it must. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MIN 512
/* Up to this blocks are of the pool's sizes. A greater one is no greater than it must be, since a
 * head of short fields is kept several times over. */
#define BLOCK_ROUND 4096

struct arena_block {
	struct arena_block *older;
	size_t size, used;
	_Alignas(max_align_t) char bytes[];
};

static struct arena_block *block_add(struct store *a, size_t n)
{
	size_t all = n + sizeof(struct arena_block);
	struct arena_block *b;

	if (all <= BLOCK_ROUND)
		all = pool_size(all > BLOCK_MIN ? all : BLOCK_MIN);
	b = pool_get(a->pool, all);
	if (b == NULL)
		return NULL;
	b->older = a->newest;
	b->size = all - sizeof *b;
	b->used = 0;
	a->newest = b;
	return b;
}

static void block_free(struct store *a, struct arena_block *b)
{
	pool_put(a->pool, b, sizeof *b + b->size);
}

void *store_take(struct store *a, size_t n)
{
	struct arena_block *b = a->newest;
	size_t at;

	if (b != NULL) {
		at = (b->used + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
		if (at <= b->size && n <= b->size - at) {
			b->used = at + n;
			return b->bytes + at;
		}
	}
	b = block_add(a, n);
	if (b == NULL)
		return NULL;
	b->used = n;
	return b->bytes;
}

/* To a new block; the one before it goes if it held nothing else. */
static void text_move(struct store *a, struct arena_block *to)
{
	struct arena_block *from = to->older;

	if (a->text == NULL)
		return;
	from->used -= a->text_len;
	memcpy(to->bytes, a->text, a->text_len);
	to->used = a->text_len;
	a->text = to->bytes;
	if (from->used != 0)
		return;
	to->older = from->older;
	block_free(a, from);
}

int store_append(struct store *a, const char *p, size_t n)
{
	struct arena_block *b = a->newest;

	if (b == NULL || n > b->size - b->used) {
		b = block_add(a, a->text_len + n + (a->text_len + n) / 2);
		if (b == NULL)
			return -ENOMEM;
		text_move(a, b);
	}
	if (a->text == NULL)
		a->text = b->bytes + b->used;
	memcpy(b->bytes + b->used, p, n);
	b->used += n;
	a->text_len += n;
	return 0;
}

size_t store_used(const struct store *a)
{
	size_t n = 0;

	for (const struct arena_block *b = a->newest; b != NULL; b = b->older)
		n += b->used;
	return n;
}

void store_text_drop(struct store *a)
{
	if (a->text != NULL)
		a->newest->used -= a->text_len;
	store_text_done(a);
}

void store_text_done(struct store *a)
{
	a->text = NULL;
	a->text_len = 0;
}

static void blocks_free(struct store *a, struct arena_block *b)
{
	while (b != NULL) {
		struct arena_block *older = b->older;

		block_free(a, b);
		b = older;
	}
}

void store_reset(struct store *a)
{
	struct arena_block *b = a->newest;

	if (b == NULL)
		return;
	blocks_free(a, b->older);
	b->older = NULL;
	if (a->text != NULL) {
		if (a->text != b->bytes) /* else: a head that comes byte by byte costs nothing */
			memmove(b->bytes, a->text, a->text_len);
		a->text = b->bytes;
	} else if (b->size > STORE_KEEP) {
		block_free(a, b);
		a->newest = NULL;
		return;
	}
	b->used = a->text_len;
}

void store_free(struct store *a)
{
	blocks_free(a, a->newest);
	*a = (struct store){.pool = a->pool};
}

/* For `need` bytes. Up to what a peer may have waiting for it there are few sizes, so that those
 * which a growing buffer leaves behind suit others. */
static size_t buffer_room(size_t need)
{
	return need > POOL_MAX ? need + need / 2 : pool_size(need);
}

/* A block of `room` in place of b's, with its live bytes at the begin; NULL when memory is
 * short. */
static char *buffer_move(struct buffer *b, size_t room)
{
	size_t live = b->len - b->off;
	char *p;

	if (room > POOL_MAX && b->off == 0)
		return realloc(b->p, room); /* may grow in place */
	p = pool_get(b->pool, room);
	if (p == NULL)
		return NULL;
	if (live != 0)
		memcpy(p, b->p + b->off, live);
	pool_put(b->pool, b->p, b->room);
	return p;
}

char *buffer_reserve(struct buffer *b, size_t n)
{
	size_t live = b->len - b->off;
	size_t room;
	char *p;

	if (n <= b->room - b->len)
		return b->p + b->len;
	if (n <= b->room - live) {
		memmove(b->p, b->p + b->off, live);
	} else {
		room = buffer_room(live + n);
		p = buffer_move(b, room);
		if (p == NULL)
			return NULL;
		b->p = p;
		b->room = room;
	}
	b->off = 0;
	b->len = live;
	return b->p + live;
}

void buffer_grown(struct buffer *b, size_t n)
{
	b->len += n;
}

int buffer_append(struct buffer *b, const char *p, size_t n)
{
	char *to;

	if (n == 0)
		return 0;
	to = buffer_reserve(b, n);
	if (to == NULL)
		return -ENOMEM;
	memcpy(to, p, n);
	buffer_grown(b, n);
	return 0;
}

void buffer_drop(struct buffer *b, size_t n)
{
	b->off += n < b->len - b->off ? n : b->len - b->off;
	if (b->off == b->len)
		b->off = b->len = 0;
}

void buffer_shrink(struct buffer *b)
{
	if (b->off == b->len && b->room > STORE_KEEP)
		buffer_free(b);
}

void buffer_free(struct buffer *b)
{
	if (b->p == NULL)
		return;
	pool_put(b->pool, b->p, b->room);
	*b = (struct buffer){.pool = b->pool};
}
