/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pingpong KIND BYTES SECONDS CORE CORE: BYTES there and back between two processes, one on each
 * core (the same twice: on one), over tcp, unix, udp or pipe: what no proxy can be faster than.
 * One line of JSON.
 */
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/bench/histogram.h"
#include "test/bench/sock.h"

#define BYTES_MAX (64 * 1024)

/* What each of the two reads from and writes to. */
struct ends {
	int in[2], out[2];
};

static char buffer[BYTES_MAX];
static struct histogram latency;

static int loopback(int type, struct sockaddr_in *at)
{
	socklen_t len = sizeof *at;
	int fd = socket(AF_INET, type, 0);

	*at = address_of("127.0.0.1");
	if (fd < 0 || bind(fd, (struct sockaddr *)at, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)at, &len) < 0)
		die("socket");
	return fd;
}

static void pair_tcp(int *fds)
{
	struct sockaddr_in at;
	int listener = loopback(SOCK_STREAM, &at);

	if (listen(listener, 1) < 0)
		die("listen");
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fds[0], (struct sockaddr *)&at, sizeof at) < 0)
		die("connect");
	fds[1] = accept(listener, NULL, NULL);
	close(listener);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static void pair_udp(int *fds)
{
	struct sockaddr_in at[2];

	for (int i = 0; i < 2; i++)
		fds[i] = loopback(SOCK_DGRAM, &at[i]);
	for (int i = 0; i < 2; i++)
		if (connect(fds[i], (struct sockaddr *)&at[1 - i], sizeof at[i]) < 0)
			die("connect");
}

static struct ends ends_of(const char *kind)
{
	int fds[2], back[2];

	if (strcmp(kind, "pipe") == 0) {
		if (pipe(fds) < 0 || pipe(back) < 0)
			die("pipe");
		return (struct ends){.in = {back[0], fds[0]}, .out = {fds[1], back[1]}};
	}
	if (strcmp(kind, "tcp") == 0)
		pair_tcp(fds);
	else if (strcmp(kind, "udp") == 0)
		pair_udp(fds);
	else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		die("socketpair");
	return (struct ends){.in = {fds[0], fds[1]}, .out = {fds[0], fds[1]}};
}

static void stay_on(const char *core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)atoi(core), &set);
	if (sched_setaffinity(0, sizeof set, &set) < 0)
		die("sched_setaffinity");
}

static void put(int fd, size_t n)
{
	if (write(fd, buffer, n) != (ssize_t)n)
		die("write");
}

static void get(int fd, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, buffer, n);

		if (got <= 0)
			die("read");
		n -= (size_t)got;
	}
}

int main(int argc, char **argv)
{
	size_t bytes = argc == 6 ? strtoul(argv[2], NULL, 10) : 0;
	struct ends ends;
	uint64_t end;
	pid_t pong;

	if (bytes == 0 || bytes > BYTES_MAX)
		return 2;
	ends = ends_of(argv[1]);
	pong = fork();
	if (pong == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		stay_on(argv[5]);
		for (;;) {
			get(ends.in[1], bytes);
			put(ends.out[1], bytes);
		}
	}
	stay_on(argv[4]);
	end = now_ns() + (uint64_t)(atof(argv[3]) * 1e9);
	while (now_ns() < end) {
		uint64_t begun = now_ns();

		put(ends.out[0], bytes);
		get(ends.in[0], bytes);
		histogram_add(&latency, now_ns() - begun);
	}
	kill(pong, SIGKILL);
	waitpid(pong, NULL, 0);
	printf("{\"rounds\":%llu,\"p50_us\":%.2f,\"p99_us\":%.2f}\n", (unsigned long long)latency.n,
	       (double)histogram_quantile(&latency, 0.5) / 1e3,
	       (double)histogram_quantile(&latency, 0.99) / 1e3);
	return 0;
}
