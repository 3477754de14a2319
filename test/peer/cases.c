// SPDX-License-Identifier: Apache-2.0
/*
 * Plays one case and prints one line of facts.
 *
 *   cases serve ADDRESS/PORT[/FLAG...]...     see cases_server.c
 *   cases CASE 4|6 TARGET PORT [ARGUMENT]     TARGET: who, as below, or an address
 *
 * The facts are errnos and names. A name is who and which port, in words: "api:port" is the
 * address of api with the port that was dialled, "frontend:own" the client's own port. So the
 * line is the same for both families and for every port; where two runs differ, an application
 * would have noticed.
 */
#include "test/peer/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define EPHEMERAL 32768 /* ports from here on the kernel chooses */
#define LIMIT 20 /* seconds that a case may take, times FACTOR */

/* What was asked for on the command line. */
static struct {
	bool v6;
	struct name to;
	const char *arg; /* "" where there is none */
	uint16_t own; /* the client's port once it has one */
} the;

/* ---- facts ---- */

static void fact(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fact(const char *format, ...)
{
	static bool some;
	va_list args;

	if (some)
		putchar(' ');
	some = true;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

/* The word of an errno; "0" for none. */
static const char *word(int err)
{
	const char *name = err == 0 ? "0" : strerrorname_np(err);

	return name != NULL ? name : "unknown";
}

static int errno_of(int result)
{
	return result < 0 ? errno : 0;
}

static unsigned limit(void)
{
	const char *factor = getenv("FACTOR");

	return LIMIT * (unsigned)(factor != NULL ? atoi(factor) : 1);
}

static void expired(int signal)
{
	static const char text[] = " hangs\n";

	(void)signal;
	if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
		_exit(2);
	_exit(1);
}

/* ---- who is who: the box of test/netns/lib.sh, and what cases.sh adds to it ---- */

static const struct {
	const char *who;
	const char *ip[2];
} box[] = {
	{"frontend", {"10.78.0.11", "fd00:78::11"}},
	{"api", {"10.78.0.12", "fd00:78::12"}},
	{"intruder", {"10.78.0.13", "fd00:78::13"}},
	{"legacy", {"10.78.0.14", "fd00:78::14"}},
	{"outside", {"10.78.0.99", "fd00:78::99"}},
	{"frontend-2", {"10.78.0.21", "fd00:78::21"}}, /* second addresses */
	{"api-2", {"10.78.0.22", "fd00:78::22"}},
	{"elsewhere", {"10.78.0.77", "fd00:78::77"}},
	{"loopback", {"127.0.0.1", "::1"}},
	{"any", {"0.0.0.0", "::"}},
	{"slot", {"127.64.0.1", "fd73:6875:6e74::7f40:1"}},
};

static const char *ip_of(const char *who)
{
	for (size_t i = 0; i < sizeof box / sizeof *box; i++)
		if (strcmp(box[i].who, who) == 0)
			return box[i].ip[the.v6];
	return who;
}

/* "mapped-api" for ::ffff:10.78.0.12. The result holds until the next call. */
static const char *who_is(const char *ip)
{
	static char text[80];
	bool mapped = strncmp(ip, "::ffff:", 7) == 0;

	if (mapped)
		ip += 7;
	if (strncmp(ip, "fe80:", 5) == 0)
		return "link-local";
	for (size_t i = 0; i < sizeof box / sizeof *box; i++)
		if (strcmp(box[i].ip[0], ip) == 0 || strcmp(box[i].ip[1], ip) == 0)
			ip = box[i].who;
	snprintf(text, sizeof text, "%s%s", mapped ? "mapped-" : "", ip);
	return text;
}

/* "WHO:port" and so on. */
static void name_text(const char *ip, uint16_t port, char *to, size_t room)
{
	const char *which = NULL;

	if (port == name_port(&the.to))
		which = "port";
	else if (port != 0 && port == the.own)
		which = "own";
	else if (port >= EPHEMERAL)
		which = "other";
	if (which != NULL)
		snprintf(to, room, "%s:%s", who_is(ip), which);
	else
		snprintf(to, room, "%s:%u", who_is(ip), port);
}

static void socket_name_text(int fd, int (*ask)(int fd, struct sockaddr *sa, socklen_t *len),
			     char *to, size_t room)
{
	struct name n = {.len = sizeof n.sa};

	if (ask(fd, (struct sockaddr *)&n.sa, &n.len) < 0)
		snprintf(to, room, "%s", word(errno));
	else
		name_text(name_ip(&n), name_port(&n), to, room);
}

static void own_port(int fd)
{
	struct name n = {.len = sizeof n.sa};

	if (getsockname(fd, (struct sockaddr *)&n.sa, &n.len) == 0)
		the.own = name_port(&n);
}

/* Asked in both ways; both answers where they differ. */
static void say_peer(int fd)
{
	char peer[80], option[80];

	socket_name_text(fd, getpeername, peer, sizeof peer);
	socket_name_text(fd, peername_option, option, sizeof option);
	if (strcmp(peer, option) == 0)
		fact("peer=%s", peer);
	else
		fact("peer=%s,%s", peer, option);
}

/* Both ends as the client sees them. */
static void say_names(int fd)
{
	char own[80];

	own_port(fd);
	say_peer(fd);
	socket_name_text(fd, getsockname, own, sizeof own);
	fact("sock=%s", own);
}

/* ---- sockets ---- */

static int stream(void)
{
	int fd = socket(the.to.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static int dial_to(int fd, const struct name *to)
{
	return errno_of(connect(fd, (const struct sockaddr *)&to->sa, to->len));
}

static int dial(int fd)
{
	return dial_to(fd, &the.to);
}

static int pending_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return errno;
	return err;
}

static void set_flag(int fd, int level, int option)
{
	int on = 1;

	if (setsockopt(fd, level, option, &on, sizeof on) < 0)
		die("setsockopt");
}

static void set_nonblocking(int fd, bool on)
{
	if (fcntl(fd, F_SETFL, on ? O_NONBLOCK : 0) < 0)
		die("fcntl");
}

/* Waits for one of `events`: those below are never absent for long. */
static void say_poll(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, -1) < 0)
		die("poll");
	fact("poll=%s%s%s%s", p.revents & POLLIN ? "in" : "", p.revents & POLLOUT ? "out" : "",
	     p.revents & POLLERR ? "err" : "", p.revents & POLLHUP ? "hup" : "");
}

/* ---- HTTP ---- */

struct reply {
	int err; /* of sending or receiving; ENODATA: closed before the end */
	int status;
	char body[REQUEST_MAX];
};

/* Reads the head; returns where the body begins, or NULL. */
static char *reply_head(int fd, char *text, size_t *got, struct reply *r)
{
	char *end = NULL;

	while (end == NULL) {
		ssize_t n = *got < REQUEST_MAX ? recv(fd, text + *got, REQUEST_MAX - *got, 0) : 0;

		r->err = n < 0 ? errno : ENODATA;
		if (n <= 0)
			return NULL;
		*got += (size_t)n;
		text[*got] = '\0';
		end = strstr(text, "\r\n\r\n");
	}
	r->err = 0;
	return end + 4;
}

static void read_reply(int fd, struct reply *r)
{
	char text[REQUEST_MAX + 1];
	size_t got = 0, have, len;
	char *body = reply_head(fd, text, &got, r);
	const char *field;

	r->body[0] = '\0';
	if (body == NULL)
		return;
	r->status = atoi(text + strlen("HTTP/1.1 "));
	field = strcasestr(text, "content-length:");
	len = field != NULL ? strtoul(field + 15, NULL, 10) : 0;
	have = got - (size_t)(body - text);
	if (len >= sizeof r->body || have > len) {
		r->err = EMSGSIZE;
		return;
	}
	memcpy(r->body, body, have);
	while (have < len) {
		ssize_t n = recv(fd, r->body + have, len - have, 0);

		if (n <= 0) {
			r->err = n < 0 ? errno : ENODATA;
			return;
		}
		have += (size_t)n;
	}
	r->body[len] = '\0';
}

#define NAMES "GET /names HTTP/1.1\r\nHost: api\r\n\r\n"
#define QUICK "GET /quick HTTP/1.1\r\nHost: api\r\n\r\n"
#define CLOSES "GET /close HTTP/1.1\r\nHost: api\r\n\r\n"

static void ask(int fd, const char *request, struct reply *r)
{
	r->status = 0;
	r->body[0] = '\0';
	r->err = send_all(fd, request, strlen(request));
	if (r->err == 0)
		read_reply(fd, r);
}

/* What the server calls `key`, in words; where it was asked in several ways and the answers
 * differ, all of them. */
static void say_names_of(const struct reply *r, const char *key)
{
	char all[300] = "", last[80] = "";
	char line[100], found[20], ip[INET6_ADDRSTRLEN];
	unsigned port;

	for (const char *at = r->body; *at != '\0';) {
		size_t len = strcspn(at, "\n");

		snprintf(line, sizeof line, "%.*s", (int)len, at);
		at += len + (at[len] != '\0');
		if (sscanf(line, "%19s %45s %u", found, ip, &port) != 3 || strcmp(found, key) != 0)
			continue;
		name_text(ip, (uint16_t)port, line, sizeof line);
		if (strcmp(line, last) == 0)
			continue;
		snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.79s",
			 all[0] != '\0' ? "," : "", line);
		snprintf(last, sizeof last, "%.79s", line);
	}
	if (all[0] != '\0')
		fact("%s=%s", key, all);
}

