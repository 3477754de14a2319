/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate [OPTIONS] ADDRESS:PORT: asks, and says what came of it as one line of JSON.
 *
 *   -c N   connections (1)             -p PATH  to ask for (/)
 *   -d S   seconds to measure (1)      -x N     the status that is expected (200)
 *   -w S   seconds before them (0)     -l N     the length that is expected (any)
 *   -n N   requests, then end          -s IP    the clients' own address
 *   -r N   open loop: requests per second, however fast the answers come
 *   -k 0   a connection for each request, which the server closes first
 *   -i     a burst for every line of standard input, which says its seconds; connections are
 *          kept from one to the next, and each burst has a line of its own
 *
 * Closed loop: each connection asks when it has its answer. Open loop: each request is due at a
 * time, goes to a connection that is free, and its latency counts from when it was due; one that
 * began more than a millisecond later is late. Between two requests the program sleeps: it may
 * share its core with the server. "requests" are all, "measured" those that began after the
 * warm-up; every request that was begun is waited for.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "test/bench/histogram.h"
#include "test/bench/sock.h"

#define SECOND UINT64_C(1000000000)
#define LATE 1000000 /* ns */
#define PATIENCE (10 * SECOND) /* for the last answers */
#define ERRORS_MAX 100
#define EVENTS 256

struct client {
	struct client *next_idle;
	int fd; /* -1: to be dialled */
	bool asking; /* a request was begun, and its answer is not whole */
	bool answered; /* it is, and the server's FIN is to come */
	uint64_t due;
	struct answer answer;
};

static struct {
	unsigned connections;
	double seconds, warmup;
	uint64_t limit; /* requests; 0: by time */
	double rate;
	bool keep;
	bool bursts;
	const char *path;
	unsigned status;
	int64_t length; /* -1: any */
	struct sockaddr_in to, from;
	bool has_from;
} want = {.connections = 1, .seconds = 1, .keep = true, .path = "/", .status = 200, .length = -1};

static char request[512];
static size_t request_len;
static char buffer[256 * 1024];

static int loop;
static struct client *idle;
static unsigned busy;
static uint64_t start, end, next_due, gap;
static uint64_t begun, done, measured, errors, late, dials, bytes, last_done;
static struct histogram latency;

static void client_rest(struct client *c)
{
	c->asking = c->answered = false;
	c->next_idle = idle;
	idle = c;
	busy--;
}

static void client_drop(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void client_fail(struct client *c)
{
	errors++;
	client_drop(c);
	client_rest(c);
}

static void client_done(struct client *c)
{
	uint64_t now = now_ns();

	done++;
	last_done = now;
	if (c->due >= start) {
		measured++;
		histogram_add(&latency, now - c->due);
	}
	client_rest(c);
}

/* The request is small: it leaves whole, or not at all while the connection is not there yet. */
static void client_send(struct client *c, bool waited)
{
	ssize_t n = send(c->fd, request, request_len, MSG_NOSIGNAL);

	if (n == (ssize_t)request_len) {
		if (waited)
			loop_change(loop, c->fd, EPOLLIN, c);
	} else if (n < 0 && errno == EAGAIN && !waited) {
		loop_change(loop, c->fd, EPOLLOUT, c);
	} else {
		client_fail(c);
	}
}

static void client_begin(struct client *c, uint64_t due)
{
	c->due = due;
	c->asking = true;
	busy++;
	begun++;
	answer_begin(&c->answer);
	if (c->fd < 0) {
		c->fd = dial(&want.to, want.has_from ? &want.from : NULL);
		if (c->fd < 0) {
			client_fail(c);
			return;
		}
		dials++;
		loop_watch(loop, c->fd, EPOLLIN, c);
	}
	client_send(c, false);
}

static bool is_expected(const struct answer *a)
{
	return a->status == want.status && (want.length < 0 || a->length == (uint64_t)want.length);
}

static void client_read(struct client *c)
{
	ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
	int whole;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n == 0 && c->answered) { /* the server closed first, as it was asked to */
		client_drop(c);
		client_done(c);
		return;
	}
	if (n <= 0 || !c->asking || c->answered) {
		if (c->asking)
			client_fail(c);
		else
			client_drop(c);
		return;
	}
	bytes += (uint64_t)n;
	whole = answer_take(&c->answer, buffer, (size_t)n);
	if (whole < 0 || (whole > 0 && !is_expected(&c->answer)))
		client_fail(c);
	else if (whole > 0 && want.keep)
		client_done(c);
	else
		c->answered = whole > 0;
}

/* Nothing more is to be begun. */
static bool is_over(uint64_t now)
{
	if (errors > ERRORS_MAX)
		return true;
	if (want.limit > 0)
		return begun >= want.limit;
	return (gap > 0 ? next_due : now) >= end;
}

