/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The constants of one workload inside the sk_lookup program. The template holds each of them
 * as a 64-bit immediate with a recognisable value, and the loader writes the real one there:
 * one program per workload, and no map lookup to learn whose it is.
 */
#ifndef SHUNT_LIB_PATCH_H
#define SHUNT_LIB_PATCH_H

#define PATCH_MAGIC 0x7e5a91c3d2b40000ULL /* + enum patch */

enum patch {
	PATCH_NETNS = 0,
	PATCH_INDEX = 1,
	PATCH_GENERATION = 2,
	PATCH_IDENTITY = 3,
	PATCH_FLAGS = 4,
	PATCH_IP4 = 5, /* as it lies in memory, network order */
	PATCH_IP6_HIGH = 6,
	PATCH_IP6_LOW = 7,
	PATCH_COUNT = 8,
};

#ifdef __bpf__
/* volatile and opaque to the compiler: it must not fold, share or compare what it sees. */
#define PATCHED(which)                                                                             \
	({                                                                                         \
		__u64 value_;                                                                      \
		asm volatile("%0 = %1 ll" : "=r"(value_) : "i"(PATCH_MAGIC + (which)));            \
		value_;                                                                            \
	})
#endif

#endif
