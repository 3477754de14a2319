/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last records, packed as they came, in a fixed room: what `shunt observe --last` shows,
 * and what followers read. The oldest give way. One thread.
 */
#ifndef SHUNT_HISTORY_H
#define SHUNT_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#define HISTORY_RECORDS 4096U
#define HISTORY_BYTES (4U << 20) /* records quote peers: their number alone is no bound */

struct history;
struct history *history_new(void); /* NULL when memory is short */
void history_free(struct history *h); /* NULL is allowed */

/* Room for one more record of `len` bytes, for the caller to fill; NULL when it is longer than
 * all the room there is. It has the number history_next() had. */
void *history_add(struct history *h, size_t len);

/* The number of the oldest that is there, and of the one to come; from 0. */
uint64_t history_first(const struct history *h);
uint64_t history_next(const struct history *h);

/* Record `n`, first <= n < next, and its length; until the next history_add(). */
const void *history_get(const struct history *h, uint64_t n, size_t *len);

#endif
