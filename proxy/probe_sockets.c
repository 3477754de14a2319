/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of socket calls and of sock_diag, see probe_impl.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/netns.h"
#include "proxy/probe_impl.h"

#define LISTENING (1U << 10) /* TCP_LISTEN, as idiag_states counts */

/* Asks sock_diag about IPv4 TCP; the socket to read the answer from. */
static int diag_ask(struct trial *t, unsigned short type, unsigned short flags,
		    const struct inet_diag_sockid *id)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 ask;
	} r = {
		.header = {.nlmsg_len = sizeof r,
			   .nlmsg_type = type,
			   .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags)},
		.ask = {.sdiag_family = AF_INET,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = LISTENING,
			.id = *id},
	};
	struct timeval wait = {.tv_sec = TRIAL_WAIT / 1000};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd < 0)
		trial_refused(t, -errno, "socket(NETLINK_SOCK_DIAG)");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
	if (send(fd, &r, sizeof r, 0) < 0)
		trial_refused(t, -errno, "asking sock_diag");
	return fd;
}

static struct inet_diag_sockid diag_any(void)
{
	return (struct inet_diag_sockid){.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}};
}

/* The cgroup that an answer names; 0 when it names none. */
static uint64_t diag_cgroup(struct nlmsghdr *h)
{
	struct inet_diag_msg *m = NLMSG_DATA(h);
	struct rtattr *a = (struct rtattr *)(void *)(m + 1);
	unsigned left = (unsigned)(h->nlmsg_len - NLMSG_LENGTH(sizeof *m));
	uint64_t id = 0;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == INET_DIAG_CGROUP_ID && RTA_PAYLOAD(a) == sizeof id)
			memcpy(&id, RTA_DATA(a), sizeof id);
	return id;
}

/* Reads a dump to its end: was the socket with this port in it, and of which cgroup is it? */
static bool diag_find(struct trial *t, int fd, in_port_t port, uint64_t *cgroup)
{
	_Alignas(struct nlmsghdr) char answer[8192];
	bool found = false;

	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer;

		if (n < 0)
			trial_failed(t, "the list breaks off: %s", strerror(errno));
		for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			const struct inet_diag_msg *m = NLMSG_DATA(h);

			if (h->nlmsg_type == NLMSG_DONE)
				return found;
			if (h->nlmsg_type == NLMSG_ERROR)
				trial_refused(t, ((struct nlmsgerr *)NLMSG_DATA(h))->error,
					      "sock_diag");
			if (m->id.idiag_sport != port)
				continue;
			found = true;
			*cgroup = diag_cgroup(h);
		}
	}
}

void probe_sock_diag(struct trial *t)
{
	struct inet_diag_sockid any = diag_any();
	struct sockaddr_in where;
	struct stat st;
	uint64_t cgroup = 0;
	int fd;

	if (fstat(trial_join_cgroup(t), &st) < 0) /* a cgroup's id is its inode */
		trial_failed(t, "fstat(): %s", strerror(errno));
	trial_listen(t, &where);
	fd = diag_ask(t, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &any);
	if (!diag_find(t, fd, where.sin_port, &cgroup))
		trial_failed(t, "a listener is not in the list");
	if (cgroup == 0)
		trial_missing(t, "listeners are listed, but not their cgroups");
	if (cgroup != st.st_ino)
		trial_failed(t, "a listener is listed with another cgroup");
	trial_ok(t, "a listener is listed, with its cgroup");
}

