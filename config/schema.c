/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of schema.h, and how an option's text becomes a value. */
#include "config/schema.h"

#include <arpa/inet.h>
#include <string.h>

#define AT(field) offsetof(struct options, field), sizeof(((struct options *)0)->field)

static const struct schema_option options[] = {
	{"workers", OPTION_NUMBER, "threads", "0", "Worker threads. 0 is one for each processor.",
	 0, 1024, AT(workers)},
	{"slots", OPTION_POWER_OF_TWO, "connections", "65536",
	 "How many captured connections may be open at one time. A power of two.", 1U << 8,
	 SLOTS_MAX, AT(slots)},
	{"slotsPerWorkload", OPTION_NUMBER, "connections", "0",
	 "How many of the slots one workload may take. 0 is a quarter of them.", 0, SLOTS_MAX,
	 AT(slots_per_workload)},
	{"eventRate", OPTION_NUMBER, "events per second", "100",
	 "Refusals by the kernel that are logged, for each workload; the others are counted only.",
	 1, 1000000, AT(event_rate)},
	{"connectTimeout", OPTION_DURATION, "duration", "5s",
	 "How long a destination may take to accept a connection.", 1, 3600000,
	 AT(connect_timeout)},
	{"responseTimeout", OPTION_DURATION, "duration", "0s",
	 "How long a destination may take from the whole request to the head of its response "
	 "(504). "
	 "0s: as long as it likes.",
	 0, 3600000, AT(response_timeout)},
	{"requestHeadTimeout", OPTION_DURATION, "duration", "30s",
	 "How long a client may take to send the head of a request.", 1, 3600000, AT(head_timeout)},
	{"requestHeadSize", OPTION_NUMBER, "bytes", "65536",
	 "How long the head of a request may be, its trailers included (431).", 1024, 1U << 20,
	 AT(head_size)},
	{"requestHeadFields", OPTION_NUMBER, "fields", "200",
	 "How many fields a request may have, its trailers included (431).", 8, 10000,
	 AT(head_fields)},
	{"requestTargetSize", OPTION_NUMBER, "bytes", "16384",
	 "How long the target of a request may be (414).", 256, 1U << 20, AT(target_size)},
	{"requestBodyRate", OPTION_NUMBER, "bytes per second", "0",
	 "How fast a client has to send a request's body while it is waited for (408). 0: any.", 0,
	 1U << 30, AT(body_rate)},
	{"maxPipelinedRequests", OPTION_NUMBER, "requests", "256",
	 "How many requests a client may send ahead of the answers to those before.", 0, 100000,
	 AT(max_pipelined)},
	{"headsPerWorkload", OPTION_NUMBER, "heads", "1000",
	 "How many heads of requests a workload may have begun and not finished; the oldest is "
	 "408.",
	 1, 1000000, AT(heads_per_workload)},
	{"bufferPerWorkload", OPTION_NUMBER, "bytes", "67108864",
	 "How much of a workload's connections may wait in the daemon before they are read less.",
	 1U << 16, 1U << 31, AT(buffer_per_workload)},
	{"drainTimeout", OPTION_DURATION, "duration", "30s",
	 "How long open connections may go on once the daemon was told to stop.", 0, 3600000,
	 AT(drain_timeout)},
	{"trustDomain", OPTION_DOMAIN, "name", "cluster.local",
	 "The trust domain of the workloads' identities.", 0, 0, AT(trust_domain)},
	{"metrics.address", OPTION_ADDRESS, "address:port", "127.0.0.1:15020",
	 "Where metrics are served. off: nowhere.", 0, 0, AT(metrics_address)},
	{"readiness.address", OPTION_ADDRESS_ANY, "address:port", ":15021",
	 "Where readiness is told. :PORT is every address of both families. off: nowhere.", 0, 0,
	 AT(readiness_address)},
	{"accessLog.path", OPTION_PATH, "path", "/var/log/shunt/access.log",
	 "The file that gets one record for each request and connection. off: none.", 0, 0,
	 AT(access_log)},
	{"accessLog.query", OPTION_BOOLEAN, "true or false", "false",
	 "Whether a record shows the query of a path. Queries often carry secrets.", 0, 0,
	 AT(access_log_query)},
	{"via", OPTION_SWITCH, "on or off", "off",
	 "Whether requests and responses get a Via field, and Max-Forwards is counted down.", 0, 0,
	 AT(via)},
	{"forwarded", OPTION_FORWARDED, "off, forwarded or x-forwarded", "off",
	 "Which fields tell the server who its client is; they replace those of the client.", 0, 0,
	 AT(forwarded)},
	{"capture", OPTION_SWITCH, "on or off", "on",
	 "off: no kernel programs, and no workload is captured; only listeners are served.", 0, 0,
	 AT(capture)},
	{"onUnavailable", OPTION_UNAVAILABLE, "deny or allow", "deny",
	 "What new connections of a workload meet while the daemon is away.", 0, 0,
	 AT(unavailable_allow)},
};

