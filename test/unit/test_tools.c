/* SPDX-License-Identifier: Apache-2.0 */
/* The few shared tools: lists, slabs, addresses, deadlines, the directory. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/addr.h"
#include "proxy/deadline.h"
#include "proxy/identity.h"
#include "proxy/slab.h"

static void lists_keep_their_order_and_forgive_a_second_removal(void **state)
{
	struct list a, b, node[4];

	(void)state;
	list_init(&a);
	list_init(&b);
	for (int i = 0; i < 4; i++)
		list_append(i < 2 ? &a : &b, &node[i]);
	list_splice(&a, &b);
	assert_true(list_empty(&b));
	list_remove(&node[1]);
	list_remove(&node[1]);
	assert_ptr_equal(a.next, &node[0]);
	assert_ptr_equal(node[0].next, &node[2]);
	assert_ptr_equal(node[2].next, &node[3]);
	assert_ptr_equal(node[3].next, &a);
	list_splice(&a, &b); /* an empty one */
	assert_ptr_equal(a.prev, &node[3]);
}

static void a_slab_zeroes_what_it_is_told_to_and_keeps_a_bounded_number(void **state)
{
	struct slab s = {.size = 64, .zeroed = 40};
	static char *object[SLAB_KEEP + 10];

	(void)state;
	for (int i = 0; i < SLAB_KEEP + 10; i++) {
		object[i] = slab_get(&s);
		assert_non_null(object[i]);
		for (int at = 0; at < 40; at++)
			assert_int_equal(object[i][at], 0);
		memset(object[i], 'x', 64);
	}
	for (int i = 0; i < SLAB_KEEP + 10; i++)
		slab_put(&s, object[i]);
	assert_int_equal(s.kept, SLAB_KEEP);
	object[0] = slab_get(&s);
	for (int i = 0; i < 64; i++)
		assert_int_equal(object[0][i], i < 40 ? 0 : 'x');
	slab_put(&s, object[0]);
	slab_drop(&s);
	assert_int_equal(s.kept, 0);
}

static struct endpoint parse(int family, const char *text, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct endpoint e;

	if (family == AF_INET) {
		assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
		assert_true(endpoint_from_sockaddr(&e, (struct sockaddr *)&in));
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
		assert_true(endpoint_from_sockaddr(&e, (struct sockaddr *)&in6));
	}
	return e;
}

static void addresses_go_there_and_back(void **state)
{
	struct endpoint v4 = parse(AF_INET, "10.1.2.3", 80);
	struct endpoint mapped = parse(AF_INET6, "::ffff:10.1.2.3", 80);
	struct endpoint v6 = parse(AF_INET6, "fd00::1", 443);
	struct sockaddr_storage sa;
	struct endpoint back;

	(void)state;
	assert_memory_equal(&v4, &mapped, sizeof v4); /* one address, one form */
	assert_true(addr_is_v4(&v4.ip));
	assert_false(addr_is_v4(&v6.ip));
	assert_int_equal(endpoint_to_sockaddr(&v4, &sa), sizeof(struct sockaddr_in));
	assert_true(endpoint_from_sockaddr(&back, (struct sockaddr *)&sa));
	assert_memory_equal(&v4, &back, sizeof v4);
	assert_int_equal(endpoint_to_sockaddr(&v6, &sa), sizeof(struct sockaddr_in6));
	assert_true(endpoint_from_sockaddr(&back, (struct sockaddr *)&sa));
	assert_memory_equal(&v6, &back, sizeof v6);
	v4 = parse(AF_INET, "127.9.9.9", 1);
	v6 = parse(AF_INET6, "::1", 1);
	assert_true(addr_is_loopback(&v4.ip));
	assert_true(addr_is_loopback(&v6.ip));
	sa.ss_family = AF_UNIX;
	assert_false(endpoint_from_sockaddr(&back, (struct sockaddr *)&sa));
}

struct limit {
	struct deadline d;
	unsigned expired;
};

