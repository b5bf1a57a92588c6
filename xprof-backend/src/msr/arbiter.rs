//! The VMM's side of the contract: who holds a class, whose values are on the hardware, who gets an interrupt.
//!
//! A holder's registers live in a [`Context`]: one for each vCPU and class (LOCAL), one for each CPU and class (GLOBAL).
//! Contexts are made with the domain or the CPU; a domain switch allocates nothing and touches only registers that the
//! outgoing or the incoming vCPU wrote (and the overflow status, where the family has one and the outgoing wrote any).
//!
//! Interrupts: under LOCAL to the running holder, under GLOBAL to the holder, with the interrupted domain and vCPU
//! named. [`Arbiter::interrupt`] hands the handler out instead of calling it, so that the handler can use the contract.
//!
//! * [`Handle`]: the contract on an arbiter in the same address space.
//! * [`bank`]: the registers of a class in the order in which they are stopped. [`context`]: one holder's values.

mod bank;
mod context;
mod handle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::error::{Error, Fault, Result};
use super::{
    Access, Caller, Cause, Class, DomId, Entry, Handler, Kind, MAX_ENTRIES, On, Overflow, Rearm, Scope, Table,
};
pub use handle::Handle;

use bank::Bank;
use context::Context;

/// OVF of a NetBurst CCCR.
const CCCR_OVF: u64 = 1 << 31;
/// One for each class that can be held.
const BANKS: usize = 2;

/// The registers of every CPU, and the mask bit of its local APIC's performance interrupt (LVTPC).
pub trait MsrHardware {
    /// Reads a register of a CPU.
    fn read(&mut self, cpu: u32, msr: u32) -> std::result::Result<u64, Fault>;
    /// Writes one.
    fn write(&mut self, cpu: u32, msr: u32, value: u64) -> std::result::Result<(), Fault>;
    /// Sets or clears LVTPC's mask bit of a CPU.
    fn mask(&mut self, cpu: u32, masked: bool);
}

/// Who holds a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nobody,
    Local(Vec<DomId>),
    Global(DomId),
}

#[derive(Debug)]
struct Vcpu {
    contexts: [Context; BANKS],
    cpu: Option<u32>,
}

#[derive(Debug)]
struct Cpu {
    contexts: [Context; BANKS],
    running: Option<(DomId, u32)>,
}

/// Where a caller's values are: whose context, and on which CPU's hardware they are now, if on any.
#[derive(Clone, Copy, Debug)]
struct Place {
    bank: usize,
    caller: Caller,
    cpu: Option<u32>,
}

/// An interrupt on its way to its handler: call `handler` with `overflow` and `cpu`, then give it back with
/// [`Arbiter::finish`].
pub struct Delivery {
    /// Whom to call.
    pub handler: Handler,
    /// What to tell.
    pub overflow: Overflow,
    /// The holder's vCPU (LOCAL) or the CPU (GLOBAL).
    pub cpu: u32,
    place: Place,
    generation: u64,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("overflow", &self.overflow).field("place", &self.place).finish_non_exhaustive()
    }
}

/// The arbiter.
#[derive(Debug)]
pub struct Arbiter<H> {
    hardware: H,
    table: Table,
    banks: [Bank; BANKS],
    held: [Held; BANKS],
    domains: BTreeMap<DomId, Vec<Vcpu>>,
    cpus: Vec<Cpu>,
    stray: u64,
}

fn bank_of(class: Class) -> Result<usize> {
    match class {
        Class::Invalid => Err(Error::NoClass),
        Class::Perf => Ok(0),
        Class::Debug => Ok(1),
    }
}

impl<H: MsrHardware> Arbiter<H> {
    /// An arbiter of `cpus` CPUs whose registers hold their defaults. There is domain 0, without vCPUs.
    pub fn new(hardware: H, table: Table, cpus: u32) -> Self {
        let banks = [Bank::new(&table, Class::Perf), Bank::new(&table, Class::Debug)];
        let cpus = (0..cpus)
            .map(|_| Cpu { contexts: [Context::new(&banks[0]), Context::new(&banks[1])], running: None })
            .collect();
        let domains = BTreeMap::from([(DomId::ZERO, Vec::new())]);
        Arbiter { hardware, table, banks, held: Default::default(), domains, cpus, stray: 0 }
    }