/* Mappings and lists: read elsewhere. */
static const struct {
	const char *name, *what;
} options_elsewhere[] = {
	{"exclude", "a mapping of lists"},
	{"listeners", "a list"},
};
#define ELSEWHERE (sizeof(options_elsewhere) / sizeof(options_elsewhere[0]))

/* What it must be, or NULL: it is no such option. */
static const char *elsewhere(const char *name)
{
	for (size_t i = 0; i < ELSEWHERE; i++)
		if (strcmp(options_elsewhere[i].name, name) == 0)
			return options_elsewhere[i].what;
	return NULL;
}

/* Known from the documentation of later versions. */
static const char *const options_later[] = {
	"mtls", "certs", "recheck", "slowRequest", "shortcut", "isolation", "visibility", NULL,
};

#define READ(name)                                                                                 \
	{                                                                                          \
		name, FIELD_READ                                                                   \
	}
#define LATER(name)                                                                                \
	{                                                                                          \
		name, FIELD_LATER                                                                  \
	}
#define END                                                                                        \
	{                                                                                          \
		NULL, FIELD_READ                                                                   \
	}

const struct schema_field schema_workload[] = {READ("apiVersion"), READ("kind"), READ("metadata"),
					       READ("spec"), END};
/* What an API server writes into objects is passed over; it carries no rule. */
const struct schema_field schema_metadata[] = {READ("name"),	      READ("namespace"),
					       READ("labels"),	      READ("annotations"),
					       READ("uid"),	      READ("resourceVersion"),
					       READ("generation"),    READ("creationTimestamp"),
					       READ("managedFields"), READ("ownerReferences"),
					       READ("selfLink"),      END};
const struct schema_field schema_workload_spec[] = {
	READ("address"),   READ("addresses"),	  READ("labels"),      READ("serviceAccount"),
	READ("selectors"), READ("onUnavailable"), READ("ports"),       READ("exclude"),
	LATER("node"),	   LATER("network"),	  LATER("locality"),   LATER("weight"),
	LATER("shortcut"), LATER("isolation"),	  LATER("visibility"), END};
const struct schema_field schema_state_spec[] = {READ("labels"), READ("serviceAccount"),
						 READ("selectors"), READ("onUnavailable"), END};
const struct schema_field schema_namespace[] = {
	READ("apiVersion"), READ("kind"), READ("metadata"), READ("spec"), READ("status"), END};
const struct schema_field schema_namespace_spec[] = {READ("exclude"), READ("finalizers"), END};
const struct schema_field schema_listener[] = {READ("address"), READ("port"), READ("workload"),
					       READ("upstream"), END};
const struct schema_field schema_exclude[] = {READ("ports"), READ("cidrs"), END};
const struct schema_field schema_cnp[] = {
	READ("apiVersion"), READ("kind"), READ("metadata"), READ("spec"), READ("specs"),
	READ("status"),	    END};
const struct schema_field schema_cnp_spec[] = {READ("endpointSelector"),
					       READ("ingress"),
					       READ("egress"),
					       READ("description"),
					       READ("labels"),
					       LATER("nodeSelector"),
					       LATER("ingressDeny"),
					       LATER("egressDeny"),
					       LATER("enableDefaultDeny"),
					       LATER("log"),
					       END};
const struct schema_field schema_cnp_ingress[] = {READ("fromEndpoints"),
						  READ("toPorts"),
						  LATER("fromCIDR"),
						  LATER("fromCIDRSet"),
						  LATER("fromEntities"),
						  LATER("fromGroups"),
						  LATER("fromNodes"),
						  LATER("icmps"),
						  LATER("authentication"),
						  {"fromRequires", FIELD_GONE},
						  END};
