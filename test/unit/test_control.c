/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the admin socket's handlers do to workloads, with namespaces, a worker and a state
 * folder of this test's own. Only the kernel's half is stood in for (noloader.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/control.h"
#include "proxy/workloads.h"

static struct workload workloads[WORKLOADS_MAX];
static struct globals globals;
static struct control c;
static struct control_options options;
static char dir[64], state_dir[80];
static struct text body;
static bool root; /* may make namespaces */

struct workload *loader_workload(struct loader *l, uint32_t index)
{
	(void)l;
	return &workloads[index];
}

struct globals *loader_globals(struct loader *l)
{
	(void)l;
	return &globals;
}

const char *loader_error(const struct loader *l)
{
	(void)l;
	return "";
}

int loader_workload_put(struct loader *l, const struct workload *w)
{
	(void)l;
	workloads[w->index] = *w;
	return 0;
}

/* ---- places ---- */

/* The IPv6 slots have a route on it. */
static bool lo_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool up = ioctl(fd, SIOCSIFFLAGS, &lo) == 0;

	close(fd);
	return up;
}

/* A process in a network namespace of its own. */
static pid_t place_make(void)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody behind */
		if (unshare(CLONE_NEWNET) == 0 && lo_up() && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void place_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static unsigned long inode_of(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* ---- the daemon, as far as it goes here ---- */

static int begin(void **state)
{
	struct findings findings = {0};
	char *error = NULL;

	(void)state;
	strcpy(dir, "/tmp/test_control-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(state_dir, sizeof state_dir, "%s/state", dir);
	options = (struct control_options){
		.run_dir = dir, .state_dir = state_dir, .cgroup_root = "/nonexistent"};
	c = (struct control){.options = &options};
	c.loader = (struct loader *)&globals; /* somebody: every call of it is a stub */
	memset(workloads, 0, sizeof workloads);
	c.identities = identity_table_new();
	assert_int_equal(config_build(NULL, 0, c.identities, 1, &c.snapshot, &findings), 0);
	findings_free(&findings);
	assert_int_equal(state_open(state_dir, &error), 0);
	if (!root)
		return 0;
	assert_int_equal(enroll_start(&c.enrollment, options.cgroup_root), 0);
	c.metrics = metrics_new();
	assert_int_equal(access_log_start(NULL, "here", c.metrics, &c.log), 0);
	c.node = (struct node){.worker_count = 1, .dial_count = 8, .workloads = workloads};
	c.directory = directory_new();
	{
		struct view *view = view_new(c.snapshot.policy, c.directory, &c.snapshot.options);

		assert_int_equal(workers_start(&c.node, view, c.log), 0);
		view_unref(view);
	}
	return 0;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	if (root) {
		enroll_close(&c.enrollment, NULL, &c.node, false);
		workers_stop(&c.node);
		access_log_stop(c.log);
		metrics_free(c.metrics);
		directory_unref(c.directory);
	}
	policy_unref(c.previous);
	snapshot_free(&c.snapshot);
	files_free(&c.kept);
	identity_table_free(c.identities);
	text_free(&body);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	return system(command);
}

/* The helper thread lives as long as its process. */
static int begin_all(void **state)
{
	(void)state;
	root = geteuid() == 0 && unshare(CLONE_NEWNET) == 0;
	return root ? netns_start() : 0;
}

static int end_all(void **state)
{
	(void)state;
	if (root)
		netns_stop();
	return 0;
}

static void need_root(void)
{
	if (!root) {
		print_message("skip - workloads in namespaces: unshare() is not permitted\n");
		skip();
	}
}

/* What a handler answers. */
static const char *asked(unsigned (*handler)(void *arg, const char *query, struct text *body),
			 const char *query)
{
	text_free(&body);
	assert_int_equal(handler(&c, query, &body), 200);
	return text_string(&body);
}

static void assert_says(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no %s in %s", part, text);
}

static const char *add(const char *name, pid_t pid, const char *more)
{
	char query[256];

	snprintf(query, sizeof query,
		 "namespace=shop&name=%s&selector=netns:/proc/%d/ns/net&label=app%%3dx%s", name,
		 (int)pid, more);
	return asked(post_workload_add, query);
}

static struct member *member(const char *name)
{
	return enroll_find(&c.enrollment, "shop", name);
}

/* ---- the tests ---- */

static void readiness_is_said_while_connections_are_taken(void **state)
{
	unsigned (*ready)(void *arg, const char *query, struct text *t) =
		readiness_routes[0].handle;

	(void)state;
	assert_string_equal(readiness_routes[0].path, "/healthz/ready");
	assert_int_equal(ready(&c, "", &body), 503);
	assert_string_equal(text_string(&body), "starting\n");
	text_free(&body);
	c.ready = true;
	assert_int_equal(ready(&c, "", &body), 200);
	text_free(&body);
	c.draining = true;
	assert_int_equal(ready(&c, "", &body), 503);
	assert_string_equal(text_string(&body), "draining\n");
}

static void what_is_asked_wrongly_changes_nothing(void **state)
{
#define NAME "namespace=shop&name=a"
	static const struct {
		unsigned (*handler)(void *arg, const char *query, struct text *body);
		const char *query, *error;
	} wrong[] = {
		{post_workload_add, "", "namespace and name are needed"},
		{post_workload_add, "namespace=shop", "namespace and name are needed"},
		{post_workload_add, NAME, "a selector is needed"},
		{post_workload_add, NAME "&selector=pid:1", "selector is none of"},
		{post_workload_add, NAME "&selector=netns:/a&colour=red", "does not know"},
		{post_workload_add, NAME "&selector=netns:/a&=", "does not know"},
		{post_workload_add, NAME "&selector=netns:/a&label=app", "a label is KEY=VALUE"},
		{post_workload_add, NAME "&selector=netns:/a&inode=x", "are numbers"},
		{post_workload_add, NAME "&selector=netns:/a&inode=-1", "are numbers"},
		{post_workload_add, "namespace=..&name=a&selector=netns:/a", "is not a name"},
		{post_workload_add, "namespace=shop&name=a/b&selector=netns:/a", "is not a name"},
		{post_workload_remove, "name=a", "namespace and name are needed"},
		{post_workload_remove, NAME, "no such workload is kept"},
		{post_workload_remove, "namespace=a&name=../../layout", "no such workload is kept"},
		{post_workload_bypass, NAME "&seconds=10", "no such workload is enrolled"},
		{post_workload_bypass, NAME "&seconds=1h", "are numbers"},
		{post_workload_bypass, NAME "&seconds=", "are numbers"},
		{post_workload_bypass, NAME "&seconds=18446744073709551616", "24 hours"},
	};
	uint64_t revision = c.revision;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		const char *answer = asked(wrong[i].handler, wrong[i].query);

		assert_says(answer, "\"ok\":false");
		assert_says(answer, wrong[i].error);
	}
	assert_int_equal(c.revision, revision);
}

static void many_labels_are_too_many(void **state)
{
	char query[2048] = NAME "&selector=netns:/a";

	(void)state;
	for (int i = 0; i < 65; i++)
		sprintf(query + strlen(query), "&label=k%d%%3dv", i);
	assert_says(asked(post_workload_add, query), "too many labels");
}

static void a_daemon_that_stops_takes_no_change(void **state)
{
	struct findings findings;

	(void)state;
	c.draining = true;
	assert_says(asked(post_workload_add, NAME "&selector=netns:/a"), "is stopping");
	assert_says(asked(post_workload_remove, NAME), "is stopping");
	assert_int_equal(control_reload(&c, &findings), -ESHUTDOWN);
	assert_int_equal(findings.count, 0);
	findings_free(&findings);
}

static void what_was_added_is_captured_when_the_answer_comes(void **state)
{
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	assert_says(add("a", place, "&onUnavailable=allow"), "\"state\":\"captured\"");
	assert_non_null(member("a"));
	assert_true(member("a")->captured);
	assert_int_equal(workloads[member("a")->enrolled.index].flags,
			 WORKLOAD_EGRESS | WORKLOAD_INGRESS | WORKLOAD_AWAY_ALLOW);
	assert_says(asked(post_workload_remove, NAME), "\"ok\":true");
	assert_null(member("a"));
	place_end(place);
}

static void an_add_that_fails_leaves_what_was_added_before(void **state)
{
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	assert_says(asked(post_workload_add, NAME "&label=app%3dx&selector=netns:/nonexistent"),
		    "No such file");
	assert_null(member("a")); /* nothing was there: nothing is kept */
	assert_says(asked(post_workload_remove, NAME), "no such workload is kept");
	assert_says(add("a", place, ""), "\"ok\":true");
	assert_says(asked(post_workload_add, NAME "&label=app%3dx&selector=netns:/nonexistent"),
		    "No such file");
	assert_non_null(member("a"));
	assert_true(member("a")->captured);
	assert_int_equal(member("a")->inode, inode_of(place));
	assert_says(asked(post_workload_remove, NAME), "\"ok\":true"); /* it was kept */
	place_end(place);
}

static void a_process_that_is_gone_takes_its_workload_along(void **state)
{
	char inode[64];
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	snprintf(inode, sizeof inode, "&inode=%lu", inode_of(place));
	assert_says(add("a", place, inode), "\"ok\":true");
	place_end(place);
	assert_true(enroll_is_stale(&c.enrollment, false));
	assert_says(add("b", getpid(), ""), "the host's own network namespace"); /* applies */
	assert_null(member("a"));
	assert_int_equal(c.enrollment.absent_count, 1);
	workloads_tend(&c);
	assert_int_equal(c.enrollment.absent_count, 0);
	assert_null(fleet_by_name(c.snapshot.fleet, "shop", "a"));
}

/* Out of descriptors, say: the process lives, and so does what was added. */
static void a_process_that_lives_keeps_its_workload(void **state)
{
	struct rlimit old, none;
	struct findings findings = {0};
	char inode[64];
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	snprintf(inode, sizeof inode, "&inode=%lu", inode_of(place));
	assert_says(add("a", place, inode), "\"ok\":true");
	enroll_release(&c.enrollment, NULL, &c.node, &(struct fleet){0}, REASON_WORKLOAD_GONE);
	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	enroll_open(&c.enrollment, c.loader, &c.node, c.snapshot.fleet);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(c.enrollment.absent_count, 1);
	assert_int_equal(c.enrollment.absent[0].err, EMFILE);
	workloads_tend(&c);
	assert_non_null(fleet_by_name(c.snapshot.fleet, "shop", "a"));
	assert_int_equal(control_rebuild(&c, NULL, &findings), 0);
	findings_free(&findings);
	assert_true(member("a")->captured);
	place_end(place);
}

/* Its number is a process of the host's by now. */
static void a_number_of_another_process_is_nobodys(void **state)
{
	char inode[64];
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	snprintf(inode, sizeof inode, "&inode=%lu", inode_of(place));
	assert_says(add("a", getpid(), inode), "the network namespace it was added with is gone");
	assert_says(add("a", getpid(), ""), "the host's own network namespace");
	place_end(place);
}

static void a_bypass_ends_by_itself_or_when_it_is_ended(void **state)
{
	uint64_t before;
	struct workload *w;
	pid_t place;

	(void)state;
	need_root();
	place = place_make();
	assert_says(add("a", place, ""), "\"ok\":true");
	w = &workloads[member("a")->enrolled.index];
	before = io_now();
	assert_says(asked(post_workload_bypass, NAME "&seconds=86400&reason=night"), "\"until\":");
	assert_true(w->bypass_until >= before + UINT64_C(86400000000000));
	assert_true(w->bypass_until <= io_now() + UINT64_C(86400000000000));
	assert_true(member("a")->bypassed);
	assert_says(asked(post_workload_bypass, NAME "&seconds=86401"), "at most 24 hours");
	assert_says(asked(post_workload_bypass, NAME "&seconds=4294967296"), "at most 24 hours");
	assert_says(asked(post_workload_bypass, NAME "&seconds=1h"), "are numbers");
	assert_true(w->bypass_until > before); /* none of them ended it */
	assert_says(asked(post_workload_bypass, NAME "&seconds=0"), "\"ok\":true");
	assert_int_equal(w->bypass_until, 0);
	w->bypass_until = io_now() - 1;
	member("a")->bypassed = true;
	workloads_tend(&c);
	assert_false(member("a")->bypassed);
	place_end(place);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(readiness_is_said_while_connections_are_taken),
		TEST(what_is_asked_wrongly_changes_nothing),
		TEST(many_labels_are_too_many),
		TEST(a_daemon_that_stops_takes_no_change),
		TEST(what_was_added_is_captured_when_the_answer_comes),
		TEST(an_add_that_fails_leaves_what_was_added_before),
		TEST(a_process_that_is_gone_takes_its_workload_along),
		TEST(a_process_that_lives_keeps_its_workload),
		TEST(a_number_of_another_process_is_nobodys),
		TEST(a_bypass_ends_by_itself_or_when_it_is_ended),
	};

	return cmocka_run_group_tests(tests, begin_all, end_all);
}
