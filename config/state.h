/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `shunt workload add` said, kept over restarts. A folder holds a file `layout` with the
 * number of the layout, and one document for each workload, workloads/NAMESPACE_NAME.yaml,
 * which the daemon writes and nobody else. One process uses a folder at a time.
 *
 * These documents are read together with those of the configuration (build.h,
 * document_file.state): a document of the same name gets the selector of the state, and its
 * labels and account where the state has any. Two selectors are for them alone, since the
 * path of a namespace may be another's tomorrow (/proc/PID/ns/net): netns-inode:NUMBER and
 * boot-id:UUID.
 */
#ifndef SHUNT_CONFIG_STATE_H
#define SHUNT_CONFIG_STATE_H

#include "config/files.h"
#include "config/text.h"

struct state_workload {
	const char *namespace, *name;
	enum selector selector; /* not SELECTOR_NONE */
	const char *selected;
	uint64_t netns_inode; /* 0: none */
	const char *boot_id; /* of /proc/sys/kernel/random/boot_id, a UUID; NULL: none */
	const struct label *labels;
	size_t label_count; /* 0: those of the document of that name */
	const char *service_account; /* NULL: the document's */
	const char *on_unavailable; /* "deny" or "allow"; NULL: the document's */
};

/* All of them return 0 or -errno with *error, one line for people (the caller's to free), or
 * NULL in it when memory is short. */

/* Makes the folder (mode 0700; its parent has to exist), or sees that it is one of ours:
 * -EEXIST when it has another layout. */
__attribute__((warn_unused_result)) int state_open(const char *dir, char **error);
/* Appends the kept documents to those that files_read() gave; their paths are absolute. After
 * a failure *files is still the caller's to free. */
__attribute__((warn_unused_result)) int state_read(const char *dir, struct document_files *files,
						   char **error);
/* Keeps a workload, in place of what was kept by that name. It is on the disk when this
 * returns 0. -EINVAL when it could not be read again: a bad name, path or label. */
__attribute__((warn_unused_result)) int state_put(const char *dir, const struct state_workload *w,
						  char **error);
/* What is kept by that name, to the byte, for state_restore(); nothing kept adds nothing. */
__attribute__((warn_unused_result)) int state_get(const char *dir, const char *namespace,
						  const char *name, struct text *out, char **error);
/* Keeps what state_get() gave, instead of what was kept by that name since. */
__attribute__((warn_unused_result)) int state_restore(const char *dir, const char *namespace,
						      const char *name, const struct text *kept,
						      char **error);
/* -ENOENT when none of that name is kept. */
__attribute__((warn_unused_result)) int state_remove(const char *dir, const char *namespace,
						     const char *name, char **error);

/* The document of a workload. Pure (kinds/state.c). */
void state_text(struct text *out, const struct state_workload *w);

#endif
