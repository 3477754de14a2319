/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads by command: see workloads.h. */
#include "proxy/workloads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/log.h"
#include "proxy/status.h"

#define LABELS_MAX 64
#define BYPASS_MAX (24 * 3600) /* s */
#define SECOND_NS UINT64_C(1000000000)

/* ---- what was asked ---- */

struct asked {
	struct state_workload workload;
	struct label labels[LABELS_MAX];
	uint64_t seconds; /* of a bypass */
	const char *reason;
	const char *wrong; /* a parameter that cannot be */
};

static bool begins(const char *s, const char *prefix, const char **rest)
{
	size_t n = strlen(prefix);

	*rest = s + n;
	return strncmp(s, prefix, n) == 0;
}

static void take_selector(struct asked *a, const char *value)
{
	struct state_workload *w = &a->workload;

	if (begins(value, "netns:", &w->selected))
		w->selector = SELECTOR_NETNS;
	else if (begins(value, "cgroup:", &w->selected))
		w->selector = SELECTOR_CGROUP;
	else if (begins(value, "systemd:id:", &w->selected))
		w->selector = SELECTOR_SYSTEMD;
	else
		a->wrong = "selector is none of netns:, cgroup:, systemd:id:";
}

/* Digits only: what is no number must not mean 0, which ends a bypass. */
static void take_number(struct asked *a, const char *value, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0)
		a->wrong = "inode and seconds are numbers";
}

static void take_label(struct asked *a, char *value)
{
	struct state_workload *w = &a->workload;
	char *equals = strchr(value, '=');

	if (equals == NULL || w->label_count == LABELS_MAX) {
		a->wrong = equals == NULL ? "a label is KEY=VALUE" : "too many labels";
		return;
	}
	*equals = '\0';
	a->labels[w->label_count++] = (struct label){value, equals + 1};
}

static void take_parameter(void *arg, char *key, char *value)
{
	struct asked *a = arg;
	struct state_workload *w = &a->workload;

	if (strcmp(key, "namespace") == 0)
		w->namespace = value;
	else if (strcmp(key, "name") == 0)
		w->name = value;
	else if (strcmp(key, "selector") == 0)
		take_selector(a, value);
	else if (strcmp(key, "inode") == 0)
		take_number(a, value, &w->netns_inode);
	else if (strcmp(key, "boot") == 0)
		w->boot_id = value;
	else if (strcmp(key, "label") == 0)
		take_label(a, value);
	else if (strcmp(key, "serviceAccount") == 0)
		w->service_account = value;
	else if (strcmp(key, "onUnavailable") == 0)
		w->on_unavailable = value;
	else if (strcmp(key, "seconds") == 0)
		take_number(a, value, &a->seconds);
	else if (strcmp(key, "reason") == 0)
		a->reason = value;
	else
		a->wrong = "a parameter that this daemon does not know";
}

/* `copy` is taken apart; what was asked points into it. */
static void asked_read(struct asked *a, char *copy)
{
	*a = (struct asked){.reason = ""};
	a->workload.labels = a->labels;
	admin_query_each(copy, take_parameter, a);
	if (a->wrong == NULL && (a->workload.namespace == NULL || a->workload.name == NULL))
		a->wrong = "namespace and name are needed";
}

static unsigned say_error(struct text *body, const char *error)
{
	struct object o = {body, false};

	text_add(body, "{");
	key(&o, "ok");
	text_add(body, "false");
	put_string(&o, "error", error);
	text_add(body, "}\n");
	return 200;
}

/* Why no workload can be added or removed now, or NULL. */
static const char *away(const struct control *c)
{
	if (c->draining)
		return "the daemon is stopping";
	return c->loader == NULL ? "nothing is captured (capture: off in shunt.yaml)" : NULL;
}

/* ---- add and remove ---- */

static const struct absentee *absentee_find(const struct enrollment *e, const char *namespace,
					    const char *name)
{
	for (size_t i = 0; i < e->absent_count; i++)
		if (strcmp(e->absent[i].namespace, namespace) == 0 &&
		    strcmp(e->absent[i].name, name) == 0)
			return &e->absent[i];
	return NULL;
}

/* Why the workload that was to be added is not captured now; `err` is of the rebuild. */
static void say_not_captured(struct control *c, const struct state_workload *w, int err,
			     const struct findings *findings, struct text *error)
{
	const struct member *m = enroll_find(&c->enrollment, w->namespace, w->name);
	const struct absentee *a = absentee_find(&c->enrollment, w->namespace, w->name);

	if (findings->errors > 0)
		text_add(error, "it does not go together with the documents");
	else if (err == -ENOENT)
		text_add(error, "no Workload document has this name: give it labels (--label), or "
				"write the document first");
	else if (err < 0)
		text_add(error, strerror(-err));
	else if (a != NULL)
		text_add(error, absentee_text(a));
	else if (m != NULL)
		text_adds(error, "it could not be captured: ", loader_error(c->loader), NULL);
}

