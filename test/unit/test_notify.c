/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager is told: datagrams to a socket of this test's own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/notify.h"

static char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

/* A manager that listens at `name`; '@' begins an abstract one. */
static int manager(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	size_t n = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, name, n);
	if (name[0] == '@')
		at.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&at,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static const char *heard(int fd)
{
	static char text[256];
	ssize_t n = recv(fd, text, sizeof text - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void check_both(void)
{
	int fd = manager();

	notify_ready();
	assert_string_equal(heard(fd), "READY=1");
	notify_stopping(1500);
	assert_string_equal(heard(fd), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000");
	assert_string_equal(heard(fd), "");
	close(fd);
}

static void a_manager_with_a_path_is_told(void **state)
{
	(void)state;
	snprintf(name, sizeof name, "/tmp/test_notify.%d", (int)getpid());
	check_both();
	unlink(name);
}

static void a_manager_with_an_abstract_name_is_told(void **state)
{
	(void)state;
	snprintf(name, sizeof name, "@test_notify.%d", (int)getpid());
	check_both();
}

/* The longest that fits, as path and as name; one more is nobody's. */
static void a_name_may_fill_the_address(void **state)
{
	const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);

	(void)state;
	for (int abstract = 0; abstract < 2; abstract++) {
		int n = snprintf(name, sizeof name, "%stest_notify.%d.", abstract ? "@" : "/tmp/",
				 (int)getpid());

		memset(name + n, 'x', room - 1 - (size_t)n);
		name[room - 1] = '\0';
		check_both();
		if (!abstract)
			unlink(name);
	}
	name[room - 1] = 'x';
	name[room] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	notify_ready();
}

static void without_a_manager_nothing_is_said_to_nobody(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_ready();
	setenv("NOTIFY_SOCKET", "", 1);
	notify_ready();
	setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
	notify_stopping(0); /* a line in the log, and on it goes */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_manager_with_a_path_is_told),
		cmocka_unit_test(a_manager_with_an_abstract_name_is_told),
		cmocka_unit_test(a_name_may_fill_the_address),
		cmocka_unit_test(without_a_manager_nothing_is_said_to_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
