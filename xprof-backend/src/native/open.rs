//! All events and rings of a session.
//!
//! An inherited event can only be read through a ring when it is bound to a CPU, so there is one descriptor for each
//! (event, target, CPU), and all of a CPU's events share that CPU's ring. The dummy of each (target, CPU) is opened
//! before the events: what a task maps or forks from then on is known before its first sample.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use xprof_perfdata::abi::attr_flag;

use super::attrs::Completed;
use super::counter::PerfCounter;
use super::ladder::{May, Place};
use super::{Kernel, cpus};
use crate::machine::Machine;
use crate::sys::{limits, perf, ring};
use crate::{Error, Result};

/// [`Handle::event`] of the dummy when it is not among the session's events.
pub(crate) const NO_EVENT: u32 = u32::MAX;

/// One open event.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) counter: PerfCounter,
    /// Index of the session's event.
    pub(crate) event: u32,
    /// Enabling it enables its group.
    pub(crate) leads: bool,
}

/// One ring, before a worker has it.
#[derive(Debug)]
pub(crate) struct OpenRing {
    pub(crate) number: u32,
    pub(crate) ring: ring::Ring,
    /// Indices of the handles that write to it; the first owns it.
    pub(crate) writers: Vec<u32>,
    /// Written backward, read by snapshots only.
    pub(crate) overwritten: bool,
    /// Of side-band records.
    pub(crate) side_band: bool,
}

/// What one event is opened on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct On {
    /// Thread; -1 for all; a cgroup's descriptor with [`perf::FLAG_PID_CGROUP`].
    pub(crate) pid: i32,
    pub(crate) flags: u64,
}

impl On {
    pub(crate) const ALL: On = On { pid: -1, flags: 0 };

    pub(crate) fn thread(tid: u32) -> On {
        On { pid: i32::try_from(tid).unwrap_or(i32::MAX), flags: 0 }
    }
}

/// Sizes of the rings, in data pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) samples: usize,
    pub(crate) side_band: usize,
}

impl Pages {
    /// perf's size (the share that `perf_event_mlock_kb` gives every CPU, rounded down to a power of two) for samples,
    /// half of it for side-band records.
    pub(crate) fn usual() -> Pages {
        let setting = Machine::here().kernel_setting("perf_event_mlock_kb");
        let kilobytes =
            setting.and_then(|kilobytes| usize::try_from(kilobytes).ok()).unwrap_or(516).clamp(8, 512 << 10);
        let page = ring::page_size();
        let pages = ((kilobytes << 10).saturating_sub(page) / page).clamp(2, 1 << 17);
        let samples = (pages + 1).next_power_of_two() / 2;
        Pages { samples, side_band: (samples / 2).clamp(1, (256 << 10) / page.min(256 << 10)) }
    }

    /// Room for a quarter of a second of samples with stack copies of `copied` bytes, taken at `hz` on each of `cpus` CPUs.
    pub(crate) fn for_copies(self, copied: u32, hz: u64, cpus: usize) -> Pages {
        /// Bytes of the rest of a sample, about.
        const REST: u64 = 512;
        /// Bytes of all rings, at most.
        const ALL: u64 = 512 << 20;
        let page = ring::page_size() as u64;
        let bytes = (u64::from(copied) + REST).saturating_mul(hz) / 4;
        let bytes = bytes.min(64 << 20).min(ALL / (cpus as u64).max(1));
        let samples = usize::try_from((bytes / page).max(1)).map_or(self.samples, usize::next_power_of_two);
        Pages { samples: samples.max(self.samples), ..self }
    }

    /// The next smaller size; `None` when it would be useless.
    pub(crate) fn smaller(self) -> Option<Pages> {
        (self.samples > 4).then(|| Pages { samples: self.samples / 2, side_band: (self.side_band / 2).max(1) })
    }
}

/// Bytes in a ring of so many pages at which its worker is woken. A quarter, not the kernel's half: in a storm a worker
/// that has to wait for a CPU then has three quarters of the ring for it.
fn watermark(pages: usize) -> u32 {
    u32::try_from(pages.saturating_mul(ring::page_size()) / 4).unwrap_or(u32::MAX / 2)
}

