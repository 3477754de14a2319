/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision costs by one rule and by a thousand, for test/count/run: each row of `cases`
 * is asked by one rule and by many, and measured() is entered once for each, in the order of the
 * lines that are printed: "NAME by N rules, A allocations".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/build.h"
#include "config/text.h"
#include "proxy/policy.h"

#define MANY 1000

/* Every allocation of the process, RE2's too. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
static unsigned allocations;

void *malloc(size_t n)
{
	allocations++;
	return __libc_malloc(n);
}

void *calloc(size_t count, size_t n)
{
	allocations++;
	return __libc_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
	allocations++;
	return __libc_realloc(p, n);
}

/* The i-th rule; %04u is i. */
struct kind {
	const char *name;
	const char *rules[4]; /* in turn; NULL ends them */
	const char *method, *path, *host, *header; /* of the request for the i-th rule */
	bool apart; /* a policy for each rule */
};

static const struct kind kinds[] = {
	{"literals", {"{path: /v1/item-%04u/x}"}, "GET", "/v1/item-%04u/x", "api", "none", false},
	{"prefixes",
	 {"{path: /v1/item-%04u/.*}"},
	 "GET",
	 "/v1/item-%04u/some/thing?q=1",
	 "api",
	 "none",
	 false},
	{"regexes",
	 {"{path: '/v1/item-%04u/[0-9]+'}"},
	 "GET",
	 "/v1/item-%04u/4711",
	 "api",
	 "none",
	 false},
	{"regexes that begin alike",
	 {"{path: '/v1/[a-z]+-%04u/[0-9]+'}"},
	 "GET",
	 "/v1/item-%04u/4711",
	 "api",
	 "none",
	 false},
	{"methods", {"{method: M%04u}"}, "M%04u", "/", "api", "none", false},
	{"hosts", {"{host: 'h%04u\\.shop'}"}, "GET", "/", "h%04u.shop", "none", false},
	{"host regexes",
	 {"{host: 'h%04u[.]shop(:80)?'}"},
	 "GET",
	 "/",
	 "h%04u.shop:80",
	 "none",
	 false},
	{"mixed",
	 {"{path: '/v1/item-%04u/[0-9]+', method: 'GET|HEAD'}",
	  "{path: /v1/item-%04u/1, method: GET}", "{path: /v1/item-%04u/.*, host: api}"},
	 "GET",
	 "/v1/item-%04u/1",
	 "api",
	 "none",
	 false},
	{"headers",
	 {"{path: /v1, headers: ['X-Key: key-%04u']}"},
	 "GET",
	 "/v1",
	 "api",
	 "key-%04u",
	 false},
	{"headerMatches",
	 {"{path: /v1/item-%04u/x, headerMatches: [{name: X-Key, value: a, mismatch: LOG}]}"},
	 "GET",
	 "/v1/item-%04u/x",
	 "api",
	 "b",
	 false},
	{"headerMatches that edit",
	 {"{path: /v1/item-%04u/x, headerMatches: [{name: X-Key, value: a, mismatch: REPLACE}]}"},
	 "GET",
	 "/v1/item-%04u/x",
	 "api",
	 "b",
	 false},
	{"literals, a policy each",
	 {"{path: /v1/item-%04u/x}"},
	 "GET",
	 "/v1/item-%04u/x",
	 "api",
	 "none",
	 true},
};

static void add_format(struct text *t, const char *format, unsigned i)
{
	char buf[256];

	/* only formats of the table above */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(buf, sizeof(buf), format, i);
#pragma GCC diagnostic pop
	text_add(t, buf);
}

static void add_policy(struct text *t, unsigned number)
{
	text_add(t, "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
		    "metadata: {name: p");
	text_add_number(t, number);
	text_add(t, ", namespace: shop}\nspec:\n  endpointSelector: {}\n  ingress:\n"
		    "  - toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [\n");
}

