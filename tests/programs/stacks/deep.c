/* Stacks of 160 KB, which no copy holds: deep DEPTH MS ROUNDS
 *
 * Two bottoms take turns, MS ms each, over frames that are the same bit by bit; the innermost function tells which it is. */
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))

static volatile int second;
static long long until;

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

NOINLINE void leaf_of_a(void) { for (volatile int i = 0; i < 100000; i++) ; }
NOINLINE void leaf_of_b(void) { for (volatile int i = 0; i < 100000; i++) ; }

NOINLINE int deep(int n)
{
	volatile char frame[1000];
	frame[0] = n;
	if (n > 0)
		return deep(n - 1) + frame[0];
	while (now() < until)
		if (second) leaf_of_b(); else leaf_of_a();
	return frame[0];
}

NOINLINE int bottom_a(int n) { volatile int one = deep(n); return one + 1; }
NOINLINE int bottom_b(int n) { volatile int one = deep(n); return one + 2; }

int main(int argc, char **argv)
{
	int depth = atoi(argv[1]), rounds = atoi(argv[3]);
	long long each = atoi(argv[2]) * 1000000LL;
	until = now();
	for (int i = 0; i < rounds; i++) {
		until += each;
		second = i & 1;
		if (second) bottom_b(depth); else bottom_a(depth);
	}
	return 0;
}
