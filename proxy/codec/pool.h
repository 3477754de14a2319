/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in a few sizes, kept for the next that asks: the codecs of one worker share a pool, so
 * that they keep no memory of their own between two messages and none comes from malloc(3) once
 * the worker is warm. One thread. All zero is an empty pool. Where a pool is asked for, NULL is
 * malloc(3) itself. Sizes are bytes.
 */
#ifndef SHUNT_CODEC_POOL_H
#define SHUNT_CODEC_POOL_H

#include <stddef.h>

#define POOL_MIN 256
#define POOL_MAX 65536
#define POOL_SIZES 9 /* powers of two */
#define POOL_KEEP (256 * 1024) /* of each size; more goes back to malloc */

struct pool {
	void *free[POOL_SIZES]; /* chained through their first word */
	size_t kept[POOL_SIZES]; /* how many */
};

/* The smallest of the sizes that holds `n`; `n` itself beyond POOL_MAX. */
size_t pool_size(size_t n);

/* A block of `size`, or NULL when memory is short. One that pool_size() gives is from the pool if
 * it has any; another is malloc's. May be moved by realloc(3). */
void *pool_get(struct pool *pool, size_t size);
void pool_put(struct pool *pool, void *block, size_t size); /* of that size; NULL is allowed */
void pool_drop(struct pool *pool); /* frees what is kept */

#endif
