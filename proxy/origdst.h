/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where was this caller going, and who is it? Read from the accepted socket and the egress
 * slot its local address names; refuses to guess. The other direction too: the dial records
 * by which an application is shown its true client.
 */
#ifndef SHUNT_ORIGDST_H
#define SHUNT_ORIGDST_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"

struct node;
struct worker;
struct enrolled;

struct origdst {
	enum direction direction; /* EGRESS: captured at connect(); INGRESS: steered */
	struct endpoint client; /* loopback where routing to the slot chose that as source */
	struct endpoint dst; /* as the client dialled it */
	struct slot *slot; /* claimed; NULL at ingress */
	bool arrived; /* ... where it is counted, for the daemon after us */
	struct node *node; /* that it is given back to */
};

/* Claims what belongs to the accepted socket `fd`. -ENOENT when nothing does: somebody
 * dialled the listener itself. -ENOTCONN when the client is gone already. */
__attribute__((warn_unused_result)) int origdst_claim(struct worker *w, const struct enrolled *e,
						      enum listener_kind kind, int fd,
						      struct origdst *out);
void origdst_release(struct origdst *o); /* twice is harmless */

/* Gives it back, to its workload's share too. */
void slot_free(struct node *node, struct slot *s);

/* Frees slots whose connection never came to us: a SYN that failed, one that was refused before
 * we looked. `now` is ns of CLOCK_MONOTONIC; returns how many. Control thread, every second or
 * so. Whoever comes later than that finds his slot gone and is reset. */
unsigned slots_sweep(struct node *node, uint64_t now);

/* How many connections were captured and have not come to us yet; those of more than two seconds
 * ago are not counted: they may never come. */
unsigned slots_expected(const struct node *node, uint64_t now);

/* Takes a dial number, binds `fd` to its address and records who is to be seen there; the
 * record is complete before the caller's connect(). Returns the number or -errno. */
__attribute__((warn_unused_result)) int64_t dial_bind(struct worker *w, const struct enrolled *e,
						      int fd, const struct endpoint *client);
/* The record stays until the number is taken again (oldest first): an application that
 * accepts late still sees its client. Negative: none. */
void dial_release(struct worker *w, int64_t number);

#endif