/* Rules `first` to `first` + n - 1 of the kind. */
static struct snapshot load(const struct kind *k, unsigned first, unsigned n)
{
	struct text t = {0};
	struct identity_table *identities = identity_table_new();
	struct document_file file = {.path = "a.yaml"};
	struct findings findings;
	struct snapshot s;
	unsigned turns = 0;

	while (turns < 4 && k->rules[turns] != NULL)
		turns++;
	text_add(&t,
		 "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a, namespace: shop}\n"
		 "spec: {address: 10.0.0.1}\n");
	for (unsigned i = first; i < first + n; i++) {
		if (i == first || k->apart)
			add_policy(&t, i);
		text_add(&t, "      ");
		add_format(&t, k->rules[i % turns], i);
		text_add(&t, i + 1 == first + n || k->apart ? "\n      ]}}]\n" : ",\n");
	}
	file.text = text_string(&t);
	file.len = t.len;
	if (config_build(&file, 1, identities, 1, &s, &findings) < 0) {
		printf("not built: %s: %s\n", k->name,
		       findings.count > 0 ? findings.items[0].text : "no memory");
		exit(1);
	}
	findings_free(&findings);
	identity_table_free(identities);
	text_free(&t);
	return s;
}

struct decision measured(const struct policy *p, const struct flow *flow,
			 const struct message *head, struct policy_scratch *s);

__attribute__((noinline)) struct decision measured(const struct policy *p, const struct flow *flow,
						   const struct message *head,
						   struct policy_scratch *s)
{
	return policy_request(p, flow, head, s);
}

/* Asks for what the i-th rule allows; `hit`: it is there. */
static void ask(const struct kind *k, const struct snapshot *snapshot, const char *where,
		unsigned i, unsigned n, bool hit)
{
	struct text t[4] = {{0}};
	const char *const formats[4] = {k->method, k->path, k->host, k->header};
	struct field fields[3] = {{{"Host", 4}, {"api", 3}}, {{"User-Agent", 10}, {"curl", 4}}};
	struct message head = {.fields = fields, .field_count = 3};
	struct flow flow = {
		.src = IDENTITY_WORLD, .dst = snapshot->fleet->workloads[0].identity, .port = 80};
	struct policy_scratch *s = policy_scratch_new();
	struct decision d;
	unsigned before;

	for (int f = 0; f < 4; f++)
		add_format(&t[f], formats[f], i);
	head.method = (struct slice){t[0].p, t[0].len};
	head.target = head.path = (struct slice){t[1].p, t[1].len};
	head.authority = (struct slice){t[2].p, t[2].len};
	fields[2] = (struct field){{"X-Key", 5}, {t[3].p, t[3].len}};
	for (int warm = 0; warm < 3; warm++)
		(void)policy_request(snapshot->policy, &flow, &head, s);
	before = allocations;
	d = measured(snapshot->policy, &flow, &head, s);
	printf("%s, %s by %u rules, %u allocations\n", k->name, where, n, allocations - before);
	if ((d.verdict != VERDICT_DENY) != hit) {
		printf("not the verdict that was expected\n");
		exit(1);
	}
	policy_scratch_free(s);
	for (int f = 0; f < 4; f++)
		text_free(&t[f]);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *k = &kinds[i];
		struct snapshot first = load(k, 0, 1), last = load(k, MANY - 1, 1);
		struct snapshot many = load(k, 0, MANY);

		ask(k, &first, "the first", 0, 1, true);
		ask(k, &many, "the first", 0, MANY, true);
		ask(k, &last, "the last", MANY - 1, 1, true);
		ask(k, &many, "the last", MANY - 1, MANY, true);
		ask(k, &first, "none", MANY + 1, 1, false);
		ask(k, &many, "none", MANY + 1, MANY, false);
		snapshot_free(&first);
		snapshot_free(&last);
		snapshot_free(&many);
	}
	return 0;
}
