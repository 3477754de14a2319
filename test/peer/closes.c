// SPDX-License-Identifier: Apache-2.0
/*
 * Both ends of one connection, played by a script: who closes, half-closes, resets, dies, and in
 * which order. Reads one script per line and prints one line of facts for each.
 *
 *   closes CLIENT-NETNS SERVER-NETNS ADDRESS PORT <scripts
 *
 * A script is a list of steps. `open` connects and accepts; END.WORD[:NUMBER] is done by one end,
 * c or s. Each end is a process of its own, in its namespace, that is told one step at a time
 * over a socket pair and answers when it is done: no step begins before the one before it has
 * ended, and nothing but rest waits for a time to pass.
 *
 *   connect, accept     as open, one end alone
 *   send:N              writes N bytes; says the errno if it fails
 *   take:N              reads N bytes
 *   fill                writes until nothing more is taken; how much that is, is not said
 *   drain               reads to the end: was it all that the other end wrote, and how did it end?
 *   prefix              the same where bytes in flight may be lost: is it a prefix of that?
 *   urgent              sends one byte with MSG_OOB
 *   arrive:N            waits until N bytes lie unread
 *   fin, err            waits until poll() says POLLRDHUP; POLLERR and POLLHUP
 *   close, shut         close(), shutdown(SHUT_WR)
 *   reset               SO_LINGER 0, close()
 *   exit, kill          the process ends: _exit(), SIGKILL
 *   rest:N              N seconds: longer than the kernel keeps the bytes of a closed socket
 *   report              what poll(), read(), write() and SO_ERROR say now
 *
 * An error is told once, to whoever asks first. So a script with a report is played three times:
 * read() asks first, then write(), then SO_ERROR.
 */
#include "test/peer/cases.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT 10 /* seconds that an end may take for one step, times FACTOR */
#define QUIET 15 /* tries of 2 ms: who takes nothing for so long is full */
#define CHUNK 16384
#define FACTS_MAX 4096
#define STEP_MAX 128
#define PATTERN 251 /* byte n of a stream is n modulo this */

enum ask_first { ASK_READ, ASK_WRITE, ASK_ERROR, ASK_WAYS };

static struct name to;
static int listener;
static int netns[2]; /* of c, of s */

static const char *word(int err)
{
	const char *name = err == 0 ? "0" : strerrorname_np(err);

	return name != NULL ? name : "unknown";
}

static unsigned limit(void)
{
	const char *factor = getenv("FACTOR");

	return LIMIT * (unsigned)(factor != NULL ? atoi(factor) : 1);
}

/* ---- an end: one process ---- */

static struct {
	int fd;
	enum ask_first first;
	uint64_t wrote, took;
	bool good; /* every byte was the one that stands there */
} end = {.fd = -1, .good = true};

static ssize_t put(size_t len, int flags)
{
	char chunk[CHUNK];
	ssize_t n;

	if (len > sizeof chunk)
		len = sizeof chunk;
	for (size_t i = 0; i < len; i++)
		chunk[i] = (char)((end.wrote + i) % PATTERN);
	n = send(end.fd, chunk, len, flags | MSG_NOSIGNAL);
	if (n > 0)
		end.wrote += (uint64_t)n;
	return n;
}

static ssize_t get(size_t len, int flags)
{
	char chunk[CHUNK];
	ssize_t n = recv(end.fd, chunk, len < sizeof chunk ? len : sizeof chunk, flags);

	for (ssize_t i = 0; i < n; i++)
		end.good &= chunk[i] == (char)((end.took + (uint64_t)i) % PATTERN);
	if (n > 0)
		end.took += (uint64_t)n;
	return n;
}

static short events(void)
{
	struct pollfd p = {.fd = end.fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};

	if (poll(&p, 1, 0) < 0)
		die("poll");
	return p.revents;
}

/* 0, or the errno of what ended it. */
static int read_to_end(int flags)
{
	ssize_t n;

	do
		n = get(CHUNK, flags);
	while (n > 0);
	return n < 0 ? errno : 0;
}

static int pending_error(void)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(end.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return errno;
	return err;
}

static int add_events(char *to_text, size_t room, short e)
{
	return snprintf(to_text, room, "poll=%s%s%s%s%s%s", e & POLLIN ? "+in" : "",
			e & POLLPRI ? "+pri" : "", e & POLLOUT ? "+out" : "",
			e & POLLRDHUP ? "+rdhup" : "", e & POLLERR ? "+err" : "",
			e & POLLHUP ? "+hup" : "");
}

static int add_reads(char *to_text, size_t room)
{
	uint64_t before = end.took;
	int err = read_to_end(MSG_DONTWAIT);
	int again = get(1, MSG_DONTWAIT) < 0 ? errno : 0;

	return snprintf(to_text, room, " bytes=%llu%s read=%s again=%s",
			(unsigned long long)(end.took - before), end.good ? "" : "(wrong)",
			word(err), word(again));
}

