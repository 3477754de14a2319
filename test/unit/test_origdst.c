/* SPDX-License-Identifier: Apache-2.0 */
/* Which slot belongs to an accepted socket: real sockets on slot addresses of loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/addr.h"
#include "proxy/origdst.h"
#include "proxy/worker.h"

#define SLOTS 256
#define NUMBER (SLOTS * 3 + 7) /* the third lap */
#define PLACE SLOT_PLACE(NUMBER, SLOTS)

static struct slot slots[SLOTS];
static struct dial dials[8];
static struct workload workloads[WORKLOADS_MAX];
static struct node node = {.slots = slots,
			   .slot_count = SLOTS,
			   .workloads = workloads,
			   .dials = dials,
			   .dial_count = 8,
			   .worker_count = 1};
static struct worker worker = {.node = &node};
static struct enrolled web = {.index = 1, .generation = 5, .netns = 99};

/* A connection to the slot's address; returns the accepted end. */
static int dial_slot(uint32_t number, uint16_t port, int *client)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1, door = socket(AF_INET, SOCK_STREAM, 0), fd;

	in.sin_addr.s_addr = htonl(EGRESS_NET4 | number);
	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(door, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(listen(door, 1), 0);
	*client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*client, (struct sockaddr *)&in, sizeof in), 0);
	fd = accept(door, NULL, NULL);
	close(door);
	assert_true(fd >= 0);
	return fd;
}

static void fill_slot(void)
{
	struct slot *s = &slots[PLACE];

	memset(slots, 0, sizeof slots);
	s->used = SLOT_WRITTEN;
	s->addr = htonl(EGRESS_NET4 | NUMBER);
	s->netns = 99;
	s->workload = 1;
	s->generation = 5;
	workloads[1] = (struct workload){.generation = 5, .slots_used = 3};
	s->dst = (struct endpoint){
		.ip = addr_from_v4(htonl(0x0a000002)), .port = htons(80), .family = AF_INET};
}

static int claim(uint32_t number, uint16_t port, struct origdst *out)
{
	int client, fd = dial_slot(number, port, &client);
	int err = origdst_claim(&worker, &web, LISTENER_EGRESS4, fd, out);

	close(fd);
	close(client);
	return err;
}

static void a_slot_is_claimed_once_and_given_back(void **state)
{
	struct origdst o, again;

	(void)state;
	fill_slot();
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &o), 0);
	assert_int_equal(slots[PLACE].used, SLOT_CLAIMED);
	assert_int_equal(ntohs(o.dst.port), 80);
	assert_int_equal(o.direction, DIRECTION_EGRESS);
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &again), -ENOENT);
	assert_null(again.slot);
	origdst_release(&o);
	origdst_release(&o);
	assert_int_equal(slots[PLACE].used, SLOT_FREE);
	assert_int_equal(workloads[1].slots_used, 2); /* once */
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &again), -ENOENT); /* nobody wrote it anew */
}

static void a_slot_of_somebody_else_is_never_claimed(void **state)
{
	struct origdst o;

	(void)state;
	fill_slot();
	assert_int_equal(claim(NUMBER + SLOTS, EGRESS_PORT, &o), -ENOENT); /* a later lap */
	assert_int_equal(claim(NUMBER, EGRESS_PORT + 1, &o), -ENOENT);
	slots[PLACE].netns = 98;
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &o), -ENOENT);
	fill_slot();
	slots[PLACE].generation = 4; /* of the workload that had the index before */
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &o), -ENOENT);
	fill_slot();
	slots[PLACE].workload = 2; /* of another one in the same namespace */
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &o), -ENOENT);
	assert_int_equal(slots[PLACE].used, SLOT_WRITTEN);
	fill_slot();
	assert_int_equal(claim(NUMBER, EGRESS_PORT, &o), 0);
}

static void a_slot_whose_syn_never_left_is_swept_soon(void **state)
{
	uint64_t second = UINT64_C(1000000000);

	(void)state;
	fill_slot();
	slots[PLACE].stamp = 100 * second;
	assert_int_equal(slots_sweep(&node, 105 * second), 0);
	assert_int_equal(slots_sweep(&node, 111 * second), 1);
}

