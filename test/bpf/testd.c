// SPDX-License-Identifier: Apache-2.0
/* What must hold, one sentence each. CONNECTS: how many in the mixed run; FACTOR: stretches
 * time limits (emulators). */
#define _GNU_SOURCE 1
#include "test/bpf/expect.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test/bpf/values.h"
#include "foreign.skel.h"
#include "values.skel.h"

static struct values *values;

static void addresses_set(void)
{
	const struct {
		const char *ip;
		uint32_t identity;
		enum place place;
	} all[] = {
		{A4, IDENTITY_A, PLACE_A},	     {A6, IDENTITY_A, PLACE_A},
		{B4, IDENTITY_B, PLACE_B},	     {B6, IDENTITY_B, PLACE_B},
		{HOST4, IDENTITY_HOST, PLACE_WORLD}, {HOST6, IDENTITY_HOST, PLACE_WORLD},
	};
	struct loader_address entries[6];

	memset(entries, 0, sizeof entries);
	for (size_t i = 0; i < 6; i++) {
		entries[i].ip = endpoint_parse(all[i].ip, 0).ip;
		entries[i].address = (struct address){
			.identity = all[i].identity,
			.index = all[i].place == PLACE_A   ? WORKLOAD_A_INDEX
				 : all[i].place == PLACE_B ? WORKLOAD_B_INDEX
							   : ADDRESS_NOT_LOCAL,
			.netns = rig.cookie[all[i].place],
		};
	}
	if (loader_address_replace(loader, entries, 6) < 0)
		check(false, "the addresses are written", "%s", loader_error(loader));
}

/* Decisions on values */

static struct verdict_values ask(uint32_t source, uint32_t destination, uint16_t port,
				 uint32_t egress, uint32_t ingress)
{
	struct verdict_values v = {
		.source = source,
		.destination = destination,
		.port = htons(port),
		.egress = egress,
		.ingress = ingress,
	};
	LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &v, .ctx_size_in = sizeof v);

	v.verdict = 99;
	if (bpf_prog_test_run_opts(bpf_program__fd(values->progs.verdict_values), &o) < 0)
		v.verdict = 98;
	return v;
}

static void says(const char *sentence, struct verdict_values v, enum verdict verdict, uint32_t id)
{
	check(v.verdict == verdict && v.rule == id, sentence, "verdict %u by rule %u", v.verdict,
	      v.rule);
}

static int values_open(void)
{
	char path[200];

	values = values__open();
	if (values == NULL)
		return -errno;
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/policy", rig.pins);
	bpf_map__set_pin_path(values->maps.policy, path);
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/globals", rig.pins);
	bpf_map__set_pin_path(values->maps.globals, path); /* with the count of changes */
	return values__load(values);
}

static void test_verdicts(void)
{
	enum { X = 300, Y = 301, Z = 302 };

	POLICY(rule(X, DIRECTION_EGRESS, Y, 80, VERDICT_PROXY, 1),
	       rule(X, DIRECTION_EGRESS, Y, EVERYWHERE, VERDICT_DENY, 2),
	       rule(X, DIRECTION_EGRESS, IDENTITY_ANY, 80, VERDICT_DIRECT, 3),
	       rule(X, DIRECTION_EGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_DENY, 4),
	       rule(Z, DIRECTION_INGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_DENY, 5),
	       rule(Z, DIRECTION_INGRESS, X, EVERYWHERE, VERDICT_DIRECT, 6),
	       rule(Z, DIRECTION_INGRESS, Y, 53, VERDICT_PROXY, 7),
	       rule(Y, DIRECTION_INGRESS, IDENTITY_HOST, 80, VERDICT_DENY, 8),
	       rule(Y, DIRECTION_INGRESS, X, EVERYWHERE, VERDICT_PROXY, 9),
	       rule(Y, DIRECTION_EGRESS, Z, EVERYWHERE, 77, 10));
	says("peer and port decide before all others", ask(X, Y, 80, 1, 0), VERDICT_PROXY, 1);
	says("the peer on any port decides next", ask(X, Y, 81, 1, 0), VERDICT_DENY, 2);
	says("any peer on the port decides third", ask(X, Z, 80, 1, 0), VERDICT_DIRECT, 3);
	says("any peer on any port decides last", ask(X, Z, 81, 1, 0), VERDICT_DENY, 4);
	says("no entry means direct, by no rule", ask(IDENTITY_A, Z, 81, 1, 0), VERDICT_DIRECT, 0);
	says("the direction of an entry counts", ask(Z, X, 80, 1, 0), VERDICT_DIRECT, 0);
	says("a denied destination is denied at the source", ask(IDENTITY_A, Z, 80, 1, 1),
	     VERDICT_DENY, 5);
	says("a denying source wins over a destination that proxies", ask(X, Y, 81, 1, 1),
	     VERDICT_DENY, 2);
	says("a proxying destination wins over a direct source", ask(X, Y, 80, 0, 1), VERDICT_PROXY,
	     9);
	says("the node's host is not held by a rule for anybody", ask(IDENTITY_HOST, Z, 80, 0, 1),
	     VERDICT_DIRECT, 0);
	says("a rule that names the host holds it", ask(IDENTITY_HOST, Y, 80, 0, 1), VERDICT_DENY,
	     8);
	says("TCP port 53 is not proxied", ask(Y, Z, 53, 0, 1), VERDICT_DIRECT, 7);
	says("TCP port 53 can be denied", ask(X, Y, 53, 1, 0), VERDICT_DENY, 2);
	says("a verdict that nobody knows is a denial", ask(Y, Z, 80, 1, 0), VERDICT_DENY, 10);
}

