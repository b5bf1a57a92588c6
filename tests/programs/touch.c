/* Touches exactly PAGES fresh pages in touch(), then THREADS threads and FORKS children touch as many each;
   then sleeps MS. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static long pages;

__attribute__((noinline)) void touch(volatile char *memory)
{
	for (long i = 0; i < pages; i++)
		memory[i * 4096] = 1;
}

static void *work(void *unused)
{
	char *memory = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		exit(9);
	madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
	touch(memory);
	return unused;
}

int main(int argc, char **argv)
{
	pages = argc > 1 ? atol(argv[1]) : 1000;
	long threads = argc > 2 ? atol(argv[2]) : 0, forks = argc > 3 ? atol(argv[3]) : 0;
	work(0);
	for (long i = 0; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, 0, work, 0))
			return 9;
		pthread_join(thread, 0);
	}
	for (long i = 0; i < forks; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			work(0);
			_exit(0);
		}
		waitpid(pid, 0, 0);
	}
	usleep(argc > 4 ? atol(argv[4]) * 1000 : 0);
	return 0;
}
