/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The registry of listening ports, for its two writers: sockops, which sees every listen() and
 * every end of one, and the walk over the sockets that were there before it. Errors go one way:
 * an entry too many steers a connection to the daemon, an entry too few would let it pass.
 */
#ifndef SHUNT_LIB_REGISTRY_H
#define SHUNT_LIB_REGISTRY_H

#include <bpf/bpf_core_read.h>

#include "addr.h"
#include "maps.h"

#define EEXIST 17
#define OWNER_DEPTH 24 /* levels below the root of cgroup2 */

/* As much of the kernel's own structs as we read; CO-RE finds the rest. */
struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));
struct cgroup {
	struct kernfs_node *kn;
	int level;
	struct cgroup *ancestors[];
} __attribute__((preserve_access_index));
struct sock_cgroup_data {
	struct cgroup *cgroup;
} __attribute__((preserve_access_index));
struct sock {
	struct sock_cgroup_data sk_cgrp_data;
} __attribute__((preserve_access_index));
struct tcp_sock; /* begins with its struct sock */

/* Listeners that sockops has counted: the walk leaves them out. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} listener_marks SEC(".maps");

/* The cgroup that the socket was made in: it decides which programs run for it, too. */
static __always_inline const struct cgroup *socket_cgroup(struct tcp_sock *tp)
{
	return BPF_CORE_READ((struct sock *)tp, sk_cgrp_data.cgroup);
}

static __always_inline __u64 cgroup_id(const struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, kn, id);
}

/* The host workload that the cgroup belongs to: its own, or of the nearest one above. */
static __always_inline __u64 cgroup_owner(const struct cgroup *cgroup)
{
	const char *ancestors =
		(const char *)cgroup + bpf_core_field_offset(struct cgroup, ancestors);
	int level = BPF_CORE_READ(cgroup, level);

	for (int i = 0; i < OWNER_DEPTH && level > 0; i++, level--) {
		const struct cgroup *at;
		__u64 place;

		if (bpf_probe_read_kernel(&at, sizeof at, ancestors + level * sizeof at) < 0)
			break;
		place = cgroup_id(at) | PLACE_CGROUP;
		if (bpf_map_lookup_elem(&places, &place) != NULL)
			return place;
	}
	return 0;
}

static __always_inline __u64 listener_owner(struct tcp_sock *tp, __u64 netns,
					    const struct globals *g)
{
	return netns == g->host_netns && g->host_workloads ? cgroup_owner(socket_cgroup(tp)) : 0;
}

/* A workload's port does not become nobody's because another socket shares it. */
static __always_inline void owner_set(struct port *p, __u64 owner)
{
	if (owner != 0)
		p->owner = owner;
}

/* Adds one. Looks again after the addition: a close that saw zero may have taken the entry away
 * in between, and then it starts over. Both may notice: an entry too many only steers. */
static __always_inline bool port_add(const struct port_key *key, __u64 owner)
{
	for (int tries = 0; tries < 4; tries++) {
		struct port one = {.live = 1, .owner = owner};
		struct port *p = bpf_map_lookup_elem(&ports, key);
		long err;

		if (p != NULL) {
			__sync_fetch_and_add(&p->live, 1);
			owner_set(p, owner);
			if (bpf_map_lookup_elem(&ports, key) == p)
				return true;
			continue;
		}
		err = bpf_map_update_elem(&ports, key, &one, BPF_NOEXIST);
		if (err == 0)
			return true;
		if (err != -EEXIST)
			return false;
	}
	return false;
}

/* Says that the walk `epoch` found a listener which sockops does not know. The same second
 * look. */
static __always_inline bool port_walked(const struct port_key *key, __u32 epoch, __u64 owner)
{
	for (int tries = 0; tries < 4; tries++) {
		struct port found = {.walked = epoch, .owner = owner};
		struct port *p = bpf_map_lookup_elem(&ports, key);
		long err;

		if (p != NULL) {
			__sync_lock_test_and_set(&p->walked, epoch);
			owner_set(p, owner);
			if (bpf_map_lookup_elem(&ports, key) == p)
				return true;
			continue;
		}
		err = bpf_map_update_elem(&ports, key, &found, BPF_NOEXIST);
		if (err == 0)
			return true;
		if (err != -EEXIST)
			return false;
	}
	return false;
}

static __always_inline void registry_overflowed(void)
{
	struct globals *g = globals_get();

	if (g != NULL)
		__sync_fetch_and_add(&g->registry_overflow, 1);
}

/* Counts one down, and returns how many there were. Never below zero: a listener outlives the
 * entry it was counted on when its workload leaves meanwhile, and the next one to listen would
 * bring the count from -1 to 0, which is nobody. */
static __always_inline __u32 port_leave(struct port *p)
{
	for (int tries = 0; tries < 8; tries++) {
		__u32 live = *(volatile __u32 *)&p->live;

		if (live == 0)
			return 0;
		if (__sync_val_compare_and_swap(&p->live, live, live - 1) == live)
			return live;
	}
	return 0; /* a storm of them: one too many stays */
}

/* Takes one away. What a walk has found there stays until a later walk does not find it. */
static __always_inline void port_drop(const struct port_key *key)
{
	struct port *p = bpf_map_lookup_elem(&ports, key);

	if (p == NULL || port_leave(p) != 1)
		return;
	if (*(volatile __u32 *)&p->walked != 0)
		return;
	bpf_map_delete_elem(&ports, key);
	/* Somebody was counted in between, on an entry that is gone now. */
	if (*(volatile __u32 *)&p->live != 0 && !port_add(key, p->owner))
		registry_overflowed();
	if (*(volatile __u32 *)&p->walked != 0 && !port_walked(key, p->walked, p->owner))
		registry_overflowed();
}

#endif
