//! The order of records while they are recorded.

use super::split::{Offset, Stop, split};
use super::{Batch, Order};
use crate::events::Events;

/// Orders what the rings of a session hand over. A record leaves when every ring has said that it has nothing older.
#[derive(Debug)]
pub struct Live {
    order: Order,
    events: Events,
    until: Vec<u64>,
    bytes: u64,
}

impl Live {
    /// For a session with this many rings, numbered from 0.
    pub fn new(events: Events, rings: u32) -> Self {
        Live { order: Order::new(events.order), events, until: vec![0; rings as usize], bytes: 0 }
    }

    /// Takes whole records of a ring, and the instant (ns on the session's clock) up to which this ring has handed over
    /// everything. A ring that does not exist counts for nothing but its records.
    pub fn push(&mut self, ring: u32, bytes: Vec<u8>, until: u64) {
        self.order.open_window();
        let (mut from, offset) = (0, Offset::From(self.bytes));
        // Rings hold the kernel's records alone; made-up ones may stand between them.
        while let (at, Stop::Control(head)) = split(&self.events, &mut self.order, &bytes, from, offset) {
            self.order.add_at_once(head, at, offset);
            from = at + usize::from(head.size);
        }
        self.bytes += bytes.len() as u64;
        self.order.close_window(bytes);
        if let Some(last) = self.until.get_mut(ring as usize) {
            *last = until.max(*last);
        }
        // A ring that says nothing for long must not hold everything in memory.
        self.order.relieve();
        // At the instant itself another record may still come.
        self.order.let_go(self.until().saturating_sub(1));
    }

    /// Every ring has handed over everything older, ns.
    pub fn until(&self) -> u64 {
        self.until.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// Lets everything go: the rings are closed.
    pub fn finish(&mut self) {
        self.order.finish();
    }

    /// The next records in time order, when there are any that may leave. `reuse` is an old batch, for its memory.
    pub fn batch(&mut self, reuse: Option<Batch>) -> Option<Batch> {
        self.order.batch(&mut { reuse }, true)
    }
}
