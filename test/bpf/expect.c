// SPDX-License-Identifier: Apache-2.0
/* The words that tests are written in: see expect.h. */
#define _GNU_SOURCE 1
#include "test/bpf/expect.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

unsigned int passed, failed, skipped;

bool check(bool good, const char *sentence, const char *format, ...)
{
	va_list args;

	printf("%s - %s", good ? "ok" : "not ok", sentence);
	if (!good) {
		printf(": ");
		va_start(args, format);
		vprintf(format, args);
		va_end(args);
	}
	printf("\n");
	fflush(stdout);
	if (good)
		passed++;
	else
		failed++;
	return good;
}

double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Policy of the moment */

struct loader_policy rule(uint32_t subject, enum direction direction, uint32_t peer, uint16_t port,
			  enum verdict verdict, uint32_t id)
{
	struct loader_policy p = {
		.key = {.subject = subject,
			.peer = peer,
			.port = htons(port),
			.direction = (uint8_t)direction,
			.protocol = IPPROTO_TCP},
		.entry = {.verdict = verdict, .rule = id},
	};

	return p;
}

void policy_set(const struct loader_policy *entries, size_t n)
{
	static uint64_t revision = 41;

	if (loader_policy_put(loader, entries, n, ++revision) < 0 ||
	    loader_policy_prune(loader, entries, n) < 0)
		check(false, "the policy is written", "%s", loader_error(loader));
}
void forget(void)
{
	daemon_drain();
	memset(&seen, 0, sizeof seen);
}

const char *describe(const struct dial_result *r)
{
	static char text[400];

	snprintf(text, sizeof text,
		 "errno %d (%s), first %d, answered by %c ok %d, peer %s, local %s, %u slots, "
		 "%u ingress, %u events, reason %u, %s",
		 r->err, strerror(r->err), r->first_err, r->answer.who ? r->answer.who : '-',
		 r->answer.ok, endpoint_text(&r->peer), endpoint_text(&r->local), seen.egress,
		 seen.ingress, seen.events, seen.event.reason, seen.detail);
	return text;
}

bool same_address(const struct endpoint *e, const char *ip)
{
	struct endpoint other = endpoint_parse(ip, ntohs(e->port));

	return endpoint_same(e, &other);
}

/* Captured, at the right slot, and the client sees what it dialled from its own address. */
void captured(const char *sentence, struct dial_plan plan)
{
	struct dial_result r;
	struct endpoint dst = endpoint_parse(plan.to, plan.port);

	forget();
	r = dial(&plan);
	check(r.err == 0 && r.answer.who == 'D' && r.answer.ok && seen.wrong == 0 &&
		      endpoint_same(&r.peer, &dst) && r.bound_dev == 0 &&
		      same_address(&r.local, dst.family == AF_INET ? A4 : A6),
	      sentence, "%s", describe(&r));
}

/* Not ours: errno as without us, nothing captured, nothing said. */
void untouched(const char *sentence, struct dial_plan plan, int err, char who)
{
	struct dial_result r;

	forget();
	r = dial(&plan);
	check(r.err == err && r.answer.who == who && seen.egress + seen.ingress == 0 &&
		      seen.events == 0,
	      sentence, "%s", describe(&r));
}

void refused(const char *sentence, struct dial_plan plan, int err, enum reason reason,
	     enum direction direction)
{
	uint64_t before[REASON_MAX], after[REASON_MAX];
	struct dial_result r;

	forget();
	loader_counters(loader, before);
	r = dial(&plan);
	loader_counters(loader, after);
	check(r.err == err && seen.egress + seen.ingress == 0 && seen.events == 1 &&
		      seen.event.reason == reason && seen.event.direction == direction &&
		      seen.event.errno_value == (uint32_t)err &&
		      after[reason] == before[reason] + 1 && seen.event.entry != 0 &&
		      seen.event.entry <= seen.event.leave,
	      sentence, "%s", describe(&r));
}

void steered(const char *sentence, struct dial_plan plan, const char *client)
{
	struct dial_result r;
	struct endpoint dst = endpoint_parse(plan.to, plan.port);

	forget();
	r = dial(&plan);
	check(r.err == 0 && r.answer.who == 'I' && r.answer.ok &&
		      same_address(&r.answer.peer, client) &&
		      endpoint_same(&r.answer.local, &dst) && seen.egress == 0,
	      sentence, "%s", describe(&r));
}

void connects(const char *sentence, struct dial_plan plan, int err, char who)
{
	struct dial_result r = dial(&plan);

	check(r.err == err && r.answer.who == who, sentence, "%s", describe(&r));
}
