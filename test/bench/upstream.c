/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream ADDRESS:PORT: the server behind the proxies, cheap enough not to be the limit. GET /N
 * is answered with N bytes (13 if there is no number), requests sent ahead one after the other.
 * Says at SIGTERM what it has seen, so that a proxy that kept a connection, or asked less than it
 * answered, is found out: {"accepts":N,"requests":N,"bytes":N}
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/bench/sock.h"

#define EVENTS 256
#define HEAD 128
#define BODY (256 * 1024)
#define DEFAULT_SIZE 13

struct peer {
	int fd;
	bool last; /* the client asked to close */
	bool blocked;
	uint64_t size; /* of the answer under way */
	uint64_t owed; /* bytes of it, head included */
	size_t have; /* of the request */
	char request[2000];
};

static struct peer *peers; /* by descriptor */
static int loop;
static struct {
	unsigned long long accepts, requests, bytes;
} seen;

/* The answer of `prepared` bytes: a head, and content without end. */
static char page[HEAD + BODY];
static uint64_t prepared = UINT64_MAX;
static size_t head_len;

static void prepare(uint64_t size)
{
	char head[HEAD];

	if (size == prepared)
		return;
	head_len = (size_t)snprintf(head, sizeof head,
				    "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n"
				    "Content-Type: text/plain\r\n\r\n",
				    (unsigned long long)size);
	memcpy(page, head, head_len);
	memset(page + head_len, 'x', sizeof page - head_len);
	prepared = size;
}

static void peer_close(struct peer *p)
{
	close(p->fd); /* the only descriptor of it: epoll forgets it */
	p->have = 0;
	p->owed = 0;
}

/* Sends what is owed. False when the client takes no more now, or is gone. */
static bool peer_push(struct peer *p)
{
	while (p->owed > 0) {
		uint64_t done, len;
		ssize_t n;

		prepare(p->size);
		done = head_len + p->size - p->owed;
		done = done < head_len ? done : head_len; /* all content looks alike */
		len = sizeof page - done < p->owed ? sizeof page - done : p->owed;
		n = send(p->fd, page + done, len, MSG_NOSIGNAL);
		if (n < 0) {
			bool full = errno == EAGAIN;

			if (!full)
				peer_close(p);
			else if (!p->blocked)
				loop_change(loop, p->fd, EPOLLOUT, p);
			p->blocked = full;
			return false;
		}
		p->owed -= (uint64_t)n;
		seen.bytes += (uint64_t)n;
	}
	return true;
}

/* Answers every whole request of those that came. */
static void peer_answer(struct peer *p)
{
	char *end;

	while (peer_push(p)) {
		p->request[p->have] = '\0';
		end = strstr(p->request, "\r\n\r\n");
		if (p->last || (end == NULL && p->have == sizeof p->request - 1)) {
			peer_close(p);
			return;
		}
		if (end == NULL)
			return;
		*end = '\0';
		p->size = DEFAULT_SIZE;
		if (p->request[5] >= '0' && p->request[5] <= '9')
			p->size = strtoull(p->request + 5, NULL, 10);
		p->last = strcasestr(p->request, "\r\nConnection: close") != NULL;
		prepare(p->size);
		p->owed = head_len + p->size;
		p->have -= (size_t)(end + 4 - p->request);
		memmove(p->request, end + 4, p->have);
		seen.requests++;
	}
}

static void peer_turn(struct peer *p)
{
	ssize_t n;

	if (p->blocked) {
		if (!peer_push(p))
			return;
		p->blocked = false;
		loop_change(loop, p->fd, EPOLLIN, p);
	} else {
		n = recv(p->fd, p->request + p->have, sizeof p->request - 1 - p->have, 0);
		if (n <= 0) {
			if (n == 0 || errno != EAGAIN)
				peer_close(p);
			return;
		}
		p->have += (size_t)n;
	}
	peer_answer(p);
}

static void accept_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		peers[fd] = (struct peer){.fd = fd};
		seen.accepts++;
		loop_watch(loop, fd, EPOLLIN, &peers[fd]);
	}
}

static volatile sig_atomic_t stop;

static void on_term(int signal)
{
	stop = signal;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct sigaction action = {.sa_handler = on_term};
	struct rlimit limit;
	sigset_t term, none;
	int listener;

	if (argc != 2)
		return 2;
	descriptors_raise();
	getrlimit(RLIMIT_NOFILE, &limit);
	peers = calloc(limit.rlim_cur, sizeof *peers);
	if (peers == NULL)
		die("calloc");
	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL); /* it is let in while the loop waits */
	sigaction(SIGTERM, &action, NULL);
	loop = loop_new();
	listener = listen_on(argv[1]);
	loop_watch(loop, listener, EPOLLIN, NULL);
	while (!stop) {
		int n = epoll_pwait(loop, events, EVENTS, -1, &none);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_all(listener);
			else
				peer_turn(events[i].data.ptr);
		}
	}
	printf("{\"accepts\":%llu,\"requests\":%llu,\"bytes\":%llu}\n", seen.accepts, seen.requests,
	       seen.bytes);
	return 0;
}
