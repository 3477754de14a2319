/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/io.h"

struct end {
	struct io io;
	int peer;
	unsigned turns;
	size_t bytes;
	bool greedy; /* reads all it may; else one byte a turn */
	bool lazy; /* ends its turn without reading */
};

static struct io_loop loop;
static char moved[2 * IO_MOVE_MAX];

static void end_turn(struct io *io)
{
	struct end *e = container_of(io, struct end, io);
	char block[16384];
	ssize_t n;

	e->turns++;
	io->told = 0;
	if (e->lazy)
		return;
	while (io_readable(io)) {
		n = io_recv(io, block, e->greedy ? sizeof block : 1);
		if (n <= 0)
			break;
		e->bytes += (size_t)n;
		if (!e->greedy)
			break;
	}
	if (io->ready & IO_READ)
		io_wake(io);
}

static void end_open(struct end *e, struct share *s, bool greedy)
{
	int fd[2];

	*e = (struct end){.greedy = greedy};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	e->peer = fd[1];
	assert_int_equal(io_watch(&loop, &e->io, fd[0], s, end_turn), 0);
}

static void end_close(struct end *e)
{
	io_unwatch(&e->io);
	close(e->io.fd);
	close(e->peer);
}

static void turn(void)
{
	assert_true(io_loop_wait(&loop, 0) >= 0);
	io_loop_round(&loop);
}

static void an_edge_is_told_once_and_remembered(void **state)
{
	struct share share;
	struct end e;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&share);
	end_open(&e, &share, false);
	e.lazy = true;
	assert_int_equal(send(e.peer, "abc", 3, 0), 3);
	turn();
	assert_int_equal(e.turns, 1);
	turn();
	assert_int_equal(e.turns, 1); /* no edge, no turn */
	assert_true(e.io.ready & IO_READ);
	e.lazy = false;
	io_wake(&e.io); /* but it is remembered */
	for (int i = 0; i < 10; i++)
		turn();
	assert_int_equal(e.bytes, 3);
	assert_false(e.io.ready & IO_READ);
	end_close(&e);
	io_loop_close(&loop);
}

static struct share tcp_share;

/* Both ends of a TCP connection; e reads nothing by itself. */
static void tcp_open(struct end *e)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd;

	*e = (struct end){.lazy = true};
	share_init(&tcp_share);
	assert_int_equal(io_loop_init(&loop), 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	e->peer = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(e->peer, (struct sockaddr *)&at, sizeof at), 0);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	close(listener);
	assert_int_equal(io_watch(&loop, &e->io, fd, &tcp_share, end_turn), 0);
}

static void tcp_close(struct end *e)
{
	end_close(e);
	io_loop_close(&loop);
}

/* All that the peer sent has come. */
static void arrived(struct end *e)
{
	int left = 1;

	for (int i = 0; i < 5000 && left != 0; i++) {
		assert_int_equal(ioctl(e->peer, SIOCOUTQ, &left), 0);
		if (left != 0)
			usleep(1000);
	}
	assert_int_equal(left, 0);
}

static void told(struct end *e)
{
	arrived(e);
	turn();
	assert_true(e->io.ready & IO_READ);
}

static void says(struct end *e, const char *text, int flags)
{
	assert_int_equal(send(e->peer, text, strlen(text), flags), (int)strlen(text));
}

