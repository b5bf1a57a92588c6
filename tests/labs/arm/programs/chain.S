// chain: one call chain, _start > alpha > beta > gamma, and under gamma two leaves of 2,000,000 instructions a call:
// `framed` pushes a frame record, `bare` does not, so that its caller is in the link register alone, and a frame-pointer
// walk that does not look there misses gamma. 10 rounds: at -c 200000 each leaf has exactly 100 samples.
//
// gamma calls through different instructions, so that the return addresses in it tell the leaves apart.
#include "function.h"
    .text
    .macro spin count
    movz x8, #(\count & 0xffff)
    movk x8, #(\count >> 16), lsl #16
    1:
    subs x8, x8, #1
    b.ne 1b
    .endm

    function bare                       // 2 + 2 * 999,998 + 2 = 2,000,000
    spin 999998
    nop
    ret
    end_function bare

    function framed                     // 2 + 2 + 2 * 999,997 + 2 = 2,000,000
    push_frame
    spin 999997
    pop_frame
    ret
    end_function framed

    function gamma
    push_frame
    bl bare
    bl framed
    nop
    pop_frame
    ret
    end_function gamma

    function beta
    push_frame
    bl gamma
    nop
    pop_frame
    ret
    end_function beta

    function alpha
    push_frame
    mov x19, #10
2:  bl beta
    subs x19, x19, #1
    b.ne 2b
    pop_frame
    ret
    end_function alpha

    function _start
    .cfi_undefined 30
    mov x29, #0
    mov x30, #0
    stp x29, x30, [sp, #-16]!
    mov x29, sp
    spin 5000
    bl alpha
    mov x0, #0
    mov x8, #94                         // exit_group
    svc #0
    end_function _start
