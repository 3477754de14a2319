/* SPDX-License-Identifier: Apache-2.0 */
/* One local workload: see member.h. */
#include "proxy/member.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/cgroup.h"
#include "proxy/io.h"
#include "proxy/log.h"

const char *selector_word(enum selector s)
{
	static const char *const words[] = {
		[SELECTOR_NONE] = "none",
		[SELECTOR_NETNS] = "netns",
		[SELECTOR_CGROUP] = "cgroup",
		[SELECTOR_SYSTEMD] = "systemd:id",
	};

	return words[s];
}

bool member_on_host(const struct member *m)
{
	return m->selector != SELECTOR_NETNS;
}

int member_path(const struct fleet_workload *w, const struct host_place *host, char *path,
		size_t size)
{
	int n = 0;

	switch (w->selector) {
	case SELECTOR_NETNS:
		n = snprintf(path, size, "%s", w->selected);
		break;
	case SELECTOR_CGROUP:
		n = snprintf(path, size, "%s%s", host->cgroup_root, w->selected);
		break;
	case SELECTOR_SYSTEMD:
		return cgroup_find_unit(host->cgroup_root, w->selected, path, size);
	case SELECTOR_NONE:
		return -ENOENT;
	}
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

bool member_is_current(const struct member *m, const struct host_place *host)
{
	const struct fleet_workload w = {.selector = m->selector, .selected = m->selected};
	char path[PATH_MAX];
	struct stat st;

	return member_path(&w, host, path, sizeof path) == 0 && stat(path, &st) == 0 &&
	       st.st_dev == m->device && st.st_ino == m->inode;
}

void member_free(struct member *m)
{
	if (m == NULL)
		return;
	netns_pool_free(m->enrolled.pool);
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		if (m->enrolled.listeners[kind] >= 0)
			close(m->enrolled.listeners[kind]);
	if (m->enrolled.netns_fd >= 0)
		close(m->enrolled.netns_fd);
	free(m->key);
	free(m->namespace);
	free(m->name);
	free(m->selected);
	free(m->path);
	free(m);
}

void member_own(struct member *m, const struct fleet_workload *w)
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

bool member_read_addresses(struct member *m)
{
	struct addr16 found[OWN_ADDRESSES_MAX];
	int n = netns_addresses(m->enrolled.netns_fd, found, OWN_ADDRESSES_MAX);
	unsigned count = n > OWN_ADDRESSES_MAX ? OWN_ADDRESSES_MAX : (unsigned)n;

	if (n < 0)
		return false; /* what was known stays */
	if (n > OWN_ADDRESSES_MAX && m->address_count < count && !member_on_host(m))
		log_warnx("workload %s: %d addresses, %d are read; name the others in its document",
			  m->key, n, OWN_ADDRESSES_MAX);
	if (count == m->address_count && memcmp(found, m->addresses, count * sizeof found[0]) == 0)
		return false;
	memcpy(m->addresses, found, count * sizeof found[0]);
	m->address_count = count;
	return true;
}

static int names_copy(struct member *m, const struct fleet_workload *w)
{
	char *key;

	if (asprintf(&key, "%s/%s", w->namespace, w->name) < 0)
		return -ENOMEM;
	m->key = key;
	m->namespace = strdup(w->namespace);
	m->name = strdup(w->name);
	m->selector = w->selector;
	m->selected = strdup(w->selected);
	return m->namespace && m->name && m->selected ? 0 : -ENOMEM;
}

/* A path of /proc is another process's after a while: what was added by it is not what stands
 * there now. */
static bool is_stale(const struct fleet_workload *w, ino_t inode)
{
	char boot[64] = "";
	FILE *f;

	if (w->netns_inode != 0 && w->netns_inode != inode)
		return true;
	if (w->boot_id == NULL)
		return false;
	f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (f != NULL && fgets(boot, sizeof boot, f) != NULL)
		boot[strcspn(boot, "\n")] = '\0';
	if (f != NULL)
		fclose(f);
	return strcmp(boot, w->boot_id) != 0;
}

/* A namespace of its own, or the host's; and what identifies it. */
static int place_open(struct member *m, const struct fleet_workload *w,
		      const struct host_place *host)
{
	struct enrolled *en = &m->enrolled;
	struct stat st;

	if (member_on_host(m)) {
		if (stat(m->path, &st) < 0)
			return -errno;
		m->place = st.st_ino | PLACE_CGROUP; /* kernfs: the inode is the cgroup's id */
		en->netns = host->netns;
		en->netns_fd = fcntl(host->netns_fd, F_DUPFD_CLOEXEC, 0);
		if (en->netns_fd < 0)
			return -errno;
	} else {
		en->netns_fd = netns_open(m->path, &en->netns);
		if (en->netns_fd < 0)
			return en->netns_fd;
		if (fstat(en->netns_fd, &st) < 0)
			return -errno;
		if (is_stale(w, st.st_ino))
			return -ESTALE;
		if (en->netns == host->netns)
			return -ELOOP; /* it would capture the whole host, and us */
		m->place = en->netns;
	}
	m->device = st.st_dev;
	m->inode = st.st_ino;
	return 0;
}

struct taken_question {
	const struct loader *loader;
	const struct enrolled *enrolled;
};

/* On the helper thread: it may ask the kernel whose a program is. */
static int ask_taken(void *arg)
{
	const struct taken_question *q = arg;

	return loader_inbound_is_taken(q->loader, q->enrolled->netns_fd, q->enrolled->netns);
}

bool member_is_taken(const struct member *m, const struct loader *l)
{
	struct taken_question q = {l, &m->enrolled};

	return netns_visit(m->enrolled.netns_fd, ask_taken, &q) > 0;
}

/* Nobody else's: before anything of ours is there. */
static int place_check(const struct member *m, const struct loader *l, enum reason *why)
{
	const struct enrolled *en = &m->enrolled;
	int err = 0;

	if (member_is_taken(m, l)) {
		*why = REASON_FOREIGN_SHUNT;
		return -EBUSY;
	}
	if (!member_on_host(m))
		err = netns_port_taken(en->netns_fd, MESH_PORT);
	if (err <= 0)
		return err;
	*why = REASON_FOREIGN_MESH;
	return -EADDRINUSE;
}

static int sockets_open(struct member *m)
{
	struct enrolled *en = &m->enrolled;
	int err = netns_listen(en->netns_fd, en->listeners);

	if (err < 0)
		return err;
	en->pool = netns_pool_new(en->netns_fd);
	return en->pool ? 0 : -ENOMEM;
}

int member_open(const struct fleet_workload *w, const struct host_place *host,
		const struct loader *l, struct member **out, enum reason *why)
{
	struct member *m = calloc(1, sizeof *m);
	char path[PATH_MAX];
	int err;

	*out = m;
	*why = REASON_NONE;
	if (m == NULL)
		return -ENOMEM;
	m->enrolled.netns_fd = -1;
	m->enrolled.refused = &m->refused;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		m->enrolled.listeners[kind] = -1;
	err = names_copy(m, w);
	if (err == 0)
		err = member_path(w, host, path, sizeof path);
	if (err == 0 && (m->path = strdup(path)) == NULL)
		err = -ENOMEM;
	if (err == 0)
		err = place_open(m, w, host);
	if (err == 0)
		err = place_check(m, l, why);
	if (err == 0)
		err = sockets_open(m);
	if (err < 0)
		return err;
	m->opened = io_now();
	(void)member_read_addresses(m);
	member_own(m, w);
	return 0;
}
