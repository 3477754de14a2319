/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of one size, kept for the next that asks: a worker's requests cost no malloc once
 * it is warm. One thread. The first `zeroed` bytes of an object come zero, the others as they
 * are. */
#ifndef SHUNT_SLAB_H
#define SHUNT_SLAB_H

#include <stddef.h>

struct slab {
	size_t size; /* of an object: at least a pointer's */
	size_t zeroed;
	void *free; /* chained through their first word */
	size_t kept; /* how many are on the chain */
};

#define SLAB_KEEP 1024 /* free objects beyond these go back to malloc */

void *slab_get(struct slab *s); /* NULL when memory is short */
void slab_put(struct slab *s, void *object);
void slab_drop(struct slab *s); /* frees what is kept */

#endif
