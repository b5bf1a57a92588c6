//! Which CPUs the calling thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Lets the calling thread run on these CPUs only. CPUs past what the system call can name are left out.
pub fn run_on(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if (cpu as usize) < CpuSet::MAX_CPU {
            set.set(cpu as usize);
        }
    }
    Ok(sched_setaffinity(None, &set)?)
}
