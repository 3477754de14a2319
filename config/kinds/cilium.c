/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CiliumNetworkPolicy (cilium.io/v2) -> rule_set. Traps that are easy to get wrong: an absent
 * peer list is any peer, an empty one is nobody, `- {}` as a rule allows nothing; a peer
 * selector means the policy's own namespace unless it names another.
 */
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "proxy/codec/message.h"
#include "proxy/regex.h"

#define PORTS_PER_LIST 40 /* per toPorts entry, as Cilium has it */

struct cnp {
	struct load *l;
	struct report *report;
	struct metadata meta;
};

/* A selector while it is read. */
struct selecting {
	struct cnp *c;
	struct requirement *items;
	size_t count, room;
	bool names_namespace, reserved, labels;
	bool peer; /* of fromEndpoints or toEndpoints */
};

/* ---- selectors ---- */

static bool begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The key without its source, or NULL after a complaint. */
static const char *read_key(struct selecting *s, const char *key, struct location at)
{
	struct report *r = s->c->report;
	const char *name = key;
	bool of_namespace;

	if (begins(key, "reserved:")) {
		name = key + strlen("reserved:");
		s->reserved = true;
		if (!s->peer || (strcmp(name, "host") != 0 && strcmp(name, "world") != 0)) {
			report_error(r, at, "'", key, "' is not enforced by this version", NULL);
			return NULL;
		}
		return name;
	}
	if (begins(key, "k8s:") || begins(key, "any:"))
		name = key + 4;
	s->labels = true;
	if (strchr(name, ':') != NULL) {
		report_error(r, at, "'", key,
			     "': a label source other than k8s:, any: and reserved:"
			     " is not enforced by this version",
			     NULL);
		return NULL;
	}
	of_namespace = begins(name, NAMESPACE_LABELS);
	if (!label_key_valid(of_namespace ? name + strlen(NAMESPACE_LABELS) : name)) {
		report_error(r, at, "'", key, "' is not a label key", NULL);
		return NULL;
	}
	if (strcmp(name, NAMESPACE_KEY) == 0 || of_namespace)
		s->names_namespace = true;
	else if (begins(name, "io.cilium.k8s.") && strcmp(name, ACCOUNT_KEY) != 0) {
		report_error(r, at, "'", key, "' is not enforced by this version", NULL);
		return NULL;
	}
	return name;
}

static struct requirement *requirement_add(struct selecting *s, const char *key,
					   enum requirement_op op)
{
	struct requirement *r =
		arena_push(&s->c->l->arena, (void **)&s->items, &s->count, &s->room, sizeof(*r));

	if (r != NULL) {
		r->key = key;
		r->op = op;
	}
	return r;
}

static const char *read_value(struct selecting *s, const struct yaml_node *n)
{
	const char *v = read_string(s->c->l, n);

	if (v == NULL || label_value_valid(v))
		return v;
	report_error(s->c->report, n->at, "'", v, "' is not a label value", NULL);
	return NULL;
}

static void read_match_label(struct selecting *s, const struct yaml_node *n)
{
	const char *key = read_key(s, n->key->text, n->key->at), *value = read_value(s, n);
	struct requirement *r;
	const char **values;

	if (key == NULL || value == NULL)
		return;
	if (!s->peer && strcmp(key, NAMESPACE_KEY) == 0 && strcmp(value, s->c->meta.namespace) != 0)
		report_error(s->c->report, n->at, "endpointSelector names namespace '", value,
			     "', but a policy selects endpoints of its own namespace '",
			     s->c->meta.namespace, "' only", NULL);
	r = requirement_add(s, key, REQUIRE_IN);
	values = arena_array(&s->c->l->arena, 1, sizeof(*values));
	if (r == NULL || values == NULL)
		return;
	values[0] = value;
	r->values = values;
	r->value_count = 1;
}

static bool read_operator(struct selecting *s, const struct yaml_node *n, enum requirement_op *op)
{
	static const char *const words[] = {"In", "NotIn", "Exists", "DoesNotExist", NULL};
	const char *word = read_string(s->c->l, n), *near;

	if (word == NULL)
		return false;
	for (size_t i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], word) == 0) {
			*op = (enum requirement_op)i;
			return true;
		}
	near = report_nearest_of(word, words);
	report_error(s->c->report, n->at, "unknown operator '", word, "'; ",
		     near == NULL ? "" : "did you mean '", near == NULL ? "" : near,
		     near == NULL ? "" : "'? ", "(In, NotIn, Exists, DoesNotExist)", NULL);
	return false;
}

