//! The one order of records in time, live and from files.
//!
//! Records arrive as runs: the bytes of one ring between two drains, or the bytes of a file between two
//! FINISHED_ROUND records. What leaves is a [`Batch`]: records in time order, ties in order of arrival.
//!
//! Bytes arrive in windows of about a megabyte and stay where they were read: what is sorted are places. Because
//! nearly every record leaves together with its neighbours, a window becomes a batch whole, and only the few records
//! of other windows that fall between its own are copied. The sort is a stable merge of the runs that it finds, so that
//! records that are in order already cost one comparison each.

mod live;
mod split;

pub use live::Live;
pub(crate) use split::{Offset, Stop, split};

use std::collections::VecDeque;

use crate::codec::ByteOrder;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// `PERF_RECORD_*` ([`crate::abi::record`]).
    pub kind: u32,
    /// `PERF_RECORD_MISC_*` ([`crate::abi::misc`]).
    pub misc: u16,
    /// The bytes after the 8-byte header, sample id included.
    pub body: &'a [u8],
    /// ns on the recording's clock; 0 when the record carries no time.
    pub time: u64,
    /// Index of the event it belongs to ([`crate::events::Events::list`]); `u32::MAX` when its id is not known.
    pub event: u32,
    /// Offset in the file (for a record out of a compressed one: that of the compressed one), or the
    /// number of bytes before it in a live stream.
    pub offset: u64,
}

/// Place of one record in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// ns; 0 without time.
    pub time: u64,
    /// See [`RawRecord::offset`].
    pub offset: u64,
    /// Where the record's header starts in the batch's bytes.
    pub at: u32,
    /// See [`RawRecord::event`].
    pub event: u32,
}

/// Records in time order, with the bytes they live in. Sent between threads whole, and reused.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes of the records, and possibly others between them.
    pub bytes: Vec<u8>,
    /// The records in time order.
    pub slots: Vec<Slot>,
    /// Byte order of the headers; true when it is not this machine's.
    pub swapped: bool,
}

impl Batch {
    /// The records in time order.
    pub fn iter(&self) -> impl Iterator<Item = RawRecord<'_>> {
        self.slots.iter().filter_map(|slot| self.record(slot))
    }

    /// The record in `slot`; `None` when the slot points outside the bytes.
    #[inline]
    pub fn record(&self, slot: &Slot) -> Option<RawRecord<'_>> {
        let bytes = self.bytes.get(slot.at as usize..)?;
        let head = Head::read(bytes, self.swapped)?;
        let body = bytes.get(8..usize::from(head.size))?;
        let Head { kind, misc, .. } = head;
        Some(RawRecord { kind, misc, body, time: slot.time, event: slot.event, offset: slot.offset })
    }

    /// The whole record in `slot`, its header included, as it stands in the recording.
    pub fn whole(&self, slot: &Slot) -> Option<&[u8]> {
        let bytes = self.bytes.get(slot.at as usize..)?;
        bytes.get(..usize::from(Head::read(bytes, self.swapped)?.size))
    }
}

/// `struct perf_event_header`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u32,
    pub(crate) misc: u16,
    /// Bytes, this header included.
    pub(crate) size: u16,
}

impl Head {
    #[inline]
    pub(crate) fn read(bytes: &[u8], swapped: bool) -> Option<Head> {
        let (head, _) = bytes.split_first_chunk::<8>()?;
        let kind = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let misc = u16::from_ne_bytes([head[4], head[5]]);
        let size = u16::from_ne_bytes([head[6], head[7]]);
        Some(if swapped {
            Head { kind: kind.swap_bytes(), misc: misc.swap_bytes(), size: size.swap_bytes() }
        } else {
            Head { kind, misc, size }
        })
    }

    pub(crate) fn bytes(self, order: ByteOrder) -> [u8; 8] {
        let (k, m, s) = match order {
            ByteOrder::Little => (self.kind.to_le_bytes(), self.misc.to_le_bytes(), self.size.to_le_bytes()),
            ByteOrder::Big => (self.kind.to_be_bytes(), self.misc.to_be_bytes(), self.size.to_be_bytes()),
        };
        [k[0], k[1], k[2], k[3], m[0], m[1], s[0], s[1]]
    }
}

/// Bytes that a batch aims at.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Bytes (records and their places) that may be held back before the older half is let go, in order or not.
const HELD_BYTES: usize = 48 << 20;

