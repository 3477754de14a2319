/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay ADDRESS:PORT UPSTREAM:PORT: moves bytes between two sockets and looks at none: what two
 * legs cost without any thought, the floor of every proxy in user space.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/bench/sock.h"

#define EVENTS 256
#define CHUNK (64 * 1024)

struct leg {
	struct leg *other;
	int fd;
	bool fin; /* of this side, passed on */
	bool connecting; /* reads once the dial is there */
	char *spill; /* bytes for this side that it did not take; owned */
	size_t spilled;
};

struct pair {
	struct leg down, up;
	struct pair *next_dead;
	bool dead;
};

static int loop;
static struct pair *dead; /* freed when no event of this round can name them */

static void pair_end(struct leg *l)
{
	struct pair *p = (struct pair *)(l < l->other ? l : l->other); /* down is its first */

	if (p->dead)
		return;
	close(p->down.fd);
	close(p->up.fd);
	free(p->down.spill);
	free(p->up.spill);
	p->dead = true;
	p->next_dead = dead;
	dead = p;
}

static void leg_watch(struct leg *l)
{
	uint32_t events = l->spilled > 0 || l->connecting ? EPOLLOUT : 0;

	if (l->other->spilled == 0 && !l->fin && !l->connecting && !l->other->connecting)
		events |= EPOLLIN;
	loop_change(loop, l->fd, events, l);
}

/* What the other side does not take waits, and nothing more is read until it has left. */
static bool leg_spill(struct leg *l, const char *bytes, size_t n)
{
	char *spill = malloc(n);

	if (spill == NULL)
		return false;
	memcpy(spill, bytes, n);
	free(l->spill);
	l->spill = spill;
	l->spilled = n;
	leg_watch(l);
	leg_watch(l->other);
	return true;
}

static void leg_readable(struct leg *l)
{
	static char chunk[CHUNK];
	ssize_t n = recv(l->fd, chunk, sizeof chunk, 0), sent;

	if (n < 0) {
		if (errno != EAGAIN)
			pair_end(l);
		return;
	}
	if (n == 0) {
		l->fin = true;
		shutdown(l->other->fd, SHUT_WR);
		if (l->other->fin)
			pair_end(l);
		else
			leg_watch(l);
		return;
	}
	sent = send(l->other->fd, chunk, (size_t)n, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN) {
		pair_end(l);
		return;
	}
	sent = sent < 0 ? 0 : sent;
	if (sent < n && !leg_spill(l->other, chunk + sent, (size_t)(n - sent)))
		pair_end(l);
}

static void leg_writable(struct leg *l)
{
	ssize_t sent;

	if (l->connecting) {
		l->connecting = false;
	} else {
		sent = send(l->fd, l->spill, l->spilled, MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno != EAGAIN)
				pair_end(l);
			return;
		}
		l->spilled -= (size_t)sent;
		memmove(l->spill, l->spill + sent, l->spilled);
		if (l->spilled > 0)
			return;
	}
	leg_watch(l);
	leg_watch(l->other);
}

static void leg_turn(struct leg *l, uint32_t events)
{
	struct pair *p = (struct pair *)(l < l->other ? l : l->other);

	if (p->dead)
		return;
	if (events & EPOLLOUT)
		leg_writable(l);
	else if (events & EPOLLIN)
		leg_readable(l);
	else
		pair_end(l); /* it broke, or nobody listens */
}

static void accept_all(int listener, const struct sockaddr_in *upstream)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct pair *p = calloc(1, sizeof *p);

		if (p == NULL)
			die("calloc");
		p->down = (struct leg){.other = &p->up, .fd = fd};
		p->up = (struct leg){.other = &p->down, .fd = dial(upstream, NULL)};
		if (p->up.fd < 0) {
			close(fd);
			free(p);
			continue;
		}
		p->up.connecting = true;
		loop_watch(loop, fd, 0, &p->down);
		loop_watch(loop, p->up.fd, EPOLLOUT, &p->up);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct sockaddr_in upstream;
	int listener;

	if (argc != 3)
		return 2;
	descriptors_raise();
	upstream = address_of(argv[2]);
	loop = loop_new();
	listener = listen_on(argv[1]);
	loop_watch(loop, listener, EPOLLIN, NULL);
	for (;;) {
		int n = epoll_wait(loop, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_all(listener, &upstream);
			else
				leg_turn(events[i].data.ptr, events[i].events);
		}
		while (dead != NULL) {
			struct pair *p = dead;

			dead = p->next_dead;
			free(p);
		}
	}
}
