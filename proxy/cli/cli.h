/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `shunt`: one file per verb, one table of verbs (main.c), and the few things
 * that all verbs share (cli.c). Verbs print to stdout, complaints go to stderr; the exit
 * status is what a script asks for.
 */
#ifndef SHUNT_CLI_H
#define SHUNT_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum cli_exit {
	CLI_OK = 0,
	CLI_NO = 1, /* the answer is no: denied, invalid, not well */
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 3, /* the daemon is away, or failed */
};

/* A verb: argv[0] is "shunt VERB", getopt(3) begins anew. */
int cli_config(int argc, char **argv);
int cli_detach(int argc, char **argv);
int cli_observe(int argc, char **argv);
int cli_policy(int argc, char **argv);
int cli_probe(int argc, char **argv);
int cli_reload(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_workload(int argc, char **argv);

/* Options that say which daemon is meant: before the verb or behind it. Verbs that ask a
 * daemon list them with their own and give every option to cli_common() first: true when it
 * was one of these. */
enum {
	CLI_OPTION_NAME = 1000,
	CLI_OPTION_RUN_DIR,
};
#define CLI_COMMON_OPTIONS                                                                         \
	{"name", required_argument, NULL, CLI_OPTION_NAME},                                        \
		{"run-dir", required_argument, NULL, CLI_OPTION_RUN_DIR},                          \
	{                                                                                          \
		"help", no_argument, NULL, 'h'                                                     \
	}
bool cli_common(int option);

const char *cli_name(void); /* of the daemon: "default" */
const char *cli_socket(void); /* its admin socket; NULL (said) when no path can be that long */

/* "Try `shunt VERB --help`", after getopt(3) has said what is wrong. Returns CLI_USAGE. */
int cli_usage(const char *argv0);

enum cli_colour {
	CLI_PLAIN,
	CLI_GREEN,
	CLI_YELLOW,
	CLI_RED,
	CLI_DIM,
};
/* The sequence that switches to it; "" unless stdout (or `out`) is a terminal and NO_COLOR is
 * unset. */
const char *cli_colour(enum cli_colour colour);
const char *cli_colour_on(FILE *out, enum cli_colour colour);

/* A copy that cannot move a terminal's cursor: control characters become '?', and a text of
 * more than `most` characters is cut. Strings in records come from peers. free() it; exits
 * when memory is short. */
char *cli_safe(const char *text, size_t most);

/* Columns on a terminal, as wide as the string is in characters. */
size_t cli_width(const char *text);
/* Prints `text` and spaces up to `width`; no spaces when `last`. */
void cli_cell(FILE *out, const char *text, size_t width, bool last);

/* A table on stdout: set `columns` (at least 1), add cell by cell, row by row, headings first. */
struct cli_table {
	size_t columns;
	struct cli_table_cell {
		char *text;
		enum cli_colour colour;
	} * cells;
	size_t count, room;
};
/* `text` is safe to print (cli_safe) and the table's from now on. */
void cli_table_add(struct cli_table *t, enum cli_colour colour, char *text);
/* Prints it, each column as wide as its widest cell, and empties it. */
void cli_table_print(struct cli_table *t);

/* malloc() for a command: says so and exits when memory is short. */
void *cli_alloc(size_t size);

#endif
