/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection from accept to close, on loopback sockets, in one thread: the test is client
 * and server, and turns the loop by hand. Neighbours that need a kernel program or a thread
 * are stood in for by link: original destinations, namespaces, the access log.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config_load.h"
#include "failmalloc.h"
#include "proxy/addr.h"
#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/upstream.h"

/* ---- the neighbours ---- */

#define RECORDS_MAX 64

struct kept {
	struct record r;
	char path[64];
};
static struct kept kept[RECORDS_MAX];
static unsigned kept_count;
static struct endpoint server_at;
static bool claim_fails;
static bool api_on_host; /* its address is the host's */
static bool dial_fails;
static unsigned dials_out; /* taken and not given back */
static struct slot claimed = {.peer = ADDRESS_NOT_LOCAL};
static unsigned slots_out; /* the same */
static unsigned claims;
static bool asks_wait; /* for a socket: until answer_ask() */
static struct netns_ask *asked;

int origdst_claim(struct worker *w, const struct enrolled *e, enum listener_kind kind, int fd,
		  struct origdst *out)
{
	(void)w;
	(void)e;
	(void)kind;
	(void)fd;
	*out = (struct origdst){.direction = DIRECTION_EGRESS, .dst = server_at};
	out->client = (struct endpoint){.ip = addr_from_v4(htonl(0x0a000001)), .family = AF_INET};
	if (claim_fails)
		return -ENOENT;
	out->slot = &claimed;
	slots_out++;
	claims++;
	return 0;
}

void origdst_release(struct origdst *o)
{
	slots_out -= o->slot != NULL;
	o->slot = NULL;
}

int64_t dial_bind(struct worker *w, const struct enrolled *e, int fd, const struct endpoint *client)
{
	(void)w;
	(void)e;
	(void)fd;
	(void)client;
	if (dial_fails)
		return -EADDRNOTAVAIL;
	dials_out++;
	return 1;
}

void dial_release(struct worker *w, int64_t number)
{
	(void)w;
	dials_out -= number >= 0;
}

int netns_socket_here(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int netns_socket(struct netns_pool *p, int family, struct netns_ask *ask)
{
	int fd, on = 1;

	(void)p;
	if (asks_wait) {
		asked = ask;
		return -EAGAIN;
	}
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd < 0 ? -errno : fd;
}

/* The helper thread's answer, which comes by the worker's inbox. */
static void answer_ask(struct worker *w)
{
	struct work *work;

	list_init(&w->inbox);
	pthread_mutex_init(&w->lock, NULL);
	assert_int_equal(uv_async_init(&w->uv, &w->async, NULL), 0);
	asked->deliver(asked, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	work = container_of(w->inbox.next, struct work, link);
	list_remove(&work->link);
	work->run(w, work);
	uv_close((uv_handle_t *)&w->async, NULL);
}

/* Every record of every test: the clocks add up, and the two sums are what they say. */
static void check_clocks(const struct record *r)
{
	uint64_t proxy = r->t[CLOCK_OF_QUEUE] + r->t[CLOCK_OF_POLICY] + r->t[CLOCK_OF_WORK];
	uint64_t sum = 0;

	for (int i = 0; i < CLOCK_COUNT; i++)
		sum += r->t[i];
	assert_int_equal(record_total(r), sum);
	assert_int_equal(record_proxy(r), proxy);
	assert_true(sum < UINT64_C(60000000000)); /* no clock ran backwards */
}

void access_log_write(struct access_log_writer *w, struct record *r)
{
	struct kept *k = &kept[kept_count];

	(void)w;
	if (r->type == RECORD_OPENED)
		return;
	check_clocks(r);
	assert_true(kept_count < RECORDS_MAX);
	k->r = *r;
	memset(k->path, 0, sizeof k->path);
	if (r->path.len > 0)
		memcpy(k->path, r->path.p, r->path.len < 63 ? r->path.len : 63);
	kept_count++;
}

struct access_log_writer *access_log_writer(struct access_log *log)
{
	(void)log;
	return NULL;
}

/* ---- the box ---- */

static const char documents[] =
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: web, namespace: shop}\n"
	"spec: {labels: {app: web}, address: 10.0.0.1, selectors: [\"netns:/run/netns/web\"]}\n"
	"---\n"
	"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: api, namespace: shop}\n"
	"spec: {labels: {app: api}, address: 127.0.0.1, selectors: [\"netns:/run/netns/api\"]}\n"
	"---\n"
	"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
	"metadata: {name: api, namespace: shop}\n"
	"spec:\n"
	"  endpointSelector: {matchLabels: {app: api}}\n"
	"  ingress:\n"
	"  - fromEndpoints: [{matchLabels: {app: web}}]\n"
	"    toPorts:\n"
	"    - ports: [{port: \"PORT\", protocol: TCP}]\n"
	"      rules: {http: [{path: \"/ok.*\"}, {method: CONNECT, host: \"ok:1\"}]}\n";

static struct worker worker;
static struct node node;
static struct enrolled web, api;
static struct seat seats[2];
static struct loaded config;
static int listener, client, server;

static void seat_init(struct seat *s, struct enrolled *e, uint32_t index)
{
	*e = (struct enrolled){.index = index};
	*s = (struct seat){.worker = &worker, .enrolled = e};
	share_init(&s->share);
	list_init(&s->conns);
	list_init(&s->heads);
	worker.seats[index] = s;
}

static void listen_on_loopback(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &len), 0);
	assert_true(endpoint_from_sockaddr(&server_at, (struct sockaddr *)&in));
}

/* `http`: the rule selects the server's port; else the port is any other one and the stream
 * is opaque, because nothing selects it once the policy is gone. */
static void load_config(bool http)
{
	char port[8], text[sizeof documents + 8];
	const char *at = strstr(documents, "PORT");

	snprintf(port, sizeof port, "%u", ntohs(server_at.port));
	snprintf(text, sizeof text, "%.*s%s%s", (int)(at - documents), documents, port, at + 4);
	if (!http)
		*strstr(text, "---\napiVersion: cilium") = '\0';
	config = load(text);
	assert_int_equal(config.err, 0);
}

static void make_view(void)
{
	struct directory *d = directory_new();
	const struct fleet *f = config.s.fleet;

	for (size_t i = 0; i < f->workload_count; i++) {
		const struct fleet_workload *w = &f->workloads[i];
		bool is_api = strcmp(w->name, "api") == 0;
		struct card *card = card_new(w);
		int err;

		assert_int_equal(
			directory_add_local(d, is_api, w->identity, &w->addresses[0], card), 0);
		if (is_api && api_on_host)
			err = directory_add(d, &w->addresses[0], IDENTITY_HOST, DIRECTORY_NOT_LOCAL,
					    NULL);
		else
			err = directory_add(d, &w->addresses[0], w->identity, is_api, card);
		assert_int_equal(err, 0);
		card_unref(card);
		seat_init(&seats[is_api], is_api ? &api : &web, is_api);
	}
	worker.view = view_new(config.s.policy, d, &config.s.options);
	directory_unref(d);
}

static void box_open(bool http)
{
	memset(&worker, 0, sizeof worker);
	kept_count = 0;
	claim_fails = dial_fails = asks_wait = false;
	dials_out = slots_out = claims = 0;
	node = (struct node){.workers = &worker, .worker_count = 1, .conns_max = 8};
	worker.node = &node;
	worker.exchanges =
		(struct slab){.size = sizeof(struct exchange), .zeroed = EXCHANGE_ZEROED};
	worker.scratch = policy_scratch_new();
	assert_non_null(worker.scratch);
	assert_int_equal(uv_loop_init(&worker.uv), 0);
	assert_int_equal(io_loop_init(&worker.io), 0);
	assert_int_equal(deadline_queue_init(&worker.connect_limit, &worker.uv, 5000), 0);
	assert_int_equal(deadline_queue_init(&worker.response_limit, &worker.uv, 0), 0);
	assert_int_equal(deadline_queue_init(&worker.head_limit, &worker.uv, 300), 0);
	assert_int_equal(deadline_queue_init(&worker.body_limit, &worker.uv, 100), 0);
	assert_int_equal(deadline_queue_init(&worker.linger_limit, &worker.uv, 100), 0);
	assert_int_equal(deadline_queue_init(&worker.idle_limit, &worker.uv, 20), 0);
	listen_on_loopback();
	load_config(http);
	make_view();
	client = server = -1;
}

static void turn(int ms)
{
	for (int quiet = 0; quiet < 3; quiet++) {
		assert_true(io_loop_wait(&worker.io, ms) >= 0);
		uv_update_time(&worker.uv);
		io_loop_round(&worker.io);
		uv_run(&worker.uv, UV_RUN_NOWAIT);
	}
}

