/* SPDX-License-Identifier: Apache-2.0 */
/* Findings, see report.h, and the nearest name to what somebody wrote. */
#include "config/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/text.h"

struct report_item {
	struct finding f;
	size_t file, seq;
};

static size_t report_file(const struct report *r, const char *path)
{
	for (size_t i = 0; i < r->file_count; i++)
		if (r->files[i].path == path)
			return i;
	return r->file_count;
}

/* Its kinds are not known while it cannot be read as YAML: any word of it will do. */
static bool report_holds_secrets(const struct document_file *f)
{
	return memmem(f->text, f->len, "Secret", 6) != NULL ||
	       memmem(f->text, f->len, "stringData", 10) != NULL;
}

/* The text of line `line` of file i; empty when there is none, or when it may be a secret. */
static void report_line(const struct report *r, size_t i, unsigned line, struct text *out)
{
	const char *p, *end, *eol;

	if (i >= r->file_count || line == 0 || r->files[i].len == 0 ||
	    report_holds_secrets(&r->files[i]))
		return;
	p = r->files[i].text;
	end = p + r->files[i].len;
	while (line > 1 && p < end) {
		eol = memchr(p, '\n', (size_t)(end - p));
		p = eol == NULL ? end : eol + 1;
		line--;
	}
	eol = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
	eol = eol == NULL ? end : eol;
	if (eol > p && eol[-1] == '\r')
		eol--;
	if (eol - p > 200)
		eol = p + 200;
	for (; p < eol; p++) /* a terminal is not to be driven by a document */
		text_add_n(out, (unsigned char)*p < 0x20 || *p == 0x7f ? " " : p, 1);
}

/* One block holds the file's name, the text and the excerpt: finding.text is its start. */
static bool report_pack(struct finding *f, const char *text, const char *file, const char *excerpt)
{
	size_t a = strlen(text) + 1, b = strlen(file) + 1, c = strlen(excerpt) + 1;
	char *p = malloc(a + b + c);

	if (p == NULL)
		return false;
	memcpy(p, text, a);
	memcpy(p + a, file, b);
	memcpy(p + a + b, excerpt, c);
	f->text = p;
	f->where.file = p + a;
	f->excerpt = c > 1 ? p + a + b : NULL;
	return true;
}

static struct report_item *report_room(struct report *r)
{
	if (r->count == r->room) {
		size_t room = r->room == 0 ? 16 : r->room * 2;
		struct report_item *items = realloc(r->items, room * sizeof(*items));

		if (items == NULL)
			return NULL;
		r->items = items;
		r->room = room;
	}
	return &r->items[r->count];
}

static void report_add(struct report *r, enum finding_level level, struct location where,
		       va_list ap)
{
	struct report_item *it;
	struct text text = {0}, line = {0};
	const char *s;

	if (level == FINDING_ERROR)
		r->errors++;
	if (r->count >= REPORT_MAX)
		return;
	while ((s = va_arg(ap, const char *)) != NULL)
		for (; *s != '\0'; s++) /* one line, and nothing that drives a terminal */
			text_add_n(&text, (unsigned char)*s < 0x20 || *s == 0x7f ? " " : s, 1);
	it = report_room(r);
	if (it != NULL) {
		*it = (struct report_item){.f = {.level = level, .where = where},
					   .file = report_file(r, where.file),
					   .seq = r->count};
		report_line(r, it->file, where.line, &line);
		if (report_pack(&it->f, text_string(&text), where.file, text_string(&line)))
			r->count++;
		else
			it = NULL;
	}
	r->failed |= it == NULL || text.failed || line.failed;
	text_free(&text);
	text_free(&line);
}

void report_error(struct report *r, struct location where, ...)
{
	va_list ap;

	va_start(ap, where);
	report_add(r, FINDING_ERROR, where, ap);
	va_end(ap);
}

void report_warning(struct report *r, struct location where, ...)
{
	va_list ap;

	va_start(ap, where);
	report_add(r, FINDING_WARNING, where, ap);
	va_end(ap);
}

static int report_order(const void *x, const void *y)
{
	const struct report_item *a = x, *b = y;

	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	if (a->f.where.line != b->f.where.line)
		return a->f.where.line < b->f.where.line ? -1 : 1;
	if (a->f.where.column != b->f.where.column)
		return a->f.where.column < b->f.where.column ? -1 : 1;
	return a->seq < b->seq ? -1 : 1;
}

void report_finish(struct report *r, struct findings *out)
{
	*out = (struct findings){.errors = r->errors};
	if (r->count > 0) {
		qsort(r->items, r->count, sizeof(*r->items), report_order);
		out->items = malloc(r->count * sizeof(*out->items));
		if (out->items == NULL)
			r->failed = true;
	}
	for (size_t i = 0; i < r->count; i++) {
		if (out->items != NULL)
			out->items[out->count++] = r->items[i].f;
		else
			free(r->items[i].f.text);
	}
	free(r->items);
	r->items = NULL;
	r->count = r->room = 0;
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->items[i].text); /* its file and excerpt lie in the same block */
	free(f->items);
	*f = (struct findings){0};
}

void findings_drop_warnings(struct findings *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->count; i++)
		if (f->items[i].level == FINDING_ERROR)
			f->items[n++] = f->items[i];
		else
			free(f->items[i].text);
	f->count = n;
}

bool report_before(struct location a, struct location b)
{
	return a.line != b.line ? a.line < b.line : a.column < b.column;
}

const char *report_place(struct location at, char *buf, size_t size)
{
	struct text t;

	text_fixed(&t, buf, size);
	text_adds(&t, at.file, ":", NULL);
	text_add_number(&t, at.line);
	return buf;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b, case ignored; `far` when
 * either is too long to compare. */
static size_t distance(const char *a, const char *b, size_t far)
{
	enum { MAX = 64 };
	size_t n = strlen(a), m = strlen(b), row[3][MAX + 1];

	if (n > MAX || m > MAX)
		return far;
	for (size_t j = 0; j <= m; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t same = lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1;
			size_t d = last[j - 1] + same;

			d = last[j] + 1 < d ? last[j] + 1 : d;
			d = now[j - 1] + 1 < d ? now[j - 1] + 1 : d;
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < d)
				d = before[j - 2] + 1;
			now[j] = d;
		}
	}
	return row[n % 3][m];
}

const char *report_nearest(const char *name, const char *(*next)(const void *arg, size_t i),
			   const void *arg)
{
	size_t limit = strlen(name) / 3 + 1, best = limit + 1;
	const char *found = NULL, *s;

	for (size_t i = 0; (s = next(arg, i)) != NULL; i++) {
		size_t d = distance(name, s, best);

		if (d < best) {
			best = d;
			found = s;
		}
	}
	return found;
}

static const char *list_next(const void *arg, size_t i)
{
	return ((const char *const *)arg)[i];
}

const char *report_nearest_of(const char *name, const char *const *candidates)
{
	return report_nearest(name, list_next, candidates);
}