static void a_slot_whose_connection_never_came_is_swept(void **state)
{
	uint64_t second = UINT64_C(1000000000);

	(void)state;
	fill_slot();
	slots[PLACE].stamp = 100 * second;
	slots[3].used = SLOT_CLAIMED; /* in use: however long */
	slots[3].stamp = 1;
	slots[4].used = SLOT_WRITTEN; /* being written: not stamped yet */
	slots[PLACE].dialled = 1;
	assert_int_equal(slots_sweep(&node, 275 * second), 0); /* a SYN is tried for 127 s */
	assert_int_equal(slots_sweep(&node, 281 * second), 1);
	assert_int_equal(workloads[1].slots_used, 2);
	assert_int_equal(slots[PLACE].used, SLOT_FREE);
	assert_int_equal(slots[PLACE].stamp, 0);
	assert_int_equal(slots[3].used, SLOT_CLAIMED);
	assert_int_equal(slots[4].used, SLOT_WRITTEN);
}

/* Its server hears of it as it would without us. */
static void who_reset_while_it_waited_is_known_all_the_same(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;
	struct linger now = {.l_onoff = 1};
	struct origdst o;
	int client, fd;

	(void)state;
	fill_slot();
	fd = dial_slot(NUMBER, EGRESS_PORT, &client);
	assert_int_equal(getsockname(client, (struct sockaddr *)&in, &len), 0);
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(client);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&in, &len), -1);
	assert_int_equal(origdst_claim(&worker, &web, LISTENER_EGRESS4, fd, &o), 0);
	assert_int_equal(o.client.port, in.sin_port);
	origdst_release(&o);
	close(fd);
}

static void a_socket_without_a_peer_keeps_no_slot(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(EGRESS_PORT)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	struct origdst o;

	(void)state;
	fill_slot();
	in.sin_addr.s_addr = htonl(EGRESS_NET4 | NUMBER);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(origdst_claim(&worker, &web, LISTENER_EGRESS4, fd, &o), -ENOTCONN);
	assert_null(o.slot);
	assert_int_equal(slots[PLACE].used, SLOT_FREE);
	close(fd);
}

static void a_steered_socket_is_not_a_loopback_one(void **state)
{
	struct origdst o;
	int client, fd = dial_slot(NUMBER, EGRESS_PORT, &client);

	(void)state;
	assert_int_equal(origdst_claim(&worker, &web, LISTENER_INGRESS4, fd, &o), -ENOENT);
	close(fd);
	close(client);
}

static void a_dial_record_is_whole_before_the_syn_and_outlives_the_connection(void **state)
{
	struct endpoint who = {.ip = addr_from_v4(htonl(0x0a000001)), .port = htons(4711)};
	static uint32_t numbers[8];
	struct sockaddr_in in;
	socklen_t len = sizeof in;
	int64_t n[9];
	int fd;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		numbers[i] = i;
	worker.free_dials = numbers;
	worker.dial_share = worker.free_dial_count = 8;
	for (int i = 0; i < 8; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		n[i] = dial_bind(&worker, &web, fd, &who);
		assert_int_equal(n[i], i);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
		assert_int_equal(ntohl(in.sin_addr.s_addr), DIAL_NET4 | (unsigned)i);
		assert_int_equal(dials[i].sport, in.sin_port);
		assert_int_equal(dials[i].netns, 99);
		assert_memory_equal(&dials[i].client, &who, sizeof who);
		assert_int_equal(dials[i].used, 1);
		close(fd);
	}
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(dial_bind(&worker, &web, fd, &who), -EADDRNOTAVAIL);
	dial_release(&worker, n[3]);
	dial_release(&worker, n[1]);
	dial_release(&worker, -1);
	assert_int_equal(dials[3].used, 1); /* until it is taken again */
	assert_int_equal(dial_bind(&worker, &web, fd, &who), 3); /* the oldest first */
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_is_claimed_once_and_given_back),
		cmocka_unit_test(a_slot_of_somebody_else_is_never_claimed),
		cmocka_unit_test(a_slot_whose_syn_never_left_is_swept_soon),
		cmocka_unit_test(a_slot_whose_connection_never_came_is_swept),
		cmocka_unit_test(who_reset_while_it_waited_is_known_all_the_same),
		cmocka_unit_test(a_socket_without_a_peer_keeps_no_slot),
		cmocka_unit_test(a_steered_socket_is_not_a_loopback_one),
		cmocka_unit_test(a_dial_record_is_whole_before_the_syn_and_outlives_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
