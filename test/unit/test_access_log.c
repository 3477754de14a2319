/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "proxy/access_log.h"
#include "proxy/cgroup.h"
#include "proxy/metrics.h"

static char folder[] = "/tmp/test_access_log.XXXXXX";

static const char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* All of a file, NUL at its end; free() it. */
static char *contents(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	size_t have = 0;
	ssize_t n;
	char *p;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	p = calloc(1, (size_t)st.st_size + 1);
	while ((n = read(fd, p + have, (size_t)st.st_size - have)) > 0)
		have += (size_t)n;
	close(fd);
	return p;
}

static size_t occurrences(const char *in, const char *what)
{
	size_t n = 0;

	for (; (in = strstr(in, what)) != NULL; in++)
		n++;
	return n;
}

static struct record numbered(uint64_t n)
{
	return (struct record){.type = RECORD_REQUEST, .conn = n, .status = 200};
}

static void write_number(struct access_log_writer *w, uint64_t n)
{
	struct record r = numbered(n);

	access_log_write(w, &r);
}

static void records_become_lines_in_order(void **state)
{
	const char *path = in_folder("order");
	struct access_log *log;
	struct access_log_writer *w;
	struct record opened = {.type = RECORD_OPENED, .conn = 999};
	struct stat st;
	char *all, *p, key[48];

	(void)state;
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	access_log_write(w, &opened);
	for (uint64_t n = 1; n <= 1000; n++)
		write_number(w, n);
	access_log_stop(log);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0137, 0); /* 0640 at most */
	p = all = contents(path);
	for (int n = 1; n <= 1000; n++) {
		snprintf(key, sizeof key, "\"conn_id\":\"n1-0-%d\"", n);
		p = strstr(p, key);
		assert_non_null(p);
	}
	assert_int_equal(occurrences(all, "\n"), 1000);
	assert_int_equal(occurrences(all, "-999\""), 1); /* the opened one is no line */
	free(all);
}

/* Bursts that one ring alone does not hold, each read to its end before the next. */
static void records_keep_their_order_through_both_rings(void **state)
{
	enum { BURSTS = 10, BURST = 1200 };
	const char *path = in_folder("bursts.jsonl");
	struct access_log_writer *w;
	struct access_log *log;
	char line[4096], key[48];
	uint64_t seen = 0;
	FILE *f;

	(void)state;
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	f = fopen(path, "r");
	assert_non_null(f);
	for (uint64_t n = 1; n <= BURSTS * BURST; n++) {
		uint64_t until = now_ms() + 10000;

		write_number(w, n);
		while (n % BURST == 0 && seen < n && now_ms() < until) {
			long at = ftell(f);

			if (fgets(line, sizeof line, f) == NULL || strchr(line, '\n') == NULL) {
				fseek(f, at, SEEK_SET); /* the rest of it is to come */
				sleep_ms(2);
				continue;
			}
			snprintf(key, sizeof key, "\"conn_id\":\"n1-0-%d\"", (int)++seen);
			assert_non_null(strstr(line, key));
		}
	}
	assert_int_equal(seen, BURSTS * BURST);
	assert_int_equal(access_log_dropped(log), 0);
	fclose(f);
	access_log_stop(log);
}

static void a_file_that_cannot_be_opened_is_said(void **state)
{
	struct access_log *log;

	(void)state;
	assert_int_equal(access_log_start("/nonexistent/log", "n1", NULL, &log), -ENOENT);
	assert_int_equal(access_log_start(NULL, "n1", NULL, &log), 0);
	assert_int_equal(access_log_reopen(log, "/nonexistent/log"), -ENOENT);
	write_number(access_log_writer(log), 1);
	access_log_stop(log);
}

/* The log thread is stuck in a pipe that nobody reads: the ring fills, and that is all. */
static void a_full_ring_drops_and_the_next_record_says_so(void **state)
{
	const char *path = in_folder("pipe");
	struct access_log *log;
	struct access_log_writer *w;
	static const char key[] = "\"drop_count\":";
	uint64_t dropped, written, said = 0;
	char byte[65536], *all = calloc(1, 64 << 20);
	size_t have = 0;
	ssize_t n;
	int fd;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	for (written = 0; access_log_dropped(log) < 10; written++)
		write_number(w, 1);
	for (uint64_t until = now_ms() + 100; now_ms() < until;) /* it never waits */
		write_number(w, 1), written++;
	dropped = access_log_dropped(log);
	assert_true(dropped > 10);
	/* read until the ring has room again, and one more record */
	for (bool asked = false; have == 0 || strstr(all, "n1-0-777\"") == NULL;) {
		n = read(fd, byte, sizeof byte);
		if (n > 0 && have + (size_t)n < 64 << 20) {
			memcpy(all + have, byte, (size_t)n);
			have += (size_t)n;
		} else if (!asked) {
			sleep_ms(50);
			if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 0) {
				write_number(w, 777);
				asked = true;
			}
		} else {
			sleep_ms(1);
		}
	}
	assert_int_equal(access_log_dropped(log), dropped);
	for (const char *p = all; (p = strstr(p, key)) != NULL; p++)
		said += strtoull(p + sizeof key - 1, NULL, 10);
	assert_int_equal(said, dropped);
	assert_int_equal(occurrences(all, "\n"), written - dropped + 1);
	access_log_stop(log);
	close(fd);
	free(all);
}

