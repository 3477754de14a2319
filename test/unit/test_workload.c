/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shunt workload against the daemon's own admin server: what is asked, what is printed, and
 * the exit status. Only what the routes answer is made up.
 */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "proxy/admin.h"
#include "proxy/cgroup.h"
#include "proxy/cli/cli.h"
#include "test/unit/cli_run.h"

static char dir[64];
static char cgroup[2100]; /* made by a test, or empty */
static char asked[20000]; /* the last query */
static const char *answers; /* to each question */
static pthread_t thread;
static uv_loop_t loop;
static uv_async_t leave;
static struct admin *admin;

/* ---- the other side ---- */

static unsigned take_question(void *arg, const char *query, struct text *body)
{
	(void)arg;
	snprintf(asked, sizeof asked, "%s", query);
	text_add(body, answers);
	return 200;
}

static const struct admin_route routes[] = {
	{.method = "POST", .path = "/workload/add", .type = "", .handle = take_question},
	{.method = "POST", .path = "/workload/remove", .type = "", .handle = take_question},
	{.method = "POST", .path = "/workload/bypass", .type = "", .handle = take_question},
	{.method = "GET", .path = "/status", .type = "", .handle = take_question},
	{0},
};

static void end_service(uv_async_t *handle)
{
	admin_close(admin);
	uv_close((uv_handle_t *)handle, NULL);
}

static void *serve(void *arg)
{
	uv_run(&loop, UV_RUN_DEFAULT);
	return arg;
}

static int start(void **state)
{
	char path[128];

	(void)state;
	strcpy(dir, "/tmp/shunt-test-workload-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/admin.sock", dir);
	asked[0] = '\0';
	cgroup[0] = '\0';
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_async_init(&loop, &leave, end_service), 0);
	assert_int_equal(admin_listen_unix(&loop, path, routes, NULL, &admin), 0);
	return pthread_create(&thread, NULL, serve, NULL);
}

static int stop(void **state)
{
	char command[128];

	(void)state;
	uv_async_send(&leave);
	pthread_join(thread, NULL);
	assert_int_equal(uv_loop_close(&loop), 0);
	rmdir(cgroup);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

/* `words` are parted by '|'. */
static int run(const char *words)
{
	char line[20000], *argv[128];
	int argc;

	asked[0] = '\0';
	snprintf(line, sizeof line, "shunt workload|--run-dir|%s|%s", dir, words);
	argc = cli_words(line, argv);
	optind = 0;
	return cli_run(cli_workload, argc, argv);
}

static const char *boot_id(void)
{
	static char id[64];
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

	assert_non_null(f);
	assert_non_null(fgets(id, sizeof id, f));
	fclose(f);
	id[strcspn(id, "\n")] = '\0';
	return id;
}

static unsigned long own_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	return st.st_ino;
}

/* ---- add ---- */

#define CAPTURED                                                                                   \
	"{\"ok\":true,\"workload\":{\"namespace\":\"shop\",\"name\":\"api\","                      \
	"\"state\":\"captured\",\"netns\":\"/run/netns/api\",\"identity\":300,"                    \
	"\"addresses\":[\"10.0.0.7\",\"fd00::7\"],\"families\":\"IPv4, IPv6\"},"                   \
	"\"seconds\":0.012}\n"

static void add_sends_who_and_prints_one_line(void **state)
{
	(void)state;
	answers = CAPTURED;
	assert_int_equal(run("add|shop/api|--systemd|api.service|--label|app=api|--label|"
			     "shunt.dev/tier=a_B.1|--service-account|web|--on-unavailable|allow"),
			 0);
	assert_string_equal(asked, "namespace=shop&name=api&selector=systemd:id:api.service"
				   "&label=app%3Dapi&label=shunt.dev/tier%3Da_B.1"
				   "&serviceAccount=web&onUnavailable=allow");
	assert_string_equal(out, "shop/api captured (netns /run/netns/api, 10.0.0.7 fd00::7, "
				 "12 ms)\n");
	assert_string_equal(err, "");
	assert_int_equal(run("add|shop/api|--systemd|api@1|-o|json"), 0);
	assert_string_equal(asked, "namespace=shop&name=api&selector=systemd:id:api%401.service");
	assert_string_equal(out, CAPTURED);
}

