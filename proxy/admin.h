/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 for people and scrapers, served by the control thread's uv loop: the admin socket
 * (<run-dir>/admin.sock, peer credentials checked: root or the daemon's own user) and the
 * metrics address. Requests are small, answers are whole; slow or hostile clients are bounded
 * (64 connections each, 10 s).
 */
#ifndef SHUNT_ADMIN_H
#define SHUNT_ADMIN_H

#include <uv.h>

#include "config/text.h"

struct admin;

/* A verb: fills `body` (its content type is `type`) and returns the HTTP status. `query` is
 * what follows '?', or "". */
struct admin_route {
	const char *method;
	const char *path;
	const char *type; /* "application/json" ... */
	unsigned (*handle)(void *arg, const char *query, struct text *body);
	/* Instead of handle: takes the connected socket over (non-blocking, after the response
	 * head was sent: 200, Connection: close) and owns it. */
	void (*take)(void *arg, const char *query, int fd);
};

/* The value of `key` in a query (a=1&b=2) as a number, or `fallback`. */
unsigned admin_query_unsigned(const char *query, const char *key, unsigned fallback);

/* Hands out every key and value of a query, percent-decoded in place: `query` is written. */
void admin_query_each(char *query, void (*take)(void *arg, char *key, char *value), void *arg);

/* Serves `routes` (borrowed; ends with a row of NULLs) on a Unix socket or on ADDRESS:PORT.
 * An old socket file is replaced when nobody answers on it; a live one gives -EADDRINUSE. */
__attribute__((warn_unused_result)) int admin_listen_unix(uv_loop_t *loop, const char *path,
							  const struct admin_route *routes,
							  void *arg, struct admin **out);
__attribute__((warn_unused_result)) int admin_listen_tcp(uv_loop_t *loop, const char *address,
							 const struct admin_route *routes,
							 void *arg, struct admin **out);
/* Closes listener and connections; the handles are gone once the loop has run. */
void admin_close(struct admin *a);

#endif
