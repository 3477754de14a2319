/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/admin.h"

static char path[64];

static unsigned say_hello(void *arg, const char *query, struct text *body)
{
	(void)arg;
	text_add(body, "hello ");
	text_add(body, query);
	return 200;
}

static unsigned say_no(void *arg, const char *query, struct text *body)
{
	(void)arg;
	(void)query;
	text_add(body, "{\"ok\":false}");
	return 503;
}

static unsigned say_much(void *arg, const char *query, struct text *body)
{
	(void)arg;
	(void)query;
	for (int i = 0; i < 4 << 20; i++)
		text_add_char(body, 'x');
	return 200;
}

static int taken = -1;
static char taken_query[64];

static void take_it(void *arg, const char *query, int fd)
{
	(void)arg;
	taken = fd;
	strncpy(taken_query, query, sizeof taken_query - 1);
}

static const struct admin_route routes[] = {
	{.method = "GET", .path = "/hello", .type = "text/plain", .handle = say_hello},
	{.method = "POST", .path = "/no", .type = "application/json", .handle = say_no},
	{.method = "GET", .path = "/much", .type = "text/plain", .handle = say_much},
	{.method = "GET", .path = "/take", .type = "application/x-ndjson", .take = take_it},
	{0},
};

static uv_loop_t loop;
static struct admin *admin;

static int start(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof path, "/tmp/test_admin.%d", (int)getpid());
	taken = -1;
	assert_int_equal(uv_loop_init(&loop), 0);
	return admin_listen_unix(&loop, path, routes, NULL, &admin);
}

static int stop(void **state)
{
	(void)state;
	admin_close(admin);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0); /* nothing is left behind */
	return access(path, F_OK) == 0;
}

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

/* Lets the loop serve until `fd` has had all it will get, or nothing happens any more. */
static const char *answer_of(int fd)
{
	static char all[8 << 20];
	size_t have = 0;
	ssize_t n = -1;

	for (int idle = 0; idle < 50 && n != 0; idle++) {
		uv_run(&loop, UV_RUN_NOWAIT);
		while ((n = recv(fd, all + have, sizeof all - 1 - have, 0)) > 0) {
			have += (size_t)n;
			idle = 0;
		}
	}
	all[have] = '\0';
	return all;
}

static const char *ask(int fd, const char *request)
{
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	return answer_of(fd);
}

static void expect_answer(const char *request, const char *status, const char *end)
{
	int fd = dial();
	const char *answer = ask(fd, request);

	assert_memory_equal(answer, status, strlen(status));
	assert_true(strlen(answer) >= strlen(end));
	assert_string_equal(answer + strlen(answer) - strlen(end), end);
	close(fd);
}

