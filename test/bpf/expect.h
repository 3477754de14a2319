/* SPDX-License-Identifier: Apache-2.0 */
/* The words that tests of the kernel half are written in: one sentence each, one line each. */
#ifndef SHUNT_TEST_EXPECT_H
#define SHUNT_TEST_EXPECT_H

#include "test/bpf/testd.h"

#define SLOTS 1024U
#define RATE 100U
#define EVERYWHERE 0 /* port of a rule */

extern unsigned int passed, failed, skipped;

bool check(bool good, const char *sentence, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
double seconds(void);

/* Policy of the moment */
struct loader_policy rule(uint32_t subject, enum direction direction, uint32_t peer, uint16_t port,
			  enum verdict verdict, uint32_t id);
void policy_set(const struct loader_policy *entries, size_t n);
#define POLICY(...)                                                                                \
	policy_set((struct loader_policy[]){__VA_ARGS__},                                          \
		   sizeof((struct loader_policy[]){__VA_ARGS__}) / sizeof(struct loader_policy))

#define A_OUT(peer, port, verdict, id)                                                             \
	rule(IDENTITY_A, DIRECTION_EGRESS, peer, port, VERDICT_##verdict, id)
#define B_IN(peer, port, verdict, id)                                                              \
	rule(IDENTITY_B, DIRECTION_INGRESS, peer, port, VERDICT_##verdict, id)

#define PLAN(...) ((struct dial_plan){__VA_ARGS__})

void forget(void); /* what was seen so far */
const char *describe(const struct dial_result *r);
bool same_address(const struct endpoint *e, const char *ip);

/* Captured, at the right slot, and the client sees what it dialled from its own address. */
void captured(const char *sentence, struct dial_plan plan);
/* Not ours: errno as without us, nothing captured, nothing said. */
void untouched(const char *sentence, struct dial_plan plan, int err, char who);
void refused(const char *sentence, struct dial_plan plan, int err, enum reason reason,
	     enum direction direction);
void steered(const char *sentence, struct dial_plan plan, const char *client);
/* Whatever the daemon has seen. */
void connects(const char *sentence, struct dial_plan plan, int err, char who);

/* registry.c */
void test_registry_content(void);
void test_registry(pid_t older, uint16_t older_port);

/* workloads.c */
void test_workloads(void);

/* life.c */
bool state_whole(size_t inbound);
void test_replace_under_load(uint32_t total);
void test_death_under_load(uint32_t rounds);
void test_adopt(void);
void test_refusals(void);
void test_detach(void);

#endif
