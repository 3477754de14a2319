/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions as what they are. Most rules ask for a text or for what begins with one: those are
 * found by a hash and by one search in a sorted list, however many there are. Only the others
 * need RE2 (policy_index.c).
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/policy_impl.h"
#include "proxy/regex.h"

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 29;
}

/* The tables are made of documents: nobody who is not trusted chooses what collides in them. */
uint64_t hash_bytes(uint64_t seed, const char *p, size_t n)
{
	uint64_t h = seed ^ (n * UINT64_C(0xff51afd7ed558ccd)), word;

	for (; n >= sizeof(word); n -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = mix(h ^ word);
	}
	if (n > 0) {
		word = 0;
		memcpy(&word, p, n);
		h = mix(h ^ word);
	}
	return mix(h);
}

static void id_hash_put(struct id_hash *h, uint64_t hash, uint32_t id)
{
	size_t at = hash & (h->room - 1);

	while (h->slots[at].id != 0)
		at = (at + 1) & (h->room - 1);
	h->slots[at] = (struct id_slot){hash, id};
	h->count++;
}

bool id_hash_add(struct arena *a, struct id_hash *h, uint64_t hash, uint32_t id)
{
	if (h->count * 2 >= h->room) {
		struct id_hash more = {.room = h->room == 0 ? 8 : h->room * 2};

		more.slots = arena_array(a, more.room, sizeof(*more.slots));
		if (more.slots == NULL)
			return false;
		for (size_t i = 0; i < h->room; i++)
			if (h->slots[i].id != 0)
				id_hash_put(&more, h->slots[i].hash, h->slots[i].id);
		*h = more;
	}
	id_hash_put(h, hash, id);
	return true;
}

bool id_list_add(struct id_list *l, uint32_t id)
{
	if (l->count == l->room) {
		size_t room = l->room == 0 ? 16 : l->room * 2;
		uint32_t *items = realloc(l->items, room * sizeof(*items));

		if (items == NULL)
			return false;
		l->items = items;
		l->room = room;
	}
	l->items[l->count++] = id;
	return true;
}

/* ---- what an expression is ---- */

/* Bytes that stand for themselves in RE2 and are no part of a longer character. */
static bool plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("/-_~:@!=,;&'%<>\" #", c) != NULL);
}

static bool special(char c)
{
	return c != '\0' && strchr(".+*?()[]{}|^$\\/-", c) != NULL;
}

/* One character of text at *s, also as \. or [.]; '\0': something else begins there. */
static char text_char(const char **s)
{
	const char *p = *s;

	if (plain(*p)) {
		*s = p + 1;
		return *p;
	}
	if (p[0] == '\\' && special(p[1])) {
		*s = p + 2;
		return p[1];
	}
	if (p[0] == '[' && p[1] != '\0' && strchr(".+*?(){}|$", p[1]) != NULL && p[2] == ']') {
		*s = p + 3;
		return p[1];
	}
	return '\0';
}

/* Takes the text at *s, parted by NUL where `|` stands between texts. Returns how many there are. */
static size_t take_text(const char **s, char *text, size_t *len)
{
	size_t n = 1;
	char c;

	for (*len = 0;; text[(*len)++] = c) {
		c = text_char(s);
		if (c != '\0')
			continue;
		if (**s != '|')
			return n;
		++*s;
		n++;
	}
}

/* `text` has room for the source. Matching is of the whole text, so that ^ and $ at its ends and
 * parentheses around all of it say nothing. */
static enum pattern_kind classify(const char *source, char *text, size_t *len)
{
	const char *s = source + (source[0] == '^');
	bool paren = s[0] == '(';
	size_t n;

	s += !paren ? 0 : strncmp(s, "(?:", 3) == 0 ? 3 : 1;
	n = take_text(&s, text, len);
	if (paren && s[0] == ')')
		s++;
	else if (paren)
		s = "no text";
	if (s[0] == '\0' || strcmp(s, "$") == 0)
		return PATTERN_LITERAL;
	if (n == 1 && (strcmp(s, ".*") == 0 || strcmp(s, ".*$") == 0))
		return PATTERN_PREFIX;
	*len = strlen(source);
	memcpy(text, source, *len);
	return PATTERN_REGEX;
}

#define PREFIX_MAX 64U /* bytes; more tells no more */

static bool prefix_make(struct arena *a, struct pattern *p)
{
	char error[8], prefix[PREFIX_MAX];
	struct regex *r = regex_new(p->text, p->len, error, sizeof(error));

	if (r == NULL) /* it was parsed before: memory */
		return false;
	p->prefix_len = regex_prefix(r, prefix, sizeof(prefix));
	p->prefix = arena_copy(a, prefix, p->prefix_len);
	regex_free(r);
	return p->prefix != NULL;
}

const struct pattern *pattern_make(struct arena *a, struct pattern_table *t, const char *source)
{
	static const struct pattern any = {.kind = PATTERN_ANY};
	struct pattern *p;
	const struct pattern **slot;
	uint64_t hash;
	size_t at = 0;
	uint32_t id;
	char *text;

	if (source == NULL)
		return &any;
	p = arena_alloc(a, sizeof(*p));
	p = p == NULL || (text = arena_string(a, source)) == NULL ? NULL : p;
	if (p == NULL)
		return NULL;
	p->kind = classify(source, text, &p->len);
	p->text = text;
	hash = hash_bytes(p->kind, text, p->len);
	while ((id = id_hash_next(&t->by_text, hash, &at)) != 0) {
		const struct pattern *q = t->items[id - 1];

		if (q->kind == p->kind && q->len == p->len && memcmp(q->text, text, p->len) == 0)
			return q;
	}
	slot = arena_push(a, (void **)&t->items, &t->count, &t->room, sizeof(*slot));
	if (slot == NULL || !id_hash_add(a, &t->by_text, hash, (uint32_t)t->count))
		return NULL;
	*slot = p;
	p->id = (uint32_t)t->count;
	return p->kind != PATTERN_REGEX || prefix_make(a, p) ? p : NULL;
}

