/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operational log: stderr, with `<prio>` prefixes when it is not a terminal (journald
 * reads them). log_warn and log_err append strerror(errno); the x forms do not. errno is
 * preserved. Any thread.
 */
#ifndef SHUNT_LOG_H
#define SHUNT_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

void log_level_set(enum log_level level); /* default: info */

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))
void log_err(const char *format, ...) LOG_PRINTF;
void log_errx(const char *format, ...) LOG_PRINTF;
void log_warn(const char *format, ...) LOG_PRINTF;
void log_warnx(const char *format, ...) LOG_PRINTF;
void log_info(const char *format, ...) LOG_PRINTF;
void log_debug(const char *format, ...) LOG_PRINTF;

#endif
