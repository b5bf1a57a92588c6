// hot: one chain, _start > alpha > beta > gamma, and under gamma two leaves: `heavy` does three times the rounds of `light`,
// so that 75 % of a running vCPU's time is heavy's and 25 % light's. Every function has a frame.
#include "function.h"
    .text
    leaf heavy, 3000000
    leaf light, 1000000

    function gamma
    push_frame
    call heavy
    call light
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
