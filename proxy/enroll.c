/* SPDX-License-Identifier: Apache-2.0 */
/* Local workloads, from document to capture: see enroll.h. */
#include "proxy/enroll.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/log.h"
#include "proxy/origdst.h"

#define YOUNG_NS UINT64_C(10000000000) /* its addresses are looked at each time */
#define REFRESH_AT_ONCE 8 /* of the others */

void enroll_adopt(struct enrollment *e, struct loader *l, struct node *node)
{
	size_t n = loader_workload_list(l, NULL, NULL, 0);
	uint64_t *netns = calloc(n ? n : 1, sizeof *netns);
	struct workload *w = calloc(n ? n : 1, sizeof *w);

	e->adopted = calloc(n ? n : 1, sizeof *e->adopted);
	if (netns != NULL && w != NULL && e->adopted != NULL)
		n = loader_workload_list(l, netns, w, n);
	else
		n = 0;
	for (size_t i = 0; i < n; i++) {
		if (w[i].index >= WORKLOADS_MAX)
			continue;
		e->generations[w[i].index] = w[i].generation;
		e->adopted[e->adopted_count++] = (struct adopted){netns[i], w[i].index};
	}
	free(netns);
	free(w);
	/* Whoever had claimed a slot died with the daemon before us. */
	for (uint32_t i = 0; i < node->slot_count; i++)
		if (__atomic_load_n(&node->slots[i].used, __ATOMIC_RELAXED) != SLOT_FREE)
			slot_free(&node->slots[i]);
}

/* The place this namespace had under the daemon before us, or NULL. */
static struct adopted *adopted_place(const struct enrollment *e, uint64_t netns)
{
	for (size_t i = 0; i < e->adopted_count; i++)
		if (e->adopted[i].netns == netns)
			return &e->adopted[i];
	return NULL;
}

struct member *enroll_find(const struct enrollment *e, const struct fleet_workload *w)
{
	for (unsigned i = 0; i < WORKLOADS_MAX; i++) {
		struct member *m = e->members[i];

		if (m != NULL && strcmp(m->name, w->name) == 0 &&
		    strcmp(m->namespace, w->namespace) == 0)
			return m;
	}
	return NULL;
}

static bool member_is_current(const struct member *m)
{
	struct stat st;

	return stat(m->path, &st) == 0 && st.st_dev == m->device && st.st_ino == m->inode;
}

static void member_free(struct member *m)
{
	netns_pool_free(m->enrolled.pool);
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		if (m->enrolled.listeners[kind] >= 0)
			close(m->enrolled.listeners[kind]);
	if (m->enrolled.netns_fd >= 0)
		close(m->enrolled.netns_fd);
	free(m->namespace);
	free(m->name);
	free(m->path);
	free(m);
}

/* The first address of each family, documents before what is found. */
static void member_own(struct member *m, const struct fleet_workload *w)
{
	m->ip4 = m->ip6 = (struct addr16){{0}};
	for (size_t i = w->address_count + m->address_count; i-- > 0;) {
		const struct addr16 *ip = i < w->address_count
						  ? &w->addresses[i]
						  : &m->addresses[i - w->address_count];

		if (addr_is_v4(ip))
			m->ip4 = *ip;
		else
			m->ip6 = *ip;
	}
}

/* Reads the addresses of the namespace; true when they are others than before. */
static bool member_read_addresses(struct member *m)
{
	struct addr16 found[OWN_ADDRESSES_MAX];
	int n = netns_addresses(m->enrolled.netns_fd, found, OWN_ADDRESSES_MAX);
	unsigned count = n > OWN_ADDRESSES_MAX ? OWN_ADDRESSES_MAX : (unsigned)n;

	if (n < 0)
		return false; /* what was known stays */
	if (n > OWN_ADDRESSES_MAX && m->address_count < count)
		log_warnx("workload %s/%s: %d addresses, %d are read; name the others in its "
			  "document",
			  m->namespace, m->name, n, OWN_ADDRESSES_MAX);
	if (count == m->address_count && memcmp(found, m->addresses, count * sizeof found[0]) == 0)
		return false;
	memcpy(m->addresses, found, count * sizeof found[0]);
	m->address_count = count;
	m->captured = false; /* the kernel is to be told */
	return true;
}

