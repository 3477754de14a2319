// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sk_lookup: egress slots to the daemon's egress listener; what arrives from outside is judged
 * by the same verdict as connect() and passes, goes to the ingress listener or is dropped (the
 * stack answers RST). In the host's namespace the workload is the one that serves the port.
 *
 * Two programs. `inbound_door` is attached: one small instance per network namespace, made by
 * the loader (lib/patch.h), that says where it stands and calls `inbound`, which there is once
 * and which is replaced for all of them at one moment.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/addr.h"
#include "lib/event.h"
#include "lib/maps.h"
#include "lib/patch.h"
#include "lib/verdict.h"
#include "lib/workload.h"

#define AF_INET 2
#define ECONNREFUSED 111
#define LO_IFINDEX 1 /* in every network namespace */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The door that calls, one for each CPU: no other lookup of this CPU comes between, but one of a
 * softirq that is through before the interrupted one goes on, and then that one is no packet's. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64); /* cookie of its namespace */
} door_netns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} door_program SEC(".maps");

SEC("sk_lookup")
int inbound_door(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	__u64 *netns = bpf_map_lookup_elem(&door_netns, &zero);

	if (netns == NULL)
		return SK_DROP; /* never: it is an array's one element */
	*netns = PATCHED(PATCH_NETNS);
	bpf_tail_call(ctx, &door_program, 0);
	return SK_DROP; /* never: the program is there before the first door */
}

/* One arriving connection, on values. */
struct arrival {
	struct endpoint src;
	struct endpoint dst;
	__u64 entry;
	__u64 netns;
	struct globals *globals;
	const struct address *from; /* who holds the source's address, or NULL */
	__u32 identity; /* of the source */
	struct judgement judgement;
};

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

static __always_inline int drop(const struct arrival *a, struct workload *w, enum reason reason)
{
	struct event e = {
		.entry = a->entry,
		.netns = a->netns,
		.revision = a->globals->revision,
		.src = a->src,
		.dst = a->dst,
		.reason = reason,
		.rule = a->judgement.rule,
		.src_identity = a->identity,
		.errno_value = ECONNREFUSED,
		.peer = ADDRESS_NOT_LOCAL, /* nothing but its address is known of the source */
		.direction = DIRECTION_INGRESS,
	};

	if (w == NULL) {
		count_reason(reason);
		return SK_DROP;
	}
	e.dst_identity = w->identity;
	event_refused(w, a->globals->event_rate, &e);
	return SK_DROP;
}

/* Gives the connection to the daemon's listener; the reason says why it could not. */
static __always_inline enum reason give(struct bpf_sk_lookup *ctx, const struct workload *w,
					enum listener_kind kind)
{
	__u32 key = w->index * LISTENERS_PER_WORKLOAD + kind;
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &key);
	long err;

	if (sk == NULL)
		return REASON_DAEMON_AWAY;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err == 0 ? REASON_NONE : REASON_STEER_FAILED;
}

/* The workload that connect() wrote this slot for; NULL: nobody did, or it left since. */
static __always_inline struct workload *slot_workload(const struct arrival *a, __u32 addr)
{
	__u32 i = SLOT_PLACE(bpf_ntohl(addr), a->globals->slot_mask + 1);
	const struct slot *s = bpf_map_lookup_elem(&slots, &i);
	struct workload *w;

	if (s == NULL || s->addr != addr || s->netns != a->netns || s->used == SLOT_FREE)
		return NULL;
	w = workload_of(s->workload);
	return w != NULL && w->generation == s->generation ? w : NULL;
}

/* Somebody may listen on 0.0.0.0:15001: what is in our ranges is given to the daemon or
 * dropped, never passed. The v6 prefix can arrive from the wire, 127/8 cannot. */
static __always_inline int egress(struct bpf_sk_lookup *ctx, const struct arrival *a)
{
	bool over4 = ctx->family == AF_INET;
	__u32 addr = addr_carried4(a->dst.ip);
	struct workload *w;
	enum reason reason;

	if ((!over4 && ctx->ingress_ifindex != LO_IFINDEX) || !addr4_is_slot(addr) ||
	    ctx->local_port != EGRESS_PORT)
		return drop(a, workload_at(a->netns), REASON_SLOT_FORGED);
	w = slot_workload(a, addr);
	if (w == NULL)
		return drop(a, workload_at(a->netns), REASON_SLOT_FORGED);
	reason = give(ctx, w, over4 ? LISTENER_EGRESS4 : LISTENER_EGRESS6);
	return reason == REASON_NONE ? SK_PASS : drop(a, w, reason);
}

