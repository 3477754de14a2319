/* SPDX-License-Identifier: Apache-2.0 */
/* What the trials have in common: verdicts, and TCP over loopback. See probe_impl.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/probe_impl.h"

static _Noreturn void end(struct trial *t, enum probe_state state, const char *format, va_list args)
{
	vsnprintf(t->detail, sizeof t->detail, format, args);
	t->state = state;
	_exit(0); /* no exit(): buffers and handlers are the caller's */
}

void trial_ok(struct trial *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	end(t, PROBE_OK, format, args);
}

void trial_missing(struct trial *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	end(t, PROBE_MISSING, format, args);
}

void trial_failed(struct trial *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	end(t, PROBE_FAILED, format, args);
}

static bool is_shortage(int err)
{
	switch (-err) {
	case EAGAIN:
	case EBUSY:
	case EINTR:
	case EIO:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case ENOSPC:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

void trial_refused(struct trial *t, int err, const char *what)
{
	if (is_shortage(err))
		trial_failed(t, "%s: %s", what, strerror(-err));
	trial_missing(t, "%s: %s", what, strerror(-err));
}

int trial_join_cgroup(struct trial *t)
{
	int folder, procs;

	if (t->cgroup_err != 0)
		trial_failed(t, "no cgroup of our own: %s", strerror(-t->cgroup_err));
	folder = open(t->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		trial_failed(t, "opening %s: %s", t->cgroup, strerror(errno));
	procs = openat(folder, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1)
		trial_failed(t, "entering %s: %s", t->cgroup, strerror(errno));
	close(procs);
	return folder;
}

int trial_socket(struct trial *t, int protocol)
{
	struct timeval wait = {.tv_sec = TRIAL_WAIT / 1000};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		trial_refused(t, -errno, "socket()");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
	return fd;
}

int trial_listen(struct trial *t, struct sockaddr_in *where)
{
	socklen_t len = sizeof *where;
	int fd = trial_socket(t, IPPROTO_TCP);

	*where = trial_address("127.0.0.1", 0);
	if (bind(fd, (struct sockaddr *)where, len) < 0 || listen(fd, TRIAL_BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)where, &len) < 0)
		trial_failed(t, "listening on loopback: %s", strerror(errno));
	return fd;
}

struct sockaddr_in trial_address(const char *ip, in_port_t port_net)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port_net};

	inet_pton(AF_INET, ip, &in.sin_addr);
	return in;
}

int trial_connect(struct trial *t, const struct sockaddr_in *to)
{
	int fd = trial_socket(t, IPPROTO_TCP);

	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
		trial_failed(t, "connect(): %s", strerror(errno));
	return fd;
}

int trial_connect_errno(struct trial *t, const struct sockaddr_in *to)
{
	int fd = trial_socket(t, IPPROTO_TCP);
	int err = connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 ? errno : 0;

	close(fd);
	return err;
}

int trial_accept(struct trial *t, int listener)
{
	int fd;

	if (!trial_readable(listener))
		trial_failed(t, "no connection arrived");
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		trial_failed(t, "accept(): %s", strerror(errno));
	return fd;
}

void trial_pair(struct trial *t, int pair[2])
{
	struct sockaddr_in where;
	int listener = trial_listen(t, &where);

	pair[0] = trial_connect(t, &where);
	pair[1] = trial_accept(t, listener);
	close(listener);
}

in_port_t trial_port(struct trial *t, int fd)
{
	struct sockaddr_in in;
	socklen_t len = sizeof in;

	if (getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		trial_failed(t, "getsockname(): %s", strerror(errno));
	return in.sin_port;
}

bool trial_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, TRIAL_WAIT) == 1;
}

void trial_send(struct trial *t, int fd, const void *bytes, size_t n)
{
	ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

	if (sent < 0)
		trial_failed(t, "send(): %s", strerror(errno));
	if ((size_t)sent != n)
		trial_failed(t, "send() took %zd of %zu bytes", sent, n);
}

/* Never blocks in recv(): a member of a sockmap may wake without data. */
size_t trial_receive(int fd, void *to, size_t n)
{
	size_t have = 0;

	while (have < n && trial_readable(fd)) {
		ssize_t got = recv(fd, (char *)to + have, n - have, MSG_DONTWAIT);

		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			break;
		if (got > 0)
			have += (size_t)got;
	}
	return have;
}

void trial_expect(struct trial *t, int fd, const void *bytes, size_t n, const char *what)
{
	char got[256];
	size_t have;

	if (n > sizeof got)
		trial_failed(t, "%s: %zu bytes are too many for a trial", what, n);
	have = trial_receive(fd, got, n);
	if (have < n)
		trial_failed(t, "%s: %zu of %zu bytes arrived", what, have, n);
	if (memcmp(got, bytes, n) != 0)
		trial_failed(t, "%s: other bytes arrived than were sent", what);
}
