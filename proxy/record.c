/* SPDX-License-Identifier: Apache-2.0 */
/* Records: packed for the ring, unpacked and rendered by the log thread. Pure. */
#define _GNU_SOURCE 1 /* strerrorname_np() */
#include "proxy/record.h"

#include <string.h>

/* Every slice of struct record, in the order in which their bytes are packed. One that is
 * missing here would reach the log thread as a pointer into the writer's memory. */
static const size_t slices[] = {
	offsetof(struct record, src.workload), offsetof(struct record, src.namespace),
	offsetof(struct record, src.identity), offsetof(struct record, src.app),
	offsetof(struct record, dst.workload), offsetof(struct record, dst.namespace),
	offsetof(struct record, dst.identity), offsetof(struct record, dst.app),
	offsetof(struct record, protocol),     offsetof(struct record, method),
	offsetof(struct record, authority),    offsetof(struct record, path),
	offsetof(struct record, policy),       offsetof(struct record, rule),
	offsetof(struct record, reading),      offsetof(struct record, mismatch),
	offsetof(struct record, accel),	       offsetof(struct record, accel_reason),
	offsetof(struct record, comm),	       offsetof(struct record, cgroup),
};
#define SLICES (sizeof slices / sizeof slices[0])

static const struct slice *slice_of(const struct record *r, size_t i)
{
	return (const struct slice *)((const char *)r + slices[i]);
}

size_t record_size(const struct record *r)
{
	size_t size = sizeof *r;

	for (size_t i = 0; i < SLICES; i++)
		size += slice_of(r, i)->len;
	return size;
}

void record_pack(const struct record *r, void *to)
{
	char *p = to;

	memcpy(p, r, sizeof *r);
	p += sizeof *r;
	for (size_t i = 0; i < SLICES; i++) {
		const struct slice *s = slice_of(r, i);

		if (s->len > 0)
			memcpy(p, s->p, s->len);
		p += s->len;
	}
}

bool record_unpack(struct record *r, const void *from, size_t len)
{
	const char *p = from;

	if (len < sizeof *r)
		return false;
	memcpy(r, p, sizeof *r);
	p += sizeof *r;
	len -= sizeof *r;
	for (size_t i = 0; i < SLICES; i++) {
		struct slice *s = (struct slice *)((char *)r + slices[i]);

		if (s->len > len)
			return false;
		s->p = p;
		p += s->len;
		len -= s->len;
	}
	return len == 0;
}

static const struct {
	const char *word;
	const char *flag;
	const char *text;
} reasons[REASON_MAX] = {
#define X(number, name, word, flag, text) [number] = {word, flag, text},
	REASONS(X)
#undef X
};

/* Numbers cross the kernel's ring buffer: one of a later version is no index. */
static enum reason reason_known(enum reason r)
{
	return (unsigned)r < REASON_MAX && reasons[r].word != NULL ? r : REASON_INTERNAL;
}

const char *reason_word(enum reason r)
{
	return reasons[reason_known(r)].word;
}

const char *reason_flag(enum reason r)
{
	return reasons[reason_known(r)].flag;
}

const char *reason_text(enum reason r)
{
	return reasons[reason_known(r)].text;
}

uint64_t record_proxy(const struct record *r)
{
	return r->t[CLOCK_OF_QUEUE] + r->t[CLOCK_OF_POLICY] + r->t[CLOCK_OF_WORK];
}

uint64_t record_total(const struct record *r)
{
	uint64_t total = 0;

	for (size_t i = 0; i < CLOCK_COUNT; i++)
		total += r->t[i];
	return total;
}

/* Keys are ours and need no escaping. Every one but the first follows another. */
static void add_key(struct text *t, const char *key)
{
	text_add(t, ",\"");
	text_add(t, key);
	text_add(t, "\":");
}

static void add_number(struct text *t, const char *key, uint64_t n)
{
	add_key(t, key);
	text_add_number(t, n);
}

static void add_bool(struct text *t, const char *key, bool value)
{
	add_key(t, key);
	text_add(t, value ? "true" : "false");
}

static void add_word(struct text *t, const char *key, const char *value)
{
	add_key(t, key);
	text_add_json_string(t, value);
}

static void add_slice(struct text *t, const char *key, struct slice value)
{
	if (value.len == 0)
		return;
	add_key(t, key);
	text_add_json_slice(t, value);
}

static void add_endpoint(struct text *t, const char *key, const struct endpoint *e)
{
	if (e->family == 0)
		return;
	add_key(t, key);
	text_add_char(t, '"');
	text_add_endpoint(t, &e->ip, e->port);
	text_add_char(t, '"');
}

static void add_digits(struct text *t, uint64_t n, unsigned width)
{
	for (uint64_t ten = 10; width > 1; width--, ten *= 10)
		if (n < ten)
			text_add_char(t, '0');
	text_add_number(t, n);
}

/* RFC 3339 in UTC, nine digits. The calendar counts in years that begin in March, so that
 * the leap day is the last of its year. libc's own would read TZ. */
