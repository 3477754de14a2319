/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered sets of excluded ports and networks, as the kernel's maps get them. */
#include <arpa/inet.h>
#include <errno.h>

#include "config_load.h"
#include "failmalloc.h"
#include "proxy/addr.h"
#include "proxy/exclusions.h"

#define MANY 400000U /* pairs of ports; some 37 of their hashes meet */

static struct cidr cidr4(const char *ip, unsigned bits)
{
	struct in_addr in;

	assert_int_equal(inet_pton(AF_INET, ip, &in), 1);
	return (struct cidr){addr_from_v4(in.s_addr), 96 + bits};
}

static struct fleet_workload excluding(const uint16_t *ports, size_t port_count,
				       const struct cidr *cidrs, size_t cidr_count)
{
	return (struct fleet_workload){
		.selector = SELECTOR_NETNS,
		.exclude = {ports, port_count, cidrs, cidr_count},
	};
}

static struct exclusions built(const struct fleet_workload *w, size_t n)
{
	const struct fleet fleet = {.workloads = w, .workload_count = n};
	struct exclusions x;

	assert_int_equal(exclusions_build(&x, &fleet), 0);
	return x;
}

/* The number of one alone. */
static uint32_t number_of(const struct fleet_workload *w)
{
	struct exclusions x = built(w, 1);
	uint32_t number = x.sets[0];

	exclusions_free(&x);
	return number;
}

static void who_excludes_the_same_shares_a_set(void **state)
{
	const uint16_t a[] = {80, 443}, b[] = {80, 443};
	const struct cidr c[] = {cidr4("10.0.0.0", 8)}, d[] = {cidr4("10.0.0.0", 8)};
	const struct fleet_workload w[] = {excluding(a, 2, c, 1), excluding(b, 2, d, 1)};
	struct exclusions x = built(w, 2);

	(void)state;
	assert_int_not_equal(x.sets[0], 0);
	assert_int_equal(x.sets[0], x.sets[1]);
	assert_int_equal(x.port_count, 2); /* once */
	assert_int_equal(x.cidr_count, 1);
	exclusions_free(&x);
}

static void who_excludes_another_thing_has_a_set_of_his_own(void **state)
{
	const uint16_t ports[] = {80, 443};
	const struct cidr c[] = {cidr4("10.0.0.0", 8), cidr4("10.0.0.0", 9), cidr4("11.0.0.0", 8)};
	const struct fleet_workload w[] = {
		excluding(ports, 1, NULL, 0),	  excluding(ports, 2, NULL, 0),
		excluding(ports + 1, 1, NULL, 0), excluding(NULL, 0, c, 1),
		excluding(NULL, 0, c + 1, 1),	  excluding(NULL, 0, c + 2, 1),
		excluding(NULL, 0, c, 2),	  excluding(ports, 1, c, 1)};
	struct exclusions x = built(w, 8);

	(void)state;
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < i; k++)
			assert_int_not_equal(x.sets[i], x.sets[k]);
	exclusions_free(&x);
}

static void who_excludes_nothing_or_is_not_here_has_none(void **state)
{
	const uint16_t ports[] = {80};
	struct fleet_workload w[] = {excluding(NULL, 0, NULL, 0), excluding(ports, 1, NULL, 0)};
	struct exclusions x;

	(void)state;
	w[1].selector = SELECTOR_NONE;
	x = built(w, 2);
	assert_int_equal(x.sets[0], 0);
	assert_int_equal(x.sets[1], 0);
	assert_int_equal(x.port_count + x.cidr_count, 0);
	exclusions_free(&x);
	x = built(NULL, 0);
	assert_int_equal(exclusions_entries(&x).port_count, 0);
	exclusions_free(&x);
}

static void a_set_keeps_its_number_whoever_else_is_there(void **state)
{
	const uint16_t a[] = {80}, b[] = {443};
	const struct fleet_workload one = excluding(a, 1, NULL, 0);
	const struct fleet_workload both[] = {excluding(b, 1, NULL, 0), excluding(NULL, 0, NULL, 0),
					      one};
	struct exclusions x = built(both, 3);

	(void)state;
	assert_int_equal(x.sets[2], number_of(&one));
	assert_int_equal(x.sets[0], number_of(&both[0]));
	exclusions_free(&x);
}

static void entries_are_as_the_kernel_asks(void **state)
{
	const uint16_t ports[] = {0x1234};
	const struct cidr c[] = {cidr4("10.1.0.0", 16), {{{0}}, 0}};
	const struct fleet_workload w = excluding(ports, 1, c, 2);
	struct exclusions x = built(&w, 1);
	struct loader_exclusions e = exclusions_entries(&x);

	(void)state;
	assert_int_equal(e.port_count, 1);
	assert_int_equal(e.ports[0].key.set, x.sets[0]);
	assert_int_equal(e.ports[0].key.port, htons(0x1234));
	assert_int_equal(e.ports[0].key.pad, 0);
	assert_int_equal(e.ports[0].one, 1);
	assert_int_equal(e.cidr_count, 2);
	assert_int_equal(e.cidrs[0].key.prefix, 32 + 96 + 16);
	assert_int_equal(e.cidrs[0].key.set, x.sets[0]);
	assert_memory_equal(&e.cidrs[0].key.ip, &c[0].ip, sizeof c[0].ip);
	assert_int_equal(e.cidrs[0].one, 1);
	assert_int_equal(e.cidrs[1].key.prefix, 32); /* whatever address, of this set */
	exclusions_free(&x);
}

