/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per document kind reads a tree into the load; all of them complain to the
 * same report and go on, so that one load tells everything. Internal to config/.
 */
#ifndef SHUNT_CONFIG_KIND_H
#define SHUNT_CONFIG_KIND_H

#include "config/rules.h"
#include "config/yaml.h"

#define LIST_MAX 1024U /* ports, or networks, in one list */
#define UNAVAILABLE_LABEL "shunt.dev/on-unavailable"

/* Labels that policies see and no document gives. */
#define NAMESPACE_KEY "io.kubernetes.pod.namespace"
#define NAMESPACE_LABELS "io.cilium.k8s.namespace.labels."
#define NAMESPACE_NAME NAMESPACE_LABELS "kubernetes.io/metadata.name"
#define ACCOUNT_KEY "io.cilium.k8s.policy.serviceaccount"

/* onUnavailable as a document says it. */
enum unavailable {
	UNAVAILABLE_UNSAID = 0, /* what is wider decides */
	UNAVAILABLE_DENY,
	UNAVAILABLE_ALLOW,
};

/* One element of a list of ports. */
struct port_entry {
	uint16_t port; /* host order */
	struct location at;
};

/* A Namespace as it was read. */
struct namespace_document {
	const char *name;
	struct label *labels; /* sorted; keys begin with NAMESPACE_LABELS */
	size_t label_count;
	enum unavailable unavailable;
	const struct exclusion *exclude; /* NULL: not said */
	struct namespace_document *next;
};

/* A Workload as it was read; addresses as in struct fleet_workload. */
struct workload_document {
	const char *namespace, *name, *service_account;
	enum selector selector;
	const char *selected; /* NULL: SELECTOR_NONE */
	bool from_state; /* the selector is a kept one */
	uint64_t netns_inode; /* 0: not said */
	const char *boot_id; /* NULL: not said */
	struct label *labels; /* sorted */
	size_t label_count;
	struct addr16 *addresses;
	struct location *address_at;
	size_t address_count, address_room;
	struct port_entry *ports; /* ascending */
	size_t port_count;
	enum unavailable unavailable;
	const struct exclusion *exclude; /* NULL: not said */
	const struct namespace_document *space; /* NULL: no document; known after the last file */
	struct location selected_at; /* file NULL: no selectors */
	struct location ports_at; /* file NULL: no ports */
	struct location where;
	uint32_t identity;
	struct workload_document *next;
};

/* A listener of shunt.yaml. */
struct listener_document {
	struct endpoint at, upstream;
	const char *namespace, *name; /* of the workload it speaks for */
	struct location workload_at, where;
	struct listener_document *next;
};

/* A Secret as it was read. */
struct secret_document {
	const char *name; /* "shop/token" */
	size_t count; /* of its entries */
	const char *value; /* of the last entry; holds NUL only at its end, or `binary` */
	bool binary; /* it has a NUL inside */
	struct location where;
	struct secret_document *next;
};

/* A header rule whose value a Secret has. */
struct secret_use {
	struct header_rule *rule; /* its value is what holds where there is no such Secret */
	struct location at;
	struct secret_use *next;
};

/* A document that was seen. */
struct named {
	const char *kind, *name; /* "ns/name", or "name" outside of namespaces */
	struct location where;
	size_t order; /* of reading */
	struct named *next;
};

struct load {
	struct arena arena;
	struct report report;
	struct options options;
	const struct exclusion *exclude; /* of the mesh; NULL: not said */
	struct workload_document *workloads, **workload_tail;
	size_t workload_count;
	struct workload_document *states, **state_tail; /* kept ones, until they are merged */
	struct namespace_document *namespaces;
	size_t namespace_count;
	struct listener_document *listeners;
	size_t listener_count;
	struct rule_set *rules, **rule_tail;
	struct secret_document *secrets;
	size_t secret_count;
	struct secret_use *secret_uses;
	struct named *names; /* the last one first */
	size_t name_count;
	struct location udp; /* the first policy that leaves UDP alone; file NULL: none */
};

