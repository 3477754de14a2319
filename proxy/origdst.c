/* SPDX-License-Identifier: Apache-2.0 */
/* Original destinations and dial records: see origdst.h. */
#include "proxy/origdst.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/addr.h"
#include "proxy/worker.h"

static bool name_of(int fd, struct endpoint *e)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
	       endpoint_from_sockaddr(e, (struct sockaddr *)&sa);
}

/* getpeername() would not tell the name of who has reset the connection already. This wants to
 * know the size of the name beforehand. */
static bool peer_of(int fd, bool v4, struct endpoint *e)
{
	struct sockaddr_storage sa;
	socklen_t len = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	return getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &sa, &len) == 0 &&
	       endpoint_from_sockaddr(e, (struct sockaddr *)&sa);
}

/* The number in an egress slot's address, of either family; false for any other address. */
static bool slot_number(const struct endpoint *local, uint32_t *addr)
{
	uint32_t low = ntohl(local->ip.word[3]);

	if (!addr_is_v4(&local->ip) &&
	    (local->ip.word[0] != htonl(SLOT6_WORD0) || local->ip.word[1] != htonl(SLOT6_WORD1)))
		return false;
	*addr = low;
	return (low & SLOT_NET4_MASK) == EGRESS_NET4;
}

static struct slot *slot_claim(struct worker *w, const struct enrolled *e, uint32_t addr)
{
	struct slot *s = &w->node->slots[SLOT_PLACE(addr, w->node->slot_count)];
	uint32_t expected = SLOT_WRITTEN;

