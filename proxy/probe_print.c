/* SPDX-License-Identifier: Apache-2.0 */
/* Results of the probe as text, see probe.h. Pure. */
#include "proxy/probe.h"

#include "config/text.h"

const char *probe_state_word(enum probe_state state)
{
	switch (state) {
	case PROBE_OK:
		return "ok";
	case PROBE_MISSING:
		return "missing";
	case PROBE_FAILED:
		break;
	}
	return "failed";
}

/* Names and states are words of ours: nothing to escape. */
void probe_metrics(const struct probe_result *r, size_t n, struct text *out)
{
	text_add(out, "# HELP shunt_capability What the kernel was seen to do; always 1, the "
		      "answer is in the labels.\n"
		      "# TYPE shunt_capability gauge\n");
	for (size_t i = 0; i < n; i++)
		text_adds(out, "shunt_capability{name=\"", r[i].name, "\",state=\"",
			  probe_state_word(r[i].state), "\"} 1\n", NULL);
}

static void add_member(struct text *out, const char *name, const char *value)
{
	text_adds(out, "\"", name, "\":", NULL);
	text_add_json_string(out, value);
	text_add_char(out, ',');
}

void probe_json(const struct probe_result *r, size_t n, struct text *out)
{
	text_add_char(out, '[');
	for (size_t i = 0; i < n; i++) {
		text_add(out, i > 0 ? ",{" : "{");
		add_member(out, "name", r[i].name);
		add_member(out, "what", r[i].what);
		add_member(out, "state", probe_state_word(r[i].state));
		add_member(out, "detail", r[i].detail);
		add_member(out, "fallback", r[i].fallback);
		text_adds(out, "\"required\":", r[i].fallback == NULL ? "true}" : "false}", NULL);
	}
	text_add_char(out, ']');
}
