//! Which registers count an event, by family: from "instructions, an interrupt each N" to a batch for the contract.
//!
//! Only events that every family has under some code; anything else is given as the family's own select value.

use super::tables::perfmon;
use super::{Entry, Kind, Rearm, Table};

/// An event that every family can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Cycles in which the CPU was not halted.
    Cycles,
    /// Instructions retired.
    Instructions,
    /// Cache misses (last level, or what the family has nearest to it).
    Misses,
    /// Branches retired.
    Branches,
    /// Event and unit mask as the family's select register has them (bits 15:0, on AMD 35:32 too).
    Raw(u64),
}

impl Counted {
    /// The events that have a code on every family.
    pub const NAMED: [Counted; 4] = [Counted::Cycles, Counted::Instructions, Counted::Misses, Counted::Branches];
}

/// Bits of a select register (EVNTSEL, PERF_CTL), the same on P6, perfmon and AMD (Intel SDM vol. 3, figure 20-1; AMD
/// APM vol. 2, 13.2.1).
pub mod select {
    /// Count in user mode.
    pub const USR: u64 = 1 << 16;
    /// Count in the kernel.
    pub const OS: u64 = 1 << 17;
    /// Interrupt on overflow.
    pub const INT: u64 = 1 << 20;
    /// Count.
    pub const EN: u64 = 1 << 22;
    /// Event and unit mask.
    pub const EVENT: u64 = 0xf_0000_ffff;
}

/// Bits of NetBurst's registers (Intel SDM vol. 3, figures 20-45 and 20-47).
pub mod netburst {
    /// CCCR: count.
    pub const ENABLE: u64 = 1 << 12;
    /// CCCR: 17:16 must be 11b without Hyper-Threading.
    pub const ACTIVE_THREAD: u64 = 3 << 16;
    /// CCCR: interrupt on overflow, thread 0.
    pub const OVF_PMI: u64 = 1 << 26;
    /// CCCR: the counter overflowed.
    pub const OVF: u64 = 1 << 31;
    /// ESCR: thread 0, user mode.
    pub const T0_USR: u64 = 1 << 2;
    /// ESCR: thread 0, kernel.
    pub const T0_OS: u64 = 1 << 3;

    /// An event's ESCR address, event and mask for it, ESCR_SELECT, and the first counter that can count it (Intel SDM
    /// vol. 3, tables 20-66 and A-6 of older editions).
    #[derive(Clone, Copy, Debug)]
    pub struct Place {
        /// ESCR.
        pub escr: u32,
        /// ESCR bits 30:9.
        pub event: u64,
        /// CCCR bits 15:13.
        pub select: u64,
        /// Counter number, in the order of addresses from 0x300.
        pub counter: u32,
    }

    /// global_power_events, running: FSB_ESCR0, MSR_BPU_COUNTER0.
    pub const CYCLES: Place = Place { escr: 0x3a2, event: 0x13 << 25 | 1 << 9, select: 6 << 13, counter: 0 };
    /// instr_retired, NBOGUSNTAG: CRU_ESCR0, MSR_IQ_COUNTER0.
    pub const INSTRUCTIONS: Place = Place { escr: 0x3b8, event: 2 << 25 | 1 << 9, select: 4 << 13, counter: 12 };
    /// branch_retired, all four masks: CRU_ESCR2, MSR_IQ_COUNTER1.
    pub const BRANCHES: Place = Place { escr: 0x3cc, event: 6 << 25 | 15 << 9, select: 5 << 13, counter: 13 };
}

/// Select codes of the named events (unit mask 15:8, event 7:0).
pub fn code(table: &Table, event: Counted) -> Option<u64> {
    // Core Solo and Core Duo interrupt as a Pentium M does, and count the architectural events.
    let rearm = if std::ptr::eq(table.family, &perfmon::V1) { Rearm::Perfmon } else { table.family.rearm };
    Some(match (event, rearm) {
        (Counted::Raw(code), _) => code & select::EVENT,
        (_, Rearm::NetBurst | Rearm::Pmuv3) => return None,
        // CPU_CLK_UNHALTED, L2_LINES_IN (Intel SDM vol. 3, P6 family events).
        (Counted::Cycles, Rearm::P6 | Rearm::PentiumM) => 0x79,
        (Counted::Misses, Rearm::P6 | Rearm::PentiumM) => 0x24,
        // The architectural events (Intel SDM vol. 3, table 20-1).
        (Counted::Cycles, Rearm::Perfmon) => 0x3c,
        (Counted::Misses, Rearm::Perfmon) => 0x412e,
        (Counted::Branches, Rearm::Perfmon | Rearm::P6 | Rearm::PentiumM) => 0xc4,
        (Counted::Instructions, _) => 0xc0,
        // CPU clocks not halted, data cache misses, retired branches (AMD BKDG, EventSelect 0x76, 0x41, 0xC2).
        (Counted::Cycles, Rearm::Amd) => 0x76,
        (Counted::Misses, Rearm::Amd) => 0x41,
        (Counted::Branches, Rearm::Amd) => 0xc2,
    })
}

