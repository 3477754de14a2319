/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One local workload as the control thread holds it: where it is, what it listens and dials
 * with, and what the kernel has of it. Control thread.
 */
#ifndef SHUNT_MEMBER_H
#define SHUNT_MEMBER_H

#include <limits.h>
#include <sys/types.h>
#include <uthash.h>

#include "bpf/loader.h"
#include "config/snapshot.h"
#include "proxy/enrolled.h"

#define OWN_ADDRESSES_MAX 16

/* The network namespace that workloads without one of their own live in: the daemon's. */
struct host_place {
	int netns_fd;
	uint64_t netns; /* cookie */
	const char *cgroup_root;
	char path[PATH_MAX]; /* by which others find it; empty: by none */
};

struct member {
	struct enrolled enrolled; /* what the workers see */
	char *key; /* "namespace/name" */
	char *namespace;
	char *name;
	enum selector selector;
	char *selected; /* as the document says it */
	char *path; /* of the network namespace, or of the cgroup's folder */
	uint64_t place; /* as in abi.h */
	dev_t device; /* of `path`, to see it replaced */
	ino_t inode;
	struct addr16 addresses[OWN_ADDRESSES_MAX]; /* found in the namespace */
	unsigned address_count;
	struct addr16 ip4; /* its own, as getsockname() shows them; zero: none */
	struct addr16 ip6;
	uint64_t opened; /* ns, when it was enrolled */
	struct workload wanted; /* as the kernel is to have it */
	uint32_t judged_as; /* identity that it has for certain; 0: not known */
	bool known; /* the kernel has an entry of this generation: it judges already */
	bool captured; /* the kernel has all of it, as it is now */
	bool taken; /* another daemon came a moment before the kernel was to capture it */
	atomic_bool refused; /* a dial of the proxy met a closed port there; workers set it */
	uint64_t walked; /* ns, of the last walk of the registry */
	bool walk_failed; /* said so already */
	bool bypassed; /* as it was seen last, for the log */
	UT_hash_handle hh; /* by key */
};

/* "netns", "cgroup", "systemd:id"; as documents write it. */
const char *selector_word(enum selector s);

/* Is it on the host's namespace, known by its cgroup? */
bool member_on_host(const struct member *m);

/* Opens what the document names: namespace or cgroup, listeners, pool of sockets. *why is the
 * reason when there is one of ours (another mesh or daemon has the namespace). *out is to be
 * freed by member_free(). -errno. */
__attribute__((warn_unused_result)) int member_open(const struct fleet_workload *w,
						    const struct host_place *host,
						    const struct loader *l, struct member **out,
						    enum reason *why);
void member_free(struct member *m); /* NULL is allowed; the kernel has let go of it */

/* Has another shuntd its namespace, or the host's? Asked before anything of ours is there, and
 * after our door is: two may come at one moment. */
bool member_is_taken(const struct member *m, const struct loader *l);

/* The path that a document's selector means today, or -errno. */
__attribute__((warn_unused_result)) int
member_path(const struct fleet_workload *w, const struct host_place *host, char *path, size_t size);
/* Is what its selector names still the same? */
bool member_is_current(const struct member *m, const struct host_place *host);

/* Its own address of each family: documents before what is found. */
void member_own(struct member *m, const struct fleet_workload *w);
/* Reads the addresses of its namespace; true when they are others than before. */
bool member_read_addresses(struct member *m);

#endif