/// A record that has arrived and not left.
#[derive(Clone, Copy, Debug)]
struct Held {
    time: u64,
    offset: u64,
    at: u32,
    event: u32,
    /// Number of its window.
    window: u32,
    size: u16,
}

/// Bytes that arrived together.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    /// Records that have not left.
    left: usize,
}

/// Holds records back until no earlier one can come.
#[derive(Debug, Default)]
pub(crate) struct Order {
    swapped: bool,
    windows: VecDeque<Window>,
    /// Number of the first of `windows`.
    first: u32,
    /// Not yet to be let go; the first part sorted.
    held: Vec<Held>,
    held_bytes: usize,
    /// To be let go, in order, from `gone` on.
    ready: Vec<Held>,
    gone: usize,
    /// Latest time seen, and in the open window.
    newest: u64,
    newest_of_window: u64,
    /// What `newest` was at the last round.
    round: u64,
    /// Latest time let go.
    let_go: u64,
    late: u64,
    spare: Vec<Vec<u8>>,
}

impl Order {
    pub(crate) fn new(order: ByteOrder) -> Self {
        Order { swapped: order != ByteOrder::NATIVE, ..Order::default() }
    }

    pub(crate) fn swapped(&self) -> bool {
        self.swapped
    }

    /// Latest time in the last window, ns.
    pub(crate) fn newest_of_window(&self) -> u64 {
        self.newest_of_window
    }

