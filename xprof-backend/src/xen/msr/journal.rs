//! The journal of what the contract changes on a Xen host ([`crate::msr::journal`]): a line for each change, a word for what it is
//! of and then hexadecimal numbers, old value and new value last.
//!
//! * `vpmu 1 4`: the vPMU's mode.
//! * `trace-mask ffff000 a9000`: which events Xen's trace has; `trace 0 1`: that it is written at all.
//! * `cpu 3 c8d 0 1`: register 0xc8d of pCPU 3.
//! * `vcpu 5 UUID 0 c0011027 0 ff`: a register of domain 5's vCPU 0. The domain must still have that UUID: its number may be another's
//!   by now, and a domain that was restarted is another one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::vpmu::Mode;
use crate::msr::journal::{self, Outcome};
use crate::msr::tables::xen::XEN;
use crate::msr::{Access, Class, Entry, Limits, Result, Table};
use crate::sys::xen::Hypervisor;
use crate::xen::trace;

/// Where the journals are.
pub const JOURNALS: &str = "/run/xprof/xen";

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The vPMU's mode.
    Vpmu,
    /// Which events Xen's trace has.
    TraceMask,
    /// Whether it is written.
    Trace,
    /// A register of a pCPU.
    Cpu {
        /// Its number.
        cpu: u32,
        /// The register.
        msr: u32,
    },
    /// A register of a PV domain's vCPU.
    Vcpu {
        /// The domain's id.
        domain: u16,
        /// Its UUID.
        uuid: [u8; 16],
        /// The vCPU.
        vcpu: u32,
        /// The register.
        msr: u32,
    },
}

/// A change that was, or is going to be, made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of what.
    pub of: Subject,
    /// What it held.
    pub old: u64,
    /// What it is set to.
    pub new: u64,
}

impl Change {
    fn line(&self) -> String {
        let Change { of, old, new } = self;
        match of {
            Subject::Vpmu => format!("vpmu {old:x} {new:x}\n"),
            Subject::TraceMask => format!("trace-mask {old:x} {new:x}\n"),
            Subject::Trace => format!("trace {old:x} {new:x}\n"),
            Subject::Cpu { cpu, msr } => format!("cpu {cpu:x} {msr:x} {old:x} {new:x}\n"),
            Subject::Vcpu { domain, uuid, vcpu, msr } => {
                format!("vcpu {domain:x} {:032x} {vcpu:x} {msr:x} {old:x} {new:x}\n", u128::from_be_bytes(*uuid))
            }
        }
    }

    /// A line of a journal; `None` for anything else, such as the last line of one that was cut short.
    pub fn parse(line: &str) -> Option<Change> {
        let mut words = line.split(' ');
        let subject = words.next()?;
        let numbers: Option<Vec<u128>> = words.map(|word| u128::from_str_radix(word, 16).ok()).collect();
        let numbers = numbers?;
        let (of, old, new) = match (subject, numbers[..].as_ref()) {
            ("vpmu", &[old, new]) => (Subject::Vpmu, old, new),
            ("trace-mask", &[old, new]) => (Subject::TraceMask, old, new),
            ("trace", &[old, new]) => (Subject::Trace, old, new),
            ("cpu", &[cpu, msr, old, new]) => {
                (Subject::Cpu { cpu: cpu.try_into().ok()?, msr: msr.try_into().ok()? }, old, new)
            }
            ("vcpu", &[domain, uuid, vcpu, msr, old, new]) => {
                let of = Subject::Vcpu {
                    domain: domain.try_into().ok()?,
                    uuid: uuid.to_be_bytes(),
                    vcpu: vcpu.try_into().ok()?,
                    msr: msr.try_into().ok()?,
                };
                (of, old, new)
            }
            _ => return None,
        };
        Some(Change { of, old: old.try_into().ok()?, new: new.try_into().ok()? })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |msr: &u32| {
            let find = |class| TABLE.find(class, *msr);
            find(Class::Perf).or_else(|| find(Class::Debug)).map_or("", |found| found.row.name)
        };
        match self {
            Subject::Vpmu => f.write_str("the vPMU's mode"),
            Subject::TraceMask => f.write_str("the event mask of Xen's trace"),
            Subject::Trace => f.write_str("Xen's trace"),
            Subject::Cpu { cpu, msr } => write!(f, "pCPU {cpu} {msr:#x} {}", name(msr)),
            Subject::Vcpu { domain, vcpu, msr, .. } => {
                write!(f, "domain {domain} vCPU {vcpu} {msr:#x} {}", name(msr))
            }
        }
    }
}

impl Change {
    /// Old and new value, as they are shown.
    pub fn values(&self) -> [String; 2] {
        [self.old, self.new].map(|value| self.show(value))
    }

    /// A value of this subject, as it is shown.
    pub fn show(&self, value: u64) -> String {
        match (self.of, Mode::of(value)) {
            (Subject::Vpmu, Some(mode)) => mode.to_string(),
            (Subject::Trace, _) => if value == 0 { "off" } else { "on" }.to_owned(),
            _ => format!("{value:#x}"),
        }
    }
}

const TABLE: Table = Table { family: &XEN, limits: Limits::NONE };