/// One event on one counter.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What.
    pub event: Counted,
    /// In user mode.
    pub user: bool,
    /// In the kernel.
    pub kernel: bool,
    /// Interrupt after so many; `None`: count only.
    pub period: Option<u64>,
}

/// Registers that make a PMU count, and what reads it.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// To be written, in order: nothing counts before the last one.
    pub start: Vec<Entry>,
    /// To be written on rearming, one for each event, in their order: the counter, loaded for a whole period (or for
    /// nothing where the event has none).
    pub reload: Vec<Entry>,
    /// The bit of [`Overflow::overflow`](super::Overflow::overflow) of each event.
    pub bits: Vec<u32>,
}

/// The program that counts `events` at once; `None` when the family cannot, or has too few counters.
pub fn program(table: &Table, events: &[Setup]) -> Option<Program> {
    let rearm = table.family.rearm;
    let mut made = Program::default();
    let mut last = Vec::new();
    for (at, setup) in events.iter().enumerate() {
        let counter = if rearm == Rearm::NetBurst {
            let place = match setup.event {
                Counted::Cycles => netburst::CYCLES,
                Counted::Instructions => netburst::INSTRUCTIONS,
                Counted::Branches => netburst::BRANCHES,
                _ => return None,
            };
            let mut escr = place.event;
            escr |= if setup.user { netburst::T0_USR } else { 0 };
            escr |= if setup.kernel { netburst::T0_OS } else { 0 };
            // An ESCR and a counter serve one event: a second one would overwrite the first.
            if made.bits.contains(&place.counter) || made.start.iter().any(|entry| entry.msr == place.escr) {
                return None;
            }
            let pmi = if setup.period.is_some() { netburst::OVF_PMI } else { 0 };
            made.start.push(Entry::with(place.escr, escr));
            let cccr = place.select | netburst::ENABLE | netburst::ACTIVE_THREAD | pmi;
            last.push(Entry::with(table.address(Kind::Cccr, place.counter)?, cccr));
            place.counter
        } else {
            let counter = u32::try_from(at).ok()?;
            let msr = table.address(Kind::Select, counter)?;
            // P6 and Pentium M have EN in EVNTSEL0 alone, where it starts all counters: it is reserved in the others.
            let enable = select::EN & !table.find(super::Class::Perf, msr)?.row.reserved;
            let mut value = code(table, setup.event)? | enable;
            value |= if setup.user { select::USR } else { 0 };
            value |= if setup.kernel { select::OS } else { 0 };
            value |= if setup.period.is_some() { select::INT } else { 0 };
            // P6: EN of EVNTSEL0 starts all, and it is written last.
            last.insert(0, Entry::with(msr, value));
            counter
        };
        let msr = table.address(Kind::Counter, counter)?;
        let width = table.find(super::Class::Perf, msr)?.mask();
        let load = setup.period.map_or(0, |period| period.wrapping_neg() & width);
        made.reload.push(Entry::with(msr, load));
        made.bits.push(counter);
    }
    made.start.extend(made.reload.iter().copied());
    made.start.extend(last);
    // Perfmon v2 and PerfMonV2 have a switch above all.
    for global in [0x38f, 0xc000_0301] {
        if table.find(super::Class::Perf, global).is_some() && matches!(rearm, Rearm::Perfmon | Rearm::Amd) {
            made.start.push(Entry::with(global, made.bits.iter().fold(0, |mask, bit| mask | 1 << bit)));
        }
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msr::Limits;
    use crate::msr::tables::p6;

    #[test]
    fn core_counts_the_architectural_cycles_and_a_pentium_m_its_own() {
        let limits = Limits { general: 2, fixed: 0, general_width: 40, fixed_width: 0 };
        let code_of = |family, event| code(&Table { family, limits }, event);
        assert_eq!(code_of(&perfmon::V1, Counted::Cycles), Some(0x3c));
        assert_eq!(code_of(&perfmon::V1, Counted::Misses), Some(0x412e));
        assert_eq!(code_of(&p6::PENTIUM_M, Counted::Cycles), Some(0x79));
    }
}
