//! The contract on top of `perf_event_open`: register addresses of this CPU's class table, and behind each counter an
//! event of the kernel's.
//!
//! * A write to a select register (EVNTSEL, PERF_CTL, PMEVTYPER) is a raw event of that code, for the modes it names.
//! * A write of -N to a counter whose interrupt is on is a period of N; any other write is where counting begins.
//! * A read is the event's count on top of what was written.
//! * Rearming enables again what an unclaimed interrupt has stopped. The kernel itself rearms after one that is claimed.
//! * The interrupt handler is called by [`Registers::dispatch`] for what the events' rings hold.
//!
//! The registers are this machine's own in name only: which hardware counter an event is on is the kernel's choice, and
//! it may be shared. What the kernel keeps to itself (PMCR, LBR, IBS, NetBurst's pairs) is not reached here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use xprof_perfdata::abi::{attr_flag as flag, event_type, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::sample::SampleFormat;

use super::counter::PerfCounter;
use super::ladder::{May, Place};
use super::{Kernel, Native};
use crate::msr::table::Found;
use crate::msr::tables::pmuv3::sys_reg;
use crate::msr::{
    Class, Contract, DomId, Entry, Error, Fault, Handler, Kind, MAX_ENTRIES, Rearm, Result, Scope, Table, cpu,
};
use crate::sys::cpuid;
use crate::sys::file::read_small;
use crate::sys::ring::Ring;

/// EVNTSEL and PERF_CTL: USR 16, OS 17, INT 20, EN 22; event, umask, edge, inv, cmask are the raw code (`perf_event.h`
/// X86_RAW_EVENT_MASK, AMD64_RAW_EVENT_MASK).
mod select {
    pub(super) const USR: u64 = 1 << 16;
    pub(super) const OS: u64 = 1 << 17;
    pub(super) const INT: u64 = 1 << 20;
    pub(super) const EN: u64 = 1 << 22;
    pub(super) const CODE: u64 = 0xf_ff84_ffff;
}

/// PMEVTYPER and PMCCFILTR: event 15:0, U 30 leaves EL0 out, P 31 EL1.
mod filter {
    pub(super) const EVENT: u64 = 0xffff;
    pub(super) const U: u64 = 1 << 30;
    pub(super) const P: u64 = 1 << 31;
}

const FIXED_CTR_CTRL: u32 = 0x38d;
/// GLOBAL_CTRL, PERF_CNTR_GLOBAL_CTL; their status and what clears it.
const GLOBALS: [[u32; 3]; 2] = [[0x38f, 0x38e, 0x390], [0xc000_0301, 0xc000_0300, 0xc000_0302]];
const PMCNTEN: [u32; 2] = [sys_reg(3, 3, 9, 12, 1), sys_reg(3, 3, 9, 12, 2)];
const PMINTEN: [u32; 2] = [sys_reg(3, 0, 9, 14, 1), sys_reg(3, 0, 9, 14, 2)];
const PMOVS: [u32; 2] = [sys_reg(3, 3, 9, 14, 3), sys_reg(3, 3, 9, 12, 3)];
const PMCCFILTR: u32 = sys_reg(3, 3, 14, 15, 7);
/// PMMIR_EL1, of which sysfs has SLOTS (7:0).
const PMMIR: u32 = sys_reg(3, 0, 9, 14, 6);
const TSC: u32 = 0x10;
/// The bit of PMCCNTR in these.
const CYCLE_COUNTER: u32 = 31;
/// Events of the fixed counters (Intel SDM vol. 3, table 20-2; `perf_event.h` INTEL_PMC_*_FIXED pseudo codes): instructions,
/// cycles, reference cycles, slots.
const FIXED_CODES: [u64; 4] = [0xc0, 0x3c, 0x0300, 0x0400];
/// CPU_CYCLES (`ARMV8_PMUV3_PERFCTR_CPU_CYCLES`).
const ARM_CYCLES: u64 = 0x11;

/// Pages of a ring's data area.
const PAGES: usize = 16;

