/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds an address: one immutable directory, from which both the kernel's `addresses` map
 * and every worker's answers come. Built by the control thread from the fleet, the addresses
 * found in local namespaces and those of the host.
 */
#ifndef SHUNT_IDENTITY_H
#define SHUNT_IDENTITY_H

#include "config/snapshot.h"
#include "proxy/codec/message.h"

/* What a record says of a workload. Counted, so that a connection can keep it longer than
 * any snapshot lives. */
struct card;
struct card *card_new(const struct fleet_workload *w); /* NULL: no memory */
struct card *card_ref(struct card *c); /* NULL is allowed, here and below */
void card_unref(struct card *c);
struct card_names {
	uint64_t serial; /* no other card ever has it */
	struct slice workload;
	struct slice namespace;
	struct slice identity; /* SPIFFE id */
	struct slice app; /* label `app`, may be empty */
};
const struct card_names *card_names(const struct card *c); /* of NULL: all empty, serial 0 */

#define DIRECTORY_NOT_LOCAL UINT32_MAX

struct directory_entry {
	uint32_t identity;
	uint32_t index; /* of a local workload, else DIRECTORY_NOT_LOCAL */
	struct card *card; /* borrowed from the directory; NULL for host and world */
	struct addr16 ip4; /* directory_local(): its own first one; zero: it has none */
};

struct directory;
struct directory *directory_new(void);
struct directory *directory_ref(struct directory *d);
void directory_unref(struct directory *d);

/* Before the directory is shared. `card` is counted up. A later entry for the same address
 * does not replace the first. -ENOMEM or 0. */
__attribute__((warn_unused_result)) int directory_add(struct directory *d, const struct addr16 *ip,
						      uint32_t identity, uint32_t index,
						      struct card *card);

/* The local workload of this index, under whatever address it speaks. Before the directory
 * is shared; as directory_add() otherwise. */
__attribute__((warn_unused_result)) int directory_add_local(struct directory *d, uint32_t index,
							    uint32_t identity,
							    const struct addr16 *ip4,
							    struct card *card);
/* IDENTITY_WORLD's where no workload has this index. */
struct directory_entry directory_local(const struct directory *d, uint32_t index);

/* Never fails: an address that nobody is known to hold is IDENTITY_WORLD's. */
struct directory_entry directory_find(const struct directory *d, const struct addr16 *ip);

/* Hands out every address; for the kernel's map. */
void directory_each(const struct directory *d,
		    void (*take)(void *arg, const struct addr16 *ip,
				 const struct directory_entry *e),
		    void *arg);

#endif
