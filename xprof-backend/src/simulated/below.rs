//! What a Xen below the simulated machine would tell dom0 of it, for `--source vpmu`: its trace, and counters in the vPMU's mode all.
//!
//! The trace is in Xen's own bytes, and is read by the code that reads a real one. An interrupt of a counter in another domain wakes dom0's
//! vCPU, which gets the CPU a little later and takes the sample then; its time is nobody's turn, and no counter counts it. So what is sampled is
//! the same as without it, sample by sample, and only times differ.

use xprof_perfdata::domain::{Domain, DomainKind, RunState};

use super::machine::BEGIN;
use crate::msr::DomId;
use crate::xen::guest_form::{GuestForm, Options};
use crate::xen::trace::clock::{Anchor, TraceClock};
use crate::xen::trace::reading::Reading;
use crate::xen::trace::records::Vcpu;
use crate::xen::trace::states::{States, Stint};

/// Ticks of the trace's TSC in a ns, and where it stands at time 0.
const TICKS: u64 = 3;
const OFFSET: u64 = 7_000_000_000;
/// `TRC_SCHED_RUNSTATE_CHANGE` of public/trace.h.
const STATE_CHANGE: u32 = 0x2_1001;
/// From dom0's waking to its having the CPU, from there to the sample, and until it gives the CPU away, ns.
pub(super) const WAKES: u64 = 700;
pub(super) const TAKES: u64 = 300;
pub(super) const HANDLES: u64 = 1500;

/// The ring of one CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct TraceRing {
    bytes: Vec<u8>,
    /// Time in which dom0 handled interrupts so far, ns: the machine's own clock does not count it.
    pub(super) stolen: u64,
}

impl TraceRing {
    /// A vCPU goes from one state into another, at a time of the machine's own clock.
    pub(super) fn state(&mut self, (domain, vcpu): (DomId, u32), old: RunState, new: RunState, now: u64) {
        let number = STATE_CHANGE | (old.number() as u32) << 8 | (new.number() as u32) << 4;
        self.bytes.extend((number | 1 << 28 | 1 << 31).to_le_bytes());
        self.bytes.extend(tsc(now + self.stolen).to_le_bytes());
        self.bytes.extend((u32::from(domain.0) << 16 | vcpu & 0xffff).to_le_bytes());
    }

    /// The CPU goes from one vCPU to another. Dom0's sleeps while it has none.
    pub(super) fn switch(&mut self, from: (DomId, u32), to: (DomId, u32), now: u64) {
        use RunState::{Blocked, Runnable, Running};
        if from != to {
            self.state(from, Running, if from.0 == DomId::ZERO { Blocked } else { Runnable }, now);
            if to.0 == DomId::ZERO {
                self.state(to, Blocked, Runnable, now);
            }
            self.state(to, Runnable, Running, now);
        }
    }

    /// Dom0's vCPU is woken by an interrupt of `of`, and takes a sample: when it has the CPU, and when it takes it.
    pub(super) fn interrupted(&mut self, of: (DomId, u32), own: (DomId, u32), now: u64) -> u64 {
        use RunState::{Blocked, Runnable, Running};
        self.state(own, Blocked, Runnable, now);
        self.stolen += WAKES;
        self.state(of, Running, Runnable, now);
        self.state(own, Runnable, Running, now);
        let taken = now + self.stolen + TAKES;
        self.stolen += HANDLES;
        self.state(own, Running, Blocked, now);
        self.state(of, Runnable, Running, now);
        taken
    }
}

fn tsc(time: u64) -> u64 {
    time * TICKS + OFFSET
}

/// The domains that run on a simulated machine.
pub(super) fn domains(list: &[DomId], cpus: u32) -> Vec<Domain> {
    let of = |id: &DomId| Domain {
        id: id.0.into(),
        name: if *id == DomId::ZERO { "Domain-0".into() } else { format!("simulated{}", id.0) },
        kind: DomainKind::Pv,
        vcpus: cpus,
        until: u64::MAX,
        ..Domain::default()
    };
    list.iter().map(of).collect()
}

/// Reads the trace, and writes what vCPUs did.
#[derive(Debug)]
pub(super) struct Tracing {
    pub(super) form: GuestForm,
    reading: Reading,
    states: States,
    clock: TraceClock,
}

impl Tracing {
    /// Of these domains; also the records that a recording begins with.
    ///
    /// # Errors
    /// As [`GuestForm::domains`].
    pub(super) fn new(domains: &[Domain], extra: &[Domain]) -> crate::Result<(Tracing, Vec<u8>)> {
        let options =
            Options { frequency: 1, call_graph: false, clockid: crate::sys::clock::MONOTONIC, waiting: false };
        let all: Vec<Domain> = domains.iter().chain(extra).cloned().collect();
        let mut form = GuestForm::new(&options, &all).of_states();
        let mut head = Vec::new();
        form.domains(&all, 0, &mut head)?;
        let mut states = States::default();
        for domain in domains {
            (0..domain.vcpus).for_each(|vcpu| states.expect(Vcpu { domain: domain.id as u16, vcpu: vcpu as u16 }, 0));
        }
        let mut clock = TraceClock::new((TICKS * 1_000_000) as u32);
        states.restart(tsc(BEGIN));
        clock.line_to(Anchor { tsc: tsc(BEGIN), time: BEGIN, error: 0 });
        Ok((Tracing { form, reading: Reading::default(), states, clock }, head))
    }

    /// Empties a CPU's ring.
    pub(super) fn read(&mut self, cpu: u32, ring: &mut TraceRing) {
        self.reading.ring(cpu, &ring.bytes, false);
        ring.bytes.clear();
    }

    /// Appends what vCPUs did until `time`, up to which all rings have been read.
    pub(super) fn anchor(&mut self, time: u64, out: &mut Vec<u8>) {
        let Some(line) = self.clock.line_to(Anchor { tsc: tsc(time), time, error: 0 }) else { return };
        let mut stints: Vec<Stint> = Vec::new();
        for change in self.reading.until(tsc(time)) {
            self.states.change(&change, &mut |stint| stints.push(stint));
        }
        self.states.cut(tsc(time), &mut |stint| stints.push(stint));
        self.states.restart(tsc(time));
        crate::xen::trace::write(&line, &mut stints, &self.form, out);
    }
}
