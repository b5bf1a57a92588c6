//! Stacks in the forms of other programs. Who a stack is of (domain, vCPU, thread) stays visible everywhere: as labels where
//! a form has them, as the outermost frames where it has not.
//!
//! Names are untrusted: what could act on what shows them is escaped ([`crate::Plain`]) before it is written by the rules of the form.

mod callgrind;
mod chrome;
mod firefox;
mod pprof;
mod speedscope;
mod threads;

pub use callgrind::callgrind;
pub use chrome::chrome;
pub use firefox::firefox;
pub use pprof::pprof;
pub use speedscope::speedscope;

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::{RUNNING_EVENT, STATES_EVENT, WAITING_EVENT};
use xprof_profile::profile::{EventStacks, FunctionName, Key, Stack, Stacks, Value};

use crate::plain::Plain;

/// Where stacks are from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The recording's name.
    pub title: String,
    /// The recorded machine.
    pub host: Option<String>,
    /// What was recorded, one line each (the command, the kernel), for forms that have room for it.
    pub facts: Vec<String>,
    /// ns from 1970 to 0 on the recording's clock.
    pub clock_offset: Option<u64>,
    /// From the first sample to the last, ns.
    pub duration: Option<u64>,
}

/// The unit of an event's periods, in pprof's words.
fn unit(event: &str) -> &'static str {
    let name = event.split(':').next().unwrap_or_default();
    let is_clock = ["cpu-clock", "task-clock", "off-cpu", RUNNING_EVENT, WAITING_EVENT, STATES_EVENT].contains(&name);
    if is_clock { "nanoseconds" } else { "count" }
}

/// Name of a function, escaped; where it has none its address and module.
fn name(function: &FunctionName) -> String {
    match &function.symbol {
        Value::Text(name) => Plain(name).to_string(),
        address => format!("{address} [{}]", Plain(&function.dso)),
    }
}

/// What a stack stands on: domain, vCPU and thread, outermost first.
fn outer_frames(keys: &[Key], stack: &Stack) -> impl Iterator<Item = (Key, String)> {
    keys.iter().zip(&stack.values).filter_map(|(&key, value)| match (key, value) {
        (Key::Domain | Key::Comm, Value::Text(name)) => Some((key, Plain(name).to_string())),
        (Key::Vcpu, Value::Number(vcpu @ 0..)) => Some((key, format!("vCPU {vcpu}"))),
        _ => None,
    })
}

/// Frames by number, each once: those that stacks stand on, then functions.
#[derive(Debug, Default)]
struct Outer {
    ids: FxHashMap<(Key, String), u32>,
    /// In the order of their numbers.
    list: Vec<(Key, String)>,
}

impl Outer {
    /// The number of a frame that stacks stand on.
    fn id(&mut self, frame: (Key, String)) -> u32 {
        let next = self.list.len() as u32;
        *self.ids.entry(frame).or_insert_with_key(|frame| {
            self.list.push(frame.clone());
            next
        })
    }
}

/// The frames of every stack, outermost first: numbers of `outer`, and behind them those of functions, each `functions` lower.
/// For forms without labels.
fn ways<'a>(stacks: &'a Stacks, event: &'a EventStacks, outer: &mut Outer) -> Vec<Vec<u32>> {
    let base = stacks.functions.len() as u32;
    let way = |stack: &Stack| {
        let mut way: Vec<u32> = outer_frames(&stacks.keys, stack).map(|frame| base + outer.id(frame)).collect();
        way.extend(stack.functions.iter().rev().map(|function| function.0));
        way
    };
    event.stacks.iter().map(way).collect()
}

#[cfg(test)]
mod tests;
