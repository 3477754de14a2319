// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs of the probe (proxy/probe.h) that need no knowledge of the kernel's own structs. Each
 * is loaded alone, with the maps it names, attached to something that holds nothing but the
 * probe, and gone when the trial ends.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define EHOSTDOWN 112
#define ENETDOWN 100

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Said by the trial: addresses and net ports in network order. */
__u32 dialled_ip = 0;
__u32 refused_ip = 0;
__u32 shown_ip = 0;
__u32 shown_port_net = 0;
__u32 port = 0; /* host order */
__u32 dropped_port = 0; /* host order */

/* Seen by the programs. */
__u64 netns_cookie = 0;
__u32 listens = 0;
__u32 listen_ends = 0;
__u32 redirects = 0;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} probe_listener SEC(".maps");

/* Connected sockets, by their own port in host order. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} probe_pair SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} probe_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536); /* whole pages, also of 64 KiB */
} probe_ring SEC(".maps");

SEC("cgroup/connect4")
int probe_connect(struct bpf_sock_addr *ctx)
{
	netns_cookie = bpf_get_netns_cookie(ctx);
	if (ctx->user_ip4 == refused_ip) {
		bpf_set_retval(-EHOSTDOWN);
		return 0;
	}
	if (ctx->user_ip4 == dialled_ip) {
		ctx->user_ip4 = shown_ip;
		ctx->user_port = shown_port_net;
	}
	return 1;
}

SEC("cgroup/connect4")
int probe_replace(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 != refused_ip)
		return 1;
	bpf_set_retval(-ENETDOWN);
	return 0;
}

SEC("cgroup/getpeername4")
int probe_peername(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = shown_ip;
	ctx->user_port = shown_port_net;
	return 1;
}

SEC("sockops")
int probe_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->local_port != port)
		return 1;
	if (ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		netns_cookie = bpf_get_netns_cookie(ctx);
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
		listens++;
	} else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[0] == BPF_TCP_LISTEN) {
		listen_ends++;
	}
	return 1;
}

SEC("sk_lookup")
int probe_steer(struct bpf_sk_lookup *ctx)
{
	struct bpf_sock *sk;
	__u32 zero = 0;
	long err;

	if (ctx->local_port == dropped_port)
		return SK_DROP;
	if (ctx->local_port != port)
		return SK_PASS;
	sk = bpf_map_lookup_elem(&probe_listener, &zero);
	if (sk == NULL)
		return SK_DROP;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err == 0 ? SK_PASS : SK_DROP;
}

/* Adds the frame's length to what the trial wrote into the first element, in the second. */
SEC("tc")
int probe_memory(struct __sk_buff *skb)
{
	__u32 zero = 0, one = 1;
	__u64 *asked = bpf_map_lookup_elem(&probe_array, &zero);
	__u64 *answer = bpf_map_lookup_elem(&probe_array, &one);

	if (asked != NULL && answer != NULL)
		*answer = *asked + skb->len;
	return 0;
}

SEC("tc")
int probe_event(struct __sk_buff *skb)
{
	__u64 *event = bpf_ringbuf_reserve(&probe_ring, sizeof *event, 0);

	if (event == NULL)
		return 0;
	*event = skb->len;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* To the peer's receive queue if the peer is a member, else by TCP. */
SEC("sk_msg")
int probe_redirect(struct sk_msg_md *msg)
{
	__u32 peer = bpf_ntohl(msg->remote_port);

	if (bpf_msg_redirect_hash(msg, &probe_pair, &peer, BPF_F_INGRESS) == SK_PASS)
		redirects++;
	return SK_PASS;
}
