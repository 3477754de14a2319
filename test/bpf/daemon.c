// SPDX-License-Identifier: Apache-2.0
/* Plays the proxy: listeners in the workloads' namespaces, slots claimed and compared with what
 * the client says it dialled, dials towards applications. */
#define _GNU_SOURCE 1
#include "test/bpf/testd.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct loader *loader;
struct seen seen;

static int listeners[4][LISTENER_KINDS]; /* by workload index; 0: none */
static uint32_t last_address[SLOTS_MAX];

int daemon_open(uint32_t slots, uint32_t event_rate)
{
	struct loader_options o = {
		.pin_dir = rig.pins,
		.cgroup_root = rig.cgroup_root,
		.self_cgroup = rig.daemon_cgroup_id,
		.host_netns = rig.cookie[PLACE_WORLD],
		.slots = slots,
		.slot_quota = slots, /* test_quota() sets its own */
		.event_rate = event_rate,
	};

	return loader_open(&o, &loader);
}

void daemon_close(void)
{
	for (uint32_t i = 0; i < 4; i++)
		daemon_unlisten(i);
	loader_close(loader);
	loader = NULL;
}

static int listen_on(const char *ip)
{
	struct endpoint e = endpoint_parse(ip, 0);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&e, false, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int queue = 64;
	int yes = 1;

	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0)
		return -1;
	/* What is steered here has the application's port as its own: without this an
	 * application that starts again meets EADDRINUSE, whatever it asks for. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (listen(fd, 1024) < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
	return fd;
}

int daemon_listen(enum place place, uint32_t index)
{
	int err = 0;

	for (enum listener_kind k = 0; k < LISTENER_KINDS && err == 0; k++) {
		rig_enter(rig.netns[place]);
		listeners[index][k] = listen_on(
			k == LISTENER_EGRESS4 || k == LISTENER_INGRESS4 ? "127.0.0.1" : "::1");
		rig_enter(rig.home);
		if (listeners[index][k] < 0)
			return -errno;
		err = loader_listener_put(loader, index, k, listeners[index][k]);
	}
	return err;
}

/* Only closes: the kernel takes them out of the map. */
void daemon_unlisten(uint32_t index)
{
	for (enum listener_kind k = 0; k < LISTENER_KINDS; k++) {
		if (listeners[index][k] > 0)
			close(listeners[index][k]);
		listeners[index][k] = 0;
	}
}

struct workload daemon_workload(enum place place)
{
	return (struct workload){
		.place = rig.cookie[place],
		.index = place == PLACE_A ? WORKLOAD_A_INDEX : WORKLOAD_B_INDEX,
		.generation = 7,
		.identity = place == PLACE_A ? IDENTITY_A : IDENTITY_B,
		.flags = WORKLOAD_EGRESS | WORKLOAD_INGRESS,
		.ip4 = endpoint_parse(place == PLACE_A ? A4 : B4, 0).ip,
		.ip6 = endpoint_parse(place == PLACE_A ? A6 : B6, 0).ip,
	};
}

int daemon_enrol(enum place place, uint32_t flags)
{
	struct workload w = daemon_workload(place);
	int err;

	w.flags = flags;
	err = loader_workload_put(loader, &w);
	return err < 0 ? err : loader_inbound_attach(loader, rig.netns[place], rig.cookie[place]);
}

int daemon_walk(enum place place, uint32_t index)
{
	int err;

	rig_enter(rig.netns[place]);
	err = loader_registry_walk(loader, rig.cookie[place], &index, 1);
	rig_enter(rig.home);
	return err;
}

static struct endpoint name_of(int fd, bool peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	memset(&ss, 0, sizeof ss);
	if (peer)
		getpeername(fd, (struct sockaddr *)&ss, &len);
	else
		getsockname(fd, (struct sockaddr *)&ss, &len);
	return endpoint_of(&ss);
}

static void wrong(const char *what, const struct endpoint *a, const struct endpoint *b)
{
	seen.wrong++;
	snprintf(seen.detail, sizeof seen.detail, "%s: %s, not %s", what, endpoint_text(a),
		 endpoint_text(b));
}

