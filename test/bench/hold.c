/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold [-s IP] ADDRESS:PORT N: opens N connections, asks once on each, and holds them: "ready N"
 * on standard output, how many were answered. Closes them at the end of standard input.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/bench/sock.h"

#define PATIENCE 10000 /* ms */

static bool wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, PATIENCE) == 1;
}

static bool ask(int fd)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: server\r\n\r\n";
	struct answer answer;
	char buffer[2048];
	int whole = 0;

	if (!wait_for(fd, POLLOUT) || send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return false;
	answer_begin(&answer);
	while (whole == 0) {
		ssize_t n = wait_for(fd, POLLIN) ? recv(fd, buffer, sizeof buffer, 0) : 0;

		if (n <= 0)
			return false;
		whole = answer_take(&answer, buffer, (size_t)n);
	}
	return whole > 0 && answer.status == 200;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to, from;
	bool has_from = argc == 5 && strcmp(argv[1], "-s") == 0;
	char byte;
	int n, ready = 0;

	if (argc != 3 && !has_from)
		return 2;
	if (has_from)
		from = address_of(argv[2]);
	to = address_of(argv[argc - 2]);
	n = atoi(argv[argc - 1]);
	descriptors_raise();
	for (int i = 0; i < n; i++) {
		int fd = dial(&to, has_from ? &from : NULL);

		if (fd < 0) {
			fprintf(stderr, "hold: %s\n", strerror(-fd));
			break;
		}
		ready += ask(fd); /* and held, answered or not */
	}
	printf("ready %d\n", ready);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0) {
	}
	return ready != n;
}