static void read_values(struct selecting *s, struct requirement *r, const struct yaml_node *n)
{
	const char **values;

	if (!read_is_list(s->c->l, n))
		return;
	values = arena_array(&s->c->l->arena, n->count, sizeof(*values));
	if (values == NULL)
		return;
	r->values = values;
	for (const struct yaml_node *v = n->first; v != NULL; v = v->next) {
		values[r->value_count] = read_value(s, v);
		if (values[r->value_count] != NULL)
			r->value_count++;
	}
}

static void read_expression(struct selecting *s, const struct yaml_node *n)
{
	const struct yaml_node *key = yaml_get(n, "key"), *op = yaml_get(n, "operator");
	const struct yaml_node *values = yaml_get(n, "values");
	enum requirement_op o = REQUIRE_EXISTS;
	struct requirement *r;
	const char *name;
	bool wants;

	if (!schema_check(s->c->report, n, schema_expression))
		return;
	if (key == NULL || op == NULL) {
		report_error(s->c->report, n->at, "an expression needs ",
			     key == NULL ? "a key" : "an operator", NULL);
		return;
	}
	name = read_string(s->c->l, key);
	name = name == NULL ? NULL : read_key(s, name, key->at);
	if (!read_operator(s, op, &o) || name == NULL)
		return;
	wants = o == REQUIRE_IN || o == REQUIRE_NOT_IN;
	if (wants != (values != NULL && values->count > 0)) {
		report_error(s->c->report, (values != NULL ? values : op)->at,
			     wants ? "this operator needs values" : "this operator takes no values",
			     NULL);
		return;
	}
	r = requirement_add(s, name, o);
	if (r != NULL && wants)
		read_values(s, r, values);
}

static void read_selector_parts(struct selecting *s, const struct yaml_node *n)
{
	const struct yaml_node *labels = yaml_get(n, "matchLabels");
	const struct yaml_node *expressions = yaml_get(n, "matchExpressions");

	if (labels != NULL && labels->type != YAML_MAPPING && !yaml_is_null(labels))
		report_error(s->c->report, labels->at, "matchLabels must be a mapping", NULL);
	if (labels != NULL && labels->type == YAML_MAPPING)
		for (const struct yaml_node *c = labels->first; c != NULL; c = c->next)
			read_match_label(s, c);
	if (expressions != NULL && read_is_list(s->c->l, expressions))
		for (const struct yaml_node *c = expressions->first; c != NULL; c = c->next)
			read_expression(s, c);
}

/* False: nothing that could be used. */
static bool read_selector(struct cnp *c, const struct yaml_node *n, bool peer,
			  struct label_selector *out)
{
	struct selecting s = {.c = c, .peer = peer};

	if (!schema_check(c->report, n, schema_selector))
		return false;
	read_selector_parts(&s, n);
	if (s.reserved && s.labels)
		report_error(c->report, n->at,
			     "reserved: labels and others in one selector can never match", NULL);
	out->items = s.items;
	out->count = s.count;
	out->reserved = s.reserved;
	out->namespace = c->meta.namespace;
	if (peer && (s.names_namespace || s.reserved))
		out->namespace = NULL;
	return true;
}

/* ---- http ---- */

static const char *read_pattern(struct cnp *c, const struct yaml_node *n)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(c->l, n);
	char error[160];
	struct regex *r;

	if (s == NULL)
		return NULL;
	if (s[0] == '\0') {
		report_error(c->report, n->at, n->key->text, " is empty; leave it out to allow any",
			     NULL);
		return NULL;
	}
	r = regex_new(s, n->len, error, sizeof(error));
	if (r == NULL && error[0] == '\0')
		c->report->failed = true;
	else if (r == NULL)
		report_error(c->report, n->at, n->key->text, " '", s,
			     "' is not an expression: ", error, NULL);
	regex_free(r);
	return s;
}

static void read_http(struct cnp *c, const struct yaml_node *list, struct port_rule *out)
{
	struct http_rule *h;

	if (!read_is_list(c->l, list))
		return;
	h = arena_array(&c->l->arena, list->count, sizeof(*h));
	if (h == NULL)
		return;
	out->http = h;
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next) {
		struct http_rule *r = &h[out->http_count++];

		r->where = n->at;
		if (!schema_check(c->report, n, schema_cnp_http))
			continue;
		r->method = read_pattern(c, yaml_get(n, "method"));
		r->path = read_pattern(c, yaml_get(n, "path"));
		r->host = read_pattern(c, yaml_get(n, "host"));
		read_header_rules(c->l, c->meta.namespace, n, r);
	}
}

/* ---- ports ---- */

struct ports {
	uint16_t *ports;
	struct location *at;
	size_t count;
	bool any; /* port 0 */
	bool not_tcp; /* some are not TCP alone */
};

