//! The only unsafe code of xprof: system calls, rings, file windows, signals.
