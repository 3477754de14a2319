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

/* Which fields tell a server who its client is. */
enum forwarded {
	FORWARDED_OFF, /* none: what the client wrote passes */
	FORWARDED_STANDARD, /* Forwarded, RFC 7239 */
	FORWARDED_X, /* X-Forwarded-For and its like */
};

/* Options of shunt.yaml. Durations are ms. One row each in schema.c, which is also where
 * defaults and the manual's text come from. */
struct options {
	unsigned workers; /* 0: one per core */
	uint32_t slots;
	uint32_t slots_per_workload; /* quota; 0: a quarter of `slots` */
	uint32_t event_rate; /* kernel denials logged per second and workload */
	unsigned connect_timeout;
	unsigned response_timeout; /* 0: none */
	unsigned head_timeout;
	unsigned head_size; /* bytes; of a request, as the two below */
	unsigned head_fields;
	unsigned target_size; /* bytes */
	unsigned body_rate; /* bytes per second that a client has to send of a body; 0: any */
	unsigned max_pipelined; /* requests sent ahead */
	unsigned heads_per_workload; /* unfinished heads of requests */
	unsigned buffer_per_workload; /* bytes that wait in user memory */
	unsigned drain_timeout; /* SIGTERM: how long open connections may go on */
	char trust_domain[256];
	char metrics_address[128]; /* ADDRESS:PORT, empty: off */
	char readiness_address[128]; /* the same; :PORT is every address */
	char access_log[256]; /* path, empty: off */
	bool access_log_query; /* record the query string of a path */
	bool via; /* this hop shows itself: Via, Max-Forwards */
	enum forwarded forwarded;
	bool unavailable_allow; /* onUnavailable of the mesh: allow */
	bool capture; /* off: without the kernel's part, for listeners alone */
};

struct label {
	const char *key; /* without source prefix */
	const char *value;
};

/* How the local processes of a workload are found. */
enum selector {
	SELECTOR_NONE = 0, /* not on this node */
	SELECTOR_NETNS, /* path of a network namespace of its own */
	SELECTOR_CGROUP, /* path below the root of cgroup2, from '/'; descendants belong to it */
	SELECTOR_SYSTEMD, /* name of a unit: the cgroup of that name */
};

/* ADDRESS/LENGTH; the bits behind the length are zero. IPv4 counts from 96. */
struct cidr {
	struct addr16 ip;
	unsigned bits; /* 0 to 128 */
};

/* Traffic that is left alone: to these destination ports, or with these remote addresses. */
struct exclusion {
	const uint16_t *ports; /* host order, ascending, each once */
	size_t port_count;
	const struct cidr *cidrs; /* ascending by address and length, each once */
	size_t cidr_count;
};

/* A Workload document. */
struct fleet_workload {
	const char *namespace;
	const char *name;
	const char *service_account;
	const char *spiffe_id; /* spiffe://TD/ns/NS/sa/SA */
	const struct label *labels; /* sorted by key; spec.labels only */
	size_t label_count;
	enum selector selector;
	const char *selected; /* what the selector names; NULL: SELECTOR_NONE */
	bool from_state; /* the selector was kept by `shunt workload add` (state.h) */
	uint64_t netns_inode; /* which the path led to then; 0: not known */
	const char *boot_id; /* of the boot in which that held; NULL: not known */
	const uint16_t *ports; /* declared, host order: its own even if PID 1 listens on them */
	size_t port_count; /* 0 unless the selector is a cgroup or a unit */
	bool unavailable_allow; /* narrowest of workload, namespace, mesh; so is `exclude` */
	struct exclusion exclude;
	const struct addr16 *addresses; /* the documents' */
	size_t address_count;
	uint32_t identity;
	struct location where;
};

/* A socket that the daemon opens by itself. What it accepts is judged as an arrival at the
 * workload it speaks for, and goes to `upstream`. */
struct fleet_listener {
	struct endpoint at;
	struct endpoint upstream;
	const struct fleet_workload *workload;
};

struct fleet {
	uint64_t revision;
	const struct fleet_workload *workloads; /* sorted by (namespace, name) */
	size_t workload_count;
	const struct fleet_listener *listeners;
	size_t listener_count;
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
