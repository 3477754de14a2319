/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came nearest to allowing a flow that was refused: the rule with the fewest fields in
 * the way, and these fields in words. Only asked by people, so it may take its time.
 */
#include <string.h>

#include "config/text.h"
#include "proxy/path_readings.h"
#include "proxy/policy_impl.h"

struct query {
	const struct policy *p;
	const struct side *side;
	const struct subject *subject;
	uint32_t peer;
	uint16_t port;
	const struct message *head;
	struct decision denied;
	struct near_miss *out;
};

static const char *peer_name(const struct query *q)
{
	const struct subject *s = policy_subject(q->p, q->peer);

	return s == NULL ? "this peer" : s->display;
}

static void begin(struct query *q, uint32_t rule_id, struct text *why)
{
	q->out->rule = policy_rule_by_id(q->p, rule_id);
	q->out->where = q->out->rule->where;
	text_fixed(why, q->out->why, sizeof(q->out->why));
}

static void say_peers(const struct query *q, const struct grant *g, struct text *why)
{
	if (g->peers->count == 0)
		text_adds(why, g->peers->field, " select nobody", NULL);
	else
		text_adds(why, g->peers->field, " do not select ", peer_name(q), NULL);
}

static void say_ports(const struct query *q, const struct grant *g, struct text *why)
{
	text_add(why, "port ");
	for (size_t i = 0; i < g->port_count && i < 4; i++) {
		text_add(why, i == 0 ? "" : ",");
		text_add_number(why, g->ports[i]);
	}
	text_add(why, g->port_count > 4 ? ",… ≠ " : " ≠ ");
	text_add_number(why, q->port);
}

/* 1 for a port, 2 for a peer in the way: a port is mistaken more easily. */
static unsigned grant_misses(const struct query *q, const struct grant *g)
{
	return (grant_has_port(g, q->port) ? 0U : 1U) + (grant_has_peer(g, q->peer) ? 0U : 2U);
}

static void near_connection(struct query *q)
{
	const struct grant *best = NULL;
	unsigned misses = 4;
	struct text why;

	for (size_t i = 0; i < q->side->count; i++) {
		unsigned m = grant_misses(q, q->side->grants[i]);

		if (m < misses) {
			misses = m;
			best = q->side->grants[i];
		}
	}
	if (best == NULL)
		return;
	begin(q, best->rule_id, &why);
	if (misses == 1) {
		q->out->where = best->port_at[0];
	} else {
		q->out->where = best->peers->where;
		say_peers(q, best, &why);
	}
	if (misses == 3)
		text_add(&why, ", ");
	if (misses & 1)
		say_ports(q, best, &why);
}

/* ---- requests ---- */

static void comma(struct text *why)
{
	if (why->len > 0)
		text_add(why, ", ");
}

static void say_slice(struct text *why, struct slice s)
{
	if (s.len == 0) {
		text_add(why, "\"\"");
		return;
	}
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		text_add_n(why, c < 0x20 || c == 0x7f ? "?" : &s.p[i], 1);
	}
}

/* The rule says the path without its query: the commonest mistake of all. */
static void say_query(const struct query *q, const struct http_match *m, struct text *why)
{
	struct slice path = q->head->path;
	const char *mark = path.len > 0 ? memchr(path.p, '?', path.len) : NULL;

	if (mark == NULL || http_field_matches(q->p, m, HTTP_PATH, path))
		return;
	path.len = (size_t)(mark - path.p);
	if (http_field_matches(q->p, m, HTTP_PATH, path))
		text_add(why, " (the query belongs to the path)");
}

/* Counts the field when it is in the way, and says so when `why` is there. */
static unsigned miss(const struct query *q, const struct http_match *m, enum http_field f,
		     struct text *why)
{
	static const char *const names[] = {"path", "method", "host"};
	const struct message *head = q->head;
	struct slice value = f == HTTP_PATH	? head->path
			     : f == HTTP_METHOD ? head->method
						: head->authority;

	if (http_field_matches(q->p, m, f, value))
		return 0;
	if (why != NULL) {
		comma(why);
		text_adds(why, names[f], " ", m->source[f], " ≠ ", NULL);
		say_slice(why, value);
	}
	return 1;
}

static unsigned miss_header(const struct header_match *h, const struct message *head,
			    struct text *why)
{
	struct slice v = message_field(head, h->name);

