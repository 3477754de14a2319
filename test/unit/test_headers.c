/* SPDX-License-Identifier: Apache-2.0 */
/* headerMatches and the Secrets they refer to: what is read, what matches, what is edited. */
#include "config_load.h"

#include <errno.h>

#include "failmalloc.h"

#pragma weak failmalloc_at
#pragma weak failmalloc_hit

#define SECRET(name, content)                                                                      \
	"apiVersion: v1\nkind: Secret\nmetadata: {name: " name ", namespace: shop}\n" content      \
	"\n---\n"
#define RULES(rules) HTTP_RULES("[" rules "]") "---\n"
#define MATCH(m) CNP("p", RULES("{headerMatches: [" m "]}"))
#define TOKEN SECRET("token", "stringData: {t: hunter2}")

static char result[512];

/* The fields that go upstream as "name=value;...", "denied", or "unedited". `in` is written the
 * same way. */
static const char *asked(const struct loaded *l, const char *in)
{
	struct flow flow = flow_of(l, "shop/frontend", "shop/api", 80);
	struct field fields[8];
	struct message head = {.method = text_slice("GET"),
			       .path = text_slice("/"),
			       .authority = text_slice("api"),
			       .fields = fields};
	struct policy_scratch *s = policy_scratch_new();
	struct decision d;
	size_t n = 0;

	for (const char *p = in, *eq, *end; *p != '\0'; p = end + 1) {
		eq = strchr(p, '=');
		end = strchr(p, ';');
		fields[head.field_count++] =
			(struct field){{p, (size_t)(eq - p)}, {eq + 1, (size_t)(end - eq - 1)}};
	}
	d = policy_request(l->s.policy, &flow, &head, s);
	strcpy(result, d.verdict == VERDICT_DENY ? "denied" : "unedited");
	if (d.verdict != VERDICT_DENY && d.edited)
		result[0] = '\0';
	for (size_t i = 0; d.edited && i < policy_head(s)->field_count; i++) {
		const struct field *f = &policy_head(s)->fields[i];

		n += (size_t)snprintf(result + n, sizeof(result) - n, "%.*s=%.*s;",
				      (int)f->name.len, f->name.p, (int)f->value.len, f->value.p);
	}
	if (!d.edited && d.verdict != VERDICT_DENY)
		assert_ptr_equal(policy_head(s)->fields, fields);
	policy_scratch_free(s);
	return result;
}

#define ASKED(l, in, out) assert_string_equal(asked(l, in), out)

static void mismatches_are(const struct loaded *l, const char *name, const char *value,
			   const char *want)
{
	struct flow flow = flow_of(l, "shop/frontend", "shop/api", 80);
	struct field f = {text_slice(name), text_slice(value)};
	struct message head = {.method = text_slice("GET"),
			       .path = text_slice("/"),
			       .fields = &f,
			       .field_count = 1};
	struct policy_scratch *s = policy_scratch_new();
	char buf[512];
	struct text t;

	(void)policy_request(l->s.policy, &flow, &head, s);
	text_fixed(&t, buf, sizeof(buf));
	policy_mismatches_text(policy_mismatches(s), &t);
	assert_string_equal(text_string(&t), want);
	policy_scratch_free(s);
}

/* ---- matching ---- */

static void without_a_value_presence_is_enough(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A}"));

	(void)state;
	ASKED(&l, "x-a=;", "unedited");
	ASKED(&l, "x-a=anything;", "unedited");
	ASKED(&l, "x-b=;", "denied");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-A, value: ''}"));
	ASKED(&l, "x-a=anything;", "unedited");
	ASKED(&l, "x-b=;", "denied");
	unload(&l);
}

static void a_value_is_exact_over_all_fields_of_the_name(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: 'b,c'}"));

	(void)state;
	ASKED(&l, "x-a=b,c;", "unedited");
	ASKED(&l, "x-a=b;y=z;X-A=c;", "unedited");
	ASKED(&l, "x-a=b;", "denied");
	ASKED(&l, "x-a=b;x-a=c;x-a=d;", "denied");
	ASKED(&l, "x-a=B,c;", "denied");
	ASKED(&l, "x-a=bxc;", "denied");
	ASKED(&l, "", "denied");
	unload(&l);
}

