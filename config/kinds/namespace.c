/* SPDX-License-Identifier: Apache-2.0 */
/* Namespace (v1): labels that policies select all workloads of it by, and its switches. */
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"

#define NAME_LABEL "kubernetes.io/metadata.name"

/* Every namespace has this label, and nobody may write another value. */
static bool is_name_label(struct load *l, const struct namespace_document *d,
			  const struct label *label, const struct yaml_node *labels)
{
	if (strcmp(label->key, NAME_LABEL) != 0)
		return false;
	if (d->name != NULL && strcmp(label->value, d->name) != 0)
		report_error(&l->report, yaml_get(labels, NAME_LABEL)->at,
			     "label " NAME_LABEL " is the name of the namespace, '", d->name,
			     "'; it cannot be '", label->value, "'", NULL);
	return true;
}

/* Kept as selectors name them. */
static void read_namespace_labels(struct load *l, struct namespace_document *d,
				  const struct yaml_node *labels)
{
	struct label *all = NULL;
	size_t n = 0;

	if (labels == NULL)
		return;
	d->unavailable = read_label_switches(l, labels);
	(void)read_labels(l, labels, &all, &n);
	d->labels = all;
	for (size_t i = 0; i < n; i++) {
		if (is_name_label(l, d, &all[i], labels))
			continue;
		all[d->label_count].key = arena_join(&l->arena, NAMESPACE_LABELS, all[i].key, NULL);
		all[d->label_count].value = all[i].value;
		if (all[d->label_count].key != NULL)
			d->label_count++;
	}
}

void kind_namespace(struct load *l, const struct yaml_node *root)
{
	const struct yaml_node *spec = yaml_get(root, "spec");
	struct namespace_document *d = arena_alloc(&l->arena, sizeof(*d));
	struct metadata m;
	bool named;

	if (d == NULL)
		return;
	schema_check(&l->report, root, schema_namespace);
	named = read_metadata_cluster(l, root, "Namespace", &m);
	d->name = m.name;
	read_namespace_labels(l, d, yaml_get(yaml_get(root, "metadata"), "labels"));
	if (spec != NULL && !yaml_is_null(spec) &&
	    schema_check(&l->report, spec, schema_namespace_spec))
		d->exclude = read_exclusion(l, yaml_get(spec, "exclude"));
	if (!named)
		return;
	d->next = l->namespaces;
	l->namespaces = d;
	l->namespace_count++;
}
