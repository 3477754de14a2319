/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of sockets in maps, see proxy/probe_impl.h. */
#include "bpf/probe_kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.skel.h"

static const char hello[] = "there and back again";

static bool is_member(int map, uint32_t key)
{
	uint64_t cookie;

	return bpf_map_lookup_elem(map, &key, &cookie) == 0;
}

void probe_sockmap_liveness(struct trial *t)
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "probe_live", sizeof(uint32_t),
				 sizeof(uint64_t), 1, NULL);
	struct sockaddr_in where;
	int listener = trial_listen(t, &where);
	int copy = dup(listener);

	if (map < 0)
		trial_refused(t, map, "making a sockmap");
	if (copy < 0)
		trial_failed(t, "dup(): %s", strerror(errno));
	probe_map_put(t, map, 0, listener);
	close(listener);
	if (!is_member(map, 0))
		trial_failed(t, "a listener left its map while a descriptor was open");
	close(copy);
	for (int tries = 0; is_member(map, 0); tries++) {
		if (tries == TRIAL_WAIT)
			trial_failed(t, "a listener stayed in its map after close()");
		usleep(1000);
	}
	trial_ok(t, "a listener left its map with its last descriptor");
}

/* A connection of which `members` ends (the accepting one first) are in the map. */
static void member_pair(struct trial *t, struct probe *k, int pair[2], int members)
{
	trial_pair(t, pair);
	for (int i = 1; i > 1 - members; i--)
		probe_map_put(t, bpf_map__fd(k->maps.probe_pair), ntohs(trial_port(t, pair[i])),
			      pair[i]);
}

static struct probe *redirecting(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_redirect", "probe_pair");
	int err = bpf_prog_attach(bpf_program__fd(k->progs.probe_redirect),
				  bpf_map__fd(k->maps.probe_pair), BPF_SK_MSG_VERDICT, 0);

	if (err < 0)
		trial_refused(t, err, "attaching the program");
	return k;
}

/* Nothing of it went through TCP. */
static void expect_no_segment(struct trial *t, int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		trial_failed(t, "TCP_INFO: %s", strerror(errno));
	if (info.tcpi_bytes_sent != 0)
		trial_failed(t, "the bytes went through TCP all the same");
}

void probe_sockmap_redirect(struct trial *t)
{
	struct probe *k = redirecting(t);
	int pair[2];

	member_pair(t, k, pair, 2);
	for (int i = 0; i < 2; i++) {
		trial_send(t, pair[i], hello, sizeof hello);
		trial_expect(t, pair[1 - i], hello, sizeof hello, "redirected");
		expect_no_segment(t, pair[i]);
	}
	if (k->bss->redirects != 2)
		trial_failed(t, "%u of 2 messages were redirected", k->bss->redirects);
	trial_ok(t, "bytes were right in both directions, none went through TCP");
}

void probe_sockmap_link(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_redirect", "probe_pair");
	int pair[2];

	probe_attach(t, k->progs.probe_redirect, bpf_map__fd(k->maps.probe_pair),
		     BPF_SK_MSG_VERDICT);
	member_pair(t, k, pair, 2);
	trial_send(t, pair[0], hello, sizeof hello);
	trial_expect(t, pair[1], hello, sizeof hello, "redirected");
	if (k->bss->redirects != 1)
		trial_failed(t, "the program was not asked");
	trial_ok(t, "a program attached by a link redirects");
}

/* A connection whose second end has received `hello` by redirection, and not read it. */
static void redirected_pair(struct trial *t, int pair[2])
{
	struct probe *k = redirecting(t);

	member_pair(t, k, pair, 2);
	trial_send(t, pair[0], hello, sizeof hello);
	if (k->bss->redirects != 1)
		trial_failed(t, "the message was not redirected");
}

void probe_sockmap_memory(struct trial *t)
{
	uint32_t memory[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof memory;
	int pair[2];

	redirected_pair(t, pair);
	if (getsockopt(pair[1], SOL_SOCKET, SO_MEMINFO, memory, &len) < 0)
		trial_refused(t, -errno, "SO_MEMINFO");
	if (memory[SK_MEMINFO_RMEM_ALLOC] < sizeof hello)
		trial_failed(t, "%zu bytes were redirected, %u are charged to their receiver",
			     sizeof hello, memory[SK_MEMINFO_RMEM_ALLOC]);
	trial_ok(t, "redirected bytes are charged to their receiver");
}

static _Noreturn void expect_fionread(struct trial *t, int fd)
{
	int waiting = -1;

	if (!trial_readable(fd))
		trial_failed(t, "nothing arrived");
	if (ioctl(fd, FIONREAD, &waiting) < 0)
		trial_failed(t, "FIONREAD: %s", strerror(errno));
	if ((size_t)waiting != sizeof hello)
		trial_failed(t, "FIONREAD says %d where %zu bytes wait", waiting, sizeof hello);
	trial_ok(t, "FIONREAD says how many bytes wait");
}

void probe_fionread_redirect(struct trial *t)
{
	int pair[2];

	redirected_pair(t, pair);
	expect_fionread(t, pair[1]);
}

void probe_fionread_tcp(struct trial *t)
{
	int pair[2];

	member_pair(t, redirecting(t), pair, 1);
	trial_send(t, pair[0], hello, sizeof hello);
	expect_fionread(t, pair[1]);
}

void probe_tls_sockmap_exclusive(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_pair");
	int pair[2], err;

	member_pair(t, k, pair, 1);
	if (setsockopt(pair[1], IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") < 0) {
		if (errno == ENOENT)
			trial_missing(t, "this kernel has no TLS to keep apart");
		trial_refused(t, -errno, "TCP_ULP");
	}
	err = probe_ktls_key(pair[1], TLS_TX, SUITE_AES_128_GCM);
	if (err == -ENOENT)
		trial_missing(t, "this kernel has no cipher for TLS");
	if (err == 0)
		trial_failed(t, "a socket in a map took a TLS key");
	if (err != -EINVAL)
		trial_failed(t, "a TLS key for a socket in a map: %s", strerror(-err));
	trial_ok(t, "a socket in a map takes no TLS key");
}
