/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: see control.h. */
#include "proxy/control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/files.h"
#include "proxy/addr.h"
#include "proxy/log.h"
#include "proxy/notify.h"
#include "proxy/origdst.h"
#include "proxy/policy.h"
#include "proxy/privilege.h"
#include "proxy/recorder.h"
#include "proxy/workloads.h"

#define TEND_MS 500
#define DRAIN_MS 50
#define DRAIN_LEAST_MS 100 /* for handshakes that are under way */
#define STOP_MS 5000 /* that everything else of a stop may take */
#define SWEEP_TICKS 2
#define RETRY_TICKS 10 /* of what failed before */
#define HOST_ADDRESSES_MAX 4096

static double wall_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- who is where ---- */

static int add_documented(const struct control *c, struct directory *d,
			  const struct fleet_workload *w)
{
	const struct member *m = enroll_find(&c->enrollment, w->namespace, w->name);
	uint32_t index = m ? m->enrolled.index : DIRECTORY_NOT_LOCAL;
	struct card *card = card_new(w);
	int err = card ? 0 : -ENOMEM;

	if (m != NULL && err == 0)
		err = directory_add_local(d, index, w->identity, &m->ip4, card);
	for (size_t i = 0; i < w->address_count && err == 0; i++)
		err = directory_add(d, &w->addresses[i], w->identity, index, card);
	card_unref(card);
	return err;
}

/* What a namespace says of itself is believed last: a workload may give itself any address,
 * and must not become by it who a document or the host is. */
static int add_found(const struct control *c, struct directory *d)
{
	int err = 0;

	for (const struct member *m = c->enrollment.by_key; m != NULL && err == 0; m = m->hh.next) {
		uint32_t index = m->enrolled.index;
		struct directory_entry own = directory_local(d, index);

		if (member_on_host(m))
			continue; /* those are the host's, and several workloads share them */
		for (unsigned k = 0; k < m->address_count && err == 0; k++)
			err = directory_add(d, &m->addresses[k], own.identity, index, own.card);
	}
	return err;
}

static int add_host(const struct control *c, struct directory *d)
{
	static struct addr16 found[HOST_ADDRESSES_MAX];
	static bool said;
	const struct addr16 loopback[] = {addr_from_v4(htonl(INADDR_LOOPBACK)),
					  {{0, 0, 0, htonl(1)}}};
	int n = netns_addresses(c->enrollment.host.netns_fd, found, HOST_ADDRESSES_MAX);
	int err = 0;

	if (n < 0)
		return n;
	if (n > HOST_ADDRESSES_MAX && !said) {
		log_warnx("the host has %d addresses, the first %d are known as its own", n,
			  HOST_ADDRESSES_MAX);
		said = true;
	}
	for (int i = 0; i < n && i < HOST_ADDRESSES_MAX && err == 0; i++)
		err = directory_add(d, &found[i], IDENTITY_HOST, DIRECTORY_NOT_LOCAL, NULL);
	/* Only to explicit listeners a client comes from there. */
	for (size_t i = 0; i < 2 && c->explicits.count > 0 && err == 0; i++)
		err = directory_add(d, &loopback[i], IDENTITY_HOST, DIRECTORY_NOT_LOCAL, NULL);
	return err;
}

static struct directory *directory_build(const struct control *c, const struct fleet *fleet)
{
	struct directory *d = directory_new();
	int err = d ? 0 : -ENOMEM;

	for (size_t i = 0; i < fleet->workload_count && err == 0; i++)
		err = add_documented(c, d, &fleet->workloads[i]);
	if (err == 0)
		err = add_host(c, d);
	if (err == 0)
		err = add_found(c, d);
	if (err == 0)
		err = explicits_directory(&c->explicits, d, fleet);
	if (err == 0)
		return d;
	log_errx("directory of addresses: %s", strerror(-err));
	directory_unref(d);
	return NULL;
}

/* ---- the kernel's copy ---- */

struct entries {
	struct loader_policy *policy;
	struct loader_address *address;
	size_t count;
	size_t room;
	const struct control *control;
	bool failed;
};

