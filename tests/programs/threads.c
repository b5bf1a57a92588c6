/* THREADS threads that wait for a line on standard input; then each touches one fresh page in touch(). Says "ready" and
   "touched", and ends with its standard input. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int gate[2];
static volatile char *memory;
static atomic_long touched;

__attribute__((noinline)) void touch(long page)
{
	memory[page * 4096] = 1;
}

static void *work(void *page)
{
	char byte;

	if (read(gate[0], &byte, 1) == 0)
		touch((long)page);
	touched++;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	long threads = argc > 1 ? atol(argv[1]) : 1;
	pthread_attr_t small;
	pthread_t thread;

	memory = mmap(0, threads * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || pipe(gate))
		return 9;
	madvise((void *)memory, threads * 4096, MADV_NOHUGEPAGE);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&thread, &small, work, (void *)i))
			return 9;
	puts("ready");
	fflush(stdout);
	getchar();
	close(gate[1]);
	while (touched < threads)
		usleep(1000);
	puts("touched");
	fflush(stdout);
	getchar();
	_exit(0);
}