static void a_full_disk_is_counted_and_survived(void **state)
{
	const char *path = in_folder("after-full");
	struct access_log *log;
	struct access_log_writer *w;
	char *all;

	(void)state;
	assert_int_equal(access_log_start("/dev/full", "n1", NULL, &log), 0);
	w = access_log_writer(log);
	for (uint64_t n = 1; n <= 100; n++)
		write_number(w, n);
	for (uint64_t until = now_ms() + 2000; access_log_dropped(log) < 100 && now_ms() < until;)
		sleep_ms(5);
	assert_int_equal(access_log_dropped(log), 100);
	assert_int_equal(access_log_reopen(log, path), 0);
	sleep_ms(50);
	write_number(w, 101);
	access_log_stop(log);
	all = contents(path);
	assert_int_equal(occurrences(all, "\n"), 1);
	assert_non_null(strstr(all, "n1-0-101\""));
	free(all);
}

static void a_moved_file_is_made_anew(void **state)
{
	char path[128], moved[128];
	struct access_log *log;
	struct access_log_writer *w;
	char *all;

	(void)state;
	strcpy(path, in_folder("log"));
	strcpy(moved, in_folder("log.1"));
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	write_number(w, 1);
	sleep_ms(100);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(access_log_reopen(log, path), 0);
	sleep_ms(100);
	write_number(w, 2);
	access_log_stop(log);
	all = contents(moved);
	assert_int_equal(occurrences(all, "\n"), 1);
	assert_non_null(strstr(all, "n1-0-1\""));
	free(all);
	all = contents(path);
	assert_int_equal(occurrences(all, "\n"), 1);
	assert_non_null(strstr(all, "n1-0-2\""));
	free(all);
}

static void an_idle_log_thread_wakes_up_soon(void **state)
{
	const char *path = in_folder("wake");
	struct access_log *log;
	struct access_log_writer *w;
	struct stat st;
	uint64_t start;

	(void)state;
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	for (int i = 0; i < 20; i++) {
		off_t before;

		assert_int_equal(stat(path, &st), 0);
		before = st.st_size;
		sleep_ms(i); /* from busy over napping to asleep */
		start = now_ms();
		write_number(w, 1);
		do {
			sleep_ms(1);
			assert_int_equal(stat(path, &st), 0);
		} while (st.st_size == before && now_ms() - start < 1000);
		assert_true(now_ms() - start < 200);
	}
	access_log_stop(log);
}

/* --- subscribers --- */

/* Until the file ends with record `n`; allocates nothing. */
static void wait_for_record(const char *path, uint64_t n)
{
	char key[48], tail[2048];
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	snprintf(key, sizeof key, "n1-0-%llu\"", (unsigned long long)n);
	for (int tries = 0;; tries++) {
		off_t size = lseek(fd, 0, SEEK_END), most = sizeof tail - 1;

		memset(tail, 0, sizeof tail);
		assert_true(pread(fd, tail, (size_t)most, size > most ? size - most : 0) >= 0);
		if (strstr(tail, key) != NULL)
			break;
		assert_true(tries < 2000);
		sleep_ms(5);
	}
	close(fd);
}

static struct access_log *log_with(uint64_t lines, struct access_log_writer **w)
{
	const char *path = in_folder("subscribed");
	struct access_log *log;

	unlink(path);
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	*w = access_log_writer(log);
	for (uint64_t n = 1; n <= lines; n++) {
		write_number(*w, n);
		if (n % 500 == 0)
			sleep_ms(20); /* the ring holds about a thousand */
	}
	wait_for_record(path, lines);
	assert_int_equal(access_log_dropped(log), 0);
	return log;
}

static int subscribe(struct access_log *log, unsigned last, bool follow)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	access_log_subscribe(log, fds[0], last, follow);
	return fds[1];
}

