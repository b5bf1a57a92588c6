//! Clocks that the kernel can stamp records with.
//!
//! xprof asks for `CLOCK_MONOTONIC` when the user names no clock. perf's default, the kernel's `local_clock`, cannot be
//! read from user space, and without reading the clock of the records nobody can say up to when a ring has been read.
//! `CLOCK_MONOTONIC` is safe in NMIs, as fast, and the clock of JIT dumps and of every trace in user space.

use std::io;

/// `CLOCK_MONOTONIC`.
pub const MONOTONIC: i32 = libc::CLOCK_MONOTONIC;
/// Time that the calling thread has had a CPU.
pub const THREAD_CPUTIME: i32 = libc::CLOCK_THREAD_CPUTIME_ID;

/// Now on the clock `id` (`CLOCK_*`), ns.
pub fn now(id: i32) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec to the pointer, which is that of a live timespec. libc, not rustix: an
    // unknown clock is an error here, not a panic.
    if unsafe { libc::clock_gettime(id, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}
