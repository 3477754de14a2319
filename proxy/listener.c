/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting, and hand-over between workers: see listener.h. */
#include "proxy/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/conn.h"
#include "proxy/log.h"
#include "proxy/origdst.h"
#include "proxy/orphan.h"
#include "proxy/worker.h"

#define PAUSE_MS 50
#define COMPLAIN_MS 10000

/* A socket on its way to another worker. */
struct handover {
	struct work work;
	uint32_t index;
	uint32_t generation;
	enum listener_kind kind;
	int fd;
};

static void handover_run(struct worker *w, struct work *work)
{
	struct handover *h = container_of(work, struct handover, work);
	struct seat *seat = w->seats[h->index];

	worker_count_conns(w, h->index, -1); /* counted by the giver */
	if (seat != NULL && seat->enrolled->generation == h->generation)
		conn_accept(w, seat, h->kind, h->fd);
	else
		close_reset(h->fd); /* the workload left meanwhile */
	free(h);
}

/* The least loaded worker, if this one is more than a quarter above the mean. */
static struct worker *relief(struct worker *w)
{
	struct worker *least = w;
	unsigned own = atomic_load_explicit(&w->conns, memory_order_relaxed);
	unsigned least_load = own, sum = 0;

	for (unsigned i = 0; i < w->node->worker_count; i++) {
		struct worker *other = &w->node->workers[i];
		unsigned load = atomic_load_explicit(&other->conns, memory_order_relaxed);

		sum += load;
		if (load < least_load) {
			least = other;
			least_load = load;
		}
	}
	if ((uint64_t)own * w->node->worker_count * 4 <= (uint64_t)sum * 5)
		return NULL;
	return least == w ? NULL : least;
}

static bool hand_over(struct seat *seat, enum listener_kind kind, int fd)
{
	struct worker *to = relief(seat->worker);
	struct handover *h;

	if (to == NULL)
		return false;
	h = malloc(sizeof *h);
	if (h == NULL)
		return false;
	*h = (struct handover){.work.run = handover_run,
			       .index = seat->enrolled->index,
			       .generation = seat->enrolled->generation,
			       .kind = kind,
			       .fd = fd};
	worker_count_conns(to, h->index, 1);
	worker_post(to, &h->work);
	return true;
}

void listener_refuse(struct seat *seat, enum listener_kind kind, int fd)
{
	struct origdst o;

	/* Else the slot would count against its workload until it is swept. */
	if (origdst_claim(seat->worker, seat->enrolled, kind, fd, &o) == 0)
		origdst_release(&o);
	close_reset(fd);
}

/* Out of descriptors: the reserve takes one who waits and resets it, so that the caller
 * learns at once; the others are tried again by timer. */
static void refuse_one(struct seat *seat, struct listener *l)
{
	struct worker *w = seat->worker;
	int fd;

	close(w->reserve);
	fd = accept4(l->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		conn_refuse(w, seat, l->kind, fd, REASON_NO_DESCRIPTORS);
	w->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listener_resume_later(uv_timer_t *timer)
{
	listeners_resume(container_of(timer, struct worker, pause));
}

static void listener_pause(struct seat *seat, struct listener *l, int err)
{
	struct worker *w = seat->worker;

	if (uv_now(&w->uv) - w->complained > COMPLAIN_MS || w->complained == 0) {
		log_warnx("worker %u: accept: %s; trying again every %d ms", w->index,
			  strerror(-err), PAUSE_MS);
		w->complained = uv_now(&w->uv);
	}
	if (err == -EMFILE || err == -ENFILE)
		refuse_one(seat, l);
	l->paused = true;
	uv_timer_start(&w->pause, listener_resume_later, PAUSE_MS, 0);
}

/* An edge is told once: accept until there is nobody left. */
static void listener_turn(struct io *io)
{
	struct listener *l = container_of(io, struct listener, io);
	struct seat *seat = container_of(io->share, struct seat, share);
	int fd;

	io->told = 0;
	while (io->share->deficit > 0) {
		fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			io->ready = 0;
			if (errno != EAGAIN)
				listener_pause(seat, l, -errno);
			return;
		}
		io->share->deficit -= IO_TURN_COST; /* what follows counts where it is done */
		if (!hand_over(seat, l->kind, fd))
			conn_accept(seat->worker, seat, l->kind, fd);
	}
	io_wake(io);
}

void listeners_resume(struct worker *w)
{
	for (unsigned i = 0; i < WORKLOADS_MAX; i++)
		for (int kind = 0; w->seats[i] != NULL && kind < LISTENER_KINDS; kind++) {
			struct listener *l = &w->seats[i]->listeners[kind];

			if (!l->paused)
				continue;
			l->paused = false;
			io_wake(&l->io);
		}
}

int seat_open(struct worker *w, const struct enrolled *e)
{
	struct seat *seat = calloc(1, sizeof *seat);
	int err = 0;

	if (seat == NULL)
		return -ENOMEM;
	seat->worker = w;
	seat->enrolled = e;
	share_init(&seat->share);
	list_init(&seat->conns);
	list_init(&seat->heads);
	list_init(&seat->orphans);
	w->seats[e->index] = seat;
	for (int kind = 0; kind < LISTENER_KINDS && err == 0; kind++) {
		seat->listeners[kind].kind = (enum listener_kind)kind;
		if (e->listeners[kind] >= 0)
			err = io_watch_listener(&w->io, &seat->listeners[kind].io,
						e->listeners[kind], &seat->share, listener_turn);
	}
	if (err < 0)
		seat_close(w, e, REASON_INTERNAL);
	return err;
}

static void seat_free(struct later *later)
{
	free(container_of(later, struct seat, later));
}

void seat_close(struct worker *w, const struct enrolled *e, enum reason why)
{
	struct seat *seat = w->seats[e->index];

	if (seat == NULL || seat->enrolled != e)
		return;
	w->seats[e->index] = NULL;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		io_unwatch(&seat->listeners[kind].io);
	while (!list_empty(&seat->conns))
		conn_close(container_of(seat->conns.next, struct conn, link), why, true);
	orphans_release(seat);
	/* Nobody is in its ready list any more, but the share may stand in the loop's. */
	list_remove(&seat->share.active);
	loop_later(&w->io, &seat->later, seat_free);
}

/* Those who wait in the queue, beyond any share of a round: the listeners are closed next. Those
 * whose handshake is under way come by event. */
static void listener_drain(struct seat *seat, struct listener *l)
{
	int fd;

	if (l->io.loop == NULL)
		return;
	while ((fd = accept4(l->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 ||
	       errno == EINTR || errno == ECONNABORTED)
		if (fd >= 0)
			conn_accept(seat->worker, seat, l->kind, fd);
}

void seats_drain(struct worker *w)
{
	w->draining = true;
	for (unsigned i = 0; i < WORKLOADS_MAX; i++) {
		struct seat *seat = w->seats[i];

		for (int kind = 0; seat != NULL && kind < LISTENER_KINDS; kind++)
			listener_drain(seat, &seat->listeners[kind]);
		for (struct list *at = seat ? seat->conns.next : NULL, *next;
		     at != NULL && at != &seat->conns; at = next) {
			next = at->next;
			conn_drain(container_of(at, struct conn, link));
		}
	}
}
