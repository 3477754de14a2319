/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions of addresses: see addr.h. */
#include "proxy/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct addr16 addr_from_v4(__u32 net_order)
{
	return (struct addr16){{0, 0, htonl(0xffff), net_order}};
}

bool addr_is_v4(const struct addr16 *a)
{
	return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == htonl(0xffff);
}

bool addr_is_loopback(const struct addr16 *a)
{
	if (addr_is_v4(a))
		return ntohl(a->word[3]) >> 24 == 127;
	return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == 0 && a->word[3] == htonl(1);
}

bool addr_is_zero(const struct addr16 *a)
{
	return (a->word[0] | a->word[1] | a->word[2] | a->word[3]) == 0;
}

bool addr_equal(const struct addr16 *a, const struct addr16 *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

bool endpoint_from_sockaddr(struct endpoint *e, const struct sockaddr *sa)
{
	memset(e, 0, sizeof *e);
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof in);
		e->ip = addr_from_v4(in.sin_addr.s_addr);
		e->port = in.sin_port;
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof in6);
		memcpy(&e->ip, &in6.sin6_addr, sizeof e->ip);
		e->port = in6.sin6_port;
	} else {
		return false;
	}
	e->family = addr_is_v4(&e->ip) ? AF_INET : AF_INET6;
	return true;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *sa)
{
	memset(sa, 0, sizeof *sa);
	if (addr_is_v4(&e->ip)) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = e->port};

		in.sin_addr.s_addr = e->ip.word[3];
		memcpy(sa, &in, sizeof in);
		return sizeof in;
	}
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = e->port};

	memcpy(&in6.sin6_addr, &e->ip, sizeof e->ip);
	memcpy(sa, &in6, sizeof in6);
	return sizeof in6;
}
