/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of struct policy: what policy_compile.c writes once and policy.c (decisions),
 * policy_kernel.c (the map) and policy_near.c (near misses) read.
 */
#ifndef SHUNT_POLICY_IMPL_H
#define SHUNT_POLICY_IMPL_H

#include <stdatomic.h>

#include "config/arena.h"
#include "config/rules.h"
#include "proxy/policy.h"

struct regex;

enum pattern_kind {
	PATTERN_ANY,
	PATTERN_LITERAL,
	PATTERN_PREFIX, /* text, then .* */
	PATTERN_REGEX,
};

struct pattern {
	enum pattern_kind kind;
	const char *source; /* as written */
	size_t len; /* of the literal or prefix, which is the beginning of `source` */
	struct regex *regex; /* PREFIX and REGEX */
};
bool pattern_match(const struct pattern *p, struct slice s);

struct header_match {
	const char *name;
	const char *value; /* NULL: present is enough */
	enum mismatch mismatch;
	bool never; /* holds for no head, and its rule with it */
	const char *secret; /* where the value comes from, and it is never shown; or NULL */
	struct location where; /* of its entry */
};

struct http_match {
	struct pattern method, path, host;
	const struct header_match *headers;
	size_t header_count;
	bool effects; /* some header may be logged or edited, and the rule still matches */
	uint32_t rule_id;
};
/* All fields but the path, header matches that edit aside. */
bool http_matches_head(const struct http_match *m, const struct message *head);
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
	bool effects; /* of some http rule */
	uint32_t rule_id;
};
bool grant_has_peer(const struct grant *g, uint32_t peer);
bool grant_has_port(const struct grant *g, uint16_t port);

struct side {
	bool isolated; /* in default deny */
	uint32_t deny_rule;
	bool effects; /* of some http rule of its grants */
	const struct grant **grants;
	size_t count;
};

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
	struct regex **regexes; /* to free */
	size_t regex_count, regex_room;
};

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
	const struct http_match **matched; /* that have effects, in order */
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
struct decision policy_decide(const struct policy *p, enum verdict v, enum reason why,
			      enum direction direction, uint32_t rule_id);
/* Of two directions that both allow: the one that has a rule, the receiver's if both. */
struct decision policy_both(struct decision out, struct decision in);

#endif
