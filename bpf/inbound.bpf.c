// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sk_lookup: egress slots to the daemon's egress listener; what arrives from outside is judged
 * by the same verdict as connect() and passes, goes to the ingress listener or is dropped (the
 * stack answers RST). A template: the loader makes one instance per workload (lib/patch.h).
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/addr.h"
#include "lib/event.h"
#include "lib/maps.h"
#include "lib/patch.h"
#include "lib/verdict.h"

#define AF_INET 2
#define ECONNREFUSED 111
#define LO_IFINDEX 1 /* in every network namespace */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* One arriving connection, on values. */
struct arrival {
	struct endpoint src;
	struct endpoint dst;
	__u64 entry;
	__u32 identity; /* of the source */
	struct judgement judgement;
};

static __always_inline struct addr16 own_ip4(void)
{
	return addr_from4((__u32)PATCHED(PATCH_IP4));
}

static __always_inline struct addr16 own_ip6(void)
{
	__u64 high = PATCHED(PATCH_IP6_HIGH), low = PATCHED(PATCH_IP6_LOW);
	struct addr16 a = {{(__u32)high, (__u32)(high >> 32), (__u32)low, (__u32)(low >> 32)}};

	return a;
}

/* Both families are read, unconditionally: the compiler would make one load through a chosen
 * pointer of two, and the verifier takes no computed context pointer. The absent one is 0. */
static __always_inline void read_arrival(const volatile struct bpf_sk_lookup *ctx,
					 struct arrival *a)
{
	__u32 remote4 = ctx->remote_ip4, local4 = ctx->local_ip4;
	struct addr16 remote6 = {
		{ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]}};
	struct addr16 local6 = {
		{ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]}};
	bool over4 = ctx->family == AF_INET;

	a->src.ip = over4 ? addr_from4(remote4) : remote6;
	a->dst.ip = over4 ? addr_from4(local4) : local6;
	a->src.port = ctx->remote_port;
	a->dst.port = bpf_htons((__u16)ctx->local_port);
	a->src.family = a->dst.family = (__u16)ctx->family;
}

static __always_inline int drop(const struct arrival *a, enum reason reason)
{
	__u64 netns = PATCHED(PATCH_NETNS);
	struct workload *w = bpf_map_lookup_elem(&workloads, &netns);
	const struct globals *g = globals_get();
	struct event e = {
		.entry = a->entry,
		.netns = netns,
		.src = a->src,
		.dst = a->dst,
		.reason = reason,
		.rule = a->judgement.rule,
		.src_identity = a->identity,
		.dst_identity = (__u32)PATCHED(PATCH_IDENTITY),
		.errno_value = ECONNREFUSED,
		.direction = DIRECTION_INGRESS,
	};

	if (w == NULL || g == NULL) {
		count_reason(reason);
		return SK_DROP;
	}
	e.revision = g->revision;
	event_refused(w, g->event_rate, &e);
	return SK_DROP;
}

/* Gives the connection to the daemon's listener; the reason says why it could not. An instance
 * that was left behind must not use the listener of whoever has its index now. */
static __always_inline enum reason give(struct bpf_sk_lookup *ctx, enum listener_kind kind)
{
	__u32 key = (__u32)PATCHED(PATCH_INDEX) * LISTENERS_PER_WORKLOAD + kind;
	__u64 netns = PATCHED(PATCH_NETNS);
	const struct workload *w = bpf_map_lookup_elem(&workloads, &netns);
	struct bpf_sock *sk;
	long err;

	if (w == NULL || w->generation != (__u32)PATCHED(PATCH_GENERATION))
		return REASON_STEER_FAILED;
	sk = bpf_map_lookup_elem(&listeners, &key);
	if (sk == NULL)
		return REASON_DAEMON_AWAY;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err == 0 ? REASON_NONE : REASON_STEER_FAILED;
}

/* Somebody may listen on 0.0.0.0:15001: what is in our ranges is given to the daemon or
 * dropped, never passed. The v6 prefix can arrive from the wire, 127/8 cannot. */
