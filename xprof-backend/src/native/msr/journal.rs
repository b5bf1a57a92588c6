//! The journal of one CPU and class ([`crate::msr::journal`]): lines of four hexadecimal numbers, CPU, register, old value,
//! new value. Only registers of this CPU's class table are ever put back, whatever a file says.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Places;
use super::device::{self, Device, Msrs};
use crate::machine::Machine;
use crate::msr::journal::{self, Outcome};
use crate::msr::{Class, Error, Kind, Result, Table, cpu};
use crate::native::mended;

/// A register that was, or is going to be, changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The CPU.
    pub cpu: u32,
    /// The register.
    pub msr: u32,
    /// What it held.
    pub old: u64,
    /// What is written to it.
    pub new: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x} {:x} {:x} {:x}", self.cpu, self.msr, self.old, self.new)
    }
}

impl Change {
    /// A line of a journal; `None` for anything else, such as the last line of one that was cut short.
    pub fn parse(line: &str) -> Option<Change> {
        let mut words = line.split(' ');
        let mut word = || words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let change =
            Change { cpu: word()?.try_into().ok()?, msr: word()?.try_into().ok()?, old: word()?, new: word()? };
        words.next().is_none().then_some(change)
    }
}

/// The journal of a class on a CPU, held by this program.
#[derive(Debug)]
pub(super) struct Journal {
    file: journal::Journal,
    /// Each register once: its first old value and its last new one.
    changes: Vec<Change>,
}

impl Journal {
    /// Takes the class on a CPU.
    ///
    /// # Errors
    /// As [`journal::Journal::take`].
    pub(super) fn open(journals: &Path, cpu: u32, class: Class) -> Result<Journal> {
        let what = format!("use the registers of CPU {cpu}");
        let file = journal::Journal::take(journals, &format!("{cpu}-{class:?}"), class, &what)?;
        Ok(Journal { file, changes: Vec::new() })
    }

    /// True for a register that this program has changed.
    pub(super) fn wrote(&self, msr: u32) -> bool {
        self.changes.iter().any(|change| change.msr == msr)
    }

    /// Writes changes down. They may be carried out after that.
    pub(super) fn note(&mut self, changes: &[Change]) -> Result<()> {
        let mut text = String::new();
        for &change in changes {
            match self.changes.iter_mut().find(|have| have.msr == change.msr) {
                Some(have) if have.new == change.new => continue,
                Some(have) => have.new = change.new,
                None => self.changes.push(change),
            }
            text.push_str(&format!("{change}\n"));
        }
        self.file.note(&text)
    }

    /// Takes back changes that were noted and then not carried out.
    pub(super) fn forget(&mut self, changes: &[Change]) {
        for change in changes {
            let Some(at) = self.changes.iter().position(|have| have.msr == change.msr) else { continue };
            if self.changes[at].old == change.old {
                self.changes.remove(at);
            } else {
                self.changes[at].new = change.old;
            }
        }
    }

    /// Puts everything back and ends the journal. What cannot be put back stays written down.
    pub(super) fn undo(
        self,
        table: &Table,
        read: impl Fn(u32) -> io::Result<u64>,
        write: impl Fn(u32, u64) -> io::Result<()>,
    ) {
        let answers = put_back(table, &self.changes, read, write);
        if answers.iter().all(|(_, outcome)| outcome.is_settled()) {
            self.file.end();
        }
    }
}

/// Puts registers back, the last changed first; counters, which run on, without asking what they hold.
fn put_back(
    table: &Table,
    changes: &[Change],
    read: impl Fn(u32) -> io::Result<u64>,
    write: impl Fn(u32, u64) -> io::Result<()>,
) -> Vec<(Change, Outcome)> {
    let back = |change: &Change| {
        let found = [Class::Perf, Class::Debug].into_iter().find_map(|class| table.find(class, change.msr));
        let Some(found) = found.filter(|found| found.row.access != crate::msr::Access::ReadOnly) else {
            return Outcome::Unknown;
        };
        let now = match found.row.kind {
            // Written 1 to clear or set: there is nothing to put back.
            Kind::StatusClear | Kind::StatusSet => return Outcome::Unchanged,
            Kind::Counter | Kind::CounterAlias | Kind::Fixed => change.new,
            _ => match read(change.msr) {
                Ok(now) => now,
                Err(error) => return Outcome::Failed(error),
            },
        };
        Outcome::back(change.old, change.new, now, |old| write(change.msr, old))
    };
    changes.iter().rev().map(|change| (*change, back(change))).collect()
}

/// A journal that a killed program has left.
#[derive(Debug)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// What it had changed: each register once.
    pub changes: Vec<Change>,
    // Keeps others out while it is looked at.
    _lock: fs::File,
}

/// The journals that nobody holds any more.
///
/// # Errors
/// [`Error::Os`] when the directory cannot be read; that there is none is no error.
pub fn left(places: &Places) -> Result<Vec<Left>> {
    let of = |unheld: journal::Unheld| {
        let mut changes: Vec<Change> = Vec::new();
        for change in unheld.text.lines().filter_map(Change::parse) {
            match changes.iter_mut().find(|have| (have.cpu, have.msr) == (change.cpu, change.msr)) {
                Some(have) => have.new = change.new,
                None => changes.push(change),
            }
        }
        Left { path: unheld.path, changes, _lock: unheld.lock }
    };
    Ok(journal::unheld(&places.journals)?.into_iter().map(of).collect())
}

impl Left {
    /// Puts the registers back and removes the journal, unless the device refused. Pins the calling thread.
    ///
    /// # Errors
    /// [`Error::Os`] when a device cannot be opened or the journal not removed.
    pub fn restore(self, places: &Places) -> Result<Vec<(Change, Outcome)>> {
        let table = if mended::is_needed(&Machine::here()) { cpu::lent() } else { cpu::table() };
        let mut all = Vec::new();
        let mut cpus: Vec<u32> = self.changes.iter().map(|change| change.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        for number in cpus {
            device::pin(number)?;
            let device = Device::open(&places.devices, number)?;
            let of_cpu: Vec<Change> = self.changes.iter().copied().filter(|change| change.cpu == number).collect();
            all.extend(put_back(&table, &of_cpu, |msr| device.read(msr), |msr, value| device.write(msr, value)));
        }
        if all.iter().all(|(_, outcome)| outcome.is_settled()) {
            fs::remove_file(&self.path)
                .map_err(|source| Error::Os { attempt: format!("remove {}", self.path.display()), source })?;
        }
        Ok(all)
    }
}
