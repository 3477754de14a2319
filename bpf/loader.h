/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user side of bpf/: open, set constants, load, attach, pin, adopt, detach. Together
 * with proxy/netns.h this is the only room that needs privilege; no libbpf type leaks out.
 * Called by the control thread only, except where a function says otherwise.
 *
 * Pins lie in <dir>/v1/: maps, the seven cgroup links and one sk_lookup link per workload.
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
	uint32_t slots; /* power of two, at most SLOTS_MAX */
	uint32_t event_rate; /* kernel denials logged per second and workload */
};

/* Why the last call that failed did so, for people: one line, with what to do about it. */
const char *loader_error(const struct loader *l);

/* Loads the programs and attaches them at the root of cgroup2, or, where a daemon before us
 * left its pins, adopts maps and replaces the programs behind the pinned links in place, so
 * that nothing escapes meanwhile. A map of another type, key, value or size is refused with
 * -EEXIST and the remedy. Needs CAP_BPF and CAP_NET_ADMIN. *out is set also on failure (for
 * loader_error()); end it with loader_close(). Returns 0 or -errno. */
__attribute__((warn_unused_result)) int loader_open(const struct loader_options *options,
						    struct loader **out);

/* Gives up the descriptors; pins and links stay as they are. NULL is allowed. */
void loader_close(struct loader *l);

/* Unlinks every pin below pin_dir, which detaches the links; then the folders. Works without
 * a loaded daemon. Nothing pinned is not an error. Returns the number of pins removed, or
 * -errno. */
int loader_detach(const char *pin_dir);

/* Enters or changes the workload of the namespace with this cookie. */
__attribute__((warn_unused_result)) int loader_workload_put(struct loader *l, uint64_t netns,
							    const struct workload *w);
int loader_workload_remove(struct loader *l, uint64_t netns);

/* Lists the namespaces that `workloads` holds, as adopted or put: fills at most `n` cookies
 * and their workloads, returns how many there are. */
size_t loader_workload_list(struct loader *l, uint64_t *netns, struct workload *w, size_t n);

/* Puts a listening socket into the place of (index, kind): from the next SYN on, connections
 * are given to it. Its presence is the liveness signal; it leaves by itself when its last
 * descriptor is closed. `fd` stays the caller's. */
__attribute__((warn_unused_result)) int loader_listener_put(struct loader *l, uint32_t index,
							    enum listener_kind kind, int fd);
void loader_listener_remove(struct loader *l, uint32_t index, enum listener_kind kind);

/* Loads an sk_lookup program for this workload and attaches it to the network namespace
 * `netns_fd` (an open /run/netns/NAME or /proc/PID/ns/net), or replaces the one of the
 * pinned link. index, generation, identity, flags, addresses and `netns` are compiled in: call
 * it again when one of them changes, after loader_workload_put() (a program whose generation is
 * not that of `workloads` gives nothing to a listener). */
__attribute__((warn_unused_result)) int
loader_inbound_attach(struct loader *l, int netns_fd, uint64_t netns, const struct workload *w);
void loader_inbound_detach(struct loader *l, uint64_t netns);

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

/* Shared memory, valid until loader_close(). Any thread. */
struct slot *loader_slots(struct loader *l, uint32_t *count);
struct dial *loader_dials(struct loader *l, uint32_t *count);
const struct globals *loader_globals(struct loader *l);

/* Kernel denials: a descriptor that polls readable, and the drain that hands each event out. */
int loader_events_fd(struct loader *l);
int loader_events_drain(struct loader *l, void (*take)(void *arg, const struct event *e),
			void *arg);

/* What the kernel refused since load, by enum reason, summed over CPUs: REASON_MAX numbers. */
void loader_counters(struct loader *l, uint64_t counts[REASON_MAX]);
/* Events of the workload with this index that were not put into the ring, since load. */
uint64_t loader_suppressed(struct loader *l, uint32_t index);

/* Program ids and attach state, for `shunt status`: fills `line`s of "name state". */
struct loader_state {
	char name[32];
	bool attached;
};
size_t loader_state(struct loader *l, struct loader_state *state, size_t n);

#endif
