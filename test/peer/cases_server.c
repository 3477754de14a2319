// SPDX-License-Identifier: Apache-2.0
/*
 * The server of the cases: HTTP/1.1, a thread for each connection.
 *
 *   GET /names      what accept(), getpeername(), getsockopt(SO_PEERNAME) and getsockname() show,
 *                   and whether it is the proxy that dialled
 *   GET /quick      the same without the last, which reads all of /proc/net/tcp
 *   GET /close      as /quick, and closes
 *   POST /echo      the body
 *
 * Flags of a listener: v6only, reuseport, mptcp, sctp, fastopen, uring (accepts by io_uring), accept
 * (by accept() where others take accept4()), eth0 (bound to that device), udp (answers with the
 * name of who asks).
 */
#include "test/peer/cases.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLAGS_MAX 8

struct listener {
	int fd;
	bool uring, plain, udp;
};

struct guest {
	int fd;
	struct name accepted;
};

static int add_name(char *to, size_t room, const char *key, const struct name *n)
{
	return snprintf(to, room, "%s %s %u\n", key, name_ip(n), name_port(n));
}

/* One line for each way to ask. */
static size_t names_text(const struct guest *g, bool quick, char *to, size_t room)
{
	struct name peer = {.len = sizeof peer.sa}, option = peer, own = peer;
	int at = add_name(to, room, "server", &g->accepted);

	if (getpeername(g->fd, (struct sockaddr *)&peer.sa, &peer.len) < 0 ||
	    peername_option(g->fd, (struct sockaddr *)&option.sa, &option.len) < 0 ||
	    getsockname(g->fd, (struct sockaddr *)&own.sa, &own.len) < 0)
		return 0;
	at += add_name(to + at, room - (size_t)at, "server", &peer);
	at += add_name(to + at, room - (size_t)at, "server", &option);
	at += add_name(to + at, room - (size_t)at, "at", &own);
	at += snprintf(to + at, room - (size_t)at, "pid %d\n", getpid());
	if (!quick)
		at += snprintf(to + at, room - (size_t)at, "via %s\n",
			       is_proxied(g->fd) ? "proxy" : "direct");
	return (size_t)at;
}

static bool answer(int fd, const char *body, size_t len)
{
	char head[100];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);

	return send_all(fd, head, (size_t)n) == 0 && send_all(fd, body, len) == 0;
}

/* The body, of which `got` bytes came with the head; NULL when it was cut. */
static char *read_body(int fd, const char *got, size_t n, size_t len)
{
	char *body = malloc(len + 1);

	if (body == NULL || n > len) {
		free(body);
		return NULL;
	}
	memcpy(body, got, n);
	while (n < len) {
		ssize_t more = recv(fd, body + n, len - n, 0);

		if (more <= 0) {
			free(body);
			return NULL;
		}
		n += (size_t)more;
	}
	return body;
}

static bool echo(int fd, const char *head, const char *rest, size_t n)
{
	const char *field = strcasestr(head, "content-length:");
	size_t len = field != NULL ? strtoul(field + 15, NULL, 10) : 0;
	char *body = read_body(fd, rest, n, len);
	bool sent = body != NULL && answer(fd, body, len);

	free(body);
	return sent;
}

