/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets inside other network namespaces: see netns.h. */
#include "proxy/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/io.h"
#include "proxy/log.h"
#include "proxy/privilege.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define POOL_SIZE 8 /* made per visit: as dear as one */
#define POOL_IDLE 30 /* seconds unused before a pool is emptied */
#define BACKLOG 4096
#define KEEPALIVE_IDLE 180 /* seconds: before a firewall forgets an idle connection */
#define KEEPALIVE_INTERVAL 180
#define KEEPALIVE_COUNT 9

enum { POOL4, POOL6, POOL_FAMILIES };

struct netns_pool {
	struct netns_pool *next; /* of all pools */
	int netns_fd;
	int fd[POOL_FAMILIES][POOL_SIZE];
	unsigned count[POOL_FAMILIES];
	bool refill[POOL_FAMILIES];
	time_t used;
};

struct visit {
	int netns_fd;
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool done;
};

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked; /* work for the helper */
	pthread_cond_t answered; /* a visit ended */
	bool stop;
	struct visit *visit;
	struct netns_ask *asks;
	struct netns_pool *pools;
	int home; /* our own namespace */
} helper = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.asked = PTHREAD_COND_INITIALIZER,
	.answered = PTHREAD_COND_INITIALIZER,
};

static int enter(int netns_fd)
{
	return setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static void come_home(void)
{
	if (setns(helper.home, CLONE_NEWNET) < 0) {
		log_err("cannot return to the own network namespace");
		abort();
	}
}

/* What both legs of a connection have; accepted sockets get it from their listener. A peer that
 * vanished is given up after half an hour: no other limit ends a connection of any bytes. */
static void set_stream_options(int fd)
{
	int on = 1, idle = KEEPALIVE_IDLE, interval = KEEPALIVE_INTERVAL, count = KEEPALIVE_COUNT;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

int netns_socket_here(int family)
{
	int on = 1;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fd < 0)
		return -errno;
	set_stream_options(fd);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on);
	return fd;
}

/* With the lock held; gives it up while it is in the namespace. `first` is a socket for one
 * who waits, or NULL. */
static void pool_fill(struct netns_pool *p, int kind, int *first)
{
	int made[POOL_SIZE + 1];
	int want = POOL_SIZE + (first != NULL);
	int n = 0;
	int err;

	pthread_mutex_unlock(&helper.lock);
	err = enter(p->netns_fd);
	while (err == 0 && n < want) {
		int fd = netns_socket_here(kind == POOL4 ? AF_INET : AF_INET6);

		if (fd >= 0 && is_last_descriptor(fd)) {
			close(fd);
			fd = -EMFILE;
		}
		if (fd < 0) {
			err = fd;
			break;
		}
		made[n++] = fd;
	}
	come_home();
	pthread_mutex_lock(&helper.lock);
	if (first != NULL)
		*first = n > 0 ? made[--n] : err;
	while (n > 0 && p->count[kind] < POOL_SIZE)
		p->fd[kind][p->count[kind]++] = made[--n];
	while (n > 0)
		close(made[--n]);
	p->refill[kind] = false;
}

static time_t now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec;
}

static void pool_empty(struct netns_pool *p)
{
	for (int kind = 0; kind < POOL_FAMILIES; kind++)
		while (p->count[kind] > 0)
			close(p->fd[kind][--p->count[kind]]);
}

/* Keeps the descriptors of namespaces that nobody dials from being held. */
static void pools_tend(void)
{
	for (struct netns_pool *p = helper.pools; p != NULL; p = p->next)
		if (p->count[POOL4] + p->count[POOL6] > 0 && now_seconds() - p->used > POOL_IDLE)
			pool_empty(p);
}

static bool pools_refill(void)
{
	for (struct netns_pool *p = helper.pools; p != NULL; p = p->next)
		for (int kind = 0; kind < POOL_FAMILIES; kind++)
			if (p->refill[kind]) {
				pool_fill(p, kind, NULL);
				return true; /* the list may have changed meanwhile */
			}
	return false;
}

static void answer_visit(struct visit *v)
{
	int err;

	pthread_mutex_unlock(&helper.lock);
	err = enter(v->netns_fd);
	v->result = err < 0 ? err : v->fn(v->arg);
	come_home();
	pthread_mutex_lock(&helper.lock);
	helper.visit = NULL;
	v->done = true;
	pthread_cond_broadcast(&helper.answered);
}

static void answer_ask(struct netns_ask *ask)
{
	int fd = -EAGAIN;

	helper.asks = ask->next;
	pool_fill(ask->pool, ask->family == AF_INET ? POOL4 : POOL6, &fd);
	pthread_mutex_unlock(&helper.lock);
	ask->deliver(ask, fd);
	pthread_mutex_lock(&helper.lock);
}

