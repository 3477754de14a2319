/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of exclusions: see exclusions.h. */
#include "proxy/exclusions.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
	return h;
}

static uint32_t set_wish(const struct exclusion *e)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	h = mix(h, e->ports, e->port_count * sizeof *e->ports);
	for (size_t i = 0; i < e->cidr_count; i++) {
		h = mix(h, &e->cidrs[i].ip, sizeof e->cidrs[i].ip);
		h = mix(h, &e->cidrs[i].bits, sizeof e->cidrs[i].bits);
	}
	return 1 + (uint32_t)((h ^ h >> 32) % (UINT32_MAX / 2));
}

static bool is_same(const struct exclusion *a, const struct exclusion *b)
{
	if (a->port_count != b->port_count || a->cidr_count != b->cidr_count)
		return false;
	for (size_t i = 0; i < a->port_count; i++)
		if (a->ports[i] != b->ports[i])
			return false;
	for (size_t i = 0; i < a->cidr_count; i++)
		if (a->cidrs[i].bits != b->cidrs[i].bits ||
		    memcmp(&a->cidrs[i].ip, &b->cidrs[i].ip, sizeof a->cidrs[i].ip) != 0)
			return false;
	return true;
}

/* Its number, and in *fresh whether it is the first of the fleet that has it. */
static uint32_t set_number(const struct exclusions *x, const struct fleet *fleet, size_t at,
			   bool *fresh)
{
	const struct exclusion *e = &fleet->workloads[at].exclude;
	uint32_t number = set_wish(e);

	for (;; number++) {
		size_t i = 0;

		while (i < at && x->sets[i] != number)
			i++;
		*fresh = i == at;
		if (*fresh || is_same(&fleet->workloads[i].exclude, e))
			return number;
	}
}

static int set_add(struct exclusions *x, uint32_t set, const struct exclusion *e)
{
	struct loader_exclude_port *ports =
		realloc(x->ports, (x->port_count + e->port_count + 1) * sizeof *ports);
	struct loader_exclude_cidr *cidrs;

	if (ports == NULL)
		return -ENOMEM;
	x->ports = ports;
	cidrs = realloc(x->cidrs, (x->cidr_count + e->cidr_count + 1) * sizeof *cidrs);
	if (cidrs == NULL)
		return -ENOMEM;
	x->cidrs = cidrs;
	for (size_t i = 0; i < e->port_count; i++)
		x->ports[x->port_count++] =
			(struct loader_exclude_port){{set, htons(e->ports[i]), 0}, 1};
	for (size_t i = 0; i < e->cidr_count; i++)
		x->cidrs[x->cidr_count++] = (struct loader_exclude_cidr){
			{EXCLUDE_SET_BITS + e->cidrs[i].bits, set, e->cidrs[i].ip}, 1};
	return 0;
}

int exclusions_build(struct exclusions *x, const struct fleet *fleet)
{
	int err = 0;

	*x = (struct exclusions){.sets = calloc(fleet->workload_count + 1, sizeof *x->sets)};
	if (x->sets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < fleet->workload_count && err == 0; i++) {
		const struct exclusion *e = &fleet->workloads[i].exclude;
		bool fresh = false;

		if (fleet->workloads[i].selector == SELECTOR_NONE ||
		    e->port_count + e->cidr_count == 0)
			continue;
		x->sets[i] = set_number(x, fleet, i, &fresh);
		if (fresh)
			err = set_add(x, x->sets[i], e);
	}
	return err;
}

void exclusions_free(struct exclusions *x)
{
	free(x->sets);
	free(x->ports);
	free(x->cidrs);
	*x = (struct exclusions){0};
}

struct loader_exclusions exclusions_entries(const struct exclusions *x)
{
	return (struct loader_exclusions){x->ports, x->port_count, x->cidrs, x->cidr_count};
}