static bool reply_says(const struct reply *r, const char *line)
{
	return strstr(r->body, line) != NULL;
}

static void say_reply(const struct reply *r)
{
	if (r->err != 0) {
		fact("reply=%s", word(r->err));
		return;
	}
	fact("status=%d", r->status);
	say_names_of(r, "server");
	say_names_of(r, "at");
}

/* Closes its half: the other one closes too. */
static void say_end(int fd)
{
	char byte;
	ssize_t n;

	shutdown(fd, SHUT_WR);
	n = recv(fd, &byte, 1, 0);
	fact("end=%s", n == 0 ? "eof" : n > 0 ? "data" : word(errno));
}

/* Asked of this end, and of the server where it was told to look. */
static void say_via(int fd, const struct reply *r)
{
	bool told = r != NULL && reply_says(r, "via proxy");

	fact("via=%s", told || is_proxied(fd) ? "proxy" : "direct");
}

static void say_rest(int fd, const struct reply *r)
{
	say_reply(r);
	say_via(fd, r);
	if (r->err == 0)
		say_end(fd);
	close(fd);
}

/* What a connected socket shows and what comes over it. */
static void talk(int fd)
{
	struct reply r;

	say_names(fd);
	ask(fd, NAMES, &r);
	say_rest(fd, &r);
}