static void box_close(void)
{
	if (client >= 0)
		close(client);
	if (server >= 0)
		close(server);
	close(listener);
	for (int tries = 0; tries < 200 && !list_empty(&seats[0].conns); tries++)
		turn(2);
	assert_true(list_empty(&seats[0].conns)); /* nobody outlives both its peers */
	assert_int_equal(worker.conns, 0);
	assert_int_equal(node.used[0].conns, 0);
	assert_int_equal(node_heads(&node), 0);
	assert_int_equal(node_buffered(&node), 0);
	assert_int_equal(dials_out, 0);
	assert_int_equal(slots_out, 0);
	deadline_queue_close(&worker.connect_limit);
	deadline_queue_close(&worker.response_limit);
	deadline_queue_close(&worker.head_limit);
	deadline_queue_close(&worker.body_limit);
	deadline_queue_close(&worker.linger_limit);
	deadline_queue_close(&worker.idle_limit);
	uv_run(&worker.uv, UV_RUN_DEFAULT);
	io_loop_close(&worker.io);
	assert_int_equal(uv_loop_close(&worker.uv), 0);
	slab_drop(&worker.exchanges);
	pool_drop(&worker.pool);
	policy_scratch_free(worker.scratch);
	view_unref(worker.view);
	unload(&config);
}

/* A client connects, and what it connected to is given to the proxy. */
static void connect_client(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;
	int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd, on = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(door, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(listen(door, 1), 0);
	setsockopt(door, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* as our listeners have it */
	assert_int_equal(getsockname(door, (struct sockaddr *)&in, &len), 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&in, len), 0);
	assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a piece is sent at once */
	fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(door);
	conn_accept(&worker, &seats[0], LISTENER_EGRESS4, fd);
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	turn(2);
}

static void accept_upstream(void)
{
	for (int tries = 0; tries < 100 && server < 0; tries++) {
		turn(2);
		server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	assert_true(server >= 0);
}

static void reset(int *fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(*fd);
	*fd = -1;
}

/* What has arrived at fd, as a string; "" when nothing has, "FIN", "RST". */
static const char *heard(int fd)
{
	static char text[8192];
	ssize_t n;

	turn(5);
	n = recv(fd, text, sizeof text - 1, 0);
	if (n == 0)
		return "FIN";
	if (n < 0)
		return errno == EAGAIN ? "" : "RST";
	text[n] = '\0';
	return text;
}

static void assert_starts(const char *text, const char *start)
{
	if (strncmp(text, start, strlen(start)) != 0)
		fail_msg("expected it to start with %s, got %s", start, text);
}

static const struct record *newest_or_null(enum record_type type)
{
	for (unsigned i = kept_count; i-- > 0;)
		if (kept[i].r.type == type)
			return &kept[i].r;
	return NULL;
}

static const struct record *newest(enum record_type type)
{
	const struct record *r = newest_or_null(type);

	assert_non_null(r);
	return r;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* ---- the tests ---- */

static void a_request_is_forwarded_answered_and_recorded(void **state)
{
	const struct record *r;

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	assert_starts(heard(server), "GET /ok HTTP/1.1\r\nHost: h\r\n");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	r = newest(RECORD_REQUEST);
	assert_int_equal(r->status, 200);
	assert_false(r->denied);
	assert_int_equal(r->request_header_bytes, strlen(GET("/ok")));
	assert_int_equal(r->response_body_bytes, 2);
	close(client);
	client = -1;
	turn(5);
	assert_string_equal(heard(server), "FIN");
	r = newest(RECORD_CONNECTION);
	assert_int_equal(r->reason, REASON_CLOSED_BY_SOURCE);
	assert_int_equal(r->bytes_sent, strlen(GET("/ok")));
	assert_true(r->has_tcp);
	box_close();
}

static void a_refused_request_has_no_upstream_and_leaves_its_siblings_alone(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/no") GET("/ok"));
	accept_upstream();
	assert_starts(heard(client), "HTTP/1.1 403 Forbidden\r\n");
	assert_int_equal(kept_count, 1);
	assert_int_equal(kept[0].r.attempts, 0);
	assert_int_equal(kept[0].r.reason, REASON_POLICY_L7);
	assert_true(kept[0].r.denied);
	assert_starts(heard(server), "GET /ok ");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	say(client, GET("/ok2"));
	assert_starts(heard(server), "GET /ok2 ");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	assert_true(newest(RECORD_REQUEST)->reused);
	box_close();
}

static void a_refused_upload_is_dropped_but_not_for_ever(void **state)
{
	static char block[65536];

	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n");
	assert_starts(heard(client), "HTTP/1.1 403 ");
	say(client, "body" GET("/no2"));
	assert_starts(heard(client), "HTTP/1.1 403 ");
	say(client, "POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
	assert_starts(heard(client), "HTTP/1.1 403 ");
	memset(block, 'x', sizeof block);
	for (int i = 0; i < 200 && send(client, block, sizeof block, MSG_NOSIGNAL) > 0; i++)
		turn(5);
	assert_true(errno == ECONNRESET || errno == EPIPE);
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_REFUSED_BODY);
	box_close();
}

/* A server that keeps its connection reads what it did not wait for, however much that is; so
 * its client may go on sending, and ask again. */
static void an_upload_goes_on_behind_an_early_answer(void **state)
{
	static char block[65536];

	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 6553600\r\n\r\n");
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 100; i++)
		for (size_t at = 0; at < sizeof block;) {
			ssize_t n = send(client, block + at, sizeof block - at, MSG_NOSIGNAL);

			assert_true(n > 0 || errno == EAGAIN);
			at += n > 0 ? (size_t)n : 0;
			turn(0);
		}
	close(server);
	server = -1;
	say(client, GET("/ok"));
	accept_upstream();
	assert_starts(heard(server), "GET /ok ");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	box_close();
}

static void a_fin_inside_a_request_is_the_clients_end(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, "GET /ok HTTP/1.1\r\nHo");
	shutdown(client, SHUT_WR);
	turn(5);
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_CLIENT_CLOSED);
	assert_int_equal(newest(RECORD_REQUEST)->status, 400);
	box_close();
}

static void a_body_that_is_malformed_ends_its_request(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
	assert_starts(heard(client), "HTTP/1.1 400 ");
	assert_int_equal(newest(RECORD_REQUEST)->status, 400);
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_BAD_REQUEST);
	assert_int_equal(kept_count, 1); /* one record for one request */
	box_close();
}

static unsigned kept_of(enum record_type type)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kept_count; i++)
		n += kept[i].r.type == type;
	return n;
}

static void whatever_follows_a_malformed_head_is_not_recorded(void **state)
{
	static char block[200000];

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 ");
	memset(block, 'x', sizeof block);
	memcpy(block, "GET /\r\n", 7);
	assert_int_equal(send(client, block, sizeof block, 0), sizeof block);
	assert_starts(heard(client), "HTTP/1.1 400 ");
	assert_int_equal(newest(RECORD_REQUEST)->status, 400);
	assert_int_equal(kept_of(RECORD_REQUEST), 2);
	box_close();
}

static void an_answer_that_is_cut_is_passed_on_as_cut(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	close(server);
	server = -1;
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_UPSTREAM_CLOSED);
	box_close();
}

static void an_upstream_that_closes_before_its_answer_is_502(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	close(server);
	server = -1;
	assert_starts(heard(client), "HTTP/1.1 502 Bad Gateway\r\n");
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_UPSTREAM_CLOSED);
	say(client, GET("/ok")); /* the connection is good for another */
	accept_upstream();
	assert_starts(heard(server), "GET /ok ");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	box_close();
}

static void an_answer_that_is_no_http_is_502(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, "SSH-2.0-x\r\n");
	assert_starts(heard(client), "HTTP/1.1 502 Bad Gateway\r\n");
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_UPSTREAM_PROTOCOL);
	box_close();
}

static void a_kept_connection_closes_when_its_other_leg_does(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	close(server);
	server = -1;
	assert_string_equal(heard(client), "FIN");
	close(client);
	client = -1;
	turn(5);
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_CLOSED_BY_DESTINATION);
	box_close();
}

static void a_head_that_never_ends_is_408(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, "GET /ok HTTP/1.1\r\n");
	for (int i = 0; i < 50; i++)
		turn(10);
	assert_starts(heard(client), "HTTP/1.1 408 ");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_HEAD_TIMEOUT);
	box_close();
}

/* Of too many unfinished heads the oldest goes, by when it began. */
static void of_too_many_unfinished_heads_the_oldest_is_408(void **state)
{
	int ends[4];

	(void)state;
	box_open(true);
	worker.view->options.heads_per_workload = 2;
	for (int i = 0; i < 4; i++) {
		connect_client();
		ends[i] = client;
	}
	say(ends[0], GET("/no") "GET /no HTTP/1.1\r\nHo"); /* a second one, held at first */
	say(ends[1], "GET /no HTTP/1.1\r\nHo");
	assert_starts(heard(ends[0]), "HTTP/1.1 403 ");
	assert_int_equal(node_heads(&node), 2);
	say(ends[3], GET("/no")); /* comes at once */
	assert_starts(heard(ends[3]), "HTTP/1.1 403 ");
	say(ends[0], "st: h\r\n\r\nGET /no HTTP/1.1\r\nHo"); /* one done, the next begun */
	assert_starts(heard(ends[0]), "HTTP/1.1 403 ");
	say(ends[2], "G");
	assert_starts(heard(ends[1]), "HTTP/1.1 408 ");
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_HEADS_QUOTA);
	assert_int_equal(newest(RECORD_REQUEST)->status, 408);
	assert_string_equal(heard(ends[0]), "");
	assert_int_equal(node_heads(&node), 2);
	say(ends[0], "st: h\r\n\r\n");
	say(ends[2], "ET /no HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_starts(heard(ends[0]), "HTTP/1.1 403 ");
	assert_starts(heard(ends[2]), "HTTP/1.1 403 ");
	assert_int_equal(node_heads(&node), 0);
	for (int i = 0; i < 4; i++)
		close(ends[i]);
	for (int i = 0; i < 2; i++) {
		connect_client();
		say(client, "GET");
		assert_int_equal(node_heads(&node), 1);
		if (i == 0)
			reset(&client);
		else
			close(client);
		turn(5);
		assert_int_equal(node_heads(&node), 0);
	}
	client = -1;
	box_close();
}

