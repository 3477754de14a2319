/* SPDX-License-Identifier: Apache-2.0 */
#include "config_load.h"

#include "config/yaml.h"

struct tree {
	struct document_file file;
	struct arena arena;
	struct report report;
	struct yaml_document *docs;
	struct findings f;
};

static void tree_read_n(struct tree *t, const char *text, size_t len)
{
	*t = (struct tree){.file = {.path = "t.yaml", .text = text, .len = len}};
	t->report.files = &t->file;
	t->report.file_count = 1;
	yaml_read(&t->arena, &t->report, &t->file, &t->docs);
	report_finish(&t->report, &t->f);
	assert_false(t->report.failed);
}

static void tree_read(struct tree *t, const char *text)
{
	tree_read_n(t, text, strlen(text));
}

static void tree_free(struct tree *t)
{
	findings_free(&t->f);
	arena_free(&t->arena);
}

static void at(const struct yaml_node *n, unsigned line, unsigned column)
{
	assert_int_equal(n->at.line, line);
	assert_int_equal(n->at.column, column);
}

static void keys_and_values_have_their_place(void **state)
{
	struct tree t;
	const struct yaml_node *a, *b;

	(void)state;
	tree_read(&t, "# c\na:\n  - x\n  - {b: 'y', \"c\": z}\nd: |\n  text\n");
	assert_int_equal(t.f.count, 0);
	a = yaml_get(t.docs->root, "a");
	at(a->key, 2, 1);
	at(a, 3, 3);
	at(a->first, 3, 5);
	b = yaml_get(a->last, "b");
	at(b->key, 4, 6);
	at(b, 4, 9); /* the quote */
	at(yaml_get(a->last, "c")->key, 4, 14);
	assert_string_equal(yaml_get(t.docs->root, "d")->text, "text\n");
	assert_int_equal(a->count, 2);
	assert_null(yaml_get(t.docs->root, "x"));
	assert_null(yaml_get(a, "x"));
	assert_null(yaml_get(NULL, "x"));
	tree_free(&t);
}

static void columns_count_characters_not_bytes(void **state)
{
	struct tree t;

	(void)state;
	tree_read(&t, "{\"é\": b}\n");
	at(t.docs->root->first, 1, 7);
	tree_free(&t);
}