/* Says how connecting ended, and goes on where it succeeded. */
static void connected(int fd, int err)
{
	fact("connect=%s", word(err));
	if (err == 0) {
		talk(fd);
		return;
	}
	fact("error=%s", word(pending_error(fd)));
	say_peer(fd);
	say_poll(fd, POLLIN | POLLOUT);
	close(fd);
}

/* ---- cases: ways to connect ---- */

static void play_blocking(void)
{
	int fd = stream();

	connected(fd, dial(fd));
}

static void play_nonblocking(void)
{
	int fd = stream();
	int err;

	set_nonblocking(fd, true);
	err = dial(fd);
	if (err != EINPROGRESS) {
		connected(fd, err);
		return;
	}
	fact("connect=%s", word(err));
	say_poll(fd, POLLOUT);
	err = pending_error(fd);
	fact("error=%s", word(err));
	if (err == 0) {
		fact("again=%s", word(dial(fd)));
		fact("then=%s", word(dial(fd)));
		set_nonblocking(fd, false);
		talk(fd);
	}
}

static void play_v6only(void)
{
	int fd = stream();

	set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	connected(fd, dial(fd));
}

static struct name mapped(const char *who, uint16_t port)
{
	char text[100];

	snprintf(text, sizeof text, "::ffff:%s", ip_of(who));
	return name_parse(text, port);
}

static void map_target(void)
{
	the.to = mapped(name_ip(&the.to), name_port(&the.to));
}

static void play_mapped(void)
{
	map_target();
	play_blocking();
}

