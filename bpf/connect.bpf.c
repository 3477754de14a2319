// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * connect(): whose is it, where to, verdict; what is to be proxied is recorded in a slot and
 * sent to the slot's own address. getpeername() and getsockname() show the applications the
 * names they would see without us. Attached once, at the root of cgroup2.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/addr.h"
#include "lib/event.h"
#include "lib/maps.h"
#include "lib/verdict.h"
#include "lib/workload.h"

#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_BINDTODEVICE 25
#define EPERM 1
#define ECONNREFUSED 111

#define SLOT_TRIES 8
#define CGROUP_DEPTH 24 /* levels below the root that a host workload is looked for */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum answer {
	ANSWER_REFUSE = 0, /* the first two are what the kernel takes */
	ANSWER_PASS = 1,
	ANSWER_CAPTURE = 2, /* pass, with the slot's address as the destination */
};

/* One connect(), on values. */
struct call {
	struct endpoint dst;
	__u64 entry;
	__u64 netns;
	struct workload *workload;
	struct globals *globals;
	__u32 identity; /* of the destination */
	__u32 peer; /* index of the local workload that is the destination */
	struct judgement judgement;
};

/* Takes a free slot: its number and its lap are the address it is dialled by. A few tries,
 * then NULL: a full table never overwrites a record still in use. */
static __always_inline struct slot *slot_take(struct globals *g, __u32 *addr)
{
	for (int tries = 0; tries < SLOT_TRIES; tries++) {
		__u32 n = __sync_fetch_and_add(&g->next_slot, 1);
		__u32 i = SLOT_PLACE(n, g->slot_mask + 1);
		struct slot *s = bpf_map_lookup_elem(&slots, &i);

		if (s != NULL &&
		    __sync_val_compare_and_swap(&s->used, SLOT_FREE, SLOT_WRITTEN) == SLOT_FREE) {
			*addr = bpf_htonl(EGRESS_NET4 | (n & SLOT_HOST4_MASK));
			return s;
		}
	}
	return NULL;
}

/* Records before the caller rewrites: a connection whose destination was not saved is refused,
 * never misrouted. */
static __always_inline void slot_write(struct slot *s, struct bpf_sock_addr *ctx,
				       const struct call *c, __u32 addr)
{
	/* getpeername() still believes the old address of a freed slot: take that away first. */
	*(volatile __u32 *)&s->addr = 0;
	s->cookie = bpf_get_socket_cookie(ctx);
	s->cgroup = bpf_get_current_cgroup_id();
	s->netns = c->netns;
	s->stamp = c->entry;
	s->dst = c->dst;
	s->workload = c->workload->index;
	s->generation = c->workload->generation;
	s->rule = c->judgement.rule;
	s->pid = bpf_get_current_pid_tgid() >> 32;
	s->identity = c->workload->identity;
	s->revision = c->globals->revision;
	s->peer = c->peer;
	s->dialled = 0;
	bpf_get_current_comm(s->comm, sizeof s->comm);
	__sync_lock_test_and_set(&s->addr, addr); /* last, and a full barrier */
}

/* The quota is counted before the slot is looked for: who is at his share leaves the others
 * theirs. The daemon counts down when it frees one. */
static __always_inline enum reason capture(struct bpf_sock_addr *ctx, const struct call *c,
					   __u32 *addr)
{
	__u32 *used = &c->workload->slots_used;
	struct slot *s = NULL;

	if (__sync_fetch_and_add(used, 1) >= c->globals->slot_quota) {
		__sync_fetch_and_sub(used, 1);
		return REASON_SLOTS_QUOTA;
	}
	s = slot_take(c->globals, addr);
	if (s == NULL) {
		__sync_fetch_and_sub(used, 1);
		return REASON_SLOTS_FULL;
	}
	slot_write(s, ctx, c, *addr);
	__sync_fetch_and_add(&c->globals->captured, 1);
	return REASON_NONE;
}

/* The daemon lives as long as its listener is in its place: the socket leaves the map when
 * its last descriptor is closed, and the very next connect() knows. One that stops says so
 * while its listeners are there: the SYN of a connect() before this one is still on its way. */
