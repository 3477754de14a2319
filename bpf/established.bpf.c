// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sockops: the registry of listening ports. It never carries a connection's destination: with
 * TCP Fast Open the callbacks of a connection come after its data.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/addr.h"
#include "lib/maps.h"

#define AF_INET 2
#define EEXIST 17

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* As much of the kernel's own structs as we read; CO-RE finds the rest. */
struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));
struct cgroup {
	struct kernfs_node *kn;
} __attribute__((preserve_access_index));
struct css_set {
	struct cgroup *dfl_cgrp;
} __attribute__((preserve_access_index));
struct task_struct {
	struct css_set *cgroups;
} __attribute__((preserve_access_index));

/* bpf_get_current_cgroup_id() is not offered to sockops on 6.1. */
static __always_inline __u64 current_cgroup(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return task->cgroups->dfl_cgrp->kn->id;
}

static __always_inline struct port_key port_key(struct bpf_sock_ops *ctx)
{
	struct port_key key = {
		.netns = bpf_get_netns_cookie(ctx),
		.port = bpf_htons((__u16)ctx->local_port),
	};

	if (ctx->family != AF_INET)
		key.ip = (struct addr16){{ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
					  ctx->local_ip6[3]}};
	else if (ctx->local_ip4 != 0)
		key.ip = addr_from4(ctx->local_ip4);
	if (addr_is_wildcard(key.ip))
		key.ip = (struct addr16){}; /* one entry for both families */
	return key;
}

/* Adds one. Looks again after the addition: a close that saw zero may have taken the entry away
 * in between, and then it starts over. Both may notice: an entry too many only steers. */
static __always_inline bool port_add(const struct port_key *key)
{
	for (int tries = 0; tries < 4; tries++) {
		struct port one = {.count = 1};
		struct port *p = bpf_map_lookup_elem(&ports, key);
		long err;

		if (p != NULL) {
			__sync_fetch_and_add(&p->count, 1);
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

static __always_inline void overflowed(void)
{
	struct globals *g = globals_get();

	if (g != NULL)
		__sync_fetch_and_add(&g->registry_overflow, 1);
}

static __always_inline void port_drop(const struct port_key *key)
{
	struct port *p = bpf_map_lookup_elem(&ports, key);

	if (p == NULL || __sync_fetch_and_sub(&p->count, 1) != 1)
		return;
	bpf_map_delete_elem(&ports, key);
	if (*(volatile __u32 *)&p->count != 0 && !port_add(key))
		overflowed();
}

SEC("sockops")
int established(struct bpf_sock_ops *ctx)
{
	const struct globals *g;
	struct port_key key;

	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		g = globals_get();
		/* The daemon's own would make every port they hold look served. */
		if (g == NULL || current_cgroup() == g->self_cgroup)
			return 1;
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		key = port_key(ctx);
		if (!port_add(&key))
			overflowed();
	} else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[0] == BPF_TCP_LISTEN) {
		key = port_key(ctx);
		port_drop(&key);
	}
	return 1;
}
