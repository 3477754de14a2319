/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says of itself: the routes of the admin socket and of the scrape. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/privilege.h"
#include "proxy/status.h"
#include "proxy/version.h"
#include "proxy/workloads.h"

#define LINKS_MAX 64

/* ---- subsystems ---- */

static void subsystem(struct object *list, const char *name, const char *state, struct text *text,
		      const char *hint)
{
	struct object o = {list->t, false};

	if (list->more)
		text_add(list->t, ",");
	list->more = true;
	text_add(list->t, "{");
	put_string(&o, "name", name);
	put_string(&o, "state", state);
	put_string(&o, "text", text_string(text));
	if (hint != NULL)
		put_string(&o, "hint", hint);
	text_add(list->t, "}");
	text_free(text);
}

static void say_configuration(struct object *list, const struct control *c)
{
	struct text t = {0};

	text_adds(&t, c->options->config_dir, ", revision ", NULL);
	text_add_number(&t, c->revision);
	if (!c->reload_ok)
		text_add(&t, "; the last reload was refused");
	subsystem(list, "configuration", c->reload_ok ? "ok" : "fail", &t,
		  c->reload_ok ? NULL : "run `shunt config validate` and `shunt reload`");
}

static void say_workloads(struct object *list, const struct control *c)
{
	size_t absent = c->enrollment.absent_count, failed = 0, bypassed = 0;
	struct text t = {0};

	for (const struct member *m = c->enrollment.by_key; m != NULL; m = m->hh.next) {
		failed += !m->captured;
		bypassed += m->bypassed;
	}
	text_add_number(&t, c->enrollment.count - failed);
	text_add(&t, " captured");
	if (absent > 0) {
		text_add(&t, ", ");
		text_add_number(&t, absent);
		text_add(&t, " not enrolled");
	}
	if (failed > 0) {
		text_add(&t, ", ");
		text_add_number(&t, failed);
		text_add(&t, " NOT CAPTURED: their traffic may pass unjudged");
	}
	if (bypassed > 0) {
		text_add(&t, ", ");
		text_add_number(&t, bypassed);
		text_add(&t, " BYPASSED: their new connections are not judged");
	}
	subsystem(list, "workloads",
		  failed	       ? "fail"
		  : absent || bypassed ? "warn"
				       : "ok",
		  &t,
		  failed	       ? "the log says why; it is tried again every few seconds"
		  : absent || bypassed ? "`shunt workload list` says which, and why"
				       : NULL);
}

static void say_listeners(struct object *list, const struct control *c)
{
	const struct explicits *x = &c->explicits;
	struct text t = {0};

	if (x->count == 0)
		return;
	text_add_number(&t, x->count - x->failed);
	text_add(&t, " open: what comes by them is NOT captured, clients have to dial them");
	if (x->failed > 0) {
		text_add(&t, "; not open: ");
		text_add_number(&t, x->failed);
	}
	subsystem(list, "listeners", x->failed > 0 ? "fail" : "ok", &t,
		  x->failed > 0 ? "the log says why; it is tried again every few seconds" : NULL);
}

static void say_no_capture(struct object *list)
{
	struct text t = {0};

	text_add(&t, "none (capture: off): no workload is captured or policed in the kernel");
	subsystem(list, "kernel programs", "warn", &t, "set `capture: on` in shunt.yaml");
}

static void say_links(struct object *list, const struct control *c)
{
	struct loader_state links[LINKS_MAX];
	size_t n = loader_state(c->loader, links, LINKS_MAX);
	size_t attached = 0;
	struct text t = {0};

	n = n > LINKS_MAX ? LINKS_MAX : n;
	for (size_t i = 0; i < n; i++)
		attached += links[i].attached;
	text_add_number(&t, attached);
	text_add(&t, " of ");
	text_add_number(&t, n);
	text_adds(&t, " links attached, pinned below ", c->options->pin_dir, NULL);
	subsystem(list, "kernel programs", attached == n ? "ok" : "fail", &t,
		  attached == n ? NULL : "restart shuntd; it attaches what is missing");
}

