/* signed: _start > begin > first > second > third > leaf, whose return addresses are signed (-mbranch-protection=standard) and
 * which keep no frame pointers: only call frame information finds the callers, and they have authentication codes in them.
 */

__attribute__((noinline, noclone)) static unsigned long leaf(unsigned long n)
{
	unsigned long x = n;

	for (unsigned long i = 0; i < n; i++) {
		x = x * 31 + i;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

#define CALLS(name, next)                                                             \
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

__asm__(".globl _start\n.type _start, @function\n_start:\n.cfi_startproc\n.cfi_undefined x30\n"
	"mov x29, #0\nmov x30, #0\nbl begin\nbrk #0\n.cfi_endproc\n.size _start, . - _start\n");

__attribute__((noinline, noclone, used)) void begin(void)
{
	register unsigned long x8 __asm__("x8");
	unsigned long x = first(2000000);

	__asm__ volatile("" : "+r"(x));
	x8 = 93; /* exit */
	__asm__ volatile("mov x0, #0\nsvc #0" : : "r"(x8) : "x0", "memory");
	__builtin_unreachable();
}
