/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads by command: `shunt workload add`, `remove` and `bypass`. The first two change what
 * the state folder keeps and put it into force before they return, which makes them the door
 * for a CNI plug-in or a runtime's hook. Control thread.
 */
#ifndef SHUNT_WORKLOADS_H
#define SHUNT_WORKLOADS_H

#include "config/text.h"

struct control;

/* Handlers of the admin socket (status.c). */
unsigned post_workload_add(void *arg, const char *query, struct text *body);
unsigned post_workload_remove(void *arg, const char *query, struct text *body);
unsigned post_workload_bypass(void *arg, const char *query, struct text *body);

/* Every second or so: forgets what was added by the number of a process that is gone, and says
 * when a bypass has ended. */
void workloads_tend(struct control *c);

#endif
