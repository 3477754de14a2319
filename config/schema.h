/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may stand in a document: the options of shunt.yaml with their types and defaults, and
 * for each mapping of a policy document the fields that are read and those that are known
 * but not enforced. One row each; the manual is compared with these tables.
 */
#ifndef SHUNT_CONFIG_SCHEMA_H
#define SHUNT_CONFIG_SCHEMA_H

#include "config/report.h"
#include "config/yaml.h"

enum option_type {
	OPTION_NUMBER,
	OPTION_POWER_OF_TWO,
	OPTION_DURATION, /* 500ms, 5s, 2m, 1h; kept in ms */
	OPTION_BOOLEAN,
	OPTION_SWITCH, /* on or off */
	OPTION_DOMAIN,
	OPTION_ADDRESS, /* ADDRESS:PORT or off */
	OPTION_ADDRESS_ANY, /* the same, or :PORT for every address of both families */
	OPTION_PATH, /* absolute, or off */
	OPTION_FORWARDED, /* off, forwarded or x-forwarded */
	OPTION_UNAVAILABLE, /* deny or allow; kept as whether it is allow */
};

struct schema_option {
	const char *name; /* "metrics.address" */
	enum option_type type;
	const char *unit; /* as the manual says it */
	const char *fallback; /* the default, as one would write it */
	const char *help;
	unsigned min, max; /* of numbers and durations */
	size_t offset, size; /* in struct options */
};

/* The i-th option, or NULL after the last. */
const struct schema_option *schema_options(size_t i);

/* Reads shunt.yaml's mapping over the defaults. root is NULL where there is none. `exclude`,
 * which is no single value, is left to read_exclusion (kinds/kind.h). */
void schema_read_options(struct report *report, const struct yaml_node *root, struct options *out);

enum field_state {
	FIELD_READ,
	FIELD_LATER, /* known, not enforced by this version */
	FIELD_GONE, /* was in an older version of the kind */
};

struct schema_field {
	const char *name; /* NULL ends the list */
	enum field_state state;
};

/* Complains about every field that is not read, and about those without a value. False when
 * the node is no mapping. */
bool schema_check(struct report *report, const struct yaml_node *node,
		  const struct schema_field *fields);

extern const struct schema_field schema_workload[];
extern const struct schema_field schema_metadata[];
extern const struct schema_field schema_workload_spec[];
extern const struct schema_field schema_state_spec[];
extern const struct schema_field schema_namespace[];
extern const struct schema_field schema_namespace_spec[];
extern const struct schema_field schema_exclude[];
extern const struct schema_field schema_listener[];
extern const struct schema_field schema_cnp[];
extern const struct schema_field schema_cnp_spec[];
extern const struct schema_field schema_cnp_ingress[];
extern const struct schema_field schema_cnp_egress[];
extern const struct schema_field schema_cnp_ports[];
extern const struct schema_field schema_cnp_port[];
extern const struct schema_field schema_cnp_rules[];
extern const struct schema_field schema_cnp_http[];
extern const struct schema_field schema_header_match[];
extern const struct schema_field schema_secret_reference[];
extern const struct schema_field schema_secret[];
extern const struct schema_field schema_selector[];
extern const struct schema_field schema_expression[];

#endif
