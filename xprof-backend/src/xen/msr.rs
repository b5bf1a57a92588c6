//! The contract in dom0 of a Xen host: what today's Xen carries of it, and for the rest the reason.
//!
//! * PERF is dom0's alone: LOCAL is the vPMU's mode self (or hv), GLOBAL all, UNAVAILABLE off. These are modes of the whole host,
//!   so only a handle that was opened for it sets them ([`Registers::setting_modes`]); any other uses the class as the
//!   host is, and never changes the mode. Its registers are those of a pCPU that XENPF_resource_op lets through:
//!   sampling is `native`'s.
//! * DEBUG is a PV domain's, LOCAL: the address masks of its vCPUs.
//! * What Xen cannot confine to the domain that is named is `EOPNOTSUPP`.
//!
//! [`count`]: counting with the registers that Xen lends a PV dom0.
//!
//! What is changed is written down first ([`journal`]) and taken back when the handle goes.

pub mod count;
pub mod journal;
#[cfg(test)]
mod tests;
pub mod vpmu;

use std::io;
use std::path::PathBuf;

use xprof_perfdata::domain::DomainKind;

use self::journal::{Change, JOURNALS, Notes, Subject};
use self::vpmu::{Mode, Setting};
use super::host;
use crate::msr::journal::Outcome;
use crate::msr::table::Found;
use crate::msr::tables::xen::XEN;
use crate::msr::{Class, Contract, DomId, Entry, Error, Fault, Handler, Limits, MAX_ENTRIES, Result, Scope, Table};
use crate::sys::cpuid;
use crate::sys::xen::{DomainInfo, Hypervisor, XenError};

/// Registers that a handle means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// PERF: the pCPU.
    pub cpu: u32,
    /// DEBUG: the domain.
    pub domain: DomId,
    /// DEBUG: its vCPU.
    pub vcpu: u32,
}

/// A handle of dom0.
#[derive(Debug)]
pub struct Registers {
    xen: Hypervisor,
    place: Place,
    /// The mode that LOCAL stands for; `None`: this handle sets no modes.
    local: Option<Mode>,
    /// This CPU has address masks.
    has_masks: bool,
    journals: PathBuf,
    /// What was allocated, and to whom.
    held: Vec<(Class, DomId)>,
    mode: Option<Notes>,
    values: Option<Notes>,
}

/// What a batch would change, up to the first entry that cannot be done and that entry's status.
type Writes = (Vec<(u32, u64)>, Option<i32>);

/// DBEXT, ECX bit 26 of leaf 8000_0001h (AMD64 APM vol. 3, appendix E.4.2): the address masks.
fn has_masks() -> bool {
    cpuid::leaf(0x8000_0000, 0)[0] > 0x8000_0000 && cpuid::leaf(0x8000_0001, 0)[2] >> 26 & 1 != 0
}

impl Registers {
    /// Opens a handle that changes no mode.
    ///
    /// # Errors
    /// Why dom0's doors are closed, see [`XenError`].
    pub fn open(place: Place) -> std::result::Result<Registers, XenError> {
        Ok(Registers::through(Hypervisor::open()?, place, JOURNALS.into(), has_masks()))
    }

