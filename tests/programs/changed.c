/* Page faults in functions whose counts are known: changed.c, and built anew with -DNEW. */
#include <sys/mman.h>

static volatile char *next;

/* The asm keeps a frame: its caller is seen. */
#define TOUCHES(name) \
	__attribute__((noinline, noclone)) static void name(int pages) \
	{ \
		__asm__ volatile("" ::"r"(__builtin_frame_address(0))); \
		for (; pages > 0; pages--, next += 4096) \
			*next = 1; \
	}

#ifdef NEW /* Everything lies elsewhere than before. */
__attribute__((used)) static const char room[100000] = { 1 };
TOUCHES(added)
TOUCHES(little)
TOUCHES(same)
TOUCHES(more)
#else
TOUCHES(more)
TOUCHES(same)
TOUCHES(little)
TOUCHES(removed)
#endif

__attribute__((noinline, noclone)) static void caller(int pages)
{
	more(pages);
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	size_t size = 8192 * 4096;
	next = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (next == MAP_FAILED || madvise((void *)next, size, MADV_NOHUGEPAGE))
		return 1;
	same(2000);
#ifdef NEW
	caller(1400);
	little(5);
	added(600);
#else
	caller(1000);
	little(1);
	removed(300);
#endif
	return 0;
}