static void add_prints_what_a_poor_answer_has(void **state)
{
	static const struct {
		const char *answer, *line;
	} cases[] = {
		{"{\"ok\":true}", "shop/api added\n"},
		{"{\"ok\":true,\"workload\":null,\"seconds\":\"1\"}", "shop/api added\n"},
		{"{\"ok\":true,\"workload\":[],\"seconds\":1.26}", "shop/api added (1.3 s)\n"},
		{"{\"ok\":true,\"workload\":{\"state\":\"capt\\u001bured\",\"cgroup\":\"/a\","
		 "\"addresses\":[7,null]},\"seconds\":0.0004}",
		 "shop/api capt?ured (cgroup /a, 0.4 ms)\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		answers = cases[i].answer;
		assert_int_equal(run("add|shop/api|--systemd|a"), 0);
		assert_string_equal(out, cases[i].line);
	}
}

static void add_by_pid_sends_what_tells_its_namespace_from_a_later_one(void **state)
{
	char words[128], want[256];

	(void)state;
	answers = CAPTURED;
	snprintf(words, sizeof words, "add|shop/api|--pid|%d", (int)getpid());
	snprintf(want, sizeof want,
		 "namespace=shop&name=api&selector=netns:/proc/%d/ns/net&inode=%lu&boot=%s",
		 (int)getpid(), own_netns(), boot_id());
	assert_int_equal(run(words), 0);
	assert_string_equal(asked, want);
}

/* A link of /proc leads to a namespace without being a path to it. */
static void add_by_path_makes_it_absolute_and_keeps_links_into_proc(void **state)
{
	char path[160], target[64], words[256], want[512];

	(void)state;
	answers = CAPTURED;
	snprintf(path, sizeof path, "%s/file", dir);
	fclose(fopen(path, "w"));
	snprintf(words, sizeof words, "add|shop/api|--netns|%s/../%s/./file", dir, dir + 5);
	snprintf(want, sizeof want, "namespace=shop&name=api&selector=netns:%s", path);
	assert_int_equal(run(words), 0);
	assert_string_equal(asked, want);

	snprintf(path, sizeof path, "%s/link", dir);
	snprintf(target, sizeof target, "/proc/%d/ns/net", (int)getpid());
	assert_int_equal(symlink(target, path), 0);
	snprintf(words, sizeof words, "add|shop/api|--netns|%s/./link", dir);
	snprintf(want, sizeof want,
		 "namespace=shop&name=api&selector=netns:%s/link&inode=%lu&boot=%s", dir,
		 own_netns(), boot_id());
	assert_int_equal(run(words), 0);
	assert_string_equal(asked, want);
}

static void add_refuses_the_namespace_of_the_command_itself(void **state)
{
	(void)state;
	assert_int_equal(run("add|shop/api|--netns|/proc/self/ns/net"), 2);
	assert_non_null(strstr(err, "this command's own"));
	assert_string_equal(asked, "");
}

static void add_by_cgroup_takes_a_folder_or_its_path_below_the_root(void **state)
{
	char root[2048], name[32], words[2200], want[128];

	(void)state;
	snprintf(name, sizeof name, "/shunt-test-%d", (int)getpid());
	if (cgroup_find_root(root, sizeof root) < 0)
		skip(); /* no cgroup2 here */
	snprintf(cgroup, sizeof cgroup, "%s%s", root, name);
	if (mkdir(cgroup, 0755) < 0)
		skip(); /* not for this user */
	answers = CAPTURED;
	snprintf(want, sizeof want, "namespace=shop&name=api&selector=cgroup:%s", name);
	snprintf(words, sizeof words, "add|shop/api|--cgroup|%s", name);
	assert_int_equal(run(words), 0);
	assert_string_equal(asked, want);
	snprintf(words, sizeof words, "add|shop/api|--cgroup|%s/../.%s", cgroup, name);
	assert_int_equal(run(words), 0);
	assert_string_equal(asked, want);
	assert_int_equal(rmdir(cgroup), 0);
	assert_int_equal(run(words), 2); /* it is gone */
}

static void a_cgroup_that_is_none_is_not_asked_for(void **state)
{
	static const char *const lines[] = {
		"add|shop/api|--cgroup|/",
		"add|shop/api|--cgroup|/tmp",
		"add|shop/api|--cgroup|/cgroup.procs",
		"add|shop/api|--cgroup|tmp",
		"add|shop/api|--cgroup|",
		"add|shop/api|--cgroup|/../tmp",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		assert_int_equal(run(lines[i]), 2);
		assert_string_equal(asked, "");
		assert_string_not_equal(err, "");
	}
}

static void a_refusal_says_why_on_stderr(void **state)
{
	(void)state;
	answers = "{\"ok\":false,\"error\":\"the namespace\\u0007 belongs to shop/web\","
		  "\"findings\":[{\"level\":\"error\",\"file\":\"conf.d/a.yaml\",\"line\":2,"
		  "\"column\":3,\"text\":\"said before\",\"excerpt\":\"x\"}]}\n";
	assert_int_equal(run("add|shop/api|--systemd|a"), 1);
	assert_string_equal(out, "");
	assert_string_equal(err, "conf.d/a.yaml:2:3: error: said before\n    x\n"
				 "shunt: shop/api: the namespace? belongs to shop/web\n");
	assert_int_equal(run("add|shop/api|--systemd|a|--output|json"), 1);
	assert_string_equal(out, answers);
	answers = "{\"ok\":false}";
	assert_int_equal(run("add|shop/api|--systemd|a"), 1);
	assert_string_equal(err, "shunt: shop/api: refused\n");
}

/* ---- remove ---- */

static void remove_says_whether_a_document_remains(void **state)
{
	(void)state;
	answers = "{\"ok\":true,\"documented\":false}\n";
	assert_int_equal(run("remove|shop/api"), 0);
	assert_string_equal(asked, "namespace=shop&name=api");
	assert_string_equal(out, "shop/api removed\n");
	answers = "{\"ok\":true,\"documented\":true}\n";
	assert_int_equal(run("remove|shop/api"), 0);
	assert_string_equal(out, "shop/api removed; a document of that name remains, and holds "
				 "again\n");
}

static void removing_what_is_not_there_is_well_only_if_that_was_said(void **state)
{
	(void)state;
	answers = "{\"ok\":false,\"missing\":true,\"error\":\"was not added\"}\n";
	assert_int_equal(run("remove|shop/api"), 1);
	assert_string_equal(err, "shunt: shop/api: was not added\n");
	assert_int_equal(run("remove|shop/api|--if-exists"), 0);
	assert_string_equal(err, "");
	answers = "{\"ok\":false,\"error\":\"no space left\"}\n";
	assert_int_equal(run("remove|--if-exists|shop/api"), 1);
	assert_string_equal(err, "shunt: shop/api: no space left\n");
}

/* ---- bypass ---- */

static void bypass_sends_seconds_and_says_what_it_means(void **state)
{
	static const struct {
		const char *duration, *seconds;
	} cases[] = {{"10m", "600"}, {"1s", "1"}, {"24h", "86400"}, {"86400s", "86400"}};
	char words[128], want[128];

	(void)state;
	answers = "{\"ok\":true,\"until\":\"2026-11-21T10:00:00Z\"}\n";
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		snprintf(words, sizeof words, "bypass|shop/api|--for|%s|--reason|it's 1&2+é",
			 cases[i].duration);
		snprintf(want, sizeof want,
			 "namespace=shop&name=api&seconds=%s&reason=it%%27s%%201%%262%%2B%%C3%%A9",
			 cases[i].seconds);
		assert_int_equal(run(words), 0);
		assert_string_equal(asked, want);
	}
	assert_string_equal(out, "shop/api is bypassed until 2026-11-21T10:00:00Z: neither policy "
				 "nor proxy applies to its new connections\n");
	answers = "{\"ok\":true}\n";
	assert_int_equal(run("bypass|shop/api|--end"), 0);
	assert_string_equal(asked, "namespace=shop&name=api&seconds=0");
	assert_string_equal(out, "shop/api is bypassed no longer: policy and proxy apply to its "
				 "new connections\n");
}