    /// The hardware.
    pub fn hardware(&mut self) -> &mut H {
        &mut self.hardware
    }

    /// The class table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Interrupts that nobody held.
    pub fn stray(&self) -> u64 {
        self.stray
    }

    /// Interrupts of a handle that no handler claimed.
    pub fn unclaimed(&self, caller: Caller, class: Class) -> Result<u64> {
        let place = self.place(caller, class)?;
        Ok(self.context_ref(place).map_or(0, |context| context.unclaimed))
    }

    /// A domain appears (domain 0 may be given its vCPUs so). One that exists keeps what it has.
    pub fn create_domain(&mut self, domain: DomId, vcpus: u32) {
        let banks = &self.banks;
        let list = self.domains.entry(domain).or_default();
        while list.len() < vcpus as usize {
            list.push(Vcpu { contexts: [Context::new(&banks[0]), Context::new(&banks[1])], cpu: None });
        }
    }

    /// A domain dies: what it holds is released, GLOBAL too.
    pub fn destroy_domain(&mut self, domain: DomId) {
        for bank in 0..BANKS {
            self.release(bank, domain);
        }
        for cpu in 0..self.cpus.len() as u32 {
            if self.cpus[cpu as usize].running.is_some_and(|(running, _)| running == domain) {
                self.switch(cpu, None);
            }
        }
        self.domains.remove(&domain);
    }

    /// Another vCPU (or none) runs on a CPU from now on. A vCPU that does not exist, or that runs on another CPU,
    /// counts as none.
    pub fn switch(&mut self, cpu: u32, next: Option<(DomId, u32)>) {
        let Some(before) = self.cpus.get(cpu as usize).map(|cpu| cpu.running) else { return };
        let next = next.filter(|&(domain, vcpu)| {
            before == Some((domain, vcpu)) || self.vcpu(domain, vcpu).is_some_and(|vcpu| vcpu.cpu.is_none())
        });
        if next == before {
            return;
        }
        for bank in 0..BANKS {
            if !matches!(self.held[bank], Held::Local(_)) {
                continue;
            }
            let Arbiter { hardware, domains, banks, .. } = self;
            let mut left = false;
            if let Some(context) = before.and_then(|at| context_of(domains, at, bank)) {
                left = context.save(&banks[bank], hardware, cpu);
            }
            let mut masked = false;
            if let Some(context) = next.and_then(|at| context_of(domains, at, bank)) {
                context.restore(&banks[bank], hardware, cpu);
                masked = context.masked;
            }
            if bank == 0 && left != masked {
                hardware.mask(cpu, masked);
            }
        }
        if let Some(vcpu) = before.and_then(|(domain, vcpu)| self.vcpu(domain, vcpu)) {
            vcpu.cpu = None;
        }
        if let Some(vcpu) = next.and_then(|(domain, vcpu)| self.vcpu(domain, vcpu)) {
            vcpu.cpu = Some(cpu);
        }
        self.cpus[cpu as usize].running = next;
    }

    fn vcpu(&mut self, domain: DomId, vcpu: u32) -> Option<&mut Vcpu> {
        self.domains.get_mut(&domain)?.get_mut(vcpu as usize)
    }

    fn context(&mut self, place: Place) -> Option<&mut Context> {
        match place.caller.on {
            On::Vcpu(vcpu) => context_of(&mut self.domains, (place.caller.domain, vcpu), place.bank),
            On::Cpu(cpu) => Some(&mut self.cpus.get_mut(cpu as usize)?.contexts[place.bank]),
        }
    }

    fn context_ref(&self, place: Place) -> Option<&Context> {
        match place.caller.on {
            On::Vcpu(vcpu) => Some(&self.domains.get(&place.caller.domain)?.get(vcpu as usize)?.contexts[place.bank]),
            On::Cpu(cpu) => Some(&self.cpus.get(cpu as usize)?.contexts[place.bank]),
        }
    }

