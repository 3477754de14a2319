/* SPDX-License-Identifier: Apache-2.0 */
/* The last records, behind the log thread: see history.h. */
#include "proxy/history.h"

#include <stdbool.h>
#include <stdlib.h>

/* Positions count bytes since the beginning, those left free at the end of a lap included. */
struct history {
	uint64_t first, next; /* numbers */
	uint64_t end; /* position behind the newest */
	struct {
		uint64_t at; /* position */
		size_t len;
	} records[HISTORY_RECORDS]; /* record n at n % HISTORY_RECORDS */
	char bytes[HISTORY_BYTES];
};

struct history *history_new(void)
{
	return calloc(1,
		      sizeof(struct history)); /* pages that nothing was written to cost nothing */
}

void history_free(struct history *h)
{
	free(h);
}

/* Does the oldest stand where bytes up to position `end` go? */
static bool in_the_way(const struct history *h, uint64_t end)
{
	if (h->next - h->first == HISTORY_RECORDS)
		return true;
	return h->next > h->first &&
	       end - h->records[h->first % HISTORY_RECORDS].at > HISTORY_BYTES;
}

void *history_add(struct history *h, size_t len)
{
	uint64_t at = h->end, left = HISTORY_BYTES - at % HISTORY_BYTES;

	if (len > HISTORY_BYTES)
		return NULL;
	if (len > left) /* in one piece */
		at += left;
	while (in_the_way(h, at + len))
		h->first++;
	h->records[h->next % HISTORY_RECORDS].at = at;
	h->records[h->next % HISTORY_RECORDS].len = len;
	h->next++;
	h->end = at + len;
	return h->bytes + at % HISTORY_BYTES;
}

uint64_t history_first(const struct history *h)
{
	return h->first;
}

uint64_t history_next(const struct history *h)
{
	return h->next;
}

const void *history_get(const struct history *h, uint64_t n, size_t *len)
{
	*len = h->records[n % HISTORY_RECORDS].len;
	return h->bytes + h->records[n % HISTORY_RECORDS].at % HISTORY_BYTES;
}
