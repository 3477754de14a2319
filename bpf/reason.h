/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why something was refused, dropped or ended: one list for both halves. The word is the
 * `reason` of a record, the label of a metric and what the commands print; the number is
 * stable (it crosses the ring buffer) and never reused; the flag is the record's
 * `response_flags`. shuntd(8) prints this list, and `make check-docs` compares the two.
 */
#ifndef SHUNT_REASON_H
#define SHUNT_REASON_H

/* X(number, NAME, word, flag, text) */
#define REASONS(X)                                                                                 \
	X(0, NONE, "none", "-", "nothing was refused")                                             \
	/* policy */                                                                               \
	X(1, POLICY_L4, "policy_l4", "DENY", "no L3/L4 rule allows the connection")                \
	X(2, POLICY_L7, "policy_l7", "DENY", "no L7 rule allows the request")                      \
	X(4, POLICY_MEMORY, "policy_memory", "DENY",                                               \
	  "no L7 rule allows the request, as far as RE2 had the memory to tell")                   \
	X(3, PROTOCOL_NOT_READABLE, "protocol_not_readable", "DPE",                                \
	  "a port with http rules received bytes that are not readable as HTTP/1")                 \
	/* decided in the kernel, before the daemon sees the connection */                         \
	X(10, DAEMON_AWAY, "daemon_away", "NC", "the daemon is not running (onUnavailable: deny)") \
	X(11, SLOTS_FULL, "slots_full", "OM", "no egress slot is free")                            \
	X(12, SLOT_FORGED, "slot_forged", "DENY", "an application dialled an egress slot address") \
	X(14, SLOTS_QUOTA, "slots_quota", "OM",                                                    \
	  "the workload holds its share of the egress slots (slotsPerWorkload)")                   \
	X(15, AWAY_ALLOWED, "away_allowed", "-",                                                   \
	  "the daemon is not running; passed unjudged (onUnavailable: allow)")                     \
	X(16, NOBODY_LISTENS, "nobody_listens", "UF",                                              \
	  "nobody listens on that port of the local destination")                                  \
	X(13, STEER_FAILED, "steer_failed", "NC", "the kernel could not give the connection over") \
	/* how a connection ended */                                                               \
	X(20, CLOSED_BY_SOURCE, "closed_by_source", "-", "the source closed first")                \
	X(21, CLOSED_BY_DESTINATION, "closed_by_destination", "-", "the destination closed first") \
	X(22, RESET_BY_SOURCE, "reset_by_source", "DC", "the source reset the connection")         \
	X(23, RESET_BY_DESTINATION, "reset_by_destination", "UR",                                  \
	  "the destination reset the connection")                                                  \
	/* the upstream */                                                                         \
	X(30, CONNECT_REFUSED, "connect_refused", "UF", "the destination refused the connection")  \
	X(31, CONNECT_TIMEOUT, "connect_timeout", "UF,URX",                                        \
	  "the destination did not accept in time")                                                \
	X(32, CONNECT_FAILED, "connect_failed", "UF", "the destination could not be dialled")      \
	X(57, DIALS_FULL, "dials_full", "OM",                                                      \
	  "no address that the destination could be dialled from is free")                         \
	X(33, UPSTREAM_CLOSED, "upstream_closed", "UC",                                            \
	  "the destination closed before its response was whole")                                  \
	X(34, UPSTREAM_PROTOCOL, "upstream_protocol", "UPE",                                       \
	  "the destination's response is not readable as HTTP/1")                                  \
	X(35, UPSTREAM_RESET, "upstream_reset", "UC",                                              \
	  "the destination reset the connection before its response was whole")                    \
	X(36, RESPONSE_TIMEOUT, "response_timeout", "UT",                                          \
	  "the destination's response did not begin in time")                                      \
	/* the downstream */                                                                       \
	X(40, BAD_REQUEST, "bad_request", "DPE", "the request is malformed or ambiguous")          \
	X(41, HEAD_TOO_LARGE, "head_too_large", "DPE", "the request head exceeds its limit")       \
	X(42, HEAD_TIMEOUT, "head_timeout", "DT", "the request head did not arrive in time")       \
	X(46, BODY_TOO_SLOW, "body_too_slow", "DT",                                                \
	  "the request body arrived more slowly than requestBodyRate")                             \
	X(47, TOO_MANY_PIPELINED, "too_many_pipelined", "DPE",                                     \
	  "the client sent more requests ahead than maxPipelinedRequests")                         \
	X(45, REFUSED_BODY, "refused_body", "DPE",                                                 \
	  "the client went on sending the body of a request that had been refused")                \
	X(44, NOT_SUPPORTED, "not_supported", "DPE",                                               \
	  "the request asks for what this version does not do")                                    \
	X(43, CLIENT_CLOSED, "client_closed", "DC", "the client closed inside a request")          \
	X(61, HEADS_QUOTA, "heads_quota", "OM",                                                    \
	  "the workload has more unfinished heads than headsPerWorkload; the oldest is refused")   \
	/* the daemon */                                                                           \
	X(50, NO_MEMORY, "no_memory", "OM", "out of memory")                                       \
	X(51, NO_DESCRIPTORS, "no_descriptors", "OM", "out of file descriptors")                   \
	X(60, CONNECTIONS_QUOTA, "connections_quota", "OM",                                        \
	  "the workload holds its share of the connections")                                       \
	X(52, SHUTDOWN, "shutdown", "LR", "the daemon stopped")                                    \
	X(53, ORIGDST_UNKNOWN, "origdst_unknown", "LR",                                            \
	  "the original destination is not known; somebody dialled the listener itself")           \
	X(54, WORKLOAD_GONE, "workload_gone", "LR", "the workload left the configuration")         \
	X(56, FOREIGN_MESH, "foreign_mesh", "LR",                                                  \
	  "another process listens on port 15008 in the workload's namespace: not enrolled")       \
	X(58, FOREIGN_SHUNT, "foreign_shunt", "LR",                                                \
	  "another shuntd of this machine has the workload's network namespace: not enrolled")     \
	X(55, INTERNAL, "internal", "LR", "a system call failed; the operational log says which")

enum reason {
#define X(number, name, word, flag, text) REASON_##name = number,
	REASONS(X)
#undef X
		REASON_MAX = 64, /* numbers stay below: arrays of counters are this long */
};

#endif