void probe_sock_destroy(struct trial *t)
{
	struct inet_diag_sockid id = diag_any();
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	char byte;
	int pair[2], fd;

	trial_pair(t, pair);
	id.idiag_sport = trial_port(t, pair[0]);
	id.idiag_dport = trial_port(t, pair[1]);
	id.idiag_src[0] = id.idiag_dst[0] = htonl(INADDR_LOOPBACK);
	fd = diag_ask(t, SOCK_DESTROY, NLM_F_ACK, &id);
	if (recv(fd, &answer, sizeof answer, 0) < 0)
		trial_failed(t, "no answer to SOCK_DESTROY: %s", strerror(errno));
	if (answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error != 0)
		trial_refused(t, answer.error.error, "SOCK_DESTROY");
	if (!trial_readable(pair[0]) || recv(pair[0], &byte, 1, MSG_DONTWAIT) >= 0 ||
	    errno != ECONNABORTED)
		trial_failed(t, "the connection goes on");
	if (!trial_readable(pair[1]) || recv(pair[1], &byte, 1, MSG_DONTWAIT) >= 0 ||
	    errno != ECONNRESET)
		trial_failed(t, "the other end was not reset");
	trial_ok(t, "a connection was cut, its other end reset");
}

/* One of our addresses in the prefix of the IPv6 slots. */
static struct sockaddr_in6 slot6(uint32_t low, in_port_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
	uint32_t words[4] = {htonl(SLOT6_WORD0), htonl(SLOT6_WORD1), 0, htonl(low)};

	memcpy(&in6.sin6_addr, words, sizeof words);
	return in6;
}

static void listen_anyip(struct trial *t, int fd, in_port_t *port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	socklen_t len = sizeof in6;

	if (bind(fd, (struct sockaddr *)&in6, len) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in6, &len) < 0)
		trial_refused(t, -errno, "listening on [::]");
	*port = in6.sin6_port;
}

/* The route is made by the code that makes it in workloads' namespaces. */
static void route_anyip(struct trial *t)
{
	int listeners[LISTENER_KINDS];
	int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int err = netns < 0 ? -errno : netns_start();

	if (err < 0)
		trial_failed(t, "a helper for the namespace: %s", strerror(-err));
	err = netns_listen(netns, listeners);
	if (err < 0)
		trial_refused(t, err, "the local route of the prefix");
	if (listeners[LISTENER_EGRESS6] < 0)
		trial_missing(t, "IPv6 is switched off");
}

void probe_anyip(struct trial *t)
{
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	int client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	struct sockaddr_in6 from = slot6(DIAL_NET4 + 1, 0), to, seen[2];
	socklen_t len = sizeof seen[0];
	struct timeval wait = {.tv_sec = TRIAL_WAIT / 1000};
	in_port_t port;
	int on = 1, fd;

	if (listener < 0 || client < 0)
		trial_refused(t, -errno, "socket(AF_INET6)");
	route_anyip(t);
	listen_anyip(t, listener, &port);
	to = slot6(EGRESS_NET4 + 1, port);
	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	if (setsockopt(client, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on) < 0 ||
	    bind(client, (struct sockaddr *)&from, sizeof from) < 0)
		trial_refused(t, -errno, "binding to an address of the prefix");
	if (connect(client, (struct sockaddr *)&to, sizeof to) < 0)
		trial_failed(t, "connecting to an address of the prefix: %s", strerror(errno));
	fd = trial_accept(t, listener);
	if (getsockname(fd, (struct sockaddr *)&seen[0], &len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&seen[1], &len) < 0)
		trial_failed(t, "the accepted connection: %s", strerror(errno));
	if (memcmp(&seen[0].sin6_addr, &to.sin6_addr, sizeof to.sin6_addr) != 0 ||
	    memcmp(&seen[1].sin6_addr, &from.sin6_addr, sizeof from.sin6_addr) != 0)
		trial_failed(t, "the addresses of the prefix did not arrive as they were dialled");
	trial_ok(t, "dialled from and to two addresses that no interface has");
}

