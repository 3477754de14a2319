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
	uint32_t identity; /* as the kernel is to have it */
	uint32_t judged_as; /* as it has it for certain; 0: not known */
	bool known; /* the kernel has an entry of this generation: it judges already */
	bool captured; /* the kernel has all of it, as it is now */
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
	struct adopted {
		uint64_t netns; /* 0: none */
		uint32_t index;
	} * adopted; /* from a daemon before us */
	size_t adopted_count;
	unsigned refreshed; /* whose addresses are looked at next */
	struct absentee *absent;
	size_t absent_count;
};

/* Learns what a daemon before us left in the kernel, so that a namespace keeps its index and
 * generation: its programs go on judging until ours are in their place. Slots it had claimed
 * are free again. */
void enroll_adopt(struct enrollment *e, struct loader *l, struct node *node);

/* Opens what `fleet` names and we do not hold yet: workers accept, the kernel does not steer
 * yet. What cannot be opened becomes an absentee. */
void enroll_open(struct enrollment *e, struct node *node, const struct fleet *fleet);
/* The kernel captures and steers for every member, with the identities of `fleet`. 0, or the
 * last error: who could not be captured is shown as failed and tried again. *held: one of them
 * is still judged under an identity of before, whose policy entries must stay. */
__attribute__((warn_unused_result)) int enroll_capture(struct enrollment *e, struct loader *l,
						       const struct fleet *fleet, bool *held);
/* Lets go of members that `fleet` does not name, or whose namespace is another now. */
void enroll_release(struct enrollment *e, struct loader *l, struct node *node,
		    const struct fleet *fleet, enum reason why);
/* Lets go of what the kernel holds for namespaces that no member has, once nobody is absent. */
void enroll_release_strangers(struct enrollment *e, struct loader *l);
/* Has a namespace of a document appeared, gone or been replaced since, or got other addresses?
 * Young ones are looked at each time (addresses are given after a namespace is made), the
 * others a few at a time. With `retry`, what failed before counts too. */
bool enroll_is_stale(struct enrollment *e, bool retry);

/* Everything, at the end. With `detach`, routes and kernel state too. */
void enroll_close(struct enrollment *e, struct loader *l, struct node *node, bool detach);

/* Writes the namespaces in which our route stands, one path a line, for whoever has to clean
 * up after a daemon that was killed (`shunt detach`). */
void enroll_write_paths(const struct enrollment *e, const char *file);

/* NULL when it is not enrolled. */
struct member *enroll_find(const struct enrollment *e, const struct fleet_workload *w);

#endif
