/* SPDX-License-Identifier: Apache-2.0 */
/* The ring between a worker and the log thread: see ring.h. */
#include "proxy/ring.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LINE 64
#define SKIP UINT64_MAX

/* Positions count bytes since the beginning and never wrap (2^64). */
struct ring {
	/* the producer's line */
	alignas(CACHE_LINE) _Atomic uint64_t tail;
	uint64_t head_seen; /* as of the producer's last look */
	/* the consumer's line */
	alignas(CACHE_LINE) _Atomic uint64_t head;
	uint64_t message; /* bytes that ring_consume() gives back */
	/* written by nobody */
	alignas(CACHE_LINE) uint64_t size;
	char *bytes;
};

struct ring *ring_new(size_t size)
{
	struct ring *r = aligned_alloc(CACHE_LINE, sizeof *r);

	assert(size >= CACHE_LINE && (size & (size - 1)) == 0);
	if (r == NULL)
		return NULL;
	memset(r, 0, sizeof *r);
	r->size = size;
	r->bytes = aligned_alloc(CACHE_LINE, size);
	if (r->bytes == NULL) {
		free(r);
		return NULL;
	}
	return r;
}

void ring_free(struct ring *r)
{
	if (r == NULL)
		return;
	free(r->bytes);
	free(r);
}

static uint64_t padded(size_t len)
{
	return sizeof(uint64_t) + (((uint64_t)len + 7) & ~UINT64_C(7));
}

static char *place(struct ring *r, uint64_t position)
{
	return r->bytes + (position & (r->size - 1));
}

/* From `position` to where the bytes end and begin anew. */
static uint64_t until_end(const struct ring *r, uint64_t position)
{
	return r->size - (position & (r->size - 1));
}

static bool fits(struct ring *r, uint64_t tail, uint64_t need)
{
	if (tail + need - r->head_seen <= r->size)
		return true;
	r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
	return tail + need - r->head_seen <= r->size;
}

void *ring_reserve(struct ring *r, size_t len)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	uint64_t need, end = until_end(r, tail), skipped = 0;

	if (len > r->size)
		return NULL;
	need = padded(len);
	if (need > end)
		skipped = end;
	if (!fits(r, tail, need + skipped))
		return NULL;
	if (skipped > 0) {
		memcpy(place(r, tail), &(uint64_t){SKIP}, sizeof(uint64_t));
		tail += skipped;
		atomic_store_explicit(&r->tail, tail, memory_order_release);
	}
	return place(r, tail) + sizeof(uint64_t);
}

void ring_commit(struct ring *r, size_t len)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	memcpy(place(r, tail), &(uint64_t){len}, sizeof(uint64_t));
	atomic_store(&r->tail, tail + padded(len));
}

bool ring_crowded(struct ring *r)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	return !fits(r, tail, r->size / 2);
}

bool ring_empty(const struct ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_acquire) ==
	       atomic_load_explicit(&r->tail, memory_order_relaxed);
}

const void *ring_peek(struct ring *r, size_t *len)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
	uint64_t prefix;

	for (;;) {
		if (head == atomic_load(&r->tail))
			return NULL;
		memcpy(&prefix, place(r, head), sizeof prefix);
		if (prefix != SKIP)
			break;
		head += until_end(r, head);
		atomic_store_explicit(&r->head, head, memory_order_release);
	}
	*len = (size_t)prefix;
	r->message = padded(*len);
	return place(r, head) + sizeof prefix;
}

void ring_consume(struct ring *r)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	atomic_store_explicit(&r->head, head + r->message, memory_order_release);
}
