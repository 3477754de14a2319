/* SPDX-License-Identifier: Apache-2.0 */
/* The command `shunt`: its verbs, and the options before them. */
#include <string.h>

#include "proxy/cli/cli.h"
#include "proxy/version.h"

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} verbs[] = {
	{"status", cli_status, "is everything well? one line per subsystem"},
	{"observe", cli_observe, "requests and connections, and where their time went"},
	{"config", cli_config, "check configuration files without a daemon"},
	{"policy", cli_policy, "explain what policy says, and why, without a daemon"},
	{"reload", cli_reload, "read the configuration again; prints what changed"},
	{"workload", cli_workload, "add, remove, bypass or list what is captured"},
	{"probe", cli_probe, "what this kernel does, and whether shuntd can run here"},
	{"detach", cli_detach, "release everything from the kernel"},
	{"version", cli_version, "versions of the command and of the daemon"},
};
#define VERBS (sizeof verbs / sizeof verbs[0])

static void print_help(void)
{
	printf("Usage: shunt [--name NAME] [--run-dir DIR] VERB [OPTION]...\n\n"
	       "Looks at and steers shuntd, the service-mesh node proxy.\n\nVerbs:\n");
	for (size_t i = 0; i < VERBS; i++)
		printf("  %-9s %s\n", verbs[i].name, verbs[i].summary);
	printf("\nOptions:\n"
	       "  --name NAME    which daemon of this machine (default: default)\n"
	       "  --run-dir DIR  where its admin socket is (default: /run/shunt, or\n"
	       "                 /run/shunt-NAME)\n"
	       "  --help         this; `shunt VERB --help` for a verb\n"
	       "  --version      the version\n\n"
	       "Exit status: 0 ok, 1 the answer is no, 2 wrong usage, 3 the daemon cannot be\n"
	       "reached or failed. Manual: shunt(1).\n");
}

static int run_verb(int argc, char **argv)
{
	static char argv0[32];

	for (size_t i = 0; i < VERBS; i++) {
		if (strcmp(argv[0], verbs[i].name) != 0)
			continue;
		snprintf(argv0, sizeof argv0, "shunt %s", verbs[i].name);
		argv[0] = argv0;
		optind = 0; /* GNU's way of beginning anew */
		return verbs[i].run(argc, argv);
	}
	fprintf(stderr, "shunt: there is no verb '%s'\n", argv[0]);
	return cli_usage("shunt");
}

/* Output that was lost is not a success. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("shunt: standard output");
	return status == CLI_OK ? CLI_UNREACHABLE : status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		if (cli_common(option))
			continue;
		if (option == 'h') {
			print_help();
			return finish(CLI_OK);
		}
		if (option == 'V') {
			printf("shunt %s\n", SHUNT_VERSION);
			return finish(CLI_OK);
		}
		return cli_usage("shunt");
	}
	if (optind == argc) {
		fprintf(stderr, "shunt: a verb is missing\n");
		return cli_usage("shunt");
	}
	return finish(run_verb(argc - optind, argv + optind));
}
