//! In which state each vCPU was, and for how long: stints.
//!
//! A record says the state that ends and the one that begins, so a stint is known exactly when the record that ends it is there and nothing
//! was missing meanwhile. What is not known is in no stint.

use rustc_hash::FxHashMap;

use super::reading::{Change, What};
use super::records::{RunState, Vcpu};

/// `DOMID_IDLE` of xen.h, whose vCPUs stand for pCPUs that nobody wants.
const IDLE: u16 = 0x7fff;
/// vCPUs that are followed.
const VCPUS_MAX: usize = 1 << 18;

/// Time that a vCPU spent in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stint {
    /// Whose.
    pub of: Vcpu,
    /// In which state.
    pub state: RunState,
    /// From and to, by the TSC.
    pub from: u64,
    /// See [`Stint::from`].
    pub to: u64,
    /// The pCPU that it has or last had.
    pub cpu: u32,
    /// Who got the pCPU that it was taken from, of a [`RunState::Runnable`] one that was preempted.
    pub by: Option<Vcpu>,
    /// It is not over.
    pub goes_on: bool,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    /// `None`: not told yet, but the same since `since`.
    state: Option<RunState>,
    since: u64,
    cpu: u32,
    by: Option<Vcpu>,
}

/// The states of all vCPUs.
#[derive(Debug, Default)]
pub struct States {
    vcpus: FxHashMap<Vcpu, Now>,
    /// By pCPU: who was preempted there, and nobody has come yet.
    preempted: FxHashMap<u32, Vcpu>,
    /// pCPUs of which something is missing.
    gaps: usize,
    /// Records that contradict what was before.
    pub contradictions: u64,
    /// Time in which nothing was known, in ticks of the TSC.
    pub unknown: u64,
    gap_from: u64,
}

impl States {
    /// A vCPU that is there at `tsc`, when all records are seen: its first record says the state that it has from here to there.
    pub fn expect(&mut self, of: Vcpu, tsc: u64) {
        if self.vcpus.len() < VCPUS_MAX {
            self.vcpus.entry(of).or_insert(Now { state: None, since: tsc, cpu: 0, by: None });
        }
    }

    /// Forgets the vCPUs of all other domains.
    pub fn keep(&mut self, domain: impl Fn(u16) -> bool) {
        self.vcpus.retain(|of, _| domain(of.domain));
    }

    /// vCPUs of which no record has come, and since when: they have been in one state since.
    pub fn silent(&self) -> impl Iterator<Item = (Vcpu, u64)> {
        self.vcpus.iter().filter(|(_, now)| now.state.is_none() && self.gaps == 0).map(|(of, now)| (*of, now.since))
    }

    /// What Xen said of a silent vCPU: it was silent since `since` then, and is still.
    pub fn told(&mut self, of: Vcpu, since: u64, state: RunState, cpu: u32) {
        if let Some(now) = self.vcpus.get_mut(&of).filter(|now| now.state.is_none() && now.since == since) {
            (now.state, now.cpu) = (Some(state), cpu);
        }
    }

    /// Takes the next change, in order of time.
    pub fn change(&mut self, change: &Change, out: &mut impl FnMut(Stint)) {
        let Change { tsc, cpu, what } = *change;
        match what {
            What::State { of, .. } if of.domain == IDLE => {
                self.preempted.remove(&cpu);
            }
            What::State { of, old, new } if self.gaps == 0 => self.state(of, (old, new), tsc, cpu, out),
            What::State { .. } => {}
            What::Gap => {
                if self.gaps == 0 {
                    self.cut(tsc, out);
                    self.vcpus.values_mut().for_each(|now| now.state = None);
                    self.preempted.clear();
                    self.gap_from = tsc;
                }
                self.gaps += 1;
            }
            What::Whole => {
                self.gaps = self.gaps.saturating_sub(1);
                if self.gaps == 0 {
                    self.unknown = self.unknown.saturating_add(tsc.saturating_sub(self.gap_from));
                    self.vcpus
                        .values_mut()
                        .for_each(|now| *now = Now { state: None, since: tsc.max(now.since), cpu: now.cpu, by: None });
                }
            }
        }
    }

    fn state(&mut self, of: Vcpu, (old, new): (RunState, RunState), tsc: u64, cpu: u32, out: &mut impl FnMut(Stint)) {
        let is_new = !self.vcpus.contains_key(&of);
        if is_new {
            // It was not there before.
            self.expect(of, tsc);
        }
        let Some(now) = self.vcpus.get_mut(&of) else { return };
        if now.state.is_none_or(|state| state == old) {
            if now.since < tsc {
                let at = if old == RunState::Running { cpu } else { now.cpu };
                out(Stint { of, state: old, from: now.since, to: tsc, cpu: at, by: now.by, goes_on: false });
            }
        } else {
            self.contradictions += 1;
        }
        // Woken on another pCPU, it still belongs where it ran.
        let at = if new == RunState::Running || old == RunState::Running { cpu } else { now.cpu };
        *now = Now { state: Some(new), since: tsc.max(now.since), cpu: at, by: None };
        match (old, new) {
            (RunState::Running, RunState::Runnable) => {
                self.preempted.insert(cpu, of);
            }
            (RunState::Running, _) => {
                self.preempted.remove(&cpu);
            }
            (_, RunState::Running) => {
                let left = self.preempted.remove(&cpu).filter(|left| *left != of);
                if let Some(left) = left.and_then(|left| self.vcpus.get_mut(&left)) {
                    left.by = Some(of);
                }
            }
            _ => {}
        }
    }

    /// Everything up to here, as stints that go on.
    pub fn cut(&mut self, tsc: u64, out: &mut impl FnMut(Stint)) {
        for (&of, now) in &mut self.vcpus {
            let Some(state) = now.state.filter(|_| now.since < tsc) else { continue };
            out(Stint { of, state, from: now.since, to: tsc, cpu: now.cpu, by: now.by, goes_on: true });
            now.since = tsc;
        }
    }

    /// What was before belongs to nobody.
    pub fn restart(&mut self, tsc: u64) {
        self.vcpus.values_mut().for_each(|now| now.since = now.since.max(tsc));
    }
}
