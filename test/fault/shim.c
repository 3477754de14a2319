// SPDX-License-Identifier: Apache-2.0
/*
 * Makes system calls and allocations of a running daemon fail: LD_PRELOAD=shim.so, and a plan in
 * a file that is mapped by both sides (FAULT_PLAN), so that faults are switched on and off while
 * the daemon serves. Only calls that the daemon's own code or libuv makes count, and only
 * failures that Linux documents for the call and that can happen are made.
 *
 * A fault is honest: what the kernel would do besides failing is done. After EAGAIN the edge
 * comes again; a connection that is said to be reset is reset, at both ends; one that accept()
 * lost is lost; close() closes whatever it says.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <link.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT 1000 /* no failure: less is done than was asked for */
#define ERRORS_MAX 12
#define LOG_LINES 512
#define FDS 65536
#define EPOLLS 4 /* that a descriptor may be watched by */

/* What may happen to a call. `uv_`: made by libuv, which aborts on what it thinks impossible:
 * epoll_ctl(), the pipe of its signals, memory for its list of descriptors. */
#define ROWS(X)                                                                                    \
	X(accept4, EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO)           \
	X(recv, EAGAIN, EINTR, SHORT, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM)                 \
	X(send, EAGAIN, EINTR, SHORT, ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS, ENOMEM)               \
	X(connect, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL, EACCES,      \
	  ENOBUFS)                                                                                 \
	X(so_error, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ECONNRESET)                             \
	X(socket, EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES)                                         \
	X(setsockopt, ENOBUFS, ENOMEM, EPERM)                                                      \
	X(getsockopt, ENOBUFS, ENOMEM)                                                             \
	X(getsockname, ENOBUFS)                                                                    \
	X(bind, EADDRINUSE, EADDRNOTAVAIL, EACCES)                                                 \
	X(listen, EADDRINUSE)                                                                      \
	X(shutdown, ENOTCONN)                                                                      \
	X(epoll_create1, EMFILE, ENFILE, ENOMEM)                                                   \
	X(epoll_ctl, ENOMEM, ENOSPC, EPERM)                                                        \
	X(epoll_wait, EINTR, SHORT)                                                                \
	X(close, EINTR, EIO)                                                                       \
	X(open, EMFILE, ENFILE, ENOMEM, EACCES, EIO)                                               \
	X(openat, EMFILE, ENFILE, ENOMEM, EACCES, EIO)                                             \
	X(read, EINTR, SHORT, EIO)                                                                 \
	X(pread, EINTR, EIO)                                                                       \
	X(write, EINTR, SHORT, ENOSPC, EIO)                                                        \
	X(writev, EINTR, SHORT, ENOSPC, EIO, EDQUOT)                                               \
	X(fstat, EIO, ENOMEM)                                                                      \
	X(fstatat, ENOENT, EACCES, ENOMEM)                                                         \
	X(scandirat, ENOMEM, EIO)                                                                  \
	X(realpath, EACCES, ENOMEM)                                                                \
	X(mkdir, ENOSPC, EACCES)                                                                   \
	X(mkdirat, ENOSPC, EACCES)                                                                 \
	X(renameat, ENOSPC, EIO)                                                                   \
	X(unlinkat, EIO)                                                                           \
	X(fsync, EIO, ENOSPC)                                                                      \
	X(flock, EINTR, ENOLCK)                                                                    \
	X(lstat, EACCES)                                                                           \
	X(chmod, EPERM, EIO)                                                                       \
	X(fchmod, EPERM, EIO)                                                                      \
	X(fcntl, EMFILE)                                                                           \
	X(poll, EINTR, ENOMEM)                                                                     \
	X(eventfd, EMFILE, ENFILE, ENOMEM)                                                         \
	X(pipe2, EMFILE, ENFILE)                                                                   \
	X(fork, EAGAIN, ENOMEM)                                                                    \
	X(getifaddrs, ENOBUFS, EMFILE)                                                             \
	X(setns, EPERM, ENOMEM)                                                                    \
	X(pthread_create, EAGAIN)                                                                  \
	X(malloc, ENOMEM)                                                                          \
	X(calloc, ENOMEM)                                                                          \
	X(realloc, ENOMEM)                                                                         \
	X(strdup, ENOMEM)                                                                          \
	X(aligned_alloc, ENOMEM)                                                                   \
	X(uv_accept4, EMFILE, ENFILE, ENOBUFS, ECONNABORTED)                                       \
	X(uv_read, EAGAIN, EINTR, SHORT, ECONNRESET)                                               \
	X(uv_write, EAGAIN, EINTR, SHORT, EPIPE, ECONNRESET)                                       \
	X(uv_epoll_wait, EINTR)                                                                    \
	X(uv_setsockopt, ENOBUFS)                                                                  \
	X(uv_socket, EMFILE, ENOBUFS)                                                              \
	X(uv_bind, EADDRINUSE, EACCES)                                                             \
	X(uv_listen, EADDRINUSE)                                                                   \
	X(uv_epoll_create1, EMFILE, ENOMEM)                                                        \
	X(uv_eventfd, EMFILE, ENOMEM)                                                              \
	X(bpf, EPERM, ENOMEM, EINVAL)