const struct schema_field schema_cnp_egress[] = {READ("toEndpoints"),
						 READ("toPorts"),
						 LATER("toCIDR"),
						 LATER("toCIDRSet"),
						 LATER("toEntities"),
						 LATER("toServices"),
						 LATER("toGroups"),
						 LATER("toNodes"),
						 LATER("toFQDNs"),
						 LATER("icmps"),
						 LATER("authentication"),
						 {"toRequires", FIELD_GONE},
						 END};
const struct schema_field schema_cnp_ports[] = {READ("ports"),
						READ("rules"),
						LATER("serverNames"),
						LATER("terminatingTLS"),
						LATER("originatingTLS"),
						LATER("listener"),
						END};
const struct schema_field schema_cnp_port[] = {READ("port"), READ("protocol"), LATER("endPort"),
					       END};
const struct schema_field schema_cnp_rules[] = {READ("http"),	  LATER("dns"), LATER("kafka"),
						LATER("l7proto"), LATER("l7"),	END};
const struct schema_field schema_cnp_http[] = {READ("path"),	READ("method"),	       READ("host"),
					       READ("headers"), READ("headerMatches"), END};
const struct schema_field schema_header_match[] = {READ("name"), READ("value"), READ("secret"),
						   READ("mismatch"), END};
const struct schema_field schema_secret_reference[] = {READ("name"), READ("namespace"), END};
const struct schema_field schema_secret[] = {READ("apiVersion"), READ("kind"), READ("metadata"),
					     READ("type"),	 READ("data"), READ("stringData"),
					     READ("immutable"),	 END};
const struct schema_field schema_selector[] = {READ("matchLabels"), READ("matchExpressions"), END};
const struct schema_field schema_expression[] = {READ("key"), READ("operator"), READ("values"),
						 END};

/* ---- fields ---- */

static const char *field_next(const void *arg, size_t i)
{
	return ((const struct schema_field *)arg)[i].name;
}