/* By address: ingress_ifindex does not say "lo" for traffic to the namespace's own address, and
 * taking that for traffic from outside would capture the daemon's own dials for ever. */
static __always_inline bool is_local_source(const struct arrival *a)
{
	struct addr16 src = a->src.ip;

	if (addr_is_loopback(src) || addr_is_ours6(src) || addr_equal(src, a->dst.ip))
		return true;
	return a->from != NULL && a->from->netns == a->netns;
}

static __always_inline void judge(struct arrival *a, const struct workload *w)
{
	struct question q = {
		.destination = w->identity,
		.port = a->dst.port,
		.ingress = true, /* egress was judged where the source connected */
	};

	a->identity = a->from != NULL ? a->from->identity : IDENTITY_WORLD;
	q.source = a->identity;
	a->judgement = verdict_judge(q, a->globals);
}

static __always_inline int ingress(struct bpf_sk_lookup *ctx, struct arrival *a, struct workload *w)
{
	enum reason reason;

	judge(a, w);
	if (a->judgement.verdict == VERDICT_DIRECT)
		return SK_PASS;
	if (a->judgement.verdict != VERDICT_PROXY)
		return drop(a, w, REASON_POLICY_L4);
	/* RST, as the kernel would answer without us. Not by passing: one that begins to listen
	 * this very moment would take it unjudged. */
	if (nobody_listens(a->globals, w, a->netns, a->dst.ip, a->dst.port))
		return SK_DROP;
	reason = REASON_DAEMON_AWAY;
	if (!(w->flags & WORKLOAD_STOPPING))
		reason = give(ctx, w,
			      ctx->family == AF_INET ? LISTENER_INGRESS4 : LISTENER_INGRESS6);
	if (reason == REASON_DAEMON_AWAY && (w->flags & WORKLOAD_AWAY_ALLOW)) {
		/* Of a workload of this node connect() has counted it. */
		if (a->from == NULL || a->from->index == ADDRESS_NOT_LOCAL)
			count_reason(REASON_AWAY_ALLOWED);
		return SK_PASS;
	}
	if (reason != REASON_NONE)
		return drop(a, w, reason);
	__sync_fetch_and_add(&a->globals->steered, 1);
	return SK_PASS;
}

static __always_inline struct workload *arrives_for(const struct arrival *a)
{
	if (a->netns != a->globals->host_netns)
		return workload_at(a->netns);
	return a->globals->host_workloads ? workload_serving(a->globals, a->dst.ip, a->dst.port)
					  : NULL;
}

static __always_inline int lookup(struct bpf_sk_lookup *ctx)
{
	struct arrival a = {.identity = IDENTITY_WORLD};
	struct workload *w;
	const __u64 *netns;
	__u32 zero = 0;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	a.entry = bpf_ktime_get_ns();
	netns = bpf_map_lookup_elem(&door_netns, &zero);
	a.globals = globals_get();
	if (netns == NULL || a.globals == NULL)
		return SK_DROP; /* never: both are an array's one element */
	a.netns = *netns;
	read_arrival(ctx, &a);
	if (addr_is_slot_range(a.dst.ip))
		return egress(ctx, &a);
	a.from = bpf_map_lookup_elem(&addresses, &a.src.ip);
	if (is_local_source(&a))
		return SK_PASS;
	w = arrives_for(&a);
	if (w == NULL || !(w->flags & WORKLOAD_INGRESS) || workload_bypassed(w, a.entry) ||
	    workload_excludes(w, a.dst.port, a.src.ip))
		return SK_PASS;
	return ingress(ctx, &a, w);
}

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	int action = lookup(ctx);

	barrier_var(action); /* tells the verifier what the compiler knows: SK_DROP or SK_PASS */
	return action & 1;
}
