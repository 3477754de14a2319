/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents of the state folder (state.h): written, read, and laid over the Workload
 * documents of the same name.
 */
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "config/state.h"

#define INODE "netns-inode:"
#define BOOT "boot-id:"

/* ---- writing ---- */

static void text_add_member(struct text *t, const char *lead, const char *key, const char *value)
{
	text_add(t, lead);
	text_add_json_string(t, key);
	text_add(t, ": ");
	text_add_json_string(t, value);
}

/* One of the list, in quotes: JSON's strings are YAML's too. */
static void text_add_selector(struct text *t, const char *prefix, const char *value)
{
	struct text s = {0};

	text_adds(&s, prefix, value, NULL);
	text_add(t, "  - ");
	text_add_json_string(t, text_string(&s));
	text_add(t, "\n");
	t->failed |= s.failed;
	text_free(&s);
}

void state_text(struct text *out, const struct state_workload *w)
{
	static const char *const prefixes[] = {[SELECTOR_NONE] = "",
					       [SELECTOR_NETNS] = "netns:",
					       [SELECTOR_CGROUP] = "cgroup:",
					       [SELECTOR_SYSTEMD] = "systemd:id:"};
	char inode[24];
	struct text number;

	text_add(out, "# Written by shuntd: `shunt workload add` and `remove` change it.\n"
		      "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata:\n  name: ");
	text_add_json_string(out, w->name);
	text_add(out, "\n  namespace: ");
	text_add_json_string(out, w->namespace);
	text_add(out, "\nspec:\n  selectors:\n");
	text_add_selector(out, prefixes[w->selector], w->selected);
	text_fixed(&number, inode, sizeof(inode));
	text_add_number(&number, w->netns_inode);
	if (w->netns_inode != 0)
		text_add_selector(out, INODE, inode);
	if (w->boot_id != NULL)
		text_add_selector(out, BOOT, w->boot_id);
	if (w->service_account != NULL) {
		text_add(out, "  serviceAccount: ");
		text_add_json_string(out, w->service_account);
		text_add(out, "\n");
	}
	if (w->on_unavailable != NULL) {
		text_add(out, "  onUnavailable: ");
		text_add_json_string(out, w->on_unavailable);
		text_add(out, "\n");
	}
	text_add(out, w->label_count > 0 ? "  labels:" : "");
	for (size_t i = 0; i < w->label_count; i++)
		text_add_member(out, "\n    ", w->labels[i].key, w->labels[i].value);
	text_add(out, w->label_count > 0 ? "\n" : "");
}

/* ---- reading ---- */

static bool begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool inode_parse(const char *s, uint64_t *out)
{
	uint64_t n = 0;

	for (; *s >= '0' && *s <= '9' && n < UINT64_MAX / 10; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	*out = n;
	return *s == '\0' && n != 0;
}

/* 8-4-4-4-12 hexadecimal digits. */
static bool uuid_valid(const char *s)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i = 0;

	for (; s[i] != '\0' && form[i] != '\0'; i++)
		if (form[i] == '-' ? s[i] != '-' : strchr("0123456789abcdef", s[i]) == NULL)
			return false;
	return s[i] == form[i];
}

static void read_one(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	const char *s = n->type == YAML_SCALAR ? n->text : "";

	if (begins(s, INODE)) {
		if (w->netns_inode != 0 || !inode_parse(s + strlen(INODE), &w->netns_inode))
			report_error(&l->report, n->at, "netns-inode: takes one number", NULL);
	} else if (begins(s, BOOT)) {
		if (w->boot_id != NULL || !uuid_valid(s + strlen(BOOT)))
			report_error(&l->report, n->at, "boot-id: takes one UUID", NULL);
		w->boot_id = s + strlen(BOOT);
	} else if (w->selector != SELECTOR_NONE) {
		report_error(&l->report, n->at, "more than one selector", NULL);
	} else {
		workload_selector(l, w, n);
	}
}

static void read_selectors(struct load *l, struct workload_document *w,
			   const struct yaml_node *spec)
{
	const struct yaml_node *list = yaml_get(spec, "selectors");
	size_t errors = l->report.errors;

	if (list != NULL && read_is_list(l, list))
		for (const struct yaml_node *c = list->first; c != NULL; c = c->next)
			read_one(l, w, c);
	if (l->report.errors > errors)
		return;
	if (w->selector == SELECTOR_NONE)
		report_error(&l->report, spec->at, "a kept workload needs a selector", NULL);
	else if (w->netns_inode != 0 && w->selector != SELECTOR_NETNS)
		report_error(&l->report, w->selected_at,
			     "netns-inode: belongs to a selector netns:", NULL);
}

