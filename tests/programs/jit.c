/* Writes a function at run time that touches PAGES pages, names it in /tmp/perf-PID.map, runs it, sleeps MS. (x86-64) */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	/* again: movb $1,(%rdi); add $4096,%rdi; dec %rsi; jnz again; ret */
	static const unsigned char code[] = { 0xc6, 0x07, 0x01, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0,
					      0x48, 0xff, 0xce, 0x75, 0xf1, 0xc3 };
	long pages = argc > 1 ? atol(argv[1]) : 1000, ms = argc > 2 ? atol(argv[2]) : 0;
	unsigned char *made = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *memory = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[64];

	if (made == MAP_FAILED || memory == MAP_FAILED)
		return 9;
	madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
	memcpy(made, code, sizeof code);
	snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
	FILE *map = fopen(name, "w");
	if (!map)
		return 9;
	fprintf(map, "%lx %x made_at_run_time\n", (unsigned long)made, (unsigned)sizeof code);
	fclose(map);
	((void (*)(char *, long))made)(memory, pages);
	usleep(ms * 1000);
	return 0;
}
