/* SPDX-License-Identifier: Apache-2.0 */
/* shunt status */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"

#define WAIT_DEFAULT 60
#define CELL_MOST 60U

struct options {
	bool verbose;
	bool json;
	long wait; /* seconds; -1: do not */
};

static void print_help(void)
{
	printf("Usage: shunt status [-v] [-o json] [--wait[=SECONDS]]\n\n"
	       "One line per subsystem: √ well, ‼ works but see the line below it, × does not.\n\n"
	       "  -v, --verbose     workloads and policies too\n"
	       "  -o, --output FMT  text (default) or json\n"
	       "  --wait[=SECONDS]  until the daemon answers and nothing has failed, at most\n"
	       "                    that long (default %d)\n"
	       "  --name NAME, --run-dir DIR  which daemon\n\n"
	       "Exit status: 0 nothing has failed, 1 something has, 3 the daemon does not "
	       "answer.\n\n"
	       "Examples:\n"
	       "  shunt status\n"
	       "  shunt status --wait=10 && run-the-tests\n"
	       "  shunt status -o json | jq '.workloads[].name'\n",
	       WAIT_DEFAULT);
}

/* --- subsystems --- */

static void print_mark(const char *state)
{
	bool ok = strcmp(state, "ok") == 0, warn = strcmp(state, "warn") == 0;

	printf("%s%s%s ",
	       cli_colour(ok	 ? CLI_GREEN
			  : warn ? CLI_YELLOW
				 : CLI_RED),
	       ok     ? "√"
	       : warn ? "‼"
		      : "×",
	       cli_colour(CLI_PLAIN));
}

/* Indented, line by line. */
static void print_hint(const char *hint)
{
	while (*hint != '\0') {
		size_t len = strcspn(hint, "\n");
		char *line = cli_alloc(len + 1), *safe;

		memcpy(line, hint, len);
		line[len] = '\0';
		safe = cli_safe(line, 500);
		printf("    %s\n", safe);
		free(safe);
		free(line);
		hint += len + (hint[len] == '\n');
	}
}

static void print_subsystems(const cJSON *list)
{
	const cJSON *item;
	size_t width = 0;

	cJSON_ArrayForEach(item, list) {
		size_t own = cli_width(client_string(item, "name"));

		width = own > width ? own : width;
	}
	cJSON_ArrayForEach(item, list) {
		char *name = cli_safe(client_string(item, "name"), CELL_MOST);
		char *text = cli_safe(client_string(item, "text"), 500);

		print_mark(client_string(item, "state"));
		cli_cell(stdout, name, width, false);
		printf("%s\n", text);
		print_hint(client_string(item, "hint"));
		free(name);
		free(text);
	}
}

/* Anything that is neither well nor a warning, and an answer that names no subsystem. */
static bool has_failed(const cJSON *json)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "subsystems"), *item;

	if (cJSON_GetArraySize(list) == 0)
		return true;
	cJSON_ArrayForEach(item, list) {
		const char *state = client_string(item, "state");

		if (strcmp(state, "ok") != 0 && strcmp(state, "warn") != 0)
			return true;
	}
	return false;
}

/* --- the other lists, as tables: a column for each key that a row has --- */

#define COLUMNS_MOST 32U

/* "a, b" of an array of strings; free() it. */
static char *join(const cJSON *array)
{
	struct text t = {0};
	const cJSON *item;
	char *safe;

	cJSON_ArrayForEach(item, array) {
		text_add(&t, t.len > 0 ? ", " : "");
		text_add(&t, cJSON_IsString(item) ? item->valuestring : "?");
	}
	safe = cli_safe(t.len > 0 ? text_string(&t) : "-", CELL_MOST);
	text_free(&t);
	return safe;
}

/* What one value looks like in a cell; free() it. */
static char *cell_text(const cJSON *value)
{
	char *text, *safe;

	if (value == NULL || cJSON_IsNull(value))
		return cli_safe("-", 1);
	if (cJSON_IsArray(value))
		return join(value);
	if (cJSON_IsString(value))
		return cli_safe(*value->valuestring != '\0' ? value->valuestring : "-", CELL_MOST);
	text = cJSON_PrintUnformatted(value);
	safe = cli_safe(text != NULL ? text : "?", CELL_MOST);
	free(text);
	return safe;
}

