//! callgrind's form (valgrind.org, "Callgrind Format Specification"), for kcachegrind and callgrind_annotate.
//!
//! It knows functions, their source lines and calls, no stacks: a line has what fell on it, and a call what fell below it. A call that
//! recurs in a stack counts once. How often a call was made no sample tells: all stand with `calls=1`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_profile::profile::{EventStacks, Key, Located, Stacks};

use super::{Outer, Source, name, outer_frames};
use crate::plain::Plain;

/// Periods, by event.
type Costs = Vec<u64>;

/// A source file and a line of it (0: not known).
type Place = (Option<Arc<str>>, u32);

#[derive(Debug, Default)]
struct Function {
    own: BTreeMap<Place, Costs>,
    /// By the line that calls, and the callee.
    calls: BTreeMap<(Place, u32), Costs>,
}

impl Function {
    /// The file that it is in: that of its heaviest line, which is its own but for code that was put into it from elsewhere.
    fn file(&self) -> Option<&Arc<str>> {
        let own = self.own.iter().map(|((file, _), costs)| (file, costs));
        let all = own.chain(self.calls.iter().map(|(((file, _), _), costs)| (file, costs)));
        let mut files: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
        for (file, costs) in all.filter_map(|(file, costs)| Some((file.as_ref()?, costs))) {
            let sum = files.entry(file).or_default();
            *sum = costs.iter().fold(*sum, |sum, cost| sum.saturating_add(*cost));
        }
        files.into_iter().max_by_key(|&(_, cost)| cost).map(|(file, _)| file)
    }
}

/// Writes the functions and calls of events (of `located`, by index), each event a column.
pub fn callgrind(located: &Located, events: &[usize], source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let stacks = &located.stacks;
    let events: Vec<(&EventStacks, &[Vec<u32>])> = events
        .iter()
        .filter_map(|&at| Some((stacks.events.get(at)?, located.of_stacks.get(at).map_or(&[][..], Vec::as_slice))))
        .collect();
    let mut outer = Outer::default();
    let mut functions: BTreeMap<u32, Function> = BTreeMap::new();
    let none = || vec![0u64; events.len()];
    let add = |costs: &mut Costs, at: usize, period: u64| {
        costs.resize(events.len(), 0);
        costs[at] = costs[at].saturating_add(period);
    };
    let mut totals = none();
    let mut seen = FxHashSet::default();
    let mut way: Vec<(u32, Place)> = Vec::new();
    for (at, (event, ways)) in events.iter().enumerate() {
        for (stack, frames) in event.stacks.iter().zip(*ways) {
            add(&mut totals, at, stack.period);
            way.clear();
            let base = stacks.functions.len() as u32;
            way.extend(outer_frames(&stacks.keys, stack).map(|frame| (base + outer.id(frame), Place::default())));
            let frames = frames.iter().rev().filter_map(|&frame| located.frames.get(frame as usize));
            way.extend(frames.flat_map(|frame| frame.functions.iter().rev()).map(|(function, place)| {
                let place = place.as_ref().map_or(Place::default(), |(file, line)| (Some(file.clone()), *line));
                (function.0, place)
            }));
            seen.clear();
            for pair in way.windows(2) {
                if let [(caller, place), (callee, _)] = pair
                    && seen.insert((*caller, *callee))
                {
                    let calls = &mut functions.entry(*caller).or_default().calls;
                    add(calls.entry((place.clone(), *callee)).or_default(), at, stack.period);
                }
            }
            if let Some((leaf, place)) = way.last() {
                add(functions.entry(*leaf).or_default().own.entry(place.clone()).or_default(), at, stack.period);
            }
        }
    }
    let names: Vec<String> = events.iter().map(|(event, _)| word(&event.name)).collect();
    writeln!(out, "# callgrind format\nversion: 1\ncreator: xprof")?;
    writeln!(out, "cmd: {}", Plain(&source.title))?;
    let host = source.host.as_ref().map(|host| format!("host: {host}"));
    for fact in host.iter().chain(&source.facts) {
        writeln!(out, "desc: {}", Plain(fact))?;
    }
    writeln!(out, "positions: line\nevents: {}\nsummary: {}\n", names.join(" "), numbers(&totals))?;
    let files = functions.iter().filter_map(|(&id, function)| Some((id, function.file()?.clone()))).collect();
    let mut names = Names { stacks, outer: &outer, files, said: FxHashSet::default() };
    for (&id, function) in &functions {
        names.write(id, ("ob", "fl", "fn"), out)?;
        if function.own.is_empty() {
            writeln!(out, "0 {}", numbers(&none()))?;
        }
        let mut file = function.file();
        for (place, costs) in &function.own {
            enter(&mut file, place, out)?;
            writeln!(out, "{} {}", place.1, numbers(costs))?;
        }
        for ((place, callee), costs) in &function.calls {
            enter(&mut file, place, out)?;
            names.write(*callee, ("cob", "cfi", "cfn"), out)?;
            writeln!(out, "calls=1 0\n{} {}", place.1, numbers(costs))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "totals: {}", numbers(&totals))
}

/// The lines to come are of the file of this place. One that is not known is line 0 of whichever file it is.
fn enter<'a>(file: &mut Option<&'a Arc<str>>, place: &'a Place, out: &mut dyn Write) -> io::Result<()> {
    match &place.0 {
        Some(next) if *file != Some(next) => {
            *file = Some(next);
            writeln!(out, "fi={}", Plain(next))
        }
        _ => Ok(()),
    }
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
    /// By function: the source file it is in.
    files: FxHashMap<u32, Arc<str>>,
    said: FxHashSet<u32>,
}

impl Names<'_> {
    /// A function: its module, its source file (`???`: not known) and its name, under these words. What stands there for domains,
    /// vCPUs and threads keeps them apart from functions of the same name.
    fn write(&mut self, id: u32, (object, file, function): (&str, &str, &str), out: &mut dyn Write) -> io::Result<()> {
        let (path, source, name) = match self.stacks.functions.get(id as usize) {
            Some(function) => {
                let file = self.files.get(&id).map_or_else(|| "???".into(), |file| Plain(file).to_string());
                (Plain(&function.path).to_string(), file, name(function))
            }
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