    /// Where the caller's values of a class are, if it holds the class there.
    fn place(&self, caller: Caller, class: Class) -> Result<Place> {
        let bank = bank_of(class)?;
        let Some(vcpus) = self.domains.get(&caller.domain) else { return Err(no_domain(caller.domain)) };
        let cpu = match caller.on {
            On::Vcpu(vcpu) => match vcpus.get(vcpu as usize) {
                Some(vcpu) => vcpu.cpu,
                None => return Err(Error::NoSuch(format!("vCPU {vcpu} of {}", caller.domain))),
            },
            On::Cpu(cpu) if (cpu as usize) < self.cpus.len() => Some(cpu),
            On::Cpu(cpu) => return Err(Error::NoSuch(format!("CPU {cpu}"))),
        };
        let holds = match (&self.held[bank], caller.on) {
            (Held::Local(holders), On::Vcpu(_)) => holders.contains(&caller.domain),
            (Held::Global(holder), On::Cpu(_)) => *holder == caller.domain,
            _ => false,
        };
        if holds { Ok(Place { bank, caller, cpu }) } else { Err(Error::NotHeld { domain: caller.domain, class }) }
    }

    /// [`Contract::allocate`](super::Contract::allocate).
    pub fn allocate(&mut self, caller: Caller, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        if caller.domain != DomId::ZERO {
            return Err(Error::NotPrivileged(caller.domain));
        }
        let bank = bank_of(class)?;
        if !self.domains.contains_key(&domain) {
            return Err(no_domain(domain));
        }
        let holders: Vec<DomId> = match (&self.held[bank], scope) {
            (_, Scope::Unavailable) | (Held::Nobody, _) => Vec::new(),
            (Held::Global(holder), _) => vec![*holder],
            (Held::Local(holders), Scope::Global) => holders.clone(),
            (Held::Local(_), Scope::Local) => Vec::new(),
        };
        let holders: Vec<DomId> = holders.into_iter().filter(|&holder| holder != domain).collect();
        if !holders.is_empty() {
            return Err(Error::Busy { class, holders });
        }
        let same = match &self.held[bank] {
            Held::Nobody => scope == Scope::Unavailable,
            Held::Local(holders) => scope == Scope::Local && holders.contains(&domain),
            Held::Global(_) => scope == Scope::Global,
        };
        if same {
            return Ok(());
        }
        self.release(bank, domain);
        match (&mut self.held[bank], scope) {
            (_, Scope::Unavailable) => {}
            (held, Scope::Global) => *held = Held::Global(domain),
            (Held::Local(holders), Scope::Local) => holders.push(domain),
            (held, Scope::Local) => *held = Held::Local(vec![domain]),
        }
        Ok(())
    }

    /// Sets what the domain wrote to the defaults and takes the class from it.
    fn release(&mut self, bank: usize, domain: DomId) {
        let Arbiter { hardware, domains, cpus, banks, held, .. } = self;
        match &mut held[bank] {
            Held::Local(holders) if holders.contains(&domain) => {
                for vcpu in domains.get_mut(&domain).into_iter().flatten() {
                    vcpu.contexts[bank].release(&banks[bank], hardware, vcpu.cpu);
                }
                holders.retain(|&holder| holder != domain);
                if holders.is_empty() {
                    held[bank] = Held::Nobody;
                }
            }
            Held::Global(holder) if *holder == domain => {
                for (number, cpu) in cpus.iter_mut().enumerate() {
                    cpu.contexts[bank].release(&banks[bank], hardware, Some(number as u32));
                }
                held[bank] = Held::Nobody;
            }
            _ => {}
        }
    }

    /// [`Contract::irq_handler`](super::Contract::irq_handler).
    pub fn irq_handler(&mut self, caller: Caller, class: Class, handler: Option<Handler>) -> Result<()> {
        let place = self.place(caller, class)?;
        if let Some(context) = self.context(place) {
            context.set_handler(handler);
        }
        Ok(())
    }

