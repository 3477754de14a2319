/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin socket and the metrics address. Requests are read by the same codec as the
 * traffic's; an answer is whole before its first byte leaves, and while it leaves nothing
 * more is read of that client.
 */
#define _GNU_SOURCE 1 /* struct ucred */
#include "proxy/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/codec/codec.h"
#include "proxy/log.h"

#define CLIENTS_MAX 64U
#define DEADLINE_MS 10000U /* for a request, its answer and the pause before it */
#define BACKLOG 64
#define AGAIN_MS 50U /* between two tries to take a client that there is no memory for */

union stream {
	uv_handle_t handle;
	uv_stream_t stream;
	uv_pipe_t pipe;
	uv_tcp_t tcp;
};

struct admin {
	union stream listener;
	const struct admin_route *routes;
	void *arg;
	char *path; /* of the Unix socket, or NULL */
	struct admin_client *clients;
	unsigned count;
	uv_timer_t again;
	unsigned handles; /* open ones: the listener, and that */
	bool closing;
};

struct admin_client {
	struct admin *admin;
	struct admin_client *next, **link;
	union stream peer;
	uv_timer_t deadline;
	unsigned handles; /* open ones */
	struct codec *codec;
	uv_write_t write;
	size_t writing; /* bytes of pending(), or of the head before `take` */
	bool stranger; /* not one of those who may ask */
	bool closing;

