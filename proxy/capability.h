/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel does, for status and metrics: the probes (probe.h) run in a process of their
 * own beside the start, so that they do not lengthen the time without a daemon.
 */
#ifndef SHUNT_CAPABILITY_H
#define SHUNT_CAPABILITY_H

#include <uv.h>

#include "proxy/probe.h"

#define PROBES_MAX 64

struct capability {
	struct probe_result results[PROBES_MAX];
	size_t count; /* 0 until the process has said it */
	size_t got; /* bytes of `results` so far */
	pid_t pid;
	int fd; /* what it says; -1: nothing more */
	uv_poll_t poll;
};

/* Before there are threads, listeners or a cgroup of our own: forks. Without the process there
 * are no results, and the log says why. */
void capability_start(struct capability *c);
/* Reads the results from this loop. 0 or -errno. */
__attribute__((warn_unused_result)) int capability_watch(struct capability *c, uv_loop_t *loop);
/* Ends the process if it still runs. The loop closes the handle. */
void capability_stop(struct capability *c);

#endif
