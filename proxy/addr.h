/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as the two halves share them (struct endpoint: IPv4 mapped, network order), and
 * as the socket calls want them. */
#ifndef SHUNT_ADDR_H
#define SHUNT_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "bpf/abi.h"

struct addr16 addr_from_v4(__u32 net_order);
bool addr_is_v4(const struct addr16 *a); /* mapped */
bool addr_is_loopback(const struct addr16 *a); /* 127/8, ::1 */
bool addr_is_zero(const struct addr16 *a);
bool addr_equal(const struct addr16 *a, const struct addr16 *b);

/* false when the family is neither AF_INET nor AF_INET6 */
bool endpoint_from_sockaddr(struct endpoint *e, const struct sockaddr *sa);
/* IPv4 for a mapped address, IPv6 otherwise; returns the length */
socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *sa);

#endif
