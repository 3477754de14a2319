/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections in numbers that a script cannot make. How they ended is one line of counts, such
 * as "200=9900 ECONNREFUSED=3".
 *
 *   many short ADDRESS PORT N   one after the other, one request on each
 *   many hold ADDRESS PORT N    all at once, one request on each at first, and one again for
 *                               every line of standard input; closed at its end
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE 30 /* seconds for an answer */
#define KINDS 16

struct target {
	struct sockaddr_storage address;
	socklen_t len;
};

/* How often each of a few words was said. */
struct counts {
	const char *word[KINDS];
	unsigned n[KINDS];
};

static void count(struct counts *c, const char *word)
{
	int i = 0;

	while (i < KINDS - 1 && c->word[i] != NULL && strcmp(c->word[i], word) != 0)
		i++;
	c->word[i] = word;
	c->n[i]++;
}

static void print(const struct counts *c)
{
	for (int i = 0; i < KINDS && c->word[i] != NULL; i++)
		printf("%s%s=%u", i ? " " : "", c->word[i], c->n[i]);
	printf("\n");
	fflush(stdout);
}

static bool parse(struct target *t, const char *address, const char *port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&t->address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&t->address;

	in->sin_port = htons((unsigned short)atoi(port)); /* both have it at the same place */
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		t->len = sizeof *in;
		return true;
	}
	in6->sin6_family = AF_INET6;
	t->len = sizeof *in6;
	return inet_pton(AF_INET6, address, &in6->sin6_addr) == 1;
}

/* The status of the answer, or what happened instead. */
static const char *ask(int fd, bool last)
{
	static const char end[] = "\r\n\r\nok";
	char request[128], answer[2048];
	int len = snprintf(request, sizeof request, "GET /many HTTP/1.1\r\nHost: many\r\n%s\r\n",
			   last ? "Connection: close\r\n" : "");
	size_t have = 0;

	if (send(fd, request, (size_t)len, MSG_NOSIGNAL) < 0)
		return strerrorname_np(errno);
	while (have < sizeof answer - 1) {
		ssize_t n = recv(fd, answer + have, sizeof answer - 1 - have, 0);

		if (n < 0)
			return strerrorname_np(errno);
		if (n == 0)
			break;
		have += (size_t)n;
		answer[have] = '\0';
		if (strncmp(answer, "HTTP/1.1 503", 12) == 0)
			return "503";
		if (have >= sizeof end && strcmp(answer + have - sizeof end + 1, end) == 0)
			return strncmp(answer, "HTTP/1.1 200", 12) == 0 ? "200" : "other";
	}
	return "closed";
}

/* A connection that has answered once, or -1; the count says why. */
static int open_one(const struct target *t, bool last, struct counts *c)
{
	struct timeval patience = {.tv_sec = PATIENCE};
	int fd = socket(t->address.ss_family, SOCK_STREAM, 0);
	const char *end;

	if (fd < 0) {
		count(c, strerrorname_np(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(fd, (const struct sockaddr *)&t->address, t->len) < 0)
		end = strerrorname_np(errno);
	else
		end = ask(fd, last);
	count(c, end);
	if (strcmp(end, "200") == 0)
		return fd;
	close(fd);
	return -1;
}

static void run_short(const struct target *t, unsigned n)
{
	struct counts c = {0};

	while (n-- > 0) {
		int fd = open_one(t, true, &c);

		if (fd >= 0)
			close(fd);
	}
	print(&c);
}

static void run_hold(const struct target *t, unsigned n)
{
	struct counts c = {0};
	unsigned held = 0;
	int *fds = calloc(n, sizeof *fds);
	char line[16];

	if (fds == NULL)
		exit(1);
	for (unsigned i = 0; i < n; i++) {
		int fd = open_one(t, false, &c);

		if (fd >= 0)
			fds[held++] = fd;
	}
	print(&c);
	while (fgets(line, sizeof line, stdin) != NULL) {
		c = (struct counts){0};
		for (unsigned i = 0; i < held; i++)
			count(&c, ask(fds[i], false));
		print(&c);
	}
	free(fds);
}

int main(int argc, char **argv)
{
	struct target target = {.len = 0};
	struct rlimit limit;
	bool hold;

	if (argc != 5 || !parse(&target, argv[2], argv[3]))
		return 2;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	hold = strcmp(argv[1], "hold") == 0;
	if (!hold && strcmp(argv[1], "short") != 0)
		return 2;
	if (hold)
		run_hold(&target, (unsigned)atoi(argv[4]));
	else
		run_short(&target, (unsigned)atoi(argv[4]));
	return 0;
}
