/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread = one epoll + one uv loop. Nothing is shared with other workers but the view
 * (immutable), the slots and dials (each entry has one owner at a time) and the listeners.
 * After hand-over a connection lives and dies on one worker.
 */
#ifndef SHUNT_WORKER_H
#define SHUNT_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "bpf/reason.h"
#include "config/snapshot.h"
#include "proxy/access_log.h"
#include "proxy/codec/pool.h"
#include "proxy/deadline.h"
#include "proxy/enrolled.h"
#include "proxy/identity.h"
#include "proxy/io.h"
#include "proxy/listener.h"
#include "proxy/slab.h"

#define WORKER_READ_SIZE IO_MOVE_MAX /* the most that a codec is fed at once */

/* What a worker judges by. Immutable, counted; swapped between two rounds. */
struct view {
	atomic_uint refs;
	uint64_t serial; /* of no other view, ever */
	struct policy *policy;
	struct directory *directory;
	struct options options;
};
struct view *view_new(struct policy *policy, struct directory *directory,
		      const struct options *options); /* takes references; NULL: no memory */
struct view *view_ref(struct view *v);
void view_unref(struct view *v); /* NULL is allowed */

/* A workload's place in one worker. */
struct seat {
	struct worker *worker;
	const struct enrolled *enrolled;
	struct share share;
	struct listener listeners[LISTENER_KINDS];
	struct list conns;
	struct list heads; /* of conns, those inside a head; the one that began first is first */
	struct list orphans; /* sockets of connections that are over: orphan.h */
	struct later later;
};

/* Something to be done on a worker's thread. The poster's until run() is called. */
struct work {
	struct list link;
	void (*run)(struct worker *w, struct work *work);
};

/* What a workload has of the daemon now, in all workers together. */
struct usage {
	atomic_uint conns; /* downstream connections */
	atomic_uint heads; /* of requests: begun and not finished */
	atomic_size_t buffered; /* bytes in user memory: heads, held back, not yet written */
};

/* What all workers of the daemon share. */
struct node {
	struct worker *workers;
	unsigned worker_count;
	unsigned conns_max; /* downstream connections of all workers together */
	struct usage used[WORKLOADS_MAX]; /* by index of the workload */
	struct slot *slots; /* kernel's, mapped */
	uint32_t slot_count;
	struct workload *workloads; /* kernel's, mapped, by index */
	struct globals *globals; /* kernel's, mapped */
	struct dial *dials; /* kernel's, mapped */
	uint32_t dial_count;
};

struct worker {
	unsigned index;
	struct node *node;
	pthread_t thread;
	uv_loop_t uv;
	uv_async_t async; /* the inbox has something */
	struct io_loop io;
	pthread_mutex_t lock; /* of the inbox */
	struct list inbox;
	bool stop;
	bool draining; /* connections are to end with their next answer */

	struct view *view;
	struct access_log_writer *log;
	uint64_t wall_offset; /* of the wall clock to io_now(), ns; good until wall_until */
	uint64_t wall_until;
	struct policy_scratch *scratch; /* what requests are judged with */
	struct deadline_queue connect_limit;
	struct deadline_queue response_limit; /* length 0: there is none */
	struct deadline_queue head_limit;
	struct deadline_queue body_limit; /* how often the rate of a body is looked at */
	struct deadline_queue linger_limit;
	struct deadline_queue idle_limit; /* how long memory waits for the next request */
	uv_timer_t pause; /* paused listeners try again */
	uint64_t complained; /* of accept(): ms, uv_now() */
	struct slab exchanges;
	struct pool pool; /* of the codecs */
	struct seat *seats[WORKLOADS_MAX]; /* by index of the workload */
	uint32_t *free_dials; /* ring of this worker's own numbers, dial_share long */
	uint32_t dial_share;
	uint32_t free_dial_first;
	uint32_t free_dial_count;
	int reserve; /* a descriptor kept for refusing when there are none */
	uint64_t next_conn;
	atomic_uint conns; /* open downstream connections; others read it for the hand-over */
	atomic_ulong held_back; /* turns that left bytes unread while buffers were full */
	char buffer[WORKER_READ_SIZE];
};

/* Starts node->worker_count threads. Returns 0 or -errno. */
__attribute__((warn_unused_result)) int workers_start(struct node *node, struct view *view,
						      struct access_log *log);
/* Ends every connection (REASON_SHUTDOWN) and the threads. */
void workers_stop(struct node *node);

/* How many downstream connections are open, of all workers. Any thread. */
uint64_t node_conns(const struct node *node);

/* `n` more (-1: one less) of this workload are open, on this worker. Any thread. */
void worker_count_conns(struct worker *w, uint32_t workload, int n);

/* Sums of struct usage. Any thread. */
uint64_t node_heads(const struct node *node);
uint64_t node_buffered(const struct node *node);
uint64_t node_held_back(const struct node *node); /* of struct worker */

/* Why this workload may not open one more now, or NONE. It may while its own are fewer than seven
 * times those that nobody has: alone it gets 7/8 of all, two greedy ones leave 1/15, and whoever
 * comes finds room. Asked before the connection is counted: workers that ask at the same moment
 * may go beyond, each by one. Any thread. */
enum reason node_refuses(const struct node *node, uint32_t workload);

/* What its workload has, of all workers. */
struct usage *seat_usage(const struct seat *seat);
/* Its buffers are full, by bufferPerWorkload. Worker's thread. */
bool seat_is_full(const struct seat *seat);

/* Any thread. */
void worker_post(struct worker *w, struct work *work);

/* Runs fn(worker, arg) on every worker's thread and waits for the last. Control thread. */
void workers_call(struct node *node, void (*fn)(struct worker *w, void *arg), void *arg);

#endif
