/* SPDX-License-Identifier: Apache-2.0 */
/* exclude: {ports: [...], cidrs: [...]}, of the mesh, a namespace or a workload. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "config/text.h"

struct cidr_entry {
	struct cidr cidr;
	struct location at;
};

/* ---- ports ---- */

static void read_ports(struct load *l, const struct yaml_node *list, struct exclusion *out)
{
	struct port_entry *all;
	uint16_t *ports;
	size_t n = 0;

	if (list == NULL || !read_is_list(l, list))
		return;
	if (list->count > LIST_MAX) {
		report_error(&l->report, list->at, "more than 1024 ports in one list", NULL);
		return;
	}
	all = arena_array(&l->arena, list->count, sizeof(*all));
	ports = arena_array(&l->arena, list->count, sizeof(*ports));
	if (all == NULL || ports == NULL)
		return;
	for (const struct yaml_node *c = list->first; c != NULL; c = c->next) {
		all[n].at = c->at;
		if (read_port(l, c, &all[n].port))
			n++;
	}
	n = ports_sort(l, all, n);
	for (size_t i = 0; i < n; i++)
		ports[i] = all[i].port;
	out->ports = ports;
	out->port_count = n;
}

/* ---- networks ---- */

static bool is_v4(const struct addr16 *ip)
{
	return ip->word[0] == 0 && ip->word[1] == 0 && ip->word[2] == htonl(0xffff);
}

/* Clears the bits behind the length; true when there were any. */
static bool cidr_mask(struct cidr *c)
{
	unsigned char *b = (unsigned char *)&c->ip;
	bool had = false;

	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = c->bits <= i * 8 ? 0 : c->bits - i * 8;
		unsigned char mask = (unsigned char)(keep >= 8 ? 0 : 0xff >> keep);

		had |= (b[i] & mask) != 0;
		b[i] &= (unsigned char)~mask;
	}
	return had;
}

/* The length behind the slash: digits without a zero in front. */
static bool length_parse(const char *s, unsigned max, unsigned *out)
{
	unsigned n = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9' && n <= max; p++)
		n = n * 10 + (unsigned)(*p - '0');
	*out = n;
	return p > s && *p == '\0' && n <= max && (s[0] != '0' || s[1] == '\0');
}

/* ADDRESS or ADDRESS/LENGTH, bits behind the length included. */
static bool cidr_parse(const char *s, struct cidr *out)
{
	const char *slash = strchr(s, '/');
	size_t n = slash == NULL ? strlen(s) : (size_t)(slash - s);
	unsigned char b[16] = {[10] = 0xff, [11] = 0xff};
	char host[INET6_ADDRSTRLEN];
	bool v4;

	if (n >= sizeof(host))
		return false;
	memcpy(host, s, n);
	host[n] = '\0';
	v4 = inet_pton(AF_INET, host, b + 12) == 1;
	if (!v4 && inet_pton(AF_INET6, host, b) != 1)
		return false;
	memcpy(&out->ip, b, sizeof(b));
	out->bits = v4 ? 32 : 128;
	if (slash != NULL && !length_parse(slash + 1, out->bits, &out->bits))
		return false;
	out->bits += v4 ? 96 : 0;
	return true;
}

/* As it is written: IPv4 with its own length. */
static const char *cidr_print(const struct cidr *c, char *buf, size_t size)
{
	bool v4 = is_v4(&c->ip) && c->bits >= 96;
	struct text t;

	text_fixed(&t, buf, size);
	text_add_address(&t, &c->ip);
	text_add_char(&t, '/');
	text_add_number(&t, v4 ? c->bits - 96 : c->bits);
	return buf;
}

/* An IPv6 network that all of IPv4 lies in, as ::ffff:a.b.c.d. */
static bool covers_v4(const struct cidr *c)
{
	struct cidr mapped = {.ip = {.word = {[2] = htonl(0xffff)}}, .bits = c->bits};

	(void)cidr_mask(&mapped);
	return c->bits < 96 && memcmp(&mapped.ip, &c->ip, sizeof(c->ip)) == 0;
}

static bool read_cidr(struct load *l, const struct yaml_node *n, struct cidr *out)
{
	const char *s = read_string(l, n);
	char right[64];

	if (s == NULL)
		return false;
	if (!cidr_parse(s, out)) {
		report_error(&l->report, n->at, "'", s,
			     "' is not an address or a network (10.0.0.0/8, fd00::/8)", NULL);
		return false;
	}
	if (cidr_mask(out)) {
		report_error(&l->report, n->at, "'", s, "' has bits set behind its length; write ",
			     cidr_print(out, right, sizeof(right)), NULL);
		return false;
	}
	if (covers_v4(out)) {
		report_error(&l->report, n->at, "'", s,
			     "' would cover every IPv4 address too; name the IPv6 networks that"
			     " are meant, such as 2000::/3",
			     NULL);
		return false;
	}
	return true;
}

static int cidr_compare(const struct cidr *a, const struct cidr *b)
{
	int c = memcmp(&a->ip, &b->ip, sizeof(a->ip));

	return c != 0 ? c : (a->bits > b->bits) - (a->bits < b->bits);
}

static int cidr_order(const void *x, const void *y)
{
	const struct cidr_entry *a = x, *b = y;
	int c = cidr_compare(&a->cidr, &b->cidr);

	if (c != 0)
		return c;
	return report_before(a->at, b->at) ? -1 : 1;
}

/* Those that occur twice are told; what is kept goes into `out`. */
static size_t cidrs_sort(struct load *l, struct cidr_entry *all, size_t n, struct cidr *out)
{
	char text[64], place[320];
	size_t kept = 0;

	if (n > 1)
		qsort(all, n, sizeof(*all), cidr_order);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || cidr_compare(&all[i - 1].cidr, &all[i].cidr) != 0)
			out[kept++] = all[i].cidr;
		else
			report_error(&l->report, all[i].at,
				     cidr_print(&all[i].cidr, text, sizeof(text)),
				     " is listed already, at ",
				     report_place(all[i - 1].at, place, sizeof(place)), NULL);
	}
	return kept;
}

static void read_cidrs(struct load *l, const struct yaml_node *list, struct exclusion *out)
{
	struct cidr_entry *all;
	struct cidr *cidrs;
	size_t n = 0;

	if (list == NULL || !read_is_list(l, list))
		return;
	if (list->count > LIST_MAX) {
		report_error(&l->report, list->at, "more than 1024 networks in one list", NULL);
		return;
	}
	all = arena_array(&l->arena, list->count, sizeof(*all));
	cidrs = arena_array(&l->arena, list->count, sizeof(*cidrs));
	if (all == NULL || cidrs == NULL)
		return;
	for (const struct yaml_node *c = list->first; c != NULL; c = c->next) {
		all[n].at = c->at;
		if (read_cidr(l, c, &all[n].cidr))
			n++;
	}
	out->cidr_count = cidrs_sort(l, all, n, cidrs);
	out->cidrs = cidrs;
}

const struct exclusion *read_exclusion(struct load *l, const struct yaml_node *n)
{
	struct exclusion *x;

	if (n == NULL || yaml_is_null(n)) /* that was said already */
		return NULL;
	x = arena_alloc(&l->arena, sizeof(*x));
	if (x == NULL || !schema_check(&l->report, n, schema_exclude))
		return x;
	read_ports(l, yaml_get(n, "ports"), x);
	read_cidrs(l, yaml_get(n, "cidrs"), x);
	return x;
}
