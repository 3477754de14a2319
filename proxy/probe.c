/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of mechanisms, and who runs them. One child, the room, enters a network namespace of
 * its own and makes the cgroup; each trial is a child of the room. A trial that hangs or dies is
 * a result; when the caller dies, the room ends the trial and takes the cgroup away.
 */
#include "proxy/probe.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proxy/cgroup.h"
#include "proxy/probe_impl.h"

#define TRIAL_LIMIT 10000 /* ms of one trial, then it hangs */
#define ROOM_LIMIT 60000 /* ms of all, then the rest is not tried */

struct mechanism {
	const char *name;
	const char *what;
	const char *fallback;
	void (*run)(struct trial *t);
	int variant;
};

const char probe_unused[] = "nothing: this version does not use it";

static const struct mechanism mechanisms[] = {
	{"cgroup_connect", "connect() is judged and redirected", NULL, probe_cgroup_connect, 0},
	{"cgroup_getpeername", "applications are shown the addresses they would see without shunt",
	 NULL, probe_cgroup_getpeername, 0},
	{"sk_lookup", "connections are given to the daemon's listeners", NULL, probe_sk_lookup, 0},
	{"sockops", "listening ports are known", NULL, probe_sockops, 0},
	{"sockmap_liveness", "the kernel knows at once when the daemon is away", NULL,
	 probe_sockmap_liveness, 0},
	{"mmap_array", "the daemon and the kernel programs share memory", NULL, probe_mmap_array,
	 0},
	{"ring_buffer", "the kernel programs tell the daemon whom they refused", NULL,
	 probe_ring_buffer, 0},
	{"netns_cookie", "workloads are known by their network namespace", NULL, probe_netns_cookie,
	 0},
	{"link_update", "a new shuntd replaces the kernel programs in place",
	 "a new shuntd starts only after `shunt detach`; until then connections pass unjudged",
	 probe_link_update, 0},
	{"anyip", "IPv6 connections are captured", "workloads are served over IPv4 only",
	 probe_anyip, 0},
	{"epollexclusive", "a new connection wakes one worker",
	 "a new connection wakes every worker", probe_epollexclusive, 0},
	{"iter_tcp", "listeners that are older than shuntd are found",
	 "registry stays incomplete: connections to a closed port are accepted, then reset",
	 probe_iter_tcp, 0},
	{"iter_storage", "sockets that are older than shuntd are marked",
	 "registry stays incomplete: connections to a closed port are accepted, then reset",
	 probe_iter_storage, 0},
	{"sock_diag", "sockets are listed with their cgroups", probe_unused, probe_sock_diag, 0},
	{"sock_destroy", "a change of policy cuts established connections, one by one",
	 probe_unused, probe_sock_destroy, 0},
	{"bpf_sock_destroy", "a change of policy cuts established connections, many in one pass",
	 probe_unused, probe_iter_destroy, 0},
	{"ktls_tx_aes_128_gcm", "the kernel encrypts between nodes", probe_unused, probe_ktls_tx,
	 SUITE_AES_128_GCM},
	{"ktls_rx_aes_128_gcm", "the kernel decrypts between nodes", probe_unused, probe_ktls_rx,
	 SUITE_AES_128_GCM},
	{"ktls_tx_aes_256_gcm", "the kernel encrypts between nodes", probe_unused, probe_ktls_tx,
	 SUITE_AES_256_GCM},
	{"ktls_rx_aes_256_gcm", "the kernel decrypts between nodes", probe_unused, probe_ktls_rx,
	 SUITE_AES_256_GCM},
	{"ktls_tx_chacha20_poly1305", "the kernel encrypts between nodes", probe_unused,
	 probe_ktls_tx, SUITE_CHACHA20_POLY1305},
	{"ktls_rx_chacha20_poly1305", "the kernel decrypts between nodes", probe_unused,
	 probe_ktls_rx, SUITE_CHACHA20_POLY1305},
	{"ktls_rekey", "keys of the kernel's TLS are changed on a live connection", probe_unused,
	 probe_ktls_rekey, 0},
	{"sockmap_redirect", "local connections take a shortcut from socket to socket",
	 probe_unused, probe_sockmap_redirect, 0},
	{"sockmap_memory", "the shortcut is bounded by what its readers take", probe_unused,
	 probe_sockmap_memory, 0},
	{"sockmap_link", "the shortcut's program is attached by a link", probe_unused,
	 probe_sockmap_link, 0},
	{"fionread_redirect", "FIONREAD counts bytes that took the shortcut", probe_unused,
	 probe_fionread_redirect, 0},
	{"fionread_tcp", "FIONREAD counts TCP's bytes on a socket that may take the shortcut",
	 probe_unused, probe_fionread_tcp, 0},
	{"tls_sockmap_exclusive", "the kernel keeps its TLS and the shortcut apart", probe_unused,
	 probe_tls_sockmap_exclusive, 0},
	{"rdonly_cast", "programs read a socket's state by its pointer", probe_unused,
	 probe_rdonly_cast, 0},
	{"fentry", "programs watch kernel functions", probe_unused, probe_fentry, 0},
	{"mptcp", "applications may ask for MPTCP", "applications that ask for MPTCP use TCP",
	 probe_mptcp, 0},
	/* Last: it changes a setting of the namespace. */
	{"tcp_fastopen", "data comes with the first packet of a connection",
	 "data waits for the handshake", probe_tcp_fastopen, 0},
};
#define MECHANISMS (sizeof mechanisms / sizeof mechanisms[0])

