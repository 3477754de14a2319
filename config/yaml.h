/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes -> trees, one per document of a file, every key and value with its place. What
 * policy documents must not contain is refused here: duplicate keys, anchors and aliases,
 * tags, control bytes, text that is not UTF-8, nesting deeper than YAML_DEPTH.
 */
#ifndef SHUNT_CONFIG_YAML_H
#define SHUNT_CONFIG_YAML_H

#include "config/arena.h"
#include "config/report.h"

#define YAML_DEPTH 24
#define YAML_SIZE_MAX (16U << 20)

enum yaml_type {
	YAML_SCALAR,
	YAML_SEQUENCE,
	YAML_MAPPING,
};

struct yaml_node {
	enum yaml_type type;
	bool plain; /* scalar: written without quotes */
	const char *text; /* scalar: NUL-terminated, without NUL inside */
	size_t len;
	struct location at;
	const struct yaml_node *key; /* child of a mapping: its key */
	struct yaml_node *first, *last, *next; /* children in order; sibling */
	size_t count;
};

struct yaml_document {
	struct yaml_node *root;
	struct yaml_document *next;
};

/* Appends the documents that could be read to *docs, empty ones left out; what is wrong goes
 * to the report, and a document with an error in its YAML is left out as well. Nodes live in
 * the arena. Running out of memory is told by arena or report (`failed`). */
void yaml_read(struct arena *arena, struct report *report, const struct document_file *file,
	       struct yaml_document **docs);

/* Child of a mapping by its key, or NULL. */
const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);

bool yaml_is_null(const struct yaml_node *n); /* nothing, ~ or null, unquoted */
/* Unquoted true or false, and YAML 1.1's yes, no, on, off, y and n, as Kubernetes reads them. */
bool yaml_is_boolean(const struct yaml_node *n, bool *value);
bool yaml_is_number(const struct yaml_node *n); /* unquoted, reads as a number */

#endif