static void *helper_run(void *arg)
{
	struct timespec until;

	(void)arg;
	pthread_setname_np(pthread_self(), "shunt-netns");
	privilege_keep(PRIVILEGE_NETNS);
	pthread_mutex_lock(&helper.lock);
	while (!helper.stop) {
		if (helper.asks != NULL) {
			answer_ask(helper.asks);
		} else if (helper.visit != NULL) {
			answer_visit(helper.visit);
		} else if (!pools_refill()) {
			pools_tend();
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += POOL_IDLE;
			pthread_cond_timedwait(&helper.asked, &helper.lock, &until);
		}
	}
	pthread_mutex_unlock(&helper.lock);
	return NULL;
}

int netns_start(void)
{
	int err;

	helper.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (helper.home < 0)
		return -errno;
	err = pthread_create(&helper.thread, NULL, helper_run, NULL);
	if (err != 0)
		close(helper.home);
	return -err;
}

void netns_stop(void)
{
	pthread_mutex_lock(&helper.lock);
	helper.stop = true;
	pthread_cond_signal(&helper.asked);
	pthread_mutex_unlock(&helper.lock);
	pthread_join(helper.thread, NULL);
	close(helper.home);
}

int netns_visit(int netns_fd, int (*fn)(void *arg), void *arg)
{
	struct visit v = {.netns_fd = netns_fd, .fn = fn, .arg = arg};

	pthread_mutex_lock(&helper.lock);
	while (helper.visit != NULL)
		pthread_cond_wait(&helper.answered, &helper.lock);
	helper.visit = &v;
	pthread_cond_signal(&helper.asked);
	while (!v.done)
		pthread_cond_wait(&helper.answered, &helper.lock);
	pthread_mutex_unlock(&helper.lock);
	return v.result;
}

static int read_cookie(void *arg)
{
	uint64_t *cookie = arg;
	socklen_t len = sizeof *cookie;
	int fd = netns_socket_here(AF_INET);
	int err = 0;

	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) < 0)
		err = -errno;
	close(fd);
	return err;
}

int netns_open(const char *path, uint64_t *cookie)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = netns_visit(fd, read_cookie, cookie);
	if (err < 0) {
		close(fd);
		return err;
	}
	return fd;
}

static int listen_here(int family)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int on = 1, queue = 256;
	int fd = netns_socket_here(family);
	int err;

	if (fd < 0)
		return fd;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
	if (family == AF_INET)
		err = bind(fd, (struct sockaddr *)&in, sizeof in);
	else
		err = bind(fd, (struct sockaddr *)&in6, sizeof in6);
	/* A steered connection holds the application's own port in our socket: without this an
	 * application that restarts would find its address in use. After bind(), so that nobody
	 * can share ours. */
	if (err == 0)
		err = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (err == 0)
		err = listen(fd, BACKLOG);
	if (err == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int port_taken(void *arg)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(*(uint16_t *)arg)};
	struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = any.sin6_port};
	int fd = netns_socket_here(AF_INET6), on = 1;
	bool v6 = fd >= 0;
	int err = 0;

	if (!v6)
		fd = netns_socket_here(AF_INET);
	if (fd < 0)
		return fd;
	if (v6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof on);
	/* With it only a listener is in the way, not what is left of old connections. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (v6)
		err = bind(fd, (struct sockaddr *)&any, sizeof any);
	else
		err = bind(fd, (struct sockaddr *)&any4, sizeof any4);
	err = err < 0 ? -errno : 0;
	close(fd);
	return err == -EADDRINUSE ? 1 : err;
}

int netns_port_taken(int netns_fd, uint16_t port)
{
	return netns_visit(netns_fd, port_taken, &port);
}

struct route_request {
	struct nlmsghdr header;
	struct rtmsg route;
	char attributes[64];
};

static void route_attribute(struct route_request *r, unsigned short type, const void *data,
			    unsigned short len)
{
	struct rtattr *a = (struct rtattr *)(void *)((char *)r + NLMSG_ALIGN(r->header.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + (__u32)RTA_ALIGN(a->rta_len);
}

/* `ip -6 route add|del local fd73:6875:6e74::/64 dev lo`: every address of the prefix is
 * then this host's own (AnyIP). */
