#![forbid(unsafe_code)]
//! `perf_event_open`: the fallback ladder, rings, workers.
//!
//! A recording by this backend is a set of events (one descriptor for each event, target and CPU), two rings for each
//! CPU (samples; side-band records from a dummy event, which a flood of samples cannot drop), and a few threads that
//! move bytes from rings to the session's channel without looking at them.
//!
//! * [`attrs`]: what the plan adds to an event's attr.
//! * [`ladder`]: opening one event on a kernel that may refuse parts of it.
//! * [`default_event`]: cycles where there are any, else cpu-clock.
//! * [`attach`]: targets and their threads; no thread missed, none opened twice.
//! * [`count`]: counters without rings.
//! * [`open`]: all events and rings of a session.
//! * [`counter`]: one event, as the contract programs counters. [`registers`]: the contract on top of it.
//! * [`mended`]: samples of a dom0 whose kernel mislabels them.
//! * [`msr`]: the contract without perf, through `/dev/cpu/N/msr`.
//! * [`worker`]: the drain loop. [`session`]: start, snapshot, stop.

pub(crate) mod attach;
pub(crate) mod attrs;
pub(crate) mod count;
pub(crate) mod counter;
pub(crate) mod cpus;
pub(crate) mod default_event;
pub(crate) mod ladder;
pub mod mended;
pub mod msr;
pub(crate) mod open;
pub mod registers;
pub(crate) mod session;
pub(crate) mod worker;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::{fmt, io};

use xprof_perfdata::abi::{event_type, software};
use xprof_perfdata::attr::Attr;

use crate::machine::Machine;
use crate::plan::{CallGraph, Plan};
use crate::sys;
use crate::{Availability, Backend, Result, Session};

/// The seam below the fallback ladder: `perf_event_open` itself, or a stand-in that refuses what an older kernel would.
pub(crate) trait Kernel: fmt::Debug + Send + Sync {
    /// See [`sys::perf::open`].
    fn open(&self, attr: &Attr, pid: i32, cpu: i32, group: Option<BorrowedFd<'_>>, flags: u64) -> io::Result<OwnedFd>;
}

#[derive(Debug)]
struct ThisKernel;

impl Kernel for ThisKernel {
    fn open(&self, attr: &Attr, pid: i32, cpu: i32, group: Option<BorrowedFd<'_>>, flags: u64) -> io::Result<OwnedFd> {
        sys::perf::open(attr, pid, cpu, group, flags)
    }
}

/// The native backend.
#[derive(Clone, Debug)]
pub struct Native {
    kernel: Arc<dyn Kernel>,
}

impl Native {
    /// The running kernel.
    pub fn new() -> Self {
        Native { kernel: Arc::new(ThisKernel) }
    }

    /// A stand-in kernel.
    #[cfg(test)]
    pub(crate) fn over(kernel: Arc<dyn Kernel>) -> Self {
        Native { kernel }
    }
}

impl Default for Native {
    fn default() -> Self {
        Native::new()
    }
}

impl Backend for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn probe(&self) -> Availability {
        let attr = Attr {
            kind: event_type::SOFTWARE,
            config: software::CPU_CLOCK,
            sample_period: 1_000_000,
            flags: xprof_perfdata::abi::attr_flag::DISABLED | xprof_perfdata::abi::attr_flag::EXCLUDE_KERNEL,
            ..Attr::default()
        };
        let Err(error) = self.kernel.open(&attr, 0, -1, None, 0) else { return Availability::Yes };
        let (reason, remedy) = match error.raw_os_error() {
            Some(libc::ENOSYS) => (
                "this kernel has no perf_event_open, or a seccomp filter hides it".to_owned(),
                "grep -w CONFIG_PERF_EVENTS /boot/config-$(uname -r)",
            ),
            Some(libc::EACCES) | Some(libc::EPERM) => (
                format!("the kernel does not let this user open events: {error}"),
                "sudo sysctl kernel.perf_event_paranoid=1",
            ),
            _ => (format!("perf_event_open fails: {error}"), "dmesg | tail"),
        };
        Availability::No { reason, remedy: remedy.to_owned() }
    }

    fn open(&self, plan: &Plan) -> Result<Box<dyn Session>> {
        let session = session::NativeSession::open(&self.kernel, plan)?;
        if mended::is_needed(&Machine::here()) {
            let stacks = plan.call_graph != CallGraph::None;
            return Ok(Box::new(mended::Mended::new(session, stacks).forward()?));
        }
        Ok(Box::new(session))
    }
}

#[cfg(test)]
mod tests;
