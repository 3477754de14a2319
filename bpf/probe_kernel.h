/* SPDX-License-Identifier: Apache-2.0 */
/* What the trials of kernel programs share (see proxy/probe_impl.h for what a trial is). */
#ifndef SHUNT_PROBE_KERNEL_H
#define SHUNT_PROBE_KERNEL_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "proxy/probe_impl.h"

/* Opens the object of the generated skeleton `name` with only the programs and maps that are
 * listed, and loads them. One that the kernel refuses hides no other. */
#define probe_load(t, name, ...)                                                                   \
	({                                                                                         \
		struct name *skeleton_ = name##__open();                                           \
                                                                                                   \
		if (skeleton_ == NULL)                                                             \
			trial_refused(t, -errno, "reading the programs");                          \
		probe_select(skeleton_->obj, (const char *const[]){__VA_ARGS__, NULL});            \
		probe_loaded(t, name##__load(skeleton_));                                          \
		skeleton_;                                                                         \
	})
void probe_select(struct bpf_object *object, const char *const *names);
void probe_loaded(struct trial *t, int err);

/* Attaches by a link, which ends with the trial: its descriptor. */
int probe_attach(struct trial *t, const struct bpf_program *program, int target,
		 enum bpf_attach_type type);
void probe_map_put(struct trial *t, int map, uint32_t key, int fd);

#endif