static int route_slots6(unsigned short type, unsigned short flags)
{
	struct addr16 prefix = {{htonl(SLOT6_WORD0), htonl(SLOT6_WORD1), 0, 0}};
	unsigned lo = 1; /* always, in every namespace */
	struct route_request r = {
		.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
			   .nlmsg_type = type,
			   .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags)},
		.route = {.rtm_family = AF_INET6,
			  .rtm_dst_len = 64,
			  .rtm_table = RT_TABLE_LOCAL,
			  .rtm_protocol = RTPROT_STATIC,
			  .rtm_scope = RT_SCOPE_HOST,
			  .rtm_type = RTN_LOCAL},
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int err = -EPROTO;

	if (fd < 0)
		return -errno;
	route_attribute(&r, RTA_DST, &prefix, sizeof prefix);
	route_attribute(&r, RTA_OIF, &lo, sizeof lo);
	if (send(fd, &r, r.header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
		err = -errno;
	else if (answer.header.nlmsg_type == NLMSG_ERROR)
		err = answer.error.error;
	close(fd);
	return err;
}

static void drop_ipv6(int fds[LISTENER_KINDS])
{
	close(fds[LISTENER_EGRESS6]);
	close(fds[LISTENER_INGRESS6]);
	fds[LISTENER_EGRESS6] = fds[LISTENER_INGRESS6] = -1;
}

static int listen_all(void *arg)
{
	static const int family[LISTENER_KINDS] = {AF_INET, AF_INET6, AF_INET, AF_INET6};
	int *fds = arg;
	int err;

	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		fds[kind] = -1;
	for (int kind = 0; kind < LISTENER_KINDS; kind++) {
		fds[kind] = listen_here(family[kind]);
		if (fds[kind] >= 0)
			continue;
		err = fds[kind];
		fds[kind] = -1;
		if (family[kind] == AF_INET6 && (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT))
			continue; /* IPv6 is off in this namespace: IPv4 only */
		goto fail;
	}
	if (fds[LISTENER_EGRESS6] < 0)
		return 0;
	err = route_slots6(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	if (err == 0)
		return 0;
	if (err == -EACCES || err == -EOPNOTSUPP) { /* ::1 can be bound, but IPv6 is off */
		drop_ipv6(fds);
		return 0;
	}
fail:
	for (int kind = 0; kind < LISTENER_KINDS; kind++) {
		if (fds[kind] >= 0)
			close(fds[kind]);
		fds[kind] = -1;
	}
	return err;
}

int netns_listen(int netns_fd, int listeners[LISTENER_KINDS])
{
	return netns_visit(netns_fd, listen_all, listeners);
}

static int reroute(void *arg)
{
	(void)arg;
	return route_slots6(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
}

void netns_route(int netns_fd)
{
	int err = netns_visit(netns_fd, reroute, NULL);

	if (err < 0)
		log_debug("route of the IPv6 slots: %s", strerror(-err));
}

static int unroute(void *arg)
{
	(void)arg;
	return route_slots6(RTM_DELROUTE, 0);
}

void netns_unroute(int netns_fd)
{
	int err = netns_visit(netns_fd, unroute, NULL);

	if (err < 0 && err != -ESRCH)
		log_warnx("route of the IPv6 slots not removed: %s", strerror(-err));
}

struct address_list {
	struct addr16 *out;
	unsigned room;
	unsigned count;
};

static int list_addresses(void *arg)
{
	struct address_list *l = arg;
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct endpoint e;

		if (i->ifa_addr == NULL || !endpoint_from_sockaddr(&e, i->ifa_addr))
			continue;
		if (addr_is_loopback(&e.ip) || (ntohl(e.ip.word[0]) & 0xffc00000) == 0xfe800000)
			continue;
		if (l->count < l->room)
			l->out[l->count] = e.ip;
		l->count++;
	}
	freeifaddrs(all);
	return 0;
}

int netns_addresses(int netns_fd, struct addr16 *out, unsigned n)
{
	struct address_list l = {.out = out, .room = n};
	int err = netns_visit(netns_fd, list_addresses, &l);

	return err < 0 ? err : (int)l.count;
}

struct netns_pool *netns_pool_new(int netns_fd)
{
	struct netns_pool *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->netns_fd = netns_fd;
	pthread_mutex_lock(&helper.lock);
	p->next = helper.pools;
	helper.pools = p;
	pthread_mutex_unlock(&helper.lock);
	return p;
}

/* A visit ends only when the helper is out of the namespace: by then it does not fill us. */
static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

void netns_pool_free(struct netns_pool *p)
{
	int err;

	if (p == NULL)
		return;
	pthread_mutex_lock(&helper.lock);
	for (struct netns_pool **at = &helper.pools; *at != NULL; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	pthread_mutex_unlock(&helper.lock);
	err = netns_visit(helper.home, nothing, NULL);
	if (err < 0)
		log_warnx("own network namespace: %s", strerror(-err));
	pool_empty(p);
	free(p);
}

int netns_socket(struct netns_pool *p, int family, struct netns_ask *ask)
{
	int kind = family == AF_INET ? POOL4 : POOL6;
	struct netns_ask **at = &helper.asks;
	int fd = -EAGAIN;

	pthread_mutex_lock(&helper.lock);
	p->used = now_seconds();
	if (p->count[kind] > 0) {
		fd = p->fd[kind][--p->count[kind]];
	} else {
		while (*at != NULL)
			at = &(*at)->next;
		*ask = (struct netns_ask){.pool = p, .family = family, .deliver = ask->deliver};
		*at = ask;
	}
	if (p->count[kind] < POOL_SIZE / 2) {
		p->refill[kind] = true;
		pthread_cond_signal(&helper.asked);
	}
	pthread_mutex_unlock(&helper.lock);
	return fd;
}
