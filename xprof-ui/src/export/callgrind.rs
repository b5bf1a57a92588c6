//! callgrind's form (valgrind.org, "Callgrind Format Specification"), for kcachegrind and callgrind_annotate.
//!
//! It knows functions and calls, no stacks: a function has what fell in it, and a call what fell below it. A call that recurs
//! in a stack counts once. How often a call was made no sample tells: all stand with `calls=1`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use rustc_hash::FxHashSet;
use xprof_profile::profile::{EventStacks, Key, Stacks};

use super::{Outer, Source, name, ways};
use crate::plain::Plain;

/// What a function has, by event.
type Costs = Vec<u64>;

#[derive(Debug, Default)]
struct Function {
    own: Costs,
    /// By callee.
    calls: BTreeMap<u32, Costs>,
}

/// Writes the functions and calls of events, each event a column.
pub fn callgrind(stacks: &Stacks, events: &[&EventStacks], source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let mut outer = Outer::default();
    let mut functions: BTreeMap<u32, Function> = BTreeMap::new();
    let none = || vec![0u64; events.len()];
    let add = |costs: &mut Costs, at: usize, period: u64| {
        costs.resize(events.len(), 0);
        costs[at] = costs[at].saturating_add(period);
    };
    let mut totals = none();
    let mut seen = FxHashSet::default();
    for (at, event) in events.iter().enumerate() {
        for (way, stack) in ways(stacks, event, &mut outer).iter().zip(&event.stacks) {
            add(&mut totals, at, stack.period);
            seen.clear();
            for pair in way.windows(2) {
                if let &[caller, callee] = pair
                    && seen.insert((caller, callee))
                {
                    let calls = &mut functions.entry(caller).or_default().calls;
                    add(calls.entry(callee).or_default(), at, stack.period);
                }
            }
            if let Some(&leaf) = way.last() {
                add(&mut functions.entry(leaf).or_default().own, at, stack.period);
            }
        }
    }
    let names: Vec<String> = events.iter().map(|event| word(&event.name)).collect();
    writeln!(out, "# callgrind format\nversion: 1\ncreator: xprof")?;
    writeln!(out, "cmd: {}", Plain(&source.title))?;
    let host = source.host.as_ref().map(|host| format!("host: {host}"));
    for fact in host.iter().chain(&source.facts) {
        writeln!(out, "desc: {}", Plain(fact))?;
    }
    writeln!(out, "positions: line\nevents: {}\nsummary: {}\n", names.join(" "), numbers(&totals))?;
    let mut names = Names { stacks, outer: &outer, said: FxHashSet::default() };
    for (&id, function) in &functions {
        names.write(id, ("ob", "fl", "fn"), out)?;
        let own = if function.own.is_empty() { none() } else { function.own.clone() };
        writeln!(out, "0 {}", numbers(&own))?;
        for (&callee, costs) in &function.calls {
            names.write(callee, ("cob", "cfi", "cfn"), out)?;
            writeln!(out, "calls=1 0\n0 {}", numbers(costs))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "totals: {}", numbers(&totals))
}

fn numbers(costs: &[u64]) -> String {
    costs.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// An event's name as one word of letters, digits and what else may stand in it.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.:/".contains(c) { c } else { '_' }).collect()
}

/// Writes names, each once; afterwards their numbers stand for them.
struct Names<'a> {
    stacks: &'a Stacks,
    outer: &'a Outer,
    said: FxHashSet<u32>,
}

impl Names<'_> {
    /// A function: its module and its name, under these words. No source file is known, which is `???`; what stands there for
    /// domains, vCPUs and threads keeps them apart from functions of the same name.
    fn write(&mut self, id: u32, (object, file, function): (&str, &str, &str), out: &mut dyn Write) -> io::Result<()> {
        let (path, source, name) = match self.stacks.functions.get(id as usize) {
            Some(function) => (Plain(&function.path).to_string(), "???".into(), name(function)),
            None => {
                let at = (id as usize).saturating_sub(self.stacks.functions.len());
                let frame = self.outer.list.get(at);
                let kind = frame.map_or("", |(key, _)| if *key == Key::Comm { "thread" } else { key.name() });
                (format!("[{kind}]"), format!("[{kind}]"), frame.map_or(String::new(), |(_, name)| name.clone()))
            }
        };
        writeln!(out, "{object}={path}\n{file}={source}")?;
        if self.said.insert(id) {
            writeln!(out, "{function}=({}) {name}", id + 1)
        } else {
            writeln!(out, "{function}=({})", id + 1)
        }
    }
}
