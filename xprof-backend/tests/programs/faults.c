/* Page faults that can be counted: every page of a fixed address range is touched once.
 *
 *   faults touch N          N pages
 *   faults family N         N pages in main, N in each of two threads, N in each of two children
 *   faults storm T US       T threads, each made by the one before it, US microseconds after it was made itself; all
 *                           wait until a line comes in on standard input, then each touches 3 pages of its own
 *   faults loop             touches and frees pages until it is killed
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE ((char *)0x100000000000)
#define PAGE 4096L

static long per_part, threads, pause_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int go;

static void touch(long first, long count)
{
	for (long i = 0; i < count; i++)
		*(volatile char *)(BASE + (first + i) * PAGE) = 1;
}

static void *part(void *index)
{
	touch((long)index * per_part, per_part);
	return NULL;
}

static void *link_of_chain(void *index)
{
	pthread_t next;
	long i = (long)index;

	if (pause_us)
		usleep(pause_us);
	if (i + 1 < threads && pthread_create(&next, NULL, link_of_chain, (void *)(i + 1)))
		abort();
	pthread_mutex_lock(&lock);
	while (!go)
		pthread_cond_wait(&told, &lock);
	pthread_mutex_unlock(&lock);
	touch(i * 3, 3);
	if (i + 1 < threads)
		pthread_join(next, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? atol(argv[2]) : 0;
	long size = 1L << 30;

	if (mmap(BASE, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != BASE)
		return 9;
	madvise(BASE, size, MADV_NOHUGEPAGE);
	if (!strcmp(argv[1], "touch")) {
		touch(0, n);
	} else if (!strcmp(argv[1], "family")) {
		pthread_t a, b;

		per_part = n;
		part((void *)0);
		pthread_create(&a, NULL, part, (void *)1);
		pthread_create(&b, NULL, part, (void *)2);
		pthread_join(a, NULL);
		pthread_join(b, NULL);
		for (long i = 3; i < 5; i++)
			if (fork() == 0)
				return part((void *)i) != NULL;
		while (wait(NULL) > 0)
			;
	} else if (!strcmp(argv[1], "storm")) {
		pthread_t first;
		char line[16];

		threads = n;
		pause_us = argc > 3 ? atol(argv[3]) : 0;
		if (pthread_create(&first, NULL, link_of_chain, (void *)0))
			abort();
		if (!fgets(line, sizeof line, stdin))
			return 8;
		pthread_mutex_lock(&lock);
		go = 1;
		pthread_cond_broadcast(&told);
		pthread_mutex_unlock(&lock);
		pthread_join(first, NULL);
	} else {
		for (;;) {
			touch(0, 4096);
			madvise(BASE, 4096 * PAGE, MADV_DONTNEED);
		}
	}
	return 0;
}