static bool hello_read(int fd, struct hello *h)
{
	size_t got = 0;

	while (got < sizeof *h) {
		ssize_t n = recv(fd, (char *)h + got, sizeof *h - got, 0);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

/* The slot that this address dials, claimed; NULL: not believed. */
static struct slot *claim(const struct endpoint *local)
{
	uint32_t count;
	struct slot *slots = loader_slots(loader, &count);
	uint32_t i = SLOT_PLACE(ntohl(local->ip.word[3]), count);
	uint32_t expected = SLOT_WRITTEN;

	if (slots[i].addr != local->ip.word[3] || local->port != htons(EGRESS_PORT))
		return NULL;
	if (!__atomic_compare_exchange_n(&slots[i].used, &expected, SLOT_CLAIMED, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return NULL;
	if (last_address[i] == slots[i].addr)
		seen.same_address++;
	last_address[i] = slots[i].addr;
	return &slots[i];
}

static bool slot_right(const struct slot *s, const struct hello *h, uint32_t index)
{
	uint64_t netns = rig.cookie[index == WORKLOAD_A_INDEX	? PLACE_A
				    : index == WORKLOAD_B_INDEX ? PLACE_B
								: PLACE_WORLD];
	bool right = endpoint_same(&s->dst, &h->dst) && s->cookie == h->cookie &&
		     s->cgroup == h->cgroup && s->pid == h->pid && s->netns == netns &&
		     s->workload == index && s->generation == 7 && s->stamp != 0 &&
		     s->revision == loader_globals(loader)->revision &&
		     memcmp(s->comm, h->comm, COMM_LEN) == 0;

	if (!right)
		wrong("slot and hello", &s->dst, &h->dst);
	return right;
}

static void serve_egress(int fd, uint32_t index)
{
	struct answer a = {.who = 'D'};
	struct tcp_info info = {.tcpi_options = 0};
	socklen_t len = sizeof info;
	struct hello h;
	struct slot *s;

	a.local = name_of(fd, false);
	a.peer = name_of(fd, true);
	s = claim(&a.local);
	if (s == NULL) {
		wrong("no slot", &a.local, &a.peer);
		return;
	}
	seen.egress++;
	seen.slot = *s;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    (info.tcpi_options & TCPI_OPT_SYN_DATA))
		seen.syn_data++;
	if (hello_read(fd, &h)) {
		a.ok = slot_right(s, &h, index);
		send(fd, &a, sizeof a, MSG_NOSIGNAL);
	}
	__atomic_store_n(&s->used, SLOT_FREE, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&loader_workload(loader, index)->slots_used, 1, __ATOMIC_SEQ_CST);
}

static void serve_ingress(int fd)
{
	struct answer a = {.who = 'I'};
	struct hello h;

	a.local = name_of(fd, false);
	a.peer = name_of(fd, true);
	seen.ingress++;
	if (hello_read(fd, &h)) {
		a.ok = endpoint_same(&a.local, &h.dst);
		if (!a.ok)
			wrong("ingress", &a.local, &h.dst);
		send(fd, &a, sizeof a, MSG_NOSIGNAL);
	}
}

static void serve_listener(int listener, uint32_t index, enum listener_kind kind)
{
	struct timeval limit = {.tv_sec = 5L * rig.factor};
	int fd;

	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		if (kind == LISTENER_EGRESS4 || kind == LISTENER_EGRESS6)
			serve_egress(fd, index);
		else
			serve_ingress(fd);
		close(fd);
	}
}

static void serve_all(int also, int timeout)
{
	struct pollfd p[4 * LISTENER_KINDS + 1];
	uint32_t index[4 * LISTENER_KINDS];
	enum listener_kind kind[4 * LISTENER_KINDS];
	nfds_t n = 0;

	for (uint32_t i = 0; i < 4; i++)
		for (enum listener_kind k = 0; k < LISTENER_KINDS; k++)
			if (listeners[i][k] > 0) {
				p[n] = (struct pollfd){.fd = listeners[i][k], .events = POLLIN};
				index[n] = i;
				kind[n++] = k;
			}
	p[n] = (struct pollfd){.fd = also, .events = POLLIN};
	poll(p, n + 1, timeout);
	for (nfds_t i = 0; i < n; i++)
		if (p[i].revents != 0)
			serve_listener(p[i].fd, index[i], kind[i]);
}

int daemon_serve_while(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int status = -1;

	while (waitpid(pid, &status, WNOHANG) == 0)
		serve_all(fd, 1000);
	close(fd);
	serve_all(-1, 0);
	daemon_drain();
	return status;
}

static void take(void *arg, const struct event *e)
{
	(void)arg;
	seen.event = *e;
	seen.events++;
}

void daemon_drain(void)
{
	if (loader != NULL && loader_events_drain(loader, take, NULL) < 0)
		fprintf(stderr, "# %s\n", loader_error(loader));
}

int daemon_socket(enum place place, bool v6)
{
	int fd;

	rig_enter(rig.netns[place]);
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rig_enter(rig.home);
	return fd;
}

int daemon_dial(enum place place, uint32_t number, const struct endpoint *client,
		const struct endpoint *to)
{
	bool v6 = to->family == AF_INET6;
	struct endpoint from = {.family = to->family};
	struct sockaddr_storage ss;
	socklen_t len;
	uint32_t count;
	struct dial *d = &loader_dials(loader, &count)[number];
	int yes = 1;
	int fd;

	fd = daemon_socket(place, v6);
	from.ip.word[0] = v6 ? htonl(SLOT6_WORD0) : 0;
	from.ip.word[1] = v6 ? htonl(SLOT6_WORD1) : 0;
	from.ip.word[2] = v6 ? 0 : htonl(0xffff);
	from.ip.word[3] = htonl(DIAL_NET4 | number);
	*d = (struct dial){.netns = rig.cookie[place], .client = *client, .used = 1};
	setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &yes, sizeof yes);
	len = endpoint_sockaddr(&from, false, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		goto fail;
	d->sport = name_of(fd, false).port;
	len = endpoint_sockaddr(to, false, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return fd;
fail:
	yes = errno;
	close(fd);
	return -yes;
}
