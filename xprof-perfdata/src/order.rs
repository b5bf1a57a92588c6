//! The one order of records in time, live and from files.
//!
//! Records arrive as runs: the bytes of one ring between two drains, or the bytes of a file between two
//! FINISHED_ROUND records. What leaves is a [`Batch`]: records in time order, ties in order of arrival.

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
    /// The bytes of the records, in order of arrival.
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
    pub fn record(&self, slot: &Slot) -> Option<RawRecord<'_>> {
        let bytes = self.bytes.get(slot.at as usize..)?;
        let (head, _) = bytes.split_first_chunk::<8>()?;
        let mut kind = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let mut misc = u16::from_ne_bytes([head[4], head[5]]);
        let mut size = u16::from_ne_bytes([head[6], head[7]]);
        if self.swapped {
            (kind, misc, size) = (kind.swap_bytes(), misc.swap_bytes(), size.swap_bytes());
        }
        let body = bytes.get(8..usize::from(size))?;
        Some(RawRecord { kind, misc, body, time: slot.time, event: slot.event, offset: slot.offset })
    }
}