static void a_secret_is_the_value_wherever_it_is_written(void **state)
{
	static const char *const contents[] = {
		"stringData: {t: hunter2}", "data: {t: aHVudGVyMg==}",
		"data:\n  t: |\n    aHVu\n    dGVyMg==",
		"data: {t: b3RoZXI=}\nstringData: {t: hunter2}",
		"type: Opaque\nimmutable: true\ndata: {t: aHVudGVyMg==}"};
	char text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
		struct loaded l;

		snprintf(
			text, sizeof(text),
			WORKLOADS MATCH(
				"{name: X-A, secret: {name: token}, value: fallback}") "apiVersion:"
										       " v1\nkind: "
										       "Secret\nmet"
										       "adata: "
										       "{name: "
										       "token, "
										       "namespace: "
										       "shop}\n%"
										       "s\n",
			contents[i]);
		l = good(text);
		ASKED(&l, "x-a=hunter2;", "unedited");
		ASKED(&l, "x-a=hunter;x-a=2;", "denied");
		ASKED(&l, "x-a=hunter3;", "denied");
		ASKED(&l, "x-a=hunter22;", "denied");
		ASKED(&l, "x-a=fallback;", "denied");
		unload(&l);
	}
}

static void a_secret_of_another_namespace_is_named_by_it(void **state)
{
	struct loaded l =
		good(WORKLOADS MATCH("{name: X-A, secret: {namespace: shop, name: token}},"
				     "{name: X-B, secret: {namespace: other, name: token}}") TOKEN
		     "apiVersion: v1\nkind: Secret\n"
		     "metadata: {name: token, namespace: other}\n"
		     "stringData: {x: there}\n");

	(void)state;
	ASKED(&l, "x-a=hunter2;x-b=there;", "unedited");
	ASKED(&l, "x-a=there;x-b=hunter2;", "denied");
	unload(&l);
}

static void where_there_is_no_secret_the_value_holds_or_nothing_matches(void **state)
{
	struct loaded l =
		good(WORKLOADS MATCH("{name: X-A, secret: {name: gone}, value: fallback}") TOKEN);

	(void)state;
	assert_true(found(&l.f, FINDING_WARNING, 35,
			  "there is no Secret shop/gone: the value beside it holds"));
	ASKED(&l, "x-a=fallback;", "unedited");
	ASKED(&l, "x-a=hunter2;", "denied");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-A, secret: {name: gone}, mismatch: LOG}"));
	assert_true(found(&l.f, FINDING_WARNING, 35,
			  "there is no Secret shop/gone: this rule never matches"));
	ASKED(&l, "x-a=;", "denied"); /* whatever mismatch says, as in Cilium */
	ASKED(&l, "", "denied");
	unload(&l);
}

/* ---- effects ---- */

static void a_mismatch_that_is_logged_goes_on_unedited(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: b, mismatch: LOG},"
					       "{name: X-B, mismatch: LOG}"));

	(void)state;
	ASKED(&l, "x-a=c;", "unedited");
	mismatches_are(&l, "x-a", "c", "conf.d/a.yaml:35 X-A LOG, conf.d/a.yaml:35 X-B LOG");
	mismatches_are(&l, "x-a", "b", "conf.d/a.yaml:35 X-B LOG");
	unload(&l);
}

static void a_missing_value_is_added(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: b, mismatch: ADD}"));

	(void)state;
	ASKED(&l, "x-a=b;", "unedited");
	ASKED(&l, "", "X-A=b;");
	ASKED(&l, "x-a=c;y=z;", "x-a=c;y=z;X-A=b;");
	mismatches_are(&l, "x-a", "c", "conf.d/a.yaml:35 X-A ADD");
	mismatches_are(&l, "x-a", "b", "");
	unload(&l);
}