/* Data with the SYN. Names before it is sent are not asked for: they depend on the cookie. */
static void play_fastopen_sendto(void)
{
	int fd = stream();
	ssize_t n = sendto(fd, NAMES, strlen(NAMES), MSG_FASTOPEN | MSG_NOSIGNAL,
			   (struct sockaddr *)&the.to.sa, the.to.len);
	struct reply r;

	fact("connect=%s", word(errno_of((int)n)));
	if (n < 0)
		return;
	read_reply(fd, &r);
	say_names(fd);
	say_rest(fd, &r);
}

static void play_fastopen_connect(void)
{
	int fd = stream();
	struct reply r;

	set_flag(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT);
	fact("connect=%s", word(dial(fd)));
	ask(fd, NAMES, &r);
	say_names(fd);
	say_rest(fd, &r);
}

static void protocol_play(int protocol, const char *name)
{
	int fd = socket(the.to.sa.ss_family, SOCK_STREAM, protocol);

	if (fd < 0)
		fact("skip: the kernel has no %s (%s)", name, word(errno));
	else
		connected(fd, dial(fd));
}

static void play_mptcp(void)
{
	protocol_play(IPPROTO_MPTCP, "MPTCP");
}

static void play_sctp(void)
{
	protocol_play(IPPROTO_SCTP, "SCTP");
}

static void uring_play(bool async)
{
	int fd = stream();
	int err = -uring_connect(fd, &the.to, async);

	if (err == ENOSYS || err == EPERM) {
		fact("skip: io_uring is %s", word(err));
		return;
	}
	connected(fd, err);
}

static void play_uring(void)
{
	uring_play(false);
}

static void play_uring_async(void)
{
	uring_play(true);
}

/* ---- cases: bound sockets ---- */

/* ARGUMENT: WHO or WHO/PORT. */
static struct name bind_name(bool map)
{
	char who[60];
	char *slash;
	uint16_t port = 0;

	snprintf(who, sizeof who, "%s", the.arg);
	slash = strchr(who, '/');
	if (slash != NULL) {
		*slash = '\0';
		port = (uint16_t)atoi(slash + 1);
	}
	return map ? mapped(who, port) : name_parse(ip_of(who), port);
}

static void bound_play(int fd, const struct name *source)
{
	uint16_t port = name_port(source);

	set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
	if (bind(fd, (const struct sockaddr *)&source->sa, source->len) < 0)
		die("bind");
	connected(fd, dial(fd));
	if (port != 0)
		fact("bound=%s", port == the.own ? "kept" : "changed");
}

static void play_bound(void)
{
	struct name source = bind_name(false);

	bound_play(stream(), &source);
}

static void play_bound_mapped(void)
{
	struct name source = bind_name(true);

	map_target();
	bound_play(stream(), &source);
}

static void play_bound_no_port(void)
{
	struct name source = bind_name(false);
	int fd = stream();

	set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
	bound_play(fd, &source);
}

/* ARGUMENT: a network device. */
static void play_device(void)
{
	char device[32] = "";
	socklen_t len = sizeof device;
	int fd = stream();

	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, the.arg, (socklen_t)strlen(the.arg)) < 0)
		die("SO_BINDTODEVICE");
	if (dial(fd) != 0 || getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) < 0)
		die("connect");
	fact("device=%s", device);
	connected(fd, 0);
}

/* ---- cases: sockets that are used more than once ---- */

/* ARGUMENT: the port that is dialled first, in vain. */
static void play_retry(void)
{
	struct name first = name_parse(name_ip(&the.to), (uint16_t)atoi(the.arg));
	int fd = stream();

	fact("first=%s", word(dial_to(fd, &first)));
	fact("error=%s", word(pending_error(fd)));
	connected(fd, dial(fd));
}

static void play_connected(void)
{
	struct name other = name_parse(ip_of("api"), (uint16_t)(name_port(&the.to) + 1));
	int fd = stream();

	if (dial(fd) != 0)
		die("connect");
	fact("again=%s", word(dial(fd)));
	fact("other=%s", word(dial_to(fd, &other)));
	connected(fd, 0);
}

