/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's own cgroup: the hooks exempt it by id, so no other process may be in it. It is
 * entered before anything is loaded.
 */
#ifndef SHUNT_CGROUP_H
#define SHUNT_CGROUP_H

#include <stddef.h>
#include <stdint.h>

#include "proxy/codec/message.h"

/* Where cgroup2 is mounted, from /proc/self/mountinfo (a hybrid host has it elsewhere than
 * at /sys/fs/cgroup). 0 or -ENOENT. */
__attribute__((warn_unused_result)) int cgroup_find_root(char *path, size_t size);

/* Makes ROOT/shunt-NAME and moves this process into it. -EBUSY when another process is in
 * it. *id is what bpf_get_current_cgroup_id() says there. */
__attribute__((warn_unused_result)) int cgroup_enter(const char *root, const char *name,
						     uint64_t *id);
/* The path of the cgroup with this id, below the root that cgroup_enter() was given ("/" for
 * the root itself); empty when it is gone or cannot be asked. Answers are kept. One thread;
 * valid until the next call. */
struct slice cgroup_path(uint64_t id);

/* The folder of a systemd unit's cgroup: it is named like the unit, and lies in slices. 0 or
 * -errno (-ENOENT: the unit does not run). */
__attribute__((warn_unused_result)) int cgroup_find_unit(const char *root, const char *unit,
							 char *path, size_t size);

/* Back to where the process came from; removes the cgroup if that leaves it empty. */
void cgroup_leave(void);

#endif