/* ---- prefixes ---- */

static struct slice text_of(const struct pattern *p)
{
	return (struct slice){p->text, p->len};
}

static int prefix_order(const void *x, const void *y)
{
	const struct pattern *a = *(const struct pattern *const *)x;
	const struct pattern *b = *(const struct pattern *const *)y;

	return text_order(text_of(a), text_of(b));
}

static bool begins_with(struct slice text, const struct pattern *p)
{
	return text.len >= p->len && (p->len == 0 || memcmp(text.p, p->text, p->len) == 0);
}

/* The longest of the prefixes before place `at` that `text` begins with, as its place + 1. What
 * stands right before a text in the order begins like it for longer than any that stands before
 * that; so the longest is there or among its parents. */
static uint32_t longest(const struct pattern_table *t, size_t at, struct slice text)
{
	uint32_t i = (uint32_t)at;

	while (i != 0 && !begins_with(text, t->prefixes[i - 1]))
		i = t->parents[i - 1];
	return i;
}

/* The literal of a pattern that begins at `at`. */
static struct slice piece(const struct pattern *p, size_t at)
{
	return (struct slice){p->text + at, strnlen(p->text + at, p->len - at)};
}

bool literal_matches(const struct pattern *p, struct slice text)
{
	struct slice s;

	for (size_t at = 0; at <= p->len; at += s.len + 1) {
		s = piece(p, at);
		if (s.len == text.len && memcmp(s.p, text.p, s.len) == 0)
			return true;
	}
	return false;
}

static bool add_literals(struct arena *a, struct pattern_table *t, const struct pattern *p)
{
	struct slice s;

	for (size_t at = 0; at <= p->len; at += s.len + 1) {
		const struct pattern before = {.text = p->text, .len = at - 1};

		s = piece(p, at);
		if (at > 0 && literal_matches(&before, s))
			continue; /* a|a */
		t->literal_max = s.len > t->literal_max ? s.len : t->literal_max;
		if (!id_hash_add(a, &t->literals, hash_bytes(0, s.p, s.len), p->id))
			return false;
	}
	return true;
}

bool pattern_table_finish(struct arena *a, struct pattern_table *t)
{
	size_t n = 0;

	t->prefixes = arena_array(a, t->count, sizeof(*t->prefixes));
	t->parents = arena_array(a, t->count, sizeof(*t->parents));
	if (t->prefixes == NULL || t->parents == NULL)
		return false;
	for (size_t i = 0; i < t->count; i++) {
		const struct pattern *p = t->items[i];

		if (p->kind == PATTERN_PREFIX)
			t->prefixes[n++] = p;
		if (p->kind == PATTERN_LITERAL && !add_literals(a, t, p))
			return false;
	}
	t->prefix_count = n;
	if (n > 1)
		qsort(t->prefixes, n, sizeof(*t->prefixes), prefix_order);
	for (size_t i = 1; i < n; i++)
		t->parents[i] = longest(t, i, text_of(t->prefixes[i]));
	return true;
}

/* ---- matching ---- */

#define EACH_BYTE UINT64_C(0x0101010101010101)

/* Neither a newline nor a byte above ASCII; eight at once. */
static bool ascii_line(const char *p, size_t n)
{
	uint64_t word, newline, bad = 0;

	for (; n >= sizeof(word); n -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		newline = word ^ EACH_BYTE * '\n'; /* 0 where one is */
		bad |= (word | ((newline - EACH_BYTE) & ~newline)) & EACH_BYTE * 0x80;
	}
	for (; n > 0; n--, p++)
		bad |= (unsigned char)*p >= 0x80 || *p == '\n';
	return bad == 0;
}

/* Does .* match it? So it does what follows a prefix, since that is plain ASCII. */
static bool is_dots(const struct regex *dots, struct slice text)
{
	return ascii_line(text.p, text.len) || regex_match(dots, text.p, text.len);
}

static bool match_literals(const struct pattern_table *t, struct slice text, struct id_list *out)
{
	uint64_t hash;
	size_t at = 0;
	uint32_t id;

	if (t->literals.count == 0 || text.len > t->literal_max)
		return true;
	hash = hash_bytes(0, text.p, text.len);
	while ((id = id_hash_next(&t->literals, hash, &at)) != 0)
		if (literal_matches(t->items[id - 1], text) && !id_list_add(out, id))
			return false;
	return true;
}

static uint32_t find_prefix(const struct pattern_table *t, struct slice text)
{
	size_t lo = 0, hi = t->prefix_count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct pattern *p = t->prefixes[mid];

		if (text_order(text_of(p), text) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return longest(t, lo, text);
}

bool pattern_table_match(const struct pattern_table *t, const struct regex *dots, struct slice text,
			 struct id_list *out)
{
	uint32_t at;

	if (!match_literals(t, text, out))
		return false;
	at = find_prefix(t, text);
	if (at == 0 || !is_dots(dots, text))
		return true;
	for (; at != 0; at = t->parents[at - 1])
		if (!id_list_add(out, t->prefixes[at - 1]->id))
			return false;
	return true;
}
