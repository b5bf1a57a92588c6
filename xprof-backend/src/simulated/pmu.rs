//! The PMUs of the simulated machine: registers that count what programs do, overflow, and raise interrupts with the
//! quirks of their family.
//!
//! * NetBurst: a counter whose CCCR still shows OVF loses the first write (erratum N15), and the interrupt is raised
//!   again when LVTPC is unmasked before OVF is cleared.
//! * Perfmon: an overflow that is cleared while its counter reads 0 is flagged again, and the interrupt comes again.
//! * P6: EN exists in EVNTSEL0 alone and switches all counters. LVTPC masks itself on all but P6 and AMD.

use rustc_hash::FxHashMap;

use crate::msr::arbiter::MsrHardware;
use crate::msr::counting::{self, Counted, netburst, select};
use crate::msr::table::Found;
use crate::msr::{Class, Fault, Kind, Rearm, Table};

/// Events that programs make; cycles first.
pub(super) const EVENTS: usize = Counted::NAMED.len();
/// Rates are per this many cycles.
pub(super) const PER: u64 = 1024;
/// The time-stamp counter.
const TSC: u32 = 0x10;
const FIXED_CTR_CTRL: u32 = 0x38d;
const GLOBAL_CTRL: [u32; 2] = [0x38f, 0xc000_0301];

/// What a stretch of a program does: events per [`PER`] cycles, in the order of [`Counted::NAMED`].
pub(super) type Rates = [u32; EVENTS];

/// A counter that counts.
#[derive(Clone, Copy, Debug)]
struct Active {
    slot: usize,
    event: usize,
    user: bool,
    kernel: bool,
    interrupts: bool,
    bit: u32,
    /// 2^width.
    end: u64,
}

/// One CPU's PMU.
#[derive(Clone, Debug)]
struct Pmu {
    values: Vec<u64>,
    active: Vec<Active>,
    stale: bool,
    /// LVTPC's mask bit.
    masked: bool,
    /// The interrupt waits to be taken.
    raised: bool,
    /// Parts of an event, in 1/[`PER`].
    fraction: [u64; EVENTS],
    cycles: u64,
}

/// The registers of every CPU.
#[derive(Clone, Debug)]
pub(super) struct Hardware {
    table: Table,
    places: FxHashMap<u32, usize>,
    slots: Vec<(u32, Found)>,
    status: Option<usize>,
    /// The slot of the counter that each overflow bit stands for.
    counters: [Option<usize>; 64],
    /// The slot of each counter's CCCR.
    cccrs: [Option<usize>; 64],
    cpus: Vec<Pmu>,
}

impl Hardware {
    pub(super) fn new(table: Table, cpus: u32) -> Hardware {
        let mut slots: Vec<(u32, Found)> = Vec::new();
        let mut places = FxHashMap::default();
        for class in [Class::Perf, Class::Debug] {
            for (msr, found) in table.registers(class) {
                places.entry(msr).or_insert_with(|| {
                    slots.push((msr, found));
                    slots.len() - 1
                });
            }
        }
        // Second addresses lead to the same register.
        for (msr, found) in &slots {
            let first = match found.row.kind {
                Kind::CounterAlias => table.address(Kind::Counter, found.counter()),
                Kind::Select => table.address(Kind::Select, found.counter()),
                _ => None,
            };
            if let Some(&place) = first.and_then(|first| places.get(&first)) {
                places.insert(*msr, place);
            }
        }
        let status = slots.iter().position(|(_, found)| found.row.kind == Kind::Status);
        let pmu = Pmu {
            values: slots.iter().map(|(_, found)| found.row.reset).collect(),
            active: Vec::new(),
            stale: true,
            masked: false,
            raised: false,
            fraction: [0; EVENTS],
            cycles: 0,
        };
        let slot = |msr: Option<u32>| msr.and_then(|msr| places.get(&msr).copied());
        let counters = std::array::from_fn(|bit| slot(table.overflowed(bit as u32)));
        let cccrs = std::array::from_fn(|counter| slot(table.address(Kind::Cccr, counter as u32)));
        Hardware { table, places, slots, status, counters, cccrs, cpus: vec![pmu; cpus as usize] }
    }

    /// The interrupt of a CPU waits to be taken.
    pub(super) fn raised(&self, cpu: u32) -> bool {
        self.cpus[cpu as usize].raised
    }

