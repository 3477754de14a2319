// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: every TCP socket of one network namespace, for the listeners that are older than
 * the sockops program. The daemon says in `globals` which walk this is, and runs it by reading
 * the iterator to its end from inside that namespace.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/registry.h"

#define AF_INET 2

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct in6_bytes {
	__u32 word[4];
};
struct sock_common {
	__u16 skc_family;
	volatile unsigned char skc_state;
	__u32 skc_rcv_saddr;
	__u16 skc_num; /* host order */
	struct in6_bytes skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

static __always_inline struct port_key port_key(const struct sock_common *sk, __u64 netns)
{
	struct port_key key = {.netns = netns, .port = bpf_htons(sk->skc_num)};

	if (sk->skc_family != AF_INET)
		bpf_core_read(&key.ip, sizeof key.ip, &sk->skc_v6_rcv_saddr);
	else if (sk->skc_rcv_saddr != 0)
		key.ip = addr_from4(sk->skc_rcv_saddr);
	if (addr_is_wildcard(key.ip))
		key.ip = (struct addr16){};
	return key;
}

/* Known to sockops and still in the registry: only its owner may have changed, because a
 * workload of the host was enrolled since. */
static __always_inline bool is_counted(struct tcp_sock *tp, const struct port_key *key, __u64 owner)
{
	struct port *p;

	if (bpf_sk_storage_get(&listener_marks, tp, NULL, 0) == NULL)
		return false;
	p = bpf_map_lookup_elem(&ports, key);
	if (p == NULL || p->live == 0)
		return false;
	owner_set(p, owner);
	return true;
}

SEC("iter/tcp")
int walk(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct globals *g = globals_get();
	struct tcp_sock *tp;
	struct port_key key;
	__u64 owner;

	if (sk == NULL || g == NULL || sk->skc_state != BPF_TCP_LISTEN)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp == NULL || cgroup_id(socket_cgroup(tp)) == g->self_cgroup)
		return 0;
	key = port_key(sk, g->walk_netns);
	owner = listener_owner(tp, g->walk_netns, g);
	if (!is_counted(tp, &key, owner) && !port_walked(&key, g->walk_epoch, owner))
		__sync_fetch_and_add(&g->walk_failed, 1);
	return 0;
}