struct numbered {
	uint32_t number;
	uint16_t ports[2];
};

static int by_number(const void *a, const void *b)
{
	uint32_t x = ((const struct numbered *)a)->number, y = ((const struct numbered *)b)->number;

	return (x > y) - (x < y);
}

/* Two different ones that have the same number, each alone. */
static void find_two_that_meet(struct numbered *a, struct numbered *b)
{
	struct numbered *all = calloc(MANY, sizeof *all);
	uint32_t at = 0;

	assert_non_null(all);
	for (uint32_t i = 0; i < MANY; i++) {
		struct fleet_workload w;

		all[i].ports[0] = (uint16_t)(1 + i % 1000);
		all[i].ports[1] = (uint16_t)(2000 + i / 1000);
		w = excluding(all[i].ports, 2, NULL, 0);
		all[i].number = number_of(&w);
	}
	qsort(all, MANY, sizeof *all, by_number);
	while (at + 2 < MANY && all[at].number != all[at + 1].number)
		at++;
	*a = all[at];
	*b = all[at + 1];
	free(all);
	assert_int_equal(a->number, b->number);
}

static void two_whose_hashes_meet_have_a_set_each(void **state)
{
	struct numbered a, b;
	struct exclusions x;

	(void)state;
	find_two_that_meet(&a, &b);
	{
		const struct fleet_workload w[] = {
			excluding(a.ports, 2, NULL, 0), excluding(b.ports, 2, NULL, 0),
			excluding(b.ports, 2, NULL, 0), excluding(a.ports, 2, NULL, 0)};

		x = built(w, 4);
	}
	assert_int_equal(x.sets[0], a.number);
	assert_int_not_equal(x.sets[1], x.sets[0]);
	assert_int_not_equal(x.sets[1], 0);
	assert_int_equal(x.sets[2], x.sets[1]);
	assert_int_equal(x.sets[3], x.sets[0]);
	assert_int_equal(x.port_count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(x.ports[i].key.set, x.sets[i / 2]);
	exclusions_free(&x);
}

/* The build puts lists in order: however they are written, the number is the same. */
static void the_order_of_a_document_does_not_matter(void **state)
{
	struct loaded l = load(
		"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a, namespace: shop}\n"
		"spec: {labels: {app: a}, selectors: ['netns:/a'],\n"
		"  exclude: {ports: [443, 80], cidrs: [192.0.2.0/24, 10.0.0.0/8]}}\n---\n"
		"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: b, namespace: shop}\n"
		"spec: {labels: {app: b}, selectors: ['netns:/b'],\n"
		"  exclude: {cidrs: [10.0.0.0/8, 192.0.2.0/24], ports: [80, 443]}}\n");
	struct exclusions x;

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(exclusions_build(&x, l.s.fleet), 0);
	assert_int_not_equal(x.sets[0], 0);
	assert_int_equal(x.sets[0], x.sets[1]);
	exclusions_free(&x);
	unload(&l);
}

static void each_allocation_that_fails_is_reported(void **state)
{
	const uint16_t ports[] = {80, 443};
	const struct cidr c[] = {cidr4("10.0.0.0", 8)};
	const struct fleet_workload w[] = {excluding(ports, 2, c, 1), excluding(ports, 1, c, 1)};
	const struct fleet fleet = {.workloads = w, .workload_count = 2};
	struct exclusions x;
	unsigned n;
	int err;

	(void)state;
	for (n = 1;; n++) {
		failmalloc_at(n);
		err = exclusions_build(&x, &fleet);
		if (!failmalloc_hit())
			break;
		assert_int_equal(err, -ENOMEM);
		exclusions_free(&x);
		exclusions_free(&x); /* harmless */
	}
	assert_int_equal(err, 0);
	assert_int_equal(n, 6); /* the numbers, and two arrays for each set */
	exclusions_free(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_excludes_the_same_shares_a_set),
		cmocka_unit_test(who_excludes_another_thing_has_a_set_of_his_own),
		cmocka_unit_test(who_excludes_nothing_or_is_not_here_has_none),
		cmocka_unit_test(a_set_keeps_its_number_whoever_else_is_there),
		cmocka_unit_test(entries_are_as_the_kernel_asks),
		cmocka_unit_test(two_whose_hashes_meet_have_a_set_each),
		cmocka_unit_test(the_order_of_a_document_does_not_matter),
		cmocka_unit_test(each_allocation_that_fails_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
