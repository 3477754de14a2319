// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs of the probe (proxy/probe.h) that read the kernel's own structs: the iterator over
 * TCP sockets, which sees those of the network namespace it was opened in, and fentry. Apart
 * from the others because libbpf reads the whole of the kernel's types for these.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define TCP_ESTABLISHED 1
#define TCP_LISTEN 10

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* As much of the kernel's own structs as we read; CO-RE finds the rest. */
struct sock_common {
	unsigned char skc_state;
	__u16 skc_num;
	__u16 skc_dport;
} __attribute__((preserve_access_index));
struct sock {
	__u32 sk_max_ack_backlog;
} __attribute__((preserve_access_index));
struct bpf_iter__tcp {
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

extern int bpf_sock_destroy(struct sock_common *sk) __weak __ksym;
extern void *bpf_rdonly_cast(const void *object, __u32 type) __weak __ksym;

/* Said by the trial. */
__u32 port = 0; /* host order */
__u32 peer_port_net = 0;

/* Seen by the programs. */
__u32 found = 0;
__u32 marked = 0;
__u32 destroyed = 0;
__u32 entered = 0;
__u32 backlog = 0;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} probe_marks SEC(".maps");

SEC("iter/tcp")
int probe_list(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (sk != NULL && sk->skc_state == TCP_LISTEN && sk->skc_num == port)
		found++;
	return 0;
}

SEC("iter/tcp")
int probe_mark(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	__u64 *mark;

	if (sk == NULL || sk->skc_num != port)
		return 0;
	mark = bpf_sk_storage_get(&probe_marks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (mark == NULL)
		return 0;
	*mark = port;
	marked++;
	return 0;
}

SEC("iter/tcp")
int probe_destroy(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (sk == NULL || sk->skc_state != TCP_ESTABLISHED || sk->skc_num != port ||
	    sk->skc_dport != peer_port_net)
		return 0;
	if (bpf_sock_destroy(sk) == 0)
		destroyed++;
	return 0;
}

SEC("iter/tcp")
int probe_cast(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	const struct sock *whole;

	if (sk == NULL || sk->skc_state != TCP_LISTEN || sk->skc_num != port)
		return 0;
	whole = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct sock));
	backlog = whole->sk_max_ack_backlog;
	return 0;
}

/* A function that the kernel has for this: nothing but BPF_PROG_TEST_RUN calls it. */
SEC("fentry/bpf_fentry_test1")
int probe_fentry(__u64 *args)
{
	if ((__u32)args[0] == 1)
		entered++;
	return 0;
}
