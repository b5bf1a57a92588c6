//! pprof's profile.proto (github.com/google/pprof, proto/profile.proto), not yet compressed.
//!
//! The schema is eight small messages of numbers and strings: writing them takes less than declaring them to a library would.
//! Functions stand without addresses, one location for each function with what was compiled into it, so that two samples
//! with the same functions are one.

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, FunctionId, Key, Stacks, Value};

use super::{Source, name, unit};
use crate::plain::Plain;

/// Field numbers of `Profile`.
mod profile {
    pub(super) const SAMPLE_TYPE: u32 = 1;
    pub(super) const SAMPLE: u32 = 2;
    pub(super) const MAPPING: u32 = 3;
    pub(super) const LOCATION: u32 = 4;
    pub(super) const FUNCTION: u32 = 5;
    pub(super) const STRING_TABLE: u32 = 6;
    pub(super) const DURATION_NANOS: u32 = 10;
    pub(super) const PERIOD_TYPE: u32 = 11;
    pub(super) const COMMENT: u32 = 13;
    pub(super) const DEFAULT_SAMPLE_TYPE: u32 = 14;
}

/// One message under way: fields by number.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number; 0 is what is not written.
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Numbers of a repeated field.
    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64>) {
        let mut packed = Message::default();
        values.for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }
}

/// The string table.
struct Strings {
    ids: FxHashMap<String, u64>,
    list: Vec<String>,
}

impl Strings {
    fn id(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.list.len() as u64;
        self.list.push(text.to_owned());
        self.ids.insert(text.to_owned(), id);
        id
    }
}

/// Draws the stacks of events, with labels named as the keys. Each event has two values: its samples and their periods.
pub fn pprof(stacks: &Stacks, events: &[&EventStacks], source: &Source) -> Vec<u8> {
    let mut out = Message::default();
    let mut strings = Strings { ids: FxHashMap::default(), list: Vec::new() };
    strings.id("");
    for event in events {
        let count = if events.len() == 1 { "samples".to_owned() } else { format!("{}_samples", event.name) };
        for (kind, unit) in [(&*count, "count"), (&*event.name, unit(&event.name))] {
            let message = value_type(&mut strings, kind, unit);
            out.bytes(profile::SAMPLE_TYPE, &message.0);
        }
    }
    let mut locations = Locations::default();
    for (index, event) in events.iter().enumerate() {
        samples(stacks, event, (index, events.len()), (&mut strings, &mut locations), &mut out);
    }
    // The first mapping is taken for the program's: it is where most fell.
    let mut mappings: FxHashMap<&str, u64> = FxHashMap::default();
    let paths = heaviest(stacks, events).into_iter().chain(stacks.functions.iter().map(|function| &*function.path));
    for path in paths {
        let next = mappings.len() as u64 + 1;
        if *mappings.entry(path).or_insert(next) == next {
            let mut message = Message::default();
            message.number(1, next);
            message.number(5, strings.id(&Plain(path).to_string()));
            // has_functions, has_inline_frames: all that is known is in here.
            message.number(7, 1);
            message.number(10, 1);
            out.bytes(profile::MAPPING, &message.0);
        }
    }
    for (index, function) in stacks.functions.iter().enumerate() {
        let mut message = Message::default();
        message.number(1, index as u64 + 1);
        let name = strings.id(&name(function));
        message.number(2, name);
        message.number(3, name);
        out.bytes(profile::FUNCTION, &message.0);
    }
    for (functions, id) in &locations.ids {
        let mut message = Message::default();
        message.number(1, *id);
        let outermost = functions.last().and_then(|function| stacks.functions.get(function.0 as usize));
        message.number(2, outermost.and_then(|function| mappings.get(&*function.path)).copied().unwrap_or(0));
        for function in functions {
            let mut line = Message::default();
            line.number(1, u64::from(function.0) + 1);
            message.bytes(4, &line.0);
        }
        out.bytes(profile::LOCATION, &message.0);
    }
    out.number(profile::DURATION_NANOS, source.duration.unwrap_or(0));
    if let Some(event) = events.first() {
        let message = value_type(&mut strings, &event.name, unit(&event.name));
        out.bytes(profile::PERIOD_TYPE, &message.0);
        out.number(profile::DEFAULT_SAMPLE_TYPE, strings.id(&event.name));
    }
    let host = source.host.as_ref().map(|host| format!("host: {host}"));
    let comments = host.iter().chain(&source.facts).map(|fact| strings.id(&Plain(fact).to_string()));
    let comments: Vec<u64> = comments.collect();
    out.packed(profile::COMMENT, comments.into_iter());
    for text in &strings.list {
        out.bytes(profile::STRING_TABLE, text.as_bytes());
    }
    out.0
}

/// The module that most periods fell in.
fn heaviest<'a>(stacks: &'a Stacks, events: &[&EventStacks]) -> Option<&'a str> {
    let mut periods: FxHashMap<&str, u64> = FxHashMap::default();
    for stack in events.iter().flat_map(|event| &event.stacks) {
        let leaf = stack.functions.first().and_then(|function| stacks.functions.get(function.0 as usize));
        if let Some(function) = leaf.filter(|function| function.path.starts_with('/')) {
            let period = periods.entry(&*function.path).or_default();
            *period = period.saturating_add(stack.period);
        }
    }
    periods.into_iter().max_by_key(|&(path, period)| (period, path)).map(|(path, _)| path)
}

fn value_type(strings: &mut Strings, kind: &str, unit: &str) -> Message {
    let mut message = Message::default();
    message.number(1, strings.id(&Plain(kind).to_string()));
    message.number(2, strings.id(unit));
    message
}

/// A function with what was compiled into it, innermost first, by number.
#[derive(Default)]
struct Locations {
    ids: FxHashMap<Vec<FunctionId>, u64>,
}

fn samples(
    stacks: &Stacks,
    event: &EventStacks,
    (index, count): (usize, usize),
    (strings, locations): (&mut Strings, &mut Locations),
    out: &mut Message,
) {
    let keys: Vec<(Key, u64)> = stacks.keys.iter().map(|&key| (key, strings.id(key.name()))).collect();
    let is_inlined = |id: FunctionId| stacks.functions.get(id.0 as usize).is_some_and(|function| function.inlined);
    let mut way = Vec::new();
    for stack in &event.stacks {
        let mut message = Message::default();
        way.clear();
        for functions in stack.functions.chunk_by(|&inner, _| is_inlined(inner)) {
            let next = locations.ids.len() as u64 + 1;
            let id = match locations.ids.get(functions) {
                Some(&id) => id,
                None => {
                    locations.ids.insert(functions.to_vec(), next);
                    next
                }
            };
            way.push(id);
        }
        message.packed(1, way.iter().copied());
        let values = (0..count * 2).map(|at| match at {
            at if at == index * 2 => stack.samples,
            at if at == index * 2 + 1 => stack.period.min(i64::MAX as u64),
            _ => 0,
        });
        message.packed(2, values);
        for (&(key, name), value) in keys.iter().zip(&stack.values) {
            let mut label = Message::default();
            label.number(1, name);
            match (key, value) {
                (Key::Symbol, _) | (_, Value::Number(..0) | Value::Address(_)) => continue,
                (_, Value::Text(text)) => label.number(2, strings.id(&Plain(text).to_string())),
                (_, Value::Number(number)) => label.number(3, *number as u64),
            }
            message.bytes(3, &label.0);
        }
        out.bytes(profile::SAMPLE, &message.0);
    }
}
