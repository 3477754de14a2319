/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a configuration folder: shunt.yaml at its top (options, may be missing) and every
 * other *.yaml or *.yml below it, in byte order of their paths. Names that begin with a dot
 * are passed over, so that a ConfigMap's ..data is read once.
 */
#ifndef SHUNT_CONFIG_FILES_H
#define SHUNT_CONFIG_FILES_H

#include "config/build.h"

struct document_files {
	struct document_file *items;
	size_t count;
};

/* Returns 0, or -errno with *error naming the path (the caller's to free) when the folder or
 * a file cannot be read. Files are bounded (16 MiB each, 10,000 files). */
__attribute__((warn_unused_result)) int files_read(const char *dir, struct document_files *out,
						   char **error);
/* Appends the documents of a state folder (state.h), `dir` being its absolute path. After a
 * failure what was appended stays. */
__attribute__((warn_unused_result)) int
files_append_state(const char *dir, struct document_files *files, char **error);
void files_free(struct document_files *f);

#endif
