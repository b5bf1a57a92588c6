//! pprof's profile.proto (github.com/google/pprof, proto/profile.proto), not yet compressed.
//!
//! The schema is eight small messages of numbers and strings: writing them takes less than declaring them to a library would.
//! A location is a code address, with the functions that are there and their source lines. pprof takes addresses apart by the program
//! headers of the file that a mapping names: ours are the file's own, so that it adds nothing to them.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, FunctionId, Key, Located, Stacks, Value};

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

/// Draws the stacks of events (of `located`, by index), with labels named as the keys. Each event has two values: its samples and
/// their periods.
pub fn pprof(located: &Located, events: &[usize], source: &Source) -> Vec<u8> {
    let stacks = &located.stacks;
    let events: Vec<(&EventStacks, &[Vec<u32>])> = events
        .iter()
        .filter_map(|&at| Some((stacks.events.get(at)?, located.of_stacks.get(at).map_or(&[][..], Vec::as_slice))))
        .collect();
    let mut out = Message::default();
    let mut strings = Strings { ids: FxHashMap::default(), list: Vec::new() };
    strings.id("");
    for (event, _) in &events {
        let count = if events.len() == 1 { "samples".to_owned() } else { format!("{}_samples", event.name) };
        for (kind, unit) in [(&*count, "count"), (&*event.name, unit(&event.name))] {
            let message = value_type(&mut strings, kind, unit);
            out.bytes(profile::SAMPLE_TYPE, &message.0);
        }
    }
    for (index, (event, ways)) in events.iter().enumerate() {
        samples(stacks, (event, ways), (index, events.len()), &mut strings, &mut out);
    }
    code(located, &events, &mut strings, &mut out);
    out.number(profile::DURATION_NANOS, source.duration.unwrap_or(0));
    if let Some((event, _)) = events.first() {
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

/// Writes mappings, locations and functions. Numbers of messages are those of the lists, from 1.
fn code(located: &Located, events: &[(&EventStacks, &[Vec<u32>])], strings: &mut Strings, out: &mut Message) {
    /// All that is known is in here: pprof need not look for it.
    const HAS: [u32; 4] = [7, 8, 9, 10];
    // The first mapping is taken for the program's: it is where most fell.
    let first = heaviest(located, events);
    let order = first.into_iter().chain((0..located.mappings.len()).filter(|at| Some(*at) != first));
    for at in order {
        let Some(mapping) = located.mappings.get(at) else { continue };
        let mut message = Message::default();
        message.number(1, at as u64 + 1);
        message.number(2, mapping.addresses.start);
        message.number(3, mapping.addresses.end);
        message.number(4, mapping.offset);
        message.number(5, strings.id(&Plain(&mapping.path).to_string()));
        message.number(6, mapping.build_id.as_ref().map_or(0, |id| strings.id(&id.to_string())));
        HAS.iter().for_each(|&field| message.number(field, 1));
        out.bytes(profile::MAPPING, &message.0);
    }
    // A function that has lines of several files is one in each.
    let mut functions: FxHashMap<(FunctionId, Option<Arc<str>>), u64> = FxHashMap::default();
    let mut messages = Message::default();
    for (at, frame) in located.frames.iter().enumerate() {
        let mut message = Message::default();
        message.number(1, at as u64 + 1);
        message.number(2, u64::from(frame.mapping) + 1);
        message.number(3, frame.address);
        for (function, place) in &frame.functions {
            let next = functions.len() as u64 + 1;
            let file = place.as_ref().map(|(file, _)| file.clone());
            let id = *functions.entry((*function, file)).or_insert_with_key(|(function, file)| {
                let mut message = Message::default();
                message.number(1, next);
                let name = located.stacks.functions.get(function.0 as usize).map_or(0, |f| strings.id(&name(f)));
                message.number(2, name);
                message.number(3, name);
                message.number(4, file.as_ref().map_or(0, |file| strings.id(&Plain(file).to_string())));
                messages.bytes(profile::FUNCTION, &message.0);
                next
            });
            let mut line = Message::default();
            line.number(1, id);
            line.number(2, place.as_ref().map_or(0, |&(_, line)| u64::from(line)));
            message.bytes(4, &line.0);
        }
        out.bytes(profile::LOCATION, &message.0);
    }
    out.0.append(&mut messages.0);
}

/// The mapping of a file that most periods fell in.
fn heaviest(located: &Located, events: &[(&EventStacks, &[Vec<u32>])]) -> Option<usize> {
    let mut periods = vec![0u64; located.mappings.len()];
    for (event, ways) in events {
        for (stack, way) in event.stacks.iter().zip(*ways) {
            let leaf = way.first().and_then(|&frame| located.frames.get(frame as usize));
            if let Some(period) = leaf.and_then(|leaf| periods.get_mut(leaf.mapping as usize)) {
                *period = period.saturating_add(stack.period);
            }
        }
    }
    let files = periods.into_iter().zip(&located.mappings).enumerate();
    let files = files.filter(|(_, (period, mapping))| *period > 0 && mapping.path.starts_with('/'));
    files.max_by_key(|&(at, (period, _))| (period, std::cmp::Reverse(at))).map(|(at, _)| at)
}

fn value_type(strings: &mut Strings, kind: &str, unit: &str) -> Message {
    let mut message = Message::default();
    message.number(1, strings.id(&Plain(kind).to_string()));
    message.number(2, strings.id(unit));
    message
}

fn samples(
    stacks: &Stacks,
    (event, ways): (&EventStacks, &[Vec<u32>]),
    (index, count): (usize, usize),
    strings: &mut Strings,
    out: &mut Message,
) {
    let keys: Vec<(Key, u64)> = stacks.keys.iter().map(|&key| (key, strings.id(key.name()))).collect();
    for (stack, way) in event.stacks.iter().zip(ways) {
        let mut message = Message::default();
        message.packed(1, way.iter().map(|&frame| u64::from(frame) + 1));
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
