/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shunt policy explain: what would become of a connection or a request, by the evaluator of
 * the daemon itself, and which rule says so. Needs no root and no daemon.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/report.h"
#include "proxy/cli/offline.h"
#include "proxy/record.h"

#define HEADERS_MAX 64

static const char help[] =
	"Usage: shunt policy explain --from WHO --to WHO:PORT [options]\n"
	"\n"
	"Says whether a connection is allowed, or a request when one of --method, --path,\n"
	"--host and --header is given, which rule decides, and for a refusal which rule came\n"
	"nearest. WHO is NAMESPACE/NAME of a Workload, host or world.\n"
	"\n"
	"      --config DIR       folder of documents (default /etc/shunt)\n"
	"      --method METHOD    default GET\n"
	"      --path PATH        with its query; default /\n"
	"      --host HOST        the request's host\n"
	"      --header 'K: V'    a header field; may be repeated\n"
	"  -o, --output json      print one JSON object\n"
	"  -h, --help             this text\n"
	"\n"
	"Exit status: 0 allowed, 1 denied or the folder is invalid, 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  shunt policy explain --from shop/frontend --to shop/api:80\n"
	"  shunt policy explain --from shop/frontend --to shop/api:80 --method POST --path "
	"/orders\n"
	"  shunt policy explain --config ./my-policies --from world --to shop/api:80 -o json\n";

struct explain {
	const char *dir;
	const char *from;
	char *to; /* cut at the colon */
	bool json, request;
	struct flow flow;
	const struct fleet_workload *ends[2]; /* source, destination; NULL: host, world */
	struct message head;
	struct field headers[HEADERS_MAX];
	struct offline *loaded;
	struct policy_mismatches mismatches; /* of the request, if it is allowed */
};

static struct slice slice_of(const char *s)
{
	return (struct slice){s, strlen(s)};
}

/* ---- arguments ---- */

static bool read_header(struct explain *x, const char *s)
{
	const char *colon = strchr(s, ':'), *value;
	struct field *f = &x->headers[x->head.field_count];

	if (colon == NULL || colon == s || x->head.field_count == HEADERS_MAX)
		return false;
	value = colon + 1 + strspn(colon + 1, " \t");
	f->name = (struct slice){s, (size_t)(colon - s)};
	f->value = slice_of(value);
	while (f->value.len > 0 && strchr(" \t", f->value.p[f->value.len - 1]) != NULL)
		f->value.len--;
	x->head.field_count++;
	return true;
}

/* NULL, or what is wrong. */
static const char *read_option(struct explain *x, int c, char *arg)
{
	switch (c) {
	case 'c':
		x->dir = arg;
		return NULL;
	case 'f':
		x->from = arg;
		return NULL;
	case 't':
		x->to = arg;
		return NULL;
	case 'o':
		x->json = true;
		return strcmp(arg, "json") == 0 ? NULL : "the only output format is json";
	case 'm':
		x->head.method = slice_of(arg);
		break;
	case 'p':
		x->head.path = slice_of(arg);
		if (arg[0] != '/' && strcmp(arg, "*") != 0)
			return "--path begins with / (or is *)";
		break;
	case 'H':
		x->head.authority = slice_of(arg);
		break;
	case 'K':
		if (!read_header(x, arg))
			return "--header takes 'Name: value', at most 64 times";
		break;
	default:
		return ""; /* getopt has said it */
	}
	x->request = true;
	return NULL;
}

static const char *read_port(struct explain *x)
{
	char *colon = x->to == NULL ? NULL : strrchr(x->to, ':'), *end;
	unsigned long port;

	if (x->from == NULL || colon == NULL)
		return "--from WHO and --to WHO:PORT are needed";
	*colon = '\0';
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port == 0 || port > 65535)
		return "--to ends with :PORT, 1 to 65535";
	x->flow.port = (uint16_t)port;
	return NULL;
}