    /// Opens a handle that sets the vPMU's mode of the whole host: `local` is the mode that LOCAL stands for, self or hv. Say what
    /// [`Self::setting`] tells before it allocates.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn setting_modes(place: Place, local: Mode) -> std::result::Result<Registers, XenError> {
        let mut registers = Registers::open(place)?;
        registers.local = Some(local);
        Ok(registers)
    }

    fn through(xen: Hypervisor, place: Place, journals: PathBuf, has_masks: bool) -> Registers {
        Registers { xen, place, local: None, has_masks, journals, held: Vec::new(), mode: None, values: None }
    }

    /// What Xen lets through.
    pub fn table() -> Table {
        Table { family: &XEN, limits: Limits::NONE }
    }

    /// The change of the vPMU's mode that giving dom0 PERF in this scope is; `None` for a handle that sets none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason: no vPMU, or a mode that this dom0 may not set.
    pub fn setting(&mut self, scope: Scope) -> Result<Option<Setting>> {
        let Some(local) = self.local else { return Ok(None) };
        let new = match scope {
            Scope::Unavailable => Mode::Off,
            Scope::Local => local,
            Scope::Global => Mode::All,
        };
        Setting::look(&mut self.xen, new).map(Some)
    }

    /// Takes back all that this handle has changed. It holds nothing afterwards.
    pub fn restore(&mut self) -> Vec<(Change, Outcome)> {
        self.held.clear();
        let notes = [self.values.take(), self.mode.take()];
        notes.into_iter().flatten().flat_map(|notes| notes.undo(&mut self.xen)).collect()
    }

    fn domain(&mut self, domain: DomId) -> Result<DomainInfo> {
        let list = self.xen.domains().map_err(|error| failed("list the domains", io::Error::other(error)))?;
        list.into_iter().find(|info| info.id == domain.0).ok_or_else(|| Error::NoSuch(domain.to_string()))
    }

    fn set(&mut self, setting: &Setting) -> Result<()> {
        let mode = match &mut self.mode {
            Some(mode) => mode,
            none => none.insert(Notes::take(&self.journals, "vpmu", Class::Perf, "change the vPMU's mode")?),
        };
        if setting.old == setting.new {
            return Ok(());
        }
        mode.note(&[Change { of: Subject::Vpmu, old: setting.old as u64, new: setting.new as u64 }])?;
        match self.xen.set_vpmu(setting.new as u64) {
            Ok(()) => Ok(()),
            Err(error) => {
                // The journal is right: it may say more than was done, never less.
                mode.note(&[Change { of: Subject::Vpmu, old: setting.old as u64, new: setting.old as u64 }])?;
                match error.raw_os_error() {
                    Some(libc::EBUSY) => Err(Error::Busy { class: Class::Perf, holders: self.guests() }),
                    _ => Err(failed(format!("set the vPMU's mode {}", setting.new), error)),
                }
            }
        }
    }

    /// Who may have a vPMU: Xen counts them and does not say whose they are.
    fn guests(&mut self) -> Vec<DomId> {
        let list = self.xen.domains().unwrap_or_default();
        list.iter().filter(|info| info.id != 0).map(|info| DomId(info.id)).collect()
    }

    fn allocate_perf(&mut self, domain: DomId, scope: Scope) -> Result<()> {
        if domain != DomId::ZERO {
            return Err(Error::Unsupported(format!(
                "host-wide on Xen: the vPMU has one mode for all, and {domain} cannot be given counters, or none, by itself"
            )));
        }
        if let Some(setting) = self.setting(scope)? {
            self.set(&setting)?;
        }
        Ok(())
    }

    /// Whether DEBUG can be had so.
    fn debug(info: &DomainInfo, scope: Scope) -> Result<()> {
        let kind = host::kind(info);
        match scope {
            Scope::Global => Err(Error::Unsupported(
                "host-wide on Xen: debug registers are a vCPU's, and nobody can be given a pCPU's".into(),
            )),
            Scope::Local if kind != DomainKind::Pv => Err(Error::Unsupported(format!(
                "Xen gives dom0 the address masks of PV domains only, and domain {} is {}",
                info.id,
                kind.name()
            ))),
            Scope::Local | Scope::Unavailable => Ok(()),
        }
    }

    fn check(&self, class: Class, entries: &[Entry]) -> Result<()> {
        let domain = match class {
            Class::Invalid => return Err(Error::NoClass),
            Class::Perf => DomId::ZERO,
            Class::Debug => self.place.domain,
        };
        if !self.held.contains(&(class, domain)) {
            return Err(Error::NotHeld { domain, class });
        }
        if entries.len() > MAX_ENTRIES { Err(Error::TooMany(entries.len())) } else { Ok(()) }
    }

    /// The values of registers of the table, in order, as far as Xen gives them; the status of the first that it does not.
    fn values(&mut self, class: Class, registers: &[u32]) -> Result<(Vec<u64>, Option<i32>)> {
        if registers.is_empty() {
            return Ok((Vec::new(), None));
        }
        if class == Class::Perf {
            let mut entries: Vec<Entry> = registers.iter().map(|&msr| Entry::of(msr)).collect();
            let done =
                self.xen.cpu_registers(self.place.cpu, false, &mut entries).map_err(|error| self.of_cpu(error))?;
            let values = entries[..done].iter().map(|entry| entry.value).collect();
            return Ok((values, entries.get(done).map(|entry| status(-entry.status))));
        }
        let Place { domain, vcpu, .. } = self.place;
        let there = self.xen.vcpu_registers(domain.0, vcpu).map_err(|error| self.of_vcpu(error))?;
        // Xen leaves out what is zero, and what there is not.
        let value = |msr: &u32| there.iter().find(|(have, _)| have == msr).map(|(_, value)| *value);
        let values: Vec<u64> = registers.iter().map_while(|msr| value(msr).or(self.has_masks.then_some(0))).collect();
        let failed = (values.len() < registers.len()).then(|| Fault::NotHere.status());
        Ok((values, failed))
    }

    fn of_cpu(&self, error: io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::EINVAL) => Error::NoSuch(format!("CPU {}", self.place.cpu)),
            _ => failed("reach registers through Xen", error),
        }
    }

    fn of_vcpu(&self, error: io::Error) -> Error {
        let Place { domain, vcpu, .. } = self.place;
        match error.raw_os_error() {
            Some(libc::ESRCH) => Error::NoSuch(format!("{domain} vCPU {vcpu}")),
            Some(libc::EINVAL) => Error::Unsupported(format!(
                "Xen gives dom0 the address masks of PV vCPUs other than the one that asks: not those of {domain} vCPU {vcpu}"
            )),
            _ => failed("reach a vCPU's registers", error),
        }
    }

    /// Which values a batch would write.
    fn writes(
        &self,
        class: Class,
        entries: &[Entry],
        value: impl Fn(&Found, &Entry) -> std::result::Result<u64, Fault>,
    ) -> Writes {
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries {
            let found = Registers::table().find(class, entry.msr).ok_or(Fault::Unknown);
            match found.and_then(|found| value(&found, entry)) {
                Ok(value) => list.push((entry.msr, value)),
                Err(fault) => return (list, Some(fault.status())),
            }
        }
        (list, None)
    }

    /// Reads what is there, notes what it will be, writes. Xen lets no register be written that cannot be read, so what it does
    /// not let through ends the batch before anything is written.
    fn carry_out(
        &mut self,
        class: Class,
        entries: &mut [Entry],
        value: impl Fn(&Found, &Entry) -> std::result::Result<u64, Fault>,
    ) -> Result<usize> {
        self.check(class, entries)?;
        let (mut list, mut stopped) = self.writes(class, entries, value);
        let registers: Vec<u32> = list.iter().map(|(msr, _)| *msr).collect();
        let (old, refused) = self.values(class, &registers)?;
        stopped = refused.or(stopped);
        list.truncate(old.len());
        self.note(class, &list, &old)?;
        let (done, refused) = self.put(class, &list)?;
        stopped = refused.or(stopped);
        for entry in &mut entries[..done] {
            entry.status = 0;
        }
        if let (Some(entry), Some(status)) = (entries.get_mut(done), stopped) {
            entry.status = status;
        }
        Ok(done)
    }

    fn note(&mut self, class: Class, list: &[(u32, u64)], old: &[u64]) -> Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        let Place { cpu, domain, vcpu } = self.place;
        let (name, uuid) = match class {
            Class::Debug => (format!("vcpu-{}-{vcpu}", domain.0), self.domain(domain)?.uuid),
            _ => (format!("cpu-{cpu}"), [0; 16]),
        };
        let of = |msr| match class {
            Class::Debug => Subject::Vcpu { domain: domain.0, uuid, vcpu, msr },
            _ => Subject::Cpu { cpu, msr },
        };
        let changes: Vec<Change> =
            list.iter().zip(old).map(|(&(msr, new), &old)| Change { of: of(msr), old, new }).collect();
        let values = match &mut self.values {
            Some(values) => values,
            none => none.insert(Notes::take(&self.journals, &name, class, "write registers through Xen")?),
        };
        values.note(&changes)
    }

    fn put(&mut self, class: Class, list: &[(u32, u64)]) -> Result<(usize, Option<i32>)> {
        if list.is_empty() {
            return Ok((0, None));
        }
        let Place { cpu, domain, vcpu } = self.place;
        if class == Class::Perf {
            let mut entries: Vec<Entry> = list.iter().map(|&(msr, value)| Entry::with(msr, value)).collect();
            let done = self.xen.cpu_registers(cpu, true, &mut entries).map_err(|error| self.of_cpu(error))?;
            return Ok((done, entries.get(done).map(|entry| status(-entry.status))));
        }
        match self.xen.set_vcpu_registers(domain.0, vcpu, list) {
            (done, Ok(())) => Ok((done, None)),
            (done, Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                Ok((done, Some(Fault::Refused.status())))
            }
            (0, Err(error)) => Err(self.of_vcpu(error)),
            (done, Err(error)) => Ok((done, Some(-error.raw_os_error().unwrap_or(libc::EIO)))),
        }
    }
}

