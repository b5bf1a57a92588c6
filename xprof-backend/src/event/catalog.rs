//! The events of this machine, with what they count and whether they open.

use std::io;

use xprof_perfdata::abi::{attr_flag as flag, event_type};
use xprof_perfdata::attr::Attr;

use super::pmu::Pmu;
use super::{EventSpec, names, parse_on, tracepoint};
use crate::machine::{self, Machine};
use crate::sys::perf;

/// Kinds of events, in the order they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Counters with the same name on every machine.
    Hardware,
    /// Counted by the kernel.
    Software,
    /// Caches, with the same names on every machine.
    Cache,
    /// Named by a PMU in sysfs.
    Pmu,
    /// Tracepoints of the kernel.
    Tracepoint,
}

impl Kind {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hardware => "hardware",
            Kind::Software => "software",
            Kind::Cache => "cache",
            Kind::Pmu => "pmu",
            Kind::Tracepoint => "tracepoint",
        }
    }
}

/// An event that can be named here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// As `-e` takes it.
    pub name: String,
    /// Other spellings.
    pub aliases: Vec<String>,
    /// Kind.
    pub kind: Kind,
    /// What it counts; for events of a PMU the terms, for tracepoints empty.
    pub description: String,
    /// Unit of its count, after scaling, where sysfs gives one.
    pub unit: Option<String>,
}

/// Every event that has a name on this machine. Tracepoints are left out when tracefs is closed to this user.
pub fn known(machine: &Machine) -> Vec<Known> {
    let mut list = Vec::new();
    for (table, kind) in [(names::HARDWARE, Kind::Hardware), (names::SOFTWARE, Kind::Software)] {
        for event in table {
            list.push(Known {
                name: event.names[0].into(),
                aliases: event.names[1..].iter().map(|&n| n.to_owned()).collect(),
                kind,
                description: event.what.into(),
                unit: None,
            });
        }
    }
    for (name, description) in names::cache_names() {
        list.push(Known { name, aliases: Vec::new(), kind: Kind::Cache, description, unit: None });
    }
    for pmu in Pmu::all(machine) {
        for alias in pmu.aliases() {
            let Some(found) = pmu.alias(&alias) else { continue };
            let unit = found.scale_unit.map(|(scale, unit)| if unit.is_empty() { format!("x {scale}") } else { unit });
            let name = format!("{}/{alias}/", pmu.name);
            list.push(Known { name, aliases: Vec::new(), kind: Kind::Pmu, description: found.terms, unit });
        }
    }
    for (system, event) in tracepoint::matching(machine, "*", "*").unwrap_or_default() {
        // ftrace's own records stand here too; only these two can be opened.
        if system == "ftrace" && !matches!(event.as_str(), "function" | "print") {
            continue;
        }
        list.push(Known {
            name: format!("{system}:{event}"),
            aliases: Vec::new(),
            kind: Kind::Tracepoint,
            description: String::new(),
            unit: None,
        });
    }
    list
}

/// The print format of a tracepoint, as its description.
pub fn tracepoint_format(machine: &Machine, name: &str) -> Option<String> {
    let (system, event) = name.split_once(':')?;
    let dir = tracepoint::events_dir(machine).ok()?;
    if [system, event].iter().any(|n| n.contains('/') || n.starts_with('.')) {
        return None;
    }
    let format = machine::text(&dir.join(system).join(event).join("format")).ok()?;
    Some(format.lines().find_map(|l| l.strip_prefix("print fmt: "))?.to_owned())
}

pub use super::tracepoint::glob;

/// Opens an event for a moment, counting this process (or, bound to certain CPUs, one of them). The answer of the
/// kernel is the proof that it can be measured.
pub fn open_once(event: &EventSpec) -> io::Result<()> {
    let mut attr = Attr { sample_period: 0, ..event.attr.clone() };
    attr.flags = attr.flags & !flag::FREQ | flag::DISABLED;
    let on_cpu = event.cpus.as_ref().and_then(|c| c.first().copied());
    let hybrid = matches!(attr.kind, event_type::HARDWARE | event_type::HW_CACHE) || on_cpu.is_none();
    let (pid, cpu) = match on_cpu {
        Some(cpu) if !hybrid => (-1, cpu as i32),
        _ => (0, -1),
    };
    let open = |attr: &Attr| perf::open(attr, pid, cpu, None, 0).map(drop);
    match open(&attr) {
        // Many PMUs know no modes, or no guests: perf leaves these bits out then, too.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            const MODES: u64 = flag::EXCLUDE_USER | flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV | flag::EXCLUDE_IDLE;
            attr.flags &= !(MODES | flag::EXCLUDE_HOST | flag::EXCLUDE_GUEST);
            open(&attr)
        }
        answer => answer,
    }
}

/// Opens what an expression names ([`open_once`]); the first refusal.
pub fn try_open(machine: &Machine, text: &str) -> crate::Result<()> {
    for event in parse_on(text, machine)?.iter().flat_map(|g| &g.events) {
        open_once(event).map_err(|source| crate::Error::Open {
            event: event.name.clone(),
            pid: None,
            cpu: None,
            opened: 0,
            source,
        })?;
    }
    Ok(())
}
