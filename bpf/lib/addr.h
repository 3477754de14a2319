/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an address is: v4-in-v6, loopback, one of our own ranges. Value in, value out; no map,
 * no context, so a test program can call all of it.
 */
#ifndef SHUNT_LIB_ADDR_H
#define SHUNT_LIB_ADDR_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../abi.h"

#define ADDR_MAPPED_WORD 0xffffU /* third word of ::ffff:a.b.c.d, host order */

static __always_inline struct addr16 addr_from4(__u32 ip4)
{
	struct addr16 a = {{0, 0, bpf_htonl(ADDR_MAPPED_WORD), ip4}};

	return a;
}

static __always_inline bool addr_is4(struct addr16 a)
{
	return (a.word[0] | a.word[1]) == 0 && a.word[2] == bpf_htonl(ADDR_MAPPED_WORD);
}

static __always_inline bool addr_is_zero(struct addr16 a)
{
	return (a.word[0] | a.word[1] | a.word[2] | a.word[3]) == 0;
}

static __always_inline bool addr_equal(struct addr16 a, struct addr16 b)
{
	return a.word[0] == b.word[0] && a.word[1] == b.word[1] && a.word[2] == b.word[2] &&
	       a.word[3] == b.word[3];
}

/* The v4 tests take an address in network order. */
static __always_inline bool addr4_is_loopback(__u32 ip4)
{
	return (ip4 & bpf_htonl(0xff000000U)) == bpf_htonl(0x7f000000U);
}

static __always_inline bool addr4_is_slot(__u32 ip4)
{
	return (ip4 & bpf_htonl(SLOT_NET4_MASK)) == bpf_htonl(EGRESS_NET4);
}

static __always_inline bool addr4_is_dial(__u32 ip4)
{
	return (ip4 & bpf_htonl(SLOT_NET4_MASK)) == bpf_htonl(DIAL_NET4);
}

/* Anything below our own /64. */
static __always_inline bool addr_is_ours6(struct addr16 a)
{
	return a.word[0] == bpf_htonl(SLOT6_WORD0) && a.word[1] == bpf_htonl(SLOT6_WORD1);
}

static __always_inline struct addr16 addr_to_ours6(__u32 ip4)
{
	struct addr16 a = {{bpf_htonl(SLOT6_WORD0), bpf_htonl(SLOT6_WORD1), 0, ip4}};

	return a;
}

/* The 127.64.x.y or 127.128.x.y that an address of either family carries; 0 if it is none. */
static __always_inline __u32 addr_carried4(struct addr16 a)
{
	bool carries = addr_is4(a) || (addr_is_ours6(a) && a.word[2] == 0);

	return carries && (addr4_is_slot(a.word[3]) || addr4_is_dial(a.word[3])) ? a.word[3] : 0;
}

/* No application may dial these: a forged slot would be somebody else's destination. */
static __always_inline bool addr_is_slot_range(struct addr16 a)
{
	return addr_is_ours6(a) || (addr_is4(a) && addr4_is_slot(a.word[3]));
}

static __always_inline bool addr_is_loopback(struct addr16 a)
{
	if (addr_is4(a))
		return addr4_is_loopback(a.word[3]);
	return (a.word[0] | a.word[1] | a.word[2]) == 0 && a.word[3] == bpf_htonl(1);
}

/* Linux connects 0.0.0.0 and :: to loopback. */
static __always_inline bool addr_is_wildcard(struct addr16 a)
{
	return addr_is_zero(a) || (addr_is4(a) && a.word[3] == 0);
}

#endif
