/* SPDX-License-Identifier: Apache-2.0 */
/* The two offline verbs as people run them: arguments in, text and exit status out. */
#define _DEFAULT_SOURCE /* strsep */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/cli/offline.h"
#include "test/unit/cli_run.h"

static char dir[64];

/* The words of `line` are parted by '|'; DIR is the folder of this test. */
static int run(const char *line)
{
	char copy[1024], *argv[128];
	int argc;

	snprintf(copy, sizeof(copy), "%s", line);
	argc = cli_words(copy, argv);
	for (int i = 0; i < argc; i++)
		if (strcmp(argv[i], "DIR") == 0)
			argv[i] = dir;
	return cli_run(strcmp(argv[0], "config") == 0 ? cli_config : cli_policy, argc, argv);
}

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static const char policy[] = "apiVersion: cilium.io/v2\n"
			     "kind: CiliumNetworkPolicy\n"
			     "metadata: {name: api-l7, namespace: shop}\n"
			     "spec:\n"
			     "  endpointSelector: {matchLabels: {app: api}}\n"
			     "  ingress:\n"
			     "  - fromEndpoints:\n"
			     "    - matchLabels: {app: web}\n"
			     "    toPorts:\n"
			     "    - ports:\n"
			     "      - {port: '80', protocol: TCP}\n"
			     "      rules:\n"
			     "        http:\n"
			     "        - {method: GET, path: /public/.*}\n"
			     "        - {method: GET, path: /healthz, headers: ['X-Tok: 1']}\n"
			     "  - toPorts: [{ports: [{port: 443}]}]\n";

static const char workloads[] =
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: web, namespace: shop}\n"
	"spec: {labels: {app: web}, address: 10.0.0.1}\n---\n"
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: api, namespace: shop}\n"
	"spec: {labels: {app: api}, address: 10.0.0.2}\n";

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/shunt-test-explain-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	put("10-w.yaml", workloads);
	put("20-api.yaml", policy);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

#define EXPLAIN "policy|explain|--config|DIR|--from|shop/web|--to|shop/api:80"
#define DENIED_403                                                                                 \
	"DENIED 403  by default-deny (ingress of shop/api selected by CiliumNetworkPolicy "        \
	"shop/api-l7, 20-api.yaml:1)\n"

static void an_allowed_request_names_its_rule(void **state)
{
	(void)state;
	assert_int_equal(run(EXPLAIN "|--path|/public/a?x=1"), 0);
	assert_string_equal(out, "ALLOWED by shop/api-l7 (20-api.yaml:14)\n");
	assert_int_equal(run(EXPLAIN "|--path|/healthz|--header|x-tok:  1 "), 0);
	assert_string_equal(out, "ALLOWED by shop/api-l7 (20-api.yaml:15)\n");
}

static void a_denied_request_names_default_deny_and_the_nearest_rule(void **state)
{
	(void)state;
	assert_int_equal(run(EXPLAIN "|--method|POST|--path|/public/a"), 1);
	assert_string_equal(out, DENIED_403 "nearest rule: 20-api.yaml:14 method GET ≠ POST\n");
	assert_int_equal(run(EXPLAIN "|--path|/public/..%2fadmin"), 1);
	assert_string_equal(out, DENIED_403 "nearest rule: 20-api.yaml:14 allows the path as "
					    "received, but not its lenient reading /admin\n");
	assert_int_equal(run(EXPLAIN "|--path|/healthz"), 1);
	assert_string_equal(out,
			    DENIED_403 "nearest rule: 20-api.yaml:15 header X-Tok is missing\n");
}

static void header_matches_are_explained_without_the_secret(void **state)
{
	(void)state;
	put("30-secret.yaml",
	    "apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: shop}\n"
	    "stringData: {t: hunter2}\n---\n"
	    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
	    "metadata: {name: more, namespace: shop}\nspec:\n"
	    "  endpointSelector: {matchLabels: {app: api}}\n"
	    "  ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [\n"
	    "    {path: /log, headerMatches: [{name: X-T, secret: {name: token}, mismatch: "
	    "LOG}]},\n"
	    "    {path: /must, headerMatches: [{name: X-T, secret: {name: token}}]}]}}]}]\n");
	assert_int_equal(run(EXPLAIN "|--path|/log|--header|x-t: guess"), 0);
	assert_string_equal(out, "ALLOWED by shop/more (30-secret.yaml:12)\n"
				 "mismatch: 30-secret.yaml:12 X-T LOG\n");
	assert_int_equal(run(EXPLAIN "|--path|/log|--header|x-t: hunter2"), 0);
	assert_string_equal(out, "ALLOWED by shop/more (30-secret.yaml:12)\n");
	assert_int_equal(run(EXPLAIN "|--path|/log|-o|json"), 0);
	assert_non_null(strstr(out, ",\"mismatch\":\"30-secret.yaml:12 X-T LOG\""));
	assert_int_equal(run(EXPLAIN "|--path|/must|--header|x-t: guess"), 1);
	assert_string_equal(out, DENIED_403 "nearest rule: 30-secret.yaml:13 header X-T is not the "
					    "value of Secret shop/token\n");
	assert_int_equal(run(EXPLAIN "|--path|/must|-o|json"), 1);
	assert_null(strstr(out, "hunter2"));
}

