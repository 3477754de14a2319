/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log thread: takes records out of the writers' rings, tells the metrics, keeps the last ones
 * and writes lines to the file in batches. Subscribers read along: each has its place in the kept
 * records, renders its own lines, and loses what leaves them. Without file and subscriber
 * nothing is rendered.
 */
#define _GNU_SOURCE 1
#include "proxy/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/cgroup.h"
#include "proxy/history.h"
#include "proxy/log.h"
#include "proxy/metrics.h"
#include "proxy/privilege.h"
#include "proxy/ring.h"

#define NEAR_BYTES (128U << 10)
#define FAR_BYTES (1U << 20)
#define BATCH_BYTES (16U << 10)
#define QUOTA 256U /* records of one writer before the next has its turn */
#define NAP_MS 10
#define SUBSCRIBERS_MAX 64U
#define COMPLAIN_EVERY 60 /* seconds */

/* What the log thread does. A writer makes a system call only to end ASLEEP, or a nap
 * when its ring fills up. */
enum thread_state {
	AWAKE,
	NAPPING, /* there was something a moment ago: looks again after NAP_MS by itself */
	ASLEEP,
};

struct subscriber {
	struct subscriber *next;
	int fd;
	bool follow;
	uint64_t at; /* number of the next line */
	uint64_t end; /* without follow: the number to stop at */
	uint64_t lost;
	struct text line; /* of which `done` bytes have left */
	size_t done;
};

/* Records go through the near ring, which stays in the cache that the requests need too; through
 * the far one from when that is full until it is itself empty, so that they keep their order. */
struct access_log_writer {
	struct access_log_writer *next;
	struct access_log *log;
	struct ring *near, *far;
	uint64_t lost; /* since the last record that found room; the writer's */
};

struct access_log {
	pthread_t thread;
	int wake; /* eventfd */
	_Atomic int state; /* enum thread_state */
	_Atomic bool stop;
	_Atomic uint64_t dropped;
	struct metrics *metrics;
	char *node;

	pthread_mutex_t lock; /* of what other threads hand over: */
	struct access_log_writer *writers;
	struct subscriber *arrived;
	bool reopened;
	int next_fd;

	/* the log thread's own */
	int fd; /* -1: no file */
	bool torn; /* the file ends inside a line */
	time_t complained;
	struct text batch; /* lines that the file has not got yet */
	struct history *kept;
	struct subscriber *subscribers;
	unsigned subscriber_count;
};

/* --- the writers' side --- */

static void wake(struct access_log *log)
{
	if (write(log->wake, &(uint64_t){1}, sizeof(uint64_t)) < 0) {
		/* EAGAIN: it is full of wakes already */
	}
}

static void wake_if_needed(struct access_log_writer *w)
{
	struct access_log *log = w->log;
	int state = atomic_load(&log->state);

	if (state == AWAKE || (state == NAPPING && ring_empty(w->far) && !ring_crowded(w->near)))
		return;
	if (atomic_compare_exchange_strong(&log->state, &state, AWAKE))
		wake(log);
}

static void writer_free(struct access_log_writer *w)
{
	ring_free(w->near);
	ring_free(w->far);
	free(w);
}

struct access_log_writer *access_log_writer(struct access_log *log)
{
	struct access_log_writer *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->log = log;
	w->near = ring_new(NEAR_BYTES);
	w->far = ring_new(FAR_BYTES);
	if (w->near == NULL || w->far == NULL) {
		writer_free(w);
		return NULL;
	}
	pthread_mutex_lock(&log->lock);
	w->next = log->writers;
	log->writers = w;
	pthread_mutex_unlock(&log->lock);
	return w;
}

void access_log_write(struct access_log_writer *w, struct record *r)
{
	size_t size = record_size(r);
	struct ring *ring = ring_empty(w->far) ? w->near : w->far;
	char *to = ring_reserve(ring, size);

	if (to == NULL && ring == w->near) {
		ring = w->far;
		to = ring_reserve(ring, size);
	}
	if (to == NULL) {
		w->lost++;
		atomic_fetch_add_explicit(&w->log->dropped, 1, memory_order_relaxed);
		wake_if_needed(w);
		return;
	}
	r->drop_count += w->lost;
	record_pack(r, to);
	if (r->type != RECORD_OPENED) /* it has no line that could say so */
		w->lost = 0;
	ring_commit(ring, size);
	wake_if_needed(w);
}

