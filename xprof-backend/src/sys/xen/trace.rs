//! Xen's trace buffers: a ring for each pCPU, in memory of Xen's own that dom0 maps (xen/common/trace.c, public/trace.h).
//!
//! The first frame of a ring begins with `struct t_buf`: `cons`, which we write, and `prod`, which Xen writes; both run modulo
//! twice the size of the data, so that a full ring is none that is empty. The frames of all rings are listed in `struct t_info`. Nothing that
//! is read there is believed: positions are checked, frames are Xen's to refuse, and our own position is kept here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::abi::{PhysInfo, TraceCall, hypercall, sysctl, tbuf};
use super::error::XenError;
use super::gate::{BATCH_MAX, Gate};
use super::hypervisor::{CALLS_AT, CPUS_MAX, Hypervisor, Result, SYSCTL_BODY};
use super::memory::{FRAME, Mapping};

/// Bytes of `struct t_buf` in front of the data.
const HEAD: u32 = 8;
/// The most frames of `struct t_info` that are looked at; Xen needs four bytes for each frame of each ring.
const INFO_FRAMES: u64 = 512;
/// What Xen writes at once, at most: the word of an end, a record of lost ones, and the record itself, bytes. A ring that had less space
/// than this may have lost something.
pub const MOST_AT_ONCE: u32 = 40 + 28 + 40;

/// What Xen says of its trace buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceInfo {
    /// Which events are written, when they are written (`tb_event_mask`).
    pub mask: u32,
    /// Where `struct t_info` is; 0: there are no buffers yet.
    frame: u64,
    /// Bytes of it.
    size: u32,
}

impl TraceInfo {
    /// The buffers were made already, at Xen's boot or by somebody; they cannot be made again, or smaller, before the next.
    pub fn has_buffers(&self) -> bool {
        self.frame != 0
    }
}

impl Hypervisor {
    fn trace(&mut self, command: u32, fill: impl FnOnce(&mut TraceCall)) -> io::Result<i64> {
        let mut call = TraceCall { command, cpu_mask: [0; 2], event_mask: 0, buffer_mfn: 0, size: 0 };
        fill(&mut call);
        self.sysctl_call(sysctl::TRACE, |buffer| buffer.put(CALLS_AT + SYSCTL_BODY, call))
    }

    /// What there is of trace buffers.
    ///
    /// # Errors
    /// ENOSYS and EOPNOTSUPP: Xen was built without.
    pub fn trace_info(&mut self) -> io::Result<TraceInfo> {
        self.trace(tbuf::INFO, |_| {})?;
        let at = |offset| CALLS_AT + SYSCTL_BODY + offset;
        Ok(TraceInfo {
            mask: self.buffer.u32(at(offset_of!(TraceCall, event_mask))),
            frame: self.buffer.u64(at(offset_of!(TraceCall, buffer_mfn))),
            size: self.buffer.u32(at(offset_of!(TraceCall, size))),
        })
    }

    /// Sets which events are written.
    ///
    /// # Errors
    /// As [`Self::trace_info`].
    pub fn set_trace_mask(&mut self, mask: u32) -> io::Result<()> {
        self.trace(tbuf::MASK, |call| call.event_mask = mask).map(|_| ())
    }

    /// Makes the buffers, so many frames for each pCPU, which stay until the host reboots.
    ///
    /// # Errors
    /// EBUSY, EINVAL: they are there, of this size or another. ENOMEM.
    pub fn make_trace_buffers(&mut self, frames: u32) -> io::Result<()> {
        self.trace(tbuf::SIZE, |call| call.size = frames).map(|_| ())
    }

    /// Begins or ends the writing of records.
    ///
    /// # Errors
    /// EINVAL: there are no buffers.
    pub fn enable_trace(&mut self, on: bool) -> io::Result<()> {
        self.trace(if on { tbuf::ENABLE } else { tbuf::DISABLE }, |_| {}).map(|_| ())
    }

    /// Gives this vCPU's pCPU to whoever wants it more (`SCHEDOP_yield`): the call that stands in the trace with its time.
    ///
    /// # Errors
    /// When Xen does not know the call.
    pub fn yield_pcpu(&self) -> io::Result<()> {
        self.simple(hypercall::SCHED, tbuf::YIELD).map(|_| ())
    }

