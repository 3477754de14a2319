/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters fed by the log thread, one pass per record, and their text form. No label comes
 * from what a peer sent (no path, no authority), so that the number of series is bounded by
 * the configuration; a cap stands behind that. Pure but for its lock.
 */
#include "proxy/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 2000U /* per family */
#define TABLE 4096U /* a power of two */
#define CACHE 1024U /* sets, a power of two */
#define WAYS 4U

/* Upper bounds of istio_request_duration_milliseconds: as printed, and in ns. */
static const struct {
	const char *le;
	uint64_t ns;
} buckets[] = {
	{"0.5", 500000},
	{"1", 1000000},
	{"5", 5000000},
	{"10", 10000000},
	{"25", 25000000},
	{"50", 50000000},
	{"100", 100000000},
	{"250", 250000000},
	{"500", 500000000},
	{"1000", 1000000000},
	{"2500", 2500000000},
	{"5000", 5000000000},
	{"10000", 10000000000},
	{"30000", 30000000000},
	{"60000", 60000000000},
	{"300000", 300000000000},
	{"600000", 600000000000},
	{"1800000", 1800000000000},
	{"3600000", 3600000000000},
};
#define BUCKETS (sizeof buckets / sizeof buckets[0])

/* One set of labels, and everything that is counted under it. */
struct series {
	struct series *next; /* in its place of the table */
	char *labels; /* as printed, without the braces */
	size_t len;
	union {
		struct {
			uint64_t count;
			uint64_t sum_ns;
			uint64_t bucket[BUCKETS]; /* each its own; added up when printed */
		} request;
		struct {
			uint64_t opened;
			uint64_t closed;
			uint64_t failed;
			uint64_t sent;
			uint64_t received;
		} tcp;
	};
};

struct family {
	struct series *table[TABLE];
	struct series *order[SERIES_MAX]; /* as they came */
	size_t count;
};

enum reporter {
	REPORTER_SOURCE,
	REPORTER_DESTINATION,
};

/* Istio's. What is counted as a connection is counted as TCP, whatever it carried. */
enum protocol {
	PROTOCOL_TCP,
	PROTOCOL_HTTP,
	PROTOCOL_UNKNOWN,
};

/* What all labels of a series follow from. Several keys may have the same labels: a card made
 * anew has the names of the one before. */
struct series_key {
	uint64_t src; /* cards */
	uint64_t dst;
	uint32_t status;
	uint32_t reason;
	uint16_t security;
	uint16_t protocol;
	uint32_t reporter;
};

/* Where the last records were counted, so that their labels need not be written to find them. */
struct cached {
	struct series_key key;
	struct series *series; /* NULL: empty */
};

struct metrics {
	pthread_mutex_t lock; /* of everything below */
	struct family requests;
	struct family tcp;
	struct cached cache[CACHE][WAYS];
	unsigned turn; /* which way is given up next */
	uint64_t ends[2][REASON_MAX]; /* by RECORD_REQUEST, RECORD_CONNECTION */
	uint64_t series_dropped;
	struct text scratch;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);

	if (m != NULL)
		pthread_mutex_init(&m->lock, NULL);
	return m;
}

static void family_free(struct family *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->order[i]->labels);
		free(f->order[i]);
	}
}

void metrics_free(struct metrics *m)
{
	if (m == NULL)
		return;
	family_free(&m->requests);
	family_free(&m->tcp);
	text_free(&m->scratch);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* FNV-1a. Label sets come from the configuration, not from peers. */
static size_t hash(const char *p, size_t len)
{
	uint64_t h = 14695981039346656037U;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211U;
	return (size_t)((h ^ h >> 32) & (TABLE - 1));
}

static struct series *series_new(struct family *f, const struct text *labels)
{
	struct series *s;

	if (f->count == SERIES_MAX)
		return NULL;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->len = labels->len;
	s->labels = malloc(labels->len + 1);
	if (s->labels == NULL) {
		free(s);
		return NULL;
	}
	memcpy(s->labels, labels->p, labels->len + 1);
	f->order[f->count++] = s;
	return s;
}

/* The series with these labels, made when it is new; NULL (counted) when it may not be. */
static struct series *series_get(struct metrics *m, struct family *f)
{
	const struct text *labels = &m->scratch;
	struct series **at, *s;

	if (text_failed(labels)) {
		text_free(&m->scratch);
		m->series_dropped++;
		return NULL;
	}
	at = &f->table[hash(labels->p, labels->len)];
	for (s = *at; s != NULL; s = s->next)
		if (s->len == labels->len && memcmp(s->labels, labels->p, s->len) == 0)
			return s;
	s = series_new(f, labels);
	if (s == NULL) {
		m->series_dropped++;
		return NULL;
	}
	s->next = *at;
	*at = s;
	return s;
}

/* --- labels --- */

/* A label's value: the format knows three escapes and wants UTF-8, which every value here
 * is (names of documents). Control characters would be legal, but are never a name. */
static void add_label(struct text *t, const char *name, struct slice value)
{
	if (t->len > 0)
		text_add_char(t, ',');
	text_add(t, name);
	text_add(t, "=\"");
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] == '"' || value.p[i] == '\\')
			text_add_char(t, '\\');
		text_add_char(t, value.p[i] == '\n' ? ' ' : value.p[i]);
	}
	text_add_char(t, '"');
}

