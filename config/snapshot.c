/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet part of a snapshot: one arena, sorted once, then only read. */
#include "config/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"

/* What the outside sees is the first member. */
struct fleet_part {
	struct fleet fleet;
	struct arena arena;
};

static struct fleet_part *part_of(const struct fleet *f)
{
	return (struct fleet_part *)(uintptr_t)f;
}

void fleet_free(struct fleet *f)
{
	struct fleet_part *p = part_of(f);

	if (f == NULL)
		return;
	arena_free(&p->arena);
	free(p);
}

static const struct label *labels_copy(struct arena *a, const struct workload_document *w)
{
	struct label *l = arena_array(a, w->label_count, sizeof(*l));

	for (size_t i = 0; l != NULL && i < w->label_count; i++) {
		l[i].key = arena_string(a, w->labels[i].key);
		l[i].value = arena_string(a, w->labels[i].value);
	}
	return l;
}

static const uint16_t *ports_copy(struct arena *a, const struct workload_document *w)
{
	uint16_t *ports = arena_array(a, w->port_count, sizeof(*ports));

	for (size_t i = 0; ports != NULL && i < w->port_count; i++)
		ports[i] = w->ports[i].port;
	return ports;
}

static void *array_copy(struct arena *a, const void *p, size_t count, size_t size)
{
	void *copy = arena_array(a, count, size);

	if (copy != NULL && count > 0)
		memcpy(copy, p, count * size);
	return copy;
}

static void exclusion_copy(struct arena *a, const struct exclusion *x, struct exclusion *out)
{
	out->ports = array_copy(a, x->ports, x->port_count, sizeof(*x->ports));
	out->port_count = x->port_count;
	out->cidrs = array_copy(a, x->cidrs, x->cidr_count, sizeof(*x->cidrs));
	out->cidr_count = x->cidr_count;
}

/* Of workload, namespace and mesh the narrowest that says anything. */
static void switches_copy(struct arena *a, const struct load *l, const struct workload_document *w,
			  struct fleet_workload *out)
{
	enum unavailable unavailable = w->unavailable;
	const struct exclusion *exclude = w->exclude;

	if (unavailable == UNAVAILABLE_UNSAID && w->space != NULL)
		unavailable = w->space->unavailable;
	if (exclude == NULL && w->space != NULL)
		exclude = w->space->exclude;
	if (exclude == NULL)
		exclude = l->exclude;
	out->unavailable_allow = unavailable == UNAVAILABLE_UNSAID
					 ? l->options.unavailable_allow
					 : unavailable == UNAVAILABLE_ALLOW;
	if (exclude != NULL)
		exclusion_copy(a, exclude, &out->exclude);
}

static void workload_copy(struct arena *a, const struct load *l, const struct workload_document *w,
			  struct fleet_workload *out)
{
	out->namespace = arena_string(a, w->namespace);
	out->name = arena_string(a, w->name);
	out->service_account = arena_string(a, w->service_account);
	out->spiffe_id = arena_join(a, "spiffe://", l->options.trust_domain, "/ns/", w->namespace,
				    "/sa/", w->service_account, NULL);
	out->labels = labels_copy(a, w);
	out->label_count = w->label_count;
	out->selector = w->selector;
	out->selected = w->selected == NULL ? NULL : arena_string(a, w->selected);
	out->from_state = w->from_state;
	out->netns_inode = w->netns_inode;
	out->boot_id = w->boot_id == NULL ? NULL : arena_string(a, w->boot_id);
	out->ports = ports_copy(a, w);
	out->port_count = w->port_count;
	switches_copy(a, l, w, out);
	out->addresses = array_copy(a, w->addresses, w->address_count, sizeof(*w->addresses));
	out->address_count = w->address_count;
	out->identity = w->identity;
	out->where = w->where;
	out->where.file = arena_string(a, w->where.file);
}

static void listeners_copy(struct arena *a, const struct load *l, struct fleet *f)
{
	struct fleet_listener *all = arena_array(a, l->listener_count, sizeof(*all));
	size_t n = l->listener_count;

	if (all == NULL)
		return;
	/* The load has the last one first. */
	for (const struct listener_document *d = l->listeners; d != NULL; d = d->next)
		all[--n] = (struct fleet_listener){d->at, d->upstream,
						   fleet_by_name(f, d->namespace, d->name)};
	f->listeners = all;
	f->listener_count = l->listener_count;
}

struct fleet *fleet_new(const struct load *l, uint64_t revision)
{
	struct fleet_part *p = calloc(1, sizeof(*p));
	struct fleet_workload *all;
	size_t n = 0;

	if (p == NULL)
		return NULL;
	p->fleet.revision = revision;
	all = arena_array(&p->arena, l->workload_count, sizeof(*all));
	for (const struct workload_document *w = l->workloads; w != NULL && all != NULL;
	     w = w->next)
		workload_copy(&p->arena, l, w, &all[n++]);
	p->fleet.workloads = all;
	p->fleet.workload_count = n;
	listeners_copy(&p->arena, l, &p->fleet);
	if (p->arena.failed) {
		fleet_free(&p->fleet);
		return NULL;
	}
	return &p->fleet;
}

const struct fleet_workload *fleet_by_name(const struct fleet *f, const char *namespace,
					   const char *name)
{
	size_t lo = 0, hi = f->workload_count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct fleet_workload *w = &f->workloads[mid];
		int c = strcmp(namespace, w->namespace);

		c = c != 0 ? c : strcmp(name, w->name);
		if (c == 0)
			return w;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}