/* What the next read of at most `room` gives, in turns until there is one. */
static void reads(struct end *e, size_t room, const char *text)
{
	char got[64];
	ssize_t n = -EAGAIN;

	for (int i = 0; i < 5000 && !(e->io.ready & IO_READ); i++) {
		usleep(i != 0 ? 1000 : 0);
		turn();
	}
	assert_true(e->io.ready & IO_READ);
	n = io_recv(&e->io, got, room);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static void a_short_read_uses_the_edge_up(void **state)
{
	struct end e;

	(void)state;
	tcp_open(&e);
	says(&e, "abcdef", 0);
	told(&e);
	reads(&e, 3, "abc"); /* as much as it had room for: there may be more */
	assert_true(e.io.ready & IO_READ);
	reads(&e, 60, "def");
	assert_false(e.io.ready & IO_READ);
	says(&e, "ghi", 0);
	reads(&e, 60, "ghi"); /* by an edge of its own */
	assert_false(e.io.ready & IO_READ);
	tcp_close(&e);
}

static void a_fin_is_read_behind_the_bytes_it_came_with(void **state)
{
	struct end e;

	(void)state;
	tcp_open(&e);
	says(&e, "abc", 0);
	shutdown(e.peer, SHUT_WR);
	told(&e);
	reads(&e, 60, "abc");
	assert_true(e.io.ready & IO_READ); /* it is not told again */
	reads(&e, 60, "");
	tcp_close(&e);
}

static void a_fin_behind_the_bytes_that_were_told_is_an_edge(void **state)
{
	struct end e;

	(void)state;
	tcp_open(&e);
	says(&e, "abc", 0);
	told(&e);
	shutdown(e.peer, SHUT_WR);
	arrived(&e);
	reads(&e, 60, "abc");
	assert_false(e.io.ready & IO_READ);
	reads(&e, 60, "");
	tcp_close(&e);
}

/* A read stops at an urgent byte, with more behind it that no edge tells of. */
static void what_follows_an_urgent_byte_is_read(void **state)
{
	struct end e;

	(void)state;
	for (int when = 0; when < 3; when++) { /* which of the pieces was told of in time */
		tcp_open(&e);
		says(&e, "abc", 0);
		if (when == 0)
			told(&e);
		says(&e, "!", MSG_OOB);
		if (when == 1)
			told(&e);
		says(&e, "def", 0);
		if (when == 2)
			told(&e);
		arrived(&e);
		reads(&e, 60, "abc");
		reads(&e, 60, "def");
		assert_int_equal(io_recv(&e.io, moved, 60), -EAGAIN);
		says(&e, "ghi", 0);
		reads(&e, 60, "ghi");
		assert_false(e.io.ready & IO_READ); /* it is behind us */
		tcp_close(&e);
	}
}

/* Between two turns of a quiet workload a loud one gets no more than its quantum. */
static void a_loud_workload_does_not_starve_a_quiet_one(void **state)
{
	static char block[1 << 20];
	struct share loud, quiet;
	struct end a, b, c;
	size_t before;
	unsigned turns = 0;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&loud);
	share_init(&quiet);
	end_open(&a, &loud, true);
	end_open(&b, &loud, true);
	end_open(&c, &quiet, false);
	for (int round = 0; round < 200; round++) {
		(void)!send(a.peer, block, sizeof block, MSG_DONTWAIT);
		(void)!send(b.peer, block, sizeof block, MSG_DONTWAIT);
		assert_int_equal(send(c.peer, block, 1, 0), 1);
		before = a.bytes + b.bytes;
		turns = c.turns;
		turn();
		assert_true(c.turns > turns);
		assert_true(a.bytes + b.bytes - before < IO_QUANTUM + IO_MOVE_MAX);
	}
	assert_true(a.bytes > 0 && b.bytes > 0);
	assert_int_equal(c.bytes, 200);
	end_close(&a);
	end_close(&b);
	end_close(&c);
	io_loop_close(&loop);
}

/* As a connection with two full legs: writes what waits, then reads. One that is not
 * greedy writes a little, so that the next begins with any rest of the share. */
static size_t moved_bytes, quiet_saw;

static void mover_turn(struct io *io)
{
	struct end *e = container_of(io, struct end, io);
	size_t odd = e->turns++ * 997 % 30000 + 1;
	ssize_t n;

	io->told = 0;
	for (int piece = 0; piece < (e->greedy ? 4 : 1); piece++) {
		n = io_send(io, moved, e->greedy ? sizeof moved - odd : odd);
		moved_bytes += n > 0 ? (size_t)n : 0;
	}
	while (e->greedy && io_readable(io) && (n = io_recv(io, moved, sizeof moved)) > 0)
		moved_bytes += (size_t)n;
	io_wake(io);
}

static void quiet_turn(struct io *io)
{
	struct end *e = container_of(io, struct end, io);

	quiet_saw = moved_bytes;
	e->turns++;
	e->bytes += io_recv(io, moved, 1) == 1;
	io->told = 0;
	io->ready = 0;
}

