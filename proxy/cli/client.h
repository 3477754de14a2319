/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the daemon: HTTP/1.1 over its admin socket, blocking, one request per connection.
 */
#ifndef SHUNT_CLIENT_H
#define SHUNT_CLIENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>

#include "config/text.h"

struct client_answer {
	unsigned status; /* 200 ... */
	struct text body; /* text_free() it */
};

/* Asks and waits for the whole answer, each step for at most `seconds` (0: for ever).
 * Returns 0, or -errno when there was no whole answer; nothing is printed. */
__attribute__((warn_unused_result)) int client_ask(const char *method, const char *target,
						   unsigned seconds, struct client_answer *out);

/* The same for an answer that is a JSON object which has `member`: CLI_OK with both set
 * (text_free(), cJSON_Delete()), or CLI_UNREACHABLE, and then it has said why. */
__attribute__((warn_unused_result)) int client_json(const char *method, const char *target,
						    unsigned seconds, const char *member,
						    struct client_answer *out, cJSON **json);

/* The same for an answer that is lines and may not end: gives each, without its newline and
 * ended by NUL, to `line` until that returns false (then 0) or the answer ends. */
__attribute__((warn_unused_result)) int client_lines(const char *target, unsigned seconds,
						     bool (*line)(void *arg, const char *text),
						     void *arg, unsigned *status);

/* Adds KEY=VALUE to the query of a target, percent-encoded; '?' or '&' before it. */
void client_query(struct text *target, const char *key, const char *value);

/* Says on stderr what came of it and what to do. Both return CLI_UNREACHABLE. */
int client_complain(int err);
int client_refused(const struct client_answer *answer);

/* A member of an answer; "" when it is missing or no string. Not yet safe to print. */
const char *client_string(const cJSON *object, const char *key);

/* Each finding of the array (may be NULL) as file:line:column: level: text, and below it the
 * line that is meant. */
void client_print_findings(FILE *out, const cJSON *findings);

/* Does this error mean that no daemon is there? */
bool client_nobody(int err);

#endif
