/* SPDX-License-Identifier: Apache-2.0 */
/* The command `shunt`: its verbs, the options before them, and what all verbs share. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
	{"detach", cli_detach, "release everything from the kernel"},
	{"version", cli_version, "versions of the command and of the daemon"},
};
#define VERBS (sizeof verbs / sizeof verbs[0])

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

const char *cli_colour(enum cli_colour colour)
{
	static const char *const sequences[] = {"\x1b[0m", "\x1b[32m", "\x1b[33m", "\x1b[31m",
						"\x1b[2m"};
	const char *no = getenv("NO_COLOR");

	if ((no != NULL && *no != '\0') || !isatty(STDOUT_FILENO))
		return "";
	return sequences[colour];
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