static void *entry_room(struct entries *e, void **array, size_t size)
{
	if (e->count == e->room) {
		size_t room = e->room ? e->room * 2 : 64;
		void *grown = realloc(*array, room * size);

		if (grown == NULL) {
			e->failed = true;
			return NULL;
		}
		*array = grown;
		e->room = room;
	}
	return (char *)*array + e->count++ * size;
}

static int put_policy(void *arg, const struct policy_key *key, const struct policy_entry *entry)
{
	struct entries *e = arg;
	struct loader_policy *p = entry_room(e, (void **)&e->policy, sizeof *e->policy);

	if (p == NULL)
		return -ENOMEM;
	*p = (struct loader_policy){*key, *entry};
	return 0;
}

static void put_address(void *arg, const struct addr16 *ip, const struct directory_entry *d)
{
	struct entries *e = arg;
	struct loader_address *a = entry_room(e, (void **)&e->address, sizeof *e->address);

	if (a == NULL)
		return;
	*a = (struct loader_address){.ip = *ip,
				     .address = {.identity = d->identity, .index = d->index}};
	if (d->index != DIRECTORY_NOT_LOCAL)
		a->address.netns = e->control->enrollment.members[d->index]->enrolled.netns;
	else if (d->identity == IDENTITY_HOST)
		a->address.netns = e->control->enrollment.host.netns;
}

static int kernel_addresses(struct control *c)
{
	struct entries e = {.control = c};
	int err = -ENOMEM;

	directory_each(c->directory, put_address, &e);
	if (!e.failed)
		err = loader_address_replace(c->loader, e.address, e.count);
	free(e.address);
	return err;
}

/* Ports that workloads of the host's namespace declare; the build has seen that no two do. */
static int kernel_owners(struct control *c)
{
	const struct fleet *fleet = c->snapshot.fleet;
	struct loader_owner *owners = NULL;
	size_t n = 0;
	int err;

	for (size_t i = 0; i < fleet->workload_count; i++)
		n += fleet->workloads[i].port_count;
	owners = calloc(n + 1, sizeof *owners);
	if (owners == NULL)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];
		const struct member *m = enroll_find(&c->enrollment, w->namespace, w->name);

		for (size_t k = 0; m != NULL && member_on_host(m) && k < w->port_count; k++)
			owners[n++] = (struct loader_owner){htons(w->ports[k]), m->place};
	}
	err = loader_owner_replace(c->loader, owners, n);
	free(owners);
	return err;
}

/* The first half: what is new, beside what was. */
static int kernel_put(struct control *c, struct entries *e, const struct loader_exclusions *x)
{
	const struct policy *policy = c->snapshot.policy;
	int err = policy_kernel_entries(policy, put_policy, e);

	if (err >= 0)
		err = loader_policy_put(c->loader, e->policy, e->count, policy_revision(policy));
	if (err >= 0)
		err = loader_exclusions_put(c->loader, x);
	if (err >= 0)
		err = kernel_addresses(c);
	return err;
}

/* Entries of the new policy beside those of the old; then addresses and workloads change
 * their identities; then the old entries go. At no moment is a subject without its entries,
 * which would leave it open. */
static int kernel_apply(struct control *c, const struct exclusions *sets)
{
	const struct loader_exclusions exclusions = exclusions_entries(sets);
	struct entries e = {.control = c};
	bool held = false;
	int failed;
	int err = kernel_put(c, &e, &exclusions);

	if (err < 0)
		goto out;
	failed = enroll_capture(&c->enrollment, c->loader, c->snapshot.fleet, sets, &held);
	/* One that could not be captured keeps nobody's revoked rules in force, but its own. */
	if (!held)
		err = loader_policy_prune(c->loader, e.policy, e.count);
	if (!held && err >= 0)
		err = loader_exclusions_prune(c->loader, &exclusions);
	if (err >= 0)
		err = kernel_owners(c);
	if (err >= 0)
		err = failed;
out:
	free(e.policy);
	if (err < 0)
		log_errx("kernel maps: %s", loader_error(c->loader));
	return err < 0 ? err : 0;
}