static struct slice word(const char *s)
{
	return (struct slice){s, strlen(s)};
}

static struct slice known(struct slice s)
{
	return s.len > 0 ? s : word("unknown");
}

struct end_names {
	const char *workload, *namespace, *principal, *app, *service;
};

static void add_end(struct text *t, const struct end_names *names, const struct record_end *e)
{
	struct slice app = e->app.len > 0 ? e->app : e->workload;

	add_label(t, names->workload, known(e->workload));
	add_label(t, names->namespace, known(e->namespace));
	add_label(t, names->principal, known(e->identity));
	add_label(t, names->app, known(e->app));
	add_label(t, names->service, known(app));
}

static struct slice security_word(enum record_security s)
{
	switch (s) {
	case SECURITY_LOCAL:
		return word("local");
	case SECURITY_PLAINTEXT:
		return word("none");
	case SECURITY_ABSENT:
		break;
	}
	return word("unknown");
}

static enum protocol protocol_of(const struct record *r)
{
	static const char http[] = "HTTP/";

	if (r->type != RECORD_REQUEST)
		return PROTOCOL_TCP;
	if (r->protocol.len >= sizeof http - 1 && memcmp(r->protocol.p, http, sizeof http - 1) == 0)
		return PROTOCOL_HTTP;
	return PROTOCOL_UNKNOWN;
}

static void labels_of(struct text *t, const struct record *r, enum reporter reporter)
{
	static const char *const reporters[] = {"source", "destination"};
	static const char *const protocols[] = {"tcp", "http", "unknown"};
	static const struct end_names source = {
		"source_workload", "source_workload_namespace", "source_principal",
		"source_app",	   "source_canonical_service",
	};
	static const struct end_names destination = {
		"destination_workload", "destination_workload_namespace", "destination_principal",
		"destination_app",	"destination_canonical_service",
	};

	t->len = 0;
	add_label(t, "reporter", word(reporters[reporter]));
	add_end(t, &source, &r->src);
	add_end(t, &destination, &r->dst);
	add_label(t, "destination_service", word("unknown"));
	add_label(t, "destination_service_name", word("unknown"));
	add_label(t, "destination_service_namespace", known(r->dst.namespace));
	add_label(t, "request_protocol", word(protocols[protocol_of(r)]));
	add_label(t, "response_flags", word(reason_flag(r->reason)));
	add_label(t, "connection_security_policy", security_word(r->security));
}

static void add_response_code(struct text *t, unsigned status)
{
	text_add(t, ",response_code=\"");
	text_add_number(t, status);
	text_add_char(t, '"');
}

/* --- counting --- */

static struct cached *cache_set(struct metrics *m, const struct series_key *key)
{
	uint64_t word[sizeof *key / sizeof(uint64_t)], h = 0;

	memcpy(word, key, sizeof word);
	for (size_t i = 0; i < sizeof word / sizeof word[0]; i++) {
		h = (h ^ word[i]) * 0x9e3779b97f4a7c15U;
		h ^= h >> 32;
	}
	return m->cache[h & (CACHE - 1)];
}

static struct series *series_by_labels(struct metrics *m, const struct record *r,
				       enum reporter reporter)
{
	labels_of(&m->scratch, r, reporter);
	if (r->type != RECORD_REQUEST)
		return series_get(m, &m->tcp);
	add_response_code(&m->scratch, r->status);
	return series_get(m, &m->requests);
}