static void test_addresses(void)
{
	static const struct {
		const char *ip;
		bool is4, loopback, wildcard, slot_range;
		const char *carried;
	} all[] = {
		{"10.77.1.1", true, false, false, false, NULL},
		{"127.0.0.1", true, true, false, false, NULL},
		{"127.63.255.255", true, true, false, false, NULL},
		{"127.64.0.0", true, true, false, true, "127.64.0.0"},
		{"127.127.255.255", true, true, false, true, "127.127.255.255"},
		{"127.128.0.7", true, true, false, false, "127.128.0.7"},
		{"127.192.0.0", true, true, false, false, NULL},
		{"0.0.0.0", true, false, true, false, NULL},
		{"::", false, false, true, false, NULL},
		{"::1", false, true, false, false, NULL},
		{"::127.0.0.1", false, false, false, false, NULL},
		{"fd73:6875:6e74::7f40:9", false, false, false, true, "127.64.0.9"},
		{"fd73:6875:6e74::7f80:9", false, false, false, true, "127.128.0.9"},
		{"fd73:6875:6e74::1:7f40:9", false, false, false, true, NULL},
		{"fd73:6875:6e74::a00:1", false, false, false, true, NULL},
		{"fd73:6875:6e75::7f40:9", false, false, false, false, NULL},
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		struct endpoint e = endpoint_parse(all[i].ip, 0);
		struct addr_values v = {.pad = 0};
		LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &v, .ctx_size_in = sizeof v);
		char sentence[80];
		uint32_t carried = 0;

		memcpy(v.word, e.ip.word, sizeof v.word);
		if (all[i].carried != NULL)
			inet_pton(AF_INET, all[i].carried, &carried);
		snprintf(sentence, sizeof sentence, "the kernel half knows what %s is", all[i].ip);
		check(bpf_prog_test_run_opts(bpf_program__fd(values->progs.addr_values), &o) == 0 &&
			      v.is4 == all[i].is4 && v.loopback == all[i].loopback &&
			      v.wildcard == all[i].wildcard && v.slot_range == all[i].slot_range &&
			      v.carried4 == carried,
		      sentence, "v4 %u loopback %u wildcard %u slot %u carries %08x", v.is4,
		      v.loopback, v.wildcard, v.slot_range, ntohl(v.carried4));
	}
}

/* A reader asks all the time while a writer goes to and fro between two policies that both say
 * PROXY for it: by a narrow entry over a denying wide one, and by a wide one. */
static volatile bool toggling;

static void *toggle_reader(void *arg)
{
	uint32_t *wrong = arg;

	while (toggling) {
		struct verdict_values v = ask(400, 401, 80, 1, 0);

		if (v.verdict != VERDICT_PROXY) {
			++*wrong;
			printf("# saw verdict %u by rule %u\n", v.verdict, v.rule);
		}
	}
	return NULL;
}