    /// pCPUs that can be, by their highest number.
    fn possible_cpus(&mut self) -> Result<usize> {
        self.sysctl_call(sysctl::PHYSINFO, |_| {}).map_err(|e| XenError::call("describe the machine", e))?;
        let highest = self.buffer.u32(CALLS_AT + SYSCTL_BODY + offset_of!(PhysInfo, max_cpu));
        Ok((highest as usize).saturating_add(1).min(CPUS_MAX))
    }

    /// What is raised when a ring is half full; for one program at a time.
    ///
    /// # Errors
    /// EEXIST: another program has it.
    pub fn trace_signal(&self) -> io::Result<TraceSignal> {
        Ok(TraceSignal { file: File::from(self.gate.virq(tbuf::VIRQ)?) })
    }
}

/// `VIRQ_TBUF`, bound.
#[derive(Debug)]
pub struct TraceSignal {
    file: File,
}

impl TraceSignal {
    /// Waits until a ring is half full or `wake`, an event descriptor, is written to, so long at most; true when a ring is.
    pub fn wait(&mut self, most: Duration, wake: BorrowedFd<'_>) -> bool {
        let most: Option<Timespec> = most.min(Duration::from_secs(3600)).try_into().ok();
        let of = |file| PollFd::from_borrowed_fd(file, PollFlags::IN);
        let mut asked = [of(self.file.as_fd()), of(wake)];
        if !matches!(poll(&mut asked, most.as_ref()), Ok(1..)) {
            return false;
        }
        let [signal, woken] = asked.map(|asked| !asked.revents().is_empty());
        if woken {
            let _ = rustix::io::read(wake, &mut [0; 8]);
        }
        // The port that was raised is masked until it is written back.
        let mut port = [0; 4];
        signal && self.file.read_exact(&mut port).is_ok() && self.file.write_all(&port).is_ok()
    }
}

/// The ring of a pCPU.
#[derive(Debug)]
struct Ring {
    cpu: u32,
    /// Its frames, in batches.
    frames: Vec<Mapping>,
    /// Bytes of data.
    size: u32,
    /// Where we are, modulo twice the size.
    cons: u32,
}

/// The rings of all pCPUs.
#[derive(Debug)]
pub struct Rings {
    rings: Vec<Ring>,
    /// Positions that could not be.
    pub lies: u64,
}

/// What was in a ring.
#[derive(Debug)]
pub struct Drained<'a> {
    /// Whose ring.
    pub cpu: u32,
    /// Whole records, one after the other.
    pub bytes: &'a [u8],
    /// There was so little space left that records may have been lost.
    pub full: bool,
}

impl Rings {
    /// Maps them all.
    ///
    /// # Errors
    /// When Xen does not give its memory, or what it lists cannot be rings.
    pub fn map(xen: &mut Hypervisor, info: &TraceInfo) -> Result<Rings> {
        let wrong =
            |what: &str| XenError::call("show its trace buffers", io::Error::new(io::ErrorKind::InvalidData, what));
        let cpus = xen.possible_cpus()?;
        let gate: &dyn Gate = &*xen.gate;
        let count = u64::from(info.size).div_ceil(FRAME as u64);
        if !(1..=INFO_FRAMES).contains(&count) {
            return Err(wrong("the list of buffers has an impossible size"));
        }
        let numbers: Vec<u64> = (info.frame..info.frame.saturating_add(count)).collect();
        let list = mapped(gate, &numbers, false)?;
        let half = |at: usize| read::<2>(&list, at).map(u16::from_ne_bytes);
        let frames = half(0).filter(|frames| *frames > 0).ok_or_else(|| wrong("the list of buffers is empty"))?;
        let mut rings = Vec::new();
        for cpu in 0..cpus {
            let Some(first) = half(2 + 2 * cpu).filter(|first| *first != 0) else { continue };
            let frame = |n: u16| {
                let at = (usize::from(first) + usize::from(n)) * 4;
                read::<4>(&list, at).map(|number| u64::from(u32::from_ne_bytes(number)))
            };
            let numbers: Option<Vec<u64>> = (0..frames).map(frame).collect();
            let numbers = numbers.ok_or_else(|| wrong("a buffer is listed beyond the list"))?;
            let frames = mapped(gate, &numbers, true)?;
            let size = (numbers.len() * FRAME) as u32 - HEAD;
            let mut ring = Ring { cpu: cpu as u32, frames, size, cons: 0 };
            ring.cons = ring.word(0).filter(|cons| *cons < 2 * size).unwrap_or(0);
            rings.push(ring);
        }
        if rings.is_empty() { Err(wrong("no pCPU has a buffer")) } else { Ok(Rings { rings, lies: 0 }) }
    }

