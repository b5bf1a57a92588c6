/* A program of nothing but its own code: _start, begin, first, second, third, leaf; it spins and ends. */

__attribute__((noinline, noclone)) static unsigned long leaf(unsigned long n)
{
	unsigned long x = n;

#ifdef FRAME
	/* GCC leaves the frame of a function that calls nothing away, whatever its options say. */
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
#endif
	for (unsigned long i = 0; i < n; i++) {
		x = x * 31 + i;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

#define CALLS(name, next)                                                       \
	__attribute__((noinline, noclone)) static unsigned long name(unsigned long n) \
	{                                                                             \
		unsigned long x = next(n) + 1;                                        \
		__asm__ volatile("" : "+r"(x));                                       \
		x += next(n);                                                         \
		__asm__ volatile("" : "+r"(x));                                       \
		return x;                                                             \
	}

CALLS(third, leaf)
CALLS(second, third)
CALLS(first, second)

/* As the ABI wants it: the outermost frame has a frame pointer of 0, and no caller. */
__asm__(".globl _start\n.type _start, @function\n_start:\n.cfi_startproc\n.cfi_undefined rip\n"
	"xor %ebp, %ebp\ncall begin\nhlt\n.cfi_endproc\n.size _start, . - _start\n");

__attribute__((noinline, noclone, used)) void begin(void)
{
	unsigned long x = first(60000000);

	__asm__ volatile("" : "+r"(x));
	/* exit_group(0) */
	__asm__ volatile("syscall" : : "a"(231), "D"(0) : "rcx", "r11", "memory");
	__builtin_unreachable();
}
