// hvm: the chain and leaves of hot.S in an HVM guest that is nothing else: it takes the place of hvmloader (`firmware_override`), which
// libxc starts in protected mode without paging (xen/tools/libs/guest/xg_dom_x86.c, vcpu_hvm), goes to long mode with the first
// GiB mapped one to one in pages of 2 MiB, and from there to ring 3. It has no devices and takes no interrupts.
#include "hot.S"

    .data
    .p2align 3
// Descriptors (Intel SDM 3, 3.4.5): none, code of 64 bits for rings 0 and 3, data for ring 3.
gdt:
    .quad 0, 0x00209a0000000000, 0x0020fa0000000000, 0x0000f20000000000
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long gdt
far:
    .long long_mode
    .word 8

    .bss
    .p2align 12
level4:
    .skip 4096
level3:
    .skip 4096
level2:
    .skip 4096
    .skip 4096
stack:

    .text
    .code32
    .globl boot
boot:
    // Each level's first entry: present, writable, for users too.
    movl $level3 + 7, level4
    movl $level2 + 7, level3
    mov $level2, %edi
    mov $0x87, %eax
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    cmp $0x40000087, %eax
    jne 1b
    lgdt gdtr
    // CR4.PAE, CR3, EFER.LME, CR0.PG.
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $level4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp *far

    .code64
long_mode:
    mov $stack, %esp
    pushq $0x1b
    pushq $stack
    pushq $0x202
    pushq $0x13
    pushq $_start
    iretq
