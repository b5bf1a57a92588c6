/* A program of known work: storm faults|deep|syscalls|spin COUNT [DEPTH]
 *   faults N     touches N fresh pages
 *   deep N D     the same, from D frames deep (keep frame pointers: -O1 -fno-omit-frame-pointer)
 *   syscalls N   calls getppid N times
 *   spin N       N rounds of arithmetic
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void touch(unsigned long pages)
{
	const unsigned long chunk = 16384, page = (unsigned long)sysconf(_SC_PAGESIZE);

	while (pages) {
		unsigned long n = pages < chunk ? pages : chunk;
		volatile char *area = mmap(NULL, n * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED)
			exit(1);
		madvise((void *)area, n * page, MADV_NOHUGEPAGE);
		for (unsigned long i = 0; i < n; i++)
			area[i * page] = 1;
		munmap((void *)area, n * page);
		pages -= n;
	}
}

__attribute__((noinline)) static void deeper(unsigned long pages, unsigned depth)
{
	if (depth == 0)
		touch(pages);
	else
		deeper(pages, depth - 1);
	sink++;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned depth = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

	if (!count) {
		fprintf(stderr, "usage: storm faults|deep|syscalls|spin COUNT [DEPTH]\n");
		return 2;
	}
	if (!strcmp(argv[1], "faults"))
		touch(count);
	else if (!strcmp(argv[1], "deep"))
		deeper(count, depth);
	else if (!strcmp(argv[1], "syscalls"))
		for (unsigned long i = 0; i < count; i++)
			syscall(SYS_getppid);
	else
		for (unsigned long i = 0; i < count; i++)
			sink = sink * 2862933555777941757ul + 3037000493ul;
	return 0;
}