    /// The CPU takes it.
    pub(super) fn take(&mut self, cpu: u32) {
        self.cpus[cpu as usize].raised = false;
    }

    /// Cycles until the next overflow of a CPU that goes on like this; `u64::MAX`: none.
    pub(super) fn until_overflow(&mut self, cpu: u32, rates: &Rates, kernel: bool) -> u64 {
        self.decode(cpu);
        let pmu = &self.cpus[cpu as usize];
        let mut least = u64::MAX;
        for active in pmu.active.iter().filter(|active| if kernel { active.kernel } else { active.user }) {
            let rate = u64::from(rates[active.event]);
            if rate != 0 {
                let need = (active.end - pmu.values[active.slot]).saturating_mul(PER) - pmu.fraction[active.event];
                least = least.min(need.div_ceil(rate));
            }
        }
        least
    }

    /// The CPU goes on for some cycles, not past the next overflow.
    pub(super) fn advance(&mut self, cpu: u32, cycles: u64, rates: &Rates, kernel: bool) {
        self.decode(cpu);
        let masks = self.table.family.rearm.masks();
        let status = self.status;
        let netburst = self.table.family.rearm == Rearm::NetBurst;
        let pmu = &mut self.cpus[cpu as usize];
        pmu.cycles += cycles;
        let mut events = [0; EVENTS];
        for ((whole, fraction), &rate) in events.iter_mut().zip(&mut pmu.fraction).zip(rates) {
            let sum = *fraction + cycles * u64::from(rate);
            (*whole, *fraction) = (sum / PER, sum % PER);
        }
        for at in 0..pmu.active.len() {
            let active = pmu.active[at];
            if !(if kernel { active.kernel } else { active.user }) {
                continue;
            }
            let value = pmu.values[active.slot] + events[active.event];
            pmu.values[active.slot] = value % active.end;
            if value < active.end {
                continue;
            }
            if let Some(status) = status {
                pmu.values[status] |= 1 << active.bit;
            }
            if netburst && let Some(cccr) = self.cccrs[active.bit as usize & 63] {
                pmu.values[cccr] |= netburst::OVF;
            }
            if active.interrupts {
                pmu.interrupt(masks);
            }
        }
    }

    /// Makes the list of counters that count, after a control register was written.
    fn decode(&mut self, cpu: u32) {
        if !std::mem::take(&mut self.cpus[cpu as usize].stale) {
            return;
        }
        let rearm = self.table.family.rearm;
        let value = |msr: Option<u32>| {
            msr.and_then(|msr| self.places.get(&msr)).map(|&slot| self.cpus[cpu as usize].values[slot])
        };
        let global = GLOBAL_CTRL.iter().find_map(|&msr| value(Some(msr)));
        let selected = value(self.table.address(Kind::Select, 0)).unwrap_or(0);
        let mut active = Vec::new();
        for (slot, (_, found)) in self.slots.iter().enumerate() {
            let counter = found.counter();
            let (event, user, kernel, interrupts, bit) = match found.row.kind {
                Kind::Counter if rearm == Rearm::NetBurst => {
                    let cccr = value(self.table.address(Kind::Cccr, counter)).unwrap_or(0);
                    let places = [netburst::CYCLES, netburst::INSTRUCTIONS, netburst::BRANCHES];
                    let here = |at: &netburst::Place| at.counter == counter && cccr & 7 << 13 == at.select;
                    let Some(which) = places.iter().position(here) else { continue };
                    let escr = value(Some(places[which].escr)).unwrap_or(0);
                    if cccr & netburst::ENABLE == 0 || escr & !0x1ff != places[which].event {
                        continue;
                    }
                    let event = [0, 1, 3][which];
                    let (user, kernel) = (escr & netburst::T0_USR != 0, escr & netburst::T0_OS != 0);
                    (event, user, kernel, cccr & netburst::OVF_PMI != 0, counter)
                }
                Kind::Counter => {
                    let select = self.table.address(Kind::Select, counter);
                    let control = value(select).unwrap_or(0);
                    // Where a select has no EN, that of the first one is for all.
                    let own = select.and_then(|msr| self.table.find(Class::Perf, msr));
                    let on = if own.is_some_and(|own| own.row.reserved & select::EN == 0) { control } else { selected };
                    let code = control & select::EVENT;
                    let named =
                        Counted::NAMED.iter().position(|&event| counting::code(&self.table, event) == Some(code));
                    let Some(event) = named else { continue };
                    if on & select::EN == 0 || global.is_some_and(|global| global >> counter & 1 == 0) {
                        continue;
                    }
                    let (user, kernel) = (control & select::USR != 0, control & select::OS != 0);
                    (event, user, kernel, control & select::INT != 0, counter)
                }
                Kind::Fixed => {
                    let control = value(Some(FIXED_CTR_CTRL)).unwrap_or(0) >> (4 * counter);
                    let Some(&event) = [1, 0, 0].get(counter as usize) else { continue };
                    if global.is_some_and(|global| global >> (32 + counter) & 1 == 0) {
                        continue;
                    }
                    (event, control & 2 != 0, control & 1 != 0, control & 8 != 0, 32 + counter)
                }
                _ => continue,
            };
            if user || kernel {
                active.push(Active { slot, event, user, kernel, interrupts, bit, end: 1 << found.width.min(53) });
            }
        }
        self.cpus[cpu as usize].active = active;
    }

