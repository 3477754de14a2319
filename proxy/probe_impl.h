/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the probe. A trial is one mechanism being run: a process of its own, in a network
 * namespace that holds nothing but the probe (loopback is up), which ends with the verdict.
 * So a trial closes and frees nothing, and whatever it cannot set up ends it with the reason:
 * functions that are given the trial return only with what they promise.
 */
#ifndef SHUNT_PROBE_IMPL_H
#define SHUNT_PROBE_IMPL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "proxy/probe.h"

#define TRIAL_WAIT 5000 /* ms that one step waits for what comes at once, or never */
#define TRIAL_BACKLOG 16U /* of trial_listen() */

struct trial {
	const char *cgroup; /* the folder of the temporary cgroup */
	int cgroup_err; /* -errno when there is none */
	int variant; /* of a mechanism that has several, e.g. enum suite */
	enum probe_state state;
	char detail[sizeof((struct probe_result *)NULL)->detail];
};

/* The verdicts. */
#define TRIAL_PRINTF __attribute__((format(printf, 2, 3)))
TRIAL_PRINTF _Noreturn void trial_ok(struct trial *t, const char *format, ...);
TRIAL_PRINTF _Noreturn void trial_missing(struct trial *t, const char *format, ...);
TRIAL_PRINTF _Noreturn void trial_failed(struct trial *t, const char *format, ...);
/* The kernel said `err` (-errno) to `what`: PROBE_MISSING, or PROBE_FAILED when it only ran
 * short of memory, descriptors and the like. */
_Noreturn void trial_refused(struct trial *t, int err, const char *what);

/* Enters the temporary cgroup; a descriptor of its folder. */
int trial_join_cgroup(struct trial *t);

/* IPv4 over loopback. Sending and connecting are bounded by TRIAL_WAIT. */
int trial_socket(struct trial *t, int protocol);
int trial_listen(struct trial *t, struct sockaddr_in *where); /* 127.0.0.1, any port */
struct sockaddr_in trial_address(const char *ip, in_port_t port_net);
int trial_connect(struct trial *t, const struct sockaddr_in *to);
/* The errno of a connect() that may fail, 0 when it does not. */
int trial_connect_errno(struct trial *t, const struct sockaddr_in *to);
int trial_accept(struct trial *t, int listener);
void trial_pair(struct trial *t, int pair[2]); /* connected; pair[0] dialled */
in_port_t trial_port(struct trial *t, int fd); /* its own, network order */

/* Bytes. trial_receive() returns fewer than `n` at the end of the stream, on an error, or when
 * nothing comes for TRIAL_WAIT. `what` are the words for what was sent. */
bool trial_readable(int fd);
void trial_send(struct trial *t, int fd, const void *bytes, size_t n);
size_t trial_receive(int fd, void *to, size_t n);
void trial_expect(struct trial *t, int fd, const void *bytes, size_t n, const char *what);

/* TLS 1.3 suites that the kernel may know. */
enum suite {
	SUITE_AES_128_GCM,
	SUITE_AES_256_GCM,
	SUITE_CHACHA20_POLY1305,
	SUITES,
};

/* The mechanisms. proxy/probe_sockets.c: */
_Noreturn void probe_sock_diag(struct trial *t);
_Noreturn void probe_sock_destroy(struct trial *t);
_Noreturn void probe_anyip(struct trial *t);
_Noreturn void probe_tcp_fastopen(struct trial *t);
_Noreturn void probe_mptcp(struct trial *t);
_Noreturn void probe_epollexclusive(struct trial *t);

/* proxy/probe_ktls.c: */
_Noreturn void probe_ktls_tx(struct trial *t);
_Noreturn void probe_ktls_rx(struct trial *t);
_Noreturn void probe_ktls_rekey(struct trial *t);
/* Gives the kernel the key of this suite for TLS_TX or TLS_RX: 0 or -errno. */
int probe_ktls_key(int fd, int direction, enum suite suite);

/* bpf/probe_kernel.c: */
_Noreturn void probe_cgroup_connect(struct trial *t);
_Noreturn void probe_cgroup_getpeername(struct trial *t);
_Noreturn void probe_sockops(struct trial *t);
_Noreturn void probe_sk_lookup(struct trial *t);
_Noreturn void probe_netns_cookie(struct trial *t);
_Noreturn void probe_link_update(struct trial *t);
_Noreturn void probe_mmap_array(struct trial *t);
_Noreturn void probe_ring_buffer(struct trial *t);
_Noreturn void probe_iter_tcp(struct trial *t);
_Noreturn void probe_iter_storage(struct trial *t);
_Noreturn void probe_iter_destroy(struct trial *t);
_Noreturn void probe_rdonly_cast(struct trial *t);
_Noreturn void probe_fentry(struct trial *t);

/* bpf/probe_sockmap.c: */
_Noreturn void probe_sockmap_liveness(struct trial *t);
_Noreturn void probe_sockmap_redirect(struct trial *t);
_Noreturn void probe_sockmap_link(struct trial *t);
_Noreturn void probe_sockmap_memory(struct trial *t);
_Noreturn void probe_fionread_redirect(struct trial *t);
_Noreturn void probe_fionread_tcp(struct trial *t);
_Noreturn void probe_tls_sockmap_exclusive(struct trial *t);

#endif