/* ---- putting a snapshot into force ---- */

static void view_swap(struct worker *w, void *arg)
{
	view_unref(w->view);
	w->view = view_ref(arg);
}

/* Workers first: a connection that the kernel sends by the new policy must not meet the old
 * one. What a daemon before us left is let go of last: until then it judges as it did. */
static int apply_all(struct control *c)
{
	struct fleet *fleet = c->snapshot.fleet;
	struct exclusions sets;
	struct directory *directory;
	struct view *view;
	char paths[256];
	int err;

	if (c->loader != NULL) {
		enroll_release(&c->enrollment, c->loader, &c->node, fleet, REASON_WORKLOAD_GONE);
		enroll_open(&c->enrollment, c->loader, &c->node, fleet);
	}
	explicits_apply(&c->explicits, &c->enrollment, &c->node, fleet);
	directory = directory_build(c, fleet);
	if (directory == NULL)
		return -ENOMEM;
	directory_unref(c->directory);
	c->directory = directory;
	view = view_new(c->snapshot.policy, directory, &c->snapshot.options);
	if (view == NULL)
		return -ENOMEM;
	workers_call(&c->node, view_swap, view);
	view_unref(view);
	if (c->loader == NULL)
		return 0;
	err = exclusions_build(&sets, fleet);
	if (err == 0)
		err = kernel_apply(c, &sets);
	exclusions_free(&sets);
	if (err == 0)
		enroll_release_strangers(&c->enrollment, c->loader);
	enroll_walk(&c->enrollment, c->loader, false);
	snprintf(paths, sizeof paths, "%s/namespaces", c->options->run_dir);
	enroll_write_paths(&c->enrollment, paths);
	return err;
}

static int control_apply(struct control *c)
{
	int err = apply_all(c);

	c->apply_failed = err < 0;
	c->ready |= err == 0;
	return err;
}

/* Both folders, as they are now. */
static int documents_read(struct control *c, struct document_files *config,
			  struct document_files *kept)
{
	char *error = NULL;
	int err = files_read(c->options->config_dir, config, &error);

	*kept = (struct document_files){0};
	if (err < 0) {
		*config = (struct document_files){0};
		goto fail;
	}
	err = state_read(c->options->state_dir, kept, &error);
	if (err == 0)
		return 0;
	files_free(config);
	files_free(kept);
fail:
	log_errx("configuration: %s", error ? error : strerror(-err));
	free(error);
	return err;
}

static int control_build(struct control *c, const struct document_files *config,
			 const struct document_files *kept, struct snapshot *out,
			 struct findings *findings)
{
	size_t n = config->count + kept->count;
	struct document_file *all = calloc(n + 1, sizeof *all);
	int err;

	if (all == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		all[i] = i < config->count ? config->items[i] : kept->items[i - config->count];
	err = config_build(all, n, c->identities, c->revision + 1, out, findings);
	free(all);
	return err;
}

static void findings_log(const struct findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		const struct finding *f = &findings->items[i];

		if (f->level == FINDING_ERROR)
			log_errx("%s:%u:%u: %s", f->where.file, f->where.line, f->where.column,
				 f->text);
		else
			log_warnx("%s:%u:%u: %s", f->where.file, f->where.line, f->where.column,
				  f->text);
	}
}

/* Some options are read at start only; a change of theirs waits for the next one. */
static void options_compare(const struct options *running, struct options *wanted)
{
	if (running->workers != wanted->workers || running->slots != wanted->slots ||
	    running->event_rate != wanted->event_rate ||
	    running->connect_timeout != wanted->connect_timeout ||
	    running->response_timeout != wanted->response_timeout ||
	    running->head_timeout != wanted->head_timeout || running->capture != wanted->capture ||
	    running->slots_per_workload != wanted->slots_per_workload ||
	    strcmp(running->metrics_address, wanted->metrics_address) != 0 ||
	    strcmp(running->readiness_address, wanted->readiness_address) != 0)
		log_warnx("shunt.yaml: capture, workers, slots, slotsPerWorkload, eventRate, "
			  "connectTimeout, responseTimeout, requestHeadTimeout, metrics.address "
			  "and readiness.address change at the next start");
}