/* Memory that the caller, the room and the trials share. */
struct bench {
	struct trial trial[MECHANISMS];
	char cgroup[PATH_MAX];
	size_t count; /* of trials asked for */
};

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

__attribute__((format(printf, 2, 3))) static void fail(struct trial *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->detail, sizeof t->detail, format, args);
	va_end(args);
	t->state = PROBE_FAILED;
}

static void fail_all(struct bench *b, const char *what, int err)
{
	for (size_t i = 0; i < b->count; i++)
		fail(&b->trial[i], "%s: %s", what, strerror(-err));
}

/* One that the kernel does not let go of, even killed, is left behind. */
static void reap(pid_t pid, int *status)
{
	*status = 0;
	for (int tries = 0; tries < 200; tries++) {
		pid_t ended = waitpid(pid, status, WNOHANG);

		if (ended == pid || (ended < 0 && errno != EINTR))
			return;
		usleep(10000);
	}
}

/* Waits until `pid` has ended, for `limit` ms at most and only while `alive` (when not -1) is
 * open at its other end; then kills it. Returns 0, -ETIMEDOUT or -ECANCELED. *status is 0 when
 * nobody can tell it (SIGCHLD ignored). */
static int child_wait(pid_t pid, int alive, long limit, int *status)
{
	struct pollfd p[2] = {{.fd = pidfd_open(pid, 0), .events = POLLIN}, {.fd = alive}};
	long until = now_ms() + limit, left = limit;
	int err = p[0].fd < 0 ? -errno : 0;
	int n = 0;

	while (err == 0 && n <= 0 && left > 0) {
		n = poll(p, 2, (int)left);
		if (n < 0 && errno != EINTR)
			err = -errno;
		left = until - now_ms();
	}
	if (err == 0 && p[0].revents == 0)
		err = n > 0 ? -ECANCELED : -ETIMEDOUT;
	if (err != 0)
		kill(pid, SIGKILL);
	reap(pid, status);
	if (p[0].fd >= 0)
		close(p[0].fd);
	return err;
}

/* The room */

static int loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int room_enter(void)
{
	return unshare(CLONE_NEWNET) < 0 ? -errno : loopback_up();
}

