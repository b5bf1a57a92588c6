//! Recordings against each other: what `diff` shows.
//!
//! Rows are matched by the values of their keys. A function is known by its name and its module's file name, never by its
//! address, so that a program that was built anew is still the same; what has no name cannot be matched and is one row
//! for each module. Where one recording has no names of a module that the other has (the old program was built over), a function may hide
//! among what has none: a difference that this could make up for gets no verdict (`hidden`).

pub mod significance;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::profile::{EventProfile, FunctionName, Key, Node, Profile, Row, Unnamed, Value};
use significance::{Counts, Verdict, judge};

/// Stands for all code of a module that has no name.
pub const UNNAMED: &str = "[unnamed]";

/// What fell on a row or a node in one of the recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Samples. Of a node: of the stacks that pass it.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
    /// Periods of samples here or in something called from here (rows); periods of what ends here (nodes).
    pub other: u64,
}

impl Side {
    fn add(&mut self, other: Side) {
        self.samples += other.samples;
        self.period = self.period.saturating_add(other.period);
        self.other = self.other.saturating_add(other.other);
    }
}

/// How a row differs from what it was in the first recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Difference of the shares, -1 to 1.
    pub delta: f64,
    /// How often chance alone makes a difference as large; see [`significance`].
    pub p: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// A row in all recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedRow {
    /// One value per key.
    pub values: Vec<Value>,
    /// perf's letter of the mode the code ran in.
    pub letter: char,
    /// By recording.
    pub sides: Vec<Side>,
    /// By recording, from the second on.
    pub changes: Vec<Change>,
    /// Its call tree, if trees are asked for.
    pub nodes: Vec<ComparedNode>,
}

/// A node of a call tree in all recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedNode {
    /// The function; `None` in the node of all that the limit leaves out.
    pub function: Option<FunctionName>,
    /// By recording.
    pub sides: Vec<Side>,
    /// What comes next, by falling change.
    pub nodes: Vec<ComparedNode>,
}

/// All samples of an event in one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Samples.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
    /// See [`EventProfile::effective`].
    pub effective: u64,
    /// Records that the kernel could not store.
    pub lost: u64,
}

/// An event that all recordings have.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedEvent {
    /// Name.
    pub name: String,
    /// By recording.
    pub totals: Vec<Total>,
    /// By falling difference of shares.
    pub rows: Vec<ComparedRow>,
}

/// Recordings against the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The keys of the rows.
    pub keys: Vec<Key>,
    /// Rows are compared by what fell on them and on what they call; else by what fell on them.
    pub by_children: bool,
    /// Call trees were made.
    pub has_trees: bool,
    /// Events that all recordings have samples of.
    pub events: Vec<ComparedEvent>,
    /// Events that only some have samples of.
    pub unmatched: Vec<String>,
    /// Modules of which one recording has names, and this one (by index) has none of some samples.
    pub lacking: Vec<(usize, Unnamed)>,
}

impl Comparison {
    /// Compares profiles with the same keys; the first is what the others are held against. `limit`: nodes of call trees
    /// below this share in all recordings are put together, percent. There must be a profile.
    pub fn new(profiles: &[Profile], by_children: bool, limit: f64) -> Comparison {
        let mut comparison = Comparison {
            keys: profiles.first().map(|p| p.keys.clone()).unwrap_or_default(),
            by_children,
            has_trees: profiles.iter().any(|p| p.trees.is_some()),
            events: Vec::new(),
            unmatched: Vec::new(),
            lacking: lacking(profiles),
        };
        let sampled = |profile: &Profile, name: &str| profile.events.iter().any(|e| e.name == name && e.samples > 0);
        for name in profiles.iter().flat_map(|p| p.events.iter().map(|e| e.name.as_str())) {
            let known =
                comparison.events.iter().any(|e| e.name == name) || comparison.unmatched.iter().any(|n| n == name);
            let of_event = |p| profiles.iter().filter(|profile| sampled(profile, name)).count() == p;
            if known || of_event(0) {
                continue;
            }
            if of_event(profiles.len()) {
                comparison.add_event(name, profiles, limit);
            } else {
                comparison.unmatched.push(name.to_owned());
            }
        }
        comparison
    }