static const char *read_arguments(struct explain *x, int argc, char **argv, bool *help_wanted)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"from", required_argument, NULL, 'f'},
		{"to", required_argument, NULL, 't'},	  {"method", required_argument, NULL, 'm'},
		{"path", required_argument, NULL, 'p'},	  {"host", required_argument, NULL, 'H'},
		{"header", required_argument, NULL, 'K'}, {"output", required_argument, NULL, 'o'},
		{"help", no_argument, NULL, 'h'},	  {NULL, 0, NULL, 0}};
	const char *wrong = NULL;
	int c;

	optind = 0;
	while (wrong == NULL && (c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		*help_wanted |= c == 'h';
		wrong = c == 'h' ? NULL : read_option(x, c, optarg);
	}
	if (wrong != NULL || *help_wanted)
		return wrong;
	if (argc - optind != 1 || strcmp(argv[optind], "explain") != 0)
		return "a verb is missing: policy explain --from WHO --to WHO:PORT";
	return read_port(x);
}

/* ---- who ---- */

/* All names as "ns/name", ended by NULL; NULL when memory is short. */
static char **names_of(const struct fleet *fleet)
{
	char **names = calloc(fleet->workload_count + 1, sizeof(*names));

	for (size_t i = 0; names != NULL && i < fleet->workload_count; i++) {
		struct text t = {0};

		text_adds(&t, fleet->workloads[i].namespace, "/", fleet->workloads[i].name, NULL);
		names[i] = t.p;
		if (t.failed)
			break;
	}
	return names;
}

static void say_unknown(const struct fleet *fleet, const char *who)
{
	char **names = names_of(fleet);
	const char *near = NULL;

	if (names != NULL)
		near = report_nearest_of(who, (const char *const *)names);
	fprintf(stderr, "shunt policy: no workload %s", who);
	if (near != NULL)
		fprintf(stderr, "; did you mean %s?\n", near);
	else
		fprintf(stderr, " (write NAMESPACE/NAME of a Workload, host or world)\n");
	for (size_t i = 0; names != NULL && names[i] != NULL; i++)
		free(names[i]);
	free(names);
}

static bool find(const struct fleet *fleet, const char *who, uint32_t *identity,
		 const struct fleet_workload **found)
{
	const char *slash = strchr(who, '/');
	const struct fleet_workload *w = NULL;
	char namespace[256];

	if (strcmp(who, "host") == 0 || strcmp(who, "world") == 0) {
		*identity = who[0] == 'h' ? IDENTITY_HOST : IDENTITY_WORLD;
		return true;
	}
	if (slash != NULL && (size_t)(slash - who) < sizeof(namespace)) {
		memcpy(namespace, who, (size_t)(slash - who));
		namespace[slash - who] = '\0';
		w = fleet_by_name(fleet, namespace, slash + 1);
	}
	if (w == NULL) {
		say_unknown(fleet, who);
		return false;
	}
	*identity = w->identity;
	*found = w;
	return true;
}

/* The i-th end that leaves connections to this port alone, or NULL. */
static const char *excludes(const struct explain *x, int i)
{
	const struct fleet_workload *w = x->ends[i];

	for (size_t k = 0; w != NULL && k < w->exclude.port_count; k++)
		if (w->exclude.ports[k] == x->flow.port)
			return i == 0 ? x->from : x->to;
	return NULL;
}

/* ---- answers ---- */

/* Bytes of a target that the codec answers with 400 before any rule is asked. */
static bool malformed(const struct explain *x)
{
	for (size_t i = 0; i < x->head.path.len; i++) {
		unsigned char c = (unsigned char)x->head.path.p[i];

		if (c <= 0x20 || c == 0x7f || c == '#')
			return true;
	}
	return false;
}

static const char *direction_name(enum direction d)
{
	return d == DIRECTION_EGRESS ? "egress" : "ingress";
}

static const char *subject_name(const struct explain *x, enum direction d)
{
	return d == DIRECTION_EGRESS ? x->from : x->to;
}

