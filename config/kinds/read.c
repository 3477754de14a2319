/* SPDX-License-Identifier: Apache-2.0 */
/* What several kinds share: metadata, labels, strings as Kubernetes would take them. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "config/text.h"

static const char *called(const struct yaml_node *n)
{
	return n->key != NULL ? n->key->text : "value";
}

bool address_parse(const char *s, struct addr16 *out)
{
	unsigned char b[16] = {[10] = 0xff, [11] = 0xff};

	if (inet_pton(AF_INET, s, b + 12) != 1 && inet_pton(AF_INET6, s, b) != 1)
		return false;
	memcpy(out, b, sizeof(b));
	return true;
}

const char *read_string(struct load *l, const struct yaml_node *n)
{
	bool value;

	if (n->type != YAML_SCALAR) {
		report_error(&l->report, n->at, called(n), " must be text", NULL);
		return NULL;
	}
	if (yaml_is_null(n)) {
		report_error(&l->report, n->at, called(n),
			     " has no value; write \"\" for an empty one", NULL);
		return NULL;
	}
	if (yaml_is_boolean(n, &value)) {
		report_error(&l->report, n->at, called(n), ": ", n->text,
			     " without quotes is a boolean; write \"", n->text, "\"", NULL);
		return NULL;
	}
	if (yaml_is_number(n)) {
		report_error(&l->report, n->at, called(n), ": ", n->text,
			     " without quotes is a number; write \"", n->text, "\"", NULL);
		return NULL;
	}
	return n->text;
}

bool read_is_list(struct load *l, const struct yaml_node *n)
{
	if (n->type == YAML_SEQUENCE)
		return true;
	if (!yaml_is_null(n)) /* that was said by schema_check */
		report_error(&l->report, n->at, called(n), " must be a list", NULL);
	return false;
}

static bool only(const char *s, const char *more, bool upper)
{
	for (; *s != '\0'; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') ||
		      (upper && *s >= 'A' && *s <= 'Z') || strchr(more, *s) != NULL))
			return false;
	return true;
}

bool name_valid(const char *s, size_t max)
{
	size_t n = strlen(s);

	return n > 0 && n <= max && only(s, "-.", false) && s[0] != '-' && s[0] != '.' &&
	       s[n - 1] != '-' && s[n - 1] != '.';
}

bool label_key_valid(const char *s)
{
	size_t n = strlen(s);
	const char *slash = strchr(s, '/');

	return n > 0 && n <= 317 && only(s, "-._/", true) && s[0] != '/' && s[n - 1] != '/' &&
	       (slash == NULL || strchr(slash + 1, '/') == NULL);
}

bool label_value_valid(const char *s)
{
	return strlen(s) <= 63 && only(s, "-._", true);
}

static int label_order(const void *x, const void *y)
{
	return strcmp(((const struct label *)x)->key, ((const struct label *)y)->key);
}

static bool label_read(struct load *l, const struct yaml_node *n, struct label *out)
{
	out->key = n->key->text;
	out->value = read_string(l, n);
	if (!label_key_valid(out->key)) {
		report_error(&l->report, n->key->at, "'", out->key, "' is not a label key", NULL);
		return false;
	}
	if (out->value != NULL && !label_value_valid(out->value)) {
		report_error(&l->report, n->at, "'", out->value,
			     "' is not a label value (at most 63 letters, digits, '-', '_', '.')",
			     NULL);
		return false;
	}
	return out->value != NULL;
}

bool read_labels(struct load *l, const struct yaml_node *n, struct label **out, size_t *count)
{
	bool good = true;

	*count = 0;
	if (n->type != YAML_MAPPING) {
		if (!yaml_is_null(n))
			report_error(&l->report, n->at, called(n), " must be a mapping", NULL);
		return false;
	}
	*out = arena_array(&l->arena, n->count, sizeof(**out));
	if (*out == NULL)
		return false;
	for (const struct yaml_node *c = n->first; c != NULL; c = c->next) {
		if (strcmp(c->key->text, UNAVAILABLE_LABEL) == 0)
			continue;
		if (label_read(l, c, &(*out)[*count]))
			(*count)++;
		else
			good = false;
	}
	if (*count > 0)
		qsort(*out, *count, sizeof(**out), label_order);
	return good;
}

/* Prefixes end with '/' or '.'; the rest are whole keys. */
static const char *const switches[] = {
	"shunt.dev/",
	"istio.io/dataplane-mode",
	"istio.io/use-waypoint",
	"istio.io/use-waypoint-namespace",
	"istio.io/dry-run",
	"ambient.istio.io/bypass-inbound-capture",
	"io.cilium/mtls-enabled",
	"policy.cilium.io/proxy-visibility",
	"linkerd.io/",
	"config.linkerd.io/",
	"config.alpha.linkerd.io/",
	"retry.linkerd.io/",
	"timeout.linkerd.io/",
	"balancer.linkerd.io/",
	"consul.hashicorp.com/",
	NULL,
};

static bool is_switch(const char *key)
{
	for (size_t i = 0; switches[i] != NULL; i++) {
		size_t n = strlen(switches[i]);
		bool prefix = switches[i][n - 1] == '/';

		if (prefix ? strncmp(key, switches[i], n) == 0 : strcmp(key, switches[i]) == 0)
			return true;
	}
	return false;
}

static void refuse_switches(struct load *l, const struct yaml_node *n, const char *but)
{
	if (n == NULL || n->type != YAML_MAPPING)
		return;
	for (const struct yaml_node *c = n->first; c != NULL; c = c->next)
		if (is_switch(c->key->text) && (but == NULL || strcmp(c->key->text, but) != 0))
			report_error(&l->report, c->key->at, "'", c->key->text,
				     "' is not enforced by this version", NULL);
}

