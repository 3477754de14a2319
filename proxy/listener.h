/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting: one set of listeners per workload, watched by every worker. A worker that was
 * woken accepts; one that is well above the mean hands the socket to the least loaded.
 * Near the end of the descriptors it accepts and refuses (conn.c); where there are none at all
 * it pauses and tries again by timer, because those who wait bring no new edge.
 */
#ifndef SHUNT_LISTENER_H
#define SHUNT_LISTENER_H

#include "bpf/abi.h"
#include "proxy/io.h"

struct worker;
struct seat;
struct enrolled;

struct listener {
	struct io io;
	enum listener_kind kind;
	bool paused;
};

/* Begins (or ends) to accept for this workload on this worker; run on the worker's thread.
 * Ending resets its connections, with this reason. Returns 0 or -errno. */
__attribute__((warn_unused_result)) int seat_open(struct worker *w, const struct enrolled *e);
void seat_close(struct worker *w, const struct enrolled *e, enum reason why);

/* The daemon stops: accepts those who wait, and asks every connection to end, also those that
 * are still to be accepted. */
void seats_drain(struct worker *w);

/* Resets a socket that was accepted and is not taken, and gives its slot back. */
void listener_refuse(struct seat *seat, enum listener_kind kind, int fd);

/* Paused listeners accept again. */
void listeners_resume(struct worker *w);

#endif
