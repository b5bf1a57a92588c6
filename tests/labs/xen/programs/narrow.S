// narrow: heavy and light of hot.S as a 32-bit guest that is nothing else: as `hvm`, in place of hvmloader, and it stays in the protected
// mode without paging in which libxc starts it. (Debian's Xen is built without 32-bit PV guests.)
    .code32
    .macro leaf name, count
    .p2align 6
    .globl \name
    .type \name, @function
\name:
    mov $\count, %ecx
1:  add $1, %eax
    xor %eax, %edx
    dec %ecx
    jnz 1b
    ret
    .size \name, . - \name
    .endm

    .text
    leaf heavy, 3000000
    leaf light, 1000000

    .globl _start
    .type _start, @function
_start:
    mov $stack, %esp
    xor %ebp, %ebp
1:  call heavy
    call light
    jmp 1b
    .size _start, . - _start

    .bss
    .p2align 12
    .skip 4096
stack:
