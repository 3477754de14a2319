/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfyaml's events -> trees. The event interface (not the document one) because it never
 * expands an alias and gives every token's mark.
 */
#include "config/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "config/text.h"

struct reader {
	struct arena *arena;
	struct report *report;
	const struct document_file *file;
	struct yaml_node *stack[YAML_DEPTH]; /* open containers */
	size_t depth;
	struct yaml_node *key; /* read, its value is to come */
	struct yaml_node *root; /* of the current document */
	struct location last; /* of the token before, for those without a mark */
	bool spoilt; /* the current document has an error */
	bool stop; /* no use in reading on */
	struct yaml_document **tail;
};

static struct location mark(struct reader *y, const struct fy_mark *m)
{
	if (m != NULL)
		y->last = (struct location){y->file->path, (unsigned)m->line + 1,
					    (unsigned)m->column + 1};
	return y->last;
}

static void spoil(struct reader *y, struct location at, const char *what)
{
	report_error(y->report, at, what, NULL);
	y->spoilt = true;
}

static void halt(struct reader *y, struct location at, const char *what)
{
	spoil(y, at, what);
	y->stop = true;
}

static struct yaml_node *node_new(struct reader *y, enum yaml_type type, struct location at)
{
	struct yaml_node *n = arena_alloc(y->arena, sizeof(*n));

	if (n == NULL) {
		y->stop = y->spoilt = true;
		return NULL;
	}
	n->type = type;
	n->at = at;
	return n;
}

static void attach(struct reader *y, struct yaml_node *n)
{
	struct yaml_node *parent = y->depth > 0 ? y->stack[y->depth - 1] : NULL;

	if (parent == NULL) {
		y->root = n;
		return;
	}
	if (parent->type == YAML_MAPPING && y->key == NULL) {
		if (n->type != YAML_SCALAR)
			halt(y, n->at, "a key must be plain text, not a list or a mapping");
		y->key = n;
		return;
	}
	if (parent->type == YAML_MAPPING) {
		n->key = y->key;
		y->key = NULL;
	}
	if (parent->last == NULL)
		parent->first = n;
	else
		parent->last->next = n;
	parent->last = n;
	parent->count++;
}

static void open_container(struct reader *y, enum yaml_type type, struct location at)
{
	struct yaml_node *n = node_new(y, type, at);

	if (n == NULL)
		return;
	if (y->depth == YAML_DEPTH) {
		halt(y, at, "nested too deeply");
		return;
	}
	attach(y, n);
	y->stack[y->depth++] = n;
}

static int key_order(const void *x, const void *y)
{
	const struct yaml_node *a = *(const struct yaml_node *const *)x;
	const struct yaml_node *b = *(const struct yaml_node *const *)y;
	int c = strcmp(a->key->text, b->key->text);

	if (c != 0)
		return c;
	return report_before(a->key->at, b->key->at) ? -1 : 1;
}

static void duplicate(struct reader *y, const struct yaml_node *first,
		      const struct yaml_node *second)
{
	char place[320];

	report_error(y->report, second->key->at, "duplicate key '", second->key->text,
		     "', first at ", report_place(first->key->at, place, sizeof(place)), NULL);
	y->spoilt = true;
}

/* Sorted, because a mapping may be long. */
static void check_duplicates(struct reader *y, const struct yaml_node *mapping)
{
	const struct yaml_node **keys;
	size_t n = 0;

	if (mapping->count < 2)
		return;
	keys = malloc(mapping->count * sizeof(*keys));
	if (keys == NULL) {
		y->report->failed = true;
		return;
	}
	for (const struct yaml_node *c = mapping->first; c != NULL; c = c->next)
		keys[n++] = c;
	qsort(keys, n, sizeof(*keys), key_order);
	for (size_t i = 1; i < n; i++)
		if (strcmp(keys[i - 1]->key->text, keys[i]->key->text) == 0)
			duplicate(y, keys[i - 1], keys[i]);
	free(keys);
}

static void close_container(struct reader *y)
{
	struct yaml_node *n = y->stack[--y->depth];

	if (n->type == YAML_MAPPING)
		check_duplicates(y, n);
}

