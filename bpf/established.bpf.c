// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sockops: the registry of listening ports, and which slots' SYNs have left. It never carries a
 * connection's destination: with TCP Fast Open the callbacks of a connection come after its
 * data.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/registry.h"

#define AF_INET 2

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline struct port_key port_key(struct bpf_sock_ops *ctx)
{
	struct port_key key = {
		.netns = bpf_get_netns_cookie(ctx),
		.port = bpf_htons((__u16)ctx->local_port),
	};

	if (ctx->family != AF_INET)
		key.ip = (struct addr16){{ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
					  ctx->local_ip6[3]}};
	else if (ctx->local_ip4 != 0)
		key.ip = addr_from4(ctx->local_ip4);
	if (addr_is_wildcard(key.ip))
		key.ip = (struct addr16){}; /* one entry for both families */
	return key;
}

static __always_inline void listen_begins(struct bpf_sock_ops *ctx)
{
	const struct globals *g = globals_get();
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp = sk != NULL ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct port_key key = port_key(ctx);
	__u32 one = 1;

	/* The daemon's own would make every port they hold look served. */
	if (g == NULL || tp == NULL || cgroup_id(socket_cgroup(tp)) == g->self_cgroup)
		return;
	if (!port_add(&key, listener_owner(tp, key.netns, g))) {
		registry_overflowed();
		return;
	}
	/* Without the mark its end is not counted, and a walk counts it a second time: both steer. */
	bpf_sk_storage_get(&listener_marks, sk, &one, BPF_SK_STORAGE_GET_F_CREATE);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Only of a listener that was counted: other programs may have asked for the states of others. */
static __always_inline void listen_ends(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct port_key key = port_key(ctx);

	if (sk == NULL || bpf_sk_storage_get(&listener_marks, sk, NULL, 0) == NULL)
		return;
	bpf_sk_storage_delete(&listener_marks, sk); /* it may listen again */
	port_drop(&key);
}

/* The SYN is about to leave: a slot's connect() did not fail between us and here. Both
 * addresses are read: the verifier takes no context pointer that was chosen. */
static __always_inline void slot_dialled(const volatile struct bpf_sock_ops *ctx)
{
	const struct globals *g = globals_get();
	struct addr16 over4 = addr_from4(ctx->remote_ip4);
	struct addr16 over6 = {
		{ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]}};
	__u32 addr = addr_carried4(ctx->family == AF_INET ? over4 : over6);
	struct slot *s;
	__u32 i;

	if (!addr4_is_slot(addr) || g == NULL)
		return;
	i = SLOT_PLACE(bpf_ntohl(addr), g->slot_mask + 1);
	s = bpf_map_lookup_elem(&slots, &i);
	if (s != NULL && s->addr == addr)
		s->dialled = 1;
}

SEC("sockops")
int established(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		slot_dialled(ctx);
	else if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		listen_begins(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[0] == BPF_TCP_LISTEN)
		listen_ends(ctx);
	return 1;
}
