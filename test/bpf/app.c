// SPDX-License-Identifier: Apache-2.0
/* Plays the applications: clients that say what they dialled, servers that say what they see. */
#define _GNU_SOURCE 1
#include "test/bpf/testd.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

static struct endpoint shown(int fd, bool peer)
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

static void hello_make(int fd, const struct endpoint *dst, struct hello *h)
{
	socklen_t len = sizeof h->cookie;

	memset(h, 0, sizeof *h);
	h->dst = *dst;
	h->cgroup = rig.app_cgroup_id;
	h->pid = (uint32_t)getpid();
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &h->cookie, &len);
	prctl(PR_GET_NAME, h->comm);
}

static int answer_read(int fd, struct answer *answer)
{
	size_t got = 0;

	while (got < sizeof *answer) {
		ssize_t n = recv(fd, (char *)answer + got, sizeof *answer - got, 0);

		if (n <= 0)
			return n == 0 ? EPIPE : errno;
		got += (size_t)n;
	}
	return 0;
}

int say_hello(int fd, const struct endpoint *dst, struct answer *answer)
{
	struct hello h;

	hello_make(fd, dst, &h);
	if (send(fd, &h, sizeof h, MSG_NOSIGNAL) != sizeof h)
		return errno;
	return answer_read(fd, answer);
}

/* connect() by poll, as event loops do it */
static int connect_later(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t size = sizeof err;

	if (connect(fd, sa, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	if (poll(&p, 1, 10000 * rig.factor) != 1)
		return ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
	return err;
}

/* Data in the SYN: the daemon may have it before this side is established. */
static int connect_with_data(int fd, const struct sockaddr *sa, socklen_t len,
			     const struct endpoint *dst)
{
	struct hello h;

	hello_make(fd, dst, &h);
	return sendto(fd, &h, sizeof h, MSG_FASTOPEN | MSG_NOSIGNAL, sa, len) == sizeof h ? 0
											  : errno;
}

static int dial_socket(const struct dial_plan *plan, bool v6)
{
	int kind = plan->flags & DIAL_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(v6 ? AF_INET6 : AF_INET, kind | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 10L * rig.factor};
	struct sockaddr_storage ss;
	struct endpoint source;
	int yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (plan->flags & DIAL_V6ONLY)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
	if (plan->flags & DIAL_DEVICE)
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "veth0", 6);
	if (plan->source != NULL) {
		source = endpoint_parse(plan->source, 0);
		if (bind(fd, (struct sockaddr *)&ss, endpoint_sockaddr(&source, v6, &ss)) < 0)
			return -errno;
	}
	return fd;
}

static int dial_connect(int fd, const struct dial_plan *plan, bool v6, uint16_t port)
{
	struct endpoint dst = endpoint_parse(plan->to, port);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&dst, v6, &ss);
	int err;

	if (plan->flags & DIAL_NONBLOCK) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
		err = connect_later(fd, (struct sockaddr *)&ss, len);
		fcntl(fd, F_SETFL, 0);
		return err;
	}
	if (plan->flags & DIAL_TFO)
		return connect_with_data(fd, (struct sockaddr *)&ss, len, &dst);
	err = connect(fd, (struct sockaddr *)&ss, len) < 0 ? errno : 0;
	return err;
}

static void dial_here(const struct dial_plan *plan, struct dial_result *r)
{
	struct endpoint dst = endpoint_parse(plan->to, plan->port);
	bool v6 = dst.family == AF_INET6 || (plan->flags & (DIAL_MAPPED | DIAL_RAW6)) != 0;
	int fd = dial_socket(plan, v6);
	socklen_t len = IFNAMSIZ;
	char device[IFNAMSIZ] = "";

	if (fd < 0) {
		r->err = -fd;
		return;
	}
	if (plan->denied_first != 0)
		r->first_err = dial_connect(fd, plan, v6, plan->denied_first);
	r->err = dial_connect(fd, plan, v6, plan->port);
	if (r->err != 0)
		return;
	r->peer = shown(fd, true);
	r->local = shown(fd, false);
	getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len);
	r->bound_dev = len > 0 && device[0] != '\0';
	if (plan->flags & (DIAL_UDP | DIAL_NO_HELLO))
		return;
	r->err = plan->flags & DIAL_TFO ? answer_read(fd, &r->answer)
					: say_hello(fd, &dst, &r->answer);
}