static void mover_open(struct end *e, struct share *s, bool greedy)
{
	int size = 1 << 20;

	end_open(e, s, greedy);
	e->io.turn = mover_turn;
	setsockopt(e->io.fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	setsockopt(e->peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
}

/* Peers that always have bytes, of any size, and take all. */
static void mover_feed(struct end *e, size_t odd)
{
	static char block[1 << 18];

	while (recv(e->peer, block, sizeof block, MSG_DONTWAIT) > 0)
		;
	(void)!send(e->peer, block, odd, MSG_DONTWAIT);
	(void)!send(e->peer, block, sizeof block, MSG_DONTWAIT);
}

/* Reads and writes together; and who was idle does not wait for who was not. */
static void a_visit_moves_less_than_the_quantum_and_one_read_or_write(void **state)
{
	struct share loud, quiet;
	struct end a[4], q;
	size_t most = 0;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&loud);
	share_init(&quiet);
	for (int i = 0; i < 4; i++)
		mover_open(&a[i], &loud, i % 2 == 0);
	end_open(&q, &quiet, false);
	q.io.turn = quiet_turn;
	turn(); /* all may write: told */
	for (unsigned round = 0; round < 400; round++) {
		size_t before = moved_bytes;
		bool left = !list_empty(&loud.ready);

		for (unsigned i = 0; i < 4; i++)
			mover_feed(&a[i], (round * 7919 + i * 104729) % 70000 + 1);
		assert_int_equal(send(q.peer, "q", 1, 0), 1);
		turn();
		assert_int_equal(q.bytes, round + 1); /* its turn was in this round */
		if (left) /* the others have work since before it came: it goes first */
			assert_int_equal(quiet_saw, before);
		most = moved_bytes - before > most ? moved_bytes - before : most;
	}
	assert_true(most < IO_QUANTUM + IO_MOVE_MAX);
	assert_true(most > IO_QUANTUM); /* it was at its limit */
	assert_true(moved_bytes > 200 * (size_t)IO_QUANTUM);
	for (int i = 0; i < 4; i++)
		end_close(&a[i]);
	end_close(&q);
	io_loop_close(&loop);
}

/* A timer, or another thread's work, has no share: what it writes waits for the turn. */
static void nothing_is_written_outside_of_a_turn(void **state)
{
	struct share share;
	struct end e;
	char c;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&share);
	end_open(&e, &share, false);
	e.lazy = true;
	turn();
	while (recv(e.peer, moved, sizeof moved, MSG_DONTWAIT) > 0)
		;
	e.turns = 0;
	e.io.ready = IO_WRITE;
	assert_int_equal(io_send(&e.io, "x", 1), -EAGAIN);
	assert_int_equal(recv(e.peer, &c, 1, MSG_DONTWAIT), -1);
	assert_true(e.io.told != 0); /* since when it waits for us */
	turn();
	assert_int_equal(e.turns, 1);
	end_close(&e);
	io_loop_close(&loop);
}

static struct end victim;
static unsigned freed;

static void victim_free(struct later *later)
{
	(void)later;
	freed++;
}

static void kill_turn(struct io *io)
{
	static struct later later;

	io->told = 0;
	io->ready = 0;
	if (victim.io.loop == NULL)
		return;
	io_wake(&victim.io); /* it stands in the ready list for certain */
	io_unwatch(&victim.io);
	loop_later(&loop, &later, victim_free);
	assert_int_equal(freed, 0);
}

static void what_was_closed_takes_no_turn_and_is_freed_last(void **state)
{
	struct share share;
	struct end killer;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&share);
	end_open(&killer, &share, true);
	killer.io.turn = kill_turn;
	end_open(&victim, &share, true);
	assert_int_equal(send(killer.peer, "x", 1, 0), 1);
	turn();
	assert_int_equal(victim.turns, 0);
	assert_int_equal(freed, 1);
	turn();
	assert_int_equal(victim.turns, 0);
	end_close(&killer);
	close(victim.io.fd);
	close(victim.peer);
	io_loop_close(&loop);
}

static void a_reset_is_told_as_an_error(void **state)
{
	struct share share;
	struct end e;

	(void)state;
	assert_int_equal(io_loop_init(&loop), 0);
	share_init(&share);
	end_open(&e, &share, false);
	e.lazy = true;
	assert_int_equal(send(e.io.fd, "unread", 6, 0), 6);
	close(e.peer); /* with bytes unread: ECONNRESET here */
	turn();
	assert_true(e.io.ready & IO_ERROR);
	e.peer = dup(0);
	end_close(&e);
	io_loop_close(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_edge_is_told_once_and_remembered),
		cmocka_unit_test(a_short_read_uses_the_edge_up),
		cmocka_unit_test(a_fin_is_read_behind_the_bytes_it_came_with),
		cmocka_unit_test(a_fin_behind_the_bytes_that_were_told_is_an_edge),
		cmocka_unit_test(what_follows_an_urgent_byte_is_read),
		cmocka_unit_test(a_loud_workload_does_not_starve_a_quiet_one),
		cmocka_unit_test(a_visit_moves_less_than_the_quantum_and_one_read_or_write),
		cmocka_unit_test(nothing_is_written_outside_of_a_turn),
		cmocka_unit_test(what_was_closed_takes_no_turn_and_is_freed_last),
		cmocka_unit_test(a_reset_is_told_as_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
