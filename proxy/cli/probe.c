/* SPDX-License-Identifier: Apache-2.0 */
/* shunt probe: what this kernel does, and what shuntd would do without. Asks no daemon. */
#include "proxy/probe.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/cli/cli.h"

#define RESULTS_MOST 128U
#define CELL_MOST 160U /* as long as a detail */

static void print_help(void)
{
	printf("Usage: shunt probe [-o json]\n\n"
	       "Runs every mechanism of the kernel that shunt uses or may use once, and says "
	       "which\n"
	       "of them work here, what was seen, and what is used instead of those that do not.\n"
	       "Asks no daemon, needs root, and leaves nothing behind but loaded kernel "
	       "modules.\n\n"
	       "  -o, --output FMT  text (default) or json\n\n"
	       "Exit status: 0 shuntd can run here, 1 something is missing that it cannot run\n"
	       "without, 2 wrong usage, 3 nothing could be tried, as without root.\n\n"
	       "Examples:\n"
	       "  shunt probe\n"
	       "  shunt probe >/dev/null && systemctl enable --now shuntd\n"
	       "  shunt probe -o json | jq -r '.[] | select(.state != \"ok\").name'\n");
}

static bool is_lacking(const struct probe_result *r)
{
	return r->state != PROBE_OK && r->fallback == NULL;
}

static enum cli_colour state_colour(const struct probe_result *r)
{
	if (r->state == PROBE_OK)
		return CLI_GREEN;
	return is_lacking(r) ? CLI_RED : CLI_YELLOW;
}

static const char *instead(const struct probe_result *r)
{
	if (r->state == PROBE_OK)
		return "-";
	return r->fallback != NULL ? r->fallback : "none: shuntd cannot run without it";
}

static void print_table(const struct probe_result *results, size_t n)
{
	static const char *const heads[] = {"MECHANISM", "STATE", "SEEN", "USED INSTEAD"};
	struct cli_table table = {.columns = sizeof heads / sizeof heads[0]};

	for (size_t i = 0; i < table.columns; i++)
		cli_table_add(&table, CLI_PLAIN, cli_safe(heads[i], CELL_MOST));
	for (size_t i = 0; i < n; i++) {
		const struct probe_result *r = &results[i];
		const char *detail = r->detail[0] != '\0' ? r->detail : "-";

		cli_table_add(&table, CLI_PLAIN, cli_safe(r->name, CELL_MOST));
		cli_table_add(&table, state_colour(r),
			      cli_safe(probe_state_word(r->state), CELL_MOST));
		cli_table_add(&table, CLI_PLAIN, cli_safe(detail, CELL_MOST));
		cli_table_add(&table, CLI_PLAIN, cli_safe(instead(r), CELL_MOST));
	}
	cli_table_print(&table);
}

/* The last line: can shuntd run here? */
static void print_verdict(const struct probe_result *results, size_t n)
{
	const char *before = "\nshuntd cannot run here, for want of ";

	for (size_t i = 0; i < n; i++) {
		if (!is_lacking(&results[i]))
			continue;
		printf("%s%s", before, results[i].name);
		before = ", ";
	}
	puts(*before == ',' ? "" : "\nshuntd can run here");
}

static void print_json(const struct probe_result *results, size_t n)
{
	struct text t = {0};

	probe_json(results, n, &t);
	puts(text_string(&t));
	text_free(&t);
}

static int probe(bool as_json)
{
	static struct probe_result results[RESULTS_MOST];
	size_t n, lacking = 0, failed = 0;

	if (geteuid() != 0) {
		fprintf(stderr, "shunt probe: this needs root: try sudo\n");
		return CLI_UNREACHABLE;
	}
	n = probe_run(results, RESULTS_MOST);
	n = n < RESULTS_MOST ? n : RESULTS_MOST;
	for (size_t i = 0; i < n; i++) {
		lacking += is_lacking(&results[i]);
		failed += results[i].state == PROBE_FAILED;
	}
	if (as_json)
		print_json(results, n);
	else
		print_table(results, n);
	if (failed == n) { /* a container without the capabilities: that says nothing */
		fprintf(stderr, "shunt probe: nothing could be tried\n");
		return CLI_UNREACHABLE;
	}
	if (!as_json)
		print_verdict(results, n);
	return lacking > 0 ? CLI_NO : CLI_OK;
}

int cli_probe(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"output", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0},
	};
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return CLI_OK;
		}
		if (option != 'o')
			return cli_usage(argv[0]);
		json = strcmp(optarg, "json") == 0;
		if (!json && strcmp(optarg, "text") != 0)
			return cli_usage(argv[0]);
	}
	return optind < argc ? cli_usage(argv[0]) : probe(json);
}
