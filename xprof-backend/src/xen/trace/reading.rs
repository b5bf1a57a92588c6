//! What a profiler takes from the records of all pCPUs: changes of state in order, yields, exits, and where something is missing.
//!
//! Each pCPU has its own ring and its own order. Exits are the vCPU's that has the pCPU, so they are counted ring by ring; changes of
//! state concern a vCPU that moves between pCPUs, and are put in order by their TSC when all rings have been read up to some time.

use std::vec;

use rustc_hash::FxHashMap;

use super::records::{Event, Records, RunState, Vcpu};

/// Changes that are kept until they can be put in order; beyond, the oldest pCPU's are as lost.
const CHANGES_MAX: usize = 1 << 22;
/// pCPUs of a trace (Xen's own limit is 4095).
const CPUS_MAX: u32 = 4096;
/// Pairs of a vCPU and a reason whose exits are counted.
const EXITS_MAX: usize = 1 << 16;
/// Yields of dom0 that are kept from one anchor to the next; a burst has six.
const YIELDS_MAX: usize = 4096;
/// The vCPU of an exit of nobody knows whom.
pub const NOBODY: Vcpu = Vcpu { domain: u16::MAX, vcpu: u16::MAX };

/// Something that concerns the states of vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, by the TSC.
    pub tsc: u64,
    /// On which pCPU it was told.
    pub cpu: u32,
    /// What.
    pub what: What,
}

/// See [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A vCPU's state.
    State {
        /// Whose.
        of: Vcpu,
        /// Before.
        old: RunState,
        /// After.
        new: RunState,
    },
    /// From here on records of this pCPU are missing, or may be.
    Gap,
    /// They are there again.
    Whole,
}

/// A pCPU, as far as its ring was read.
#[derive(Clone, Copy, Debug, Default)]
struct Pcpu {
    tsc: u64,
    running: Option<Vcpu>,
    /// Its ring was full.
    gap: bool,
    /// No loss from before counts any more.
    settled: u64,
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Reading {
    /// In the order of reading; see [`Reading::until`].
    pub changes: Vec<Change>,
    /// TSC and vCPU of each yield of dom0.
    pub yields: Vec<(u64, u16)>,
    /// Exits by vCPU and reason.
    pub exits: FxHashMap<(Vcpu, u32), u64>,
    /// Records that Xen says are lost.
    pub lost: u64,
    /// Records, and bytes of them.
    pub records: u64,
    /// See [`Reading::records`].
    pub bytes: u64,
    /// Pieces that ended in the middle of a record.
    pub cut: u64,
    cpus: Vec<Pcpu>,
    /// The last exit's key: most exits are of the same kind.
    last_exit: Option<((Vcpu, u32), u64)>,
}

impl Reading {
    /// Takes what was in the ring of a pCPU. `full`: something may be missing behind it.
    pub fn ring(&mut self, cpu: u32, bytes: &[u8], full: bool) {
        let last = self.read(cpu, bytes);
        if let Some(state) = self.cpus.get_mut(last as usize).filter(|state| full && !state.gap) {
            state.gap = true;
            let change = Change { tsc: state.tsc, cpu: last, what: What::Gap };
            self.changes.push(change);
        }
    }

    /// Takes records that begin on `cpu`; the pCPU that the last one was of (in a file of xentrace's they change).
    pub fn read(&mut self, cpu: u32, bytes: &[u8]) -> u32 {
        let mut cpu = cpu.min(CPUS_MAX - 1);
        self.bytes += bytes.len() as u64;
        let mut now = self.pcpu(cpu);
        let mut records = Records::new(bytes);
        for record in &mut records {
            self.records += 1;
            if let Some(tsc) = record.tsc {
                now.tsc = tsc;
                if now.gap {
                    now.gap = false;
                    self.changes.push(Change { tsc, cpu, what: What::Whole });
                    now.settled = tsc;
                }
            }
            match record.event() {
                Event::State { of, old, new } => {
                    match new {
                        RunState::Running => now.running = Some(of),
                        _ if now.running == Some(of) => now.running = None,
                        _ => {}
                    }
                    self.changes.push(Change { tsc: now.tsc, cpu, what: What::State { of, old, new } });
                }
                Event::Continues(of) => now.running = Some(of),
                Event::Exits(reason) => self.exit((now.running.unwrap_or(NOBODY), reason)),
                Event::Yields(of) if of.domain == 0 && self.yields.len() < YIELDS_MAX => {
                    self.yields.push((now.tsc, of.vcpu))
                }
                Event::Lost { count, first } => {
                    self.lost += u64::from(count);
                    now.running = None;
                    if first > now.settled && first < now.tsc {
                        self.changes.push(Change { tsc: first, cpu, what: What::Gap });
                        self.changes.push(Change { tsc: now.tsc, cpu, what: What::Whole });
                    }
                }
                Event::Cpu(next) => {
                    self.keep(cpu, now);
                    cpu = next.min(CPUS_MAX - 1);
                    now = self.pcpu(cpu);
                }
                Event::Yields(_) | Event::Other => {}
            }
        }
        self.cut += u64::from(records.cut);
        if let Some((key, count)) = self.last_exit.take() {
            self.count(key, count);
        }
        self.keep(cpu, now);
        if self.changes.len() > CHANGES_MAX {
            // Nobody puts them in order any more: all of it is a gap.
            let from = self.changes.iter().map(|change| change.tsc).min().unwrap_or(0);
            let to = self.changes.iter().map(|change| change.tsc).max().unwrap_or(0);
            self.changes.clear();
            self.changes.push(Change { tsc: from, cpu, what: What::Gap });
            self.changes.push(Change { tsc: to, cpu, what: What::Whole });
        }
        cpu
    }

    fn pcpu(&mut self, cpu: u32) -> Pcpu {
        if self.cpus.len() <= cpu as usize {
            self.cpus.resize(cpu as usize + 1, Pcpu::default());
        }
        self.cpus[cpu as usize]
    }

    fn keep(&mut self, cpu: u32, now: Pcpu) {
        if let Some(place) = self.cpus.get_mut(cpu as usize) {
            *place = now;
        }
    }

    #[inline]
    fn exit(&mut self, key: (Vcpu, u32)) {
        match &mut self.last_exit {
            Some((last, count)) if *last == key => *count += 1,
            other => {
                if let Some((key, count)) = other.replace((key, 1)) {
                    self.count(key, count);
                }
            }
        }
    }

    fn count(&mut self, key: (Vcpu, u32), count: u64) {
        let room = self.exits.len() < EXITS_MAX;
        match self.exits.get_mut(&key) {
            Some(known) => *known += count,
            None if room => {
                self.exits.insert(key, count);
            }
            None => *self.exits.entry((NOBODY, u32::MAX)).or_default() += count,
        }
    }

    /// All rings have been read up to here: the changes until then, in order; later ones stay.
    pub fn until(&mut self, tsc: u64) -> vec::Drain<'_, Change> {
        for (cpu, state) in (0..).zip(&mut self.cpus) {
            if state.gap {
                (state.gap, state.settled) = (false, tsc);
                self.changes.push(Change { tsc, cpu, what: What::Whole });
            }
        }
        // Stable, and fast where rings are one after the other.
        self.changes.sort_by_key(|change| change.tsc);
        let later = self.changes.partition_point(|change| change.tsc <= tsc);
        self.changes.drain(..later)
    }
}