    /// Rings, and bytes of each.
    pub fn sizes(&self) -> (usize, u32) {
        (self.rings.len(), self.rings.first().map_or(0, |ring| ring.size + HEAD))
    }

    /// Where Xen is in each ring: moves when records are written.
    pub fn positions(&self) -> Vec<u32> {
        self.rings.iter().map(|ring| ring.word(4).unwrap_or(0)).collect()
    }

    /// A ring has no space left: nothing would appear in it.
    pub fn is_full(&self) -> bool {
        let used = |ring: &Ring| {
            let round = 2 * ring.size;
            let prod = ring.word(4).filter(|prod| *prod < round).unwrap_or(0);
            (prod + round - ring.cons) % round
        };
        self.rings.iter().any(|ring| ring.size.saturating_sub(used(ring)) < MOST_AT_ONCE)
    }

    /// Throws away what is in the rings.
    pub fn discard(&mut self) {
        for ring in &mut self.rings {
            let prod = ring.word(4).filter(|prod| *prod < 2 * ring.size).unwrap_or(0);
            ring.free(prod);
        }
    }

    /// Empties every ring into `each`, by way of `space`.
    pub fn drain(&mut self, space: &mut Vec<u8>, mut each: impl FnMut(Drained<'_>)) {
        for ring in &mut self.rings {
            space.clear();
            match ring.take(space) {
                Some(_) if space.is_empty() => {}
                Some(full) => each(Drained { cpu: ring.cpu, bytes: space, full }),
                None => self.lies += 1,
            }
        }
    }
}

/// Maps frames of Xen, all of them.
fn mapped(gate: &dyn Gate, numbers: &[u64], written: bool) -> Result<Vec<Mapping>> {
    let failed = |error| XenError::call("give its trace buffers", error);
    let mut all = Vec::new();
    for batch in numbers.chunks(BATCH_MAX) {
        let mapping = gate.map(tbuf::OWNER, batch, written).map_err(failed)?;
        if (0..batch.len()).any(|index| !mapping.has(index)) {
            return Err(failed(io::Error::from_raw_os_error(libc::EFAULT)));
        }
        all.push(mapping);
    }
    Ok(all)
}

/// The number at byte `at` of frames that lie one after the other; none that two frames share.
fn read<const N: usize>(frames: &[Mapping], at: usize) -> Option<[u8; N]> {
    let frame = at / FRAME;
    frames.get(frame / BATCH_MAX)?.read(frame % BATCH_MAX, at % FRAME)
}

impl Ring {
    /// A position: 0 is `cons`, 4 is `prod`.
    fn word(&self, at: usize) -> Option<u32> {
        read::<4>(&self.frames, at).map(u32::from_ne_bytes)
    }

    /// Everything before `prod` may be written over.
    fn free(&mut self, prod: u32) {
        self.cons = prod;
        fence(Ordering::Release);
        if let Some(first) = self.frames.first() {
            first.put(0, 0, prod);
        }
    }

    /// Appends what is there; whether the ring was full. `None`: a position that cannot be; the ring is emptied.
    fn take(&mut self, out: &mut Vec<u8>) -> Option<bool> {
        let round = 2 * self.size;
        let prod = self.word(4)?;
        fence(Ordering::Acquire);
        let used = if prod < round { (prod + round - self.cons) % round } else { u32::MAX };
        if used > self.size {
            self.free(if prod < round { prod } else { 0 });
            return None;
        }
        let (mut at, mut left) = (self.cons % self.size, used);
        while left > 0 {
            let place = (at + HEAD) as usize;
            let len = (left as usize).min(FRAME - place % FRAME).min((self.size - at) as usize);
            let (frame, start) = (place / FRAME, out.len());
            out.resize(start + len, 0);
            if !self.frames.get(frame / BATCH_MAX)?.copy(frame % BATCH_MAX, place % FRAME, &mut out[start..]) {
                return None;
            }
            left -= len as u32;
            at = (at + len as u32) % self.size;
        }
        self.free(prod);
        Some(self.size - used < MOST_AT_ONCE)
    }
}

#[cfg(test)]
pub(crate) mod tests;
