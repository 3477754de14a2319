/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of the connections of test/netns/cases.sh: a program that plays one case and prints
 * what an application can see of it, and a server that says what it is shown itself.
 */
#ifndef SHUNT_TEST_CASES_H
#define SHUNT_TEST_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define REQUEST_MAX 2048 /* bytes of a head that either end reads */

/* An IPv4 or IPv6 address, as a socket takes it. */
struct name {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* "10.78.0.11", "fd00:78::11", "fe80::1%2" with a port. Ends the program where it is neither. */
struct name name_parse(const char *ip, uint16_t port);
uint16_t name_port(const struct name *n);
/* The address in numbers; the result holds until the next call of the same thread. */
const char *name_ip(const struct name *n);

/* getsockopt(SO_PEERNAME), which wants to know the size beforehand, as getpeername(). */
int peername_option(int fd, struct sockaddr *sa, socklen_t *len);

/* The address a socket really talks to, from /proc/net/tcp{,6}, which nobody masks: true where
 * it is one of shunt's own. False for a socket that is not listed there. */
bool is_proxied(int fd);

/* One operation through io_uring, waited for: its result or -errno. With `async` it runs in a
 * thread of the kernel's. */
int uring_connect(int fd, const struct name *to, bool async);
int uring_accept(int fd, struct name *from);

/* All of it, or the errno of what stopped it. */
int send_all(int fd, const char *from, size_t len);

/* Ends the program; says what errno says. */
void die(const char *what) __attribute__((noreturn));

/* `specs`: ADDRESS/PORT[/FLAG...]. Serves until killed. */
int serve(char **specs, int n);

#endif
