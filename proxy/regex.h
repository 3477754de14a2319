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

struct regex;

/* Returns a regex, or NULL with what is wrong in `error` (which is empty when memory was
 * short). */
struct regex *regex_new(const char *pattern, size_t len, char *error, size_t error_size);
void regex_free(struct regex *r); /* NULL is allowed */

/* False also when RE2 runs out of its memory budget (8 MiB): what cannot be decided is not
 * a match, and every rule here allows. */
bool regex_match(const struct regex *r, const char *p, size_t n);

#ifdef __cplusplus
}
#endif

#endif