static void add_time(struct text *t, uint64_t ns)
{
	uint64_t seconds = ns / 1000000000, days = seconds / 86400 + 719468;
	uint64_t era = days / 146097, in_era = days % 146097;
	uint64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	uint64_t in_year = in_era - (365 * year + year / 4 - year / 100);
	uint64_t march = (5 * in_year + 2) / 153; /* months since March */
	uint64_t month = march < 10 ? march + 3 : march - 9;

	add_digits(t, year + era * 400 + (month <= 2), 4);
	text_add_char(t, '-');
	add_digits(t, month, 2);
	text_add_char(t, '-');
	add_digits(t, in_year - (153 * march + 2) / 5 + 1, 2);
	text_add_char(t, 'T');
	add_digits(t, seconds / 3600 % 24, 2);
	text_add_char(t, ':');
	add_digits(t, seconds / 60 % 60, 2);
	text_add_char(t, ':');
	add_digits(t, seconds % 60, 2);
	text_add_char(t, '.');
	add_digits(t, ns % 1000000000, 9);
	text_add_char(t, 'Z');
}

static void add_who(struct text *t, const struct record *r)
{
	text_add(t, "{\"start_time\":\"");
	add_time(t, r->start_time);
	text_add_char(t, '"');
	add_word(t, "type", r->type == RECORD_REQUEST ? "request" : "connection");
	add_word(t, "direction", r->direction == DIRECTION_EGRESS ? "outbound" : "inbound");
	add_endpoint(t, "src.addr", &r->src.addr);
	add_slice(t, "src.workload", r->src.workload);
	add_slice(t, "src.namespace", r->src.namespace);
	add_slice(t, "src.identity", r->src.identity);
	add_endpoint(t, "dst.addr", &r->dst.addr);
	add_slice(t, "dst.workload", r->dst.workload);
	add_slice(t, "dst.namespace", r->dst.namespace);
	add_slice(t, "dst.identity", r->dst.identity);
	add_endpoint(t, "backend", &r->backend);
	if (r->security != SECURITY_ABSENT)
		add_word(t, "security", r->security == SECURITY_LOCAL ? "local" : "plaintext");
}

static void add_request(struct text *t, const struct record *r, const char *node)
{
	add_slice(t, "protocol", r->protocol);
	add_slice(t, "method", r->method);
	add_slice(t, "authority", r->authority);
	add_slice(t, "path", r->path);
	if (r->conn != 0) {
		add_key(t, "conn_id");
		text_add_char(t, '"');
		text_add(t, node);
		text_add_char(t, '-');
		text_add_number(t, r->worker);
		text_add_char(t, '-');
		text_add_number(t, r->conn);
		text_add_char(t, '"');
	}
	if (r->stream != 0)
		add_number(t, "stream_id", r->stream);
	if (r->status != 0)
		add_number(t, "status", r->status);
	if (r->type == RECORD_REQUEST) {
		add_number(t, "request_header_bytes", r->request_header_bytes);
		add_number(t, "request_body_bytes", r->request_body_bytes);
		add_number(t, "response_header_bytes", r->response_header_bytes);
		add_number(t, "response_body_bytes", r->response_body_bytes);
	}
	add_number(t, "bytes_sent", r->bytes_sent);
	add_number(t, "bytes_recv", r->bytes_recv);
}

static void add_decision(struct text *t, const struct record *r)
{
	add_word(t, "verdict", r->denied ? "denied" : "allowed");
	add_slice(t, "policy", r->policy);
	add_slice(t, "rule", r->rule);
	if (r->reason != REASON_NONE)
		add_word(t, "reason", reason_word(r->reason));
	add_slice(t, "reading", r->reading);
	add_slice(t, "mismatch", r->mismatch);
	if (strcmp(reason_flag(r->reason), "-") != 0)
		add_word(t, "response_flags", reason_flag(r->reason));
	add_number(t, "attempts", r->attempts);
}

static void add_way(struct text *t, const struct record *r)
{
	add_slice(t, "accel", r->accel);
	add_slice(t, "accel_reason", r->accel_reason);
	if (r->conn != 0)
		add_bool(t, "reused", r->reused);
	add_number(t, "drop_count", r->drop_count);
	if (r->pid != 0)
		add_number(t, "pid", r->pid);
	add_slice(t, "comm", r->comm);
	add_slice(t, "cgroup", r->cgroup);
	if (r->has_tcp) {
		add_number(t, "srtt_us", r->srtt_us);
		add_number(t, "min_rtt_us", r->min_rtt_us);
		add_number(t, "retransmissions", r->retransmissions);
		add_number(t, "packet_loss", r->packet_loss);
	}
	if (r->errno_value != 0) {
		const char *name = strerrorname_np(r->errno_value);

		add_word(t, "errno", name != NULL ? name : "unknown");
		add_number(t, "suppressed", r->suppressed);
	}
}

static void add_clocks(struct text *t, const struct record *r)
{
	static const char *const keys[CLOCK_COUNT] = {
#define X(name, key) [CLOCK_OF_##name] = key,
		CLOCKS(X)
#undef X
	};

	for (size_t i = 0; i < CLOCK_COUNT; i++)
		add_number(t, keys[i], r->t[i]);
	add_number(t, "t_proxy", record_proxy(r));
	add_number(t, "t_total", record_total(r));
}

void record_json(struct text *t, const struct record *r, const char *node)
{
	add_who(t, r);
	add_request(t, r, node);
	add_decision(t, r);
	add_way(t, r);
	add_clocks(t, r);
	text_add_char(t, '}');
}
