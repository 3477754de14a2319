/* SPDX-License-Identifier: Apache-2.0 */
/* The event layer of a worker: see io.h. */
#include "proxy/io.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 256
#define DESCRIPTORS_KEPT 32 /* some for every thread that may open one at the same time */

uint64_t io_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void share_init(struct share *s)
{
	list_init(&s->active);
	list_init(&s->ready);
	s->deficit = 0;
}

int io_loop_init(struct io_loop *loop)
{
	list_init(&loop->active);
	list_init(&loop->later);
	loop->stamp = io_now();
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll < 0 ? -errno : 0;
}

static void io_loop_run_later(struct io_loop *loop)
{
	while (!list_empty(&loop->later)) {
		struct later *later = container_of(loop->later.next, struct later, link);

		list_remove(&later->link);
		later->run(later);
	}
}

void io_loop_close(struct io_loop *loop)
{
	io_loop_run_later(loop);
	close(loop->epoll);
}

int io_loop_watch_foreign(struct io_loop *loop, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static unsigned edges_of(uint32_t events)
{
	unsigned edges = 0;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		edges |= IO_READ;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		edges |= IO_WRITE;
	if (events & EPOLLERR)
		edges |= IO_ERROR;
	if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		edges |= IO_BEYOND;
	return edges;
}

int io_loop_wait(struct io_loop *loop, int timeout)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	struct list left; /* those with work from the last round */
	int foreign = 0;
	int n;

	list_init(&left);
	if (!list_empty(&loop->active))
		timeout = 0;
	n = epoll_wait(loop->epoll, events, EVENTS_PER_WAIT, timeout);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	loop->stamp = io_now();
	list_splice(&left, &loop->active);
	for (int i = 0; i < n; i++) {
		struct io *io = events[i].data.ptr;

		if (io == NULL) {
			foreign = 1;
			continue;
		}
		io->ready |= edges_of(events[i].events);
		if (io->told == 0)
			io->told = loop->stamp;
		io_wake(io);
	}
	list_splice(&loop->active, &left);
	return foreign;
}

static void share_serve(struct io_loop *loop, struct share *s)
{
	s->deficit += IO_QUANTUM;
	while (!list_empty(&s->ready) && s->deficit > 0) {
		struct io *io = container_of(s->ready.next, struct io, link);

		list_remove(&io->link);
		s->deficit -= IO_TURN_COST;
		io->turn(io);
	}
	if (!list_empty(&s->ready)) {
		if (list_empty(&s->active)) /* a wake of its own turns may have done it */
			list_append(&loop->active, &s->active);
	} else if (s->deficit > 0)
		s->deficit = 0; /* who was idle saves nothing up */
}

void io_loop_round(struct io_loop *loop)
{
	struct list round;

	list_init(&round);
	list_splice(&round, &loop->active);
	while (!list_empty(&round)) {
		struct share *s = container_of(round.next, struct share, active);

		list_remove(&s->active);
		share_serve(loop, s);
	}
	io_loop_run_later(loop);
}

static int io_add(struct io_loop *loop, struct io *io, int fd, struct share *share,
		  void (*turn)(struct io *), uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	*io = (struct io){.fd = fd, .share = share, .turn = turn};
	list_init(&io->link);
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	io->loop = loop;
	return 0;
}

int io_watch(struct io_loop *loop, struct io *io, int fd, struct share *share,
	     void (*turn)(struct io *))
{
	return io_add(loop, io, fd, share, turn,
		      EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET);
}

int io_watch_listener(struct io_loop *loop, struct io *io, int fd, struct share *share,
		      void (*turn)(struct io *))
{
	/* EPOLLRDHUP with EPOLLEXCLUSIVE is EINVAL. */
	return io_add(loop, io, fd, share, turn, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
}

void io_unwatch(struct io *io)
{
	if (io->loop == NULL)
		return;
	list_remove(&io->link);
	/* A copy of the descriptor elsewhere would keep the entry alive: never left to close(). */
	epoll_ctl(io->loop->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	io->loop = NULL;
}

void io_wake(struct io *io)
{
	struct share *s = io->share;

	if (io->loop == NULL || !list_empty(&io->link))
		return;
	list_append(&s->ready, &io->link);
	if (list_empty(&s->active))
		list_append(&io->loop->active, &s->active);
}

void io_again(struct io *io)
{
	if (io->told == 0)
		io->told = io_now();
	io_wake(io);
}

bool io_readable(const struct io *io)
{
	return (io->ready & IO_READ) && io->share->deficit > 0;
}

ssize_t io_recv(struct io *io, void *to, size_t room)
{
	size_t most = room < IO_MOVE_MAX ? room : IO_MOVE_MAX;
	ssize_t n;

	do
		n = recv(io->fd, to, most, 0);
	while (n < 0 && errno == EINTR);
	if (n == 0 && io->error != 0) {
		n = -1;
		errno = io->error;
	}
	if (n < 0) {
		io->ready &= ~(unsigned)(IO_READ | IO_BEYOND);
		if (errno != EAGAIN) {
			io->error = errno;
			io->ready |= IO_ERROR;
		}
		return -errno;
	}
	if (n > 0 && (size_t)n < most && !(io->ready & (IO_BEYOND | IO_ERROR)))
		io->ready &= ~(unsigned)IO_READ;
	io->share->deficit -= n;
	return n;
}

ssize_t io_send(struct io *io, const void *from, size_t len)
{
	ssize_t n;

	if (io->share->deficit <= 0) {
		if (io->ready & IO_WRITE)
			io_again(io);
		return -EAGAIN;
	}
	do
		n = send(io->fd, from, len < IO_MOVE_MAX ? len : IO_MOVE_MAX, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		io->ready &= ~(unsigned)IO_WRITE;
		if (errno == EAGAIN)
			return -EAGAIN;
		if (io->error == 0)
			io->ready |= IO_READ;
		if (io->error == 0 && errno != EPIPE) /* that is a reset after a FIN */
			io->error = errno;
		io->ready |= IO_ERROR;
		return -errno;
	}
	io->share->deficit -= n;
	return n;
}

void close_reset(int fd)
{
	struct linger now = {.l_onoff = 1};
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	/* A program of somebody else's at setsockopt() (cgroup BPF) may refuse, or find no memory.
	 * A FIN would say that all was said: disconnecting resets, too. */
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0)
		connect(fd, &nobody, sizeof nobody);
	close(fd);
}

/* The kernel gives out the lowest number that is free. Asked each time: prlimit(1) may change
 * the limit of a running daemon. */
bool is_last_descriptor(int fd)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	       (rlim_t)fd + DESCRIPTORS_KEPT >= limit.rlim_cur;
}

void loop_later(struct io_loop *loop, struct later *later, void (*run)(struct later *))
{
	later->run = run;
	list_append(&loop->later, &later->link);
}