static void whom_policy_denies_as_a_connection_is_reset(void **state)
{
	(void)state;
	box_open(true);
	server_at.port = htons((uint16_t)(ntohs(server_at.port) + 1)); /* no rule names it */
	connect_client();
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_POLICY_L4);
	assert_true(newest(RECORD_CONNECTION)->denied);
	assert_int_equal(newest(RECORD_CONNECTION)->attempts, 0);
	box_close();
}

/* { what the server says of the second request of a connection, whether it resets then, what the
 *   client hears } */
static void a_kept_connection_that_goes_stale_ends_as_without_us(void **state)
{
	static const struct {
		const char *says;
		bool resets;
		const char *heard;
		unsigned status;
	} rows[] = {
		{"", false, "FIN", 0},
		{"", true, "RST", 0},
		{"HTTP/1.1 2", false, "HTTP/1.1 502 ", 502},
		{"HTTP/1.1 2", true, "HTTP/1.1 502 ", 502},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		box_open(true);
		connect_client();
		say(client, GET("/ok"));
		accept_upstream();
		heard(server);
		say(server, OK2);
		assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
		say(client, GET("/ok"));
		assert_starts(heard(server), "GET /ok ");
		say(server, rows[i].says);
		if (rows[i].resets)
			reset(&server);
		else
			close(server);
		server = -1;
		assert_starts(heard(client), rows[i].heard);
		assert_int_equal(newest(RECORD_REQUEST)->status, rows[i].status);
		assert_true(newest(RECORD_REQUEST)->reused);
		assert_int_equal(newest(RECORD_REQUEST)->reason,
				 rows[i].resets ? REASON_UPSTREAM_RESET : REASON_UPSTREAM_CLOSED);
		box_close();
	}
}

static void a_pipelined_request_finds_a_new_upstream_when_the_old_one_closed(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok1") GET("/ok2"));
	accept_upstream();
	assert_starts(heard(server), "GET /ok1 ");
	assert_int_equal(send(server, OK2, strlen(OK2), MSG_NOSIGNAL), strlen(OK2));
	close(server); /* without a word of it before */
	server = -1;
	accept_upstream();
	assert_starts(heard(server), "GET /ok2 ");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	box_close();
}

static void an_upstream_that_does_not_read_holds_back_the_client(void **state)
{
	static char block[65536];
	size_t sent = 0;

	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
	accept_upstream();
	for (int stuck = 0; stuck < 5;) {
		ssize_t n = send(client, block, sizeof block, MSG_NOSIGNAL);

		stuck = n < 0 ? stuck + 1 : 0;
		sent += n > 0 ? (size_t)n : 0;
		turn(2);
	}
	assert_true(sent < 20000000); /* kernel buffers, not ours */
	assert_true(
		upstream_backlog(container_of(seats[0].conns.next, struct conn, link)->upstream) <=
		BACKLOG_HIGH);
	while (recv(server, block, sizeof block, 0) > 0)
		turn(1);
	assert_true(send(client, block, sizeof block, MSG_NOSIGNAL) > 0); /* let go on */
	box_close();
}

static void a_client_that_half_closed_and_then_reset_is_noticed(void **state)
{
	struct linger now = {.l_onoff = 1};

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	shutdown(client, SHUT_WR);
	turn(5);
	assert_int_equal(kept_count, 0); /* it waits for its answer */
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(client);
	client = -1;
	turn(5);
	assert_true(list_empty(&seats[0].conns)); /* without a byte written to it */
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_RESET_BY_SOURCE);
	box_close();
}

/* The answer cannot leave yet, so the exchange lives on without its upstream. */
static void a_dial_that_fails_at_once_leaves_nothing_to_write_to(void **state)
{
	static char block[65536];
	size_t got = 0;
	ssize_t n;

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok") "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n");
	accept_upstream();
	heard(server);
	say(server, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 8000000\r\n\r\n");
	dial_fails = true;
	while (got < 8000000) { /* a client that reads nothing until the end */
		n = send(server, block, got + sizeof block > 8000000 ? 8000000 - got : sizeof block,
			 MSG_NOSIGNAL);
		if (n < 0 && recv(client, block, sizeof block, 0) < 0)
			break;
		got += n > 0 ? (size_t)n : 0;
		turn(0);
	}
	close(server);
	server = -1;
	turn(2);
	say(client, "the body");
	for (int i = 0; i < 400 && recv(client, block, sizeof block, 0) != 0; i++)
		turn(1);
	assert_int_equal(newest(RECORD_REQUEST)->status, 503);
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_DIALS_FULL);
	box_close();
}

static void a_pipelined_request_waits_without_a_spin(void **state)
{
	unsigned turns = 0;

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok1") GET("/ok2") GET("/ok3"));
	accept_upstream();
	heard(server);
	turn(1);
	for (int i = 0; i < 20; i++) {
		assert_true(io_loop_wait(&worker.io, 1) >= 0);
		turns += !list_empty(&worker.io.active);
		io_loop_round(&worker.io);
	}
	assert_int_equal(turns, 0); /* nobody asks for a turn while nothing happens */
	for (int i = 1; i <= 3; i++) { /* and nobody is forgotten when it does */
		say(server, OK2);
		assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
		if (i < 3)
			assert_starts(heard(server), i == 1 ? "GET /ok2 " : "GET /ok3 ");
	}
	box_close();
}

static void a_held_head_that_never_ends_has_its_limit_too(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok") "GET /ok HT");
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 50; i++)
		turn(10);
	assert_starts(heard(client), "HTTP/1.1 408 ");
	box_close();
}

/* A server that says more than it was asked spoils its own connection, not the client's. */
static void what_a_server_says_unasked_answers_nothing(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		box_open(true);
		connect_client();
		say(client, GET("/ok"));
		accept_upstream();
		heard(server);
		if (late) {
			say(server, OK2);
			say(server, "HTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n");
		} else {
			say(server, OK2 "HTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n");
		}
		assert_string_equal(heard(client), OK2);
		assert_string_equal(heard(server), "RST");
		close(server);
		server = -1;
		say(client, GET("/ok2"));
		accept_upstream();
		assert_starts(heard(server), "GET /ok2 ");
		say(server, OK2);
		assert_string_equal(heard(client), OK2);
		assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_NONE);
		box_close();
	}
}

/* Nobody has read it yet when the next request is there. */
static void what_lies_unread_at_a_server_does_not_answer_the_next_request(void **state)
{
	struct conn *c;

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_string_equal(heard(client), OK2);
	c = container_of(seats[0].conns.next, struct conn, link);
	send(server, "HTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n", 39, MSG_NOSIGNAL);
	send(client, GET("/ok2"), strlen(GET("/ok2")), MSG_NOSIGNAL);
	c->io.ready |= IO_READ; /* the client's turn comes first */
	c->upstream->io.ready |= IO_READ;
	c->io.turn(&c->io);
	assert_string_equal(heard(server), "RST");
	close(server);
	server = -1;
	accept_upstream();
	assert_starts(heard(server), "GET /ok2 ");
	say(server, OK2);
	assert_string_equal(heard(client), OK2);
	box_close();
}

static void an_upstream_that_resets_before_its_answer_is_502(void **state)
{
	struct linger now = {.l_onoff = 1};

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(server);
	server = -1;
	assert_starts(heard(client), "HTTP/1.1 502 Bad Gateway\r\n");
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_UPSTREAM_RESET);
	box_close();
}

#define UPGRADE "GET /ok HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
#define SWITCHED "HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"

static void after_an_upgrade_any_bytes_go_both_ways(void **state)
{
	const struct record *r;

	(void)state;
	for (int first = 0; first < 2; first++) {
		box_open(true);
		connect_client();
		say(client, GET("/ok"));
		accept_upstream();
		heard(server);
		say(server, OK2);
		heard(client);
		say(client, UPGRADE "early");
		assert_string_equal(heard(server), "GET /ok HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n"
						   "Connection: Upgrade\r\n\r\n");
		say(server, SWITCHED "late");
		assert_string_equal(heard(client), SWITCHED "late");
		assert_string_equal(heard(server), "early");
		say(client, GET("/private")); /* no rule reads this any more */
		assert_string_equal(heard(server), GET("/private"));
		shutdown(first == 0 ? client : server, SHUT_WR);
		assert_string_equal(heard(first == 0 ? server : client), "FIN");
		say(first == 0 ? server : client, "more");
		assert_string_equal(heard(first == 0 ? client : server), "more");
		assert_int_equal(kept_count, 1);
		shutdown(first == 0 ? server : client, SHUT_WR);
		assert_string_equal(heard(first == 0 ? client : server), "FIN");
		assert_int_equal(newest(RECORD_REQUEST)->status, 101);
		assert_int_equal(newest(RECORD_REQUEST)->stream, 2);
		assert_int_equal(newest(RECORD_REQUEST)->request_body_bytes,
				 strlen("early" GET("/private")) + (first == 0 ? 0 : 4));
		assert_int_equal(newest(RECORD_REQUEST)->response_body_bytes,
				 strlen("late") + (first == 0 ? 4 : 0));
		turn(5);
		r = newest(RECORD_CONNECTION); /* one of HTTP, with all its bytes */
		assert_true(slice_is(r->protocol, "HTTP/1.1"));
		assert_true(slice_is(r->accel_reason, "l7"));
		assert_int_equal(r->bytes_sent, strlen(GET("/ok") UPGRADE "early" GET("/private")) +
							(first == 0 ? 0 : 4));
		assert_int_equal(r->bytes_recv, strlen(OK2 SWITCHED "late") + (first == 0 ? 4 : 0));
		box_close();
	}
}