/// What an event of the kernel's would be for what the registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    config: u64,
    user: bool,
    kernel: bool,
    /// 0: counts only.
    period: u64,
}

/// One counter.
#[derive(Debug, Default)]
struct Slot {
    select: u64,
    /// What was written to it last: where each period begins.
    reload: u64,
    /// What the register held when its event began to count.
    base: u64,
    event: Option<Event>,
    /// An interrupt was not claimed: stopped until rearmed.
    masked: bool,
}

#[derive(Debug)]
struct Event {
    counter: PerfCounter,
    wanted: Wanted,
    ring: Option<Ring>,
    format: SampleFormat,
    runs: bool,
    /// The event's count at `base`.
    origin: u64,
}

/// The registers of one CPU, or of one thread wherever it runs, by perf.
#[derive(Debug)]
pub struct Registers {
    kernel: Arc<dyn Kernel>,
    thread: i32,
    cpu: i32,
    table: Table,
    is_held: bool,
    slots: BTreeMap<(bool, u32), Slot>,
    /// Registers that enable sets of counters, their interrupts and filters.
    shared: BTreeMap<u32, u64>,
    /// Overflows since they were cleared, in the layout of [`crate::msr::Overflow::overflow`].
    status: u64,
    lost: u64,
    handler: Hook,
}

#[derive(Default)]
struct Hook(Option<Handler>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a handler" } else { "no handler" })
    }
}

impl Registers {
    /// Everything that runs on a CPU.
    pub fn of_cpu(native: &Native, cpu: u32) -> Registers {
        Registers::of(native, -1, i32::try_from(cpu).unwrap_or(i32::MAX), cpu::table())
    }

    /// The calling thread, on whatever CPU it runs.
    pub fn of_this_thread(native: &Native) -> Registers {
        Registers::of(native, 0, -1, cpu::table())
    }

    fn of(native: &Native, thread: i32, cpu: i32, table: Table) -> Registers {
        Registers {
            kernel: Arc::clone(&native.kernel),
            thread,
            cpu,
            table,
            is_held: false,
            slots: BTreeMap::new(),
            shared: BTreeMap::new(),
            status: 0,
            lost: 0,
            handler: Hook::default(),
        }
    }

