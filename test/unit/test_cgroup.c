/* SPDX-License-Identifier: Apache-2.0 */
/* Where a unit's cgroup is: a tree of folders as systemd makes it. */
#include <errno.h>
#include <limits.h>
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

#include "proxy/cgroup.h"

static char root[64];

static void make(const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof full, "%s/%s", root, path);
	assert_int_equal(mkdir(full, 0755), 0);
}

static int begin(void **state)
{
	static const char *const tree[] = {
		"system.slice",
		"system.slice/nginx.service",
		"system.slice/nginx.service/worker.service", /* a unit's own below it */
		"system.slice/system-getty.slice",
		"system.slice/system-getty.slice/getty@tty1.service",
		"a.slice",
		"shop.slice",
		"shop.slice/shop-api.slice",
		"shop.slice/shop-api.slice/shop-api-v2.slice",
		"shop.slice/shop-api.slice/shop-api-v2.slice/api.service",
		"init.scope",
		"kubepods", /* of another manager's */
		"kubepods/hidden.service",
		".slice",
		".slice/nameless.service",
	};

	(void)state;
	strcpy(root, "/tmp/test_cgroup-XXXXXX");
	if (mkdtemp(root) == NULL)
		return -1;
	for (size_t i = 0; i < sizeof tree / sizeof tree[0]; i++)
		make(tree[i]);
	return 0;
}

static int end(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -rf '%s'", root);
	return system(command);
}

static void found_at(const char *unit, const char *where)
{
	char path[PATH_MAX], expected[PATH_MAX];

	snprintf(expected, sizeof expected, "%s/%s", root, where);
	assert_int_equal(cgroup_find_unit(root, unit, path, sizeof path), 0);
	assert_string_equal(path, expected);
}

static void a_unit_is_found_in_its_slice(void **state)
{
	(void)state;
	found_at("nginx.service", "system.slice/nginx.service");
	found_at("getty@tty1.service", "system.slice/system-getty.slice/getty@tty1.service");
	found_at("api.service", "shop.slice/shop-api.slice/shop-api-v2.slice/api.service");
	found_at("init.scope", "init.scope");
	found_at("shop-api.slice", "shop.slice/shop-api.slice");
	found_at("system.slice", "system.slice");
}

static void a_folder_that_is_no_slice_is_not_looked_into(void **state)
{
	static const char *const none[] = {"absent.service", "hidden.service", "worker.service",
					   "nameless.service"};
	char path[PATH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		assert_int_equal(cgroup_find_unit(root, none[i], path, sizeof path), -ENOENT);
}

static void a_path_that_does_not_fit_is_none(void **state)
{
	static const char where[] = "shop.slice/shop-api.slice/shop-api-v2.slice/api.service";
	char path[PATH_MAX], full[PATH_MAX];
	size_t n = (size_t)snprintf(full, sizeof full, "%s/%s", root, where);

	(void)state;
	assert_int_equal(cgroup_find_unit(root, "api.service", path, n), -ENAMETOOLONG);
	assert_int_equal(cgroup_find_unit(root, "api.service", path, n + 1), 0);
	assert_string_equal(path, full);
}

static void without_the_tree_nothing_runs(void **state)
{
	char path[PATH_MAX];

	(void)state;
	assert_int_equal(cgroup_find_unit("/nonexistent", "a.service", path, sizeof path), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_unit_is_found_in_its_slice),
		cmocka_unit_test(a_folder_that_is_no_slice_is_not_looked_into),
		cmocka_unit_test(a_path_that_does_not_fit_is_none),
		cmocka_unit_test(without_the_tree_nothing_runs),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
