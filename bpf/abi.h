/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every struct and constant that the BPF programs and the daemon share. Included by both
 * halves; sizes are asserted by both. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d;
 * addresses and ports are in network order unless a name says otherwise.
 *
 * A change of any type here is a change of layout: raise ABI_LAYOUT, which is part of the
 * pin path, so that a daemon never adopts maps of another layout.
 */
#ifndef SHUNT_ABI_H
#define SHUNT_ABI_H

#ifdef __bpf__
#define ABI_ASSERT(cond, why) _Static_assert(cond, why)
#else
#include <assert.h>
#include <linux/types.h>
#define ABI_ASSERT(cond, why) static_assert(cond, why)
#endif

#include "reason.h"

#define ABI_LAYOUT "v2"

/* Addresses of the daemon's own (interception by address, never by mark):
 * an egress slot is dialled as 127.64.0.0/10 or SLOT6_PREFIX::7f40:0/106, port EGRESS_PORT;
 * the daemon dials applications from 127.128.0.0/10 or SLOT6_PREFIX::7f80:0/106. */
#define MESH_PORT 15008 /* mutual TLS between nodes; who listens there is another mesh */
#define EGRESS_PORT 15001 /* host order; nothing is bound to it, sk_lookup steers */
#define EGRESS_NET4 0x7f400000U /* host order, /10 */
#define DIAL_NET4 0x7f800000U /* host order, /10 */
#define SLOT_NET4_MASK 0xffc00000U
#define SLOT_HOST4_MASK 0x003fffffU /* slot number and its generation */
#define SLOT6_WORD0 0xfd736875U /* fd73:6875:6e74::/64, host order */
#define SLOT6_WORD1 0x6e740000U

#define SLOTS_DEFAULT (1U << 16) /* a power of two, at most 2^18 */
#define SLOTS_MAX (1U << 18)
/* A dial per captured connection, and per one that arrived. The workers share the numbers out
 * beforehand, but not quite the connections: with as many dials as slots one would run out. */
#define DIALS(slots) (2 * (slots))
#define WORKLOADS_MAX 16384U
#define LISTENERS_PER_WORKLOAD 16U /* kinds, see enum listener_kind */
#define ADDRESSES_MAX 65536U
#define POLICY_MAX 65536U
#define PORTS_MAX 65536U
#define EXCLUSIONS_MAX 65536U /* ports, and CIDRs, of all sets together */
#define EVENTS_BYTES (1U << 18)
#define COMM_LEN 16

struct addr16 {
	__u32 word[4];
};

struct endpoint {
	struct addr16 ip;
	__u16 port;
	__u16 family; /* AF_INET or AF_INET6 as the application asked; mapped counts as AF_INET */
};

/* What is to become of a connection: one function says it (lib/verdict.h). The numbers are
 * what the policy map holds. */
enum verdict {
	VERDICT_DENY = 0,
	VERDICT_DIRECT = 1,
	VERDICT_PROXY = 2,
};

/* Identities: one number for one set of labels. */
enum {
	IDENTITY_ANY = 0, /* in a policy key: whoever; never a workload's own */
	IDENTITY_HOST = 1, /* an address of this node */
	IDENTITY_WORLD = 2, /* an address that no document names */
	IDENTITY_FIRST = 256, /* the first one made from labels */
};

enum direction {
	DIRECTION_EGRESS = 0,
	DIRECTION_INGRESS = 1,
};

enum listener_kind {
	LISTENER_EGRESS4 = 0,
	LISTENER_EGRESS6 = 1,
	LISTENER_INGRESS4 = 2,
	LISTENER_INGRESS6 = 3,
	LISTENER_KINDS = 4,
};

/* struct workload.flags */
enum {
	WORKLOAD_EGRESS = 1, /* its connect() is judged */
	WORKLOAD_INGRESS = 2, /* what arrives for it is judged */
	WORKLOAD_AWAY_ALLOW = 4, /* onUnavailable: allow */
	WORKLOAD_STOPPING = 8, /* its daemon takes on what is under way, and nothing new */
};

/* Where a workload is: a place, one number for both kinds. Map `places`: place -> index. */
#define PLACE_CGROUP (1ULL << 63) /* | cgroup id: in the host's namespace, descendants too */
/* else: cookie of a network namespace of its own */