/* False: not a number; `at` is told. */
static bool read_port_number(struct cnp *c, const struct yaml_node *n, unsigned *out)
{
	const char *s = n->text;
	unsigned v = 0;

	if (n->type != YAML_SCALAR || yaml_is_null(n)) {
		if (n->type != YAML_SCALAR)
			report_error(c->report, n->at, "port must be a number", NULL);
		return false;
	}
	for (; *s >= '0' && *s <= '9' && v <= 65535; s++)
		v = v * 10 + (unsigned)(*s - '0');
	if (*s != '\0' && v <= 65535 && label_value_valid(n->text)) {
		report_error(c->report, n->at, "named port '", n->text,
			     "' is not enforced by this version", NULL);
		return false;
	}
	if (*s != '\0' || v > 65535 || n->len == 0 || (n->len > 1 && n->text[0] == '0')) {
		report_error(c->report, n->at, "'", n->text, "' is not a port (0 to 65535)", NULL);
		return false;
	}
	*out = v;
	return true;
}

static bool read_protocol(struct cnp *c, const struct yaml_node *n, bool *tcp)
{
	const char *s = n == NULL || yaml_is_null(n) ? NULL : read_string(c->l, n);
	struct slice word = {s, s == NULL ? 0 : strlen(s)};

	*tcp = false;
	if (s == NULL || slice_is_nocase(word, "ANY"))
		return true;
	*tcp = true;
	if (slice_is_nocase(word, "TCP"))
		return true;
	if (slice_is_nocase(word, "UDP") || slice_is_nocase(word, "SCTP"))
		report_error(c->report, n->at, "protocol ", s, " is not enforced by this version",
			     NULL);
	else
		report_error(c->report, n->at, "unknown protocol '", s, "' (TCP or ANY)", NULL);
	return false;
}

static void read_cnp_port(struct cnp *c, const struct yaml_node *n, struct ports *out)
{
	const struct yaml_node *port = yaml_get(n, "port");
	unsigned number;
	bool tcp;

	if (!schema_check(c->report, n, schema_cnp_port))
		return;
	if (!read_protocol(c, yaml_get(n, "protocol"), &tcp))
		return;
	out->not_tcp |= !tcp;
	if (port == NULL) {
		report_error(c->report, n->at, "a port is missing", NULL);
		return;
	}
	if (!read_port_number(c, port, &number))
		return;
	if (number == 0) {
		out->any = true;
		return;
	}
	out->ports[out->count] = (uint16_t)number;
	out->at[out->count++] = port->at;
}

static void read_port_list(struct cnp *c, const struct yaml_node *list, struct ports *out)
{
	if (list == NULL || !read_is_list(c->l, list))
		return;
	if (list->count > PORTS_PER_LIST)
		report_error(c->report, list->at, "more than 40 ports in one list", NULL);
	out->ports = arena_array(&c->l->arena, list->count, sizeof(*out->ports));
	out->at = arena_array(&c->l->arena, list->count, sizeof(*out->at));
	if (out->ports == NULL || out->at == NULL)
		return;
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next)
		read_cnp_port(c, n, out);
}

/* What http rules ask of the ports they stand beside. */
static void check_http_ports(struct cnp *c, const struct yaml_node *http, const struct ports *p)
{
	struct location at = http->key->at;

	if (p->any || (p->count == 0 && !p->not_tcp))
		report_error(c->report, at, "http rules need ports, each with a number", NULL);
	else if (p->not_tcp)
		report_error(c->report, at,
			     "http rules need protocol: TCP on every port of the entry"
			     " (the default is ANY)",
			     NULL);
	for (size_t i = 0; i < p->count; i++)
		if (p->ports[i] == 53)
			report_error(c->report, at,
				     "http rules on port 53 are not enforced by this version",
				     NULL);
}

static void read_port_rule(struct cnp *c, const struct yaml_node *n, struct port_rule *out)
{
	const struct yaml_node *rules = yaml_get(n, "rules"), *http = NULL;
	struct ports p = {0};

	out->where = n->at;
	if (!schema_check(c->report, n, schema_cnp_ports))
		return;
	read_port_list(c, yaml_get(n, "ports"), &p);
	out->ports = p.ports;
	out->port_at = p.at;
	out->count = p.any ? 0 : p.count;
	if (rules != NULL && !yaml_is_null(rules) &&
	    schema_check(c->report, rules, schema_cnp_rules))
		http = yaml_get(rules, "http");
	if (http == NULL)
		return;
	read_http(c, http, out);
	if (out->http_count > 0)
		check_http_ports(c, http, &p);
}

/* ---- rules ---- */