static void reopen_log(struct control *c)
{
	const char *path = c->snapshot.options.access_log;
	int err = access_log_reopen(c->log, path);

	if (err < 0)
		log_errx("access log %s: %s", path, strerror(-err));
}

/* Takes *next over, and puts it into force. */
static int control_advance(struct control *c, struct snapshot *next)
{
	int err;

	options_compare(&c->snapshot.options, &next->options);
	c->revision++;
	policy_unref(c->previous);
	c->previous = policy_ref(c->snapshot.policy);
	snapshot_free(&c->snapshot);
	c->snapshot = *next;
	err = control_apply(c);
	if (err < 0)
		log_errx("revision %llu is in force, but not everything could be applied; "
			 "trying again every few seconds",
			 (unsigned long long)c->revision);
	return err;
}

static void documents_keep(struct control *c, const struct document_files *config,
			   const struct document_files *kept)
{
	files_free(&c->documents);
	files_free(&c->kept);
	c->documents = *config;
	c->kept = *kept;
}

int control_reload(struct control *c, struct findings *findings)
{
	struct document_files config, kept;
	struct snapshot next;
	int err;

	*findings = (struct findings){0};
	if (c->draining) { /* whoever was enrolled now would be captured, and cut */
		log_warnx("reload: the daemon is stopping, revision %llu stays",
			  (unsigned long long)c->revision);
		return -ESHUTDOWN;
	}
	err = documents_read(c, &config, &kept);
	if (err == 0)
		err = control_build(c, &config, &kept, &next, findings);
	findings_log(findings);
	c->reload_ok = err == 0;
	if (err < 0) {
		files_free(&config);
		files_free(&kept);
		log_errx("reload: nothing was changed, revision %llu stays",
			 (unsigned long long)c->revision);
		return err;
	}
	documents_keep(c, &config, &kept);
	c->reload_time = wall_seconds();
	err = control_advance(c, &next);
	reopen_log(c);
	c->reload_ok = err == 0;
	if (err == 0)
		log_info("reload: revision %llu is in force", (unsigned long long)c->revision);
	return err;
}

/* A snapshot without `added`, which has neither labels nor a document, is no success. */
static int rebuild_check(const struct state_workload *added, struct snapshot *next)
{
	if (added == NULL || fleet_by_name(next->fleet, added->namespace, added->name) != NULL)
		return 0;
	snapshot_free(next);
	return -ENOENT;
}

int control_rebuild(struct control *c, const struct state_workload *added,
		    struct findings *findings)
{
	struct document_files kept = {0};
	struct snapshot next;
	char *error = NULL;
	int err = state_read(c->options->state_dir, &kept, &error);

	if (err < 0)
		log_errx("%s", error ? error : strerror(-err));
	free(error);
	if (err == 0)
		err = control_build(c, &c->documents, &kept, &next, findings);
	findings_drop_warnings(findings);
	findings_log(findings);
	if (err == 0)
		err = rebuild_check(added, &next);
	if (err < 0) {
		files_free(&kept);
		return err;
	}
	files_free(&c->kept);
	c->kept = kept;
	(void)control_advance(c, &next); /* it is said, and tried again */
	return 0;
}

/* ---- kernel denials ---- */

static const struct policy_rule *event_rule(const struct control *c, const struct event *e)
{
	if (e->rule == 0)
		return NULL;
	if (e->revision == policy_revision(c->snapshot.policy))
		return policy_rule_by_id(c->snapshot.policy, e->rule);
	if (c->previous != NULL && e->revision == policy_revision(c->previous))
		return policy_rule_by_id(c->previous, e->rule);
	return NULL;
}

static void event_take(void *arg, const struct event *e)
{
	struct control *c = arg;

	record_denial(c->writer, e, c->directory, event_rule(c, e));
}

