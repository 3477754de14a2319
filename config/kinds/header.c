/* SPDX-License-Identifier: Apache-2.0 */
/*
 * headers and headerMatches of an http rule. A match may edit the head that goes upstream, so
 * what a document may say is narrow: names are tokens, values could have come in one field, and
 * the fields that say where a message ends, where it goes and what belongs to the connection
 * are not edited.
 */
#include <string.h>

#include "config/kinds/kind.h"
#include "config/schema.h"
#include "proxy/codec/message.h"

#define VALUE_MAX 8192U /* bytes of a value */

static bool is_listed(const char *name, const char *const *known)
{
	const struct slice s = {name, strlen(name)};

	for (; *known != NULL; known++)
		if (slice_reads_as(s, *known))
			return true;
	return false;
}

/* The codec keeps these to itself, so a rule on them could never match. */
static bool header_hidden(const char *name)
{
	static const char *const hidden[] = {
		"connection",	     "keep-alive", "proxy-connection", "te",
		"transfer-encoding", "upgrade",	   "content-length",   NULL};

	return is_listed(name, hidden);
}

/* Editing one of these would make another request of it. */
static bool header_fixed(const char *name)
{
	static const char *const fixed[] = {"host", "trailer", "expect", "http2-settings", NULL};

	return is_listed(name, fixed);
}

static bool is_token(const char *s)
{
	static const char more[] = "!#$%&'*+-.^_`|~";
	const char *p = s;

	for (; *p != '\0'; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		      (*p >= '0' && *p <= '9') || strchr(more, *p) != NULL))
			return false;
	return p > s;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

bool header_value_valid(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (((unsigned char)s[i] < 0x20 && s[i] != '\t') || s[i] == 0x7f)
			return false;
	return n <= VALUE_MAX && (n == 0 || (!is_space(s[0]) && !is_space(s[n - 1])));
}

static bool check_name(struct load *l, struct location at, const char *name, const char *hint)
{
	if (!is_token(name)) {
		report_error(&l->report, at, "'", name, "' is not the name of a header", hint,
			     NULL);
		return false;
	}
	if (header_hidden(name)) {
		report_error(&l->report, at, "header '", name,
			     "' belongs to the connection; rules on it are not enforced", NULL);
		return false;
	}
	return true;
}

/* "Name: value", "Name value" or "Name". */
static bool read_header(struct load *l, const struct yaml_node *n, struct header_rule *out)
{
	const char *s = read_string(l, n), *space;
	size_t len;

	if (s == NULL)
		return false;
	space = strchr(s, ' ');
	len = space == NULL ? n->len : (size_t)(space - s);
	if (len > 0 && s[len - 1] == ':')
		len--;
	out->name = arena_copy(&l->arena, s, len);
	out->value = space == NULL ? NULL : space + 1;
	out->where = n->at;
	return out->name != NULL &&
	       check_name(l, n->at, out->name, " (write 'Name: value' or 'Name')");
}

static void read_headers(struct load *l, const struct yaml_node *list, struct header_rule *h,
			 size_t *count)
{
	for (const struct yaml_node *n = list->first; n != NULL; n = n->next)
		if (read_header(l, n, &h[*count]))
			(*count)++;
}

/* ---- headerMatches ---- */

static bool read_mismatch(struct load *l, const struct yaml_node *n, enum mismatch *out)
{
	static const char *const words[] = {"LOG", "ADD", "REPLACE", "DELETE", NULL};
	const char *s = read_string(l, n), *near;

	if (s == NULL)
		return false;
	for (size_t i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], s) == 0) {
			*out = (enum mismatch)(MISMATCH_LOG + i);
			return true;
		}
	near = report_nearest_of(s, words);
	report_error(&l->report, n->at, "unknown mismatch '", s, "'; ",
		     near == NULL ? "" : "did you mean '", near == NULL ? "" : near,
		     near == NULL ? "" : "'? ", "(LOG, ADD, REPLACE, DELETE; left out: the rule",
		     " does not match)", NULL);
	return false;
}