/* ---- list ---- */

static void list_shows_what_one_should_know(void **state)
{
	(void)state;
	answers = "{\"workloads\":["
		  "{\"namespace\":\"shop\",\"name\":\"api\",\"state\":\"captured\","
		  "\"selector\":\"netns:/run/netns/api\",\"onUnavailable\":\"deny\","
		  "\"addresses\":[\"10.0.0.7\",\"fd00::7\"],\"source\":\"document\","
		  "\"registry\":\"complete\",\"slots\":0},"
		  "{\"namespace\":\"shop\",\"name\":\"db\",\"state\":\"captured\","
		  "\"cgroup\":\"/db\",\"onUnavailable\":\"allow\",\"addresses\":[],"
		  "\"source\":\"added\",\"bypassUntil\":\"T\",\"registry\":\"incomplete\","
		  "\"slots\":3},"
		  "{\"namespace\":\"shop\",\"name\":\"web\",\"state\":\"absent\","
		  "\"netns\":\"/x\",\"why\":\"gone\\u001b\"}]}\n";
	assert_int_equal(run("list"), 0);
	assert_string_equal(
		out,
		"WORKLOAD  STATE     SELECTOR              ADDRESSES         ON-UNAVAILABLE  NOTE\n"
		"shop/api  captured  netns:/run/netns/api  10.0.0.7 fd00::7  deny            -\n"
		"shop/db   captured  cgroup:/db            -                 allow           "
		"BYPASSED until T; its registry of ports is incomplete; added; 3 slots in use\n"
		"shop/web  absent    netns:/x              -                 -               "
		"gone?\n");
}

