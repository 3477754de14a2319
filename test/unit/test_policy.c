/* SPDX-License-Identifier: Apache-2.0 */
#include "config_load.h"

#include <arpa/inet.h>

#define DENIED(d) assert_int_equal((d).verdict, VERDICT_DENY)
#define DIRECT(d) assert_int_equal((d).verdict, VERDICT_DIRECT)
#define PROXIED(d) assert_int_equal((d).verdict, VERDICT_PROXY)

static struct decision ask(const struct loaded *l, const char *path)
{
	return request(l, "shop/frontend", "shop/api", 80, "GET", path);
}

/* ---- who and where ---- */

static void without_a_policy_everything_goes_direct(void **state)
{
	struct loaded l = good(WORKLOADS);
	struct decision d = connection(&l, "shop/intruder", "shop/api", 80);

	(void)state;
	DIRECT(d);
	assert_null(d.rule);
	assert_int_equal(d.rule_id, 0);
	assert_false(policy_selects(l.s.policy, who(&l, "shop/api"), DIRECTION_INGRESS));
	DIRECT(request(&l, "world", "shop/api", 80, "GET", "/%2e%2e/"));
	unload(&l);
}

static void a_rule_of_nothing_denies_everything_in_a_cilium_policy(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", API "  ingress: [{}]\n"));
	struct decision d = connection(&l, "shop/frontend", "shop/api", 80);

	(void)state;
	DENIED(d);
	assert_int_equal(d.reason, REASON_POLICY_L4);
	assert_int_equal(d.direction, DIRECTION_INGRESS);
	assert_string_equal(d.rule->policy, "shop/p");
	assert_string_equal(d.rule->kind, "CiliumNetworkPolicy");
	assert_int_equal(d.rule->where.line, 26);
	assert_string_equal(d.rule->place, "conf.d/a.yaml:26");
	DENIED(connection(&l, "world", "shop/api", 80));
	DIRECT(connection(&l, "shop/api", "shop/frontend", 80)); /* egress is open */
	DIRECT(connection(&l, "shop/frontend", "other/api", 80)); /* not of its namespace */
	unload(&l);
}

static void an_empty_peer_list_selects_nobody(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", API "  ingress: [{fromEndpoints: []}]\n"));
	struct near_miss near;
	struct flow flow = flow_of(&l, "shop/frontend", "shop/api", 80);

	(void)state;
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 80));
	policy_near_miss(l.s.policy, &flow, NULL, &near);
	assert_string_equal(near.why, "fromEndpoints select nobody");
	unload(&l);
}

static void an_empty_peer_selector_is_the_policys_own_namespace(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", API "  ingress: [{fromEndpoints: [{}]}]\n"));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/intruder", "shop/api", 9999));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 80));
	unload(&l);
}

static void no_peer_list_is_anybody_on_these_ports(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", API "  ingress: [{toPorts: [{ports: [{port: 80}, "
						      "{port: \"443\", protocol: tcp}]}]}]\n"));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "other/frontend", "shop/api", 443));
	DIRECT(connection(&l, "world", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 81));
	unload(&l);
}

static void port_zero_is_any_port(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", API "  ingress: [{toPorts: [{ports: [{port: 80}, {port: '0'}]}]}]\n"));

	(void)state;
	DIRECT(connection(&l, "world", "shop/api", 1234));
	unload(&l);
}

static void a_peer_selector_means_the_policys_namespace_unless_it_names_another(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", API "  ingress:\n  - fromEndpoints:\n    - matchLabels: {app: frontend}\n"));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	unload(&l);

	l = good(WORKLOADS CNP("p", API "  ingress:\n  - fromEndpoints:\n    - matchLabels: {app: "
					"frontend, k8s:io.kubernetes.pod.namespace: other}\n"));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/api", "shop/api", 80));
	unload(&l);

	l = good(WORKLOADS CNP("p", API
			       "  ingress:\n  - fromEndpoints:\n    - matchExpressions:\n"
			       "      - {key: io.kubernetes.pod.namespace, operator: Exists}\n"));
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "other/api", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 80));
	unload(&l);
}

/* A peer of shop/api, where shop is of team a, other of team b. */
static struct loaded with_teams(const char *peer)
{
	char text[4096];

	snprintf(text, sizeof(text),
		 WORKLOADS NAMESPACE("shop", "{team: a}", "{}")
			 NAMESPACE("other", "{team: b, example.com/zone: ''}", "{}")
				 CNP("p", API "  ingress:\n  - fromEndpoints: [%s]\n"),
		 peer);
	return good(text);
}

