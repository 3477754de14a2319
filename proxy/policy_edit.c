/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rules with effects make of a request's head. Cilium edits while it asks, in an order that
 * is not that of the documents; here all rules were asked before anything is edited, and an edit
 * is made only where the head as it is by then still does not match.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/policy_impl.h"
#include "proxy/regex.h"

struct policy_scratch *policy_scratch_new(void)
{
	struct policy_scratch *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->hits = regex_hits_new();
	if (s->hits != NULL)
		return s;
	free(s);
	return NULL;
}

void policy_scratch_free(struct policy_scratch *s)
{
	if (s == NULL)
		return;
	regex_hits_free(s->hits);
	for (enum http_field f = 0; f < HTTP_FIELDS; f++)
		free(s->ids[f].items);
	free(s->fields);
	free(s->matched);
	free(s);
}

const struct message *policy_head(const struct policy_scratch *s)
{
	return &s->head;
}

const struct policy_mismatches *policy_mismatches(const struct policy_scratch *s)
{
	return &s->mismatches;
}

/* Compares all of both: how long it takes says nothing of a secret. */
static bool equal(const char *a, const char *b, size_t n)
{
	volatile unsigned char differs = 0;

	for (size_t i = 0; i < n; i++)
		differs = (unsigned char)(differs | (a[i] ^ b[i]));
	return differs == 0;
}

static bool is_piece(const struct header_match *h, const char *at, struct slice piece)
{
	if (piece.len == 0)
		return true;
	return h->secret != NULL ? equal(at, piece.p, piece.len)
				 : memcmp(at, piece.p, piece.len) == 0;
}

/* Several fields of one name are one, joined by commas (RFC 9110 5.3), as Envoy reads them. */
bool header_matches(const struct header_match *h, const struct message *head)
{
	const char *want = h->value;
	size_t left = want == NULL ? 0 : strlen(want);
	bool found = false;

	for (size_t i = 0; i < head->field_count; i++) {
		const struct field f = message_nth(head, i);

		if (!slice_is_nocase(f.name, h->name))
			continue;
		if (want == NULL)
			return true;
		if (found && (left == 0 || *want != ','))
			return false;
		want += found;
		left -= found;
		found = true;
		if (left < f.value.len || !is_piece(h, want, f.value))
			return false;
		want += f.value.len;
		left -= f.value.len;
	}
	return found && left == 0;
}

/* ---- edits ---- */

static struct slice slice_of(const char *s)
{
	return (struct slice){s, s == NULL ? 0 : strlen(s)};
}

/* The fields become the scratch's own, with room for one more. */
static bool own(struct policy_scratch *s)
{
	size_t need = s->head.field_count + 1;

	if (need > s->room) {
		struct field *more = realloc(s->fields, need * 2 * sizeof(*more));

		if (more == NULL)
			return false;
		if (s->edited)
			s->head.fields = more;
		s->fields = more;
		s->room = need * 2;
	}
	if (!s->edited) {
		for (size_t i = 0; i < s->head.field_count; i++)
			s->fields[i] = message_nth(&s->head, i);
		s->head.fields = s->fields;
		s->came = s->head.field_count;
		s->edited = true;
	}
	return true;
}

/* Takes all fields of the name away; returns how many there were, and the place of the first. */
static size_t take(struct policy_scratch *s, const char *name, size_t *first)
{
	size_t kept = 0, came = s->came;

	*first = s->head.field_count;
	for (size_t i = 0; i < s->head.field_count; i++) {
		if (!slice_is_nocase(s->fields[i].name, name)) {
			s->fields[kept++] = s->fields[i];
			continue;
		}
		*first = kept < *first ? kept : *first;
		came -= i < s->came;
	}
	s->came = came;
	came = s->head.field_count - kept;
	s->head.field_count = kept;
	return came;
}

/* Once: two rules that add the same add one field. */
static void add(struct policy_scratch *s, const struct header_match *h)
{
	struct slice value = slice_of(h->value);

	for (size_t i = s->came; i < s->head.field_count; i++) {
		const struct field *f = &s->fields[i];

		if (slice_is_nocase(f->name, h->name) && f->value.len == value.len &&
		    (value.len == 0 || memcmp(f->value.p, value.p, value.len) == 0))
			return;
	}
	s->fields[s->head.field_count++] = (struct field){slice_of(h->name), value};
}

/* Where the first of them stood, or as the last. */
static void replace(struct policy_scratch *s, const struct header_match *h)
{
	size_t at;

	if (take(s, h->name, &at) == 0)
		at = s->head.field_count;
	else if (at < s->came)
		s->came++;
	memmove(&s->fields[at + 1], &s->fields[at],
		(s->head.field_count - at) * sizeof(*s->fields));
	s->fields[at] = (struct field){slice_of(h->name), slice_of(h->value)};
	s->head.field_count++;
}

static void note(struct policy_mismatches *m, const struct header_match *h)
{
	if (m->count < POLICY_MISMATCHES)
		m->items[m->count] = h;
	m->count++;
}

static bool edit(struct policy_scratch *s, const struct header_match *h)
{
	size_t first;

	if (h->mismatch == MISMATCH_DENY || header_matches(h, &s->head))
		return true;
	if (h->mismatch == MISMATCH_DELETE && message_field(&s->head, h->name).p == NULL)
		return true;
	note(&s->mismatches, h);
	if (h->mismatch == MISMATCH_LOG)
		return true;
	if (!own(s))
		return false;
	if (h->mismatch == MISMATCH_ADD)
		add(s, h);
	else if (h->mismatch == MISMATCH_REPLACE)
		replace(s, h);
	else
		(void)take(s, h->name, &first);
	return true;
}

bool policy_edit(struct policy_scratch *s)
{
	for (size_t i = 0; i < s->matched_count; i++)
		for (size_t j = 0; j < s->matched[i].match->header_count; j++)
			if (!edit(s, &s->matched[i].match->headers[j]))
				return false;
	return true;
}

void policy_mismatches_text(const struct policy_mismatches *m, struct text *out)
{
	static const char *const words[] = {"", "LOG", "ADD", "REPLACE", "DELETE"};

	for (unsigned i = 0; i < m->count && i < POLICY_MISMATCHES; i++) {
		const struct header_match *h = m->items[i];

		text_adds(out, i == 0 ? "" : ", ", h->where.file, ":", NULL);
		text_add_number(out, h->where.line);
		text_adds(out, " ", h->name, " ", words[h->mismatch], NULL);
	}
	if (m->count > POLICY_MISMATCHES)
		text_add(out, ", …");
}