static void list_survives_any_answer(void **state)
{
	static const char *const bodies[] = {
		"{\"workloads\":[]}",
		"{\"workloads\":null}",
		"{\"workloads\":7}",
		"{\"workloads\":[{\"name\":1,\"addresses\":{\"a\":[]},\"slots\":\"x\"}]}",
		"{\"workloads\":[7,null,\"x\",[],{}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		answers = bodies[i];
		assert_int_equal(run("list"), 0);
		assert_memory_equal(out, "WORKLOAD", 8);
	}
	assert_non_null(strstr(out, "\n-         -      -"));
	answers = "{\"workloads\":[{\"name\":\"a\"}],\"version\":\"1\"}";
	assert_int_equal(run("list|-o|json"), 0);
	assert_string_equal(out, "[{\"name\":\"a\"}]\n");
}

/* ---- all of them ---- */

static void answers_that_are_none_end_with_3(void **state)
{
	static const char *const lines[] = {"add|a/b|--systemd|c", "remove|a/b|--if-exists",
					    "bypass|a/b|--end", "list"};
	static const char *const bodies[] = {"", "no", "[]", "{}", "{\"workload\":1}", "7"};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		for (size_t j = 0; j < sizeof bodies / sizeof bodies[0]; j++) {
			answers = bodies[j];
			assert_int_equal(run(lines[i]), 3);
			assert_string_equal(out, "");
			assert_non_null(strstr(err, "answered 200"));
		}
	}
	assert_int_equal(run("list|--run-dir|/nonexistent"), 3);
	assert_non_null(strstr(err, "no answer from shuntd at /nonexistent/admin.sock"));
}

static void wrong_usage_is_said_and_nothing_is_asked(void **state)
{
	static const char *const lines[] = {
		"",
		"addd",
		"add",
		"add|shop/api",
		"add|--systemd|a",
		"add|shop/api|x/y|--systemd|a",
		"add|api|--systemd|a",
		"add|/api|--systemd|a",
		"add|shop/|--systemd|a",
		"add|shop/a/b|--systemd|a",
		"add|Shop/api|--systemd|a",
		"add|shop/-api|--systemd|a",
		"remove|a234567890123456789012345678901234567890123456789012345678901234/b",
		"add|shop/api|--systemd|a|--pid|1",
		"add|shop/api|--systemd|a|--systemd|b",
		"add|shop/api|--systemd|",
		"add|shop/api|--systemd|a/b",
		"add|shop/api|--systemd|.service",
		"add|shop/api|--pid|0x1",
		"add|shop/api|--pid|-1",
		"add|shop/api|--pid|",
		"add|shop/api|--pid|1/../self",
		"add|shop/api|--pid|4194305",
		"add|shop/api|--pid|99999999999",
		"add|shop/api|--netns|/nonexistent/a",
		"add|shop/api|--netns|",
		"add|shop/api|--systemd|a|--label|app",
		"add|shop/api|--systemd|a|--label|=api",
		"add|shop/api|--systemd|a|--label|a b=c",
		"add|shop/api|--systemd|a|--label|a=b c",
		"add|shop/api|--systemd|a|--label|a=b|--label|a=c",
		"add|shop/api|--systemd|a|--service-account|A",
		"add|shop/api|--systemd|a|--on-unavailable|hold",
		"add|shop/api|--systemd|a|-o|yaml",
		"add|shop/api|--systemd|a|--for|1m",
		"remove",
		"remove|shop",
		"remove|shop/api|--end",
		"bypass|shop/api",
		"bypass|shop/api|--for|10m|--end",
		"bypass|shop/api|--for|0s",
		"bypass|shop/api|--for|10",
		"bypass|shop/api|--for|m",
		"bypass|shop/api|--for|",
		"bypass|shop/api|--for|10ms",
		"bypass|shop/api|--for|25h",
		"bypass|shop/api|--for|86401s",
		"bypass|shop/api|--for|4294967297s",
		"bypass|shop/api|--for|-5m",
		"bypass|shop/api|--for|1.5h",
		"list|shop/api",
		"list|--nope",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		int status = run(lines[i]);

		if (status != 2)
			print_message("%s: %d\n", lines[i], status);
		assert_int_equal(status, 2);
		assert_string_equal(asked, "");
		assert_string_equal(out, "");
		assert_string_not_equal(err, "");
	}
}

