/* SPDX-License-Identifier: Apache-2.0 */
/* Local workloads, from document to capture: see enroll.h. */
#include "proxy/enroll.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/origdst.h"
#include "proxy/record.h"

#define SECOND_NS UINT64_C(1000000000)
#define YOUNG_NS (10 * SECOND_NS) /* its addresses are looked at each time */
#define REFRESH_AT_ONCE 8 /* of the others */
#define WALKS_AT_ONCE 64

const char *absentee_text(const struct absentee *a)
{
	if (a->why != REASON_NONE)
		return reason_text(a->why);
	if (a->err == ELOOP)
		return "this is the host's own network namespace; select its workloads by cgroup: "
		       "or systemd:id:";
	if (a->err == ENOENT && a->selector == SELECTOR_SYSTEMD)
		return "no such unit runs";
	if (a->err == ESTALE)
		return "the network namespace it was added with is gone";
	if (a->err == ENETDOWN)
		return "lo is down in its network namespace; bring it up first";
	if (a->err == EINVAL && a->selector == SELECTOR_NETNS)
		return "this is not a network namespace";
	if (a->err == EEXIST)
		return a->selector == SELECTOR_NETNS ? "another workload has this network namespace"
						     : "another workload has this cgroup";
	return strerror(a->err);
}

static bool is_same_file(const char *path, const struct stat *other)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == other->st_dev && st.st_ino == other->st_ino;
}

/* That of PID 1, or one with a name; `shunt detach` may be called from anywhere. */
static void host_path_find(struct host_place *host)
{
	static const char *const named = "/run/netns";
	struct dirent *entry;
	struct stat own;
	DIR *dir;

	snprintf(host->path, sizeof host->path, "/proc/1/ns/net");
	if (fstat(host->netns_fd, &own) == 0 && is_same_file(host->path, &own))
		return;
	dir = opendir(named);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		snprintf(host->path, sizeof host->path, "%s/%s", named, entry->d_name);
		if (is_same_file(host->path, &own))
			break;
		host->path[0] = '\0';
	}
	if (dir != NULL)
		closedir(dir);
	else
		host->path[0] = '\0';
}

int enroll_start(struct enrollment *e, const char *cgroup_root)
{
	e->host.cgroup_root = cgroup_root;
	e->host.netns_fd = netns_open("/proc/self/ns/net", &e->host.netns);
	if (e->host.netns_fd < 0)
		return e->host.netns_fd;
	host_path_find(&e->host);
	return 0;
}

/* Whoever had claimed a slot, or had arrived, died with the daemon before us; who had not been
 * accepted was reset when its listeners were closed. Of arrivals nobody knows who waited. */
static void adopt_slots(struct enrollment *e, struct loader *l, struct node *node)
{
	for (uint32_t i = 0; i < node->slot_count; i++) {
		uint32_t used = __atomic_load_n(&node->slots[i].used, __ATOMIC_RELAXED);

		e->lost_waiting += used == SLOT_WRITTEN;
		e->lost_open += used == SLOT_CLAIMED;
		if (used != SLOT_FREE)
			slot_free(node, &node->slots[i]);
	}
	e->lost_open += __atomic_exchange_n(&node->globals->arrivals_open, 0, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < WORKLOADS_MAX; i++)
		__atomic_store_n(&loader_workload(l, i)->slots_used, 0, __ATOMIC_RELAXED);
	if (e->lost_waiting + e->lost_open > 0)
		log_info("of the daemon before us %llu connections were open and %llu waited for "
			 "it; they were reset",
			 (unsigned long long)e->lost_open, (unsigned long long)e->lost_waiting);
}

int enroll_adopt(struct enrollment *e, struct loader *l, struct node *node)
{
	size_t n = loader_workload_list(l, NULL, 0);
	struct workload *w = calloc(n ? n : 1, sizeof *w);

	e->adopted = calloc(n ? n : 1, sizeof *e->adopted);
	if (w == NULL || e->adopted == NULL) {
		free(w);
		return -ENOMEM;
	}
	n = loader_workload_list(l, w, n);
	for (size_t i = 0; i < n; i++) {
		e->generations[w[i].index] = w[i].generation;
		e->adopted[e->adopted_count++] = (struct adopted){w[i].place, w[i].index};
	}
	free(w);
	adopt_slots(e, l, node);
	return 0;
}