/* As series_get(), of what the record is counted as. */
static struct series *series_of(struct metrics *m, const struct record *r, enum reporter reporter)
{
	const struct series_key key = {
		.src = r->src.card,
		.dst = r->dst.card,
		.status = r->status,
		.reason = r->reason,
		.security = (uint16_t)r->security,
		.protocol = (uint16_t)protocol_of(r),
		.reporter = reporter,
	};
	struct cached *set = cache_set(m, &key);
	struct series *s;

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].series != NULL && memcmp(&set[i].key, &key, sizeof key) == 0)
			return set[i].series;
	s = series_by_labels(m, r, reporter);
	if (s != NULL)
		set[m->turn++ % WAYS] = (struct cached){key, s};
	return s;
}

static void count_request(struct series *s, const struct record *r)
{
	uint64_t total = record_total(r);
	size_t b = 0;

	s->request.count++;
	s->request.sum_ns += total;
	while (b < BUCKETS && total > buckets[b].ns)
		b++;
	if (b < BUCKETS)
		s->request.bucket[b]++;
}

static bool has_failed(const struct record *r)
{
	return r->denied || r->unopened || r->reason == REASON_CONNECT_REFUSED ||
	       r->reason == REASON_CONNECT_TIMEOUT || r->reason == REASON_CONNECT_FAILED;
}

static void count_connection(struct series *s, const struct record *r)
{
	if (r->type == RECORD_OPENED) {
		s->tcp.opened++;
		return;
	}
	s->tcp.failed += has_failed(r);
	s->tcp.closed += !r->unopened;
	/* Istio's names are the destination's: it sends what the source receives */
	s->tcp.sent += r->bytes_recv;
	s->tcp.received += r->bytes_sent;
}

static void count_as(struct metrics *m, const struct record *r, enum reporter reporter)
{
	struct series *s = series_of(m, r, reporter);

	if (s == NULL)
		return;
	if (r->type == RECORD_REQUEST)
		count_request(s, r);
	else
		count_connection(s, r);
}

void metrics_count(struct metrics *m, const struct record *r)
{
	bool local = r->security == SECURITY_LOCAL;

	pthread_mutex_lock(&m->lock);
	if (local || r->direction == DIRECTION_EGRESS)
		count_as(m, r, REPORTER_SOURCE);
	if (local || r->direction == DIRECTION_INGRESS)
		count_as(m, r, REPORTER_DESTINATION);
	if (r->type != RECORD_OPENED && r->errno_value == 0 && r->reason != REASON_NONE &&
	    (unsigned)r->reason < REASON_MAX)
		m->ends[r->type][r->reason]++;
	pthread_mutex_unlock(&m->lock);
}

/* --- text --- */

static void add_head(struct text *t, const char *name, const char *type, const char *help)
{
	text_add(t, "# HELP ");
	text_add(t, name);
	text_add_char(t, ' ');
	text_add(t, help);
	text_add(t, "\n# TYPE ");
	text_add(t, name);
	text_add_char(t, ' ');
	text_add(t, type);
	text_add_char(t, '\n');
}

static void add_sample(struct text *t, const char *name, const char *labels, uint64_t value)
{
	text_add(t, name);
	if (labels != NULL) {
		text_add_char(t, '{');
		text_add(t, labels);
		text_add_char(t, '}');
	}
	text_add_char(t, ' ');
	text_add_number(t, value);
	text_add_char(t, '\n');
}

static void add_one(struct text *t, const char *name, const char *type, const char *help,
		    uint64_t value)
{
	add_head(t, name, type, help);
	add_sample(t, name, NULL, value);
}

/* n / 10^digits. */
static void add_decimal(struct text *t, uint64_t n, unsigned digits)
{
	uint64_t unit = 1;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	text_add_number(t, n / unit);
	text_add_char(t, '.');
	for (n %= unit; unit > 1; n %= unit) {
		unit /= 10;
		text_add_char(t, (char)('0' + n / unit));
	}
}

/* One line of a histogram, up to its value. */
static void add_histogram(struct text *t, const char *name, const char *what,
			  const struct series *s, const char *le)
{
	text_add(t, name);
	text_add(t, what);
	text_add_char(t, '{');
	text_add(t, s->labels);
	if (le != NULL) {
		text_add(t, ",le=\"");
		text_add(t, le);
		text_add_char(t, '"');
	}
	text_add(t, "} ");
}