void read_switches(struct load *l, const struct yaml_node *n)
{
	refuse_switches(l, n, NULL);
}

enum unavailable read_label_switches(struct load *l, const struct yaml_node *labels)
{
	refuse_switches(l, labels, UNAVAILABLE_LABEL);
	return read_unavailable(l, yaml_get(labels, UNAVAILABLE_LABEL));
}

enum unavailable read_unavailable(struct load *l, const struct yaml_node *n)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(l, n);

	if (s == NULL)
		return UNAVAILABLE_UNSAID;
	if (strcmp(s, "deny") == 0)
		return UNAVAILABLE_DENY;
	if (strcmp(s, "allow") == 0)
		return UNAVAILABLE_ALLOW;
	report_error(&l->report, n->at, called(n), ": '", s, "' is not deny or allow", NULL);
	return UNAVAILABLE_UNSAID;
}

/* ---- ports ---- */

bool read_port(struct load *l, const struct yaml_node *n, uint16_t *out)
{
	const char *s = n->text;
	unsigned v = 0;

	if (n->type != YAML_SCALAR) {
		report_error(&l->report, n->at, "a port must be a number", NULL);
		return false;
	}
	for (; *s >= '0' && *s <= '9' && v <= 65535; s++)
		v = v * 10 + (unsigned)(*s - '0');
	if (*s != '\0' || v < 1 || v > 65535 || n->text[0] == '0') {
		report_error(&l->report, n->at, "'", n->text, "' is not a port (1 to 65535)", NULL);
		return false;
	}
	*out = (uint16_t)v;
	return true;
}

static int port_order(const void *x, const void *y)
{
	const struct port_entry *a = x, *b = y;

	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return report_before(a->at, b->at) ? -1 : 1;
}

static void port_twice(struct load *l, const struct port_entry *first,
		       const struct port_entry *second)
{
	char number[8], place[320];
	struct text t;

	text_fixed(&t, number, sizeof(number));
	text_add_number(&t, second->port);
	report_error(&l->report, second->at, "port ", number, " is listed already, at ",
		     report_place(first->at, place, sizeof(place)), NULL);
}

size_t ports_sort(struct load *l, struct port_entry *ports, size_t n)
{
	size_t kept = 0;

	if (n > 1)
		qsort(ports, n, sizeof(*ports), port_order);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && ports[kept - 1].port == ports[i].port)
			port_twice(l, &ports[kept - 1], &ports[i]);
		else
			ports[kept++] = ports[i];
	}
	return kept;
}

/* ---- metadata ---- */

/* Whether it is the only one of its name is asked when all are known. */
static bool name_keep(struct load *l, const struct metadata *m, const char *kind,
		      struct location at)
{
	struct named *d = arena_alloc(&l->arena, sizeof(*d));

	if (d == NULL)
		return false;
	d->kind = kind;
	d->name = m->namespace == NULL ? m->name
				       : arena_join(&l->arena, m->namespace, "/", m->name, NULL);
	d->where = at;
	d->order = l->name_count;
	if (d->name == NULL)
		return false;
	d->next = l->names;
	l->names = d;
	l->name_count++;
	return true;
}

static const char *read_name(struct load *l, const struct yaml_node *n, size_t max)
{
	const char *s = read_string(l, n);

	if (s == NULL || name_valid(s, max))
		return s;
	report_error(&l->report, n->at, "'", s,
		     "' is not a name (lower-case letters, digits, '-' and '.')", NULL);
	return NULL;
}

/* The mapping, or NULL when there is none to read. */
static const struct yaml_node *metadata_open(struct load *l, const struct yaml_node *root,
					     const char *kind)
{
	const struct yaml_node *m = yaml_get(root, "metadata");

	if (m == NULL)
		report_error(&l->report, root->at, kind, " has no metadata", NULL);
	if (m == NULL || yaml_is_null(m) || !schema_check(&l->report, m, schema_metadata))
		return NULL;
	read_switches(l, yaml_get(m, "annotations"));
	if (yaml_get(m, "name") == NULL)
		report_error(&l->report, m->at, "metadata has no name", NULL);
	return m;
}

bool read_metadata(struct load *l, const struct yaml_node *root, const char *kind,
		   struct metadata *out)
{
	const struct yaml_node *m = metadata_open(l, root, kind), *name, *space;

	*out = (struct metadata){.namespace = "default", .where = root->at};
	if (m == NULL)
		return false;
	read_switches(l, yaml_get(m, "labels"));
	name = yaml_get(m, "name");
	space = yaml_get(m, "namespace");
	if (name != NULL)
		out->name = read_name(l, name, 253);
	if (space != NULL)
		out->namespace = read_name(l, space, 63);
	if (out->name == NULL || out->namespace == NULL)
		return false;
	return name_keep(l, out, kind, name->at);
}

bool read_metadata_cluster(struct load *l, const struct yaml_node *root, const char *kind,
			   struct metadata *out)
{
	const struct yaml_node *m = metadata_open(l, root, kind), *name, *space;

	*out = (struct metadata){.where = root->at};
	if (m == NULL)
		return false;
	name = yaml_get(m, "name");
	space = yaml_get(m, "namespace");
	if (space != NULL)
		report_error(&l->report, space->key->at, "a ", kind,
			     " lies in no namespace; leave metadata.namespace out", NULL);
	if (name != NULL)
		out->name = read_name(l, name, 63); /* as long as the namespace of others */
	return out->name != NULL && name_keep(l, out, kind, name->at);
}
