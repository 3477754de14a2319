/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes one allocation fail, so that a test can fail each in turn:
 *
 *	for (n = 1; ; n++) {
 *		failmalloc_at(n);
 *		rc = scenario();
 *		if (!failmalloc_hit())
 *			break;
 *		assert_int_equal(rc, -ENOMEM);
 *	}
 *
 * Link with failmalloc.o and FAILMALLOC_LDFLAGS:
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free
 * Counts the allocations of all objects linked statically, by all threads.
 */
#ifndef SHUNT_TEST_FAILMALLOC_H
#define SHUNT_TEST_FAILMALLOC_H

#include <stdbool.h>
#include <stddef.h>

void failmalloc_at(unsigned n); /* the n-th from now on fails, once; 0: none does */
bool failmalloc_hit(void); /* it did; from now on none fails */
unsigned failmalloc_count(void); /* allocations since failmalloc_at() */

/* Bytes, with what malloc itself needs for them: */
ptrdiff_t failmalloc_live(void); /* allocated and not freed, since the process began */
ptrdiff_t failmalloc_peak(void); /* the most of it since failmalloc_measure() */
void failmalloc_measure(void);

#endif