static void add_duration(struct text *t, const char *name, const struct series *s)
{
	uint64_t below = 0;

	for (size_t b = 0; b <= BUCKETS; b++) {
		below = b < BUCKETS ? below + s->request.bucket[b] : s->request.count;
		add_histogram(t, name, "_bucket", s, b < BUCKETS ? buckets[b].le : "+Inf");
		text_add_number(t, below);
		text_add_char(t, '\n');
	}
	add_histogram(t, name, "_sum", s, NULL);
	add_decimal(t, s->request.sum_ns, 6);
	text_add_char(t, '\n');
	add_histogram(t, name, "_count", s, NULL);
	text_add_number(t, s->request.count);
	text_add_char(t, '\n');
}

static void render_requests(struct text *t, const struct family *f)
{
	static const char requests[] = "istio_requests_total";
	static const char duration[] = "istio_request_duration_milliseconds";

	add_head(t, requests, "counter", "HTTP requests, by their records.");
	for (size_t i = 0; i < f->count; i++)
		add_sample(t, requests, f->order[i]->labels, f->order[i]->request.count);
	add_head(t, duration, "histogram", "t_total of HTTP requests.");
	for (size_t i = 0; i < f->count; i++)
		add_duration(t, duration, f->order[i]);
}

/* One counter of struct series.tcp; a series that never counted it is left out. */
static void render_tcp(struct text *t, const struct family *f, const char *name, size_t offset,
		       const char *help)
{
	uint64_t value;

	add_head(t, name, "counter", help);
	for (size_t i = 0; i < f->count; i++) {
		memcpy(&value, (const char *)f->order[i] + offset, sizeof value);
		if (value > 0)
			add_sample(t, name, f->order[i]->labels, value);
	}
}

static void render_traffic(struct text *t, const struct metrics *m)
{
	render_requests(t, &m->requests);
	render_tcp(t, &m->tcp, "istio_tcp_connections_opened_total",
		   offsetof(struct series, tcp.opened), "Connections that the proxy took on.");
	render_tcp(t, &m->tcp, "istio_tcp_connections_closed_total",
		   offsetof(struct series, tcp.closed),
		   "Connections that the proxy took on and that ended.");
	render_tcp(t, &m->tcp, "istio_tcp_connections_failed_total",
		   offsetof(struct series, tcp.failed),
		   "Connections that were denied or could not be made.");
	render_tcp(t, &m->tcp, "istio_tcp_sent_bytes_total", offsetof(struct series, tcp.sent),
		   "Bytes from the destination to the source, counted at the end.");
	render_tcp(t, &m->tcp, "istio_tcp_received_bytes_total",
		   offsetof(struct series, tcp.received),
		   "Bytes from the source to the destination, counted at the end.");
}

static void add_reason(struct text *t, const char *name, const char *type, unsigned reason,
		       uint64_t value)
{
	struct text labels = {0};

	if (value == 0)
		return;
	if (type != NULL)
		add_label(&labels, "type", word(type));
	add_label(&labels, "reason", word(reason_word((enum reason)reason)));
	if (text_failed(&labels))
		t->failed = true;
	else
		add_sample(t, name, labels.p, value);
	text_free(&labels);
}

static void render_reasons(struct text *t, const struct metrics *m, const struct metrics_gauges *g)
{
	add_head(t, "shunt_ends_total", "counter",
		 "Requests and connections in the proxy that ended with a reason.");
	for (unsigned i = 0; i < REASON_MAX; i++) {
		add_reason(t, "shunt_ends_total", "request", i, m->ends[RECORD_REQUEST][i]);
		add_reason(t, "shunt_ends_total", "connection", i, m->ends[RECORD_CONNECTION][i]);
	}
	add_head(t, "shunt_kernel_denials_total", "counter",
		 "Connections that the kernel refused, logged or not.");
	for (unsigned i = 0; i < REASON_MAX; i++)
		if (i != REASON_AWAY_ALLOWED)
			add_reason(t, "shunt_kernel_denials_total", NULL, i, g->kernel_denials[i]);
	add_one(t, "shunt_passed_unjudged_total", "counter",
		"Connections that passed while no daemon ran (onUnavailable: allow).",
		g->kernel_denials[REASON_AWAY_ALLOWED]);
}