static void events_ready(uv_poll_t *poll, int status, int events)
{
	struct control *c = container_of(poll, struct control, events);

	(void)status;
	(void)events;
	if (loader_events_drain(c->loader, event_take, c) < 0)
		log_warnx("kernel events: %s", loader_error(c->loader));
}

/* ---- signals and timers ---- */

/* Counted from here on, and read only while it drains. */
static void drain_tick(uv_timer_t *timer)
{
	struct control *c = container_of(timer, struct control, drain);
	uint64_t open = node_conns(&c->node), now = io_now();

	if (now < c->drain_until && (open > 0 || slots_expected(&c->node, now) > 0))
		return;
	if (open > 0)
		log_warnx("%llu connections were still open after drainTimeout: they are reset",
			  (unsigned long long)open);
	uv_stop(&c->loop);
}

/* New connections meet what onUnavailable says; those that wait or are under way are accepted,
 * and all are asked to end: idle ones at once, others with their answer. */
static void drain_begin(struct control *c)
{
	c->draining = true;
	c->drain_until = io_now() + UINT64_C(1000000) * c->snapshot.options.drain_timeout;
	uv_timer_stop(&c->tend);
	enroll_drain(&c->enrollment, c->loader, &c->node);
	explicits_drain(&c->explicits);
	if (node_conns(&c->node) > 0)
		log_info("draining %llu connections, for %u s at most; a second signal stops at "
			 "once",
			 (unsigned long long)node_conns(&c->node),
			 c->snapshot.options.drain_timeout / 1000);
	notify_stopping(c->snapshot.options.drain_timeout + STOP_MS);
	if (uv_timer_start(&c->drain, drain_tick, DRAIN_LEAST_MS, DRAIN_MS) < 0)
		uv_stop(&c->loop);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct control *c = handle->data;
	struct findings findings;

	switch (number) {
	case SIGHUP:
		if (control_reload(c, &findings) < 0)
			log_warnx("SIGHUP: reload failed");
		findings_free(&findings);
		break;
	case SIGUSR1:
		reopen_log(c);
		break;
	default:
		if (c->draining) {
			log_info("stopping now, on a second signal %d", number);
			uv_stop(&c->loop);
		} else {
			log_info("stopping on signal %d; links stay pinned (`shunt detach` "
				 "releases them)",
				 number);
			drain_begin(c);
		}
	}
}

static void tend(uv_timer_t *timer)
{
	struct control *c = container_of(timer, struct control, tend);

	bool retry = ++c->ticks % RETRY_TICKS == 0;
	bool stale = enroll_is_stale(&c->enrollment, retry) ||
		     (retry && (c->apply_failed || c->explicits.failed > 0));

	if (c->ticks % SWEEP_TICKS == 0)
		slots_sweep(&c->node, io_now());
	if (stale && control_apply(c) < 0)
		log_warnx("namespaces changed, but not everything could be applied");
	if (c->loader == NULL)
		return;
	enroll_walk(&c->enrollment, c->loader, retry);
	workloads_tend(c);
}

static int watch_signals(struct control *c)
{
	static const int numbers[] = {SIGHUP, SIGUSR1, SIGTERM, SIGINT};
	int err = 0;

	for (int i = 0; i < 4 && err == 0; i++) {
		err = uv_signal_init(&c->loop, &c->signals[i]);
		c->signals[i].data = c;
		if (err == 0)
			err = uv_signal_start(&c->signals[i], on_signal, numbers[i]);
	}
	return err;
}

/* ---- start and stop; stop is start's mirror image ---- */

/* Of what says nothing itself when it fails: no start ends without a word. */
static int step(const char *what, int err)
{
	if (err < 0)
		log_errx("start: %s: %s", what, strerror(-err));
	return err;
}