static void test_policy_replace(void)
{
	struct loader_policy narrow[] = {
		rule(400, DIRECTION_EGRESS, 401, 80, VERDICT_PROXY, 1),
		rule(400, DIRECTION_EGRESS, 401, EVERYWHERE, VERDICT_DENY, 2),
		rule(400, DIRECTION_EGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_DENY, 3),
	};
	struct loader_policy wide[] = {
		rule(400, DIRECTION_EGRESS, IDENTITY_ANY, EVERYWHERE, VERDICT_PROXY, 4),
	};
	uint32_t wrong = 0;
	pthread_t reader;

	policy_set(narrow, 3);
	toggling = true;
	pthread_create(&reader, NULL, toggle_reader, &wrong);
	for (int i = 0; i < 3000 / rig.factor; i++) {
		policy_set(wide, 1);
		policy_set(narrow, 3);
	}
	toggling = false;
	pthread_join(reader, NULL);
	check(wrong == 0, "a change of policy never shows a third verdict", "%u times", wrong);
	policy_set(wide, 1);
	says("what the new policy lacks is gone", ask(400, 401, 80, 1, 0), VERDICT_PROXY, 4);
	policy_set(NULL, 0);
	says("an empty policy is empty", ask(400, 401, 80, 1, 0), VERDICT_DIRECT, 0);
	check(loader_policy_put(loader, NULL, POLICY_MAX + 1, 1) == -E2BIG,
	      "a policy that does not fit is refused whole", "it was not");
}

/* connect() */

static void test_captures(void)
{
	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 11));
	captured("a blocking IPv4 connect is captured", PLAN(.to = "11.1.2.3", .port = 80));
	captured("a blocking IPv6 connect is captured", PLAN(.to = "2001:db8::1", .port = 80));
	captured("a non-blocking IPv4 connect is captured",
		 PLAN(.to = "11.1.2.3", .port = 80, .flags = DIAL_NONBLOCK));
	captured("a non-blocking IPv6 connect is captured",
		 PLAN(.to = "2001:db8::1", .port = 80, .flags = DIAL_NONBLOCK));
	captured("a V6ONLY socket is captured",
		 PLAN(.to = "2001:db8::1", .port = 80, .flags = DIAL_V6ONLY));
	captured("a v4-mapped connect is captured as IPv4",
		 PLAN(.to = "11.1.2.3", .port = 80, .flags = DIAL_MAPPED));
	captured("a socket bound to its own IPv4 address is captured",
		 PLAN(.to = "11.1.2.3", .port = 80, .source = A4));
	captured("a socket bound to its own IPv6 address is captured",
		 PLAN(.to = "2001:db8::1", .port = 80, .source = A6));
	captured("a socket bound to a device is captured over IPv4",
		 PLAN(.to = "11.1.2.3", .port = 80, .flags = DIAL_DEVICE));
	captured("a socket bound to a device is captured over IPv6",
		 PLAN(.to = "2001:db8::1", .port = 80, .flags = DIAL_DEVICE));
	captured("TCP Fast Open over IPv4 finds its slot",
		 PLAN(.to = "11.1.2.3", .port = 80, .flags = DIAL_TFO));
	captured("TCP Fast Open over IPv6 finds its slot",
		 PLAN(.to = "2001:db8::1", .port = 80, .flags = DIAL_TFO));
	check(seen.syn_data == 1, "and its data came in the SYN", "it did not");
	captured("another workload of this node is captured by name", PLAN(.to = B4, .port = 8080));
	check(seen.slot.dialled == 1, "the slot knows that the SYN has left", "it does not");
	check(seen.slot.rule == 11 && seen.slot.identity == IDENTITY_A &&
		      seen.slot.revision == loader_globals(loader)->revision,
	      "the slot says by which rule of which revision", "rule %u identity %u revision %llu",
	      seen.slot.rule, seen.slot.identity, (unsigned long long)seen.slot.revision);
}

static uint32_t slots_taken(void)
{
	uint32_t count, n = 0;
	const struct slot *slots = loader_slots(loader, &count);

	for (uint32_t i = 0; i < count; i++)
		n += slots[i].used != SLOT_FREE;
	return n;
}

