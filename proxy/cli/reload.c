/* SPDX-License-Identifier: Apache-2.0 */
/* shunt reload */
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"

static void print_help(void)
{
	printf("Usage: shunt reload [-o json] [--name NAME] [--run-dir DIR]\n\n"
	       "Makes the daemon read its configuration again, and prints what changed; or what\n"
	       "is wrong with it, and then the old one stays in force.\n\n"
	       "Exit status: 0 taken, 1 refused, 3 the daemon does not answer.\n\n"
	       "Examples:\n"
	       "  shunt reload\n"
	       "  shunt config validate /etc/shunt && shunt reload\n");
}

static void print_changes(const cJSON *changes)
{
	const cJSON *change;

	if (cJSON_GetArraySize(changes) == 0)
		printf("nothing changed\n");
	cJSON_ArrayForEach(change, changes) {
		char *text = cli_safe(cJSON_IsString(change) ? change->valuestring : "?", 1000);

		printf("%s\n", text);
		free(text);
	}
}

/* `error`: what went wrong when it was not the documents, else "". */
static void print_refusal(const char *error)
{
	char *text = cli_safe(error, 500);

	printf("refused%s%s: the configuration in force stays\n", *text != '\0' ? ", " : "", text);
	free(text);
}

static int print_outcome(const cJSON *json)
{
	bool ok = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "ok"));
	const cJSON *changes = cJSON_GetObjectItemCaseSensitive(json, "changes");
	bool partly = !ok && cJSON_GetArraySize(changes) > 0;

	client_print_findings(stdout, cJSON_GetObjectItemCaseSensitive(json, "findings"));
	if (ok || partly)
		print_changes(changes);
	if (partly)
		printf("in force, but not everything could be applied (%s); see the log, it is "
		       "tried again every few seconds\n",
		       client_string(json, "error"));
	else if (!ok)
		print_refusal(client_string(json, "error"));
	return ok ? CLI_OK : CLI_NO;
}

static int reload(bool as_json)
{
	struct client_answer answer;
	cJSON *json;
	int status;

	status = client_json("POST", "/reload", 60, "ok", &answer, &json);
	if (status != CLI_OK)
		return status;
	if (as_json) {
		fputs(answer.body.p, stdout); /* it ends with a newline */
		status = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "ok")) ? CLI_OK
										    : CLI_NO;
	} else {
		status = print_outcome(json);
	}
	cJSON_Delete(json);
	text_free(&answer.body);
	return status;
}

int cli_reload(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"output", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0},
	};
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "ho:", options, NULL)) != -1) {
		if (cli_common(option))
			continue;
		if (option == 'h') {
			print_help();
			return CLI_OK;
		}
		if (option != 'o' || strcmp(optarg, "json") != 0)
			return cli_usage(argv[0]);
		json = true;
	}
	return optind < argc ? cli_usage(argv[0]) : reload(json);
}