void kind_workload(struct load *l, const struct yaml_node *root);
void kind_namespace(struct load *l, const struct yaml_node *root);
void kind_cilium(struct load *l, const struct yaml_node *root);
void kind_secret(struct load *l, const struct yaml_node *root);
/* Gives header rules their values, once all files are read. */
void secrets_give(struct load *l);
void kind_state(struct load *l, const struct yaml_node *root); /* of the state folder */
/* Lays what is kept over the workloads, once all files are read. */
void state_merge(struct load *l);

/* ---- workload.c: what kept ones have too ---- */

void workload_selector(struct load *l, struct workload_document *w, const struct yaml_node *n);
/* NULL stays NULL: no account was given. */
void workload_account(struct load *l, struct workload_document *w, const struct yaml_node *n);
void workload_labels(struct load *l, struct workload_document *w, const struct yaml_node *labels);
void workload_unavailable(struct load *l, struct workload_document *w,
			  const struct yaml_node *spec);
/* Of pointers to workload documents, by namespace and name, for qsort. */
int workload_order(const void *x, const void *y);

/* listeners: of shunt.yaml; NULL is allowed. Whether their workloads exist is asked when all are
 * known. */
void read_listeners(struct load *l, const struct yaml_node *n);
void check_listeners(struct load *l);

/* The fleet part of a snapshot (snapshot.c), with one reference, or NULL. */
struct fleet *fleet_new(const struct load *l, uint64_t revision);

/* ---- read.c: pieces that kinds share; each complains itself ---- */

struct metadata {
	const char *namespace, *name;
	struct location where; /* of the document */
};
/* Reads metadata and notes the name, which may occur once for each kind. False: unusable. */
bool read_metadata(struct load *l, const struct yaml_node *root, const char *kind,
		   struct metadata *out);
/* The same for a kind outside of namespaces: out->namespace is NULL, and the labels are left
 * to the caller. */
bool read_metadata_cluster(struct load *l, const struct yaml_node *root, const char *kind,
			   struct metadata *out);

/* A string: not a list, not nothing, and not an unquoted word that YAML 1.1 reads as a boolean
 * or a number. NULL when it is none. */
const char *read_string(struct load *l, const struct yaml_node *n);
bool read_is_list(struct load *l, const struct yaml_node *n);
/* A mapping of label keys to values, sorted by key. Our own switch among them is left out: it
 * is nothing to select by. */
bool read_labels(struct load *l, const struct yaml_node *n, struct label **out, size_t *count);
/* Refuses labels and annotations that switch something which this version does not do. */
void read_switches(struct load *l, const struct yaml_node *n);
/* The same for labels that may hold our own switch, which is returned. */
enum unavailable read_label_switches(struct load *l, const struct yaml_node *labels);
/* `deny` or `allow`; UNAVAILABLE_UNSAID when n is NULL or something else. */
enum unavailable read_unavailable(struct load *l, const struct yaml_node *n);
/* A port from 1 to 65535, quoted or not. */
/* As struct addr16 has it. */
bool address_parse(const char *s, struct addr16 *out);
bool read_port(struct load *l, const struct yaml_node *n, uint16_t *out);
/* Sorts, complains about those that occur twice and leaves them out. Returns how many stay. */
size_t ports_sort(struct load *l, struct port_entry *ports, size_t n);
/* exclude.c: {ports: [...], cidrs: [...]}. NULL when n is, or when memory is short. */
const struct exclusion *read_exclusion(struct load *l, const struct yaml_node *n);

/* header.c: headers and headerMatches of an http rule, whose policy lies in `namespace`. */
void read_header_rules(struct load *l, const char *namespace, const struct yaml_node *rule,
		       struct http_rule *out);
/* May it stand in a header as it is? */
bool header_value_valid(const char *s);

bool name_valid(const char *s, size_t max); /* lower-case letters, digits, '-' and '.' */
bool label_key_valid(const char *s);
bool label_value_valid(const char *s);

#endif
