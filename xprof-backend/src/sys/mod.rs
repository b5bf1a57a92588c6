//! The only unsafe code of xprof: system calls, rings, files, signals.
//!
//! Every module wraps one kernel interface into owned, bounded, safe types; what the rest of the crate can reach
//! cannot break memory. Nothing here knows what a recording is.
//!
//! * [`perf`]: `perf_event_open` and its ioctls.
//! * [`ring`]: the ring buffer shared with the kernel (or with a simulated one).
//! * [`clock`], [`affinity`], [`limits`]: clocks, CPUs of threads, resource limits.
//! * [`process`]: a command that waits to be started; [`signal`]: signals as bytes of a pipe.
//! * [`file`]: the one place where files are opened.

pub mod affinity;
pub mod clock;
pub mod file;
pub mod inherited;
pub mod limits;
pub mod local_time;
pub mod perf;
pub mod process;
pub mod ring;
pub mod signal;