/* --- the file --- */

static int file_open(const char *path)
{
	int fd;

	if (path == NULL || *path == '\0')
		return -1;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	return fd >= 0 ? fd : -errno - 1; /* apart from -1: no file */
}

/* Turns what file_open() said into 0 or -errno. */
static int file_error(int fd)
{
	return fd < -1 ? fd + 1 : 0;
}

/* Was its last writer killed inside a line? By a descriptor of its own: ours cannot read. */
static bool file_is_torn(int fd)
{
	char path[64], last = '\n';
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return false;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (pread(fd, &last, 1, st.st_size - 1) < 0)
		last = '\n';
	close(fd);
	return last != '\n';
}

int access_log_reopen(struct access_log *log, const char *path)
{
	int fd = file_open(path);

	if (file_error(fd) < 0)
		return file_error(fd);
	pthread_mutex_lock(&log->lock);
	if (log->reopened && log->next_fd >= 0)
		close(log->next_fd);
	log->next_fd = fd;
	log->reopened = true;
	pthread_mutex_unlock(&log->lock);
	wake(log);
	return 0;
}

static void file_complain(struct access_log *log, int err, unsigned lines)
{
	struct timespec now;

	atomic_fetch_add_explicit(&log->dropped, lines, memory_order_relaxed);
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (log->complained != 0 && now.tv_sec - log->complained < COMPLAIN_EVERY)
		return;
	log->complained = now.tv_sec;
	errno = err;
	log_warn("access log: lines are lost (said once a minute)");
}