static const struct schema_field *field_find(const struct schema_field *f, const char *name)
{
	for (; f->name != NULL; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

static void field_unknown(struct report *report, const struct yaml_node *key,
			  const struct schema_field *fields)
{
	const char *near = report_nearest(key->text, field_next, fields);

	if (near != NULL)
		report_error(report, key->at, "unknown field '", key->text, "'; did you mean '",
			     near, "'?", NULL);
	else
		report_error(report, key->at, "unknown field '", key->text, "'", NULL);
}

static void field_check(struct report *report, const struct yaml_node *child,
			const struct schema_field *fields)
{
	const struct yaml_node *key = child->key;
	const struct schema_field *f = field_find(fields, key->text);

	if (f == NULL)
		field_unknown(report, key, fields);
	else if (f->state == FIELD_LATER)
		report_error(report, key->at, "field '", key->text,
			     "' is not enforced by this version", NULL);
	else if (f->state == FIELD_GONE)
		report_error(report, key->at, "field '", key->text,
			     "' was removed from this kind and is not enforced", NULL);
	else if (yaml_is_null(child) && strcmp(key->text, "creationTimestamp") != 0)
		report_error(report, key->at, "field '", key->text,
			     "' has no value; leave it out or give it one ([] is an empty list)",
			     NULL);
}

bool schema_check(struct report *report, const struct yaml_node *node,
		  const struct schema_field *fields)
{
	if (node->type != YAML_MAPPING) {
		report_error(report, node->at, node->key != NULL ? node->key->text : "this",
			     " must be a mapping", node->key != NULL ? " (field: value)" : "",
			     NULL);
		return false;
	}
	for (const struct yaml_node *c = node->first; c != NULL; c = c->next)
		field_check(report, c, fields);
	return true;
}

/* ---- options ---- */

const struct schema_option *schema_options(size_t i)
{
	return i < sizeof(options) / sizeof(options[0]) ? &options[i] : NULL;
}

/* Decimal digits up to a limit; returns what follows, or NULL. */
static const char *digits(const char *s, uint64_t max, uint64_t *n)
{
	const char *begin = s;

	for (*n = 0; *s >= '0' && *s <= '9'; s++) {
		*n = *n * 10 + (uint64_t)(*s - '0');
		if (*n > max)
			return NULL;
	}
	return s == begin ? NULL : s;
}

static const char *set_number(const struct schema_option *o, const char *s, unsigned *out)
{
	uint64_t n;
	const char *end = digits(s, o->max, &n);

	if (end == NULL || *end != '\0' || n < o->min)
		return "a whole number in range";
	if (o->type == OPTION_POWER_OF_TWO && (n & (n - 1)) != 0)
		return "a power of two";
	*out = (unsigned)n;
	return NULL;
}

static const char *set_duration(const struct schema_option *o, const char *s, unsigned *out)
{
	static const struct {
		const char *unit;
		unsigned ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	uint64_t n;
	const char *end = digits(s, o->max, &n);

	for (size_t i = 0; end != NULL && i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		n *= units[i].ms;
		if (n < o->min || n > o->max)
			break;
		*out = (unsigned)n;
		return NULL;
	}
	return "a duration of at most 1h, such as 500ms, 5s or 2m";
}

static const char *set_domain(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-_");

	return n > 0 && s[n] == '\0' ? NULL : "lower-case letters, digits, '.', '-' and '_'";
}

static const char *set_address(const char *s, bool any)
{
	const char *what = any ? "ADDRESS:PORT, [IPv6]:PORT, :PORT or off"
			       : "ADDRESS:PORT, [IPv6]:PORT or off";
	const char *colon = strrchr(s, ':'), *end;
	char host[64];
	unsigned char ip[16];
	uint64_t port;
	size_t n;

	if (colon == NULL)
		return what;
	n = (size_t)(colon - s);
	end = digits(colon + 1, 65535, &port);
	if (end == NULL || *end != '\0' || port == 0 || n >= sizeof(host))
		return what;
	if (n == 0)
		return any ? NULL : what;
	memcpy(host, s, n);
	host[n] = '\0';
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		return inet_pton(AF_INET6, host + 1, ip) == 1 ? NULL : what;
	}
	return inet_pton(AF_INET, host, ip) == 1 ? NULL : what;
}

/* What the value should have been, or NULL when it was taken. */
static const char *set_text(const struct schema_option *o, const char *s, char *out)
{
	const char *what = NULL;

	if (o->type != OPTION_DOMAIN && strcmp(s, "off") == 0) {
		out[0] = '\0';
		return NULL;
	}
	if (o->type == OPTION_DOMAIN)
		what = set_domain(s);
	else if (o->type == OPTION_ADDRESS || o->type == OPTION_ADDRESS_ANY)
		what = set_address(s, o->type == OPTION_ADDRESS_ANY);
	else if (s[0] != '/')
		what = "an absolute path or off";
	if (what == NULL && strlen(s) >= o->size)
		what = "shorter";
	if (what == NULL)
		memcpy(out, s, strlen(s) + 1);
	return what;
}

static const char *set_boolean(const char *s, bool *out)
{
	*out = strcmp(s, "true") == 0;
	return *out || strcmp(s, "false") == 0 ? NULL : "true or false";
}

static const char *set_switch(const char *s, bool *out)
{
	*out = strcmp(s, "on") == 0;
	return *out || strcmp(s, "off") == 0 ? NULL : "on or off";
}

static const char *set_unavailable(const char *s, bool *out)
{
	*out = strcmp(s, "allow") == 0;
	return *out || strcmp(s, "deny") == 0 ? NULL : "deny or allow";
}

static const char *set_forwarded(const char *s, enum forwarded *out)
{
	static const char *const words[] = {
		[FORWARDED_OFF] = "off",
		[FORWARDED_STANDARD] = "forwarded",
		[FORWARDED_X] = "x-forwarded",
	};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i], s) == 0) {
			*out = (enum forwarded)i;
			return NULL;
		}
	return "off, forwarded or x-forwarded";
}