static void a_denied_connection_names_the_peers_or_the_port(void **state)
{
	(void)state;
	assert_int_equal(run("policy|explain|--config|DIR|--from|world|--to|shop/api:80"), 1);
	assert_string_equal(out,
			    "DENIED ECONNREFUSED  by default-deny (ingress of shop/api selected "
			    "by CiliumNetworkPolicy shop/api-l7, 20-api.yaml:1)\n"
			    "nearest rule: 20-api.yaml:16 port 443 ≠ 80\n");
}

static void without_a_request_it_says_which_way_the_connection_goes(void **state)
{
	(void)state;
	assert_int_equal(run(EXPLAIN), 0);
	assert_non_null(strstr(out, "ALLOWED by shop/api-l7 (20-api.yaml:10)\n"));
	assert_non_null(strstr(out, "through the PROXY"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|world|--to|shop/api:443"), 0);
	assert_non_null(strstr(out, "ALLOWED by shop/api-l7 (20-api.yaml:16)\n"));
	assert_non_null(strstr(out, "goes DIRECT"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|host|--to|shop/api:80"), 0);
	assert_non_null(strstr(out, "the node itself"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|shop/api|--to|world:80"), 0);
	assert_non_null(strstr(out, "no policy selects this flow"));
}

static void the_answer_comes_as_json_too(void **state)
{
	(void)state;
	assert_int_equal(run(EXPLAIN "|--method|POST|--path|/public/a|-o|json"), 1);
	assert_string_equal(
		out, "{\"verdict\":\"denied\",\"connection\":\"proxy\",\"reason\":\"policy_l7\","
		     "\"answer\":\"403\",\"direction\":\"ingress\",\"subject\":\"shop/api\","
		     "\"reading\":\"raw\",\"default_deny\":{\"kind\":\"CiliumNetworkPolicy\","
		     "\"policy\":\"shop/api-l7\",\"file\":\"20-api.yaml\",\"line\":1},"
		     "\"nearest\":{\"kind\":\"CiliumNetworkPolicy\",\"policy\":\"shop/api-l7\","
		     "\"file\":\"20-api.yaml\",\"line\":14,\"why\":\"method GET ≠ POST\"}}\n");
}

static void an_unknown_workload_is_wrong_usage_with_the_nearest_name(void **state)
{
	(void)state;
	assert_int_equal(run("policy|explain|--config|DIR|--from|shop/wbe|--to|shop/api:80"), 2);
	assert_string_equal(err, "shunt policy: no workload shop/wbe; did you mean shop/web?\n");
	assert_int_equal(run("policy|explain|--config|DIR|--from|nobody|--to|shop/api:80"), 2);
	assert_non_null(strstr(err, "write NAMESPACE/NAME"));
}

static void wrong_usage_is_said_and_ends_with_2(void **state)
{
	static const char *const lines[] = {
		"policy",
		"policy|explain",
		"policy|explain|--from|a/b",
		"policy|explan|--from|a/b|--to|c/d:1",
		EXPLAIN "|-o|yaml",
		EXPLAIN "|--path|public",
		EXPLAIN "|--header|x",
		"policy|explain|--from|a/b|--to|c/d",
		"policy|explain|--from|a/b|--to|c/d:0",
		"policy|explain|--from|a/b|--to|c/d:65536",
		"policy|explain|--from|a/b|--to|c/d: 1",
		"policy|explain|--nope",
		"config",
		"config|valid",
		"config|validate|a|b",
		"config|validate|-o|xml|DIR",
		"config|validate|/nonexistent/shunt",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(run(lines[i]), 2);
		assert_string_equal(out, "");
		assert_string_not_equal(err, "");
	}
}

static void a_malformed_path_is_refused_before_any_rule(void **state)
{
	(void)state;
	assert_int_equal(run(EXPLAIN "|--path|/public/#a"), 1);
	assert_non_null(strstr(out, "DENIED 400"));
}

static void an_invalid_folder_prints_its_findings(void **state)
{
	(void)state;
	put("30.yaml", "apiVersion: v1\nkind: Service\n");
	assert_int_equal(run(EXPLAIN), 1);
	assert_non_null(strstr(out, "30.yaml:2:7: error: kind Service is not enforced"));
	assert_int_equal(run(EXPLAIN "|-o|json"), 1);
	assert_non_null(strstr(out, "\"valid\":false"));
}

static void local_workloads_of_every_selector_are_known(void **state)
{
	(void)state;
	put("15-more.yaml",
	    "apiVersion: v1\nkind: Namespace\nmetadata: {name: ops, labels: {team: a}}\n---\n"
	    "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: cg, namespace: ops}\n"
	    "spec: {selectors: ['cgroup:/ops'], onUnavailable: allow, exclude: {ports: [22]}}\n"
	    "---\napiVersion: shunt.dev/v1\nkind: Workload\n"
	    "metadata: {name: unit, namespace: shop}\n"
	    "spec: {selectors: ['systemd:id:a.service'], labels: {app: unit}}\n---\n"
	    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
	    "metadata: {name: unit, namespace: shop}\n"
	    "spec:\n  endpointSelector: {matchLabels: {app: unit}}\n  ingress:\n"
	    "  - fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: a}}]\n");
	assert_int_equal(run("config|validate|DIR"), 0);
	assert_non_null(strstr(out, "4 workloads"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|ops/cg|--to|shop/unit:80"), 0);
	assert_int_equal(run("policy|explain|--config|DIR|--from|shop/web|--to|shop/unit:80"), 1);
	assert_null(strstr(out, "EXCLUDED"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|ops/cg|--to|shop/unit:22"), 0);
	assert_non_null(strstr(out, "port 22 is EXCLUDED for ops/cg: what it has to do with this "
				    "port is left alone\n"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|world|--to|ops/cg:22|-o|json"), 0);
	assert_non_null(strstr(out, ",\"excluded\":[\"ops/cg\"]}"));
	assert_int_equal(run("policy|explain|--config|DIR|--from|ops/cg|--to|ops/cg:22|-o|json"),
			 0);
	assert_non_null(strstr(out, ",\"excluded\":[\"ops/cg\",\"ops/cg\"]}"));
	put("15-more.yaml", "");
}

static void validate_prints_place_excerpt_and_caret(void **state)
{
	(void)state;
	put("30.yaml", "é: [\"é\", x]\n");
	put("40.yaml", "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: b}\n"
		       "spec: {adress: 10.0.0.3}\n");
	assert_int_equal(run("config|validate|DIR"), 1);
	assert_non_null(strstr(out, "40.yaml:4:8: error: unknown field 'adress'; did you mean "
				    "'address'?\n    spec: {adress: 10.0.0.3}\n           ^\n"));
	assert_non_null(strstr(out, "20-api.yaml:1:1: warning: UDP is not policed"));
	assert_non_null(strstr(out, "invalid: 2 errors, 2 warnings in 4 files\n"));
}

static void validate_of_a_good_folder_counts_what_it_holds(void **state)
{
	(void)state;
	assert_int_equal(run("config|validate|DIR"), 0);
	assert_non_null(strstr(out, "valid: 2 files, 2 workloads, 5 rules, 1 warning\n"));
	assert_int_equal(run("config|validate|-o|json|DIR"), 0);
	assert_non_null(strstr(out, "{\"valid\":true,\"errors\":0,\"warnings\":1,\"findings\":[{"));
}

static void help_has_examples(void **state)
{
	(void)state;
	assert_int_equal(run("policy|explain|--help"), 0);
	assert_non_null(strstr(out, "Examples:\n"));
	assert_int_equal(run("config|-h"), 0);
	assert_non_null(strstr(out, "Examples:\n"));
}

static void the_demo_means_what_its_comments_say(void **state)
{
#define DEMO "policy|explain|--config|config/examples/demo|--to|shop/api:80|--from|shop/"
	(void)state;
	if (access("config/examples/demo", R_OK) != 0)
		skip(); /* not run from the top folder */
	assert_int_equal(run("config|validate|config/examples/demo"), 0);
	assert_int_equal(run(DEMO "frontend|--path|/public/x?y"), 0);
	assert_int_equal(run(DEMO "frontend|--path|/healthz"), 0);
	assert_int_equal(run(DEMO "frontend|--path|/healthz?verbose"), 1);
	assert_non_null(strstr(out, "(the query belongs to the path)"));
	assert_int_equal(run(DEMO "frontend|--path|/public/x|--method|POST"), 1);
	assert_int_equal(run(DEMO "intruder"), 1);
	assert_non_null(strstr(out, "ECONNREFUSED"));
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_allowed_request_names_its_rule),
		T(a_denied_request_names_default_deny_and_the_nearest_rule),
		T(header_matches_are_explained_without_the_secret),
		T(a_denied_connection_names_the_peers_or_the_port),
		T(without_a_request_it_says_which_way_the_connection_goes),
		T(the_answer_comes_as_json_too),
		T(an_unknown_workload_is_wrong_usage_with_the_nearest_name),
		T(wrong_usage_is_said_and_ends_with_2),
		T(a_malformed_path_is_refused_before_any_rule),
		T(an_invalid_folder_prints_its_findings),
		T(local_workloads_of_every_selector_are_known),
		T(validate_prints_place_excerpt_and_caret),
		T(validate_of_a_good_folder_counts_what_it_holds),
		T(help_has_examples),
		T(the_demo_means_what_its_comments_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