/* Gives those who are free what is due. */
static void deal(void)
{
	uint64_t now = now_ns();

	while (idle != NULL && !is_over(now) && (gap == 0 || next_due <= now)) {
		struct client *c = idle;

		idle = c->next_idle;
		late += gap > 0 && now - next_due > LATE;
		client_begin(c, gap > 0 ? next_due : now);
		next_due += gap;
	}
}

/* How long to sleep for: until the next is due, if there is somebody to take it. */
static struct timespec pause_until(uint64_t now)
{
	uint64_t until = end + PATIENCE, ns;

	if (gap > 0 && idle != NULL && !is_over(now))
		until = next_due;
	ns = until > now ? until - now : 0;
	return (struct timespec){(time_t)(ns / SECOND), (long)(ns % SECOND)};
}

static void reset(void)
{
	begun = done = measured = errors = late = dials = bytes = last_done = 0;
	latency = (struct histogram){0};
}

static void run(void)
{
	struct epoll_event events[EVENTS];
	uint64_t now = now_ns();

	reset();
	start = now + (uint64_t)(want.warmup * (double)SECOND);
	end = start + (uint64_t)(want.seconds * (double)SECOND);
	next_due = now;
	gap = want.rate > 0 ? (uint64_t)((double)SECOND / want.rate) : 0;
	deal();
	while (busy > 0 || !is_over(now)) {
		struct timespec pause = pause_until(now);
		int n = epoll_pwait2(loop, events, EVENTS, &pause, NULL);

		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				client_send(c, true);
			else
				client_read(c);
		}
		deal();
		now = now_ns();
		if (want.limit == 0 && now > end + PATIENCE)
			break;
	}
	errors += busy;
}

static void say(void)
{
	double seconds = (double)(last_done > start ? last_done - start : 0) / 1e9;
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	printf("{\"requests\":%llu,\"measured\":%llu,\"errors\":%llu,\"late\":%llu,"
	       "\"dials\":%llu,\"bytes\":%llu,\"seconds\":%.6f,\"rate\":%.1f,",
	       (unsigned long long)done, (unsigned long long)measured, (unsigned long long)errors,
	       (unsigned long long)late, (unsigned long long)dials, (unsigned long long)bytes,
	       seconds, seconds > 0 ? (double)measured / seconds : 0);
	printf("\"p50_us\":%.2f,\"p99_us\":%.2f,\"cpu_ns\":%lld}\n", /* CPU since it began */
	       (double)histogram_quantile(&latency, 0.5) / 1e3,
	       (double)histogram_quantile(&latency, 0.99) / 1e3,
	       (long long)cpu.tv_sec * 1000000000 + cpu.tv_nsec);
}

static void parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "c:d:w:n:r:k:p:x:l:s:i")) >= 0) {
		switch (option) {
		case 'c':
			want.connections = (unsigned)atoi(optarg);
			break;
		case 'd':
			want.seconds = atof(optarg);
			break;
		case 'w':
			want.warmup = atof(optarg);
			break;
		case 'n':
			want.limit = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			want.rate = atof(optarg);
			break;
		case 'k':
			want.keep = atoi(optarg) != 0;
			break;
		case 'i':
			want.bursts = true;
			break;
		case 'p':
			want.path = optarg;
			break;
		case 'x':
			want.status = (unsigned)atoi(optarg);
			break;
		case 'l':
			want.length = atoll(optarg);
			break;
		case 's':
			want.from = address_of(optarg);
			want.has_from = true;
			break;
		default:
			exit(2);
		}
	}
	if (optind != argc - 1)
		exit(2);
	want.to = address_of(argv[optind]);
}

int main(int argc, char **argv)
{
	char line[32];

	parse(argc, argv);
	request_len = (size_t)snprintf(request, sizeof request,
				       "GET %s HTTP/1.1\r\nHost: server\r\n%s\r\n", want.path,
				       want.keep ? "" : "Connection: close\r\n");
	descriptors_raise();
	prctl(PR_SET_TIMERSLACK, 1); /* ns: the open loop sleeps until the next is due */
	loop = loop_new();
	for (unsigned i = 0; i < want.connections; i++) {
		struct client *c = calloc(1, sizeof *c);

		if (c == NULL)
			die("calloc");
		c->fd = -1;
		busy++;
		client_rest(c);
	}
	while (want.bursts && fgets(line, sizeof line, stdin) != NULL) {
		want.seconds = atof(line);
		run();
		say();
		fflush(stdout);
	}
	if (want.bursts)
		return 0;
	run();
	say();
	return errors > 0;
}