static void a_label_of_a_namespace_selects_all_workloads_of_it(void **state)
{
	struct loaded l = with_teams("{matchLabels: {io.cilium.k8s.namespace.labels.team: b}}");

	(void)state;
	DIRECT(connection(&l, "other/frontend", "shop/api", 80)); /* not the policy's namespace */
	DIRECT(connection(&l, "other/api", "shop/api", 80));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 80));
	unload(&l);

	l = with_teams("{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': b, app: api}}");
	DIRECT(connection(&l, "other/api", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	unload(&l);

	l = with_teams("{matchLabels: {any:io.cilium.k8s.namespace.labels.team: a}}");
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	unload(&l);
}

static void expressions_ask_for_labels_of_a_namespace_too(void **state)
{
	struct loaded l = with_teams("{matchExpressions: [{key: "
				     "io.cilium.k8s.namespace.labels.team, operator: NotIn, "
				     "values: [a]}]}");

	(void)state;
	DIRECT(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	unload(&l);

	l = with_teams("{matchExpressions: [{key: io.cilium.k8s.namespace.labels.example.com/zone, "
		       "operator: DoesNotExist}]}");
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	unload(&l);

	l = with_teams("{matchLabels: {io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: "
		       "other}}");
	DIRECT(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	unload(&l);
}

static void a_policys_subjects_may_have_labels_of_their_namespace(void **state)
{
	static const char text[] =
		WORKLOADS NAMESPACE("shop", "{team: a}", "{}") NAMESPACE("other", "{team: a}", "{}")
			CNP("p", "  endpointSelector: {matchLabels: "
				 "{io.cilium.k8s.namespace.labels.team: a}}\n  ingress: [{}]\n");
	struct loaded l = good(text);

	(void)state;
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/frontend", "other/api", 80)); /* still its own namespace only */
	unload(&l);
}

static void not_in_and_does_not_exist_match_those_without_the_key(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", API "  ingress:\n  - fromEndpoints:\n"
					    "    - matchExpressions: [{key: app, operator: "
					    "NotIn, values: [frontend]}]\n"));

	(void)state;
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/intruder", "shop/api", 80)); /* has no app */
	DENIED(connection(&l, "world", "shop/api", 80)); /* is no endpoint at all */
	unload(&l);

	l = good(WORKLOADS CNP("p", API "  ingress:\n  - fromEndpoints:\n    - matchExpressions: "
					"[{key: app, operator: DoesNotExist}]\n"));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/intruder", "shop/api", 80));
	unload(&l);

	l = good(WORKLOADS CNP("p", API "  ingress:\n  - fromEndpoints:\n    - matchExpressions: "
					"[{key: io.kubernetes.pod.namespace, operator: NotIn, "
					"values: [other]}]\n"));
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DENIED(connection(&l, "other/frontend", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 80)); /* still no endpoint */
	unload(&l);
}

static void all_parts_of_a_selector_must_hold_and_any_selector_of_a_list(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p",
		API "  ingress:\n  - fromEndpoints:\n"
		    "    - matchLabels: {any:app: frontend}\n"
		    "      matchExpressions: [{key: tier, operator: In, values: [db, cache]}]\n"
		    "    - matchLabels: {role: none}\n"));

	(void)state;
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/intruder", "shop/api", 80));
	unload(&l);
}

static void the_service_account_is_a_label_too(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", API "  ingress:\n  - fromEndpoints: [{matchLabels: "
					    "{io.cilium.k8s.policy.serviceaccount: default}}]\n"));

	(void)state;
	DIRECT(connection(&l, "shop/intruder", "shop/api", 80));
	unload(&l);
}

static void reserved_labels_select_host_and_world(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", API "  ingress:\n  - fromEndpoints: [{matchLabels: {reserved:world: ''}}]\n"
			 "  egress:\n  - toEndpoints: [{matchLabels: {reserved:host: ''}}]\n"));

	(void)state;
	DIRECT(connection(&l, "world", "shop/api", 80));
	DENIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(connection(&l, "shop/api", "host", 80));
	DENIED(connection(&l, "shop/api", "world", 80));
	unload(&l);
}

static void the_nodes_own_host_passes_l4_and_l7(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /x}]")));
	struct decision d = connection(&l, "host", "shop/api", 80);

	(void)state;
	DIRECT(d);
	DIRECT(connection(&l, "host", "shop/api", 81));
	DIRECT(request(&l, "host", "shop/api", 80, "DELETE", "/admin"));
	unload(&l);
}

