/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects findings while documents are read; in the end hands them over in the order of
 * the files and lines. Internal to config/.
 */
#ifndef SHUNT_CONFIG_REPORT_H
#define SHUNT_CONFIG_REPORT_H

#include "config/build.h"

struct report_item;
struct report {
	const struct document_file *files;
	size_t file_count;
	struct report_item *items;
	size_t count, room, errors;
	bool failed; /* out of memory: something was not recorded */
};

#define REPORT_MAX 1000U /* findings kept; the rest is counted in a last one */

/* The text is the strings up to NULL. `where.file` is the path pointer of one of the files. */
void report_error(struct report *r, struct location where, ...) __attribute__((sentinel));
void report_warning(struct report *r, struct location where, ...) __attribute__((sentinel));

/* Moves everything into *out (all copied) and frees what the report held. */
void report_finish(struct report *r, struct findings *out);

/* Of two places in one file. */
bool report_before(struct location a, struct location b);

/* "conf.d/a.yaml:3" into buf, for naming a second place. */
const char *report_place(struct location at, char *buf, size_t size);

/* The candidate that `name` most likely meant, or NULL. `next` hands out the i-th
 * candidate, NULL after the last. */
const char *report_nearest(const char *name, const char *(*next)(const void *arg, size_t i),
			   const void *arg);
const char *report_nearest_of(const char *name, const char *const *candidates); /* NULL ends */

#endif
