/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
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
		assert_true(a.bytes + b.bytes - before <= IO_QUANTUM + 16384);
	}
	assert_true(a.bytes > 0 && b.bytes > 0);
	assert_int_equal(c.bytes, 200);
	end_close(&a);
	end_close(&b);
	end_close(&c);
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
		cmocka_unit_test(a_loud_workload_does_not_starve_a_quiet_one),
		cmocka_unit_test(what_was_closed_takes_no_turn_and_is_freed_last),
		cmocka_unit_test(a_reset_is_told_as_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
