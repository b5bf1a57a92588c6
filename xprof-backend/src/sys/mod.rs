//! The only unsafe code of xprof: system calls, rings, file windows, signals.

pub mod child;
pub mod signal;
