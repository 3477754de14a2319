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

bool http_headers_match(const struct http_match *m, const struct message *head)
{
	for (size_t i = 0; i < m->header_count; i++) {
		const struct header_match *h = &m->headers[i];

		if (h->never || (h->mismatch == MISMATCH_DENY && !header_matches(h, head)))
			return false;
	}
	return true;
}

/* ---- what each field matches ---- */

static bool has_id(const struct id_list *l, size_t from, size_t to, uint32_t id)
{
	for (size_t i = from; i < to; i++)
		if (l->items[i] == id)
			return true;
	return false;
}

/* The patterns among the regexes of the side, each once, though several of its lists may have it.
 * A set that runs out of memory matches none. */
static void add_regexes(const struct asking *q, enum http_field f, struct slice text)
{
	const struct http_index *http = q->side->http;
	struct policy_scratch *s = q->scratch;
	size_t from = s->ids[f].count, before;

	for (size_t i = 0; i < http->group_count[f]; i++) {
		const struct regex_part *part = regex_group_part(http->groups[f][i], text);
		const int *hits;
		int n = part == NULL ? 0
				     : regex_set_match(part->set, text.p, text.len, s->hits, &hits);

		s->starved |= n < 0;
		before = s->ids[f].count;
		for (int j = 0; j < n; j++)
			if (!has_id(&s->ids[f], from, before, part->ids[hits[j]]))
				s->failed |= !id_list_add(&s->ids[f], part->ids[hits[j]]);
	}
}

static void list_field(const struct asking *q, enum http_field f, struct slice text)
{
	const struct pattern_table *t = &q->p->patterns[f];
	struct policy_scratch *s = q->scratch;

	s->ids[f].count = 0;
	if (t->count == 0)
		return;
	if (text.p == NULL)
		text.p = "";
	s->failed |= !pattern_table_match(t, q->p->dots, text, &s->ids[f]);
	add_regexes(q, f, text);
}

/* Only a rule without a path allows a reading that there is not. */
static void list_path(const struct asking *q, struct slice reading)
{
	if (reading.p != NULL)
		list_field(q, HTTP_PATH, reading);
	else
		q->scratch->ids[HTTP_PATH].count = 0;
}

static void list_others(const struct asking *q)
{
	struct policy_scratch *s = q->scratch;

	list_field(q, HTTP_METHOD, s->head.method);
	list_field(q, HTTP_HOST, s->head.authority);
	s->ids[HTTP_HEADER].count = 0;
	s->failed |= !header_ids(q->p, &s->head, &s->ids[HTTP_HEADER]);
}

/* ---- the rules of what they match ---- */

/* Notes a rule that matched and has effects, in order. */
static void matched(struct policy_scratch *s, const struct http_entry *e)
{
	size_t at = s->matched_count;

	if (s->matched_count == s->matched_room) {
		size_t room = s->matched_room == 0 ? 16 : s->matched_room * 2;
		struct http_entry *more = realloc(s->matched, room * sizeof(*more));

		if (more == NULL) {
			s->failed = true;
			return;
		}
		s->matched = more;
		s->matched_room = room;
	}
	for (; at > 0 && s->matched[at - 1].order > e->order; at--)
		s->matched[at] = s->matched[at - 1];
	s->matched[at] = *e;
	s->matched_count++;
}

/* The first http rule that allows, so far. `all`: every rule with effects is asked, too. */
struct search {
	const struct asking *q;
	const struct http_entry *first;
	bool all;
};

static void search_bucket(struct search *x, const struct http_bucket *b)
{
	const struct asking *q = x->q;
	const struct http_entry *e = &q->side->http->entries[b->first], *end = e + b->count;

	for (; e < end; e++) {
		bool earlier = x->first == NULL || e->order < x->first->order;
		bool effects = x->all && e->match->effects;

		if (!earlier && !x->all)
			return;
		if ((!earlier && !effects) || !grant_has_port(e->grant, q->port) ||
		    !grant_has_peer(e->grant, q->peer) ||
		    !http_headers_match(e->match, &q->scratch->head))
			continue;
		if (earlier)
			x->first = e;
		if (effects)
			matched(q->scratch, e);
	}
}

static void search_key(struct search *x, const uint32_t *key)
{
	const struct http_index *http = x->q->side->http;
	uint64_t hash = http_key_hash(key);
	size_t at = 0;
	uint32_t i;

	while ((i = id_hash_next(&http->by_key, hash, &at)) != 0) {
		const struct http_bucket *b = &http->buckets[i - 1];

		if (memcmp(b->key, key, sizeof(b->key)) == 0) {
			search_bucket(x, b);
			return;
		}
	}
}

