/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the state folder, see state.h. A file is replaced by renaming, and both it and its
 * folder are on the disk before anybody is told so.
 */
#include "config/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYOUT "1"
#define LAYOUT_FILE "layout"
#define FOLDER "workloads"
#define NEW_FILE ".new" /* readers pass over names with a dot */

static int fail(char **error, int err, const char *dir, const char *name, const char *why)
{
	if (asprintf(error, "%s%s%s: %s", dir, name[0] == '\0' ? "" : "/", name, why) < 0)
		*error = NULL;
	return err;
}

static int fail_errno(char **error, const char *dir, const char *name)
{
	int err = errno;

	return fail(error, -err, dir, name, strerror(err));
}

/* ---- one file ---- */

/* Owns fd. */
static int write_out(int fd, const char *p, size_t n)
{
	int err = 0;

	while (n > 0 && err == 0) {
		ssize_t r = write(fd, p, n);

		if (r >= 0) {
			p += r;
			n -= (size_t)r;
		} else if (errno != EINTR) {
			err = -errno;
		}
	}
	if (err == 0 && fsync(fd) < 0)
		err = -errno;
	if (close(fd) < 0 && err == 0)
		err = -errno;
	return err;
}

/* Owns fd. */
static int read_in(int fd, struct text *out)
{
	char part[4096];
	ssize_t r;
	int err;

	while ((r = read(fd, part, sizeof(part))) > 0 || (r < 0 && errno == EINTR))
		text_add_n(out, part, r > 0 ? (size_t)r : 0);
	err = r < 0 ? -errno : 0;
	close(fd);
	return err == 0 && text_failed(out) ? -ENOMEM : err;
}