    fn flagged(&self, cpu: u32) -> bool {
        let pmu = &self.cpus[cpu as usize];
        match self.table.family.rearm {
            Rearm::NetBurst => self.slots.iter().zip(&pmu.values).any(|((_, found), value)| {
                found.row.kind == Kind::Cccr && value & netburst::OVF != 0 && value & netburst::OVF_PMI != 0
            }),
            Rearm::Perfmon => self.status.is_some_and(|status| {
                pmu.active.iter().any(|active| active.interrupts && pmu.values[status] >> active.bit & 1 != 0)
            }),
            _ => false,
        }
    }
}

impl Pmu {
    fn interrupt(&mut self, masks: bool) {
        // What comes while LVTPC is masked is lost.
        if !self.masked {
            self.raised = true;
            self.masked = masks;
        }
    }
}

impl MsrHardware for Hardware {
    fn read(&mut self, cpu: u32, msr: u32) -> Result<u64, Fault> {
        let &slot = self.places.get(&msr).ok_or(Fault::Refused)?;
        let pmu = self.cpus.get(cpu as usize).ok_or(Fault::Refused)?;
        Ok(if msr == TSC { pmu.cycles } else { pmu.values[slot] })
    }

    fn write(&mut self, cpu: u32, msr: u32, value: u64) -> Result<(), Fault> {
        let &slot = self.places.get(&msr).ok_or(Fault::Refused)?;
        // An alias has rules of its own.
        let (first, found) = self.slots[slot];
        let found = if first == msr { found } else { self.table.find(Class::Perf, msr).ok_or(Fault::Refused)? };
        let value = found.accept(value).map_err(|_| Fault::Refused)?;
        let rearm = self.table.family.rearm;
        let kind = found.row.kind;
        let netburst = kind == Kind::Counter && rearm == Rearm::NetBurst;
        let cccr = if netburst { self.cccrs[found.counter() as usize & 63] } else { None };
        let pmu = self.cpus.get_mut(cpu as usize).ok_or(Fault::Refused)?;
        match kind {
            Kind::Counter if cccr.is_some_and(|cccr| pmu.values[cccr] & netburst::OVF != 0) => {}
            Kind::Counter | Kind::CounterAlias | Kind::Fixed => pmu.values[slot] = value,
            Kind::StatusClear => {
                let Some(status) = self.status else { return Ok(()) };
                pmu.values[status] &= !value;
                if rearm == Rearm::Perfmon {
                    // The quirk: what is cleared while its counter reads 0 comes again.
                    let mut left = value;
                    let mut again = 0;
                    while left != 0 {
                        let bit = left.trailing_zeros();
                        left &= left - 1;
                        if self.counters[bit as usize].is_some_and(|counter| pmu.values[counter] == 0) {
                            again |= 1 << bit;
                        }
                    }
                    pmu.values[status] |= again;
                }
            }
            Kind::StatusSet => {
                if let Some(status) = self.status {
                    pmu.values[status] |= value;
                }
            }
            _ => {
                pmu.values[slot] = value;
                pmu.stale = true;
            }
        }
        Ok(())
    }

    fn mask(&mut self, cpu: u32, masked: bool) {
        let again = !masked && self.flagged(cpu);
        let masks = self.table.family.rearm.masks();
        if let Some(pmu) = self.cpus.get_mut(cpu as usize) {
            pmu.masked = masked;
            if again {
                pmu.interrupt(masks);
            }
        }
    }
}
