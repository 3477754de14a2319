/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of what the daemon says of itself that more than one route prints. Control thread. */
#ifndef SHUNT_STATUS_H
#define SHUNT_STATUS_H

#include "proxy/control.h"
#include "proxy/json.h"

void status_member(struct text *t, const struct control *c, const struct member *m);
/* "findings":[...] as a member of an object. */
void status_findings(struct object *o, const struct findings *findings);
/* A time as RFC 3339 has it, UTC. */
void status_time(struct object *o, const char *name, time_t at);

#endif
