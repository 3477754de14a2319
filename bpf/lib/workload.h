/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose is it: from a place to its workload, and what is left alone there (exclusions, the
 * bypass of 3 a.m.). Both hooks ask here.
 */
#ifndef SHUNT_LIB_WORKLOAD_H
#define SHUNT_LIB_WORKLOAD_H

#include "addr.h"
#include "maps.h"

static __always_inline struct workload *workload_of(__u32 index)
{
	return bpf_map_lookup_elem(&workloads, &index);
}

/* NULL: nobody's. An index that was given to another place meanwhile is nobody's either. */
static __always_inline struct workload *workload_at(__u64 place)
{
	const __u32 *index = bpf_map_lookup_elem(&places, &place);
	struct workload *w = index != NULL ? workload_of(*index) : NULL;

	return w != NULL && w->place == place ? w : NULL;
}

static __always_inline bool workload_bypassed(const struct workload *w, __u64 now)
{
	return w->bypass_until > now;
}

/* Is this traffic of `w` to be left alone: to `port`, with `remote` at the other end? */
static __always_inline bool workload_excludes(const struct workload *w, __u16 port,
					      struct addr16 remote)
{
	struct exclude_port by_port = {.set = w->exclusion, .port = port};
	struct exclude_cidr by_address = {
		.prefix = EXCLUDE_SET_BITS + 128, .set = w->exclusion, .ip = remote};

	if (w->exclusion == 0)
		return false;
	return bpf_map_lookup_elem(&exclude_ports, &by_port) != NULL ||
	       bpf_map_lookup_elem(&exclude_cidrs, &by_address) != NULL;
}

/* Somebody listens there, as far as sockops and the walk `epoch` know. A walk that is under way
 * has a higher number. */
static __always_inline bool port_is_served(const struct port *p, __u32 epoch)
{
	if (p == NULL)
		return false;
	return p->live != 0 || (p->walked != 0 && (__s32)(p->walked - epoch) >= 0);
}

static __always_inline const struct port *port_at(__u64 netns, struct addr16 ip, __u16 port)
{
	struct port_key key = {.netns = netns, .ip = ip, .port = port};

	return bpf_map_lookup_elem(&ports, &key);
}

static __always_inline struct workload *port_owner(const struct port *p)
{
	struct workload *w = p != NULL && p->owner != 0 ? workload_at(p->owner) : NULL;

	return w != NULL && port_is_served(p, w->registry_epoch) ? w : NULL;
}

/* The workload of the host's namespace that serves this address and port: the one that declared
 * the port, else the one whose socket listens. */
static __always_inline struct workload *workload_serving(const struct globals *g, struct addr16 ip,
							 __u16 port)
{
	__u32 declared = port;
	const __u64 *owner = bpf_map_lookup_elem(&owners, &declared);
	struct addr16 wildcard = {};
	struct workload *w;

	if (owner != NULL)
		return workload_at(*owner);
	w = port_owner(port_at(g->host_netns, ip, port));
	return w != NULL ? w : port_owner(port_at(g->host_netns, wildcard, port));
}

/* Only a registry that is known to be whole may say so: passing on a miss of any other would
 * let a listener it does not know escape its policy. */
static __always_inline bool nobody_listens(const struct globals *g, const struct workload *w,
					   __u64 netns, struct addr16 ip, __u16 port)
{
	struct addr16 wildcard = {};

	if (w->registry_seen != g->registry_overflow + 1)
		return false;
	return !port_is_served(port_at(netns, wildcard, port), w->registry_epoch) &&
	       !port_is_served(port_at(netns, ip, port), w->registry_epoch);
}

#endif
