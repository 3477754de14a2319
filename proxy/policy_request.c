/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, see policy.h: every reading of the path against the http rules of both ends. */
#include <stdlib.h>
#include <string.h>

#include "proxy/path_readings.h"
#include "proxy/policy_impl.h"
#include "proxy/regex.h"

/* One end's rules and one request. */
struct asking {
	const struct policy *p;
	const struct side *side;
	uint32_t peer;
	uint16_t port;
	const struct path_readings *readings;
	struct policy_scratch *scratch;
};

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

bool http_matches_head(const struct http_match *m, const struct message *head)
{
	if (!pattern_match(&m->method, head->method) || !pattern_match(&m->host, head->authority))
		return false;
	for (size_t i = 0; i < m->header_count; i++) {
		const struct header_match *h = &m->headers[i];

		if (h->never || (h->mismatch == MISMATCH_DENY && !header_matches(h, head)))
			return false;
	}
	return true;
}

static bool path_allowed(const struct http_match *m, struct slice reading)
{
	return m->path.kind == PATTERN_ANY ||
	       (reading.p != NULL && pattern_match(&m->path, reading));
}

/* Notes a rule that matched and has effects. */
static void matched(struct policy_scratch *s, const struct http_match *m)
{
	if (s->matched_count == s->matched_room) {
		size_t room = s->matched_room == 0 ? 16 : s->matched_room * 2;
		const struct http_match **more = realloc(s->matched, room * sizeof(*more));

		if (more == NULL) {
			s->failed = true;
			return;
		}
		s->matched = more;
		s->matched_room = room;
	}
	s->matched[s->matched_count++] = m;
}

/* The first http rule that allows one reading, or NULL. With effects every rule is asked, and
 * those of the raw reading are noted. */
static const struct http_match *allows(const struct asking *q, enum reading reading)
{
	bool all = q->side->effects && reading == READING_RAW;
	const struct http_match *first = NULL;

	for (size_t i = 0; i < q->side->count && (all || first == NULL); i++) {
		const struct grant *g = q->side->grants[i];

		if (!grant_has_port(g, q->port) || !grant_has_peer(g, q->peer))
			continue;
		for (size_t j = 0; j < g->http_count && (all || first == NULL); j++) {
			const struct http_match *m = &g->http[j];

			if (!path_allowed(m, q->readings->item[reading]) ||
			    !http_matches_head(m, &q->scratch->head))
				continue;
			first = first == NULL ? m : first;
			if (all && m->effects)
				matched(q->scratch, m);
		}
	}
	return first;
}

/* `d` is what that direction said of the connection. */
static struct decision ask(const struct asking *q, struct decision d)
{
	struct policy_scratch *s = q->scratch;
	uint32_t first = 0;

	s->matched_count = 0;
	for (unsigned i = 0; i < q->readings->count; i++) {
		const struct http_match *m = allows(q, (enum reading)i);

		if (m == NULL) {
			d = policy_decide(q->p, VERDICT_DENY, REASON_POLICY_L7, d.direction,
					  q->side->deny_rule);
			d.reading = (enum reading)i;
			return d;
		}
		first = i == 0 ? m->rule_id : first;
	}
	if (s->failed || !policy_edit(s))
		return policy_decide(q->p, VERDICT_DENY, REASON_NO_MEMORY, d.direction,
				     q->side->deny_rule);
	return policy_decide(q->p, VERDICT_DIRECT, REASON_NONE, d.direction, first);
}

static struct decision ask_both(const struct policy *p, const struct flow *flow,
				struct decision out, struct decision in, struct policy_scratch *s)
{
	struct path_readings readings;
	struct asking q = {.p = p, .port = flow->port, .readings = &readings, .scratch = s};

	path_readings_make(&readings, s->head.path);
	q.side = policy_side_of(p, flow->src, flow->dst, DIRECTION_EGRESS);
	q.peer = flow->dst;
	if (out.verdict == VERDICT_PROXY && q.side != NULL)
		out = ask(&q, out);
	if (out.verdict == VERDICT_DENY)
		return out;
	q.side = policy_side_of(p, flow->dst, flow->src, DIRECTION_INGRESS);
	q.peer = flow->src;
	if (in.verdict == VERDICT_PROXY && q.side != NULL)
		in = ask(&q, in);
	return in.verdict == VERDICT_DENY ? in : policy_both(out, in);
}

struct decision policy_request(const struct policy *p, const struct flow *flow,
			       const struct message *head, struct policy_scratch *s)
{
	struct decision out = policy_side(p, flow->src, flow->dst, flow->port, DIRECTION_EGRESS);
	struct decision in, d;

	s->head = *head;
	s->mismatches.count = 0;
	s->edited = s->failed = false;
	if (out.verdict == VERDICT_DENY)
		return out;
	in = policy_side(p, flow->dst, flow->src, flow->port, DIRECTION_INGRESS);
	if (in.verdict == VERDICT_DENY)
		return in;
	if (out.verdict != VERDICT_PROXY && in.verdict != VERDICT_PROXY)
		return policy_both(out, in);
	d = ask_both(p, flow, out, in, s);
	if (d.verdict != VERDICT_DENY) {
		d.mismatches = s->mismatches;
		d.edited = s->edited;
	}
	return d;
}