static __always_inline bool daemon_listens(const struct workload *w, enum listener_kind kind)
{
	__u32 key = w->index * LISTENERS_PER_WORKLOAD + kind;
	struct bpf_sock *sk;

	if (w->flags & WORKLOAD_STOPPING)
		return false;
	sk = bpf_map_lookup_elem(&listeners, &key);
	if (sk == NULL)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Never ours: loopback in every spelling, and the addresses of the own namespace. */
static __always_inline bool is_own(const struct call *c, const struct address *to)
{
	const struct workload *w = c->workload;
	struct addr16 dst = c->dst.ip;

	if (addr_is_wildcard(dst) || addr_is_loopback(dst))
		return true;
	return (to != NULL && to->netns == c->netns) || addr_equal(dst, w->ip4) ||
	       addr_equal(dst, w->ip6);
}

/* The workload on this node that is the destination, or NULL. */
static __always_inline const struct workload *destination(const struct call *c,
							  const struct address *to)
{
	if (to == NULL)
		return NULL;
	if (to->index != ADDRESS_NOT_LOCAL)
		return workload_of(to->index);
	if (to->netns == 0 || to->netns != c->globals->host_netns || !c->globals->host_workloads)
		return NULL;
	return workload_serving(c->globals, c->dst.ip, c->dst.port);
}

static __always_inline void judge(struct call *c, const struct address *to,
				  const struct workload *peer)
{
	const struct workload *own = c->workload;
	struct question q = {
		.source = own->identity,
		.destination = to != NULL ? to->identity : IDENTITY_WORLD,
		.port = c->dst.port,
		.egress = true,
	};

	if (peer != NULL) {
		if (to->index == ADDRESS_NOT_LOCAL)
			q.destination = peer->identity;
		c->peer = peer->index;
		q.ingress = (peer->flags & WORKLOAD_INGRESS) != 0 &&
			    !workload_bypassed(peer, c->entry) &&
			    !workload_excludes(peer, q.port,
					       c->dst.family == AF_INET ? own->ip4 : own->ip6);
	}
	c->identity = q.destination;
	c->judgement = verdict_judge(q, c->globals);
}

static __always_inline int refuse(const struct call *c, enum reason reason)
{
	int error = reason == REASON_SLOT_FORGED ? EPERM : ECONNREFUSED;
	const struct workload *w = c->workload;
	struct event e = {
		.entry = c->entry,
		.netns = c->netns,
		.cgroup = bpf_get_current_cgroup_id(),
		.revision = c->globals->revision,
		.src = {.ip = c->dst.family == AF_INET ? w->ip4 : w->ip6, .family = c->dst.family},
		.dst = c->dst,
		.reason = reason,
		.rule = c->judgement.rule,
		.src_identity = w->identity,
		.dst_identity = c->identity,
		.errno_value = error,
		.pid = bpf_get_current_pid_tgid() >> 32,
		.peer = c->peer,
		.direction = DIRECTION_EGRESS,
	};

	bpf_get_current_comm(e.comm, sizeof e.comm);
	event_refused(c->workload, c->globals->event_rate, &e);
	bpf_set_retval(-error);
	return ANSWER_REFUSE;
}

/* The verdict and, for PROXY, the slot; REASON_NONE and no `addr` means: go on as you are. */
static __always_inline enum reason decide(struct bpf_sock_addr *ctx, struct call *c,
					  const struct address *to, __u32 *addr)
{
	const struct workload *peer = destination(c, to);
	bool over4 = addr_is4(c->dst.ip);

	judge(c, to, peer);
	if (c->judgement.verdict == VERDICT_DIRECT)
		return REASON_NONE;
	if (c->judgement.verdict != VERDICT_PROXY)
		return REASON_POLICY_L4;
	/* Through the daemon it would be accepted first and reset then. */
	if (peer != NULL && to != NULL &&
	    nobody_listens(c->globals, peer, to->netns, c->dst.ip, c->dst.port))
		return REASON_NOBODY_LISTENS;
	if (daemon_listens(c->workload, over4 ? LISTENER_EGRESS4 : LISTENER_EGRESS6))
		return capture(ctx, c, addr);
	if (!(c->workload->flags & WORKLOAD_AWAY_ALLOW))
		return REASON_DAEMON_AWAY;
	count_reason(REASON_AWAY_ALLOWED);
	return REASON_NONE;
}

/* A host workload is the deepest cgroup of the caller's that is one: its index, or
 * ADDRESS_NOT_LOCAL. The verifier goes through it once. */
__attribute__((noinline)) __u32 host_workload(void)
{
	__u32 found = ADDRESS_NOT_LOCAL;

	for (int level = 1; level <= CGROUP_DEPTH; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		const struct workload *w;

		if (id == 0)
			break;
		w = workload_at(id | PLACE_CGROUP);
		if (w != NULL)
			found = w->index;
	}
	return found;
}

static __always_inline struct workload *caller(__u64 netns, const struct globals *g)
{
	if (netns != g->host_netns)
		return workload_at(netns);
	return g->host_workloads ? workload_of(host_workload()) : NULL;
}

/* The order is part of the design: whose, exempt, forged, own and excluded, and only then the
 * verdict. */
static __always_inline enum answer answer(struct bpf_sock_addr *ctx, struct endpoint dst,
					  __u32 *addr)
{
	struct call c = {.dst = dst, .identity = IDENTITY_WORLD, .peer = ADDRESS_NOT_LOCAL};
	const struct address *to;
	enum reason reason;
	char none = 0;

	if (ctx->protocol != IPPROTO_TCP)
		return ANSWER_PASS; /* the hook runs for connect() of UDP too */
	if (ctx->user_family != ctx->family)
		return ANSWER_PASS; /* the kernel refuses it after us: no slot for it */
	c.globals = globals_get();
	if (c.globals == NULL)
		return ANSWER_PASS;
	c.netns = bpf_get_netns_cookie(ctx);
	c.workload = caller(c.netns, c.globals);
	if (c.workload == NULL || !(c.workload->flags & WORKLOAD_EGRESS))
		return ANSWER_PASS;
	if (bpf_get_current_cgroup_id() == c.globals->self_cgroup)
		return ANSWER_PASS;
	*addr = 0;
	c.entry = bpf_ktime_get_ns();
	if (addr_is_slot_range(dst.ip))
		return refuse(&c, REASON_SLOT_FORGED);
	to = bpf_map_lookup_elem(&addresses, &dst.ip);
	if (is_own(&c, to) || workload_bypassed(c.workload, c.entry) ||
	    workload_excludes(c.workload, dst.port, dst.ip))
		return ANSWER_PASS;
	reason = decide(ctx, &c, to, addr);
	if (reason != REASON_NONE)
		return refuse(&c, reason);
	if (*addr == 0)
		return ANSWER_PASS;
	/* A socket bound to eth0 would look for the slot there. */
	if (ctx->sk != NULL && ctx->sk->bound_dev_if != 0)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &none, sizeof none);
	return ANSWER_CAPTURE;
}

