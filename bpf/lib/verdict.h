/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DIRECT, PROXY or DENY: the one place that says it. connect() and sk_lookup ask with values;
 * the answer names the rule that decided. Order of the keys: abi.h at `policy`.
 */
#ifndef SHUNT_LIB_VERDICT_H
#define SHUNT_LIB_VERDICT_H

#include <linux/in.h>

#include "addr.h"
#include "maps.h"

struct judgement {
	__u32 verdict; /* enum verdict */
	__u32 rule; /* 0: no rule, the default */
};

enum {
	VERDICT_EGRESS = 1,
	VERDICT_INGRESS = 2,
};

struct question {
	__u32 source; /* identities */
	__u32 destination;
	__u16 port; /* destination port, network order */
	bool egress; /* ask what the source may reach */
	bool ingress; /* ask who may reach the destination */
};

static __always_inline const struct policy_entry *verdict_lookup(__u32 subject, __u32 peer,
								 __u16 port, __u8 direction)
{
	struct policy_key key = {
		.subject = subject,
		.peer = peer,
		.port = port,
		.direction = direction,
		.protocol = IPPROTO_TCP,
	};
	const struct policy_entry *entry = bpf_map_lookup_elem(&policy, &key);

	if (entry == NULL && port != 0) {
		key.port = 0;
		entry = bpf_map_lookup_elem(&policy, &key);
	}
	return entry;
}

/* One side's answer. The node's own host always gets in (health probes, node agents) unless a
 * policy names it: for it the keys of ANY do not count. */
static __always_inline struct judgement verdict_side(__u32 subject, __u32 peer, __u16 port,
						     __u8 direction)
{
	struct judgement j = {.verdict = VERDICT_DIRECT};
	const struct policy_entry *entry = verdict_lookup(subject, peer, port, direction);

	if (entry == NULL && !(direction == DIRECTION_INGRESS && peer == IDENTITY_HOST))
		entry = verdict_lookup(subject, IDENTITY_ANY, port, direction);
	if (entry != NULL) {
		j.verdict = entry->verdict;
		j.rule = entry->rule;
	}
	return j;
}

/* DENY of either side wins, then PROXY of either; a number this version does not know is DENY. */
static __always_inline struct judgement verdict_stricter(struct judgement a, struct judgement b)
{
	if (a.verdict != VERDICT_DIRECT && a.verdict != VERDICT_PROXY)
		return a;
	if (b.verdict != VERDICT_DIRECT && b.verdict != VERDICT_PROXY)
		return b;
	if (a.verdict == VERDICT_PROXY)
		return a;
	return b.verdict == VERDICT_PROXY || a.rule == 0 ? b : a;
}

/* A function of its own, values in and one value out, so that the verifier goes through it once
 * and not once for each way that leads here. `sides`: VERDICT_EGRESS, VERDICT_INGRESS. Returns
 * verdict << 32 | rule. */
__attribute__((noinline)) __u64 verdict_once(__u32 source, __u32 destination, __u32 port,
					     __u32 sides)
{
	struct judgement j = {.verdict = VERDICT_DIRECT};

	if (sides & VERDICT_EGRESS)
		j = verdict_side(source, destination, (__u16)port, DIRECTION_EGRESS);
	if (sides & VERDICT_INGRESS)
		j = verdict_stricter(
			j, verdict_side(destination, source, (__u16)port, DIRECTION_INGRESS));
	if (j.verdict != VERDICT_DIRECT && j.verdict != VERDICT_PROXY)
		j.verdict = VERDICT_DENY;
	/* DNS over TCP is not proxied yet: an L7 rule for other ports must not break it. */
	if (j.verdict == VERDICT_PROXY && (__u16)port == bpf_htons(53))
		j.verdict = VERDICT_DIRECT;
	return (__u64)j.verdict << 32 | j.rule;
}

#define VERDICT_TRIES 5

/* A verdict takes several lookups, and the daemon changes one entry at a time, in an order that
 * leaves every flow its old or its new verdict after each change. So all lookups of one verdict
 * must fall between two changes: where the count says that one is under way or came between,
 * they are made again until two runs agree. (Hash maps reuse elements at once, so even a single
 * entry may change under its reader.) The agreement is for a daemon that was killed inside a
 * change. Who meets a change each time, which takes a storm of them, is refused.
 */
static __always_inline struct judgement verdict_judge(struct question q, const struct globals *g)
{
	__u32 sides = (q.egress ? VERDICT_EGRESS : 0) | (q.ingress ? VERDICT_INGRESS : 0);
	const volatile __u32 *changes = &g->policy_changes;
	__u64 last = (__u64)VERDICT_DENY << 32, now = last;

	for (int tries = 0; tries < VERDICT_TRIES; tries++) {
		__u32 before = *changes;

		now = verdict_once(q.source, q.destination, q.port, sides);
		barrier();
		if (*changes == before && (before & 1) == 0)
			break;
		if (tries > 0 && now == last)
			break;
		last = now;
		now = (__u64)VERDICT_DENY << 32;
	}
	return (struct judgement){.verdict = now >> 32, .rule = (__u32)now};
}

#endif
