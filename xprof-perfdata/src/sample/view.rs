//! Single fields of a sample, read from where they lie.
//!
//! Reports and the order of records need three to six numbers of each of millions of samples. A [`SampleLayout`] is
//! made once for an event, by measuring the description of its samples; a [`SampleView`] then reads a field with one
//! bounds check, and the call chain as the bytes in the record.

use super::{Sample, SampleFormat, SampleId};
use crate::abi::sample;
use crate::codec::{ByteOrder, Codec, Decoder, Ruler};

/// Where the fields of an event's records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleLayout {
    /// The format that was measured.
    format: SampleFormat,
    /// Every number is its own offset from the start of a SAMPLE's body, or [`Ruler::ABSENT`].
    head: Head,
    /// Bytes of the head.
    head_len: usize,
    /// Offsets of id and time from the start of the sample id that ends other records.
    trailer: (u32, u32),
    /// Bytes of that sample id.
    trailer_len: usize,
}

/// Offsets in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    ip: u32,
    pid: u32,
    tid: u32,
    time: u32,
    addr: u32,
    id: u32,
    cpu: u32,
    period: u32,
}

impl SampleLayout {
    /// Measures a format.
    pub fn of(format: &SampleFormat) -> SampleLayout {
        let mut ruler = Ruler::default();
        let mut places = Sample::default();
        // Neither the head nor the sample id has an array, the one thing that a ruler cannot measure.
        let _ = places.head(&mut ruler, format.sample_type);
        let head = Head {
            ip: places.ip as u32,
            pid: places.id.pid,
            tid: places.id.tid,
            time: places.id.time as u32,
            addr: places.addr as u32,
            id: places.id.id as u32,
            cpu: places.id.cpu,
            period: places.period as u32,
        };
        let mut end = Ruler::default();
        let mut places = SampleId { id: Ruler::ABSENT.into(), time: Ruler::ABSENT.into(), ..SampleId::default() };
        if format.sample_id_all {
            let _ = places.fields(&mut end, format.sample_type);
        }
        SampleLayout {
            format: format.clone(),
            head,
            head_len: ruler.position(),
            trailer: (places.id as u32, places.time as u32),
            trailer_len: end.position(),
        }
    }

    /// A view of the body of a SAMPLE record; `None` when it ends inside the head.
    #[inline]
    pub fn view<'a>(&'a self, body: &'a [u8]) -> Option<SampleView<'a>> {
        (body.len() >= self.head_len).then_some(SampleView { layout: self, body })
    }

    /// The event id in the body of a SAMPLE record; `None` when the format has none.
    #[inline]
    pub fn id_of(&self, body: &[u8]) -> Option<u64> {
        number(body, self.head.id, self.format.order)
    }

    /// The time in the body of a SAMPLE record, ns; `None` when the format has none.
    #[inline]
    pub fn time_of(&self, body: &[u8]) -> Option<u64> {
        number(body, self.head.time, self.format.order)
    }

    /// The event id that ends the body of another record; `None` when the format has none.
    #[inline]
    pub fn trailer_id_of(&self, body: &[u8]) -> Option<u64> {
        number(self.trailer_in(body)?, self.trailer.0, self.format.order)
    }

    /// The time that ends the body of another record, ns; `None` when the format has none.
    #[inline]
    pub fn trailer_time_of(&self, body: &[u8]) -> Option<u64> {
        number(self.trailer_in(body)?, self.trailer.1, self.format.order)
    }

    #[inline]
    fn trailer_in<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        body.get(body.len().checked_sub(self.trailer_len)?..)
    }
}

#[inline]
fn number(bytes: &[u8], at: u32, order: ByteOrder) -> Option<u64> {
    Some(order.u64(*bytes.get(at as usize..)?.first_chunk()?))
}

/// A SAMPLE record's body, undecoded. A field that the format does not have reads as 0.
#[derive(Clone, Copy, Debug)]
pub struct SampleView<'a> {
    layout: &'a SampleLayout,
    body: &'a [u8],
}

impl<'a> SampleView<'a> {
    #[inline]
    fn long(&self, at: u32) -> u64 {
        number(self.body, at, self.layout.format.order).unwrap_or(0)
    }

    #[inline]
    fn word(&self, at: u32) -> u32 {
        let chunk = self.body.get(at as usize..).and_then(|bytes| bytes.first_chunk());
        chunk.map_or(0, |chunk| self.layout.format.order.u32(*chunk))
    }

    /// Instruction pointer.
    #[inline]
    pub fn ip(&self) -> u64 {
        self.long(self.layout.head.ip)
    }

    /// Process.
    #[inline]
    pub fn pid(&self) -> u32 {
        self.word(self.layout.head.pid)
    }

    /// Thread.
    #[inline]
    pub fn tid(&self) -> u32 {
        self.word(self.layout.head.tid)
    }

    /// ns on the recording's clock.
    #[inline]
    pub fn time(&self) -> u64 {
        self.long(self.layout.head.time)
    }

    /// `PERF_SAMPLE_ADDR`.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.long(self.layout.head.addr)
    }

    /// Event id.
    #[inline]
    pub fn id(&self) -> u64 {
        self.long(self.layout.head.id)
    }

    /// CPU.
    #[inline]
    pub fn cpu(&self) -> u32 {
        self.word(self.layout.head.cpu)
    }

    /// Period, events; `None` when the format has none and the attr's own period counts.
    #[inline]
    pub fn period(&self) -> Option<u64> {
        number(self.body, self.layout.head.period, self.layout.format.order)
    }

    /// The call chain, context markers included; empty when the format has none or the record ends inside it.
    #[inline]
    pub fn callchain(&self) -> Callchain<'a> {
        let format = &self.layout.format;
        let words = if format.sample_type & sample::CALLCHAIN == 0 { None } else { self.chain_words() };
        Callchain { words: words.unwrap_or(&[]), order: format.order }
    }

    #[inline]
    fn chain_words(&self) -> Option<&'a [[u8; 8]]> {
        let format = &self.layout.format;
        let mut skim = Decoder::<true>::new(self.body, self.layout.head_len, format.order);
        if format.sample_type & sample::READ != 0 {
            Sample::default().counters(&mut skim, format).ok()?;
        }
        let mut len = 0;
        skim.u64(&mut len).ok()?;
        Some(skim.take(len.checked_mul(8)?).ok()?.as_chunks().0)
    }
}

/// A call chain in its record.
#[derive(Clone, Copy, Debug)]
pub struct Callchain<'a> {
    words: &'a [[u8; 8]],
    order: ByteOrder,
}

impl<'a> Callchain<'a> {
    /// A chain of entries that lie somewhere else than in a record; odd bytes at the end are left out.
    pub fn of_bytes(bytes: &'a [u8], order: ByteOrder) -> Callchain<'a> {
        Callchain { words: bytes.as_chunks().0, order }
    }

    /// Entries, context markers included.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The entries as they lie in the record, in its byte order: equal bytes are equal chains.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.words.as_flattened()
    }

    /// The entries, innermost first.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + use<'a> {
        let order = self.order;
        self.words.iter().map(move |word| order.u64(*word))
    }
}
