//! What a recording says of itself beside its records: the machine, the command line, groups, clock, tracepoints.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use xprof_backend::machine::Machine;
use xprof_backend::sys::clock;
use xprof_backend::{Description, event, proc};
use xprof_perfdata::domain::{RUNNING_EVENT, STATES_EVENT, WAITING_EVENT};
use xprof_perfdata::feature::{ClockData, Features, GroupDesc};

use super::plan::Recording;

/// perf's version is that of the kernel it comes with, and hotspot asks it whether rounds are marked: ours begins with
/// the kernel whose headers we use.
const VERSION: &str = concat!("7.1.xprof-", env!("CARGO_PKG_VERSION"));
/// perf's name for a group without one.
const UNNAMED_GROUP: &str = "{anon_group}";

/// Everything that is known before the first record.
pub(crate) fn features(machine: &Machine, session: &Description, recording: &Recording) -> anyhow::Result<Features> {
    let groups = &recording.plan.events;
    let specs = groups.iter().flat_map(|group| &group.events);
    let mut features = proc::facts(machine);
    features.tracing_data = proc::tracing_data(machine, specs).context("cannot describe the tracepoints")?;
    features.version = Some(VERSION.into());
    features.cmdline = command_line();
    features.group_desc = group_desc(groups, first_asked(session));
    features.clock_data = session.clockid.and_then(clock_data);
    // No CLOCKID: the attrs name the clock, CLOCK_DATA places it, and hotspot warns of the section.
    Ok(features)
}

/// What is known of a recording that is of no machine.
pub(crate) fn of_nowhere(recording: &Recording) -> Features {
    Features {
        version: Some(VERSION.into()),
        cmdline: command_line(),
        group_desc: group_desc(&recording.plan.events, 0),
        ..Features::default()
    }
}

fn command_line() -> Vec<String> {
    std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect()
}

/// Index of the first event that was asked for: those of domains stand in front.
fn first_asked(session: &Description) -> u32 {
    let of_domains = |name: &str| matches!(name, RUNNING_EVENT | WAITING_EVENT | STATES_EVENT);
    session.events.list().iter().take_while(|event| of_domains(&event.name)).count() as u32
}

/// The groups of more than one event, by the index of their leader; `leader` is the first group's.
fn group_desc(groups: &[event::EventGroup], mut leader: u32) -> Vec<GroupDesc> {
    let mut list = Vec::new();
    for group in groups {
        let members = u32::try_from(group.events.len()).unwrap_or(u32::MAX);
        if members > 1 {
            let named = !group.name.is_empty() && !group.name.starts_with('{');
            let name = if named { group.name.clone() } else { UNNAMED_GROUP.into() };
            list.push(GroupDesc { name, leader, members });
        }
        leader = leader.saturating_add(members);
    }
    list
}

/// The clock of the samples and the wall clock at one instant.
fn clock_data(clockid: i32) -> Option<ClockData> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let clock_ns = clock::now(clockid).ok()?;
    Some(ClockData { clockid: u32::try_from(clockid).ok()?, wall_ns: u64::try_from(wall.as_nanos()).ok()?, clock_ns })
}