static void both_ends_must_allow_and_the_source_is_asked_first(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"out", "  endpointSelector: {matchLabels: {app: frontend}}\n"
		       "  egress: [{toEndpoints: [{matchLabels: {app: api}}], toPorts: [{ports: "
		       "[{port: '80'}]}]}]\n---\n") CNP("in", API "  ingress: [{toPorts: [{ports: "
								  "[{port: '81'}]}]}]\n"));
	struct decision d;

	(void)state;
	d = connection(&l, "shop/frontend", "shop/api", 80);
	DENIED(d);
	assert_int_equal(d.direction, DIRECTION_INGRESS);
	assert_string_equal(d.rule->policy, "shop/in");
	d = connection(&l, "shop/frontend", "shop/api", 81);
	DENIED(d);
	assert_int_equal(d.direction, DIRECTION_EGRESS);
	assert_string_equal(d.rule->policy, "shop/out");
	DENIED(connection(&l, "shop/frontend", "world", 443));
	assert_true(policy_selects(l.s.policy, who(&l, "shop/frontend"), DIRECTION_EGRESS));
	assert_false(policy_selects(l.s.policy, who(&l, "shop/frontend"), DIRECTION_INGRESS));
	unload(&l);
}

static void several_policies_allow_what_any_of_them_allows(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"a", API "  ingress: [{fromEndpoints: [{matchLabels: {app: frontend}}]}]\n---\n")
				       CNP("b", "  endpointSelector: {}\n  ingress: [{toPorts: "
						"[{ports: [{port: '80'}]}]}]\n"));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 9));
	DIRECT(connection(&l, "world", "shop/api", 80));
	DENIED(connection(&l, "world", "shop/api", 9));
	DENIED(connection(&l, "world", "shop/intruder", 9));
	assert_string_equal(connection(&l, "world", "shop/api", 9).rule->policy,
			    "shop/a"); /* the first */
	unload(&l);
}

/* ---- requests ---- */

static void a_path_is_matched_whole_with_its_query_and_case(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", HTTP_RULES("[{path: /public}, {path: '/v[0-9]+'}]")));
	struct decision d;

	(void)state;
	PROXIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(ask(&l, "/public"));
	d = ask(&l, "/public?x=1");
	DENIED(d);
	assert_int_equal(d.reason, REASON_POLICY_L7);
	assert_int_equal(d.reading, READING_RAW);
	DENIED(ask(&l, "/public/"));
	DENIED(ask(&l, "/Public"));
	DENIED(ask(&l, "/"));
	DIRECT(ask(&l, "/v12"));
	DENIED(ask(&l, "/v12?"));
	unload(&l);
}

static void a_slash_matches_only_a_slash(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /}]")));

	(void)state;
	DIRECT(ask(&l, "/"));
	DENIED(ask(&l, "/a"));
	DENIED(ask(&l, "/?a"));
	unload(&l);
}

static void every_reading_of_a_path_must_be_allowed(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /public/.*}]")));
	struct decision d;

	(void)state;
	DIRECT(ask(&l, "/public/a?x=1"));
	DIRECT(ask(&l, "/public/%61"));
	d = ask(&l, "/public/../admin");
	DENIED(d);
	assert_int_equal(d.reading, READING_NORMAL);
	d = ask(&l, "/public/..%2fadmin");
	DENIED(d);
	assert_int_equal(d.reading, READING_LENIENT);
	d = ask(&l, "/public/..%5c..%255cadmin");
	DENIED(d);
	assert_int_equal(d.reading, READING_LENIENT);
	d = ask(&l, "//public/a");
	DENIED(d);
	assert_int_equal(d.reading, READING_RAW);
	d = ask(&l, "/public/%2525252e");
	DENIED(d);
	assert_int_equal(d.reading, READING_LENIENT);
	assert_string_equal(reading_name(d.reading), "lenient");
	unload(&l);
}

static void each_reading_may_be_allowed_by_another_rule(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", HTTP_RULES("[{path: /public/.*}, {path: /admin, method: GET}]")));

	(void)state;
	DIRECT(ask(&l, "/public/../admin"));
	DIRECT(ask(&l, "/public/..%2fadmin"));
	DENIED(request(&l, "shop/frontend", "shop/api", 80, "PUT", "/public/..%2fadmin"));
	unload(&l);
}

