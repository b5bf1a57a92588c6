/* Programs whose stacks are known: `truth CASE` spends its time in leaf() below a chain of calls that no compiler option
 * changes. Built with -O2 -fomit-frame-pointer; the expected stacks stand in tests/tests/unwind.rs. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone, used))
/* What follows a call is no tail call. */
#define AFTER __asm__ volatile("" ::: "memory")

FRAME void leaf(void)
{
	for (volatile long i = 0; i < 60000000; i++)
		;
}

FRAME void third(void) { leaf(); AFTER; }
FRAME void second(void) { third(); AFTER; }
FRAME void first(void) { second(); AFTER; }

/* A tail call: this frame is gone when leaf runs. */
FRAME void gone(void) { third(); }
FRAME void tail(void) { gone(); AFTER; }

FRAME void with_alloca(int n)
{
	volatile char *room = alloca(n);
	room[0] = 1;
	leaf();
	room[n - 1] = 2;
}

/* A frame that is realigned: on x86_64 its CFA is loaded from the stack. */
FRAME void realigned(int n)
{
	volatile char room[256] __attribute__((aligned(128)));
	volatile char *more = alloca(n);
	room[0] = more[0] = 1;
	leaf();
	room[1] = more[1] = 2;
}

FRAME int recursion(int depth)
{
	if (depth == 0) {
		leaf();
		AFTER;
		return 1;
	}
	int sum = recursion(depth - 1);
	AFTER;
	return sum + 1;
}

FRAME void handler(int signal) { (void)signal; leaf(); AFTER; }
FRAME void trapped(void) { __asm__ volatile("ud2"); AFTER; }
FRAME void handler_of_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	leaf();
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
FRAME void signalled(int on_its_own_stack)
{
	struct sigaction action = { .sa_sigaction = handler_of_trap, .sa_flags = SA_SIGINFO };
	if (on_its_own_stack) {
		stack_t stack = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
		sigaltstack(&stack, NULL);
		action.sa_flags |= SA_ONSTACK;
	}
	sigaction(SIGILL, &action, NULL);
	trapped();
	AFTER;
}

FRAME void *thread(void *arg) { first(); AFTER; return arg; }
FRAME void threads(void)
{
	pthread_t one;
	pthread_create(&one, NULL, thread, NULL);
	pthread_join(one, NULL);
}

static ucontext_t here, there;
FRAME void coroutine(void) { leaf(); AFTER; swapcontext(&there, &here); }
FRAME void coroutines(void)
{
	getcontext(&there);
	there.uc_stack.ss_sp = malloc(1 << 16);
	there.uc_stack.ss_size = 1 << 16;
	makecontext(&there, coroutine, 0);
	swapcontext(&here, &there);
	AFTER;
}

#ifndef STATIC
FRAME void plugins(const char *folder)
{
	for (int i = 0; i < 4; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/plugin%d.so", folder, i % 2);
		void *library = dlopen(path, RTLD_NOW);
		void (*enter)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(library, "enter");
		enter(leaf);
		dlclose(library);
	}
	AFTER;
}
#endif

/* Code made at run time that keeps a frame pointer and calls leaf. */
FRAME void generated(void)
{
	static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, sizeof code);
	mprotect(page, 4096, PROT_READ | PROT_EXEC);
	((void (*)(void (*)(void)))page)(leaf);
	AFTER;
}

FRAME void clocks(void)
{
	struct timespec now, end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += 200000000;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - end.tv_sec) * 1000000000L + now.tv_nsec - end.tv_nsec < 0);
}

int main(int argc, char **argv)
{
	const char *what = argv[1];
	int n = 100 + argc;
	if (strstr(argv[0], "deleted"))
		unlink(argv[0]);
	if (!strcmp(what, "plain")) first();
	else if (!strcmp(what, "tail")) tail();
	else if (!strcmp(what, "alloca")) with_alloca(n);
	else if (!strcmp(what, "realigned")) realigned(n);
	else if (!strcmp(what, "recursion")) recursion(200);
	else if (!strcmp(what, "signal")) signalled(0);
	else if (!strcmp(what, "altstack")) signalled(1);
	else if (!strcmp(what, "thread")) threads();
	else if (!strcmp(what, "coroutine")) coroutines();
	else if (!strcmp(what, "jit")) generated();
	else if (!strcmp(what, "vdso")) clocks();
#ifndef STATIC
	else if (!strcmp(what, "dlopen")) plugins(argv[2]);
#endif
	AFTER;
	return 0;
}
