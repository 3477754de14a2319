/* SPDX-License-Identifier: Apache-2.0 */
/* The operational log: one line, one write(2), so that threads never mix theirs. */
#include "proxy/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static _Atomic(enum log_level) threshold = LOG_LEVEL_INFO;

static const struct {
	const char *prio; /* sd-daemon(3) */
	const char *word; /* for people */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"<3>", "error: "},
	[LOG_LEVEL_WARN] = {"<4>", "warning: "},
	[LOG_LEVEL_INFO] = {"<6>", ""},
	[LOG_LEVEL_DEBUG] = {"<7>", "debug: "},
};

void log_level_set(enum log_level level)
{
	atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

static size_t clamp(int printed, size_t room)
{
	if (printed < 0)
		return 0;
	return (size_t)printed < room ? (size_t)printed : room - 1;
}

/* A message may quote what a peer sent: no byte of it may begin a line or move a cursor. */
static void disarm(char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			p[i] = '?';
}

static void log_line(enum log_level level, int err, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void log_line(enum log_level level, int err, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	const size_t room = sizeof line - 1; /* the newline always fits */
	int saved = errno;
	size_t len;

	if (level > atomic_load_explicit(&threshold, memory_order_relaxed))
		return;
	len = clamp(snprintf(line, room, "%s",
			     isatty(STDERR_FILENO) ? levels[level].word : levels[level].prio),
		    room);
	len += clamp(vsnprintf(line + len, room - len, format, args), room - len);
	if (err != 0)
		len += clamp(snprintf(line + len, room - len, ": %s", strerror(err)), room - len);
	disarm(line, len);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0) {
		/* nowhere is left to say so */
	}
	errno = saved;
}

#define LOG_FUNCTION(name, level, err)                                                             \
	void name(const char *format, ...)                                                         \
	{                                                                                          \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, format);                                                            \
		log_line(level, err, format, args);                                                \
		va_end(args);                                                                      \
	}

LOG_FUNCTION(log_err, LOG_LEVEL_ERROR, errno)
LOG_FUNCTION(log_errx, LOG_LEVEL_ERROR, 0)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN, errno)
LOG_FUNCTION(log_warnx, LOG_LEVEL_WARN, 0)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO, 0)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG, 0)