static void a_wrong_value_is_replaced_in_all_its_fields(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: b, mismatch: REPLACE}"));

	(void)state;
	ASKED(&l, "x-a=b;", "unedited");
	ASKED(&l, "", "X-A=b;");
	ASKED(&l, "y=z;x-a=c;q=r;X-a=d;", "y=z;X-A=b;q=r;");
	ASKED(&l, "x-a=b;x-a=b;", "X-A=b;"); /* "b,b" is not "b" */
	ASKED(&l, "y=z;", "y=z;X-A=b;");
	unload(&l);
}

static void a_wrong_value_is_deleted_in_all_its_fields(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: b, mismatch: DELETE}"));

	(void)state;
	ASKED(&l, "x-a=b;", "unedited");
	ASKED(&l, "y=z;", "unedited");
	mismatches_are(&l, "y", "z", ""); /* nothing to delete is nothing to tell */
	ASKED(&l, "x-a=c;y=z;X-A=d;", "y=z;");
	mismatches_are(&l, "x-a", "c", "conf.d/a.yaml:35 X-A DELETE");
	unload(&l);
}

/* As Cilium does: presence that fails is made good by an empty field. */
static void presence_may_be_made_good(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, mismatch: ADD}"));

	(void)state;
	ASKED(&l, "x-a=q;", "unedited");
	ASKED(&l, "y=z;", "y=z;X-A=;");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-A, mismatch: DELETE}"));
	ASKED(&l, "x-a=q;", "unedited");
	ASKED(&l, "y=z;", "unedited");
	unload(&l);
}

static void a_secret_is_put_in_and_never_told(void **state)
{
	struct loaded l = good(
		WORKLOADS MATCH("{name: X-A, secret: {name: token}, mismatch: REPLACE}") TOKEN);

	(void)state;
	ASKED(&l, "x-a=guess;", "X-A=hunter2;");
	mismatches_are(&l, "x-a", "guess", "conf.d/a.yaml:35 X-A REPLACE");
	unload(&l);
}

static void every_rule_that_matches_edits_and_no_other(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p",
		RULES("{path: /}, {method: GET, headerMatches: [{name: X-A, value: a, mismatch: "
		      "ADD}]}, {method: PUT, headerMatches: [{name: X-P, value: p, mismatch: "
		      "ADD}]},"
		      "{path: /, headerMatches: [{name: X-B, value: b, mismatch: ADD},"
		      "{name: X-A, value: a, mismatch: ADD}, {name: X-C, value: c}]},"
		      "{headers: ['X-C: c'], headerMatches: [{name: X-A, value: r, mismatch: "
		      "REPLACE}]}")));

	(void)state;
	ASKED(&l, "q=r;", "q=r;X-A=a;"); /* though the first rule allows already */
	ASKED(&l, "x-c=c;", "x-c=c;X-A=r;X-B=b;"); /* in their order */
	unload(&l);
}

static void what_was_added_is_known_though_fields_before_it_are_gone(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", RULES("{headerMatches: [{name: X-A, value: a, mismatch: ADD}]},"
			   "{headerMatches: [{name: X-D, value: d, mismatch: DELETE}]},"
			   "{headerMatches: [{name: X-A, value: a, mismatch: ADD}]}")));

	(void)state;
	ASKED(&l, "x-d=1;x-a=o;x-d=2;", "x-a=o;X-A=a;");
	unload(&l);
	l = good(WORKLOADS CNP("p",
			       RULES("{headerMatches: [{name: X-A, value: a, mismatch: ADD}]},"
				     "{headerMatches: [{name: X-R, value: r, mismatch: REPLACE}]},"
				     "{headerMatches: [{name: X-A, value: a, mismatch: ADD}]}")));
	ASKED(&l, "x-r=1;x-a=o;x-r=2;", "X-R=r;x-a=o;X-A=a;");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-R, value: r, mismatch: REPLACE},"
				 "{name: X-A, value: a, mismatch: ADD}"));
	ASKED(&l, "x-r=1;x-a=o;x-a=a;", "X-R=r;x-a=o;x-a=a;X-A=a;");
	unload(&l);
}

