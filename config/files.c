/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a configuration folder into memory, see files.h. Decides nothing about contents. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* scandirat, asprintf */
#endif
#include "config/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE_MAX (16U << 20)
#define FILE_COUNT_MAX 10000U
#define FOLDER_DEPTH_MAX 16
#define OPTIONS_FILE "shunt.yaml"

struct walk {
	struct document_files *out;
	char **error;
	bool state;
	size_t room; /* for so many files more */
	int depth;
};

static int fail(struct walk *w, int err, const char *path, const char *why)
{
	if (*w->error == NULL && asprintf(w->error, "%s: %s", path, why) < 0)
		*w->error = NULL;
	return err;
}

static int fail_errno(struct walk *w, const char *path)
{
	int err = errno;

	return fail(w, -err, path, strerror(err));
}

static bool is_yaml(const char *name)
{
	size_t n = strlen(name);

	return (n > 5 && strcmp(name + n - 5, ".yaml") == 0) ||
	       (n > 4 && strcmp(name + n - 4, ".yml") == 0);
}

static int read_all(int fd, char *p, size_t n, size_t *got)
{
	for (*got = 0; *got < n;) {
		ssize_t r = read(fd, p + *got, n - *got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		*got += (size_t)r;
	}
	return 0;
}

/* Takes over `text` and keeps a copy of the path. */
static int keep(struct walk *w, const char *path, char *text, size_t len)
{
	struct document_files *o = w->out;
	struct document_file *items = realloc(o->items, (o->count + 1) * sizeof(*items));
	char *copy = strdup(path);

	if (items != NULL)
		o->items = items;
	if (items == NULL || copy == NULL) {
		free(copy);
		free(text);
		return fail(w, -ENOMEM, path, "out of memory");
	}
	items[o->count++] =
		(struct document_file){.path = copy,
				       .text = text,
				       .len = len,
				       .state = w->state,
				       .options = !w->state && strcmp(path, OPTIONS_FILE) == 0};
	w->room--;
	return 0;
}

/* Owns fd. The size may change while it is read; one byte more than the limit is asked for. */
static int take_file(struct walk *w, int fd, const char *path, const struct stat *st)
{
	size_t size = st->st_size > 0 ? (size_t)st->st_size + 1 : 1, got;
	char *text;
	int err;

	if (st->st_size > (off_t)FILE_SIZE_MAX) {
		close(fd);
		return fail(w, -EFBIG, path, "larger than 16 MiB");
	}
	if (w->room == 0) {
		close(fd);
		return fail(w, -E2BIG, path,
			    w->state ? "more than 16384 files" : "more than 10000 files");
	}
	text = malloc(size);
	if (text == NULL) {
		close(fd);
		return fail(w, -ENOMEM, path, "out of memory");
	}
	err = read_all(fd, text, size, &got);
	close(fd);
	if (err == 0 && got == size)
		err = fail(w, -EAGAIN, path, "changed while it was read");
	if (err < 0) {
		free(text);
		return fail(w, err, path, strerror(-err));
	}
	return keep(w, path, text, got);
}

static int walk_folder(struct walk *w, int fd, const char *path);

static int walk_entry(struct walk *w, int at, const char *folder, const char *name)
{
	char path[4096];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s%s%s", folder, folder[0] == '\0' ? "" : "/", name);
	int fd;

	if (n < 0 || (size_t)n >= sizeof(path))
		return fail(w, -ENAMETOOLONG, name, "path too long");
	if (fstatat(at, name, &st, 0) < 0)
		return fail_errno(w, path);
	if (!S_ISDIR(st.st_mode) && !(S_ISREG(st.st_mode) && is_yaml(name)))
		return 0;
	fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail_errno(w, path);
	return S_ISDIR(st.st_mode) ? walk_folder(w, fd, path) : take_file(w, fd, path, &st);
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Owns fd. */
static int walk_folder(struct walk *w, int fd, const char *path)
{
	struct dirent **names = NULL;
	int n, err = 0;

	if (w->depth == FOLDER_DEPTH_MAX) {
		close(fd);
		return fail(w, -ELOOP, path, "folders nested too deeply");
	}
	n = scandirat(fd, ".", &names, visible, NULL);
	if (n < 0)
		err = fail_errno(w, path[0] == '\0' ? "." : path);
	w->depth++;
	for (int i = 0; i < n; i++) {
		if (err == 0)
			err = walk_entry(w, fd, path, names[i]->d_name);
		free(names[i]);
	}
	w->depth--;
	free(names);
	close(fd);
	return err;
}

/* Options first, then byte order of the whole paths. */
static int file_order(const void *x, const void *y)
{
	const struct document_file *a = x, *b = y;

	if (a->options != b->options)
		return a->options ? -1 : 1;
	return strcmp(a->path, b->path);
}

int files_read(const char *dir, struct document_files *out, char **error)
{
	struct walk w = {.out = out, .error = error, .room = FILE_COUNT_MAX};
	int fd, err;

	*out = (struct document_files){0};
	*error = NULL;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(&w, dir);
	err = walk_folder(&w, fd, "");
	if (err < 0) {
		files_free(out);
		return err;
	}
	if (out->count > 1)
		qsort(out->items, out->count, sizeof(*out->items), file_order);
	return 0;
}

int files_append_state(const char *dir, struct document_files *files, char **error)
{
	struct walk w = {.out = files, .error = error, .state = true, .room = WORKLOADS_MAX};
	size_t before = files->count;
	int fd, err;

	*error = NULL;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(&w, dir);
	err = walk_folder(&w, fd, dir);
	if (files->count > before + 1)
		qsort(files->items + before, files->count - before, sizeof(*files->items),
		      file_order);
	return err;
}

void files_free(struct document_files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		char *text = (char *)(uintptr_t)f->items[i].text;

		explicit_bzero(text, f->items[i].len); /* it may hold Secrets */
		free(text);
		free((char *)(uintptr_t)f->items[i].path);
	}
	free(f->items);
	*f = (struct document_files){0};
}
