/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records from the workers to their sinks: one single-producer single-consumer ring per
 * writer, one log thread that renders and writes. A full ring drops and counts, it never
 * blocks the writer.
 */
#ifndef SHUNT_ACCESS_LOG_H
#define SHUNT_ACCESS_LOG_H

#include "proxy/record.h"

struct access_log;
struct access_log_writer; /* one per writing thread */
struct metrics;

/* Starts the log thread. `path` NULL or "": no file. The file is opened O_APPEND, folders
 * above it must exist. `metrics` is borrowed and told of every record (by the log thread).
 * Returns 0 or -errno. */
__attribute__((warn_unused_result)) int access_log_start(const char *path, const char *node,
							 struct metrics *metrics,
							 struct access_log **out);
/* Drains every ring, writes all, ends the thread. Writers are gone with it. NULL is allowed. */
void access_log_stop(struct access_log *log);

/* A writer for one thread; call before that thread starts. NULL when memory is short. */
struct access_log_writer *access_log_writer(struct access_log *log);

/* Copies the record into the ring, or counts it as dropped. Any record, never blocks, takes
 * no lock, allocates nothing. The next record that finds room gets the number of those that were
 * lost before it, in `drop_count`. */
void access_log_write(struct access_log_writer *w, struct record *r);

/* From now on, or after the file was moved away: another path, or the same again; NULL or "":
 * no file. Returns 0, or -errno and goes on as before. Any thread. */
__attribute__((warn_unused_result)) int access_log_reopen(struct access_log *log, const char *path);

/* Sends the last `last` records, of those that are kept (history.h), to `fd`, a non-blocking
 * stream socket that becomes the log's, then, with `follow`, every one as it comes until the
 * peer closes; each is a line. A subscriber that does not read loses lines, the log never waits
 * for it: in their place it gets {"type":"lost","drop_count":N}. */
void access_log_subscribe(struct access_log *log, int fd, unsigned last, bool follow);

/* Records that did not reach the file: a ring was full, memory or the disk was. Any thread. */
uint64_t access_log_dropped(const struct access_log *log);

#endif