static void verbs_are_found_by_method_and_path(void **state)
{
	(void)state;
	expect_answer("GET /hello?a=1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n",
		      "\r\n\r\nhello a=1");
	expect_answer("POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		      "HTTP/1.1 503 ", "\r\n\r\n{\"ok\":false}");
	expect_answer("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ",
		      "\r\n\r\nno such path\n");
	expect_answer("GET /hellot HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "\n");
	expect_answer("DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n",
		      "HTTP/1.1 405 Method Not Allowed\r\n", "\r\n\r\nnot with this method\n");
}

static void a_wrong_method_is_told_the_right_ones(void **state)
{
	int fd = dial();

	(void)state;
	assert_non_null(strstr(ask(fd, "PUT /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
			       "\r\nAllow: GET, HEAD\r\n"));
	assert_non_null(
		strstr(ask(fd, "GET /no HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\nAllow: POST\r\n"));
	close(fd);
}

static void head_is_answered_without_a_body(void **state)
{
	int fd = dial();
	const char *answer = ask(fd, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");

	(void)state;
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
	assert_non_null(strstr(answer, "\r\nContent-Length: 6\r\n"));
	assert_string_equal(answer + strlen(answer) - 4, "\r\n\r\n");
	close(fd);
}

static void nonsense_gets_400_and_the_end(void **state)
{
	int fd = dial();
	const char *answer = ask(fd, "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n");
	char byte;

	(void)state;
	assert_memory_equal(answer, "HTTP/1.1 400 ", 13);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
	fd = dial();
	answer_of(fd);
	send(fd, "\x16\x03\x01garbage\r\n\r\n", 13, 0);
	answer_of(fd);
	errno = 0;
	assert_true(recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN);
	close(fd);
}

static void a_connection_serves_many_requests(void **state)
{
	static const char request[] = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
	char two[2 * sizeof request];
	const char *answer;
	int fd = dial();

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_non_null(strstr(ask(fd, request), "hello "));
	snprintf(two, sizeof two, "%s%s", request, request);
	answer = strstr(ask(fd, two), "hello ");
	assert_non_null(answer);
	assert_non_null(strstr(answer + 1, "hello "));
	close(fd);
}

static void a_long_answer_is_whole(void **state)
{
	int fd = dial();
	const char *answer = ask(fd, "GET /much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	const char *body = strstr(answer, "\r\n\r\n");

	(void)state;
	assert_non_null(body);
	assert_int_equal(strlen(body + 4), 4 << 20);
	close(fd);
}

static void a_route_may_take_the_socket_over(void **state)
{
	int fd = dial();
	const char *answer = ask(fd, "GET /take?last=5 HTTP/1.1\r\nHost: x\r\n\r\n");

	(void)state;
	assert_true(taken >= 0);
	assert_string_equal(taken_query, "last=5");
	assert_memory_equal(answer, "HTTP/1.1 200 OK\r\n", 17);
	assert_non_null(strstr(answer, "\r\nConnection: close\r\n"));
	assert_int_equal(send(taken, "line\n", 5, MSG_DONTWAIT), 5);
	close(taken);
	assert_string_equal(answer_of(fd), "line\n");
	close(fd);
}

static void a_body_not_yet_there_delays_the_taking(void **state)
{
	int fd = dial();

	(void)state;
	ask(fd, "GET /take HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
	assert_int_equal(taken, -1);
	ask(fd, "b");
	assert_true(taken >= 0);
	close(taken);
	close(fd);
}

static void the_sixty_fifth_client_is_turned_away(void **state)
{
	int fds[65];
	char byte;

	(void)state;
	for (int i = 0; i < 65; i++) {
		fds[i] = dial();
		answer_of(fds[i]);
	}
	assert_int_equal(recv(fds[64], &byte, 1, 0), 0);
	assert_true(recv(fds[63], &byte, 1, 0) < 0 && errno == EAGAIN);
	close(fds[0]);
	answer_of(fds[1]);
	fds[0] = dial();
	assert_non_null(strstr(ask(fds[0], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"), "hello"));
	for (int i = 0; i < 65; i++)
		close(fds[i]);
}

static void the_socket_is_not_for_others(void **state)
{
	struct stat st;
	int pid, status;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(path, 0666), 0);
	pid = fork();
	if (pid == 0) {
		const char *request = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
		char answer[4096] = "";
		int fd;

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(2);
		fd = dial();
		if (send(fd, request, strlen(request), 0) < 0)
			_exit(2);
		for (int i = 0; i < 200 && recv(fd, answer, sizeof answer - 1, 0) < 0; i++)
			usleep(10000);
		_exit(strncmp(answer, "HTTP/1.1 403 ", 13) != 0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		uv_run(&loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_int_equal(status, 0);
}

static void a_live_socket_is_respected_and_a_dead_one_replaced(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct admin *second = NULL;
	char file[80];
	int fd;

	(void)state;
	assert_int_equal(admin_listen_unix(&loop, path, routes, NULL, &second), -EADDRINUSE);
	snprintf(file, sizeof file, "%s.old", path);
	strcpy(address.sun_path, file);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	close(fd);
	assert_int_equal(admin_listen_unix(&loop, file, routes, NULL, &second), 0);
	admin_close(second);
	assert_int_equal(close(creat(file, 0600)), 0);
	assert_int_equal(admin_listen_unix(&loop, file, routes, NULL, &second), -EEXIST);
	assert_int_equal(unlink(file), 0);
}

static void addresses_are_read_and_served(void **state)
{
	static const char *const wrong[] = {
		"",	   "127.0.0.1",	    "127.0.0.1:", "127.0.0.1:65536", "localhost:80",
		"[::1:80", "127.0.0.1:80x", ":-1"};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(25020)};
	struct admin *tcp;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_true(admin_listen_tcp(&loop, wrong[i], routes, NULL, &tcp) < 0);
	assert_int_equal(admin_listen_tcp(&loop, "127.0.0.1:25020", routes, NULL, &tcp), 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	assert_int_equal(send(fd, "GET /hello?tcp HTTP/1.0\r\n\r\n", 27, 0), 27);
	shutdown(fd, SHUT_RD);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(fd, (struct sockaddr *)&to, sizeof to);
	answer_of(fd);
	assert_non_null(strstr(ask(fd, "GET /hello?tcp HTTP/1.0\r\n\r\n"), "hello tcp"));
	close(fd);
	admin_close(tcp);
}

static void numbers_are_found_in_queries(void **state)
{
	(void)state;
	assert_int_equal(admin_query_unsigned("last=20&follow=1", "last", 7), 20);
	assert_int_equal(admin_query_unsigned("last=20&follow=1", "follow", 7), 1);
	assert_int_equal(admin_query_unsigned("xlast=20", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last=", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last=-1", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last=2x", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last=4294967296", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("last=99999999999999999999", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("", "last", 7), 7);
	assert_int_equal(admin_query_unsigned("a&last=3", "last", 7), 3);
}

struct said {
	char text[512];
};

static void say_pair(void *arg, char *key, char *value)
{
	struct said *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof s->text - n, "[%s|%s]", key, value);
}

/* In memory of its own length, so that a byte read behind it is seen. */
static const char *pairs_of(const char *query)
{
	static struct said s;
	char *copy = strdup(query);

	s.text[0] = '\0';
	admin_query_each(copy, say_pair, &s);
	free(copy);
	return s.text;
}

static void queries_are_taken_apart_in_order(void **state)
{
	(void)state;
	assert_string_equal(pairs_of(""), "");
	assert_string_equal(pairs_of("&&"), "");
	assert_string_equal(pairs_of("a=1&b=2"), "[a|1][b|2]");
	assert_string_equal(pairs_of("a=1&a=2&a=1"), "[a|1][a|2][a|1]");
	assert_string_equal(pairs_of("a"), "[a|]");
	assert_string_equal(pairs_of("a=&b"), "[a|][b|]");
	assert_string_equal(pairs_of("=v&="), "[|v][|]");
	assert_string_equal(pairs_of("a=b=c"), "[a|b=c]");
	assert_string_equal(pairs_of("&a=1&"), "[a|1]");
}

static void escapes_of_a_query_are_read(void **state)
{
	(void)state;
	assert_string_equal(pairs_of("%61%3d=%26%25"), "[a=|&%]");
	assert_string_equal(pairs_of("a=%2F%2f"), "[a|//]");
	assert_string_equal(pairs_of("a=%c3%BC"), "[a|\xc3\xbc]");
	assert_string_equal(pairs_of("a=%2541"), "[a|%41]"); /* once */
	assert_string_equal(pairs_of("a=b+c"), "[a|b+c]"); /* no form: a plus is a plus */
	assert_string_equal(pairs_of("a=%0a"), "[a|\n]");
	assert_string_equal(pairs_of("a=%ff"), "[a|\xff]");
}

static void what_is_no_escape_stays_as_it_is(void **state)
{
	(void)state;
	assert_string_equal(pairs_of("a=%00b"), "[a|%00b]"); /* it would end the text */
	assert_string_equal(pairs_of("a=%"), "[a|%]");
	assert_string_equal(pairs_of("a=%4"), "[a|%4]");
	assert_string_equal(pairs_of("%=%4&%4=%"), "[%|%4][%4|%]");
	assert_string_equal(pairs_of("a=%4g%g4%-1% 1"), "[a|%4g%g4%-1% 1]");
	assert_string_equal(pairs_of("a=%%41"), "[a|%A]");
	assert_string_equal(pairs_of("a=\xe9%\xe9\xe9"), "[a|\xe9%\xe9\xe9]");
	assert_string_equal(pairs_of("a=%\x11\x12"), "[a|%\x11\x12]");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(verbs_are_found_by_method_and_path),
		TEST(a_wrong_method_is_told_the_right_ones),
		TEST(head_is_answered_without_a_body),
		TEST(nonsense_gets_400_and_the_end),
		TEST(a_connection_serves_many_requests),
		TEST(a_long_answer_is_whole),
		TEST(a_route_may_take_the_socket_over),
		TEST(a_body_not_yet_there_delays_the_taking),
		TEST(the_sixty_fifth_client_is_turned_away),
		TEST(the_socket_is_not_for_others),
		TEST(a_live_socket_is_respected_and_a_dead_one_replaced),
		TEST(addresses_are_read_and_served),
		cmocka_unit_test(numbers_are_found_in_queries),
		cmocka_unit_test(queries_are_taken_apart_in_order),
		cmocka_unit_test(escapes_of_a_query_are_read),
		cmocka_unit_test(what_is_no_escape_stays_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
