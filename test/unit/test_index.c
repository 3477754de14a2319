/* SPDX-License-Identifier: Apache-2.0 */
/* Rules that are found by what a request matches: the same answers as asking one by one. */
#include "config_load.h"

#include <errno.h>

#include "proxy/path_readings.h"
#include "proxy/regex.h"

int __wrap_regex_set_match(const struct regex_set *s, const char *p, size_t n, struct regex_hits *h,
			   const int **items);
int __real_regex_set_match(const struct regex_set *s, const char *p, size_t n, struct regex_hits *h,
			   const int **items);

static bool starve;
static unsigned sets_asked;

int __wrap_regex_set_match(const struct regex_set *s, const char *p, size_t n, struct regex_hits *h,
			   const int **items)
{
	sets_asked++;
	return starve ? -1 : __real_regex_set_match(s, p, n, h, items);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- one by one ---- */

static const char *const paths[] = {NULL,
				    "/a",
				    "/a/b",
				    "/a.*",
				    "/a/.*",
				    ".*",
				    "/a/b/.*",
				    "/(a|b)/[0-9]+",
				    "/a/[0-9]+",
				    "/a/[a-z]*",
				    "(?i)/A",
				    "/a\\.b",
				    "/a[.]b",
				    "^/a$",
				    "/a|/b",
				    "(/a|/c)",
				    "(?:/a|/aa)",
				    "/a?",
				    "/a/b+",
				    "/a/.+",
				    "/\\pL+",
				    "/a{2}",
				    "[/]a",
				    "/a/(.*)",
				    "^/a/.*$",
				    "/a|/a|/b",
				    "(a|/a/.*)",
				    "/(a)|/b",
				    "/a/(?:b|c)/.*",
				    "/[[:alpha:]]",
				    "\\Q/a.b\\E",
				    "/a/\\d+/x|/a/b"};
static const char *const methods[] = {NULL, "GET", "GET|HEAD", "P.*", "[A-Z]+", "(?:GET|PUT)"};
static const char *const hosts[] = {NULL, "api", "api(:80)?", ".*shop", "a.*", "api\\.shop", ".*"};
static const char *const headers[] = {NULL,	    "'X-A: b'", "X-A", "'X-A: b', X-B",
				      "'x-b: c,d'", "X-B"};

static const char *const asked_paths[] = {
	"/a",	      "/a/b",	     "/a/b/c", "/b",	 "/c",	       "/a/1",	    "/b/12",
	"/A",	      "/a.b",	     "/axb",   "/aa",	 "/",	       "/ab",	    "/a/bb",
	"/a/\xff",    "/a/\xc3\xa9", "/a?x=1", "/a/",	 "/a/b/../..", "/%61",	    "/a/..%2fb",
	"/%2525252e", "a",	     "/a/c/d", "/a/7/x", "/x",	       "/a/\xff/b", "/a/%0a"};
static const char *const asked_methods[] = {"GET", "HEAD", "PUT", "PURGE", "x"};
static const char *const asked_hosts[] = {"api", "api:80", "api.shop", "", "b"};

struct drawn { /* one rule */
	const char *path, *method, *host, *headers;
	unsigned line;
	bool frontend_only;
};

static uint32_t state_of_dice = 4711;

static size_t dice(size_t sides)
{
	state_of_dice = state_of_dice * 1664525U + 1013904223U;
	return (state_of_dice >> 8) % sides;
}

/* Each is compiled once, for all rounds. */
static struct regex *compiled(const char *pattern)
{
	static struct {
		const char *pattern;
		struct regex *r;
	} known[64];
	char error[64];
	size_t i = 0;

	while (known[i].pattern != NULL && known[i].pattern != pattern)
		i++;
	if (known[i].pattern == NULL) {
		known[i].pattern = pattern;
		known[i].r = regex_new(pattern, strlen(pattern), error, sizeof(error));
		assert_non_null(known[i].r);
	}
	return known[i].r;
}

static bool whole(const char *pattern, struct slice text)
{
	return pattern == NULL || regex_match(compiled(pattern), text.p, text.len);
}

static bool has(const struct message *head, const char *name, const char *value)
{
	char joined[64] = "";
	bool found = false;

	for (size_t i = 0; i < head->field_count; i++) {
		if (!slice_is_nocase(head->fields[i].name, name))
			continue;
		if (found)
			strcat(joined, ",");
		strncat(joined, head->fields[i].value.p, head->fields[i].value.len);
		found = true;
	}
	return found && (value == NULL || strcmp(joined, value) == 0);
}

static bool headers_hold(const char *which, const struct message *head)
{
	if (which == NULL)
		return true;
	if (strcmp(which, "'X-A: b'") == 0)
		return has(head, "X-A", "b");
	if (strcmp(which, "X-A") == 0)
		return has(head, "X-A", NULL);
	if (strcmp(which, "X-B") == 0)
		return has(head, "X-B", NULL);
	if (strcmp(which, "'x-b: c,d'") == 0)
		return has(head, "X-B", "c,d");
	return has(head, "X-A", "b") && has(head, "X-B", NULL);
}

/* The line of the first rule that allows the reading, or 0. */
static unsigned one_by_one(const struct drawn *rules, size_t n, const struct message *head,
			   struct slice reading, bool frontend)
{
	for (size_t i = 0; i < n; i++)
		if ((frontend || !rules[i].frontend_only) &&
		    (rules[i].path == NULL ||
		     (reading.p != NULL && whole(rules[i].path, reading))) &&
		    whole(rules[i].method, head->method) && whole(rules[i].host, head->authority) &&
		    headers_hold(rules[i].headers, head))
			return rules[i].line;
	return 0;
}

static unsigned expected(const struct drawn *rules, size_t n, const struct message *head,
			 bool frontend)
{
	static struct path_readings readings;
	unsigned first = 0;

	path_readings_make(&readings, head->path);
	for (unsigned i = 0; i < readings.count; i++) {
		unsigned line = one_by_one(rules, n, head, readings.item[i], frontend);

		if (line == 0)
			return 0;
		first = i == 0 ? line : first;
	}
	return first;
}

/* ---- documents ---- */

static void add_fields(struct text *t, const struct drawn *r)
{
	text_add(t, "        - {");
	if (r->path != NULL)
		text_adds(t, "path: '", r->path, "', ", NULL);
	if (r->method != NULL)
		text_adds(t, "method: '", r->method, "', ", NULL);
	if (r->host != NULL)
		text_adds(t, "host: '", r->host, "', ", NULL);
	if (r->headers != NULL)
		text_adds(t, "headers: [", r->headers, "]", NULL);
	text_add(t, "}\n");
}

static unsigned lines_of(const struct text *t)
{
	unsigned n = 1;

	for (size_t i = 0; i < t->len; i++)
		n += t->p[i] == '\n';
	return n;
}

#define ONLY "fromEndpoints: [{matchLabels: {app: frontend}}]\n    "

/* Three policies, of which one is for the frontend only. */
static struct loaded draw(struct drawn *rules, size_t n)
{
	struct text t = {0};
	struct loaded l;

	text_add(&t, WORKLOADS);
	for (size_t i = 0; i < n; i++) {
		if (i % (n / 3) == 0 && i / (n / 3) < 3) {
			text_add(&t, i == 0 ? "" : "---\n");
			text_add(&t, "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
				     "metadata: {namespace: shop, name: p");
			text_add_number(&t, i);
			text_add(&t, "}\nspec:\n" API "  ingress:\n  - ");
			text_add(&t, i / (n / 3) == 1 ? ONLY : "");
			text_add(&t, "toPorts:\n    - ports: [{port: 80, protocol: TCP}]\n"
				     "      rules:\n        http:\n");
		}
		rules[i] = (struct drawn){.path = paths[dice(COUNT(paths))],
					  .method = methods[dice(COUNT(methods))],
					  .host = hosts[dice(COUNT(hosts))],
					  .headers = headers[dice(COUNT(headers))],
					  .line = lines_of(&t),
					  .frontend_only = i / (n / 3) == 1};
		add_fields(&t, &rules[i]);
	}
	l = load(text_string(&t));
	if (l.err != 0)
		print_findings(&l.f);
	assert_int_equal(l.err, 0);
	text_free(&t);
	return l;
}

static void ask_all(const struct loaded *l, const struct drawn *rules, size_t n)
{
	struct policy_scratch *s = policy_scratch_new();
	struct flow flow[2] = {flow_of(l, "shop/intruder", "shop/api", 80),
			       flow_of(l, "shop/frontend", "shop/api", 80)};
	struct field fields[] = {{text_slice("x-a"), text_slice("b")},
				 {text_slice("X-B"), text_slice("c")},
				 {text_slice("x-b"), text_slice("d")},
				 {text_slice("X-A"), text_slice("b")}};

	for (size_t i = 0; i < 200; i++) {
		size_t from = dice(4), count = dice(5 - from), who = dice(2);
		struct message head = {
			.method = text_slice(asked_methods[dice(COUNT(asked_methods))]),
			.path = text_slice(asked_paths[dice(COUNT(asked_paths))]),
			.authority = text_slice(asked_hosts[dice(COUNT(asked_hosts))]),
			.fields = fields + from,
			.field_count = count};
		struct decision d = policy_request(l->s.policy, &flow[who], &head, s);
		unsigned want = expected(rules, n, &head, who == 1);

		if ((d.verdict == VERDICT_DENY ? 0 : d.rule->where.line) != want)
			fail_msg("%.*s %s of %s: line %u, not %u", (int)head.method.len,
				 head.method.p, head.path.p, head.authority.p,
				 d.verdict == VERDICT_DENY ? 0 : d.rule->where.line, want);
	}
	policy_scratch_free(s);
}

static void the_rule_that_is_found_is_the_first_that_allows(void **state)
{
	struct drawn rules[48];

	(void)state;
	for (unsigned round = 0; round < 120; round++) {
		/* few: what one field alone finds shows; many: what all do */
		size_t n = 3 + dice(round % 2 == 0 ? 3 : COUNT(rules) - 3);
		struct loaded l = draw(rules, n);

		ask_all(&l, rules, n);
		unload(&l);
	}
}

/* ---- single things ---- */

#define RULES(rules) HTTP_RULES("[" rules "]") "---\n"

static struct decision ask(const struct loaded *l, const char *path)
{
	sets_asked = 0;
	return request(l, "shop/frontend", "shop/api", 80, "GET", path);
}

/* Whether the engine is needed: most rules are text, however they are written. */
static void texts_are_found_without_the_engine(void **state)
{
	static const char *const texts[] = {"/a.b", "/a-b", "/public/x"};
	struct loaded l = good(WORKLOADS CNP(
		"p", RULES("{path: '/a\\.b', method: 'GET|HEAD'}, {path: '^/a[.]c$'},"
			   "{path: '/a-b', method: '(GET|PUT)'}, {path: '^/public/.*$'},"
			   "{host: 'api\\.shop'}")));

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		assert_int_equal(ask(&l, texts[i]).verdict, VERDICT_DIRECT);
		assert_int_equal(sets_asked, 0);
	}
	assert_int_equal(ask(&l, "/axb").verdict, VERDICT_DENY);
	assert_int_equal(ask(&l, "/a").verdict, VERDICT_DENY);
	unload(&l);
}

