//! The events of a recording: attrs, ids, names, and which record belongs to which event.

use rustc_hash::FxHashMap;

use crate::attr::Attr;
use crate::codec::ByteOrder;
use crate::sample::SampleFormat;

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
        for &id in &ids {
            self.by_id.insert(id, index as u32);
        }
        let format = attr.sample_format(self.order);
        self.list.push(Event { attr, name, ids, format });
        index
    }

    /// The events in file order.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// Index of the event that owns `id`.
    pub fn by_id(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).map(|&i| i as usize)
    }
}
