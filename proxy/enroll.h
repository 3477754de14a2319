/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local workloads, from document to capture: the namespace is opened, listeners are made in
 * it, every worker accepts, and only then the kernel steers. The other way round when one
 * leaves. Control thread.
 */
#ifndef SHUNT_ENROLL_H
#define SHUNT_ENROLL_H

#include <sys/types.h>

#include "bpf/loader.h"
#include "proxy/worker.h"

#define OWN_ADDRESSES_MAX 16

/* One local workload. */
struct member {
	struct enrolled enrolled; /* what the workers see */
	char *namespace;
	char *name;
	char *path; /* of the network namespace */
	dev_t device; /* of the namespace, to see it replaced */
	ino_t inode;
	struct addr16 addresses[OWN_ADDRESSES_MAX]; /* found in the namespace */
	unsigned address_count;
	struct addr16 ip4; /* its own, as getsockname() shows them; zero: none */
	struct addr16 ip6;
	uint64_t opened; /* ns, when it was enrolled */
	uint32_t identity; /* as the kernel has it */
	bool captured; /* the kernel has it */
};

/* A document that could not be enrolled, and why. */
struct absentee {
	char *namespace;
	char *name;
	char *path;
	int err; /* positive errno */
};

struct enrollment {
	struct member *members[WORKLOADS_MAX]; /* by index */
	uint32_t generations[WORKLOADS_MAX];
	struct absentee *absent;
	size_t absent_count;
};

/* Adopts the generations a daemon before us used, and takes what it left of workloads out of
 * the kernel: nobody serves them. Slots it had claimed are free again. */
void enroll_adopt(struct enrollment *e, struct loader *l, struct node *node);

/* Opens what `fleet` names and we do not hold yet: workers accept, the kernel does not steer
 * yet. What cannot be opened becomes an absentee. */
void enroll_open(struct enrollment *e, struct node *node, const struct fleet *fleet);
/* The kernel captures and steers for every member, with the identities of `fleet`. */
void enroll_capture(struct enrollment *e, struct loader *l, const struct fleet *fleet);
/* Lets go of members that `fleet` does not name, or whose namespace is another now. */
void enroll_release(struct enrollment *e, struct loader *l, struct node *node,
		    const struct fleet *fleet, enum reason why);
/* Has a namespace of a document appeared, gone or been replaced since, or has one that is
 * young got other addresses (they are given after a namespace is made)? */
bool enroll_is_stale(struct enrollment *e);

/* Everything, at the end. With `detach`, routes and kernel state too. */
void enroll_close(struct enrollment *e, struct loader *l, struct node *node, bool detach);

/* NULL when it is not enrolled. */
struct member *enroll_find(const struct enrollment *e, const struct fleet_workload *w);

#endif
