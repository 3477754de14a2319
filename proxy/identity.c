/* SPDX-License-Identifier: Apache-2.0 */
/* Address -> identity: see identity.h. */
#include "proxy/identity.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(node) ((node)->unhashed = true)
#include <uthash.h>

struct card {
	atomic_uint refs;
	struct card_names names; /* the four point behind the struct */
};

static const char *label_value(const struct fleet_workload *w, const char *key)
{
	for (size_t i = 0; i < w->label_count; i++)
		if (strcmp(w->labels[i].key, key) == 0)
			return w->labels[i].value;
	return "";
}

static struct slice copy_behind(char **at, const char *s)
{
	char *start = *at;

	*at = stpcpy(start, s);
	return (struct slice){start, (size_t)(*at - start)};
}

struct card *card_new(const struct fleet_workload *w)
{
	static _Atomic uint64_t serials;
	const char *app = label_value(w, "app");
	struct card *c = calloc(1, sizeof *c + strlen(w->name) + strlen(w->namespace) +
					   strlen(w->spiffe_id) + strlen(app) + 1);
	char *at;

	if (c == NULL)
		return NULL;
	at = (char *)(c + 1);
	atomic_init(&c->refs, 1);
	c->names.serial = 1 + atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed);
	c->names.workload = copy_behind(&at, w->name);
	c->names.namespace = copy_behind(&at, w->namespace);
	c->names.identity = copy_behind(&at, w->spiffe_id);
	c->names.app = copy_behind(&at, app);
	return c;
}

struct card *card_ref(struct card *c)
{
	if (c != NULL)
		atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void card_unref(struct card *c)
{
	if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		free(c);
}

const struct card_names *card_names(const struct card *c)
{
	static const struct card_names none;

	return c != NULL ? &c->names : &none;
}

struct row {
	struct addr16 ip;
	struct directory_entry entry;
	bool unhashed;
	UT_hash_handle hh;
};

struct directory {
	atomic_uint refs;
	struct row *rows;
	struct directory_entry *local; /* by index */
	uint32_t local_count;
};

static const struct directory_entry nobody = {.identity = IDENTITY_WORLD,
					      .index = DIRECTORY_NOT_LOCAL};

struct directory *directory_new(void)
{
	struct directory *d = calloc(1, sizeof *d);

	if (d != NULL)
		atomic_init(&d->refs, 1);
	return d;
}

struct directory *directory_ref(struct directory *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

void directory_unref(struct directory *d)
{
	struct row *row, *next;

	if (d == NULL || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
		return;
	HASH_ITER(hh, d->rows, row, next) {
		HASH_DEL(d->rows, row);
		card_unref(row->entry.card);
		free(row);
	}
	for (uint32_t i = 0; i < d->local_count; i++)
		card_unref(d->local[i].card);
	free(d->local);
	free(d);
}

static struct row *row_find(const struct directory *d, const struct addr16 *ip)
{
	struct row *row;

	HASH_FIND(hh, d->rows, ip, sizeof *ip, row);
	return row;
}

int directory_add(struct directory *d, const struct addr16 *ip, uint32_t identity, uint32_t index,
		  struct card *card)
{
	struct row *row;

	if (row_find(d, ip) != NULL)
		return 0;
	row = calloc(1, sizeof *row);
	if (row == NULL)
		return -ENOMEM;
	row->ip = *ip;
	row->entry = (struct directory_entry){
		.identity = identity, .index = index, .card = card_ref(card)};
	HASH_ADD(hh, d->rows, ip, sizeof row->ip, row);
	if (!row->unhashed)
		return 0;
	card_unref(card);
	free(row);
	return -ENOMEM;
}

int directory_add_local(struct directory *d, uint32_t index, uint32_t identity,
			const struct addr16 *ip4, struct card *card)
{
	if (index >= d->local_count) {
		struct directory_entry *grown = realloc(d->local, (index + 1) * sizeof *d->local);

		if (grown == NULL)
			return -ENOMEM;
		d->local = grown;
		while (d->local_count <= index)
			d->local[d->local_count++] = nobody;
	}
	d->local[index] = (struct directory_entry){identity, index, card_ref(card), *ip4};
	return 0;
}

struct directory_entry directory_local(const struct directory *d, uint32_t index)
{
	return index < d->local_count ? d->local[index] : nobody;
}

struct directory_entry directory_find(const struct directory *d, const struct addr16 *ip)
{
	const struct row *row = row_find(d, ip);

	if (row != NULL)
		return row->entry;
	return nobody;
}

void directory_each(const struct directory *d,
		    void (*take)(void *arg, const struct addr16 *ip,
				 const struct directory_entry *e),
		    void *arg)
{
	for (const struct row *row = d->rows; row != NULL; row = row->hh.next)
		take(arg, &row->ip, &row->entry);
}