/* A local workload. Map `workloads`, an array by index that the daemon maps: it changes fields
 * in place, one word at a time, so that both directions meet a change at the same moment. */
struct workload {
	__u64 place; /* 0: nobody has this index */
	__u32 index;
	__u32 generation; /* raised when the index is given to another workload */
	__u32 identity;
	__u32 flags;
	struct addr16 ip4; /* own addresses, the first of each family; zero where it has none */
	struct addr16 ip6;
	__u64 bypass_until; /* ns, CLOCK_MONOTONIC: not judged before that */
	__u32 exclusion; /* set of `exclude_ports` and `exclude_cidrs`; 0: none */
	__u32 registry_epoch; /* of the last walk of its namespace that was whole */
	__u64 registry_seen; /* globals.registry_overflow + 1 when that walk began; 0: none was */
	/* written by the programs */
	__u64 event_stamp; /* ns: event tokens are spent up to here */
	__u64 suppressed; /* events left out since load: the daemon's metric */
	__u32 suppressed_since; /* the same, since its last event */
	__u32 slots_used; /* counted up by connect(), down by whoever frees a slot */
};

/* Who holds an address. Map `addresses`, by struct addr16. */
struct address {
	__u32 identity;
	__u32 index; /* of the local workload that holds it: its ingress is judged at connect() */
	__u64 netns; /* cookie of that workload's namespace, or of the host's; 0: neither */
};
#define ADDRESS_NOT_LOCAL 0xffffffffU

/* Traffic that is left alone, by set: destination ports, and remote addresses. */
struct exclude_port {
	__u32 set;
	__u16 port; /* network order */
	__u16 pad;
};
struct exclude_cidr {
	__u32 prefix; /* bits that count, those of `set` included */
	__u32 set;
	struct addr16 ip;
};
#define EXCLUDE_SET_BITS 32U

/* Map `policy`: the first of these keys that is present decides:
 * (peer, port) (peer, 0) (ANY, port) (ANY, 0); none present: VERDICT_DIRECT, rule 0.
 * The builder resolves unions beforehand, so that the first hit is the whole answer. */
struct policy_key {
	__u32 subject; /* identity of the workload the policy selects */
	__u32 peer; /* identity of the other side, or IDENTITY_ANY */
	__u16 port; /* destination port, network order; 0: any */
	__u8 direction; /* enum direction, as the subject sees it */
	__u8 protocol; /* IPPROTO_TCP */
};
struct policy_entry {
	__u32 verdict; /* enum verdict */
	__u32 rule; /* id of the rule that says so, of the revision in `globals` */
};

/* An egress slot: where a captured connection was really going. Map `slots`, an array that
 * the daemon maps. Connect writes everything and `addr` last; the daemon believes a slot
 * only under its own full address and frees it by storing SLOT_FREE. */
enum {
	SLOT_FREE = 0,
	SLOT_WRITTEN = 1,
	SLOT_CLAIMED = 2,
};
struct slot {
	__u32 used; /* above; compare-and-swap only */
	__u32 addr; /* 127.64.x.y that dials it, network order */
	__u64 cookie; /* of the client's socket */
	__u64 cgroup; /* of the connecting process */
	__u64 netns; /* cookie */
	__u64 stamp; /* ns, CLOCK_MONOTONIC */
	struct endpoint dst; /* as the application dialled it */
	__u32 workload; /* index */
	__u32 generation;
	__u32 rule;
	__u32 pid;
	__u32 identity; /* of the source */
	__u64 revision;
	char comm[COMM_LEN];
	__u32 peer; /* index of the local workload it goes to, or ADDRESS_NOT_LOCAL */
	__u32 dialled; /* sockops has seen the SYN leave: connect() did not fail after us */
	__u8 pad[16];
};

/* The place of slot number `n` (of an address: its low 22 bits) in the array. Neighbours in
 * number are far apart in place, so that a burst of long-lived connections leaves no run of
 * taken slots for the next ones to fail on. Odd, so that no two numbers of a lap meet. */
#define SLOT_PLACE(n, slots) (((n)*0x9e3779b1U) & ((slots)-1))

/* A dial of the daemon towards an application: who the application shall see. Map `dials`,
 * mapped too, written by the daemon alone and complete before the SYN leaves. The address
 * dialled from carries the number: 127.128.x.y. */