static void read_peers(struct cnp *c, const struct yaml_node *list, struct rule_item *out)
{
	struct label_selector *peers;

	out->any_peer = false;
	out->peers_at = list->key->at;
	if (!read_is_list(c->l, list))
		return;
	peers = arena_array(&c->l->arena, list->count, sizeof(*peers));
	if (peers == NULL)
		return;
	out->peers = peers;
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next)
		if (read_selector(c, n, true, &peers[out->peer_count]))
			out->peer_count++;
}

static void read_port_rules(struct cnp *c, const struct yaml_node *list, struct rule_item *out)
{
	struct port_rule *ports;

	if (!read_is_list(c->l, list))
		return;
	ports = arena_array(&c->l->arena, list->count, sizeof(*ports));
	if (ports == NULL)
		return;
	out->ports = ports;
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next)
		read_port_rule(c, n, &ports[out->port_count++]);
}

static void read_item(struct cnp *c, const struct yaml_node *n, enum direction d,
		      struct rule_item *out)
{
	bool in = d == DIRECTION_INGRESS;
	const struct yaml_node *peers, *ports = yaml_get(n, "toPorts");

	out->direction = d;
	out->where = n->at;
	out->any_peer = true;
	out->peer_field = in ? "fromEndpoints" : "toEndpoints";
	if (!schema_check(c->report, n, in ? schema_cnp_ingress : schema_cnp_egress))
		return;
	peers = yaml_get(n, out->peer_field);
	if (peers != NULL)
		read_peers(c, peers, out);
	if (ports != NULL)
		read_port_rules(c, ports, out);
}

static struct rule_item *read_section(struct cnp *c, const struct yaml_node *list, enum direction d,
				      struct rule_item *out, bool *section)
{
	if (list == NULL || !read_is_list(c->l, list))
		return out;
	if (list->count == 0)
		report_error(c->report, list->key->at, list->key->text,
			     " is empty; write '- {}' below it to deny everything that no rule"
			     " allows, or leave it out",
			     NULL);
	*section = true;
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next)
		read_item(c, n, d, out++);
	return out;
}

static void read_rule(struct cnp *c, const struct yaml_node *spec)
{
	const struct yaml_node *selector = yaml_get(spec, "endpointSelector");
	const struct yaml_node *in = yaml_get(spec, "ingress"), *out = yaml_get(spec, "egress");
	struct rule_set *set;
	struct rule_item *items, *end;

	if (!schema_check(c->report, spec, schema_cnp_spec))
		return;
	set = arena_alloc(&c->l->arena, sizeof(*set));
	items = arena_array(&c->l->arena,
			    (in == NULL ? 0 : in->count) + (out == NULL ? 0 : out->count),
			    sizeof(*items));
	if (set == NULL || items == NULL)
		return;
	set->policy = arena_join(&c->l->arena, c->meta.namespace, "/", c->meta.name, NULL);
	set->kind = "CiliumNetworkPolicy";
	set->where = c->meta.where;
	if (selector == NULL)
		report_error(c->report, spec->at,
			     "endpointSelector is missing ({} selects every"
			     " endpoint of the namespace)",
			     NULL);
	else if (!yaml_is_null(selector))
		(void)read_selector(c, selector, false, &set->subject);
	end = read_section(c, out, DIRECTION_EGRESS, items, &set->section[DIRECTION_EGRESS]);
	end = read_section(c, in, DIRECTION_INGRESS, end, &set->section[DIRECTION_INGRESS]);
	set->items = items;
	set->count = (size_t)(end - items);
	if (in == NULL && out == NULL)
		report_error(c->report, spec->at, "neither ingress nor egress", NULL);
	*c->l->rule_tail = set;
	c->l->rule_tail = &set->next;
}

void kind_cilium(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *spec = yaml_get(root, "spec"), *specs = yaml_get(root, "specs");
	struct cnp c = {.l = l, .report = &l->report};

	schema_check(c.report, root, schema_cnp);
	if (!read_metadata(l, root, "CiliumNetworkPolicy", &c.meta)) {
		/* Go on for what else is wrong; nothing is built from it. */
		c.meta.name = c.meta.name == NULL ? "?" : c.meta.name;
		c.meta.namespace = c.meta.namespace == NULL ? "default" : c.meta.namespace;
	}
	if (l->udp.file == NULL)
		l->udp = root->at;
	if (spec == NULL && specs == NULL)
		report_error(c.report, root->at, "CiliumNetworkPolicy has no spec", NULL);
	if (spec != NULL && !yaml_is_null(spec))
		read_rule(&c, spec);
	if (specs == NULL || !read_is_list(l, specs))
		return;
	for (const struct yaml_node *n = specs->first; n != NULL; n = n->next)
		read_rule(&c, n);
}