/* connect() that fails in the kernel, after the hook or in spite of it. */
static void test_failures(void)
{
	struct endpoint dst = endpoint_parse("11.1.2.3", 80);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&dst, true, &ss);
	uint32_t before = slots_taken();
	pid_t pid = rig_fork(PLACE_A);
	int status = -1;

	if (pid == 0) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		for (int i = 0; i < 100; i++)
			if (connect(fd, (struct sockaddr *)&ss, len) == 0 || errno != EAFNOSUPPORT)
				_exit(1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	check(status == 0 && slots_taken() == before,
	      "an address of another family than the socket's takes no slot", "status %d, %u slots",
	      status, slots_taken() - before);
}

static void test_passes(void)
{
	const uint16_t port = 9000;
	pid_t server = server_start(PLACE_A, &port, 1, NULL);

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 12));
	untouched("127.0.0.1 is never touched", PLAN(.to = "127.0.0.1", .port = port), 0, 'S');
	untouched("::1 is never touched", PLAN(.to = "::1", .port = port), 0, 'S');
	untouched("mapped loopback is never touched",
		  PLAN(.to = "127.0.0.1", .port = port, .flags = DIAL_MAPPED), 0, 'S');
	untouched("0.0.0.0 is loopback", PLAN(.to = "0.0.0.0", .port = port), 0, 'S');
	untouched(":: is loopback", PLAN(.to = "::", .port = port), 0, 'S');
	untouched("the workload's own IPv4 address is never touched", PLAN(.to = A4, .port = port),
		  0, 'S');
	untouched("the workload's own IPv6 address is never touched", PLAN(.to = A6, .port = port),
		  0, 'S');
	untouched("its own address, mapped, is never touched",
		  PLAN(.to = A4, .port = port, .flags = DIAL_MAPPED), 0, 'S');
	untouched("loopback without a listener is refused by the kernel as ever",
		  PLAN(.to = "127.0.0.1", .port = 9001), ECONNREFUSED, 0);
	untouched("connect() of a UDP socket is not judged",
		  PLAN(.to = B4, .port = 80, .flags = DIAL_UDP), 0, 0);
	untouched("connect() of a UDP socket over IPv6 is not judged",
		  PLAN(.to = B6, .port = 80, .flags = DIAL_UDP), 0, 0);
	untouched("a process outside the workloads is not judged",
		  PLAN(.from = PLACE_WORLD, .to = B4, .port = 8080), 0, 'S');
	server_stop(server);
}

static void test_denials(void)
{
	struct dial_plan retry = PLAN(.to = "11.1.2.3", .port = 80, .denied_first = 81);
	struct dial_result r;

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 21), A_OUT(IDENTITY_WORLD, 81, DENY, 22),
	       A_OUT(IDENTITY_B, 8080, DIRECT, 23), B_IN(IDENTITY_A, 8081, DENY, 24),
	       B_IN(IDENTITY_A, 8082, PROXY, 25), A_OUT(IDENTITY_B, 8081, DIRECT, 26),
	       A_OUT(IDENTITY_B, 8082, DIRECT, 27), A_OUT(IDENTITY_ANY, 53, PROXY, 28));
	untouched("a direct connection is not captured", PLAN(.to = B4, .port = 8080), 0, 'S');
	untouched("a direct connection over IPv6 is not captured", PLAN(.to = B6, .port = 8080), 0,
		  'S');
	refused("a denied connect() says ECONNREFUSED", PLAN(.to = "11.1.2.3", .port = 81),
		ECONNREFUSED, REASON_POLICY_L4, DIRECTION_EGRESS);
	check(seen.event.rule == 22 && seen.event.cgroup == rig.app_cgroup_id &&
		      strcmp(seen.event.comm, "run") == 0 && seen.event.pid != 0 &&
		      seen.event.netns == rig.cookie[PLACE_A] &&
		      seen.event.src_identity == IDENTITY_A &&
		      seen.event.dst_identity == IDENTITY_WORLD &&
		      same_address(&seen.event.src, A4) &&
		      same_address(&seen.event.dst, "11.1.2.3") &&
		      seen.event.revision == loader_globals(loader)->revision,
	      "its event says who, where and by which rule", "rule %u comm %s pid %u",
	      seen.event.rule, seen.event.comm, seen.event.pid);
	refused("a denied connect() over IPv6 says ECONNREFUSED",
		PLAN(.to = "2001:db8::1", .port = 81), ECONNREFUSED, REASON_POLICY_L4,
		DIRECTION_EGRESS);
	refused("a denied mapped connect() says ECONNREFUSED",
		PLAN(.to = "11.1.2.3", .port = 81, .flags = DIAL_MAPPED), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	refused("a denied non-blocking connect() fails at once",
		PLAN(.to = "11.1.2.3", .port = 81, .flags = DIAL_NONBLOCK), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_EGRESS);
	refused("what the destination denies is denied at connect()", PLAN(.to = B4, .port = 8081),
		ECONNREFUSED, REASON_POLICY_L4, DIRECTION_EGRESS);
	check(seen.event.rule == 24, "and its event names the destination's rule", "rule %u",
	      seen.event.rule);
	captured("what the destination proxies is captured at connect()",
		 PLAN(.to = B4, .port = 8082));
	untouched("TCP port 53 goes direct where a rule says proxy", PLAN(.to = B4, .port = 53), 0,
		  'S');
	forget();
	r = dial(&retry);
	check(r.first_err == ECONNREFUSED && r.err == 0 && r.answer.who == 'D' && r.answer.ok,
	      "a socket that was refused can connect again", "%s", describe(&r));
}

