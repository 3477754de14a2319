/* SPDX-License-Identifier: Apache-2.0 */
/* Arena, see arena.h: a list of blocks, the newest first. */
#include "config/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	max_align_t data[];
};

#define BLOCK_SIZE 16384U

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->blocks;
	size_t align = sizeof(max_align_t);
	void *p;

	if (n > SIZE_MAX / 4) {
		a->failed = true;
		return NULL;
	}
	n = (n + align - 1) / align * align;
	if (b == NULL || b->size - b->used < n) {
		size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;

		b = calloc(1, sizeof(*b) + size);
		if (b == NULL) {
			a->failed = true;
			return NULL;
		}
		b->size = size;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = (char *)b->data + b->used;
	b->used += n;
	return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	if (size != 0 && count > SIZE_MAX / 4 / size) {
		a->failed = true;
		return NULL;
	}
	return arena_alloc(a, count * size);
}

char *arena_copy(struct arena *a, const char *p, size_t n)
{
	char *s = arena_alloc(a, n + 1);

	if (s != NULL && n > 0)
		memcpy(s, p, n);
	return s;
}

char *arena_string(struct arena *a, const char *s)
{
	return arena_copy(a, s, strlen(s));
}

char *arena_join(struct arena *a, ...)
{
	va_list ap;
	const char *s;
	size_t n = 0;
	char *joined, *p;

	va_start(ap, a);
	while ((s = va_arg(ap, const char *)) != NULL)
		n += strlen(s);
	va_end(ap);
	joined = p = arena_alloc(a, n + 1);
	va_start(ap, a);
	while (p != NULL && (s = va_arg(ap, const char *)) != NULL) {
		memcpy(p, s, strlen(s));
		p += strlen(s);
	}
	va_end(ap);
	return joined;
}

void *arena_push(struct arena *a, void **items, size_t *count, size_t *room, size_t size)
{
	if (*count == *room) {
		size_t more = *room == 0 ? 4 : *room * 2;
		void *p = arena_array(a, more, size);

		if (p == NULL)
			return NULL;
		if (*count > 0)
			memcpy(p, *items, *count * size);
		*items = p;
		*room = more;
	}
	return (char *)*items + (*count)++ * size;
}

void arena_free(struct arena *a)
{
	while (a->blocks != NULL) {
		struct arena_block *next = a->blocks->next;

		if (a->secret)
			explicit_bzero(a->blocks->data, a->blocks->used);
		free(a->blocks);
		a->blocks = next;
	}
	a->failed = false;
	a->secret = false;
}