enum row {
#define X(name, ...) ROW_##name,
	ROWS(X)
#undef X
		ROW_COUNT,
};

struct fault_row {
	const char *name;
	int errors[ERRORS_MAX]; /* ends with 0 */
};

/* Read by the one who makes plans, too: the list is here only. */
extern const struct fault_row fault_rows[ROW_COUNT + 1];
const struct fault_row fault_rows[ROW_COUNT + 1] = {
#define X(name, ...) {#name, {__VA_ARGS__}},
	ROWS(X)
#undef X
		{NULL, {0}},
};

/* faults.py writes it, struct for struct. */
struct plan {
	uint32_t on;
	int32_t row; /* -1: every one */
	int32_t error; /* 0: any of the row's, in turn or by chance */
	uint32_t nth; /* the first call that matches is 1; 0: by chance */
	uint32_t one_in;
	uint32_t seed;
	char threads[32]; /* their names; empty: all */
	uint32_t calls; /* that matched */
	uint32_t injected;
	uint32_t
		nameless; /* accepted, but nobody learns for which destination: its slot is swept */
	uint32_t total; /* wrapped calls, matched or not, faults on or off */
	uint32_t row_calls[128];
	char log[LOG_LINES][64];
};
_Static_assert(ROW_COUNT <= 128, "row_calls");

struct range {
	uintptr_t start, end;
};

struct watch {
	int epoll;
	struct epoll_event event;
};

static struct plan *plan;
static pid_t owner;
static struct range program, libuv, libbpf;
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch watches[FDS][EPOLLS]; /* epoll 0: none; 0 is nobody's epoll here */
static bool broken[FDS];
static _Thread_local int own_epoll;

#define NEXT(name)                                                                                 \
	({                                                                                         \
		static __typeof__(&name) next;                                                     \
		if (next == NULL)                                                                  \
			next = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                         \
		next;                                                                              \
	})
#define CALLER ((uintptr_t)__builtin_return_address(0))

/* ---- who calls, and is it his turn? ---- */

static int find_ranges(struct dl_phdr_info *info, size_t size, void *arg)
{
	bool *first = arg;
	struct range *r = *first				  ? &program
			  : strstr(info->dlpi_name, "/libuv.so")  ? &libuv
			  : strstr(info->dlpi_name, "/libbpf.so") ? &libbpf
								  : NULL;

	(void)size;
	*first = false;
	for (int i = 0; r != NULL && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X))
			*r = (struct range){info->dlpi_addr + p->p_vaddr,
					    info->dlpi_addr + p->p_vaddr + p->p_memsz};
	}
	return 0;
}

__attribute__((constructor)) static void shim_begin(void)
{
	const char *path = getenv("FAULT_PLAN");
	bool first = true;
	void *p;
	int fd;

	if (path == NULL)
		return;
	dl_iterate_phdr(find_ranges, &first);
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	p = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	owner = getpid();
	if (p != MAP_FAILED)
		plan = p;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdU;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53U;
	return x ^ x >> 33;
}

