//! Interrupts of the registers: what their events' rings hold is what the handler is told.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xprof_perfdata::abi::{misc, record};
use xprof_perfdata::sample::Sample;

use super::Registers;
use crate::msr::{Cause, DomId, Error, Mode, Overflow, Result};

/// Registers of the interrupted state that an [`Overflow`] has: their places in the mask (`enum perf_event_x86_regs`: BP 6,
/// SP 7, FLAGS 9; `enum perf_event_arm_regs`: X29 29, SP 31).
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 9;
#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: u64 = 1 << 29 | 1 << 31;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const REGISTERS: u64 = 0;

impl Registers {
    /// Waits until an event has interrupted, at most so long, and calls the handler for every interrupt that has come,
    /// the oldest first; how many.
    ///
    /// # Errors
    /// [`Error::Os`] when waiting fails.
    pub fn dispatch(&mut self, timeout: Duration) -> Result<usize> {
        let failed = |source| Error::Os { attempt: "wait for an interrupt".into(), source };
        let mut fds: Vec<PollFd<'_>> = self
            .slots
            .values()
            .filter_map(|slot| slot.event.as_ref().filter(|event| event.ring.is_some()))
            .map(|event| PollFd::from_borrowed_fd(event.counter.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let mut came = self.drain();
        came.sort_by_key(|(overflow, _)| overflow.time);
        let count = came.len();
        for (mut overflow, key) in came {
            self.status |= overflow.overflow;
            overflow.lost = std::mem::take(&mut self.lost);
            let cpu = overflow.pcpu;
            let is_masked = self.slots.get(&key).is_none_or(|slot| slot.masked);
            if is_masked || !self.handler.0.as_mut().is_some_and(|handler| handler(&overflow, cpu)) {
                self.lost = overflow.lost + u64::from(is_masked);
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.masked = true;
                    if let Some(event) = &mut slot.event {
                        let _ = event.counter.stop();
                        event.runs = false;
                    }
                }
            }
        }
        Ok(count)
    }

    /// What the rings hold, as interrupts.
    fn drain(&mut self) -> Vec<(Overflow, (bool, u32))> {
        let mut came = Vec::new();
        let mut bytes = Vec::new();
        for (&key, slot) in &mut self.slots {
            let Some(event) = &mut slot.event else { continue };
            let Some(ring) = &mut event.ring else { continue };
            bytes.clear();
            self.lost += u64::from(ring.take(&mut bytes, usize::MAX).damaged > 0);
            let bit = if key.0 { 32 + key.1 } else { key.1 };
            let mut rest = bytes.as_slice();
            while let Some((kind, misc, body, after)) = next(rest) {
                rest = after;
                match kind {
                    record::SAMPLE => {
                        let mut sample = Sample::default();
                        if event.format.decode_sample(body, &mut sample).is_ok() {
                            came.push((overflow(&sample, misc, 1 << bit, event.format.sample_regs_intr), key));
                        }
                    }
                    // id, then how many.
                    record::LOST => {
                        let count =
                            body.get(8..16).and_then(|count| count.try_into().ok()).map_or(0, u64::from_ne_bytes);
                        self.lost = self.lost.saturating_add(count);
                    }
                    _ => {}
                }
            }
        }
        came
    }
}

fn overflow(sample: &Sample, misc: u16, bits: u64, mask: u64) -> Overflow {
    // Ascending order of the mask: frame pointer, stack pointer, flags.
    let register = |n: usize| if mask == 0 { 0 } else { sample.regs_intr.values.get(n).copied().unwrap_or(0) };
    Overflow {
        time: sample.id.time,
        domain: DomId::ZERO,
        vcpu: sample.id.cpu,
        pcpu: sample.id.cpu,
        cause: Cause::Counter,
        mode: match misc & misc::CPUMODE_MASK {
            misc::KERNEL => Mode::Kernel,
            misc::HYPERVISOR => Mode::Hypervisor,
            _ => Mode::User,
        },
        overflow: bits,
        lost: 0,
        ip: sample.ip,
        bp: register(0),
        sp: register(1),
        flags: register(2),
        space: 0,
    }
}

/// The next record: type, misc, body, and what follows.
fn next(bytes: &[u8]) -> Option<(u32, u16, &[u8], &[u8])> {
    let (header, _) = bytes.split_first_chunk::<8>()?;
    let [k0, k1, k2, k3, m0, m1, s0, s1] = *header;
    let size = usize::from(u16::from_ne_bytes([s0, s1]));
    let body = bytes.get(8..size)?;
    Some((u32::from_ne_bytes([k0, k1, k2, k3]), u16::from_ne_bytes([m0, m1]), body, bytes.get(size..)?))
}
