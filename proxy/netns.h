/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only room that calls setns(): one helper thread enters a workload's network namespace,
 * makes sockets there, and comes home (or aborts: a thread in the wrong namespace must not go
 * on). Workers take sockets from pools and never change their namespace; with bpf/loader.h
 * this is all that needs privilege.
 */
#ifndef SHUNT_NETNS_H
#define SHUNT_NETNS_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"

__attribute__((warn_unused_result)) int netns_start(void);
void netns_stop(void); /* every pool was freed */

/* Opens the namespace at `path` (O_CLOEXEC) and learns its cookie. -errno on failure. */
__attribute__((warn_unused_result)) int netns_open(const char *path, uint64_t *cookie);

/* Runs fn(arg) inside the namespace, on the helper thread, and waits for it. Returns what
 * fn returned, or -errno when the namespace could not be entered. */
__attribute__((warn_unused_result)) int netns_visit(int netns_fd, int (*fn)(void *arg), void *arg);

/* A TCP socket of the calling thread's namespace, as both legs of a connection are: non-blocking,
 * close-on-exec, TCP_NODELAY, keep-alive; IPV6_FREEBIND. -errno on failure. */
int netns_socket_here(int family);

/* Listening sockets of the namespace, by enum listener_kind: 127.0.0.1:0 and [::1]:0, never
 * dialled directly, sk_lookup gives them their connections, which inherit TCP_NODELAY and
 * keep-alive. Where the namespace has no IPv6, the two of IPv6 are -1; after a failure all are.
 * Also adds the AnyIP route of the IPv6 slots to its lo. */
__attribute__((warn_unused_result)) int netns_listen(int netns_fd, int listeners[LISTENER_KINDS]);
/* 1 if another process listens on this TCP port (host order) in the namespace, on any address;
 * 0 or -errno. */
__attribute__((warn_unused_result)) int netns_port_taken(int netns_fd, uint16_t port);
/* Adds the AnyIP route again, if it went: a failure is tried again by whoever calls. */
void netns_route(int netns_fd);
/* Takes the AnyIP route away again. */
void netns_unroute(int netns_fd);

/* The addresses of the namespace, loopback and link-local left out. Returns how many there
 * are (at most `n` are stored), or -errno. */
int netns_addresses(int netns_fd, struct addr16 *out, unsigned n);

/* Sockets made beforehand: non-blocking TCP, TCP_NODELAY, keep-alive, IPV6_FREEBIND. */
struct netns_pool;
struct netns_pool *netns_pool_new(int netns_fd); /* borrows the descriptor; NULL: no memory */
void netns_pool_free(struct netns_pool *p); /* nobody asks any more */

/* Asked by a worker that finds the pool empty; `deliver` is called once, on the helper
 * thread, with a descriptor (the callee's) or -errno. */
struct netns_ask {
	struct netns_ask *next;
	struct netns_pool *pool;
	int family;
	void (*deliver)(struct netns_ask *ask, int fd);
};
/* A descriptor at once (any thread), or -EAGAIN: then `ask` is answered later. */
int netns_socket(struct netns_pool *p, int family, struct netns_ask *ask);

#endif
