// cyclic: hostile frame pointers. `ring` spins with two frame records that point at each other.
#include "function.h"
    .text
    function ring
1:  add $1, %rax
    jmp 1b
    end_function ring

    function _start
    .cfi_undefined %rip
    sub $64, %rsp
    lea 32(%rsp), %rax
    mov %rax, (%rsp)                    // record a: {b, ring}
    lea ring(%rip), %rcx
    mov %rcx, 8(%rsp)
    mov %rsp, 32(%rsp)                  // record b: {a, _start}
    lea _start(%rip), %rcx
    mov %rcx, 40(%rsp)
    mov %rsp, %rbp
    jmp ring
    end_function _start