/* By this selector, and as who the snapshot in force says. */
static bool is_captured(const struct control *c, const struct state_workload *w)
{
	const struct member *m = enroll_find(&c->enrollment, w->namespace, w->name);
	const struct fleet_workload *f = fleet_by_name(c->snapshot.fleet, w->namespace, w->name);

	return m != NULL && f != NULL && m->captured && m->judged_as == f->identity &&
	       strcmp(m->selected, w->selected) == 0;
}

/* One that is captured elsewhere is not let go of for a place that cannot be had. */
static const char *move_check(struct control *c, const struct state_workload *w)
{
	const struct fleet_workload to = {
		.namespace = w->namespace,
		.name = w->name,
		.selector = w->selector,
		.selected = w->selected,
		.netns_inode = w->netns_inode,
		.boot_id = w->boot_id,
	};
	const struct member *m = enroll_find(&c->enrollment, w->namespace, w->name);

	if (m == NULL || (m->selector == w->selector && strcmp(m->selected, w->selected) == 0))
		return NULL;
	return enroll_try(&c->enrollment, c->loader, &to);
}

/* What did not work is not kept, and what was kept by that name is in force again. */
static void take_back(struct control *c, const struct state_workload *w, const struct text *before,
		      bool applied)
{
	struct findings ignored = {0};
	char *why = NULL;
	int err = state_restore(c->options->state_dir, w->namespace, w->name, before, &why);

	if (err == 0 && applied)
		err = control_rebuild(c, NULL, &ignored);
	if (err < 0)
		log_errx("workload %s/%s: %s", w->namespace, w->name, why ? why : strerror(-err));
	findings_free(&ignored);
	free(why);
}

/* The new document in place of the one that was kept. */
static int state_exchange(struct control *c, const struct state_workload *w, struct text *before,
			  struct text *error)
{
	const char *dir = c->options->state_dir;
	char *why = NULL;
	int err = state_get(dir, w->namespace, w->name, before, &why);

	if (err == 0)
		err = state_put(dir, w, &why);
	if (err < 0)
		text_add(error, why ? why : strerror(-err));
	free(why);
	return err;
}

/* Keeps it, and returns when it is captured: 0; else `error` says why it is not, and everything
 * is as it was. */
static int workload_add(struct control *c, const struct state_workload *w, struct text *error,
			struct findings *findings)
{
	const char *obstacle = move_check(c, w);
	struct text before = {0};
	int err = 0;

	if (obstacle != NULL) {
		text_add(error, obstacle);
		err = -ENOENT;
	} else {
		err = state_exchange(c, w, &before, error);
	}
	if (err == 0) {
		err = control_rebuild(c, w, findings);
		if (err < 0 || !is_captured(c, w)) {
			say_not_captured(c, w, err, findings, error);
			take_back(c, w, &before, err == 0);
			err = err < 0 ? err : -ENOENT;
		}
	}
	if (err == 0)
		log_info("workload %s/%s: added", w->namespace, w->name);
	else
		log_warnx("workload %s/%s: not added: %s", w->namespace, w->name,
			  text_string(error));
	text_free(&before);
	return err;
}

static unsigned say_added(struct control *c, const struct asked *a, uint64_t began,
			  struct text *body)
{
	uint64_t ms = (io_now() - began) / 1000000;
	struct object o = {body, false};

	text_add(body, "{");
	key(&o, "ok");
	text_add(body, "true");
	key(&o, "workload");
	status_member(body, c,
		      enroll_find(&c->enrollment, a->workload.namespace, a->workload.name));
	key(&o, "seconds");
	text_add_number(body, ms / 1000);
	text_add(body, ms % 1000 < 10 ? ".00" : ms % 1000 < 100 ? ".0" : ".");
	text_add_number(body, ms % 1000);
	text_add(body, "}\n");
	return 200;
}

static unsigned say_not_added(struct text *body, const struct text *error,
			      const struct findings *findings)
{
	struct object o = {body, false};

	text_add(body, "{");
	key(&o, "ok");
	text_add(body, "false");
	put_string(&o, "error", text_string(error));
	status_findings(&o, findings);
	text_add(body, "}\n");
	return 200;
}

unsigned post_workload_add(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;
	struct findings findings = {0};
	struct text error = {0};
	char *copy = strdup(query);
	uint64_t began = io_now();
	struct asked a;
	unsigned status;

	if (copy == NULL)
		return 500;
	asked_read(&a, copy);
	if (a.wrong == NULL && a.workload.selector == SELECTOR_NONE)
		a.wrong = "a selector is needed";
	if (a.wrong == NULL)
		a.wrong = away(c);
	if (a.wrong != NULL)
		status = say_error(body, a.wrong);
	else if (workload_add(c, &a.workload, &error, &findings) == 0)
		status = say_added(c, &a, began, body);
	else
		status = say_not_added(body, &error, &findings);
	findings_free(&findings);
	text_free(&error);
	free(copy);
	return status;
}

