//! From cells to named stacks: what exports are made of.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Sum};
use super::fold::Fold;
use super::frames::{ByHash, CallersId, ChainHash, FrameId, StackId, hash_of};
use super::key::{Key, Value};
use super::names::{FunctionId, FunctionName, Names, Wanted};
use super::rows::Unnamed;
use super::times::Times;
use crate::symbols::Symbolizer;
use crate::timeline::ModuleId;

/// All that fell on one stack, of one thread name or whatever the keys tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// One value per key.
    pub values: Vec<Value>,
    /// Functions, leaf first; never empty.
    pub functions: Vec<FunctionId>,
    /// Samples.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// ns on the recording's clock.
    pub time: u64,
    /// Its period (events).
    pub period: u64,
    /// Index of its stack.
    pub stack: u32,
}

/// The stacks of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventStacks {
    /// Name.
    pub name: String,
    /// In order of their first samples.
    pub stacks: Vec<Stack>,
    /// The samples in order of time; empty without [`Builder::keep_times`].
    pub samples: Vec<Timed>,
}

/// The stacks of a recording.
#[derive(Clone, Debug)]
pub struct Stacks {
    /// The keys of the stacks' values.
    pub keys: Vec<Key>,
    /// Functions, by id.
    pub functions: Vec<FunctionName>,
    /// By event, in file order.
    pub events: Vec<EventStacks>,
    /// Modules without names, the heaviest first.
    pub unnamed: Vec<Unnamed>,
    /// Records that could not be decoded.
    pub damaged: u64,
    /// Samples whose times there was no room for: the last ones of a very long recording.
    pub untimed: u64,
}

impl Builder {
    /// Names the frames and gives the stacks one by one; `inline`: with functions that were compiled into others.
    pub fn stacks(&mut self, events: &Events, symbolizer: &Symbolizer, inline: bool) -> Stacks {
        self.adopt_kernel(symbolizer);
        let names = self.names(symbolizer, Wanted { inlined: inline, ..Wanted::default() });
        self.stacks_of((events, &names, true), [self.cells.list()], (&self.keys, &[]), |_, _| ())
    }

    /// The stacks of cells, by keys, of those of which something holds. `each` is told of every stack that is added, with the event it
    /// is added to and its frames, leaf first.
    pub(super) fn stacks_of<'a>(
        &self,
        (events, names, inline): (&Events, &Names, bool),
        cells: impl IntoIterator<Item = &'a [(Cell, Sum)]>,
        (keys, within): (&[Key], &[(Key, Value)]),
        mut each: impl FnMut(usize, &[FrameId]),
    ) -> Stacks {
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold = Fold::new((self, keys), &domains, names, &event_names).inlined(inline);
        let mut lists: Vec<EventStacks> = events
            .list()
            .iter()
            .map(|e| EventStacks { name: e.name.clone(), stacks: Vec::new(), samples: Vec::new() })
            .collect();
        // By cell: its event, and the index of its stack.
        let mut stack_of: Vec<Option<(u32, u32)>> = Vec::new();
        let mut unnamed: FxHashMap<ModuleId, u64> = FxHashMap::default();
        // Addresses are many, functions few: by what makes a stack, its index.
        let by_address = keys.iter().any(|key| matches!(key, Key::Addr | Key::Srcline));
        let is_located = names.is_located();
        let mut known: ByHash<u32> = ByHash::default();
        let mut of_callers: FxHashMap<CallersId, ChainHash> = FxHashMap::default();
        let mut numbers: Vec<u32> = Vec::new();
        for &(ref cell, Sum { samples, period }) in cells.into_iter().flatten() {
            stack_of.push(None);
            let Some(event) = lists.get_mut(cell.event as usize).filter(|_| self.takes(names, cell)) else { continue };
            if !fold.is_within(cell, within) {
                continue;
            }
            let own = [FrameId(cell.frame)];
            let frames = match self.frames.frames_of(StackId(cell.stack)) {
                [] => &own,
                frames => frames,
            };
            if names.name(own[0]).is_none() {
                *unnamed.entry(self.frames.place(own[0]).module).or_default() += samples;
            }
            let mut hash = |frames: &[FrameId], more: &[u32], seed| {
                numbers.clear();
                for &frame in frames {
                    if is_located {
                        numbers.push(frame.0);
                        continue;
                    }
                    let (inlined, function) = names.code(frame, inline);
                    numbers.extend(inlined.iter().map(|function| function.0));
                    numbers.push(function.0);
                }
                numbers.extend_from_slice(more);
                hash_of(&numbers, seed)
            };
            let (leaf, callers) = frames.split_at(1);
            let callers = *of_callers
                .entry(self.frames.callers_of(StackId(cell.stack)))
                .or_insert_with(|| hash(callers, &[], ChainHash::default()));
            let frame = if by_address { cell.frame } else { 0 };
            let spot = fold.spot(cell).cell.numbers();
            let key = hash(leaf, &[&spot[..], &[cell.event, frame]].concat(), callers);
            let next = event.stacks.len() as u32;
            let index = *known.entry(key).or_insert(next);
            if let Some(stack_of) = stack_of.last_mut() {
                *stack_of = Some((cell.event, index));
            }
            if let Some(stack) = event.stacks.get_mut(index as usize) {
                stack.samples += samples;
                stack.period = stack.period.saturating_add(period);
                continue;
            }
            let mut functions = Vec::with_capacity(frames.len());
            for &frame in frames {
                let (inlined, function) = names.code(frame, inline);
                functions.extend_from_slice(inlined);
                functions.push(function);
            }
            each(cell.event as usize, frames);
            event.stacks.push(Stack { values: fold.values(cell, own[0], None), functions, samples, period });
        }
        for sample in self.times.iter().flat_map(Times::list) {
            if let Some((event, stack)) = stack_of.get(sample.cell as usize).copied().flatten()
                && let Some(list) = lists.get_mut(event as usize)
            {
                list.samples.push(Timed { time: sample.time, period: sample.period, stack });
            }
        }
        Stacks {
            keys: keys.to_vec(),
            functions: self.function_names(names),
            events: lists,
            unnamed: self.advice(names, unnamed),
            damaged: self.damaged,
            untimed: self.times.as_ref().map_or(0, Times::left_out),
        }
    }
}
