//! Events: perf's grammar of names, resolved against this machine's PMUs and tracepoints.
//!
//! Two steps, kept apart so that each can be read alone: the syntax of the text (no look at the machine), and its
//! meaning on a [`Machine`]. The attr that comes out equals what perf 6.1 asks the kernel for.

pub mod catalog;
mod modifiers;
pub(crate) mod names;
pub(crate) mod pmu;
mod resolve;
pub(crate) mod suggest;
mod syntax;
pub(crate) mod tracepoint;

use xprof_perfdata::attr::Attr;

use crate::machine::Machine;
use crate::{Error, Result};

/// The longest `-e` argument that is read, bytes.
const TEXT_MAX: usize = 1 << 20;

/// One event to open: the attr holds what the event itself decides (type, configs, exclude bits, precise_ip, own
/// period or frequency); the plan adds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// perf's name, modifiers included.
    pub name: String,
    /// What the event decides of its attr. `sample_period` is 0 when the event says nothing; tracepoints and
    /// breakpoints say 1.
    pub attr: Attr,
    /// CPUs the PMU is bound to (`cpumask`/`cpus` in sysfs); `None`: any.
    pub cpus: Option<Vec<u32>>,
    /// True when `:p` bits were written out by the user, so that they are not lowered silently.
    pub precise_is_fixed: bool,
    /// True when the period or frequency was written in the event (`period=`, `freq=`): it then wins over `-F` and
    /// `-c`, which in their turn win over the 1 of tracepoints and breakpoints.
    pub rate_is_fixed: bool,
}

/// Events opened as one group; a single event is a group of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// The members, leader first.
    pub events: Vec<EventSpec>,
    /// `:S`: only the leader samples and reads the others.
    pub leader_sampling: bool,
    /// The name written, `{a,b}:S` (empty for a lone event).
    pub name: String,
}

/// Parses a `-e` argument (events and groups separated by commas) against this machine.
pub fn parse(text: &str) -> Result<Vec<EventGroup>> {
    parse_on(text, &Machine::here())
}

/// Parses a `-e` argument against the machine described by these trees.
pub fn parse_on(text: &str, machine: &Machine) -> Result<Vec<EventGroup>> {
    groups(text, machine).map_err(|error| match error {
        Error::Event { at, problem, .. } => Error::Event { text: text.to_owned(), at, problem },
        other => other,
    })
}

fn groups(text: &str, machine: &Machine) -> Result<Vec<EventGroup>> {
    if text.len() > TEXT_MAX {
        return Err(syntax::Span::new("").error("this is too long for a list of events"));
    }
    let mut list = Vec::new();
    for group in syntax::read(text)? {
        let mut members = Vec::new();
        for written in &group.events {
            members.extend(resolve::event(machine, written)?);
        }
        if group.name.is_empty() {
            // A glob or a hybrid machine makes several events of one: each stands alone.
            for member in members {
                let leader_sampling = member.modifiers.sample_read;
                list.push(EventGroup { events: vec![member.finish()], leader_sampling, name: String::new() });
            }
            continue;
        }
        for (i, member) in members.iter_mut().enumerate() {
            let own = member.modifiers;
            let both = own.and(group.modifiers)?;
            member.modifiers = if i == 0 { both } else { both.keep_scheduling_of(&own) };
        }
        let leader_sampling = members.first().is_some_and(|m| m.modifiers.sample_read);
        let events = members.into_iter().map(resolve::Found::finish).collect();
        list.push(EventGroup { events, leader_sampling, name: group.name.to_owned() });
    }
    Ok(list)
}