static uint64_t slots_used(const struct control *c)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < c->node.slot_count; i++)
		n += __atomic_load_n(&c->node.slots[i].used, __ATOMIC_RELAXED) != SLOT_FREE;
	return n;
}

static void say_capabilities(struct object *list, const struct control *c)
{
	const struct capability *k = c->options->capability;
	size_t ok = 0, lacking = 0;
	struct text t = {0};

	for (size_t i = 0; i < k->count; i++) {
		ok += k->results[i].state == PROBE_OK;
		lacking += k->results[i].state != PROBE_OK && k->results[i].fallback == NULL;
	}
	text_add_number(&t, ok);
	text_add(&t, " of ");
	text_add_number(&t, k->count);
	text_add(&t, k->count > 0 ? " mechanisms of this kernel are right" : ": probing");
	subsystem(list, "kernel", lacking > 0 ? "fail" : "ok", &t,
		  lacking > 0	  ? "`shunt probe` says what is missing"
		  : ok < k->count ? "`shunt probe` says what is used instead of the others"
				  : NULL);
}

static void say_proxy(struct object *list, const struct control *c)
{
	uint64_t used = slots_used(c);
	bool tight = c->node.slot_count > 0 && used * 10 > (uint64_t)c->node.slot_count * 9;
	struct text t = {0};

	text_add_number(&t, c->node.worker_count);
	text_add(&t, " workers, ");
	text_add_number(&t, node_conns(&c->node));
	text_add(&t, " connections, ");
	text_add_number(&t, used);
	text_add(&t, " of ");
	text_add_number(&t, c->node.slot_count);
	text_add(&t, " slots in use");
	subsystem(list, "proxy", tight ? "warn" : "ok", &t,
		  tight ? "raise `slots` in shunt.yaml and restart" : NULL);
}

static void say_log(struct object *list, const struct control *c)
{
	const char *path = c->snapshot.options.access_log;
	uint64_t dropped = access_log_dropped(c->log);
	struct text t = {0};

	text_add(&t, path[0] ? path : "no file (accessLog.path: off)");
	text_add(&t, ", ");
	text_add_number(&t, dropped);
	text_add(&t, " records dropped");
	subsystem(list, "access log", dropped ? "warn" : "ok", &t,
		  dropped ? "the log could not be written as fast as records came" : NULL);
}

static void say_refused(struct object *list, const struct control *c)
{
	uint64_t counts[REASON_MAX], all = 0, passed;
	struct text t = {0};

	if (c->loader == NULL)
		return;
	loader_counters(c->loader, counts);
	passed = counts[REASON_AWAY_ALLOWED];
	for (unsigned i = 0; i < REASON_MAX; i++)
		all += i == REASON_AWAY_ALLOWED ? 0 : counts[i];
	text_add_number(&t, all);
	text_add(&t, " connections refused by the kernel since its programs were loaded, ");
	text_add_number(&t, passed);
	text_add(&t, " passed unjudged while no daemon ran (onUnavailable: allow)");
	subsystem(list, "refusals", "ok", &t, NULL);
}

static void say_privileges(struct object *list)
{
	struct text t = {0};
	bool well = privilege_describe(&t);

	subsystem(list, "privileges", well ? "ok" : "warn", &t,
		  well ? NULL : "a thread holds more than it needs; please report it");
}

/* ---- workloads ---- */

static void put_addresses(struct object *o, const struct member *m)
{
	key(o, "addresses");
	text_add(o->t, "[");
	for (unsigned i = 0; i < m->address_count; i++) {
		text_add(o->t, i ? ",\"" : "\"");
		text_add_address(o->t, &m->addresses[i]);
		text_add(o->t, "\"");
	}
	text_add(o->t, "]");
}

