//! The only unsafe code of xprof: system calls, rings, files, signals.
//!
//! Every module wraps one kernel interface into owned, bounded, safe types; what the rest of the crate can reach
//! cannot break memory. Nothing here knows what a recording is.
//!
//! * [`perf`]: `perf_event_open` and its ioctls.
//! * [`own_counter`]: counters of the calling thread, read without a system call.
//! * [`ring`]: the ring buffer shared with the kernel (or with a simulated one).
//! * [`clock`], [`limits`]: clocks, resource limits. [`cpuid`]: what the CPU says of itself.
//! * `copy`: `memcpy` of the static x86_64 binary.
//! * [`process`]: a command that waits to be started; [`signal`]: signals as bytes of a pipe.
//! * [`xen`]: hypercalls, and memory of guests.
//! * [`mod@file`]: the one place where files are opened; [`map`]: and mapped.

pub mod clock;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod copy;
pub mod cpuid;
pub mod file;
pub mod inherited;
pub mod limits;
pub mod local_time;
pub mod map;
pub mod own_counter;
pub mod perf;
pub mod process;
pub mod ring;
pub mod signal;
pub mod xen;

/// Counts what the calling thread allocates, for tests of loops that must not.
#[cfg(test)]
pub(crate) mod allocations {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    struct Counting;

    // SAFETY: every call is the system allocator's; counting touches a thread-local that needs no allocation.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let _ = COUNT.try_with(|count| count.set(count.get() + 1));
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// Allocations of this thread so far.
    pub(crate) fn count() -> u64 {
        COUNT.with(Cell::get)
    }
}
