/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.so, for LD_PRELOAD: counts what a program takes from malloc into the file that HEAP_COUNTS
 * names, so that it can be read while the program runs. Bytes are what malloc really spends, its
 * own word before each block included.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORD 8

/* glibc's own, under the names that do not come back here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

struct counts {
	_Atomic int64_t calls; /* of malloc, calloc, realloc and their like */
	_Atomic int64_t live; /* bytes */
};

static struct counts nobody_reads;
static struct counts *counts = &nobody_reads;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("HEAP_COUNTS");
	int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *p;

	if (fd < 0 || ftruncate(fd, sizeof *counts) < 0)
		return;
	p = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return;
	counts = p;
	counts->calls = nobody_reads.calls;
	counts->live = nobody_reads.live;
}

static void *taken(void *p)
{
	counts->calls++;
	if (p != NULL)
		counts->live += (int64_t)malloc_usable_size(p) + WORD;
	return p;
}

static void given(void *p)
{
	if (p != NULL)
		counts->live -= (int64_t)malloc_usable_size(p) + WORD;
}

void *malloc(size_t size)
{
	return taken(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
	return taken(__libc_calloc(n, size));
}

void *realloc(void *p, size_t size)
{
	given(p);
	return taken(__libc_realloc(p, size));
}

void *aligned_alloc(size_t align, size_t size)
{
	return taken(__libc_memalign(align, size));
}

int posix_memalign(void **to, size_t align, size_t size)
{
	*to = taken(__libc_memalign(align, size));
	return *to != NULL ? 0 : ENOMEM;
}

void free(void *p)
{
	given(p);
	__libc_free(p);
}
