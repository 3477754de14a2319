/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs share: how strings of others, tables, findings and colours are printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <fcntl.h>

#include <cmocka.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"
#include "test/unit/cli_run.h"

static void what_peers_sent_cannot_steer_a_terminal(void **state)
{
	char *text = cli_safe("a\x1b[2Jb\xc2\x9b\x7f"
			      "é…",
			      100);

	(void)state;
	assert_string_equal(text, "a?[2Jb??é…");
	free(text);
	text = cli_safe("éé…éé", 3);
	assert_string_equal(text, "éé……");
	free(text);
}

static int print_a_table(int argc, char **argv)
{
	struct cli_table t = {.columns = (size_t)argc};

	for (int row = 0; row < 60; row++)
		for (int i = 0; i < argc; i++)
			cli_table_add(&t, i == 0 ? CLI_RED : CLI_PLAIN,
				      cli_safe(row == 0 ? argv[i] : "é", 100));
	cli_table_print(&t);
	assert_int_equal(t.count, 0);
	return 0;
}

static void a_table_is_as_wide_as_its_widest_cells(void **state)
{
	char *argv[] = {"ONE", "X", "LAST"};
	const char *row;

	(void)state;
	assert_int_equal(cli_run(print_a_table, 3, argv), 0);
	row = strchr(out, '\n') + 1;
	assert_memory_equal(out, "ONE  X  LAST\n", 13);
	assert_memory_equal(row, "é    é  é\n", 13);
	assert_int_equal(strlen(out), 13 + 59 * 13); /* no colours: this is no terminal */
}

static int print_the_findings(int argc, char **argv)
{
	cJSON *findings = cJSON_Parse(argv[0]);

	(void)argc;
	client_print_findings(stderr, findings);
	cJSON_Delete(findings);
	return 0;
}

static void findings_show_place_level_and_line_and_whatever_is_there(void **state)
{
	char *argv[] = {"[{\"level\":\"error\",\"file\":\"a\\u001b.yaml\",\"line\":3,\"column\":7,"
			"\"text\":\"wrong\",\"excerpt\":\"x: y\"},"
			"{\"level\":\"warning\",\"line\":-1},7,null]"};

	(void)state;
	assert_int_equal(cli_run(print_the_findings, 1, argv), 0);
	assert_string_equal(err, "a?.yaml:3:7: error: wrong\n    x: y\n"
				 ":0:0: warning: \n:0:0: warning: \n:0:0: warning: \n");
	assert_string_equal(out, "");
	argv[0] = "no json";
	assert_int_equal(cli_run(print_the_findings, 1, argv), 0);
	assert_string_equal(err, "");
}

/* With a terminal as standard output; `argc` is 0 for one whose owner wants no colours. */
static int colours_of_a_terminal(int argc, char **argv)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY), end = -1, status;

	(void)argv;
	if (terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0)
		end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
	if (end < 0)
		return -1;
	dup2(end, 1);
	setenv("NO_COLOR", argc == 0 ? "1" : "", 1);
	status = (*cli_colour(CLI_RED) != '\0') | (*cli_colour_on(stderr, CLI_RED) != '\0') << 1;
	unsetenv("NO_COLOR");
	close(end);
	close(terminal);
	return status;
}

static void colours_are_for_terminals_whose_owner_wants_them(void **state)
{
	int wanted = cli_run(colours_of_a_terminal, 1, NULL);

	(void)state;
	if (wanted < 0)
		skip(); /* no pseudo terminals here */
	assert_int_equal(wanted, 1); /* standard error is a file */
	assert_int_equal(cli_run(colours_of_a_terminal, 0, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_peers_sent_cannot_steer_a_terminal),
		cmocka_unit_test(a_table_is_as_wide_as_its_widest_cells),
		cmocka_unit_test(findings_show_place_level_and_line_and_whatever_is_there),
		cmocka_unit_test(colours_are_for_terminals_whose_owner_wants_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
