/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of the bench: see sock.h. */
#include "test/bench/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 16384

void die(const char *what)
{
	perror(what);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

struct sockaddr_in address_of(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *colon = strchrnul(text, ':');
	char host[INET_ADDRSTRLEN];

	snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "%s: not ADDRESS:PORT\n", text);
		exit(2);
	}
	if (*colon == ':')
		a.sin_port = htons((uint16_t)atoi(colon + 1));
	return a;
}

int listen_on(const char *address)
{
	struct sockaddr_in at = address_of(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, BACKLOG) < 0)
		die(address);
	return fd;
}

int dial(const struct sockaddr_in *to, const struct sockaddr_in *from)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (from != NULL) { /* the port is chosen by connect(), which knows more of them free */
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
		if (bind(fd, (const struct sockaddr *)from, sizeof *from) < 0)
			err = errno;
	}
	if (err == 0 && connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
		err = errno;
	if (err == 0 || err == EINPROGRESS)
		return fd;
	close(fd);
	return -err;
}

int loop_new(void)
{
	int loop = epoll_create1(0);

	if (loop < 0)
		die("epoll_create1");
	return loop;
}

void loop_watch(int loop, int fd, uint32_t events, void *data)
{
	struct epoll_event ev = {.events = events, .data.ptr = data};

	if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

void loop_change(int loop, int fd, uint32_t events, void *data)
{
	struct epoll_event ev = {.events = events, .data.ptr = data};

	if (epoll_ctl(loop, EPOLL_CTL_MOD, fd, &ev) < 0)
		die("epoll_ctl");
}

void answer_begin(struct answer *a)
{
	a->have = 0;
	a->status = 0;
}

static int answer_head(struct answer *a)
{
	const char *length;

	if (strncmp(a->head, "HTTP/1.1 ", 9) != 0)
		return -1;
	length = strcasestr(a->head, "\r\nContent-Length:");
	if (length == NULL)
		return -1;
	a->status = (unsigned)atoi(a->head + 9);
	a->length = a->left = strtoull(length + 17, NULL, 10);
	return 0;
}

int answer_take(struct answer *a, const char *bytes, size_t n)
{
	if (a->status == 0) {
		size_t before = a->have, room = sizeof a->head - 1 - before;
		const char *end;
		size_t taken;

		memcpy(a->head + before, bytes, n < room ? n : room);
		a->have += n < room ? n : room;
		a->head[a->have] = '\0';
		end = strstr(a->head, "\r\n\r\n");
		if (end == NULL)
			return n < room ? 0 : -1;
		if (answer_head(a) < 0)
			return -1;
		taken = (size_t)(end + 4 - a->head) - before;
		n -= taken;
	}
	if (n > a->left)
		return -1;
	a->left -= n;
	return a->left == 0;
}
