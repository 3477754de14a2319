/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's own cgroup: see cgroup.h. */
#include "proxy/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char own[PATH_MAX]; /* the folder; empty while not in it */
static char mount_point[PATH_MAX];
static char origin[PATH_MAX]; /* cgroup.procs of where we came from */

int cgroup_find_root(char *path, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;
	int err = -ENOENT;

	if (f == NULL)
		return -errno;
	while (err != 0 && getline(&line, &room, f) > 0) {
		char where[PATH_MAX];
		const char *type = strstr(line, " - cgroup2 ");

		/* id parent major:minor root mountpoint ... */
		if (type != NULL && sscanf(line, "%*s %*s %*s %*s %4095s", where) == 1 &&
		    strlen(where) < size) {
			strcpy(path, where);
			err = 0;
		}
	}
	free(line);
	fclose(f);
	return err;
}

static int move_to(const char *procs)
{
	char pid[16];
	int n = snprintf(pid, sizeof pid, "%d", getpid());
	int fd = open(procs, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, pid, (size_t)n) != n)
		err = -errno;
	close(fd);
	return err;
}

/* "0::/path" of /proc/self/cgroup, as a cgroup.procs below root. */
static void remember_origin(const char *root)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];

	origin[0] = '\0';
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, "0::", 3) == 0) {
			line[strcspn(line, "\n")] = '\0';
			if (snprintf(origin, sizeof origin, "%s%s/cgroup.procs", root, line + 3) >=
			    (int)sizeof origin)
				origin[0] = '\0';
		}
	if (f != NULL)
		fclose(f);
}

static int holds_only_us(const char *procs)
{
	FILE *f = fopen(procs, "re");
	int pid, err = 0;

	if (f == NULL)
		return -errno;
	while (fscanf(f, "%d", &pid) == 1)
		if (pid != getpid())
			err = -EBUSY;
	fclose(f);
	return err;
}

#define PATHS_KEPT 64

/* kernfs gives file handles out that are the cgroup's id. */
static size_t path_ask(uint64_t id, char *path, size_t size)
{
	static const int fileid_kernfs = 0xfe;
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof id];
	} h = {.handle = {.handle_bytes = sizeof id, .handle_type = fileid_kernfs}};
	char link[64], found[PATH_MAX];
	size_t skip = strlen(mount_point);
	ssize_t n = -1;
	int root = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (root < 0)
		return 0;
	memcpy(h.handle.f_handle, &id, sizeof id);
	fd = open_by_handle_at(root, &h.handle, O_PATH | O_CLOEXEC);
	close(root);
	if (fd < 0)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, found, sizeof found - 1);
	close(fd);
	if (n < (ssize_t)skip || strncmp(found, mount_point, skip) != 0)
		return 0;
	found[n] = '\0';
	snprintf(path, size, "%s", found[skip] ? found + skip : "/");
	return strlen(path);
}

struct slice cgroup_path(uint64_t id)
{
	static struct {
		uint64_t id;
		char path[256];
		size_t len;
	} kept[PATHS_KEPT];
	size_t i = id % PATHS_KEPT;

	if (kept[i].id != id || kept[i].len == 0) {
		kept[i].id = id;
		kept[i].len = path_ask(id, kept[i].path, sizeof kept[i].path);
	}
	return (struct slice){kept[i].path, kept[i].len};
}

static bool is_slice(const char *name)
{
	size_t n = strlen(name);

	return n > 6 && strcmp(name + n - 6, ".slice") == 0;
}

int cgroup_find_unit(const char *root, const char *unit, char *path, size_t size)
{
	char below[PATH_MAX];
	struct dirent *entry;
	int err = -ENOENT;
	struct stat st;
	DIR *dir;

	if (snprintf(path, size, "%s/%s", root, unit) >= (int)size)
		return -ENAMETOOLONG;
	if (stat(path, &st) == 0)
		return 0;
	dir = opendir(root);
	if (dir == NULL)
		return -errno;
	while (err == -ENOENT && (entry = readdir(dir)) != NULL)
		if (is_slice(entry->d_name) &&
		    snprintf(below, sizeof below, "%s/%s", root, entry->d_name) < (int)sizeof below)
			err = cgroup_find_unit(below, unit, path, size);
	closedir(dir);
	return err;
}

int cgroup_enter(const char *root, const char *name, uint64_t *id)
{
	char procs[PATH_MAX + 16];
	struct stat st;
	int err;

	remember_origin(root);
	snprintf(mount_point, sizeof mount_point, "%s", root);
	if (snprintf(own, sizeof own, "%s/shunt-%s", root, name) >= (int)sizeof own)
		return -ENAMETOOLONG;
	if (mkdir(own, 0755) < 0 && errno != EEXIST)
		return -errno;
	snprintf(procs, sizeof procs, "%s/cgroup.procs", own);
	err = holds_only_us(procs);
	if (err == 0)
		err = move_to(procs);
	if (err == 0)
		err = holds_only_us(procs);
	if (err == 0 && stat(own, &st) < 0)
		err = -errno;
	if (err == 0)
		*id = st.st_ino; /* kernfs: the inode number is the cgroup's id */
	return err;
}

void cgroup_leave(void)
{
	if (own[0] == '\0' || origin[0] == '\0' || move_to(origin) < 0)
		return;
	rmdir(own);
	own[0] = '\0';
}
