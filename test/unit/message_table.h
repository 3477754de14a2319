/* SPDX-License-Identifier: Apache-2.0 */
/* Reads test/http1/messages.txt, which says how: one row at a time. */
#ifndef SHUNT_TEST_MESSAGE_TABLE_H
#define SHUNT_TEST_MESSAGE_TABLE_H

#include "codec_trace.h"

enum row_end {
	ROW_KEEP,
	ROW_CLOSE,
	ROW_RESET,
	ROW_ABORT,
	ROW_TUNNEL,
};

struct row {
	bool response; /* it is the server that is hostile */
	char name[128];
	struct trace in, out, ask, answer, rest;
	struct trace is; /* "200 400" */
	bool early, fin;
	enum row_end end;
};

static inline const char *row_unescape(struct trace *t, const char *p, char until)
{
	static const char plain[] = "\r\n\t\0 ", letter[] = "rnt0s";

	for (; *p != until && *p != '\0'; p++) {
		if (*p == '^') {
			trace_bytes(t, "\r\n", 2);
		} else if (*p != '\\') {
			trace_bytes(t, p, 1);
		} else if (*++p == 'x') {
			char c = (char)strtol((char[]){p[1], p[2], '\0'}, NULL, 16);

			trace_bytes(t, &c, 1);
			p += 2;
		} else if (*p == '{') {
			char *text;
			long n = strtol(p + 1, &text, 10);

			for (; n > 0; n--)
				p = row_unescape(t, text + 1, '}');
		} else if (*p != '\0' && strchr(letter, *p) != NULL) {
			trace_bytes(t, plain + (strchr(letter, *p) - letter), 1);
		} else {
			trace_bytes(t, p, 1);
		}
	}
	return p;
}

static inline bool row_ends_as(struct row *r, const char *word)
{
	static const char *const words[] = {"keep", "close", "reset", "abort", "tunnel"};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(words[i], word) == 0) {
			r->end = (enum row_end)i;
			return true;
		}
	return false;
}

static inline bool row_line(struct row *r, const char *key, const char *text)
{
	struct trace *t = strcmp(key, "in") == 0       ? &r->in
			  : strcmp(key, "out") == 0    ? &r->out
			  : strcmp(key, "ask") == 0    ? &r->ask
			  : strcmp(key, "answer") == 0 ? &r->answer
			  : strcmp(key, "rest") == 0   ? &r->rest
			  : strcmp(key, "is") == 0     ? &r->is
						       : NULL;

	r->fin = r->fin || strcmp(key, "fin") == 0;
	r->early = r->early || strcmp(key, "early") == 0;
	if (t == NULL)
		return strcmp(key, "fin") == 0 || strcmp(key, "early") == 0;
	trace_bytes(t, "", 0);
	row_unescape(t, text, '\0');
	if (t == &r->is) { /* the last word is how it ends */
		char *end = strrchr(t->p, ' ') != NULL ? strrchr(t->p, ' ') : t->p;

		if (!row_ends_as(r, *end == ' ' ? end + 1 : end))
			return false;
		*end = '\0';
		t->len = (size_t)(end - t->p);
	}
	return true;
}

static inline void row_free(struct row *r)
{
	trace_free(&r->in);
	trace_free(&r->out);
	trace_free(&r->ask);
	trace_free(&r->answer);
	trace_free(&r->rest);
	trace_free(&r->is);
}

/* The next row: true, or false at the end of the file. A line that means nothing aborts. */
static inline bool row_read(FILE *f, struct row *r)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	bool begun = false;

	*r = (struct row){0};
	while ((n = getline(&line, &room, f)) > 0) {
		char *text;

		if (line[n - 1] == '\n')
			line[--n] = '\0';
		if (n == 0 && begun)
			break;
		if (n == 0 || line[0] == '#')
			continue;
		text = strchr(line, ' ');
		if (text != NULL)
			*text++ = '\0';
		if (strcmp(line, "request") == 0 || strcmp(line, "response") == 0) {
			begun = true;
			r->response = strcmp(line, "response") == 0;
			snprintf(r->name, sizeof r->name, "%s: %s", line, text ? text : "");
		} else if (!begun || !row_line(r, line, text ? text : "")) {
			fprintf(stderr, "messages.txt: %s: what is '%s'?\n", r->name, line);
			abort();
		}
	}
	free(line);
	return begun;
}

#endif
