/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs share that read a folder instead of asking the daemon (config.c, policy.c).
 */
#ifndef SHUNT_CLI_OFFLINE_H
#define SHUNT_CLI_OFFLINE_H

#include <stdio.h>

#include "config/build.h"
#include "config/text.h"
#include "proxy/cli/cli.h"
#include "proxy/policy.h"

struct offline {
	struct identity_table *identities;
	struct snapshot snapshot; /* when valid */
	struct findings findings;
	size_t files;
	bool valid;
};

/* Reads and builds. -errno when the folder cannot be read, which it has said on stderr. */
__attribute__((warn_unused_result)) int offline_load(const char *dir, struct offline *out);
void offline_free(struct offline *o);

void offline_print_findings(FILE *out, const struct findings *f);
void offline_json_findings(struct text *t, const struct findings *f); /* members, no braces */
size_t offline_warnings(const struct findings *f);
/* Prints to stderr, returns CLI_USAGE; why == NULL: getopt has said it. */
int offline_usage(const char *verb, const char *why);

#endif
