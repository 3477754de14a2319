/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of struct policy: what policy_compile.c writes once and policy.c (decisions),
 * policy_kernel.c (the map) and policy_near.c (near misses) read.
 */
#ifndef SHUNT_POLICY_IMPL_H
#define SHUNT_POLICY_IMPL_H

#include <stdatomic.h>
#include <string.h>

#include "config/arena.h"
#include "config/rules.h"
#include "proxy/policy.h"

struct regex;
struct regex_set;
struct regex_hits;

/* Hash -> number from 1, any of which may be there several times. Built once. */
struct id_hash {
	struct id_slot {
		uint64_t hash;
		uint32_t id; /* 0: empty */
	} * slots;
	size_t count, room; /* room is a power of two, or 0 */
};
/* False when memory is short. */
bool id_hash_add(struct arena *a, struct id_hash *h, uint64_t hash, uint32_t id);
/* The numbers under `hash`, one a call, then 0. *at is 0 to begin with. */
static inline uint32_t id_hash_next(const struct id_hash *h, uint64_t hash, size_t *at)
{
	while (*at < h->room) {
		const struct id_slot *s = &h->slots[(hash + (*at)++) & (h->room - 1)];

		if (s->id == 0)
			break;
		if (s->hash == hash)
			return s->id;
	}
	*at = h->room;
	return 0;
}
uint64_t hash_bytes(uint64_t seed, const char *p, size_t n);

/* What an expression really is: most are no more than text. */
enum pattern_kind {
	PATTERN_ANY,
	PATTERN_LITERAL, /* one text, or any of several: GET|HEAD */
	PATTERN_PREFIX, /* text, then .* */
	PATTERN_REGEX,
};

/* The fields of a request that have expressions, and the one header that a rule is found by. */
enum http_field {
	HTTP_PATH,
	HTTP_METHOD,
	HTTP_HOST,
	HTTP_PATTERNS,
	HTTP_HEADER = HTTP_PATTERNS,
	HTTP_FIELDS,
};

/* Once in a policy for each field. */
struct pattern {
	enum pattern_kind kind;
	uint32_t id; /* from 1, among those of its field; 0: ANY */
	const char *text; /* of a literal or prefix; of a regex the expression; several literals
			   * are parted by NUL */
	size_t len; /* of all */
	const char *prefix; /* of a regex: what all that matches begins with */
	size_t prefix_len;
};

/* All patterns of one field. Those that are text are found without a regex. */
struct pattern_table {
	const struct pattern **items; /* by id - 1 */
	size_t count, room;
	struct id_hash by_text; /* of all of a pattern */
	struct id_hash literals; /* of each of its literals */
	size_t literal_max; /* the longest, bytes */
	const struct pattern **prefixes; /* in order of their text */
	uint32_t *parents; /* the longest other that is a prefix of it: its place + 1, or 0 */
	size_t prefix_count;
};

/* Those of the regexes of a list that a text may match which begins like that: no text begins
 * like two parts of one group. */
struct regex_part {
	const char *prefix;
	size_t prefix_len;
	struct regex_set *set;
	const uint32_t *ids; /* of the patterns, by their place in the set */
	size_t count;
};

