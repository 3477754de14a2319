/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel's map shall hold. Its lookup takes the first key that is present of
 * (peer, port) (peer, any) (any, port) (any, any), which is no union: so every cell whose
 * answer differs from what the lookup would fall through to gets a key of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/policy_impl.h"

struct emitter {
	const struct policy *p;
	const struct subject *subject;
	enum direction direction;
	uint32_t *peers; /* that some rule names, sorted, IDENTITY_ANY not among them */
	uint16_t *ports; /* that some rule names, sorted */
	size_t peer_count, port_count;
	struct policy_entry
		*base; /* of peers that no rule names: ports in order, then the others */
	struct policy_entry *row; /* of one peer, the same way */
	int (*put)(void *arg, const struct policy_key *key, const struct policy_entry *entry);
	void *arg;
};

static int order32(const void *x, const void *y)
{
	const uint32_t *a = x, *b = y;

	return *a < *b ? -1 : *a > *b;
}

static int order16(const void *x, const void *y)
{
	const uint16_t *a = x, *b = y;

	return *a < *b ? -1 : *a > *b;
}

static size_t unique32(uint32_t *v, size_t n)
{
	size_t out = 0;

	if (n > 1)
		qsort(v, n, sizeof(*v), order32);
	for (size_t i = 0; i < n; i++)
		if (out == 0 || v[out - 1] != v[i])
			v[out++] = v[i];
	return out;
}

static size_t unique16(uint16_t *v, size_t n)
{
	size_t out = 0;

	if (n > 1)
		qsort(v, n, sizeof(*v), order16);
	for (size_t i = 0; i < n; i++)
		if (out == 0 || v[out - 1] != v[i])
			v[out++] = v[i];
	return out;
}

/* Peers and ports that make a difference on this side. */
static int collect(struct emitter *e, const struct side *side)
{
	size_t peers = 1, ports = 0;

	for (size_t i = 0; i < side->count; i++) {
		peers += side->grants[i]->peers == NULL ? 0 : side->grants[i]->peers->count;
		ports += side->grants[i]->port_count;
	}
	e->peers = malloc(peers * sizeof(*e->peers));
	e->ports = malloc((ports + 1) * sizeof(*e->ports));
	if (e->peers == NULL || e->ports == NULL)
		return -ENOMEM;
	peers = ports = 0;
	for (size_t i = 0; i < side->count; i++) {
		const struct grant *g = side->grants[i];

		if (g->peers != NULL && g->peers->count > 0) {
			memcpy(e->peers + peers, g->peers->ids, g->peers->count * sizeof(uint32_t));
			peers += g->peers->count;
		}
		if (g->port_count > 0)
			memcpy(e->ports + ports, g->ports, g->port_count * sizeof(uint16_t));
		ports += g->port_count;
	}
	if (e->direction == DIRECTION_INGRESS)
		e->peers[peers++] = IDENTITY_HOST; /* always let in */
	e->peer_count = unique32(e->peers, peers);
	e->port_count = unique16(e->ports, ports);
	e->base = malloc((e->port_count + 1) * sizeof(*e->base));
	e->row = malloc((e->port_count + 1) * sizeof(*e->row));
	return e->base == NULL || e->row == NULL ? -ENOMEM : 0;
}

/* IDENTITY_ANY and port 0 are in no peer list and no port list: they stand for the others. */
static void fill(const struct emitter *e, uint32_t peer, struct policy_entry *row)
{
	for (size_t i = 0; i <= e->port_count; i++) {
		uint16_t port = i < e->port_count ? e->ports[i] : 0;
		struct decision d =
			policy_side(e->p, e->subject->identity, peer, port, e->direction);

		row[i] = (struct policy_entry){.verdict = d.verdict, .rule = d.rule_id};
	}
}

static bool same(const struct policy_entry *a, const struct policy_entry *b)
{
	return a->verdict == b->verdict && a->rule == b->rule;
}

static int emit(const struct emitter *e, uint32_t peer, uint16_t port,
		const struct policy_entry *entry)
{
	struct policy_key key = {.subject = e->subject->identity,
				 .peer = peer,
				 .port = htons(port),
				 .direction = (__u8)e->direction,
				 .protocol = IPPROTO_TCP};

	return e->put(e->arg, &key, entry);
}

/* (peer, any) hides every (any, port), so with it each port is compared with it, without it
 * with the row below. */
static int emit_row(const struct emitter *e, uint32_t peer)
{
	const struct policy_entry *other = &e->row[e->port_count];
	bool whole = peer == IDENTITY_ANY || !same(other, &e->base[e->port_count]);
	int err = whole ? emit(e, peer, 0, other) : 0;

	for (size_t i = 0; i < e->port_count && err >= 0; i++)
		if (!same(&e->row[i], whole ? other : &e->base[i]))
			err = emit(e, peer, e->ports[i], &e->row[i]);
	return err;
}

static int emit_side(struct emitter *e)
{
	const struct side *side = &e->subject->side[e->direction];
	int err = collect(e, side);

	if (err < 0)
		return err;
	fill(e, IDENTITY_ANY, e->base);
	memcpy(e->row, e->base, (e->port_count + 1) * sizeof(*e->row));
	err = emit_row(e, IDENTITY_ANY);
	for (size_t i = 0; i < e->peer_count && err >= 0; i++) {
		fill(e, e->peers[i], e->row);
		err = emit_row(e, e->peers[i]);
	}
	return err;
}

int policy_kernel_entries(const struct policy *p,
			  int (*put)(void *arg, const struct policy_key *key,
				     const struct policy_entry *entry),
			  void *arg)
{
	int err = 0;

	for (size_t i = 0; i < p->subject_count && err >= 0; i++) {
		for (int d = 0; d < 2 && err >= 0; d++) {
			struct emitter e = {.p = p,
					    .subject = &p->subjects[i],
					    .direction = (enum direction)d,
					    .put = put,
					    .arg = arg};

			if (!p->subjects[i].local || !p->subjects[i].side[d].isolated)
				continue;
			err = emit_side(&e);
			free(e.peers);
			free(e.ports);
			free(e.base);
			free(e.row);
		}
	}
	return err < 0 ? err : 0;
}
