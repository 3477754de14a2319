/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event layer of a worker: one edge-triggered epoll, and a ready list served by workload
 * in deficit round robin. A struct io is a descriptor, the edges it was told and has not used
 * up, and one function, turn(). An edge is told once and remembered here: whoever ends a turn
 * early, or waits for something that is no edge of its own, asks for another by io_wake().
 *
 * What a workload may do to the others: in one round it moves (reads and writes) less than
 * IO_QUANTUM + IO_MOVE_MAX bytes, because nothing is begun once its share is used up, and what is
 * begun is at most one read or write. A share that becomes ready comes before those with work left
 * from the round before. So from the moment bytes for it arrive until its turn, every other
 * workload has at most one visit.
 *
 * One thread. Times are ns of CLOCK_MONOTONIC, counts are bytes.
 */
#ifndef SHUNT_IO_H
#define SHUNT_IO_H

#include <stdint.h>
#include <sys/types.h>

#include "proxy/list.h"

enum {
	IO_READ = 1,
	IO_WRITE = 2,
	IO_ERROR = 4, /* the peer reset, or the connection broke otherwise; stays */
	IO_BEYOND = 8, /* something may follow the bytes that are there: see io_recv() */
};

#define IO_QUANTUM (128 * 1024) /* what a workload may move in one round */
#define IO_MOVE_MAX (64 * 1024) /* the most that one read or write moves */
/* What counts as how many bytes, besides those that are moved: about the time they take. */
#define IO_TURN_COST 512 /* a turn; a request that is judged */
#define IO_SETUP_COST (8 * 1024) /* a connection that is taken on; one that is dialled */

/* One workload's place in the round of one worker. */
struct share {
	struct list active; /* in io_loop.active while `ready` is not empty */
	struct list ready;
	long deficit;
};

/* Something to be done when no event of this round can name the object any more. */
struct later {
	struct list link;
	void (*run)(struct later *later);
};

struct io_loop {
	int epoll;
	uint64_t stamp; /* when the last wait returned: the arrival time of what it told */
	struct list active;
	struct list later;
};

struct io {
	struct io_loop *loop; /* NULL while not watched */
	int fd;
	unsigned ready;
	struct share *share;
	struct list link; /* in share->ready */
	int error; /* that ended it; a read that comes to the end tells it (again) */
	uint64_t told; /* arrival stamp of the oldest edge not yet used; 0: none */
	void (*turn)(struct io *io);
};

void share_init(struct share *s);

__attribute__((warn_unused_result)) int io_loop_init(struct io_loop *loop);
void io_loop_close(struct io_loop *loop);

/* Also watches `fd` (level-triggered) for io_loop_wait() to report: uv's own descriptor. */
__attribute__((warn_unused_result)) int io_loop_watch_foreign(struct io_loop *loop, int fd);

/* Waits at most `timeout` ms (-1: for ever; not at all while somebody is ready). Returns 1
 * when the foreign descriptor has something, 0 otherwise, or -errno. */
int io_loop_wait(struct io_loop *loop, int timeout);

/* One round: every workload that is ready has its quantum; then what was left for later. */
void io_loop_round(struct io_loop *loop);

/* Begins to watch; `io` must not be watched. The descriptor stays the caller's, to be closed
 * after io_unwatch(). Returns 0 or -errno. */
__attribute__((warn_unused_result)) int io_watch(struct io_loop *loop, struct io *io, int fd,
						 struct share *share, void (*turn)(struct io *));
/* A listener shared with other workers: woken one at a time (EPOLLEXCLUSIVE). */
__attribute__((warn_unused_result)) int io_watch_listener(struct io_loop *loop, struct io *io,
							  int fd, struct share *share,
							  void (*turn)(struct io *));
void io_unwatch(struct io *io); /* twice is harmless */

void io_wake(struct io *io); /* one more turn, in this round or the next */
/* As io_wake(), by who ends a turn with bytes unread because its share is used up: they wait
 * for us from now on. */
void io_again(struct io *io);
bool io_readable(const struct io *io); /* an edge is left, and something of the share */

/* As recv(2) and send(2) without flags to choose, of at most IO_MOVE_MAX bytes: -errno on
 * failure, -EAGAIN when the edge is used up. io_send() also returns that when the share is, and
 * outside of a turn: IO_WRITE stays set then, and another turn comes. Any other failure sets
 * IO_ERROR. The kernel tells a reset once, to whichever comes
 * first; here who reads on meets it behind the last byte, also when a send had it. A FIN stays a
 * FIN where the reset came after it: then IO_ERROR alone tells.
 *
 * A read that gets less than it has room for uses the edge up as well, so that no other has to
 * find nothing. On a plain TCP socket it has met the end of the receive queue (tcp_recvmsg() goes
 * on from segment to segment until that is empty), and each segment that comes later is an edge of
 * its own (tcp_data_ready() wakes for every one; epoll queues whatever woke it since it was asked).
 * Behind those bytes there may be what is not told again, and then IO_BEYOND says to read on: the
 * FIN or the error of an event that was told (RDHUP, HUP, ERR), and the bytes behind an urgent
 * one, at which a read stops (PRI). What comes after that event is an edge again (tcp_fin() and
 * tcp_reset() wake, so does the urgent byte, told with PRI until it has been passed).
 * None of this holds for a socket with kernel TLS or in a sockmap, where a read gives one record
 * or message; nor for a pipe or a terminal. None of those is watched here. */
ssize_t io_recv(struct io *io, void *to, size_t room);
ssize_t io_send(struct io *io, const void *from, size_t len);

/* close(2) by RST instead of FIN: what is unsent is thrown away. Not while watched. */
void close_reset(int fd);

/* Is `fd`, that has just been opened, one of the last few that the process may have? They are
 * kept free: whoever gets one for a connection gives it back at once, so that the next one who
 * comes can still be accepted, and told. */
bool is_last_descriptor(int fd);

void loop_later(struct io_loop *loop, struct later *later, void (*run)(struct later *));

uint64_t io_now(void);

#endif