static void what_one_rule_adds_another_does_not_see_but_does_not_add_again(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", RULES("{headerMatches: [{name: X-A, value: a, mismatch: ADD}]},"
			   "{headerMatches: [{name: x-a, value: a, mismatch: ADD}]},"
			   "{headerMatches: [{name: X-A, value: a}, {name: X-B, value: b, "
			   "mismatch: ADD}]}")));

	(void)state;
	ASKED(&l, "q=r;", "q=r;X-A=a;");
	ASKED(&l, "x-a=o;", "x-a=o;X-A=a;");
	ASKED(&l, "x-a=a;", "x-a=a;X-B=b;");
	unload(&l);
}

static void a_rule_is_told_once_though_its_expression_stands_in_several_policies(void **state)
{
#define LOGGED "{path: '/(a|b)?.?', headerMatches: [{name: X-A, mismatch: LOG}]}"
	struct loaded l = good(WORKLOADS CNP("p", RULES(LOGGED))
				       CNP("q", RULES(LOGGED ", {path: '/[x]?', method: 'G.T'}")));

	(void)state;
	mismatches_are(&l, "q", "r", "conf.d/a.yaml:35 X-A LOG, conf.d/a.yaml:46 X-A LOG");
	unload(&l);
}

/* As on two nodes, where the receiver sees what the sender's node made of the request. */
static void the_receivers_rules_see_what_the_sources_rules_made(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"e", "  endpointSelector: {matchLabels: {app: frontend}}\n"
		     "  egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: "
		     "[{headerMatches: [{name: X-A, value: a, mismatch: REPLACE}]}]}}]}]\n---\n")
				       MATCH("{name: X-A, value: a},"
					     "{name: X-B, value: b, mismatch: ADD}"));
	struct flow flow = flow_of(&l, "shop/frontend", "shop/api", 80);
	struct message head = {.method = text_slice("GET"), .path = text_slice("/")};
	struct near_miss near;

	(void)state;
	ASKED(&l, "x-a=forged;", "X-A=a;X-B=b;");
	policy_near_miss(l.s.policy, &flow, &head, &near);
	assert_null(near.rule);
	unload(&l);
}

static void edits_are_made_once_by_the_raw_reading(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p",
		RULES("{path: /public/.*, headerMatches: [{name: X-A, value: a, mismatch: ADD}]},"
		      "{path: /admin, headerMatches: [{name: X-B, value: b, mismatch: ADD}]}")));
	struct flow flow = flow_of(&l, "shop/frontend", "shop/api", 80);
	struct message head = {.method = text_slice("GET"),
			       .path = text_slice("/public/..%2fadmin")};
	struct policy_scratch *s = policy_scratch_new();
	struct decision d = policy_request(l.s.policy, &flow, &head, s);

	(void)state;
	assert_int_equal(d.verdict, VERDICT_DIRECT);
	assert_int_equal(policy_head(s)->field_count, 1);
	assert_int_equal(policy_head(s)->fields[0].name.p[2], 'A');
	head.path = text_slice("/public/..%2fother");
	d = policy_request(l.s.policy, &flow, &head, s);
	assert_int_equal(d.verdict, VERDICT_DENY);
	assert_int_equal(policy_mismatches(s)->count, 0);
	assert_false(d.edited);
	policy_scratch_free(s);
	unload(&l);
}

static void more_mismatches_than_are_told_are_counted(void **state)
{
	char text[4096] = "", item[64];
	struct loaded l;
	struct flow flow;
	struct message head = {.method = text_slice("GET"), .path = text_slice("/")};
	struct policy_scratch *s = policy_scratch_new();
	struct decision d;
	struct text t = {0};

	(void)state;
	strcat(text, WORKLOADS "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
			       "metadata: {name: p, namespace: shop}\nspec:\n" API
			       "  ingress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: "
			       "{http: [{headerMatches: [");
	for (int i = 0; i < 40; i++) {
		snprintf(item, sizeof(item), "{name: X-%d, value: v, mismatch: ADD},", i);
		strcat(text, item);
	}
	strcat(text, "]}]}}]}]\n");
	l = good(text);
	flow = flow_of(&l, "shop/frontend", "shop/api", 80);
	for (int again = 0; again < 2; again++) {
		d = policy_request(l.s.policy, &flow, &head, s);
		assert_int_equal(policy_mismatches(s)->count, 40);
		assert_true(d.edited);
		assert_int_equal(policy_head(s)->field_count, 40);
		for (size_t i = 0; i < 40; i++)
			assert_int_equal(policy_head(s)->fields[i].value.p[0], 'v');
	}
	policy_mismatches_text(policy_mismatches(s), &t);
	assert_non_null(strstr(text_string(&t), "X-7 ADD, …"));
	text_free(&t);
	policy_scratch_free(s);
	unload(&l);
}