static void a_path_without_a_lenient_reading_needs_a_rule_without_a_path(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{path: .*}]")));

	(void)state;
	DENIED(ask(&l, "/%2525252e"));
	unload(&l);
	l = good(WORKLOADS CNP("p", HTTP_RULES("[{path: .*}, {method: GET}]")));
	DIRECT(ask(&l, "/%2525252e"));
	unload(&l);
}

static void the_prefix_path_without_the_engine_agrees_with_the_engine(void **state)
{
	/* `.*` and `(.*)` say the same; only the second needs RE2 to see it. */
	struct loaded a = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /public/.*}]")));
	struct loaded b = good(WORKLOADS CNP("p", HTTP_RULES("[{path: '/public/(.*)'}]")));
	static const char *const paths[] = {
		"/public/",    "/public",     "/public/a",    "/public/%0a",	  "/public/%c3%a9",
		"/public/%ff", "/public/%00", "/public/\xff", "/public/\xc3\xa9", "/publicx/"};

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		assert_int_equal(ask(&a, paths[i]).verdict, ask(&b, paths[i]).verdict);
	DENIED(ask(&a, "/public/%0a")); /* `.` is no newline */
	unload(&a);
	unload(&b);
}

static void methods_are_tokens_and_matched_whole(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", HTTP_RULES("[{method: 'GET|HEAD'}, {method: PURGE}]")));

	(void)state;
	DIRECT(request(&l, "shop/frontend", "shop/api", 80, "HEAD", "/x"));
	DIRECT(request(&l, "shop/frontend", "shop/api", 80, "PURGE", "/x"));
	DENIED(request(&l, "shop/frontend", "shop/api", 80, "get", "/x"));
	DENIED(request(&l, "shop/frontend", "shop/api", 80, "GETX", "/x"));
	unload(&l);
}

static struct decision ask_head(const struct loaded *l, const char *host, const struct field *f,
				size_t n)
{
	struct flow flow = flow_of(l, "shop/frontend", "shop/api", 80);
	struct message head = {.method = text_slice("GET"),
			       .target = text_slice("/"),
			       .path = text_slice("/"),
			       .authority = text_slice(host),
			       .fields = f,
			       .field_count = n,
			       .version = MESSAGE_HTTP11};

	return judge(l, &flow, &head);
}

static void a_host_is_matched_with_its_port(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{host: 'api[.]shop(:80)?'}]")));

	(void)state;
	DIRECT(ask_head(&l, "api.shop", NULL, 0));
	DIRECT(ask_head(&l, "api.shop:80", NULL, 0));
	DENIED(ask_head(&l, "api.shop:81", NULL, 0));
	DENIED(ask_head(&l, "", NULL, 0));
	unload(&l);
}

static void headers_match_by_name_and_exact_value(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", HTTP_RULES("[{headers: ['X-Tok: a b', X-Here]}]")));
	struct field f[3] = {{text_slice("x-tok"), text_slice("a b")},
			     {text_slice("X-HERE"), text_slice("")},
			     {text_slice("X-Tok"), text_slice("c")}};

	(void)state;
	DIRECT(ask_head(&l, "", f, 2));
	DENIED(ask_head(&l, "", f, 1));
	DENIED(ask_head(&l, "", f + 1, 1));
	DENIED(ask_head(&l, "", f, 3)); /* two fields of a name are one value */
	f[0].value = text_slice("A b");
	DENIED(ask_head(&l, "", f, 2));
	f[0].value = text_slice("a b ");
	DENIED(ask_head(&l, "", f, 2));
	f[0].value = text_slice("a");
	DENIED(ask_head(&l, "", f, 2));
	unload(&l);

	l = good(WORKLOADS CNP("p", HTTP_RULES("[{headers: ['X-Tok: a,c']}]")));
	f[0].value = text_slice("a");
	DIRECT(ask_head(&l, "", f, 3));
	f[2].value = (struct slice){"c\0d", 3};
	DENIED(ask_head(&l, "", f, 3));
	unload(&l);
}

static void all_fields_of_an_http_rule_must_hold(void **state)
{
	struct loaded l =
		good(WORKLOADS CNP("p", HTTP_RULES("[{method: GET, path: /a}, {method: PUT}]")));

	(void)state;
	DIRECT(ask(&l, "/a"));
	DENIED(ask(&l, "/b"));
	DIRECT(request(&l, "shop/frontend", "shop/api", 80, "PUT", "/b"));
	unload(&l);
}

static void an_http_rule_of_nothing_allows_every_request_through_the_proxy(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{}]")));

	(void)state;
	PROXIED(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(ask(&l, "/%2525252e"));
	unload(&l);
}

