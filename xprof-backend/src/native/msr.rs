//! The contract on the machine's own registers, through `/dev/cpu/N/msr`: for counting, without interrupts, which stay
//! the kernel's.
//!
//! The thread that opens a handle is pinned to its CPU: the device then reads a register where it
//! is, without an interrupt to another CPU, and a batch costs hardly more than its `pread`s. Only registers of the class
//! table are reached. What the kernel counts with (its own perf, the NMI watchdog) is told by the enable bits and refused
//! ([`in_use`]). What is changed is written down first ([`journal`]) and put back when the handle goes: at exit, at
//! Ctrl-C (which ends the program in order) and at a panic; after a kill -9 [`journal::Left::restore`] does it.
//!
//! * [`device`]: one CPU's device file, and what its refusals mean. [`count`]: counting whole CPUs.

pub mod count;
pub mod device;
mod in_use;
pub mod journal;

use std::path::{Path, PathBuf};

use device::{Device, Msrs};
use in_use::Users;
use journal::Journal;

use crate::msr::table::Found;
use crate::msr::{Class, Contract, DomId, Entry, Error, Fault, Handler, MAX_ENTRIES, Result, Scope, Table, cpu};

/// Where devices are and journals go: the machine's own places, or a test's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Holds `N/msr`.
    pub devices: PathBuf,
    /// Holds one journal for each CPU and class.
    pub journals: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places { devices: "/dev/cpu".into(), journals: "/run/xprof/msr".into() }
    }
}

/// A handle of domain 0 on one CPU, whose registers it means. It pins the thread that opens it; another thread can use it,
/// at the price of an interrupt to its CPU for each register.
#[derive(Debug)]
pub struct Registers<D: Msrs = Device> {
    cpu: u32,
    table: Table,
    device: D,
    journals: PathBuf,
    held: Vec<Held>,
}

/// A class that was allocated.
#[derive(Debug)]
struct Held {
    class: Class,
    journal: Journal,
}

impl Registers {
    /// Opens the registers of a CPU, and pins the calling thread to it.
    ///
    /// # Errors
    /// [`Error::NoSuch`] for a CPU that is offline or does not exist; [`Error::Os`] with the device's answer.
    pub fn open(cpu: u32) -> Result<Registers> {
        Registers::open_at(&Places::default(), cpu, None)
    }

    /// The same with other places, and with a table chosen by hand, which must not be used for writing on another CPU
    /// than its own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(places: &Places, cpu: u32, table: Option<Table>) -> Result<Registers> {
        device::pin(cpu)?;
        let table = table.unwrap_or_else(cpu::table);
        Ok(Registers::over(Device::open(&places.devices, cpu)?, cpu, table, &places.journals))
    }
}

impl<D: Msrs> Registers<D> {
    /// Over something that is read and written like a device.
    fn over(device: D, cpu: u32, table: Table, journals: &Path) -> Registers<D> {
        Registers { cpu, table, device, journals: journals.into(), held: Vec::new() }
    }

    /// What this CPU has.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn check(&self, class: Class, entries: &[Entry]) -> Result<usize> {
        if class == Class::Invalid {
            return Err(Error::NoClass);
        }
        let Some(held) = self.held.iter().position(|held| held.class == class) else {
            return Err(Error::NotHeld { domain: DomId::ZERO, class });
        };
        if entries.len() > MAX_ENTRIES {
            return Err(Error::TooMany(entries.len()));
        }
        Ok(held)
    }

    /// The registers that are to be written, as far as they may be, with what is to be written to them.
    fn writes(
        &self,
        held: usize,
        entries: &[Entry],
        value: impl Fn(&Found, &Entry) -> std::result::Result<u64, Fault>,
    ) -> (Vec<journal::Change>, Option<i32>) {
        let mut changes = Vec::with_capacity(entries.len());
        let held = &self.held[held];
        for entry in entries {
            let change = self.change(held, entry, &changes, &value);
            match change {
                Ok(change) => changes.push(change),
                Err(status) => return (changes, Some(status)),
            }
        }
        (changes, None)
    }

    fn change(
        &self,
        held: &Held,
        entry: &Entry,
        before: &[journal::Change],
        value: impl Fn(&Found, &Entry) -> std::result::Result<u64, Fault>,
    ) -> std::result::Result<journal::Change, i32> {
        let found = self.table.find(held.class, entry.msr).ok_or(Fault::Unknown.status())?;
        let new = value(&found, entry).map_err(Fault::status)?;
        // What this batch has written by then counts as there.
        let read = |msr: u32| match before.iter().rev().find(|change| change.msr == msr) {
            Some(change) => Ok(change.new),
            None => self.device.read(msr),
        };
        let old = read(entry.msr).map_err(|error| status(&error))?;
        let in_batch = |msr| before.iter().any(|change| change.msr == msr);
        let is_ours = |msr| held.journal.wrote(msr) || in_batch(msr);
        let users = Users { table: &self.table, is_ours: &is_ours, read: &read };
        if users.forbid(&found, entry.msr, old, new).map_err(|error| status(&error))? {
            return Err(Fault::InUse.status());
        }
        Ok(journal::Change { cpu: self.cpu, msr: entry.msr, old, new })
    }

    fn carry_out(
        &mut self,
        class: Class,
        entries: &mut [Entry],
        value: impl Fn(&Found, &Entry) -> std::result::Result<u64, Fault>,
    ) -> Result<usize> {
        let held = self.check(class, entries)?;
        let (changes, failed) = self.writes(held, entries, value);
        self.held[held].journal.note(&changes)?;
        for (at, change) in changes.iter().enumerate() {
            if let Err(error) = self.device.write(change.msr, change.new) {
                self.held[held].journal.forget(&changes[at..]);
                // Rights (lockdown, msr.allow_writes=off, a missing capability) are no matter of one register.
                if at == 0 && matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EBADF)) {
                    return Err(Error::Os { attempt: format!("write to {}", self.device), source: error });
                }
                return Ok(self.fail(entries, at, status(&error)));
            }
            entries[at].status = 0;
        }
        Ok(match failed {
            Some(status) => self.fail(entries, changes.len(), status),
            None => changes.len(),
        })
    }

    fn fail(&self, entries: &mut [Entry], at: usize, status: i32) -> usize {
        if let Some(entry) = entries.get_mut(at) {
            entry.status = status;
        }
        at
    }

    /// Puts back what was found, the last change first.
    fn release(&mut self, class: Class) {
        while let Some(at) = self.held.iter().position(|held| held.class == class) {
            let held = self.held.swap_remove(at);
            let device = &self.device;
            held.journal.undo(&self.table, |msr| device.read(msr), |msr, value| device.write(msr, value));
        }
    }
}

