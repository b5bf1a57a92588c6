// calls: _start > alpha > beta > gamma, and under it `spin` in user space and `ask`, which spends its time in system calls.
#include "function.h"
    .text
    leaf spin, 40000000

    function ask
    push_frame
    push %rbx
    push %rbx
    mov $3000, %ebx
1:  mov $318, %eax                      // getrandom, GRND_NONBLOCK
    lea buffer(%rip), %rdi
    mov $1024, %esi
    mov $1, %edx
    syscall
    dec %ebx
    jnz 1b
    pop %rbx
    pop %rbx
    pop_frame
    end_function ask

    function gamma
    push_frame
    call spin
    call ask
    pop_frame
    end_function gamma

    caller beta, gamma
    caller alpha, beta

    function _start
    .cfi_undefined %rip
    xor %ebp, %ebp
1:  call alpha
    jmp 1b
    end_function _start

    .bss
buffer:
    .skip 1024
