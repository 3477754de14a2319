// SPDX-License-Identifier: Apache-2.0
/* Namespaces, cgroups and a bpf file system of our own, and their end. */
#define _GNU_SOURCE 1
#include "test/bpf/testd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

struct rig rig = {.home = -1, .factor = 1};

static const char *const letters = "abw";
static char old_cgroup[600];
static pid_t owner;

int run(const char *format, ...)
{
	char command[4096];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	status = system(command);
	if (status != 0)
		fprintf(stderr, "# failed (%d): %s\n", status, command);
	return status;
}

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "# cannot write %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The mount point of the whole cgroup2 tree: alone, or beside v1 on hybrid hosts. */
static bool find_cgroup_root(void)
{
	char line[1024], root[256], point[256];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
		found = strstr(line, " - cgroup2 ") != NULL &&
			sscanf(line, "%*s %*s %*s %255s %255s", root, point) == 2 &&
			strcmp(root, "/") == 0;
	}
	if (f != NULL)
		fclose(f);
	if (found)
		memcpy(rig.cgroup_root, point, sizeof point);
	return found;
}

static void remember_cgroup(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, "0::", 3) == 0)
			snprintf(old_cgroup, sizeof old_cgroup, "%.255s%.*s/cgroup.procs",
				 rig.cgroup_root, (int)strcspn(line + 3, "\n"), line + 3);
	if (f != NULL)
		fclose(f);
}

const char *rig_missing(void)
{
	if (geteuid() != 0)
		return "root is needed";
	if (!find_cgroup_root())
		return "no cgroup2 mounted at its root";
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return "the kernel has no BTF";
	return NULL;
}

static uint64_t make_cgroup(char path[320], const char *what)
{
	struct stat st;

	snprintf(path, 320, "%s/shunt-bpf-%d-%s", rig.cgroup_root, getpid(), what);
	if (mkdir(path, 0755) < 0 || stat(path, &st) < 0)
		return 0;
	return st.st_ino; /* the id of a cgroup is its inode */
}

static void join_cgroup(const char *folder)
{
	char path[400];

	snprintf(path, sizeof path, "%s/cgroup.procs", folder);
	write_file(path, "0");
}

void rig_enter(int netns_fd)
{
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		abort();
}

static int make_netns(enum place place)
{
	char path[96];
	socklen_t len = sizeof rig.cookie[place];
	int fd;

	if (run("ip netns add shunt-bpf-%d-%c", getpid(), letters[place]) != 0)
		return -1;
	snprintf(path, sizeof path, "/run/netns/shunt-bpf-%d-%c", getpid(), letters[place]);
	rig.netns[place] = open(path, O_RDONLY | O_CLOEXEC);
	if (rig.netns[place] < 0)
		return -1;
	rig_enter(rig.netns[place]);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &rig.cookie[place], &len) < 0)
		rig.cookie[place] = 0;
	close(fd);
	/* client and server without cookies: data in the SYN at the first try */
	write_file("/proc/sys/net/ipv4/tcp_fastopen", "1543");
	rig_enter(rig.home);
	return rig.cookie[place] != 0 ? 0 : -1;
}

static int make_links(void)
{
	char n[64];
	int p = getpid();

	snprintf(n, sizeof n, "shunt-bpf-%d", p);
	return run("set -e; N=%s\n"
		   "ip -n $N-a link add veth0 type veth peer name veth0 netns $N-b\n"
		   "ip -n $N-b link add veth1 type veth peer name veth1 netns $N-w\n"
		   "ip -n $N-a -batch - <<E\n"
		   "link set lo up\nlink set veth0 up\naddr add " A4 "/24 dev veth0\n"
		   "addr add " A6 "/112 dev veth0 nodad\n"
		   "route add default via " B4 "\nroute add fd00:77::/64 via " B6 "\n"
		   "route add local fd73:6875:6e74::/64 dev lo\nE\n"
		   "ip -n $N-b -batch - <<E\n"
		   "link set lo up\nlink set veth0 up\nlink set veth1 up\n"
		   "addr add " B4 "/24 dev veth0\naddr add " B6 "/112 dev veth0 nodad\n"
		   "addr add 10.77.2.2/24 dev veth1\naddr add fd00:77::2:2/112 dev veth1 nodad\n"
		   "route add local fd73:6875:6e74::/64 dev lo\nE\n"
		   "ip -n $N-w -batch - <<E\n"
		   "link set lo up\nlink set veth1 up\n"
		   "addr add " HOST4 "/24 dev veth1\naddr add " WORLD4 "/24 dev veth1\n"
		   "addr add " HOST6 "/112 dev veth1 nodad\n"
		   "addr add " WORLD6 "/112 dev veth1 nodad\n"
		   "route add 10.77.1.0/24 via 10.77.2.2\n"
		   "route add fd00:77::1:0/112 via fd00:77::2:2\n"
		   "route add fd73:6875:6e74::/64 via fd00:77::2:2\nE\n",
		   n);
}