/* Allowed unedited it would carry what the rule takes away. */
static void a_request_whose_edit_finds_no_memory_is_refused(void **state)
{
	struct loaded l = good(WORKLOADS MATCH("{name: X-A, value: b, mismatch: REPLACE}"));
	struct flow flow = flow_of(&l, "shop/frontend", "shop/api", 80);
	struct message head = {.method = text_slice("GET"), .path = text_slice("/")};
	unsigned n, failed = 0;

	(void)state;
	if (failmalloc_at == NULL)
		skip();
	for (n = 1;; n++) {
		struct policy_scratch *s;
		struct decision d = {.verdict = VERDICT_DENY, .reason = REASON_NO_MEMORY};

		failmalloc_at(n);
		s = policy_scratch_new();
		if (s != NULL)
			d = policy_request(l.s.policy, &flow, &head, s);
		if (!failmalloc_hit()) {
			assert_true(d.edited);
			policy_scratch_free(s);
			break;
		}
		failed++;
		assert_int_equal(d.verdict, VERDICT_DENY);
		assert_int_equal(d.reason, REASON_NO_MEMORY);
		policy_scratch_free(s);
	}
	assert_int_equal(failed, 3); /* the scratch, the rules that matched, the fields */
	unload(&l);
}

/* ---- near misses ---- */

static void near_is(const struct loaded *l, const char *name, const char *value, const char *why)
{
	struct flow flow = flow_of(l, "shop/frontend", "shop/api", 80);
	struct field f = {text_slice(name), text_slice(value)};
	struct message head = {.method = text_slice("GET"),
			       .path = text_slice("/"),
			       .fields = &f,
			       .field_count = 1};
	struct near_miss near;

	policy_near_miss(l->s.policy, &flow, &head, &near);
	assert_string_equal(near.why, why);
}

static void a_near_miss_names_the_secret_and_no_value(void **state)
{
	struct loaded l = good(WORKLOADS MATCH(
		"{name: X-A, secret: {name: token}}, {name: X-L, mismatch: LOG}") TOKEN);

	(void)state;
	near_is(&l, "x-a", "guess", "header X-A is not the value of Secret shop/token");
	near_is(&l, "x-b", "", "header X-A is missing, its value is of Secret shop/token");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-A, secret: {name: gone}}"));
	near_is(&l, "x-a", "guess", "header X-A never matches: there is no Secret shop/gone");
	unload(&l);
	l = good(WORKLOADS MATCH("{name: X-A, value: b}"));
	near_is(&l, "x-a", "guess", "header X-A \"b\" ≠ guess");
	unload(&l);
}

/* ---- documents ---- */

/* It is refused with this text on this line, and no finding tells the secret. */
static void says(const char *text, unsigned line, const char *error)
{
	struct loaded l = load(text);

	assert_int_equal(l.err, -EINVAL);
	assert_true(found(&l.f, FINDING_ERROR, line, error));
	for (size_t i = 0; i < l.f.count; i++) {
		assert_null(strstr(l.f.items[i].text, "hunter"));
		assert_null(strstr(l.f.items[i].text, "12345"));
		if (strstr(text, "Secret\n") != NULL)
			assert_null(l.f.items[i].excerpt);
	}
	unload(&l);
}

static void what_is_wrong_with_a_secret_is_said_without_it(void **state)
{
	(void)state;
	says(SECRET("token", "data: {t: hunter2}"), 4, "entry 't' of data is not base64");
	says(SECRET("token", "data: {t: 'aHVudGVyMg='}"), 4, "entry 't' of data is not base64");
	says(SECRET("token", "data: {t: 'aHVu==Vy'}"), 4, "entry 't' of data is not base64");
	says(SECRET("token", "data: {t: 'a==='}"), 4, "entry 't' of data is not base64");
	says(SECRET("token", "data: {t: [hunter2]}"), 4, "entry 't' of data is not base64");
	says(SECRET("token", "data: [hunter2]"), 4, "data must be a mapping of keys to values");
	says(SECRET("token", "stringData: {t: 12345}"), 4, "is not text; put it in quotes");
	says(SECRET("token", "stringData: {t: yes}"), 4, "is not text; put it in quotes");
	says(SECRET("token", "stringData: {t: [hunter2]}"), 4, "is not text; put it in quotes");
	says(SECRET("token", "stringdata: {t: hunter2}"), 4,
	     "unknown field 'stringdata'; did you mean 'stringData'?");
	says(SECRET("token", "spec: {t: hunter2}"), 4, "unknown field 'spec'");
	says(SECRET("token", "stringData: {t: hunter2, t: hunter3}"), 4, "duplicate key 't'");
	says(SECRET("token", "stringData: {t: \"hunter2}"), 5, "YAML");
	says(SECRET("token", "stringData:\n  t: @hunter2"), 5, "YAML");
	says(SECRET("token", "stringData: {t: hunter2\ndata: {t: hunter2"), 5, "YAML");
	says(SECRET("token", "stringData: {t: *hunter}"), 4, "aliases");
	says(TOKEN TOKEN, 8, "Secret shop/token exists already");
}

static void a_secret_that_is_used_has_one_value_that_a_header_can_have(void **state)
{
#define USED(content)                                                                              \
	WORKLOADS MATCH("{name: X-A, secret: {name: token}, value: v}") SECRET("token", content)
	(void)state;
	says(USED(""), 35, "Secret shop/token has no entry, see conf.d/a.yaml:37");
	says(USED("stringData: {a: hunter2, b: hunter3}"), 35, "has more than one entry");
	says(USED("data: {a: aHVudGVy}\nstringData: {b: hunter3}"), 35, "more than one entry");
	says(USED("stringData: {a: ''}"), 35, "has an empty value");
	says(USED("data: {a: ''}"), 35, "has an empty value");
	says(USED("stringData: {a: \"hunter2\\n\"}"), 35, "cannot stand in a header");
	says(USED("stringData: {a: \"hunter2\\r\\nX-B: c\"}"), 35, "cannot stand in a header");
	says(USED("stringData: {a: ' hunter2'}"), 35, "cannot stand in a header");
	says(USED("data: {a: aHVudGVyMgo=}"), 35, "cannot stand in a header"); /* a newline */
	says(USED("data: {a: aHVudGVyMgBh}"), 35, "cannot stand in a header"); /* NUL inside */
	says(USED("data: {a: AA==}"), 35, "cannot stand in a header"); /* NUL alone */
	says(USED("data: {a: aHVudGVyMgA=}"), 35, "cannot stand in a header"); /* NUL last */
}

static void a_secret_that_nobody_uses_may_hold_anything(void **state)
{
	struct loaded l =
		good(SECRET("tls", "type: kubernetes.io/tls\ndata: {tls.crt: 'AAEC', "
				   "tls.key: 'AAAA', empty: ''}") SECRET("none", "") TOKEN);

	(void)state;
	assert_int_equal(l.f.count, 0);
	unload(&l);
}

static void what_is_wrong_with_a_header_match_is_said(void **state)
{
#define WRONG(match, error) says(WORKLOADS MATCH(match), 35, error)
	(void)state;
	WRONG("{value: a}", "a header match needs a name");
	WRONG("X-A", "this must be a mapping");
	WRONG("{name: 'a b'}", "'a b' is not the name of a header");
	WRONG("{name: ':path'}", "':path' is not the name of a header");
	WRONG("{name: \"X-A\\r\\nX-B\"}", "is not the name of a header");
	WRONG("{name: ''}", "'' is not the name of a header");
	WRONG("{name: X-A, value: 12345}", "value must be text; put it in quotes");
	WRONG("{name: X-A, value: [hunter2]}", "value must be text; put it in quotes");
	WRONG("{name: X-A, value: \"hunter2\\r\\nX-B: c\"}", "this value cannot stand in a header");
	WRONG("{name: X-A, value: 'hunter2 '}", "this value cannot stand in a header");
	WRONG("{name: X-A, mismatch: add}", "unknown mismatch 'add'; did you mean 'ADD'?");
	WRONG("{name: X-A, mismatch: ''}", "unknown mismatch ''");
	WRONG("{name: X-A, regex: a}", "unknown field 'regex'");
	WRONG("{name: X-A, secret: token}", "secret must be a mapping");
	WRONG("{name: X-A, secret: {namespace: shop}}", "secret has no name");
	WRONG("{name: X-A, secret: {name: 'a/b'}}", "'shop/a/b' is not the name of a Secret");
	WRONG("{name: X-A, secret: {name: a, key: b}}", "unknown field 'key'");
}