static void play_disconnect(void)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int fd = stream();
	struct reply r;

	if (dial(fd) != 0)
		die("connect");
	ask(fd, QUICK, &r);
	fact("disconnect=%s", word(errno_of(connect(fd, &none, sizeof none))));
	say_names(fd);
	connected(fd, dial(fd));
}

/* The kernel looks at the family after everybody else has looked at the address. */
static void play_wrong_family(void)
{
	struct name wrong = the.to;
	int fd = stream();

	wrong.sa.ss_family = the.to.sa.ss_family == AF_INET ? AF_INET6 : AF_INET;
	fact("first=%s", word(dial_to(fd, &wrong)));
	connected(fd, dial(fd));
}

static void *dial_thread(void *arg)
{
	return (void *)(intptr_t)dial((int)(intptr_t)arg);
}

/* Which of the two wins is open; that both end, one of them well, is not. */
static void play_threads(void)
{
	int fd = stream();
	pthread_t thread[2];
	void *result[2];
	bool well = true;

	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread[i], NULL, dial_thread, (void *)(intptr_t)fd) != 0)
			die("pthread_create");
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], &result[i]);
		well &= result[i] == 0 || (intptr_t)result[i] == EISCONN ||
			(intptr_t)result[i] == EALREADY;
	}
	fact("both=%s", well && (result[0] == 0 || result[1] == 0) ? "well" : "failed");
	connected(fd, 0);
}

/* ---- cases: descriptors and places ---- */

static void play_dup(void)
{
	int fd = stream();
	int other = dup(fd);
	int err = dial(fd);

	close(fd);
	connected(other, err);
}

/* A child connects, its parent talks. */
static void play_inherited(void)
{
	int fd = stream();
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(dial(fd));
	waitpid(pid, &status, 0);
	connected(fd, WEXITSTATUS(status));
}

/* The socket's namespace counts, not its user's. ARGUMENT: path of another namespace. */
static void play_setns(void)
{
	int fd = stream();
	int other = open(the.arg, O_RDONLY | O_CLOEXEC);

	if (other < 0 || setns(other, CLONE_NEWNET) < 0)
		die(the.arg);
	connected(fd, dial(fd));
}

/* ARGUMENT: a cgroup's cgroup.procs, which this process joins between socket() and connect(). */
static void play_cgroup(void)
{
	int fd = stream();
	int procs = open(the.arg, O_WRONLY | O_CLOEXEC);

	if (procs < 0 || write(procs, "0", 1) != 1)
		die(the.arg);
	connected(fd, dial(fd));
}

/* Waits, as long as it takes, for SIGUSR1. */
static void wait_for_word(void)
{
	sigset_t set;
	int got;

	alarm(0);
	puts("ready");
	fflush(stdout);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (sigwait(&set, &got) != 0)
		die("sigwait");
	alarm(limit());
}

/* Two sockets: one is connected and one only made before the word is given. */
static void play_early(void)
{
	int old = stream(), new = stream();

	if (dial(old) != 0)
		die("connect");
	wait_for_word();
	fact("connected:");
	talk(old);
	fact("made:");
	connected(new, dial(new));
}

/* ARGUMENT: what it is bound to before the word is given. */
static void play_bound_gone(void)
{
	struct name source = bind_name(false);
	int fd = stream();

	if (bind(fd, (const struct sockaddr *)&source.sa, source.len) < 0)
		die("bind");
	wait_for_word();
	connected(fd, dial(fd));
}

/* Closed by the server before the word is given, and not by us. */
static void play_closed(void)
{
	int fd = stream();
	struct reply r;

	if (dial(fd) != 0)
		die("connect");
	ask(fd, CLOSES, &r);
	wait_for_word();
	fact("status=%d", r.status);
	say_names(fd);
}

/* ---- cases: what goes over the connection ---- */

#define BYTES (1024 * 1024)

static void *send_body(void *arg)
{
	static char body[BYTES];

	for (size_t i = 0; i < sizeof body; i++)
		body[i] = (char)(i * 7 + (i >> 9));
	return (void *)(intptr_t)send_all((int)(intptr_t)arg, body, sizeof body);
}

