// long: `work` with 200 rounds, exactly 2,400,010,810 instructions: time enough for counters to take turns.
#define ROUNDS 200
#include "work.S"
