/* SPDX-License-Identifier: Apache-2.0 */
/* Workload (shunt.dev/v1): who is who on this node, and which addresses others have. */
#include <arpa/inet.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"

static void read_address(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	const char *s = read_string(l, n);
	struct location *at;
	struct addr16 *slot, ip;
	size_t count = w->address_count, room = w->address_room;

	if (s == NULL)
		return;
	if (!address_parse(s, &ip)) {
		report_error(&l->report, n->at, "'", s, "' is not an IP address", NULL);
		return;
	}
	at = arena_push(&l->arena, (void **)&w->address_at, &count, &room, sizeof(*at));
	slot = arena_push(&l->arena, (void **)&w->addresses, &w->address_count, &w->address_room,
			  sizeof(*slot));
	if (at == NULL || slot == NULL)
		return;
	*at = n->at;
	*slot = ip;
}

static void read_addresses(struct load *l, struct workload_document *w,
			   const struct yaml_node *spec)
{
	const struct yaml_node *one = yaml_get(spec, "address"), *all = yaml_get(spec, "addresses");

	if (one != NULL && !yaml_is_null(one))
		read_address(l, w, one);
	if (all == NULL || !read_is_list(l, all))
		return;
	for (const struct yaml_node *c = all->first; c != NULL; c = c->next)
		read_address(l, w, c);
}

/* ---- selectors ---- */