/* What came back, and how much of it is what was sent. `n` bytes are in the chunk already. */
static void read_body(int fd, char *chunk, size_t room, size_t n)
{
	size_t at = 0, good = 0;

	for (;;) {
		ssize_t more;

		for (size_t i = 0; i < n; i++, at++)
			good += chunk[i] == (char)(at * 7 + (at >> 9));
		if (at >= BYTES)
			break;
		more = recv(fd, chunk, room, 0);
		if (more <= 0)
			break;
		n = (size_t)more;
	}
	fact("bytes=%zu good=%zu", at, good);
}

static void play_bytes(void)
{
	static char text[REQUEST_MAX + 1], chunk[65536];
	struct reply r = {.err = 0};
	int fd = stream();
	pthread_t sender;
	size_t got = 0;
	char *body;
	int n = snprintf(chunk, sizeof chunk,
			 "POST /echo HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n", BYTES);

	fact("connect=%s", word(dial(fd)));
	if (send_all(fd, chunk, (size_t)n) != 0 ||
	    pthread_create(&sender, NULL, send_body, (void *)(intptr_t)fd) != 0)
		die("send");
	body = reply_head(fd, text, &got, &r);
	fact("reply=%s", word(r.err));
	if (body == NULL)
		return;
	got -= (size_t)(body - text);
	memcpy(chunk, body, got);
	read_body(fd, chunk, sizeof chunk, got);
	pthread_join(sender, NULL);
	say_via(fd, NULL);
	say_end(fd);
}

static void play_server_closes(void)
{
	int fd = stream();
	struct reply r;
	char byte;
	ssize_t n;

	fact("connect=%s", word(dial(fd)));
	ask(fd, CLOSES, &r);
	n = recv(fd, &byte, 1, 0);
	fact("status=%d end=%s", r.status, n == 0 ? "eof" : n > 0 ? "data" : word(errno));
	say_names(fd);
	say_via(fd, NULL);
}

static void play_shutdown_early(void)
{
	int fd = stream();
	struct reply r;

	fact("connect=%s", word(dial(fd)));
	say_names(fd);
	if (send_all(fd, NAMES, strlen(NAMES)) != 0)
		die("send");
	fact("shutdown=%s", word(errno_of(shutdown(fd, SHUT_WR))));
	read_reply(fd, &r);
	say_rest(fd, &r);
}

static void play_shutdown_both(void)
{
	int fd = stream();
	struct reply r;
	char byte;

	fact("connect=%s", word(dial(fd)));
	ask(fd, QUICK, &r);
	fact("status=%d", r.status);
	say_via(fd, NULL);
	fact("read=%s", word(errno_of(shutdown(fd, SHUT_RD))));
	fact("recv=%zd", recv(fd, &byte, 1, 0));
	fact("write=%s", word(errno_of(shutdown(fd, SHUT_WR))));
	fact("send=%s", word(send_all(fd, "x", 1)));
	say_poll(fd, POLLIN | POLLOUT);
}

static void play_recvmsg(void)
{
	int fd = stream();
	struct name from;
	char text[REQUEST_MAX];
	struct iovec iov = {text, sizeof text};
	struct msghdr m = {
		.msg_name = &from.sa,
		.msg_namelen = sizeof from.sa,
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t n;

	fact("connect=%s", word(dial(fd)));
	if (send_all(fd, QUICK, strlen(QUICK)) != 0)
		die("send");
	n = recvmsg(fd, &m, 0);
	fact("recvmsg=%s namelen=%u", word(n > 0 ? 0 : errno), m.msg_namelen);
	say_via(fd, NULL);
}

static void play_tcp_info(void)
{
	struct tcp_info i = {.tcpi_state = 0};
	socklen_t len = sizeof i;
	int fd = stream();
	struct reply r;

	fact("connect=%s", word(dial(fd)));
	ask(fd, QUICK, &r);
	fact("info=%s", word(errno_of(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len))));
	fact("established=%d unacked=%u lost=%u mss=%s", i.tcpi_state == TCP_ESTABLISHED,
	     i.tcpi_unacked, i.tcpi_lost, i.tcpi_snd_mss >= 500 ? "some" : "none");
	say_via(fd, NULL);
}