static void how_a_word_was_quoted_is_kept(void **state)
{
	static const struct {
		const char *text;
		bool null, boolean, number;
	} words[] = {
		{"yes", false, true, false},	  {"'yes'", false, false, false},
		{"\"yes\"", false, false, false}, {"No", false, true, false},
		{"OFF", false, true, false},	  {"true", false, true, false},
		{"y", false, true, false},	  {"yess", false, false, false},
		{"~", true, false, false},	  {"null", true, false, false},
		{"'null'", false, false, false},  {"", true, false, false},
		{"''", false, false, false},	  {"12", false, false, true},
		{"'12'", false, false, false},	  {"-1.5e3", false, false, true},
		{"0x1f", false, false, true},	  {"1_000", false, false, true},
		{".inf", false, false, true},	  {"1.2.3", false, false, false},
		{"1a", false, false, false},	  {"-", false, false, false},
		{"1e", false, false, false},	  {".", false, false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char text[64];
		struct tree t;
		const struct yaml_node *n;
		bool value;

		snprintf(text, sizeof(text), "{a: %s }", words[i].text);
		if (strcmp(words[i].text, "-") == 0)
			continue;
		tree_read(&t, text);
		n = yaml_get(t.docs->root, "a");
		assert_int_equal(yaml_is_null(n), words[i].null);
		assert_int_equal(yaml_is_boolean(n, &value), words[i].boolean);
		assert_int_equal(yaml_is_number(n), words[i].number);
		tree_free(&t);
	}
}

static void a_file_holds_several_documents_and_empty_ones_do_not_count(void **state)
{
	struct tree t;

	(void)state;
	tree_read(&t, "---\n---\na: 1\n---\n# nothing\n---\n~\n...\n---\nb: 2\n");
	assert_int_equal(t.f.count, 0);
	assert_non_null(yaml_get(t.docs->root, "a"));
	assert_non_null(yaml_get(t.docs->next->root, "b"));
	assert_null(t.docs->next->next);
	tree_free(&t);
}

/* n documents are left, and the first finding is this one. */
static void refused_n(const char *text, size_t len, size_t left, unsigned line, unsigned column,
		      const char *error)
{
	struct tree t;
	size_t n = 0;

	tree_read_n(&t, text, len);
	assert_true(t.f.count > 0);
	assert_string_equal(t.f.items[0].text, error);
	assert_int_equal(t.f.items[0].where.line, line);
	assert_int_equal(t.f.items[0].where.column, column);
	for (struct yaml_document *d = t.docs; d != NULL; d = d->next)
		n++;
	assert_int_equal(n, left);
	tree_free(&t);
}

static void refused(const char *text, size_t left, unsigned line, unsigned column,
		    const char *error)
{
	refused_n(text, strlen(text), left, line, column, error);
}

static void a_key_may_occur_once(void **state)
{
	(void)state;
	refused("a: 1\nb: 2\n\"a\": 3\n---\nc: 1\n", 1, 3, 1,
		"duplicate key 'a', first at t.yaml:1");
	refused("x: {b: 1, c: 2, b: 3}\n", 0, 1, 17, "duplicate key 'b', first at t.yaml:1");
}

static void anchors_aliases_and_tags_are_refused_and_never_expanded(void **state)
{
	(void)state;
	refused("a: &x [1]\nb: 1\n", 0, 1, 7,
		"anchors (&name) are not supported in policy documents");
	refused("b: *x\n---\nc: 1\n", 1, 1, 5,
		"aliases (*name) are not supported in policy documents");
	refused("b: !!str x\n", 0, 1, 10, "tags (!name) are not supported in policy documents");
	refused("&a [*a,*a]: b\n", 0, 1, 4,
		"anchors (&name) are not supported in policy documents");
}

static void bytes_that_are_no_text_are_refused_before_parsing(void **state)
{
	(void)state;
	refused_n("a: b\nc: \xff\n", 10, 0, 2, 4, "not UTF-8");
	refused_n("a: \xed\xa0\x80\n", 7, 0, 1, 4, "not UTF-8");
	refused_n("a: \xc0\xaf\n", 6, 0, 1, 4, "not UTF-8");
	refused_n("a: \0b\n", 6, 0, 1, 4, "a control byte");
	refused_n("\033a: b\n", 6, 0, 1, 1, "a control byte");
	refused("a: \"b\\0c\"\n", 0, 1, 4, "a NUL byte (\\0) in text");
}

static void nesting_is_bounded(void **state)
{
	static char text[20000];

	(void)state;
	memset(text, '[', sizeof(text));
	refused_n(text, sizeof(text), 0, 1, 25, "nested too deeply");
	for (size_t i = 0; i < 10000; i += 2)
		memcpy(text + i, "- ", 2);
	refused_n(text, 10000, 0, 1, 49, "nested too deeply");
}

static void a_key_is_plain_text(void **state)
{
	(void)state;
	refused("? {a: b}\n: c\n", 0, 1, 3, "a key must be plain text, not a list or a mapping");
	refused("[a, b]: c\n", 0, 1, 1, "a key must be plain text, not a list or a mapping");
}

static void a_syntax_error_is_one_line_and_leaves_the_documents_before_it(void **state)
{
	struct tree t;

	(void)state;
	refused("a: 1\n---\nb:\n  c: d\n e: f\n", 1, 5, 2, "YAML: invalid indentation in mapping");
	refused("a: [1,\n  2\n", 0, 3, 1, "YAML: flow sequence without a closing bracket");
	tree_read(&t, "a:\n\tb: c\n");
	assert_int_equal(t.f.count, 1);
	assert_int_equal(t.f.errors, 1);
	assert_non_null(t.f.items[0].excerpt);
	tree_free(&t);
}

static void a_long_mapping_is_read_in_reasonable_time(void **state)
{
	size_t n = 0, size = 100000 * 12;
	char *text = malloc(size);
	struct tree t;

	(void)state;
	for (unsigned i = 0; i < 100000; i++)
		n += (size_t)snprintf(text + n, size - n, "k%u: v\n", i);
	tree_read_n(&t, text, n);
	assert_int_equal(t.docs->root->count, 100000);
	tree_free(&t);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_and_values_have_their_place),
		cmocka_unit_test(columns_count_characters_not_bytes),
		cmocka_unit_test(how_a_word_was_quoted_is_kept),
		cmocka_unit_test(a_file_holds_several_documents_and_empty_ones_do_not_count),
		cmocka_unit_test(a_key_may_occur_once),
		cmocka_unit_test(anchors_aliases_and_tags_are_refused_and_never_expanded),
		cmocka_unit_test(bytes_that_are_no_text_are_refused_before_parsing),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(a_key_is_plain_text),
		cmocka_unit_test(a_syntax_error_is_one_line_and_leaves_the_documents_before_it),
		cmocka_unit_test(a_long_mapping_is_read_in_reasonable_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
