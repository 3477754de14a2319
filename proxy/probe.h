/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel does. Every kernel mechanism that shunt uses or may use is run once, never
 * looked up by version: stable kernels receive changes, and a feature that is present may be
 * broken.
 */
#ifndef SHUNT_PROBE_H
#define SHUNT_PROBE_H

#include <stddef.h>

struct text;

enum probe_state {
	PROBE_OK,
	PROBE_MISSING, /* the kernel does not have it, or refuses it */
	PROBE_FAILED, /* it has it and it misbehaved, or it could not be tried */
};

struct probe_result {
	const char *name; /* one word; names and sentences are static */
	const char *what; /* what shunt does with it */
	enum probe_state state;
	char detail[160]; /* what was seen */
	const char *fallback; /* what is used instead; NULL: shuntd cannot run without it */
};

/* The `fallback` of what is probed for later versions. */
extern const char probe_unused[];

/* Runs all of them, in a fraction of a second (under an emulator two seconds; with a kernel that
 * hangs, a little over a minute at most). Returns how many there are; the first `n` of them are
 * run and stored. Without CAP_SYS_ADMIN all of them are PROBE_FAILED, and say so; without
 * CAP_NET_ADMIN the kernel refuses most.
 *
 * The work is done by forked children in a network namespace and a cgroup (ROOT/shunt-probe-PID)
 * of their own, which end with them, also when the caller is killed meanwhile. The caller's
 * namespace, cgroup, descriptors and traffic are left alone. Kernel modules that were loaded on
 * demand (tls and its ciphers) stay loaded, which is wanted. Call it from a process without
 * threads, and before cgroup_enter(): the children begin in the caller's cgroup. */
size_t probe_run(struct probe_result *out, size_t n);

/* "ok", "missing" or "failed" */
const char *probe_state_word(enum probe_state state);
/* Prometheus' text form 0.0.4: one shunt_capability{name,state} with the value 1 for each. */
void probe_metrics(const struct probe_result *r, size_t n, struct text *out);
/* A JSON array of {name, what, state, detail, fallback (or null), required}. */
void probe_json(const struct probe_result *r, size_t n, struct text *out);

#endif
