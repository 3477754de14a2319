/* SPDX-License-Identifier: Apache-2.0 */
/* Records: packed for the ring, unpacked and rendered by the log thread. Pure. */
#define _GNU_SOURCE 1 /* strerrorname_np() */
#include "proxy/record.h"

#include <string.h>

/* Every slice of struct record, in its order. One that is missing here would reach the log thread
 * as a pointer into the writer's memory.
 *
 * Packed, a record is the bytes of the struct without them, their lengths, and then their bytes:
 * records pass through the caches that the requests need, so they are kept small. */
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

static size_t strings_size(const struct record *r)
{
	size_t size = 0;

	for (size_t i = 0; i < SLICES; i++)
		size += slice_of(r, i)->len;
	return size;
}

#define VALUES_SIZE (sizeof(struct record) - SLICES * sizeof(struct slice))
#define PACKED_MIN (VALUES_SIZE + SLICES * sizeof(uint32_t))

/* Where the values between slice i - 1 and slice i begin, and how many bytes they are. */
static size_t values_at(size_t i, size_t *len)
{
	size_t from = i == 0 ? 0 : slices[i - 1] + sizeof(struct slice);

	*len = (i == SLICES ? sizeof(struct record) : slices[i]) - from;
	return from;
}

size_t record_size(const struct record *r)
{
	return PACKED_MIN + strings_size(r);
}

void record_pack(const struct record *r, void *to)
{
	char *values = to;
	char *lens = values + VALUES_SIZE;
	char *p = values + PACKED_MIN;
	size_t at, n;

	for (size_t i = 0; i <= SLICES; i++) {
		at = values_at(i, &n);
		if (n > 0)
			memcpy(values, (const char *)r + at, n);
		values += n;
	}
	for (size_t i = 0; i < SLICES; i++) {
		const struct slice *s = slice_of(r, i);
		uint32_t len = (uint32_t)s->len;

		memcpy(lens + i * sizeof len, &len, sizeof len);
		if (len > 0)
			memcpy(p, s->p, len);
		p += len;
	}
}

