/* SPDX-License-Identifier: Apache-2.0 */
/* What a hop that shows itself writes: see forwarding.h. */
#include "proxy/forwarding.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOPS_MAX UINT64_C(2147483647) /* that we count; RFC 9110 7.6.2 lets a hop have one */

static struct slice text_slice(const char *s)
{
	return (struct slice){s, strlen(s)};
}

/* Names that say who the client is: what it wrote itself must not be taken for our word, in
 * whichever of the two dialects. */
static const char *const claims[] = {
	"forwarded",	    "x-forwarded-for",	"x-forwarded-proto",
	"x-forwarded-host", "x-forwarded-port", NULL,
};

static const struct field via[] = {
	{{"Via", 3}, {"1.1 shunt", 9}},
	{{"Via", 3}, {"1.0 shunt", 9}},
};

static const struct field *via_of(const struct message *head)
{
	return &via[head->version == MESSAGE_HTTP10];
}

bool forwarding_is_on(const struct options *o)
{
	return o->via || o->forwarded != FORWARDED_OFF;
}

/* The hops that `head` may still make: true, or false when it does not say so, or not clearly. */
static bool read_hops(const struct message *head, uint64_t *hops)
{
	struct slice value = message_field(head, "max-forwards");

	if (value.len == 0 ||
	    (!slice_is(head->method, "OPTIONS") && !slice_is(head->method, "TRACE")))
		return false;
	*hops = 0;
	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
		*hops = *hops * 10 + (uint64_t)(value.p[i] - '0');
		if (*hops > HOPS_MAX)
			*hops = HOPS_MAX;
	}
	return true;
}

bool forwarding_ends_here(const struct options *o, const struct message *head)
{
	uint64_t hops;

	return o->via && read_hops(head, &hops) && hops == 0;
}

static void add(struct forwarding *f, const char *name, struct slice value)
{
	f->added[f->head.added_count++] = (struct field){text_slice(name), value};
}

static void add_hops(struct forwarding *f, const struct message *head)
{
	struct text t;
	uint64_t hops;

	if (!read_hops(head, &hops) || hops == 0)
		return;
	text_fixed(&t, f->hops, sizeof f->hops);
	text_add_number(&t, hops - 1);
	f->without[0] = "max-forwards";
	add(f, "Max-Forwards", (struct slice){f->hops, t.len});
}

/* for=192.0.2.1;proto=http;host="a:80". IPv6 has to be in brackets and quotes (RFC 7239 6);
 * no byte of an authority needs a backslash. */
static void put_forwarded(struct text *t, const struct message *head, const struct addr16 *client)
{
	char buf[INET6_ADDRSTRLEN];
	struct text address;
	bool v6;

	text_fixed(&address, buf, sizeof buf);
	text_add_address(&address, client);
	v6 = strchr(buf, ':') != NULL;
	text_adds(t, v6 ? "for=\"[" : "for=", buf, v6 ? "]\"" : "", ";proto=http", NULL);
	if (head->authority.len != 0) {
		text_add(t, ";host=\"");
		text_add_slice(t, head->authority);
		text_add_char(t, '"');
	}
}

static int add_claims(struct forwarding *f, const struct message *head, const struct options *o,
		      const struct addr16 *client, uint16_t port)
{
	struct text t = {0};
	size_t address;
	size_t n = f->without[0] != NULL;

	for (size_t i = 0; claims[i] != NULL; i++)
		f->without[n++] = claims[i];
	if (o->forwarded == FORWARDED_STANDARD) {
		put_forwarded(&t, head, client);
		address = t.len;
	} else {
		text_add_address(&t, client);
		address = t.len;
		text_add_number(&t, ntohs(port));
	}
	f->text = text_take(&t);
	if (f->text == NULL)
		return -ENOMEM;
	if (o->forwarded == FORWARDED_STANDARD) {
		add(f, "Forwarded", (struct slice){f->text, address});
		return 0;
	}
	add(f, "X-Forwarded-For", (struct slice){f->text, address});
	add(f, "X-Forwarded-Proto", text_slice("http"));
	if (head->authority.len != 0)
		add(f, "X-Forwarded-Host", head->authority);
	add(f, "X-Forwarded-Port", text_slice(f->text + address));
	return 0;
}

int forwarding_request(struct forwarding *f, const struct message *head, const struct options *o,
		       const struct addr16 *client, uint16_t port)
{
	*f = (struct forwarding){.head = *head};
	f->head.added = f->added;
	f->head.without = f->without;
	if (o->via) {
		add_hops(f, head);
		f->added[f->head.added_count++] = *via_of(head);
	}
	return o->forwarded == FORWARDED_OFF ? 0 : add_claims(f, head, o, client, port);
}

void forwarding_trailers(struct message *out, const struct message *trailers,
			 const struct options *o)
{
	*out = *trailers;
	if (o->forwarded != FORWARDED_OFF)
		out->without = claims;
}

void forwarding_free(struct forwarding *f)
{
	free(f->text);
	f->text = NULL;
}

void forwarding_response(struct message *out, const struct message *head)
{
	*out = *head;
	out->added = via_of(head);
	out->added_count = 1;
}

void forwarding_trace(struct text *to, const struct message *head)
{
	static const char *const secrets[] = {"authorization", "proxy-authorization", "cookie"};

	text_add_slice(to, head->method);
	text_add_char(to, ' ');
	text_add_slice(to, head->target);
	text_add(to, head->version == MESSAGE_HTTP10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
	for (size_t i = 0; i < head->field_count; i++) {
		struct field f = message_nth(head, i);
		bool secret = false;

		for (size_t n = 0; n < sizeof secrets / sizeof secrets[0]; n++)
			secret = secret || slice_is_nocase(f.name, secrets[n]);
		if (secret)
			continue;
		text_add_slice(to, f.name);
		text_add(to, ": ");
		text_add_slice(to, f.value);
		text_add(to, "\r\n");
	}
	text_add(to, "\r\n");
}