	/* the request that is being read */
	unsigned refusal; /* 404, 405, or 0 */
	bool head_only;
	bool whole; /* it has been read: `take` may go on */
	const struct admin_route *route;
	char *query;
	struct text allow; /* the methods this path knows */
	struct text response; /* head, before `take` */
	int copy; /* of the socket, for `take`; -1: none */
	char in[8192];
};

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %41 is A. What is no such escape stays, and so does %00: it would end the text. */
static void percent_decode(char *s)
{
	char *out = s;

	for (; *s != '\0'; s++) {
		int high = s[0] == '%' ? hex(s[1]) : -1;
		int low = high >= 0 ? hex(s[2]) : -1;

		if (low >= 0 && high + low > 0) {
			*out++ = (char)(high << 4 | low);
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

void admin_query_each(char *query, void (*take)(void *arg, char *key, char *value), void *arg)
{
	char *save, *part, *value;

	for (part = strtok_r(query, "&", &save); part != NULL; part = strtok_r(NULL, "&", &save)) {
		value = strchr(part, '=');
		if (value != NULL)
			*value++ = '\0';
		else
			value = part + strlen(part);
		percent_decode(part);
		percent_decode(value);
		take(arg, part, value);
	}
}

unsigned admin_query_unsigned(const char *query, const char *key, unsigned fallback)
{
	size_t len = strlen(key);
	unsigned long value;
	char *end;

	for (const char *p = query; *p != '\0'; p += strcspn(p, "&"), p += *p == '&') {
		if (strncmp(p, key, len) != 0 || p[len] != '=')
			continue;
		p += len + 1;
		if (*p < '0' || *p > '9')
			return fallback;
		errno = 0;
		value = strtoul(p, &end, 10);
		if (errno != 0 || (*end != '\0' && *end != '&') || value > UINT32_MAX)
			return fallback;
		return (unsigned)value;
	}
	return fallback;
}

/* --- the end of things --- */

static void admin_free_if_last(struct admin *a)
{
	if (a->handles > 0 || a->count > 0)
		return;
	free(a->path);
	free(a);
}

static void client_handle_gone(uv_handle_t *handle)
{
	struct admin_client *c = handle->data;
	struct admin *a = c->admin;

	if (--c->handles > 0)
		return;
	if (c->copy >= 0)
		close(c->copy);
	codec_http1.close(c->codec);
	text_free(&c->allow);
	text_free(&c->response);
	free(c->query);
	free(c);
	a->count--;
	admin_free_if_last(a);
}

static void client_close(struct admin_client *c)
{
	if (c->closing)
		return;
	c->closing = true;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	uv_close(&c->peer.handle, client_handle_gone);
	uv_close((uv_handle_t *)&c->deadline, client_handle_gone);
}

/* --- requests --- */

static void request_forget(struct admin_client *c)
{
	free(c->query);
	c->query = NULL;
	c->route = NULL;
	c->refusal = 0;
	c->head_only = false;
	c->whole = false;
	text_free(&c->allow);
}

static void allow_add(struct text *t, const char *method)
{
	if (t->len > 0)
		text_add(t, ", ");
	text_add(t, method);
	if (strcmp(method, "GET") == 0)
		text_add(t, ", HEAD");
}

/* Which row it asks for, and its query. The head is gone when the body has come. */
static int request_head(struct admin_client *c, const struct message *head)
{
	const char *question = memchr(head->path.p, '?', head->path.len);
	struct slice path = head->path;

	request_forget(c);
	if (question != NULL)
		path.len = (size_t)(question - path.p);
	c->query = question == NULL ? strdup("")
				    : strndup(question + 1, head->path.len - path.len - 1);
	if (c->query == NULL)
		return -ENOMEM;
	c->head_only = slice_is(head->method, "HEAD");
	c->refusal = 404;
	for (const struct admin_route *r = c->admin->routes; r->path != NULL; r++) {
		if (!slice_is(path, r->path))
			continue;
		allow_add(&c->allow, r->method);
		c->refusal = 405;
		if (slice_is(head->method, r->method) ||
		    (c->head_only && strcmp(r->method, "GET") == 0))
			c->route = r;
	}
	if (c->route != NULL)
		c->refusal = 0;
	return 0;
}

static struct slice phrase(unsigned status)
{
	if (status == 405)
		return (struct slice){"Method Not Allowed", 18};
	return (struct slice){NULL, 0}; /* the codec knows the others */
}

static int answer(struct admin_client *c, uint32_t stream, unsigned status, const char *type,
		  const struct text *body)
{
	const struct field fields[] = {
		{{"Content-Type", 12}, {type, strlen(type)}},
		{{"Allow", 5}, {c->allow.p, c->allow.len}},
	};
	const struct message head = {
		.status = status,
		.reason_phrase = phrase(status),
		.version = MESSAGE_HTTP11,
		.content_length = (int64_t)body->len,
		.fields = fields,
		.field_count = status == 405 ? 2 : 1,
	};
	struct codec_event ev = {.type = CODEC_EV_HEAD, .stream = stream, .head = &head};
	int err;

	err = codec_http1.emit(c->codec, &ev);
	if (err < 0)
		return err;
	ev = (struct codec_event){
		.type = CODEC_EV_BODY, .stream = stream, .data = {body->p, body->len}};
	err = codec_http1.emit(c->codec, &ev);
	if (err < 0)
		return err;
	ev = (struct codec_event){.type = CODEC_EV_END, .stream = stream};
	return codec_http1.emit(c->codec, &ev);
}

static int refuse(struct admin_client *c, uint32_t stream, unsigned status)
{
	struct text body = {0};
	int err;

	text_add(&body, status == 403	? "only root and the daemon's own user may ask\n"
			: status == 404 ? "no such path\n"
			: status == 405 ? "not with this method\n"
					: "out of memory\n");
	err = text_failed(&body) ? -ENOMEM : answer(c, stream, status, "text/plain", &body);
	text_free(&body);
	return err;
}

static int request_end(struct admin_client *c, uint32_t stream)
{
	struct text body = {0};
	unsigned status = 200;
	int err;

	if (c->stranger)
		return refuse(c, stream, 403);
	if (c->refusal != 0)
		return refuse(c, stream, c->refusal);
	c->whole = c->route->take != NULL && !c->head_only;
	if (c->whole)
		return 0; /* client_step() goes on */
	if (c->route->handle != NULL)
		status = c->route->handle(c->admin->arg, c->query, &body);
	if (text_failed(&body))
		err = refuse(c, stream, 500);
	else
		err = answer(c, stream, status, c->route->type, &body);
	text_free(&body);
	return err;
}

/* Acts on what the bytes completed; 0, or negative when the client is to be closed. *failed: the
 * codec's error, if it met one. */
static int client_events(struct admin_client *c, int *failed)
{
	struct codec_event ev;
	int err = 0;

	while (err == 0 && codec_http1.next(c->codec, &ev)) {
		if (ev.type == CODEC_EV_HEAD)
			err = request_head(c, ev.head);
		else if (ev.type == CODEC_EV_END)
			err = request_end(c, ev.stream);
		else if (ev.type == CODEC_EV_RESET)
			err = -ECONNRESET;
		else if (ev.type == CODEC_EV_LEFT)
			request_forget(c);
		else if (ev.type == CODEC_EV_FAILED)
			*failed = ev.error;
	}
	return err;
}

/* --- bytes --- */

static void client_written(uv_write_t *write, int status);
static void client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void client_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct admin_client *c = handle->data;

	(void)suggested;
	*buf = uv_buf_init(c->in, sizeof c->in);
}

static void client_write(struct admin_client *c, const char *p, size_t len)
{
	uv_buf_t buf = {.base = (char *)p, .len = len}; /* libuv only reads it */

	uv_read_stop(&c->peer.stream);
	c->writing = len;
	if (uv_write(&c->write, &c->peer.stream, &buf, 1, client_written) < 0)
		client_close(c);
}

/* The socket goes to the route, once this head has left: it says that there is one to go. */
static void client_give(struct admin_client *c)
{
	struct text *t = &c->response;
	uv_os_fd_t fd;

	if (uv_fileno(&c->peer.handle, &fd) == 0)
		c->copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c->copy < 0) {
		log_warn("admin: the socket of %s could not be handed over", c->route->path);
		client_close(c);
		return;
	}
	text_add(t, "HTTP/1.1 200 OK\r\nContent-Type: ");
	text_add(t, c->route->type);
	text_add(t, "\r\nConnection: close\r\n\r\n");
	if (text_failed(t))
		client_close(c);
	else
		client_write(c, t->p, t->len);
}

/* Writes what is due, or reads on, or ends. */
static void client_flush(struct admin_client *c)
{
	struct slice out = codec_http1.pending(c->codec);
	int err;

	if (out.len > 0) {
		client_write(c, out.p, out.len);
		return;
	}
	err = codec_http1.done(c->codec)
		      ? UV_EOF
		      : uv_read_start(&c->peer.stream, client_buffer, client_read);
	if (err < 0 && err != UV_EALREADY)
		client_close(c);
}

/* `err` is what the codec said of the bytes: its goodbye still leaves. */
static void client_step(struct admin_client *c, int err)
{
	if (client_events(c, &err) < 0) {
		client_close(c);
		return;
	}
	if (err < 0 && codec_http1.pending(c->codec).len == 0) {
		client_close(c);
		return;
	}
	if (c->whole)
		client_give(c);
	else
		client_flush(c);
}

static void client_hand_over(struct admin_client *c)
{
	int copy = c->copy;

	c->copy = -1;
	c->route->take(c->admin->arg, c->query, copy);
	client_close(c);
}

static void client_written(uv_write_t *write, int status)
{
	struct admin_client *c = write->data;

	if (c->closing)
		return;
	if (status < 0) {
		client_close(c);
		return;
	}
	if (c->response.len > 0) {
		client_hand_over(c);
		return;
	}
	uv_timer_again(&c->deadline);
	client_step(c, codec_http1.sent(c->codec, c->writing));
}

static void client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct admin_client *c = stream->data;

	if (n < 0)
		client_close(c);
	else if (n > 0)
		client_step(c, codec_http1.feed(c->codec, (struct slice){buf->base, (size_t)n}));
}