/* Headers that did not match, though their rules did. */
static void print_mismatches(const struct policy_mismatches *m)
{
	struct text t = {0};

	policy_mismatches_text(m, &t);
	if (t.len > 0)
		printf("mismatch: %s\n", text_string(&t));
	text_free(&t);
}

static void print_allowed(const struct explain *x, const struct decision *d, bool proxied)
{
	if (d->rule != NULL)
		printf("ALLOWED by %s (%s:%u)\n", d->rule->policy, d->rule->where.file,
		       d->rule->where.line);
	else if (x->flow.src == IDENTITY_HOST &&
		 policy_selects(x->loaded->snapshot.policy, x->flow.dst, DIRECTION_INGRESS))
		printf("ALLOWED  the node itself always reaches its workloads\n");
	else
		printf("ALLOWED  no policy selects this flow\n");
	print_mismatches(&x->mismatches);
	if (!proxied)
		printf("the connection goes DIRECT: the proxy does not see it\n");
	else if (!x->request)
		printf("the connection goes through the PROXY, each request is asked (try --method "
		       "and --path)\n");
}

static const char *answer_of(const struct decision *d)
{
	return d->reason == REASON_POLICY_L4 ? "ECONNREFUSED" : "403";
}

static void print_denied(const struct explain *x, const struct decision *d,
			 const struct near_miss *near)
{
	printf("DENIED %s  by default-deny (%s of %s selected by %s %s, %s:%u)\n", answer_of(d),
	       direction_name(d->direction), subject_name(x, d->direction), d->rule->kind,
	       d->rule->policy, d->rule->where.file, d->rule->where.line);
	if (near->rule != NULL)
		printf("nearest rule: %s:%u %s\n", near->where.file, near->where.line, near->why);
}

static void json_member(struct text *t, const char *name, const char *value)
{
	text_adds(t, ",\"", name, "\":", NULL);
	text_add_json(t, value, strlen(value));
}

static void json_place(struct text *t, const char *name, const struct policy_rule *rule,
		       struct location where)
{
	text_adds(t, ",\"", name, "\":{\"kind\":", NULL);
	text_add_json(t, rule->kind, strlen(rule->kind));
	json_member(t, "policy", rule->policy);
	json_member(t, "file", where.file);
	text_add(t, ",\"line\":");
	text_add_number(t, where.line);
}

static void json_mismatches(struct text *t, const struct policy_mismatches *m)
{
	struct text list = {0};

	policy_mismatches_text(m, &list);
	if (list.len > 0)
		json_member(t, "mismatch", text_string(&list));
	text_free(&list);
}

static const char *verdict_word(const struct decision *d)
{
	return d->verdict == VERDICT_DENY ? "denied" : "allowed";
}

/* What no rule is asked about: said beside the answer that the rules would give. */
static void print_excluded(const struct explain *x)
{
	for (int i = 0; i < 2; i++)
		if (excludes(x, i) != NULL)
			printf("port %u is EXCLUDED for %s: what it has to do with this port is "
			       "left alone\n",
			       x->flow.port, excludes(x, i));
}

static void json_excluded(struct text *t, const struct explain *x)
{
	const char *lead = ",\"excluded\":[";

	for (int i = 0; i < 2; i++) {
		if (excludes(x, i) == NULL)
			continue;
		text_add(t, lead);
		text_add_json_string(t, excludes(x, i));
		lead = ",";
	}
	text_add(t, lead[1] == '\0' ? "]" : "");
}

static void print_json(const struct explain *x, const struct decision *d, bool proxied,
		       const struct near_miss *near)
{
	struct text t = {0};
	bool denied = d->verdict == VERDICT_DENY;

	text_adds(&t, "{\"verdict\":\"", verdict_word(d), "\"", NULL);
	json_member(&t, "connection", proxied ? "proxy" : denied ? "denied" : "direct");
	if (denied) {
		json_member(&t, "reason", reason_word(d->reason));
		json_member(&t, "answer", answer_of(d));
		json_member(&t, "direction", direction_name(d->direction));
		json_member(&t, "subject", subject_name(x, d->direction));
	}
	if (denied && d->reason != REASON_POLICY_L4)
		json_member(&t, "reading", reading_name(d->reading));
	if (d->rule != NULL) {
		json_place(&t, denied ? "default_deny" : "rule", d->rule, d->rule->where);
		text_add(&t, "}");
	}
	if (denied && near->rule != NULL) {
		json_place(&t, "nearest", near->rule, near->where);
		json_member(&t, "why", near->why);
		text_add(&t, "}");
	}
	json_mismatches(&t, &x->mismatches);
	json_excluded(&t, x);
	text_add(&t, "}");
	puts(text_string(&t));
	text_free(&t);
}

