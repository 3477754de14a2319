/* SPDX-License-Identifier: Apache-2.0 */
/* The probes beside the start: see capability.h. */
#include "proxy/capability.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/list.h"
#include "proxy/log.h"

/* The child is the same program at the same addresses: its results are sent as they lie in
 * memory, pointers to constant text included. */
static void probe_and_tell(int fd)
{
	static struct probe_result results[PROBES_MAX];
	size_t n = probe_run(results, PROBES_MAX), size, told = 0;
	ssize_t r = 0;

	size = (n < PROBES_MAX ? n : PROBES_MAX) * sizeof *results;
	for (; told < size && r >= 0; told += (size_t)r)
		r = write(fd, (const char *)results + told, size - told);
	_exit(r < 0);
}

void capability_start(struct capability *c)
{
	pid_t parent = getpid();
	int ends[2];

	*c = (struct capability){.fd = -1, .pid = -1};
	if (pipe2(ends, O_CLOEXEC) < 0) {
		log_warn("the kernel's mechanisms are not probed");
		return;
	}
	c->pid = fork();
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent) {
			/* Not our lock: it must not outlive us. */
			dup2(ends[1], 3);
			close_range(4, ~0U, 0);
			probe_and_tell(3);
		}
		_exit(1);
	}
	close(ends[1]);
	if (c->pid < 0) {
		log_warn("the kernel's mechanisms are not probed");
		close(ends[0]);
		return;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	c->fd = ends[0];
}

static void say_result(const struct capability *c)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct probe_result *r = &c->results[i];

		if (r->state != PROBE_OK && r->fallback == NULL)
			log_errx("this kernel lacks %s (%s): %s", r->name, r->what, r->detail);
		else if (r->state != PROBE_OK && r->fallback != probe_unused)
			log_info("%s: %s (%s); instead: %s", r->name, probe_state_word(r->state),
				 r->detail, r->fallback);
	}
}

static void read_results(uv_poll_t *poll, int status, int events)
{
	struct capability *c = container_of(poll, struct capability, poll);
	ssize_t n = 0;

	(void)status;
	(void)events;
	while (c->got < sizeof c->results &&
	       (n = read(c->fd, (char *)c->results + c->got, sizeof c->results - c->got)) > 0)
		c->got += (size_t)n;
	if (n < 0 && errno == EAGAIN)
		return;
	uv_poll_stop(poll);
	close(c->fd);
	c->fd = -1;
	waitpid(c->pid, NULL, 0);
	c->pid = -1;
	c->count = c->got / sizeof *c->results;
	say_result(c);
}

int capability_watch(struct capability *c, uv_loop_t *loop)
{
	int err;

	if (c->fd < 0)
		return 0;
	err = uv_poll_init(loop, &c->poll, c->fd);
	return err < 0 ? err : uv_poll_start(&c->poll, UV_READABLE, read_results);
}

void capability_stop(struct capability *c)
{
	if (c->fd < 0)
		return;
	uv_poll_stop(&c->poll);
	close(c->fd);
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}
