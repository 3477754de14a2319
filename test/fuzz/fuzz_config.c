/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a document (or, after a first byte 'o', as shunt.yaml, after an 's' as what the
 * state folder keeps, beside a document of the same name): config_build never
 * crashes, never leaks, says at least one error when it refuses and none when it builds; and
 * what it builds answers requests and fits the kernel's map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/build.h"
#include "proxy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char *__lsan_default_suppressions(void);

/* libfyaml 0.7.12 loses 1 KiB for a quoted scalar with many escapes ('' or \\x). That we free
 * what it gives us is seen by the unit tests under ASan, which do not suppress this. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml.so\n";
}

static void require(bool good)
{
	if (!good)
		abort();
}

static void check_findings(const struct findings *f)
{
	size_t errors = 0;

	for (size_t i = 0; i < f->count; i++) {
		require(f->items[i].where.line > 0 && f->items[i].where.column > 0);
		require(f->items[i].text != NULL && f->items[i].text[0] != '\0');
		require(strpbrk(f->items[i].text, "\n\r\t\033") == NULL);
		errors += f->items[i].level == FINDING_ERROR;
	}
	require(errors == f->errors || f->count >= 1000);
}

static int count(void *arg, const struct policy_key *key, const struct policy_entry *entry)
{
	require(key->direction <= 1 && entry->verdict <= VERDICT_PROXY);
	++*(size_t *)arg;
	return 0;
}

static void ask(const struct policy *p, uint32_t src, uint32_t dst)
{
	static const char *const paths[] = {"/", "/a?b", "/a/..%2fb", "/%2525252e", "*"};
	struct flow flow = {.src = src, .dst = dst, .port = 80};
	struct field field = {{"x", 1}, {"y", 1}};
	struct policy_scratch *scratch = policy_scratch_new();
	struct near_miss near;

	require(scratch != NULL);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct message head = {.method = {"GET", 3},
				       .path = {paths[i], strlen(paths[i])},
				       .authority = {"h", 1},
				       .fields = &field,
				       .field_count = 1};
		struct decision c = policy_connection(p, &flow),
				d = policy_request(p, &flow, &head, scratch);

		require(d.verdict != VERDICT_PROXY);
		require(c.verdict != VERDICT_DENY || d.verdict == VERDICT_DENY);
		require(c.verdict != VERDICT_DIRECT || d.verdict == VERDICT_DIRECT);
		require(d.rule == policy_rule_by_id(p, d.rule_id));
		require(d.edited || policy_head(scratch)->fields == &field);
		policy_near_miss(p, &flow, &head, &near);
	}
	policy_scratch_free(scratch);
}

static void use(const struct snapshot *s)
{
	size_t entries = 0;

	require(policy_kernel_entries(s->policy, count, &entries) == 0);
	for (size_t i = 0; i < s->fleet->workload_count && i < 4; i++) {
		uint32_t id = s->fleet->workloads[i].identity;

		ask(s->policy, id, s->fleet->workloads[0].identity);
		ask(s->policy, id, IDENTITY_WORLD);
		ask(s->policy, IDENTITY_HOST, id);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char same[] = "apiVersion: shunt.dev/v1\nkind: Workload\n"
				   "metadata: {name: a}\nspec: {address: 10.0.0.1}\n";
	bool options = size > 0 && data[0] == 'o', state = size > 0 && data[0] == 's';
	bool first = options || state;
	struct document_file files[] = {{.path = "f.yaml",
					 .text = (const char *)data + first,
					 .len = size - first,
					 .options = options,
					 .state = state},
					{.path = "a.yaml", .text = same, .len = sizeof(same) - 1}};
	struct identity_table *t = identity_table_new();
	struct snapshot s;
	struct findings f;
	int err = config_build(files, state ? 2 : 1, t, 1, &s, &f);

	check_findings(&f);
	require(err == 0 || err == -EINVAL);
	require((err == 0) == (f.errors == 0));
	if (err == 0) {
		use(&s);
		snapshot_free(&s);
	}
	findings_free(&f);
	identity_table_free(t);
	return 0;
}