static int answer(struct explain *x, struct policy_scratch *scratch)
{
	const struct policy *p = x->loaded->snapshot.policy;
	struct decision c = policy_connection(p, &x->flow), d = c;
	struct near_miss near = {0};
	bool proxied = c.verdict == VERDICT_PROXY;

	if (x->request) {
		d = policy_request(p, &x->flow, &x->head, scratch);
		x->mismatches = *policy_mismatches(scratch);
	}
	if (d.verdict == VERDICT_DENY)
		policy_near_miss(p, &x->flow, x->request ? &x->head : NULL, &near);
	if (x->json)
		print_json(x, &d, proxied, &near);
	else if (d.verdict == VERDICT_DENY)
		print_denied(x, &d, &near);
	else
		print_allowed(x, &d, proxied);
	if (!x->json)
		print_excluded(x);
	return d.verdict == VERDICT_DENY ? CLI_NO : CLI_OK;
}

static int answer_malformed(const struct explain *x)
{
	if (x->json)
		puts("{\"verdict\":\"denied\",\"reason\":\"bad_request\",\"answer\":\"400\"}");
	else
		puts("DENIED 400  the path holds a space, a control byte or '#'; no rule is asked");
	return CLI_NO;
}

static int invalid(const struct explain *x)
{
	struct text t = {0};

	if (!x->json) {
		offline_print_findings(stdout, &x->loaded->findings);
		printf("the configuration in %s is invalid; nothing is decided by it\n", x->dir);
		return CLI_NO;
	}
	text_add(&t, "{");
	offline_json_findings(&t, &x->loaded->findings);
	text_add(&t, "}");
	puts(text_string(&t));
	text_free(&t);
	return CLI_NO;
}

static int run(struct explain *x)
{
	const struct fleet *fleet = x->loaded->snapshot.fleet;
	struct policy_scratch *scratch;
	int status = CLI_USAGE;

	if (!x->loaded->valid)
		return invalid(x);
	if (!find(fleet, x->from, &x->flow.src, &x->ends[0]) ||
	    !find(fleet, x->to, &x->flow.dst, &x->ends[1]))
		return CLI_USAGE;
	x->head.target = x->head.path;
	x->head.fields = x->headers;
	if (x->request && malformed(x))
		return answer_malformed(x);
	scratch = policy_scratch_new();
	if (scratch != NULL)
		status = answer(x, scratch);
	else
		fprintf(stderr, "shunt policy: out of memory\n");
	policy_scratch_free(scratch);
	return status;
}

int cli_policy(int argc, char **argv)
{
	struct explain x = {.dir = "/etc/shunt", .head = {.version = MESSAGE_HTTP11}};
	struct offline loaded;
	bool help_wanted = false;
	const char *wrong;
	int status;

	x.head.method = slice_of("GET");
	x.head.path = slice_of("/");
	x.head.authority = slice_of("");
	wrong = read_arguments(&x, argc, argv, &help_wanted);
	if (wrong != NULL)
		return offline_usage("policy", wrong[0] == '\0' ? NULL : wrong);
	if (help_wanted)
		return fputs(help, stdout) < 0 ? CLI_USAGE : CLI_OK;
	if (offline_load(x.dir, &loaded) < 0)
		return CLI_USAGE;
	x.loaded = &loaded;
	status = run(&x);
	offline_free(&loaded);
	return status;
}