static void render_suppressed(struct text *t, const struct metrics_gauges *g)
{
	struct text labels = {0};

	add_head(t, "shunt_kernel_denials_suppressed_total", "counter",
		 "Kernel denials that were not logged one by one.");
	for (size_t i = 0; i < g->suppressed_count; i++) {
		labels.len = 0;
		add_label(&labels, "workload", word(g->suppressed[i].workload));
		if (text_failed(&labels))
			break;
		add_sample(t, "shunt_kernel_denials_suppressed_total", labels.p,
			   g->suppressed[i].count);
	}
	t->failed = t->failed || text_failed(&labels);
	text_free(&labels);
}

static void render_build(struct text *t, const struct metrics_gauges *g)
{
	struct text labels = {0};

	add_label(&labels, "version", word(g->version));
	add_label(&labels, "node", word(g->node));
	add_head(t, "shunt_build_info", "gauge", "Always 1; what runs is in the labels.");
	if (text_failed(&labels))
		t->failed = true;
	else
		add_sample(t, "shunt_build_info", labels.p, 1);
	text_free(&labels);
}

static void add_state(struct text *t, const char *name, const char *state, uint64_t value)
{
	struct text labels = {0};

	add_label(&labels, "state", word(state));
	if (text_failed(&labels))
		t->failed = true;
	else
		add_sample(t, name, labels.p, value);
	text_free(&labels);
}

static void render_workloads(struct text *t, const struct metrics_gauges *g)
{
	add_head(t, "shunt_workloads", "gauge", "Local workloads, enrolled or not (absent).");
	add_state(t, "shunt_workloads", "enrolled", g->workloads);
	add_state(t, "shunt_workloads", "absent", g->workloads_absent);
	add_one(t, "shunt_workloads_bypassed", "gauge",
		"Workloads that are not judged for a while.", g->bypassed);
	add_one(t, "shunt_registries_complete", "gauge",
		"Workloads whose listening ports are all known.", g->registries);
	add_head(t, "shunt_restart_lost_connections", "gauge",
		 "Connections of the daemon before this one that its end reset.");
	add_state(t, "shunt_restart_lost_connections", "waiting", g->lost_waiting);
	add_state(t, "shunt_restart_lost_connections", "open", g->lost_open);
}

static void render_daemon(struct text *t, const struct metrics_gauges *g)
{
	render_build(t, g);
	add_one(t, "shunt_config_last_reload_successful", "gauge",
		"Was the last reload taken (1) or refused (0)?", g->reload_ok);
	add_head(t, "shunt_config_last_reload_timestamp_seconds", "gauge",
		 "When a reload was last taken.");
	text_add(t, "shunt_config_last_reload_timestamp_seconds ");
	add_decimal(t, g->reload_time > 0 ? (uint64_t)(g->reload_time * 1000) : 0, 3);
	text_add_char(t, '\n');
	add_one(t, "shunt_policy_revision", "gauge", "Revision of the policy that is enforced.",
		g->policy_revision);
	add_one(t, "shunt_connections", "gauge", "Open downstream connections.", g->connections);
	add_one(t, "shunt_unfinished_heads", "gauge",
		"Heads of requests that were begun and are not whole.", g->unfinished_heads);
	add_one(t, "shunt_buffered_bytes", "gauge", "Bytes of connections that wait in the daemon.",
		g->buffered_bytes);
	add_one(t, "shunt_reads_held_back_total", "counter",
		"Turns that left bytes unread while their workload's buffers were full.",
		g->held_back);
	add_one(t, "shunt_captured_connections_total", "counter",
		"Connections that the kernel gave an egress slot.", g->captured);
	add_one(t, "shunt_steered_connections_total", "counter",
		"Connections that the kernel gave to an ingress listener.", g->steered);
	add_one(t, "shunt_egress_slots_used", "gauge", "Egress slots in use.", g->slots_used);
	add_one(t, "shunt_egress_slots", "gauge", "Egress slots there are.", g->slots);
	add_one(t, "shunt_log_records_dropped_total", "counter",
		"Records that did not reach the access log.", g->log_dropped);
}

void metrics_render(struct metrics *m, const struct metrics_gauges *g, struct text *out)
{
	pthread_mutex_lock(&m->lock);
	render_traffic(out, m);
	render_reasons(out, m, g);
	add_one(out, "shunt_metrics_series_dropped_total", "counter",
		"Records not counted because their family holds no more series.",
		m->series_dropped);
	pthread_mutex_unlock(&m->lock);
	render_suppressed(out, g);
	render_workloads(out, g);
	render_daemon(out, g);
}