int rig_setup(void)
{
	owner = getpid();
	rig.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	remember_cgroup();
	rig.daemon_cgroup_id = make_cgroup(rig.daemon_cgroup, "daemon");
	rig.app_cgroup_id = make_cgroup(rig.app_cgroup, "app");
	rig.fork_cgroup = rig.app_cgroup;
	snprintf(rig.folder, sizeof rig.folder, "/tmp/shunt-bpf-XXXXXX");
	if (rig.daemon_cgroup_id == 0 || rig.app_cgroup_id == 0 ||
	    make_cgroup(rig.other_cgroup, "other") == 0 || mkdtemp(rig.folder) == NULL)
		return -1;
	snprintf(rig.bpffs, sizeof rig.bpffs, "%s/bpf", rig.folder);
	snprintf(rig.pins, sizeof rig.pins, "%s/shunt/test", rig.bpffs);
	if (mkdir(rig.bpffs, 0700) < 0 || mount("bpf", rig.bpffs, "bpf", 0, NULL) < 0)
		return -1;
	for (enum place p = 0; p < PLACES; p++)
		if (make_netns(p) < 0)
			return -1;
	join_cgroup(rig.daemon_cgroup);
	return make_links() == 0 ? 0 : -1;
}

/* Ends what we started and is still in there; the folder goes when the last has left. */
static void end_cgroup(const char *folder)
{
	char path[400];

	snprintf(path, sizeof path, "%s/cgroup.kill", folder);
	if (access(path, F_OK) == 0)
		write_file(path, "1");
	for (int tries = 0; tries < 100 && rmdir(folder) < 0 && errno != ENOENT; tries++)
		usleep(20000);
}

void rig_cleanup(void)
{
	if (getpid() != owner)
		return;
	owner = 0;
	if (old_cgroup[0] != '\0')
		write_file(old_cgroup, "0");
	end_cgroup(rig.app_cgroup);
	end_cgroup(rig.other_cgroup);
	end_cgroup(rig.daemon_cgroup);
	loader_detach(rig.pins);
	for (int i = 0; i < PLACES; i++) {
		char path[96];

		if (rig.netns[i] > 0)
			close(rig.netns[i]);
		snprintf(path, sizeof path, "/run/netns/shunt-bpf-%d-%c", getpid(), letters[i]);
		if (access(path, F_OK) == 0)
			run("ip netns del shunt-bpf-%d-%c", getpid(), letters[i]);
	}
	umount2(rig.bpffs, 0);
	rmdir(rig.bpffs);
	rmdir(rig.folder);
}

pid_t rig_fork(enum place place)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	alarm(60U * (unsigned int)rig.factor);
	join_cgroup(rig.fork_cgroup);
	rig_enter(rig.netns[place]);
	return 0;
}

struct endpoint endpoint_parse(const char *ip, uint16_t port)
{
	struct endpoint e = {.port = htons(port), .family = AF_INET};

	if (inet_pton(AF_INET, ip, &e.ip.word[3]) == 1) {
		e.ip.word[2] = htonl(0xffff);
		return e;
	}
	if (inet_pton(AF_INET6, ip, e.ip.word) != 1)
		abort();
	if (!IN6_IS_ADDR_V4MAPPED((struct in6_addr *)e.ip.word))
		e.family = AF_INET6;
	return e;
}

struct endpoint endpoint_of(const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	struct endpoint e = {.family = AF_INET};

	if (ss->ss_family == AF_INET) {
		e.ip.word[2] = htonl(0xffff);
		e.ip.word[3] = in4->sin_addr.s_addr;
		e.port = in4->sin_port;
		return e;
	}
	memcpy(e.ip.word, &in6->sin6_addr, sizeof e.ip);
	e.port = in6->sin6_port;
	if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		e.family = AF_INET6;
	return e;
}

socklen_t endpoint_sockaddr(const struct endpoint *e, bool v6, struct sockaddr_storage *ss)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof *ss);
	if (e->family == AF_INET && !v6) {
		in4->sin_family = AF_INET;
		in4->sin_port = e->port;
		in4->sin_addr.s_addr = e->ip.word[3];
		return sizeof *in4;
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = e->port;
	memcpy(&in6->sin6_addr, e->ip.word, sizeof e->ip);
	return sizeof *in6;
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

const char *endpoint_text(const struct endpoint *e)
{
	static char text[4][80];
	static unsigned int next;
	char ip[64];
	char *t = text[next++ % 4];

	inet_ntop(AF_INET6, e->ip.word, ip, sizeof ip);
	snprintf(t, sizeof text[0], "[%s]:%u/%u", ip, ntohs(e->port), e->family);
	return t;
}
