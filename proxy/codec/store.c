/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a codec: see store.h. It grows no further than it must. */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MIN 512
#define BUFFER_MIN 256
#define BUFFER_BIG 65536 /* what a peer that does not read may have waiting for it */

struct arena_block {
	struct arena_block *older;
	size_t size, used;
	_Alignas(max_align_t) char bytes[];
};

static struct arena_block *block_add(struct store *a, size_t n)
{
	size_t size = n > BLOCK_MIN ? n : BLOCK_MIN;
	struct arena_block *b = malloc(sizeof *b + size);

	if (b == NULL)
		return NULL;
	b->older = a->newest;
	b->size = size;
	b->used = 0;
	a->newest = b;
	return b;
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
	free(from);
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

static void blocks_free(struct arena_block *b)
{
	while (b != NULL) {
		struct arena_block *older = b->older;

		free(b);
		b = older;
	}
}

void store_reset(struct store *a)
{
	struct arena_block *b = a->newest;

	if (b == NULL)
		return;
	blocks_free(b->older);
	b->older = NULL;
	if (a->text != NULL) {
		if (a->text != b->bytes) /* else: a head that comes byte by byte costs nothing */
			memmove(b->bytes, a->text, a->text_len);
		a->text = b->bytes;
	} else if (b->size > STORE_KEEP) {
		free(b);
		a->newest = NULL;
		return;
	}
	b->used = a->text_len;
}

void store_free(struct store *a)
{
	blocks_free(a->newest);
	*a = (struct store){0};
}

/* For `need` bytes. Up to what a peer may have waiting for it there are few sizes, so that those
 * which a growing buffer leaves behind suit others. */
static size_t buffer_room(size_t need)
{
	size_t room = BUFFER_MIN;

	if (need > BUFFER_BIG)
		return need + need / 2;
	while (room < need)
		room *= 2;
	return room;
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
		p = b->off == 0 ? realloc(b->p, room) : malloc(room); /* may grow in place */
		if (p == NULL)
			return NULL;
		if (b->off != 0) {
			memcpy(p, b->p + b->off, live);
			free(b->p);
		}
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

struct slice buffer_live(const struct buffer *b)
{
	if (b->off == b->len)
		return (struct slice){NULL, 0};
	return (struct slice){b->p + b->off, b->len - b->off};
}

void buffer_shrink(struct buffer *b)
{
	if (b->off == b->len && b->room > STORE_KEEP)
		buffer_free(b);
}

void buffer_free(struct buffer *b)
{
	free(b->p);
	*b = (struct buffer){0};
}
