/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets made inside a network namespace: one of this test's own, entered by the helper. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/netns.h"

#define PORT 15008

static int netns = -1; /* -1: this process may not make one */

static int begin(void **state)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	(void)state;
	if (unshare(CLONE_NEWNET) < 0)
		return 0;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(netns_start(), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	if (netns < 0)
		return 0;
	netns_stop();
	return close(netns);
}

static void need_namespace(void)
{
	if (netns < 0) {
		print_message("skip - sockets in a namespace: unshare() is not permitted\n");
		skip();
	}
}

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void listeners_are_loopback_ones_of_both_families(void **state)
{
	int fds[LISTENER_KINDS];

	(void)state;
	need_namespace();
	assert_int_equal(netns_listen(netns, fds), 0);
	for (int kind = 0; kind < LISTENER_KINDS; kind++) {
		struct sockaddr_in6 sa;
		socklen_t len = sizeof sa;
		bool v6 = kind == LISTENER_EGRESS6 || kind == LISTENER_INGRESS6;

		assert_int_equal(getsockname(fds[kind], (struct sockaddr *)&sa, &len), 0);
		assert_int_equal(sa.sin6_family, v6 ? AF_INET6 : AF_INET);
		if (v6)
			assert_true(IN6_IS_ADDR_LOOPBACK(&sa.sin6_addr));
		else
			assert_int_equal(((struct sockaddr_in *)&sa)->sin_addr.s_addr,
					 htonl(INADDR_LOOPBACK));
		close(fds[kind]);
	}
	netns_unroute(netns);
}

/* Its caller closes what it was given: that may be another's descriptor by then. */
static void a_failure_half_way_gives_no_descriptor_out(void **state)
{
	unsigned before = open_descriptors();
	int fds[LISTENER_KINDS], lowest = dup(0);
	struct rlimit old, few;

	(void)state;
	close(lowest);
	need_namespace();
	getrlimit(RLIMIT_NOFILE, &old);
	for (int room = 0; room < LISTENER_KINDS; room++) {
		few = (struct rlimit){(rlim_t)(lowest + room), old.rlim_max};
		setrlimit(RLIMIT_NOFILE, &few);
		assert_int_equal(netns_listen(netns, fds), -EMFILE);
		setrlimit(RLIMIT_NOFILE, &old);
		for (int kind = 0; kind < LISTENER_KINDS; kind++)
			assert_int_equal(fds[kind], -1);
		assert_int_equal(open_descriptors(), before);
	}
}

/* Somebody who listens at `ip`, of that family. */
static int listen_at(int family, const void *ip)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	int fd = socket(family, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	memcpy(&in.sin_addr, ip, sizeof in.sin_addr);
	if (family == AF_INET6)
		memcpy(&in6.sin6_addr, ip, sizeof in6.sin6_addr);
	if (family == AF_INET)
		assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
	else
		assert_int_equal(bind(fd, (struct sockaddr *)&in6, sizeof in6), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void a_port_is_taken_by_who_listens_on_any_address(void **state)
{
	const struct in_addr any = {INADDR_ANY}, loopback = {htonl(INADDR_LOOPBACK)};
	int fd;

	(void)state;
	need_namespace();
	assert_int_equal(netns_port_taken(netns, PORT), 0);
	for (int i = 0; i < 4; i++) {
		fd = i == 0   ? listen_at(AF_INET, &any)
		     : i == 1 ? listen_at(AF_INET, &loopback)
		     : i == 2 ? listen_at(AF_INET6, &in6addr_any)
			      : listen_at(AF_INET6, &in6addr_loopback);
		assert_int_equal(netns_port_taken(netns, PORT), 1);
		assert_int_equal(netns_port_taken(netns, PORT + 1), 0);
		close(fd);
		assert_int_equal(netns_port_taken(netns, PORT), 0);
	}
}

/* What is left of a connection in TIME_WAIT is no listener. */
static void a_port_is_not_taken_by_old_connections(void **state)
{
	const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int door, fd, client;
	char byte;

	(void)state;
	need_namespace();
	in.sin_addr = loopback;
	door = listen_at(AF_INET, &loopback);
	client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&in, sizeof in), 0);
	fd = accept(door, NULL, NULL);
	close(door);
	close(fd); /* this end first: the TIME_WAIT is the port's */
	assert_int_equal(recv(client, &byte, 1, 0), 0);
	close(client);
	assert_int_equal(netns_port_taken(netns, PORT), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listeners_are_loopback_ones_of_both_families),
		cmocka_unit_test(a_failure_half_way_gives_no_descriptor_out),
		cmocka_unit_test(a_port_is_taken_by_who_listens_on_any_address),
		cmocka_unit_test(a_port_is_not_taken_by_old_connections),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
