// SPDX-License-Identifier: Apache-2.0
/*
 * Runs the probe and prints one line per mechanism: "probe NAME STATE DETAIL". With an argument,
 * `metrics` or `json`, what the renderers make of it. Says so on stderr, with status 1, when
 * something of this process is not as it was before.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/text.h"
#include "proxy/probe.h"

#define ROOM 100

/* What the probe must leave as it is. */
struct self {
	char netns[64];
	char cgroup[512];
	int descriptors;
};

static void self_read(struct self *s)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	DIR *d;

	memset(s, 0, sizeof *s);
	if (readlink("/proc/self/ns/net", s->netns, sizeof s->netns - 1) < 0)
		perror("# /proc/self/ns/net");
	if (f != NULL && fread(s->cgroup, 1, sizeof s->cgroup - 1, f) == 0)
		perror("# /proc/self/cgroup");
	if (f != NULL)
		fclose(f);
	d = opendir("/proc/self/fd");
	while (d != NULL && readdir(d) != NULL)
		s->descriptors++;
	if (d != NULL)
		closedir(d);
}

static int self_compare(const struct self *before)
{
	struct self after;
	int bad = 0;

	self_read(&after);
	if (strcmp(before->netns, after.netns) != 0)
		bad = fprintf(stderr, "# now in network namespace %s\n", after.netns);
	if (strcmp(before->cgroup, after.cgroup) != 0)
		bad = fprintf(stderr, "# now in cgroup %s\n", after.cgroup);
	if (before->descriptors != after.descriptors)
		bad = fprintf(stderr, "# %d descriptors, before %d\n", after.descriptors,
			      before->descriptors);
	if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD)
		bad = fprintf(stderr, "# there is a child left\n");
	return bad;
}

int main(int argc, char **argv)
{
	struct probe_result r[ROOM];
	const char *form = argc > 1 ? argv[1] : "lines";
	struct text t = {0};
	struct self before;
	size_t n;

	self_read(&before);
	n = probe_run(r, ROOM);
	if (n > ROOM) {
		fprintf(stderr, "# %zu mechanisms are more than this program holds\n", n);
		return 1;
	}
	if (strcmp(form, "metrics") == 0)
		probe_metrics(r, n, &t);
	else if (strcmp(form, "json") == 0)
		probe_json(r, n, &t);
	else
		for (size_t i = 0; i < n; i++)
			text_adds(&t, "probe ", r[i].name, " ", probe_state_word(r[i].state), " ",
				  r[i].detail, "\n", NULL);
	fputs(text_string(&t), stdout);
	text_free(&t);
	return self_compare(&before) != 0;
}
