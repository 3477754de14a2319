/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules -> struct policy: selectors are resolved to identity numbers here, so that a
 * decision compares numbers only. Rule ids are given in the order of the documents.
 */
#include <stdlib.h>
#include <string.h>

#include "config/rules.h"
#include "proxy/policy_impl.h"
#include "proxy/regex.h"

struct compiler {
	struct policy *p;
	struct report *report;
	const struct identity_labels *identities;
	size_t identity_count;
	size_t rule_room;
	size_t *grant_room[2]; /* by direction and subject */
	bool failed;
};

static const struct label *label_find(const struct identity_labels *who, const char *key)
{
	size_t lo = 0, hi = who->label_count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(key, who->labels[mid].key);

		if (c == 0)
			return &who->labels[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static bool requirement_holds(const struct requirement *r, const struct label *l)
{
	bool in = false;

	if (l != NULL)
		for (size_t i = 0; i < r->value_count; i++)
			in |= strcmp(l->value, r->values[i]) == 0;
	switch (r->op) {
	case REQUIRE_IN:
		return in;
	case REQUIRE_NOT_IN:
		return !in;
	case REQUIRE_EXISTS:
		return l != NULL;
	case REQUIRE_ABSENT:
		return l == NULL;
	}
	return false;
}

bool selector_matches(const struct label_selector *s, const struct identity_labels *who)
{
	bool reserved = who->identity < IDENTITY_FIRST;

	if (s->reserved != reserved)
		return false;
	if (s->namespace != NULL && strcmp(s->namespace, who->namespace) != 0)
		return false;
	for (size_t i = 0; i < s->count; i++)
		if (!requirement_holds(&s->items[i], label_find(who, s->items[i].key)))
			return false;
	return true;
}

static char *keep(struct compiler *c, const char *s)
{
	char *copy = s == NULL ? NULL : arena_string(&c->p->arena, s);

	c->failed |= s != NULL && copy == NULL;
	return copy;
}

static void *keep_array(struct compiler *c, size_t count, size_t size)
{
	void *p = arena_array(&c->p->arena, count, size);

	c->failed |= p == NULL;
	return p;
}

static struct location keep_location(struct compiler *c, struct location at)
{
	at.file = keep(c, at.file);
	return at;
}

static const char *keep_place(struct compiler *c, struct location at)
{
	char line[sizeof "4294967295"];
	struct text t;
	char *place;

	text_fixed(&t, line, sizeof line);
	text_add_number(&t, at.line);
	place = arena_join(&c->p->arena, at.file, ":", line, NULL);
	c->failed |= place == NULL;
	return place;
}

static uint32_t rule_add(struct compiler *c, const struct rule_set *set, struct location where)
{
	struct policy *p = c->p;
	struct policy_rule *r = arena_push(&p->arena, (void **)&p->rules, &p->rule_count,
					   &c->rule_room, sizeof(*r));

	if (r == NULL) {
		c->failed = true;
		return 0;
	}
	r->policy = keep(c, set->policy);
	r->kind = keep(c, set->kind);
	r->where = keep_location(c, where);
	r->place = keep_place(c, where);
	return (uint32_t)p->rule_count;
}

static void pattern_keep(struct compiler *c, struct http_match *m, enum http_field f,
			 const char *source)
{
	m->source[f] = keep(c, source);
	m->pattern[f] = pattern_make(&c->p->arena, &c->p->patterns[f], m->source[f]);
	c->failed |= m->pattern[f] == NULL;
}

static void headers_make(struct compiler *c, const struct http_rule *r, struct http_match *m)
{
	struct header_match *h = keep_array(c, r->header_count, sizeof(*h));

	for (size_t i = 0; h != NULL && i < r->header_count; i++) {
		const struct header_rule *from = &r->headers[i];

		h[i].name = keep(c, from->name);
		h[i].value = keep(c, from->value);
		h[i].mismatch = from->mismatch;
		h[i].never = from->never;
		h[i].secret = keep(c, from->secret);
		h[i].where = keep_location(c, from->where);
		m->effects |= from->mismatch != MISMATCH_DENY;
		c->p->arena.secret |= from->secret != NULL;
	}
	m->headers = h;
	m->header_count = r->header_count;
}

static const struct http_match *http_make(struct compiler *c, const struct rule_set *set,
					  const struct port_rule *ports)
{
	struct http_match *m = keep_array(c, ports->http_count, sizeof(*m));

	for (size_t i = 0; m != NULL && i < ports->http_count; i++) {
		const struct http_rule *r = &ports->http[i];

		pattern_keep(c, &m[i], HTTP_PATH, r->path);
		pattern_keep(c, &m[i], HTTP_METHOD, r->method);
		pattern_keep(c, &m[i], HTTP_HOST, r->host);
		headers_make(c, r, &m[i]);
		m[i].rule_id = rule_add(c, set, r->where);
		c->failed |= c->failed || !header_id_make(c->p, &m[i]);
	}
	c->failed |= c->failed ||
		     !groups_make(c->p, c->report, ports->where, set->policy, m, ports->http_count);
	return m;
}

static bool peers_match(const struct rule_item *item, const struct identity_labels *who)
{
	for (size_t i = 0; i < item->peer_count; i++)
		if (selector_matches(&item->peers[i], who))
			return true;
	return false;
}

static const struct peer_set *peers_make(struct compiler *c, const struct rule_item *item)
{
	struct peer_set *s = keep_array(c, 1, sizeof(*s));
	uint32_t *ids = keep_array(c, c->identity_count, sizeof(*ids));

	if (s == NULL || ids == NULL)
		return NULL;
	s->ids = ids;
	s->field = keep(c, item->peer_field);
	s->where = keep_location(c, item->peers_at);
	for (size_t i = 0; i < c->identity_count; i++)
		if (peers_match(item, &c->identities[i]))
			ids[s->count++] = c->identities[i].identity;
	return s;
}

static void ports_make(struct compiler *c, struct grant *g, const struct port_rule *r)
{
	uint16_t *ports = keep_array(c, r->count, sizeof(*ports));
	struct location *at = keep_array(c, r->count, sizeof(*at));

	if (ports == NULL || at == NULL)
		return;
	for (size_t i = 0; i < r->count; i++) {
		ports[i] = r->ports[i];
		at[i] = keep_location(c, r->port_at[i]);
	}
	g->ports = ports;
	g->port_at = at;
	g->port_count = r->count;
}

/* Gives the grant to every subject that the policy selects. */
static void grant_give(struct compiler *c, const struct rule_set *set, enum direction d,
		       const struct grant *g)
{
	for (size_t i = 0; i < c->p->subject_count; i++) {
		struct side *side = &c->p->subjects[i].side[d];
		const struct grant **slot;

		if (!selector_matches(&set->subject, &c->identities[i]))
			continue;
		slot = arena_push(&c->p->arena, (void **)&side->grants, &side->count,
				  &c->grant_room[d][i], sizeof(*slot));
		if (slot == NULL)
			c->failed = true;
		else
			*slot = g;
	}
}

static void item_compile(struct compiler *c, const struct rule_set *set,
			 const struct rule_item *item)
{
	const struct peer_set *peers = item->any_peer ? NULL : peers_make(c, item);
	size_t n = item->port_count > 0 ? item->port_count : 1;

	if (item->any_peer && item->port_count == 0)
		return; /* `- {}`: default deny, nothing allowed */
	for (size_t i = 0; i < n && !c->failed; i++) {
		const struct port_rule *r = item->port_count > 0 ? &item->ports[i] : NULL;
		struct grant *g = keep_array(c, 1, sizeof(*g));

		if (g == NULL)
			return;
		g->peers = peers;
		g->rule_id = rule_add(c, set, r != NULL ? r->where : item->where);
		if (r != NULL) {
			ports_make(c, g, r);
			g->http = http_make(c, set, r);
			g->http_count = r->http_count;
		}
		if (!c->failed)
			grant_give(c, set, item->direction, g);
	}
}

static void set_compile(struct compiler *c, const struct rule_set *set)
{
	uint32_t id = rule_add(c, set, set->where);

	for (size_t i = 0; i < c->p->subject_count; i++) {
		if (!selector_matches(&set->subject, &c->identities[i]))
			continue;
		for (int d = 0; d < 2; d++) {
			struct side *side = &c->p->subjects[i].side[d];

			if (!set->section[d] || side->isolated)
				continue;
			side->isolated = true;
			side->deny_rule = id;
		}
	}
	for (size_t i = 0; i < set->count && !c->failed; i++)
		item_compile(c, set, &set->items[i]);
}

static void subjects_make(struct compiler *c)
{
	struct policy *p = c->p;

	p->subjects = keep_array(c, c->identity_count, sizeof(*p->subjects));
	c->grant_room[0] = calloc(c->identity_count + 1, sizeof(size_t));
	c->grant_room[1] = calloc(c->identity_count + 1, sizeof(size_t));
	if (p->subjects == NULL || c->grant_room[0] == NULL || c->grant_room[1] == NULL) {
		c->failed = true;
		return;
	}
	p->subject_count = c->identity_count;
	for (size_t i = 0; i < c->identity_count; i++) {
		p->subjects[i].identity = c->identities[i].identity;
		p->subjects[i].local = c->identities[i].local;
		p->subjects[i].display = keep(c, c->identities[i].display);
	}
}

/* ---- rules that void each other ---- */

static bool peers_overlap(const struct grant *a, const struct grant *b)
{
	if (a->peers == NULL || b->peers == NULL || a->peers == b->peers)
		return true;
	for (size_t i = 0; i < a->peers->count; i++)
		if (grant_has_peer(b, a->peers->ids[i]))
			return true;
	return false;
}

static bool ports_overlap(const struct grant *a, const struct grant *b)
{
	if (a->port_count == 0 || b->port_count == 0)
		return true;
	for (size_t i = 0; i < a->port_count; i++)
		if (grant_has_port(b, a->ports[i]))
			return true;
	return false;
}

/* The finding's place is a path of the input, the policy's own copy of it would not be found. */
static struct location original(const struct compiler *c, struct location at)
{
	for (size_t i = 0; i < c->report->file_count; i++)
		if (strcmp(c->report->files[i].path, at.file) == 0)
			at.file = c->report->files[i].path;
	return at;
}

static void warn_void(struct compiler *c, const struct grant *l7, const struct grant *l4)
{
	const struct policy_rule *a = &c->p->rules[l7->rule_id - 1];
	const struct policy_rule *b = &c->p->rules[l4->rule_id - 1];
	char place[320];

	report_warning(c->report, original(c, a->where), "the http rules of ", a->policy,
		       " have no effect where ", b->policy, " (",
		       report_place(b->where, place, sizeof(place)),
		       ") allows the same connections without http rules", NULL);
}

struct pairs {
	uint32_t (*ids)[2]; /* told already */
	size_t count, room;
	bool failed;
};

static bool pair_new(struct pairs *s, uint32_t a, uint32_t b)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->ids[i][0] == a && s->ids[i][1] == b)
			return false;
	if (s->count == s->room) {
		size_t room = s->room == 0 ? 16 : s->room * 2;
		uint32_t(*ids)[2] = realloc(s->ids, room * sizeof(*ids));

		if (ids == NULL) {
			s->failed = true;
			return false;
		}
		s->ids = ids;
		s->room = room;
	}
	s->ids[s->count][0] = a;
	s->ids[s->count++][1] = b;
	return true;
}

