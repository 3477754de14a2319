/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzzer's function over every file of the folders (or files) named: the regression
 * test of a corpus, with any compiler and without libFuzzer. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t played;

static int play_file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *f = fopen(path, "rb");
	uint8_t *copy;
	size_t n;

	if (f == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	n = fread(bytes, 1, sizeof bytes, f);
	fclose(f);
	copy = malloc(n != 0 ? n : 1); /* so that a byte read too far is seen */
	if (copy == NULL)
		return -1;
	memcpy(copy, bytes, n);
	fprintf(stderr, "%s\n", path); /* the last one named is the one that aborts */
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
	played++;
	return 0;
}

static int play_folder(const char *path, DIR *d)
{
	struct dirent *e;
	char file[4096];
	int err = 0;

	while ((e = readdir(d)) != NULL && err == 0) {
		if (e->d_name[0] == '.')
			continue;
		if ((size_t)snprintf(file, sizeof file, "%s/%s", path, e->d_name) < sizeof file)
			err = play_file(file);
	}
	return err;
}

int main(int argc, char **argv)
{
	int err = 0;

	for (int i = 1; i < argc && err == 0; i++) {
		DIR *d = opendir(argv[i]);

		err = d != NULL ? play_folder(argv[i], d) : play_file(argv[i]);
		if (d != NULL)
			closedir(d);
	}
	printf("%zu inputs replayed\n", played);
	return err == 0 && played != 0 ? 0 : 1;
}