    /// What this CPU has.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn check(&self, class: Class, entries: &[Entry]) -> Result<()> {
        match class {
            Class::Invalid => Err(Error::NoClass),
            _ if class != Class::Perf || !self.is_held => Err(Error::NotHeld { domain: DomId::ZERO, class }),
            _ if entries.len() > MAX_ENTRIES => Err(Error::TooMany(entries.len())),
            _ => Ok(()),
        }
    }

    fn is_arm(&self) -> bool {
        self.table.family.rearm == Rearm::Pmuv3
    }

    /// Bit of a counter in the registers that enable sets of them.
    fn bit(&self, (fixed, i): (bool, u32)) -> u32 {
        match fixed {
            false => i,
            true if self.is_arm() => CYCLE_COUNTER,
            true => 32 + i,
        }
    }

    fn shared(&self, msr: u32) -> u64 {
        self.shared.get(&msr).copied().unwrap_or(0)
    }

    /// The event that a counter should be now, and whether it should run.
    fn wanted(&self, key: (bool, u32), slot: &Slot) -> Option<(Wanted, bool)> {
        let width = self.table.find(Class::Perf, self.address(key)?)?.width;
        let negative = slot.reload >> (width - 1) & 1 != 0;
        let period = |interrupts: bool| match interrupts && negative {
            true if width == 64 => slot.reload.wrapping_neg(),
            true => (1 << width) - slot.reload,
            false => 0,
        };
        let bit = self.bit(key);
        if self.is_arm() {
            let control = if key.0 { self.shared(PMCCFILTR) | ARM_CYCLES } else { slot.select };
            let wanted = Wanted {
                config: control & filter::EVENT,
                user: control & filter::U == 0,
                kernel: control & filter::P == 0,
                period: period(self.shared(PMINTEN[0]) >> bit & 1 != 0),
            };
            return Some((wanted, self.shared(PMCNTEN[0]) >> bit & 1 != 0));
        }
        let global = GLOBALS.iter().find(|global| self.table.find(Class::Perf, global[0]).is_some());
        let allowed = global.is_none_or(|global| self.shared(global[0]) >> bit & 1 != 0);
        if key.0 {
            let control = self.shared(FIXED_CTR_CTRL) >> (4 * key.1) & 0xf;
            let wanted = Wanted {
                config: *FIXED_CODES.get(key.1 as usize)?,
                user: control & 2 != 0,
                kernel: control & 1 != 0,
                period: period(control & 8 != 0),
            };
            return Some((wanted, allowed && control & 3 != 0));
        }
        let wanted = Wanted {
            config: slot.select & select::CODE,
            user: slot.select & select::USR != 0,
            kernel: slot.select & select::OS != 0,
            period: period(slot.select & select::INT != 0),
        };
        let counts = slot.select & select::EN != 0 && (wanted.user || wanted.kernel);
        Some((wanted, allowed && counts))
    }

    fn address(&self, key: (bool, u32)) -> Option<u32> {
        self.table.address(if key.0 { Kind::Fixed } else { Kind::Counter }, key.1)
    }

    /// Makes every event what the registers say.
    fn settle(&mut self) -> io::Result<()> {
        let keys: Vec<_> = self.slots.keys().copied().collect();
        for key in keys {
            let Some(mut slot) = self.slots.remove(&key) else { continue };
            let settled = self.settle_one(key, &mut slot);
            self.slots.insert(key, slot);
            settled?;
        }
        Ok(())
    }

    fn settle_one(&mut self, key: (bool, u32), slot: &mut Slot) -> io::Result<()> {
        let Some((wanted, runs)) = self.wanted(key, slot) else { return Ok(()) };
        let runs = runs && !slot.masked;
        if slot.event.as_ref().is_some_and(|event| event.wanted != wanted) {
            // What was counted so far stays in the register.
            slot.base = value(slot);
            slot.event = None;
        }
        if runs && slot.event.is_none() {
            slot.event = Some(self.open(wanted)?);
        }
        if let Some(event) = slot.event.as_mut().filter(|event| event.runs != runs) {
            if runs {
                event.counter.rearm()?
            } else {
                event.counter.stop()?
            }
            event.runs = runs;
        }
        Ok(())
    }

    fn open(&self, wanted: Wanted) -> io::Result<Event> {
        let samples = wanted.period > 0;
        let mut attr = Attr {
            kind: event_type::RAW,
            config: wanted.config,
            sample_period: wanted.period,
            flags: flag::DISABLED
                | if wanted.user { 0 } else { flag::EXCLUDE_USER }
                | if wanted.kernel { 0 } else { flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV },
            ..Attr::default()
        };
        if samples {
            attr.sample_type = sample::IP | sample::TID | sample::TIME | sample::CPU | sample::REGS_INTR;
            attr.sample_regs_intr = interrupts::REGISTERS;
            attr.wakeup_events = 1;
        }
        let place = Place { pid: self.thread, cpu: self.cpu, group: None, flags: 0 };
        let program = |attr: &mut Attr| {
            PerfCounter::program(self.kernel.as_ref(), attr, place, true, May::default(), &mut Vec::new())
        };
        let counter = match program(&mut attr) {
            // A PMU that has no registers of the interrupted state.
            Err(error) if samples && error.raw_os_error() == Some(libc::EINVAL) => {
                attr.sample_type &= !sample::REGS_INTR;
                attr.sample_regs_intr = 0;
                program(&mut attr)?
            }
            answer => answer?,
        };
        let ring = if samples { Some(counter.ring(PAGES, false)?) } else { None };
        let format = SampleFormat {
            order: ByteOrder::NATIVE,
            sample_type: attr.sample_type,
            read_format: 0,
            branch_sample_type: 0,
            sample_regs_user: 0,
            sample_regs_intr: attr.sample_regs_intr,
            sample_id_all: false,
        };
        Ok(Event { counter, wanted, ring, format, runs: false, origin: 0 })
    }

    /// A value that the class accepts becomes the register's.
    fn put(&mut self, msr: u32, found: &Found, value: u64) -> std::result::Result<(), i32> {
        let before = self.shared.clone();
        let key = (found.row.kind == Kind::Fixed, found.counter());
        let arm = self.is_arm();
        let mut select_before = None;
        match found.row.kind {
            Kind::Counter | Kind::CounterAlias | Kind::Fixed => {
                let mut slot = self.slots.remove(&key).unwrap_or_default();
                (slot.reload, slot.base) = (value, value);
                let wanted = self.wanted(key, &slot).map(|(wanted, _)| wanted);
                match &mut slot.event {
                    // From here on it counts on top of what was written.
                    Some(event) if Some(event.wanted) == wanted => event.origin = count(event),
                    // Another period is another event, which begins at 0.
                    event => *event = None,
                }
                self.slots.insert(key, slot);
            }
            Kind::Select => {
                let slot = self.slots.entry(key).or_default();
                select_before = Some(std::mem::replace(&mut slot.select, value));
            }
            Kind::Enable if arm => {
                *self.shared.entry(msr).or_default() |= value;
            }
            Kind::Enable => {
                self.shared.insert(msr, value);
                for i in (0..8).filter(|i| msr == FIXED_CTR_CTRL && value >> (4 * i) & 3 != 0) {
                    self.slots.entry((true, i)).or_default();
                }
            }
            Kind::StatusClear if msr == PMCNTEN[1] || msr == PMINTEN[1] => {
                let set = if msr == PMCNTEN[1] { PMCNTEN[0] } else { PMINTEN[0] };
                *self.shared.entry(set).or_default() &= !value;
            }
            Kind::StatusClear => self.status &= !self.bits(value),
            Kind::StatusSet => self.status |= self.bits(value),
            Kind::Other if msr == PMCCFILTR => {
                self.shared.insert(msr, value);
            }
            _ => return Err(Fault::NotHere.status()),
        }
        if arm && msr == PMCNTEN[0] && value >> CYCLE_COUNTER & 1 != 0 {
            self.slots.entry((true, 0)).or_default();
        }
        self.settle().map_err(|error| {
            self.shared = before;
            if let (Some(select), Some(slot)) = (select_before, self.slots.get_mut(&key)) {
                slot.select = select;
            }
            match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => Fault::NotHere.status(),
                Some(libc::EBUSY) => Fault::InUse.status(),
                Some(libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV) | None => Fault::Refused.status(),
                Some(errno) => -errno,
            }
        })
    }

    /// A register's overflow bits in the layout of [`crate::msr::Overflow::overflow`].
    fn bits(&self, value: u64) -> u64 {
        match self.is_arm() {
            true => value & !(1 << CYCLE_COUNTER) | (value >> CYCLE_COUNTER & 1) << 32,
            false => value,
        }
    }

    fn get(&self, msr: u32, found: &Found) -> std::result::Result<u64, Fault> {
        let key = (found.row.kind == Kind::Fixed, found.counter());
        Ok(match found.row.kind {
            Kind::Counter | Kind::CounterAlias | Kind::Fixed => self.slots.get(&key).map_or(0, value) & found.mask(),
            Kind::Select => self.slots.get(&key).map_or(0, |slot| slot.select),
            Kind::Enable => self.shared(msr),
            Kind::StatusClear if msr == PMCNTEN[1] => self.shared(PMCNTEN[0]),
            Kind::StatusClear if msr == PMINTEN[1] => self.shared(PMINTEN[0]),
            Kind::Status | Kind::StatusSet => self.flags(),
            Kind::StatusClear if PMOVS.contains(&msr) => self.flags(),
            Kind::StatusClear => 0,
            Kind::Other if msr == PMCCFILTR => self.shared(msr),
            Kind::Other if msr == PMMIR => slots().ok_or(Fault::NotHere)?,
            Kind::Other if msr == TSC => cpuid::time_stamp(),
            _ => return Err(Fault::NotHere),
        })
    }

    fn flags(&self) -> u64 {
        match self.is_arm() {
            true => self.status & 0x7fff_ffff | (self.status >> 32 & 1) << CYCLE_COUNTER,
            false => self.status,
        }
    }

    fn each(
        &mut self,
        class: Class,
        entries: &mut [Entry],
        mut act: impl FnMut(&mut Registers, &Found, &mut Entry) -> std::result::Result<(), i32>,
    ) -> Result<usize> {
        self.check(class, entries)?;
        for (at, entry) in entries.iter_mut().enumerate() {
            let done = match self.table.find(class, entry.msr) {
                None => Err(Fault::Unknown.status()),
                Some(found) => act(self, &found, entry),
            };
            entry.status = done.err().unwrap_or(0);
            if entry.status != 0 {
                return Ok(at);
            }
        }
        Ok(entries.len())
    }
}

