/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from one thread to one other, without a lock: a byte ring with a length before
 * each message. Neither side ever waits for the other.
 *
 *      head (consumer's)            tail (producer's)
 *        v                            v
 *   ....[len|message   ][len|message ]...........[SKIP    ]
 *                                                 ^ the next one did not fit before the end
 */
#ifndef SHUNT_RING_H
#define SHUNT_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring;

/* `size` bytes, a power of two. NULL when memory is short. */
struct ring *ring_new(size_t size);
void ring_free(struct ring *r); /* NULL is allowed */

/* Producer. Room for a message of `len` bytes, aligned to 8 and in one piece, or NULL when
 * there is none now (or never will be); it is the consumer's from ring_commit() on, which
 * takes the same `len`. */
void *ring_reserve(struct ring *r, size_t len);
void ring_commit(struct ring *r, size_t len);
/* Producer: is more than half of it taken? Is none? */
bool ring_crowded(struct ring *r);
bool ring_empty(const struct ring *r);

/* Consumer. The oldest message and its length, or NULL; it stays until ring_consume().
 * Sees every message committed before, in the one order of all sequentially consistent
 * operations: a consumer that says "I sleep" and then finds nothing may sleep. */
const void *ring_peek(struct ring *r, size_t *len);
void ring_consume(struct ring *r);

#endif
