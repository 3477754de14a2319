/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explicit listeners (`listeners:` of shunt.yaml): sockets of the daemon's own namespace whose
 * connections are judged as arrivals at a workload and go to its upstream. The same way through
 * the proxy as captured traffic, without the kernel's part: nothing is captured, and the
 * upstream sees the daemon as its client. Control thread.
 */
#ifndef SHUNT_EXPLICIT_H
#define SHUNT_EXPLICIT_H

#include "proxy/enroll.h"

struct explicit
{
	struct enrolled enrolled; /* what the workers see */
	struct endpoint at;
	struct endpoint upstream;
	char *namespace; /* of the workload it speaks for */
	char *name;
	int err; /* positive errno: why it does not listen; 0: it does */
	struct explicit *next;
};

struct explicits {
	struct explicit *first;
	size_t count;
	size_t failed;
};

/* Closes what `fleet` does not name any more, opens what it names now; who could not be opened
 * is tried again. */
void explicits_apply(struct explicits *x, struct enrollment *e, struct node *node,
		     const struct fleet *fleet);
/* The workloads they speak for, under the listeners' indexes. -ENOMEM or 0. */
__attribute__((warn_unused_result)) int
explicits_directory(const struct explicits *x, struct directory *d, const struct fleet *fleet);
/* As enroll_drain(): nobody is accepted any more. */
void explicits_drain(struct explicits *x);
void explicits_close(struct explicits *x, struct enrollment *e, struct node *node);

#endif
