/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RE2 behind C. Linear in the text whatever the pattern, safe to use from several threads.
 * Patterns match the whole text or not at all, case-sensitively. Text is taken as UTF-8:
 * `.` matches neither a newline nor a byte that is not UTF-8.
 */
#ifndef SHUNT_REGEX_H
#define SHUNT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REGEX_PATTERN_MAX 1024U /* bytes */
#define REGEX_MEMORY (8 << 20) /* bytes that one regex, or one set, may have */

struct regex;

/* Returns a regex, or NULL with what is wrong in `error` (which is empty when memory was
 * short). */
struct regex *regex_new(const char *pattern, size_t len, char *error, size_t error_size);
void regex_free(struct regex *r); /* NULL is allowed */

/* False also when RE2 runs out of its memory budget (8 MiB): what cannot be decided is not
 * a match, and every rule here allows. */
bool regex_match(const struct regex *r, const char *p, size_t n);

/* What every text that matches begins with, as far as RE2 can tell: at most `size` bytes. Returns
 * how many. */
size_t regex_prefix(const struct regex *r, char *out, size_t size);

/* Many at once: a text is read once, however many patterns there are. */
struct regex_set;

/* NULL when memory is short or `memory` bytes are too few for all together; the patterns are
 * good ones for regex_new(). At least one. */
struct regex_set *regex_set_new(const char *const *patterns, size_t n, long memory);
void regex_set_free(struct regex_set *s); /* NULL is allowed */

/* Which of a set matched; grows, and is used again. One thread's. */
struct regex_hits;
struct regex_hits *regex_hits_new(void); /* NULL: memory */
void regex_hits_free(struct regex_hits *h); /* NULL is allowed */

/* Returns how many match, and their places among the patterns, in no order, in *items (until the
 * next call with `h`). -1 when the set ran out of its memory: what matches is not known. */
int regex_set_match(const struct regex_set *s, const char *p, size_t n, struct regex_hits *h,
		    const int **items);

#ifdef __cplusplus
}
#endif

#endif
