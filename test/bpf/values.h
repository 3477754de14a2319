/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Questions and answers that cross between the test and values.bpf.c. */
#ifndef SHUNT_TEST_VALUES_H
#define SHUNT_TEST_VALUES_H

#include <linux/types.h>

struct verdict_values {
	__u32 source;
	__u32 destination;
	__u32 port; /* network order */
	__u32 egress;
	__u32 ingress;
	__u32 verdict; /* the answer */
	__u32 rule;
	__u32 pad;
};

struct addr_values {
	__u32 word[4];
	__u32 is4; /* the answers */
	__u32 loopback;
	__u32 wildcard;
	__u32 slot_range;
	__u32 carried4;
	__u32 pad;
};

#endif