static bool quoted(struct fy_token *value)
{
	enum fy_scalar_style style = value == NULL ? FYSS_PLAIN : fy_token_scalar_style(value);

	return style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
}

static void take_scalar(struct reader *y, struct fy_token *value, struct location at)
{
	struct yaml_node *n = node_new(y, YAML_SCALAR, at);
	size_t len = 0;
	const char *text = value == NULL ? "" : fy_token_get_text(value, &len);

	if (n == NULL)
		return;
	if (quoted(value) && n->at.column > 1)
		n->at.column--; /* the mark is behind the quote */
	if (text == NULL) { /* libfyaml ran out of memory */
		y->report->failed = y->stop = y->spoilt = true;
		return;
	}
	n->plain = value == NULL || fy_token_scalar_style(value) == FYSS_PLAIN;
	n->text = arena_copy(y->arena, text, len);
	n->len = len;
	if (n->text == NULL) {
		y->stop = y->spoilt = true;
		return;
	}
	if (memchr(n->text, '\0', len) != NULL)
		halt(y, n->at, "a NUL byte (\\0) in text");
	attach(y, n);
}

static void document_ended(struct reader *y)
{
	struct yaml_node *root = y->root;
	struct yaml_document *d;

	y->root = NULL;
	y->depth = 0;
	y->key = NULL;
	if (y->spoilt || root == NULL || yaml_is_null(root))
		return;
	d = arena_alloc(y->arena, sizeof(*d));
	if (d == NULL)
		return;
	d->root = root;
	*y->tail = d;
	y->tail = &d->next;
}

static void refuse_decoration(struct reader *y, const struct fy_event *e, struct location at)
{
	const struct fy_token *anchor = NULL, *tag = NULL;

	if (e->type == FYET_SCALAR) {
		anchor = e->scalar.anchor;
		tag = e->scalar.tag;
	} else if (e->type == FYET_SEQUENCE_START) {
		anchor = e->sequence_start.anchor;
		tag = e->sequence_start.tag;
	} else if (e->type == FYET_MAPPING_START) {
		anchor = e->mapping_start.anchor;
		tag = e->mapping_start.tag;
	}
	if (anchor != NULL)
		spoil(y, at, "anchors (&name) are not supported in policy documents");
	if (tag != NULL)
		spoil(y, at, "tags (!name) are not supported in policy documents");
}

static void take_event(struct reader *y, struct fy_event *e)
{
	struct location at = mark(y, fy_event_start_mark(e));

	refuse_decoration(y, e, at);
	switch (e->type) {
	case FYET_DOCUMENT_START:
		y->spoilt = false;
		break;
	case FYET_DOCUMENT_END:
		document_ended(y);
		break;
	case FYET_MAPPING_START:
		open_container(y, YAML_MAPPING, at);
		break;
	case FYET_SEQUENCE_START:
		open_container(y, YAML_SEQUENCE, at);
		break;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		close_container(y);
		break;
	case FYET_SCALAR:
		take_scalar(y, e->scalar.value, at);
		break;
	case FYET_ALIAS:
		spoil(y, at, "aliases (*name) are not supported in policy documents");
		take_scalar(y, NULL, at);
		break;
	default:
		break;
	}
}

/* Not UTF-8, or bytes that no text has: said here, before libfyaml sees them. */
static bool check_bytes(struct reader *y)
{
	struct location at = {y->file->path, 1, 1};
	const char *p = y->file->text, *end = p + y->file->len;

	if (y->file->len > YAML_SIZE_MAX) {
		halt(y, at, "larger than 16 MiB");
		return false;
	}
	while (p < end) {
		size_t n = text_utf8(p, (size_t)(end - p));
		unsigned char c = (unsigned char)*p;

		if (n == 0) {
			halt(y, at, "not UTF-8");
			return false;
		}
		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
			halt(y, at, "a control byte");
			return false;
		}
		at.column++;
		if (c == '\n') {
			at.line++;
			at.column = 1;
		}
		p += n;
	}
	return true;
}

