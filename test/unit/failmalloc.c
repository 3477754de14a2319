/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations that fail on demand: see failmalloc.h. */
#include "failmalloc.h"

#include <malloc.h>
#include <stdatomic.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __real_free(void *p);
void __wrap_free(void *p);

static atomic_uint count, at;
static _Atomic ptrdiff_t live, peak;

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

void failmalloc_measure(void)
{
	peak = live;
}

ptrdiff_t failmalloc_live(void)
{
	return live;
}

ptrdiff_t failmalloc_peak(void)
{
	return peak;
}

static size_t size_of(void *p)
{
	return p == NULL ? 0 : malloc_usable_size(p) + sizeof(size_t);
}

static void *counted(void *p)
{
	live += (ptrdiff_t)size_of(p);
	if (live > peak)
		peak = live;
	return p;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : counted(__real_malloc(n));
}

void *__wrap_calloc(size_t items, size_t n)
{
	return fails() ? NULL : counted(__real_calloc(items, n));
}

void *__wrap_realloc(void *p, size_t n)
{
	size_t before = size_of(p);
	void *q = fails() ? NULL : __real_realloc(p, n);

	if (q != NULL)
		live -= (ptrdiff_t)before;
	return q == NULL ? NULL : counted(q);
}

void __wrap_free(void *p)
{
	live -= (ptrdiff_t)size_of(p);
	__real_free(p);
}
