// work: two functions that do exactly 2:1 work, and a run of exactly 720,010,250 instructions (at -c 1000000: 480 and 240
// samples). heavy is 8,000,000 instructions a call, its return included, light 4,000,000; 60 rounds of both.
//
// _start first runs 10,000 instructions of its own, so that no period that divides 4,000,000 ends on the border of two
// functions: in every round heavy has the 8 samples of its own work, and light its 4, even with an interrupt a few
// instructions late.
#include "function.h"
#ifndef ROUNDS
#define ROUNDS 60
#endif
    .text
    function heavy                      // 3 + 4 * 1,999,999 + 1 = 8,000,000
    movz x8, #(1999999 & 0xffff)
    movk x8, #(1999999 >> 16), lsl #16
    nop
1:  add x9, x9, #1
    eor x10, x10, x9
    subs x8, x8, #1
    b.ne 1b
    ret
    end_function heavy

    function light                      // 3 + 4 * 999,999 + 1 = 4,000,000
    movz x8, #(999999 & 0xffff)
    movk x8, #(999999 >> 16), lsl #16
    nop
1:  add x9, x9, #3
    eor x10, x9, x10
    subs x8, x8, #1
    b.ne 1b
    ret
    end_function light

    function _start                     // 2 + 10,000 + 1 + 4 * 60 + 7 = 10,250
    mov x29, #0
    movz x8, #5000
1:  subs x8, x8, #1                     // 2 * 5,000
    b.ne 1b
    mov x19, #ROUNDS
2:  bl heavy                            // 4 * ROUNDS
    bl light
    subs x19, x19, #1
    b.ne 2b
    nop
    nop
    nop
    nop
    mov x0, #0
    mov x8, #94                         // exit_group
    svc #0
    end_function _start