static int replace(int at, const char *name, const char *p, size_t n)
{
	int fd = openat(at, NEW_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return -errno;
	err = write_out(fd, p, n);
	if (err == 0 && (renameat(at, NEW_FILE, at, name) < 0 || fsync(at) < 0))
		err = -errno;
	if (err < 0)
		(void)unlinkat(at, NEW_FILE, 0);
	return err;
}

/* ---- the folder ---- */

/* The descriptor of DIR or of its folder `name`, or -errno. */
static int folder_open(const char *dir, const char *name, char **error)
{
	int fd, at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return fail_errno(error, dir, "");
	if (name[0] == '\0')
		return at;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fd = fail_errno(error, dir, name);
	close(at);
	return fd;
}

static int layout_foreign(const char *dir, const char *found, char **error)
{
	char word[17] = "";

	for (size_t i = 0; i < sizeof(word) - 1 && found[i] > ' ' && found[i] < 0x7f; i++)
		word[i] = found[i];
	if (asprintf(error,
		     "%s: its layout is '%s', this version uses '" LAYOUT "'; run the version that "
		     "wrote it, or remove the folder and add the workloads again (shunt workload "
		     "add)",
		     dir, word) < 0)
		*error = NULL;
	return -EEXIST;
}

static int layout_check(int at, const char *dir, char **error)
{
	int fd = openat(at, LAYOUT_FILE, O_RDONLY | O_NONBLOCK | O_CLOEXEC), err;
	char found[32] = "";

	if (fd < 0 && errno == ENOENT) {
		err = replace(at, LAYOUT_FILE, LAYOUT "\n", strlen(LAYOUT "\n"));
		return err < 0 ? fail(error, err, dir, LAYOUT_FILE, strerror(-err)) : 0;
	}
	if (fd < 0 || read(fd, found, sizeof(found) - 1) < 0) {
		err = fail_errno(error, dir, LAYOUT_FILE);
		if (fd >= 0)
			close(fd);
		return err;
	}
	close(fd);
	return strcmp(found, LAYOUT "\n") == 0 ? 0 : layout_foreign(dir, found, error);
}

int state_open(const char *dir, char **error)
{
	int at, err;

	*error = NULL;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return fail_errno(error, dir, "");
	at = folder_open(dir, "", error);
	if (at < 0)
		return at;
	err = layout_check(at, dir, error);
	if (err == 0 && mkdirat(at, FOLDER, 0700) < 0 && errno != EEXIST)
		err = fail_errno(error, dir, FOLDER);
	if (err == 0 && fsync(at) < 0)
		err = fail_errno(error, dir, "");
	close(at);
	return err;
}

int state_read(const char *dir, struct document_files *files, char **error)
{
	char path[PATH_MAX + sizeof("/" FOLDER)];

	*error = NULL;
	if (realpath(dir, path) == NULL)
		return fail_errno(error, dir, "");
	strcat(path, "/" FOLDER);
	return files_append_state(path, files, error);
}

/* ---- workloads ---- */

static int file_name(char *out, size_t size, const char *namespace, const char *name)
{
	int n = snprintf(out, size, "%s_%s.yaml", namespace, name); /* names have no '_' */

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static bool is_utf8(const char *s)
{
	size_t left = strlen(s), n = 1;

	for (; left > 0 && n > 0; left -= n, s += n)
		n = text_utf8(s, left);
	return n > 0;
}

/* Would the same be read again? Asked of the reader itself. */
static int check(const struct state_workload *w, const struct text *t, char **error)
{
	static const char what[] = "this workload cannot be kept";
	struct document_file file = {.path = FOLDER, .text = t->p, .len = t->len, .state = true};
	struct identity_table *ids = identity_table_new();
	struct findings findings = {0};
	struct snapshot s;
	int err = -ENOMEM;

	if (!is_utf8(w->selected)) { /* the text has U+FFFD in its place */
		identity_table_free(ids);
		return fail(error, -EINVAL, what, "", "its selector is not UTF-8");
	}
	if (ids != NULL && !t->failed)
		err = config_build(&file, 1, ids, 0, &s, &findings);
	if (err == 0)
		snapshot_free(&s);
	for (size_t i = 0; i < findings.count && err == -EINVAL && *error == NULL; i++)
		if (findings.items[i].level == FINDING_ERROR)
			(void)fail(error, err, what, "", findings.items[i].text);
	findings_free(&findings);
	identity_table_free(ids);
	return err;
}

/* Writes one document; `namespace` and `name` are valid. */
static int keep(const char *dir, const char *namespace, const char *name, const struct text *t,
		char **error)
{
	char file[NAME_MAX + 1];
	int err = file_name(file, sizeof(file), namespace, name);
	int at;

	if (err < 0)
		return fail(error, err, namespace, name, strerror(-err));
	at = folder_open(dir, FOLDER, error);
	if (at < 0)
		return at;
	err = replace(at, file, t->p, t->len);
	close(at);
	return err < 0 ? fail(error, err, dir, FOLDER, strerror(-err)) : 0;
}

int state_put(const char *dir, const struct state_workload *w, char **error)
{
	struct text t = {0};
	int err;

	*error = NULL;
	state_text(&t, w);
	err = check(w, &t, error);
	if (err == 0)
		err = keep(dir, w->namespace, w->name, &t, error);
	text_free(&t);
	return err;
}

int state_get(const char *dir, const char *namespace, const char *name, struct text *out,
	      char **error)
{
	char file[NAME_MAX + 1];
	int at, fd, err;

	*error = NULL;
	if (strchr(namespace, '/') != NULL || strchr(name, '/') != NULL ||
	    file_name(file, sizeof(file), namespace, name) < 0)
		return 0; /* such a name cannot be kept */
	at = folder_open(dir, FOLDER, error);
	if (at < 0)
		return at;
	fd = openat(at, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	err = fd >= 0 ? read_in(fd, out) : errno == ENOENT ? 0 : -errno;
	close(at);
	return err < 0 ? fail(error, err, namespace, name, strerror(-err)) : 0;
}

int state_restore(const char *dir, const char *namespace, const char *name, const struct text *kept,
		  char **error)
{
	*error = NULL;
	return kept->len > 0 ? keep(dir, namespace, name, kept, error)
			     : state_remove(dir, namespace, name, error);
}

int state_remove(const char *dir, const char *namespace, const char *name, char **error)
{
	char file[NAME_MAX + 1];
	int at, err;

	*error = NULL;
	if (strchr(namespace, '/') != NULL || strchr(name, '/') != NULL ||
	    file_name(file, sizeof(file), namespace, name) < 0)
		return fail(error, -ENOENT, namespace, name, "no such workload is kept");
	at = folder_open(dir, FOLDER, error);
	if (at < 0)
		return at;
	err = unlinkat(at, file, 0) < 0 || fsync(at) < 0 ? -errno : 0;
	close(at);
	if (err == -ENOENT)
		(void)fail(error, err, namespace, name, "no such workload is kept");
	else if (err < 0)
		(void)fail(error, err, dir, FOLDER, strerror(-err));
	return err;
}
