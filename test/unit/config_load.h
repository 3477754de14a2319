/* SPDX-License-Identifier: Apache-2.0 */
/* Documents from a string, and questions to the policy that they make. */
#ifndef SHUNT_TEST_CONFIG_LOAD_H
#define SHUNT_TEST_CONFIG_LOAD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/build.h"
#include "proxy/policy.h"

struct loaded {
	struct identity_table *identities;
	struct snapshot s;
	struct findings f;
	int err;
};

static inline struct loaded load_files(const struct document_file *files, size_t n)
{
	struct loaded l = {.identities = identity_table_new()};

	l.err = config_build(files, n, l.identities, 7, &l.s, &l.f);
	return l;
}

static inline struct document_file document(const char *path, const char *text)
{
	return (struct document_file){.path = path, .text = text, .len = strlen(text)};
}

static inline struct document_file options_file(const char *text)
{
	return (struct document_file){
		.path = "shunt.yaml", .text = text, .len = strlen(text), .options = true};
}

/* Of the state folder. */
static inline struct document_file state_file(const char *path, const char *text)
{
	return (struct document_file){
		.path = path, .text = text, .len = strlen(text), .state = true};
}

static inline struct loaded load(const char *text)
{
	struct document_file file = document("conf.d/a.yaml", text);

	return load_files(&file, 1);
}

static inline void unload(struct loaded *l)
{
	if (l->err == 0)
		snapshot_free(&l->s);
	findings_free(&l->f);
	identity_table_free(l->identities);
}

static inline void print_findings(const struct findings *f)
{
	for (size_t i = 0; i < f->count; i++)
		print_message("%s:%u:%u: %s: %s\n", f->items[i].where.file, f->items[i].where.line,
			      f->items[i].where.column,
			      f->items[i].level == FINDING_ERROR ? "error" : "warning",
			      f->items[i].text);
}

/* Documents in which nothing is wrong. */
static inline struct loaded good(const char *text)
{
	struct loaded l = load(text);

	if (l.err != 0)
		print_findings(&l.f);
	assert_int_equal(l.err, 0);
	return l;
}

/* Some finding of that level is on that line and has that text in it. */
static inline bool found(const struct findings *f, enum finding_level level, unsigned line,
			 const char *text)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->items[i].level == level && f->items[i].where.line == line &&
		    strstr(f->items[i].text, text) != NULL)
			return true;
	print_message("not found: line %u: %s\n", line, text);
	print_findings(f);
	return false;
}

/* "ns/name", "host" or "world". */
static inline uint32_t who(const struct loaded *l, const char *name)
{
	char ns[64];
	const char *slash = strchr(name, '/');
	const struct fleet_workload *w;

	if (slash == NULL)
		return strcmp(name, "host") == 0 ? IDENTITY_HOST : IDENTITY_WORLD;
	snprintf(ns, sizeof(ns), "%.*s", (int)(slash - name), name);
	w = fleet_by_name(l->s.fleet, ns, slash + 1);
	assert_non_null(w);
	return w->identity;
}

static inline struct flow flow_of(const struct loaded *l, const char *from, const char *to,
				  unsigned port)
{
	return (struct flow){.src = who(l, from), .dst = who(l, to), .port = (uint16_t)port};
}

static inline struct decision connection(const struct loaded *l, const char *from, const char *to,
					 unsigned port)
{
	struct flow flow = flow_of(l, from, to, port);

	return policy_connection(l->s.policy, &flow);
}

static inline struct slice text_slice(const char *s)
{
	return (struct slice){s, strlen(s)};
}

/* The head that is forwarded is not looked at. */
static inline struct decision judge(const struct loaded *l, const struct flow *flow,
				    const struct message *head)
{
	struct policy_scratch *s = policy_scratch_new();
	struct decision d = policy_request(l->s.policy, flow, head, s);

	policy_scratch_free(s);
	return d;
}

static inline struct decision request(const struct loaded *l, const char *from, const char *to,
				      unsigned port, const char *method, const char *path)
{
	struct flow flow = flow_of(l, from, to, port);
	struct message head = {.method = text_slice(method),
			       .target = text_slice(path),
			       .path = text_slice(path),
			       .authority = text_slice("api"),
			       .version = MESSAGE_HTTP11};

	return judge(l, &flow, &head);
}

#define WORKLOAD(ns, name, labels)                                                                 \
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: " name ", namespace: " ns      \
	"}\nspec: {labels: " labels ", selectors: ['netns:/run/netns/" ns "-" name "']}\n---\n"

#define NAMESPACE(name, labels, spec)                                                              \
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: " labels              \
	"}\nspec: " spec "\n---\n"

/* 5 lines each: a document that follows begins on line 26. */
#define WORKLOADS                                                                                  \
	WORKLOAD("shop", "frontend", "{app: frontend, tier: web}")                                 \
	WORKLOAD("shop", "api", "{app: api}")                                                      \
	WORKLOAD("shop", "intruder", "{role: none}")                                               \
	WORKLOAD("other", "frontend", "{app: frontend}")                                           \
	WORKLOAD("other", "api", "{app: api}")

/* The spec starts on line 30, at two spaces. */
#define CNP(name, spec)                                                                            \
	"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: " name              \
	", namespace: shop}\nspec:\n" spec

#define API "  endpointSelector: {matchLabels: {app: api}}\n"

/* Its frontend may send requests that one of the rules, a list, matches. */
#define HTTP_RULES(rules)                                                                          \
	API "  ingress:\n"                                                                         \
	    "  - fromEndpoints: [{matchLabels: {app: frontend}}]\n"                                \
	    "    toPorts:\n"                                                                       \
	    "    - ports: [{port: '80', protocol: TCP}]\n"                                         \
	    "      rules: {http: " rules "}\n"

#endif
