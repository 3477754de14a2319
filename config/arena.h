/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is freed all at once: trees of documents, parts of a snapshot. Pointers stay
 * put. A request that cannot be met returns NULL and is remembered in `failed`, so that a
 * long construction may check where it dereferences and report once.
 */
#ifndef SHUNT_CONFIG_ARENA_H
#define SHUNT_CONFIG_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;
struct arena { /* zeroed to begin with */
	struct arena_block *blocks;
	bool failed;
	bool secret; /* it is wiped when it ends */
};

void *arena_alloc(struct arena *a, size_t n); /* zeroed; n may be 0 */
void *arena_array(struct arena *a, size_t count, size_t size);
char *arena_copy(struct arena *a, const char *p, size_t n); /* NUL added */
char *arena_string(struct arena *a, const char *s);
/* Several strings as one, ended by NULL. */
char *arena_join(struct arena *a, ...) __attribute__((sentinel));
/* Room for one more element of an array that grows: returns it zeroed, or NULL. The old
 * place stays valid until the arena ends. */
void *arena_push(struct arena *a, void **items, size_t *count, size_t *room, size_t size);
void arena_free(struct arena *a);

#endif
