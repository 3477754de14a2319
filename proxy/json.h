/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a JSON object, written one after the other. */
#ifndef SHUNT_JSON_H
#define SHUNT_JSON_H

#include <stdint.h>

#include "config/text.h"

struct object {
	struct text *t;
	bool more; /* a member was written */
};

static inline void key(struct object *o, const char *name)
{
	if (o->more)
		text_add(o->t, ",");
	o->more = true;
	text_add_json_string(o->t, name);
	text_add(o->t, ":");
}

static inline void put_string(struct object *o, const char *name, const char *value)
{
	key(o, name);
	text_add_json_string(o->t, value);
}

static inline void put_number(struct object *o, const char *name, uint64_t value)
{
	key(o, name);
	text_add_number(o->t, value);
}

#endif
