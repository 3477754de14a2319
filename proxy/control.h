/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread: reads the configuration, enrols workloads, keeps the kernel's maps and
 * the workers' view the same, answers people. Nothing of a connection passes through it.
 */
#ifndef SHUNT_CONTROL_H
#define SHUNT_CONTROL_H

#include <uv.h>

#include "bpf/loader.h"
#include "config/build.h"
#include "config/state.h"
#include "proxy/access_log.h"
#include "proxy/admin.h"
#include "proxy/capability.h"
#include "proxy/enroll.h"
#include "proxy/explicit.h"
#include "proxy/metrics.h"
#include "proxy/worker.h"

struct control_options {
	const char *config_dir;
	const char *name;
	const char *run_dir;
	const char *state_dir;
	const char *pin_dir;
	const char *cgroup_root;
	uint64_t self_cgroup;
	struct capability *capability; /* started */
};

struct control {
	const struct control_options *options;
	uv_loop_t loop;
	uv_signal_t signals[4];
	uv_poll_t events; /* kernel denials */
	uv_timer_t tend; /* looks after namespaces that come and go, and lost slots */
	uint64_t ticks; /* of it */
	struct identity_table *identities;
	struct snapshot snapshot; /* what runs */
	struct document_files documents; /* it was built from */
	struct document_files kept; /* of the state folder, likewise */
	struct policy *previous; /* names the rules of events older than the last reload */
	uint64_t revision;
	bool reload_ok; /* the last one */
	bool apply_failed; /* the kernel has not all of the snapshot: tried again */
	double reload_time; /* seconds since the epoch, of the last that was applied */
	double start_time;
	struct loader *loader; /* NULL: capture is off */
	struct node node;
	struct enrollment enrollment;
	struct explicits explicits;
	struct directory *directory;
	struct access_log *log;
	struct access_log_writer *writer; /* of kernel denials */
	struct metrics *metrics;
	struct admin *admin;
	struct admin *scrape;
	struct admin *readiness;
	bool ready; /* everything of the first snapshot was applied */
	bool draining; /* after the first signal */
	uint64_t drain_until; /* ns */
	uv_timer_t drain;
	char host[64];
	bool detach; /* on the way out: release everything */
};

/* Reads the configuration; touches nothing else. Then starts everything. Errors are logged.
 * 0 or -errno. */
__attribute__((warn_unused_result)) int control_read(struct control *c,
						     const struct control_options *options);
__attribute__((warn_unused_result)) int control_start(struct control *c);
void control_run(struct control *c); /* until SIGTERM, SIGINT or `shunt detach` */
void control_stop(struct control *c);

/* Builds from the documents again. `findings` is the caller's to free. Applied when the
 * result is 0; -EINVAL leaves everything as it was, as does -ESHUTDOWN: the daemon stops. */
__attribute__((warn_unused_result)) int control_reload(struct control *c,
						       struct findings *findings);

/* The same with the documents of the last load, whatever stands in the folder now, and with
 * what the state folder keeps now: a rule that somebody is just writing does not keep a
 * workload from being added. `added` must be among the workloads then (NULL: nobody must), else
 * -ENOENT. Nothing was changed unless the result is 0; c->apply_failed says that not all of it
 * could be applied yet. `findings` has errors only: the documents' warnings were said when they
 * were loaded. */
__attribute__((warn_unused_result)) int
control_rebuild(struct control *c, const struct state_workload *added, struct findings *findings);

extern const struct admin_route control_routes[]; /* status.c */
extern const struct admin_route readiness_routes[];
extern const struct admin_route scrape_routes[];

#endif