/// Opens events; what is open so far.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    kernel: &'a dyn Kernel,
    pub(crate) completed: Completed,
    pub(crate) cpus: Vec<u32>,
    pages: Pages,
    overwrite: bool,
    drop_clock: bool,
    settled: Vec<bool>,
    side_settled: bool,
    pub(crate) handles: Vec<Handle>,
    pub(crate) ids: Vec<Vec<u64>>,
    pub(crate) side_ids: Vec<u64>,
    pub(crate) rings: Vec<OpenRing>,
    ring_of: BTreeMap<(u32, bool), usize>,
    pub(crate) notes: Vec<String>,
}

/// What kind of clock and rings an [`Opener`] is to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) pages: Pages,
    pub(crate) overwrite: bool,
    /// The clock is xprof's choice and may be given up.
    pub(crate) drop_clock: bool,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(kernel: &'a dyn Kernel, mut completed: Completed, cpus: Vec<u32>, options: Options) -> Self {
        let count = completed.events.len();
        if !options.overwrite {
            for ready in &mut completed.events {
                ready.attr.flags |= attr_flag::WATERMARK;
                ready.attr.wakeup_events = watermark(options.pages.samples);
            }
        }
        Opener {
            kernel,
            completed,
            cpus,
            pages: options.pages,
            overwrite: options.overwrite,
            drop_clock: options.drop_clock,
            settled: vec![false; count],
            side_settled: false,
            handles: Vec::new(),
            ids: vec![Vec::new(); count],
            side_ids: Vec::new(),
            rings: Vec::new(),
            ring_of: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Descriptors that one more target takes.
    pub(crate) fn per_target(&self) -> usize {
        self.cpus.len() * (self.completed.events.len() + 1)
    }

    /// Makes room for `targets` more targets under the limit of open files; the error says how many are needed.
    pub(crate) fn reserve(&self, targets: usize) -> Result<()> {
        // The rest of the process (files, pipes, maps of deleted files) wants some as well.
        const OTHERS: usize = 256;
        let needed = (self.handles.len() + targets.saturating_mul(self.per_target()) + OTHERS) as u64;
        if limits::open_files() >= needed {
            return Ok(());
        }
        let limit = limits::raise_open_files(needed);
        // The margin is a wish.
        if limit >= needed - OTHERS as u64 + 16 {
            return Ok(());
        }
        Err(Error::TooManyFiles {
            needed,
            limit,
            threads: targets,
            cpus: self.cpus.len(),
            events: self.completed.events.len(),
        })
    }

    /// Opens the dummy on every CPU; false when the target is gone.
    pub(crate) fn side_band(&mut self, on: On) -> Result<bool> {
        for at in 0..self.cpus.len() {
            let cpu = self.cpus[at];
            let may = May { lower_precision: false, drop_clock: self.drop_clock };
            let place = Place { pid: on.pid, cpu: cpu as i32, group: None, flags: on.flags };
            let side_band = &mut self.completed.side_band;
            match PerfCounter::program(self.kernel, side_band, place, self.side_settled, may, &mut self.notes) {
                Ok(counter) => {
                    if !self.side_settled {
                        self.side_settled = true;
                        self.follow_clock();
                    }
                    self.side_ids.push(perf::id(counter.as_fd()).map_err(|e| Error::os("read the id of an event", e))?);
                    let event = if self.completed.lone { NO_EVENT } else { self.completed.events.len() as u32 };
                    self.attach(Handle { counter, event, leads: true }, cpu, true)?;
                }
                Err(error) => {
                    // The user knows of the event, not of its companion.
                    let name = self.completed.events.first().map_or_else(String::new, |ready| ready.name.clone());
                    if !self.survives(&name, on, cpu, error)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// All records are on one clock: when the dummy could not have it, neither can the events.
    fn follow_clock(&mut self) {
        use xprof_perfdata::abi::attr_flag::USE_CLOCKID;
        if !self.completed.side_band.has(USE_CLOCKID) {
            for event in &mut self.completed.events {
                event.attr.flags &= !USE_CLOCKID;
                event.attr.clockid = 0;
            }
        }
    }

    /// Opens the events of `which` on every CPU; false when the target is gone.
    pub(crate) fn events(&mut self, on: On, which: Range<usize>) -> Result<bool> {
        for at in 0..self.cpus.len() {
            let cpu = self.cpus[at];
            let mut leader: Option<u32> = None;
            for index in which.clone() {
                let ready = &mut self.completed.events[index];
                if ready.cpus.as_ref().is_some_and(|cpus| !cpus.contains(&cpu)) {
                    continue;
                }
                let leads = ready.leader == index;
                if leads {
                    leader = None;
                }
                let group = leader.and_then(|at| self.handles.get(at as usize)).map(|handle| handle.counter.as_fd());
                if !leads && group.is_none() {
                    continue;
                }
                let place = Place { pid: on.pid, cpu: cpu as i32, group, flags: on.flags };
                let may = May { lower_precision: !ready.precise_is_fixed, drop_clock: false };
                let settled = self.settled[index];
                match PerfCounter::program(self.kernel, &mut ready.attr, place, settled, may, &mut self.notes) {
                    Ok(counter) => {
                        self.settled[index] = true;
                        if leads {
                            leader = Some(self.handles.len() as u32);
                        }
                        self.ids[index]
                            .push(perf::id(counter.as_fd()).map_err(|e| Error::os("read the id of an event", e))?);
                        self.attach(Handle { counter, event: index as u32, leads }, cpu, false)?;
                    }
                    Err(error) => {
                        let name = ready.name.clone();
                        if !self.survives(&name, on, cpu, error)? {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Whether the session goes on after a failure to open: a CPU that went offline is left out (`true`), a thread that
    /// ended is left out (`false`).
    fn survives(&mut self, event: &str, on: On, cpu: u32, error: io::Error) -> Result<bool> {
        let of_thread = on.flags & perf::FLAG_PID_CGROUP == 0 && on.pid >= 0;
        match error.raw_os_error() {
            Some(libc::ESRCH) if of_thread => return Ok(false),
            Some(libc::ENODEV) if !cpus::online()?.contains(&cpu) => {
                self.notes.push(format!("CPU {cpu} is offline: not measured"));
                return Ok(true);
            }
            _ => {}
        }
        Err(Error::Open {
            event: event.to_owned(),
            pid: of_thread.then_some(on.pid),
            cpu: Some(cpu),
            opened: self.handles.len(),
            source: error,
        })
    }

    /// Gives the event its CPU's ring, making that when it is the first.
    fn attach(&mut self, handle: Handle, cpu: u32, side_band: bool) -> Result<()> {
        let index = self.handles.len() as u32;
        match self.ring_of.get(&(cpu, side_band)) {
            Some(&at) => {
                let owner = &self.handles[self.rings[at].writers[0] as usize];
                perf::set_output(handle.counter.as_fd(), owner.counter.as_fd())
                    .map_err(|e| Error::os(format!("send records to the ring of CPU {cpu}"), e))?;
                self.rings[at].writers.push(index);
            }
            None => {
                let overwritten = self.overwrite && !side_band;
                let pages = if side_band { self.pages.side_band } else { self.pages.samples };
                let ring = handle
                    .counter
                    .ring(pages, overwritten)
                    .map_err(|e| Error::os(format!("map a ring of {pages} pages for CPU {cpu}"), e))?;
                let number = self.rings.len() as u32;
                self.ring_of.insert((cpu, side_band), self.rings.len());
                self.rings.push(OpenRing { number, ring, writers: vec![index], overwritten, side_band });
            }
        }
        self.handles.push(handle);
        Ok(())
    }

    /// Closes these handles again, and with them what was inherited from them; false when a ring is theirs.
    pub(crate) fn close(&mut self, which: Range<usize>) -> bool {
        let closes = |at: u32| which.contains(&(at as usize));
        if self.rings.iter().any(|open| open.writers.first().is_some_and(|&owner| closes(owner))) {
            return false;
        }
        for handle in &self.handles[which.clone()] {
            let Ok(id) = perf::id(handle.counter.as_fd()) else { continue };
            match self.ids.get_mut(handle.event as usize) {
                Some(ids) => ids.retain(|&other| other != id),
                None => self.side_ids.retain(|&other| other != id),
            }
        }
        for open in &mut self.rings {
            open.writers.retain(|&at| !closes(at));
            for at in open.writers.iter_mut().filter(|at| **at as usize >= which.end) {
                *at -= which.len() as u32;
            }
        }
        self.handles.drain(which);
        true
    }

    /// Takes what the side-band rings hold, one buffer for each ring that holds something.
    pub(crate) fn drain_side_band(&mut self, mut give: impl FnMut(u32, Vec<u8>)) {
        for (&(_, side_band), &at) in &self.ring_of {
            let open = &mut self.rings[at];
            let mut bytes = Vec::new();
            if side_band && open.ring.take(&mut bytes, usize::MAX).bytes != 0 {
                give(open.number, bytes);
            }
        }
    }
}