static int cgroup_make(struct bench *b)
{
	if (b->cgroup[0] == '\0')
		return -ENOENT;
	return mkdir(b->cgroup, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* The kernel lets a cgroup go a moment after its last process. */
static void cgroup_remove(const struct bench *b)
{
	for (int tries = 0; b->cgroup[0] != '\0' && tries < 500; tries++) {
		if (rmdir(b->cgroup) == 0 || errno != EBUSY)
			break;
		usleep(10000);
	}
}

/* false when the caller is gone */
static bool trial_run(struct trial *t, const struct mechanism *m, int alive, long limit)
{
	int status, err;
	pid_t pid;

	fail(t, "ended without a verdict");
	pid = fork();
	if (pid < 0) {
		fail(t, "fork(): %s", strerror(errno));
		return true;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		m->run(t); /* does not return */
		_exit(1);
	}
	err = child_wait(pid, alive, limit, &status);
	if (err == -ETIMEDOUT)
		fail(t, "no end after %ld s", limit / 1000);
	else if (err < 0)
		fail(t, "waiting for the trial: %s", strerror(-err));
	else if (WIFSIGNALED(status))
		fail(t, "ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return err != -ECANCELED;
}

static _Noreturn void room_run(struct bench *b, int alive)
{
	long until = now_ms() + ROOM_LIMIT;
	sigset_t all;
	bool wanted = true;
	int err;

	/* What ends the caller shall not end us before we have cleaned up. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	err = room_enter();
	if (err < 0) {
		fail_all(b, "a network namespace of our own (root is needed)", err);
		_exit(0);
	}
	err = cgroup_make(b);
	for (size_t i = 0; i < b->count; i++)
		b->trial[i].cgroup_err = err;
	for (size_t i = 0; wanted && i < b->count; i++) {
		long left = until - now_ms();

		if (left <= 0)
			fail(&b->trial[i], "not tried: time was over");
		else
			wanted = trial_run(&b->trial[i], &mechanisms[i], alive,
					   left < TRIAL_LIMIT ? left : TRIAL_LIMIT);
	}
	cgroup_remove(b);
	_exit(0);
}

/* The caller */

static struct bench *bench_new(size_t count)
{
	struct bench *b =
		mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char root[PATH_MAX - 64];

	if (b == MAP_FAILED)
		return NULL;
	b->count = count;
	if (cgroup_find_root(root, sizeof root) == 0)
		snprintf(b->cgroup, sizeof b->cgroup, "%s/shunt-probe-%d", root, (int)getpid());
	for (size_t i = 0; i < count; i++) {
		fail(&b->trial[i], "not tried");
		b->trial[i].cgroup = b->cgroup;
		b->trial[i].variant = mechanisms[i].variant;
	}
	return b;
}

/* Nobody writes to the pipe: its end tells the room that we are gone. */
static void bench_run(struct bench *b)
{
	int alive[2], status, err;
	pid_t pid;

	if (pipe2(alive, O_CLOEXEC) < 0) {
		fail_all(b, "pipe()", -errno);
		return;
	}
	pid = fork();
	if (pid == 0) {
		close(alive[1]);
		room_run(b, alive[0]);
	}
	close(alive[0]);
	if (pid < 0) {
		fail_all(b, "fork()", -errno);
	} else {
		err = child_wait(pid, -1, ROOM_LIMIT + TRIAL_LIMIT, &status);
		if (err < 0)
			fail_all(b, "waiting for the trials", err);
		cgroup_remove(b); /* it is gone, unless the room was killed */
	}
	close(alive[1]);
}

static void result_fill(struct probe_result *r, const struct mechanism *m, const struct trial *t)
{
	*r = (struct probe_result){
		.name = m->name, .what = m->what, .state = PROBE_FAILED, .fallback = m->fallback};
	if (t == NULL) {
		snprintf(r->detail, sizeof r->detail, "out of memory");
		return;
	}
	r->state = t->state;
	memcpy(r->detail, t->detail, sizeof r->detail);
	r->detail[sizeof r->detail - 1] = '\0';
}

size_t probe_run(struct probe_result *out, size_t n)
{
	size_t count = n < MECHANISMS ? n : MECHANISMS;
	struct bench *b;

	if (count == 0)
		return MECHANISMS;
	b = bench_new(count);
	if (b != NULL)
		bench_run(b);
	for (size_t i = 0; i < count; i++)
		result_fill(&out[i], &mechanisms[i], b != NULL ? &b->trial[i] : NULL);
	if (b != NULL)
		munmap(b, sizeof *b);
	return MECHANISMS;
}
