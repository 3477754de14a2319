/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local workloads, from document to capture: the namespace is opened, listeners are made in
 * it, every worker accepts, and only then the kernel steers. The other way round when one
 * leaves. Control thread.
 */
#ifndef SHUNT_ENROLL_H
#define SHUNT_ENROLL_H

#include "bpf/loader.h"
#include "proxy/exclusions.h"
#include "proxy/member.h"
#include "proxy/worker.h"

/* A document that could not be enrolled, and why. */
struct absentee {
	char *namespace;
	char *name;
	enum selector selector;
	char *selected;
	int err; /* positive errno */
	enum reason why; /* ours, where it is not the errno's */
};

/* For people: why it is not enrolled. */
const char *absentee_text(const struct absentee *a);

struct enrollment {
	struct host_place host;
	struct member *members[WORKLOADS_MAX]; /* by index */
	struct member *by_key;
	size_t count;
	size_t on_host; /* of them, in the host's namespace */
	uint32_t generations[WORKLOADS_MAX];
	bool reserved[WORKLOADS_MAX]; /* by index: an explicit listener's */
	uint32_t next; /* index that is tried next: one is not given again at once */
	struct adopted {
		uint64_t place; /* 0: none */
		uint32_t index;
	} * adopted; /* from a daemon before us */
	size_t adopted_count;
	unsigned refreshed; /* whose addresses are looked at next */
	struct absentee *absent;
	size_t absent_count;
	uint64_t lost_waiting; /* captured connections that waited for the daemon before us */
	uint64_t lost_open; /* ... and that were open in it: all were reset */
	uint64_t swept; /* globals.registry_overflow that the registry was swept for */
	bool host_changed; /* who is on the host: its listeners are to be walked again */
};

/* The host's namespace is the one the daemon runs in. -errno. */
__attribute__((warn_unused_result)) int enroll_start(struct enrollment *e, const char *cgroup_root);

/* Learns what a daemon before us left in the kernel, so that a place keeps its index and
 * generation: its programs go on judging until ours are there. Slots that were taken are free
 * again, and counted. -ENOMEM: an index could be given away that a place still has. */
__attribute__((warn_unused_result)) int enroll_adopt(struct enrollment *e, struct loader *l,
						     struct node *node);

/* Opens what `fleet` names and we do not hold yet: workers accept, the kernel does not steer
 * yet. What cannot be opened becomes an absentee. */
void enroll_open(struct enrollment *e, const struct loader *l, struct node *node,
		 const struct fleet *fleet);
/* Why `w` could not be opened, for people, or NULL: it could. Nothing is changed. */
const char *enroll_try(struct enrollment *e, const struct loader *l,
		       const struct fleet_workload *w);
/* The kernel captures and steers for every member, as `fleet` and `x` say. 0, or the last
 * error: who could not be captured is shown as failed and tried again. *held: one of them is
 * still judged under an identity of before, whose policy entries must stay. */
__attribute__((warn_unused_result)) int enroll_capture(struct enrollment *e, struct loader *l,
						       const struct fleet *fleet,
						       const struct exclusions *x, bool *held);
/* Lets go of members that `fleet` does not name, or whose namespace is another now. */
void enroll_release(struct enrollment *e, struct loader *l, struct node *node,
		    const struct fleet *fleet, enum reason why);
/* Lets go of what the kernel holds for places that no member has, once nobody is absent. */
void enroll_release_strangers(struct enrollment *e, struct loader *l);
/* Has a place of a document appeared, gone or been replaced since, or got other addresses?
 * Young ones are looked at each time (addresses are given after a namespace is made), the
 * others a few at a time. With `retry`, what failed before counts too. */
bool enroll_is_stale(struct enrollment *e, bool retry);

/* Walks the registries that are not complete, and those where a dial met a closed port. With
 * `retry`, also those whose last walk failed. */
void enroll_walk(struct enrollment *e, struct loader *l, bool retry);

/* The daemon stops: the kernel captures nothing more; workers accept who waits and who is under
 * way, and let their connections end. */
void enroll_drain(struct enrollment *e, struct loader *l, struct node *node);

/* Everything, at the end. With `detach`, routes and kernel state too. */
void enroll_close(struct enrollment *e, struct loader *l, struct node *node, bool detach);

/* Writes the namespaces in which our route stands, one path a line, for whoever has to clean
 * up after a daemon that was killed (`shunt detach`). */
void enroll_write_paths(const struct enrollment *e, const char *file);

/* An index that nobody has, and its generation, for an explicit listener; -ENOSPC. */
__attribute__((warn_unused_result)) int enroll_index_take(struct enrollment *e,
							  struct enrolled *enrolled);
void enroll_index_give(struct enrollment *e, const struct enrolled *enrolled);
/* Workers accept for it, or end to. */
__attribute__((warn_unused_result)) int enroll_seat(struct node *node,
						    const struct enrolled *enrolled);
void enroll_unseat(struct node *node, const struct enrolled *enrolled, enum reason why);

/* NULL when it is not enrolled. */
struct member *enroll_find(const struct enrollment *e, const char *namespace, const char *name);

#endif
