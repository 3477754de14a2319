// SPDX-License-Identifier: Apache-2.0
/* Life and death of a daemon: what it leaves pinned, who takes it over, what is refused. */
#define _GNU_SOURCE 1
#include "test/bpf/expect.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t daemon_fork(void)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	if (pipe(ready) < 0)
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid != 0) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1 || byte != 'r')
			check(false, "another daemon opens the pins", "it did not");
		close(ready[0]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (daemon_open(SLOTS, RATE) == 0 && daemon_listen(PLACE_A, WORKLOAD_A_INDEX) == 0 &&
	    daemon_listen(PLACE_B, WORKLOAD_B_INDEX) == 0)
		byte = 'r';
	else
		printf("# %s\n", loader_error(loader));
	if (write(ready[1], &byte, 1) != 1)
		_exit(1);
	for (;;)
		daemon_serve_while(getppid()); /* for ever: it is no child of this process */
}

/* ---- under load ---- */

#define EGRESS_PORT_TESTED 8082 /* A's rule proxies it, and B serves it */
#define INGRESS_PORT_TESTED 8081 /* B's rule proxies it for the world, and B serves it */

/* What clients of a test write down; shared memory. */
struct load {
	volatile uint64_t dead_at; /* ns: since then the daemon is dead for certain; 0: it lives */
	volatile uint32_t stop;
	uint32_t done;
	uint32_t escaped; /* answered by the server, past the daemon */
	uint32_t failed;
	uint32_t failed_when_dead;
	uint32_t answered_when_dead; /* by the server: passed, as `allow` says */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static struct load *load_new(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Connects, and says who answered; 0: nobody. The world binds first: it is the host, too. */
static char who_answers(const char *to, uint16_t port, const char *source)
{
	struct endpoint dst = endpoint_parse(to, port), src = endpoint_parse(source, 0);
	struct sockaddr_storage ss;
	socklen_t len = endpoint_sockaddr(&src, false, &ss);
	struct answer a = {.who = 0};
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int yes = 1;

	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	(void)bind(fd, (struct sockaddr *)&ss, len);
	len = endpoint_sockaddr(&dst, false, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		(void)say_hello(fd, &dst, &a);
	close(fd);
	return a.who;
}

static void add(uint32_t *n)
{
	__atomic_fetch_add(n, 1, __ATOMIC_SEQ_CST);
}

static void load_one(struct load *l, enum place from, bool v6)
{
	uint64_t dead_at = l->dead_at;
	bool dead = dead_at != 0 && now_ns() >= dead_at;
	char who = from == PLACE_A
			   ? who_answers(v6 ? B6 : B4, EGRESS_PORT_TESTED, v6 ? A6 : A4)
			   : who_answers(v6 ? B6 : B4, INGRESS_PORT_TESTED, v6 ? WORLD6 : WORLD4);

	add(&l->done);
	if (who == 'S')
		add(dead ? &l->answered_when_dead : &l->escaped);
	else if (who == 0)
		add(dead ? &l->failed_when_dead : &l->failed);
}

/* `n` connects, or with 0 until it is told to stop. */
static pid_t load_start(struct load *l, enum place from, uint32_t n)
{
	pid_t pid = rig_fork(from);

	if (pid != 0)
		return pid;
	alarm(600);
	for (uint32_t i = 0; n == 0 ? !l->stop : i < n; i++)
		load_one(l, from, i & 1);
	_exit(0);
}

/* Puts the program of each cgroup link in its place again, as a new daemon does with its own. */
static void links_update(uint32_t *replaced)
{
	static const char *const names[] = {"sockops",	"getpeername4", "getpeername6",
					    "connect4", "getsockname4", "getsockname6",
					    "connect6"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct bpf_link_info info;
		__u32 len = sizeof info;
		char path[300];
		int link, program;

		memset(&info, 0, sizeof info);
		snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/link_%s", rig.pins, names[i]);
		link = bpf_obj_get(path);
		if (link < 0 || bpf_obj_get_info_by_fd(link, &info, &len) < 0)
			_exit(1);
		program = bpf_prog_get_fd_by_id(info.prog_id);
		if (bpf_link_update(link, program, NULL) < 0)
			_exit(1);
		close(program);
		close(link);
	}
	add(replaced);
}

static int inbound_update(void)
{
	int err = loader_inbound_attach(loader, rig.netns[PLACE_A], rig.cookie[PLACE_A]);

	return err < 0 ? err
		       : loader_inbound_attach(loader, rig.netns[PLACE_B], rig.cookie[PLACE_B]);
}

/* All the time another daemon takes the pins over: each program is replaced in place. */
static pid_t replace_start(uint32_t *replaced)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	loader = NULL; /* the parent's */
	for (;;) {
		int err = daemon_open(SLOTS, RATE);

		for (int i = 0; i < 50 && err == 0; i++) {
			err = inbound_update();
			links_update(replaced);
		}
		if (err < 0) {
			printf("# %s\n", loader_error(loader));
			_exit(1);
		}
		loader_close(loader);
	}
}

void test_replace_under_load(uint32_t total)
{
	struct load *l = load_new();
	uint32_t *replaced = &l->answered_when_dead + 1;
	char sentence[160];
	pid_t client[3], replacer;
	uint32_t before;
	bool alive;

	POLICY(A_OUT(IDENTITY_ANY, EGRESS_PORT_TESTED, PROXY, 191),
	       B_IN(IDENTITY_WORLD, INGRESS_PORT_TESTED, PROXY, 192));
	forget();
	replacer = replace_start(replaced);
	while (*(volatile uint32_t *)replaced == 0 && waitpid(replacer, NULL, WNOHANG) == 0)
		usleep(1000);
	before = *(volatile uint32_t *)replaced;
	for (int i = 0; i < 3; i++)
		client[i] = load_start(l, i < 2 ? PLACE_A : PLACE_WORLD, total / 3);
	for (int i = 0; i < 3; i++)
		daemon_serve_while(client[i]);
	alive = waitpid(replacer, NULL, WNOHANG) == 0;
	kill(replacer, SIGKILL);
	if (alive)
		waitpid(replacer, NULL, 0);
	snprintf(sentence, sizeof sentence,
		 "%u connects and arrivals while programs are replaced: none escapes, none fails",
		 total / 3 * 3);
	check(alive && *replaced > before && l->done == total / 3 * 3 && l->escaped == 0 &&
		      l->failed == 0 && seen.egress == total / 3 * 2 && seen.ingress == total / 3,
	      sentence, "%u replaced, %u done, %u escaped, %u failed", *replaced, l->done,
	      l->escaped, l->failed);
	printf("# all nine programs replaced %u times meanwhile\n", *replaced);
	munmap(l, 4096);
}

/* Waits until clients have made `more` further connects. */
static void load_goes_on(const struct load *l, uint32_t more)
{
	uint32_t until = *(const volatile uint32_t *)&l->done + more;

	while ((int32_t)(*(const volatile uint32_t *)&l->done - until) < 0)
		usleep(1000);
}

static void killed_under_load(struct load *l, uint32_t rounds)
{
	pid_t client[2] = {load_start(l, PLACE_A, 0), load_start(l, PLACE_WORLD, 0)};

	for (uint32_t i = 0; i < rounds; i++) {
		pid_t pid;

		l->dead_at = 0;
		pid = daemon_fork();
		load_goes_on(l, 100);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		l->dead_at = now_ns();
		load_goes_on(l, 100);
	}
	l->stop = 1;
	waitpid(client[0], NULL, 0);
	waitpid(client[1], NULL, 0);
}

void test_death_under_load(uint32_t rounds)
{
	struct workload a = daemon_workload(PLACE_A), b = daemon_workload(PLACE_B);
	struct load *l = load_new();

	POLICY(A_OUT(IDENTITY_ANY, EGRESS_PORT_TESTED, PROXY, 193),
	       B_IN(IDENTITY_WORLD, INGRESS_PORT_TESTED, PROXY, 194));
	daemon_close();
	l->dead_at = now_ns();
	killed_under_load(l, rounds);
	check(l->escaped + l->answered_when_dead == 0 && l->failed_when_dead > 0,
	      "deny: a daemon killed under load lets nothing through",
	      "%u before and %u after its death, of %u", l->escaped, l->answered_when_dead,
	      l->done);
	printf("# %u connects over %u deaths\n", l->done, rounds);

	if (daemon_open(SLOTS, RATE) < 0)
		check(false, "a daemon adopts the pins", "%s", loader_error(loader));
	a.flags |= WORKLOAD_AWAY_ALLOW;
	b.flags |= WORKLOAD_AWAY_ALLOW;
	if (loader_workload_put(loader, &a) < 0 || loader_workload_put(loader, &b) < 0)
		check(false, "workloads are written", "%s", loader_error(loader));
	daemon_close();
	memset(l, 0, sizeof *l);
	l->dead_at = now_ns();
	killed_under_load(l, rounds);
	check(l->failed_when_dead == 0 && l->answered_when_dead > 0,
	      "allow: no connect() issued after its death fails", "%u of %u", l->failed_when_dead,
	      l->done);
	printf("# %u connects over %u deaths; %u failed while one died or another came\n", l->done,
	       rounds, l->failed);
	munmap(l, 4096);
	a = daemon_workload(PLACE_A);
	b = daemon_workload(PLACE_B);
	if (daemon_open(SLOTS, RATE) < 0 || loader_workload_put(loader, &a) < 0 ||
	    loader_workload_put(loader, &b) < 0 || daemon_listen(PLACE_A, WORKLOAD_A_INDEX) < 0 ||
	    daemon_listen(PLACE_B, WORKLOAD_B_INDEX) < 0)
		check(false, "a daemon serves again", "%s", loader_error(loader));
}

bool state_whole(size_t inbound)
{
	struct loader_state state[32];
	size_t n = loader_state(loader, state, 32);
	bool whole = n == 7 + inbound;

	for (size_t i = 0; i < n && i < 32; i++)
		whole = whole && state[i].attached;
	return whole;
}

void test_adopt(void)
{
	struct workload w[4];
	pid_t pid;
	int err;

	POLICY(A_OUT(IDENTITY_ANY, 80, PROXY, 111), A_OUT(IDENTITY_ANY, 81, DENY, 112),
	       B_IN(IDENTITY_WORLD, 8081, PROXY, 113));
	daemon_close();
	connects("with the daemon gone, proxied connects are refused",
		 PLAN(.to = "11.1.2.3", .port = 80), ECONNREFUSED, 0);
	connects("with the daemon gone, denied connects are refused",
		 PLAN(.to = "11.1.2.3", .port = 81), ECONNREFUSED, 0);
	connects("with the daemon gone, direct connects pass", PLAN(.to = B4, .port = 8080), 0,
		 'S');
	connects("with the daemon gone, proxied arrivals are refused",
		 PLAN(.from = PLACE_WORLD, .to = B4, .port = 8081, .source = WORLD4), ECONNREFUSED,
		 0);
	pid = daemon_fork();
	connects("a new daemon adopts the pins and serves", PLAN(.to = "11.1.2.3", .port = 80), 0,
		 'D');
	connects("a new daemon serves arrivals by the old programs",
		 PLAN(.from = PLACE_WORLD, .to = B4, .port = 8081, .source = WORLD4), 0, 'I');
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	connects("killed, it serves nothing more", PLAN(.to = "11.1.2.3", .port = 80), ECONNREFUSED,
		 0);
	connects("killed, arrivals are refused",
		 PLAN(.from = PLACE_WORLD, .to = B6, .port = 8081, .source = WORLD6), ECONNREFUSED,
		 0);
	err = daemon_open(SLOTS, RATE);
	check(err == 0, "a third daemon adopts the pins", "%s", loader_error(loader));
	if (err < 0)
		return;
	check(loader_workload_list(loader, w, 4) == 2 && w[0].place != w[1].place &&
		      (w[0].place == rig.cookie[PLACE_A] || w[1].place == rig.cookie[PLACE_A]),
	      "it finds the workloads that were there", "it does not");
	check(state_whole(2), "all links are attached", "one is not");
	err = daemon_listen(PLACE_A, WORKLOAD_A_INDEX);
	if (err == 0)
		err = daemon_listen(PLACE_B, WORKLOAD_B_INDEX);
	check(err == 0, "it puts its listeners", "%s", loader_error(loader));
	captured("it serves", PLAN(.to = "2001:db8::1", .port = 80));
}

static void refuses_to_open(const char *sentence, const char *pins, uint32_t slots, int err,
			    const char *words)
{
	struct loader_options o = {
		.pin_dir = pins,
		.cgroup_root = rig.cgroup_root,
		.self_cgroup = rig.daemon_cgroup_id,
		.host_netns = rig.cookie[PLACE_WORLD],
		.slots = slots,
		.event_rate = RATE,
	};
	struct loader *l;
	int got = loader_open(&o, &l);

	check(got == err && strstr(loader_error(l), words) != NULL, sentence, "%d: %s", got,
	      loader_error(l));
	loader_close(l);
}

void test_refusals(void)
{
	char pins[200], path[300];
	int fd;

	snprintf(pins, sizeof pins, "%s/other", rig.bpffs);
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/slots", pins);
	refuses_to_open("slots that are no power of two are refused", pins, 1000, -EINVAL,
			"power of two");
	refuses_to_open("a folder outside a bpf file system is refused", rig.folder, SLOTS, -EINVAL,
			"mount -t bpf");
	refuses_to_open("another size of the table is refused", rig.pins, 2 * SLOTS, -EEXIST,
			"shunt detach");
	mkdir(pins, 0700);
	snprintf(path, sizeof path, "%s/v0", pins);
	mkdir(path, 0700);
	refuses_to_open("pins of another layout are refused", pins, SLOTS, -EEXIST, "shunt detach");
	rmdir(path);
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT, pins);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/policy", pins);
	fd = bpf_map_create(BPF_MAP_TYPE_HASH, "policy", 8, 8, 16, NULL);
	bpf_obj_pin(fd, path);
	close(fd);
	refuses_to_open("a foreign map in the place of ours is refused", pins, SLOTS, -EEXIST,
			"shunt detach");
	check(loader_detach(pins) == 1 && access(pins, F_OK) < 0, "detach removes what it finds",
	      "it does not");
	check(loader_detach(pins) == 0, "nothing pinned is nothing to detach", "it is an error");
	check(loader_detach(rig.folder) == -EINVAL, "detach leaves other file systems alone",
	      "it does not");
}

/* The programs behind our pinned links. */
static size_t our_programs(uint32_t *ids, size_t n)
{
	struct loader_state state[16];
	size_t links = loader_state(loader, state, 16), count = 0;

	for (size_t i = 0; i < links && i < 16 && count < n; i++) {
		struct bpf_link_info info;
		__u32 len = sizeof info;
		char path[400];
		int fd;

		memset(&info, 0, sizeof info);
		snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/%s%.31s", rig.pins,
			 i < 7 ? "link_" : "", state[i].name);
		fd = bpf_obj_get(path);
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
			ids[count++] = info.prog_id;
		close(fd);
	}
	return count;
}

