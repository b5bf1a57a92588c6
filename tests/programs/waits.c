/* Waits of known length: in_long 3 times 150 ms, in_short 5 times 20 ms, in_thread 200 ms for a thread that sleeps. Prints how long
 * each took, in ns, as it saw it itself. */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static unsigned long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ul + t.tv_nsec;
}

static void nap(long ms)
{
	struct timespec t = { 0, ms * 1000000 };

	nanosleep(&t, NULL);
}

__attribute__((noinline, noclone)) void in_long(void)
{
	for (int i = 0; i < 3; i++)
		nap(150);
	__asm__ volatile("");
}

__attribute__((noinline, noclone)) void in_short(void)
{
	for (int i = 0; i < 5; i++)
		nap(20);
	__asm__ volatile("");
}

static void *sleeps(void *arg)
{
	nap(200);
	return arg;
}

__attribute__((noinline, noclone)) void in_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, sleeps, NULL);
	pthread_join(thread, NULL);
	__asm__ volatile("");
}

int main(void)
{
	unsigned long begin = now(), first, second, third;

	in_long();
	first = now();
	in_short();
	second = now();
	in_thread();
	third = now();
	printf("in_long %lu\nin_short %lu\nin_thread %lu\n", first - begin, second - first, third - second);
	return 0;
}