    fn add_event(&mut self, name: &str, profiles: &[Profile], limit: f64) {
        let events: Vec<&EventProfile> =
            profiles.iter().filter_map(|profile| profile.events.iter().find(|event| event.name == name)).collect();
        let totals: Vec<Total> = events
            .iter()
            .map(|e| Total { samples: e.samples, period: e.period, effective: e.effective, lost: e.lost })
            .collect();
        let mut index: FxHashMap<Vec<Value>, usize> = FxHashMap::default();
        let mut rows: Vec<ComparedRow> = Vec::new();
        // The rows that each compared row is made of, by recording: for their trees.
        let mut parts: Vec<Vec<Vec<&Row>>> = Vec::new();
        for (side, event) in events.iter().enumerate() {
            for row in &event.rows {
                let values = matched(&self.keys, &row.values);
                let at = *index.entry(values).or_insert_with_key(|values| {
                    rows.push(ComparedRow {
                        values: values.clone(),
                        letter: row.letter,
                        sides: vec![Side::default(); events.len()],
                        changes: Vec::new(),
                        nodes: Vec::new(),
                    });
                    parts.push(vec![Vec::new(); events.len()]);
                    rows.len() - 1
                });
                rows[at].sides[side].add(Side { samples: row.samples, period: row.period, other: row.children });
                parts[at][side].push(row);
            }
        }
        if self.has_trees {
            let merge = Merge { profiles, totals: &totals, limit: limit / 100.0 };
            for (row, parts) in rows.iter_mut().zip(&parts) {
                row.nodes =
                    merge.nodes(parts.iter().map(|rows| rows.iter().flat_map(|r| &r.nodes).collect()).collect());
            }
        }
        let weight = |side: &Side| if self.by_children { side.other } else { side.period };
        for side in 1..totals.len() {
            let all = [totals[0], totals[side]];
            let counts: Vec<Counts> = rows
                .iter()
                .map(|row| {
                    let sides = [row.sides[0], row.sides[side]].map(|side| weight(&side));
                    let count = |i: usize| (share(sides[i], all[i].period) * all[i].effective as f64).round() as u64;
                    let all = all.map(|total| total.effective);
                    Counts { row: [count(0).min(all[0]), count(1).min(all[1])], all }
                })
                .collect();
            let mut judged = judge(&counts);
            self.hidden(&rows, &counts, side, &mut judged);
            for (row, (p, verdict)) in rows.iter_mut().zip(judged) {
                let now = share(weight(&row.sides[side]), all[1].period);
                let delta = now - share(weight(&row.sides[0]), all[0].period);
                row.changes.push(Change { delta, p, verdict });
            }
        }
        rows.sort_by(|a, b| {
            let largest = |row: &ComparedRow| row.changes.iter().map(|c| c.delta.abs()).fold(0.0, f64::max);
            largest(b).total_cmp(&largest(a)).then_with(|| a.values.cmp(&b.values))
        });
        self.events.push(ComparedEvent { name: name.to_owned(), totals, rows });
    }
}

impl Comparison {
    /// Takes back the verdicts that code without names could make up for, in modules that one of the recordings 0 and `side` has no names
    /// of: what it has without names more than the other may be any function there.
    fn hidden(&self, rows: &[ComparedRow], counts: &[Counts], side: usize, judged: &mut [(f64, Verdict)]) {
        let Some(symbol) = self.keys.iter().position(|key| *key == Key::Symbol) else { return };
        let dso = self.keys.iter().position(|key| *key == Key::Dso);
        let lacking: Vec<&str> =
            self.lacking.iter().filter(|(at, _)| *at == 0 || *at == side).map(|(_, module)| &*module.dso).collect();
        if lacking.is_empty() {
            return;
        }
        let is_unnamed = |row: &ComparedRow| matches!(&row.values[symbol], Value::Text(name) if **name == *UNNAMED);
        let group = |row: &ComparedRow| {
            let mut values = row.values.clone();
            values.remove(symbol);
            values
        };
        // By group: the shares without names and with, old and new.
        let mut groups: FxHashMap<Vec<Value>, [[f64; 2]; 2]> = FxHashMap::default();
        for (row, counts) in rows.iter().zip(counts) {
            let sums = &mut groups.entry(group(row)).or_default()[usize::from(!is_unnamed(row))];
            for (sum, (&part, &all)) in sums.iter_mut().zip(counts.row.iter().zip(&counts.all)) {
                let share = share(part, all);
                // What functions have with all that they call is no sum.
                *sum = if self.by_children { sum.max(share) } else { *sum + share };
            }
        }
        for ((row, counts), (_, verdict)) in rows.iter().zip(counts).zip(judged) {
            let is_lacking = |dso: usize| matches!(&row.values[dso], Value::Text(name) if lacking.contains(&&**name));
            if !matches!(verdict, Verdict::Grew | Verdict::Shrank) || !dso.is_none_or(is_lacking) {
                continue;
            }
            // What has no names may have them on the other side.
            let others = groups.get(&group(row)).map_or([0.0; 2], |sums| sums[usize::from(is_unnamed(row))]);
            if !counts.holds_with([others[0] - others[1], others[1] - others[0]]) {
                *verdict = Verdict::NoNames;
            }
        }
    }