/* Before the answer, so that the FIN was read by the codec of HTTP. */
static void a_fin_behind_an_upgrade_is_passed_on(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, UPGRADE);
	accept_upstream();
	heard(server);
	shutdown(client, SHUT_WR);
	turn(2);
	say(server, SWITCHED);
	assert_string_equal(heard(client), SWITCHED);
	assert_string_equal(heard(server), "FIN");
	say(server, "more");
	assert_string_equal(heard(client), "more");
	box_close();
}

static void an_upgrade_that_no_rule_allows_is_403(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	say(client, "GET /no HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
	assert_starts(heard(client), "HTTP/1.1 403 ");
	say(client, "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"); /* it has no path */
	assert_starts(heard(client), "HTTP/1.1 403 ");
	assert_string_equal(heard(client), "FIN");
	box_close();
}

static void requests_sent_ahead_are_limited(void **state)
{
	(void)state;
	box_open(true);
	worker.view->options.max_pipelined = 2;
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	for (int i = 0; i < 10; i++) { /* one by one: as many as it likes */
		assert_starts(heard(server), "GET /ok ");
		say(server, OK2);
		assert_string_equal(heard(client), OK2);
		if (i < 9)
			say(client, GET("/ok"));
	}
	say(client, GET("/a") GET("/b") GET("/ok") GET("/ok") GET("/ok"));
	for (const char *text = heard(client); strcmp(text, "FIN") != 0; text = heard(client)) {
		if (*heard(server) == 'G')
			say(server, OK2);
	}
	assert_int_equal(kept_count, 10 + 3);
	close(client);
	client = -1;
	turn(5);
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_TOO_MANY_PIPELINED);
	box_close();
}

static void a_body_that_comes_too_slowly_is_408(void **state)
{
	(void)state;
	box_open(true);
	worker.view->options.body_rate = 1000; /* looked at every 100 ms */
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
	accept_upstream();
	for (int i = 0; i < 50 && newest_or_null(RECORD_REQUEST) == NULL; i++)
		say(client, "x"), usleep(10000);
	assert_starts(heard(client), "HTTP/1.1 408 ");
	assert_int_equal(newest(RECORD_REQUEST)->status, 408);
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_BODY_TOO_SLOW);
	box_close();
}

/* The server has it all and thinks, or has not said 100 yet, or the rate is kept. */
static void only_the_clients_own_slowness_counts(void **state)
{
	static const char *const asks[] = {
		"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok",
		"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		box_open(true);
		worker.view->options.body_rate = 1000000;
		connect_client();
		say(client, asks[i]);
		accept_upstream();
		for (int n = 0; n < 40; n++)
			turn(10);
		say(server, OK2);
		assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
		box_close();
	}
}

static void wait_ms(int ms)
{
	for (; ms > 0; ms -= 15)
		turn(5);
}