/* -ENOENT when none of that name was added. */
static int workload_remove(struct control *c, const char *namespace, const char *name,
			   struct text *error)
{
	struct findings findings = {0};
	char *why = NULL;
	int err = state_remove(c->options->state_dir, namespace, name, &why);

	if (err < 0) {
		text_add(error, why ? why : strerror(-err));
	} else {
		log_info("workload %s/%s: removed", namespace, name);
		if (control_rebuild(c, NULL, &findings) < 0 || c->apply_failed) {
			text_add(error, "removed, but not everything could be applied; the log "
					"says why");
			err = -EIO;
		}
	}
	free(why);
	findings_free(&findings);
	return err;
}

unsigned post_workload_remove(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;
	struct object o = {body, false};
	struct text error = {0};
	char *copy = strdup(query);
	struct asked a;
	int err = 0;

	if (copy == NULL)
		return 500;
	asked_read(&a, copy);
	if (a.wrong == NULL)
		a.wrong = away(c);
	if (a.wrong == NULL)
		err = workload_remove(c, a.workload.namespace, a.workload.name, &error);
	text_add(body, "{");
	key(&o, "ok");
	text_add(body, err == 0 && a.wrong == NULL ? "true" : "false");
	if (err == -ENOENT) {
		key(&o, "missing");
		text_add(body, "true");
	}
	if (err < 0 || a.wrong != NULL) {
		put_string(&o, "error", a.wrong ? a.wrong : text_string(&error));
	} else {
		key(&o, "documented");
		text_add(body,
			 fleet_by_name(c->snapshot.fleet, a.workload.namespace, a.workload.name)
				 ? "true"
				 : "false");
	}
	text_add(body, "}\n");
	text_free(&error);
	free(copy);
	return 200;
}

/* ---- bypass ---- */

unsigned post_workload_bypass(void *arg, const char *query, struct text *body)
{
	struct control *c = arg;
	struct object o = {body, false};
	char *copy = strdup(query);
	struct asked a;
	struct member *m;
	uint64_t until;

	if (copy == NULL)
		return 500;
	asked_read(&a, copy);
	m = a.wrong ? NULL : enroll_find(&c->enrollment, a.workload.namespace, a.workload.name);
	if (a.wrong == NULL && m == NULL)
		a.wrong = "no such workload is enrolled on this node";
	if (a.seconds > BYPASS_MAX)
		a.wrong = "at most 24 hours";
	if (a.wrong != NULL) {
		free(copy);
		return say_error(body, a.wrong);
	}
	until = a.seconds ? io_now() + a.seconds * SECOND_NS : 0;
	__atomic_store_n(&loader_workload(c->loader, m->enrolled.index)->bypass_until, until,
			 __ATOMIC_SEQ_CST);
	m->bypassed = a.seconds != 0;
	if (a.seconds != 0)
		log_warnx("workload %s: BYPASSED for %u s: its new connections are not judged%s%s",
			  m->key, (unsigned)a.seconds, a.reason[0] ? "; reason given: " : "",
			  a.reason);
	else
		log_info("workload %s: the bypass was ended", m->key);
	text_add(body, "{");
	key(&o, "ok");
	text_add(body, "true");
	if (a.seconds != 0)
		status_time(&o, "until", time(NULL) + (time_t)a.seconds);
	text_add(body, "}\n");
	free(copy);
	return 200;
}

/* ---- in the course of time ---- */

static void bypasses_tend(struct control *c)
{
	for (struct member *m = c->enrollment.by_key; m != NULL; m = m->hh.next) {
		uint64_t until = loader_workload(c->loader, m->enrolled.index)->bypass_until;
		bool bypassed = until > io_now();

		if (m->bypassed && !bypassed)
			log_info("workload %s: the bypass has ended", m->key);
		m->bypassed = bypassed;
	}
}

/* Other obstacles may pass: a port that is taken, descriptors that are short. */
static bool is_gone(const struct absentee *a)
{
	return a != NULL && a->why == REASON_NONE && (a->err == ENOENT || a->err == ESTALE);
}

void workloads_tend(struct control *c)
{
	const struct fleet *fleet = c->snapshot.fleet;
	struct text error = {0};

	bypasses_tend(c);
	for (size_t i = 0; i < fleet->workload_count; i++) {
		const struct fleet_workload *w = &fleet->workloads[i];

		if (!w->from_state || w->netns_inode == 0 ||
		    !is_gone(absentee_find(&c->enrollment, w->namespace, w->name)))
			continue;
		log_info("workload %s/%s: its process is gone", w->namespace, w->name);
		if (workload_remove(c, w->namespace, w->name, &error) < 0)
			log_warnx("%s", text_string(&error));
		break; /* the fleet is another one now; the next tick sees the next */
	}
	text_free(&error);
}