    /// Whether a row has no verdict for want of names.
    pub fn lacks_names(&self) -> bool {
        let mut changes = self.events.iter().flat_map(|event| &event.rows).flat_map(|row| &row.changes);
        changes.any(|change| change.verdict == Verdict::NoNames)
    }
}

/// Modules that have samples without names in a recording, and others, or another build, in the one that it is held against.
fn lacking(profiles: &[Profile]) -> Vec<(usize, Unnamed)> {
    let Some((first, others)) = profiles.split_first() else { return Vec::new() };
    let is_in = |module: &Unnamed, profile: &Profile| {
        profile.unnamed.iter().any(|other| (&other.dso, &other.build_id) == (&module.dso, &module.build_id))
    };
    let mut list: Vec<(usize, Unnamed)> = Vec::new();
    let of_first = first.unnamed.iter().filter(|module| others.iter().any(|other| !is_in(module, other)));
    list.extend(of_first.map(|module| (0, module.clone())));
    for (at, other) in (1..).zip(others) {
        list.extend(other.unnamed.iter().filter(|module| !is_in(module, first)).map(|module| (at, module.clone())));
    }
    list
}

/// `part` of `whole`, 0 to 1; 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The values that rows are matched by.
fn matched(keys: &[Key], values: &[Value]) -> Vec<Value> {
    let one = |(key, value): (&Key, &Value)| match value {
        Value::Address(_) if *key == Key::Symbol => Value::Text(UNNAMED.into()),
        Value::Text(name) if *key == Key::Symbol => Value::Text(stable(name)),
        value => value.clone(),
    };
    keys.iter().zip(values).map(one).collect()
}

/// The name without the numbers that every build deals out anew (clang's `.llvm.123`, GCC's `.lto_priv.0`).
fn stable(name: &Arc<str>) -> Arc<str> {
    for mark in [".llvm.", ".lto_priv."] {
        if let Some((before, number)) = name.rsplit_once(mark)
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            return before.into();
        }
    }
    name.clone()
}

/// Puts call trees of several recordings together.
struct Merge<'a> {
    profiles: &'a [Profile],
    totals: &'a [Total],
    /// 0 to 1.
    limit: f64,
}

impl Merge<'_> {
    /// The nodes of one level, by recording.
    fn nodes(&self, level: Vec<Vec<&Node>>) -> Vec<ComparedNode> {
        let none = || vec![Side::default(); self.totals.len()];
        let mut index: FxHashMap<(Value, Arc<str>, bool), usize> = FxHashMap::default();
        let mut found: Vec<(ComparedNode, Vec<Vec<&Node>>)> = Vec::new();
        for (side, nodes) in level.iter().enumerate() {
            for node in nodes {
                let functions = self.profiles.get(side).map_or(&[][..], |profile| &profile.functions);
                let Some(function) = node.function.and_then(|f| functions.get(f.0 as usize)) else { continue };
                let symbol = match &function.symbol {
                    Value::Text(name) => Value::Text(stable(name)),
                    _ => Value::Text(UNNAMED.into()),
                };
                let at = *index.entry((symbol.clone(), function.dso.clone(), function.inlined)).or_insert_with(|| {
                    let function = FunctionName { symbol, ..function.clone() };
                    let node = ComparedNode { function: Some(function), sides: none(), nodes: Vec::new() };
                    found.push((node, vec![Vec::new(); self.totals.len()]));
                    found.len() - 1
                });
                let (merged, below) = &mut found[at];
                merged.sides[side].add(Side { samples: node.samples, period: node.period, other: node.own });
                below[side].extend(&node.nodes);
            }
        }
        let mut rest = ComparedNode { function: None, sides: none(), nodes: Vec::new() };
        let mut merged = Vec::new();
        for (mut node, below) in found {
            if self.shares(&node).fold(0.0, f64::max) < self.limit {
                rest.sides.iter_mut().zip(&node.sides).for_each(|(sum, side)| sum.add(*side));
            } else {
                node.nodes = self.nodes(below);
                merged.push(node);
            }
        }
        merged.sort_by(|a, b| self.change(b).total_cmp(&self.change(a)));
        if rest.sides.iter().any(|side| side.samples > 0) {
            merged.push(rest);
        }
        merged
    }

    fn shares(&self, node: &ComparedNode) -> impl Iterator<Item = f64> {
        node.sides.iter().zip(self.totals).map(|(side, total)| share(side.period, total.period))
    }

    /// The largest change of a node's share.
    fn change(&self, node: &ComparedNode) -> f64 {
        let before = self.shares(node).next().unwrap_or(0.0);
        self.shares(node).map(|now| (now - before).abs()).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests;