/* The index this place had under the daemon before us, or NULL. */
static struct adopted *adopted_find(const struct enrollment *e, uint64_t place)
{
	for (size_t i = 0; i < e->adopted_count; i++)
		if (e->adopted[i].place == place)
			return &e->adopted[i];
	return NULL;
}

struct member *enroll_find(const struct enrollment *e, const char *namespace, const char *name)
{
	struct member *m = NULL;
	char key[512];
	int n = snprintf(key, sizeof key, "%s/%s", namespace, name);

	if (n < (int)sizeof key)
		HASH_FIND_STR(e->by_key, key, m);
	return m;
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

void enroll_unseat(struct node *node, const struct enrolled *enrolled, enum reason why)
{
	struct seating s = {.enrolled = enrolled, .why = why};

	workers_call(node, seat_close_call, &s);
}

int enroll_seat(struct node *node, const struct enrolled *enrolled)
{
	struct seating s = {.enrolled = enrolled};

	workers_call(node, seat_open_call, &s);
	if (s.err < 0)
		enroll_unseat(node, enrolled, REASON_INTERNAL);
	return s.err;
}

static bool index_is_adopted(const struct enrollment *e, uint32_t index)
{
	for (size_t i = 0; i < e->adopted_count; i++)
		if (e->adopted[i].place != 0 && e->adopted[i].index == index)
			return true;
	return false;
}

/* The next one that nobody has and nobody may come back to. */
static int index_take(struct enrollment *e, uint32_t *index)
{
	for (uint32_t tries = 0; tries < WORKLOADS_MAX; tries++) {
		uint32_t i = e->next;

		e->next = (i + 1) % WORKLOADS_MAX;
		if (e->members[i] == NULL && !e->reserved[i] && !index_is_adopted(e, i)) {
			*index = i;
			return 0;
		}
	}
	return -ENOSPC;
}

int enroll_index_take(struct enrollment *e, struct enrolled *enrolled)
{
	int err = index_take(e, &enrolled->index);

	if (err < 0)
		return err;
	e->reserved[enrolled->index] = true;
	enrolled->generation = ++e->generations[enrolled->index];
	return 0;
}

void enroll_index_give(struct enrollment *e, const struct enrolled *enrolled)
{
	e->reserved[enrolled->index] = false;
}

/* Its own index if a daemon before us gave it one, with the generation it had. */
static int member_place(struct enrollment *e, struct member *m)
{
	struct adopted *a = adopted_find(e, m->place);
	int err;

	if (a != NULL && e->members[a->index] == NULL) {
		m->enrolled.index = a->index;
		m->enrolled.generation = e->generations[a->index];
		m->known = true;
		return 0;
	}
	err = index_take(e, &m->enrolled.index);
	if (err == 0)
		m->enrolled.generation = ++e->generations[m->enrolled.index];
	return err;
}

static bool place_is_taken(const struct enrollment *e, uint64_t place)
{
	for (const struct member *m = e->by_key; m != NULL; m = m->hh.next)
		if (m->place == place)
			return true;
	return false;
}

static void member_enter(struct enrollment *e, struct member *m)
{
	struct adopted *a = adopted_find(e, m->place);

	e->members[m->enrolled.index] = m;
	HASH_ADD_KEYPTR(hh, e->by_key, m->key, strlen(m->key), m);
	e->count++;
	e->on_host += member_on_host(m);
	e->host_changed |= member_on_host(m);
	if (a != NULL)
		a->place = 0; /* only now: one that failed half-way comes back to its index */
}

static int enroll_one(struct enrollment *e, const struct loader *l, struct node *node,
		      const struct fleet_workload *w, enum reason *why)
{
	struct member *m;
	int err = member_open(w, &e->host, l, &m, why);

	if (err == 0 && place_is_taken(e, m->place))
		err = -EEXIST; /* two paths to one namespace */
	if (err == 0)
		err = member_place(e, m);
	if (err < 0) {
		member_free(m);
		return err;
	}
	err = enroll_seat(node, &m->enrolled);
	if (err < 0) {
		member_free(m);
		return err;
	}
	member_enter(e, m);
	return 0;
}

const char *enroll_try(struct enrollment *e, const struct loader *l, const struct fleet_workload *w)
{
	const struct member *now = enroll_find(e, w->namespace, w->name);
	struct absentee a = {.selector = w->selector};
	struct member *m;
	int err = member_open(w, &e->host, l, &m, &a.why);
	bool taken = err == 0 && place_is_taken(e, m->place);

	if (taken && (now == NULL || m->place != now->place))
		err = -EEXIST;
	if (err == 0 && !taken && !member_on_host(m))
		netns_unroute(m->enrolled.netns_fd);
	member_free(m);
	a.err = -err;
	return err < 0 ? absentee_text(&a) : NULL;
}

static void absentees_free(struct absentee *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(a[i].namespace);
		free(a[i].name);
		free(a[i].selected);
	}
	free(a);
}

