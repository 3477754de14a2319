/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `exclude:` as the kernel has it: workloads that exclude the same share one numbered set. The
 * number is a hash of what is excluded, so that it means the same before and after a reload
 * and to a daemon that adopts the maps. Control thread.
 */
#ifndef SHUNT_EXCLUSIONS_H
#define SHUNT_EXCLUSIONS_H

#include "bpf/loader.h"
#include "config/snapshot.h"

struct exclusions {
	uint32_t *sets; /* by place in fleet->workloads; 0: nothing is excluded */
	struct loader_exclude_port *ports;
	size_t port_count;
	struct loader_exclude_cidr *cidrs;
	size_t cidr_count;
};

/* -ENOMEM or 0; end it with exclusions_free() in either case. */
__attribute__((warn_unused_result)) int exclusions_build(struct exclusions *x,
							 const struct fleet *fleet);
void exclusions_free(struct exclusions *x);
struct loader_exclusions exclusions_entries(const struct exclusions *x);

#endif
