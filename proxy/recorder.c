/* SPDX-License-Identifier: Apache-2.0 */
/* Fills records: see recorder.h. */
#include "proxy/recorder.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "proxy/exchange.h"
#include "proxy/upstream.h"

static struct slice slice_of(const char *s)
{
	return s ? (struct slice){s, strlen(s)} : (struct slice){NULL, 0};
}

static uint64_t wall_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* The wall clock at `at`, of io_now(): how far the two are apart is looked at once a second. */
static uint64_t wall_of(struct worker *w, uint64_t at, uint64_t now)
{
	if (now >= w->wall_until) {
		w->wall_offset = wall_now() - io_now();
		w->wall_until = now + UINT64_C(1000000000);
	}
	return at + w->wall_offset;
}

static struct record_end end_of(const struct endpoint *addr, const struct card *card)
{
	const struct card_names *names = card_names(card);

	return (struct record_end){
		.addr = *addr,
		.workload = names->workload,
		.namespace = names->namespace,
		.identity = names->identity,
		.app = names->app,
		.card = names->serial,
	};
}

/* What every record of this connection says. */
static void record_begin(struct record *r, const struct conn *c, enum record_type type)
{
	*r = (struct record){
		.type = type,
		.direction = c->origdst.direction,
		.src = end_of(&c->origdst.client, c->src.card),
		.dst = end_of(&c->origdst.dst, c->dst.card),
		.security = c->src.card && c->dst.card && c->dst.index != DIRECTORY_NOT_LOCAL &&
					    c->src.index != DIRECTORY_NOT_LOCAL
				    ? SECURITY_LOCAL
				    : SECURITY_PLAINTEXT,
		.worker = c->worker->index,
		.conn = c->id,
		.accel = slice_of("copy"),
		.accel_reason = slice_of(c->http ? "l7" : "off"),
	};
}

/* The clocks between `mark` and the hand of now. */
static void record_times(struct record *r, const struct conn *c, const uint64_t *mark,
			 uint64_t mark_at)
{
	for (int i = 0; i < CLOCK_COUNT; i++)
		r->t[i] = c->watch.ns[i] - (mark ? mark[i] : 0);
	r->start_time = wall_of(c->worker, mark_at, c->watch.since);
}

static bool is_denial(enum reason why)
{
	return why == REASON_POLICY_L4 || why == REASON_POLICY_L7 || why == REASON_POLICY_MEMORY ||
	       why == REASON_PROTOCOL_NOT_READABLE;
}

void record_exchange(const struct exchange *x)
{
	const struct conn *c = x->conn;
	const struct policy_rule *rule = x->decision.rule;
	char mismatch[512];
	struct text t;
	struct record r;

	record_begin(&r, c, RECORD_REQUEST);
	record_times(&r, c, x->mark, x->mark_at);
	if (x->attempts > 0 || x->reused)
		r.backend = c->origdst.dst;
	r.protocol = x->protocol;
	r.method = x->method;
	r.authority = x->authority;
	r.path = x->path;
	r.stream = x->number;
	r.status = x->status;
	r.request_header_bytes = x->request_header_bytes;
	r.request_body_bytes = x->request_body_bytes;
	r.response_header_bytes = x->response_header_bytes;
	r.response_body_bytes = x->response_body_bytes;
	r.bytes_sent = x->request_header_bytes + x->request_body_bytes;
	r.bytes_recv = x->response_header_bytes + x->response_body_bytes;
	r.denied = is_denial(x->why);
	r.policy = slice_of(rule ? rule->policy : NULL);
	r.rule = slice_of(rule ? rule->place : NULL);
	r.reason = x->why;
	if (x->why == REASON_POLICY_L7 || x->why == REASON_POLICY_MEMORY)
		r.reading = slice_of(reading_name(x->decision.reading));
	text_fixed(&t, mismatch, sizeof mismatch);
	policy_mismatches_text(&x->mismatches, &t);
	r.mismatch = (struct slice){mismatch, t.len};
	r.attempts = x->attempts > 0 ? x->attempts : x->reused;
	r.reused = x->reused;
	access_log_write(c->worker->log, &r);
}