static unsigned error_count(enum row row)
{
	unsigned n = 0;

	while (n < ERRORS_MAX && fault_rows[row].errors[n] != 0)
		n++;
	return n;
}

static void note(enum row row, int error, int fd, uint32_t call)
{
	uint32_t at = __atomic_fetch_add(&plan->injected, 1, __ATOMIC_RELAXED);
	char thread[16] = "";

	prctl(PR_GET_NAME, thread);
	snprintf(plan->log[at % LOG_LINES], sizeof plan->log[0], "%s %s (fd %d, %s, call %u)",
		 fault_rows[row].name, error == SHORT ? "short" : strerrorname_np(error), fd,
		 thread, call);
}

static bool thread_is_meant(void)
{
	char thread[16] = "";

	prctl(PR_GET_NAME, thread);
	return plan->threads[0] == '\0' || strstr(plan->threads, thread) != NULL;
}

/* What happens to this call: 0, an errno or SHORT. */
static int fault(enum row row, int fd)
{
	uint32_t call, n = error_count(row);
	uint64_t dice;
	int error = plan->error;

	__atomic_fetch_add(&plan->total, 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&plan->on, __ATOMIC_ACQUIRE) ||
	    (plan->row >= 0 && plan->row != (int)row) || (fd >= 0 && fd <= STDERR_FILENO) ||
	    getpid() != owner || !thread_is_meant())
		return 0;
	__atomic_fetch_add(&plan->calls, 1, __ATOMIC_RELAXED);
	call = __atomic_add_fetch(&plan->row_calls[row], 1, __ATOMIC_RELAXED);
	dice = mix(plan->seed + ((uint64_t)row << 32) + call);
	if (plan->nth != 0 ? call != plan->nth : dice % plan->one_in != 0)
		return 0;
	if (error == 0)
		error = fault_rows[row]
				.errors[(plan->nth != 0 ? plan->seed + call : dice >> 32) % n];
	note(row, error, fd, call);
	return error;
}

static bool is_in(const struct range *r, uintptr_t at)
{
	return at >= r->start && at < r->end;
}

/* `uv_row` is ROW_COUNT where libuv's calls are left alone. */
static int fault_of(uintptr_t caller, enum row row, enum row uv_row, int fd)
{
	int saved = errno, error = 0;

	if (plan == NULL)
		return 0;
	if (is_in(&program, caller) && row != ROW_COUNT)
		error = fault(row, fd);
	else if (is_in(&libuv, caller) && uv_row != ROW_COUNT)
		error = fault(uv_row, fd);
	errno = saved;
	return error;
}

static int fail(int error)
{
	errno = error;
	return -1;
}

/* ---- what the kernel would do besides ---- */

static void watch_again(int fd, struct watch *w)
{
	struct epoll_event event = w->event;

	if (!(event.events & EPOLLET))
		return;
	if (!(event.events & EPOLLEXCLUSIVE)) {
		NEXT(epoll_ctl)(w->epoll, EPOLL_CTL_MOD, fd, &event);
	} else if (w->epoll == own_epoll) { /* cannot be changed, only begun anew */
		NEXT(epoll_ctl)(w->epoll, EPOLL_CTL_DEL, fd, NULL);
		NEXT(epoll_ctl)(w->epoll, EPOLL_CTL_ADD, fd, &event);
	}
}

/* Nothing was used up: what is there is told again. */
static void edge_again(int fd)
{
	pthread_mutex_lock(&watch_lock);
	for (int i = 0; i < EPOLLS; i++)
		if (fd < FDS && watches[fd][i].epoll != 0)
			watch_again(fd, &watches[fd][i]);
	pthread_mutex_unlock(&watch_lock);
}

static void watch_note(int epoll, int op, int fd, const struct epoll_event *event)
{
	if (fd < 0 || fd >= FDS)
		return;
	pthread_mutex_lock(&watch_lock);
	for (int i = 0; i < EPOLLS; i++) {
		struct watch *w = &watches[fd][i];

		if (op == EPOLL_CTL_ADD && w->epoll == 0) {
			*w = (struct watch){epoll, *event};
			break;
		}
		if (op == EPOLL_CTL_DEL && w->epoll == epoll)
			w->epoll = 0;
	}
	pthread_mutex_unlock(&watch_lock);
}

