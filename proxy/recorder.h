/* SPDX-License-Identifier: Apache-2.0 */
/* Fills records from what has happened and gives them to the access log. */
#ifndef SHUNT_RECORDER_H
#define SHUNT_RECORDER_H

#include "bpf/abi.h"
#include "proxy/access_log.h"
#include "proxy/policy.h"

struct conn;
struct directory;
struct exchange;

void record_opened(const struct conn *c); /* for the metrics */
void record_exchange(const struct exchange *x); /* HTTP: one request */
void record_refusal(const struct conn *c, unsigned status); /* a request that was no request */
void record_connection(struct conn *c); /* at its end */

/* A connection that the kernel refused; `rule` may be NULL. Control thread. */
void record_denial(struct access_log_writer *w, const struct event *e, const struct directory *d,
		   const struct policy_rule *rule);

#endif
