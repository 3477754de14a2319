/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A local workload as the proxy holds it: its namespace, its listeners, its pool of sockets; or
 * an explicit listener, which has an upstream and neither namespace nor pool.
 * Who it is (identity, names, addresses) is the view's to say: directory_local().
 * Made and ended by the control thread (control.c); workers only read it, and it outlives
 * every seat that names it.
 */
#ifndef SHUNT_ENROLLED_H
#define SHUNT_ENROLLED_H

#include <stdatomic.h>

#include "bpf/abi.h"
#include "proxy/netns.h"

struct enrolled {
	uint32_t index; /* as in struct workload */
	uint32_t generation;
	uint64_t netns; /* cookie */
	int netns_fd;
	int listeners[LISTENER_KINDS]; /* -1 where IPv6 is off */
	struct netns_pool *pool;
	const struct endpoint *upstream; /* where all goes; NULL: where the client dialled */
	atomic_bool *refused; /* set by a worker whose dial met a closed port here */
};

#endif