static void watch_forget(int fd)
{
	if (fd < 0 || fd >= FDS)
		return;
	pthread_mutex_lock(&watch_lock);
	memset(watches[fd], 0, sizeof watches[fd]);
	broken[fd] = false;
	pthread_mutex_unlock(&watch_lock);
}

static bool ends_the_connection(int error)
{
	return error == ECONNRESET || error == EPIPE || error == ETIMEDOUT ||
	       error == EHOSTUNREACH || error == ENOTCONN;
}

/* Both ends are told; at ours the error is told once, and shutdown() does not. */
static void break_connection(int fd, int said)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	socklen_t len = sizeof(int);
	int error;

	if (fd < FDS)
		broken[fd] = true;
	NEXT(connect)(fd, &none, sizeof none);
	if (said != ENOTCONN)
		NEXT(getsockopt)(fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

/* EPIPE is the first word of a reset that follows a FIN; of any other that is ECONNRESET. What
 * was not read yet is gone here, and the kernel would keep it: then it is no such case. */
static int word_of_end(int fd, int error)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;
	int unread = 0;

	if (error != EPIPE)
		return error;
	NEXT(getsockopt)(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	ioctl(fd, FIONREAD, &unread);
	return unread == 0 && info.tcpi_state == TCP_CLOSE_WAIT ? EPIPE : ECONNRESET;
}

static int socket_fails(int fd, int error)
{
	error = word_of_end(fd, error);
	if (error == EAGAIN)
		edge_again(fd);
	else if (ends_the_connection(error))
		break_connection(fd, error);
	return fail(error);
}

/* What has borders, as netlink's messages, goes whole or not at all. */
static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof type;

	NEXT(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	return type == SOCK_STREAM;
}

static size_t half(size_t n)
{
	return n > 1 ? n / 2 : n;
}

/* ---- connections ---- */

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	int error = fault_of(CALLER, ROW_accept4, ROW_uv_accept4, fd);
	struct linger now = {.l_onoff = 1};
	int lost;

	if (error == 0)
		return NEXT(accept4)(fd, sa, len, flags);
	if (error == EAGAIN)
		edge_again(fd);
	if (error == ECONNABORTED || error == EPROTO) {
		lost = NEXT(accept4)(fd, NULL, NULL, flags | SOCK_NONBLOCK);
		if (lost < 0)
			return -1; /* nobody was there to be lost */
		NEXT(setsockopt)(lost, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		NEXT(close)(lost);
		__atomic_fetch_add(&plan->nameless, 1, __ATOMIC_RELAXED);
	}
	return fail(error);
}

ssize_t recv(int fd, void *to, size_t room, int flags)
{
	int error = fault_of(CALLER, ROW_recv, ROW_COUNT, fd);
	ssize_t n;

	if (error != 0 && error != SHORT)
		return socket_fails(fd, error);
	n = NEXT(recv)(fd, to, error == SHORT && is_stream(fd) ? half(room) : room, flags);
	if (n < 0 && errno == ENOTCONN && fd < FDS && broken[fd])
		return 0; /* as after an end that was told */
	/* The kernel leaves nothing behind a short read: the rest is as what came after it. */
	if (n > 0 && error == SHORT)
		edge_again(fd);
	return n;
}

ssize_t send(int fd, const void *from, size_t len, int flags)
{
	int error = fault_of(CALLER, ROW_send, ROW_COUNT, fd);

	if (error != 0 && error != SHORT)
		return socket_fails(fd, error);
	return NEXT(send)(fd, from, error == SHORT && is_stream(fd) ? half(len) : len, flags);
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	int error = sa->sa_family == AF_UNSPEC ? 0 : fault_of(CALLER, ROW_connect, ROW_COUNT, fd);

	return error != 0 ? fail(error) : NEXT(connect)(fd, sa, len);
}

int shutdown(int fd, int how)
{
	int error = fault_of(CALLER, ROW_shutdown, ROW_COUNT, fd);

	return error != 0 ? socket_fails(fd, error) : NEXT(shutdown)(fd, how);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int error = fault_of(CALLER, ROW_getsockopt, ROW_COUNT, fd);
	int n;

	if (error != 0)
		return fail(error);
	n = NEXT(getsockopt)(fd, level, name, value, len);
	if (n < 0 || level != SOL_SOCKET || name != SO_ERROR)
		return n;
	error = fault_of(CALLER, ROW_so_error, ROW_COUNT, fd);
	if (error == 0)
		return 0;
	break_connection(fd, error);
	memcpy(value, &error, sizeof error);
	return 0;
}

int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	int error = fault_of(CALLER, ROW_getsockname, ROW_COUNT, fd);

	if (error == 0)
		return NEXT(getsockname)(fd, sa, len);
	__atomic_fetch_add(&plan->nameless, 1, __ATOMIC_RELAXED);
	return fail(error);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	int error = op == EPOLL_CTL_ADD ? fault_of(CALLER, ROW_epoll_ctl, ROW_COUNT, fd) : 0;
	int n = error != 0 ? fail(error) : NEXT(epoll_ctl)(epoll, op, fd, event);

	if (n == 0)
		watch_note(epoll, op, fd, event);
	return n;
}

