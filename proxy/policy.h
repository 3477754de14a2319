/* SPDX-License-Identifier: Apache-2.0 */
/*
 * (who, where, head) -> allow or deny, and the rule that says so. Pure: the node, `shunt
 * policy explain` and the unit tests ask this same code, and what the kernel's policy map
 * holds is computed from it (policy_kernel_entries).
 *
 * Allowed is the union over all rules that select the flow, per direction; a direction in
 * which no policy selects the subject is open. Both ends must allow: egress of the source
 * (first) and ingress of the destination. A rule without http rules allows every request of
 * the connections it selects, so it voids http rules for them.
 */
#ifndef SHUNT_POLICY_H
#define SHUNT_POLICY_H

#include "config/snapshot.h"
#include "config/text.h"
#include "proxy/codec/message.h"

struct flow {
	uint32_t src; /* identities: IDENTITY_HOST, IDENTITY_WORLD, or a workload's */
	uint32_t dst;
	uint16_t port; /* of the destination, host order */
};

/* One rule as people name it. */
struct policy_rule {
	const char *policy; /* "shop/api-l7" */
	const char *kind; /* "CiliumNetworkPolicy" */
	struct location where; /* of the rule; for default deny: of the policy */
	const char *place; /* the same as records say it: "conf.d/20-api.yaml:12" */
};

/* How a path was read (a request is allowed only if every reading of its path is). */
enum reading {
	READING_RAW,
	READING_NORMAL,
	READING_LENIENT,
};
const char *reading_name(enum reading r);

/* Entries of headerMatches that did not hold, though their rules matched; in order. They live as
 * long as the policy. */
#define POLICY_MISMATCHES 8U
struct header_match;
struct policy_mismatches {
	const struct header_match *items[POLICY_MISMATCHES];
	unsigned count; /* of all; the first eight are kept */
};
/* "conf.d/a.yaml:14 X-Team ADD, conf.d/a.yaml:15 X-Id LOG". No value is ever said. */
void policy_mismatches_text(const struct policy_mismatches *m, struct text *out);

struct decision {
	enum verdict verdict; /* a request is never PROXY: DIRECT means allowed */
	enum reason
		reason; /* NONE, POLICY_L4, or of requests POLICY_L7, POLICY_MEMORY, NO_MEMORY */
	enum direction direction; /* which end's policy the rule is of */
	const struct policy_rule *rule; /* the one that allowed or, denied, the one that put
					   the subject into default deny; NULL: no policy */
	uint32_t rule_id; /* 0: none; see policy_rule_by_id() */
	enum reading reading; /* denied by policy_l7: the reading that no rule allows */
	bool edited; /* fields of its head were added, replaced or deleted, see policy_head() */
};

/* May this connection be, and does it go through the proxy? */
struct decision policy_connection(const struct policy *p, const struct flow *flow);

/* What a thread judges requests with: room that grows to what was needed and is used again.
 * NULL when memory is short. */
struct policy_scratch;
struct policy_scratch *policy_scratch_new(void);
void policy_scratch_free(struct policy_scratch *s); /* NULL is allowed */

/* May this request be? Asks the connection's verdict first. `head` is a request. Every rule is
 * asked of the head as it came (the receiver's of what the source's rules made of it), then
 * those that match edit it, in order. Denied with REASON_NO_MEMORY where an edit found no room. */
struct decision policy_request(const struct policy *p, const struct flow *flow,
			       const struct message *head, struct policy_scratch *scratch);

/* Of the request last judged with `s`, until the next: the head to forward, if it was allowed
 * (points into `s`, what was judged, and the policy), and what did not match of it. */
const struct message *policy_head(const struct policy_scratch *s);
const struct policy_mismatches *policy_mismatches(const struct policy_scratch *s);

/* NULL when the id is not of this policy. */
const struct policy_rule *policy_rule_by_id(const struct policy *p, uint32_t id);

/* Does any http rule (or policy at all) select connections of this identity, in that
 * direction? What no policy selects needs no program and no listener of ours. */
bool policy_selects(const struct policy *p, uint32_t identity, enum direction direction);

/* A flow for which no rule was found: what came nearest to allowing it. */
struct near_miss {
	const struct policy_rule *rule; /* NULL: nothing comes near */
	struct location where; /* of the http rule, or of the peer list */
	char why[256]; /* "method GET ≠ POST", "port 8080 ≠ 9090", "fromEndpoints do not
			  select shop/web" */
};
void policy_near_miss(const struct policy *p, const struct flow *flow, const struct message *head,
		      struct near_miss *out);

/* What the kernel's map shall hold for the subjects on this node (see policy_key in
 * bpf/abi.h for the order of lookups): for every flow the first key that is present answers
 * what policy_connection() answers for that direction. Hands each entry to `put`; stops and
 * returns its result when that is negative, -ENOMEM when memory is short, else 0. */
int policy_kernel_entries(const struct policy *p,
			  int (*put)(void *arg, const struct policy_key *key,
				     const struct policy_entry *entry),
			  void *arg);

#endif