struct dial {
	__u64 netns; /* cookie of the namespace it is dialled in */
	struct endpoint client; /* shown by getpeername() of the accepted socket */
	__u16 sport; /* the dial's own source port, network order */
	__u16 used;
	__u64 pad[4];
};

/* Map `ports`, the registry of listening ports. sockops counts what begins and ends to listen
 * (`live`); a walk over the sockets of a namespace finds what was there before (`walked`). An
 * entry that is neither is nobody's. */
struct port_key {
	__u64 netns;
	struct addr16 ip; /* all zero: wildcard */
	__u16 port; /* network order */
	__u16 pad[3];
};
struct port {
	__u32 live;
	__u32 walked; /* epoch of the last walk that found one sockops does not know; 0: none */
	__u64 owner; /* place of the host workload whose socket listens; 0: none */
};

/* One record of the ring buffer `events`: a connection that the kernel denied. */
struct event {
	__u64 entry; /* ns, CLOCK_MONOTONIC: the program began */
	__u64 leave; /* ns: the verdict stood */
	__u64 netns; /* of the workload that met the verdict */
	__u64 cgroup; /* of the calling process; 0 at sk_lookup */
	__u64 revision;
	struct endpoint src; /* port 0 at connect(): not bound yet */
	struct endpoint dst;
	__u32 reason; /* enum reason */
	__u32 rule;
	__u32 src_identity;
	__u32 dst_identity;
	__u32 errno_value; /* what connect() returns; ECONNREFUSED by RST at sk_lookup */
	__u32 pid; /* 0 at sk_lookup */
	__u32 suppressed; /* events of this workload left out since its last one */
	__u32 workload; /* index of the one that met the verdict */
	__u32 peer; /* index of the local workload at the other end, or ADDRESS_NOT_LOCAL */
	__u8 direction; /* enum direction */
	__u8 pad[3];
	char comm[COMM_LEN];
};

/* Map `counters`: per CPU, by enum reason: connections the kernel refused, logged or not. */

/* Map `owners`, by port in network order: declared ports of host workloads, as places. They
 * count before the registry: socket-activated units are listened for by PID 1. */

/* Map `globals`, one element, mapped by the daemon. */
struct globals {
	__u64 self_cgroup; /* the daemon's own cgroup, exempt from every hook */
	__u64 host_netns; /* cookie of the namespace that host workloads live in: the daemon's */
	__u64 revision; /* policy revision that `policy` holds */
	__u64 event_rate; /* events per second and workload, also the burst */
	__u64 captured; /* connections given a slot */
	__u64 steered; /* connections given to an ingress listener */
	__u64 registry_overflow; /* insertions into `ports` that failed: walks of before are void */
	__u64 walk_netns; /* the walk of the registry that runs: its namespace */
	__u32 walk_epoch; /* ... and number, never the same twice */
	__u32 walk_failed; /* listeners it could not enter */
	__u32 next_slot;
	__u32 slot_mask; /* slots - 1 */
	__u32 slot_quota; /* slots one workload may hold */
	__u32 host_workloads; /* how many there are */
	__u32 policy_changes; /* odd while one entry of `policy` changes: see lib/verdict.h */
	__u32 arrivals_open; /* counted by the daemon: what arrived and is open in it, has no slot */
};

ABI_ASSERT(sizeof(struct addr16) == 16, "addr16");
ABI_ASSERT(sizeof(struct endpoint) == 20, "endpoint");
ABI_ASSERT(sizeof(struct workload) == 104, "workload");
ABI_ASSERT(sizeof(struct address) == 16, "address");
ABI_ASSERT(sizeof(struct policy_key) == 12, "policy_key");
ABI_ASSERT(sizeof(struct slot) == 128, "slot");
ABI_ASSERT(sizeof(struct dial) == 64, "dial");
ABI_ASSERT(sizeof(struct exclude_port) == 8, "exclude_port");
ABI_ASSERT(sizeof(struct exclude_cidr) == 24, "exclude_cidr");
ABI_ASSERT(sizeof(struct port_key) == 32, "port_key");
ABI_ASSERT(sizeof(struct port) == 16, "port");
ABI_ASSERT(sizeof(struct event) == 136, "event");
ABI_ASSERT(sizeof(struct globals) == 96, "globals");

#endif