static void an_empty_list_of_http_rules_allows_all(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[]")));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(ask(&l, "/anything"));
	DENIED(connection(&l, "shop/intruder", "shop/api", 80));
	unload(&l);
}

static void http_rules_hold_for_their_own_peers_and_ports_only(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", API
		"  ingress:\n"
		"  - fromEndpoints: [{matchLabels: {app: frontend}}]\n"
		"    toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: /a}]}}]\n"
		"  - fromEndpoints: [{matchLabels: {role: none}}]\n"
		"    toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: "
		"/b}]}}]\n"));

	(void)state;
	DIRECT(ask(&l, "/a"));
	DENIED(ask(&l, "/b"));
	DIRECT(request(&l, "shop/intruder", "shop/api", 80, "GET", "/b"));
	DENIED(request(&l, "shop/intruder", "shop/api", 80, "GET", "/a"));
	DENIED(request(&l, "shop/frontend", "shop/api", 81, "GET", "/a"));
	unload(&l);
}

static void a_plain_allow_beside_http_rules_voids_them_and_is_warned_about(void **state)
{
	struct loaded l = good(WORKLOADS CNP("a", HTTP_RULES("[{path: /a}]") "---\n")
				       CNP("b", API "  ingress: [{fromEndpoints: [{}]}]\n"));

	(void)state;
	DIRECT(connection(&l, "shop/frontend", "shop/api", 80));
	DIRECT(ask(&l, "/b"));
	assert_int_equal(l.f.errors, 0);
	assert_true(found(&l.f, FINDING_WARNING, 34,
			  "shop/a have no effect where shop/b "
			  "(conf.d/a.yaml:42)"));
	unload(&l);
}

static void rules_that_do_not_meet_are_not_warned_about(void **state)
{
	struct loaded l = good(WORKLOADS CNP("a", HTTP_RULES("[{path: /a}]") "---\n") CNP(
		"b", API "  ingress:\n  - fromEndpoints: [{matchLabels: {role: none}}]\n"
			 "  - {fromEndpoints: [{}], toPorts: [{ports: [{port: 81}]}]}\n"));

	(void)state;
	assert_int_equal(l.f.count, 1); /* UDP */
	assert_true(found(&l.f, FINDING_WARNING, 26, "UDP is not policed by this version"));
	unload(&l);
}

static void egress_rules_are_asked_for_requests_too(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", "  endpointSelector: {matchLabels: {app: frontend}}\n"
		     "  egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: "
		     "[{path: /out}]}}]}]\n---\n") CNP("q", HTTP_RULES("[{method: GET}]")));
	struct decision d = ask(&l, "/in");

	(void)state;
	DENIED(d);
	assert_int_equal(d.direction, DIRECTION_EGRESS);
	d = ask(&l, "/out");
	DIRECT(d);
	assert_string_equal(d.rule->policy, "shop/q");
	d = request(&l, "shop/frontend", "shop/api", 80, "PUT", "/out");
	DENIED(d);
	assert_int_equal(d.direction, DIRECTION_INGRESS);
	unload(&l);
}

static void a_decision_names_the_http_rule_by_its_line(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", API "  ingress:\n  - toPorts:\n"
						      "    - ports: [{port: 80, protocol: TCP}]\n"
						      "      rules:\n        http:\n"
						      "        - path: /a\n        - path: /b\n"));
	struct decision d = ask(&l, "/b");

	(void)state;
	assert_int_equal(d.rule->where.line, 37);
	assert_ptr_equal(policy_rule_by_id(l.s.policy, d.rule_id), d.rule);
	assert_null(policy_rule_by_id(l.s.policy, 0));
	assert_null(policy_rule_by_id(l.s.policy, 9999));
	unload(&l);
}

static void rule_ids_are_the_same_for_the_same_documents(void **state)
{
	struct loaded a = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /a}, {path: /b}]")));
	struct loaded b = good(WORKLOADS CNP("p", HTTP_RULES("[{path: /a}, {path: /b}]")));

	(void)state;
	for (uint32_t id = 1; policy_rule_by_id(a.s.policy, id) != NULL; id++)
		assert_int_equal(policy_rule_by_id(a.s.policy, id)->where.column,
				 policy_rule_by_id(b.s.policy, id)->where.column);
	assert_int_equal(ask(&a, "/b").rule_id, ask(&b, "/b").rule_id);
	assert_int_equal(policy_revision(a.s.policy), 7);
	unload(&a);
	unload(&b);
}

/* ---- near misses ---- */