static void syntax_error(struct reader *y, struct fy_diag *diag)
{
	struct fy_diag_error *e;
	void *prev = NULL;

	while ((e = fy_diag_errors_iterate(diag, &prev)) != NULL) {
		struct location at = y->last;

		if (e->type != FYET_ERROR)
			continue;
		if (e->line > 0) {
			at.line = (unsigned)e->line;
			at.column = e->column > 0 ? (unsigned)e->column : 1;
		}
		report_error(y->report, at, "YAML: ", e->msg == NULL ? "syntax error" : e->msg,
			     NULL);
		return;
	}
	report_error(y->report, y->last, "YAML: syntax error", NULL);
}

static void diag_quiet(struct fy_diag *d, void *user, const char *buf, size_t len)
{
	(void)d;
	(void)user;
	(void)buf;
	(void)len;
}

static struct fy_diag *diag_new(void)
{
	struct fy_diag_cfg cfg;
	struct fy_diag *d;

	fy_diag_cfg_default(&cfg);
	cfg.fp = NULL;
	cfg.output_fn = diag_quiet;
	cfg.colorize = false;
	cfg.level = FYET_ERROR;
	d = fy_diag_create(&cfg);
	if (d != NULL)
		fy_diag_set_collect_errors(d, true);
	return d;
}

static void parse(struct reader *y, struct fy_parser *fyp, struct fy_diag *diag)
{
	struct fy_event *e;

	if (fy_parser_set_string(fyp, y->file->text, y->file->len) != 0) {
		y->report->failed = true;
		return;
	}
	while (!y->stop && (e = fy_parser_parse(fyp)) != NULL) {
		take_event(y, e);
		fy_parser_event_free(fyp, e);
	}
	if (!y->stop && fy_parser_get_stream_error(fyp))
		syntax_error(y, diag);
}

void yaml_read(struct arena *arena, struct report *report, const struct document_file *file,
	       struct yaml_document **docs)
{
	struct reader y = {.arena = arena, .report = report, .file = file, .tail = docs};
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DISABLE_MMAP_OPT};
	struct fy_parser *fyp = NULL;

	while (*y.tail != NULL)
		y.tail = &(*y.tail)->next;
	y.last = (struct location){file->path, 1, 1};
	if (file->len == 0 || !check_bytes(&y))
		return;
	cfg.diag = diag_new();
	if (cfg.diag != NULL)
		fyp = fy_parser_create(&cfg);
	if (fyp == NULL)
		report->failed = true;
	else
		parse(&y, fyp, cfg.diag);
	fy_parser_destroy(fyp);
	fy_diag_destroy(cfg.diag);
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
	if (mapping == NULL || mapping->type != YAML_MAPPING)
		return NULL;
	for (const struct yaml_node *c = mapping->first; c != NULL; c = c->next)
		if (strcmp(c->key->text, key) == 0)
			return c;
	return NULL;
}

static bool one_of(const char *s, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

bool yaml_is_null(const struct yaml_node *n)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};

	return n->type == YAML_SCALAR && n->plain && one_of(n->text, words);
}

bool yaml_is_boolean(const struct yaml_node *n, bool *value)
{
	static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
					  "on",	  "On",	  "ON",	  "y",	 "Y",	NULL};
	static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO",
					 "off",	  "Off",   "OFF",   "n",  "N",	NULL};

	if (n->type != YAML_SCALAR || !n->plain)
		return false;
	*value = one_of(n->text, yes);
	return *value || one_of(n->text, no);
}

bool yaml_is_number(const struct yaml_node *n)
{
	static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
	const char *s;
	bool digits = false;

	if (n->type != YAML_SCALAR || !n->plain)
		return false;
	s = n->text + (n->text[0] == '-' || n->text[0] == '+');
	if (one_of(s, words))
		return true;
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'o' || s[1] == 'b'))
		return s[2] != '\0' && strspn(s + 2, "0123456789abcdefABCDEF_") == strlen(s + 2);
	for (; (*s >= '0' && *s <= '9') || *s == '_'; s++)
		digits |= *s != '_';
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++)
			digits = true;
	if (digits && (*s == 'e' || *s == 'E')) {
		s += 1 + (s[1] == '-' || s[1] == '+');
		digits = *s >= '0' && *s <= '9';
		while (*s >= '0' && *s <= '9')
			s++;
	}
	return digits && *s == '\0';
}