static struct absentee *absentee_add(struct enrollment *e, const struct fleet_workload *w, int err,
				     enum reason why)
{
	struct absentee *grown = realloc(e->absent, (e->absent_count + 1) * sizeof *grown);
	struct absentee *a;

	if (grown == NULL)
		return NULL;
	e->absent = grown;
	a = &grown[e->absent_count++];
	*a = (struct absentee){
		.namespace = strdup(w->namespace),
		.name = strdup(w->name),
		.selector = w->selector,
		.selected = strdup(w->selected),
		.err = -err,
		.why = why,
	};
	return a;
}

/* Was it absent for the same reason before? Then the log has said so. */
static bool is_news(const struct absentee *before, size_t n, const struct absentee *a)
{
	for (size_t i = 0; i < n; i++)
		if (before[i].err == a->err && before[i].why == a->why &&
		    before[i].selected != NULL && a->selected != NULL &&
		    strcmp(before[i].selected, a->selected) == 0)
			return false;
	return true;
}

void enroll_open(struct enrollment *e, const struct loader *l, struct node *node,
		 const struct fleet *fleet)
{
	struct absentee *before = e->absent;
	size_t before_count = e->absent_count;

	e->absent = NULL;
	e->absent_count = 0;
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];
		struct member *m = enroll_find(e, w->namespace, w->name);
		enum reason why = REASON_NONE;
		struct absentee *a;
		int err;

		if (m != NULL)
			member_own(m, w);
		if (w->selector == SELECTOR_NONE || m != NULL)
			continue;
		err = enroll_one(e, l, node, w, &why);
		if (err == 0) {
			log_info("workload %s/%s: enrolled (%s:%s)", w->namespace, w->name,
				 selector_word(w->selector), w->selected);
			continue;
		}
		a = absentee_add(e, w, err, why);
		if (a != NULL && is_news(before, before_count, a))
			log_warnx("workload %s/%s: not enrolled: %s:%s: %s", w->namespace, w->name,
				  selector_word(w->selector), w->selected, absentee_text(a));
	}
	absentees_free(before, before_count);
}

/* ---- the kernel's part ---- */

static struct workload kernel_workload(const struct member *m, const struct fleet_workload *w,
				       uint32_t exclusion)
{
	return (struct workload){
		.place = m->place,
		.index = m->enrolled.index,
		.generation = m->enrolled.generation,
		.identity = w->identity,
		.flags = WORKLOAD_EGRESS | WORKLOAD_INGRESS |
			 (w->unavailable_allow ? WORKLOAD_AWAY_ALLOW : 0),
		.exclusion = exclusion,
		.ip4 = m->ip4,
		.ip6 = m->ip6,
	};
}

/* On the host, those too that a daemon before us captured and that could not be opened yet: they
 * go on being judged. */
static uint32_t host_workloads(const struct enrollment *e)
{
	size_t n = e->on_host;

	for (size_t i = 0; i < e->adopted_count; i++)
		n += (e->adopted[i].place & PLACE_CGROUP) != 0;
	return (uint32_t)n;
}

/* One that is new is not judged before its door is there: a connect() captured in between
 * would find nobody to take it. One that is known goes on being judged meanwhile. */
