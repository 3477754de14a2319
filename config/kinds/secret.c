/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secret (v1): the value of a header that a rule refers to. As in Cilium a Secret that is
 * referred to has exactly one entry, whatever its key. No message here says a value or a part
 * of one, and read_string(), which would, is not used.
 */
#include <stdlib.h>
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"

static int digit_of(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c == '\0' ? NULL : strchr(digits, c);

	return p == NULL ? -1 : (int)(p - digits);
}

/* RFC 4648 4; line ends are passed over. Returns the length, or -1. `out` has room for all. */
static long decode(const char *s, char *out)
{
	unsigned bits = 0, digits = 0, pads = 0;
	long n = 0;

	for (; *s != '\0'; s++) {
		int d = digit_of(*s);

		if (*s == '\n' || *s == '\r')
			continue;
		if (*s == '=' ? ++pads > 2 : d < 0 || pads > 0)
			return -1;
		bits = bits << 6 | (unsigned)(d < 0 ? 0 : d);
		if (++digits % 4 != 0)
			continue;
		out[n++] = (char)(bits >> 16 & 0xff);
		out[n++] = (char)(bits >> 8 & 0xff);
		out[n++] = (char)(bits & 0xff);
	}
	return digits % 4 == 0 ? n - (long)pads : -1;
}

/* Is it text, quoted where YAML would read something else? */
static bool check_text(struct load *l, const struct yaml_node *n)
{
	if (n->type == YAML_SCALAR && !yaml_is_null(n) && !yaml_is_number(n) &&
	    !yaml_is_boolean(n, &(bool){false}))
		return true;
	report_error(&l->report, n->at, "this entry of the Secret is not text; put it in quotes",
		     NULL);
	return false;
}

/* Values of data are in base64: a number or a word that YAML 1.1 knows may be one, too. */
static void read_data(struct load *l, const struct yaml_node *n, struct secret_document *out)
{
	char *value = arena_alloc(&l->arena, n->len + 4);
	long len;

	out->count++;
	if (value == NULL)
		return;
	len = n->type == YAML_SCALAR ? decode(yaml_is_null(n) ? "" : n->text, value) : -1;
	if (len < 0) {
		report_error(&l->report, n->at, "entry '", n->key->text, "' of data is not base64",
			     NULL);
		return;
	}
	value[len] = '\0';
	out->value = value;
	out->binary = len > 0 && memchr(value, '\0', (size_t)len) != NULL;
}

static void read_text(struct load *l, const struct yaml_node *n, struct secret_document *out)
{
	out->count++;
	if (!check_text(l, n))
		return;
	out->value = n->text;
	out->binary = false;
}

static const struct yaml_node *get_entries(struct load *l, const struct yaml_node *root,
					   const char *field)
{
	const struct yaml_node *n = yaml_get(root, field);

	if (n == NULL || yaml_is_null(n) || n->type == YAML_MAPPING)
		return n == NULL || yaml_is_null(n) ? NULL : n;
	report_error(&l->report, n->at, field, " must be a mapping of keys to values", NULL);
	return NULL;
}

static void read_entries(struct load *l, const struct yaml_node *root, struct secret_document *out)
{
	const struct yaml_node *data = get_entries(l, root, "data");
	const struct yaml_node *text = get_entries(l, root, "stringData");

	/* One key in both is one entry, and stringData wins. */
	for (const struct yaml_node *n = data == NULL ? NULL : data->first; n != NULL; n = n->next)
		if (text == NULL || yaml_get(text, n->key->text) == NULL)
			read_data(l, n, out);
	for (const struct yaml_node *n = text == NULL ? NULL : text->first; n != NULL; n = n->next)
		read_text(l, n, out);
}

void kind_secret(struct load *l, const struct yaml_node *root)
{
	struct secret_document *s;
	struct metadata meta;

	schema_check(&l->report, root, schema_secret);
	l->arena.secret = true;
	if (!read_metadata(l, root, "Secret", &meta))
		return;
	s = arena_alloc(&l->arena, sizeof(*s));
	if (s == NULL)
		return;
	s->name = arena_join(&l->arena, meta.namespace, "/", meta.name, NULL);
	s->where = root->at;
	read_entries(l, root, s);
	if (s->name == NULL)
		return;
	s->next = l->secrets;
	l->secrets = s;
	l->secret_count++;
}

/* ---- use ---- */

static int secret_order(const void *x, const void *y)
{
	const struct secret_document *a = *(const struct secret_document *const *)x;
	const struct secret_document *b = *(const struct secret_document *const *)y;

	return strcmp(a->name, b->name);
}

/* Sorted by name; NULL when there are none, or memory is short. */
static const struct secret_document **sort_secrets(struct load *l)
{
	const struct secret_document **all =
		arena_array(&l->arena, l->secret_count, sizeof(struct secret_document *));
	size_t n = 0;

	if (all == NULL || l->secret_count == 0)
		return NULL;
	for (const struct secret_document *s = l->secrets; s != NULL; s = s->next)
		all[n++] = s;
	qsort(all, n, sizeof(struct secret_document *), secret_order);
	return all;
}

static void give(struct load *l, const struct secret_use *u, const struct secret_document *s)
{
	const char *wrong = NULL;
	char place[320];

	if (s->count != 1)
		wrong = s->count == 0
				? " has no entry"
				: " has more than one entry; which one is meant cannot be said";
	else if (s->value == NULL)
		return; /* said where it was read */
	else if (s->value[0] == '\0' && !s->binary)
		wrong = " has an empty value";
	else if (s->binary || !header_value_valid(s->value))
		wrong = " has a value that cannot stand in a header (control bytes or a newline,"
			" white space around it, or more than 8192 bytes)";
	u->rule->value = s->value;
	if (wrong != NULL)
		report_error(&l->report, u->at, "Secret ", s->name, wrong, ", see ",
			     report_place(s->where, place, sizeof(place)), NULL);
}

static void give_none(struct load *l, const struct secret_use *u)
{
	u->rule->never = u->rule->value == NULL;
	report_warning(&l->report, u->at, "there is no Secret ", u->rule->secret,
		       u->rule->never ? ": this rule never matches" : ": the value beside it holds",
		       NULL);
}

void secrets_give(struct load *l)
{
	const struct secret_document **all = sort_secrets(l);

	for (const struct secret_use *u = l->secret_uses; u != NULL; u = u->next) {
		const struct secret_document wanted = {.name = u->rule->secret};
		const struct secret_document *p = &wanted, **s = NULL;

		if (all != NULL)
			s = bsearch(&p, all, l->secret_count, sizeof(*all), secret_order);
		if (s != NULL)
			give(l, u, *s);
		else
			give_none(l, u);
	}
}