/// An entry's status for an answer of the device.
fn status(error: &std::io::Error) -> i32 {
    match error.raw_os_error() {
        Some(libc::EIO) | None => Fault::Refused.status(),
        Some(libc::EPERM | libc::EACCES) => Fault::NotHere.status(),
        Some(errno) => -errno,
    }
}

impl<D: Msrs> Contract for Registers<D> {
    /// LOCAL and GLOBAL are the same on a machine without a VMM. `EBUSY` while another program holds the class on this
    /// CPU. UNAVAILABLE puts back what was found: the machine is not ours alone, and what the kernel had set up is the
    /// default here.
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        if class == Class::Invalid {
            return Err(Error::NoClass);
        }
        if domain != DomId::ZERO {
            return Err(Error::NoSuch(domain.to_string()));
        }
        let is_held = self.held.iter().any(|held| held.class == class);
        match scope {
            Scope::Unavailable => self.release(class),
            Scope::Local | Scope::Global if is_held => {}
            Scope::Local | Scope::Global => {
                let journal = Journal::open(&self.journals, self.cpu, class)?;
                self.held.push(Held { class, journal });
            }
        }
        Ok(())
    }

    /// `EOPNOTSUPP`: the interrupt is the kernel's.
    fn irq_handler(&mut self, class: Class, _handler: Option<Handler>) -> Result<()> {
        self.check(class, &[])?;
        Err(Error::Unsupported("/dev/cpu/N/msr has no interrupts: the kernel keeps them".into()))
    }

    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        let count = self.carry_out(class, entries, |found, _| found.accept(found.row.reset))?;
        for entry in &mut entries[..count] {
            entry.value = self.table.find(class, entry.msr).map_or(0, |found| found.row.reset);
        }
        Ok(count)
    }

    /// Nothing interrupts, so that `rearm` adds nothing.
    fn write(&mut self, class: Class, _rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        self.carry_out(class, entries, |found, entry| found.accept(entry.value))
    }

    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.check(class, entries)?;
        for at in 0..entries.len() {
            let entry = &mut entries[at];
            let answer = match self.table.find(class, entry.msr) {
                None => Err(Fault::Unknown.status()),
                Some(_) => self.device.read(entry.msr).map_err(|error| status(&error)),
            };
            match answer {
                Ok(value) => (entry.value, entry.status) = (value, 0),
                Err(status) => return Ok(self.fail(entries, at, status)),
            }
        }
        Ok(entries.len())
    }
}

impl<D: Msrs> Drop for Registers<D> {
    fn drop(&mut self) {
        for class in [Class::Perf, Class::Debug] {
            self.release(class);
        }
    }
}

/// The CPUs that have a device, ascending.
///
/// # Errors
/// As for opening the first.
pub fn cpus(places: &Places) -> Result<Vec<u32>> {
    let list = std::fs::read_dir(&places.devices).into_iter().flatten();
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        Path::exists(&entry.path().join("msr")).then_some(number)
    };
    let mut cpus: Vec<u32> = list.filter_map(number).collect();
    cpus.sort_unstable();
    if cpus.is_empty() {
        Device::open(&places.devices, 0)?;
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests;