	if (!h->never && (h->mismatch != MISMATCH_DENY || header_matches(h, head)))
		return 0;
	if (why == NULL)
		return 1;
	comma(why);
	text_adds(why, "header ", h->name, NULL);
	if (h->never) {
		text_adds(why, " never matches: there is no Secret ", h->secret, NULL);
	} else if (h->secret != NULL) {
		text_adds(why, v.p == NULL ? " is missing, its value is" : " is not the value",
			  " of Secret ", h->secret, NULL);
	} else if (v.p == NULL) {
		text_add(why, " is missing");
	} else {
		text_adds(why, " \"", h->value, "\" ≠ ", NULL);
		say_slice(why, v);
	}
	return 1;
}

static unsigned http_misses(const struct query *q, const struct http_match *m, struct text *why)
{
	unsigned n = miss(q, m, HTTP_METHOD, why) + miss(q, m, HTTP_PATH, why);

	if (why != NULL)
		say_query(q, m, why);
	n += miss(q, m, HTTP_HOST, why);
	for (size_t i = 0; i < m->header_count; i++)
		n += miss_header(&m->headers[i], q->head, why);
	return n;
}

/* Bytes that a path has in common with how the rule begins. */
static size_t common(const struct http_match *m, struct slice path)
{
	size_t n = 0;

	while (m->source[HTTP_PATH] != NULL && n < path.len && m->source[HTTP_PATH][n] == path.p[n])
		n++;
	return n;
}

static const struct http_match *nearest_http(const struct query *q, unsigned *misses)
{
	const struct http_match *best = NULL;

	*misses = UINT32_MAX;
	for (size_t i = 0; i < q->side->count; i++) {
		const struct grant *g = q->side->grants[i];

		for (size_t j = 0; grant_misses(q, g) == 0 && j < g->http_count; j++) {
			unsigned n = http_misses(q, &g->http[j], NULL);

			if (n < *misses || (n == *misses && common(&g->http[j], q->head->path) >
								    common(best, q->head->path))) {
				*misses = n;
				best = &g->http[j];
			}
		}
	}
	return best;
}

static void say_reading(const struct query *q, struct text *why)
{
	struct path_readings readings;
	struct slice s;

	path_readings_make(&readings, q->head->path);
	s = readings.item[q->denied.reading];
	text_add(why, "allows the path as received, but ");
	if (s.p == NULL) {
		text_adds(why, "it has no ", reading_name(q->denied.reading),
			  " reading (escapes remain after three decodings)", NULL);
		return;
	}
	text_adds(why, "not its ", reading_name(q->denied.reading), " reading ", NULL);
	say_slice(why, s);
}

static void near_request(struct query *q)
{
	unsigned misses;
	const struct http_match *best = nearest_http(q, &misses);
	struct text why;

	if (best == NULL)
		return;
	begin(q, best->rule_id, &why);
	if (misses == 0)
		say_reading(q, &why);
	else
		(void)http_misses(q, best, &why);
}

static void near(struct query *q, const struct flow *flow)
{
	const struct policy *p = q->p;
	bool out_bound;

	if (q->denied.verdict != VERDICT_DENY)
		return;
	out_bound = q->denied.direction == DIRECTION_EGRESS;
	q->subject = policy_subject(p, out_bound ? flow->src : flow->dst);
	q->peer = out_bound ? flow->dst : flow->src;
	if (q->subject == NULL)
		return;
	q->side = &q->subject->side[q->denied.direction];
	if (q->denied.reason == REASON_POLICY_L7 || q->denied.reason == REASON_POLICY_MEMORY)
		near_request(q);
	else if (q->denied.reason == REASON_POLICY_L4)
		near_connection(q);
}

void policy_near_miss(const struct policy *p, const struct flow *flow, const struct message *head,
		      struct near_miss *out)
{
	struct query q = {.p = p, .port = flow->port, .out = out};
	struct policy_scratch *s;

	*out = (struct near_miss){0};
	if (head == NULL) {
		q.denied = policy_connection(p, flow);
		near(&q, flow);
		return;
	}
	s = policy_scratch_new();
	if (s == NULL)
		return;
	q.denied = policy_request(p, flow, head, s);
	q.head = policy_head(s); /* as the source's rules made it */
	near(&q, flow);
	policy_scratch_free(s);
}