static void a_set_is_asked_once_and_only_of_what_begins_like_it(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", RULES("{path: '/a/[0-9]+'}, {path: '/a/[0-9]+x'}, {path: '/a/b/[0-9]+'},"
			   "{path: '/b/[0-9]+'}")));

	(void)state;
	assert_int_equal(ask(&l, "/a/1").verdict, VERDICT_DIRECT);
	assert_int_equal(sets_asked, 1);
	assert_int_equal(ask(&l, "/a/b/1").verdict, VERDICT_DIRECT);
	assert_int_equal(sets_asked, 1);
	assert_int_equal(ask(&l, "/b/x").verdict, VERDICT_DENY);
	assert_int_equal(sets_asked, 1);
	assert_int_equal(ask(&l, "/c/1").verdict, VERDICT_DENY);
	assert_int_equal(sets_asked, 0);
	unload(&l);
}

static void what_a_set_has_no_memory_to_tell_is_denied_with_a_reason_of_its_own(void **state)
{
	struct loaded l = good(
		WORKLOADS CNP("p", RULES("{path: '/a/[0-9]+'}, {path: '/a/1', method: 'GET'}")));
	struct decision d;

	(void)state;
	starve = true;
	d = ask(&l, "/a/2");
	assert_int_equal(d.verdict, VERDICT_DENY);
	assert_int_equal(d.reason, REASON_POLICY_MEMORY);
	assert_int_equal(ask(&l, "/a/1").verdict, VERDICT_DIRECT); /* another rule allows it */
	assert_int_equal(ask(&l, "/b").reason, REASON_POLICY_L7); /* no set was asked */
	starve = false;
	assert_int_equal(ask(&l, "/a/2").verdict, VERDICT_DIRECT);
	unload(&l);
}

