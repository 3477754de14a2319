/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one internal rule form: every policy kind is read into it (kinds/), and it is compiled
 * against the identities that exist (policy_compile). Everything here lives in the arena of
 * the load; compiling copies what it keeps.
 */
#ifndef SHUNT_CONFIG_RULES_H
#define SHUNT_CONFIG_RULES_H

#include "config/report.h"
#include "config/snapshot.h"

enum requirement_op {
	REQUIRE_IN, /* has the key with one of the values */
	REQUIRE_NOT_IN, /* lacks the key, or has another value */
	REQUIRE_EXISTS,
	REQUIRE_ABSENT,
};

struct requirement {
	const char *key; /* without source prefix */
	enum requirement_op op;
	const char *const *values;
	size_t value_count;
};

/* Selects workloads by all of its requirements; without any, everything in scope. */
struct label_selector {
	const char *namespace; /* the scope; NULL: every namespace */
	bool reserved; /* selects host and world by their reserved labels, never workloads */
	const struct requirement *items;
	size_t count;
};

/* What becomes of a request whose header does not match. After all but the first the rule still
 * matches. */
enum mismatch {
	MISMATCH_DENY, /* the rule does not match */
	MISMATCH_LOG,
	MISMATCH_ADD, /* one more field with the value */
	MISMATCH_REPLACE, /* the value instead of what is there, if anything */
	MISMATCH_DELETE, /* what is there is taken away */
};

struct header_rule {
	const char *name; /* case does not matter */
	const char *value; /* NULL: present is enough */
	enum mismatch mismatch;
	bool never; /* nothing matches: its secret does not exist, and no value was given */
	const char *secret; /* "shop/token", which the value comes from and which is shown instead
			       of it; NULL: none */
	struct location where; /* of its entry */
};

struct http_rule { /* NULL: anything; else RE2, whole text */
	const char *method;
	const char *path; /* query included */
	const char *host;
	const struct header_rule *headers;
	size_t header_count;
	struct location where;
};

struct port_rule {
	const uint16_t *ports;
	const struct location *port_at; /* of each */
	size_t count; /* 0: any port */
	const struct http_rule *http;
	size_t http_count; /* 0: every request */
	struct location where;
};

/* (any of the peers) and (any of the port rules); a rule without either allows nothing. */
struct rule_item {
	enum direction direction;
	bool any_peer; /* no peer part */
	const char *peer_field; /* "fromEndpoints", as written */
	const struct label_selector *peers;
	size_t peer_count;
	struct location peers_at;
	const struct port_rule *ports;
	size_t port_count; /* 0: any port, every request */
	struct location where;
};

struct rule_set {
	const char *policy; /* "shop/api-l7" */
	const char *kind;
	struct location where; /* of the policy */
	struct label_selector subject;
	bool section[2]; /* by direction: what it selects is in default deny */
	const struct rule_item *items;
	size_t count;
	struct rule_set *next;
};

struct identity_labels {
	uint32_t identity;
	const char *namespace;
	const char *display; /* how messages call it */
	bool shared; /* by several workloads */
	bool local; /* one of them is on this node */
	const struct label *labels; /* sorted by key; those of the namespace included */
	size_t label_count;
};

/* Identities are sorted by number. Says in the report where rules void each other. Returns a
 * policy with one reference, or NULL when memory is short. */
struct policy *policy_compile(const struct rule_set *sets, const struct identity_labels *identities,
			      size_t identity_count, uint64_t revision, struct report *report);

bool selector_matches(const struct label_selector *s, const struct identity_labels *who);

#endif