/* This process is the daemon: its cgroup is exempt. */
static void test_exempt(void)
{
	struct endpoint dst = endpoint_parse(B4, 8080);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&dst, false, &ss);
	struct answer a = {.who = 0};
	int fd = daemon_socket(PLACE_A, false);
	int err;

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 29));
	forget();
	err = connect(fd, (struct sockaddr *)&ss, len) < 0 ? errno : say_hello(fd, &dst, &a);
	daemon_drain();
	check(err == 0 && a.who == 'S' && seen.events == 0,
	      "the daemon's own connect() is not judged", "%s", strerror(err));
	close(fd);
}

static void test_forgery(void)
{
	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 31));
	refused("an IPv4 slot address cannot be dialled", PLAN(.to = "127.64.0.1", .port = 15001),
		EPERM, REASON_SLOT_FORGED, DIRECTION_EGRESS);
	refused("a mapped slot address cannot be dialled",
		PLAN(.to = "127.64.0.1", .port = 15001, .flags = DIAL_MAPPED), EPERM,
		REASON_SLOT_FORGED, DIRECTION_EGRESS);
	refused("an IPv6 slot address cannot be dialled",
		PLAN(.to = "fd73:6875:6e74::7f40:1", .port = 15001), EPERM, REASON_SLOT_FORGED,
		DIRECTION_EGRESS);
	refused("an IPv6 slot address from the wire is dropped",
		PLAN(.from = PLACE_WORLD, .to = "fd73:6875:6e74::7f40:1", .port = 15001),
		ECONNREFUSED, REASON_SLOT_FORGED, DIRECTION_INGRESS);
}

static void test_full_table(void)
{
	struct slot *before = malloc(SLOTS * sizeof *before);
	uint32_t count;
	struct slot *slots = loader_slots(loader, &count);

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 41));
	for (uint32_t i = 0; i < count; i++)
		slots[i].used = SLOT_CLAIMED;
	memcpy(before, slots, SLOTS * sizeof *before);
	refused("a full table of slots refuses", PLAN(.to = "11.1.2.3", .port = 80), ECONNREFUSED,
		REASON_SLOTS_FULL, DIRECTION_EGRESS);
	refused("a full table of slots refuses IPv6", PLAN(.to = "2001:db8::1", .port = 80),
		ECONNREFUSED, REASON_SLOTS_FULL, DIRECTION_EGRESS);
	check(count == SLOTS && memcmp(before, slots, SLOTS * sizeof *before) == 0,
	      "a full table overwrites nothing", "a slot has changed");
	for (uint32_t i = 0; i < count; i++)
		slots[i].used = SLOT_FREE;
	captured("a freed table captures again", PLAN(.to = "11.1.2.3", .port = 80));
	free(before);
}