int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
	int error = fault_of(CALLER, ROW_epoll_wait, ROW_uv_epoll_wait, epoll);

	if (is_in(&program, CALLER))
		own_epoll = epoll;
	if (error == EINTR)
		return fail(error);
	return NEXT(epoll_wait)(epoll, events, error == SHORT ? 1 : max, timeout);
}

int close(int fd)
{
	int error = fault_of(CALLER, ROW_close, ROW_COUNT, fd);
	int n;

	watch_forget(fd);
	n = NEXT(close)(fd);
	return error != 0 ? fail(error) : n;
}

/* ---- files, and what libuv reads and writes ---- */

static bool is_socket(int fd)
{
	struct stat st;

	return syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISSOCK(st.st_mode);
}

ssize_t read(int fd, void *to, size_t room)
{
	/* libuv's own descriptors (eventfd, signals) have no such failures. */
	int error = fault_of(CALLER, ROW_read, is_socket(fd) ? ROW_uv_read : ROW_COUNT, fd);

	if (error == SHORT && room > sizeof(uint64_t)) /* an eventfd knows no half */
		return NEXT(read)(fd, to, half(room));
	if (error != 0 && error != SHORT)
		return is_socket(fd) && ends_the_connection(error) ? socket_fails(fd, error)
								   : fail(error);
	return NEXT(read)(fd, to, room);
}

ssize_t write(int fd, const void *from, size_t len)
{
	int error = fault_of(CALLER, ROW_write, is_socket(fd) ? ROW_uv_write : ROW_COUNT, fd);

	if (error == SHORT && len > sizeof(uint64_t))
		return NEXT(write)(fd, from, half(len));
	if (error != 0 && error != SHORT && len > sizeof(uint64_t))
		return fail(error);
	return NEXT(write)(fd, from, len);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	int error = fault_of(CALLER, ROW_writev, ROW_COUNT, fd);

	if (error == SHORT)
		return NEXT(write)(fd, iov[0].iov_base, half(iov[0].iov_len));
	return error != 0 ? fail(error) : NEXT(writev)(fd, iov, n);
}

