/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents -> snapshot. Everything that is wrong is collected, not only the first: each
 * finding says where (file:line:col), shows the offending text and, where a name is unknown,
 * the nearest one that is valid. With one error nothing is built.
 *
 * Pure: text comes in as bytes (config/files.h reads the folder).
 */
#ifndef SHUNT_CONFIG_BUILD_H
#define SHUNT_CONFIG_BUILD_H

#include "config/snapshot.h"

enum finding_level {
	FINDING_WARNING,
	FINDING_ERROR,
};

struct finding {
	enum finding_level level;
	struct location where;
	char *text; /* one line, without the location */
	char *excerpt; /* the offending line, or NULL: none, or its file holds Secrets */
};

struct findings {
	struct finding *items;
	size_t count;
	size_t errors; /* how many of them are */
};
void findings_free(struct findings *f);
void findings_drop_warnings(struct findings *f);

struct document_file {
	const char *path; /* relative to the configuration folder; what locations say */
	const char *text;
	size_t len;
	bool options; /* this is shunt.yaml */
	bool state; /* this was kept by state_put (state.h); its path is absolute */
};

/* Numbers for sets of labels, kept over reloads so that a number never changes its meaning
 * while the kernel holds it; over restarts too, but for hashes that meet. Owned by the
 * caller. */
struct identity_table;
struct identity_table *identity_table_new(void);
void identity_table_free(struct identity_table *t);

struct snapshot {
	struct options options;
	struct fleet *fleet;
	struct policy *policy;
};

/* Returns 0 and fills *out (its parts are the caller's), -EINVAL when findings->errors
 * is not 0 (*out is untouched), or -ENOMEM. `revision` becomes that of the parts.
 * *findings is filled in every case and the caller's to free. */
__attribute__((warn_unused_result)) int config_build(const struct document_file *files, size_t n,
						     struct identity_table *identities,
						     uint64_t revision, struct snapshot *out,
						     struct findings *findings);
void snapshot_free(struct snapshot *s); /* drops the references */

#endif