/* Where it is, as documents say it: "netns:/run/netns/api". */
static void put_selector(struct object *o, enum selector selector, const char *selected)
{
	struct text t = {0};

	text_adds(&t, selector_word(selector), ":", selected, NULL);
	put_string(o, "selector", text_string(&t));
	if (selector == SELECTOR_NETNS)
		put_string(o, "netns", selected);
	else
		put_string(o, selector == SELECTOR_CGROUP ? "cgroup" : "unit", selected);
	text_free(&t);
}

static const char *source_of(const struct control *c, const char *namespace, const char *name)
{
	const struct fleet_workload *w = fleet_by_name(c->snapshot.fleet, namespace, name);

	return w != NULL && w->from_state ? "added" : "document";
}

void status_time(struct object *o, const char *name, time_t at)
{
	char text[32];
	struct tm tm;

	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
	put_string(o, name, text);
}

static void put_member(struct object *o, const struct control *c, const struct member *m)
{
	const struct workload *w = loader_workload(c->loader, m->enrolled.index);
	const struct usage *used = &c->node.used[m->enrolled.index];
	uint64_t now = io_now();

	put_string(o, "onUnavailable", m->wanted.flags & WORKLOAD_AWAY_ALLOW ? "allow" : "deny");
	put_number(o, "identity", m->wanted.identity);
	put_addresses(o, m);
	put_string(o, "families",
		   m->enrolled.listeners[LISTENER_EGRESS6] >= 0 ? "IPv4, IPv6" : "IPv4");
	put_string(o, "registry",
		   loader_registry_is_complete(c->loader, m->enrolled.index) ? "complete"
									     : "incomplete");
	put_number(o, "slots", w->slots_used);
	put_number(o, "connections", atomic_load_explicit(&used->conns, memory_order_relaxed));
	put_number(o, "unfinishedHeads", atomic_load_explicit(&used->heads, memory_order_relaxed));
	put_number(o, "bufferedBytes", atomic_load_explicit(&used->buffered, memory_order_relaxed));
	if (w->bypass_until > now)
		status_time(o, "bypassUntil",
			    time(NULL) + (time_t)((w->bypass_until - now) / UINT64_C(1000000000)));
}

void status_member(struct text *t, const struct control *c, const struct member *m)
{
	struct object o = {t, false};

	text_add(t, "{");
	put_string(&o, "namespace", m->namespace);
	put_string(&o, "name", m->name);
	put_selector(&o, m->selector, m->selected);
	put_string(&o, "state", m->captured ? "captured" : "failed");
	put_string(&o, "source", source_of(c, m->namespace, m->name));
	put_member(&o, c, m);
	text_add(t, "}");
}

static void status_absentee(struct text *t, const struct control *c, const struct absentee *a)
{
	struct object o = {t, false};

	text_add(t, "{");
	put_string(&o, "namespace", a->namespace);
	put_string(&o, "name", a->name);
	put_selector(&o, a->selector, a->selected);
	put_string(&o, "state", "absent");
	put_string(&o, "source", source_of(c, a->namespace, a->name));
	if (a->why != REASON_NONE)
		put_string(&o, "reason", reason_word(a->why));
	put_string(&o, "why", absentee_text(a));
	text_add(t, "}");
}

static void workloads(struct object *root, const struct control *c)
{
	bool more = false;

	key(root, "workloads");
	text_add(root->t, "[");
	for (const struct member *m = c->enrollment.by_key; m != NULL; m = m->hh.next) {
		text_add(root->t, more ? "," : "");
		more = true;
		status_member(root->t, c, m);
	}
	for (size_t i = 0; i < c->enrollment.absent_count; i++) {
		text_add(root->t, more ? "," : "");
		more = true;
		status_absentee(root->t, c, &c->enrollment.absent[i]);
	}
	text_add(root->t, "]");
}