/* Each alone is small enough. */
static void expressions_that_need_too_much_together_are_an_error_of_the_load(void **state)
{
	char text[8192] = WORKLOADS "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
				    "metadata: {name: p, namespace: shop}\nspec:\n" API
				    "  ingress:\n  - toPorts:\n"
				    "    - ports: [{port: '80', protocol: TCP}]\n"
				    "      rules:\n        http:\n";
	char rule[128];
	struct loaded l;

	(void)state;
	for (int i = 0; i < 20; i++) {
		snprintf(rule, sizeof(rule), "        - {path: '/v/[a-z]%d[\\pL\\pN]{60}'}\n", i);
		strcat(text, rule);
	}
	l = load(text);
	assert_int_equal(l.err, -EINVAL);
	assert_true(found(&l.f, FINDING_ERROR, 33,
			  "the 20 path expressions of these http rules of shop/p need more than 8 "
			  "MiB together; write fewer or simpler ones"));
	unload(&l);
}

static void a_side_may_have_the_rules_of_several_policies(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", RULES("{path: '/a/[0-9]+'}, {path: /x}")) CNP(
		"q", RULES("{path: '/a/[0-9]+'},"
			   "{path: '/q/[0-9]+'}")) CNP("r", RULES("{path: /x}, {path: /y}")));

	(void)state;
	assert_string_equal(ask(&l, "/a/1").rule->policy, "shop/p");
	assert_int_equal(sets_asked, 2); /* one for each list that has one for it */
	assert_string_equal(ask(&l, "/q/1").rule->policy, "shop/q");
	assert_string_equal(ask(&l, "/x").rule->policy, "shop/p");
	assert_string_equal(ask(&l, "/y").rule->policy, "shop/r");
	unload(&l);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_rule_that_is_found_is_the_first_that_allows),
		cmocka_unit_test(texts_are_found_without_the_engine),
		cmocka_unit_test(a_set_is_asked_once_and_only_of_what_begins_like_it),
		cmocka_unit_test(
			what_a_set_has_no_memory_to_tell_is_denied_with_a_reason_of_its_own),
		cmocka_unit_test(expressions_that_need_too_much_together_are_an_error_of_the_load),
		cmocka_unit_test(a_side_may_have_the_rules_of_several_policies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
