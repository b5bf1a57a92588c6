//! Cuts bytes into records: the innermost loop of reading.

use super::{Head, Order, Slot};
use crate::abi::record;
use crate::events::Events;

/// Why the cutting stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The bytes from here on are no whole record (or there are none).
    End,
    /// A record that is not the kernel's stands here; it is whole, except for bytes that may follow it.
    Control(Head),
    /// No record can have this header: it has no type, or a size below 8.
    Impossible,
}

/// What [`RawRecord::offset`](super::RawRecord::offset) says of the records in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offset {
    /// The buffer starts at this offset.
    From(u64),
    /// The buffer was unpacked from the record at this offset.
    Of(u64),
}

impl Offset {
    pub(crate) fn at(self, place: usize) -> u64 {
        match self {
            Offset::From(base) => base.saturating_add(place as u64),
            Offset::Of(offset) => offset,
        }
    }
}

/// Adds the kernel's records in `bytes[from..]` to the open window of `order`, up to the first that is not the
/// kernel's. Returns where it stopped, and why.
pub(crate) fn split(
    events: &Events,
    order: &mut Order,
    bytes: &[u8],
    mut from: usize,
    offset: Offset,
) -> (usize, Stop) {
    let swapped = order.swapped();
    // perf orders nothing when the first event says no time outside of samples.
    let in_time = events.list().first().is_some_and(|event| event.format.sample_id_all);
    let mut last = Events::first();
    while let Some(rest) = bytes.get(from..)
        && let Some(head) = Head::read(rest, swapped)
    {
        if head.size < 8 || head.kind == 0 {
            return (from, Stop::Impossible);
        }
        let Some(body) = rest.get(8..usize::from(head.size)) else { break };
        if head.kind >= record::USER_START {
            return (from, Stop::Control(head));
        }
        let event = events.event_after(head.kind, body, &mut last).unwrap_or(u32::MAX);
        let layout = events.list().get(event as usize).map(|event| &event.layout);
        let time = layout.and_then(|layout| match head.kind {
            record::SAMPLE => layout.time_of(body),
            _ => layout.trailer_time_of(body),
        });
        let slot = Slot { time: time.unwrap_or(0), offset: offset.at(from), at: from as u32, event };
        order.add(head.size, slot, in_time);
        from += usize::from(head.size);
    }
    (from, Stop::End)
}
