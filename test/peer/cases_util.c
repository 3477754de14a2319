// SPDX-License-Identifier: Apache-2.0
/* What both ends of the cases use: names, the truth in /proc/net/tcp, one io_uring operation. */
#include "test/peer/cases.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOT_NET 0x7f400000U /* host order: 127.64.0.0/10, and 127.128.0.0/10 next to it */
#define DIAL_NET 0x7f800000U
#define NET_MASK 0xffc00000U

void die(const char *what)
{
	fprintf(stderr, "cases: %s: %s\n", what, strerror(errno));
	exit(2);
}

int send_all(int fd, const char *from, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n < 0)
			return errno;
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

struct name name_parse(const char *ip, uint16_t port)
{
	struct name n = {.len = 0};
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&n.sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&n.sa;
	char text[INET6_ADDRSTRLEN + IF_NAMESIZE];
	char *scope;

	snprintf(text, sizeof text, "%s", ip);
	scope = strchr(text, '%');
	if (scope != NULL)
		*scope++ = '\0';
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		n.len = sizeof *in;
	} else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		in6->sin6_scope_id = scope != NULL ? if_nametoindex(scope) : 0;
		n.len = sizeof *in6;
	} else {
		errno = EINVAL;
		die(ip);
	}
	return n;
}

uint16_t name_port(const struct name *n)
{
	if (n->sa.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)&n->sa)->sin_port);
	return ntohs(((const struct sockaddr_in6 *)(const void *)&n->sa)->sin6_port);
}

const char *name_ip(const struct name *n)
{
	static _Thread_local char text[INET6_ADDRSTRLEN];
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&n->sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&n->sa;

	if (n->sa.ss_family == AF_INET)
		return inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
	return inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
}

int peername_option(int fd, struct sockaddr *sa, socklen_t *len)
{
	int domain = 0;
	socklen_t size = sizeof domain;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
		return -1;
	*len = domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	return getsockopt(fd, SOL_SOCKET, SO_PEERNAME, sa, len);
}

/* Both files write an address as words of 8 digits, each as the host reads it; the last word of
 * one of shunt's own is 127.64.x.y or 127.128.x.y in either family. */
static bool listed_as_proxied(const char *file, unsigned long inode)
{
	char line[400], remote[40];
	unsigned long listed;
	bool found = false;
	FILE *f = fopen(file, "re");

	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
		uint32_t low;

		if (sscanf(line, "%*s %*s %39[0-9A-F]:%*x %*x %*s %*s %*s %*s %*s %lu", remote,
			   &listed) != 2 ||
		    listed != inode || strlen(remote) < 8)
			continue;
		low = ntohl((uint32_t)strtoul(remote + strlen(remote) - 8, NULL, 16));
		found = (low & NET_MASK) == SLOT_NET || (low & NET_MASK) == DIAL_NET;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

bool is_proxied(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("fstat");
	return listed_as_proxied("/proc/self/net/tcp", st.st_ino) ||
	       listed_as_proxied("/proc/self/net/tcp6", st.st_ino);
}

struct ring {
	int fd;
	struct io_uring_params p;
	char *queues;
	size_t queues_size;
	struct io_uring_sqe *entries;
	size_t entries_size;
};

static int ring_open(struct ring *r)
{
	*r = (struct ring){.fd = -1};
	r->fd = (int)syscall(SYS_io_uring_setup, 2, &r->p);
	if (r->fd < 0)
		return -errno;
	r->queues_size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->entries_size = r->p.sq_entries * sizeof *r->entries;
	r->queues = mmap(NULL, r->queues_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			 IORING_OFF_SQ_RING);
	r->entries = mmap(NULL, r->entries_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			  IORING_OFF_SQES);
	if (r->queues == MAP_FAILED || r->entries == MAP_FAILED)
		die("mmap of a ring");
	return 0;
}

static void ring_close(struct ring *r)
{
	munmap(r->queues, r->queues_size);
	munmap(r->entries, r->entries_size);
	close(r->fd);
}

/* A ring of its own for each operation: both queues begin at 0. */
static int uring_do(const struct io_uring_sqe *operation)
{
	const struct io_uring_cqe *done;
	struct ring r;
	int result = ring_open(&r);

	if (result < 0)
		return result;
	r.entries[0] = *operation;
	*(unsigned *)(void *)(r.queues + r.p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(void *)(r.queues + r.p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		die("io_uring_enter");
	done = (const void *)(r.queues + r.p.cq_off.cqes);
	result = __atomic_load_n((unsigned *)(void *)(r.queues + r.p.cq_off.tail),
				 __ATOMIC_ACQUIRE) == 1
			 ? done->res
			 : -EIO;
	ring_close(&r);
	return result;
}

int uring_connect(int fd, const struct name *to, bool async)
{
	struct io_uring_sqe e = {
		.opcode = IORING_OP_CONNECT,
		.flags = async ? IOSQE_ASYNC : 0,
		.fd = fd,
		.addr = (uintptr_t)&to->sa,
		.off = to->len,
	};

	return uring_do(&e);
}

int uring_accept(int fd, struct name *from)
{
	struct io_uring_sqe e = {
		.opcode = IORING_OP_ACCEPT,
		.fd = fd,
		.addr = (uintptr_t)&from->sa,
		.addr2 = (uintptr_t)&from->len,
		.accept_flags = SOCK_CLOEXEC,
	};

	return uring_do(&e);
}
