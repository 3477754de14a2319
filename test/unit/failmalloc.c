/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations that fail on demand: see failmalloc.h. */
#include "failmalloc.h"

#include <stdatomic.h>
#include <stddef.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);

static atomic_uint count, at;

void failmalloc_at(unsigned n)
{
	at = n;
	count = 0;
}

bool failmalloc_hit(void)
{
	bool hit = at != 0 && count >= at;

	at = 0;
	return hit;
}

unsigned failmalloc_count(void)
{
	return count;
}

static bool fails(void)
{
	return ++count == at;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t items, size_t n)
{
	return fails() ? NULL : __real_calloc(items, n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}
