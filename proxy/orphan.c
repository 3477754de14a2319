/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that wait for their readers: see orphan.h. */
#include "proxy/orphan.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proxy/worker.h"

struct orphan {
	struct io io;
	struct seat *seat;
	struct list link; /* in seat->orphans */
	struct later later;
};

static void orphan_free(struct later *later)
{
	free(container_of(later, struct orphan, later));
}

static void orphan_end(struct orphan *o)
{
	list_remove(&o->link);
	io_unwatch(&o->io);
	close(o->io.fd);
	worker_count_conns(o->seat->worker, o->seat->enrolled->index, -1);
	loop_later(&o->seat->worker->io, &o->later, orphan_free);
}

/* Has the peer acknowledged every byte, and our FIN? */
static bool is_delivered(int fd)
{
	int unsent = 0;

	return ioctl(fd, SIOCOUTQ, &unsent) < 0 || unsent == 0;
}

/* The last acknowledgement ends the socket, which is an edge (tcp_done() in net/ipv4/tcp.c wakes
 * whoever waits); one that frees room is another, and says nothing. */
static void orphan_turn(struct io *io)
{
	struct orphan *o = container_of(io, struct orphan, io);

	io->told = 0;
	if ((io->ready & IO_ERROR) || is_delivered(io->fd))
		orphan_end(o);
}

void orphan_adopt(struct seat *seat, int fd)
{
	struct orphan *o = is_delivered(fd) ? NULL : calloc(1, sizeof *o);

	if (o == NULL || io_watch(&seat->worker->io, &o->io, fd, &seat->share, orphan_turn) < 0) {
		free(o);
		close(fd);
		return;
	}
	o->seat = seat;
	worker_count_conns(seat->worker, seat->enrolled->index, 1);
	list_append(&seat->orphans, &o->link);
}

void orphans_release(struct seat *seat)
{
	while (!list_empty(&seat->orphans))
		orphan_end(container_of(seat->orphans.next, struct orphan, link));
}