/* One request, one after the other; false when there is no next one. */
static bool serve_request(struct guest *g)
{
	char head[REQUEST_MAX + 1], text[REQUEST_MAX];
	size_t got = 0;
	char *end = NULL;
	bool closes, quick;

	while (end == NULL) {
		ssize_t n = recv(g->fd, head + got, REQUEST_MAX - got, 0);

		if (n <= 0)
			return false;
		got += (size_t)n;
		head[got] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	end += 4;
	if (strncmp(head, "POST /echo", 10) == 0)
		return echo(g->fd, head, end, got - (size_t)(end - head));
	closes = strncmp(head, "GET /close", 10) == 0;
	quick = closes || strncmp(head, "GET /quick", 10) == 0;
	return answer(g->fd, text, names_text(g, quick, text, sizeof text)) && !closes;
}

static void *guest_run(void *arg)
{
	struct guest *g = arg;

	while (serve_request(g))
		continue;
	close(g->fd);
	free(g);
	return NULL;
}

static int accept_by(const struct listener *l, struct name *from)
{
	*from = (struct name){.len = sizeof from->sa};
	if (l->uring)
		return uring_accept(l->fd, from);
	if (l->plain)
		return accept(l->fd, (struct sockaddr *)&from->sa, &from->len);
	return accept4(l->fd, (struct sockaddr *)&from->sa, &from->len, SOCK_CLOEXEC);
}

static void guest_start(const struct guest *new)
{
	struct guest *g = malloc(sizeof *g);
	pthread_attr_t detached;
	pthread_t thread;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (g == NULL)
		die("malloc");
	*g = *new;
	if (pthread_create(&thread, &detached, guest_run, g) != 0)
		die("pthread_create");
	pthread_attr_destroy(&detached);
}

static void serve_datagram(int fd)
{
	struct name from = {.len = sizeof from.sa};
	char text[REQUEST_MAX];
	int n;

	if (recvfrom(fd, text, sizeof text, 0, (struct sockaddr *)&from.sa, &from.len) < 0)
		return;
	n = add_name(text, sizeof text, "server", &from);
	sendto(fd, text, (size_t)n, 0, (struct sockaddr *)&from.sa, from.len);
}

static void *listener_run(void *arg)
{
	struct listener *l = arg;
	struct guest g;

	for (;;) {
		if (l->udp) {
			serve_datagram(l->fd);
			continue;
		}
		g.fd = accept_by(l, &g.accepted);
		if (g.fd >= 0)
			guest_start(&g);
		else if (l->uring)
			die("io_uring accept");
	}
	return NULL;
}

static bool flag_set(char **flags, const char *flag)
{
	for (int i = 0; flags[i] != NULL; i++)
		if (strcmp(flags[i], flag) == 0)
			return true;
	return false;
}

static void listener_open(struct listener *l, const struct name *at, char **flags)
{
	int protocol = flag_set(flags, "mptcp")	 ? IPPROTO_MPTCP
		       : flag_set(flags, "sctp") ? IPPROTO_SCTP
						 : 0;
	int on = 1, queue = 16;

	l->uring = flag_set(flags, "uring");
	l->plain = flag_set(flags, "accept");
	l->udp = flag_set(flags, "udp");
	l->fd = socket(at->sa.ss_family, l->udp ? SOCK_DGRAM : SOCK_STREAM, protocol);
	if (l->fd < 0)
		die("socket");
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (flag_set(flags, "v6only"))
		setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (flag_set(flags, "reuseport"))
		setsockopt(l->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (flag_set(flags, "eth0"))
		setsockopt(l->fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4);
	if (flag_set(flags, "fastopen"))
		setsockopt(l->fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
	if (bind(l->fd, (const struct sockaddr *)&at->sa, at->len) < 0)
		die("bind");
	if (!l->udp && listen(l->fd, 1024) < 0)
		die("listen");
}

/* "::/7001/v6only" */
static void listener_start(char *spec)
{
	char *words[FLAGS_MAX + 1] = {NULL};
	struct listener *l = calloc(1, sizeof *l);
	pthread_t thread;
	struct name at;
	int n = 0;

	if (l == NULL)
		die("calloc");
	for (char *w = strtok(spec, "/"); w != NULL && n < FLAGS_MAX; w = strtok(NULL, "/"))
		words[n++] = w;
	if (n < 2)
		die(spec);
	at = name_parse(words[0], (uint16_t)atoi(words[1]));
	listener_open(l, &at, words + 2);
	if (pthread_create(&thread, NULL, listener_run, l) != 0)
		die("pthread_create");
}

int serve(char **specs, int n)
{
	for (int i = 0; i < n; i++)
		listener_start(specs[i]);
	for (;;)
		pause();
}
