/* SPDX-License-Identifier: Apache-2.0 */
/* Workload (shunt.dev/v1): who is who on this node, and which addresses others have. */
#include <arpa/inet.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"

static bool address_parse(const char *s, struct addr16 *out)
{
	unsigned char b[16] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, s, b + 12) != 1 && inet_pton(AF_INET6, s, b) != 1)
		return false;
	memcpy(out, b, sizeof(b));
	return true;
}

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

static void read_selector(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	static const char prefix[] = "netns:";
	const char *s = read_string(l, n);

	if (s == NULL)
		return;
	if (strncmp(s, prefix, strlen(prefix)) != 0) {
		report_error(&l->report, n->at, "selector '", s,
			     "' is not enforced by this version; it knows netns:PATH only", NULL);
		return;
	}
	s += strlen(prefix);
	if (s[0] != '/' || strlen(s) > 4095) {
		report_error(&l->report, n->at,
			     "netns: takes the absolute path of a network namespace,"
			     " such as netns:/run/netns/NAME",
			     NULL);
		return;
	}
	w->netns = s;
	w->netns_at = n->at;
}

static void read_selectors(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	if (n == NULL || !read_is_list(l, n))
		return;
	if (n->count != 1) {
		report_error(&l->report, n->at,
			     n->count == 0
				     ? "selectors is empty; leave it out for a remote workload"
				     : "more than one selector is not enforced by this version",
			     NULL);
		return;
	}
	read_selector(l, w, n->first);
}

static void read_on_unavailable(struct load *l, const struct yaml_node *n)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(l, n);

	if (s == NULL || strcmp(s, "deny") == 0)
		return;
	if (strcmp(s, "allow") == 0)
		report_error(&l->report, n->at,
			     "onUnavailable: allow is not enforced by this version", NULL);
	else
		report_error(&l->report, n->at, "onUnavailable: '", s, "' is not deny", NULL);
}

static void read_account(struct load *l, struct workload_document *w, const struct yaml_node *n)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(l, n);

	w->service_account = "default";
	if (s == NULL)
		return;
	if (name_valid(s, 63)) /* as long as a label's value, which it becomes */
		w->service_account = s;
	else
		report_error(&l->report, n->at, "'", s, "' is not the name of a service account",
			     NULL);
}

static void read_spec(struct load *l, struct workload_document *w, const struct yaml_node *spec)
{
	const struct yaml_node *labels = yaml_get(spec, "labels");

	schema_check(&l->report, spec, schema_workload_spec);
	read_addresses(l, w, spec);
	read_selectors(l, w, yaml_get(spec, "selectors"));
	read_account(l, w, yaml_get(spec, "serviceAccount"));
	read_on_unavailable(l, yaml_get(spec, "onUnavailable"));
	if (labels != NULL) {
		read_switches(l, labels);
		(void)read_labels(l, labels, &w->labels, &w->label_count);
	}
	if (yaml_get(spec, "selectors") == NULL && yaml_get(spec, "address") == NULL &&
	    yaml_get(spec, "addresses") == NULL)
		report_error(&l->report, spec->at,
			     "a workload without selectors is a remote one and"
			     " needs an address",
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