static void put_endpoint(struct object *o, const char *name, const struct endpoint *e)
{
	struct text t = {0};

	text_add_endpoint(&t, &e->ip, e->port);
	put_string(o, name, text_string(&t));
	text_free(&t);
}

static void listeners(struct object *root, const struct control *c)
{
	key(root, "listeners");
	text_add(root->t, "[");
	for (const struct explicit *p = c->explicits.first; p != NULL; p = p->next) {
		struct object o = {root->t, false};

		text_add(root->t, p == c->explicits.first ? "{" : ",{");
		put_endpoint(&o, "address", &p->at);
		put_endpoint(&o, "upstream", &p->upstream);
		put_string(&o, "namespace", p->namespace);
		put_string(&o, "name", p->name);
		put_string(&o, "state", p->err == 0 ? "open" : "failed");
		if (p->err != 0)
			put_string(&o, "why", strerror(p->err));
		text_add(root->t, "}");
	}
	text_add(root->t, "]");
}

static uint64_t uptime(const struct control *c)
{
	return (uint64_t)((double)time(NULL) - c->start_time + 0.5);
}

static unsigned get_status(void *arg, const char *query, struct text *body)
{
	const struct control *c = arg;
	struct object root = {body, false}, list = {body, false};

	(void)query;
	text_add(body, "{");
	put_string(&root, "version", SHUNT_VERSION);
	put_string(&root, "name", c->options->name);
	put_string(&root, "node", c->host);
	put_number(&root, "pid", (uint64_t)getpid());
	put_number(&root, "uptime_seconds", uptime(c));
	put_number(&root, "revision", c->revision);
	key(&root, "subsystems");
	text_add(body, "[");
	say_configuration(&list, c);
	say_workloads(&list, c);
	say_listeners(&list, c);
	if (c->loader != NULL)
		say_links(&list, c);
	else
		say_no_capture(&list);
	say_capabilities(&list, c);
	say_proxy(&list, c);
	say_log(&list, c);
	say_refused(&list, c);
	say_privileges(&list);
	text_add(body, "]");
	workloads(&root, c);
	listeners(&root, c);
	key(&root, "capabilities");
	probe_json(c->options->capability->results, c->options->capability->count, body);
	text_add(body, "}\n");
	return 200;
}

/* ---- verbs ---- */

static void put_finding(struct text *t, const struct finding *f)
{
	struct object o = {t, false};

	text_add(t, "{");
	put_string(&o, "level", f->level == FINDING_ERROR ? "error" : "warning");
	put_string(&o, "file", f->where.file);
	put_number(&o, "line", f->where.line);
	put_number(&o, "column", f->where.column);
	put_string(&o, "text", f->text);
	if (f->excerpt != NULL)
		put_string(&o, "excerpt", f->excerpt);
	text_add(t, "}");
}

void status_findings(struct object *o, const struct findings *findings)
{
	key(o, "findings");
	text_add(o->t, "[");
	for (size_t i = 0; i < findings->count; i++) {
		text_add(o->t, i ? "," : "");
		put_finding(o->t, &findings->items[i]);
	}
	text_add(o->t, "]");
}

static unsigned post_reload(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;
	uint64_t before = c->revision;
	struct object o = {body, true};
	struct findings findings;
	int err = control_reload(c, &findings);

	(void)query;
	text_add(body, err == 0 ? "{\"ok\":true,\"changes\":[" : "{\"ok\":false,\"changes\":[");
	if (c->revision != before) {
		struct text t = {0};

		text_add(&t, "revision ");
		text_add_number(&t, before);
		text_add(&t, " -> ");
		text_add_number(&t, c->revision);
		text_add_json_string(body, text_string(&t));
		text_free(&t);
	}
	text_add(body, "]");
	status_findings(&o, &findings);
	if (err < 0 && findings.errors == 0) {
		text_add(body, ",\"error\":");
		text_add_json_string(body,
				     err == -ESHUTDOWN ? "the daemon is stopping" : strerror(-err));
	}
	text_add(body, "}\n");
	findings_free(&findings);
	return 200;
}

