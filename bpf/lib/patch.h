/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What one instance of the sk_lookup program knows by itself: the cookie of the network
 * namespace it is attached to, which this kind of program cannot ask for. The template holds
 * it as a 64-bit immediate with a recognisable value, and the loader writes the real one there.
 */
#ifndef SHUNT_LIB_PATCH_H
#define SHUNT_LIB_PATCH_H

#define PATCH_MAGIC 0x7e5a91c3d2b40000ULL /* + enum patch */

enum patch {
	PATCH_NETNS = 0,
	PATCH_COUNT = 1,
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
