/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities: what the daemon asks for at start, and what each kind of thread keeps. They are
 * per thread in Linux, so each gives up its own, for good: the bounding set too.
 */
#ifndef SHUNT_PRIVILEGE_H
#define SHUNT_PRIVILEGE_H

#include <stdbool.h>

struct text;

/* Whose thread it is. */
enum privilege {
	PRIVILEGE_CONTROL, /* maps and programs; namespaces and documents of anybody */
	PRIVILEGE_NETNS, /* enters namespaces; routes */
	PRIVILEGE_LOG, /* names cgroups */
	PRIVILEGE_WORKER, /* parses what peers send: none */
	PRIVILEGES,
};

/* Does this process hold what starting needs? 0, or -EPERM; the log names what is missing. From
 * then on no program that it executes gains any. */
__attribute__((warn_unused_result)) int privilege_check(void);

/* The calling thread keeps what its kind needs, of what it has. Aborts when it cannot. */
void privilege_keep(enum privilege kind);

/* Adds who holds what, by the kernel's word: "control cap_bpf, ...; workers none". False when a
 * thread holds more than its kind needs. */
bool privilege_describe(struct text *t);

#endif