static void client_late(uv_timer_t *timer)
{
	client_close(timer->data);
}

/* --- clients --- */

/* Root, or whoever the daemon runs as. */
static bool is_stranger(const struct admin_client *c)
{
	struct ucred who;
	socklen_t len = sizeof who;
	uv_os_fd_t fd;

	if (c->admin->path == NULL)
		return false;
	if (uv_fileno(&c->peer.handle, &fd) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return true;
	if (who.uid == 0 || who.uid == geteuid())
		return false;
	log_warnx("admin: uid %u (pid %d) may not ask", (unsigned)who.uid, (int)who.pid);
	return true;
}

static int stream_init(uv_loop_t *loop, union stream *s, bool is_unix, void *data)
{
	int err = is_unix ? uv_pipe_init(loop, &s->pipe, 0) : uv_tcp_init(loop, &s->tcp);

	s->handle.data = data;
	return err;
}

static void client_new(uv_stream_t *listener, int status);

static void client_again(uv_timer_t *timer)
{
	struct admin *a = timer->data;

	client_new(&a->listener.stream, 0);
}

static void client_new(uv_stream_t *listener, int status)
{
	struct admin *a = listener->data;
	struct admin_client *c;

	if (status < 0 || a->closing)
		return;
	c = calloc(1, sizeof *c);
	if (c == NULL) { /* libuv listens no more until this one is taken */
		uv_timer_start(&a->again, client_again, AGAIN_MS, 0);
		return;
	}
	c->admin = a;
	c->copy = -1;
	a->count++;
	c->next = a->clients;
	c->link = &a->clients;
	if (c->next != NULL)
		c->next->link = &c->next;
	a->clients = c;
	uv_timer_init(listener->loop, &c->deadline);
	c->deadline.data = c;
	c->write.data = c;
	stream_init(listener->loop, &c->peer, a->path != NULL, c);
	c->handles = 2;
	c->codec = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	if (uv_accept(listener, &c->peer.stream) < 0 || c->codec == NULL ||
	    a->count > CLIENTS_MAX) {
		client_close(c);
		return;
	}
	c->stranger = is_stranger(c);
	uv_timer_start(&c->deadline, client_late, DEADLINE_MS, DEADLINE_MS);
	client_flush(c);
}

/* --- listeners --- */

static int listener_init(uv_loop_t *loop, struct admin *a, bool is_unix)
{
	uv_timer_init(loop, &a->again);
	a->again.data = a;
	a->handles = 2;
	return stream_init(loop, &a->listener, is_unix, a);
}

static void listener_gone(uv_handle_t *handle)
{
	struct admin *a = handle->data;

	a->handles--;
	admin_free_if_last(a);
}

void admin_close(struct admin *a)
{
	if (a == NULL || a->closing)
		return;
	a->closing = true;
	while (a->clients != NULL)
		client_close(a->clients);
	if (a->path != NULL)
		unlink(a->path);
	uv_close(&a->listener.handle, listener_gone);
	uv_close((uv_handle_t *)&a->again, listener_gone);
}

static struct admin *admin_new(const struct admin_route *routes, void *arg)
{
	struct admin *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	a->routes = routes;
	a->arg = arg;
	return a;
}

/* A socket file that nobody answers on is left over: away with it. */
static int make_room(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
	close(fd);
	if (err != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

/* Bound and with its mode: never open to others, not even for a moment. bind() takes what
 * umask says off the socket's own mode; the group gets its part back afterwards. */
static int unix_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	err = make_room(&address);
	if (err < 0)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0660) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	if (chmod(path, 0660) == 0)
		return fd;
	err = -errno;
	unlink(path);
	close(fd);
	return err;
}

int admin_listen_unix(uv_loop_t *loop, const char *path, const struct admin_route *routes,
		      void *arg, struct admin **out)
{
	struct admin *a = admin_new(routes, arg);
	int fd, err;

	if (a == NULL)
		return -ENOMEM;
	fd = unix_socket(path);
	if (fd < 0) {
		free(a);
		return fd;
	}
	a->path = strdup(path);
	err = listener_init(loop, a, true);
	if (err == 0)
		err = a->path == NULL ? -ENOMEM : uv_pipe_open(&a->listener.pipe, fd);
	if (err < 0)
		close(fd);
	else
		err = uv_listen(&a->listener.stream, BACKLOG, client_new);
	if (err < 0) {
		unlink(path);
		admin_close(a);
		return err;
	}
	*out = a;
	return 0;
}

/* "127.0.0.1:15020", "[::1]:15020"; ":15020" is every address. */
static int parse_address(const char *text, struct sockaddr_storage *out)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t len;
	long port;
	char *end;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	port = strtol(colon + 1, &end, 10);
	if (*end != '\0' || port > 65535)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len == 0)
		return uv_ip6_addr("::", (int)port, (struct sockaddr_in6 *)out);
	if (text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= sizeof host)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	if (strchr(host, ':') != NULL)
		return uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)out);
	return uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out);
}

int admin_listen_tcp(uv_loop_t *loop, const char *address, const struct admin_route *routes,
		     void *arg, struct admin **out)
{
	struct sockaddr_storage where = {0};
	struct admin *a;
	int err;

	err = parse_address(address, &where);
	if (err < 0)
		return err;
	a = admin_new(routes, arg);
	if (a == NULL)
		return -ENOMEM;
	err = listener_init(loop, a, false);
	if (err == 0)
		err = uv_tcp_bind(&a->listener.tcp, (struct sockaddr *)&where, 0);
	if (err == 0)
		err = uv_listen(&a->listener.stream, BACKLOG, client_new);
	if (err < 0) {
		admin_close(a);
		return err;
	}
	*out = a;
	return 0;
}
