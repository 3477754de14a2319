/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listeners: [{address, port, workload, upstream}] of shunt.yaml: sockets that the daemon opens
 * by itself, and whose connections it judges as arrivals at a workload.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"

#define LISTENERS_MAX 1024

static bool address_read(struct load *l, const struct yaml_node *n, struct addr16 *out)
{
	const char *s = read_string(l, n);

	if (s == NULL)
		return false;
	if (address_parse(s, out))
		return true;
	report_error(&l->report, n->at, "'", s, "' is not an IP address", NULL);
	return false;
}

static void endpoint_set(struct endpoint *e, struct addr16 ip, uint16_t port)
{
	bool v4 = ip.word[0] == 0 && ip.word[1] == 0 && ip.word[2] == htonl(0xffff);

	*e = (struct endpoint){.ip = ip, .port = htons(port), .family = v4 ? AF_INET : AF_INET6};
}

static bool port_parse(const char *s, unsigned *out)
{
	unsigned n = 0;

	for (; *s >= '0' && *s <= '9' && n <= 65535; s++)
		n = n * 10 + (unsigned)(*s - '0');
	*out = n;
	return *s == '\0' && n >= 1 && n <= 65535;
}

/* ADDRESS:PORT or [IPv6]:PORT */
static bool upstream_parse(const char *s, struct endpoint *out)
{
	const char *colon = strrchr(s, ':');
	char host[64];
	struct addr16 ip;
	unsigned port;
	size_t n;

	if (colon == NULL || !port_parse(colon + 1, &port))
		return false;
	n = (size_t)(colon - s);
	if (n == 0 || n >= sizeof(host))
		return false;
	memcpy(host, s, n);
	host[n] = '\0';
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		memmove(host, host + 1, n - 1);
	} else if (strchr(host, ':') != NULL) {
		return false; /* which colon ends the address? */
	}
	if (!address_parse(host, &ip))
		return false;
	endpoint_set(out, ip, (uint16_t)port);
	return true;
}

static void read_upstream(struct load *l, const struct yaml_node *n, struct listener_document *d)
{
	const char *s = read_string(l, n);

	if (s != NULL && !upstream_parse(s, &d->upstream))
		report_error(&l->report, n->at, "upstream '", s,
			     "' is not ADDRESS:PORT or [IPv6]:PORT", NULL);
}

/* NAMESPACE/NAME, or a name of the namespace `default`. */
static void read_workload(struct load *l, const struct yaml_node *n, struct listener_document *d)
{
	const char *s = read_string(l, n), *slash;

	if (s == NULL)
		return;
	slash = strchr(s, '/');
	d->workload_at = n->at;
	d->name = slash != NULL ? slash + 1 : s;
	d->namespace = slash != NULL ? arena_copy(&l->arena, s, (size_t)(slash - s)) : "default";
	if (d->namespace == NULL)
		return;
	if (!name_valid(d->name, 253) || !name_valid(d->namespace, 63)) {
		report_error(&l->report, n->at, "'", s, "' is not NAMESPACE/NAME of a workload",
			     NULL);
		d->name = NULL;
	}
}

static const struct yaml_node *need(struct load *l, const struct yaml_node *n, const char *field)
{
	const struct yaml_node *child = yaml_get(n, field);

	if (child == NULL)
		report_error(&l->report, n->at, "a listener needs '", field, "'", NULL);
	return child;
}

static void read_one(struct load *l, const struct yaml_node *n)
{
	struct listener_document *d = arena_alloc(&l->arena, sizeof(*d));
	const struct yaml_node *address, *port, *workload, *upstream;
	struct addr16 ip;
	uint16_t number = 0;
	bool good;

	if (d == NULL || !schema_check(&l->report, n, schema_listener))
		return;
	address = need(l, n, "address");
	port = need(l, n, "port");
	workload = need(l, n, "workload");
	upstream = need(l, n, "upstream");
	if (address == NULL || port == NULL || workload == NULL || upstream == NULL)
		return;
	good = address_read(l, address, &ip);
	good = read_port(l, port, &number) && good;
	read_workload(l, workload, d);
	read_upstream(l, upstream, d);
	if (!good || d->name == NULL)
		return;
	endpoint_set(&d->at, ip, number);
	d->where = n->at;
	d->next = l->listeners;
	l->listeners = d;
	l->listener_count++;
}

void read_listeners(struct load *l, const struct yaml_node *n)
{
	if (n == NULL || !read_is_list(l, n))
		return;
	if (n->count > LISTENERS_MAX) {
		report_error(&l->report, n->at, "more than 1024 listeners", NULL);
		return;
	}
	for (const struct yaml_node *c = n->first; c != NULL; c = c->next)
		read_one(l, c);
}

/* ---- together with the documents ---- */

static bool same_place(const struct listener_document *a, const struct listener_document *b)
{
	return memcmp(&a->at, &b->at, sizeof(a->at)) == 0;
}

static bool workload_exists(const struct load *l, const struct listener_document *d)
{
	for (const struct workload_document *w = l->workloads; w != NULL; w = w->next)
		if (strcmp(w->name, d->name) == 0 && strcmp(w->namespace, d->namespace) == 0)
			return true;
	return false;
}

void check_listeners(struct load *l)
{
	char place[320];

	for (const struct listener_document *d = l->listeners; d != NULL; d = d->next) {
		if (!workload_exists(l, d))
			report_error(&l->report, d->workload_at, "no Workload document names ",
				     d->namespace, "/", d->name, NULL);
		for (const struct listener_document *e = d->next; e != NULL; e = e->next)
			if (same_place(d, e))
				report_error(
					&l->report, d->where,
					"this address and port are also those of the listener at ",
					report_place(e->where, place, sizeof(place)), NULL);
	}
}