/// Adds a change to those before: each subject once, with its first old value and its last new one.
fn add(changes: &mut Vec<Change>, change: Change) {
    match changes.iter_mut().find(|have| have.of == change.of) {
        Some(have) => have.new = change.new,
        None => changes.push(change),
    }
}

/// A journal that this program holds.
#[derive(Debug)]
pub(in crate::xen) struct Notes {
    file: journal::Journal,
    changes: Vec<Change>,
}

impl Notes {
    /// Takes the journal of that name; see [`journal::Journal::take`].
    pub(in crate::xen) fn take(journals: &Path, name: &str, class: Class, what: &str) -> Result<Notes> {
        Ok(Notes { file: journal::Journal::take(journals, name, class, what)?, changes: Vec::new() })
    }

    /// Writes changes down. They may be made after that.
    pub(in crate::xen) fn note(&mut self, changes: &[Change]) -> Result<()> {
        self.file.note(&changes.iter().map(Change::line).collect::<String>())?;
        changes.iter().for_each(|&change| add(&mut self.changes, change));
        Ok(())
    }

    /// Takes everything back and ends the journal; what could not be taken back stays written down.
    pub(in crate::xen) fn undo(self, xen: &mut Hypervisor) -> Vec<(Change, Outcome)> {
        let answers = put_back(xen, &self.changes);
        if answers.iter().all(|(_, outcome)| outcome.is_settled()) {
            self.file.end();
        }
        answers
    }
}

/// Takes changes back, the last first.
fn put_back(xen: &mut Hypervisor, changes: &[Change]) -> Vec<(Change, Outcome)> {
    changes.iter().rev().map(|change| (*change, back(xen, change).unwrap_or_else(|outcome| outcome))).collect()
}

/// Takes one change back.
fn back(xen: &mut Hypervisor, change: &Change) -> std::result::Result<Outcome, Outcome> {
    let is_ours = |class, msr| TABLE.find(class, msr).is_some_and(|found| found.row.access != Access::ReadOnly);
    let Change { of, old, new } = *change;
    Ok(match of {
        Subject::Vpmu => {
            let (now, _) = xen.vpmu().map_err(Outcome::Failed)?;
            Outcome::back(old, new, now, |old| xen.set_vpmu(old))
        }
        Subject::TraceMask | Subject::Trace => trace::back(xen, change).map_err(Outcome::Failed)?,
        Subject::Cpu { cpu, msr } => {
            if !is_ours(Class::Perf, msr) {
                return Err(Outcome::Unknown);
            }
            let mut call = |write, value| {
                let mut entry = [Entry::with(msr, value)];
                match xen.cpu_registers(cpu, write, &mut entry)? {
                    1 => Ok(entry[0].value),
                    _ => Err(io::Error::from_raw_os_error(-entry[0].status)),
                }
            };
            let now = call(false, 0).map_err(Outcome::Failed)?;
            Outcome::back(old, new, now, |old| call(true, old).map(|_| ()))
        }
        Subject::Vcpu { domain, uuid, vcpu, msr } => {
            if !is_ours(Class::Debug, msr) {
                return Err(Outcome::Unknown);
            }
            let domains = xen.domains().map_err(|error| Outcome::Failed(io::Error::other(error)))?;
            if !domains.iter().any(|info| info.id == domain && info.uuid == uuid) {
                return Err(Outcome::Gone);
            }
            let values = xen.vcpu_registers(domain, vcpu).map_err(Outcome::Failed)?;
            let now = values.iter().find(|(have, _)| *have == msr).map_or(0, |(_, value)| *value);
            Outcome::back(old, new, now, |old| xen.set_vcpu_registers(domain, vcpu, &[(msr, old)]).1)
        }
    })
}

/// A journal that a killed program has left.
#[derive(Debug)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// What it had changed: each subject once.
    pub changes: Vec<Change>,
    // Keeps others out while it is looked at.
    _lock: std::fs::File,
}

/// The journals that nobody holds any more.
///
/// # Errors
/// [`crate::msr::Error::Os`] when the directory cannot be read; that there is none is no error.
pub fn left(journals: &Path) -> Result<Vec<Left>> {
    let of = |unheld: journal::Unheld| {
        let mut changes = Vec::new();
        unheld.text.lines().filter_map(Change::parse).for_each(|change| add(&mut changes, change));
        Left { path: unheld.path, changes, _lock: unheld.lock }
    };
    Ok(journal::unheld(journals)?.into_iter().map(of).collect())
}

impl Left {
    /// Takes everything back and removes the journal, unless Xen refused.
    ///
    /// # Errors
    /// [`crate::msr::Error::Os`] when the journal cannot be removed.
    pub fn restore(self, xen: &mut Hypervisor) -> Result<Vec<(Change, Outcome)>> {
        let all = put_back(xen, &self.changes);
        if all.iter().all(|(_, outcome)| outcome.is_settled()) {
            std::fs::remove_file(&self.path).map_err(|source| crate::msr::Error::Os {
                attempt: format!("remove {}", self.path.display()),
                source,
            })?;
        }
        Ok(all)
    }
}
