/* SPDX-License-Identifier: Apache-2.0 */
/* What all verbs share: which daemon is meant, and how things are printed. */
#include "proxy/cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *daemon_name = "default";
static const char *run_dir; /* NULL: by the name */

bool cli_common(int option)
{
	if (option == CLI_OPTION_NAME)
		daemon_name = optarg;
	else if (option == CLI_OPTION_RUN_DIR)
		run_dir = optarg;
	else
		return false;
	return true;
}

const char *cli_name(void)
{
	return daemon_name;
}

const char *cli_socket(void)
{
	static char path[4096];
	int n;

	if (run_dir != NULL)
		n = snprintf(path, sizeof path, "%s/admin.sock", run_dir);
	else if (strcmp(daemon_name, "default") == 0)
		n = snprintf(path, sizeof path, "/run/shunt/admin.sock");
	else
		n = snprintf(path, sizeof path, "/run/shunt-%s/admin.sock", daemon_name);
	if (n < 0 || (size_t)n >= sizeof path) {
		fprintf(stderr, "shunt: no path is that long\n");
		return NULL;
	}
	return path;
}

int cli_usage(const char *argv0)
{
	fprintf(stderr, "Try `%s --help`.\n", argv0);
	return CLI_USAGE;
}

const char *cli_colour_on(FILE *out, enum cli_colour colour)
{
	static const char *const sequences[] = {"\x1b[0m", "\x1b[32m", "\x1b[33m", "\x1b[31m",
						"\x1b[2m"};
	const char *no = getenv("NO_COLOR");

	if ((no != NULL && *no != '\0') || !isatty(fileno(out)))
		return "";
	return sequences[colour];
}

const char *cli_colour(enum cli_colour colour)
{
	return cli_colour_on(stdout, colour);
}

void *cli_alloc(size_t size)
{
	void *p = malloc(size);

	if (p == NULL) {
		fprintf(stderr, "shunt: out of memory\n");
		exit(CLI_UNREACHABLE);
	}
	return p;
}

static bool starts_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

size_t cli_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += starts_character(*text);
	return width;
}

/* C0, DEL, and C1 as UTF-8 writes it (c2 80 .. c2 9f): terminals obey all of them. */
static bool is_control(const char *p)
{
	unsigned char c = (unsigned char)p[0], next = c == 0 ? 0 : (unsigned char)p[1];

	return c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0);
}

char *cli_safe(const char *text, size_t most)
{
	static const char cut[] = "…";
	size_t characters = 0;
	char *out = cli_alloc(strlen(text) + sizeof cut), *to = out;

	for (const char *p = text; *p != '\0'; p++) {
		if (starts_character(*p) && characters++ == most) {
			strcpy(to, cut);
			return out;
		}
		if (is_control(p)) {
			*to++ = '?';
			p += (unsigned char)*p == 0xc2; /* both bytes of it */
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
	return out;
}

void cli_cell(FILE *out, const char *text, size_t width, bool last)
{
	fputs(text, out);
	for (size_t have = cli_width(text); !last && have < width + 2; have++)
		putc(' ', out);
}

void cli_table_add(struct cli_table *t, enum cli_colour colour, char *text)
{
	if (t->count == t->room) {
		size_t room = t->room == 0 ? 64 : 2 * t->room;
		struct cli_table_cell *cells = cli_alloc(room * sizeof *cells);

		if (t->count > 0)
			memcpy(cells, t->cells, t->count * sizeof *cells);
		free(t->cells);
		t->cells = cells;
		t->room = room;
	}
	t->cells[t->count++] = (struct cli_table_cell){text, colour};
}

static size_t column_width(const struct cli_table *t, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < t->count; i += t->columns) {
		size_t own = cli_width(t->cells[i].text);

		width = own > width ? own : width;
	}
	return width;
}

void cli_table_print(struct cli_table *t)
{
	size_t *width = cli_alloc(t->columns * sizeof *width);

	for (size_t i = 0; i < t->columns; i++)
		width[i] = column_width(t, i);
	for (size_t i = 0; i < t->count; i++) {
		const struct cli_table_cell *cell = &t->cells[i];
		size_t column = i % t->columns;
		bool coloured = cell->colour != CLI_PLAIN, last = column + 1 == t->columns;

		fputs(coloured ? cli_colour(cell->colour) : "", stdout);
		cli_cell(stdout, cell->text, width[column], last);
		fputs(coloured ? cli_colour(CLI_PLAIN) : "", stdout);
		if (last)
			putchar('\n');
	}
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(width);
	*t = (struct cli_table){.columns = t->columns};
}
