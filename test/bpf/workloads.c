// SPDX-License-Identifier: Apache-2.0
/* What is said of single workloads: exclusions, bypass, share of the slots, what happens while
 * the daemon is away, and workloads of the host's namespace. The place `world` is the host. */
#define _GNU_SOURCE 1
#include "test/bpf/expect.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST_INDEX = 3, IDENTITY_SERVICE = IDENTITY_FIRST + 5, ANOTHER_SET = 8, SET = 7 };

static struct globals *globals(void)
{
	return (struct globals *)(uintptr_t)loader_globals(loader);
}

static struct dial_plan arrival(uint16_t port)
{
	return PLAN(.from = PLACE_WORLD, .to = B4, .port = port, .source = WORLD4);
}

static void put(const struct workload *w)
{
	if (loader_workload_put(loader, w) < 0)
		check(false, "a workload is written", "%s", loader_error(loader));
}

static void test_quota(void)
{
	struct workload *a = loader_workload(loader, WORKLOAD_A_INDEX);

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 141),
	       rule(IDENTITY_B, DIRECTION_EGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_PROXY, 142));
	check(a->slots_used == 0, "slots that were freed are counted down", "%u", a->slots_used);
	globals()->slot_quota = 2;
	a->slots_used = 1;
	captured("the last slot of a share is given", PLAN(.to = "11.1.2.3", .port = 80));
	a->slots_used = 2;
	refused("a workload at its share is refused", PLAN(.to = "11.1.2.3", .port = 80),
		ECONNREFUSED, REASON_SLOTS_QUOTA, DIRECTION_EGRESS);
	a->flags |= WORKLOAD_AWAY_ALLOW;
	refused("... also with onUnavailable: allow", PLAN(.to = "2001:db8::1", .port = 80),
		ECONNREFUSED, REASON_SLOTS_QUOTA, DIRECTION_EGRESS);
	a->flags &= ~(uint32_t)WORKLOAD_AWAY_ALLOW;
	check(a->slots_used == 2, "... and counts nothing", "%u", a->slots_used);
	connects("... and others have theirs", PLAN(.from = PLACE_B, .to = "11.1.2.3", .port = 80),
		 0, 'D');
	a->slots_used = 0;
	globals()->slot_quota = SLOTS;
}

static uint64_t passed_unjudged(void)
{
	uint64_t counts[REASON_MAX];

	loader_counters(loader, counts);
	return counts[REASON_AWAY_ALLOWED];
}

static void test_away(void)
{
	struct workload a = daemon_workload(PLACE_A), b = daemon_workload(PLACE_B);
	uint64_t before = passed_unjudged();

	POLICY(A_OUT(IDENTITY_B, 8080, PROXY, 151), A_OUT(IDENTITY_B, 8081, DENY, 152),
	       B_IN(IDENTITY_WORLD, 8080, PROXY, 153), B_IN(IDENTITY_WORLD, 8082, DENY, 154));
	a.flags |= WORKLOAD_AWAY_ALLOW;
	b.flags |= WORKLOAD_AWAY_ALLOW;
	put(&a);
	put(&b);
	captured("onUnavailable: allow changes nothing while the daemon is there",
		 PLAN(.to = B4, .port = 8080));
	steered("... nor for arrivals", arrival(8080), WORLD4);
	daemon_unlisten(WORKLOAD_A_INDEX);
	daemon_unlisten(WORKLOAD_B_INDEX);
	untouched("away, allow: what would be proxied passes", PLAN(.to = B4, .port = 8080), 0,
		  'S');
	untouched("... over IPv6", PLAN(.to = B6, .port = 8080), 0, 'S');
	untouched("... and so do arrivals", arrival(8080), 0, 'S');
	check(passed_unjudged() == before + 3, "... each is counted", "%llu",
	      (unsigned long long)(passed_unjudged() - before));
	refused("away, allow: a denied connect() stays denied", PLAN(.to = B4, .port = 8081),
		ECONNREFUSED, REASON_POLICY_L4, DIRECTION_EGRESS);
	refused("... and a denied arrival", arrival(8082), ECONNREFUSED, REASON_POLICY_L4,
		DIRECTION_INGRESS);
	b.flags &= ~(uint32_t)WORKLOAD_AWAY_ALLOW;
	put(&b);
	refused("it is each workload's own: a neighbour that denies", arrival(8080), ECONNREFUSED,
		REASON_DAEMON_AWAY, DIRECTION_INGRESS);
	a.flags &= ~(uint32_t)WORKLOAD_AWAY_ALLOW;
	put(&a);
	check(daemon_listen(PLACE_A, WORKLOAD_A_INDEX) == 0 &&
		      daemon_listen(PLACE_B, WORKLOAD_B_INDEX) == 0,
	      "the daemon is back", "%s", loader_error(loader));
}

static struct loader_exclude_cidr cidr(uint32_t set, const char *ip, uint32_t bits)
{
	return (struct loader_exclude_cidr){
		.key = {EXCLUDE_SET_BITS + bits, set, endpoint_parse(ip, 0).ip}, .one = 1};
}