int open(const char *path, int flags, ...)
{
	int error = fault_of(CALLER, ROW_open, ROW_COUNT, -1);
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	return error != 0 ? fail(error) : NEXT(open)(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
	int error = fault_of(CALLER, ROW_openat, ROW_COUNT, -1);
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	return error != 0 ? fail(error) : NEXT(openat)(at, path, flags, mode);
}

int fcntl(int fd, int command, ...)
{
	int error = command == F_DUPFD_CLOEXEC ? fault_of(CALLER, ROW_fcntl, ROW_COUNT, fd) : 0;
	va_list args;
	long value;

	va_start(args, command);
	value = va_arg(args, long);
	va_end(args);
	return error != 0 ? fail(error) : NEXT(fcntl)(fd, command, value);
}

/* ---- the rest is failure or no failure ---- */

#define WRAP(type, name, row, uv_row, fd, failed, params, args)                                    \
	type name params                                                                           \
	{                                                                                          \
		int error = fault_of(CALLER, row, uv_row, fd);                                     \
                                                                                                   \
		if (error == 0)                                                                    \
			return NEXT(name) args;                                                    \
		errno = error;                                                                     \
		return failed;                                                                     \
	}
#define OWN(name, fd, params, args) WRAP(int, name, ROW_##name, ROW_COUNT, fd, -1, params, args)
#define BOTH(name, fd, params, args)                                                               \
	WRAP(int, name, ROW_##name, ROW_uv_##name, fd, -1, params, args)

BOTH(socket, -1, (int family, int type, int protocol), (family, type, protocol))
BOTH(setsockopt, fd, (int fd, int level, int name, const void *value, socklen_t len),
     (fd, level, name, value, len))
BOTH(bind, fd, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len))
BOTH(listen, fd, (int fd, int backlog), (fd, backlog))
BOTH(epoll_create1, -1, (int flags), (flags))
BOTH(eventfd, -1, (unsigned value, int flags), (value, flags))
OWN(pipe2, -1, (int ends[2], int flags), (ends, flags))
OWN(fstat, fd, (int fd, struct stat *st), (fd, st))
OWN(fstatat, -1, (int at, const char *path, struct stat *st, int flags), (at, path, st, flags))
OWN(scandirat, -1,
    (int at, const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
     int (*order)(const struct dirent **, const struct dirent **)),
    (at, path, names, filter, order))
OWN(mkdir, -1, (const char *path, mode_t mode), (path, mode))
OWN(mkdirat, -1, (int at, const char *path, mode_t mode), (at, path, mode))
OWN(renameat, -1, (int at, const char *from, int to_at, const char *to), (at, from, to_at, to))
OWN(unlinkat, -1, (int at, const char *path, int flags), (at, path, flags))
OWN(fsync, fd, (int fd), (fd))
OWN(flock, fd, (int fd, int how), (fd, how))
OWN(lstat, -1, (const char *path, struct stat *st), (path, st))
OWN(chmod, -1, (const char *path, mode_t mode), (path, mode))
OWN(fchmod, fd, (int fd, mode_t mode), (fd, mode))
OWN(poll, -1, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout))
OWN(fork, -1, (void), ())
OWN(getifaddrs, -1, (struct ifaddrs * *all), (all))
WRAP(ssize_t, pread, ROW_pread, ROW_COUNT, fd, -1, (int fd, void *to, size_t room, off_t at),
     (fd, to, room, at))
WRAP(char *, realpath, ROW_realpath, ROW_COUNT, -1, NULL, (const char *path, char *to), (path, to))
WRAP(int, pthread_create, ROW_pthread_create, ROW_COUNT, -1, error,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
     (thread, attr, run, arg))
WRAP(void *, malloc, ROW_malloc, ROW_COUNT, -1, NULL, (size_t n), (n))
WRAP(void *, calloc, ROW_calloc, ROW_COUNT, -1, NULL, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, ROW_realloc, ROW_COUNT, -1, NULL, (void *p, size_t n), (p, n))
WRAP(char *, strdup, ROW_strdup, ROW_COUNT, -1, NULL, (const char *s), (s))
WRAP(void *, aligned_alloc, ROW_aligned_alloc, ROW_COUNT, -1, NULL, (size_t a, size_t n), (a, n))

/* Of libbpf: bpf(2) has no function in the C library. */
long syscall(long number, ...)
{
	bool is_bpf = number == SYS_bpf && plan != NULL && is_in(&libbpf, CALLER);
	long a[6];
	va_list args;
	int error;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_close) /* libuv closes so */
		watch_forget((int)a[0]);
	error = is_bpf ? fault(ROW_bpf, -1) : 0;
	return error != 0 ? fail(error) : NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* There and back again: the way back never fails, by contract it ends the process. */
int setns(int fd, int type)
{
	static _Thread_local bool away;
	int error = 0;

	if (!away)
		error = fault_of(CALLER, ROW_setns, ROW_COUNT, fd);
	away = !away;
	return error != 0 ? fail(error) : NEXT(setns)(fd, type);
}