static void test_liveness(void)
{
	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 51), B_IN(IDENTITY_ANY, 8080, PROXY, 52));
	daemon_unlisten(WORKLOAD_A_INDEX);
	daemon_unlisten(WORKLOAD_B_INDEX);
	refused("without the daemon's listener connect() is refused at once",
		PLAN(.to = "11.1.2.3", .port = 80), ECONNREFUSED, REASON_DAEMON_AWAY,
		DIRECTION_EGRESS);
	refused("without the daemon's listener connect() over IPv6 is refused",
		PLAN(.to = "2001:db8::1", .port = 80), ECONNREFUSED, REASON_DAEMON_AWAY,
		DIRECTION_EGRESS);
	refused("without the daemon's listener an arrival is refused",
		PLAN(.from = PLACE_WORLD, .to = B4, .port = 8080, .source = WORLD4), ECONNREFUSED,
		REASON_DAEMON_AWAY, DIRECTION_INGRESS);
	refused("without the daemon's listener an arrival over IPv6 is refused",
		PLAN(.from = PLACE_WORLD, .to = B6, .port = 8080, .source = WORLD6), ECONNREFUSED,
		REASON_DAEMON_AWAY, DIRECTION_INGRESS);
	check(daemon_listen(PLACE_A, WORKLOAD_A_INDEX) == 0 &&
		      daemon_listen(PLACE_B, WORKLOAD_B_INDEX) == 0,
	      "new listeners take the old places", "%s", loader_error(loader));
	captured("with new listeners the next connect() is captured",
		 PLAN(.to = "11.1.2.3", .port = 80));
}

/* Arrivals */

static void test_inbound(void)
{
	POLICY(B_IN(IDENTITY_ANY, EVERYWHERE, DENY, 61), B_IN(IDENTITY_WORLD, 8081, PROXY, 62),
	       B_IN(IDENTITY_WORLD, 8080, DIRECT, 63), B_IN(IDENTITY_HOST, 8082, DENY, 64),
	       B_IN(IDENTITY_WORLD, 53, PROXY, 65), B_IN(IDENTITY_A, EVERYWHERE, DIRECT, 66));
	refused("an arrival that no rule allows is reset",
		PLAN(.from = PLACE_WORLD, .to = B4, .port = 8082, .source = WORLD4), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_INGRESS);
	check(seen.event.rule == 61 && seen.event.src_identity == IDENTITY_WORLD &&
		      seen.event.dst_identity == IDENTITY_B &&
		      seen.event.netns == rig.cookie[PLACE_B] && seen.event.src.port != 0 &&
		      same_address(&seen.event.src, WORLD4) && same_address(&seen.event.dst, B4),
	      "its event says from whom and by which rule", "rule %u from %s", seen.event.rule,
	      endpoint_text(&seen.event.src));
	refused("an arrival over IPv6 that no rule allows is reset",
		PLAN(.from = PLACE_WORLD, .to = B6, .port = 8082, .source = WORLD6), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_INGRESS);
	untouched("the node's host passes a rule against anybody",
		  PLAN(.from = PLACE_WORLD, .to = B4, .port = 8081, .source = HOST4), 0, 'S');
	untouched("the node's host passes over IPv6",
		  PLAN(.from = PLACE_WORLD, .to = B6, .port = 8081, .source = HOST6), 0, 'S');
	refused("a rule that names the host holds it",
		PLAN(.from = PLACE_WORLD, .to = B4, .port = 8082, .source = HOST4), ECONNREFUSED,
		REASON_POLICY_L4, DIRECTION_INGRESS);
	untouched("a direct arrival passes",
		  PLAN(.from = PLACE_WORLD, .to = B4, .port = 8080, .source = WORLD4), 0, 'S');
	steered("a proxied arrival goes to the daemon, names intact",
		PLAN(.from = PLACE_WORLD, .to = B4, .port = 8081, .source = WORLD4), WORLD4);
	steered("a proxied arrival over IPv6 goes to the daemon, names intact",
		PLAN(.from = PLACE_WORLD, .to = B6, .port = 8081, .source = WORLD6), WORLD6);
	untouched("an arrival at port 53 passes where a rule says proxy",
		  PLAN(.from = PLACE_WORLD, .to = B4, .port = 53, .source = WORLD4), 0, 'S');
	untouched("a local workload's direct connection gets the same answer twice",
		  PLAN(.to = B4, .port = 8081), 0, 'S');
	untouched("a workload's connection to itself is not judged",
		  PLAN(.from = PLACE_B, .to = B4, .port = 8081), 0, 'S');
	untouched("a workload's connection to its other address is not judged",
		  PLAN(.from = PLACE_B, .to = "10.77.2.2", .port = 8081), 0, 'S');
	untouched("loopback inside a workload is not judged",
		  PLAN(.from = PLACE_B, .to = "127.0.0.1", .port = 8081), 0, 'S');
}

