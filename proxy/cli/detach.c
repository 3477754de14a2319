/* SPDX-License-Identifier: Apache-2.0 */
/* shunt detach: asks the daemon, or, where none lives, removes what it left pinned. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "bpf/loader.h"
#include "proxy/cgroup.h"
#include "proxy/cli/cli.h"
#include "proxy/cli/client.h"
#include "proxy/netns.h"

static void print_help(void)
{
	printf("Usage: shunt detach [--name NAME] [--run-dir DIR] [--bpffs DIR]\n\n"
	       "Releases the workloads: programs, maps and listeners leave the kernel, traffic\n"
	       "flows as if shunt had never been here, without its policy. A daemon that lives\n"
	       "does it and ends; without one the pins below DIR/shunt/NAME are removed (needs\n"
	       "root). Stopping or killing the daemon does not do this.\n\n"
	       "  --bpffs DIR  where the bpf file system is mounted (default /sys/fs/bpf)\n\n"
	       "Exit status: 0 released, 1 could not, 3 the daemon does not answer.\n\n"
	       "Examples:\n"
	       "  shunt detach\n"
	       "  shunt --name staging detach\n");
}

/* The routes of our IPv6 slots, in the namespaces the daemon had written down. */
static void detach_routes(void)
{
	const char *socket = cli_socket();
	const char *end = socket ? strrchr(socket, '/') : NULL;
	char path[4096];
	FILE *f;

	if (end == NULL || netns_start() < 0)
		return;
	snprintf(path, sizeof path, "%.*s/namespaces", (int)(end - socket), socket);
	f = fopen(path, "re");
	while (f != NULL && fgets(path, sizeof path, f) != NULL) {
		uint64_t cookie;
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = netns_open(path, &cookie);
		if (fd < 0)
			continue; /* gone, and its routes with it */
		netns_unroute(fd);
		close(fd);
	}
	if (f != NULL)
		fclose(f);
	netns_stop();
}

/* The cgroup of a daemon that was killed: empty, so that it can go. */
static void detach_cgroup(void)
{
	char root[4096], path[4200];

	if (cgroup_find_root(root, sizeof root) < 0)
		return;
	snprintf(path, sizeof path, "%s/shunt-%s", root, cli_name());
	rmdir(path);
}

static int detach_pins(const char *bpffs)
{
	char dir[4096];
	int n = snprintf(dir, sizeof dir, "%s/shunt/%s", bpffs, cli_name());

	if (n < 0 || (size_t)n >= sizeof dir) {
		fprintf(stderr, "shunt: no path is that long\n");
		return CLI_NO;
	}
	detach_routes(); /* without our pins a namespace may be another daemon's at once */
	n = loader_detach(dir);
	if (n < 0) {
		fprintf(stderr, "shunt: the pins in %s could not be removed: %s\n", dir,
			strerror(-n));
		if (n == -EPERM || n == -EACCES)
			fprintf(stderr, "       This needs root: try sudo.\n");
		return CLI_NO;
	}
	detach_cgroup();
	if (n == 0)
		printf("no daemon answers, and nothing is pinned in %s\n", dir);
	else
		printf("no daemon answers; removed %d pins from %s\n", n, dir);
	return CLI_OK;
}

static int detach(const char *bpffs)
{
	struct client_answer answer;
	int status = CLI_OK, err;

	err = client_ask("POST", "/detach", 60, &answer);
	if (client_nobody(err))
		return detach_pins(bpffs);
	if (err < 0)
		return client_complain(err);
	if (answer.status == 200) {
		printf("released by the daemon\n");
	} else {
		client_refused(&answer);
		status = answer.status == 403 ? CLI_UNREACHABLE : CLI_NO;
	}
	text_free(&answer.body);
	return status;
}

int cli_detach(int argc, char **argv)
{
	static const struct option options[] = {
		CLI_COMMON_OPTIONS,
		{"bpffs", required_argument, NULL, 'b'},
		{NULL, 0, NULL, 0},
	};
	const char *bpffs = "/sys/fs/bpf";
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (cli_common(option))
			continue;
		if (option == 'h') {
			print_help();
			return CLI_OK;
		}
		if (option != 'b')
			return cli_usage(argv[0]);
		bpffs = optarg;
	}
	return optind < argc ? cli_usage(argv[0]) : detach(bpffs);
}
