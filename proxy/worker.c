/* SPDX-License-Identifier: Apache-2.0 */
/* One thread = one epoll + one uv loop: see worker.h. */
#include "proxy/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proxy/exchange.h"
#include "proxy/log.h"
#include "proxy/privilege.h"

#define LINGER_MS 2000
#define BODY_LOOK_MS 5000
#define IDLE_MS 10
#define DESCRIPTORS_OF_OTHERS 1000 /* but no more than half of all */
#define SHARE_OF_FREE 7 /* times the free connections: what one workload may have */

struct view *view_new(struct policy *policy, struct directory *directory,
		      const struct options *options)
{
	static _Atomic uint64_t serials;
	struct view *v = calloc(1, sizeof *v);

	if (v == NULL)
		return NULL;
	v->serial = ++serials;
	atomic_init(&v->refs, 1);
	v->policy = policy_ref(policy);
	v->directory = directory_ref(directory);
	v->options = *options;
	return v;
}

struct view *view_ref(struct view *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

void view_unref(struct view *v)
{
	if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	policy_unref(v->policy);
	directory_unref(v->directory);
	free(v);
}

void worker_post(struct worker *w, struct work *work)
{
	pthread_mutex_lock(&w->lock);
	list_append(&w->inbox, &work->link);
	pthread_mutex_unlock(&w->lock);
	uv_async_send(&w->async);
}

static void inbox_read(uv_async_t *async)
{
	struct worker *w = container_of(async, struct worker, async);
	struct list works;

	list_init(&works);
	pthread_mutex_lock(&w->lock);
	list_splice(&works, &w->inbox);
	pthread_mutex_unlock(&w->lock);
	while (!list_empty(&works)) {
		struct work *work = container_of(works.next, struct work, link);

		list_remove(&work->link);
		work->run(w, work);
	}
}

/* The worker waits on its own epoll, in which uv's is one more descriptor: the other way
 * round EPOLLEXCLUSIVE would wake every worker. uv registers lazily and keeps its own time,
 * so it runs after every wait that it may have something from. */
static void worker_loop(struct worker *w)
{
	uv_run(&w->uv, UV_RUN_NOWAIT);
	while (!w->stop) {
		int timeout = uv_backend_timeout(&w->uv);
		int foreign = io_loop_wait(&w->io, timeout);

		if (foreign < 0) {
			log_errx("worker %u: epoll_wait: %s", w->index, strerror(-foreign));
			abort();
		}
		uv_update_time(&w->uv);
		io_loop_round(&w->io);
		if (foreign || uv_backend_timeout(&w->uv) == 0)
			uv_run(&w->uv, UV_RUN_NOWAIT);
	}
}

static void worker_end(struct worker *w)
{
	deadline_queue_close(&w->connect_limit);
	deadline_queue_close(&w->response_limit);
	deadline_queue_close(&w->head_limit);
	deadline_queue_close(&w->body_limit);
	deadline_queue_close(&w->linger_limit);
	deadline_queue_close(&w->idle_limit);
	uv_close((uv_handle_t *)&w->pause, NULL);
	uv_close((uv_handle_t *)&w->async, NULL);
	uv_run(&w->uv, UV_RUN_DEFAULT);
	io_loop_close(&w->io);
	uv_loop_close(&w->uv);
	slab_drop(&w->exchanges);
	pool_drop(&w->pool);
	policy_scratch_free(w->scratch);
	view_unref(w->view);
	free(w->free_dials);
	close(w->reserve);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	pthread_setname_np(pthread_self(), "shunt-worker");
	privilege_keep(PRIVILEGE_WORKER);
	worker_loop(w);
	worker_end(w);
	return NULL;
}

static int dials_share_out(struct worker *w)
{
	w->dial_share = w->node->dial_count / w->node->worker_count;
	w->free_dials = calloc(w->dial_share, sizeof *w->free_dials);
	if (w->free_dials == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->dial_share; i++)
		w->free_dials[i] = w->index * w->dial_share + i;
	w->free_dial_count = w->dial_share;
	return 0;
}

static int timers_init(struct worker *w, const struct options *options)
{
	int err = uv_timer_init(&w->uv, &w->pause);

	if (err == 0)
		err = deadline_queue_init(&w->connect_limit, &w->uv, options->connect_timeout);
	if (err == 0)
		err = deadline_queue_init(&w->response_limit, &w->uv, options->response_timeout);
	if (err == 0)
		err = deadline_queue_init(&w->head_limit, &w->uv, options->head_timeout);
	if (err == 0)
		err = deadline_queue_init(&w->body_limit, &w->uv, BODY_LOOK_MS);
	if (err == 0)
		err = deadline_queue_init(&w->linger_limit, &w->uv, LINGER_MS);
	if (err == 0)
		err = deadline_queue_init(&w->idle_limit, &w->uv, IDLE_MS);
	return err;
}

static int worker_init(struct worker *w, struct view *view, struct access_log *log)
{
	int err;

	list_init(&w->inbox);
	pthread_mutex_init(&w->lock, NULL);
	w->exchanges = (struct slab){.size = sizeof(struct exchange), .zeroed = EXCHANGE_ZEROED};
	w->view = view_ref(view);
	w->log = access_log_writer(log);
	w->scratch = policy_scratch_new();
	if (w->log == NULL || w->scratch == NULL)
		return -ENOMEM;
	err = dials_share_out(w);
	if (err < 0)
		return err;
	w->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	err = uv_loop_init(&w->uv);
	if (err == 0)
		err = io_loop_init(&w->io);
	if (err == 0)
		err = uv_async_init(&w->uv, &w->async, inbox_read);
	if (err == 0)
		err = timers_init(w, &view->options);
	if (err == 0)
		err = io_loop_watch_foreign(&w->io, uv_backend_fd(&w->uv));
	return err;
}

/* Each is two descriptors; the rest of the daemon has its own, listeners and sockets for dialling
 * in every workload above all. */
static unsigned conns_max(void)
{
	struct rlimit limit;
	rlim_t all, others;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return UINT_MAX;
	all = limit.rlim_cur < UINT_MAX ? limit.rlim_cur : UINT_MAX;
	others = all / 2 < DESCRIPTORS_OF_OTHERS ? all / 2 : DESCRIPTORS_OF_OTHERS;
	return (unsigned)((all - others) / 2);
}

int workers_start(struct node *node, struct view *view, struct access_log *log)
{
	int err = 0;

	node->conns_max = conns_max();
	node->workers = calloc(node->worker_count, sizeof *node->workers);
	if (node->workers == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < node->worker_count && err == 0; i++) {
		node->workers[i].index = i;
		node->workers[i].node = node;
		err = worker_init(&node->workers[i], view, log);
	}
	for (unsigned i = 0; i < node->worker_count && err == 0; i++)
		err = -pthread_create(&node->workers[i].thread, NULL, worker_main,
				      &node->workers[i]);
	return err; /* only start-up fails here, and the process ends with it */
}

struct call {
	struct work work;
	struct gathering *gathering;
};

struct gathering {
	void (*fn)(struct worker *w, void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t all;
	unsigned left;
};

static void call_run(struct worker *w, struct work *work)
{
	struct call *call = container_of(work, struct call, work);
	struct gathering *g = call->gathering;

	g->fn(w, g->arg);
	pthread_mutex_lock(&g->lock);
	g->left--;
	pthread_cond_signal(&g->all);
	pthread_mutex_unlock(&g->lock);
}

void workers_call(struct node *node, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct gathering g = {
		.fn = fn,
		.arg = arg,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.all = PTHREAD_COND_INITIALIZER,
		.left = node->worker_count,
	};
	struct call calls[node->worker_count];

	for (unsigned i = 0; i < node->worker_count; i++) {
		calls[i] = (struct call){.work.run = call_run, .gathering = &g};
		worker_post(&node->workers[i], &calls[i].work);
	}
	pthread_mutex_lock(&g.lock);
	while (g.left > 0)
		pthread_cond_wait(&g.all, &g.lock);
	pthread_mutex_unlock(&g.lock);
}

static void worker_stop(struct worker *w, void *arg)
{
	(void)arg;
	w->stop = true;
}

uint64_t node_conns(const struct node *node)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < node->worker_count; i++)
		n += atomic_load_explicit(&node->workers[i].conns, memory_order_relaxed);
	return n;
}