/* The next combination: of each field any of its ids, or 0. False after the last. */
static bool next_key(const struct policy_scratch *s, size_t *at, uint32_t *key)
{
	for (enum http_field f = 0; f < HTTP_FIELDS; f++) {
		if (at[f] < s->ids[f].count) {
			key[f] = s->ids[f].items[at[f]++];
			return true;
		}
		at[f] = 0;
		key[f] = 0;
	}
	return false;
}

/* Does any rule ask for just these fields? */
static bool has_shape(const struct http_index *http, const uint32_t *key)
{
	unsigned shape = (key[HTTP_PATH] != 0 ? 1U << HTTP_PATH : 0U) |
			 (key[HTTP_METHOD] != 0 ? 1U << HTTP_METHOD : 0U) |
			 (key[HTTP_HOST] != 0 ? 1U << HTTP_HOST : 0U) |
			 (key[HTTP_HEADER] != 0 ? 1U << HTTP_HEADER : 0U);

	return http->shapes >> shape & 1;
}

/* Is there a rule that asks for no field but those that match something? */
static bool may_match(const struct http_index *http, const struct policy_scratch *s)
{
	uint32_t shapes = 1; /* a bit for each set of such fields */

	for (enum http_field f = 0; f < HTTP_FIELDS; f++)
		if (s->ids[f].count > 0)
			shapes |= shapes << (1U << f);
	return (http->shapes & shapes) != 0;
}

/* The first http rule that allows one reading, or NULL. With effects every rule is asked, and
 * those of the raw reading are noted. */
static const struct http_match *allows(const struct asking *q, enum reading reading)
{
	struct search x = {.q = q, .all = q->side->http->effects && reading == READING_RAW};
	uint32_t key[HTTP_FIELDS] = {0};
	size_t at[HTTP_FIELDS] = {0};

	list_path(q, q->readings->item[reading]);
	if (!may_match(q->side->http, q->scratch))
		return NULL;
	do
		if (has_shape(q->side->http, key))
			search_key(&x, key);
	while (next_key(q->scratch, at, key));
	return x.first == NULL ? NULL : x.first->match;
}

static enum reason denial_of(const struct policy_scratch *s)
{
	if (s->failed)
		return REASON_NO_MEMORY;
	return s->starved ? REASON_POLICY_MEMORY : REASON_POLICY_L7;
}

/* `d` is what that direction said of the connection. */
static struct decision ask(const struct asking *q, struct decision d)
{
	struct policy_scratch *s = q->scratch;
	uint32_t first = 0;

	s->matched_count = 0;
	list_others(q);
	for (unsigned i = 0; i < q->readings->count; i++) {
		const struct http_match *m = allows(q, (enum reading)i);

		if (m == NULL) {
			d = policy_decide(q->p, VERDICT_DENY, denial_of(s), d.direction,
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

static struct decision ask_both(struct asking q, const struct flow *flow,
				const struct side *const *sides, struct decision out,
				struct decision in)
{
	struct path_readings readings;

	path_readings_make(&readings, q.scratch->head.path);
	q.readings = &readings;
	if (out.verdict == VERDICT_PROXY) {
		q.side = sides[DIRECTION_EGRESS];
		q.peer = flow->dst;
		out = ask(&q, out);
	}
	if (out.verdict == VERDICT_DENY)
		return out;
	if (in.verdict == VERDICT_PROXY) {
		q.side = sides[DIRECTION_INGRESS];
		q.peer = flow->src;
		in = ask(&q, in);
	}
	return in.verdict == VERDICT_DENY ? in : policy_both(out, in);
}

struct decision policy_request(const struct policy *p, const struct flow *flow,
			       const struct message *head, struct policy_scratch *s)
{
	const struct side *sides[2] = {
		[DIRECTION_EGRESS] = policy_side_of(p, flow->src, flow->dst, DIRECTION_EGRESS),
		[DIRECTION_INGRESS] = policy_side_of(p, flow->dst, flow->src, DIRECTION_INGRESS)};
	struct asking q = {.p = p, .port = flow->port, .scratch = s};
	struct decision out, in;

	s->head = *head;
	s->mismatches.count = 0;
	s->edited = s->failed = s->starved = false;
	out = policy_side_decide(p, sides[DIRECTION_EGRESS], flow->dst, flow->port,
				 DIRECTION_EGRESS);
	if (out.verdict == VERDICT_DENY)
		return out;
	in = policy_side_decide(p, sides[DIRECTION_INGRESS], flow->src, flow->port,
				DIRECTION_INGRESS);
	if (in.verdict == VERDICT_DENY)
		return in;
	if (out.verdict != VERDICT_PROXY && in.verdict != VERDICT_PROXY)
		return policy_both(out, in);
	out = ask_both(q, flow, sides, out, in);
	if (out.verdict == VERDICT_DENY)
		s->mismatches.count = 0;
	else
		out.edited = s->edited;
	return out;
}
