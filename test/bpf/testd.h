/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test of the kernel half. rig.c makes the places; daemon.c plays the proxy; app.c plays
 * clients and servers, always in processes of their own; testd.c says what must hold.
 *
 *   world (10.77.2.1 = this "node", 10.77.2.9 = somebody)
 *     |
 *   b (10.77.1.2, workload 2) ---- a (10.77.1.1, workload 1)
 */
#ifndef SHUNT_TESTD_H
#define SHUNT_TESTD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/loader.h"

enum place { PLACE_A, PLACE_B, PLACE_WORLD, PLACES };
enum { WORKLOAD_A_INDEX = 1, WORKLOAD_B_INDEX = 2 };
enum { IDENTITY_A = IDENTITY_FIRST, IDENTITY_B };

#define A4 "10.77.1.1"
#define A6 "fd00:77::1:1"
#define B4 "10.77.1.2"
#define B6 "fd00:77::1:2"
#define HOST4 "10.77.2.1"
#define HOST6 "fd00:77::2:1"
#define WORLD4 "10.77.2.9"
#define WORLD6 "fd00:77::2:9"

/* rig.c */
struct rig {
	char folder[64];
	char bpffs[96];
	char pins[160];
	char cgroup_root[256];
	char daemon_cgroup[320];
	char app_cgroup[320];
	char other_cgroup[320]; /* nobody's */
	uint64_t daemon_cgroup_id;
	uint64_t app_cgroup_id;
	const char *fork_cgroup; /* where rig_fork() puts its children: app_cgroup */
	int netns[PLACES];
	uint64_t cookie[PLACES];
	int home;
	int factor; /* for time limits */
};
extern struct rig rig;

const char *rig_missing(void); /* why nothing can be tested here, or NULL */
int rig_setup(void);
void rig_cleanup(void);
void rig_enter(int netns_fd);
/* A child in that place and rig.fork_cgroup; it dies with us. */
pid_t rig_fork(enum place place);
int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
void write_file(const char *path, const char *text);

struct endpoint endpoint_parse(const char *ip, uint16_t port);
struct endpoint endpoint_of(const struct sockaddr_storage *ss);
socklen_t endpoint_sockaddr(const struct endpoint *e, bool v6, struct sockaddr_storage *ss);
bool endpoint_same(const struct endpoint *a, const struct endpoint *b);
const char *endpoint_text(const struct endpoint *e);

/* What a client says first, and what it is told. */
struct hello {
	struct endpoint dst;
	uint64_t cookie;
	uint64_t cgroup;
	uint32_t pid;
	uint32_t pad;
	char comm[COMM_LEN];
};
struct answer {
	char who; /* 'D': the daemon by a slot, 'I': the daemon by ingress, 'S': the server */
	char ok;
	char pad[2];
	struct endpoint peer; /* as the answering side sees the connection */
	struct endpoint local;
};

/* app.c */
enum {
	DIAL_NONBLOCK = 1,
	DIAL_V6ONLY = 2,
	DIAL_MAPPED = 4, /* an IPv4 address on an IPv6 socket */
	DIAL_TFO = 8,
	DIAL_UDP = 16,
	DIAL_RAW6 = 32, /* the destination's bytes as they are, also mapped ones */
	DIAL_DEVICE = 64, /* SO_BINDTODEVICE of the place's veth */
	DIAL_NO_HELLO = 128,
};
struct dial_plan {
	enum place from;
	const char *to;
	uint16_t port;
	unsigned int flags;
	const char *source; /* bind() first */
	uint16_t denied_first; /* try this port before, on the same socket */
};
struct dial_result {
	int err;
	int first_err;
	int bound_dev;
	pid_t pid;
	struct answer answer;
	struct endpoint peer; /* what the client is shown */
	struct endpoint local;
};
/* One connect in a process of its own, while the daemon serves. */
struct dial_result dial(const struct dial_plan *plan);
int say_hello(int fd, const struct endpoint *dst, struct answer *answer);
/* A server in a place: returns its pid when it listens. */
pid_t server_start(enum place place, const uint16_t *ports, size_t n, const char *only);
void server_stop(pid_t pid);
/* `n` connects to all kinds of destinations; failures are added to *bad (shared memory). */
pid_t dial_many(enum place from, uint32_t n, uint32_t seed, uint32_t *done, uint32_t *bad);

/* daemon.c */
struct seen {
	uint32_t egress;
	uint32_t ingress;
	uint32_t wrong;
	uint32_t syn_data; /* connections whose SYN carried data */
	uint32_t same_address; /* a slot came back under the address it had before */
	struct slot slot; /* the last one claimed */
	struct event event; /* the last one drained */
	uint32_t events;
	char detail[256];
};
extern struct loader *loader;
extern struct seen seen;

int daemon_open(uint32_t slots, uint32_t event_rate);
void daemon_close(void);
int daemon_listen(enum place place, uint32_t index);
void daemon_unlisten(uint32_t index);
/* As the kernel is to have the workload of a place. */
struct workload daemon_workload(enum place place);
int daemon_enrol(enum place place, uint32_t flags);
/* Enters the listeners of a place into the registry of the workload with this index. */
int daemon_walk(enum place place, uint32_t index);
/* Serves until the process ends; returns its wait status. */
int daemon_serve_while(pid_t pid);
void daemon_drain(void);
/* A connection to an application, in its namespace, that shows it `client`. */
int daemon_dial(enum place place, uint32_t number, const struct endpoint *client,
		const struct endpoint *to);
/* A plain socket of the daemon's in that place. */
int daemon_socket(enum place place, bool v6);

#endif