static void limit_expired(struct deadline *d)
{
	container_of(d, struct limit, d)->expired++;
}

static void deadlines_expire_in_order_unless_cleared(void **state)
{
	struct deadline_queue q;
	struct limit l[3] = {{.expired = 0}};
	uv_loop_t uv;

	(void)state;
	assert_int_equal(uv_loop_init(&uv), 0);
	assert_int_equal(deadline_queue_init(&q, &uv, 20), 0);
	for (int i = 0; i < 3; i++) {
		deadline_init(&l[i].d);
		deadline_set(&q, &l[i].d, limit_expired);
	}
	deadline_clear(&l[1].d);
	deadline_clear(&l[1].d);
	uv_run(&uv, UV_RUN_DEFAULT);
	assert_int_equal(l[0].expired, 1);
	assert_int_equal(l[1].expired, 0);
	assert_int_equal(l[2].expired, 1);
	deadline_set(&q, &l[1].d, limit_expired); /* after the queue ran empty */
	uv_run(&uv, UV_RUN_DEFAULT);
	assert_int_equal(l[1].expired, 1);
	deadline_queue_close(&q);
	uv_run(&uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&uv), 0);
}

static void the_directory_answers_by_address_and_by_index(void **state)
{
	struct label app = {"app", "api"};
	struct fleet_workload w = {.namespace = "shop",
				   .name = "api-1",
				   .spiffe_id = "spiffe://x/ns/shop/sa/api",
				   .labels = &app,
				   .label_count = 1};
	struct endpoint at = parse(AF_INET, "10.0.0.1", 0), host = parse(AF_INET, "10.0.0.9", 0);
	struct endpoint unknown = parse(AF_INET6, "2001:db8::1", 0);
	struct directory *d = directory_new();
	struct card *card = card_new(&w), *again = card_new(&w);
	struct directory_entry e;

	(void)state;
	assert_int_equal(directory_add_local(d, 3, 256, &at.ip, card), 0);
	assert_int_equal(directory_add(d, &at.ip, 256, 3, card), 0);
	assert_int_equal(directory_add(d, &host.ip, IDENTITY_HOST, DIRECTORY_NOT_LOCAL, NULL), 0);
	assert_int_equal(directory_add(d, &at.ip, IDENTITY_HOST, DIRECTORY_NOT_LOCAL, NULL), 0);
	e = directory_find(d, &at.ip);
	assert_int_equal(e.identity, 256); /* the first one stays */
	assert_true(slice_is(card_names(e.card)->workload, "api-1"));
	assert_true(slice_is(card_names(e.card)->app, "api"));
	assert_int_equal(directory_find(d, &host.ip).identity, IDENTITY_HOST);
	assert_int_equal(directory_find(d, &unknown.ip).identity, IDENTITY_WORLD);
	assert_int_equal(directory_local(d, 3).identity, 256);
	assert_int_equal(directory_local(d, 2).identity, IDENTITY_WORLD);
	assert_int_equal(directory_local(d, 99).identity, IDENTITY_WORLD);
	assert_true(slice_is(card_names(NULL)->workload, ""));
	assert_int_equal(card_names(NULL)->serial, 0);
	assert_true(card_names(card)->serial > 0);
	assert_true(card_names(again)->serial > card_names(card)->serial);
	card_unref(again);
	card_ref(card);
	card_unref(card);
	directory_unref(directory_ref(d));
	directory_unref(d);
	assert_true(slice_is(card_names(card)->namespace, "shop")); /* ours is still good */
	card_unref(card);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_keep_their_order_and_forgive_a_second_removal),
		cmocka_unit_test(a_slab_zeroes_what_it_is_told_to_and_keeps_a_bounded_number),
		cmocka_unit_test(addresses_go_there_and_back),
		cmocka_unit_test(deadlines_expire_in_order_unless_cleared),
		cmocka_unit_test(the_directory_answers_by_address_and_by_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
