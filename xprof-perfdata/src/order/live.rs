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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{attr_flag, record, sample};
    use crate::attr::Attr;
    use crate::codec::ByteOrder;

    /// A sample that has a time, and behind it as many bytes of its number as it says.
    fn record_of(number: u64, time: u64, bytes: usize) -> Vec<u8> {
        let size = (8 + 8 + 8 + bytes) as u16;
        let head = [&record::SAMPLE.to_ne_bytes()[..], &[0, 0], &size.to_ne_bytes()];
        let rest = vec![number as u8; bytes];
        [head.concat(), time.to_ne_bytes().to_vec(), number.to_ne_bytes().to_vec(), rest].concat()
    }

    /// Most of a window leaves, a half, a few, or all of it: every record comes out once, in order of time, as it went in.
    #[test]
    fn records_leave_as_they_came_however_much_of_a_window_stays_behind() {
        let mut events = Events::new(ByteOrder::NATIVE);
        let attr = Attr { sample_type: sample::TIME, flags: attr_flag::SAMPLE_ID_ALL, ..Attr::default() };
        events.push(attr, "e".into(), Vec::new());
        for held_back in [1, 3, 30, 60, 90, 200] {
            let mut live = Live::new(events.clone(), 2);
            let (mut spare, mut seen, mut number) = (None, Vec::new(), 0u64);
            let mut take = |live: &mut Live| {
                while let Some(mut batch) = live.batch(spare.take()) {
                    for raw in batch.iter() {
                        let (at, rest) = raw.body[8..].split_at(8);
                        let number = u64::from_ne_bytes(at.try_into().unwrap());
                        assert!(rest.iter().all(|&byte| byte == number as u8), "{number}");
                        seen.push((raw.time, number, rest.len()));
                    }
                    batch.bytes = Vec::new();
                    spare = Some(batch);
                }
            };
            for round in 0..50u64 {
                for ring in [0, 1] {
                    let mut bytes = Vec::new();
                    for nth in 0..50 {
                        let time = 1000 + round * 100 + nth * 2 + u64::from(ring);
                        bytes.extend(record_of(number, time, number as usize * 8 % 123 / 8 * 8));
                        number += 1;
                    }
                    live.push(ring, bytes, 1000 + (round + 1) * 100 - held_back);
                }
                take(&mut live);
            }
            live.finish();
            take(&mut live);
            let late = seen.array_windows::<2>().find(|[a, b]| a > b);
            assert_eq!((seen.len(), late), (5000, None), "{held_back}");
            seen.sort_by_key(|&(_, number, _)| number);
            let whole = |(at, &(_, number, bytes)): (usize, &(u64, u64, usize))| {
                at as u64 == number && bytes == number as usize * 8 % 123 / 8 * 8
            };
            assert!(seen.iter().enumerate().all(whole), "{held_back}");
        }
    }
}
