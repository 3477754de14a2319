/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of an exchange went: a stopwatch with one hand. At every moment exactly one
 * clock runs, so the clocks always add up to the total, in integer ns. Pure: the caller
 * passes CLOCK_MONOTONIC in.
 */
#ifndef SHUNT_STOPWATCH_H
#define SHUNT_STOPWATCH_H

#include <stdint.h>

/* X(NAME, key): the order is that of the record; of two waits due at once the later runs. */
#define CLOCKS(X)                                                                                  \
	X(ACCEPT, "t_accept") /* accepted -> ready for its first byte */                           \
	X(QUEUE, "t_queue") /* its bytes lie unread in a kernel queue of ours */                   \
	X(HEAD, "t_head") /* the client has not sent all of its head */                            \
	X(POLICY, "t_policy") /* rules are evaluated */                                            \
	X(WORK, "t_work") /* anything else we do for it */                                         \
	X(CONNECT, "t_connect") /* TCP connect to the upstream */                                  \
	X(TLS, "t_tls") /* upstream handshake */                                                   \
	X(BODY, "t_body") /* the client has not sent the rest of its body */                       \
	X(SEND, "t_send") /* the upstream does not take bytes that are ready */                    \
	X(WAIT, "t_wait") /* the request is out, no byte of the response has come */               \
	X(RECV, "t_recv") /* the response has begun, its next bytes are not there yet */           \
	X(FLUSH, "t_flush") /* the client does not take bytes that are ready */                    \
	X(OPEN, "t_open") /* opaque stream: both legs ready -> end */

enum clock {
#define X(name, key) CLOCK_OF_##name,
	CLOCKS(X)
#undef X
		CLOCK_COUNT,
};

struct stopwatch {
	uint64_t ns[CLOCK_COUNT];
	uint64_t start; /* when it began */
	uint64_t since; /* when the running clock began */
	enum clock running;
};

static inline void stopwatch_start(struct stopwatch *s, enum clock first, uint64_t now)
{
	*s = (struct stopwatch){.start = now, .since = now, .running = first};
}

/* Stops the running clock at `now` and starts `next`. A `now` before the last switch counts
 * as that switch: stamps of the kernel may lie before it. */
static inline void stopwatch_run(struct stopwatch *s, enum clock next, uint64_t now)
{
	if (now > s->since) {
		s->ns[s->running] += now - s->since;
		s->since = now;
	}
	s->running = next;
}

/* Adds up to `now`; the running clock goes on. */
static inline uint64_t stopwatch_total(const struct stopwatch *s)
{
	return s->since - s->start;
}

/* Our whole share. */
static inline uint64_t stopwatch_proxy(const struct stopwatch *s)
{
	return s->ns[CLOCK_OF_QUEUE] + s->ns[CLOCK_OF_POLICY] + s->ns[CLOCK_OF_WORK];
}

#endif
