/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks in a few sizes: see pool.h. */
#include "pool.h"

#include <stdlib.h>

static size_t size_of(unsigned n)
{
	return (size_t)POOL_MIN << n;
}

/* Which size holds `n`; POOL_SIZES: none. */
static unsigned place_of(size_t n)
{
	if (n <= POOL_MIN)
		return 0;
	return n <= POOL_MAX ? (unsigned)(__builtin_clzl(POOL_MIN - 1) - __builtin_clzl(n - 1))
			     : POOL_SIZES;
}

size_t pool_size(size_t n)
{
	unsigned i = place_of(n);

	return i < POOL_SIZES ? size_of(i) : n;
}

void *pool_get(struct pool *pool, size_t size)
{
	unsigned i = place_of(size);
	void *block;

	if (pool == NULL || i == POOL_SIZES || size_of(i) != size || pool->free[i] == NULL)
		return malloc(size);
	block = pool->free[i];
	pool->free[i] = *(void **)block;
	pool->kept[i]--;
	return block;
}

void pool_put(struct pool *pool, void *block, size_t size)
{
	unsigned i = place_of(size);

	if (block == NULL)
		return;
	if (pool == NULL || i == POOL_SIZES || size_of(i) != size ||
	    pool->kept[i] >= POOL_KEEP / size) {
		free(block);
		return;
	}
	*(void **)block = pool->free[i];
	pool->free[i] = block;
	pool->kept[i]++;
}

void pool_drop(struct pool *pool)
{
	for (unsigned i = 0; i < POOL_SIZES; i++) {
		while (pool->free[i] != NULL) {
			void *block = pool->free[i];

			pool->free[i] = *(void **)block;
			free(block);
		}
		pool->kept[i] = 0;
	}
}