    /// [`Contract::set_default`](super::Contract::set_default).
    pub fn set_default(&mut self, caller: Caller, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.each(caller, class, entries, |arbiter, place, entry| {
            let slot = arbiter.banks[place.bank].find(entry.msr).ok_or(Fault::Unknown)?;
            let row = arbiter.banks[place.bank].slots[slot].found.row;
            if row.access == Access::ReadOnly {
                return Err(Fault::ReadOnly);
            }
            if let Some(cpu) = place.cpu {
                arbiter.hardware.write(cpu, entry.msr, row.reset)?;
            }
            let shared = arbiter.banks[place.bank].slots[slot].shared;
            if let Some(context) = arbiter.context(place) {
                context.forget(shared, row.reset);
            }
            entry.value = row.reset;
            Ok(())
        })
    }

    /// [`Contract::read`](super::Contract::read).
    pub fn read(&mut self, caller: Caller, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.each(caller, class, entries, |arbiter, place, entry| {
            entry.value = arbiter.read_one(place, entry.msr)?;
            Ok(())
        })
    }

    /// [`Contract::write`](super::Contract::write).
    pub fn write(&mut self, caller: Caller, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        let twice = rearm && self.table.family.rearm == Rearm::NetBurst;
        let done = self.each(caller, class, entries, |arbiter, place, entry| {
            let counter = arbiter.write_one(place, entry.msr, entry.value)?;
            if let (true, Some(counter)) = (twice, counter) {
                // Erratum N15: the first write may be lost while the overflow flag is set.
                arbiter.clear_cccr(place, counter);
                arbiter.write_one(place, entry.msr, entry.value)?;
            }
            Ok(())
        })?;
        if rearm && done == entries.len() {
            self.rearm(self.place(caller, class)?);
        }
        Ok(done)
    }

    /// Runs `one` on each entry until the first that fails.
    fn each(
        &mut self,
        caller: Caller,
        class: Class,
        entries: &mut [Entry],
        one: impl Fn(&mut Self, Place, &mut Entry) -> std::result::Result<(), Fault>,
    ) -> Result<usize> {
        let place = self.place(caller, class)?;
        if entries.len() > MAX_ENTRIES {
            return Err(Error::TooMany(entries.len()));
        }
        for (done, entry) in entries.iter_mut().enumerate() {
            entry.status = 0;
            if let Err(fault) = one(self, place, entry) {
                entry.status = fault.status();
                return Ok(done);
            }
        }
        Ok(entries.len())
    }

    fn read_one(&mut self, place: Place, msr: u32) -> std::result::Result<u64, Fault> {
        let bank = &self.banks[place.bank];
        let slot = &bank.slots[bank.find(msr).ok_or(Fault::Unknown)?];
        let (found, shared) = (slot.found, slot.shared);
        if found.row.kind == Kind::Status {
            let raised = match place.cpu {
                Some(cpu) => self.hardware.read(cpu, msr)?,
                None => 0,
            };
            return Ok(raised | self.context_ref(place).map_or(0, |context| context.status));
        }
        if found.row.access == Access::ReadOnly {
            return match (place.caller.on, found.row.class) {
                // History that cannot be put back would be another domain's.
                (On::Vcpu(_), Class::Debug) => Err(Fault::NotHere),
                // What no domain can write is the machine's.
                _ => self.hardware.read(place.cpu.unwrap_or(0), msr),
            };
        }
        let raw = match place.cpu {
            Some(cpu) => Some(self.hardware.read(cpu, msr)?),
            None => None,
        };
        Ok(self.context_ref(place).map_or(0, |context| context.value(shared, raw, &found)))
    }