static int member_capture(struct enrollment *e, struct member *m, struct loader *l)
{
	struct workload quiet = m->wanted;
	int err = 0;

	if (m->captured) {
		err = loader_workload_put(l, &m->wanted);
		m->captured = err == 0;
		return err;
	}
	/* On the host the door stands already when it is not the first, and whoever is above it
	 * was judged. */
	if (!m->known && !(member_on_host(m) && e->on_host > 1))
		quiet.flags = 0;
	for (int kind = 0; kind < LISTENER_KINDS && err == 0; kind++)
		if (m->enrolled.listeners[kind] >= 0)
			err = loader_listener_put(l, m->enrolled.index, (enum listener_kind)kind,
						  m->enrolled.listeners[kind]);
	if (err == 0)
		err = loader_workload_put(l, &quiet);
	if (err == 0)
		err = loader_inbound_attach(l, m->enrolled.netns_fd, m->enrolled.netns);
	m->taken = err == 0 && member_is_taken(m, l);
	if (m->taken) {
		loader_inbound_detach(l, m->enrolled.netns);
		loader_workload_remove(l, m->place);
		err = -EBUSY;
	}
	if (err == 0 && member_on_host(m))
		loader_host_workloads(l, host_workloads(e));
	if (err == 0 && !m->known)
		err = loader_workload_put(l, &m->wanted);
	m->captured = err == 0;
	m->known |= m->captured;
	return err;
}

int enroll_capture(struct enrollment *e, struct loader *l, const struct fleet *fleet,
		   const struct exclusions *x, bool *held)
{
	int last = 0;

	*held = false;
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];
		struct member *m = enroll_find(e, w->namespace, w->name);
		struct workload wanted;
		int err;

		if (m == NULL)
			continue;
		wanted = kernel_workload(m, w, x->sets[i]);
		if (m->captured && memcmp(&wanted, &m->wanted, sizeof wanted) == 0)
			continue;
		m->wanted = wanted;
		err = member_capture(e, m, l);
		if (m->taken)
			continue; /* let go of at the next tick, and absent from then on */
		if (err == 0) {
			m->judged_as = wanted.identity;
			continue;
		}
		last = err;
		/* Its programs of before go on by the identity of before (0: of another life). */
		*held |= m->known && m->judged_as != wanted.identity;
		log_errx("workload %s: NOT CAPTURED, its traffic may pass unjudged: %s", m->key,
			 loader_error(l));
	}
	return last;
}

/* ---- leaving ---- */

/* Its place goes on as another member (renamed, or its path spelled in another way): what the
 * kernel has of it stays and goes on judging, as after a daemon before us. */
static bool leave_to_next(struct enrollment *e, const struct member *m)
{
	struct adopted *grown = realloc(e->adopted, (e->adopted_count + 1) * sizeof *grown);

	if (grown == NULL)
		return false;
	e->adopted = grown;
	grown[e->adopted_count++] = (struct adopted){m->place, m->enrolled.index};
	return true;
}

/* The door of the host's namespace and its route stay as long as one workload is there, and
 * those of a namespace that another daemon has taken are its own. The route goes first: without the door the namespace may be another daemon's at once. */
static void place_close(struct enrollment *e, struct member *m, struct loader *l)
{
	loader_workload_remove(l, m->place);
	if (member_on_host(m))
		loader_host_workloads(l, host_workloads(e));
	if ((member_on_host(m) && host_workloads(e) > 0) || m->taken)
		return;
	netns_unroute(m->enrolled.netns_fd);
	loader_inbound_detach(l, m->enrolled.netns);
}

static void member_release(struct enrollment *e, struct member *m, struct loader *l,
			   struct node *node, enum reason why, bool stays)
{
	e->members[m->enrolled.index] = NULL;
	HASH_DEL(e->by_key, m);
	e->count--;
	e->on_host -= member_on_host(m);
	e->host_changed |= member_on_host(m);
	if (!stays || !leave_to_next(e, m))
		place_close(e, m, l);
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		loader_listener_remove(l, m->enrolled.index, (enum listener_kind)kind);
	enroll_unseat(node, &m->enrolled, why);
	log_info("workload %s: released", m->key);
	member_free(m);
}

