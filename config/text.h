/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds text piece by piece, without stdio: pure files may not have it. A text either
 * grows (zeroed to begin with, `text_free` at the end) or stays in a buffer of the caller's
 * (text_fixed), where it is cut at a character's boundary once full.
 *
 * Running out of memory is remembered in `failed` and asked once, at the end.
 */
#ifndef SHUNT_CONFIG_TEXT_H
#define SHUNT_CONFIG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "proxy/codec/message.h"

struct text {
	char *p; /* always ends with NUL once anything was added; NULL before */
	size_t len; /* without the NUL */
	size_t size;
	bool fixed;
	bool failed; /* growing: memory was short; fixed: it was cut */
};

/* `size` is at least 1 and counts the NUL. */
void text_fixed(struct text *t, char *buf, size_t size);
void text_free(struct text *t); /* of a growing text */

void text_add(struct text *t, const char *s);
void text_add_n(struct text *t, const char *p, size_t n);
void text_add_slice(struct text *t, struct slice s);
void text_add_char(struct text *t, char c);
void text_add_number(struct text *t, uint64_t n);
/* Several strings, ended by NULL. */
void text_adds(struct text *t, ...) __attribute__((sentinel));
/* As a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void text_add_json(struct text *t, const char *p, size_t n);

void text_add_json_string(struct text *t, const char *s); /* NULL adds null */
void text_add_json_slice(struct text *t, struct slice s);
/* IPv4 as a.b.c.d, IPv6 as RFC 5952; with a port (network order) a.b.c.d:p or [v6]:p. */
void text_add_address(struct text *t, const struct addr16 *ip);
void text_add_endpoint(struct text *t, const struct addr16 *ip, uint16_t port_net);

/* For what is written often: room for `n` bytes more of a growing text, and where they go; NULL
 * when it failed. text_commit() takes the end of what was written there. */
char *text_reserve(struct text *t, size_t n);
void text_commit(struct text *t, char *end);

/* The same pieces, to where the caller has made room for the most that they can be. Each
 * returns the end of what it wrote, without a NUL. */
#define TEXT_NUMBER_MAX 20U
#define TEXT_ENDPOINT_MAX 53U /* [ffff:...:ffff]:65535, ::255.255.255.255 is shorter */
#define TEXT_JSON_MAX(n) (2 + 6 * (n))
char *text_put_number(char *to, uint64_t n);
char *text_put_json(char *to, struct slice s);
char *text_put_address(char *to, const struct addr16 *ip);
char *text_put_endpoint(char *to, const struct addr16 *ip, uint16_t port_net);

bool text_failed(const struct text *t);
/* Hands the string of a growing text over (free() it; "" when empty) and empties `t`; NULL
 * when it failed. */
char *text_take(struct text *t);

/* Never NULL; valid until the next change. */
const char *text_string(const struct text *t);

/* Length of the well-formed UTF-8 character at p (n > 0 bytes left), or 0. */
size_t text_utf8(const char *p, size_t n);

#endif
