//! Samples that read counters (`PERF_SAMPLE_READ`, as `:S` makes them): each stands for one sample of every counter that
//! counted something since it was read before, with what it counted as the period.

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{attr_flag, read_format, sample as bit};
use xprof_perfdata::events::{Event, Events};
use xprof_perfdata::sample::Sample;

/// What the counters read before.
#[derive(Debug, Default)]
pub struct Reads {
    /// By id of the counter and, where each thread has its own, by thread.
    last: FxHashMap<(u64, u32), u64>,
}

impl Reads {
    /// Whether samples of an event say what counters read, and which ones.
    pub fn has(event: &Event) -> bool {
        event.format.sample_type & bit::READ != 0 && event.format.read_format & read_format::ID != 0
    }

    /// The events, by index, that a sample of `leader` stands for, and the period of each.
    pub fn of(&mut self, leader: &Event, events: &Events, sample: &Sample) -> impl Iterator<Item = (usize, u64)> {
        let tid = if leader.attr.has(attr_flag::INHERIT) { sample.id.tid } else { 0 };
        sample.read.counters.iter().filter_map(move |counter| {
            let event = events.by_id(counter.id)?;
            let last = self.last.insert((counter.id, tid), counter.value).unwrap_or(0);
            let period = counter.value.wrapping_sub(last);
            (period != 0).then_some((event, period))
        })
    }
}