static bool still_named(const struct fleet *fleet, const struct member *m)
{
	const struct fleet_workload *w = fleet_by_name(fleet, m->namespace, m->name);

	return w != NULL && w->selector == m->selector && strcmp(w->selected, m->selected) == 0;
}

void enroll_release_strangers(struct enrollment *e, struct loader *l)
{
	struct workload *w;
	size_t n;

	/* A stranger may be one that could not be opened yet: until all are here he is judged. */
	if (e->absent_count > 0)
		return;
	n = loader_workload_list(l, NULL, 0);
	w = calloc(n ? n : 1, sizeof *w);
	if (w == NULL)
		return; /* the next time */
	n = loader_workload_list(l, w, n);
	for (size_t i = 0; i < n; i++) {
		const struct member *m = e->members[w[i].index];

		if (m != NULL && m->place == w[i].place)
			continue;
		loader_workload_remove(l, w[i].place);
		if (!(w[i].place & PLACE_CGROUP))
			loader_inbound_detach(l, w[i].place);
	}
	free(w);
	loader_host_workloads(l, (uint32_t)e->on_host);
	if (e->on_host == 0)
		loader_inbound_detach(l, e->host.netns);
	free(e->adopted); /* nobody comes back to these indexes any more */
	e->adopted = NULL;
	e->adopted_count = 0;
}

static bool named_otherwise(const struct enrollment *e, const struct fleet *fleet,
			    const struct member *m)
{
	char path[PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < fleet->workload_count; i++)
		if (fleet->workloads[i].selector != SELECTOR_NONE &&
		    member_path(&fleet->workloads[i], &e->host, path, sizeof path) == 0 &&
		    stat(path, &st) == 0 && st.st_dev == m->device && st.st_ino == m->inode)
			return true;
	return false;
}

void enroll_release(struct enrollment *e, struct loader *l, struct node *node,
		    const struct fleet *fleet, enum reason why)
{
	struct member *m, *next;

	HASH_ITER(hh, e->by_key, m, next)
		if (m->taken || !still_named(fleet, m) || !member_is_current(m, &e->host))
			member_release(e, m, l, node, why,
				       !m->taken && named_otherwise(e, fleet, m));
}

/* ---- watching ---- */

static bool member_refresh(struct member *m)
{
	/* It goes with lo, when that is set down for a moment. */
	if (m->enrolled.listeners[LISTENER_EGRESS6] >= 0)
		netns_route(m->enrolled.netns_fd);
	if (!member_read_addresses(m))
		return false;
	m->captured = false; /* the kernel is to be told */
	return true;
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
		stale |= member_refresh(m);
		left--;
	}
	return stale;
}

/* A path that is there may not be a namespace yet: `ip netns add` mounts it after. */
static bool absentee_is_back(const struct enrollment *e, const struct absentee *a, bool retry)
{
	const struct fleet_workload w = {.selector = a->selector, .selected = a->selected};
	char path[PATH_MAX];

	if (a->err == ENETDOWN)
		return true; /* its lo is not up yet: asked each time, it lives already */
	if (a->err != ENOENT)
		return retry;
	return member_path(&w, &e->host, path, sizeof path) == 0 && access(path, F_OK) == 0;
}

bool enroll_is_stale(struct enrollment *e, bool retry)
{
	bool stale = refresh_some(e);

	for (size_t i = 0; i < e->absent_count; i++)
		stale |= absentee_is_back(e, &e->absent[i], retry);
	for (struct member *m = e->by_key; m != NULL; m = m->hh.next) {
		stale |= m->taken || !member_is_current(m, &e->host) || (retry && !m->captured);
		if (io_now() - m->opened < YOUNG_NS)
			stale |= member_refresh(m);
	}
	return stale;
}

/* ---- the registry of listening ports ---- */

struct walk {
	struct loader *loader;
	uint64_t netns;
	const uint32_t *indexes;
	size_t count;
};

static int walk_here(void *arg)
{
	const struct walk *w = arg;

	return loader_registry_walk(w->loader, w->netns, w->indexes, w->count);
}