void worker_count_conns(struct worker *w, uint32_t workload, int n)
{
	atomic_fetch_add_explicit(&w->conns, (unsigned)n, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->node->used[workload].conns, (unsigned)n,
				  memory_order_relaxed);
}

uint64_t node_heads(const struct node *node)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < WORKLOADS_MAX; i++)
		n += atomic_load_explicit(&node->used[i].heads, memory_order_relaxed);
	return n;
}

uint64_t node_buffered(const struct node *node)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < WORKLOADS_MAX; i++)
		n += atomic_load_explicit(&node->used[i].buffered, memory_order_relaxed);
	return n;
}

uint64_t node_held_back(const struct node *node)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < node->worker_count; i++)
		n += atomic_load_explicit(&node->workers[i].held_back, memory_order_relaxed);
	return n;
}

struct usage *seat_usage(const struct seat *seat)
{
	return &seat->worker->node->used[seat->enrolled->index];
}

bool seat_is_full(const struct seat *seat)
{
	return atomic_load_explicit(&seat_usage(seat)->buffered, memory_order_relaxed) >=
	       seat->worker->view->options.buffer_per_workload;
}

enum reason node_refuses(const struct node *node, uint32_t workload)
{
	uint64_t all = node_conns(node);
	uint64_t own = atomic_load_explicit(&node->used[workload].conns, memory_order_relaxed);

	if (all >= node->conns_max)
		return REASON_NO_DESCRIPTORS;
	return own < SHARE_OF_FREE * (node->conns_max - all) ? REASON_NONE
							     : REASON_CONNECTIONS_QUOTA;
}

void workers_stop(struct node *node)
{
	workers_call(node, worker_stop, NULL);
	for (unsigned i = 0; i < node->worker_count; i++)
		pthread_join(node->workers[i].thread, NULL);
	free(node->workers);
}
