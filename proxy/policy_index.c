/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The http rules of a side, found by what a request matches instead of asked one by one. Each
 * rule has a key: the numbers of its path, method and host patterns and of one header, 0 where
 * it has none. A request matches few patterns of each field; the rules of every combination of
 * these lie together, in their order.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/policy_impl.h"
#include "proxy/regex.h"

/* ---- regexes ---- */

static int id_order(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return (a > b) - (a < b);
}

/* The regexes of a list for one field, each once, ascending. Returns how many. */
static size_t regex_ids(const struct http_match *m, size_t count, enum http_field f, uint32_t *ids)
{
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < count; i++)
		if (m[i].pattern[f]->kind == PATTERN_REGEX)
			ids[n++] = m[i].pattern[f]->id;
	if (n > 1)
		qsort(ids, n, sizeof(*ids), id_order);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || ids[kept - 1] != ids[i])
			ids[kept++] = ids[i];
	return kept;
}

static const struct regex_group *group_find(const struct policy *p, enum http_field f,
					    const uint32_t *ids, size_t n, uint64_t hash)
{
	size_t at = 0;
	uint32_t i;

	while ((i = id_hash_next(&p->groups_by_ids, hash, &at)) != 0) {
		const struct regex_group *g = p->groups[i - 1];

		if (g->field == f && g->count == n && memcmp(g->ids, ids, n * sizeof(*ids)) == 0)
			return g;
	}
	return NULL;
}

static int prefix_order(const void *x, const void *y)
{
	const struct pattern *a = *(const struct pattern *const *)x;
	const struct pattern *b = *(const struct pattern *const *)y;
	int c = text_order((struct slice){a->prefix, a->prefix_len},
			   (struct slice){b->prefix, b->prefix_len});

	return c != 0 ? c : a->id < b->id ? -1 : a->id > b->id;
}

static bool begins_with(struct slice text, const char *prefix, size_t len)
{
	return text.len >= len && (len == 0 || memcmp(text.p, prefix, len) == 0);
}

/* Of n patterns whose prefixes all begin with the first one's. */
static bool part_make(struct policy *p, struct regex_part *part,
		      const struct pattern *const *patterns, size_t n)
{
	const char **sources = arena_array(&p->arena, n, sizeof(*sources));
	uint32_t *ids = arena_array(&p->arena, n, sizeof(*ids));

	if (sources == NULL || ids == NULL)
		return false;
	for (size_t i = 0; i < n; i++) {
		sources[i] = patterns[i]->text;
		ids[i] = patterns[i]->id;
	}
	*part = (struct regex_part){.prefix = patterns[0]->prefix,
				    .prefix_len = patterns[0]->prefix_len,
				    .ids = ids,
				    .count = n};
	part->set = regex_set_new(sources, n, REGEX_MEMORY);
	return true;
}

/* A pattern whose prefix begins with that of another is in the part of that one. */
static bool group_compile(struct policy *p, struct regex_group *g)
{
	const struct pattern **all = arena_array(&p->arena, g->count, sizeof(*all));

	g->parts = arena_array(&p->arena, g->count, sizeof(*g->parts));
	if (all == NULL || g->parts == NULL)
		return false;
	for (size_t i = 0; i < g->count; i++)
		all[i] = p->patterns[g->field].items[g->ids[i] - 1];
	if (g->count > 1)
		qsort(all, g->count, sizeof(*all), prefix_order);
	for (size_t i = 0, n; i < g->count; i += n) {
		for (n = 1; i + n < g->count; n++)
			if (!begins_with((struct slice){all[i + n]->prefix, all[i + n]->prefix_len},
					 all[i]->prefix, all[i]->prefix_len))
				break;
		if (!part_make(p, &g->parts[g->part_count], all + i, n))
			return false;
		if (g->parts[g->part_count++].set == NULL)
			return true;
	}
	return true;
}

