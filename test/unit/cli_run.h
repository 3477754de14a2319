/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs of the command as people run them: words in, both streams and the exit status out. */
#ifndef SHUNT_TEST_CLI_RUN_H
#define SHUNT_TEST_CLI_RUN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char out[65536], err[65536];

/* Cuts a line whose words are parted by '|'; argv has room for 128. */
static inline int cli_words(char *line, char **argv)
{
	char *word;
	int argc = 0;

	while (argc < 127 && (word = strsep(&line, "|")) != NULL)
		argv[argc++] = word;
	argv[argc] = NULL;
	return argc;
}

static inline void cli_slurp(FILE *f, char *to, size_t size)
{
	size_t n;

	rewind(f);
	n = fread(to, 1, size - 1, f);
	to[n] = '\0';
	fclose(f);
}

/* Runs a verb with both streams kept in `out` and `err`. */
static inline int cli_run(int (*verb)(int argc, char **argv), int argc, char **argv)
{
	int status, keep_out = dup(1), keep_err = dup(2);
	FILE *o = tmpfile(), *e = tmpfile();

	fflush(stdout);
	fflush(stderr);
	dup2(fileno(o), 1);
	dup2(fileno(e), 2);
	status = verb(argc, argv);
	fflush(stdout);
	fflush(stderr);
	dup2(keep_out, 1);
	dup2(keep_err, 2);
	close(keep_out);
	close(keep_err);
	cli_slurp(o, out, sizeof(out));
	cli_slurp(e, err, sizeof(err));
	return status;
}

#endif