/* Those of the host's namespace are walked for all of them at once. */
static void member_walk(struct enrollment *e, struct member *m, struct loader *l)
{
	uint32_t *indexes = calloc(e->count, sizeof *indexes);
	struct walk w = {l, m->enrolled.netns, indexes, 0};
	int err = indexes ? 0 : -ENOMEM;

	for (struct member *other = e->by_key; other != NULL && err == 0; other = other->hh.next) {
		if (other->enrolled.netns != m->enrolled.netns || !other->captured)
			continue;
		indexes[w.count++] = other->enrolled.index;
		other->walked = io_now();
		atomic_store_explicit(&other->refused, false, memory_order_relaxed);
	}
	if (err == 0)
		err = netns_visit(m->enrolled.netns_fd, walk_here, &w);
	if (err < 0 && !m->walk_failed)
		log_warnx("workload %s: its listening ports are not all known (%s): connections to "
			  "closed ports are accepted, then reset",
			  m->key, err == -ENOSPC ? "the registry is full" : strerror(-err));
	m->walk_failed = err < 0;
	free(indexes);
}

static bool wants_walk(const struct enrollment *e, const struct member *m, const struct loader *l,
		       bool retry)
{
	if (!m->captured)
		return false;
	if (member_on_host(m) && e->host_changed)
		return true;
	if (!loader_registry_is_complete(l, m->enrolled.index))
		return !m->walk_failed || retry;
	return atomic_load_explicit(&m->refused, memory_order_relaxed) &&
	       io_now() - m->walked > SECOND_NS;
}

void enroll_walk(struct enrollment *e, struct loader *l, bool retry)
{
	uint64_t overflow = loader_globals(l)->registry_overflow;
	unsigned left = WALKS_AT_ONCE;

	if (!loader_registry_walks(l))
		return;
	if (overflow != e->swept)
		loader_registry_sweep(l);
	e->swept = overflow;
	for (struct member *m = e->by_key; m != NULL && left > 0; m = m->hh.next) {
		if (!wants_walk(e, m, l, retry))
			continue;
		member_walk(e, m, l);
		e->host_changed &= !member_on_host(m);
		left--;
	}
}

/* ---- the end ---- */

void enroll_write_paths(const struct enrollment *e, const char *file)
{
	FILE *f = fopen(file, "we");

	if (f == NULL) {
		log_warn("%s", file);
		return;
	}
	for (const struct member *m = e->by_key; m != NULL; m = m->hh.next)
		if (!member_on_host(m))
			fprintf(f, "%s\n", m->path);
	if (e->on_host > 0)
		fprintf(f, "%s\n", e->host.path);
	if (fclose(f) != 0)
		log_warn("%s", file);
}

static void seats_drain_call(struct worker *w, void *arg)
{
	(void)arg;
	seats_drain(w);
}

void enroll_drain(struct enrollment *e, struct loader *l, struct node *node)
{
	/* The listeners stay until the end: a connect() that was captured a moment ago has its SYN
	 * still to send, an arrival its handshake to end. */
	for (const struct member *m = e->by_key; m != NULL; m = m->hh.next)
		__atomic_fetch_or(&loader_workload(l, m->enrolled.index)->flags, WORKLOAD_STOPPING,
				  __ATOMIC_SEQ_CST);
	workers_call(node, seats_drain_call, NULL);
}

void enroll_close(struct enrollment *e, struct loader *l, struct node *node, bool detach)
{
	struct member *m, *next;

	absentees_free(e->absent, e->absent_count);
	free(e->adopted);
	e->adopted = NULL;
	e->adopted_count = 0;
	HASH_ITER(hh, e->by_key, m, next) {
		if (detach) {
			member_release(e, m, l, node, REASON_SHUTDOWN, false);
			continue;
		}
		/* Links and maps stay: with our listeners gone the kernel does as onUnavailable
		 * says. */
		HASH_DEL(e->by_key, m);
		e->members[m->enrolled.index] = NULL;
		enroll_unseat(node, &m->enrolled, REASON_SHUTDOWN);
		member_free(m);
	}
	close(e->host.netns_fd);
}