static void near(const struct loaded *l, const char *from, unsigned port, const char *method,
		 const char *path, unsigned line, const char *why)
{
	struct flow flow = flow_of(l, from, "shop/api", port);
	struct message head = {.method = text_slice(method), .path = text_slice(path)};
	struct near_miss out;

	policy_near_miss(l->s.policy, &flow, method[0] == '\0' ? NULL : &head, &out);
	assert_string_equal(out.why, why);
	if (line != 0)
		assert_int_equal(out.where.line, line);
	else
		assert_null(out.rule);
}

static void the_nearest_rule_is_named_with_what_was_in_the_way(void **state)
{
	struct loaded l = good(WORKLOADS CNP(
		"p", API "  ingress:\n  - fromEndpoints:\n    - matchLabels: {app: frontend}\n"
			 "    toPorts:\n    - ports:\n      - {port: '80', protocol: TCP}\n"
			 "      rules:\n        http:\n"
			 "        - {method: GET, path: /public/.*}\n"
			 "        - {method: GET, path: /healthz}\n"
			 "        - {method: PUT, path: /x, headers: ['X-A: b']}\n"));

	(void)state;
	near(&l, "shop/frontend", 80, "POST", "/public/a", 39, "method GET ≠ POST");
	near(&l, "shop/frontend", 80, "GET", "/healthz?a", 40,
	     "path /healthz ≠ /healthz?a (the query belongs to the path)");
	near(&l, "shop/frontend", 80, "PUT", "/x", 41, "header X-A is missing");
	near(&l, "shop/frontend", 80, "GET", "/public/..%2fadmin", 39,
	     "allows the path as received, but not its lenient reading /admin");
	near(&l, "shop/frontend", 80, "DELETE", "/q", 39,
	     "method GET ≠ DELETE, path /public/.* ≠ /q"); /* of equals the first */
	near(&l, "shop/frontend", 81, "", "", 36, "port 80 ≠ 81");
	near(&l, "shop/intruder", 80, "", "", 32, "fromEndpoints do not select shop/intruder");
	near(&l, "world", 81, "GET", "/", 32, "fromEndpoints do not select world, port 80 ≠ 81");
	near(&l, "shop/frontend", 80, "GET", "/public/a", 0, ""); /* it is allowed */
	unload(&l);
	l = good(WORKLOADS CNP("p", API "  ingress: [{}]\n"));
	near(&l, "shop/frontend", 80, "GET", "/", 0, "");
	unload(&l);
}

static void a_peer_of_many_workloads_is_named_by_what_they_have_in_common(void **state)
{
	struct loaded l = good(WORKLOADS WORKLOAD("shop", "twin", "{role: none}")
				       CNP("p", API "  ingress: [{fromEndpoints: "
						    "[{matchLabels: {app: frontend}}]}]\n"));
	struct flow flow = flow_of(&l, "shop/twin", "shop/api", 80);
	struct near_miss out;

	(void)state;
	assert_int_equal(who(&l, "shop/twin"), who(&l, "shop/intruder"));
	policy_near_miss(l.s.policy, &flow, NULL, &out);
	assert_string_equal(out.why, "fromEndpoints do not select shop/{role=none}");
	unload(&l);
}

/* ---- the kernel's map ---- */

struct map {
	struct {
		struct policy_key key;
		struct policy_entry entry;
	} items[4096];
	size_t count;
};

static int map_put(void *arg, const struct policy_key *key, const struct policy_entry *entry)
{
	struct map *m = arg;

	assert_true(m->count < 4096);
	for (size_t i = 0; i < m->count; i++)
		assert_memory_not_equal(&m->items[i].key, key, sizeof(*key));
	m->items[m->count].key = *key;
	m->items[m->count++].entry = *entry;
	return 0;
}

static const struct policy_entry *map_get(const struct map *m, struct policy_key key)
{
	for (size_t i = 0; i < m->count; i++)
		if (memcmp(&m->items[i].key, &key, sizeof(key)) == 0)
			return &m->items[i].entry;
	return NULL;
}

/* As the kernel does. */
static struct policy_entry map_lookup(const struct map *m, uint32_t subject, uint32_t peer,
				      uint16_t port, enum direction d)
{
	static const struct policy_entry open_entry = {VERDICT_DIRECT, 0};
	const struct policy_entry *e = NULL;

	for (int i = 0; i < 4 && e == NULL; i++)
		e = map_get(m, (struct policy_key){.subject = subject,
						   .peer = i < 2 ? peer : IDENTITY_ANY,
						   .port = i % 2 == 0 ? htons(port) : 0,
						   .direction = (uint8_t)d,
						   .protocol = IPPROTO_TCP});
	return e == NULL ? open_entry : *e;
}

