/* SPDX-License-Identifier: Apache-2.0 */
/* What each thread may: see privilege.h. */
#include "proxy/privilege.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/log.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)

/* Without these nothing can be loaded, attached or entered. SYS_ADMIN, which setns() wants, stands
 * for PERFMON at start. */
#define NEEDED (CAP(BPF) | CAP(NET_ADMIN) | CAP(SYS_ADMIN) | CAP(DAC_OVERRIDE))

/* After start. Found by taking away one after the other; test/netns/privilege.sh has what must
 * still work. control: BPF loads the door of a namespace that comes later (NET_ADMIN, too, as
 * kernels document it; 6.18 does without), SYS_PTRACE opens /proc/PID/ns/net of another user,
 * DAC_OVERRIDE removes our cgroup (the root of cgroup2 is read-only to its owner) and opens a log
 * that was given to another user. namespaces: SYS_ADMIN is setns(), NET_ADMIN the route of the
 * slots. log: DAC_READ_SEARCH opens a cgroup by its id. */
static const struct {
	const char *name;
	uint64_t keeps;
} kinds[PRIVILEGES] = {
	[PRIVILEGE_CONTROL] = {"control",
			       CAP(BPF) | CAP(NET_ADMIN) | CAP(SYS_PTRACE) | CAP(DAC_OVERRIDE)},
	[PRIVILEGE_NETNS] = {"namespaces", CAP(SYS_ADMIN) | CAP(NET_ADMIN)},
	[PRIVILEGE_LOG] = {"log", CAP(DAC_READ_SEARCH)},
	[PRIVILEGE_WORKER] = {"workers", 0},
};

static const struct {
	unsigned number;
	const char *name;
} names[] = {
	{CAP_DAC_OVERRIDE, "cap_dac_override"},
	{CAP_DAC_READ_SEARCH, "cap_dac_read_search"},
	{CAP_SETPCAP, "cap_setpcap"},
	{CAP_NET_BIND_SERVICE, "cap_net_bind_service"},
	{CAP_NET_ADMIN, "cap_net_admin"},
	{CAP_SYS_PTRACE, "cap_sys_ptrace"},
	{CAP_SYS_ADMIN, "cap_sys_admin"},
	{CAP_PERFMON, "cap_perfmon"},
	{CAP_BPF, "cap_bpf"},
};

/* The threads that keep some; all others are workers. */
static _Atomic pid_t threads[PRIVILEGE_WORKER];

static void add_names(struct text *t, uint64_t caps)
{
	bool more = false;

	if (caps == 0)
		text_add(t, "none");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!(caps >> names[i].number & 1))
			continue;
		text_adds(t, more ? ", " : "", names[i].name, NULL);
		caps &= ~(UINT64_C(1) << names[i].number);
		more = true;
	}
	for (unsigned i = 0; caps != 0; i++, caps >>= 1)
		if (caps & 1) {
			text_add(t, more ? ", " : "");
			text_add_number(t, i);
			more = true;
		}
}

static int effective(uint64_t *caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	*caps = (uint64_t)data[1].effective << 32 | data[0].effective;
	return 0;
}

int privilege_check(void)
{
	char buffer[128];
	uint64_t has = 0;
	struct text t;
	int err = effective(&has);

	if (err == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		err = -errno;
	if (err < 0) {
		log_errx("own capabilities: %s", strerror(-err));
		return err;
	}
	if ((has & NEEDED) == NEEDED)
		return 0;
	text_fixed(&t, buffer, sizeof buffer);
	add_names(&t, NEEDED & ~has);
	log_errx("missing: %s; run shuntd as root, or give them to its user (a unit's "
		 "AmbientCapabilities=)",
		 buffer);
	return -EPERM;
}

/* Without CAP_SETPCAP, which the service manager of another user need not give, it stays as it
 * is: PR_SET_NO_NEW_PRIVS keeps execve() from making anything of it. */
static void bounding_drop(uint64_t keep)
{
	for (unsigned long i = 0; i < 64; i++)
		if (!(keep >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			return; /* or there is no such capability, and none after it */
}

void privilege_keep(enum privilege kind)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
	uint64_t keep = kinds[kind].keeps, has = 0;

	if (effective(&has) < 0)
		goto fail;
	keep &= has;
	bounding_drop(keep);
	data[0].effective = data[0].permitted = (uint32_t)keep;
	data[1].effective = data[1].permitted = (uint32_t)(keep >> 32);
	if (syscall(SYS_capset, &header, data) < 0)
		goto fail;
	if (kind < PRIVILEGE_WORKER)
		threads[kind] = (pid_t)syscall(SYS_gettid);
	return;
fail:
	log_err("thread %s: cannot give up its capabilities", kinds[kind].name);
	abort();
}

/* Permitted, inheritable and ambient: what a thread has or may take. */
static uint64_t held_by(const char *tid)
{
	uint64_t all = 0, caps;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%.20s/status", tid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if ((strncmp(line, "CapPrm:", 7) == 0 || strncmp(line, "CapInh:", 7) == 0 ||
		     strncmp(line, "CapAmb:", 7) == 0) &&
		    sscanf(line + 7, "%" SCNx64, &caps) == 1)
			all |= caps;
	if (f != NULL)
		fclose(f);
	return all;
}

static enum privilege kind_of(const char *tid)
{
	pid_t number = (pid_t)strtol(tid, NULL, 10);
	int kind = 0;

	while (kind < PRIVILEGE_WORKER && threads[kind] != number)
		kind++;
	return (enum privilege)kind;
}

bool privilege_describe(struct text *t)
{
	uint64_t held[PRIVILEGES] = {0};
	bool well = true;
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/task");

	if (dir == NULL) {
		text_adds(t, "/proc/self/task: ", strerror(errno), NULL);
		return false;
	}
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			held[kind_of(entry->d_name)] |= held_by(entry->d_name);
	closedir(dir);
	for (int kind = 0; kind < PRIVILEGES; kind++) {
		text_adds(t, kind ? "; " : "", kinds[kind].name, " ", NULL);
		add_names(t, held[kind]);
		well = well && (held[kind] & ~kinds[kind].keeps) == 0;
	}
	return well;
}
