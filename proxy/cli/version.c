/* SPDX-License-Identifier: Apache-2.0 */
/* shunt version */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"
#include "proxy/version.h"

static void print_help(void)
{
	printf("Usage: shunt version [--name NAME] [--run-dir DIR] [-o json]\n\n"
	       "Prints the version of this command and that of the daemon, when one answers.\n\n"
	       "Examples:\n"
	       "  shunt version\n"
	       "  shunt version -o json\n");
}

/* What the daemon says of itself, or NULL; free() it. */
static char *daemon_version(void)
{
	struct client_answer answer;
	const cJSON *version;
	char *out = NULL;
	cJSON *json;

	if (client_ask("GET", "/status", 5, &answer) < 0)
		return NULL;
	json = cJSON_Parse(answer.body.p);
	version = cJSON_GetObjectItemCaseSensitive(json, "version");
	if (cJSON_IsString(version))
		out = cli_safe(version->valuestring, 100);
	cJSON_Delete(json);
	text_free(&answer.body);
	return out;
}

static void print_json(const char *daemon)
{
	cJSON *json = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(json, "shunt", SHUNT_VERSION);
	if (daemon != NULL)
		cJSON_AddStringToObject(json, "shuntd", daemon);
	else
		cJSON_AddNullToObject(json, "shuntd");
	text = cJSON_Print(json);
	printf("%s\n", text != NULL ? text : "{}");
	free(text);
	cJSON_Delete(json);
}

int cli_version(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"output", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0},
	};
	bool json = false;
	char *daemon;
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
	if (optind < argc)
		return cli_usage(argv[0]);
	daemon = daemon_version();
	if (json)
		print_json(daemon);
	else
		printf("shunt  %s\nshuntd %s\n", SHUNT_VERSION,
		       daemon != NULL ? daemon : "(does not answer)");
	free(daemon);
	return CLI_OK;
}