/* "namespace/name" of a reference, or NULL after a complaint. */
static const char *read_reference(struct load *l, const char *namespace, const struct yaml_node *n)
{
	const struct yaml_node *space, *name;
	const char *s;

	if (!schema_check(&l->report, n, schema_secret_reference))
		return NULL;
	space = yaml_get(n, "namespace");
	name = yaml_get(n, "name");
	if (name == NULL) {
		report_error(&l->report, n->at, "secret has no name", NULL);
		return NULL;
	}
	if (space != NULL && !yaml_is_null(space))
	namespace = read_string(l, space);
	s = yaml_is_null(name) ? NULL : read_string(l, name);
	if (s == NULL || namespace == NULL)
		return NULL;
	if (name_valid(s, 253) && name_valid(namespace, 63))
		return arena_join(&l->arena, namespace, "/", s, NULL);
	report_error(&l->report, n->at, "'", namespace, "/", s, "' is not the name of a Secret",
		     NULL);
	return NULL;
}

static bool use_secret(struct load *l, struct header_rule *h, const char *secret,
		       struct location at)
{
	struct secret_use *u = arena_alloc(&l->arena, sizeof(*u));

	if (u == NULL || secret == NULL)
		return false;
	h->secret = secret;
	*u = (struct secret_use){.rule = h, .at = at, .next = l->secret_uses};
	l->secret_uses = u;
	return true;
}

static bool edits(enum mismatch m)
{
	return m == MISMATCH_ADD || m == MISMATCH_REPLACE || m == MISMATCH_DELETE;
}

static bool read_match_name(struct load *l, const struct yaml_node *n, struct header_rule *out)
{
	const struct yaml_node *name = yaml_get(n, "name");

	if (name == NULL)
		report_error(&l->report, n->at, "a header match needs a name", NULL);
	if (name == NULL || yaml_is_null(name))
		return false;
	out->name = read_string(l, name);
	if (out->name == NULL || !check_name(l, name->at, out->name, ""))
		return false;
	if (!edits(out->mismatch) || !header_fixed(out->name))
		return true;
	report_error(&l->report, name->at, "header '", out->name,
		     "' says what the request is; it may be matched, but not edited", NULL);
	return false;
}

/* The value is not said again: people write secrets there. */
static bool read_match_value(struct load *l, const struct yaml_node *n, struct header_rule *out)
{
	const struct yaml_node *value = yaml_get(n, "value");

	if (value == NULL || yaml_is_null(value))
		return value == NULL;
	if (value->type != YAML_SCALAR || yaml_is_number(value) ||
	    yaml_is_boolean(value, &(bool){false})) {
		report_error(&l->report, value->at, "value must be text; put it in quotes", NULL);
		return false;
	}
	if (!header_value_valid(value->text)) {
		report_error(&l->report, value->at,
			     "this value cannot stand in a header (control bytes, white space"
			     " around it, or more than 8192 bytes)",
			     NULL);
		return false;
	}
	out->value = value->len == 0 ? NULL : value->text;
	return true;
}

static bool read_match(struct load *l, const char *namespace, const struct yaml_node *n,
		       struct header_rule *out)
{
	const struct yaml_node *mismatch, *secret;
	bool good = true;

	*out = (struct header_rule){.where = n->at};
	if (!schema_check(&l->report, n, schema_header_match))
		return false;
	mismatch = yaml_get(n, "mismatch");
	secret = yaml_get(n, "secret");
	if (mismatch != NULL && !yaml_is_null(mismatch))
		good = read_mismatch(l, mismatch, &out->mismatch);
	good &= read_match_name(l, n, out);
	good &= read_match_value(l, n, out);
	if (good && secret != NULL && !yaml_is_null(secret))
		good = use_secret(l, out, read_reference(l, namespace, secret), secret->at);
	return good;
}

/* NULL when it is none to read. */
static const struct yaml_node *get_list(struct load *l, const struct yaml_node *rule,
					const char *field)
{
	const struct yaml_node *n = yaml_get(rule, field);

	return n != NULL && read_is_list(l, n) ? n : NULL;
}

void read_header_rules(struct load *l, const char *namespace, const struct yaml_node *rule,
		       struct http_rule *out)
{
	const struct yaml_node *headers = get_list(l, rule, "headers");
	const struct yaml_node *matches = get_list(l, rule, "headerMatches");
	struct header_rule *h = arena_array(&l->arena,
					    (headers == NULL ? 0 : headers->count) +
						    (matches == NULL ? 0 : matches->count),
					    sizeof(*h));

	if (h == NULL)
		return;
	out->headers = h;
	if (headers != NULL)
		read_headers(l, headers, h, &out->header_count);
	for (const struct yaml_node *n = matches == NULL ? NULL : matches->first; n != NULL;
	     n = n->next)
		if (read_match(l, namespace, n, &h[out->header_count]))
			out->header_count++;
}