static void side_warn(struct compiler *c, const struct side *side, struct pairs *told)
{
	for (size_t i = 0; i < side->count; i++) {
		const struct grant *a = side->grants[i];

		for (size_t j = 0; a->http_count > 0 && j < side->count; j++) {
			const struct grant *b = side->grants[j];

			if (b->http_count == 0 && told->count < REPORT_MAX && peers_overlap(a, b) &&
			    ports_overlap(a, b) && pair_new(told, a->rule_id, b->rule_id))
				warn_void(c, a, b);
		}
	}
}

static void warn_all(struct compiler *c)
{
	struct pairs told = {0};

	for (size_t i = 0; i < c->p->subject_count; i++)
		for (int d = 0; d < 2; d++)
			side_warn(c, &c->p->subjects[i].side[d], &told);
	c->failed |= told.failed;
	free(told.ids);
}

static bool patterns_finish(struct policy *p)
{
	char error[8];

	p->dots = regex_new(".*", 2, error, sizeof(error));
	for (enum http_field f = 0; f < HTTP_PATTERNS; f++)
		if (!pattern_table_finish(&p->arena, &p->patterns[f]))
			return false;
	return p->dots != NULL;
}

struct policy *policy_compile(const struct rule_set *sets, const struct identity_labels *identities,
			      size_t identity_count, uint64_t revision, struct report *report)
{
	struct compiler c = {
		.report = report, .identities = identities, .identity_count = identity_count};

	c.p = calloc(1, sizeof(*c.p));
	if (c.p == NULL)
		return NULL;
	atomic_init(&c.p->refs, 1);
	c.p->revision = revision;
	subjects_make(&c);
	for (; sets != NULL && !c.failed; sets = sets->next)
		set_compile(&c, sets);
	c.failed |= !c.failed && !patterns_finish(c.p);
	c.failed |= !c.failed && !indexes_make(c.p);
	if (!c.failed)
		warn_all(&c);
	free(c.grant_room[0]);
	free(c.grant_room[1]);
	if (c.failed) {
		policy_unref(c.p);
		return NULL;
	}
	return c.p;
}
