/* A library that is loaded, used and unloaded; -DNAME tells two of them apart, whose frames differ in size. */
#define GLUE(a, b) a##b
#define NAMED(a, b) GLUE(a, b)
__attribute__((noinline, noclone)) void NAMED(inner, NAME)(void (*leaf)(void))
{
	volatile char room[NAME * 100 + 8];
	room[0] = 1;
	leaf();
	room[1] = 2;
}
void enter(void (*leaf)(void))
{
	NAMED(inner, NAME)(leaf);
	__asm__ volatile("" ::: "memory");
}
