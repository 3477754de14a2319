// SPDX-License-Identifier: Apache-2.0
/* The registry of listening ports: what stands in it, and what a miss means. */
#define _GNU_SOURCE 1
#include "test/bpf/expect.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool in_registry(uint16_t port)
{
	struct port_key key = {.netns = rig.cookie[PLACE_B], .port = htons(port)};
	struct port value = {.live = 0};
	char path[300];
	bool found;
	int fd;

	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/ports", rig.pins);
	fd = bpf_obj_get(path);
	found = bpf_map_lookup_elem(fd, &key, &value) == 0 && value.live == 1;
	close(fd);
	return found;
}

/* `ports` holds what applications listen on, and only that. */
void test_registry_content(void)
{
	const uint16_t port = 8097;
	struct endpoint any = endpoint_parse("::", 8098);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&any, true, &ss);
	int fd = daemon_socket(PLACE_B, true);
	pid_t server = server_start(PLACE_B, &port, 1, NULL);

	check(in_registry(8097), "the registry holds an application's listener", "it does not");
	server_stop(server);
	check(!in_registry(8097), "and drops it when it ends", "it does not");
	check(bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, 1) == 0 &&
		      !in_registry(8098),
	      "the registry leaves the daemon's own listeners out", "it does not");
	close(fd);
}

static void walked(const char *sentence)
{
	int err = daemon_walk(PLACE_B, WORKLOAD_B_INDEX);

	check(err == 0 && loader_registry_is_complete(loader, WORKLOAD_B_INDEX), sentence,
	      "%s, overflows %llu", strerror(-err),
	      (unsigned long long)loader_globals(loader)->registry_overflow);
}

static struct dial_plan arrival(uint16_t port)
{
	return PLAN(.from = PLACE_WORLD, .to = B4, .port = port, .source = WORLD4);
}

static void test_complete(uint16_t port)
{
	pid_t server;

	untouched("complete: nobody listens, the kernel resets", arrival(port), ECONNREFUSED, 0);
	steered("a port that somebody listens on is steered", arrival(8081), WORLD4);
	steered("a port that somebody listens on is steered over IPv6",
		PLAN(.from = PLACE_WORLD, .to = B6, .port = 8081, .source = WORLD6), WORLD6);
	server = server_start(PLACE_B, &port, 1, NULL);
	steered("a new listener is known at once", arrival(port), WORLD4);
	walked("a walk beside it goes to its end");
	server_stop(server);
	untouched("a listener that ended is forgotten at once, also after a walk", arrival(port),
		  ECONNREFUSED, 0);
	server = server_start(PLACE_B, &port, 1, "127.0.0.1");
	untouched("a listener on loopback only does not make the port served", arrival(port),
		  ECONNREFUSED, 0);
	server_stop(server);
	server = server_start(PLACE_B, &port, 1, B4);
	steered("a listener on the address itself makes it served", arrival(port), WORLD4);
	server_stop(server);
}

/* A table that has no room: who could not be entered must not escape. */
static void test_overflow(uint16_t port)
{
	struct port_key key = {.netns = 1};
	struct port value = {.walked = 1};
	char path[300];
	pid_t server;
	int fd;

	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/ports", rig.pins);
	fd = bpf_obj_get(path);
	for (key.ip.word[3] = 1; bpf_map_update_elem(fd, &key, &value, BPF_NOEXIST) == 0;
	     key.ip.word[3]++)
		;
	check(errno == E2BIG, "the registry is filled up", "%s after %u", strerror(errno),
	      key.ip.word[3]);
	steered("full: what is known is steered", arrival(8081), WORLD4);
	server = server_start(PLACE_B, &port, 1, NULL);
	check(!loader_registry_is_complete(loader, WORKLOAD_B_INDEX),
	      "a listener that finds no room takes completeness away", "it does not");
	steered("... it is steered, and does not escape", arrival(port), WORLD4);
	steered("... and so is a port that nobody knows", arrival((uint16_t)(port + 1)), WORLD4);
	check(daemon_walk(PLACE_B, WORKLOAD_B_INDEX) == -ENOSPC &&
		      !loader_registry_is_complete(loader, WORKLOAD_B_INDEX),
	      "a walk that finds no room completes nothing", "it does");
	loader_registry_sweep(loader);
	walked("with room made, a walk completes it again");
	steered("... it has the listener that found no room", arrival(port), WORLD4);
	untouched("... and a port that nobody serves is the kernel's",
		  arrival((uint16_t)(port + 1)), ECONNREFUSED, 0);
	server_stop(server);
	close(fd);
}

static void entry_delete(uint16_t port)
{
	struct port_key key = {.netns = rig.cookie[PLACE_B], .port = htons(port)};
	char path[300];
	int fd;

	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/ports", rig.pins);
	fd = bpf_obj_get(path);
	bpf_map_delete_elem(fd, &key);
	close(fd);
}

/* A workload that leaves and comes back, with an application that listens all the while: the end
 * of that listener takes nothing from those who come after it. With `lost`, even if its entry
 * was deleted when a reader of before still had it for empty. */
static void test_return(uint16_t port, bool lost)
{
	pid_t server = server_start(PLACE_B, &port, 1, NULL);

	loader_workload_remove(loader, rig.cookie[PLACE_B]);
	if (lost)
		entry_delete(port);
	check(in_registry(port) != lost, "who listens stays counted when the workload leaves",
	      "he does not");
	check(daemon_enrol(PLACE_B, WORKLOAD_EGRESS | WORKLOAD_INGRESS) == 0, "... it comes back",
	      "%s", loader_error(loader));
	walked("... and is walked");
	steered("... who listened all the while is known", arrival(port), WORLD4);
	server_stop(server);
	walked("... a walk after his end");
	untouched("... does not find him", arrival(port), ECONNREFUSED, 0);
	server = server_start(PLACE_B, &port, 1, NULL);
	steered("... and the next one who listens there does not escape", arrival(port), WORLD4);
	server_stop(server);
	untouched("... nor is he remembered", arrival(port), ECONNREFUSED, 0);
}

/* `older`: a server in b on `older_port` that listens since before the programs were loaded. */
void test_registry(pid_t older, uint16_t older_port)
{
	const uint16_t port = 8099;

	POLICY(B_IN(IDENTITY_ANY, EVERYWHERE, PROXY, 71));
	check(loader_registry_walks(loader), "this kernel can walk its sockets", "it cannot");
	steered("a miss in an incomplete registry steers", arrival(port), WORLD4);
	steered("... also at a listener older than the programs", arrival(older_port), WORLD4);
	walked("a walk completes the registry");
	steered("... it knows the listener older than the programs", arrival(older_port), WORLD4);
	test_complete(port);
	server_stop(older);
	steered("the end of an older listener is not seen: steered", arrival(older_port), WORLD4);
	walked("... until the next walk");
	untouched("... does not find it", arrival(older_port), ECONNREFUSED, 0);
	test_return(8094, false);
	test_return(8096, true);
	test_overflow(port);
}
