/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon runs by: immutable parts, each with a revision of its own, built from
 * documents (build.h) and swapped by pointer. A connection keeps revision and rule ids for its
 * record, never a snapshot for its life.
 *
 * The policy is counted: a reference may be taken and dropped by any thread. The fleet is the
 * control thread's alone (workers have the directory made from it). Nothing in a part changes
 * after it was built; all strings belong to the part they stand in.
 */
#ifndef SHUNT_CONFIG_SNAPSHOT_H
#define SHUNT_CONFIG_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"

/* Where a document said it; file is relative to the configuration folder. */
struct location {
	const char *file;
	unsigned line; /* from 1 */
	unsigned column; /* from 1 */
};

/* Options of shunt.yaml. Durations are ms. One row each in schema.c, which is also where
 * defaults and the manual's text come from. */
struct options {
	unsigned workers; /* 0: one per core */
	uint32_t slots;
	uint32_t event_rate; /* kernel denials logged per second and workload */
	unsigned connect_timeout;
	unsigned head_timeout;
	char trust_domain[256];
	char metrics_address[128]; /* ADDRESS:PORT, empty: off */
	char access_log[256]; /* path, empty: off */
	bool access_log_query; /* record the query string of a path */
};

struct label {
	const char *key; /* without source prefix */
	const char *value;
};

/* A Workload document. */
struct fleet_workload {
	const char *namespace;
	const char *name;
	const char *service_account;
	const char *spiffe_id; /* spiffe://TD/ns/NS/sa/SA */
	const struct label *labels; /* sorted by key; spec.labels only */
	size_t label_count;
	const char *netns; /* path of its network namespace; NULL: not on this node */
	const struct addr16 *addresses; /* the documents' */
	size_t address_count;
	uint32_t identity;
	struct location where;
};

struct fleet {
	uint64_t revision;
	const struct fleet_workload *workloads; /* sorted by (namespace, name) */
	size_t workload_count;
};

void fleet_free(struct fleet *f); /* NULL is allowed */
/* NULL when there is none. */
const struct fleet_workload *fleet_by_name(const struct fleet *f, const char *namespace,
					   const char *name);

/* Opaque; proxy/policy.h asks it. */
struct policy;
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p); /* NULL is allowed */
uint64_t policy_revision(const struct policy *p);

#endif