    /// Writes one register; the counter's number if it is a general counter.
    fn write_one(&mut self, place: Place, msr: u32, value: u64) -> std::result::Result<Option<u32>, Fault> {
        let bank = &self.banks[place.bank];
        let slot = &bank.slots[bank.find(msr).ok_or(Fault::Unknown)?];
        let (found, shared) = (slot.found, slot.shared);
        let kept = found.accept(value)?;
        if let Some(cpu) = place.cpu {
            self.hardware.write(cpu, msr, value)?;
        }
        if let Some(context) = self.context(place) {
            match found.row.kind {
                Kind::StatusClear => context.status &= !value,
                Kind::StatusSet if place.cpu.is_none() => context.status |= value,
                Kind::StatusSet => context.dirty = true,
                _ => context.set(shared, kept),
            }
        }
        Ok((found.row.kind == Kind::Counter).then(|| found.counter()))
    }

    /// NetBurst: clears the overflow flag of a counter's CCCR.
    fn clear_cccr(&mut self, place: Place, counter: u32) {
        let Some(msr) = self.banks[0].cccrs[counter as usize & 63] else { return };
        if let Ok(value) = self.read_one(place, msr)
            && value & CCCR_OVF != 0
        {
            let _ = self.write_one(place, msr, value & !CCCR_OVF);
        }
    }

    /// Acknowledges what came, and lets interrupts through again.
    fn rearm(&mut self, place: Place) {
        match self.table.family.rearm {
            Rearm::NetBurst => {
                for bit in bits(self.flagged_cccrs(place)) {
                    self.clear_cccr(place, bit);
                }
            }
            // The status is the PERF class's, and may be another domain's than the one that rearms DEBUG.
            Rearm::Perfmon | Rearm::Amd | Rearm::Pmuv3 if place.bank == 0 => self.clear_status(place),
            Rearm::Perfmon | Rearm::Amd | Rearm::Pmuv3 | Rearm::PentiumM | Rearm::P6 => {}
        }
        let masks = self.table.family.rearm.masks();
        let Some(context) = self.context(place) else { return };
        context.status = 0;
        let ours = std::mem::take(&mut context.masked);
        if let (true, Some(cpu)) = (masks || ours, place.cpu)
            && place.bank == 0
        {
            self.hardware.mask(cpu, false);
        }
    }

    fn clear_status(&mut self, place: Place) {
        let Some(clear) = self.banks[0].status_clear else { return };
        let status = self.status(place);
        if self.table.family.rearm == Rearm::Perfmon {
            for bit in bits(status) {
                if let Some(msr) = self.banks[0].counters[bit as usize & 63]
                    && self.read_one(place, msr) == Ok(0)
                {
                    let _ = self.write_one(place, msr, 1);
                }
            }
        }
        if let (true, Some(cpu)) = (status != 0, place.cpu) {
            let _ = self.hardware.write(cpu, clear, status);
        }
    }

    /// The overflow status of a place, from where the family has it.
    fn status(&mut self, place: Place) -> u64 {
        let saved = self.context_ref(place).map_or(0, |context| context.status);
        let Some(msr) = self.banks[0].status else { return saved };
        saved | place.cpu.map_or(0, |cpu| self.hardware.read(cpu, msr).unwrap_or(0))
    }

    fn flagged_cccrs(&mut self, place: Place) -> u64 {
        let mut flagged = 0;
        let mut from = 0;
        while let Some(slot) = self.context_ref(place).and_then(|context| context.written.next(from)) {
            from = slot + 1;
            let (msr, found) = (self.banks[place.bank].slots[slot].msr, self.banks[place.bank].slots[slot].found);
            if found.row.kind == Kind::Cccr && self.read_one(place, msr).is_ok_and(|value| value & CCCR_OVF != 0) {
                flagged |= 1 << (found.counter() & 63);
            }
        }
        flagged
    }

    /// Counters whose top bit is clear although the holder wrote them: what overflowed where nothing says so.
    fn wrapped(&mut self, place: Place) -> u64 {
        let mut wrapped = 0;
        let mut from = 0;
        while let Some(slot) = self.context_ref(place).and_then(|context| context.written.next(from)) {
            from = slot + 1;
            let (msr, found) = (self.banks[place.bank].slots[slot].msr, self.banks[place.bank].slots[slot].found);
            let top = 1 << (found.width.clamp(1, 64) - 1);
            let armed = self.context_ref(place).is_some_and(|context| context.values[slot] & top != 0);
            if found.row.kind == Kind::Counter && armed && self.read_one(place, msr).is_ok_and(|value| value & top == 0)
            {
                wrapped |= 1 << (found.counter() & 31);
            }
        }
        wrapped
    }

