// deep: _start > d1 > .. > d6 > spin: eight frames, of which `spin` never returns: what a walk of eight frames costs.
#include "function.h"
    .text
    function spin
    push_frame
1:  add $1, %rax
    jmp 1b
    pop_frame
    end_function spin

    caller d6, spin
    caller d5, d6
    caller d4, d5
    caller d3, d4
    caller d2, d3
    caller d1, d2

    function _start
    .cfi_undefined %rip
    xor %ebp, %ebp
    call d1
    hlt
    end_function _start
