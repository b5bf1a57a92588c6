#![forbid(unsafe_code)]
//! The program; everything is in the library.

use std::process::ExitCode;

// musl's allocator takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    xprof::run()
}
