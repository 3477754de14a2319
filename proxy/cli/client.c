/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket from the other side. */
#include "proxy/cli/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/cli/cli.h"
#include "proxy/codec/codec.h"

/* Where the content of an answer goes: false ends it early. */
struct sink {
	bool (*take)(struct sink *s, struct slice data);
	unsigned status;
	/* lines */
	bool (*line)(void *arg, const char *text);
	void *arg;
	struct text text; /* the answer, or the line so far */
};

static int dial(unsigned seconds)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = (time_t)seconds};
	const char *path = cli_socket();
	int fd, err;

	if (path == NULL || strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int send_request(int fd, struct codec *k, const char *method, const char *target)
{
	const struct message head = {
		.method = {method, strlen(method)},
		.target = {target, strlen(target)},
		.path = {target, strlen(target)},
		.authority = {"shunt", 5},
		.version = MESSAGE_HTTP11,
	};
	struct codec_event ev = {.type = CODEC_EV_HEAD, .stream = 1, .head = &head};
	struct slice out;
	ssize_t n;
	int err;

	err = codec_http1.emit(k, &ev);
	if (err < 0)
		return err;
	ev = (struct codec_event){.type = CODEC_EV_END, .stream = 1};
	err = codec_http1.emit(k, &ev);
	while (err >= 0 && (out = codec_http1.pending(k)).len > 0) {
		n = send(fd, out.p, out.len, MSG_NOSIGNAL);
		err = n < 0 ? -errno : codec_http1.sent(k, (size_t)n);
	}
	return err;
}

/* 1: the answer is whole, or the sink has enough; negative: it cannot be read. */
static int take_events(struct codec *k, struct sink *s)
{
	struct codec_event ev;

	while (codec_http1.next(k, &ev)) {
		if (ev.type == CODEC_EV_FAILED)
			return ev.error;
		if (ev.type == CODEC_EV_HEAD)
			s->status = ev.head->status;
		else if (ev.type == CODEC_EV_BODY && !s->take(s, ev.data))
			return 1;
		else if (ev.type == CODEC_EV_END)
			return 1;
	}
	return 0;
}

static int read_answer(int fd, struct codec *k, struct sink *s)
{
	char buf[64 * 1024];
	int err, whole;
	ssize_t n;

	do {
		n = recv(fd, buf, sizeof buf, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		err = n == 0 ? codec_http1.finish(k)
			     : codec_http1.feed(k, (struct slice){buf, (size_t)n});
		whole = take_events(k, s);
		if (whole > 0)
			return 0;
		err = err < 0 ? err : whole;
		if (err < 0)
			return err == -ENOMEM ? err : -EPROTO;
	} while (n != 0);
	return -ECONNRESET; /* the end came before the end of the answer */
}

static int converse(const char *method, const char *target, unsigned seconds, struct sink *s)
{
	struct codec *k;
	int fd, err;

	fd = dial(seconds);
	if (fd < 0)
		return fd;
	k = codec_http1.open(CODEC_CLIENT, &codec_limits_default, NULL);
	err = k == NULL ? -ENOMEM : send_request(fd, k, method, target);
	if (err >= 0)
		err = read_answer(fd, k, s);
	codec_http1.close(k);
	close(fd);
	return err;
}

static bool take_all(struct sink *s, struct slice data)
{
	text_add_slice(&s->text, data);
	return true;
}

int client_ask(const char *method, const char *target, unsigned seconds, struct client_answer *out)
{
	struct sink s = {.take = take_all};
	int err = converse(method, target, seconds, &s);

	text_add(&s.text, ""); /* an answer without content reads as "" */
	if (err == 0 && text_failed(&s.text))
		err = -ENOMEM;
	if (err < 0) {
		text_free(&s.text);
		return err;
	}
	*out = (struct client_answer){.status = s.status, .body = s.text};
	return 0;
}

int client_json(const char *method, const char *target, unsigned seconds, const char *member,
		struct client_answer *out, cJSON **json)
{
	int err = client_ask(method, target, seconds, out), status = CLI_OK;

	if (err < 0)
		return client_complain(err);
	*json = cJSON_Parse(out->body.p);
	if (cJSON_GetObjectItemCaseSensitive(*json, member) == NULL) {
		status = client_refused(out);
		cJSON_Delete(*json);
		text_free(&out->body);
	}
	return status;
}

static bool take_lines(struct sink *s, struct slice data)
{
	const char *newline;
	bool more = true;

	while (more && (newline = memchr(data.p, '\n', data.len)) != NULL) {
		size_t len = (size_t)(newline - data.p);

		text_add_slice(&s->text, (struct slice){data.p, len});
		text_add(&s->text, "");
		if (text_failed(&s->text))
			return false;
		more = s->line(s->arg, s->text.p);
		s->text.len = 0;
		data = (struct slice){newline + 1, data.len - len - 1};
	}
	text_add_slice(&s->text, data);
	return more;
}

int client_lines(const char *target, unsigned seconds, bool (*line)(void *arg, const char *text),
		 void *arg, unsigned *status)
{
	struct sink s = {.take = take_lines, .line = line, .arg = arg};
	int err = converse("GET", target, seconds, &s);

	if (text_failed(&s.text))
		err = -ENOMEM;
	text_free(&s.text);
	*status = s.status;
	return err;
}

/* Unreserved in RFC 3986, and the two of the others that a query may hold and a selector
 * (netns:/run/netns/api) is read by. */
static bool stays(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~:/", c) != NULL);
}

void client_query(struct text *target, const char *key, const char *value)
{
	static const char hex[] = "0123456789ABCDEF";
	bool first = strchr(text_string(target), '?') == NULL;

	text_adds(target, first ? "?" : "&", key, "=", NULL);
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (stays(*value)) {
			text_add_char(target, *value);
			continue;
		}
		text_add_char(target, '%');
		text_add_char(target, hex[c >> 4]);
		text_add_char(target, hex[c & 15]);
	}
}

bool client_nobody(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED;
}

int client_complain(int err)
{
	const char *path = cli_socket();

	fprintf(stderr, "shunt: no answer from shuntd at %s: %s\n", path != NULL ? path : "?",
		strerror(-err));
	if (client_nobody(err))
		fprintf(stderr, "       Is it running? `systemctl status shuntd`; another one is "
				"picked by --name or --run-dir.\n");
	else if (err == -EACCES || err == -EPERM)
		fprintf(stderr, "       Only root and the daemon's own user may ask: try sudo.\n");
	else
		fprintf(stderr, "       Its log says more: `journalctl -u shuntd`.\n");
	return CLI_UNREACHABLE;
}

int client_refused(const struct client_answer *answer)
{
	char *text = cli_safe(answer->body.p, 500);

	fprintf(stderr, "shunt: shuntd at %s answered %u: %s\n", cli_socket(), answer->status,
		text);
	free(text);
	return CLI_UNREACHABLE;
}

/* --- what answers hold --- */

const char *client_string(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static unsigned number_of(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(item) && item->valueint > 0 ? (unsigned)item->valueint : 0;
}

static void print_finding(FILE *out, const cJSON *finding)
{
	bool error = strcmp(client_string(finding, "level"), "error") == 0;
	char *file = cli_safe(client_string(finding, "file"), 500);
	char *text = cli_safe(client_string(finding, "text"), 1000);
	char *excerpt = cli_safe(client_string(finding, "excerpt"), 500);

	fprintf(out, "%s:%u:%u: %s%s%s: %s\n", file, number_of(finding, "line"),
		number_of(finding, "column"), cli_colour_on(out, error ? CLI_RED : CLI_YELLOW),
		error ? "error" : "warning", cli_colour_on(out, CLI_PLAIN), text);
	if (*excerpt != '\0')
		fprintf(out, "    %s\n", excerpt);
	free(file);
	free(text);
	free(excerpt);
}

void client_print_findings(FILE *out, const cJSON *findings)
{
	const cJSON *finding;

	cJSON_ArrayForEach(finding, findings)
		print_finding(out, finding);
}
