/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which a backend may read the path of a request. A rule that restricts the
 * path has to hold for each of them; the request itself is forwarded as received.
 *
 *	raw      as received
 *	normal   escapes of unreserved characters decoded once, dot segments removed (RFC 3986 6.2.2)
 *	lenient  every escape decoded, up to three times over; `\` is `/`; slashes merged; dot
 *	         segments removed
 *
 * The query (from the first `?` of the target) is not read but kept behind each reading.
 */
#ifndef SHUNT_PATH_READINGS_H
#define SHUNT_PATH_READINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/codec/message.h"

#define PATH_READING_MAX 16384U /* bytes of a target; the codec's own limit */

struct path_readings { /* 32 KiB: on the stack, not to be cleared */
	/* 1: the others are equal to raw, because nothing in the path invites another reading;
	 * else 3, by enum reading (proxy/policy.h). */
	unsigned count;
	struct slice item[3]; /* p == NULL: there is no such reading, no path rule may allow it */
	char normal[PATH_READING_MAX];
	char lenient[PATH_READING_MAX];
};

/* Slices in *out point into `path` and *out. */
void path_readings_make(struct path_readings *out, struct slice path);

#endif
