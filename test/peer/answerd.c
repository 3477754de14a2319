/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answerd PORT: an HTTP/1 server that says "ok" to every request, on both families, to as many
 * connections as descriptors allow. A request is taken to come in one piece, and is.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int loop, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static int listen_on(unsigned short port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	int on = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

static void serve(int fd)
{
	char request[4096];
	ssize_t n = recv(fd, request, sizeof request - 1, 0);

	request[n > 0 ? n : 0] = '\0';
	if (n <= 0 || send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0 ||
	    strcasestr(request, "\r\nConnection: close") != NULL)
		close(fd);
}

static void run(int loop, int listener)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(loop, events, EVENTS, -1);

	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;

		if (fd != listener)
			serve(fd);
		else if ((fd = accept(listener, NULL, NULL)) >= 0)
			watch(loop, fd);
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	int loop = epoll_create1(0), listener;

	if (argc != 2 || loop < 0)
		return 2;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	listener = listen_on((unsigned short)atoi(argv[1]));
	watch(loop, listener);
	for (;;)
		run(loop, listener);
}