/* Tells the verifier what the compiler knows: only 0 or 1 is returned. */
static __always_inline int settled(enum answer a)
{
	int r = a;

	barrier_var(r);
	return r & 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {
		.ip = addr_from4(ctx->user_ip4),
		.port = (__u16)ctx->user_port,
		.family = AF_INET,
	};
	__u32 addr = 0;
	enum answer a = answer(ctx, dst, &addr);

	if (a != ANSWER_CAPTURE)
		return settled(a);
	ctx->user_ip4 = addr;
	ctx->user_port = bpf_htons(EGRESS_PORT);
	return ANSWER_PASS;
}

static __always_inline struct addr16 read_ip6(const struct bpf_sock_addr *ctx)
{
	struct addr16 a = {
		{ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};

	return a;
}

static __always_inline void write_ip6(struct bpf_sock_addr *ctx, struct addr16 a)
{
	ctx->user_ip6[0] = a.word[0];
	ctx->user_ip6[1] = a.word[1];
	ctx->user_ip6[2] = a.word[2];
	ctx->user_ip6[3] = a.word[3];
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint dst = {.ip = read_ip6(ctx), .port = (__u16)ctx->user_port};
	bool over4 = addr_is4(dst.ip);
	__u32 addr = 0;
	enum answer a;

	dst.family = over4 ? AF_INET : AF_INET6;
	a = answer(ctx, dst, &addr);
	if (a != ANSWER_CAPTURE)
		return settled(a);
	/* A V6ONLY or v6-bound socket cannot reach ::ffff:127.64.x.y, hence our own prefix. */
	write_ip6(ctx, over4 ? addr_from4(addr) : addr_to_ours6(addr));
	ctx->user_port = bpf_htons(EGRESS_PORT);
	return ANSWER_PASS;
}

/* The client's side: the slot it was sent to, believed under its full address and in its own
 * namespace only. A freed slot still answers until it is taken again: the client may ask after
 * the daemon has closed. Not longer than its workload is here: then the namespace may be
 * another daemon's, whose slots have the same addresses. */
static __always_inline const struct endpoint *slot_shown(const struct globals *g, __u64 netns,
							 __u32 addr, __u16 port)
{
	__u32 i = SLOT_PLACE(bpf_ntohl(addr), g->slot_mask + 1);
	const struct slot *s = bpf_map_lookup_elem(&slots, &i);
	const struct workload *w;

	if (s == NULL || port != bpf_htons(EGRESS_PORT) || s->addr != addr || s->netns != netns)
		return NULL;
	w = workload_of(s->workload);
	return w != NULL && w->place != 0 && w->generation == s->generation ? &s->dst : NULL;
}

/* The server's side: whom the daemon dialled it for. */
static __always_inline const struct endpoint *dial_shown(const struct globals *g, __u64 netns,
							 __u32 addr, __u16 port)
{
	__u32 i = bpf_ntohl(addr) & (DIALS(g->slot_mask + 1) - 1);
	const struct dial *d = bpf_map_lookup_elem(&dials, &i);

	if (d == NULL || !d->used || d->sport != port || d->netns != netns)
		return NULL;
	return &d->client;
}

/* Who the peer really is, or NULL: it is who it seems. The daemon always sees the truth. */
static __always_inline const struct endpoint *peer_shown(struct bpf_sock_addr *ctx, __u32 addr)
{
	const struct globals *g = globals_get();
	__u16 port = (__u16)ctx->user_port;
	__u64 netns;

	if (g == NULL || bpf_get_current_cgroup_id() == g->self_cgroup)
		return NULL;
	netns = bpf_get_netns_cookie(ctx);
	return addr4_is_slot(addr) ? slot_shown(g, netns, addr, port)
				   : dial_shown(g, netns, addr, port);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	__u32 addr = addr_carried4(addr_from4(ctx->user_ip4));
	const struct endpoint *peer;

	if (addr == 0)
		return ANSWER_PASS;
	peer = peer_shown(ctx, addr);
	if (peer == NULL || !addr_is4(peer->ip))
		return ANSWER_PASS; /* an IPv6 client has no name an IPv4 socket could show */
	ctx->user_ip4 = peer->ip.word[3];
	ctx->user_port = peer->port;
	return ANSWER_PASS;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	__u32 addr = addr_carried4(read_ip6(ctx));
	const struct endpoint *peer;

	if (addr == 0)
		return ANSWER_PASS;
	peer = peer_shown(ctx, addr);
	if (peer == NULL)
		return ANSWER_PASS;
	write_ip6(ctx, peer->ip);
	ctx->user_port = peer->port;
	return ANSWER_PASS;
}

/* A socket sent to an IPv4 slot has 127.0.0.1 as its source: shows the workload's own address.
 * Native IPv6 keeps its own, there is nothing to hide. Returns 0: leave it. */
static __always_inline __u32 own_shown(struct bpf_sock_addr *ctx, struct addr16 local)
{
	const struct globals *g = globals_get();
	const struct workload *w;
	__u64 netns;

	if (!addr_is4(local) || !addr4_is_loopback(local.word[3]) || ctx->sk == NULL)
		return 0;
	if (!addr4_is_slot(ctx->sk->dst_ip4) || ctx->sk->dst_port != bpf_htons(EGRESS_PORT))
		return 0;
	if (g == NULL || bpf_get_current_cgroup_id() == g->self_cgroup)
		return 0;
	netns = bpf_get_netns_cookie(ctx);
	w = caller(netns, g);
	return w != NULL && addr_is4(w->ip4) ? w->ip4.word[3] : 0;
}

SEC("cgroup/getsockname4")
int getsockname4(struct bpf_sock_addr *ctx)
{
	__u32 own = own_shown(ctx, addr_from4(ctx->user_ip4));

	if (own != 0)
		ctx->user_ip4 = own;
	return ANSWER_PASS;
}

SEC("cgroup/getsockname6")
int getsockname6(struct bpf_sock_addr *ctx)
{
	__u32 own = own_shown(ctx, read_ip6(ctx));

	if (own != 0)
		write_ip6(ctx, addr_from4(own));
	return ANSWER_PASS;
}