/* Whatever of it was asked: with content, a tunnel, after a 100 or a hint. */
static void a_response_that_does_not_begin_in_time_is_504(void **state)
{
	static const struct {
		const char *ask, *interim, *more;
	} rows[] = {
		{GET("/ok"), NULL, NULL},
		{"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
		{"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: "
		 "100-continue\r\n\r\n",
		 NULL, NULL},
		{"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: "
		 "100-continue\r\n\r\n",
		 "HTTP/1.1 100 Continue\r\n\r\n", "ok"},
		{GET("/ok"), "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200", NULL},
		{UPGRADE, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *text;

		box_open(true);
		worker.response_limit.length = 100;
		connect_client();
		say(client, rows[i].ask);
		accept_upstream();
		heard(server);
		if (rows[i].interim != NULL) {
			say(server, rows[i].interim);
			assert_starts(heard(client), "HTTP/1.1 10");
		}
		if (rows[i].more != NULL)
			say(client, rows[i].more);
		for (int tries = 0; tries < 200 && newest_or_null(RECORD_REQUEST) == NULL; tries++)
			turn(5);
		assert_starts(heard(client), "HTTP/1.1 504 Gateway Timeout\r\n");
		assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_RESPONSE_TIMEOUT);
		assert_int_equal(newest(RECORD_REQUEST)->status, 504);
		assert_true(newest(RECORD_REQUEST)->t[CLOCK_OF_WAIT] > 50000000);
		text = heard(server);
		assert_string_equal(*text == 'o' ? heard(server) : text, "RST");
		box_close();
	}
}

/* Who waits for the client, or has begun to answer, is not hurried. */
static void only_a_server_whose_turn_it_is_is_hurried(void **state)
{
	(void)state;
	box_open(true);
	worker.response_limit.length = 100;
	connect_client();
	say(client,
	    "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
	accept_upstream();
	heard(server);
	say(server, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_starts(heard(client), "HTTP/1.1 100 ");
	wait_ms(200);
	say(client, "ab");
	wait_ms(200);
	say(client, "cd");
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
	wait_ms(200);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	say(server, "cd");
	assert_string_equal(heard(client), "cd");
	wait_ms(200); /* between two requests nobody waits for anything */
	say(client, GET("/ok"));
	assert_string_equal(heard(client), "");
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	assert_true(newest(RECORD_REQUEST)->reused);
	say(client, UPGRADE);
	say(server, SWITCHED);
	assert_starts(heard(client), "HTTP/1.1 101 ");
	wait_ms(200);
	say(server, "down");
	assert_string_equal(heard(client), "down");
	box_close();
}

/* A CONNECT has no content to wait for: the time is the server's. */
static void a_connect_waits_for_its_server(void **state)
{
	(void)state;
	box_open(true);
	worker.view->options.body_rate = 1000000;
	connect_client();
	say(client, "CONNECT ok:1 HTTP/1.1\r\nHost: h\r\n\r\n");
	accept_upstream();
	heard(server);
	wait_ms(400); /* looked at every 100 ms */
	say(server, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
	assert_starts(heard(client), "HTTP/1.1 403 No\r\n");
	assert_true(newest(RECORD_REQUEST)->t[CLOCK_OF_WAIT] > 200000000);
	assert_int_equal(newest(RECORD_REQUEST)->t[CLOCK_OF_BODY], 0);
	box_close();
}

/* What is in the kernel's buffers when we have nothing more to say still arrives. */
static void a_slow_client_gets_all_of_a_last_answer(void **state)
{
	static char block[65536];
	size_t sent = 0, got = 0;
	ssize_t n;

	(void)state;
	box_open(true);
	connect_client();
	say(client, "GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	accept_upstream();
	heard(server);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	while (sent < 1000000) {
		n = send(server, block,
			 1000000 - sent < sizeof block ? 1000000 - sent : sizeof block,
			 MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		turn(1);
	}
	for (int i = 0; i < 40; i++) /* longer than the linger limit */
		turn(10);
	for (int tries = 0; tries < 2000; tries++) {
		n = recv(client, block, sizeof block, 0);
		if (n == 0)
			break;
		assert_true(n > 0 || errno == EAGAIN);
		got += n > 0 ? (size_t)n : 0;
		turn(0);
	}
	assert_true(got > 1000000);
	box_close();
}

/* Three who wait at a listener of `web`, in a box whose worker may run out of descriptors. */
static void three_wait(int waiting[3])
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;

	box_open(true);
	worker.reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uv_timer_init(&worker.uv, &worker.pause);
	worker.seats[0] = NULL;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		web.listeners[kind] = -1;
	web.listeners[LISTENER_EGRESS4] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(web.listeners[0], (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(web.listeners[0], 8), 0);
	assert_int_equal(getsockname(web.listeners[0], (struct sockaddr *)&in, &len), 0);
	assert_int_equal(seat_open(&worker, &web), 0);
	for (int i = 0; i < 3; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(waiting[i], (struct sockaddr *)&in, len), 0);
	}
}

static void they_leave(const int waiting[3])
{
	seat_close(&worker, &web, REASON_SHUTDOWN);
	turn(1);
	close(web.listeners[0]);
	close(worker.reserve);
	for (int i = 0; i < 3; i++)
		close(waiting[i]);
	uv_close((uv_handle_t *)&worker.pause, NULL);
	box_close();
}

/* So many descriptors are left while the loop turns. */
static void turn_with(int left, const int waiting[3])
{
	struct rlimit old, few;

	getrlimit(RLIMIT_NOFILE, &old);
	few = (struct rlimit){.rlim_cur = (rlim_t)(waiting[2] + 1 + left),
			      .rlim_max = old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	turn(5);
	setrlimit(RLIMIT_NOFILE, &old);
}

/* Those who wait bring no new edge: only the timer can. */
static void out_of_descriptors_passes_by_itself(void **state)
{
	int waiting[3];

	(void)state;
	three_wait(waiting);
	turn_with(0, waiting);
	assert_int_equal(worker.conns, 0);
	assert_int_equal(claims, 1); /* of the one that was refused: its slot is free again */
	for (int i = 0; i < 30 && worker.conns < 2; i++)
		turn(10);
	assert_int_equal(worker.conns, 2); /* one was refused, so that it knows */
	they_leave(waiting);
}

/* Another thread may take what one gives up for a moment: so the last are never used up. */
static void near_the_end_of_the_descriptors_all_are_refused_at_once(void **state)
{
	int waiting[3];
	char byte;

	(void)state;
	three_wait(waiting);
	turn_with(20, waiting);
	assert_int_equal(worker.conns, 0);
	assert_int_equal(claims, 3);
	assert_int_equal(kept_count, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(kept[i].r.reason, REASON_NO_DESCRIPTORS);
		assert_int_equal(recv(waiting[i], &byte, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, ECONNRESET);
	}
	they_leave(waiting);
}

static void one_connection_too_many_is_refused_and_recorded(void **state)
{
	int first;

	(void)state;
	box_open(false);
	node.conns_max = 1;
	connect_client();
	accept_upstream();
	first = client;
	connect_client();
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_NO_DESCRIPTORS);
	assert_true(newest(RECORD_CONNECTION)->unopened);
	say(first, "on it goes");
	assert_string_equal(heard(server), "on it goes");
	close(client);
	close(server);
	reset(&first);
	turn(2);
	server = -1;
	connect_client(); /* there is room again */
	accept_upstream();
	say(client, "hi");
	assert_string_equal(heard(server), "hi");
	box_close();
}

/* How many more of a workload's connections are let in; then it has them. */
static unsigned let_in(uint32_t workload)
{
	unsigned n = 0;

	while (node_refuses(&node, workload) == REASON_NONE) {
		worker_count_conns(&worker, workload, 1);
		n++;
	}
	return n;
}

static void a_workload_leaves_room_for_others_and_together_they_get_all(void **state)
{
	unsigned sum;

	(void)state;
	box_open(false);
	node.conns_max = 9500;
	sum = let_in(0);
	assert_int_equal(sum, 8313);
	assert_int_equal(node_refuses(&node, 0), REASON_CONNECTIONS_QUOTA);
	connect_client();
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_CONNECTIONS_QUOTA);
	for (uint32_t other = 1; other < 5; other++) {
		assert_int_equal(node_refuses(&node, other), REASON_NONE);
		sum += let_in(other);
	}
	assert_int_equal(sum, 9500);
	assert_int_equal(node_refuses(&node, 5), REASON_NO_DESCRIPTORS);
	worker_count_conns(&worker, 0, -1000);
	assert_int_equal(node_refuses(&node, 5), REASON_NONE);
	assert_int_equal(node_refuses(&node, 0), REASON_CONNECTIONS_QUOTA); /* 7,313 of its own */
	worker_count_conns(&worker, 0, 1000 - (int)sum);
	memset(node.used, 0, sizeof node.used);
	box_close();
}

static void whoever_has_no_destination_is_reset(void **state)
{
	(void)state;
	box_open(true);
	claim_fails = true;
	connect_client();
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_ORIGDST_UNKNOWN);
	box_close();
}

static void an_opaque_stream_half_closes_either_way(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		box_open(false);
		connect_client();
		accept_upstream();
		say(server, "hello"); /* the server speaks first */
		assert_string_equal(heard(client), "hello");
		say(client, "hi");
		assert_string_equal(heard(server), "hi");
		shutdown(first == 0 ? client : server, SHUT_WR);
		assert_string_equal(heard(first == 0 ? server : client), "FIN");
		say(first == 0 ? server : client, "more");
		assert_string_equal(heard(first == 0 ? client : server), "more");
		shutdown(first == 0 ? server : client, SHUT_WR);
		assert_string_equal(heard(first == 0 ? client : server), "FIN");
		assert_true(list_empty(&seats[0].conns));
		assert_int_equal(newest(RECORD_CONNECTION)->reason,
				 first == 0 ? REASON_CLOSED_BY_SOURCE
					    : REASON_CLOSED_BY_DESTINATION);
		assert_int_equal(newest(RECORD_CONNECTION)->bytes_sent, first == 0 ? 2 : 6);
		box_close();
	}
}

/* ---- the daemon stops ---- */

static struct conn *the_conn(void)
{
	return container_of(seats[0].conns.next, struct conn, link);
}

static void serve_one(const char *path)
{
	char request[128];

	snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	say(client, request);
	if (server < 0)
		accept_upstream();
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
}

static void an_idle_connection_ends_by_a_fin_when_the_daemon_stops(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	serve_one("/ok");
	seats_drain(&worker);
	assert_string_equal(heard(client), "FIN");
	assert_string_equal(heard(server), "FIN");
	close(client);
	client = -1;
	turn(5);
	assert_true(list_empty(&seats[0].conns));
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_SHUTDOWN);
	box_close();
}

static void an_idle_connection_that_was_closed_meanwhile_ends_too(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	serve_one("/ok");
	close(client); /* not told yet */
	client = -1;
	seats_drain(&worker);
	turn(5);
	assert_true(list_empty(&seats[0].conns));
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_CLOSED_BY_SOURCE);
	box_close();
}

/* `head`: the head of the answer has been passed on before. */
static void drain_inside_a_request(bool head)
{
	const char *all;

	box_open(true);
	connect_client();
	say(client, GET("/ok1") GET("/ok2"));
	accept_upstream();
	assert_starts(heard(server), "GET /ok1 ");
	if (head) {
		say(server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
		assert_non_null(strstr(heard(client), "\r\n\r\nab"));
	}
	seats_drain(&worker);
	turn(5);
	assert_false(list_empty(&seats[0].conns));
	say(server, head ? "cd" : "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd");
	all = heard(client);
	if (head) {
		assert_string_equal(all, "cd");
	} else {
		assert_non_null(strstr(all, "\r\nConnection: close\r\n"));
		assert_non_null(strstr(all, "\r\n\r\nabcd"));
	}
	assert_string_equal(heard(client), "FIN");
	assert_string_equal(heard(server), "FIN"); /* nobody asks for the second */
	assert_int_equal(newest(RECORD_REQUEST)->response_body_bytes, 4);
	assert_string_equal(kept[0].path, "/ok1");
	box_close();
}

static void a_request_has_its_whole_answer_when_the_daemon_stops(void **state)
{
	(void)state;
	drain_inside_a_request(false);
	drain_inside_a_request(true);
}

static void a_head_that_has_begun_is_served_when_the_daemon_stops(void **state)
{
	(void)state;
	box_open(true);
	connect_client();
	serve_one("/ok");
	say(client, "GET /ok2 HTTP/1.1\r\nHo");
	seats_drain(&worker);
	assert_string_equal(heard(client), "");
	say(client, "st: h\r\n\r\n");
	assert_starts(heard(server), "GET /ok2 ");
	say(server, OK2);
	assert_non_null(strstr(heard(client), "\r\nConnection: close\r\n"));
	assert_string_equal(heard(client), "FIN");
	box_close();
}

static void who_was_just_accepted_is_served_once_when_the_daemon_stops(void **state)
{
	(void)state;
	for (int before = 0; before < 2; before++) {
		box_open(true);
		if (before)
			connect_client();
		seats_drain(&worker);
		if (!before)
			connect_client(); /* handed over by another worker, say */
		assert_string_equal(heard(client), "");
		say(client, GET("/ok") GET("/ok2"));
		accept_upstream();
		assert_starts(heard(server), "GET /ok ");
		say(server, OK2);
		assert_non_null(strstr(heard(client), "\r\nConnection: close\r\n"));
		assert_string_equal(heard(client), "FIN");
		assert_string_equal(heard(server), "FIN");
		box_close();
	}
}

/* In the socket's buffer, and no edge of it was told; or there is nothing left of the share. */
static void what_came_before_the_daemon_stops_is_served(void **state)
{
	(void)state;
	for (int spent = 0; spent < 2; spent++) {
		box_open(true);
		connect_client();
		serve_one("/ok");
		assert_int_equal(send(client, GET("/ok2"), strlen(GET("/ok2")), MSG_NOSIGNAL),
				 strlen(GET("/ok2")));
		seats_drain(&worker);
		if (spent)
			seats[0].share.deficit = 1 - IO_QUANTUM;
		io_loop_round(&worker.io); /* the wait before it had no room for this edge */
		assert_starts(heard(server), "GET /ok2 ");
		say(server, OK2);
		assert_non_null(strstr(heard(client), "\r\nConnection: close\r\n"));
		assert_string_equal(heard(client), "FIN");
		box_close();
	}
}

static void an_opaque_stream_goes_on_while_the_daemon_stops(void **state)
{
	(void)state;
	box_open(false);
	connect_client();
	accept_upstream();
	say(client, "a");
	assert_string_equal(heard(server), "a");
	seats_drain(&worker);
	assert_string_equal(heard(client), "");
	say(server, "b");
	assert_string_equal(heard(client), "b");
	say(client, "c");
	assert_string_equal(heard(server), "c");
	shutdown(client, SHUT_WR);
	assert_string_equal(heard(server), "FIN");
	say(server, "d");
	assert_string_equal(heard(client), "d");
	box_close();
}

static void every_connection_of_every_seat_is_asked_to_end(void **state)
{
	int clients[20], idle = 0;

	(void)state;
	box_open(true);
	for (int i = 0; i < 20; i++) {
		connect_client();
		serve_one("/ok");
		clients[i] = client;
		close(server);
		server = -1; /* the other leg's end begins to end it by itself */
	}
	client = -1;
	seats_drain(&worker);
	seats_drain(&worker); /* twice is harmless */
	turn(5);
	for (int i = 0; i < 20; i++) {
		idle += strcmp(heard(clients[i]), "FIN") == 0;
		close(clients[i]);
	}
	assert_int_equal(idle, 20);
	box_close();
}

static void those_who_wait_are_accepted_when_the_daemon_stops(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;
	int waiting[3];

	(void)state;
	box_open(true);
	worker.seats[0] = NULL;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		web.listeners[kind] = -1;
	web.listeners[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(web.listeners[0], (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(listen(web.listeners[0], 8), 0);
	assert_int_equal(getsockname(web.listeners[0], (struct sockaddr *)&in, &len), 0);
	assert_int_equal(seat_open(&worker, &web), 0);
	for (int i = 0; i < 3; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(waiting[i], (struct sockaddr *)&in, len), 0);
	}
	seats_drain(&worker);
	assert_int_equal(worker.conns, 3);
	close(web.listeners[0]);
	fcntl(waiting[1], F_SETFL, O_NONBLOCK);
	say(waiting[1], GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, OK2);
	assert_non_null(strstr(heard(waiting[1]), "\r\nConnection: close\r\n"));
	assert_string_equal(heard(waiting[1]), "FIN");
	seat_close(&worker, &web, REASON_SHUTDOWN);
	assert_int_equal(worker.conns, 0);
	for (int i = 0; i < 3; i++)
		close(waiting[i]);
	turn(1);
	box_close();
}

/* ---- who is the destination ---- */

/* The index that connect() wrote counts where the address is nobody's of its own. */
static void the_destination_is_whom_connect_knew(void **state)
{
	(void)state;
	claimed.peer = 1;
	api_on_host = true;
	box_open(true);
	connect_client();
	assert_int_equal(the_conn()->dst.index, 1);
	assert_true(slice_is(card_names(the_conn()->dst.card)->workload, "api"));
	say(client, GET("/no"));
	assert_starts(heard(client), "HTTP/1.1 403 "); /* by the rule that protects it */
	box_close();
	for (int i = 0; i < 2; i++) {
		claimed.peer = i ? ADDRESS_NOT_LOCAL : 7; /* 7: it has left */
		box_open(true);
		connect_client();
		assert_int_equal(the_conn()->dst.index, DIRECTORY_NOT_LOCAL);
		assert_int_equal(the_conn()->dst.identity, IDENTITY_HOST);
		assert_ptr_equal(the_conn()->ops, &codec_opaque);
		box_close();
	}
	api_on_host = false;
	claimed.peer = 0;
	box_open(true); /* an address of its own says it better */
	connect_client();
	assert_int_equal(the_conn()->dst.index, 1);
	box_close();
	claimed.peer = ADDRESS_NOT_LOCAL;
}

static void quietly(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Of an opaque stream: `near` is the end that resets, the client or the server. */
static void open_stream(bool near_is_client, int **near, int **far)
{
	box_open(false);
	connect_client();
	accept_upstream();
	*near = near_is_client ? &client : &server;
	*far = near_is_client ? &server : &client;
	turn(1);
}

static enum reason reset_by(bool client_did)
{
	return client_did ? REASON_RESET_BY_SOURCE : REASON_RESET_BY_DESTINATION;
}

static void what_came_before_a_reset_is_passed_on(void **state)
{
	(void)state;
	for (int by_client = 0; by_client < 2; by_client++) {
		int *near, *far;

		open_stream(by_client, &near, &far);
		quietly(*near, "last words");
		reset(near);
		assert_string_equal(heard(*far), "last words");
		assert_string_equal(heard(*far), "RST");
		assert_int_equal(newest(RECORD_CONNECTION)->reason, reset_by(by_client));
		box_close();
	}
}

/* Whichever edge the loop serves first: a write of ours must not take the error away. */
static void a_reset_that_a_write_meets_first_is_still_a_reset(void **state)
{
	(void)state;
	for (int by_client = 0; by_client < 2; by_client++)
		for (int first = 0; first < 2; first++) {
			int *near, *far;

			open_stream(by_client, &near, &far);
			if (first == 0)
				quietly(*far, "for nobody");
			quietly(*near, "last words");
			if (first == 1)
				quietly(*far, "for nobody");
			reset(near);
			assert_string_equal(heard(*far), "last words");
			assert_string_equal(heard(*far), "RST");
			box_close();
		}
}

static void a_reset_behind_a_fin_comes_behind_it(void **state)
{
	(void)state;
	for (int by_client = 0; by_client < 2; by_client++) {
		int *near, *far, err = 0;
		socklen_t len = sizeof err;

		open_stream(by_client, &near, &far);
		quietly(*near, "last words");
		shutdown(*near, SHUT_WR);
		reset(near);
		assert_string_equal(heard(*far), "last words");
		assert_string_equal(heard(*far), "FIN");
		assert_int_equal(getsockopt(*far, SOL_SOCKET, SO_ERROR, &err, &len), 0);
		assert_int_equal(err, EPIPE); /* as in CLOSE-WAIT; ECONNRESET is without a FIN */
		box_close();
	}
}

static void who_reads_nothing_is_told_of_a_reset(void **state)
{
	static char block[65536];

	(void)state;
	for (int by_client = 0; by_client < 2; by_client++) {
		int *near, *far, err = 0;
		socklen_t len = sizeof err;
		struct conn *c;

		open_stream(by_client, &near, &far);
		c = container_of(seats[0].conns.next, struct conn, link);
		fcntl(*near, F_SETFL, O_NONBLOCK);
		while ((by_client ? upstream_backlog(c->upstream) : conn_backlog(c)) <
		       BACKLOG_HIGH) {
			(void)!send(*near, block, sizeof block, MSG_NOSIGNAL);
			turn(0);
		}
		reset(near);
		turn(5);
		assert_int_equal(getsockopt(*far, SOL_SOCKET, SO_ERROR, &err, &len), 0);
		assert_int_equal(err, ECONNRESET);
		assert_true(recv(*far, block, sizeof block, 0) > 0); /* what it has, it has */
		assert_true(list_empty(&seats[0].conns));
		box_close();
	}
}

/* Memory is short for what its client says, while bytes of the server wait for that client: they
 * are no goodbye, behind which the stream could end as if it were whole. */
static void a_stream_that_fails_with_bytes_waiting_ends_by_a_reset(void **state)
{
	static char block[65536];
	int err = 0, tries = 0;
	socklen_t len = sizeof err;
	struct conn *c;

	(void)state;
	box_open(false);
	connect_client();
	accept_upstream();
	c = container_of(seats[0].conns.next, struct conn, link);
	while (conn_backlog(c) < BACKLOG_HIGH) {
		(void)!send(server, block, sizeof block, MSG_NOSIGNAL);
		turn(0);
	}
	pool_drop(&worker.pool);
	failmalloc_at(1);
	assert_int_equal(send(client, "x", 1, 0), 1);
	turn(1);
	assert_true(failmalloc_hit());
	failmalloc_at(0);
	while (recv(client, block, sizeof block, 0) > 0 || (errno == EAGAIN && tries++ < 20))
		turn(1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(getsockopt(client, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	assert_true(list_empty(&seats[0].conns));
	box_close();
}

/* What connections hold. Not mallinfo2(): it counts what malloc keeps of pieces that were freed. */
static size_t heap_now(void)
{
	pool_drop(&worker.pool); /* nobody's */
	return (size_t)failmalloc_live();
}

/* Both ends write until nothing is taken, and read nothing. */
static void who_reads_nothing_costs_64_kib_in_each_direction(void **state)
{
	static char block[65536];
	size_t before;
	int *near, *far;
	struct conn *c;

	(void)state;
	open_stream(true, &near, &far);
	c = container_of(seats[0].conns.next, struct conn, link);
	before = heap_now();
	for (unsigned i = 0;
	     upstream_backlog(c->upstream) < BACKLOG_HIGH || conn_backlog(c) < BACKLOG_HIGH; i++) {
		size_t odd = 1 + i * 7919 % sizeof block; /* of many lengths */

		(void)!send(client, block, odd, MSG_NOSIGNAL);
		(void)!send(server, block, odd, MSG_NOSIGNAL);
		turn(0);
	}
	for (int i = 0; i < 20; i++) {
		assert_true(upstream_backlog(c->upstream) <= BACKLOG_HIGH);
		assert_true(conn_backlog(c) <= BACKLOG_HIGH);
		(void)!recv(client, block, 5000, 0); /* a little of it */
		(void)!recv(server, block, 5000, 0);
		turn(0);
	}
	assert_true(heap_now() <= before + 2 * BACKLOG_HIGH + 1024);
	box_close();
}

/* Of a client whose bytes nobody takes: requests sent ahead, an upload, many small chunks. */
static void what_nobody_takes_costs_64_kib(void **state)
{
	static const struct {
		const char *ask, *again;
	} rows[] = {
		{GET("/ok"), GET("/ok")},
		{"POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n", "x"},
		{"POST /ok HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
		 "1\r\nx\r\n"},
		{UPGRADE, "x"},
	};
	static char block[65536];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t again = strlen(rows[i].again), before, after;
		size_t whole = sizeof block / again * again, at = 0;
		int small = 4096;

		for (; at < whole; at += again)
			memcpy(block + at, rows[i].again, again);
		at = 0;
		box_open(true);
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
		connect_client();
		say(client, rows[i].ask);
		accept_upstream();
		turn(2);
		before = heap_now();
		for (int stuck = 0; stuck < 5;) {
			ssize_t n = send(client, block + at, whole - at, MSG_NOSIGNAL);

			at = n > 0 ? (at + (size_t)n) % whole : at;
			stuck = n < 0 ? stuck + 1 : 0;
			turn(2);
		}
		after = heap_now();
		print_message("row %zu: %zu bytes\n", i, after - before);
		assert_true(after <= before + BACKLOG_HIGH + 1024);
		box_close();
	}
}

/* Its memory for the next request has been given back. */
static bool is_trimmed(void)
{
	struct conn *c = container_of(seats[0].conns.next, struct conn, link);

	return c->head_limit.expired != NULL && list_empty(&c->head_limit.link);
}

/* Beside its structs, which are printed; of two connections the first one warms the slab. */
static void an_idle_connection_keeps_its_structs_only(void **state)
{
	struct codec *k;
	size_t codec, fixed, before, idle = 0;

	(void)state;
	box_open(true);
	before = heap_now();
	k = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);
	codec = heap_now() - before;
	codec_http1.close(k);
	fixed = sizeof(struct conn) + sizeof(struct upstream) + 2 * codec;
	for (int i = 0; i < 2; i++) {
		before = heap_now();
		connect_client();
		say(client, GET("/ok"));
		accept_upstream();
		say(server, OK2);
		assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
		for (int tries = 0; tries < 500 && !is_trimmed(); tries++)
			turn(2);
		idle = heap_now() - before;
		close(client);
		close(server);
		client = server = -1;
		for (int tries = 0; tries < 200 && !list_empty(&seats[0].conns); tries++)
			turn(2);
	}
	print_message("conn %zu, upstream %zu, codec %zu twice, exchange %zu (while one runs); "
		      "idle after a request: %td bytes beside them\n",
		      sizeof(struct conn), sizeof(struct upstream), codec, sizeof(struct exchange),
		      (ptrdiff_t)(idle - fixed));
	assert_true(idle <= fixed + 512);
	box_close();
}

static void what_comes_after_the_first_of_its_kind_allocates_nothing(void **state)
{
	static const char post[] = "POST /ok HTTP/1.1\r\nHost: h\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
	static const char *const asks[] = {GET("/ok"), post, GET("/denied")};
	int *near, *far;

	(void)state;
	box_open(true);
	connect_client();
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
			if (round > 0)
				failmalloc_at(0);
			say(client, asks[i]);
			if (server < 0)
				accept_upstream();
			if (i < 2) {
				turn(2);
				say(server, OK2);
			}
			assert_starts(heard(client), i < 2 ? "HTTP/1.1 200" : "HTTP/1.1 403");
			turn(2);
			if (round > 0)
				assert_int_equal(failmalloc_count(), 0);
		}
	box_close();
	open_stream(true, &near, &far); /* of any bytes */
	for (int round = 0; round < 20; round++) {
		if (round == 1)
			failmalloc_at(0);
		say(client, "ping");
		turn(2);
		assert_string_equal(heard(server), "ping");
		say(server, "pong");
		turn(2);
		assert_string_equal(heard(client), "pong");
	}
	assert_int_equal(failmalloc_count(), 0);
	box_close();
}

/* Sends all of it, turning the loop; how much was taken when nothing more is. */
static size_t push(int fd, const char *from, size_t len)
{
	size_t n = 0;

	for (int quiet = 0; n < len && quiet < 50; quiet++) {
		ssize_t sent = send(fd, from + n, len - n, MSG_NOSIGNAL);

		if (sent > 0) {
			n += (size_t)sent;
			quiet = 0;
		}
		turn(0);
	}
	return n;
}

/* Reads until nothing more comes; how much. */
static size_t pull(int fd)
{
	static char block[65536];
	size_t n = 0;

	for (int quiet = 0; quiet < 50; quiet++) {
		ssize_t got = recv(fd, block, sizeof block, 0);

		if (got > 0) {
			n += (size_t)got;
			quiet = 0;
		}
		turn(0);
	}
	return n;
}

/* Three connections whose servers do not read fill the buffers; another one goes on, 4 KiB at a
 * time. When the servers read, everything arrives. */
static void full_buffers_of_a_workload_hold_back_who_fills_them(void **state)
{
	static char block[64 << 20];
	int slow[3][2], quick[2];
	size_t sent[3], all;

	(void)state;
	box_open(false);
	worker.view->options.buffer_per_workload = 100000;
	for (int i = 0; i < 3; i++) {
		connect_client();
		server = -1;
		accept_upstream();
		slow[i][0] = client;
		slow[i][1] = server;
		sent[i] = push(client, block, sizeof block);
		assert_true(sent[i] < sizeof block);
	}
	all = node_buffered(&node);
	assert_true(all >= 100000 && all <= 100000 + BACKLOG_HIGH + READ_WHEN_FULL);
	assert_true(node_held_back(&node) > 0);
	connect_client();
	server = -1;
	accept_upstream();
	quick[0] = client;
	quick[1] = server;
	for (size_t n = 0; n < 40; n++) {
		assert_int_equal(push(quick[0], block, 10000), 10000);
		assert_int_equal(pull(quick[1]), 10000);
		assert_true(node_buffered(&node) < all + READ_WHEN_FULL);
		assert_int_equal(push(quick[1], block, 10000), 10000);
		assert_int_equal(pull(quick[0]), 10000);
	}
	for (int i = 0; i < 3; i++) {
		for (size_t got = 0; got < sent[i]; got += all) {
			all = pull(slow[i][1]);
			assert_true(all > 0); /* nobody was forgotten */
		}
		assert_int_equal(push(slow[i][0], "on", 2), 2);
		assert_int_equal(pull(slow[i][1]), 2);
	}
	assert_int_equal(node_buffered(&node), 0);
	for (int i = 0; i < 3; i++) {
		close(slow[i][0]);
		close(slow[i][1]);
	}
	box_close();
}

/* A server answers without having read, and the client has filled every buffer on the way: no edge
 * is left to come. It goes on being read. */
static void an_early_answer_leaves_nobody_hanging(void **state)
{
	static char block[64 << 20];
	size_t sent;

	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 67108864\r\n\r\n");
	accept_upstream();
	sent = push(client, block, sizeof block);
	assert_true(sent < sizeof block);
	for (size_t more = 1; more > 0; sent += more) { /* until TCP has nothing to try either */
		turn(150);
		more = push(client, block, sizeof block - sent);
	}
	assert_int_equal(send(server, OK2, strlen(OK2), 0), strlen(OK2));
	sent += push(client, block, sizeof block - sent);
	assert_int_equal(sent, sizeof block);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	assert_int_equal(newest(RECORD_REQUEST)->status, 200);
	box_close();
}

static void a_server_that_accepts_and_resets_at_once_is_heard(void **state)
{
	(void)state;
	box_open(false);
	connect_client(); /* without a turn: the dial is not known to have succeeded */
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	quietly(server, "no room");
	reset(&server);
	assert_string_equal(heard(client), "no room");
	assert_string_equal(heard(client), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_RESET_BY_DESTINATION);
	box_close();
}

static void who_resets_before_the_server_is_reached_is_heard_by_it(void **state)
{
	(void)state;
	box_open(false);
	asks_wait = true;
	connect_client();
	quietly(client, "last words");
	reset(&client);
	turn(2);
	assert_false(list_empty(&seats[0].conns));
	answer_ask(&worker);
	accept_upstream();
	assert_string_equal(heard(server), "last words");
	assert_string_equal(heard(server), "RST");
	assert_int_equal(newest(RECORD_CONNECTION)->reason, REASON_RESET_BY_SOURCE);
	box_close();
}

static void a_delay_lands_in_the_clock_of_its_place(void **state)
{
	const struct record *r;
	uint64_t before;

	(void)state;
	box_open(true);
	connect_client();
	say(client, "POST /ok HTTP/1.1\r\nHost: h\r\n");
	usleep(30000);
	say(client, "Content-Length: 2\r\n\r\n"); /* t_head */
	accept_upstream();
	usleep(40000);
	say(client, "hi"); /* t_body */
	usleep(50000);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"); /* t_wait */
	usleep(60000);
	say(server, "ok"); /* t_recv */
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	r = newest(RECORD_REQUEST);
	/* At least what was slept there; no upper bound, machines are noisy. */
	assert_true(r->t[CLOCK_OF_HEAD] >= 29000000);
	assert_true(r->t[CLOCK_OF_BODY] >= 39000000);
	assert_true(r->t[CLOCK_OF_WAIT] >= 49000000);
	assert_true(r->t[CLOCK_OF_RECV] >= 59000000);
	assert_true(record_proxy(r) > 0 && record_proxy(r) < record_total(r) / 2);
	before = r->start_time + record_total(r);
	usleep(100000); /* between two requests: neither's */
	say(client, GET("/ok"));
	heard(server);
	say(server, OK2);
	assert_starts(heard(client), "HTTP/1.1 200 OK\r\n");
	r = newest(RECORD_REQUEST);
	assert_true(r->reused);
	assert_true(r->start_time >= before + 95000000); /* it begins with its own first byte */
	box_close();
}

static void a_client_that_does_not_read_shows_in_t_flush_and_holds_back_the_server(void **state)
{
	static char block[65536];
	size_t sent = 0;
	ssize_t n;

	(void)state;
	box_open(true);
	connect_client();
	say(client, GET("/ok"));
	accept_upstream();
	heard(server);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
	for (int stuck = 0; stuck < 5;) {
		n = send(server, block, sizeof block, MSG_NOSIGNAL);
		stuck = n < 0 ? stuck + 1 : 0;
		sent += n > 0 ? (size_t)n : 0;
		turn(2);
	}
	assert_true(sent < 20000000); /* kernel buffers, not ours */
	assert_true(conn_backlog(container_of(seats[0].conns.next, struct conn, link)) <=
		    BACKLOG_HIGH + 1024);
	usleep(50000);
	turn(2);
	while ((n = recv(client, block, sizeof block, 0)) > 0)
		turn(1); /* it reads again: the server is let go on */
	assert_true(send(server, block, sizeof block, MSG_NOSIGNAL) > 0);
	close(client); /* a FIN first; what still comes for it is answered by an RST */
	client = -1;
	turn(5);
	(void)!send(server, block, sizeof block, MSG_NOSIGNAL);
	/* Its window may be shut: then the RST waits for a probe of the kernel's. */
	for (int tries = 0; tries < 300 && !list_empty(&seats[0].conns); tries++)
		turn(5);
	assert_true(list_empty(&seats[0].conns));
	assert_int_equal(newest(RECORD_REQUEST)->reason, REASON_RESET_BY_SOURCE);
	assert_true(newest(RECORD_REQUEST)->t[CLOCK_OF_FLUSH] > 45000000);
	box_close();
}

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

enum scenario {
	ANY_BYTES,
	REQUESTS,
	AN_UPGRADE,
	SCENARIOS,
};

/* Two requests on one connection, or one that becomes a tunnel; tolerant of every refusal. */
static void scenario(enum scenario which)
{
	const char *ask = which == AN_UPGRADE ? UPGRADE "up" : GET("/ok") GET("/no");
	const char *answer = which == AN_UPGRADE ? SWITCHED "down" : OK2;
	char text[4096];
	ssize_t n;

	connect_client();
	if (send(client, ask, strlen(ask), MSG_NOSIGNAL) < 0)
		return; /* a refusal, which is told once */
	for (int i = 0; i < 20; i++) {
		turn(0);
		if (server < 0)
			server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (server >= 0 && recv(server, text, sizeof text, 0) > 0)
			(void)!send(server, answer, strlen(answer), MSG_NOSIGNAL);
		n = recv(client, text, sizeof text, 0);
		/* a failure of an opaque stream is never a FIN */
		assert_true(n != 0 || which != ANY_BYTES);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
	}
	if (which != REQUESTS)
		shutdown(client, SHUT_WR);
	turn(1);
}

static void each_allocation_that_fails_ends_in_an_answer_or_a_close(void **state)
{
	unsigned before = open_descriptors();

	(void)state;
	for (int which = 0; which < SCENARIOS; which++)
		for (unsigned n = 1;; n++) {
			bool hit;

			box_open(which != ANY_BYTES);
			failmalloc_at(n);
			scenario((enum scenario)which);
			hit = failmalloc_hit();
			failmalloc_at(0);
			box_close(); /* asserts that nothing is left */
			assert_int_equal(open_descriptors(), before);
			if (!hit) {
				assert_true(n > 5);
				break;
			}
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_forwarded_answered_and_recorded),
		cmocka_unit_test(a_refused_request_has_no_upstream_and_leaves_its_siblings_alone),
		cmocka_unit_test(a_refused_upload_is_dropped_but_not_for_ever),
		cmocka_unit_test(an_upload_goes_on_behind_an_early_answer),
		cmocka_unit_test(a_fin_inside_a_request_is_the_clients_end),
		cmocka_unit_test(a_body_that_is_malformed_ends_its_request),
		cmocka_unit_test(whatever_follows_a_malformed_head_is_not_recorded),
		cmocka_unit_test(an_answer_that_is_cut_is_passed_on_as_cut),
		cmocka_unit_test(an_upstream_that_closes_before_its_answer_is_502),
		cmocka_unit_test(an_answer_that_is_no_http_is_502),
		cmocka_unit_test(what_a_server_says_unasked_answers_nothing),
		cmocka_unit_test(what_lies_unread_at_a_server_does_not_answer_the_next_request),
		cmocka_unit_test(an_upstream_that_resets_before_its_answer_is_502),
		cmocka_unit_test(after_an_upgrade_any_bytes_go_both_ways),
		cmocka_unit_test(a_fin_behind_an_upgrade_is_passed_on),
		cmocka_unit_test(an_upgrade_that_no_rule_allows_is_403),
		cmocka_unit_test(requests_sent_ahead_are_limited),
		cmocka_unit_test(a_body_that_comes_too_slowly_is_408),
		cmocka_unit_test(only_the_clients_own_slowness_counts),
		cmocka_unit_test(a_response_that_does_not_begin_in_time_is_504),
		cmocka_unit_test(only_a_server_whose_turn_it_is_is_hurried),
		cmocka_unit_test(a_connect_waits_for_its_server),
		cmocka_unit_test(a_kept_connection_closes_when_its_other_leg_does),
		cmocka_unit_test(a_head_that_never_ends_is_408),
		cmocka_unit_test(one_connection_too_many_is_refused_and_recorded),
		cmocka_unit_test(a_workload_leaves_room_for_others_and_together_they_get_all),
		cmocka_unit_test(whoever_has_no_destination_is_reset),
		cmocka_unit_test(of_too_many_unfinished_heads_the_oldest_is_408),
		cmocka_unit_test(whom_policy_denies_as_a_connection_is_reset),
		cmocka_unit_test(a_kept_connection_that_goes_stale_ends_as_without_us),
		cmocka_unit_test(a_pipelined_request_finds_a_new_upstream_when_the_old_one_closed),
		cmocka_unit_test(an_upstream_that_does_not_read_holds_back_the_client),
		cmocka_unit_test(a_client_that_half_closed_and_then_reset_is_noticed),
		cmocka_unit_test(a_dial_that_fails_at_once_leaves_nothing_to_write_to),
		cmocka_unit_test(a_pipelined_request_waits_without_a_spin),
		cmocka_unit_test(a_held_head_that_never_ends_has_its_limit_too),
		cmocka_unit_test(a_slow_client_gets_all_of_a_last_answer),
		cmocka_unit_test(out_of_descriptors_passes_by_itself),
		cmocka_unit_test(near_the_end_of_the_descriptors_all_are_refused_at_once),
		cmocka_unit_test(an_opaque_stream_half_closes_either_way),
		cmocka_unit_test(an_idle_connection_ends_by_a_fin_when_the_daemon_stops),
		cmocka_unit_test(an_idle_connection_that_was_closed_meanwhile_ends_too),
		cmocka_unit_test(a_request_has_its_whole_answer_when_the_daemon_stops),
		cmocka_unit_test(a_head_that_has_begun_is_served_when_the_daemon_stops),
		cmocka_unit_test(who_was_just_accepted_is_served_once_when_the_daemon_stops),
		cmocka_unit_test(what_came_before_the_daemon_stops_is_served),
		cmocka_unit_test(an_opaque_stream_goes_on_while_the_daemon_stops),
		cmocka_unit_test(every_connection_of_every_seat_is_asked_to_end),
		cmocka_unit_test(those_who_wait_are_accepted_when_the_daemon_stops),
		cmocka_unit_test(the_destination_is_whom_connect_knew),
		cmocka_unit_test(what_came_before_a_reset_is_passed_on),
		cmocka_unit_test(a_reset_that_a_write_meets_first_is_still_a_reset),
		cmocka_unit_test(a_reset_behind_a_fin_comes_behind_it),
		cmocka_unit_test(who_reads_nothing_is_told_of_a_reset),
		cmocka_unit_test(a_stream_that_fails_with_bytes_waiting_ends_by_a_reset),
		cmocka_unit_test(who_reads_nothing_costs_64_kib_in_each_direction),
		cmocka_unit_test(what_nobody_takes_costs_64_kib),
		cmocka_unit_test(an_idle_connection_keeps_its_structs_only),
		cmocka_unit_test(what_comes_after_the_first_of_its_kind_allocates_nothing),
		cmocka_unit_test(full_buffers_of_a_workload_hold_back_who_fills_them),
		cmocka_unit_test(an_early_answer_leaves_nobody_hanging),
		cmocka_unit_test(a_server_that_accepts_and_resets_at_once_is_heard),
		cmocka_unit_test(who_resets_before_the_server_is_reached_is_heard_by_it),
		cmocka_unit_test(a_delay_lands_in_the_clock_of_its_place),
		cmocka_unit_test(
			a_client_that_does_not_read_shows_in_t_flush_and_holds_back_the_server),
		cmocka_unit_test(each_allocation_that_fails_ends_in_an_answer_or_a_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