static __always_inline int egress(struct bpf_sk_lookup *ctx, const struct arrival *a)
{
	bool over4 = ctx->family == AF_INET;
	__u32 addr = addr_carried4(a->dst.ip);
	enum reason reason;

	if ((!over4 && ctx->ingress_ifindex != LO_IFINDEX) || !addr4_is_slot(addr) ||
	    ctx->local_port != EGRESS_PORT)
		return drop(a, REASON_SLOT_FORGED);
	reason = give(ctx, over4 ? LISTENER_EGRESS4 : LISTENER_EGRESS6);
	return reason == REASON_NONE ? SK_PASS : drop(a, reason);
}

/* By address: ingress_ifindex does not say "lo" for traffic to the namespace's own address, and
 * taking that for traffic from outside would capture the daemon's own dials for ever. */
static __always_inline bool is_local_source(const struct arrival *a)
{
	struct addr16 src = a->src.ip;

	if (addr_is_loopback(src) || addr_is_ours6(src) || addr_equal(src, a->dst.ip))
		return true;
	return addr_is4(src) ? addr_equal(src, own_ip4()) : addr_equal(src, own_ip6());
}

static __always_inline bool port_served(struct addr16 ip, __u16 port)
{
	struct port_key key = {.netns = PATCHED(PATCH_NETNS), .ip = ip, .port = port};
	const struct port *p = bpf_map_lookup_elem(&ports, &key);

	return p != NULL && p->count != 0;
}

/* Only a registry that is known to be whole may say so: passing on a miss of any other would
 * let a listener it does not know escape its policy. */
static __always_inline bool nobody_listens(const struct arrival *a)
{
	const struct globals *g = globals_get();
	struct addr16 wildcard = {};

	if (!(PATCHED(PATCH_FLAGS) & WORKLOAD_REGISTRY_COMPLETE) || g == NULL ||
	    g->registry_overflow != 0)
		return false;
	return !port_served(wildcard, a->dst.port) && !port_served(a->dst.ip, a->dst.port);
}

static __always_inline void judge(struct arrival *a, const struct globals *g)
{
	const struct address *from = bpf_map_lookup_elem(&addresses, &a->src.ip);
	struct question q = {
		.destination = (__u32)PATCHED(PATCH_IDENTITY),
		.port = a->dst.port,
		.ingress = true, /* egress was judged where the source connected */
	};

	a->identity = from != NULL ? from->identity : IDENTITY_WORLD;
	q.source = a->identity;
	a->judgement = verdict_judge(q, g);
}

static __always_inline int ingress(struct bpf_sk_lookup *ctx, struct arrival *a)
{
	struct globals *g = globals_get();
	enum reason reason;

	if (g == NULL)
		return SK_DROP; /* never: it is an array's one element */
	judge(a, g);
	if (a->judgement.verdict == VERDICT_DIRECT)
		return SK_PASS;
	if (a->judgement.verdict != VERDICT_PROXY)
		return drop(a, REASON_POLICY_L4);
	if (nobody_listens(a))
		return SK_PASS; /* the kernel answers RST, as it would without us */
	reason = give(ctx, ctx->family == AF_INET ? LISTENER_INGRESS4 : LISTENER_INGRESS6);
	if (reason != REASON_NONE)
		return drop(a, reason);
	__sync_fetch_and_add(&g->steered, 1);
	return SK_PASS;
}

static __always_inline int lookup(struct bpf_sk_lookup *ctx)
{
	struct arrival a = {.identity = IDENTITY_WORLD};

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	a.entry = bpf_ktime_get_ns();
	read_arrival(ctx, &a);
	if (addr_is_slot_range(a.dst.ip))
		return egress(ctx, &a);
	if (is_local_source(&a) || !(PATCHED(PATCH_FLAGS) & WORKLOAD_INGRESS))
		return SK_PASS;
	return ingress(ctx, &a);
}

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	int action = lookup(ctx);

	barrier_var(action); /* tells the verifier what the compiler knows: SK_DROP or SK_PASS */
	return action & 1;
}