/* Absolute, not the root itself, and no part that is empty, `.` or `..`. */
static bool cgroup_valid(const char *s)
{
	if (s[0] != '/' || strlen(s) > 4095)
		return false;
	while (*s == '/') {
		size_t n = strcspn(++s, "/");

		if (n == 0 || n > 255 || (n == 1 && s[0] == '.') ||
		    (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		s += n;
	}
	return true;
}

/* As systemd.unit(5) has it, of the types that hold processes. `-.slice` is the root, and
 * `name@.service` is a template, which never runs. */
static bool unit_valid(const char *s)
{
	static const char *const types[] = {".service", ".socket", ".scope", ".slice", NULL};
	size_t n = strlen(s), stem = 0;

	for (size_t i = 0; types[i] != NULL && stem == 0; i++) {
		size_t len = strlen(types[i]);

		if (n > len && strcmp(s + n - len, types[i]) == 0)
			stem = n - len;
	}
	if (stem == 0 || n > 255 || s[0] == '@' || s[stem - 1] == '@' || strcmp(s, "-.slice") == 0)
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-") ==
	       n;
}

static bool netns_valid(const char *s)
{
	return s[0] == '/' && strlen(s) <= 4095;
}

static const struct selector_form {
	const char *prefix;
	enum selector selector;
	bool (*valid)(const char *s);
	const char *form;
} forms[] = {
	{"netns:", SELECTOR_NETNS, netns_valid,
	 "netns: takes the absolute path of a network namespace, such as netns:/run/netns/NAME"},
	{"cgroup:", SELECTOR_CGROUP, cgroup_valid,
	 "cgroup: takes an absolute path below the root of cgroup2 without empty, '.' and '..'"
	 " parts, such as cgroup:/system.slice/NAME.service"},
	{"systemd:id:", SELECTOR_SYSTEMD, unit_valid,
	 "systemd:id: takes the whole name of a .service, .socket, .scope or .slice, such as"
	 " systemd:id:NAME.service"},
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

void workload_selector(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	const char *s = read_string(l, n);
	const struct selector_form *f = forms;

	if (s == NULL)
		return;
	while (f < forms + FORMS && strncmp(s, f->prefix, strlen(f->prefix)) != 0)
		f++;
	if (f == forms + FORMS) {
		report_error(&l->report, n->at, "selector '", s,
			     "' is not enforced by this version; it knows netns:PATH, cgroup:/PATH"
			     " and systemd:id:UNIT",
			     NULL);
		return;
	}
	s += strlen(f->prefix);
	if (!f->valid(s)) {
		report_error(&l->report, n->at, f->form, NULL);
		return;
	}
	w->selector = f->selector;
	w->selected = s;
	w->selected_at = n->at;
}

static void read_selectors(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	if (n == NULL || !read_is_list(l, n))
		return;
	w->selected_at = n->at;
	if (n->count != 1) {
		report_error(&l->report, n->at,
			     n->count == 0
				     ? "selectors is empty; leave it out for a remote workload"
				     : "more than one selector is not enforced by this version",
			     NULL);
		return;
	}
	workload_selector(l, w, n->first);
}

/* ---- fields ---- */

/* The label and the field mean the same. */
void workload_unavailable(struct load *l, struct workload_document *w, const struct yaml_node *spec)
{
	const struct yaml_node *n = yaml_get(spec, "onUnavailable");
	const struct yaml_node *labels = yaml_get(spec, "labels");
	enum unavailable field = read_unavailable(l, n), label = read_label_switches(l, labels);
	char place[320];

	w->unavailable = field != UNAVAILABLE_UNSAID ? field : label;
	if (label != UNAVAILABLE_UNSAID && field != UNAVAILABLE_UNSAID && label != field)
		report_error(
			&l->report, n->at, "onUnavailable is ", n->text, ", but the label ",
			UNAVAILABLE_LABEL, " of the same meaning is not, at ",
			report_place(yaml_get(labels, UNAVAILABLE_LABEL)->at, place, sizeof(place)),
			NULL);
}

/* {name: number}: what is listened to for the workload by somebody else. */
static void read_ports(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	if (n == NULL || yaml_is_null(n))
		return;
	if (n->type != YAML_MAPPING) {
		report_error(&l->report, n->at, "ports must be a mapping of names to numbers",
			     NULL);
		return;
	}
	w->ports_at = n->key->at;
	if (n->count > LIST_MAX) {
		report_error(&l->report, n->at, "more than 1024 ports in one list", NULL);
		return;
	}
	w->ports = arena_array(&l->arena, n->count, sizeof(*w->ports));
	for (const struct yaml_node *c = n->first; c != NULL && w->ports != NULL; c = c->next) {
		struct port_entry *p = &w->ports[w->port_count];

		p->at = c->at;
		if (!name_valid(c->key->text, 63))
			report_error(&l->report, c->key->at, "'", c->key->text,
				     "' is not the name of a port (lower-case letters, digits,"
				     " '-' and '.')",
				     NULL);
		else if (read_port(l, c, &p->port))
			w->port_count++;
	}
	w->port_count = ports_sort(l, w->ports, w->port_count);
}

void workload_account(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(l, n);

	if (s == NULL)
		return;
	if (name_valid(s, 63)) /* as long as a label's value, which it becomes */
		w->service_account = s;
	else
		report_error(&l->report, n->at, "'", s, "' is not the name of a service account",
			     NULL);
}

/* Else a workload could pass for one of another namespace or account. */
static void refuse_made_labels(struct load *l, const struct yaml_node *labels)
{
	if (labels->type != YAML_MAPPING)
		return;
	for (const struct yaml_node *c = labels->first; c != NULL; c = c->next)
		if (strcmp(c->key->text, NAMESPACE_KEY) == 0 ||
		    strncmp(c->key->text, "io.cilium.k8s.", 14) == 0)
			report_error(&l->report, c->key->at, "label '", c->key->text,
				     "' is made from the namespace and the account; it cannot be"
				     " given",
				     NULL);
}

void workload_labels(struct load *l, struct workload_document *w, const struct yaml_node *labels)
{
	if (labels == NULL)
		return;
	refuse_made_labels(l, labels);
	(void)read_labels(l, labels, &w->labels, &w->label_count);
}

int workload_order(const void *x, const void *y)
{
	const struct workload_document *a = *(const struct workload_document *const *)x;
	const struct workload_document *b = *(const struct workload_document *const *)y;
	int c = strcmp(a->namespace, b->namespace);

	return c != 0 ? c : strcmp(a->name, b->name);
}

static void read_spec(struct load *l, struct workload_document *w, const struct yaml_node *spec)
{
	schema_check(&l->report, spec, schema_workload_spec);
	read_addresses(l, w, spec);
	read_selectors(l, w, yaml_get(spec, "selectors"));
	workload_account(l, w, yaml_get(spec, "serviceAccount"));
	if (w->service_account == NULL)
		w->service_account = "default";
	workload_unavailable(l, w, spec);
	read_ports(l, w, yaml_get(spec, "ports"));
	w->exclude = read_exclusion(l, yaml_get(spec, "exclude"));
	workload_labels(l, w, yaml_get(spec, "labels"));
	if (yaml_get(spec, "selectors") == NULL && yaml_get(spec, "address") == NULL &&
	    yaml_get(spec, "addresses") == NULL)
		report_warning(&l->report, spec->at,
			       "nobody is this workload: it has neither an address nor selectors;"
			       " `shunt workload add` may give it one",
			       NULL);
}

/* Policies see spec.labels; whoever writes them one level up would wonder for long. */
static void warn_labels(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *labels = yaml_get(yaml_get(root, "metadata"), "labels");

	if (labels != NULL && yaml_get(yaml_get(root, "spec"), "labels") == NULL)
		report_warning(&l->report, labels->key->at,
			       "policies select a Workload by spec.labels,"
			       " not by metadata.labels",
			       NULL);
}

void kind_workload(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *spec = yaml_get(root, "spec");
	struct workload_document *w = arena_alloc(&l->arena, sizeof(*w));
	struct metadata m;
	bool named;

	if (w == NULL)
		return;
	schema_check(&l->report, root, schema_workload);
	named = read_metadata(l, root, "Workload", &m);
	if (spec == NULL || spec->type != YAML_MAPPING) {
		if (spec == NULL || !yaml_is_null(spec))
			report_error(&l->report, spec == NULL ? root->at : spec->at,
				     "Workload has no spec", NULL);
		return;
	}
	w->where = m.where;
	read_spec(l, w, spec);
	warn_labels(l, root);
	if (!named)
		return;
	w->namespace = m.namespace;
	w->name = m.name;
	*l->workload_tail = w;
	l->workload_tail = &w->next;
	l->workload_count++;
}
