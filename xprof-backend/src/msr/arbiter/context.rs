//! One holder's registers on one vCPU or CPU: which were written, and their values while they are not on the hardware.
//!
//! Counters that sign-extend what is written to them cannot take every value back. Such a value is put back without its
//! high bits, which are added again when it is read (`offsets`, perfctr's idea): it reads right always, and it overflows
//! where it should as long as fewer than 2^31 events come between two domain switches.

use super::MsrHardware;
use super::bank::Bank;
use crate::msr::table::Found;
use crate::msr::{Handler, Kind};

/// A set of slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Vec<u64>);

impl Written {
    fn new(slots: usize) -> Written {
        Written(vec![0; slots.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    /// The first one not below `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.0.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// The last one below `to`.
    fn previous(&self, to: usize) -> Option<usize> {
        let at = to.checked_sub(1)?;
        let mut word = at / 64;
        let mut bits = self.0.get(word)? & (u64::MAX >> (63 - at % 64));
        while bits == 0 {
            word = word.checked_sub(1)?;
            bits = self.0[word];
        }
        Some(word * 64 + 63 - bits.leading_zeros() as usize)
    }
}

/// One holder's registers.
pub(super) struct Context {
    /// By slot: as last written or saved; the default of what was not written.
    pub(super) values: Vec<u64>,
    /// By slot: what is added to the hardware's value.
    offsets: Vec<u64>,
    pub(super) written: Written,
    /// Something was written since the overflow status was last known to be clear.
    pub(super) dirty: bool,
    /// Overflows that were flagged when the vCPU was taken off.
    pub(super) status: u64,
    /// LVTPC is masked for it.
    pub(super) masked: bool,
    pub(super) handler: Option<Handler>,
    /// Rises whenever the handler is set, removed or released.
    pub(super) generation: u64,
    /// Interrupts not delivered since the last one that was.
    pub(super) lost: u64,
    pub(super) unclaimed: u64,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("values", &self.values).field("written", &self.written).finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(bank: &Bank) -> Context {
        Context {
            values: bank.slots.iter().map(|slot| slot.found.row.reset).collect(),
            offsets: vec![0; bank.slots.len()],
            written: Written::new(bank.slots.len()),
            dirty: false,
            status: 0,
            masked: false,
            handler: None,
            generation: 0,
            lost: 0,
            unclaimed: 0,
        }
    }

    pub(super) fn set_handler(&mut self, handler: Option<Handler>) {
        self.handler = handler;
        self.generation += 1;
    }

    /// The holder wrote this.
    pub(super) fn set(&mut self, slot: usize, value: u64) {
        self.values[slot] = value;
        self.offsets[slot] = 0;
        self.written.insert(slot);
        self.dirty = true;
    }

    /// The register has its default again, and is the holder's no more.
    pub(super) fn forget(&mut self, slot: usize, reset: u64) {
        self.values[slot] = reset;
        self.offsets[slot] = 0;
        self.written.remove(slot);
    }

    /// The holder's value, given the hardware's when it is there.
    pub(super) fn value(&self, slot: usize, hardware: Option<u64>, found: &Found) -> u64 {
        match hardware {
            Some(raw) => raw.wrapping_add(self.offsets[slot]) & found.mask(),
            None => self.values[slot],
        }
    }

    /// Takes the values off the hardware, leaving defaults; whether LVTPC is masked now.
    pub(super) fn save(&mut self, bank: &Bank, hardware: &mut impl MsrHardware, cpu: u32) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return self.masked;
        }
        let mut from = 0;
        while let Some(at) = self.written.next(from) {
            from = at + 1;
            let slot = &bank.slots[at];
            // What is refused here was accepted before; there is nobody to tell.
            let raw = hardware.read(cpu, slot.msr).unwrap_or(slot.found.row.reset);
            self.values[at] = self.value(at, Some(raw), &slot.found);
            let _ = hardware.write(cpu, slot.msr, slot.found.row.reset);
        }
        self.status |= clear_status(bank, hardware, cpu);
        self.masked
    }

    /// Puts the values on the hardware.
    pub(super) fn restore(&mut self, bank: &Bank, hardware: &mut impl MsrHardware, cpu: u32) {
        self.dirty |= !self.written.is_empty();
        let mut to = bank.slots.len();
        while let Some(at) = self.written.previous(to) {
            to = at;
            let slot = &bank.slots[at];
            let value = self.values[at];
            let (msr, put) = match slot.exact {
                Some(msr) => (msr, value),
                None => (slot.msr, sign_extended(value, &slot.found)),
            };
            self.offsets[at] = value.wrapping_sub(put & slot.found.mask());
            let _ = hardware.write(cpu, msr, put);
        }
    }

    /// Everything written gets its default, on the hardware too where it is there.
    pub(super) fn release(&mut self, bank: &Bank, hardware: &mut impl MsrHardware, cpu: Option<u32>) {
        let mut from = 0;
        while let Some(at) = self.written.next(from) {
            from = at + 1;
            let slot = &bank.slots[at];
            self.values[at] = slot.found.row.reset;
            self.offsets[at] = 0;
            if let Some(cpu) = cpu {
                let _ = hardware.write(cpu, slot.msr, slot.found.row.reset);
            }
        }
        self.written.clear();
        if let Some(cpu) = cpu {
            if self.dirty {
                clear_status(bank, hardware, cpu);
            }
            if self.masked {
                hardware.mask(cpu, false);
            }
        }
        self.set_handler(None);
        (self.dirty, self.status, self.masked, self.lost, self.unclaimed) = (false, 0, false, 0, 0);
    }
}

/// What can be written in place of `value`: itself, or its low 31 bits.
fn sign_extended(value: u64, found: &Found) -> u64 {
    let again = i64::from(value as u32 as i32) as u64 & found.mask();
    if again == value || !matches!(found.row.kind, Kind::Counter | Kind::CounterAlias) {
        value
    } else {
        value & 0x7fff_ffff
    }
}

/// Clears the overflow status; what it was.
fn clear_status(bank: &Bank, hardware: &mut impl MsrHardware, cpu: u32) -> u64 {
    let (Some(status), Some(clear)) = (bank.status, bank.status_clear) else { return 0 };
    let raised = hardware.read(cpu, status).unwrap_or(0);
    if raised != 0 {
        let _ = hardware.write(cpu, clear, raised);
    }
    raised
}
