/* SPDX-License-Identifier: Apache-2.0 */
/* Writes down what a codec says, so that two runs can be compared: neighbouring BODY pieces
 * count as one. Shared by the unit tests and the fuzzer of the codecs. */
#ifndef SHUNT_TEST_CODEC_TRACE_H
#define SHUNT_TEST_CODEC_TRACE_H

#include "proxy/codec/codec.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trace {
	char *p;
	size_t len, room;
	bool in_body;
};

static inline void trace_bytes(struct trace *t, const char *p, size_t n)
{
	if (t->len + n + 1 > t->room) {
		t->room = (t->len + n + 1) * 2;
		t->p = realloc(t->p, t->room);
		if (t->p == NULL)
			abort();
	}
	if (n != 0)
		memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void trace_text(struct trace *t,
								    const char *format, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (n > 0)
		trace_bytes(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static inline void trace_slice(struct trace *t, const char *name, struct slice s)
{
	trace_text(t, " %s=", name);
	trace_bytes(t, s.p, s.len);
}

static inline void trace_head(struct trace *t, const struct message *m)
{
	if (m == NULL)
		return;
	if (message_is_request(m)) {
		trace_slice(t, "method", m->method);
		trace_slice(t, "target", m->target);
		trace_slice(t, "path", m->path);
		trace_slice(t, "authority", m->authority);
	} else {
		trace_text(t, " status=%u", m->status);
		trace_slice(t, "reason", m->reason_phrase);
	}
	if (m->upgrade.len != 0)
		trace_slice(t, "upgrade", m->upgrade);
	trace_text(t, " version=%d length=%lld%s\n", (int)m->version, (long long)m->content_length,
		   m->length_given ? " given" : "");
	for (size_t i = 0; i < m->field_count; i++) {
		struct field f = message_nth(m, i);

		trace_text(t, "  ");
		trace_bytes(t, f.name.p, f.name.len);
		trace_text(t, ": ");
		trace_bytes(t, f.value.p, f.value.len);
		trace_text(t, "\n");
	}
}

static inline void trace_event(struct trace *t, const struct codec_event *ev)
{
	static const char *const name[] = {
		[CODEC_EV_HEAD] = "HEAD",	  [CODEC_EV_BODY] = "BODY",
		[CODEC_EV_TRAILERS] = "TRAILERS", [CODEC_EV_END] = "END",
		[CODEC_EV_RESET] = "RESET",	  [CODEC_EV_LEFT] = "LEFT",
		[CODEC_EV_FAILED] = "FAILED",
	};

	if (ev->type == CODEC_EV_BODY && t->in_body) {
		trace_bytes(t, ev->data.p, ev->data.len);
		return;
	}
	if (t->in_body)
		trace_text(t, "\n");
	t->in_body = ev->type == CODEC_EV_BODY;
	trace_text(t, "%s %u", name[ev->type], ev->stream);
	if (t->in_body) {
		trace_text(t, " ");
		trace_bytes(t, ev->data.p, ev->data.len);
		return;
	}
	if (ev->type == CODEC_EV_HEAD)
		trace_text(t, " wire=%zu", ev->wire);
	if (ev->head != NULL)
		trace_head(t, ev->head);
	else
		trace_text(t, "\n");
}

static inline bool trace_same(const struct trace *a, const struct trace *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->p, b->p, a->len) == 0);
}

static inline void trace_free(struct trace *t)
{
	free(t->p);
	*t = (struct trace){0};
}

#endif