bool record_unpack(struct record *r, const void *from, size_t len)
{
	const char *values = from;
	const char *lens = values + VALUES_SIZE;
	const char *p = values + PACKED_MIN;
	size_t at, n;

	if (len < PACKED_MIN)
		return false;
	len -= PACKED_MIN;
	for (size_t i = 0; i <= SLICES; i++) {
		at = values_at(i, &n);
		if (n > 0)
			memcpy((char *)r + at, values, n);
		values += n;
	}
	for (size_t i = 0; i < SLICES; i++) {
		struct slice *s = (struct slice *)((char *)r + slices[i]);
		uint32_t bytes;

		memcpy(&bytes, lens + i * sizeof bytes, sizeof bytes);
		if (bytes > len)
			return false;
		*s = (struct slice){p, bytes};
		p += bytes;
		len -= bytes;
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

/* --- JSON: into room that holds the most a record can be, so that nothing is asked on the way.
 * Each returns the end of what it wrote. --- */

/* Of a literal, so that its length is known when this is compiled. */
static inline __attribute__((always_inline)) char *put(char *to, const char *literal)
{
	size_t n = strlen(literal);

	memcpy(to, literal, n);
	return to + n;
}

/* Keys are ours and need no escaping. Every one but the first follows another. */
#define KEY(name) ",\"" name "\":"

static inline __attribute__((always_inline)) char *put_number(char *to, const char *key, uint64_t n)
{
	return text_put_number(put(to, key), n);
}

static inline __attribute__((always_inline)) char *put_slice(char *to, const char *key,
							     struct slice value)
{
	return value.len == 0 ? to : text_put_json(put(to, key), value);
}

/* A word of ours. */
static char *put_word(char *to, const char *word)
{
	*to++ = '"';
	to = put(to, word);
	*to++ = '"';
	return to;
}

static inline __attribute__((always_inline)) char *put_endpoint(char *to, const char *key,
								const struct endpoint *e)
{
	if (e->family == 0)
		return to;
	to = put(to, key);
	*to++ = '"';
	to = text_put_endpoint(to, &e->ip, e->port);
	*to++ = '"';
	return to;
}

static char *put_digits(char *to, uint64_t n, unsigned width)
{
	for (unsigned i = width; i > 0; n /= 10)
		to[--i] = (char)('0' + n % 10);
	return to + width;
}

/* RFC 3339 in UTC, nine digits. The calendar counts in years that begin in March, so that
 * the leap day is the last of its year. libc's own would read TZ. */
static char *put_time(char *to, uint64_t ns)
{
	uint64_t seconds = ns / 1000000000, days = seconds / 86400 + 719468;
	uint64_t era = days / 146097, in_era = days % 146097;
	uint64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	uint64_t in_year = in_era - (365 * year + year / 4 - year / 100);
	uint64_t march = (5 * in_year + 2) / 153; /* months since March */
	uint64_t month = march < 10 ? march + 3 : march - 9;

	to = put_digits(to, year + era * 400 + (month <= 2), 4);
	*to++ = '-';
	to = put_digits(to, month, 2);
	*to++ = '-';
	to = put_digits(to, in_year - (153 * march + 2) / 5 + 1, 2);
	*to++ = 'T';
	to = put_digits(to, seconds / 3600 % 24, 2);
	*to++ = ':';
	to = put_digits(to, seconds / 60 % 60, 2);
	*to++ = ':';
	to = put_digits(to, seconds % 60, 2);
	*to++ = '.';
	to = put_digits(to, ns % 1000000000, 9);
	*to++ = 'Z';
	return to;
}

static char *put_who(char *to, const struct record *r)
{
	to = put(to, "{\"start_time\":\"");
	to = put_time(to, r->start_time);
	to = put(to, r->type == RECORD_REQUEST ? "\",\"type\":\"request\""
					       : "\",\"type\":\"connection\"");
	to = put(to, r->direction == DIRECTION_EGRESS ? KEY("direction") "\"outbound\""
						      : KEY("direction") "\"inbound\"");
	to = put_endpoint(to, KEY("src.addr"), &r->src.addr);
	to = put_slice(to, KEY("src.workload"), r->src.workload);
	to = put_slice(to, KEY("src.namespace"), r->src.namespace);
	to = put_slice(to, KEY("src.identity"), r->src.identity);
	to = put_endpoint(to, KEY("dst.addr"), &r->dst.addr);
	to = put_slice(to, KEY("dst.workload"), r->dst.workload);
	to = put_slice(to, KEY("dst.namespace"), r->dst.namespace);
	to = put_slice(to, KEY("dst.identity"), r->dst.identity);
	to = put_endpoint(to, KEY("backend"), &r->backend);
	if (r->security != SECURITY_ABSENT)
		to = put(to, r->security == SECURITY_LOCAL ? KEY("security") "\"local\""
							   : KEY("security") "\"plaintext\"");
	return to;
}

static char *put_request(char *to, const struct record *r, const char *node)
{
	to = put_slice(to, KEY("protocol"), r->protocol);
	to = put_slice(to, KEY("method"), r->method);
	to = put_slice(to, KEY("authority"), r->authority);
	to = put_slice(to, KEY("path"), r->path);
	if (r->conn != 0) {
		to = put(to, KEY("conn_id") "\"");
		to = put(to, node);
		to = put_number(to, "-", r->worker);
		to = put_number(to, "-", r->conn);
		*to++ = '"';
	}
	if (r->stream != 0)
		to = put_number(to, KEY("stream_id"), r->stream);
	if (r->status != 0)
		to = put_number(to, KEY("status"), r->status);
	if (r->type == RECORD_REQUEST) {
		to = put_number(to, KEY("request_header_bytes"), r->request_header_bytes);
		to = put_number(to, KEY("request_body_bytes"), r->request_body_bytes);
		to = put_number(to, KEY("response_header_bytes"), r->response_header_bytes);
		to = put_number(to, KEY("response_body_bytes"), r->response_body_bytes);
	}
	to = put_number(to, KEY("bytes_sent"), r->bytes_sent);
	return put_number(to, KEY("bytes_recv"), r->bytes_recv);
}

static char *put_decision(char *to, const struct record *r)
{
	const char *flag = reason_flag(r->reason);

	to = put(to, r->denied ? KEY("verdict") "\"denied\"" : KEY("verdict") "\"allowed\"");
	to = put_slice(to, KEY("policy"), r->policy);
	to = put_slice(to, KEY("rule"), r->rule);
	if (r->reason != REASON_NONE)
		to = put_word(put(to, KEY("reason")), reason_word(r->reason));
	to = put_slice(to, KEY("reading"), r->reading);
	to = put_slice(to, KEY("mismatch"), r->mismatch);
	if (flag[0] != '-')
		to = put_word(put(to, KEY("response_flags")), flag);
	return put_number(to, KEY("attempts"), r->attempts);
}

static char *put_kernel(char *to, const struct record *r)
{
	const char *name = strerrorname_np(r->errno_value);

	to = put_word(put(to, KEY("errno")), name != NULL ? name : "unknown");
	return put_number(to, KEY("suppressed"), r->suppressed);
}

static char *put_way(char *to, const struct record *r)
{
	to = put_slice(to, KEY("accel"), r->accel);
	to = put_slice(to, KEY("accel_reason"), r->accel_reason);
	if (r->conn != 0)
		to = put(to, r->reused ? KEY("reused") "true" : KEY("reused") "false");
	to = put_number(to, KEY("drop_count"), r->drop_count);
	if (r->pid != 0)
		to = put_number(to, KEY("pid"), r->pid);
	to = put_slice(to, KEY("comm"), r->comm);
	to = put_slice(to, KEY("cgroup"), r->cgroup);
	if (r->has_tcp) {
		to = put_number(to, KEY("srtt_us"), r->srtt_us);
		to = put_number(to, KEY("min_rtt_us"), r->min_rtt_us);
		to = put_number(to, KEY("retransmissions"), r->retransmissions);
		to = put_number(to, KEY("packet_loss"), r->packet_loss);
	}
	return r->errno_value == 0 ? to : put_kernel(to, r);
}

static char *put_clocks(char *to, const struct record *r)
{
#define X(name, key) to = put_number(to, KEY(key), r->t[CLOCK_OF_##name]);
	CLOCKS(X)
#undef X
	to = put_number(to, KEY("t_proxy"), record_proxy(r));
	return put_number(to, KEY("t_total"), record_total(r));
}

void record_json(struct text *t, const struct record *r, const char *node)
{
	char *to =
		text_reserve(t, RECORD_JSON_FIXED + strlen(node) + TEXT_JSON_MAX(strings_size(r)));

	if (to == NULL)
		return;
	to = put_who(to, r);
	to = put_request(to, r, node);
	to = put_decision(to, r);
	to = put_way(to, r);
	to = put_clocks(to, r);
	*to++ = '}';
	text_commit(t, to);
}