static bool is_workload(const struct yaml_node *root)
{
	const struct yaml_node *api = yaml_get(root, "apiVersion"), *kind = yaml_get(root, "kind");

	return api != NULL && kind != NULL && api->type == YAML_SCALAR &&
	       kind->type == YAML_SCALAR && strcmp(api->text, "shunt.dev/v1") == 0 &&
	       strcmp(kind->text, "Workload") == 0;
}

void kind_state(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *spec = yaml_get(root, "spec");
	struct workload_document *w = arena_alloc(&l->arena, sizeof(*w));
	struct metadata m;

	if (w == NULL)
		return;
	if (!is_workload(root)) {
		report_error(&l->report, root->at,
			     "the state folder holds Workloads of shunt.dev/v1 only", NULL);
		return;
	}
	schema_check(&l->report, root, schema_workload);
	if (!read_metadata(l, root, "kept Workload", &m))
		return;
	if (spec == NULL) {
		report_error(&l->report, root->at, "a kept workload needs a spec", NULL);
		return;
	}
	if (!schema_check(&l->report, spec, schema_state_spec))
		return;
	w->namespace = m.namespace;
	w->name = m.name;
	w->where = m.where;
	w->from_state = true;
	read_selectors(l, w, spec);
	workload_account(l, w, yaml_get(spec, "serviceAccount"));
	workload_unavailable(l, w, spec);
	workload_labels(l, w, yaml_get(spec, "labels"));
	*l->state_tail = w;
	l->state_tail = &w->next;
}

/* ---- together with the documents ---- */

/* In a namespace of its own the workload listens itself: see check_ports_wanted(). */
static void drop_ports(struct load *l, struct workload_document *w)
{
	char place[320];

	if (w->ports_at.file == NULL || w->selector != SELECTOR_NETNS)
		return;
	report_warning(&l->report, w->ports_at, "ports are passed over while the kept selector of ",
		       w->namespace, "/", w->name, " is a network namespace, at ",
		       report_place(w->selected_at, place, sizeof(place)), NULL);
	w->ports_at.file = NULL;
	w->port_count = 0;
}

static void lay_over(struct load *l, struct workload_document *w,
		     const struct workload_document *state)
{
	w->selector = state->selector;
	w->selected = state->selected;
	w->selected_at = state->selected_at;
	w->netns_inode = state->netns_inode;
	w->boot_id = state->boot_id;
	w->from_state = true;
	if (state->label_count > 0) {
		w->labels = state->labels;
		w->label_count = state->label_count;
	}
	if (state->unavailable != UNAVAILABLE_UNSAID)
		w->unavailable = state->unavailable;
	if (state->service_account != NULL)
		w->service_account = state->service_account;
	drop_ports(l, w);
}

/* There is no document of that name. */
static void stand_alone(struct load *l, struct workload_document *state)
{
	if (state->label_count == 0) {
		report_warning(&l->report, state->where, "workload ", state->namespace, "/",
			       state->name,
			       " is left out: it was added without labels, and there is no"
			       " Workload document of that name any more; write one, or add it"
			       " again with labels, or remove it (shunt workload)",
			       NULL);
		return;
	}
	if (state->service_account == NULL)
		state->service_account = "default";
	state->next = NULL;
	*l->workload_tail = state;
	l->workload_tail = &state->next;
	l->workload_count++;
}

void state_merge(struct load *l)
{
	const size_t size = sizeof(struct workload_document *);
	struct workload_document **sorted = arena_array(&l->arena, l->workload_count, size);
	struct workload_document **found, *next;
	size_t n = 0;

	if (sorted == NULL || l->states == NULL)
		return;
	for (struct workload_document *w = l->workloads; w != NULL; w = w->next)
		sorted[n++] = w;
	if (n > 1)
		qsort(sorted, n, size, workload_order);
	for (struct workload_document *s = l->states; s != NULL; s = next) {
		next = s->next;
		found = bsearch(&s, sorted, n, size, workload_order);
		if (found != NULL)
			lay_over(l, *found, s);
		else
			stand_alone(l, s);
	}
	l->states = NULL;
}