/* How many of these are attached anywhere; others may test on this machine too. */
static uint32_t still_attached(const uint32_t *ours, size_t n)
{
	static const enum bpf_attach_type types[] = {
		BPF_SK_LOOKUP,
		BPF_CGROUP_INET4_CONNECT,
		BPF_CGROUP_INET6_CONNECT,
		BPF_CGROUP_INET4_GETPEERNAME,
		BPF_CGROUP_INET6_GETPEERNAME,
		BPF_CGROUP_INET4_GETSOCKNAME,
		BPF_CGROUP_INET6_GETSOCKNAME,
		BPF_CGROUP_SOCK_OPS,
	};
	int cgroup = open(rig.cgroup_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t total = 0, flags, ids[64];

	for (size_t i = 0; i < sizeof types / sizeof *types + PLACES - 1; i++) {
		int target = i < PLACES ? rig.netns[i] : cgroup;
		uint32_t found = 64;

		if (bpf_prog_query(target, types[i < PLACES ? 0 : i - PLACES + 1], 0, &flags, ids,
				   &found) < 0)
			continue;
		for (size_t k = 0; k < found * n; k++)
			total += ids[k / n] == ours[k % n];
	}
	close(cgroup);
	return total;
}

void test_detach(void)
{
	uint32_t ids[16] = {0};
	struct workload w[4];
	char path[300];
	size_t n;
	int removed;
	int held;

	POLICY(A_OUT(IDENTITY_ANY, EVERYWHERE, DENY, 121), B_IN(IDENTITY_ANY, 8080, DENY, 122));
	loader_inbound_detach(loader, rig.cookie[PLACE_B]);
	connects("a detached workload is not judged any more",
		 PLAN(.from = PLACE_WORLD, .to = B4, .port = 8080, .source = WORLD4), 0, 'S');
	loader_workload_remove(loader, rig.cookie[PLACE_B]);
	check(loader_workload_list(loader, w, 4) == 1 && state_whole(1), "a workload is removed",
	      "it is not");
	n = our_programs(ids, 16);
	check(n == 8 && still_attached(ids, n) == 8, "eight programs are attached", "%zu, %u", n,
	      still_attached(ids, n));
	snprintf(path, sizeof path, "%s/" ABI_LAYOUT "/link_connect4", rig.pins);
	held = bpf_obj_get(path); /* as a daemon or a tool may */
	removed = loader_detach(rig.pins);
	check(removed == 17 + 7 + 1 && access(rig.pins, F_OK) < 0, "detach removes every pin",
	      "%d removed", removed);
	check(still_attached(ids, n) == 0,
	      "detach leaves no program attached, whoever holds a link", "%u",
	      still_attached(ids, n));
	close(held);
	connects("after detach everything passes", PLAN(.to = B4, .port = 8080), 0, 'S');
	daemon_close();
}