static int member_open(struct member *m, const struct fleet_workload *w)
{
	struct enrolled *en = &m->enrolled;
	struct stat st;
	int err;

	m->namespace = strdup(w->namespace);
	m->name = strdup(w->name);
	m->path = strdup(w->selected);
	if (m->namespace == NULL || m->name == NULL || m->path == NULL)
		return -ENOMEM;
	en->netns_fd = netns_open(w->selected, &en->netns);
	if (en->netns_fd < 0)
		return en->netns_fd;
	if (fstat(en->netns_fd, &st) < 0)
		return -errno;
	m->device = st.st_dev;
	m->inode = st.st_ino;
	err = netns_listen(en->netns_fd, en->listeners);
	if (err < 0)
		return err;
	en->pool = netns_pool_new(en->netns_fd);
	return en->pool ? 0 : -ENOMEM;
}

struct seating {
	const struct enrolled *enrolled;
	enum reason why;
	_Atomic int err;
};

static void seat_open_call(struct worker *w, void *arg)
{
	struct seating *s = arg;
	int err = seat_open(w, s->enrolled);

	if (err < 0)
		s->err = err;
}

static void seat_close_call(struct worker *w, void *arg)
{
	struct seating *s = arg;

	seat_close(w, s->enrolled, s->why);
}

static void member_unseat(struct member *m, struct node *node, enum reason why)
{
	struct seating s = {.enrolled = &m->enrolled, .why = why};

	workers_call(node, seat_close_call, &s);
}

static bool index_is_adopted(const struct enrollment *e, uint32_t index)
{
	for (size_t i = 0; i < e->adopted_count; i++)
		if (e->adopted[i].netns != 0 && e->adopted[i].index == index)
			return true;
	return false;
}

/* Its own place if a daemon before us gave it one, with the generation it had; else a free one
 * that nobody may come back to. */
static int member_place(struct enrollment *e, struct member *m)
{
	struct adopted *a = adopted_place(e, m->enrolled.netns);
	uint32_t i = 0;

	if (a != NULL && e->members[a->index] == NULL) {
		m->enrolled.index = a->index;
		m->enrolled.generation = e->generations[a->index];
		m->known = true;
		return 0;
	}
	while (i < WORKLOADS_MAX && (e->members[i] != NULL || index_is_adopted(e, i)))
		i++;
	if (i == WORKLOADS_MAX)
		return -ENOSPC;
	m->enrolled.index = i;
	m->enrolled.generation = ++e->generations[i];
	return 0;
}

/* Only now: one that failed half-way comes back to its place. */
static void place_taken(struct enrollment *e, uint64_t netns)
{
	struct adopted *a = adopted_place(e, netns);

	if (a != NULL)
		a->netns = 0;
}

static int enroll_one(struct enrollment *e, struct node *node, const struct fleet_workload *w)
{
	struct member *m = calloc(1, sizeof *m);
	struct seating s = {.err = 0};
	int err;

	if (m == NULL)
		return -ENOMEM;
	m->enrolled.netns_fd = -1;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		m->enrolled.listeners[kind] = -1;
	err = member_open(m, w);
	if (err == 0)
		err = member_place(e, m);
	if (err < 0) {
		member_free(m);
		return err;
	}
	m->opened = io_now();
	member_read_addresses(m);
	member_own(m, w);
	s.enrolled = &m->enrolled;
	workers_call(node, seat_open_call, &s);
	if (s.err < 0) {
		member_unseat(m, node, REASON_INTERNAL);
		member_free(m);
		return s.err;
	}
	e->members[m->enrolled.index] = m;
	place_taken(e, m->enrolled.netns);
	return 0;
}

static void absentees_free(struct absentee *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(a[i].namespace);
		free(a[i].name);
		free(a[i].path);
	}
	free(a);
}

static void absentee_add(struct enrollment *e, const struct fleet_workload *w, int err)
{
	struct absentee *grown = realloc(e->absent, (e->absent_count + 1) * sizeof *grown);
	struct absentee *a;

	if (grown == NULL)
		return;
	e->absent = grown;
	a = &grown[e->absent_count++];
	a->namespace = strdup(w->namespace);
	a->name = strdup(w->name);
	a->path = strdup(w->selected);
	a->err = -err;
}

/* Was it absent for the same reason before? Then the log has said so. */
static bool is_news(const struct absentee *before, size_t n, const struct fleet_workload *w,
		    int err)
{
	for (size_t i = 0; i < n; i++)
		if (before[i].err == -err && before[i].path != NULL &&
		    strcmp(before[i].path, w->selected) == 0)
			return false;
	return true;
}