static void test_exclusions(void)
{
	const struct loader_exclude_port ports[] = {{{SET, htons(8080), 0}, 1},
						    {{ANOTHER_SET, htons(8081), 0}, 1}};
	const struct loader_exclude_cidr cidrs[] = {
		cidr(SET, "11.0.0.0", 96 + 8), cidr(SET, "11.1.0.0", 96 + 16),
		cidr(SET, "2001:db8::", 32), cidr(ANOTHER_SET, WORLD4, 128)};
	const struct loader_exclusions all = {ports, 2, cidrs, 4}, none = {NULL, 0, NULL, 0};
	struct workload a = daemon_workload(PLACE_A), b = daemon_workload(PLACE_B);

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 161),
	       B_IN(IDENTITY_ANY, EVERYWHERE, DENY, 162));
	check(loader_exclusions_put(loader, &all) == 0, "exclusions are written", "%s",
	      loader_error(loader));
	refused("an exclusion that the workload does not have changes nothing",
		PLAN(.to = "11.1.2.3", .port = 81), ECONNREFUSED, REASON_POLICY_L4,
		DIRECTION_EGRESS);
	a.exclusion = SET;
	put(&a);
	refused("what is not excluded is judged", PLAN(.to = "12.1.2.3", .port = 81), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	refused("another set's port is judged", PLAN(.to = "12.1.2.3", .port = 8081), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	/* B serves these; its own end still judges. */
	b.flags = 0;
	put(&b);
	untouched("an excluded port is left alone", PLAN(.to = B4, .port = 8080), 0, 'S');
	untouched("... over IPv6", PLAN(.to = B6, .port = 8080), 0, 'S');
	refused("... and only that one", PLAN(.to = B4, .port = 8081), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	untouched("an excluded CIDR is left alone: there is no route there",
		  PLAN(.to = "11.1.2.3", .port = 81, .flags = DIAL_UDP), 0, 0);
	b = daemon_workload(PLACE_B);
	b.exclusion = ANOTHER_SET;
	put(&b);
	untouched("an arrival from an excluded address is left alone", arrival(8082), 0, 'S');
	refused("... and from another it is judged",
		PLAN(.from = PLACE_WORLD, .to = B6, .port = 8082, .source = WORLD6), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_INGRESS);
	untouched("an arrival at an excluded port is left alone",
		  PLAN(.from = PLACE_WORLD, .to = B6, .port = 8081, .source = WORLD6), 0, 'S');
	POLICY(B_IN(IDENTITY_ANY, EVERYWHERE, DENY, 163));
	untouched("a local client meets the destination's exclusion at connect()",
		  PLAN(.to = B4, .port = 8081), 0, 'S');
	check(loader_exclusions_prune(loader, &none) == 0, "exclusions are taken away", "%s",
	      loader_error(loader));
	refused("without its entries a set excludes nothing", arrival(8081), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_INGRESS);
	a = daemon_workload(PLACE_A);
	b = daemon_workload(PLACE_B);
	put(&a);
	put(&b);
}

static uint64_t in_an_hour(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec + 3600) * UINT64_C(1000000000);
}

static void test_bypass(void)
{
	struct workload *a = loader_workload(loader, WORKLOAD_A_INDEX);
	struct workload *b = loader_workload(loader, WORKLOAD_B_INDEX);

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 171),
	       B_IN(IDENTITY_ANY, EVERYWHERE, DENY, 172));
	a->bypass_until = in_an_hour();
	refused("a bypass of the source leaves the destination judged",
		PLAN(.to = B4, .port = 8080), ECONNREFUSED, REASON_POLICY_L4, DIRECTION_INGRESS);
	b->bypass_until = in_an_hour();
	untouched("bypassed at both ends it passes", PLAN(.to = B4, .port = 8080), 0, 'S');
	untouched("a bypassed workload's arrivals pass", arrival(8080), 0, 'S');
	refused("a slot stays refused", PLAN(.to = "127.64.0.1", .port = 15001), EPERM,
		REASON_SLOT_FORGED, DIRECTION_EGRESS);
	a->bypass_until = 0;
	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DIRECT, 173),
	       B_IN(IDENTITY_ANY, EVERYWHERE, DENY, 174));
	untouched("a bypassed destination does not refuse at connect()",
		  PLAN(.to = B4, .port = 8080), 0, 'S');
	b->bypass_until = 1;
	refused("a bypass ends by itself", arrival(8080), ECONNREFUSED, REASON_POLICY_L4,
		DIRECTION_INGRESS);
	b->bypass_until = 0;
}

/* ---- the host's namespace: workloads are cgroups ---- */

static struct workload service(uint64_t cgroup)
{
	return (struct workload){
		.place = cgroup | PLACE_CGROUP,
		.index = HOST_INDEX,
		.generation = 7,
		.identity = IDENTITY_SERVICE,
		.flags = WORKLOAD_EGRESS | WORKLOAD_INGRESS,
		.ip4 = endpoint_parse(WORLD4, 0).ip,
		.ip6 = endpoint_parse(WORLD6, 0).ip,
	};
}