static const char *option_set(const struct schema_option *o, const char *s, struct options *out)
{
	void *p = (char *)out + o->offset;

	switch (o->type) {
	case OPTION_NUMBER:
	case OPTION_POWER_OF_TWO:
		return set_number(o, s, p);
	case OPTION_DURATION:
		return set_duration(o, s, p);
	case OPTION_BOOLEAN:
		return set_boolean(s, p);
	case OPTION_SWITCH:
		return set_switch(s, p);
	case OPTION_UNAVAILABLE:
		return set_unavailable(s, p);
	case OPTION_FORWARDED:
		return set_forwarded(s, p);
	case OPTION_DOMAIN:
	case OPTION_ADDRESS:
	case OPTION_ADDRESS_ANY:
	case OPTION_PATH:
		break;
	}
	return set_text(o, s, p);
}

static const char *option_next(const void *arg, size_t i)
{
	size_t n = sizeof(options) / sizeof(options[0]);

	(void)arg;
	if (i >= n && i < n + ELSEWHERE)
		return options_elsewhere[i - n].name;
	return i < n ? options[i].name : options_later[i - n - ELSEWHERE];
}

/* `name` is the whole one, with its section. */
static bool option_is_section(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; schema_options(i) != NULL; i++)
		if (strncmp(options[i].name, name, n) == 0 && options[i].name[n] == '.')
			return true;
	return false;
}

static void option_read(struct report *report, const char *name, const struct yaml_node *v,
			struct options *out)
{
	const struct schema_option *o = NULL;
	const char *what;

	for (size_t i = 0; o == NULL && schema_options(i) != NULL; i++)
		o = strcmp(options[i].name, name) == 0 ? &options[i] : NULL;
	if (o == NULL) {
		const char *near = report_nearest(name, option_next, NULL);

		for (size_t i = 0; options_later[i] != NULL; i++)
			if (strcmp(options_later[i], name) == 0) {
				report_error(report, v->key->at, "option '", name,
					     "' is not enforced by this version", NULL);
				return;
			}
		report_error(report, v->key->at, "unknown option '", name,
			     near == NULL ? "'" : "'; did you mean '", near == NULL ? "" : near,
			     near == NULL ? "" : "'?", NULL);
		return;
	}
	if (v->type != YAML_SCALAR) {
		report_error(report, v->at, "option '", name, "' must be a single value", NULL);
		return;
	}
	what = option_set(o, v->text, out);
	if (what != NULL)
		report_error(report, v->at, "option '", name, "': '", v->text, "' is not ", what,
			     NULL);
}

static void section_read(struct report *report, const struct yaml_node *section,
			 struct options *out)
{
	char name[128];
	size_t n = section->key->len;

	if (section->type != YAML_MAPPING) {
		report_error(report, section->at, "option '", section->key->text,
			     "' must be a mapping of options", NULL);
		return;
	}
	for (const struct yaml_node *c = section->first; c != NULL; c = c->next) {
		if (n + c->key->len + 2 > sizeof(name)) {
			report_error(report, c->key->at, "unknown option", NULL);
			continue;
		}
		memcpy(name, section->key->text, n);
		name[n] = '.';
		memcpy(name + n + 1, c->key->text, c->key->len + 1);
		option_read(report, name, c, out);
	}
}

/* What two options say of each other. */
static void options_check(struct report *report, const struct yaml_node *root,
			  const struct options *o)
{
	const struct yaml_node *quota = yaml_get(root, "slotsPerWorkload");

	if (quota != NULL && o->slots_per_workload > o->slots)
		report_error(report, quota->at, "option 'slotsPerWorkload': '", quota->text,
			     "' is more than there are slots", NULL);
}

void schema_read_options(struct report *report, const struct yaml_node *root, struct options *out)
{
	*out = (struct options){0};
	for (size_t i = 0; schema_options(i) != NULL; i++)
		(void)option_set(&options[i], options[i].fallback, out);
	if (root == NULL)
		return;
	if (root->type != YAML_MAPPING) {
		report_error(report, root->at, "shunt.yaml must be a mapping of options", NULL);
		return;
	}
	for (const struct yaml_node *c = root->first; c != NULL; c = c->next) {
		if (option_is_section(c->key->text))
			section_read(report, c, out);
		else if (elsewhere(c->key->text) == NULL)
			option_read(report, c->key->text, c, out);
		else if (yaml_is_null(c))
			report_error(report, c->at, "option '", c->key->text, "' must be ",
				     elsewhere(c->key->text), NULL);
	}
	options_check(report, root, out);
}
