//! One counter of the kernel's, and what the contract's calls are on it. `record`, `stat` and the contract's perf half
//! ([`super::registers`]) program counters through this and nothing else: an event is opened where a select register
//! would be written, re-enabled where the contract rearms, read where it reads, and its ring is the interrupt handler's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use xprof_perfdata::attr::Attr;

use super::Kernel;
use super::ladder::{self, May, Place};
use crate::sys::perf;
use crate::sys::ring::Ring;

/// An open event.
#[derive(Debug)]
pub(crate) struct PerfCounter {
    fd: OwnedFd,
}

impl PerfCounter {
    /// Programs a counter: what to count and how often to interrupt is `attr`'s, which becomes what the kernel accepted.
    /// With `settled`, the attr is one that the kernel has accepted before: nothing of it is given up.
    pub(crate) fn program(
        kernel: &dyn Kernel,
        attr: &mut Attr,
        place: Place<'_>,
        settled: bool,
        may: May,
        notes: &mut Vec<String>,
    ) -> io::Result<PerfCounter> {
        let fd = match settled {
            true => kernel.open(attr, place.pid, place.cpu, place.group, place.flags)?,
            false => ladder::open(kernel, attr, place, may, notes)?,
        };
        Ok(PerfCounter { fd })
    }

    /// Lets it (and, of a leader, its group) count and interrupt.
    pub(crate) fn rearm(&self) -> io::Result<()> {
        perf::enable(self.as_fd())
    }

    /// Stops it (and its group). After it returns nothing more is written to its ring.
    pub(crate) fn stop(&self) -> io::Result<()> {
        perf::disable(self.as_fd())
    }

    /// Reads the count, and what else the attr's `read_format` names; the number of words.
    pub(crate) fn read(&self, words: &mut [u64]) -> io::Result<usize> {
        perf::read_counts(self.as_fd(), words)
    }

    /// The ring that its interrupts are written to.
    pub(crate) fn ring(&self, pages: usize, overwritten: bool) -> io::Result<Ring> {
        Ring::map(self.as_fd(), pages, overwritten)
    }
}

impl AsFd for PerfCounter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