	/* Acquire pairs with the program's stores before `addr`. */
	if (__atomic_load_n(&s->addr, __ATOMIC_ACQUIRE) != htonl(addr) || s->netns != e->netns ||
	    s->workload != e->index || s->generation != e->generation)
		return NULL;
	if (!__atomic_compare_exchange_n(&s->used, &expected, SLOT_CLAIMED, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return NULL;
	if (__atomic_load_n(&s->addr, __ATOMIC_ACQUIRE) == htonl(addr))
		return s;
	/* Swept and taken anew between the two looks: it is somebody else's. */
	__atomic_store_n(&s->used, SLOT_WRITTEN, __ATOMIC_RELEASE);
	return NULL;
}

/* The slot first: it is to be given back even if its connection is dead already. */
static int egress_claim(struct worker *w, const struct enrolled *e, const struct endpoint *local,
			struct origdst *out)
{
	uint32_t addr;

	if (!slot_number(local, &addr) || local->port != htons(EGRESS_PORT))
		return -ENOENT;
	out->slot = slot_claim(w, e, addr);
	if (out->slot == NULL)
		return -ENOENT;
	out->direction = DIRECTION_EGRESS;
	out->dst = out->slot->dst;
	return 0;
}

static int ingress_claim(const struct endpoint *local, struct origdst *out)
{
	if (addr_is_loopback(&local->ip))
		return -ENOENT; /* dialled, not steered: we would dial ourselves for ever */
	out->direction = DIRECTION_INGRESS;
	out->dst = *local;
	return 0;
}

static int explicit_claim(const struct enrolled *e, struct origdst *out)
{
	out->direction = DIRECTION_INGRESS;
	out->dst = *e->upstream;
	return 0;
}

int origdst_claim(struct worker *w, const struct enrolled *e, enum listener_kind kind, int fd,
		  struct origdst *out)
{
	bool egress = kind == LISTENER_EGRESS4 || kind == LISTENER_EGRESS6;
	struct endpoint local;
	int err;

	*out = (struct origdst){.slot = NULL, .node = w->node};
	if (!name_of(fd, &local))
		return -ENOTCONN;
	if (e->upstream != NULL)
		err = explicit_claim(e, out);
	else
		err = egress ? egress_claim(w, e, &local, out) : ingress_claim(&local, out);
	if (err == 0 && !peer_of(fd, local.family == AF_INET, &out->client)) {
		origdst_release(out);
		err = -ENOTCONN;
	}
	out->arrived = err == 0 && !egress && e->upstream == NULL;
	if (out->arrived)
		__atomic_fetch_add(&w->node->globals->arrivals_open, 1, __ATOMIC_RELAXED);
	return err;
}

/* The share of a workload that left is nobody's: its index may be another's by now. */
static void share_give(struct node *node, uint32_t index, uint32_t generation)
{
	struct workload *w = index < WORKLOADS_MAX ? &node->workloads[index] : NULL;

	if (w != NULL && w->generation == generation)
		__atomic_fetch_sub(&w->slots_used, 1, __ATOMIC_RELAXED);
}

void slot_free(struct node *node, struct slot *s)
{
	uint32_t index = s->workload, generation = s->generation;

	/* The next connect() takes the slot before it stamps it: no old stamp for the sweep. */
	__atomic_store_n(&s->stamp, 0, __ATOMIC_RELAXED);
	if (__atomic_exchange_n(&s->used, SLOT_FREE, __ATOMIC_ACQ_REL) != SLOT_FREE)
		share_give(node, index, generation);
}

void origdst_release(struct origdst *o)
{
	if (o->slot != NULL)
		slot_free(o->node, o->slot);
	o->slot = NULL;
	if (o->arrived)
		__atomic_fetch_sub(&o->node->globals->arrivals_open, 1, __ATOMIC_RELAXED);
	o->arrived = false;
}

/* ns between connect() and our accept(). A SYN is tried for some 127 s; whoever waits longer
 * than that in an accept queue is reset. One that never left is of a connect() that failed (no
 * route, no port), or of one that waits for its first write (TCP_FASTOPEN_CONNECT). */
#define SLOT_LIFE UINT64_C(180000000000)
#define SLOT_LIFE_UNDIALLED UINT64_C(10000000000)

static bool slot_is_lost(const struct slot *s, uint64_t now)
{
	uint64_t stamp = __atomic_load_n(&s->stamp, __ATOMIC_ACQUIRE);
	uint32_t dialled = __atomic_load_n(&s->dialled, __ATOMIC_RELAXED);

	return __atomic_load_n(&s->used, __ATOMIC_ACQUIRE) == SLOT_WRITTEN && stamp != 0 &&
	       now > stamp && now - stamp >= (dialled ? SLOT_LIFE : SLOT_LIFE_UNDIALLED);
}

unsigned slots_sweep(struct node *node, uint64_t now)
{
	unsigned swept = 0;

	for (uint32_t i = 0; i < node->slot_count; i++) {
		struct slot *s = &node->slots[i];
		uint32_t expected = SLOT_WRITTEN;

		/* Claimed first: one that a worker accepts this very moment is the worker's. */
		if (!slot_is_lost(s, now) ||
		    !__atomic_compare_exchange_n(&s->used, &expected, SLOT_CLAIMED, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		slot_free(node, s);
		swept++;
	}
	return swept;
}

#define SLOT_EXPECTED UINT64_C(2000000000) /* ns: a SYN that was lost is sent again after one s */

unsigned slots_expected(const struct node *node, uint64_t now)
{
	unsigned expected = 0;

	for (uint32_t i = 0; i < node->slot_count; i++) {
		const struct slot *s = &node->slots[i];
		uint64_t stamp = __atomic_load_n(&s->stamp, __ATOMIC_ACQUIRE);

		/* Without a stamp it is being written. */
		expected += __atomic_load_n(&s->used, __ATOMIC_ACQUIRE) == SLOT_WRITTEN &&
			    (stamp == 0 || now < stamp + SLOT_EXPECTED);
	}
	return expected;
}

static void dial_address(uint32_t number, bool v4, struct endpoint *e)
{
	uint32_t low = htonl(DIAL_NET4 | number);

	*e = (struct endpoint){.family = v4 ? AF_INET : AF_INET6};
	if (v4)
		e->ip = addr_from_v4(low);
	else
		e->ip = (struct addr16){{htonl(SLOT6_WORD0), htonl(SLOT6_WORD1), 0, low}};
}

static int bind_and_name(int fd, uint32_t number, bool v4, uint16_t *port)
{
	struct sockaddr_storage sa;
	struct endpoint e;
	socklen_t len;
	int on = 1;

	dial_address(number, v4, &e);
	len = endpoint_to_sockaddr(&e, &sa);
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		return -errno;
	/* Lets an application take the same port number on the wildcard address. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		return -errno;
	if (!name_of(fd, &e))
		return -errno;
	*port = e.port;
	return 0;
}

/* A ring of numbers: taken at the front, given back at the end. */
static uint32_t number_take(struct worker *w)
{
	uint32_t number = w->free_dials[w->free_dial_first];

	w->free_dial_first = (w->free_dial_first + 1) % w->dial_share;
	w->free_dial_count--;
	return number;
}

static void number_give(struct worker *w, uint32_t number)
{
	w->free_dials[(w->free_dial_first + w->free_dial_count) % w->dial_share] = number;
	w->free_dial_count++;
}

int64_t dial_bind(struct worker *w, const struct enrolled *e, int fd, const struct endpoint *client)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof own;
	uint32_t number;
	uint16_t port = 0;
	struct dial *d;
	int err;

	if (w->free_dial_count == 0)
		return -EADDRNOTAVAIL;
	if (getsockname(fd, (struct sockaddr *)&own, &len) < 0)
		return -errno;
	number = number_take(w);
	d = &w->node->dials[number];
	__atomic_store_n(&d->used, 0, __ATOMIC_RELEASE);
	err = bind_and_name(fd, number, own.ss_family == AF_INET, &port);
	if (err < 0) {
		number_give(w, number);
		return err;
	}
	d->netns = e->netns;
	d->client = *client;
	d->sport = port;
	__atomic_store_n(&d->used, 1, __ATOMIC_RELEASE);
	return number;
}

void dial_release(struct worker *w, int64_t number)
{
	if (number >= 0)
		number_give(w, (uint32_t)number);
}
