// C++: leaf() below a destructor that runs while an exception is under way, and below the handler that catches it.
#include <cstring>

#define FRAME __attribute__((noinline, noclone))
#define AFTER __asm__ volatile("" ::: "memory")

extern "C" FRAME void leaf()
{
	for (volatile long i = 0; i < 60000000; i = i + 1)
		;
}

struct Guard {
	FRAME ~Guard() { leaf(); AFTER; }
};

extern "C" FRAME void throws() { throw 1; }
extern "C" FRAME void guarded()
{
	Guard guard;
	throws();
	AFTER;
}
extern "C" FRAME void catches()
{
	try {
		guarded();
	} catch (int) {
		AFTER;
	}
}
extern "C" FRAME void handles()
{
	try {
		throws();
	} catch (int) {
		leaf();
		AFTER;
	}
}

int main(int, char **argv)
{
	if (!strcmp(argv[1], "destructor"))
		catches();
	else
		handles();
	AFTER;
	return 0;
}