void enroll_open(struct enrollment *e, struct node *node, const struct fleet *fleet)
{
	struct absentee *before = e->absent;
	size_t before_count = e->absent_count;

	e->absent = NULL;
	e->absent_count = 0;
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];
		struct member *m = w->selector == SELECTOR_NETNS ? enroll_find(e, w) : NULL;
		int err;

		if (m != NULL)
			member_own(m, w);
		if (w->selector != SELECTOR_NETNS || m != NULL)
			continue;
		err = enroll_one(e, node, w);
		if (err == 0) {
			log_info("workload %s/%s: enrolled (%s)", w->namespace, w->name,
				 w->selected);
			continue;
		}
		absentee_add(e, w, err);
		if (is_news(before, before_count, w, err))
			log_warnx("workload %s/%s: not enrolled: %s: %s", w->namespace, w->name,
				  w->selected, strerror(-err));
	}
	absentees_free(before, before_count);
}

static struct workload kernel_workload(const struct member *m)
{
	return (struct workload){
		.index = m->enrolled.index,
		.generation = m->enrolled.generation,
		.identity = m->identity,
		.flags = WORKLOAD_EGRESS | WORKLOAD_INGRESS,
		.ip4 = m->ip4,
		.ip6 = m->ip6,
	};
}

/* One that is new is not judged before its inbound program is there: a connect() captured in
 * between would find nobody to take it. One that is known goes on being judged meanwhile. */
static int member_capture(struct member *m, struct loader *l)
{
	struct workload w = kernel_workload(m);
	struct workload quiet = w;
	int err = 0;

	quiet.flags = m->known ? w.flags : 0;
	for (int kind = 0; kind < LISTENER_KINDS && err == 0; kind++)
		if (m->enrolled.listeners[kind] >= 0)
			err = loader_listener_put(l, w.index, (enum listener_kind)kind,
						  m->enrolled.listeners[kind]);
	if (err == 0)
		err = loader_workload_put(l, m->enrolled.netns, &quiet);
	if (err == 0)
		err = loader_inbound_attach(l, m->enrolled.netns_fd, m->enrolled.netns, &w);
	if (err == 0 && !m->known)
		err = loader_workload_put(l, m->enrolled.netns, &w);
	m->captured = err == 0;
	m->known |= m->captured;
	return err;
}

int enroll_capture(struct enrollment *e, struct loader *l, const struct fleet *fleet, bool *held)
{
	int last = 0;

	*held = false;
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];
		struct member *m = w->selector == SELECTOR_NETNS ? enroll_find(e, w) : NULL;
		int err;

		if (m == NULL || (m->captured && m->identity == w->identity))
			continue;
		m->identity = w->identity;
		err = member_capture(m, l);
		if (err == 0) {
			m->judged_as = m->identity;
			continue;
		}
		last = err;
		/* Its programs of before go on by the identity of before (0: of another life). */
		*held |= m->known && m->judged_as != m->identity;
		log_errx("workload %s/%s: NOT CAPTURED, its traffic may pass unjudged: %s",
			 m->namespace, m->name, loader_error(l));
	}
	return last;
}

/* Its namespace goes on as another member (renamed, or its path spelled in another way): what
 * the kernel has of it stays and goes on judging, as after a daemon before us. */
static bool leave_to_next(struct enrollment *e, const struct member *m)
{
	struct adopted *grown = realloc(e->adopted, (e->adopted_count + 1) * sizeof *grown);

	if (grown == NULL)
		return false;
	e->adopted = grown;
	grown[e->adopted_count++] = (struct adopted){m->enrolled.netns, m->enrolled.index};
	return true;
}

static void member_release(struct enrollment *e, struct member *m, struct loader *l,
			   struct node *node, enum reason why, bool stays)
{
	stays = stays && leave_to_next(e, m);
	if (!stays) {
		loader_workload_remove(l, m->enrolled.netns);
		loader_inbound_detach(l, m->enrolled.netns);
	}
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		loader_listener_remove(l, m->enrolled.index, (enum listener_kind)kind);
	member_unseat(m, node, why);
	if (!stays)
		netns_unroute(m->enrolled.netns_fd);
	log_info("workload %s/%s: released", m->namespace, m->name);
	e->members[m->enrolled.index] = NULL;
	member_free(m);
}

