/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions, see policy.h. Nothing is allocated and nothing written here: any number of
 * threads may ask one policy.
 */
#include "proxy/policy.h"

#include <stdlib.h>

#include "proxy/policy_impl.h"
#include "proxy/regex.h"

struct policy *policy_ref(struct policy *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void policy_unref(struct policy *p)
{
	if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < p->group_count; i++)
		for (size_t j = 0; j < p->groups[i]->part_count; j++)
			regex_set_free(p->groups[i]->parts[j].set);
	regex_free(p->dots);
	arena_free(&p->arena);
	free(p);
}

uint64_t policy_revision(const struct policy *p)
{
	return p->revision;
}

const char *reading_name(enum reading r)
{
	static const char *const names[] = {"raw", "normal", "lenient"};

	return names[r];
}

const struct policy_rule *policy_rule_by_id(const struct policy *p, uint32_t id)
{
	return id == 0 || id > p->rule_count ? NULL : &p->rules[id - 1];
}

const struct subject *policy_subject(const struct policy *p, uint32_t identity)
{
	size_t lo = 0, hi = p->subject_count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->subjects[mid].identity == identity)
			return &p->subjects[mid];
		if (identity < p->subjects[mid].identity)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

bool policy_selects(const struct policy *p, uint32_t identity, enum direction direction)
{
	const struct subject *s = policy_subject(p, identity);

	return s != NULL && s->side[direction].isolated;
}

/* ---- connections ---- */

bool grant_has_peer(const struct grant *g, uint32_t peer)
{
	size_t lo = 0, hi;

	if (g->peers == NULL)
		return true;
	hi = g->peers->count;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (g->peers->ids[mid] == peer)
			return true;
		if (peer < g->peers->ids[mid])
			hi = mid;
		else
			lo = mid + 1;
	}
	return false;
}

bool grant_has_port(const struct grant *g, uint16_t port)
{
	for (size_t i = 0; i < g->port_count; i++)
		if (g->ports[i] == port)
			return true;
	return g->port_count == 0;
}

static const struct grant *first_that_has(const struct grant *const *grants, size_t count,
					  uint32_t peer, uint16_t port)
{
	for (size_t i = 0; i < count; i++)
		if (grant_has_port(grants[i], port) && grant_has_peer(grants[i], peer))
			return grants[i];
	return NULL;
}

struct decision policy_decide(const struct policy *p, enum verdict v, enum reason why,
			      enum direction direction, uint32_t id)
{
	return (struct decision){.verdict = v,
				 .reason = why,
				 .direction = direction,
				 .rule = policy_rule_by_id(p, id),
				 .rule_id = id};
}

const struct side *policy_side_of(const struct policy *p, uint32_t subject, uint32_t peer,
				  enum direction direction)
{
	const struct subject *s = policy_subject(p, subject);

	if (s == NULL || !s->side[direction].isolated)
		return NULL;
	if (direction == DIRECTION_INGRESS && peer == IDENTITY_HOST)
		return NULL;
	return &s->side[direction];
}

struct decision policy_side_decide(const struct policy *p, const struct side *side, uint32_t peer,
				   uint16_t port, enum direction direction)
{
	const struct grant *g;

	if (side == NULL)
		return policy_decide(p, VERDICT_DIRECT, REASON_NONE, direction, 0);
	g = first_that_has(side->direct, side->direct_count, peer, port);
	if (g != NULL)
		return policy_decide(p, VERDICT_DIRECT, REASON_NONE, direction, g->rule_id);
	g = first_that_has(side->proxied, side->proxied_count, peer, port);
	if (g != NULL)
		return policy_decide(p, VERDICT_PROXY, REASON_NONE, direction, g->rule_id);
	return policy_decide(p, VERDICT_DENY, REASON_POLICY_L4, direction, side->deny_rule);
}

struct decision policy_side(const struct policy *p, uint32_t subject, uint32_t peer, uint16_t port,
			    enum direction direction)
{
	return policy_side_decide(p, policy_side_of(p, subject, peer, direction), peer, port,
				  direction);
}

struct decision policy_both(struct decision out, struct decision in)
{
	if (in.verdict == VERDICT_PROXY)
		return in;
	if (out.verdict == VERDICT_PROXY)
		return out;
	return in.rule_id != 0 ? in : out.rule_id != 0 ? out : in;
}

struct decision policy_connection(const struct policy *p, const struct flow *flow)
{
	struct decision out = policy_side(p, flow->src, flow->dst, flow->port, DIRECTION_EGRESS);
	struct decision in;

	if (out.verdict == VERDICT_DENY)
		return out;
	in = policy_side(p, flow->dst, flow->src, flow->port, DIRECTION_INGRESS);
	if (in.verdict == VERDICT_DENY)
		return in;
	return policy_both(out, in);
}
