/* SPDX-License-Identifier: Apache-2.0 */
/* Explicit listeners: see explicit.h. */
#include "proxy/explicit.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/addr.h"
#include "proxy/log.h"

#define BACKLOG 4096

static const char *place_of(const struct explicit *p, struct text *t)
{
	text_add_endpoint(t, &p->at.ip, p->at.port);
	return text_string(t);
}

static int listen_at(const struct endpoint *at)
{
	struct sockaddr_storage sa;
	socklen_t len = endpoint_to_sockaddr(at, &sa);
	int fd = netns_socket_here(sa.ss_family);
	int on = 1, err;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (sa.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static struct explicit *explicit_new(const struct fleet_listener *l)
{
	struct explicit *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		p->enrolled.listeners[kind] = -1;
	p->enrolled.netns_fd = -1;
	p->at = l->at;
	p->upstream = l->upstream;
	p->enrolled.upstream = &p->upstream;
	p->namespace = strdup(l->workload->namespace);
	p->name = strdup(l->workload->name);
	if (p->namespace != NULL && p->name != NULL)
		return p;
	free(p->namespace);
	free(p->name);
	free(p);
	return NULL;
}

/* 0, and it accepts; or -errno. */
static int explicit_open(struct explicit *p, struct enrollment *e, struct node *node)
{
	int fd = listen_at(&p->at);
	int err;

	if (fd < 0)
		return fd;
	err = enroll_index_take(e, &p->enrolled);
	if (err < 0) {
		close(fd);
		return err;
	}
	p->enrolled.listeners[LISTENER_INGRESS4] = fd;
	err = enroll_seat(node, &p->enrolled);
	if (err == 0)
		return 0;
	p->enrolled.listeners[LISTENER_INGRESS4] = -1;
	close(fd);
	enroll_index_give(e, &p->enrolled);
	return err;
}

static void explicit_close(struct explicit *p, struct enrollment *e, struct node *node,
			   enum reason why)
{
	if (p->err == 0) {
		enroll_unseat(node, &p->enrolled, why);
		if (p->enrolled.listeners[LISTENER_INGRESS4] >= 0)
			close(p->enrolled.listeners[LISTENER_INGRESS4]);
		enroll_index_give(e, &p->enrolled);
	}
	free(p->namespace);
	free(p->name);
	free(p);
}

static bool is_named(const struct explicit *p, const struct fleet_listener *l)
{
	return memcmp(&p->at, &l->at, sizeof p->at) == 0 &&
	       memcmp(&p->upstream, &l->upstream, sizeof p->upstream) == 0 &&
	       strcmp(p->namespace, l->workload->namespace) == 0 &&
	       strcmp(p->name, l->workload->name) == 0;
}

static const struct fleet_listener *named_by(const struct explicit *p, const struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->listener_count; i++)
		if (is_named(p, &fleet->listeners[i]))
			return &fleet->listeners[i];
	return NULL;
}

static struct explicit *explicit_find(const struct explicits *x, const struct fleet_listener *l)
{
	struct explicit *p = x->first;

	while (p != NULL && !is_named(p, l))
		p = p->next;
	return p;
}

static void explicit_try(struct explicits *x, struct explicit *p, struct enrollment *e,
			 struct node *node, bool news)
{
	int before = p->err, err = explicit_open(p, e, node);
	struct text t = {0};

	p->err = -err;
	x->failed += err < 0;
	if (err == 0)
		log_info("listener %s: open, for %s/%s; not captured traffic: clients dial it",
			 place_of(p, &t), p->namespace, p->name);
	else if (news || before != p->err)
		log_errx("listener %s: %s", place_of(p, &t), strerror(-err));
	text_free(&t);
}

void explicits_apply(struct explicits *x, struct enrollment *e, struct node *node,
		     const struct fleet *fleet)
{
	struct explicit **at = &x->first;

	while (*at != NULL) {
		struct explicit *p = *at;

		if (named_by(p, fleet) != NULL) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		explicit_close(p, e, node, REASON_WORKLOAD_GONE);
		x->count--;
	}
	x->failed = 0;
	for (struct explicit *p = x->first; p != NULL; p = p->next)
		if (p->err != 0)
			explicit_try(x, p, e, node, false);
	for (size_t i = 0; i < fleet->listener_count; i++) {
		struct explicit *p;

		if (explicit_find(x, &fleet->listeners[i]) != NULL)
			continue;
		p = explicit_new(&fleet->listeners[i]);
		if (p == NULL) {
			x->failed++;
			continue;
		}
		p->next = x->first;
		x->first = p;
		x->count++;
		explicit_try(x, p, e, node, true);
	}
}

int explicits_directory(const struct explicits *x, struct directory *d, const struct fleet *fleet)
{
	int err = 0;

	for (const struct explicit *p = x->first; p != NULL && err == 0; p = p->next) {
		const struct fleet_listener *l = named_by(p, fleet);
		struct card *card = l != NULL && p->err == 0 ? card_new(l->workload) : NULL;
		const struct addr16 none = {{0}};

		if (l == NULL || p->err != 0)
			continue;
		err = card == NULL ? -ENOMEM
				   : directory_add_local(d, p->enrolled.index,
							 l->workload->identity, &none, card);
		card_unref(card);
	}
	return err;
}

void explicits_drain(struct explicits *x)
{
	for (struct explicit *p = x->first; p != NULL; p = p->next) {
		int *fd = &p->enrolled.listeners[LISTENER_INGRESS4];

		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

void explicits_close(struct explicits *x, struct enrollment *e, struct node *node)
{
	while (x->first != NULL) {
		struct explicit *p = x->first;

		x->first = p->next;
		explicit_close(p, e, node, REASON_SHUTDOWN);
	}
	x->count = 0;
}