/* The regexes of one list of http rules for one field; lists of the same ones share it. */
struct regex_group {
	enum http_field field;
	const uint32_t *ids; /* of all, ascending */
	size_t count;
	struct regex_part *parts; /* in the order of their prefixes */
	size_t part_count;
};
/* The part for this text, or NULL: none of the regexes matches it. */
const struct regex_part *regex_group_part(const struct regex_group *g, struct slice text);
/* Below 0: `a` is before `b`; what begins with another comes after it. */
static inline int text_order(struct slice a, struct slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n == 0 ? 0 : memcmp(a.p, b.p, n);

	return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

struct id_list {
	uint32_t *items;
	size_t count, room;
};

/* NULL when memory is short. */
const struct pattern *pattern_make(struct arena *a, struct pattern_table *t, const char *source);
/* Does a literal pattern match it? */
bool literal_matches(const struct pattern *p, struct slice text);
bool pattern_table_finish(struct arena *a, struct pattern_table *t);
/* Adds the ids of the literals and prefixes that match. `dots` is ".*", text.p not NULL. False:
 * memory. */
bool pattern_table_match(const struct pattern_table *t, const struct regex *dots, struct slice text,
			 struct id_list *out);
bool id_list_add(struct id_list *l, uint32_t id); /* false when memory is short */

struct header_match {
	const char *name;
	const char *value; /* NULL: present is enough */
	enum mismatch mismatch;
	bool never; /* holds for no head, and its rule with it */
	const char *secret; /* where the value comes from, and it is never shown; or NULL */
	struct location where; /* of its entry */
};

struct http_match {
	const struct pattern *pattern[HTTP_PATTERNS];
	const struct regex_group *group[HTTP_PATTERNS]; /* that has the pattern, if it is a regex */
	const char *source[HTTP_PATTERNS]; /* as written; NULL: any */
	uint32_t header_id; /* of the header that has to match, or 0; see policy_index.c */
	const struct header_match *headers;
	size_t header_count;
	bool effects; /* some header may be logged or edited, and the rule still matches */
	uint32_t rule_id;
};
/* Slow, and for people: does this one expression match? */
struct policy;
bool http_field_matches(const struct policy *p, const struct http_match *m, enum http_field field,
			struct slice text);
/* Header matches that edit aside. */
bool http_headers_match(const struct http_match *m, const struct message *head);
bool header_matches(const struct header_match *h, const struct message *head);

struct peer_set { /* identities, sorted */
	const uint32_t *ids;
	size_t count;
	const char *field; /* "fromEndpoints" */
	struct location where;
};

/* One port rule of one item, or the item itself where it has none. */
struct grant {
	const struct peer_set *peers; /* NULL: any */
	const uint16_t *ports;
	const struct location *port_at;
	size_t port_count; /* 0: any */
	const struct http_match *http;
	size_t http_count; /* 0: no http rules, direct */
	uint32_t rule_id;
};
bool grant_has_peer(const struct grant *g, uint32_t peer);
bool grant_has_port(const struct grant *g, uint16_t port);

struct side {
	bool isolated; /* in default deny */
	uint32_t deny_rule;
	const struct grant **grants;
	size_t count;
	const struct grant **direct, **proxied; /* those without http rules, those with */
	size_t direct_count, proxied_count;
	const struct http_index *http; /* of the http rules of all; NULL: there are none */
};

struct http_entry {
	const struct http_match *match;
	const struct grant *grant;
	uint32_t order; /* among all of the side */
};

/* The rules that ask for the same patterns. */
struct http_bucket {
	uint32_t key[HTTP_FIELDS]; /* ids; 0: any */
	uint32_t first, count; /* of entries, whose order ascends */
};

/* The http rules of a side by what they ask for. Sides of the same grants share one. */
struct http_index {
	const struct http_entry *entries;
	const struct http_bucket *buckets;
	struct id_hash by_key;
	uint32_t shapes; /* bit by bit: is there a rule that asks for just these fields? */
	bool effects; /* of some rule */
	const struct regex_group **groups[HTTP_PATTERNS];
	size_t group_count[HTTP_PATTERNS];
};
uint64_t http_key_hash(const uint32_t *key);

struct subject {
	uint32_t identity;
	bool local; /* some workload of this node has it */
	const char *display;
	struct side side[2]; /* by enum direction */
};

struct policy {
	atomic_uint refs;
	uint64_t revision;
	struct arena arena;
	struct policy_rule *rules; /* id 1 is rules[0] */
	size_t rule_count;
	struct subject *subjects; /* sorted by identity: every identity there is */
	size_t subject_count;
	struct pattern_table patterns[HTTP_PATTERNS];
	struct id_hash headers; /* names and values that rules are found by */
	struct regex *dots; /* .* */
	struct regex_group **groups;
	size_t group_count, group_room;
	struct id_hash groups_by_ids;
};

/* ---- compiling ---- */

/* The regexes of the rules of one list; false when memory is short, or after a complaint that it
 * is for the expressions. */
bool groups_make(struct policy *p, struct report *report, struct location at, const char *policy,
		 struct http_match *m, size_t count);
/* The number under which a rule is found by one of its headers. */
bool header_id_make(struct policy *p, struct http_match *m);
bool indexes_make(struct policy *p); /* of all sides */

/* ---- asking ---- */

/* The numbers under which rules may be found by the fields of the head. False: memory. */
bool header_ids(const struct policy *p, const struct message *head, struct id_list *out);

/* NULL when the identity is no workload's. */
const struct subject *policy_subject(const struct policy *p, uint32_t identity);

/* One direction alone, from the grants themselves. */
struct decision policy_side(const struct policy *p, uint32_t subject, uint32_t peer, uint16_t port,
			    enum direction direction);

struct policy_scratch {
	struct message head; /* as it came, or as it was edited */
	struct field *fields; /* of an edited head */
	size_t room;
	size_t came; /* how many fields are not from here */
	struct id_list ids[HTTP_FIELDS]; /* what each field of the request matches */
	struct regex_hits *hits;
	bool starved; /* a set of regexes ran out of its memory */
	struct http_entry *matched; /* that have effects, in order */
	size_t matched_count, matched_room;
	struct policy_mismatches mismatches;
	bool edited;
	bool failed; /* memory was short */
};

/* Has the rules in `matched` edit the head; false when memory is short. */
bool policy_edit(struct policy_scratch *s);

/* The side that is to be asked, or NULL where that direction is open to this peer: nothing
 * selects the subject, or the node itself comes in (its probes have to work). */
const struct side *policy_side_of(const struct policy *p, uint32_t subject, uint32_t peer,
				  enum direction direction);
/* What it says of a connection; NULL lets all in. */
struct decision policy_side_decide(const struct policy *p, const struct side *side, uint32_t peer,
				   uint16_t port, enum direction direction);
struct decision policy_decide(const struct policy *p, enum verdict v, enum reason why,
			      enum direction direction, uint32_t rule_id);
/* Of two directions that both allow: the one that has a rule, the receiver's if both. */
struct decision policy_both(struct decision out, struct decision in);

#endif