static unsigned seed;

static size_t pick(size_t n)
{
	return (size_t)rand_r(&seed) % n;
}

static const char *const selectors[] = {
	"{}",
	"{matchLabels: {app: api}}",
	"{matchLabels: {app: frontend}}",
	"{matchExpressions: [{key: app, operator: DoesNotExist}]}",
	"{matchExpressions: [{key: role, operator: NotIn, values: [none]}]}",
	"{matchLabels: {k8s:io.kubernetes.pod.namespace: other}}",
	"{matchLabels: {reserved:world: ''}}",
	"{matchLabels: {reserved:host: ''}}",
};

static void random_item(char *out, size_t size, bool in)
{
	size_t n = 0, count = pick(3);
	const char *sep = "";

	n += (size_t)snprintf(out + n, size - n, "  - {");
	if (pick(3) > 0) {
		n += (size_t)snprintf(out + n, size - n, "%s: [",
				      in ? "fromEndpoints" : "toEndpoints");
		for (size_t i = 0; i < count; i++)
			n += (size_t)snprintf(out + n, size - n, "%s%s", i == 0 ? "" : ", ",
					      selectors[pick(8)]);
		n += (size_t)snprintf(out + n, size - n, "]");
		sep = ", ";
	}
	if (pick(3) > 0) {
		n += (size_t)snprintf(out + n, size - n, "%stoPorts: [", sep);
		for (size_t i = 0, ports = 1 + pick(2); i < ports; i++)
			n += (size_t)snprintf(out + n, size - n,
					      "%s{ports: [{port: %zu, protocol: TCP}, {port: %zu, "
					      "protocol: TCP}]%s}",
					      i == 0 ? "" : ", ", 80 + pick(3), 80 + pick(3),
					      pick(2) == 0 ? "" : ", rules: {http: [{path: /a}]}");
		n += (size_t)snprintf(out + n, size - n, "]");
	}
	snprintf(out + n, size - n, "}\n");
}

static void random_policies(char *out, size_t size)
{
	size_t n = (size_t)snprintf(out, size, "%s", WORKLOADS);

	for (size_t i = 0, policies = 1 + pick(3); i < policies; i++) {
		bool in = pick(2) == 0;
		char item[1024];

		n += (size_t)snprintf(out + n, size - n,
				      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
				      "metadata: {name: p%zu, namespace: shop}\nspec:\n"
				      "  endpointSelector: %s\n  %s:\n",
				      i, selectors[pick(5)], in ? "ingress" : "egress");
		for (size_t j = 0, items = 1 + pick(3); j < items; j++) {
			random_item(item, sizeof(item), in);
			n += (size_t)snprintf(out + n, size - n, "%s", item);
		}
		n += (size_t)snprintf(out + n, size - n, "---\n");
	}
}

static void same_answer(const struct loaded *l, const struct map *m, const char *from,
			const char *to, unsigned port, const char *text)
{
	struct flow flow = flow_of(l, from, to, port);
	struct decision d = policy_connection(l->s.policy, &flow);
	struct policy_entry out = map_lookup(m, flow.src, flow.dst, flow.port, DIRECTION_EGRESS);
	struct policy_entry in = map_lookup(m, flow.dst, flow.src, flow.port, DIRECTION_INGRESS);
	uint32_t verdict = out.verdict == VERDICT_DENY || in.verdict == VERDICT_DENY ? VERDICT_DENY
			   : out.verdict > in.verdict				     ? out.verdict
										     : in.verdict;

	if (verdict != d.verdict)
		fail_msg("%s -> %s:%u: kernel %u, evaluator %u\n%s", from, to, port, verdict,
			 d.verdict, text);
	if (verdict == VERDICT_DENY)
		assert_int_equal(d.direction == DIRECTION_EGRESS ? out.rule : in.rule, d.rule_id);
	else if (in.verdict == d.verdict && in.rule != 0)
		assert_int_equal(in.rule, d.rule_id);
}