/* The keys of all rows, in the order in which they are first seen. */
static size_t table_keys(const cJSON *rows, const char **keys)
{
	const cJSON *row, *value;
	size_t n = 0, i;

	cJSON_ArrayForEach(row, rows) {
		cJSON_ArrayForEach(value, row) {
			if (value->string == NULL)
				continue;
			for (i = 0; i < n && strcmp(keys[i], value->string) != 0; i++)
				;
			if (i == n && n < COLUMNS_MOST)
				keys[n++] = value->string;
		}
	}
	return n;
}

static char *upper(const char *key)
{
	char *text = cli_safe(key, CELL_MOST);

	for (char *p = text; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	return text;
}

static void print_table(const cJSON *rows)
{
	const char *keys[COLUMNS_MOST];
	struct cli_table table = {.columns = table_keys(rows, keys)};
	const cJSON *row;

	if (table.columns == 0)
		return;
	for (size_t i = 0; i < table.columns; i++)
		cli_table_add(&table, CLI_PLAIN, upper(keys[i]));
	cJSON_ArrayForEach(row, rows)
		for (size_t i = 0; i < table.columns; i++)
			cli_table_add(&table, CLI_PLAIN,
				      cell_text(cJSON_GetObjectItemCaseSensitive(row, keys[i])));
	cli_table_print(&table);
}

static void print_lists(const cJSON *json)
{
	const cJSON *list;

	cJSON_ArrayForEach(list, json) {
		if (!cJSON_IsArray(list) || strcmp(list->string, "subsystems") == 0)
			continue;
		printf("\n%s (%d)\n", list->string, cJSON_GetArraySize(list));
		if (cJSON_IsObject(list->child))
			print_table(list);
	}
}

/* --- asking --- */

/* CLI_OK with *json and *text set, or what to exit with; says nothing when `quiet`. */
static int ask(bool quiet, cJSON **json, char **text)
{
	struct client_answer answer;
	int err = client_ask("GET", "/status", 10, &answer);

	if (err < 0)
		return quiet ? CLI_UNREACHABLE : client_complain(err);
	*json = answer.status == 200 ? cJSON_Parse(answer.body.p) : NULL;
	if (*json != NULL) {
		*text = text_take(&answer.body);
		return CLI_OK;
	}
	if (!quiet)
		client_refused(&answer);
	text_free(&answer.body);
	return CLI_UNREACHABLE;
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int ask_until_well(long seconds, cJSON **json, char **text)
{
	time_t end = now() + seconds;

	for (;;) {
		bool last = now() >= end;
		int status = ask(!last, json, text);

		if (last || (status == CLI_OK && !has_failed(*json)))
			return status;
		if (status == CLI_OK) {
			cJSON_Delete(*json);
			free(*text);
		}
		nanosleep(&(struct timespec){.tv_nsec = 200 * 1000000}, NULL);
	}
}

static bool parse(int argc, char **argv, struct options *o, bool *help)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"verbose", no_argument, NULL, 'v'},
		{"output", required_argument, NULL, 'o'},
		{"wait", optional_argument, NULL, 'w'},
		{NULL, 0, NULL, 0},
	};
	char *end = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "hvo:", options, NULL)) != -1) {
		if (cli_common(option))
			continue;
		if (option == 'h') {
			*help = true;
			return true;
		} else if (option == 'v') {
			o->verbose = true;
		} else if (option == 'o') {
			o->json = strcmp(optarg, "json") == 0;
			if (!o->json && strcmp(optarg, "text") != 0)
				return false;
		} else if (option == 'w') {
			o->wait = optarg != NULL ? strtol(optarg, &end, 10) : WAIT_DEFAULT;
			if (o->wait < 0 || (optarg != NULL && (*optarg == '\0' || *end != '\0')))
				return false;
		} else {
			return false;
		}
	}
	return optind == argc;
}

int cli_status(int argc, char **argv)
{
	struct options o = {.wait = -1};
	bool help = false;
	char *text = NULL;
	cJSON *json = NULL;
	int status;

	if (!parse(argc, argv, &o, &help))
		return cli_usage(argv[0]);
	if (help) {
		print_help();
		return CLI_OK;
	}
	status = o.wait >= 0 ? ask_until_well(o.wait, &json, &text) : ask(false, &json, &text);
	if (status != CLI_OK)
		return status;
	if (o.json)
		fputs(text, stdout); /* the daemon ends it with a newline */
	else
		print_subsystems(cJSON_GetObjectItemCaseSensitive(json, "subsystems"));
	if (!o.json && o.verbose)
		print_lists(json);
	status = has_failed(json) ? CLI_NO : CLI_OK;
	cJSON_Delete(json);
	free(text);
	return status;
}