struct dial_result dial(const struct dial_plan *plan)
{
	static struct dial_result *shared;
	pid_t pid;

	if (shared == NULL)
		shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(shared, 0, sizeof *shared);
	shared->err = -1;
	pid = rig_fork(plan->from);
	if (pid == 0) {
		dial_here(plan, shared);
		_exit(0);
	}
	daemon_serve_while(pid);
	shared->pid = pid;
	return *shared;
}

static int server_listen(uint16_t port, const char *only)
{
	struct endpoint e = endpoint_parse(only != NULL ? only : "::", port);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&e, false, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 64) < 0)
		_exit(1);
	return fd;
}

static void server_answer(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct timeval limit = {.tv_sec = 5L * rig.factor};
	struct answer a = {.who = 'S', .ok = 1};
	struct hello h;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	a.peer = shown(fd, true);
	a.local = shown(fd, false);
	if (recv(fd, &h, sizeof h, MSG_WAITALL) == sizeof h)
		send(fd, &a, sizeof a, MSG_NOSIGNAL);
	close(fd);
}

pid_t server_start(enum place place, const uint16_t *ports, size_t n, const char *only)
{
	struct pollfd p[8];
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		return -1;
	pid = rig_fork(place);
	if (pid != 0) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			fprintf(stderr, "# a server did not start\n");
		close(ready[0]);
		return pid;
	}
	alarm(0);
	/* An inherited listener of the daemon's would keep it alive in the kernel's eyes. */
	dup2(ready[1], 3);
	ready[1] = 3;
	close_range(4, ~0U, 0);
	for (size_t i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = server_listen(ports[i], only), .events = POLLIN};
	if (write(ready[1], "r", 1) != 1)
		_exit(1);
	for (;;) {
		poll(p, n, -1);
		for (size_t i = 0; i < n; i++)
			if (p[i].revents != 0)
				server_answer(p[i].fd);
	}
}

void server_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Any address that nobody would call ours: 11.0.0.0/8, 2001:db8::/32, and 11/8 mapped. */
static struct endpoint destination(uint32_t i, uint32_t r, bool *v6)
{
	struct endpoint e = {.port = htons((uint16_t)(1024 + r % 60000))};

	*v6 = i % 3 != 0;
	e.family = i % 3 == 1 ? AF_INET6 : AF_INET;
	if (e.family == AF_INET6) {
		e.ip.word[0] = htonl(0x20010db8);
		e.ip.word[1] = r;
		e.ip.word[2] = i;
		e.ip.word[3] = ~r;
	} else {
		e.ip.word[2] = htonl(0xffff);
		e.ip.word[3] = htonl(0x0b000000 | (r >> 8));
	}
	return e;
}

static bool dial_one(uint32_t i, uint32_t r)
{
	bool v6;
	struct endpoint dst = destination(i, r, &v6), peer, local;
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&dst, v6, &ss);
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct endpoint own = endpoint_parse(dst.family == AF_INET6 ? A6 : A4, 0);
	struct answer a = {0};
	bool good = connect(fd, (struct sockaddr *)&ss, len) == 0;

	if (good) {
		peer = shown(fd, true);
		local = shown(fd, false);
		local.port = 0;
		good = endpoint_same(&peer, &dst) && endpoint_same(&local, &own) &&
		       say_hello(fd, &dst, &a) == 0 && a.who == 'D' && a.ok;
	}
	close(fd);
	return good;
}

pid_t dial_many(enum place from, uint32_t n, uint32_t seed, uint32_t *done, uint32_t *bad)
{
	uint32_t r = seed * 2654435761U + 1;
	pid_t pid = rig_fork(from);

	if (pid != 0)
		return pid;
	alarm(300);
	for (uint32_t i = 0; i < n; i++) {
		r ^= r << 13;
		r ^= r >> 17;
		r ^= r << 5;
		if (!dial_one(i, r))
			__atomic_fetch_add(bad, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(done, 1, __ATOMIC_SEQ_CST);
	}
	_exit(0);
}