static void what_frames_and_routes_a_request_is_not_edited(void **state)
{
	static const char *const own[] = {
		"Connection",	     "Keep-Alive",	 "Proxy-Connection", "TE",
		"Transfer-Encoding", "UPGRADE",		 "content-length",   "Content_Length",
		"transfer_encoding", "Transfer_Encoding"};
	static const char *const fixed[] = {"Host",   "host",		"Trailer",
					    "Expect", "HTTP2-Settings", "HTTP2_Settings"};
	static const char *const actions[] = {"ADD", "REPLACE", "DELETE"};
	char text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		snprintf(text, sizeof(text), WORKLOADS MATCH("{name: %s, value: v, mismatch: LOG}"),
			 own[i]);
		says(text, 35, "belongs to the connection; rules on it are not enforced");
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		struct loaded l;

		for (size_t j = 0; j < 3; j++) {
			snprintf(text, sizeof(text),
				 WORKLOADS MATCH("{name: %s, value: v, mismatch: %s}"), fixed[i],
				 actions[j]);
			says(text, 35, "it may be matched, but not edited");
		}
		snprintf(text, sizeof(text), WORKLOADS MATCH("{name: %s, mismatch: LOG}"),
			 fixed[i]);
		l = good(text);
		unload(&l);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_value_presence_is_enough),
		cmocka_unit_test(a_value_is_exact_over_all_fields_of_the_name),
		cmocka_unit_test(a_secret_is_the_value_wherever_it_is_written),
		cmocka_unit_test(a_secret_of_another_namespace_is_named_by_it),
		cmocka_unit_test(where_there_is_no_secret_the_value_holds_or_nothing_matches),
		cmocka_unit_test(a_mismatch_that_is_logged_goes_on_unedited),
		cmocka_unit_test(a_missing_value_is_added),
		cmocka_unit_test(a_wrong_value_is_replaced_in_all_its_fields),
		cmocka_unit_test(a_wrong_value_is_deleted_in_all_its_fields),
		cmocka_unit_test(presence_may_be_made_good),
		cmocka_unit_test(a_secret_is_put_in_and_never_told),
		cmocka_unit_test(every_rule_that_matches_edits_and_no_other),
		cmocka_unit_test(what_was_added_is_known_though_fields_before_it_are_gone),
		cmocka_unit_test(what_one_rule_adds_another_does_not_see_but_does_not_add_again),
		cmocka_unit_test(
			a_rule_is_told_once_though_its_expression_stands_in_several_policies),
		cmocka_unit_test(the_receivers_rules_see_what_the_sources_rules_made),
		cmocka_unit_test(edits_are_made_once_by_the_raw_reading),
		cmocka_unit_test(more_mismatches_than_are_told_are_counted),
		cmocka_unit_test(a_request_whose_edit_finds_no_memory_is_refused),
		cmocka_unit_test(a_near_miss_names_the_secret_and_no_value),
		cmocka_unit_test(what_is_wrong_with_a_secret_is_said_without_it),
		cmocka_unit_test(a_secret_that_is_used_has_one_value_that_a_header_can_have),
		cmocka_unit_test(a_secret_that_nobody_uses_may_hold_anything),
		cmocka_unit_test(what_is_wrong_with_a_header_match_is_said),
		cmocka_unit_test(what_frames_and_routes_a_request_is_not_edited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