/* Names that a server sees */

static void shows_client(const char *sentence, const char *to, const char *client)
{
	struct endpoint dst = endpoint_parse(to, 8081), from = endpoint_parse(client, 4711);
	struct answer a = {.who = 0};
	int fd;
	int err;

	forget();
	fd = daemon_dial(PLACE_B, 77, &from, &dst);
	err = fd < 0 ? -fd : say_hello(fd, &dst, &a);
	if (fd >= 0)
		close(fd);
	check(err == 0 && a.who == 'S' && endpoint_same(&a.peer, &from) &&
		      endpoint_same(&a.local, &dst) && seen.ingress + seen.egress == 0,
	      sentence, "errno %d, by %c, peer %s", err, a.who ? a.who : '-',
	      endpoint_text(&a.peer));
}

static void test_dials(void)
{
	const uint16_t port = 9002;
	struct dial_plan plan = {
		.from = PLACE_B, .to = "127.0.0.1", .port = port, .source = "127.128.0.78"};
	struct dial_result r;
	uint32_t count;
	pid_t server;

	POLICY(B_IN(IDENTITY_ANY, EVERYWHERE, PROXY, 81));
	shows_client("a server sees the IPv4 client the daemon dials for", B4, "192.0.2.9");
	shows_client("a server sees the IPv6 client the daemon dials for", B6, "2001:db8::9");
	shows_client("an IPv6 server sees an IPv4 client, mapped", B6, "192.0.2.9");
	shows_client("a dual-stack server sees an IPv6 client of an IPv4 dial", B4, "2001:db8::9");
	server = server_start(PLACE_B, &port, 1, NULL);
	loader_dials(loader, &count)[78] = (struct dial){.used = 1, .sport = htons(1)};
	r = dial(&plan);
	check(r.err == 0 && same_address(&r.answer.peer, "127.128.0.78"),
	      "a dial record of another port or namespace names nobody", "%s", describe(&r));
	server_stop(server);
}

/* Rate */

static void test_event_rate(void)
{
	const struct dial_plan plan = {.to = "11.1.2.3", .port = 81};
	uint64_t before = loader_workload(loader, WORKLOAD_A_INDEX)->suppressed, after;
	uint64_t count[2][REASON_MAX];
	uint32_t total = 0;
	pid_t pid;

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 91));
	forget();
	loader_counters(loader, count[0]);
	pid = rig_fork(PLACE_A);
	if (pid == 0) {
		struct endpoint e = endpoint_parse("11.1.2.3", 81);
		struct sockaddr_storage ss;
		socklen_t len = endpoint_sockaddr(&e, false, &ss);
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		for (int i = 0; i < 1000; i++)
			connect(fd, (struct sockaddr *)&ss, len);
		_exit(0);
	}
	daemon_serve_while(pid);
	loader_counters(loader, count[1]);
	after = loader_workload(loader, WORKLOAD_A_INDEX)->suppressed;
	total = seen.events + (uint32_t)(after - before);
	check(seen.events >= RATE / 2 && seen.events < 600 && total == 1000,
	      "a flood of denials is logged at the rate and the rest counted",
	      "%u events, %llu suppressed", seen.events, (unsigned long long)(after - before));
	check(count[1][REASON_POLICY_L4] - count[0][REASON_POLICY_L4] == 1000,
	      "the counters miss none of the flood", "%llu",
	      (unsigned long long)(count[1][REASON_POLICY_L4] - count[0][REASON_POLICY_L4]));
	sleep(2); /* the bucket is full again */
	forget();
	dial(&plan);
	check(seen.events == 1 && seen.event.suppressed > 0,
	      "the next event tells how many were left out", "%u events, %u", seen.events,
	      seen.event.suppressed);
}

/* Many */