void probe_tcp_fastopen(struct trial *t)
{
	static const char both_without_cookies[] = "519";
	static const char hello[] = "in the SYN";
	struct sockaddr_in where;
	struct tcp_info info = {0};
	socklen_t len = sizeof info;
	int queue = 16, fd;
	int listener = trial_listen(t, &where);
	int client = trial_socket(t, IPPROTO_TCP);
	int sysctl = open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY | O_CLOEXEC);

	if (sysctl < 0 && errno == ENOENT)
		trial_missing(t, "there is no sysctl net.ipv4.tcp_fastopen");
	if (sysctl < 0 || write(sysctl, both_without_cookies, sizeof both_without_cookies - 1) < 0)
		trial_failed(t, "setting net.ipv4.tcp_fastopen: %s", strerror(errno));
	if (setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue) < 0)
		trial_refused(t, -errno, "TCP_FASTOPEN");
	if (sendto(client, hello, sizeof hello, MSG_FASTOPEN | MSG_NOSIGNAL,
		   (struct sockaddr *)&where, sizeof where) < 0)
		trial_refused(t, -errno, "sendto(MSG_FASTOPEN)");
	fd = trial_accept(t, listener);
	trial_expect(t, fd, hello, sizeof hello, "data sent with connect()");
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		trial_failed(t, "TCP_INFO: %s", strerror(errno));
	if (!(info.tcpi_options & TCPI_OPT_SYN_DATA))
		trial_failed(t, "the data came after the SYN");
	trial_ok(t, "data came in the SYN");
}

/* One of each sort that shuntd meets: MPTCP to MPTCP, and to a plain listener as ours are. */
void probe_mptcp(struct trial *t)
{
	static const char hello[] = "hello";
	struct sockaddr_in plain, where = trial_address("127.0.0.1", 0);
	socklen_t len = sizeof where;
	int listener = trial_socket(t, IPPROTO_MPTCP);
	const struct sockaddr_in *to[2] = {&where, &plain};
	int listeners[2] = {listener, trial_listen(t, &plain)};

	if (bind(listener, (struct sockaddr *)&where, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&where, &len) < 0)
		trial_failed(t, "listening with MPTCP: %s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		int client = trial_socket(t, IPPROTO_MPTCP);

		if (connect(client, (const struct sockaddr *)to[i], sizeof *to[i]) < 0)
			trial_failed(t, "connecting with MPTCP: %s", strerror(errno));
		trial_send(t, client, hello, sizeof hello);
		trial_expect(t, trial_accept(t, listeners[i]), hello, sizeof hello,
			     i == 0 ? "MPTCP to MPTCP" : "MPTCP to a plain listener");
	}
	trial_ok(t, "MPTCP connects to MPTCP and, falling back, to a plain listener");
}

static bool is_asleep(pid_t pid)
{
	char path[32], state = '\0';
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = '\0';
	if (f != NULL)
		fclose(f);
	return state == 'S';
}

/* A child that waits on this epoll, and does so already. */
static pid_t waiter_start(struct trial *t, int epoll)
{
	struct epoll_event event;
	pid_t pid = fork();

	if (pid < 0)
		trial_failed(t, "fork(): %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(epoll_wait(epoll, &event, 1, TRIAL_WAIT) == 1 ? 0 : 1);
	}
	for (int tries = 0; !is_asleep(pid); tries++) {
		if (tries == TRIAL_WAIT)
			trial_failed(t, "a process that waits does not sleep");
		usleep(1000);
	}
	return pid;
}

/* Two epolls with one listener. The kernel asks them in the order they came, and an exclusive
 * one that had a sleeper ends the round: the second is then left without the event. */
void probe_epollexclusive(struct trial *t)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE};
	struct sockaddr_in where;
	int listener = trial_listen(t, &where);
	int epoll[2], status = 1;
	pid_t waiter;

	for (int i = 0; i < 2; i++) {
		epoll[i] = epoll_create1(EPOLL_CLOEXEC);
		if (epoll[i] < 0 || epoll_ctl(epoll[i], EPOLL_CTL_ADD, listener, &event) < 0)
			trial_refused(t, -errno, "EPOLLEXCLUSIVE");
	}
	waiter = waiter_start(t, epoll[0]);
	trial_connect(t, &where);
	if (waitpid(waiter, &status, 0) < 0 || status != 0)
		trial_failed(t, "a connection woke nobody");
	if (epoll_wait(epoll[1], &event, 1, 0) != 0)
		trial_failed(t, "one connection woke two");
	trial_ok(t, "one connection woke one of two");
}
