/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decisions, see policy.h. Nothing is allocated and nothing written here: any number of
 * threads may ask one policy.
 */
#include "proxy/policy.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/path_readings.h"
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
	for (size_t i = 0; i < p->regex_count; i++)
		regex_free(p->regexes[i]);
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

static bool grant_has(const struct grant *g, uint32_t peer, uint16_t port)
{
	return grant_has_port(g, port) && grant_has_peer(g, peer);
}

static struct decision decide(const struct policy *p, enum verdict v, enum reason why,
			      enum direction direction, uint32_t id)
{
	return (struct decision){.verdict = v,
				 .reason = why,
				 .direction = direction,
				 .rule = policy_rule_by_id(p, id),
				 .rule_id = id};
}

/* The side that is to be asked, or NULL where that direction is open to this peer: nothing
 * selects the subject, or the node itself comes in (its probes have to work). */
static const struct side *side_of(const struct policy *p, uint32_t subject, uint32_t peer,
				  enum direction direction)
{
	const struct subject *s = policy_subject(p, subject);

	if (s == NULL || !s->side[direction].isolated)
		return NULL;
	if (direction == DIRECTION_INGRESS && peer == IDENTITY_HOST)
		return NULL;
	return &s->side[direction];
}

struct decision policy_side(const struct policy *p, uint32_t subject, uint32_t peer, uint16_t port,
			    enum direction direction)
{
	const struct side *side = side_of(p, subject, peer, direction);
	uint32_t proxied = 0;

	if (side == NULL)
		return decide(p, VERDICT_DIRECT, REASON_NONE, direction, 0);
	for (size_t i = 0; i < side->count; i++) {
		const struct grant *g = side->grants[i];

		if (!grant_has(g, peer, port))
			continue;
		if (g->http_count == 0)
			return decide(p, VERDICT_DIRECT, REASON_NONE, direction, g->rule_id);
		proxied = proxied == 0 ? g->rule_id : proxied;
	}
	if (proxied != 0)
		return decide(p, VERDICT_PROXY, REASON_NONE, direction, proxied);
	return decide(p, VERDICT_DENY, REASON_POLICY_L4, direction, side->deny_rule);
}

/* Of two directions that both allow: the one that has a rule, the receiver's if both. */
static struct decision both(struct decision out, struct decision in)
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
	return both(out, in);
}

/* ---- requests ---- */

static bool ascii_line(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] >= 0x80 || p[i] == '\n')
			return false;
	return true;
}

bool pattern_match(const struct pattern *p, struct slice s)
{
	bool begins;

	switch (p->kind) {
	case PATTERN_ANY:
		return true;
	case PATTERN_LITERAL:
		return s.len == p->len && (s.len == 0 || memcmp(s.p, p->source, s.len) == 0);
	case PATTERN_PREFIX:
		begins = s.len >= p->len && (p->len == 0 || memcmp(s.p, p->source, p->len) == 0);
		if (!begins || ascii_line(s.p + p->len, s.len - p->len))
			return begins;
		break; /* newlines and non-ASCII: as RE2 says */
	case PATTERN_REGEX:
		break;
	}
	return regex_match(p->regex, s.p == NULL ? "" : s.p, s.len);
}

/* Several fields of one name are one, joined by commas (RFC 9110 5.3), as Envoy reads them. */
bool header_matches(const struct header_match *h, const struct message *head)
{
	const char *want = h->value;
	bool found = false;

	for (size_t i = 0; i < head->field_count; i++) {
		const struct field nth = message_nth(head, i), *f = &nth;

		if (!slice_is_nocase(f->name, h->name))
			continue;
		if (h->value == NULL)
			return true;
		if (found && *want++ != ',')
			return false;
		found = true;
		if (strnlen(want, f->value.len) < f->value.len ||
		    (f->value.len > 0 && memcmp(want, f->value.p, f->value.len) != 0))
			return false;
		want += f->value.len;
	}
	return found && *want == '\0';
}

/* All but the path. */
static bool http_matches_head(const struct http_match *m, const struct message *head)
{
	if (!pattern_match(&m->method, head->method) || !pattern_match(&m->host, head->authority))
		return false;
	for (size_t i = 0; i < m->header_count; i++)
		if (!header_matches(&m->headers[i], head))
			return false;
	return true;
}

static bool path_allowed(const struct http_match *m, struct slice reading)
{
	return m->path.kind == PATTERN_ANY ||
	       (reading.p != NULL && pattern_match(&m->path, reading));
}

/* The http rule that allows one reading, or 0. */
static uint32_t side_allows(const struct side *side, uint32_t peer, uint16_t port,
			    const struct message *head, struct slice reading)
{
	for (size_t i = 0; i < side->count; i++) {
		const struct grant *g = side->grants[i];

		if (!grant_has(g, peer, port))
			continue;
		for (size_t j = 0; j < g->http_count; j++)
			if (path_allowed(&g->http[j], reading) &&
			    http_matches_head(&g->http[j], head))
				return g->http[j].rule_id;
	}
	return 0;
}

/* `d` is what that direction said of the connection. */
static struct decision side_request(const struct policy *p, struct decision d, uint32_t subject,
				    uint32_t peer, uint16_t port, const struct message *head,
				    const struct path_readings *readings)
{
	const struct side *side = side_of(p, subject, peer, d.direction);
	uint32_t first = 0;

	if (d.verdict != VERDICT_PROXY || side == NULL)
		return d;
	for (unsigned i = 0; i < readings->count; i++) {
		uint32_t id = side_allows(side, peer, port, head, readings->item[i]);

		if (id == 0) {
			d = decide(p, VERDICT_DENY, REASON_POLICY_L7, d.direction, side->deny_rule);
			d.reading = (enum reading)i;
			return d;
		}
		first = i == 0 ? id : first;
	}
	return decide(p, VERDICT_DIRECT, REASON_NONE, d.direction, first);
}

struct decision policy_request(const struct policy *p, const struct flow *flow,
			       const struct message *head)
{
	struct decision out = policy_side(p, flow->src, flow->dst, flow->port, DIRECTION_EGRESS);
	struct decision in;
	struct path_readings readings;

	if (out.verdict == VERDICT_DENY)
		return out;
	in = policy_side(p, flow->dst, flow->src, flow->port, DIRECTION_INGRESS);
	if (in.verdict == VERDICT_DENY ||
	    (out.verdict != VERDICT_PROXY && in.verdict != VERDICT_PROXY))
		return in.verdict == VERDICT_DENY ? in : both(out, in);
	path_readings_make(&readings, head->path);
	out = side_request(p, out, flow->src, flow->dst, flow->port, head, &readings);
	if (out.verdict == VERDICT_DENY)
		return out;
	in = side_request(p, in, flow->dst, flow->src, flow->port, head, &readings);
	return in.verdict == VERDICT_DENY ? in : both(out, in);
}