void record_refusal(const struct conn *c, unsigned status)
{
	struct record r;

	record_begin(&r, c, RECORD_REQUEST);
	record_times(&r, c, c->mark, c->mark_at);
	r.protocol = slice_of("HTTP/1.1");
	r.status = status;
	r.reason = c->why;
	access_log_write(c->worker->log, &r);
}

static void record_tcp(struct record *r, int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof info;

	memset(&info, 0, sizeof info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return;
	r->has_tcp = true;
	r->srtt_us = info.tcpi_rtt;
	r->retransmissions = info.tcpi_total_retrans;
	r->packet_loss = info.tcpi_lost;
	r->min_rtt_us = info.tcpi_rtt; /* glibc's struct ends before tcpi_min_rtt */
}

static void record_caller(struct record *r, const struct slot *s)
{
	if (s == NULL)
		return;
	r->pid = s->pid;
	r->cgroup_id = s->cgroup;
	r->comm = (struct slice){s->comm, strnlen(s->comm, sizeof s->comm)};
}

void record_opened(const struct conn *c)
{
	struct record r;

	record_begin(&r, c, RECORD_OPENED);
	r.protocol = slice_of("TCP");
	access_log_write(c->worker->log, &r);
}

void record_connection(struct conn *c)
{
	struct record r;

	record_begin(&r, c, RECORD_CONNECTION);
	record_times(&r, c, NULL, c->watch.start);
	if (c->upstream_served)
		r.backend = c->origdst.dst;
	r.protocol = slice_of(c->http ? "HTTP/1.1" : "TCP");
	r.bytes_sent = c->bytes_in;
	r.bytes_recv = c->bytes_out;
	r.denied = c->denied || is_denial(c->why);
	r.unopened = c->codec == NULL;
	r.policy = slice_of(c->policy_name);
	r.rule = slice_of(c->rule_name);
	r.reason = c->why;
	r.attempts = c->attempts;
	record_tcp(&r, c->io.fd);
	record_caller(&r, c->origdst.slot);
	access_log_write(c->worker->log, &r);
}

/* The end that met the verdict is known by its index, and so is the other where it is of this
 * node and connect() met it: several workloads share the host's addresses. Else its address
 * says who it is. */
static const struct card *event_end(const struct directory *d, const struct event *e,
				    enum direction own, const struct endpoint *at)
{
	struct directory_entry local =
		directory_local(d, e->direction == own ? e->workload : e->peer);

	return local.card != NULL ? local.card : directory_find(d, &at->ip).card;
}

void record_denial(struct access_log_writer *w, const struct event *e, const struct directory *d,
		   const struct policy_rule *rule)
{
	struct record r = {
		.type = RECORD_CONNECTION,
		.direction = (enum direction)e->direction,
		.start_time = wall_now() - (io_now() - e->entry),
		.src = end_of(&e->src, event_end(d, e, DIRECTION_EGRESS, &e->src)),
		.dst = end_of(&e->dst, event_end(d, e, DIRECTION_INGRESS, &e->dst)),
		.protocol = slice_of("TCP"),
		.denied = e->reason != REASON_NOBODY_LISTENS,
		.policy = slice_of(rule ? rule->policy : NULL),
		.rule = slice_of(rule ? rule->place : NULL),
		.reason = (enum reason)e->reason,
		.accel = slice_of("none"),
		.pid = e->pid,
		.comm = {e->comm, strnlen(e->comm, sizeof e->comm)},
		.cgroup_id = e->cgroup,
		.errno_value = (int)e->errno_value,
		.unopened = true,
		.suppressed = e->suppressed,
	};

	r.t[CLOCK_OF_POLICY] = e->leave > e->entry ? e->leave - e->entry : 0;
	access_log_write(w, &r);
}
