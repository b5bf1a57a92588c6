// A function with a symbol of the right type and size, and with unwind information.
    .macro function name
    .p2align 6
    .globl \name
    .type \name, %function
\name:
    .cfi_startproc
    .endm

    .macro end_function name
    .cfi_endproc
    .size \name, . - \name
    .endm

// The frame record of the procedure call standard: x29 points at {caller's x29, return address}.
    .macro push_frame
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset 29, -16
    .cfi_offset 30, -8
    mov x29, sp
    .endm

    .macro pop_frame
    ldp x29, x30, [sp], #16
    .cfi_def_cfa_offset 0
    .cfi_restore 29
    .cfi_restore 30
    .endm
