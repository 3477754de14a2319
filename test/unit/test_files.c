/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/files.h"

static char dir[] = "/tmp/shunt-test-files-XXXXXX";
static char path[512];

static const char *in(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	char command[512];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static void yaml_files_are_read_in_the_order_of_their_paths(void **state)
{
	static const char *const want[] = {"shunt.yaml", "a.yml", "conf.d/b.yaml",
					   "conf.d/z/a.yaml", "conf.e.yaml"};
	struct document_files f;
	char *error;

	(void)state;
	mkdir(in("conf.d"), 0755);
	mkdir(in("conf.d/z"), 0755);
	put("conf.e.yaml", "e");
	put("conf.d/z/a.yaml", "");
	put("conf.d/b.yaml", "b: c\n");
	put("conf.d/b.yaml~", "old");
	put("conf.d/README", "no");
	put("conf.d/shunt.yaml.bak", "no");
	put("a.yml", "a");
	put("shunt.yaml", "workers: 1\n");
	assert_int_equal(files_read(dir, &f, &error), 0);
	assert_int_equal(f.count, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(f.items[i].path, want[i]);
		assert_int_equal(f.items[i].options, i == 0);
	}
	assert_int_equal(f.items[2].len, 5);
	assert_memory_equal(f.items[2].text, "b: c\n", 5);
	files_free(&f);
}

static void a_config_map_is_read_once(void **state)
{
	struct document_files f;
	char *error;

	(void)state;
	mkdir(in("..2026"), 0755);
	put("..2026/a.yaml", "x");
	assert_int_equal(symlink("..2026", in("..data")), 0);
	assert_int_equal(symlink("..data/a.yaml", in("a.yaml")), 0);
	put(".hidden.yaml", "x");
	assert_int_equal(files_read(dir, &f, &error), 0);
	assert_int_equal(f.count, 1);
	assert_string_equal(f.items[0].path, "a.yaml");
	assert_int_equal(f.items[0].len, 1);
	files_free(&f);
}

static void only_the_top_folders_shunt_yaml_is_options(void **state)
{
	struct document_files f;
	char *error;

	(void)state;
	mkdir(in("conf.d"), 0755);
	put("conf.d/shunt.yaml", "x");
	assert_int_equal(files_read(dir, &f, &error), 0);
	assert_int_equal(f.count, 1);
	assert_false(f.items[0].options);
	files_free(&f);
}

static void fails(const char *folder, int err, const char *text)
{
	struct document_files f;
	char *error = NULL;

	assert_int_equal(files_read(folder, &f, &error), err);
	assert_non_null(error);
	if (strstr(error, text) == NULL)
		fail_msg("'%s' is not in '%s'", text, error);
	assert_int_equal(f.count, 0);
	free(error);
}

static void what_cannot_be_read_is_named(void **state)
{
	char missing[600];

	(void)state;
	snprintf(missing, sizeof(missing), "%s/none", dir);
	fails(missing, -ENOENT, missing);
	assert_int_equal(symlink("nowhere", in("a.yaml")), 0);
	fails(dir, -ENOENT, "a.yaml: No such file");
}

static void a_loop_of_links_ends(void **state)
{
	(void)state;
	assert_int_equal(symlink(".", in("loop")), 0);
	fails(dir, -ELOOP, "nested too deeply");
}

static void a_file_larger_than_the_limit_is_refused(void **state)
{
	(void)state;
	put("a.yaml", "");
	assert_int_equal(truncate(in("a.yaml"), (16 << 20) + 1), 0);
	fails(dir, -EFBIG, "a.yaml: larger than 16 MiB");
}

static void a_pipe_named_yaml_does_not_hang(void **state)
{
	struct document_files f;
	char *error;

	(void)state;
	assert_int_equal(mkfifo(in("a.yaml"), 0644), 0);
	assert_int_equal(files_read(dir, &f, &error), 0);
	assert_int_equal(f.count, 0);
	files_free(&f);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(yaml_files_are_read_in_the_order_of_their_paths),
		T(a_config_map_is_read_once),
		T(only_the_top_folders_shunt_yaml_is_options),
		T(what_cannot_be_read_is_named),
		T(a_loop_of_links_ends),
		T(a_file_larger_than_the_limit_is_refused),
		T(a_pipe_named_yaml_does_not_hang),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
