/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hop that shows itself writes into the heads that it passes on, where shunt.yaml asks
 * for it: Via and Max-Forwards (RFC 9110 7.6.2, 7.6.3), Forwarded (RFC 7239) or X-Forwarded-*.
 * Pure.
 */
#ifndef SHUNT_FORWARDING_H
#define SHUNT_FORWARDING_H

#include "bpf/abi.h"
#include "config/snapshot.h"
#include "config/text.h"
#include "proxy/codec/message.h"

#define FORWARDING_ADDED 6 /* fields, at most */

struct forwarding {
	struct message head; /* borrows from the message it was made from, and from this struct */
	struct field added[FORWARDING_ADDED];
	const char *without[FORWARDING_ADDED + 1];
	char *text; /* of the values; owned */
	char hops[20];
};

/* Are the heads of requests changed at all? */
bool forwarding_is_on(const struct options *o);

/* Fills f->head with `head` as it is to be passed on: `client` sent it to `port` (network
 * order). Returns 0 or -ENOMEM; forwarding_free() in both cases. */
__attribute__((warn_unused_result)) int
forwarding_request(struct forwarding *f, const struct message *head, const struct options *o,
		   const struct addr16 *client, uint16_t port);
void forwarding_free(struct forwarding *f);

/* The trailers of such a request, in *out, which borrows from them. */
void forwarding_trailers(struct message *out, const struct message *trailers,
			 const struct options *o);

/* The response `head` with Via, in *out, which borrows from it. */
void forwarding_response(struct message *out, const struct message *head);

/* Is an OPTIONS or TRACE to go no further (Max-Forwards: 0)? */
bool forwarding_ends_here(const struct options *o, const struct message *head);

/* The content of the answer to a TRACE: the request as it was understood, without its secrets
 * (RFC 9110 9.3.8). */
void forwarding_trace(struct text *to, const struct message *head);

#endif