/* Writes all of *rest, or leaves in it what the file does not take and returns false. */
static bool file_write(struct access_log *log, struct slice *rest)
{
	ssize_t n;

	while (rest->len > 0) {
		n = write(log->fd, rest->p, rest->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		log->torn = rest->p[n - 1] != '\n';
		rest->p += n;
		rest->len -= (size_t)n;
	}
	return true;
}

static unsigned count_lines(struct slice s)
{
	unsigned lines = 0;

	for (size_t i = 0; i < s.len; i++)
		lines += s.p[i] == '\n';
	return lines;
}

/* A full disk may take half a line: what follows it begins a new one. */
static void file_flush(struct access_log *log)
{
	struct slice newline = {"\n", log->torn ? 1 : 0};
	struct slice lines = {log->batch.p, log->batch.len};

	if (lines.len > 0 && (!file_write(log, &newline) || !file_write(log, &lines)))
		file_complain(log, errno, count_lines(lines));
	log->batch.len = 0;
}

/* --- records --- */

/* Adds its line to `t`, or nothing and returns false: memory is short. */
static bool render(struct access_log *log, struct text *t, const struct record *r)
{
	size_t before = t->len;

	record_json(t, r, log->node);
	text_add_char(t, '\n');
	if (!text_failed(t))
		return true;
	t->failed = false; /* what was there before still is */
	t->len = before;
	return false;
}

/* As it was packed, but for the cgroup that it was given since. */
static void keep(struct access_log *log, const struct record *r, const void *packed, size_t len)
{
	bool changed = r->cgroup.len > 0;
	void *to = history_add(log->kept, changed ? record_size(r) : len);

	if (to != NULL && changed)
		record_pack(r, to);
	else if (to != NULL)
		memcpy(to, packed, len);
}

static void take_record(struct access_log *log, const void *from, size_t len)
{
	struct record r;

	if (!record_unpack(&r, from, len)) {
		log_errx("access log: a record of %zu bytes is not whole", len);
		return;
	}
	if (log->metrics != NULL)
		metrics_count(log->metrics, &r);
	if (r.type == RECORD_OPENED)
		return;
	if (r.cgroup_id != 0) /* here and not in the worker: it takes system calls */
		r.cgroup = cgroup_path(r.cgroup_id);
	keep(log, &r, from, len);
	if (log->fd < 0)
		return;
	if (!render(log, &log->batch, &r))
		atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
	if (log->batch.len >= BATCH_BYTES)
		file_flush(log);
}

static unsigned drain(struct access_log *log, const struct access_log_writer *w)
{
	const void *near, *far;
	size_t near_len, far_len;
	unsigned n;

	for (n = 0; n < QUOTA; n++) {
		/* In this order: what is in the near one is older than what was in the far one
		 * before, since nothing is added to the near one meanwhile. */
		far = ring_peek(w->far, &far_len);
		near = ring_peek(w->near, &near_len);
		if (near != NULL) {
			take_record(log, near, near_len);
			ring_consume(w->near);
		} else if (far != NULL) {
			take_record(log, far, far_len);
			ring_consume(w->far);
		} else {
			break;
		}
	}
	return n;
}

/* --- subscribers --- */

void access_log_subscribe(struct access_log *log, int fd, unsigned last, bool follow)
{
	struct subscriber *s = calloc(1, sizeof *s);

	if (s == NULL) {
		close(fd);
		return;
	}
	s->fd = fd;
	s->follow = follow;
	s->end = last; /* until the log thread knows better */
	pthread_mutex_lock(&log->lock);
	s->next = log->arrived;
	log->arrived = s;
	pthread_mutex_unlock(&log->lock);
	wake(log);
}

static void subscriber_free(struct subscriber *s)
{
	close(s->fd);
	text_free(&s->line);
	free(s);
}

static void subscriber_begin(struct access_log *log, struct subscriber *s)
{
	uint64_t next = history_next(log->kept), kept = next - history_first(log->kept);

	if (log->subscriber_count == SUBSCRIBERS_MAX) {
		log_warnx("access log: more than %u readers, one is refused", SUBSCRIBERS_MAX);
		subscriber_free(s);
		return;
	}
	s->at = next - (s->end < kept ? s->end : kept);
	s->end = next;
	s->next = log->subscribers;
	log->subscribers = s;
	log->subscriber_count++;
}

/* A line that stands for the records that left before they could be sent. */
static bool render_lost(struct subscriber *s)
{
	text_add(&s->line, "{\"type\":\"lost\",\"drop_count\":");
	text_add_number(&s->line, s->lost);
	text_add(&s->line, "}\n");
	if (!text_failed(&s->line)) {
		s->lost = 0;
		return true;
	}
	text_free(&s->line);
	return false;
}

/* Renders the line to send next; false when there is none now. */
static bool subscriber_next(struct access_log *log, struct subscriber *s)
{
	uint64_t end = s->follow ? history_next(log->kept) : s->end;
	uint64_t first = history_first(log->kept);
	struct record r;
	const void *p;
	size_t len;

	first = first < end ? first : end;
	if (s->at < first) {
		s->lost += first - s->at;
		s->at = first;
	}
	if (s->lost > 0)
		return render_lost(s);
	if (s->at == end)
		return false;
	p = history_get(log->kept, s->at, &len);
	if (!record_unpack(&r, p, len) || !render(log, &s->line, &r))
		return false;
	s->at++;
	return true;
}

/* Sends what the socket takes. False when the subscriber has all it asked for, or is gone. */
static bool subscriber_send(struct access_log *log, struct subscriber *s)
{
	ssize_t n;

	for (;;) {
		if (s->line.len == 0 && !subscriber_next(log, s))
			return s->follow || s->at < s->end;
		n = send(s->fd, s->line.p + s->done, s->line.len - s->done,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		s->done += (size_t)n;
		if (s->done == s->line.len)
			s->line.len = s->done = 0;
	}
}

static void subscribers_send(struct access_log *log)
{
	struct subscriber **at = &log->subscribers, *s;

	while ((s = *at) != NULL) {
		if (subscriber_send(log, s)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		log->subscriber_count--;
		subscriber_free(s);
	}
}

/* A reader has nothing to say: anything but "not now" means that it left. */
static void subscribers_check(struct access_log *log, const struct pollfd *polled)
{
	struct subscriber **at = &log->subscribers, *s;
	char byte;

	for (unsigned i = 0; (s = *at) != NULL; i++) {
		if ((polled[i].revents & ~POLLOUT) == 0 ||
		    (recv(s->fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		log->subscriber_count--;
		subscriber_free(s);
	}
}

/* --- the thread --- */

static void take_arrivals(struct access_log *log)
{
	struct subscriber *arrived, *s;
	bool reopened;
	int fd;

	pthread_mutex_lock(&log->lock);
	arrived = log->arrived;
	log->arrived = NULL;
	reopened = log->reopened;
	log->reopened = false;
	fd = log->next_fd;
	pthread_mutex_unlock(&log->lock);
	if (reopened) {
		if (log->fd >= 0)
			close(log->fd);
		log->fd = fd;
		log->torn = file_is_torn(fd);
	}
	while ((s = arrived) != NULL) {
		arrived = s->next;
		subscriber_begin(log, s);
	}
}

/* One round. Returns the most records that one writer gave. */
static unsigned work(struct access_log *log)
{
	struct access_log_writer *w;
	unsigned n, most = 0;

	take_arrivals(log);
	pthread_mutex_lock(&log->lock);
	w = log->writers; /* only grows, at its head */
	pthread_mutex_unlock(&log->lock);
	for (; w != NULL; w = w->next) {
		n = drain(log, w);
		most = n > most ? n : most;
	}
	file_flush(log);
	subscribers_send(log);
	return most;
}

/* Until a writer or a subscriber wants something, or the nap is over. */
static void wait_for_work(struct access_log *log, int timeout)
{
	struct pollfd fds[1 + SUBSCRIBERS_MAX];
	uint64_t wakes;
	nfds_t n = 1;

	fds[0] = (struct pollfd){.fd = log->wake, .events = POLLIN};
	for (struct subscriber *s = log->subscribers; s != NULL; s = s->next)
		fds[n++] = (struct pollfd){
			.fd = s->fd,
			.events = (short)(POLLIN | (s->line.len > 0 ? POLLOUT : 0)),
		};
	if (poll(fds, n, timeout) <= 0)
		return;
	if (fds[0].revents != 0 && read(log->wake, &wakes, sizeof wakes) < 0) {
		/* EAGAIN: nothing to take back */
	}
	subscribers_check(log, fds + 1);
}

static void *log_thread(void *arg)
{
	struct access_log *log = arg;
	unsigned most;
	bool stop;

	privilege_keep(PRIVILEGE_LOG);
	for (;;) {
		stop = atomic_load(&log->stop);
		most = work(log);
		if (most == 0 && stop)
			return NULL;
		if (most == QUOTA || stop)
			continue;
		if (most > 0) {
			atomic_store(&log->state, NAPPING);
			wait_for_work(log, NAP_MS);
		} else { /* say it, look once more, and only then rest: see ring_peek() */
			atomic_store(&log->state, ASLEEP);
			if (work(log) == 0)
				wait_for_work(log, -1);
		}
		atomic_store(&log->state, AWAKE);
	}
}

static int thread_start(struct access_log *log)
{
	sigset_t all, before;
	int err;

	sigfillset(&all); /* signals are the control thread's; a pipe without reader is EPIPE */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&log->thread, NULL, log_thread, log);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		pthread_setname_np(log->thread, "shunt-log");
	return -err;
}

static void log_free(struct access_log *log)
{
	if (log->fd >= 0)
		close(log->fd);
	if (log->wake >= 0)
		close(log->wake);
	pthread_mutex_destroy(&log->lock);
	text_free(&log->batch);
	history_free(log->kept);
	free(log->node);
	free(log);
}

int access_log_start(const char *path, const char *node, struct metrics *metrics,
		     struct access_log **out)
{
	struct access_log *log = calloc(1, sizeof *log);
	int err;

	if (log == NULL)
		return -ENOMEM;
	pthread_mutex_init(&log->lock, NULL);
	log->metrics = metrics;
	log->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = log->wake < 0 ? -errno : 0;
	log->fd = file_open(path);
	if (err == 0)
		err = file_error(log->fd);
	log->torn = file_is_torn(log->fd);
	log->node = strdup(node);
	log->kept = history_new();
	if (err == 0 && (log->node == NULL || log->kept == NULL))
		err = -ENOMEM;
	if (err == 0)
		err = thread_start(log);
	if (err < 0) {
		log_free(log);
		return err;
	}
	*out = log;
	return 0;
}

void access_log_stop(struct access_log *log)
{
	struct access_log_writer *w;
	struct subscriber *s;

	if (log == NULL)
		return;
	atomic_store(&log->stop, true);
	wake(log);
	pthread_join(log->thread, NULL);
	take_arrivals(log); /* who came too late, and a file that nobody opened */
	while ((s = log->subscribers) != NULL) {
		log->subscribers = s->next;
		subscriber_free(s);
	}
	while ((w = log->writers) != NULL) {
		log->writers = w->next;
		writer_free(w);
	}
	log_free(log);
}

uint64_t access_log_dropped(const struct access_log *log)
{
	return atomic_load_explicit(&log->dropped, memory_order_relaxed);
}