static void test_many(uint32_t total)
{
	enum { CLIENTS = 4 };
	uint32_t *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t captured_before;
	char sentence[160];
	double start = seconds(), took;
	pid_t pid[CLIENTS];

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, PROXY, 101));
	forget();
	captured_before = loader_globals(loader)->captured;
	for (uint32_t i = 0; i < CLIENTS; i++)
		pid[i] = dial_many(PLACE_A, total / CLIENTS, i + 1, &shared[0], &shared[1]);
	for (uint32_t i = 0; i < CLIENTS; i++)
		daemon_serve_while(pid[i]);
	took = seconds() - start;
	total = total / CLIENTS * CLIENTS;
	snprintf(sentence, sizeof sentence,
		 "%u mixed IPv4, mapped and IPv6 connects: each at its own destination", total);
	check(shared[0] == total && shared[1] == 0 && seen.egress == total && seen.wrong == 0 &&
		      loader_globals(loader)->captured - captured_before == total,
	      sentence, "%u done, %u bad at the client, %u claimed, %u wrong, %s", shared[0],
	      shared[1], seen.egress, seen.wrong, seen.detail);
	printf("# %.1f s, %.0f us each\n", took, took * 1e6 / total);
	check(seen.same_address == 0, "a freed slot comes back under another address", "%u did not",
	      seen.same_address);
	munmap(shared, 4096);
}

static void stop(int signal_number)
{
	rig_cleanup();
	_exit(128 + signal_number);
}

static int start(void)
{
	const char *factor = getenv("FACTOR");

	rig.factor = factor != NULL && atoi(factor) > 0 ? atoi(factor) : 1;
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	signal(SIGHUP, stop);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "run");
	atexit(rig_cleanup);
	return rig_setup();
}

static bool open_first(void)
{
	const uint32_t flags = WORKLOAD_EGRESS | WORKLOAD_INGRESS;
	int err = daemon_open(SLOTS, RATE);

	if (!check(err == 0, "programs load and attach", "%s", loader_error(loader)))
		return false;
	err = daemon_enrol(PLACE_A, flags);
	if (err == 0)
		err = daemon_enrol(PLACE_B, flags);
	if (err == 0)
		err = daemon_listen(PLACE_A, WORKLOAD_A_INDEX);
	if (err == 0)
		err = daemon_listen(PLACE_B, WORKLOAD_B_INDEX);
	if (!check(err == 0, "two workloads are enrolled", "%s", loader_error(loader)))
		return false;
	addresses_set();
	err = values_open();
	return check(err == 0, "the test's own programs load", "%s", strerror(-err));
}

/* A server that listens before our programs come, in the eyes of somebody else's. */
static pid_t older_start(uint16_t port)
{
	int cgroup = open(rig.app_cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct foreign *foreign = foreign__open_and_load();
	int link = foreign == NULL ? -1
				   : bpf_link_create(bpf_program__fd(foreign->progs.foreign),
						     cgroup, BPF_CGROUP_SOCK_OPS, NULL);
	pid_t pid = server_start(PLACE_B, &port, 1, NULL);

	check(link >= 0, "another sockops program is there", "%s", strerror(errno));
	close(link);
	close(cgroup);
	foreign__destroy(foreign);
	return pid;
}

static void test_all(void)
{
	static const uint16_t ports[] = {8080, 8081, 8082, 53};
	const char *connects_text = getenv("CONNECTS");
	const uint16_t older_port = 8095;
	uint32_t many = connects_text != NULL ? (uint32_t)strtoul(connects_text, NULL, 10) : 100000;
	pid_t server, older = older_start(older_port);

	if (!open_first())
		return;
	check(state_whole(2), "every program is attached", "one is not");
	server = server_start(PLACE_B, ports, 4, NULL);
	test_verdicts();
	test_addresses();
	test_policy_replace();
	test_captures();
	test_failures();
	test_passes();
	test_denials();
	test_exempt();
	test_forgery();
	test_full_table();
	test_liveness();
	test_inbound();
	test_registry_content();
	test_registry(older, older_port);
	test_workloads();
	test_dials();
	test_event_rate();
	test_many(many);
	test_replace_under_load(many * 3 / 10);
	test_death_under_load(rig.factor > 1 ? 4 : 20);
	test_refusals();
	test_adopt();
	values__destroy(values);
	if (loader != NULL)
		test_detach();
	server_stop(server);
}

int main(void)
{
	const char *missing = rig_missing();

	if (missing != NULL) {
		printf("skipped: %s\n", missing);
		return 77;
	}
	if (start() < 0)
		check(false, "namespaces, cgroups and a bpf file system are made", "%s",
		      strerror(errno));
	else
		test_all();
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed == 0 ? 0 : 1;
}