    /// An interrupt came on a CPU; `state` is where the CPU was (its domain, vCPU, pCPU, overflow and lost are filled
    /// in here). The handler to call, if the interrupt is anybody's: then [`Arbiter::finish`] must follow. Without a
    /// handler it is counted and stays masked until rearmed.
    pub fn interrupt(&mut self, cpu: u32, state: Overflow) -> Option<Delivery> {
        let running = self.cpus.get(cpu as usize)?.running;
        let bank = usize::from(state.cause == Cause::Debug);
        let caller = match (&self.held[bank], running) {
            (Held::Global(holder), _) => Caller { domain: *holder, on: On::Cpu(cpu) },
            (Held::Local(holders), Some((domain, vcpu))) if holders.contains(&domain) => {
                Caller { domain, on: On::Vcpu(vcpu) }
            }
            _ => {
                self.stray += 1;
                return None;
            }
        };
        let place = Place { bank, caller, cpu: Some(cpu) };
        let overflow = match self.table.family.rearm {
            // Which counters overflowed is nothing that the holder of DEBUG is told.
            _ if bank != 0 => 0,
            Rearm::NetBurst => self.flagged_cccrs(place),
            _ if self.banks[0].status.is_some() => self.status(place),
            _ => self.wrapped(place),
        };
        let (domain, vcpu) = running.unwrap_or((DomId(0x7ff2), 0));
        let masks = self.table.family.rearm.masks() && bank == 0;
        let context = self.context(place)?;
        context.masked |= masks;
        let Some(handler) = context.handler.take() else {
            self.unclaimed_at(place);
            return None;
        };
        let lost = std::mem::take(&mut context.lost);
        let generation = context.generation;
        let overflow = Overflow { domain, vcpu, pcpu: cpu, overflow, lost, ..state };
        let number = match caller.on {
            On::Vcpu(number) | On::Cpu(number) => number,
        };
        Some(Delivery { handler, overflow, cpu: number, place, generation })
    }

    /// Takes a handler back after it was called; `claimed` is its answer.
    pub fn finish(&mut self, delivery: Delivery, claimed: bool) {
        let Delivery { handler, place, generation, .. } = delivery;
        let Some(context) = self.context(place) else { return };
        if context.generation != generation {
            // Removed, replaced or released meanwhile.
            return;
        }
        context.handler = Some(handler);
        if !claimed {
            self.unclaimed_at(place);
        }
    }

    /// Counts an interrupt that nobody claimed, and masks until rearmed.
    fn unclaimed_at(&mut self, place: Place) {
        let hardware_masks = self.table.family.rearm.masks();
        let Some(context) = self.context(place) else { return };
        context.unclaimed += 1;
        context.lost += 1;
        let already = std::mem::replace(&mut context.masked, true) && hardware_masks;
        if let (false, Some(cpu)) = (already, place.cpu)
            && place.bank == 0
        {
            self.hardware.mask(cpu, true);
        }
    }
}

impl Rearm {
    /// Does the local APIC mask LVTPC when it delivers the interrupt?
    pub const fn masks(self) -> bool {
        matches!(self, Rearm::NetBurst | Rearm::PentiumM | Rearm::Perfmon)
    }
}

fn context_of(domains: &mut BTreeMap<DomId, Vec<Vcpu>>, at: (DomId, u32), bank: usize) -> Option<&mut Context> {
    Some(&mut domains.get_mut(&at.0)?.get_mut(at.1 as usize)?.contexts[bank])
}

fn no_domain(domain: DomId) -> Error {
    Error::NoSuch(domain.to_string())
}

/// The numbers of the bits that are set.
fn bits(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}