static void host_egress(void)
{
	struct dial_plan out = PLAN(.from = PLACE_WORLD, .to = B4, .port = 8080);

	POLICY(rule(IDENTITY_SERVICE, DIRECTION_EGRESS, IDENTITY_B, 8080, VERDICT_PROXY, 181),
	       rule(IDENTITY_SERVICE, DIRECTION_EGRESS, IDENTITY_B, 8081, VERDICT_DENY, 182));
	connects("a host service's connect() is captured", out, 0, 'D');
	check(seen.wrong == 0 && seen.slot.workload == HOST_INDEX &&
		      seen.slot.identity == IDENTITY_SERVICE && seen.slot.peer == WORKLOAD_B_INDEX,
	      "... as that service's", "workload %u identity %u, %s", seen.slot.workload,
	      seen.slot.identity, seen.detail);
	out.port = 8081;
	refused("... denied", out, ECONNREFUSED, REASON_POLICY_L4, DIRECTION_EGRESS);
	check(seen.event.workload == HOST_INDEX, "... in its name", "%u", seen.event.workload);
	untouched("another address of the host is its own, and left alone",
		  PLAN(.from = PLACE_WORLD, .to = HOST4, .port = 8080), ECONNREFUSED, 0);
	loader_host_workloads(loader, 0);
	untouched("with no host workload nobody of the host is judged", out, 0, 'S');
	loader_host_workloads(loader, 1);
}

static void host_ingress(pid_t server)
{
	struct dial_plan in = PLAN(.from = PLACE_B, .to = WORLD4, .port = 8090, .source = B4);

	POLICY(rule(IDENTITY_SERVICE, DIRECTION_INGRESS, IDENTITY_B, EVERYWHERE, VERDICT_DENY,
		    183));
	in.to = HOST4; /* in the directory of addresses; WORLD4 is not */
	refused("a connect() to a host service is judged by its rules", in, ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	in.to = WORLD4;
	refused("... or else where it arrives", in, ECONNREFUSED, REASON_POLICY_L4,
		DIRECTION_INGRESS);
	POLICY(rule(IDENTITY_SERVICE, DIRECTION_INGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_PROXY,
		    184));
	loader_workload(loader, WORKLOAD_B_INDEX)->flags = 0;
	steered("an arrival for the service goes to its listener", in, B4);
	in.to = WORLD6;
	in.source = B6;
	steered("... over IPv6", in, B6);
	in.to = HOST4;
	in.source = B4;
	steered("... on any of the host's addresses", in, B4);
	in.port = 8091;
	untouched("a port that nobody serves is the kernel's", in, ECONNREFUSED, 0);
	server_stop(server);
	in.port = 8090;
	untouched("a server that ended owns its port no more", in, ECONNREFUSED, 0);
	loader_workload(loader, WORKLOAD_B_INDEX)->flags = daemon_workload(PLACE_B).flags;
}

/* PID 1 listens on behalf of a unit: the port is the unit's because it says so. */
static void host_declared(void)
{
	const uint16_t port = 8092;
	struct loader_owner owner = {htons(port), rig.app_cgroup_id | PLACE_CGROUP};
	struct dial_plan in = PLAN(.from = PLACE_B, .to = HOST4, .port = port, .source = B4);
	pid_t server;

	rig.fork_cgroup = rig.other_cgroup;
	server = server_start(PLACE_WORLD, &port, 1, NULL);
	rig.fork_cgroup = rig.app_cgroup;
	loader_workload(loader, WORKLOAD_B_INDEX)->flags = 0;
	untouched("a listener of another cgroup is not the service's", in, 0, 'S');
	check(loader_owner_replace(loader, &owner, 1) == 0, "a port is declared", "%s",
	      loader_error(loader));
	steered("a declared port is the service's, whoever listens", in, B4);
	check(loader_owner_replace(loader, NULL, 0) == 0, "... and no more", "%s",
	      loader_error(loader));
	untouched("... it is not", in, 0, 'S');
	server_stop(server);
	loader_workload(loader, WORKLOAD_B_INDEX)->flags = daemon_workload(PLACE_B).flags;
}

static void test_host(void)
{
	const uint16_t port = 8090;
	struct workload w = service(rig.app_cgroup_id);
	pid_t server = server_start(PLACE_WORLD, &port, 1, NULL);
	int err;

	put(&w);
	loader_host_workloads(loader, 1);
	err = loader_inbound_attach(loader, rig.netns[PLACE_WORLD], rig.cookie[PLACE_WORLD]);
	if (err == 0)
		err = daemon_listen(PLACE_WORLD, HOST_INDEX);
	if (err == 0)
		err = daemon_walk(PLACE_WORLD, HOST_INDEX);
	check(err == 0, "a service of the host is enrolled, and its listeners are found", "%s",
	      loader_error(loader));
	host_egress();
	host_ingress(server);
	host_declared();
	loader_inbound_detach(loader, rig.cookie[PLACE_WORLD]);
	loader_workload_remove(loader, w.place);
	loader_host_workloads(loader, 0);
	daemon_unlisten(HOST_INDEX);
}

void test_workloads(void)
{
	test_quota();
	test_away();
	test_exclusions();
	test_bypass();
	test_host();
}