static void a_complaint_names_what_is_wrong(void **state)
{
	static const struct {
		const char *words, *complaint;
	} cases[] = {
		{"add|shop/api", "exactly one of --netns, --pid, --cgroup and --systemd"},
		{"add|shop/api|--pid|", "--pid takes the number of a process, not ''"},
		{"add|shop/api|--pid|4194305", "there is no process 4194305"},
		{"add|shop/api|--netns|/nonexistent", "/nonexistent: No such file or directory"},
		{"add|shop/api|--systemd|a|--label|app", "--label takes KEY=VALUE, not 'app'"},
		{"add|shop/api|--systemd|a|--label|a=b|--label|a=c", "label a is given twice"},
		{"add|api|--systemd|a", "'api' is not NAMESPACE/NAME"},
		{"bypass|shop/api", "nothing is bypassed for ever"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(run(cases[i].words), 2);
		assert_non_null(strstr(err, cases[i].complaint));
	}
}

static void a_request_that_no_server_reads_is_not_sent(void **state)
{
	char words[20000] = "bypass|shop/api|--for|1m|--reason|";
	size_t len = strlen(words);

	(void)state;
	memset(words + len, 'x', 201);
	assert_int_equal(run(words), 2);
	assert_non_null(strstr(err, "at most 200"));
	words[len + 200] = '\0';
	answers = "{\"ok\":true}";
	assert_int_equal(run(words), 0);
	strcpy(words, "add|shop/api|--systemd|a");
	for (int i = 0; i < 55; i++) {
		len = strlen(words);
		sprintf(words + len, "|--label|k%02d", i);
		memset(words + len + 12, 'k', 290);
		strcpy(words + len + 302, "=v");
		if (i == 48)
			assert_int_equal(run(words), 0); /* long, but not too long */
	}
	assert_int_equal(run(words), 2);
	assert_string_equal(asked, "");
}

static void every_help_has_examples_and_says_how_it_ends(void **state)
{
	static const char *const lines[] = {"add|--help", "remove|-h", "bypass|--help",
					    "list|--help"};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		assert_int_equal(run(lines[i]), 0);
		assert_memory_equal(out, "Usage: shunt workload ", 22);
		assert_non_null(strstr(out, "\nExit status: 0"));
		assert_non_null(strstr(out, "\nExamples:\n"));
	}
	assert_int_equal(run("--help"), 0);
	assert_non_null(strstr(out, "\nExamples:\n"));
	assert_non_null(strstr(out, "bypass"));
}

#define T(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(add_sends_who_and_prints_one_line),
		T(add_prints_what_a_poor_answer_has),
		T(add_by_pid_sends_what_tells_its_namespace_from_a_later_one),
		T(add_by_path_makes_it_absolute_and_keeps_links_into_proc),
		T(add_refuses_the_namespace_of_the_command_itself),
		T(add_by_cgroup_takes_a_folder_or_its_path_below_the_root),
		T(a_cgroup_that_is_none_is_not_asked_for),
		T(a_refusal_says_why_on_stderr),
		T(remove_says_whether_a_document_remains),
		T(removing_what_is_not_there_is_well_only_if_that_was_said),
		T(bypass_sends_seconds_and_says_what_it_means),
		T(list_shows_what_one_should_know),
		T(list_survives_any_answer),
		T(answers_that_are_none_end_with_3),
		T(wrong_usage_is_said_and_nothing_is_asked),
		T(a_complaint_names_what_is_wrong),
		T(a_request_that_no_server_reads_is_not_sent),
		T(every_help_has_examples_and_says_how_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
