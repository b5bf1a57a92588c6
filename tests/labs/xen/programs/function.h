// A function with a symbol of the right type and size, and with unwind information.
    .macro function name
    .p2align 6
    .globl \name
    .type \name, @function
\name:
    .cfi_startproc
    .endm

    .macro end_function name
    .cfi_endproc
    .size \name, . - \name
    .endm

    .macro push_frame
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    .endm

    .macro pop_frame
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .endm

// A leaf that has a frame and does `count` equal rounds.
    .macro leaf name, count
    function \name
    push_frame
    mov $\count, %rcx
1:  add $1, %rax
    xor %rax, %rdx
    dec %rcx
    jnz 1b
    pop_frame
    end_function \name
    .endm

// A function that calls another for ever.
    .macro caller name, callee
    function \name
    push_frame
    call \callee
    pop_frame
    end_function \name
    .endm