    /// How many records arrived after a later one had been let go.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// True when every record has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.gone == self.ready.len()
    }

    /// A buffer for the next window, with whatever it held before.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Begins a window; records are added with [`Order::add`], then the window is closed.
    pub(crate) fn open_window(&mut self) {
        self.newest_of_window = 0;
        self.windows.push_back(Window::default());
    }

    /// Hands over the bytes of the window.
    pub(crate) fn close_window(&mut self, bytes: Vec<u8>) {
        match self.windows.back_mut() {
            Some(window) if window.left > 0 => window.bytes = bytes,
            _ => {
                self.windows.pop_back();
                self.recycle(bytes);
            }
        }
    }

    fn recycle(&mut self, bytes: Vec<u8>) {
        // An unusually large window gives its memory back.
        if self.spare.len() < 4 && bytes.capacity() <= 4 * BATCH_BYTES {
            self.spare.push(bytes);
        }
    }

    /// Adds a record of the open window; one that is not `in_time` leaves at once.
    #[inline]
    pub(crate) fn add(&mut self, size: u16, slot: Slot, in_time: bool) {
        let window = self.first.wrapping_add(self.windows.len() as u32).wrapping_sub(1);
        let Slot { time, offset, at, event } = slot;
        let held = Held { time, offset, at, event, window, size };
        if let Some(window) = self.windows.back_mut() {
            window.left += 1;
        }
        // perf delivers what has no time, and its own records, the moment they are read.
        if !in_time || time == 0 || time == u64::MAX {
            self.ready.push(Held { time: if time == u64::MAX { 0 } else { time }, ..held });
            return;
        }
        self.newest = self.newest.max(time);
        self.newest_of_window = self.newest_of_window.max(time);
        self.late += u64::from(time < self.let_go);
        self.held_bytes += usize::from(size) + size_of::<Held>();
        self.held.push(held);
    }

    /// Adds a record of the open window that is not the kernel's: it leaves at once.
    pub(crate) fn add_at_once(&mut self, head: Head, at: usize, offset: Offset) {
        self.add(head.size, Slot { time: 0, offset: offset.at(at), at: at as u32, event: u32::MAX }, false);
    }

    /// FINISHED_ROUND: nothing older than the latest record of the round before can come any more.
    pub(crate) fn finish_round(&mut self) {
        self.let_go(self.round);
        self.round = self.newest;
    }

    /// Lets everything go.
    pub(crate) fn finish(&mut self) {
        self.let_go(u64::MAX);
    }

    /// Lets the older half go when more is held than should be.
    pub(crate) fn relieve(&mut self) {
        while self.held_bytes > HELD_BYTES {
            self.held.sort_by_key(|held| held.time);
            let Some(middle) = self.held.get(self.held.len() / 2) else { return };
            self.let_go(middle.time);
        }
    }

    /// Makes every record up to `until` (ns, included) ready.
    pub(crate) fn let_go(&mut self, until: u64) {
        if until == 0 || self.held.is_empty() {
            return;
        }
        self.held.sort_by_key(|held| held.time);
        let count = self.held.partition_point(|held| held.time <= until);
        let Some(last) = count.checked_sub(1).and_then(|last| self.held.get(last)) else { return };
        self.let_go = self.let_go.max(last.time);
        if count == self.held.len() {
            self.held_bytes = 0;
        } else {
            let bytes = |held: &Held| usize::from(held.size) + size_of::<Held>();
            self.held_bytes -= self.held[..count].iter().map(bytes).sum::<usize>();
        }
        if self.gone == self.ready.len() {
            // What stays behind is moved, which is less than what goes.
            self.ready.clear();
            self.gone = 0;
            std::mem::swap(&mut self.ready, &mut self.held);
            self.held.extend(self.ready.drain(count..));
        } else {
            self.ready.extend(self.held.drain(..count));
        }
    }

    /// The next batch, when there is enough for one, or when `now`: with whatever is ready.
    pub(crate) fn batch(&mut self, reuse: &mut Option<Batch>, now: bool) -> Option<Batch> {
        let ready = self.ready.get(self.gone..)?;
        let number = ready.first()?.window;
        let own = self.windows.get(number.wrapping_sub(self.first) as usize)?;
        // A batch ends where its first window does, or when it is large enough without that.
        let (mut count, mut owned, mut owned_bytes, mut copied) = (0, 0, 0, 0);
        for held in ready {
            if held.window == number {
                owned += 1;
                owned_bytes += usize::from(held.size);
            } else {
                copied += usize::from(held.size);
            }
            count += 1;
            if owned == own.left || copied + own.bytes.len() / own.left.max(1) * owned > 2 * BATCH_BYTES {
                break;
            }
        }
        let whole = owned == own.left;
        if !whole && !now && count == ready.len() {
            return None;
        }
        // Where most of a window leaves, it is what stays behind that is copied: stack copies are large.
        let mostly = !whole && owned_bytes > own.bytes.len() / 2;
        let mut batch = reuse.take().unwrap_or_default();
        batch.slots.clear();
        batch.swapped = self.swapped;
        batch.slots.reserve(count);
        let own = number.wrapping_sub(self.first) as usize;
        let taken = whole || mostly;
        if taken {
            let bytes = std::mem::take(&mut self.windows[own].bytes);
            let old = std::mem::replace(&mut batch.bytes, bytes);
            self.recycle(old);
        } else {
            batch.bytes.clear();
            copied += owned_bytes;
        }
        // Growing step by step would move them again and again.
        batch.bytes.reserve(copied);
        for held in &self.ready[self.gone..self.gone + count] {
            let Held { time, offset, at, event, .. } = *held;
            if held.window == number && taken {
                batch.slots.push(Slot { time, offset, at, event });
                continue;
            }
            let index = held.window.wrapping_sub(self.first) as usize;
            let Some(window) = self.windows.get_mut(index) else { continue };
            // Its own are counted at the end.
            window.left -= usize::from(index != own);
            let from = at as usize;
            let Some(bytes) = window.bytes.get(from..from + usize::from(held.size)) else { continue };
            let at = batch.bytes.len() as u32;
            batch.bytes.extend_from_slice(bytes);
            batch.slots.push(Slot { time, offset, at, event });
            if window.left == 0 {
                let bytes = std::mem::take(&mut window.bytes);
                if self.spare.len() < 4 && bytes.capacity() <= 4 * BATCH_BYTES {
                    self.spare.push(bytes);
                }
            }
        }
        if let Some(window) = self.windows.get_mut(own) {
            window.left -= owned;
        }
        self.gone += count;
        if mostly {
            let mut left = self.spare.pop().unwrap_or_default();
            left.clear();
            let behind = self.ready[self.gone..].iter_mut().chain(&mut self.held);
            for held in behind.filter(|held| held.window == number) {
                let from = held.at as usize;
                held.at = left.len() as u32;
                left.extend_from_slice(batch.bytes.get(from..from + usize::from(held.size)).unwrap_or_default());
            }
            if let Some(window) = self.windows.get_mut(own) {
                window.bytes = left;
            }
        }
        if self.gone == self.ready.len() {
            self.ready.clear();
            self.gone = 0;
        } else if self.gone > self.ready.len() / 2 {
            self.ready.drain(..self.gone);
            self.gone = 0;
        }
        while self.windows.front().is_some_and(|window| window.left == 0) {
            self.windows.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Some(batch)
    }
}
