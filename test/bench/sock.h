/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the bench's programs share: sockets (IPv4), the clock, one answer as its bytes come.
 * A call that cannot fail in a sound setting ends the program.
 */
#ifndef SHUNT_BENCH_SOCK_H
#define SHUNT_BENCH_SOCK_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

_Noreturn void die(const char *what); /* with errno */
uint64_t now_ns(void); /* CLOCK_MONOTONIC */
void descriptors_raise(void); /* to the hard limit */

struct sockaddr_in address_of(const char *text); /* ADDRESS or ADDRESS:PORT */
int listen_on(const char *address); /* non-blocking, backlog 16384 */

/* A non-blocking socket on its way to `to`; from `from` if that is not NULL. -errno when there
 * is none to be had. */
int dial(const struct sockaddr_in *to, const struct sockaddr_in *from);

int loop_new(void);
/* Level-triggered; `data` comes back with the events. */
void loop_watch(int loop, int fd, uint32_t events, void *data);
void loop_change(int loop, int fd, uint32_t events, void *data);

/* One HTTP/1 answer with a Content-Length. */
struct answer {
	char head[1024];
	size_t have;
	unsigned status; /* 0: the head is not whole */
	uint64_t length, left; /* of the content */
};

void answer_begin(struct answer *a);
/* 1: it is whole, 0: there is more to come, -1: not an answer, or more than one. */
int answer_take(struct answer *a, const char *bytes, size_t n);

#endif
