/* Page faults in functions that are compiled into others: the lines and the functions of each are known. */
#include <sys/mman.h>

static volatile char *next;

#define INLINE static inline __attribute__((always_inline))

INLINE void innermost(int pages)
{
	for (int i = 0; i < pages; i++, next += 4096)
		*next = 1; /* line 11 */
}

INLINE void between(int pages)
{
	innermost(pages); /* line 16 */
}

__attribute__((noinline, noclone)) void outer(int pages)
{
	__asm__ volatile("" ::"r"(__builtin_frame_address(0)));
	between(pages); /* line 22 */
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	size_t size = 4096 * 4096;
	next = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (next == MAP_FAILED || madvise((void *)next, size, MADV_NOHUGEPAGE))
		return 1;
	outer(2000);
	innermost(1000); /* line 33 */
	return 0;
}
