/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user side of bpf/: open, set constants, load, attach, pin, adopt, detach. Together
 * with proxy/netns.h this is the only room that needs privilege; no libbpf type leaks out.
 * Called by the control thread only, except where a function says otherwise.
 *
 * Pins lie in <dir>/v2/: maps, the seven cgroup links and one sk_lookup link per namespace.
 * They outlive the process on purpose (architecture: a daemon's death fails closed); only
 * loader_detach() removes them.
 */
#ifndef SHUNT_LOADER_H
#define SHUNT_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct loader;

struct loader_options {
	const char *pin_dir; /* on a bpf file system, e.g. /sys/fs/bpf/shunt/default */
	const char *cgroup_root; /* mount point of cgroup2, whole tree */
	uint64_t self_cgroup; /* id of the daemon's own cgroup */
	uint64_t host_netns; /* cookie of the namespace of host workloads */
	uint32_t slots; /* power of two, at most SLOTS_MAX */
	uint32_t slot_quota; /* that one workload may hold; 0: a quarter */
	uint32_t event_rate; /* kernel denials logged per second and workload */
};

/* Why the last call that failed did so, for people: one line, with what to do about it. */
const char *loader_error(const struct loader *l);

/* Loads the programs and attaches them at the root of cgroup2, or, where a daemon before us
 * left its pins, adopts maps and replaces the programs behind the pinned links in place, so
 * that nothing escapes meanwhile. A map of another type, key, value or size is refused with
 * -EEXIST and the remedy, one that is missing beside pinned links with -ENOENT. Needs CAP_BPF and CAP_NET_ADMIN. *out is set also on failure (for
 * loader_error()); end it with loader_close(). Returns 0 or -errno. */
__attribute__((warn_unused_result)) int loader_open(const struct loader_options *options,
						    struct loader **out);

/* Gives up the descriptors; pins and links stay as they are. NULL is allowed. */
void loader_close(struct loader *l);

/* Unlinks every pin below pin_dir, which detaches the links; then the folders. Works without
 * a loaded daemon. Nothing pinned is not an error. Returns the number of pins removed, or
 * -errno. */
int loader_detach(const char *pin_dir);

/* For a start that fails before any workload was entered: as loader_detach(), if nothing of a
 * daemon before us was attached when this one was opened. Else that goes on judging. */
int loader_undo(const struct loader *l);

/* Enters or changes a workload: `place`, `index`, `generation`, identity, flags, addresses and
 * exclusion of *w are taken; what the programs count stays, unless the index is given to another
 * place or generation. A flow that is judged meanwhile meets the old or the new identity. */
__attribute__((warn_unused_result)) int loader_workload_put(struct loader *l,
							    const struct workload *w);
/* Forgets the place, and what walks have found in its namespace. */
void loader_workload_remove(struct loader *l, uint64_t place);

/* The workloads that the kernel holds, as adopted or put: fills at most `n`, returns how many
 * there are. */
size_t loader_workload_list(struct loader *l, struct workload *w, size_t n);

/* The kernel's own entry, shared with its programs; `index` is below WORKLOADS_MAX. */
struct workload *loader_workload(struct loader *l, uint32_t index);

/* How many workloads the host's namespace has: with 0 its processes cost nothing. */
void loader_host_workloads(struct loader *l, uint32_t count);

/* Puts a listening socket into the place of (index, kind): from the next SYN on, connections
 * are given to it. Its presence is the liveness signal; it leaves by itself when its last
 * descriptor is closed. `fd` stays the caller's. */
__attribute__((warn_unused_result)) int loader_listener_put(struct loader *l, uint32_t index,
							    enum listener_kind kind, int fd);
void loader_listener_remove(struct loader *l, uint32_t index, enum listener_kind kind);

/* Loads an sk_lookup program for the network namespace `netns_fd` (an open /run/netns/NAME or
 * /proc/PID/ns/net) with the cookie `netns`, and attaches it, or replaces the one of the pinned
 * link. Who is judged there, and how, is in `workloads`. */
__attribute__((warn_unused_result)) int loader_inbound_attach(struct loader *l, int netns_fd,
							      uint64_t netns);
void loader_inbound_detach(struct loader *l, uint64_t netns);
/* Does another daemon of this machine, alive or not, judge what arrives there? Two must not: both
 * would take the same connections. Whoever attached first has the namespace. */
/* Run by a thread that holds CAP_SYS_ADMIN: the kernel names programs to no other. */
bool loader_inbound_is_taken(const struct loader *l, int netns_fd, uint64_t netns);

/* Two steps make `policy` hold exactly these `n` entries (keys unique), changing only what
 * differs, in the order that gives each flow its old or its new verdict and never a third.
 * loader_policy_put() enters what is new or changed, the more specific before the more general,
 * and sets globals.revision; loader_policy_prune() removes the rest, the more general first.
 * Between the two is the time to change identities: those of before and of after both have
 * their entries then, and a subject without entries would be open. */
struct loader_policy {
	struct policy_key key;
	struct policy_entry entry;
};
__attribute__((warn_unused_result)) int loader_policy_put(struct loader *l,
							  const struct loader_policy *entries,
							  size_t n, uint64_t revision);
__attribute__((warn_unused_result)) int
loader_policy_prune(struct loader *l, const struct loader_policy *entries, size_t n);
/* Exactly these addresses; puts before removals. */
struct loader_address {
	struct addr16 ip;
	struct address address;
};
__attribute__((warn_unused_result)) int
loader_address_replace(struct loader *l, const struct loader_address *entries, size_t n);

/* Traffic that is left alone: the same two steps, the workloads change their sets between. */
struct loader_exclude_port {
	struct exclude_port key;
	uint32_t one;
};
struct loader_exclude_cidr {
	struct exclude_cidr key;
	uint32_t one;
};
struct loader_exclusions {
	const struct loader_exclude_port *ports;
	size_t port_count;
	const struct loader_exclude_cidr *cidrs;
	size_t cidr_count;
};
__attribute__((warn_unused_result)) int loader_exclusions_put(struct loader *l,
							      const struct loader_exclusions *e);
__attribute__((warn_unused_result)) int loader_exclusions_prune(struct loader *l,
								const struct loader_exclusions *e);

/* Exactly these declared ports of host workloads. */
struct loader_owner {
	uint32_t port; /* network order, in the low half */
	uint64_t place;
} __attribute__((packed));
__attribute__((warn_unused_result)) int
loader_owner_replace(struct loader *l, const struct loader_owner *entries, size_t n);

/* The registry of listening ports. It is complete for a workload after a walk over the sockets
 * of its namespace that entered every listener, until an insertion fails anywhere. Only then a
 * port on which nobody listens is left to the kernel. */
bool loader_registry_walks(const struct loader *l); /* false: this kernel cannot */
bool loader_registry_is_complete(const struct loader *l, uint32_t index);
/* Run by a thread that stands in the namespace, for the workloads that live there; one walk at
 * a time. -ENOSPC: an insertion failed. */
__attribute__((warn_unused_result)) int loader_registry_walk(struct loader *l, uint64_t netns,
							     const uint32_t *indexes, size_t n);
/* After an overflow: drops what is stale. No registry is complete until it was walked again. */
void loader_registry_sweep(struct loader *l);

/* Shared memory, valid until loader_close(). Any thread. */
struct slot *loader_slots(struct loader *l, uint32_t *count);
struct dial *loader_dials(struct loader *l, uint32_t *count);
struct globals *loader_globals(struct loader *l);

/* Kernel denials: a descriptor that polls readable, and the drain that hands each event out. */
int loader_events_fd(struct loader *l);
int loader_events_drain(struct loader *l, void (*take)(void *arg, const struct event *e),
			void *arg);

/* What the kernel refused since load, by enum reason, summed over CPUs: REASON_MAX numbers. */
void loader_counters(struct loader *l, uint64_t counts[REASON_MAX]);

/* Program ids and attach state, for `shunt status`: fills `line`s of "name state". */
struct loader_state {
	char name[32];
	bool attached;
};
size_t loader_state(struct loader *l, struct loader_state *state, size_t n);

#endif
