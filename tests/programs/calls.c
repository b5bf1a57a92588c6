/* Page faults at known places: every page is touched once, by one of the ways below, so that each has an exact weight. */
#include <stdlib.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile char *next;

NOINLINE void touch(int pages)
{
	/* Leaves, too, have a frame. */
	__asm__ volatile("" ::"r"(__builtin_frame_address(0)));
	for (int i = 0; i < pages; i++, next += 4096)
		*next = 1;
	__asm__ volatile("" ::: "memory");
}

NOINLINE void a(int pages)
{
	touch(pages);
	__asm__ volatile("" ::: "memory");
}

NOINLINE void b(int pages)
{
	touch(pages);
	a(pages / 2);
	__asm__ volatile("" ::: "memory");
}

NOINLINE void odd(int depth, int pages);

NOINLINE void even(int depth, int pages)
{
	if (depth)
		odd(depth - 1, pages);
	else
		touch(pages);
	__asm__ volatile("" ::: "memory");
}

NOINLINE void odd(int depth, int pages)
{
	even(depth - 1, pages);
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	size_t size = 4096 * 4096;
	next = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (next == MAP_FAILED || madvise((void *)next, size, MADV_NOHUGEPAGE))
		return 1;
	a(3000);
	b(200);
	even(20, 500);
	return 0;
}