static int start_kernel(struct control *c)
{
	struct loader_options options = {
		.pin_dir = c->options->pin_dir,
		.cgroup_root = c->options->cgroup_root,
		.self_cgroup = c->options->self_cgroup,
		.host_netns = c->enrollment.host.netns,
		.slots = c->snapshot.options.slots,
		.slot_quota = c->snapshot.options.slots_per_workload,
		.event_rate = c->snapshot.options.event_rate,
	};
	int err;

	if (!c->snapshot.options.capture) {
		log_warnx("capture: off; no workload is captured, only listeners are served");
		return 0;
	}
	err = loader_open(&options, &c->loader);
	if (err < 0) {
		log_errx("kernel programs: %s", loader_error(c->loader));
		return err;
	}
	c->node.slots = loader_slots(c->loader, &c->node.slot_count);
	c->node.dials = loader_dials(c->loader, &c->node.dial_count);
	c->node.workloads = loader_workload(c->loader, 0);
	c->node.globals = loader_globals(c->loader);
	return 0;
}

/* The folder of the access log, so that the default works on a machine that never ran us. */
static void make_log_folder(const char *path)
{
	const char *end = strrchr(path, '/');
	char folder[sizeof(((struct options *)0)->access_log)];

	if (end == NULL || end == path)
		return;
	snprintf(folder, sizeof folder, "%.*s", (int)(end - path), path);
	if (mkdir(folder, 0750) == 0)
		log_info("made %s for the access log", folder);
}

static int start_records(struct control *c)
{
	int err;

	c->metrics = metrics_new();
	if (c->metrics == NULL)
		return step("metrics", -ENOMEM);
	make_log_folder(c->snapshot.options.access_log);
	err = access_log_start(c->snapshot.options.access_log, c->host, c->metrics, &c->log);
	if (err < 0) {
		log_errx("access log %s: %s", c->snapshot.options.access_log, strerror(-err));
		return err;
	}
	c->writer = access_log_writer(c->log);
	return c->writer ? 0 : step("access log", -ENOMEM);
}

static int start_workers(struct control *c)
{
	struct view *view;
	int err;

	c->node.worker_count = c->snapshot.options.workers;
	if (c->node.worker_count == 0)
		c->node.worker_count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	c->directory = directory_build(c, c->snapshot.fleet);
	if (c->directory == NULL)
		return -ENOMEM;
	view = view_new(c->snapshot.policy, c->directory, &c->snapshot.options);
	if (view == NULL)
		return -ENOMEM;
	err = workers_start(&c->node, view, c->log);
	view_unref(view);
	return err;
}

static int start_tcp(struct control *c, const char *option, const char *address,
		     const struct admin_route *routes, struct admin **out)
{
	int err = address[0] ? admin_listen_tcp(&c->loop, address, routes, c, out) : 0;

	if (err < 0)
		log_errx("%s %s: %s%s", option, address, strerror(-err),
			 err == -EADDRINUSE
				 ? "; each daemon of a machine needs one of its own, or off"
				 : "");
	return err;
}

/* Before the kernel has anything of ours: an address that is taken leaves nothing behind. */
static int start_addresses(struct control *c)
{
	const struct options *o = &c->snapshot.options;
	int err = start_tcp(c, "metrics.address", o->metrics_address, scrape_routes, &c->scrape);

	if (err == 0)
		err = start_tcp(c, "readiness.address", o->readiness_address, readiness_routes,
				&c->readiness);
	return err;
}

static int start_admin(struct control *c)
{
	char path[256];
	int err;

	snprintf(path, sizeof path, "%s/admin.sock", c->options->run_dir);
	err = admin_listen_unix(&c->loop, path, control_routes, c, &c->admin);
	if (err < 0)
		log_errx("%s: %s", path, strerror(-err));
	return err;
}

static int start_loop(struct control *c)
{
	int err = watch_signals(c);

	if (err == 0 && c->loader != NULL)
		err = uv_poll_init(&c->loop, &c->events, loader_events_fd(c->loader));
	if (err == 0 && c->loader != NULL)
		err = uv_poll_start(&c->events, UV_READABLE, events_ready);
	if (err == 0)
		err = uv_timer_init(&c->loop, &c->tend);
	if (err == 0)
		err = uv_timer_start(&c->tend, tend, TEND_MS, TEND_MS);
	if (err == 0)
		err = uv_timer_init(&c->loop, &c->drain);
	if (err == 0)
		err = capability_watch(c->options->capability, &c->loop);
	return err;
}