/* Writes only to who is gone already: else the answer to it would race with what follows. */
static int add_write(char *to_text, size_t room, short e)
{
	if (!(e & (POLLERR | POLLHUP)))
		return 0;
	return snprintf(to_text, room, " write=%s", word(put(1, MSG_DONTWAIT) < 0 ? errno : 0));
}

static void report(char *facts, size_t room)
{
	short e = events();
	int at = add_events(facts, room, e);

	if (end.first == ASK_WRITE)
		at += add_write(facts + at, room - (size_t)at, e);
	if (end.first == ASK_ERROR)
		at += snprintf(facts + at, room - (size_t)at, " error=%s", word(pending_error()));
	at += add_reads(facts + at, room - (size_t)at);
	if (end.first != ASK_WRITE)
		at += add_write(facts + at, room - (size_t)at, e);
	if (end.first != ASK_ERROR)
		snprintf(facts + at, room - (size_t)at, " error=%s", word(pending_error()));
}

static void fill(void)
{
	int quiet = 0;

	while (quiet < QUIET) {
		ssize_t n = put(CHUNK, MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			die("send");
		quiet = n > 0 ? 0 : quiet + 1;
		if (n < 0)
			usleep(2000);
	}
}

static void wait_events(short wanted)
{
	while ((events() & wanted) != wanted)
		usleep(500);
}

static void wait_arrived(int bytes)
{
	int unread = 0;

	while (ioctl(end.fd, FIONREAD, &unread) == 0 && unread < bytes)
		usleep(500);
}

static int open_end(bool connects)
{
	if (!connects) {
		end.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		return end.fd < 0 ? errno : 0;
	}
	end.fd = socket(to.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(end.fd, (const struct sockaddr *)&to.sa, to.len) < 0 ? errno : 0;
}

static void close_end(bool reset)
{
	struct linger now = {.l_onoff = 1};

	if (reset)
		setsockopt(end.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(end.fd);
}

static int transfer(bool sends, uint64_t bytes)
{
	for (uint64_t goal = (sends ? end.wrote : end.took) + bytes;
	     (sends ? end.wrote : end.took) < goal;) {
		uint64_t left = goal - (sends ? end.wrote : end.took);
		ssize_t n = sends ? put((size_t)left, 0) : get((size_t)left, 0);

		if (n <= 0)
			return n < 0 ? errno : ENODATA;
	}
	return 0;
}

/* Does one step; its fact, or "" when there is nothing to say. False: no such step. */
static bool act(const char *step, int number, char *facts, size_t room)
{
	int err = 0;

	if (strcmp(step, "connect") == 0 || strcmp(step, "accept") == 0)
		err = open_end(step[0] == 'c');
	else if (strcmp(step, "send") == 0 || strcmp(step, "take") == 0)
		err = transfer(step[0] == 's', (uint64_t)number);
	else if (strcmp(step, "urgent") == 0)
		err = send(end.fd, "!", 1, MSG_OOB) < 0 ? errno : 0;
	else if (strcmp(step, "fill") == 0)
		fill();
	else if (strcmp(step, "drain") == 0 || strcmp(step, "prefix") == 0)
		snprintf(facts, room, "read=%s", word(read_to_end(0)));
	else if (strcmp(step, "arrive") == 0)
		wait_arrived(number);
	else if (strcmp(step, "fin") == 0)
		wait_events(POLLRDHUP);
	else if (strcmp(step, "err") == 0)
		wait_events(POLLERR | POLLHUP);
	else if (strcmp(step, "close") == 0 || strcmp(step, "reset") == 0)
		close_end(step[0] == 'r');
	else if (strcmp(step, "shut") == 0)
		err = shutdown(end.fd, SHUT_WR) < 0 ? errno : 0;
	else if (strcmp(step, "rest") == 0)
		sleep((unsigned)number);
	else if (strcmp(step, "report") == 0)
		report(facts, room);
	else
		return false;
	if (err != 0)
		snprintf(facts, room, "%s=%s", step, word(err));
	return true;
}

/* What an end answers with. */
struct answer {
	uint64_t wrote, took;
	bool good, known;
	char facts[512];
};

static void end_run(int control, int ns)
{
	char step[STEP_MAX];
	ssize_t n;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) /* nobody plays on alone */
		die("prctl");
	if (setns(ns, CLONE_NEWNET) < 0)
		die("setns");
	while ((n = recv(control, step, sizeof step - 1, 0)) > 0) {
		struct answer a = {.facts = ""};
		char *number;

		step[n] = '\0';
		if (strcmp(step, "exit") == 0)
			_exit(0);
		number = strchr(step, ':');
		if (number != NULL)
			*number++ = '\0';
		alarm(limit());
		a.known = act(step, number != NULL ? atoi(number) : 0, a.facts, sizeof a.facts);
		alarm(0);
		a.wrote = end.wrote;
		a.took = end.took;
		a.good = end.good;
		if (send(control, &a, sizeof a, MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/* ---- the director ---- */

struct player {
	char name; /* c, s */
	pid_t pid; /* 0: it has ended */
	int control;
	struct answer last;
};

static void player_start(struct player *p, char name, enum ask_first first)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	fflush(stdout);
	*p = (struct player){.name = name, .control = pair[0], .pid = fork()};
	if (p->pid < 0)
		die("fork");
	if (p->pid == 0) {
		close(pair[0]);
		end.first = first;
		end_run(pair[1], netns[name == 's']);
	}
	close(pair[1]);
}

static void player_end(struct player *p, int signal)
{
	if (p->pid == 0)
		return;
	if (signal != 0)
		kill(p->pid, signal);
	waitpid(p->pid, NULL, 0);
	p->pid = 0;
	close(p->control);
}

struct line {
	char text[FACTS_MAX];
	size_t len;
};

static void add(struct line *l, const char *text)
{
	int n = snprintf(l->text + l->len, sizeof l->text - l->len, "%s%s", l->len > 0 ? " " : "",
			 text);

	l->len += (size_t)n;
	if (l->len >= sizeof l->text)
		die("a line of facts is too long");
}

static void add_fact(struct line *l, const struct player *p, const char *fact)
{
	char text[600];

	snprintf(text, sizeof text, "%c.%s", p->name, fact);
	add(l, text);
}

/* How much of what the other end wrote has come. */
static void add_share(struct line *l, const struct player *p, const struct player *other,
		      bool prefix)
{
	const char *share = "part";

	if (!p->last.good || p->last.took > other->last.wrote)
		share = "wrong";
	else if (prefix)
		share = "prefix";
	else if (p->last.took == other->last.wrote)
		share = "all";
	add_fact(l, p, share);
}

/* False when the play cannot go on. */
static bool play_step(struct player *p, const struct player *other, const char *step,
		      struct line *l)
{
	char text[STEP_MAX + 20];

	if (strcmp(step, "kill") == 0) {
		player_end(p, SIGKILL);
		return true;
	}
	if (p->pid == 0 || send(p->control, step, strlen(step), MSG_NOSIGNAL) < 0)
		die("a step of an end that is gone");
	if (strcmp(step, "exit") == 0) {
		player_end(p, 0);
		return true;
	}
	if (recv(p->control, &p->last, sizeof p->last, 0) != sizeof p->last) {
		snprintf(text, sizeof text, "%s hangs", step);
		add_fact(l, p, text);
		return false;
	}
	if (!p->last.known) {
		fprintf(stderr, "closes: no step %s\n", step);
		exit(2);
	}
	if (p->last.facts[0] != '\0')
		add_fact(l, p, p->last.facts);
	if (strcmp(step, "drain") == 0 || strcmp(step, "prefix") == 0)
		add_share(l, p, other, step[0] == 'p');
	return true;
}

/* Of a play that was broken off: the next one must not accept it. */
static void forget_waiting(void)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	while (poll(&p, 1, 0) > 0) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			close(fd);
	}
}

static void play(const char *script, enum ask_first first, struct line *l)
{
	struct player c, s;
	char steps[FACTS_MAX], *rest = NULL;
	bool on = true;

	snprintf(steps, sizeof steps, "%s", script);
	player_start(&c, 'c', first);
	player_start(&s, 's', first);
	for (char *step = strtok_r(steps, " ", &rest); step != NULL && on;
	     step = strtok_r(NULL, " ", &rest)) {
		bool client = step[0] == 'c';

		if (strcmp(step, "open") == 0)
			on = play_step(&c, &s, "connect", l) && play_step(&s, &c, "accept", l);
		else if ((client || step[0] == 's') && step[1] == '.')
			on = play_step(client ? &c : &s, client ? &s : &c, step + 2, l);
		else
			die(step);
	}
	player_end(&c, SIGKILL);
	player_end(&s, SIGKILL);
	forget_waiting();
}

static int enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(path);
	return fd;
}

static void listen_there(void)
{
	int on = 1;

	listener = socket(to.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (const struct sockaddr *)&to.sa, to.len) < 0)
		die("bind");
	if (listen(listener, 16) < 0)
		die("listen");
}

int main(int argc, char **argv)
{
	char script[FACTS_MAX];

	if (argc != 5) {
		fprintf(stderr, "usage: closes CLIENT-NETNS SERVER-NETNS ADDRESS PORT <scripts\n");
		return 2;
	}
	to = name_parse(argv[3], (uint16_t)atoi(argv[4]));
	netns[0] = enter(argv[1]);
	netns[1] = enter(argv[2]);
	listen_there();
	while (fgets(script, sizeof script, stdin) != NULL) {
		bool reports = strstr(script, "report") != NULL;
		struct line l = {.len = 0};

		script[strcspn(script, "\n")] = '\0';
		for (int first = 0; first < (reports ? ASK_WAYS : 1); first++) {
			if (reports)
				add(&l, first == 0   ? "read:"
					: first == 1 ? "| write:"
						     : "| error:");
			play(script, (enum ask_first)first, &l);
		}
		puts(l.text);
		fflush(stdout);
	}
	return 0;
}