mod interrupts;
#[cfg(test)]
mod tests;

/// What the kernel says of PMMIR_EL1 (`caps/slots` of the core's PMU).
fn slots() -> Option<u64> {
    let devices = std::fs::read_dir(crate::machine::Machine::here().devices()).ok()?;
    devices.filter_map(|device| Some(device.ok()?.path())).find_map(|device| {
        let text = read_small(&device.join("caps/slots"), 64).ok()?;
        u64::from_str_radix(std::str::from_utf8(&text).ok()?.trim().trim_start_matches("0x"), 16).ok()
    })
}

fn count(event: &Event) -> u64 {
    let mut words = [0];
    match event.counter.read(&mut words) {
        Ok(1) => words[0],
        _ => event.origin,
    }
}

/// What the counter's register holds, before it is cut to its width.
fn value(slot: &Slot) -> u64 {
    slot.event.as_ref().map_or(slot.base, |event| slot.base.wrapping_add(count(event).wrapping_sub(event.origin)))
}

impl Contract for Registers {
    /// LOCAL and GLOBAL are the same without a VMM, and the kernel lets many count at once. DEBUG is not reached.
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        match class {
            Class::Invalid => return Err(Error::NoClass),
            Class::Debug => {
                return Err(Error::Unsupported(
                    "perf has no debug registers: they are reached with --backend msr".into(),
                ));
            }
            Class::Perf if domain != DomId::ZERO => return Err(Error::NoSuch(domain.to_string())),
            Class::Perf => {}
        }
        self.is_held = scope != Scope::Unavailable;
        if !self.is_held {
            self.slots.clear();
            self.shared.clear();
            (self.status, self.lost) = (0, 0);
            self.handler = Hook::default();
        }
        Ok(())
    }

    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> Result<()> {
        self.check(class, &[])?;
        self.handler = Hook(handler);
        Ok(())
    }

    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.each(class, entries, |registers, found, entry| {
            let value = found.accept(found.row.reset).map_err(Fault::status)?;
            entry.value = value;
            // Registers that enable by a 1 are cleared by their twins.
            let (msr, value) = match entry.msr {
                msr if msr == PMCNTEN[0] => (PMCNTEN[1], u64::MAX),
                msr if msr == PMINTEN[0] => (PMINTEN[1], u64::MAX),
                msr => (msr, value),
            };
            match registers.table.find(Class::Perf, msr) {
                Some(found) => registers.put(msr, &found, value & found.mask()),
                None => Err(Fault::Unknown.status()),
            }
        })
    }

    fn write(&mut self, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        let count = self.each(class, entries, |registers, found, entry| {
            let value = found.accept(entry.value).map_err(Fault::status)?;
            registers.put(entry.msr, found, value)
        })?;
        if rearm && count == entries.len() {
            self.status = 0;
            self.slots.values_mut().for_each(|slot| slot.masked = false);
            self.settle().map_err(|source| Error::Os { attempt: "rearm an event".into(), source })?;
        }
        Ok(count)
    }

    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.each(class, entries, |registers, found, entry| {
            entry.value = registers.get(entry.msr, found).map_err(Fault::status)?;
            Ok(())
        })
    }
}