/* No names: whoever resets at once leaves none. */
static void play_request(void)
{
	int fd = stream();
	struct reply r;

	fact("connect=%s", word(dial(fd)));
	ask(fd, QUICK, &r);
	say_reply(&r);
}

/* ---- cases: many ---- */

/* One connection with one request on it: did the server see who we are? */
static bool one_of_many(int fd, struct reply *r)
{
	char line[100];
	struct name own = {.len = sizeof own.sa};

	if (dial(fd) != 0 || getsockname(fd, (struct sockaddr *)&own.sa, &own.len) < 0)
		return false;
	ask(fd, QUICK, r);
	snprintf(line, sizeof line, "server %s %u\n", name_ip(&own), name_port(&own));
	return r->err == 0 && r->status == 200 && reply_says(r, line);
}

/* ARGUMENT: how many, one after the other. */
static void play_many(void)
{
	int right = 0, last = -1;
	struct reply r;

	for (int i = 0; i < atoi(the.arg); i++) {
		close(last);
		last = stream();
		right += one_of_many(last, &r);
	}
	fact("right=%d", right);
	say_via(last, NULL);
}

/* ARGUMENT: how many, one after the other; says how many processes answered. */
static void play_servers(void)
{
	int n = atoi(the.arg), count = 0, last = -1;
	int seen[16];
	struct reply r;

	for (int i = 0; i < n; i++) {
		const char *at;
		int pid, k = 0;

		close(last);
		last = stream();
		if (!one_of_many(last, &r))
			break;
		at = strstr(r.body, "pid ");
		pid = at != NULL ? atoi(at + 4) : 0;
		while (k < count && seen[k] != pid)
			k++;
		if (k == count && count < 16)
			seen[count++] = pid;
	}
	fact("servers=%d", count);
	say_via(last, NULL);
}

/* ARGUMENT: how many are open at once. No two of them have the same names. */
static void play_crowd(void)
{
	int n = atoi(the.arg), open_now = 0, names = 0, last = -1;
	bool *seen = calloc(65536, sizeof *seen);
	struct reply r;

	for (int i = 0; i < n && seen != NULL; i++) {
		int fd = stream(); /* stays open to the end */

		if (!one_of_many(fd, &r)) {
			close(fd);
			continue;
		}
		last = fd;
		open_now++;
		own_port(fd);
		names += !seen[the.own];
		seen[the.own] = true;
	}
	free(seen);
	fact("open=%d names=%d", open_now, names);
	say_via(last, NULL);
}

/* ---- cases: what is not TCP, or not a TCP socket ---- */

static void datagram_play(bool connects)
{
	int fd = socket(the.to.sa.ss_family, SOCK_DGRAM, 0);
	struct name from = {.len = sizeof from.sa};
	struct reply r = {.status = 0};
	char text[80];

	if (connects) {
		fact("connect=%s", word(dial(fd)));
		say_names(fd);
		fact("send=%s", word(errno_of((int)send(fd, "x", 1, 0))));
	} else {
		fact("send=%s",
		     word(errno_of((int)sendto(fd, "x", 1, 0, (struct sockaddr *)&the.to.sa,
					       the.to.len))));
		own_port(fd);
	}
	if (recvfrom(fd, r.body, sizeof r.body - 1, 0, (struct sockaddr *)&from.sa, &from.len) < 0)
		die("recvfrom");
	name_text(name_ip(&from), name_port(&from), text, sizeof text);
	fact("from=%s", text);
	say_names_of(&r, "server");
}

static void play_udp_connect(void)
{
	datagram_play(true);
}

static void play_udp_send(void)
{
	datagram_play(false);
}