static void the_kernels_lookup_answers_what_the_evaluator_answers(void **state)
{
	static const char *const names[] = {"shop/frontend",  "shop/api",  "shop/intruder",
					    "other/frontend", "other/api", "host",
					    "world"};
	static char text[16384];
	static struct map m;
	size_t denied = 0, entries = 0;

	(void)state;
	for (seed = 1; seed < 3000; seed++) {
		unsigned keep = seed;
		struct loaded l;

		random_policies(text, sizeof(text));
		seed = keep;
		l = good(text);
		m.count = 0;
		assert_int_equal(policy_kernel_entries(l.s.policy, map_put, &m), 0);
		entries += m.count;
		for (size_t i = 0; i < 7; i++)
			for (size_t j = 0; j < 7; j++)
				for (unsigned port = 79; port < 84; port++) {
					same_answer(&l, &m, names[i], names[j], port, text);
					denied +=
						connection(&l, names[i], names[j], port).verdict ==
						VERDICT_DENY;
				}
		unload(&l);
	}
	print_message("%zu entries, %zu flows denied of %d\n", entries, denied, 2999 * 245);
	assert_true(denied > 10000);
}

static int refuse(void *arg, const struct policy_key *key, const struct policy_entry *entry)
{
	(void)key;
	(void)entry;
	return ++*(int *)arg == 2 ? -28 : 0;
}

static void emitting_stops_when_the_map_is_full(void **state)
{
	struct loaded l = good(WORKLOADS CNP("p", HTTP_RULES("[{}]")));
	int calls = 0;

	(void)state;
	assert_int_equal(policy_kernel_entries(l.s.policy, refuse, &calls), -28);
	assert_int_equal(calls, 2);
	unload(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_policy_everything_goes_direct),
		cmocka_unit_test(a_rule_of_nothing_denies_everything_in_a_cilium_policy),
		cmocka_unit_test(an_empty_peer_list_selects_nobody),
		cmocka_unit_test(an_empty_peer_selector_is_the_policys_own_namespace),
		cmocka_unit_test(no_peer_list_is_anybody_on_these_ports),
		cmocka_unit_test(port_zero_is_any_port),
		cmocka_unit_test(
			a_peer_selector_means_the_policys_namespace_unless_it_names_another),
		cmocka_unit_test(a_label_of_a_namespace_selects_all_workloads_of_it),
		cmocka_unit_test(expressions_ask_for_labels_of_a_namespace_too),
		cmocka_unit_test(a_policys_subjects_may_have_labels_of_their_namespace),
		cmocka_unit_test(not_in_and_does_not_exist_match_those_without_the_key),
		cmocka_unit_test(all_parts_of_a_selector_must_hold_and_any_selector_of_a_list),
		cmocka_unit_test(the_service_account_is_a_label_too),
		cmocka_unit_test(reserved_labels_select_host_and_world),
		cmocka_unit_test(the_nodes_own_host_passes_l4_and_l7),
		cmocka_unit_test(both_ends_must_allow_and_the_source_is_asked_first),
		cmocka_unit_test(several_policies_allow_what_any_of_them_allows),
		cmocka_unit_test(a_path_is_matched_whole_with_its_query_and_case),
		cmocka_unit_test(a_slash_matches_only_a_slash),
		cmocka_unit_test(every_reading_of_a_path_must_be_allowed),
		cmocka_unit_test(each_reading_may_be_allowed_by_another_rule),
		cmocka_unit_test(a_path_without_a_lenient_reading_needs_a_rule_without_a_path),
		cmocka_unit_test(the_prefix_path_without_the_engine_agrees_with_the_engine),
		cmocka_unit_test(methods_are_tokens_and_matched_whole),
		cmocka_unit_test(a_host_is_matched_with_its_port),
		cmocka_unit_test(headers_match_by_name_and_exact_value),
		cmocka_unit_test(all_fields_of_an_http_rule_must_hold),
		cmocka_unit_test(an_http_rule_of_nothing_allows_every_request_through_the_proxy),
		cmocka_unit_test(an_empty_list_of_http_rules_allows_all),
		cmocka_unit_test(http_rules_hold_for_their_own_peers_and_ports_only),
		cmocka_unit_test(a_plain_allow_beside_http_rules_voids_them_and_is_warned_about),
		cmocka_unit_test(rules_that_do_not_meet_are_not_warned_about),
		cmocka_unit_test(egress_rules_are_asked_for_requests_too),
		cmocka_unit_test(a_decision_names_the_http_rule_by_its_line),
		cmocka_unit_test(rule_ids_are_the_same_for_the_same_documents),
		cmocka_unit_test(the_nearest_rule_is_named_with_what_was_in_the_way),
		cmocka_unit_test(a_peer_of_many_workloads_is_named_by_what_they_have_in_common),
		cmocka_unit_test(the_kernels_lookup_answers_what_the_evaluator_answers),
		cmocka_unit_test(emitting_stops_when_the_map_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