fn failed(attempt: impl Into<String>, source: io::Error) -> Error {
    Error::Os { attempt: attempt.into(), source }
}

/// An entry's status for an errno of Xen's.
fn status(errno: i32) -> i32 {
    match errno {
        // Not in the list of those that it lets through.
        libc::EPERM | libc::EOPNOTSUPP => Fault::NotHere.status(),
        libc::EINVAL | libc::EIO => Fault::Refused.status(),
        other => -other,
    }
}

impl Contract for Registers {
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        if class == Class::Invalid {
            return Err(Error::NoClass);
        }
        let info = self.domain(domain)?;
        match class {
            Class::Debug => Registers::debug(&info, scope)?,
            _ => self.allocate_perf(domain, scope)?,
        }
        self.held.retain(|held| *held != (class, domain));
        if scope != Scope::Unavailable {
            self.held.push((class, domain));
        } else if let Some(values) = self.values.take() {
            values.undo(&mut self.xen);
        }
        Ok(())
    }

    /// `EOPNOTSUPP`: VIRQ_XENPMU is bound by dom0's kernel, and no second time.
    fn irq_handler(&mut self, class: Class, _handler: Option<Handler>) -> Result<()> {
        self.check(class, &[])?;
        Err(Error::Unsupported(
            "on Xen the interrupt of counters is dom0's kernel's (VIRQ_XENPMU): sampling goes through native".into(),
        ))
    }

    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        let count = self.carry_out(class, entries, |found, _| found.accept(found.row.reset))?;
        for entry in &mut entries[..count] {
            entry.value = Registers::table().find(class, entry.msr).map_or(0, |found| found.row.reset);
        }
        Ok(count)
    }

    /// Nothing interrupts, so that `rearm` adds nothing.
    fn write(&mut self, class: Class, _rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        self.carry_out(class, entries, |found, entry| found.accept(entry.value))
    }

    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.check(class, entries)?;
        let is_known = |entry: &&Entry| Registers::table().find(class, entry.msr).is_some();
        let registers: Vec<u32> = entries.iter().take_while(is_known).map(|entry| entry.msr).collect();
        let (values, refused) = self.values(class, &registers)?;
        for (entry, &value) in entries.iter_mut().zip(&values) {
            (entry.value, entry.status) = (value, 0);
        }
        if let Some(entry) = entries.get_mut(values.len()) {
            entry.status = refused.unwrap_or(Fault::Unknown.status());
        }
        Ok(values.len())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        self.restore();
    }
}