static int first_snapshot(struct control *c)
{
	struct findings findings = {0};
	char *error = NULL;
	int err;

	c->identities = identity_table_new();
	if (c->identities == NULL)
		return step("configuration", -ENOMEM);
	err = state_open(c->options->state_dir, &error);
	if (err < 0)
		log_errx("%s", error ? error : strerror(-err));
	free(error);
	if (err < 0)
		return err;
	err = documents_read(c, &c->documents, &c->kept);
	if (err < 0)
		return err;
	err = control_build(c, &c->documents, &c->kept, &c->snapshot, &findings);
	findings_log(&findings);
	if (findings.errors == 0)
		(void)step("configuration", err);
	else
		log_errx("%s: %zu error%s; nothing was started", c->options->config_dir,
			 findings.errors, findings.errors == 1 ? "" : "s");
	findings_free(&findings);
	c->revision = 1;
	c->reload_ok = true;
	c->reload_time = c->start_time = wall_seconds();
	return err;
}

int control_read(struct control *c, const struct control_options *options)
{
	*c = (struct control){.options = options};
	gethostname(c->host, sizeof c->host - 1);
	c->host[strcspn(c->host, ".")] = '\0';
	return first_snapshot(c);
}

/* Whoever tries again finds what he found before. */
static int start_undo(struct control *c, int err)
{
	if (c->loader != NULL && loader_undo(c->loader) < 0)
		log_errx("%s: not everything could be unpinned; remove it with: shunt detach",
			 c->options->pin_dir);
	return err;
}

int control_start(struct control *c)
{
	int err = step("event loop", uv_loop_init(&c->loop));

	if (err == 0)
		err = start_addresses(c);
	if (err == 0)
		err = step("thread for namespaces", netns_start());
	if (err == 0)
		err = step("own namespace", enroll_start(&c->enrollment, c->options->cgroup_root));
	if (err == 0)
		err = start_records(c);
	if (err == 0)
		err = start_kernel(c);
	if (err == 0 && c->loader != NULL)
		err = enroll_adopt(&c->enrollment, c->loader, &c->node);
	if (err == 0)
		err = step("workers", start_workers(c));
	if (err == 0)
		err = step("event loop", start_loop(c));
	if (err == 0)
		err = start_admin(c);
	if (err < 0)
		return start_undo(c, err);
	/* One workload that cannot be captured keeps the others from nothing. */
	if (control_apply(c) < 0)
		log_errx("not everything could be applied; trying again every few seconds");
	privilege_keep(PRIVILEGE_CONTROL);
	return 0;
}

void control_run(struct control *c)
{
	uv_run(&c->loop, UV_RUN_DEFAULT);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void control_stop(struct control *c)
{
	/* The loop still runs, to close things: a tick that is due would meet what is gone. */
	c->draining = true;
	uv_timer_stop(&c->tend);
	uv_timer_stop(&c->drain);
	explicits_close(&c->explicits, &c->enrollment, &c->node);
	enroll_close(&c->enrollment, c->loader, &c->node, c->detach);
	workers_stop(&c->node);
	admin_close(c->admin);
	if (c->scrape != NULL)
		admin_close(c->scrape);
	if (c->readiness != NULL)
		admin_close(c->readiness);
	capability_stop(c->options->capability);
	uv_run(&c->loop, UV_RUN_NOWAIT);
	uv_walk(&c->loop, close_handle, NULL);
	uv_run(&c->loop, UV_RUN_DEFAULT);
	uv_loop_close(&c->loop);
	loader_close(c->loader);
	if (c->detach && c->snapshot.options.capture && loader_detach(c->options->pin_dir) < 0)
		log_errx("%s: not everything could be unpinned", c->options->pin_dir);
	access_log_stop(c->log);
	metrics_free(c->metrics);
	netns_stop();
	directory_unref(c->directory);
	policy_unref(c->previous);
	snapshot_free(&c->snapshot);
	files_free(&c->documents);
	files_free(&c->kept);
	identity_table_free(c->identities);
}
