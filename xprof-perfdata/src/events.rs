//! The events of a recording: attrs, ids, names, and which record belongs to which event.

//!
//! A recording of several events says in every record whose it is, by an id that all events have at the same place
//! (`PERF_SAMPLE_IDENTIFIER`: first in samples and last in other records; else `PERF_SAMPLE_ID` behind the same
//! fields). Which event a record belongs to decides the layout of the record, and so its time.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use crate::abi::{attr_flag, record};
use crate::attr::Attr;
use crate::codec::ByteOrder;
use crate::sample::{SampleFormat, SampleLayout};

/// Name of the event whose samples are waits: taken when a task leaves its CPU, each of a SWITCH record's length that says when it
/// came back. What is recorded is a count of context switches; the time is put together when it is read.
pub const OFF_CPU_EVENT: &str = "off-cpu";

/// One event of a recording: one attr, opened on any number of CPUs and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the file says was asked of the kernel.
    pub attr: Attr,
    /// perf's name for it, e.g. `cycles:u`, `cpu-clock:pppH`, `sched:sched_switch`.
    pub name: String,
    /// Ids of its instances (one per CPU and thread that it was opened on).
    pub ids: Vec<u64>,
    /// Layout of its samples.
    pub format: SampleFormat,
    /// The places of the fields in that layout.
    pub layout: SampleLayout,
}

/// All events of a recording, in file order.
#[derive(Clone, Debug)]
pub struct Events {
    /// Byte order of the recording.
    pub order: ByteOrder,
    list: Vec<Event>,
    by_id: FxHashMap<u64, u32>,
}

impl Events {
    /// No events yet.
    pub fn new(order: ByteOrder) -> Self {
        Events { order, list: Vec::new(), by_id: FxHashMap::default() }
    }

    /// Adds an event; its index is the number of events before it.
    pub fn push(&mut self, attr: Attr, name: String, ids: Vec<u64>) -> usize {
        let index = self.list.len();
        let format = attr.sample_format(self.order);
        let layout = SampleLayout::of(&format);
        self.list.push(Event { attr, name, ids: Vec::new(), format, layout });
        self.insert_ids(index, &ids);
        index
    }

    /// Adds ids that were learnt after the event (HEADER_ATTR, ID_INDEX). An event that does not exist is ignored.
    pub fn insert_ids(&mut self, event: usize, ids: &[u64]) {
        let Some(entry) = self.list.get_mut(event) else { return };
        entry.ids.extend_from_slice(ids);
        self.by_id.extend(ids.iter().map(|&id| (id, event as u32)));
    }

    /// Renames an event (EVENT_UPDATE). An event that does not exist is ignored.
    pub fn rename(&mut self, event: usize, name: String) {
        if let Some(entry) = self.list.get_mut(event) {
            entry.name = name;
        }
    }

    /// The events in file order.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// Index of the event that owns `id`.
    pub fn by_id(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).map(|&i| i as usize)
    }

    /// Index of the event that a record belongs to, as perf decides it: the only event; without ids in this kind of
    /// record the first; for the id 0 (records that perf made up) the first; else the owner of the id.
    /// `None` for perf's own records, for an unknown id, and for a record too short to hold one.
    #[inline]
    pub fn event_of(&self, kind: u32, body: &[u8]) -> Option<u32> {
        self.event_after(kind, body, &mut Events::first())
    }

    /// What [`Events::event_after`] begins with: the id 0, and whose it is.
    pub(crate) fn first() -> (u64, Option<u32>) {
        (0, Some(0))
    }

    /// [`Events::event_of`] for many records, of which those of one event come in crowds: `last` is the last id, and whose it is.
    #[inline]
    pub(crate) fn event_after(&self, kind: u32, body: &[u8], last: &mut (u64, Option<u32>)) -> Option<u32> {
        if kind >= record::USER_START {
            return None;
        }
        let first = self.list.first()?;
        if self.list.len() == 1 {
            return Some(0);
        }
        let id = if kind == record::SAMPLE {
            first.layout.id_of(body)
        } else if first.format.sample_id_all {
            first.layout.trailer_id_of(body)
        } else {
            return Some(0);
        };
        let id = id?;
        if id != last.0 {
            *last = (id, if id == 0 { Some(0) } else { self.by_id.get(&id).copied() });
        }
        last.1
    }

    /// Time of a record, ns; `None` when it carries none. For a record whose event is known already, ask the event's
    /// [`SampleLayout`].
    #[inline]
    pub fn time_of(&self, kind: u32, body: &[u8]) -> Option<u64> {
        let event = self.list.get(self.event_of(kind, body)? as usize)?;
        if kind == record::SAMPLE { event.layout.time_of(body) } else { event.layout.trailer_time_of(body) }
    }

    /// Whether an event asked for build ids in MMAP2 records.
    pub(crate) fn ask_build_ids(&self) -> bool {
        self.list.iter().any(|event| event.attr.has(attr_flag::BUILD_ID))
    }

    /// The format of the records of event `index`; for an index that no event has, that of the first event with
    /// `sample_id_all`, else of the first, else an empty one.
    pub(crate) fn format_of(&self, index: u32) -> Cow<'_, SampleFormat> {
        let with_id = || self.list.iter().find(|event| event.format.sample_id_all);
        match self.list.get(index as usize).or_else(with_id).or(self.list.first()) {
            Some(event) => Cow::Borrowed(&event.format),
            None => Cow::Owned(Attr::default().sample_format(self.order)),
        }
    }
}