static unsigned post_detach(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;

	(void)query;
	c->detach = true;
	text_add(body, "{\"ok\":true}\n");
	uv_stop(&c->loop);
	return 200;
}

static void take_observe(void *arg, const char *query, int fd)
{
	struct control *c = arg;

	access_log_subscribe(c->log, fd, admin_query_unsigned(query, "last", 20),
			     admin_query_unsigned(query, "follow", 0) != 0);
}

static size_t suppressed_of(const struct control *c, struct metrics_suppressed *out)
{
	size_t n = 0;

	for (const struct member *m = c->enrollment.by_key; m != NULL; m = m->hh.next)
		out[n++] = (struct metrics_suppressed){
			.workload = m->key,
			.count = loader_workload(c->loader, m->enrolled.index)->suppressed};
	return n;
}

static unsigned get_metrics(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;
	struct metrics_suppressed *suppressed = calloc(c->enrollment.count + 1, sizeof *suppressed);
	struct metrics_gauges g = {
		.version = SHUNT_VERSION,
		.node = c->host,
		.policy_revision = c->revision,
		.reload_ok = c->reload_ok,
		.reload_time = c->reload_time,
		.log_dropped = access_log_dropped(c->log),
		.connections = node_conns(&c->node),
		.unfinished_heads = node_heads(&c->node),
		.buffered_bytes = node_buffered(&c->node),
		.held_back = node_held_back(&c->node),
		.captured = c->loader ? loader_globals(c->loader)->captured : 0,
		.steered = c->loader ? loader_globals(c->loader)->steered : 0,
		.slots_used = slots_used(c),
		.slots = c->node.slot_count,
		.workloads = c->enrollment.count,
		.workloads_absent = c->enrollment.absent_count,
		.lost_waiting = c->enrollment.lost_waiting,
		.lost_open = c->enrollment.lost_open,
		.suppressed = suppressed,
	};

	(void)query;
	if (c->loader != NULL)
		loader_counters(c->loader, g.kernel_denials);
	for (const struct member *m = c->enrollment.by_key; m != NULL; m = m->hh.next) {
		g.bypassed += m->bypassed;
		g.registries += loader_registry_is_complete(c->loader, m->enrolled.index);
	}
	if (suppressed != NULL)
		g.suppressed_count = suppressed_of(c, suppressed);
	metrics_render(c->metrics, &g, body);
	probe_metrics(c->options->capability->results, c->options->capability->count, body);
	free(suppressed);
	return 200;
}

const struct admin_route control_routes[] = {
	{"GET", "/status", "application/json", get_status, NULL},
	{"GET", "/observe", "application/jsonl", NULL, take_observe},
	{"GET", "/metrics", "text/plain; version=0.0.4", get_metrics, NULL},
	{"POST", "/reload", "application/json", post_reload, NULL},
	{"POST", "/workload/add", "application/json", post_workload_add, NULL},
	{"POST", "/workload/remove", "application/json", post_workload_remove, NULL},
	{"POST", "/workload/bypass", "application/json", post_workload_bypass, NULL},
	{"POST", "/detach", "application/json", post_detach, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

const struct admin_route scrape_routes[] = {
	{"GET", "/metrics", "text/plain; version=0.0.4", get_metrics, NULL},
	{"GET", "/stats/prometheus", "text/plain; version=0.0.4", get_metrics, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

/* Ready: all that is configured was applied, and new connections are taken. */
static unsigned get_ready(void *arg, const char *query, struct text *body)
{
	const struct control *c = arg;

	(void)query;
	if (c->draining || !c->ready) {
		text_add(body, c->draining ? "draining\n" : "starting\n");
		return 503;
	}
	text_add(body, "ready\n");
	return 200;
}

const struct admin_route readiness_routes[] = {
	{"GET", "/healthz/ready", "text/plain", get_ready, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