static const struct fleet_workload *still_named(const struct fleet *fleet, const struct member *m)
{
	const struct fleet_workload *w = fleet_by_name(fleet, m->namespace, m->name);

	return w != NULL && w->selector == SELECTOR_NETNS && strcmp(w->selected, m->path) == 0
		       ? w
		       : NULL;
}

void enroll_release_strangers(struct enrollment *e, struct loader *l)
{
	struct workload *w;
	uint64_t *netns;
	size_t n;

	/* A stranger may be one that could not be opened yet: until all are here he is judged. */
	if (e->absent_count > 0)
		return;
	n = loader_workload_list(l, NULL, NULL, 0);
	netns = calloc(n ? n : 1, sizeof *netns);
	w = calloc(n ? n : 1, sizeof *w);
	n = netns && w ? loader_workload_list(l, netns, w, n) : 0;
	for (size_t i = 0; i < n; i++) {
		const struct member *m = w[i].index < WORKLOADS_MAX ? e->members[w[i].index] : NULL;

		if (m != NULL && m->enrolled.netns == netns[i])
			continue;
		loader_workload_remove(l, netns[i]);
		loader_inbound_detach(l, netns[i]);
	}
	free(netns);
	free(w);
	free(e->adopted); /* nobody comes back to these places any more */
	e->adopted = NULL;
	e->adopted_count = 0;
}

static bool named_otherwise(const struct fleet *fleet, const struct member *m)
{
	struct stat st;

	for (size_t i = 0; i < fleet->workload_count; i++)
		if (fleet->workloads[i].selector == SELECTOR_NETNS &&
		    stat(fleet->workloads[i].selected, &st) == 0 && st.st_dev == m->device &&
		    st.st_ino == m->inode)
			return true;
	return false;
}

void enroll_release(struct enrollment *e, struct loader *l, struct node *node,
		    const struct fleet *fleet, enum reason why)
{
	for (unsigned i = 0; i < WORKLOADS_MAX; i++) {
		struct member *m = e->members[i];

		if (m != NULL && (still_named(fleet, m) == NULL || !member_is_current(m)))
			member_release(e, m, l, node, why, named_otherwise(fleet, m));
	}
}

/* The next few of those that are not young any more: all of them in the course of time. */
static bool refresh_some(struct enrollment *e)
{
	bool stale = false;
	unsigned left = REFRESH_AT_ONCE;

	for (unsigned i = 0; i < WORKLOADS_MAX && left > 0; i++) {
		struct member *m = e->members[e->refreshed];

		e->refreshed = (e->refreshed + 1) % WORKLOADS_MAX;
		if (m == NULL)
			continue;
		stale |= member_read_addresses(m);
		left--;
	}
	return stale;
}

bool enroll_is_stale(struct enrollment *e, bool retry)
{
	bool stale = refresh_some(e);

	/* A path that is there may not be a namespace yet: `ip netns add` mounts it after. */
	for (size_t i = 0; i < e->absent_count; i++)
		stale |= e->absent[i].err == ENOENT ? access(e->absent[i].path, F_OK) == 0 : retry;
	for (unsigned i = 0; i < WORKLOADS_MAX; i++) {
		struct member *m = e->members[i];

		if (m == NULL)
			continue;
		stale |= !member_is_current(m) || (retry && !m->captured);
		if (io_now() - m->opened < YOUNG_NS)
			stale |= member_read_addresses(m);
	}
	return stale;
}

void enroll_write_paths(const struct enrollment *e, const char *file)
{
	FILE *f = fopen(file, "we");

	if (f == NULL) {
		log_warn("%s", file);
		return;
	}
	for (unsigned i = 0; i < WORKLOADS_MAX; i++)
		if (e->members[i] != NULL)
			fprintf(f, "%s\n", e->members[i]->path);
	if (fclose(f) != 0)
		log_warn("%s", file);
}

void enroll_close(struct enrollment *e, struct loader *l, struct node *node, bool detach)
{
	absentees_free(e->absent, e->absent_count);
	free(e->adopted);
	for (unsigned i = 0; i < WORKLOADS_MAX; i++) {
		struct member *m = e->members[i];

		if (m == NULL)
			continue;
		if (detach) {
			member_release(e, m, l, node, REASON_SHUTDOWN, false);
			continue;
		}
		/* Links and maps stay: with our listeners gone the kernel refuses. */
		member_unseat(m, node, REASON_SHUTDOWN);
		e->members[i] = NULL;
		member_free(m);
	}
}
