/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of the hooks, maps and iterators of the kernel half, see proxy/probe_impl.h. */
#include "bpf/probe_kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.skel.h"
#include "probe_iter.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* Away from 127.64.0.0/10 and 127.128.0.0/10: programs of a running shuntd may hang at the root
 * of cgroup2. Nobody listens on PORT. */
#define DIALLED "127.7.7.7"
#define REFUSED "127.7.7.8"
#define SHOWN "192.0.2.7"
#define PORT 777
#define DROPPED_PORT 778

#define FRAME_LEN 64

static bool is_listed(const char *name, const char *const *names)
{
	while (*names != NULL && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

void probe_select(struct bpf_object *object, const char *const *names)
{
	struct bpf_program *program;
	struct bpf_map *map;

	libbpf_set_print(NULL); /* what it would say is in the errno, and the process is ours */
	bpf_object__for_each_program(program, object)
	{
		bpf_program__set_autoload(program, is_listed(bpf_program__name(program), names));
	}
	bpf_object__for_each_map(map, object)
	{
		if (!bpf_map__is_internal(map))
			bpf_map__set_autocreate(map, is_listed(bpf_map__name(map), names));
	}
}

void probe_loaded(struct trial *t, int err)
{
	if (err < 0)
		trial_refused(t, err, "the kernel refuses the program");
}

int probe_attach(struct trial *t, const struct bpf_program *program, int target,
		 enum bpf_attach_type type)
{
	int fd = bpf_link_create(bpf_program__fd(program), target, type, NULL);

	if (fd < 0)
		trial_refused(t, fd, "attaching the program by a link");
	return fd;
}

void probe_map_put(struct trial *t, int map, uint32_t key, int fd)
{
	uint64_t value = (uint64_t)fd;
	int err = bpf_map_update_elem(map, &key, &value, BPF_ANY);

	if (err < 0)
		trial_refused(t, err, "putting a socket into a map");
}

void probe_cgroup_connect(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_connect");
	struct sockaddr_in where, dialled = trial_address(DIALLED, htons(PORT));
	struct sockaddr_in refused = trial_address(REFUSED, htons(PORT));
	int listener = trial_listen(t, &where);
	int err;

	k->bss->dialled_ip = dialled.sin_addr.s_addr;
	k->bss->refused_ip = refused.sin_addr.s_addr;
	k->bss->shown_ip = where.sin_addr.s_addr;
	k->bss->shown_port_net = where.sin_port;
	probe_attach(t, k->progs.probe_connect, trial_join_cgroup(t), BPF_CGROUP_INET4_CONNECT);
	trial_connect(t, &dialled);
	trial_accept(t, listener);
	err = trial_connect_errno(t, &refused);
	if (err != EHOSTDOWN)
		trial_failed(t, "a connect() that was refused with EHOSTDOWN said: %s",
			     strerror(err));
	trial_ok(t, "one connect() was redirected, one refused with the chosen errno");
}

void probe_cgroup_getpeername(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_peername");
	struct sockaddr_in seen, shown = trial_address(SHOWN, htons(PORT));
	socklen_t len = sizeof seen;
	int pair[2];

	k->bss->shown_ip = shown.sin_addr.s_addr;
	k->bss->shown_port_net = shown.sin_port;
	probe_attach(t, k->progs.probe_peername, trial_join_cgroup(t),
		     BPF_CGROUP_INET4_GETPEERNAME);
	trial_pair(t, pair);
	if (getpeername(pair[0], (struct sockaddr *)&seen, &len) < 0)
		trial_failed(t, "getpeername(): %s", strerror(errno));
	if (seen.sin_addr.s_addr != shown.sin_addr.s_addr || seen.sin_port != shown.sin_port)
		trial_failed(t, "getpeername() shows another address than the program's");
	trial_ok(t, "getpeername() shows the program's address");
}

void probe_sockops(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_sockops");
	struct sockaddr_in where;
	int fd;

	probe_attach(t, k->progs.probe_sockops, trial_join_cgroup(t), BPF_CGROUP_SOCK_OPS);
	where = trial_address("127.0.0.1", htons(PORT));
	k->bss->port = PORT;
	fd = trial_socket(t, IPPROTO_TCP);
	if (bind(fd, (struct sockaddr *)&where, sizeof where) < 0 || listen(fd, 1) < 0)
		trial_failed(t, "listening on loopback: %s", strerror(errno));
	if (k->bss->listens != 1)
		trial_failed(t, "the program was not told of a listen()");
	close(fd);
	if (k->bss->listen_ends != 1)
		trial_failed(t, "the program was not told that a listener was closed");
	trial_ok(t, "told of a listen() and of its end");
}

void probe_sk_lookup(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_steer", "probe_listener");
	struct sockaddr_in where, dialled = trial_address(DIALLED, htons(PORT));
	struct sockaddr_in dropped = trial_address(DIALLED, htons(DROPPED_PORT));
	int listener = trial_listen(t, &where);
	int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int err;

	if (netns < 0)
		trial_failed(t, "opening /proc/self/ns/net: %s", strerror(errno));
	k->bss->port = PORT;
	k->bss->dropped_port = DROPPED_PORT;
	probe_map_put(t, bpf_map__fd(k->maps.probe_listener), 0, listener);
	probe_attach(t, k->progs.probe_steer, netns, BPF_SK_LOOKUP);
	trial_connect(t, &dialled);
	if (trial_port(t, trial_accept(t, listener)) != htons(PORT))
		trial_failed(t, "a steered connection lost the port it was dialled by");
	err = trial_connect_errno(t, &dropped);
	if (err != ECONNREFUSED)
		trial_failed(t, "a connection that was to be dropped got: %s",
			     err != 0 ? strerror(err) : "a listener");
	trial_ok(t, "one connection was steered to a listener, one dropped");
}

void probe_netns_cookie(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_connect");
	struct sockaddr_in where;
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	int listener = trial_listen(t, &where);

	if (getsockopt(listener, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		trial_refused(t, -errno, "SO_NETNS_COOKIE");
	probe_attach(t, k->progs.probe_connect, trial_join_cgroup(t), BPF_CGROUP_INET4_CONNECT);
	trial_connect(t, &where);
	if (cookie == 0 || k->bss->netns_cookie != cookie)
		trial_failed(t, "getsockopt() says %llu, the program %llu",
			     (unsigned long long)cookie, (unsigned long long)k->bss->netns_cookie);
	trial_ok(t, "getsockopt() and a program say the same");
}

void probe_link_update(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_connect", "probe_replace");
	struct sockaddr_in refused = trial_address(REFUSED, htons(PORT));
	int link, err;

	k->bss->refused_ip = refused.sin_addr.s_addr;
	link = probe_attach(t, k->progs.probe_connect, trial_join_cgroup(t),
			    BPF_CGROUP_INET4_CONNECT);
	err = trial_connect_errno(t, &refused);
	if (err != EHOSTDOWN)
		trial_failed(t, "the first program was not asked: %s", strerror(err));
	err = bpf_link_update(link, bpf_program__fd(k->progs.probe_replace), NULL);
	if (err < 0)
		trial_refused(t, err, "BPF_LINK_UPDATE");
	err = trial_connect_errno(t, &refused);
	if (err != ENETDOWN)
		trial_failed(t, "the second program was not asked: %s", strerror(err));
	trial_ok(t, "the next connect() met the new program");
}

/* Runs a tc program once, on an empty frame; it is attached to nothing. */
static void run_once(struct trial *t, const struct bpf_program *program)
{
	unsigned char frame[FRAME_LEN] = {0};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof frame);
	int err = bpf_prog_test_run_opts(bpf_program__fd(program), &options);

	if (err < 0)
		trial_refused(t, err, "BPF_PROG_TEST_RUN");
}

void probe_mmap_array(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_memory", "probe_array");
	int map = bpf_map__fd(k->maps.probe_array);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	volatile uint64_t *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	uint64_t value = 0;
	uint32_t one = 1;

	if (shared == MAP_FAILED)
		trial_refused(t, -errno, "mmap()");
	shared[0] = 1000;
	run_once(t, k->progs.probe_memory);
	if (shared[1] != 1000 + FRAME_LEN)
		trial_failed(t, "the memory and a program do not see each other's writes");
	if (bpf_map_lookup_elem(map, &one, &value) < 0 || value != shared[1])
		trial_failed(t, "the memory is not the map's");
	trial_ok(t, "the memory and a program see each other's writes");
}

static int event_take(void *arg, void *data, size_t size)
{
	if (size >= sizeof(uint64_t))
		memcpy(arg, data, sizeof(uint64_t));
	return 0;
}

void probe_ring_buffer(struct trial *t)
{
	struct probe *k = probe_load(t, probe, "probe_event", "probe_ring");
	uint64_t event = 0;
	struct ring_buffer *ring =
		ring_buffer__new(bpf_map__fd(k->maps.probe_ring), event_take, &event, NULL);
	int n;

	if (ring == NULL)
		trial_refused(t, -errno, "reading a ring buffer");
	run_once(t, k->progs.probe_event);
	n = ring_buffer__poll(ring, TRIAL_WAIT); /* woken, not only looked up */
	if (n != 1)
		trial_failed(t, "%d events arrived, not 1", n);
	if (event != FRAME_LEN)
		trial_failed(t, "the event arrived with other bytes");
	trial_ok(t, "an event arrived");
}

/* Runs the iterator over the sockets of this namespace to its end. */
static void iterate(struct trial *t, const struct bpf_program *program)
{
	int link = probe_attach(t, program, 0, BPF_TRACE_ITER);
	int iterator = bpf_iter_create(link);
	char none;
	ssize_t n;

	if (iterator < 0)
		trial_refused(t, iterator, "BPF_ITER_CREATE");
	do
		n = read(iterator, &none, sizeof none);
	while (n > 0 || (n < 0 && errno == EAGAIN));
	if (n < 0)
		trial_failed(t, "the iterator breaks off: %s", strerror(errno));
}

void probe_iter_tcp(struct trial *t)
{
	struct probe_iter *k = probe_load(t, probe_iter, "probe_list");
	struct sockaddr_in where;

	trial_listen(t, &where);
	k->bss->port = ntohs(where.sin_port);
	iterate(t, k->progs.probe_list);
	if (k->bss->found != 1)
		trial_failed(t, "a listener was seen %u times, not once", k->bss->found);
	trial_ok(t, "a listener was seen");
}

void probe_iter_storage(struct trial *t)
{
	struct probe_iter *k = probe_load(t, probe_iter, "probe_mark", "probe_marks");
	struct sockaddr_in where;
	uint64_t mark = 0;
	int listener = trial_listen(t, &where);
	int err;

	k->bss->port = ntohs(where.sin_port);
	iterate(t, k->progs.probe_mark);
	if (k->bss->marked != 1)
		trial_failed(t, "the socket was marked %u times, not once", k->bss->marked);
	err = bpf_map_lookup_elem(bpf_map__fd(k->maps.probe_marks), &listener, &mark);
	if (err < 0 || mark != ntohs(where.sin_port))
		trial_failed(t, "the mark is not found again");
	trial_ok(t, "a socket was marked, and the mark found again");
}

void probe_iter_destroy(struct trial *t)
{
	struct probe_iter *k = probe_load(t, probe_iter, "probe_destroy");
	char byte;
	int pair[2];

	trial_pair(t, pair);
	k->bss->port = ntohs(trial_port(t, pair[0]));
	k->bss->peer_port_net = trial_port(t, pair[1]);
	iterate(t, k->progs.probe_destroy);
	if (k->bss->destroyed != 1)
		trial_failed(t, "%u sockets were destroyed, not one", k->bss->destroyed);
	if (!trial_readable(pair[0]) || recv(pair[0], &byte, 1, MSG_DONTWAIT) >= 0 ||
	    errno != ECONNABORTED)
		trial_failed(t, "the connection goes on");
	trial_ok(t, "a connection was cut");
}

void probe_rdonly_cast(struct trial *t)
{
	struct probe_iter *k = probe_load(t, probe_iter, "probe_cast");
	struct sockaddr_in where;

	trial_listen(t, &where);
	k->bss->port = ntohs(where.sin_port);
	iterate(t, k->progs.probe_cast);
	if (k->bss->backlog != TRIAL_BACKLOG)
		trial_failed(t, "a backlog of %u was read, not %u", k->bss->backlog, TRIAL_BACKLOG);
	trial_ok(t, "a member of a socket was read by its pointer");
}

void probe_fentry(struct trial *t)
{
	struct probe_iter *k = probe_load(t, probe_iter, "probe_fentry");
	LIBBPF_OPTS(bpf_test_run_opts, options);
	int err;

	probe_attach(t, k->progs.probe_fentry, 0, BPF_TRACE_FENTRY);
	err = bpf_prog_test_run_opts(bpf_program__fd(k->progs.probe_fentry), &options);
	if (err < 0)
		trial_refused(t, err, "BPF_PROG_TEST_RUN");
	if (k->bss->entered == 0)
		trial_failed(t, "the function ran, the program did not");
	trial_ok(t, "a program ran at the entry of a kernel function");
}
