/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record per request, per proxied connection and per kernel denial: what happened, who
 * said so, and where the time went. Names are those of the JSON keys (shuntd(8) lists them).
 * Pure: packing, unpacking and rendering; access_log.h moves the packed form.
 */
#ifndef SHUNT_RECORD_H
#define SHUNT_RECORD_H

#include <stdbool.h>

#include "bpf/abi.h"
#include "config/text.h"
#include "proxy/codec/message.h"
#include "proxy/stopwatch.h"

enum record_type {
	RECORD_REQUEST,
	RECORD_CONNECTION,
	RECORD_OPENED, /* the proxy took a connection on (policy had let it pass): counted by
			  metrics, never rendered; its RECORD_CONNECTION counts as closed */
};

enum record_security {
	SECURITY_ABSENT, /* there was no connection */
	SECURITY_LOCAL, /* both ends on this node, verified by the kernel */
	SECURITY_PLAINTEXT,
};

/* One end: an empty slice or family 0 is a key that does not apply. */
struct record_end {
	struct endpoint addr;
	struct slice workload;
	struct slice namespace;
	struct slice identity; /* SPIFFE id */
	struct slice app; /* label `app`, for the metrics' source_app, destination_app */
	uint64_t card; /* serial of the card that the names are of: the same card, the same names;
			  0: no names */
};

struct record {
	enum record_type type;
	enum direction direction;
	uint64_t start_time; /* ns, CLOCK_REALTIME */
	struct record_end src;
	struct record_end dst; /* addr: as the application dialled it */
	struct endpoint backend; /* where the bytes went */
	enum record_security security;

	struct slice protocol; /* "HTTP/1.1", "TCP" */
	struct slice method;
	struct slice authority;
	struct slice path; /* raw; with query only where the options say so */
	uint32_t worker; /* conn_id is NODE-WORKER-CONN */
	uint64_t conn; /* 0: never a connection of ours (a kernel denial): no conn_id, no reused */
	uint32_t stream; /* 0: none */
	unsigned status; /* 0: none */

	uint64_t request_header_bytes; /* request records only */
	uint64_t request_body_bytes;
	uint64_t response_header_bytes;
	uint64_t response_body_bytes;
	uint64_t bytes_sent; /* as the source sees them */
	uint64_t bytes_recv;

	bool denied; /* verdict */
	struct slice policy; /* "shop/api-l7" */
	struct slice rule; /* "conf.d/20-api.yaml:12" */
	enum reason reason; /* NONE: left out */
	struct slice reading; /* of a denied path */
	struct slice mismatch; /* headers that did not match, though their rules did */
	unsigned attempts; /* connects to the upstream, or 0 */
	struct slice accel; /* "copy", "none" */
	struct slice accel_reason; /* "l7" ... */
	bool reused; /* the upstream connection had carried a request before */
	uint64_t drop_count; /* records lost before this one, from the ring */

	bool has_tcp; /* connection records, of the source's leg */
	uint32_t srtt_us;
	uint32_t min_rtt_us;
	uint32_t retransmissions;
	uint32_t packet_loss;

	uint32_t pid; /* 0: not known */
	struct slice comm;
	struct slice cgroup; /* its path below the root of cgroup2 */
	uint64_t cgroup_id; /* what the path is found by, later: see access_log.c; 0: not known */
	int errno_value; /* kernel denials; 0: none */
	bool unopened; /* a connection that has no RECORD_OPENED: refused before that */
	uint32_t suppressed; /* kernel denials */

	uint64_t t[CLOCK_COUNT]; /* ns; t_proxy and t_total are their sums */
};

/* The size that record_pack() needs, and the packing. Strings are shorter than 4 GiB.
 * record_unpack() gives slices into `from`; false when it is not whole. */
size_t record_size(const struct record *r);
void record_pack(const struct record *r, void *to);
bool record_unpack(struct record *r, const void *from, size_t len);

/* Sums of the clocks, ns: our whole share, and all. */
uint64_t record_proxy(const struct record *r);
uint64_t record_total(const struct record *r);

/* A number that is not in the list reads as REASON_INTERNAL. */
const char *reason_word(enum reason r);
const char *reason_flag(enum reason r); /* response flag */
const char *reason_text(enum reason r); /* for the man page and for messages */

/* Most bytes of a JSON line without the strings of its record and the node. */
#define RECORD_JSON_FIXED 2048U
/* One JSON line, without the newline, behind what a growing text has. `node` begins conn_id. */
void record_json(struct text *t, const struct record *r, const char *node);

#endif