const struct regex_part *regex_group_part(const struct regex_group *g, struct slice text)
{
	size_t lo = 0, hi = g->part_count;
	const struct regex_part *part;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		part = &g->parts[mid];
		if (text_order((struct slice){part->prefix, part->prefix_len}, text) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	part = lo == 0 ? NULL : &g->parts[lo - 1];
	return part != NULL && begins_with(text, part->prefix, part->prefix_len) ? part : NULL;
}

static void say_too_much(struct report *report, struct location at, const char *policy,
			 enum http_field f, size_t n)
{
	static const char *const names[] = {"path", "method", "host"};
	char number[24];
	struct text t;

	text_fixed(&t, number, sizeof(number));
	text_add_number(&t, n);
	report_error(report, at, "the ", number, " ", names[f],
		     " expressions of these http rules of ", policy,
		     " need more than 8 MiB together; write fewer or simpler ones", NULL);
}

/* NULL when memory is short, or after a complaint. */
static const struct regex_group *group_make(struct policy *p, struct report *report,
					    struct location at, const char *policy,
					    enum http_field f, const uint32_t *ids, size_t n)
{
	uint64_t hash = hash_bytes(f, (const char *)ids, n * sizeof(*ids));
	const struct regex_group *known = group_find(p, f, ids, n, hash);
	struct regex_group *g, **slot;

	if (known != NULL)
		return known;
	g = arena_alloc(&p->arena, sizeof(*g));
	slot = arena_push(&p->arena, (void **)&p->groups, &p->group_count, &p->group_room,
			  sizeof(*slot));
	if (g == NULL || slot == NULL) {
		p->group_count -= slot != NULL;
		return NULL;
	}
	*slot = g;
	*g = (struct regex_group){.field = f, .ids = ids, .count = n};
	if (!id_hash_add(&p->arena, &p->groups_by_ids, hash, (uint32_t)p->group_count) ||
	    !group_compile(p, g))
		return NULL;
	if (g->parts[g->part_count - 1].set != NULL)
		return g;
	say_too_much(report, at, policy, f, g->parts[g->part_count - 1].count);
	return NULL;
}

bool groups_make(struct policy *p, struct report *report, struct location at, const char *policy,
		 struct http_match *m, size_t count)
{
	for (enum http_field f = 0; f < HTTP_PATTERNS; f++) {
		uint32_t *ids = arena_array(&p->arena, count, sizeof(*ids));
		const struct regex_group *g;
		size_t n;

		if (ids == NULL)
			return false;
		n = regex_ids(m, count, f, ids);
		if (n == 0)
			continue;
		g = group_make(p, report, at, policy, f, ids, n);
		if (g == NULL)
			return false;
		for (size_t i = 0; i < count; i++)
			if (m[i].pattern[f]->kind == PATTERN_REGEX)
				m[i].group[f] = g;
	}
	return true;
}

static bool group_matches(const struct regex_group *g, uint32_t id, struct slice text)
{
	const struct regex_part *part = regex_group_part(g, text);
	struct regex_hits *hits = part == NULL ? NULL : regex_hits_new();
	bool found = false;
	const int *items;
	int n = hits == NULL ? 0 : regex_set_match(part->set, text.p, text.len, hits, &items);

	for (int i = 0; i < n; i++)
		found |= part->ids[items[i]] == id;
	regex_hits_free(hits);
	return found;
}

bool http_field_matches(const struct policy *p, const struct http_match *m, enum http_field field,
			struct slice text)
{
	const struct pattern *want = m->pattern[field];

	if (text.p == NULL)
		text.p = "";
	if (want->kind == PATTERN_ANY)
		return true;
	if (want->kind == PATTERN_REGEX)
		return group_matches(m->group[field], want->id, text);
	if (want->kind == PATTERN_LITERAL)
		return literal_matches(want, text);
	return text.len >= want->len && memcmp(text.p, want->text, want->len) == 0 &&
	       regex_match(p->dots, text.p, text.len);
}

/* ---- headers ---- */

/* Byte by byte (FNV-1a), so that a value in several pieces has the hash of the whole. */
static uint64_t hash_more(uint64_t h, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Of the name alone: what every header of that name has in common. */
static uint64_t hash_name(const char *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		h = (h ^ ascii_lower(p[i])) * UINT64_C(0x100000001b3);
	return h ^ h >> 32;
}

static uint64_t hash_value(uint64_t name)
{
	return hash_more(name, ":", 1);
}

static uint64_t hash_end(uint64_t h)
{
	return h ^ h >> 32;
}

/* A secret is no part of a hash: how long it takes to find a rule would tell of it. */
static uint64_t header_hash(const struct header_match *h)
{
	uint64_t name = hash_name(h->name, strlen(h->name));

	if (h->value == NULL || h->secret != NULL)
		return name;
	return hash_end(hash_more(hash_value(name), h->value, strlen(h->value)));
}

static uint32_t header_id(struct policy *p, uint64_t hash)
{
	size_t at = 0;
	uint32_t id = id_hash_next(&p->headers, hash, &at);

	if (id != 0)
		return id;
	id = (uint32_t)p->headers.count + 1;
	return id_hash_add(&p->arena, &p->headers, hash, id) ? id : 0;
}

/* One header that has to match stands for all of a rule; the others are looked at when it does.
 * A value before presence: it says more. */
bool header_id_make(struct policy *p, struct http_match *m)
{
	const struct header_match *best = NULL;

	for (size_t i = 0; i < m->header_count; i++) {
		const struct header_match *h = &m->headers[i];

		if (h->mismatch == MISMATCH_DENY && !h->never &&
		    (best == NULL || (best->value == NULL && h->value != NULL)))
			best = h;
	}
	if (best == NULL)
		return true;
	m->header_id = header_id(p, header_hash(best));
	/* Only a name that some rule has is worth a look at its value. */
	return m->header_id != 0 && header_id(p, hash_name(best->name, strlen(best->name))) != 0;
}

/* Of the fields from `first` on that have its name, joined by commas as header_matches() does. */
static uint64_t hash_joined(const struct message *head, size_t first, uint64_t name)
{
	const struct field f = message_nth(head, first);
	uint64_t h = hash_more(hash_value(name), f.value.p, f.value.len);

	for (size_t i = first + 1; i < head->field_count; i++) {
		const struct field g = message_nth(head, i);

		if (slice_same_nocase(f.name, g.name))
			h = hash_more(hash_more(h, ",", 1), g.value.p, g.value.len);
	}
	return hash_end(h);
}

static bool seen(const struct message *head, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (slice_same_nocase(message_nth(head, j).name, message_nth(head, i).name))
			return true;
	return false;
}

bool header_ids(const struct policy *p, const struct message *head, struct id_list *out)
{
	for (size_t i = 0; p->headers.count > 0 && i < head->field_count; i++) {
		struct slice name = message_nth(head, i).name;
		uint64_t hash = hash_name(name.p, name.len);
		size_t at = 0;
		uint32_t id = id_hash_next(&p->headers, hash, &at);

		if (id == 0 || seen(head, i))
			continue;
		if (!id_list_add(out, id))
			return false;
		at = 0;
		id = id_hash_next(&p->headers, hash_joined(head, i, hash), &at);
		if (id != 0 && !id_list_add(out, id))
			return false;
	}
	return true;
}

/* ---- one side ---- */

uint64_t http_key_hash(const uint32_t *key)
{
	uint64_t h = (uint64_t)key[HTTP_PATH] << 32 | key[HTTP_METHOD];

	h = (h ^ h >> 29) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= (uint64_t)key[HTTP_HOST] << 32 | key[HTTP_HEADER];
	h = (h ^ h >> 31) * UINT64_C(0xff51afd7ed558ccd);
	return h ^ h >> 32;
}

static void key_of(const struct http_match *m, uint32_t *key)
{
	for (enum http_field f = 0; f < HTTP_PATTERNS; f++)
		key[f] = m->pattern[f]->id;
	key[HTTP_HEADER] = m->header_id;
}

static int entry_order(const void *x, const void *y)
{
	const struct http_entry *a = x, *b = y;
	uint32_t key_a[HTTP_FIELDS], key_b[HTTP_FIELDS];

	key_of(a->match, key_a);
	key_of(b->match, key_b);
	for (enum http_field f = 0; f < HTTP_FIELDS; f++)
		if (key_a[f] != key_b[f])
			return key_a[f] < key_b[f] ? -1 : 1;
	return (a->order > b->order) - (a->order < b->order);
}

static uint32_t shape_of(const uint32_t *key)
{
	unsigned shape = 0;

	for (enum http_field f = 0; f < HTTP_FIELDS; f++)
		shape |= (key[f] != 0 ? 1U : 0U) << f;
	return 1U << shape;
}

static bool buckets_make(struct policy *p, struct http_index *x, struct http_entry *entries,
			 size_t count)
{
	struct http_bucket *b = arena_array(&p->arena, count, sizeof(*b));
	uint32_t n = 0;

	if (b == NULL)
		return false;
	qsort(entries, count, sizeof(*entries), entry_order);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t key[HTTP_FIELDS];

		key_of(entries[i].match, key);
		x->effects |= entries[i].match->effects;
		if (n > 0 && memcmp(b[n - 1].key, key, sizeof(key)) == 0) {
			b[n - 1].count++;
			continue;
		}
		b[n] = (struct http_bucket){.first = i, .count = 1};
		memcpy(b[n++].key, key, sizeof(key));
		x->shapes |= shape_of(key);
		if (!id_hash_add(&p->arena, &x->by_key, http_key_hash(key), n))
			return false;
	}
	x->entries = entries;
	x->buckets = b;
	return true;
}

/* Each group of the side once. */
static bool side_groups(struct policy *p, const struct side *s, enum http_field f,
			struct http_index *x)
{
	size_t room = 0;

	for (size_t i = 0; i < s->proxied_count; i++) {
		const struct grant *g = s->proxied[i];
		const struct regex_group *group = NULL, **slot;

		for (size_t j = 0; j < g->http_count && group == NULL; j++)
			group = g->http[j].group[f];
		for (size_t j = 0; j < x->group_count[f] && group != NULL; j++)
			group = x->groups[f][j] == group ? NULL : group;
		if (group == NULL)
			continue;
		slot = arena_push(&p->arena, (void **)&x->groups[f], &x->group_count[f], &room,
				  sizeof(*slot));
		if (slot == NULL)
			return false;
		*slot = group;
	}
	return true;
}

static struct http_index *index_make(struct policy *p, const struct side *s)
{
	struct http_index *x = arena_alloc(&p->arena, sizeof(*x));
	struct http_entry *entries;
	size_t count = 0;
	uint32_t n = 0;

	for (size_t i = 0; i < s->proxied_count; i++)
		count += s->proxied[i]->http_count;
	entries = arena_array(&p->arena, count, sizeof(*entries));
	if (x == NULL || entries == NULL)
		return NULL;
	for (size_t i = 0; i < s->proxied_count; i++)
		for (size_t j = 0; j < s->proxied[i]->http_count; j++, n++)
			entries[n] = (struct http_entry){&s->proxied[i]->http[j], s->proxied[i], n};
	if (!buckets_make(p, x, entries, count))
		return NULL;
	for (enum http_field f = 0; f < HTTP_PATTERNS; f++)
		if (!side_groups(p, s, f, x))
			return NULL;
	return x;
}

/* ---- all sides ---- */

/* Grants with http rules apart from those without, in their order. */
static bool side_part(struct policy *p, struct side *s)
{
	s->direct = arena_array(&p->arena, s->count, sizeof(*s->direct));
	s->proxied = arena_array(&p->arena, s->count, sizeof(*s->proxied));
	if (s->direct == NULL || s->proxied == NULL)
		return false;
	for (size_t i = 0; i < s->count; i++)
		if (s->grants[i]->http_count == 0)
			s->direct[s->direct_count++] = s->grants[i];
		else
			s->proxied[s->proxied_count++] = s->grants[i];
	return true;
}

/* Sides that were seen, by their grants with http rules. */
struct sides {
	const struct side **items;
	size_t count, room;
	struct id_hash by_grants;
};

static bool side_index(struct policy *p, struct side *s, struct sides *known)
{
	size_t at = 0, size;
	const struct side **slot;
	uint64_t hash;
	uint32_t id;

	if (!side_part(p, s))
		return false;
	if (s->proxied_count == 0)
		return true;
	size = s->proxied_count * sizeof(*s->proxied);
	hash = hash_bytes(0, (const char *)s->proxied, size);
	while ((id = id_hash_next(&known->by_grants, hash, &at)) != 0) {
		const struct side *k = known->items[id - 1];

		if (k->proxied_count == s->proxied_count &&
		    memcmp(k->proxied, s->proxied, size) == 0) {
			s->http = k->http;
			return true;
		}
	}
	s->http = index_make(p, s);
	slot = arena_push(&p->arena, (void **)&known->items, &known->count, &known->room,
			  sizeof(*slot));
	if (slot == NULL || s->http == NULL)
		return false;
	*slot = s;
	return id_hash_add(&p->arena, &known->by_grants, hash, (uint32_t)known->count);
}

bool indexes_make(struct policy *p)
{
	struct sides known = {0};

	for (size_t i = 0; i < p->subject_count; i++)
		for (int d = 0; d < 2; d++)
			if (!side_index(p, &p->subjects[i].side[d], &known))
				return false;
	return true;
}