static uint16_t checksum(const void *data, size_t len, uint32_t sum)
{
	const uint16_t *word16 = data;

	for (; len > 1; len -= 2)
		sum += *word16++;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A SYN without a socket that connects, IPv4. What comes back? ARGUMENT: our own address. */
static void play_raw(void)
{
	struct {
		uint32_t from, to;
		uint8_t zero, protocol;
		uint16_t len;
		struct tcphdr tcp;
	} __attribute__((packed)) p = {.protocol = IPPROTO_TCP, .len = htons(sizeof p.tcp)};
	struct name own = name_parse(ip_of(the.arg), 0);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
	unsigned char in[1500];
	const struct tcphdr *tcp;

	if (fd < 0)
		die("raw socket");
	memcpy(&p.from, &((struct sockaddr_in *)(void *)&own.sa)->sin_addr, 4);
	memcpy(&p.to, &((struct sockaddr_in *)(void *)&the.to.sa)->sin_addr, 4);
	p.tcp.source = htons(29999);
	p.tcp.dest = htons(name_port(&the.to));
	p.tcp.seq = htonl(1);
	p.tcp.doff = 5;
	p.tcp.syn = 1;
	p.tcp.window = htons(1000);
	p.tcp.check = checksum(&p, sizeof p, 0);
	if (sendto(fd, &p.tcp, sizeof p.tcp, 0, (struct sockaddr *)&the.to.sa, the.to.len) < 0)
		die("sendto");
	do {
		if (recv(fd, in, sizeof in, 0) < 40)
			die("recv");
		tcp = (const void *)(in + (in[0] & 15) * 4);
	} while (tcp->dest != p.tcp.source);
	fact("answer=%s", tcp->rst ? "rst" : tcp->syn && tcp->ack ? "syn-ack" : "other");
}

/* Who drops what arrives answers nothing: not connected within a second is the answer. */
static void play_knock(void)
{
	int fd = stream();
	int err;

	set_nonblocking(fd, true);
	err = dial(fd);
	if (err == EINPROGRESS) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		err = poll(&p, 1, 1000) == 0 ? ETIMEDOUT : pending_error(fd);
	}
	fact("connect=%s", err == 0 ? "0" : "refused");
}

static const struct {
	const char *name;
	void (*play)(void);
} cases[] = {
	{"blocking", play_blocking},
	{"nonblocking", play_nonblocking},
	{"v6only", play_v6only},
	{"mapped", play_mapped},
	{"fastopen-sendto", play_fastopen_sendto},
	{"fastopen-connect", play_fastopen_connect},
	{"mptcp", play_mptcp},
	{"sctp", play_sctp},
	{"uring", play_uring},
	{"uring-async", play_uring_async},
	{"bound", play_bound},
	{"bound-mapped", play_bound_mapped},
	{"bound-no-port", play_bound_no_port},
	{"device", play_device},
	{"retry", play_retry},
	{"connected", play_connected},
	{"disconnect", play_disconnect},
	{"wrong-family", play_wrong_family},
	{"threads", play_threads},
	{"dup", play_dup},
	{"inherited", play_inherited},
	{"setns", play_setns},
	{"cgroup", play_cgroup},
	{"early", play_early},
	{"bound-gone", play_bound_gone},
	{"closed", play_closed},
	{"bytes", play_bytes},
	{"server-closes", play_server_closes},
	{"shutdown-early", play_shutdown_early},
	{"shutdown-both", play_shutdown_both},
	{"recvmsg", play_recvmsg},
	{"tcp-info", play_tcp_info},
	{"request", play_request},
	{"many", play_many},
	{"servers", play_servers},
	{"crowd", play_crowd},
	{"udp-connect", play_udp_connect},
	{"udp-send", play_udp_send},
	{"raw", play_raw},
	{"knock", play_knock},
};

/* It may come before we wait for it. */
static void block_word(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "serve") == 0)
		return serve(argv + 2, argc - 2);
	if (argc < 5) {
		fprintf(stderr,
			"usage: cases serve SPEC... | cases CASE 4|6 TARGET PORT [ARGUMENT]\n");
		return 2;
	}
	the.v6 = strcmp(argv[2], "6") == 0;
	the.to = name_parse(ip_of(argv[3]), (uint16_t)atoi(argv[4]));
	the.arg = argc > 5 ? argv[5] : "";
	block_word();
	signal(SIGALRM, expired);
	alarm(limit());
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0) {
			cases[i].play();
			putchar('\n');
			return 0;
		}
	fprintf(stderr, "cases: no case is called %s\n", argv[1]);
	return 2;
}
