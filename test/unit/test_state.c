/* SPDX-License-Identifier: Apache-2.0 */
/* The state folder: what was added is there again, and what it means beside the documents. */
#include "config_load.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/state.h"

#define BOOT_A "9a3c5ad4-6ffb-4a0e-a1f0-2f6f3a1b2c3d"
#define BOOT_B "00000000-6ffb-4a0e-a1f0-2f6f3a1b2c3d"

static char dir[64];
static char path[512];

static const char *in(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(in(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void opened(void)
{
	char *error;

	assert_int_equal(state_open(dir, &error), 0);
	assert_null(error);
}

/* A folder that state_open() has to make. */
static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/shunt-test-state-XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : rmdir(dir);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static void put(const struct state_workload *w)
{
	char *error;
	int err = state_put(dir, w, &error);

	if (err != 0)
		print_message("%s\n", error == NULL ? "?" : error);
	assert_int_equal(err, 0);
}

/* What is kept, beside one document. */
static struct loaded load_kept(const char *text)
{
	struct document_files files = {0};
	struct loaded l;
	char *error;

	if (text != NULL) {
		files.items = malloc(sizeof(*files.items));
		files.items[0] = document(strdup("conf.d/a.yaml"), strdup(text));
		files.count = 1;
	}
	assert_int_equal(state_read(dir, &files, &error), 0);
	l = load_files(files.items, files.count);
	files_free(&files);
	return l;
}

static const struct fleet_workload *named(const struct loaded *l, const char *namespace,
					  const char *name)
{
	const struct fleet_workload *w;

	if (l->err != 0)
		print_findings(&l->f);
	assert_int_equal(l->err, 0);
	w = fleet_by_name(l->s.fleet, namespace, name);
	assert_non_null(w);
	return w;
}

static const struct label labels[] = {{"app", "api"}, {"tier", ""}};
static const struct state_workload full = {.namespace = "shop",
					   .name = "api-1",
					   .selector = SELECTOR_NETNS,
					   .selected = "/proc/4711/ns/net",
					   .netns_inode = UINT64_C(4026532841),
					   .boot_id = BOOT_A,
					   .labels = labels,
					   .label_count = 2,
					   .service_account = "api"};
static const struct state_workload bare = {
	.namespace = "shop", .name = "api-1", .selector = SELECTOR_CGROUP, .selected = "/kept"};

/* ---- the folder ---- */

static void the_folder_is_made_for_the_daemon_alone(void **state)
{
	char text[8] = "";
	struct stat st;
	FILE *f;

	(void)state;
	opened();
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in("workloads"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	f = fopen(in("layout"), "r");
	assert_non_null(f);
	assert_int_equal(fread(text, 1, sizeof(text) - 1, f), 2);
	assert_string_equal(text, "1\n");
	fclose(f);
	put(&full);
	assert_int_equal(stat(in("workloads/shop_api-1.yaml"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	opened(); /* again: it is one of ours */
	assert_int_equal(access(in("workloads/shop_api-1.yaml"), F_OK), 0);
}

static void another_layout_is_refused_with_the_remedy(void **state)
{
	static const char *const layouts[] = {"2\n", "", "1", "10\n", "1\nx"};
	char *error;

	(void)state;
	opened();
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		write_file("layout", layouts[i]);
		assert_int_equal(state_open(dir, &error), -EEXIST);
		assert_non_null(error);
		assert_non_null(strstr(error, dir));
		assert_non_null(strstr(error, "this version uses '1'; run the version that wrote "
					      "it, or remove the folder and add the workloads "
					      "again"));
		assert_true(i > 0 || strstr(error, "its layout is '2'") != NULL);
		free(error);
	}
}

static void a_folder_that_cannot_be_had_is_named(void **state)
{
	char *error;

	(void)state;
	assert_int_equal(state_open("/nonexistent/shunt", &error), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/shunt: "));
	free(error);
	assert_int_equal(state_open("/dev/null", &error), -ENOTDIR);
	free(error);
	assert_int_equal(state_put(dir, &full, &error), -ENOENT);
	free(error);
	assert_int_equal(state_read(dir, &(struct document_files){0}, &error), -ENOENT);
	assert_non_null(strstr(error, dir));
	free(error);
}

/* ---- there and back ---- */

static void what_was_put_is_read_again(void **state)
{
	const struct fleet_workload *w;
	struct loaded l;

	(void)state;
	opened();
	put(&full);
	l = load_kept(NULL);
	w = named(&l, "shop", "api-1");
	assert_int_equal(l.f.count, 0);
	assert_true(w->from_state);
	assert_int_equal(w->selector, SELECTOR_NETNS);
	assert_string_equal(w->selected, "/proc/4711/ns/net");
	assert_true(w->netns_inode == UINT64_C(4026532841));
	assert_string_equal(w->boot_id, BOOT_A);
	assert_string_equal(w->service_account, "api");
	assert_int_equal(w->label_count, 2);
	assert_string_equal(w->labels[0].key, "app");
	assert_string_equal(w->labels[0].value, "api");
	assert_string_equal(w->labels[1].value, "");
	assert_true(w->identity >= IDENTITY_FIRST);
	assert_string_equal(w->where.file, in("workloads/shop_api-1.yaml"));
	unload(&l);
}

static void every_selector_is_kept(void **state)
{
	static const struct state_workload units[] = {
		{.namespace = "a", .name = "cg", .selector = SELECTOR_CGROUP, .selected = "/a/b"},
		{.namespace = "a",
		 .name = "un",
		 .selector = SELECTOR_SYSTEMD,
		 .selected = "a@x\\x2d.service"},
		{.namespace = "a",
		 .name = "ns",
		 .selector = SELECTOR_NETNS,
		 .selected = "/run/a \"b\" \\ #: \xc3\xbc\xe2\x80\xa8\xc2\x85\t\x01"}};
	struct loaded l;

	(void)state;
	opened();
	for (size_t i = 0; i < 3; i++) {
		struct state_workload w = units[i];

		w.labels = labels;
		w.label_count = 1;
		put(&w);
	}
	l = load_kept(NULL);
	for (size_t i = 0; i < 3; i++) {
		const struct fleet_workload *w = named(&l, "a", units[i].name);

		assert_int_equal(w->selector, units[i].selector);
		assert_string_equal(w->selected, units[i].selected);
		assert_true(w->netns_inode == 0);
		assert_null(w->boot_id);
		assert_string_equal(w->service_account, "default");
	}
	unload(&l);
}

static void a_second_put_replaces_the_first(void **state)
{
	struct state_workload w = full;
	struct loaded l;

	(void)state;
	opened();
	put(&full);
	w.netns_inode = 0;
	w.boot_id = NULL;
	w.selected = "/run/netns/b";
	put(&w);
	l = load_kept(NULL);
	assert_string_equal(named(&l, "shop", "api-1")->selected, "/run/netns/b");
	assert_int_equal(l.s.fleet->workload_count, 1);
	unload(&l);
}

static void what_was_removed_is_gone(void **state)
{
	struct state_workload other = full;
	struct loaded l;
	char *error;

	(void)state;
	opened();
	put(&full);
	other.name = "b";
	other.selected = "/b";
	put(&other);
	assert_int_equal(state_remove(dir, "shop", "api-1", &error), 0);
	assert_null(error);
	assert_int_equal(state_remove(dir, "shop", "api-1", &error), -ENOENT);
	assert_string_equal(error, "shop/api-1: no such workload is kept");
	free(error);
	write_file("x.yaml", "");
	mkdir(in("workloads/a_"), 0700);
	assert_int_equal(state_remove(dir, "a", "/../../x", &error), -ENOENT);
	free(error);
	assert_int_equal(access(in("x.yaml"), F_OK), 0);
	l = load_kept(NULL);
	assert_int_equal(l.s.fleet->workload_count, 1);
	(void)named(&l, "shop", "b");
	unload(&l);
}

static void what_was_kept_can_be_had_again(void **state)
{
	struct text before = {0}, none = {0};
	struct state_workload other = full;
	struct loaded l;
	char *error;

	(void)state;
	opened();
	put(&full);
	other.selected = "/run/netns/other";
	assert_int_equal(state_get(dir, "shop", "api-1", &before, &error), 0);
	put(&other);
	assert_int_equal(state_restore(dir, "shop", "api-1", &before, &error), 0);
	l = load_kept(NULL);
	assert_string_equal(named(&l, "shop", "api-1")->selected, full.selected);
	unload(&l);
	other.name = "b";
	assert_int_equal(state_get(dir, "shop", "b", &none, &error), 0);
	assert_int_equal(none.len, 0);
	put(&other);
	assert_int_equal(state_restore(dir, "shop", "b", &none, &error), 0);
	assert_int_equal(access(in("workloads/shop_b.yaml"), F_OK), -1);
	assert_int_equal(state_get(dir, "..", "/x", &none, &error), 0);
	assert_int_equal(none.len, 0);
	text_free(&before);
	text_free(&none);
}

static void refused(struct state_workload w, const char *why)
{
	struct document_files files = {0};
	char *error;

	assert_int_equal(state_put(dir, &w, &error), -EINVAL);
	assert_non_null(error);
	if (strstr(error, why) == NULL)
		fail_msg("%s: not said in: %s", why, error);
	assert_null(strchr(error, '\n'));
	free(error);
	assert_int_equal(state_read(dir, &files, &error), 0);
	assert_int_equal(files.count, 0);
}

static void what_could_not_be_read_again_is_not_kept(void **state)
{
	static const struct label bad[] = {{"a b", "x"}},
				  spoof[] = {{"io.kubernetes.pod.namespace", "x"}},
				  twice[] = {{"a", "x"}, {"a", "y"}};
	struct state_workload w = full;

	(void)state;
	opened();
	w.name = "../../x";
	refused(w, "'../../x' is not a name");
	w.name = "Big";
	refused(w, "'Big' is not a name");
	w = full;
	w.namespace = "a/b";
	refused(w, "'a/b' is not a name");
	w = full;
	w.selected = "relative";
	refused(w, "netns: takes the absolute path");
	w.selected = "/run/\xff";
	refused(w, "not UTF-8");
	w = full;
	w.selector = SELECTOR_CGROUP;
	refused(w, "netns-inode: belongs to a selector netns:");
	w = full;
	w.boot_id = "today";
	refused(w, "boot-id: takes one UUID");
	w = full;
	w.labels = bad;
	w.label_count = 1;
	refused(w, "'a b' is not a label key");
	w.labels = spoof;
	refused(w, "cannot be given");
	w.labels = twice;
	w.label_count = 2;
	refused(w, "duplicate key");
	w = full;
	w.service_account = "Big";
	refused(w, "'Big' is not the name of a service account");
	w = full;
	w.on_unavailable = "maybe";
	refused(w, "onUnavailable");
	w.on_unavailable = "";
	refused(w, "onUnavailable");
	w.on_unavailable = "allow\nselectors: []";
	refused(w, "onUnavailable");
}

static void a_name_too_long_for_a_file_is_refused(void **state)
{
	static char name[254], namespace[64];
	struct state_workload w = full;
	char *error;

	(void)state;
	opened();
	memset(name, 'n', sizeof(name) - 1);
	memset(namespace, 's', sizeof(namespace) - 1);
	w.name = name;
	w.namespace = namespace;
	assert_int_equal(state_put(dir, &w, &error), -ENAMETOOLONG);
	assert_non_null(strstr(error, "File name too long"));
	free(error);
	w.namespace = "s";
	w.name = name + 10;
	put(&w);
}

static void what_a_crash_left_behind_is_passed_over(void **state)
{
	struct loaded l;

	(void)state;
	opened();
	write_file("workloads/.new", "half a docum");
	l = load_kept(NULL);
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->workload_count, 0);
	unload(&l);
	put(&full);
	assert_int_equal(access(in("workloads/.new"), F_OK), -1);
}

/* ---- beside a document ---- */

#define DOC(spec)                                                                                  \
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: api-1, namespace: shop}\n"     \
	"spec: {" spec "}\n"

static void the_kept_selector_replaces_that_of_the_document(void **state)
{
	const struct fleet_workload *w;
	struct loaded l;

	(void)state;
	opened();
	put(&bare);
	l = load_kept(DOC("labels: {app: doc}, serviceAccount: doc, address: 10.0.0.1, "
			  "selectors: ['netns:/doc'], onUnavailable: allow"));
	w = named(&l, "shop", "api-1");
	assert_int_equal(l.f.count, 0);
	assert_int_equal(l.s.fleet->workload_count, 1);
	assert_true(w->from_state);
	assert_int_equal(w->selector, SELECTOR_CGROUP);
	assert_string_equal(w->selected, "/kept");
	assert_string_equal(w->labels[0].value, "doc"); /* none were given */
	assert_string_equal(w->service_account, "doc");
	assert_int_equal(w->address_count, 1);
	assert_true(w->unavailable_allow);
	assert_string_equal(w->where.file, "conf.d/a.yaml");
	unload(&l);
}

static void a_workload_without_a_selector_gets_the_kept_one(void **state)
{
	const struct fleet_workload *w;
	struct loaded l;

	(void)state;
	opened();
	l = load_kept(DOC("labels: {app: doc}, address: 10.0.0.1"));
	assert_false(named(&l, "shop", "api-1")->from_state);
	unload(&l);
	put(&full);
	l = load_kept(DOC("labels: {app: doc, more: x, most: z}, address: 10.0.0.1"));
	w = named(&l, "shop", "api-1");
	assert_int_equal(w->selector, SELECTOR_NETNS);
	assert_true(w->netns_inode == full.netns_inode);
	unload(&l);
}

static void labels_and_account_that_were_given_win(void **state)
{
	struct loaded l, alone;
	const struct fleet_workload *w;

	(void)state;
	opened();
	put(&full);
	l = load_kept(DOC("labels: {app: doc, more: x}, serviceAccount: doc, address: 10.0.0.1"));
	alone = load_kept(NULL);
	w = named(&l, "shop", "api-1");
	assert_int_equal(w->label_count, 2); /* as a whole: `more` is gone */
	assert_string_equal(w->labels[0].value, "api");
	assert_string_equal(w->labels[1].key, "tier");
	assert_string_equal(w->service_account, "api");
	assert_int_equal(w->identity, named(&alone, "shop", "api-1")->identity);
	unload(&l);
	unload(&alone);
}

static void our_switch_may_be_given_with_the_labels(void **state)
{
	static const struct label with[] = {{"app", "api"}, {"shunt.dev/on-unavailable", "allow"}};
	struct state_workload w = full;
	struct loaded l;

	(void)state;
	opened();
	w.labels = with;
	put(&w);
	l = load_kept(NULL);
	assert_true(named(&l, "shop", "api-1")->unavailable_allow);
	assert_int_equal(named(&l, "shop", "api-1")->label_count, 1);
	unload(&l);
	l = load_kept(DOC("onUnavailable: deny, address: 10.0.0.1"));
	assert_true(named(&l, "shop", "api-1")->unavailable_allow);
	unload(&l);
}

static void on_unavailable_that_was_given_wins(void **state)
{
	static const char *const given[] = {"allow", "deny", NULL};
	static const bool beside_deny[] = {true, false, false};
	static const bool beside_allow[] = {true, false, true};
	struct state_workload w = full;
	struct loaded l;

	(void)state;
	opened();
	for (size_t i = 0; i < 3; i++) {
		w.on_unavailable = given[i];
		put(&w);
		l = load_kept(NULL); /* the mesh says deny */
		assert_int_equal(named(&l, "shop", "api-1")->unavailable_allow, beside_deny[i]);
		unload(&l);
		l = load_kept(DOC("onUnavailable: deny, address: 10.0.0.1"));
		assert_int_equal(named(&l, "shop", "api-1")->unavailable_allow, beside_deny[i]);
		unload(&l);
		l = load_kept(DOC("onUnavailable: allow, address: 10.0.0.1"));
		assert_int_equal(named(&l, "shop", "api-1")->unavailable_allow, beside_allow[i]);
		unload(&l);
	}
	w = bare; /* its labels are the document's, the switch is not */
	w.on_unavailable = "allow";
	put(&w);
	l = load_kept(DOC("onUnavailable: deny, labels: {app: doc}, address: 10.0.0.1"));
	assert_true(named(&l, "shop", "api-1")->unavailable_allow);
	assert_string_equal(named(&l, "shop", "api-1")->labels[0].value, "doc");
	unload(&l);
}

static void without_labels_and_document_it_is_left_out_with_a_warning(void **state)
{
	struct loaded l;

	(void)state;
	opened();
	put(&bare);
	l = load_kept("apiVersion: shunt.dev/v1\nkind: Workload\n"
		      "metadata: {name: api-1, namespace: other}\nspec: {address: 10.0.0.1}\n");
	assert_int_equal(l.err, 0);
	assert_true(found(&l.f, FINDING_WARNING, 2,
			  "workload shop/api-1 is left out: it was added without labels, and there "
			  "is no Workload document of that name any more; write one, or add it "
			  "again with labels, or remove it (shunt workload)"));
	assert_int_equal(l.s.fleet->workload_count, 1);
	assert_null(fleet_by_name(l.s.fleet, "shop", "api-1"));
	unload(&l);
}

static void declared_ports_rest_while_a_namespace_of_its_own_is_kept(void **state)
{
	static const char doc[] =
		DOC("labels: {app: a}, selectors: ['cgroup:/a'], ports: {http: 80}");
	struct loaded l;

	(void)state;
	opened();
	put(&bare);
	l = load_kept(doc);
	assert_int_equal(named(&l, "shop", "api-1")->port_count, 1);
	assert_int_equal(l.f.count, 0);
	unload(&l);
	put(&full);
	l = load_kept(doc);
	assert_int_equal(named(&l, "shop", "api-1")->port_count, 0);
	assert_true(found(&l.f, FINDING_WARNING, 4,
			  "ports are passed over while the kept selector of shop/api-1 is a "
			  "network namespace"));
	unload(&l);
}

static void a_namespaces_labels_hold_for_kept_workloads_too(void **state)
{
	struct loaded l, plain;

	(void)state;
	opened();
	put(&full);
	plain = load_kept(NULL);
	l = load_kept(NAMESPACE("shop", "{team: a}", "{exclude: {ports: [22]}}"));
	assert_int_equal(named(&l, "shop", "api-1")->exclude.port_count, 1);
	assert_int_not_equal(named(&l, "shop", "api-1")->identity,
			     named(&plain, "shop", "api-1")->identity);
	unload(&l);
	unload(&plain);
}

/* ---- what may stand in the folder ---- */

#define KEPT(name, selectors)                                                                      \
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: " name ", namespace: s}\n"     \
	"spec: {labels: {a: b}, selectors: [" selectors "]}\n"

static void says(const char *text, unsigned line, unsigned column, const char *error)
{
	struct document_file f = state_file("/s/workloads/s_a.yaml", text);
	struct loaded l = load_files(&f, 1);
	bool there = false;

	assert_int_equal(l.err, -EINVAL);
	for (size_t i = 0; i < l.f.count; i++)
		there |= strcmp(l.f.items[i].where.file, "/s/workloads/s_a.yaml") == 0 &&
			 l.f.items[i].where.line == line && l.f.items[i].where.column == column &&
			 strcmp(l.f.items[i].text, error) == 0;
	if (!there) {
		print_findings(&l.f);
		fail_msg("not said at %u:%u: %s", line, column, error);
	}
	unload(&l);
}

static void a_damaged_file_is_an_error_at_its_place(void **state)
{
	(void)state;
	says("", 1, 1,
	     "this file of the state folder is empty; remove it, or add the workload again");
	says("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", 1, 1,
	     "the state folder holds Workloads of shunt.dev/v1 only");
	says("x\n", 1, 1, "the state folder holds Workloads of shunt.dev/v1 only");
	says(KEPT("a", ""), 4, 7, "a kept workload needs a selector");
	says(KEPT("a", "'netns:/a', 'cgroup:/a'"), 4, 48, "more than one selector");
	says(KEPT("a", "'netns:/a', 'netns-inode:0'"), 4, 48, "netns-inode: takes one number");
	says(KEPT("a", "'netns:/a', 'netns-inode:1x'"), 4, 48, "netns-inode: takes one number");
	says(KEPT("a", "'netns:/a', 'netns-inode:99999999999999999999'"), 4, 48,
	     "netns-inode: takes one number");
	says(KEPT("a", "'netns:/a', 'boot-id:9a3c5ad4-6ffb-4a0e-a1f0-2f6f3a1b2c3'"), 4, 48,
	     "boot-id: takes one UUID");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a}\nspec: {address: "
	     "10.0.0.1, selectors: ['netns:/a']}\n",
	     4, 8, "unknown field 'address'");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a}\n", 1, 1,
	     "a kept workload needs a spec");
	says(KEPT("a", "'netns:/a'") "---\n" KEPT("a", "'netns:/b'"), 8, 18,
	     "kept Workload s/a exists already, at /s/workloads/s_a.yaml:3");
}

static void a_damaged_file_on_the_disk_is_named_by_its_whole_path(void **state)
{
	struct loaded l;

	(void)state;
	opened();
	write_file("workloads/shop_a.yaml", "apiVersion: shunt.dev/v1\nkind: [");
	l = load_kept(NULL);
	assert_int_equal(l.err, -EINVAL);
	assert_string_equal(l.f.items[0].where.file, in("workloads/shop_a.yaml"));
	unload(&l);
}

static bool conflict(const char *a, const char *b)
{
	struct document_file f[] = {state_file("/a", a), state_file("/b", b)};
	struct loaded l = load_files(f, 2);
	bool told = l.err == -EINVAL && found(&l.f, FINDING_ERROR, 4,
					      "network namespace /p is also that of s/a, at /a:4");

	assert_true(told || l.err == 0);
	unload(&l);
	return told;
}

/* /proc/PID/ns/net is another's once the process is gone. */
static void one_path_at_two_times_is_two_namespaces(void **state)
{
#define AT(name, inode, boot) KEPT(name, "'netns:/p', 'netns-inode:" inode "', 'boot-id:" boot "'")
	(void)state;
	assert_true(conflict(AT("a", "1", BOOT_A), AT("b", "1", BOOT_A)));
	assert_false(conflict(AT("a", "1", BOOT_A), AT("b", "2", BOOT_A)));
	assert_false(conflict(AT("a", "1", BOOT_A), AT("b", "1", BOOT_B)));
	assert_true(conflict(AT("a", "1", BOOT_A), KEPT("b", "'netns:/p'")));
	assert_true(conflict(KEPT("a", "'netns:/p'"), KEPT("b", "'netns:/p'")));
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_folder_is_made_for_the_daemon_alone),
		T(another_layout_is_refused_with_the_remedy),
		T(a_folder_that_cannot_be_had_is_named),
		T(what_was_put_is_read_again),
		T(every_selector_is_kept),
		T(a_second_put_replaces_the_first),
		T(what_was_removed_is_gone),
		T(what_was_kept_can_be_had_again),
		T(what_could_not_be_read_again_is_not_kept),
		T(a_name_too_long_for_a_file_is_refused),
		T(what_a_crash_left_behind_is_passed_over),
		T(the_kept_selector_replaces_that_of_the_document),
		T(a_workload_without_a_selector_gets_the_kept_one),
		T(labels_and_account_that_were_given_win),
		T(our_switch_may_be_given_with_the_labels),
		T(on_unavailable_that_was_given_wins),
		T(without_labels_and_document_it_is_left_out_with_a_warning),
		T(declared_ports_rest_while_a_namespace_of_its_own_is_kept),
		T(a_namespaces_labels_hold_for_kept_workloads_too),
		T(a_damaged_file_is_an_error_at_its_place),
		T(a_damaged_file_on_the_disk_is_named_by_its_whole_path),
		T(one_path_at_two_times_is_two_namespaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
