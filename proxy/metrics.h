/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters in Prometheus' text form 0.0.4. Traffic series carry Istio's names and labels and
 * are fed by the log thread from records, so the data path counts nothing twice; what the
 * daemon itself counts is handed over at the time of the scrape.
 */
#ifndef SHUNT_METRICS_H
#define SHUNT_METRICS_H

#include "proxy/record.h"

struct metrics;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

/* Any thread; takes a lock that only scrapes contend for. */
void metrics_count(struct metrics *m, const struct record *r);

/* What the daemon knows at the moment of a scrape. */
struct metrics_gauges {
	const char *version;
	const char *node;
	uint64_t policy_revision;
	bool reload_ok;
	double reload_time; /* seconds since the epoch, of the last successful reload */
	uint64_t log_dropped;
	uint64_t connections; /* open, downstream */
	uint64_t unfinished_heads;
	uint64_t buffered_bytes;
	uint64_t held_back; /* turns of connections, since start */
	uint64_t captured; /* by the kernel, since load */
	uint64_t steered;
	uint64_t slots_used;
	uint64_t slots;
	uint64_t kernel_denials[REASON_MAX]; /* AWAY_ALLOWED: passed, not denied */
	uint64_t workloads; /* enrolled */
	uint64_t workloads_absent; /* of a document, and not enrolled */
	uint64_t bypassed; /* workloads */
	uint64_t registries; /* that are complete */
	uint64_t lost_waiting; /* connections of the daemon before us: not accepted yet */
	uint64_t lost_open; /* ... and open in it */
	/* per local workload: denials that were not logged one by one */
	const struct metrics_suppressed {
		const char *workload; /* "shop/api" */
		uint64_t count;
	} * suppressed;
	size_t suppressed_count;
};
void metrics_render(struct metrics *m, const struct metrics_gauges *g, struct text *out);

#endif