/* Reads until `lines` newlines came, or the end. */
static char *read_lines(int fd, size_t lines, bool *end)
{
	size_t have = 0, room = 32 << 20;
	char *all = calloc(1, room);
	ssize_t n;

	*end = false;
	while (!*end && occurrences(all, "\n") < lines) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (poll(&p, 1, 1000) != 1)
			break;
		n = read(fd, all + have, room - have - 1);
		*end = n <= 0;
		have += n > 0 ? (size_t)n : 0;
	}
	return all;
}

static void a_subscriber_gets_the_last_lines_and_the_end(void **state)
{
	struct access_log_writer *w;
	struct access_log *log = log_with(100, &w);
	int fd = subscribe(log, 3, false), none = subscribe(log, 0, false);
	bool end;
	char *all = read_lines(fd, 1000, &end);

	(void)state;
	assert_true(end);
	assert_int_equal(occurrences(all, "\n"), 3);
	assert_non_null(strstr(all, "n1-0-98\""));
	assert_non_null(strstr(all, "n1-0-100\""));
	free(all);
	free(read_lines(none, 1, &end));
	assert_true(end);
	close(fd);
	close(none);
	access_log_stop(log);
}

/* As a workload's: gone before anybody asks. */
static void records_are_kept_where_there_is_no_file(void **state)
{
	struct access_log *log;
	struct access_log_writer *w;
	struct record r = numbered(8);
	char path[] = "/gone", *all;
	bool end;
	int fd;

	(void)state;
	assert_int_equal(access_log_start(NULL, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	write_number(w, 7);
	r.path = (struct slice){path, strlen(path)};
	access_log_write(w, &r);
	memset(path, '!', sizeof path);
	write_number(w, 9);
	fd = subscribe(log, 3, true);
	free(read_lines(fd, 3, &end)); /* all three have come */
	close(fd);
	fd = subscribe(log, 2, true);
	all = read_lines(fd, 2, &end);
	assert_int_equal(occurrences(all, "\n"), 2);
	assert_null(strstr(all, "n1-0-7\""));
	assert_non_null(strstr(all, "\"path\":\"/gone\",\"conn_id\":\"n1-0-8\""));
	free(all);
	write_number(w, 10);
	all = read_lines(fd, 1, &end);
	assert_non_null(strstr(all, "n1-0-10\""));
	free(all);
	close(fd);
	access_log_stop(log);
}

/* In place of cgroup.c: a cgroup that is gone once it was asked for. */
struct slice cgroup_path(uint64_t id)
{
	static bool asked;
	struct slice path = {"/kubepods/web", asked || id != 77 ? 0 : strlen("/kubepods/web")};

	asked = true;
	return path;
}

static void a_cgroup_is_asked_for_once_and_kept(void **state)
{
	const char *path = in_folder("cgroup");
	static const char key[] = "\"cgroup\":\"/kubepods/web\"";
	struct access_log *log;
	struct access_log_writer *w;
	struct record r = numbered(1);
	bool end;
	char *all;
	int fd;

	(void)state;
	assert_int_equal(access_log_start(path, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	r.cgroup_id = 77;
	access_log_write(w, &r);
	fd = subscribe(log, 1, true);
	all = read_lines(fd, 1, &end);
	assert_int_equal(occurrences(all, key), 1);
	free(all);
	close(fd);
	access_log_stop(log);
	all = contents(path);
	assert_int_equal(occurrences(all, key), 1);
	free(all);
}

/* A line takes memory, so none was rendered. */
static void what_nobody_reads_is_not_rendered(void **state)
{
	struct access_log *log;
	struct access_log_writer *w;

	(void)state;
	assert_int_equal(access_log_start(NULL, "n1", NULL, &log), 0);
	w = access_log_writer(log);
	failmalloc_at(0);
	for (uint64_t n = 1; n <= 500; n++)
		write_number(w, n);
	access_log_stop(log); /* with all of them taken */
	assert_int_equal(failmalloc_count(), 0);
}

static void a_record_allocates_nothing_once_the_log_is_warm(void **state)
{
	struct access_log_writer *w;
	struct access_log *log = log_with(1, &w);
	unsigned rounds = 0;

	(void)state;
	do { /* what holds a batch grows a few times, until the longest was there */
		failmalloc_at(0);
		for (uint64_t n = 1; n <= 500; n++)
			write_number(w, 1000 * rounds + n);
		wait_for_record(in_folder("subscribed"), 1000 * rounds + 500);
	} while (failmalloc_count() > 0 && ++rounds < 20);
	assert_int_equal(failmalloc_count(), 0);
	access_log_stop(log);
}

static void at_most_4096_lines_are_kept(void **state)
{
	struct access_log_writer *w;
	struct access_log *log = log_with(5000, &w);
	int fd = subscribe(log, 100000, false);
	bool end;
	char *all = read_lines(fd, 10000, &end);

	(void)state;
	assert_true(end);
	assert_int_equal(occurrences(all, "\n"), 4096);
	assert_null(strstr(all, "n1-0-904\""));
	assert_non_null(strstr(all, "n1-0-905\""));
	assert_non_null(strstr(all, "n1-0-5000\""));
	free(all);
	close(fd);
	access_log_stop(log);
}

static void a_follower_reads_along(void **state)
{
	struct access_log_writer *w;
	struct access_log *log = log_with(10, &w);
	int fd = subscribe(log, 1, true);
	bool end;
	char *all = read_lines(fd, 1, &end);

	(void)state;
	assert_non_null(strstr(all, "n1-0-10\""));
	free(all);
	for (uint64_t n = 11; n <= 13; n++) {
		write_number(w, n);
		sleep_ms(30);
	}
	all = read_lines(fd, 3, &end);
	assert_false(end);
	assert_non_null(strstr(all, "n1-0-11\""));
	assert_non_null(strstr(all, "n1-0-13\""));
	free(all);
	close(fd); /* the log notices */
	sleep_ms(20);
	write_number(w, 14);
	access_log_stop(log);
}

static void a_slow_follower_loses_lines_and_is_told(void **state)
{
	struct access_log_writer *w;
	struct access_log *log = log_with(1, &w);
	int fd = subscribe(log, 0, true);
	unsigned long long lost;
	char *all, *told;
	bool end;

	(void)state;
	sleep_ms(50);
	for (uint64_t n = 2; n <= 12001; n++) {
		write_number(w, n);
		if (n % 500 == 0)
			sleep_ms(20);
	}
	sleep_ms(100);
	all = read_lines(fd, 12000, &end); /* less will come: ends by time */
	told = strstr(all, "{\"type\":\"lost\",\"drop_count\":");
	assert_non_null(told);
	assert_null(strstr(told + 10, "\"type\":\"lost\""));
	lost = strtoull(told + strlen("{\"type\":\"lost\",\"drop_count\":"), NULL, 10);
	assert_true(lost > 5000);
	assert_int_equal(occurrences(all, "\n") - 1 + lost, 12000);
	assert_non_null(strstr(all, "n1-0-12001\""));
	assert_int_equal(access_log_dropped(log), 0); /* the file has them all */
	free(all);
	close(fd);
	access_log_stop(log);
}

/* --- many threads --- */

#define EACH 20000U

static void *write_many(void *arg)
{
	for (uint64_t n = 1; n <= EACH; n++) {
		write_number(arg, n);
		if (n % 400 == 0)
			sleep_ms(1);
	}
	return NULL;
}

static void several_writers_lose_nothing_uncounted(void **state)
{
	const char *path = in_folder("threads");
	struct metrics *metrics = metrics_new();
	struct metrics_gauges gauges = {.version = "", .node = ""};
	struct access_log *log;
	pthread_t threads[4];
	struct text t = {0};
	uint64_t dropped;
	char *all;
	bool end;
	int fd;

	(void)state;
	assert_int_equal(access_log_start(path, "n1", metrics, &log), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, write_many, access_log_writer(log)), 0);
	fd = subscribe(log, 10, true);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(access_log_reopen(log, path), 0);
		free(read_lines(fd, 10, &end));
		metrics_render(metrics, &gauges, &t);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	dropped = access_log_dropped(log);
	access_log_stop(log);
	all = contents(path);
	assert_int_equal(occurrences(all, "\n") + dropped, 4 * EACH);
	free(all);
	text_free(&t);
	metrics_free(metrics);
	close(fd);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_become_lines_in_order),
		cmocka_unit_test(records_keep_their_order_through_both_rings),
		cmocka_unit_test(a_file_that_cannot_be_opened_is_said),
		cmocka_unit_test(a_full_ring_drops_and_the_next_record_says_so),
		cmocka_unit_test(a_full_disk_is_counted_and_survived),
		cmocka_unit_test(a_moved_file_is_made_anew),
		cmocka_unit_test(an_idle_log_thread_wakes_up_soon),
		cmocka_unit_test(a_subscriber_gets_the_last_lines_and_the_end),
		cmocka_unit_test(records_are_kept_where_there_is_no_file),
		cmocka_unit_test(a_cgroup_is_asked_for_once_and_kept),
		cmocka_unit_test(what_nobody_reads_is_not_rendered),
		cmocka_unit_test(a_record_allocates_nothing_once_the_log_is_warm),
		cmocka_unit_test(at_most_4096_lines_are_kept),
		cmocka_unit_test(a_follower_reads_along),
		cmocka_unit_test(a_slow_follower_loses_lines_and_is_told),
		cmocka_unit_test(several_writers_lose_nothing_uncounted),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
