/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files -> trees -> kinds -> identities -> parts of a snapshot. Everything is read before
 * anything is built, and identities are numbered only once nothing is wrong.
 */
#include "config/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "config/text.h"
#include "proxy/policy.h"

/* ---- identities ---- */

struct identity {
	char *key;
	uint32_t number;
};

struct identity_table {
	struct identity *items; /* sorted by key */
	uint32_t *numbers; /* that are taken, sorted */
	size_t count, room;
};

struct identity_table *identity_table_new(void)
{
	return calloc(1, sizeof(struct identity_table));
}

void identity_table_free(struct identity_table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->items[i].key);
	free(t->items);
	free(t->numbers);
	free(t);
}

/* Where the key is, or should be. */
static size_t identity_find(const struct identity_table *t, const char *key, bool *found)
{
	size_t lo = 0, hi = t->count;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(key, t->items[mid].key);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The first place whose number is not below `number`. */
static size_t number_find(const struct identity_table *t, uint32_t number)
{
	size_t lo = 0, hi = t->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->numbers[mid] < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool identity_room(struct identity_table *t)
{
	size_t room = t->room == 0 ? 64 : t->room * 2;
	struct identity *items;
	uint32_t *numbers;

	if (t->count < t->room)
		return true;
	items = realloc(t->items, room * sizeof(*items));
	if (items == NULL)
		return false;
	t->items = items;
	numbers = realloc(t->numbers, room * sizeof(*numbers));
	if (numbers == NULL)
		return false;
	t->numbers = numbers;
	t->room = room;
	return true;
}

/* FNV-1a of the key: the same labels get the same number in every process, so that a daemon
 * that adopts the kernel's maps means by a number what the one before it meant. */
static uint32_t identity_wish(const char *key)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *key != '\0'; key++)
		h = (h ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
	return (uint32_t)(IDENTITY_FIRST + (h ^ h >> 32) % (UINT32_MAX / 2));
}

/* The number of a set of labels; 0 when memory is short. */
static uint32_t identity_number(struct identity_table *t, const char *key)
{
	bool found;
	size_t at = identity_find(t, key, &found), taken;
	uint32_t number = identity_wish(key);
	char *copy;

	if (found)
		return t->items[at].number;
	copy = malloc(strlen(key) + 1);
	if (copy == NULL || !identity_room(t)) {
		free(copy);
		return 0;
	}
	memcpy(copy, key, strlen(key) + 1);
	taken = number_find(t, number);
	while (taken < t->count && t->numbers[taken] == number) { /* another's: the next free one */
		number++;
		taken++;
	}
	memmove(&t->numbers[taken + 1], &t->numbers[taken],
		(t->count - taken) * sizeof(*t->numbers));
	t->numbers[taken] = number;
	memmove(&t->items[at + 1], &t->items[at], (t->count - at) * sizeof(*t->items));
	t->items[at] = (struct identity){copy, number};
	t->count++;
	return number;
}

static void identity_key_labels(struct text *out, const struct label *l, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text_adds(out, "\n", l[i].key, "\n", l[i].value, NULL);
}

/* Namespace, account, labels in order, those of the namespace (whose keys no label of a
 * workload has). Line feeds occur in none of them. */
static void identity_key(const struct workload_document *w, struct text *out)
{
	text_adds(out, w->namespace, "\n", w->service_account, NULL);
	identity_key_labels(out, w->labels, w->label_count);
	if (w->space != NULL)
		identity_key_labels(out, w->space->labels, w->space->label_count);
}

static bool identities_assign(struct load *l, struct identity_table *t)
{
	bool good = true;

	for (struct workload_document *w = l->workloads; w != NULL && good; w = w->next) {
		struct text key = {0};

		identity_key(w, &key);
		w->identity = key.failed ? 0 : identity_number(t, text_string(&key));
		good = w->identity != 0;
		text_free(&key);
	}
	return good;
}

/* ---- what selectors see ---- */

static int label_order(const void *x, const void *y)
{
	return strcmp(((const struct label *)x)->key, ((const struct label *)y)->key);
}

/* A workload's labels and those that its namespace and its account put on it. */
static bool identity_labels_make(struct load *l, const struct workload_document *w,
				 struct identity_labels *out)
{
	size_t n = w->label_count, more = w->space == NULL ? 0 : w->space->label_count;
	struct label *all = arena_array(&l->arena, n + more + 3, sizeof(*all));

	if (all == NULL)
		return false;
	if (n > 0)
		memcpy(all, w->labels, n * sizeof(*all));
	if (more > 0)
		memcpy(all + n, w->space->labels, more * sizeof(*all));
	n += more;
	all[n++] = (struct label){NAMESPACE_KEY, w->namespace};
	all[n++] = (struct label){ACCOUNT_KEY, w->service_account};
	all[n++] = (struct label){NAMESPACE_NAME, w->namespace};
	qsort(all, n, sizeof(*all), label_order);
	out->identity = w->identity;
	out->local = w->selector != SELECTOR_NONE;
	out->namespace = w->namespace;
	out->labels = all;
	out->label_count = n;
	out->display = arena_join(&l->arena, w->namespace, "/", w->name, NULL);
	return out->display != NULL;
}

/* Several workloads are one identity: "shop/{app=web}". */
static const char *display_labels(struct load *l, const struct identity_labels *who)
{
	struct text t = {0};
	const char *sep = "", *s;

	text_adds(&t, who->namespace, "/{", NULL);
	for (size_t i = 0; i < who->label_count; i++) {
		if (strncmp(who->labels[i].key, "io.", 3) == 0)
			continue;
		text_adds(&t, sep, who->labels[i].key, "=", who->labels[i].value, NULL);
		sep = ",";
	}
	text_add(&t, "}");
	l->arena.failed |= t.failed;
	s = arena_string(&l->arena, text_string(&t));
	text_free(&t);
	return s == NULL ? who->display : s;
}

static int identity_order(const void *x, const void *y)
{
	const struct identity_labels *a = x, *b = y;

	return a->identity < b->identity ? -1 : a->identity > b->identity;
}

/* One entry for each identity, host and world included, sorted. */
static struct identity_labels *identities_make(struct load *l, size_t *count)
{
	static const struct label host = {"host", ""}, world = {"world", ""};
	struct identity_labels *all = arena_array(&l->arena, l->workload_count + 2, sizeof(*all));
	size_t n = 2, out = 2;

	if (all == NULL)
		return NULL;
	all[0] = (struct identity_labels){IDENTITY_HOST, "", "host", false, false, &host, 1};
	all[1] = (struct identity_labels){IDENTITY_WORLD, "", "world", false, false, &world, 1};
	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		if (!identity_labels_make(l, w, &all[n++]))
			return NULL;
	qsort(all, n, sizeof(*all), identity_order);
	for (size_t i = 2; i < n; i++) {
		if (all[i].identity != all[out - 1].identity) {
			all[out++] = all[i];
		} else {
			all[out - 1].shared = true;
			all[out - 1].local |= all[i].local;
		}
	}
	for (size_t i = 2; i < out; i++)
		if (all[i].shared)
			all[i].display = display_labels(l, &all[i]);
	*count = out;
	return all;
}

/* ---- documents ---- */

struct kind {
	const char *name, *api;
	void (*read)(struct load *l, const struct yaml_node *root); /* NULL: not enforced */
};

static const struct kind kinds[] = {
	{"Workload", "shunt.dev/v1", kind_workload},
	{"Namespace", "v1", kind_namespace},
	{"CiliumNetworkPolicy", "cilium.io/v2", kind_cilium},
	{"CiliumClusterwideNetworkPolicy", "cilium.io/v2", NULL},
	{"NetworkPolicy", "networking.k8s.io/v1", NULL},
	{"PeerAuthentication", "security.istio.io/v1", NULL},
	{"AuthorizationPolicy", "security.istio.io/v1", NULL},
	{"HTTPRoute", "gateway.networking.k8s.io/v1", NULL},
	{"GRPCRoute", "gateway.networking.k8s.io/v1", NULL},
	{"ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", NULL},
	{"AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", NULL},
	{"BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1", NULL},
	{"Service", "v1", NULL},
	{"EndpointSlice", "discovery.k8s.io/v1", NULL},
	{"WorkloadEntry", "networking.istio.io/v1", NULL},
	{"Secret", "v1", kind_secret},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
#define OWN_GROUP "shunt.dev/"

static const char *own_kind_next(const void *arg, size_t i)
{
	(void)arg;
	return i == 0 ? "Workload" : NULL;
}

static const char *one_next(const void *arg, size_t i)
{
	return i == 0 ? arg : NULL;
}

static const char *kind_next(const void *arg, size_t i)
{
	(void)arg;
	return i < KINDS ? kinds[i].name : NULL;
}

/* "cilium.io" of "cilium.io/v2", as a length; 0 for the core group. */
static size_t group_len(const char *api)
{
	const char *slash = strchr(api, '/');

	return slash == NULL ? 0 : (size_t)(slash - api);
}

static bool same_group(const char *a, const char *b)
{
	size_t n = group_len(a);

	return n == group_len(b) && strncmp(a, b, n) == 0;
}

static void foreign(struct load *l, const struct yaml_node *api, const struct yaml_node *kind)
{
	const char *near;

	if (strncmp(api->text, OWN_GROUP, strlen(OWN_GROUP)) == 0) {
		near = report_nearest(kind->text, own_kind_next, NULL);
		report_error(&l->report, kind->at, "unknown kind '", kind->text, "'",
			     near == NULL ? "" : "; did you mean '", near == NULL ? "" : near,
			     near == NULL ? "" : "'?", NULL);
		return;
	}
	near = report_nearest(kind->text, kind_next, NULL);
	for (size_t i = 0; near != NULL && i < KINDS; i++)
		if (strcmp(kinds[i].name, near) == 0 && strcmp(kinds[i].api, api->text) == 0) {
			report_error(&l->report, kind->at, "unknown kind '", kind->text, "' of ",
				     api->text, "; did you mean '", near, "'?", NULL);
			return;
		}
	report_warning(&l->report, kind->at, "kind ", kind->text, " (", api->text,
		       ") is not one that shunt reads; passed over", NULL);
}

/* The kind is one of ours by name; is it by group and version? NULL: no. */
static const struct kind *kind_find(struct load *l, const struct yaml_node *api,
				    const struct yaml_node *kind, bool *told)
{
	for (size_t i = 0; i < KINDS; i++) {
		if (strcmp(kinds[i].name, kind->text) != 0)
			continue;
		if (strcmp(kinds[i].api, api->text) == 0)
			return &kinds[i];
		if (!same_group(kinds[i].api, api->text) &&
		    report_nearest(api->text, one_next, kinds[i].api) == NULL)
			return NULL;
		if (kinds[i].read == NULL)
			return &kinds[i];
		report_error(&l->report, api->at, "apiVersion '", api->text, "' of ", kind->text,
			     " is not read; did you mean '", kinds[i].api, "'?", NULL);
		*told = true;
		return NULL;
	}
	return NULL;
}

static void read_document(struct load *l, const struct yaml_node *root, bool nested);

/* What `kubectl get -o yaml` prints for several objects. */
static void read_list(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *items = yaml_get(root, "items");

	if (items == NULL || items->type != YAML_SEQUENCE) {
		report_error(&l->report, root->at, "a List without items", NULL);
		return;
	}
	for (const struct yaml_node *n = items->first; n != NULL; n = n->next)
		read_document(l, n, true);
}

static bool is_word(struct load *l, const struct yaml_node *root, const char *field)
{
	const struct yaml_node *n = yaml_get(root, field);

	if (n != NULL && n->type == YAML_SCALAR && n->len > 0)
		return true;
	report_error(&l->report, n == NULL ? root->at : n->at,
		     n == NULL ? "a document needs " : "not a usable ", field,
		     n == NULL ? " (is this shunt.yaml's content? that belongs at the top of the"
				 " folder)"
			       : "",
		     NULL);
	return false;
}

static void read_document(struct load *l, const struct yaml_node *root, bool nested)
{
	const struct yaml_node *api = yaml_get(root, "apiVersion"), *kind = yaml_get(root, "kind");
	const struct kind *k;
	bool told = false;

	if (root->type != YAML_MAPPING) {
		report_error(&l->report, root->at,
			     "a document must be a mapping with apiVersion"
			     " and kind",
			     NULL);
		return;
	}
	if (!is_word(l, root, "apiVersion") || !is_word(l, root, "kind"))
		return;
	if (!nested && strcmp(kind->text, "List") == 0 && strcmp(api->text, "v1") == 0) {
		read_list(l, root);
		return;
	}
	k = kind_find(l, api, kind, &told);
	if (k == NULL && !told)
		foreign(l, api, kind);
	else if (k != NULL && k->read == NULL)
		report_error(&l->report, kind->at, "kind ", kind->text,
			     " is not enforced by this version", NULL);
	else if (k != NULL)
		k->read(l, root);
}

/* A kept workload does not vanish unseen with what its file held. */
static void read_state(struct load *l, const struct document_file *file, struct yaml_document *docs,
		       size_t errors_before)
{
	if (docs == NULL && l->report.errors == errors_before)
		report_error(&l->report, (struct location){file->path, 1, 1},
			     "this file of the state folder is empty; remove it, or add the"
			     " workload again",
			     NULL);
	for (; docs != NULL; docs = docs->next)
		kind_state(l, docs->root);
}

static void read_file(struct load *l, const struct document_file *file)
{
	struct yaml_document *docs = NULL;
	size_t errors = l->report.errors;

	yaml_read(&l->arena, &l->report, file, &docs);
	if (file->state) {
		read_state(l, file, docs, errors);
		return;
	}
	if (!file->options) {
		for (; docs != NULL; docs = docs->next)
			read_document(l, docs->root, false);
		return;
	}
	if (docs == NULL)
		return;
	schema_read_options(&l->report, docs->root, &l->options);
	l->exclude = read_exclusion(l, yaml_get(docs->root, "exclude"));
	read_listeners(l, yaml_get(docs->root, "listeners"));
	if (docs->next != NULL)
		report_error(
			&l->report, docs->next->root->at,
			"shunt.yaml holds one document, the options; policies belong into conf.d",
			NULL);
}

/* ---- across documents ---- */

static int name_order(const void *x, const void *y)
{
	const struct named *a = *(const struct named *const *)x;
	const struct named *b = *(const struct named *const *)y;
	int c = strcmp(a->kind, b->kind);

	c = c != 0 ? c : strcmp(a->name, b->name);
	return c != 0 ? c : a->order < b->order ? -1 : 1;
}

/* A second document of one kind and name would be two rules for one thing. */
static void check_names(struct load *l)
{
	struct named **sorted = arena_array(&l->arena, l->name_count, sizeof(*sorted));
	char place[320];
	size_t n = 0;

	if (sorted == NULL)
		return;
	for (struct named *d = l->names; d != NULL; d = d->next)
		sorted[n++] = d;
	if (n > 1)
		qsort(sorted, n, sizeof(*sorted), name_order);
	for (size_t i = 1; i < n; i++)
		if (strcmp(sorted[i - 1]->kind, sorted[i]->kind) == 0 &&
		    strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
			report_error(&l->report, sorted[i]->where, sorted[i]->kind, " ",
				     sorted[i]->name, " exists already, at ",
				     report_place(sorted[i - 1]->where, place, sizeof(place)),
				     NULL);
}

static int selector_order(const void *x, const void *y)
{
	const struct workload_document *a = *(const struct workload_document *const *)x;
	const struct workload_document *b = *(const struct workload_document *const *)y;

	if (a->selector != b->selector)
		return a->selector < b->selector ? -1 : 1;
	return strcmp(a->selected, b->selected);
}

/* A path that led to two namespaces at two times names two things. */
static bool same_processes(const struct workload_document *a, const struct workload_document *b)
{
	if (selector_order(&a, &b) != 0)
		return false;
	if (a->netns_inode == 0 || b->netns_inode == 0 || a->boot_id == NULL || b->boot_id == NULL)
		return true;
	return a->netns_inode == b->netns_inode && strcmp(a->boot_id, b->boot_id) == 0;
}

static void one_selector_twice(struct load *l, const struct workload_document *first,
			       const struct workload_document *second)
{
	static const char *const what[] = {[SELECTOR_NETNS] = "network namespace ",
					   [SELECTOR_CGROUP] = "cgroup ",
					   [SELECTOR_SYSTEMD] = "unit "};
	char place[320];

	report_error(&l->report, second->selected_at, what[second->selector], second->selected,
		     " is also that of ", first->namespace, "/", first->name, ", at ",
		     report_place(first->selected_at, place, sizeof(place)), NULL);
}

/* Two workloads cannot be the same processes. (A cgroup below another's is its own.) */
static void check_selectors(struct load *l, struct workload_document **sorted)
{
	size_t n = 0;

	for (struct workload_document *w = l->workloads; w != NULL; w = w->next)
		if (w->selector != SELECTOR_NONE)
			sorted[n++] = w;
	if (n > 1)
		qsort(sorted, n, sizeof(struct workload_document *), selector_order);
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k > 0 && selector_order(&sorted[k - 1], &sorted[i]) == 0; k--)
			if (same_processes(sorted[k - 1], sorted[i])) {
				one_selector_twice(l, sorted[k - 1], sorted[i]);
				break;
			}
}

/* In a namespace of its own the workload itself listens, whatever it is declared to. */
static void check_ports_wanted(struct load *l)
{
	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next) {
		bool remote = w->selector == SELECTOR_NONE && w->selected_at.file == NULL;

		if (w->ports_at.file != NULL && (remote || w->selector == SELECTOR_NETNS))
			report_error(&l->report, w->ports_at,
				     "field 'ports' is not enforced by this version for this"
				     " workload; it is read for those of the host's namespace only"
				     " (selectors cgroup: and systemd:id:)",
				     NULL);
	}
}

struct port_holder {
	const struct port_entry *port;
	const struct workload_document *w;
};

static int port_holder_order(const void *x, const void *y)
{
	const struct port_holder *a = x, *b = y;

	return (a->port->port > b->port->port) - (a->port->port < b->port->port);
}

/* Workloads of the host's namespace share its ports. */
static void check_ports(struct load *l)
{
	struct port_holder *all;
	char place[320];
	size_t n = 0;

	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		n += w->port_count;
	all = arena_array(&l->arena, n, sizeof(*all));
	if (all == NULL)
		return;
	n = 0;
	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		for (size_t i = 0; i < w->port_count; i++)
			all[n++] = (struct port_holder){&w->ports[i], w};
	if (n > 1)
		qsort(all, n, sizeof(*all), port_holder_order);
	for (size_t i = 1; i < n; i++)
		if (port_holder_order(&all[i - 1], &all[i]) == 0)
			report_error(&l->report, all[i].port->at, "this port is also that of ",
				     all[i - 1].w->namespace, "/", all[i - 1].w->name, ", at ",
				     report_place(all[i - 1].port->at, place, sizeof(place)), NULL);
}

struct holder {
	struct addr16 ip;
	struct location at;
	const struct workload_document *w;
};

static int holder_order(const void *x, const void *y)
{
	return memcmp(x, y, sizeof(struct addr16));
}

static void check_addresses(struct load *l)
{
	struct holder *all;
	char place[320];
	size_t n = 0;

	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		n += w->address_count;
	all = arena_array(&l->arena, n, sizeof(*all));
	if (all == NULL)
		return;
	n = 0;
	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		for (size_t i = 0; i < w->address_count; i++)
			all[n++] = (struct holder){w->addresses[i], w->address_at[i], w};
	if (n > 1)
		qsort(all, n, sizeof(*all), holder_order);
	for (size_t i = 1; i < n; i++)
		if (memcmp(&all[i - 1].ip, &all[i].ip, sizeof(all[i].ip)) == 0)
			report_error(&l->report, all[i].at, "this address is also that of ",
				     all[i - 1].w->namespace, "/", all[i - 1].w->name, ", at ",
				     report_place(all[i - 1].at, place, sizeof(place)), NULL);
}

/* Sorts the list, so that numbers and records do not depend on the order of files. */
static void sort_workloads(struct load *l, struct workload_document **sorted)
{
	size_t n = 0;

	for (struct workload_document *w = l->workloads; w != NULL; w = w->next)
		sorted[n++] = w;
	if (n < 2)
		return;
	qsort(sorted, n, sizeof(struct workload_document *), workload_order);
	l->workloads = sorted[0];
	for (size_t i = 0; i < n; i++)
		sorted[i]->next = i + 1 < n ? sorted[i + 1] : NULL;
}

static int space_order(const void *x, const void *y)
{
	const struct namespace_document *a = *(const struct namespace_document *const *)x;
	const struct namespace_document *b = *(const struct namespace_document *const *)y;

	return strcmp(a->name, b->name);
}

/* Gives each workload the document of its namespace. */
static void find_spaces(struct load *l)
{
	const struct namespace_document **sorted =
		arena_array(&l->arena, l->namespace_count, sizeof(struct namespace_document *));
	size_t n = 0;

	if (sorted == NULL || l->namespace_count == 0)
		return;
	for (struct namespace_document *d = l->namespaces; d != NULL; d = d->next)
		sorted[n++] = d;
	qsort(sorted, n, sizeof(*sorted), space_order);
	for (struct workload_document *w = l->workloads; w != NULL; w = w->next) {
		const struct namespace_document wanted = {.name = w->namespace}, *p = &wanted, **d;

		d = bsearch(&p, sorted, n, sizeof(*sorted), space_order);
		w->space = d == NULL ? NULL : *d;
	}
}

static void check_workloads(struct load *l)
{
	size_t local = 0;

	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		if (w->selector != SELECTOR_NONE && ++local == WORKLOADS_MAX + 1)
			report_error(&l->report, w->where, "more than 16384 workloads on one node",
				     NULL);
}

static void check_all(struct load *l)
{
	struct workload_document **sorted =
		arena_array(&l->arena, l->workload_count, sizeof(struct workload_document *));

	if (sorted == NULL)
		return;
	check_names(l);
	check_selectors(l, sorted);
	check_ports_wanted(l);
	check_ports(l);
	check_addresses(l);
	check_workloads(l);
	check_listeners(l);
	sort_workloads(l, sorted);
	find_spaces(l);
	if (l->udp.file != NULL)
		report_warning(&l->report, l->udp,
			       "UDP is not policed by this version: policies hold"
			       " for TCP only",
			       NULL);
}

static int count_entry(void *arg, const struct policy_key *key, const struct policy_entry *entry)
{
	(void)key;
	(void)entry;
	return ++*(size_t *)arg > POLICY_MAX ? -ENOSPC : 0;
}

/* What the kernel has no room for would be known at start only. */
static void check_room(struct load *l, const struct policy *p)
{
	size_t entries = 0;
	int err = policy_kernel_entries(p, count_entry, &entries);

	if (err == -ENOSPC)
		report_error(&l->report, l->udp,
			     "these policies need more than 65536 entries of the"
			     " kernel's map (identities times peers times ports); select fewer",
			     NULL);
	else if (err < 0)
		l->report.failed = true;
}

static int build(struct load *l, struct identity_table *t, uint64_t revision, struct snapshot *out)
{
	struct snapshot s = {.options = l->options};
	struct identity_labels *labels;
	size_t n;

	if (l->arena.failed || l->report.failed)
		return -ENOMEM;
	if (l->report.errors > 0)
		return -EINVAL;
	if (!identities_assign(l, t))
		return -ENOMEM;
	labels = identities_make(l, &n);
	if (labels == NULL)
		return -ENOMEM;
	s.policy = policy_compile(l->rules, labels, n, revision, &l->report);
	if (s.policy == NULL && l->report.errors > 0)
		return -EINVAL;
	if (s.policy != NULL)
		check_room(l, s.policy);
	s.fleet = fleet_new(l, revision);
	if (s.policy == NULL || s.fleet == NULL || l->arena.failed || l->report.failed) {
		snapshot_free(&s);
		return -ENOMEM;
	}
	if (l->report.errors > 0) {
		snapshot_free(&s);
		return -EINVAL;
	}
	*out = s;
	return 0;
}

int config_build(const struct document_file *files, size_t n, struct identity_table *identities,
		 uint64_t revision, struct snapshot *out, struct findings *findings)
{
	struct load l = {.report = {.files = files, .file_count = n}};
	int err;

	l.workload_tail = &l.workloads;
	l.state_tail = &l.states;
	l.rule_tail = &l.rules;
	schema_read_options(&l.report, NULL, &l.options);
	for (size_t i = 0; i < n; i++)
		read_file(&l, &files[i]);
	state_merge(&l);
	secrets_give(&l);
	check_all(&l);
	err = build(&l, identities, revision, out);
	report_finish(&l.report, findings);
	if (err == 0 && l.report.failed) { /* a warning was lost */
		snapshot_free(out);
		err = -ENOMEM;
	}
	arena_free(&l.arena);
	return err;
}

void snapshot_free(struct snapshot *s)
{
	policy_unref(s->policy);
	fleet_free(s->fleet);
	s->policy = NULL;
	s->fleet = NULL;
}
