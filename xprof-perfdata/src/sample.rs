//! `PERF_RECORD_SAMPLE` and the sample id that ends every other record.
//!
//! Layout: `perf_output_sample()` in `kernel/events/core.c`; which fields are there is
//! `perf_event_attr.sample_type`, carried here as [`SampleFormat`].
//!
//! A sample has a head of numbers at places that depend on the format alone, and a tail of parts whose length depends
//! on the sample. Nobody who counts a million samples needs them whole: [`SampleView`] reads single fields from where
//! they lie, found by measuring the description.

mod stack;
mod view;

pub use stack::UserStack;
pub use view::{Callchain, SampleLayout, SampleView};

use crate::abi::{branch, read_format, sample};
use crate::codec::{ByteOrder, Clear, Codec, Coded, Decoder, Encoder, Short};
use crate::{Error, Result};

/// What decides the layout of an event's samples: the relevant part of its attr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleFormat {
    /// Byte order of the recording.
    pub order: ByteOrder,
    /// `PERF_SAMPLE_*` bits ([`crate::abi::sample`]).
    pub sample_type: u64,
    /// `PERF_FORMAT_*` bits ([`crate::abi::read_format`]).
    pub read_format: u64,
    /// `PERF_SAMPLE_BRANCH_*` bits.
    pub branch_sample_type: u64,
    /// Registers in `regs_user`, one bit each.
    pub sample_regs_user: u64,
    /// Registers in `regs_intr`, one bit each.
    pub sample_regs_intr: u64,
    /// Every other record ends in a [`SampleId`].
    pub sample_id_all: bool,
}

/// The fields that a record shares with samples (`struct sample_id`). Fields that the format does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleId {
    /// Which of the fields are there: `PERF_SAMPLE_{TID,TIME,ID,STREAM_ID,CPU,IDENTIFIER}`.
    pub fields: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Nanoseconds on the recording's clock.
    pub time: u64,
    /// Id of the event, from ID or IDENTIFIER.
    pub id: u64,
    /// Id of the stream (the event instance that fired).
    pub stream_id: u64,
    /// CPU.
    pub cpu: u32,
}

/// One counter of a `PERF_SAMPLE_READ` or of a `PERF_RECORD_READ`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounter {
    /// Count.
    pub value: u64,
    /// Event id (`PERF_FORMAT_ID`), else 0.
    pub id: u64,
    /// Lost samples of this event (`PERF_FORMAT_LOST`), else 0.
    pub lost: u64,
}

/// `struct read_format`, single or group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadValues {
    /// ns enabled (`PERF_FORMAT_TOTAL_TIME_ENABLED`), else 0.
    pub time_enabled: u64,
    /// ns running (`PERF_FORMAT_TOTAL_TIME_RUNNING`), else 0.
    pub time_running: u64,
    /// One counter; with `PERF_FORMAT_GROUP` any number of them.
    pub counters: Vec<ReadCounter>,
}

/// User or interrupted registers: the ABI and the values of the set mask bits, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    /// `PERF_SAMPLE_REGS_ABI_*`: 0 none, 1 32-bit, 2 64-bit.
    pub abi: u64,
    /// Values, in the order of the bits of the mask; empty when `abi` is 0.
    pub values: Vec<u64>,
}

/// `struct perf_branch_entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Branch {
    /// Source address.
    pub from: u64,
    /// Target address.
    pub to: u64,
    /// mispred:1 predicted:1 in_tx:1 abort:1 cycles:16 type:4 spec:2 new_type:4 priv:3, as one number.
    pub flags: u64,
}

/// `PERF_SAMPLE_BRANCH_STACK` (and its counters, `PERF_SAMPLE_BRANCH_COUNTERS`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchStack {
    /// `PERF_SAMPLE_BRANCH_HW_INDEX`, else 0.
    pub hw_index: u64,
    /// Newest first.
    pub entries: Vec<Branch>,
    /// One per entry with `PERF_SAMPLE_BRANCH_COUNTERS`, else empty.
    pub counters: Vec<u64>,
}

/// `PERF_SAMPLE_STACK_USER`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackUser {
    /// The dumped bytes (their length is the size asked for).
    pub bytes: Vec<u8>,
    /// How many of them are stack (`dyn_size`).
    pub dyn_size: u64,
}

/// One sample. Reused from sample to sample, so that decoding allocates nothing once it is warm;
/// a field that the format does not have keeps its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Instruction pointer.
    pub ip: u64,
    /// pid, tid, time, id, stream id, cpu.
    pub id: SampleId,
    /// `PERF_SAMPLE_ADDR`.
    pub addr: u64,
    /// `PERF_SAMPLE_PERIOD`; the attr's fixed period when the field is absent is the caller's business.
    pub period: u64,
    /// `PERF_SAMPLE_READ`.
    pub read: ReadValues,
    /// `PERF_SAMPLE_CALLCHAIN`, context markers included.
    pub callchain: Vec<u64>,
    /// `PERF_SAMPLE_RAW`.
    pub raw: Vec<u8>,
    /// `PERF_SAMPLE_BRANCH_STACK`.
    pub branch_stack: BranchStack,
    /// `PERF_SAMPLE_REGS_USER`.
    pub regs_user: Regs,
    /// `PERF_SAMPLE_STACK_USER`.
    pub stack_user: StackUser,
    /// `PERF_SAMPLE_WEIGHT` or `_WEIGHT_STRUCT` (var1_dw | var2_w << 32 | var3_w << 48).
    pub weight: u64,
    /// `PERF_SAMPLE_DATA_SRC`.
    pub data_src: u64,
    /// `PERF_SAMPLE_TRANSACTION`.
    pub transaction: u64,
    /// `PERF_SAMPLE_REGS_INTR`.
    pub regs_intr: Regs,
    /// `PERF_SAMPLE_PHYS_ADDR`.
    pub phys_addr: u64,
    /// `PERF_SAMPLE_CGROUP`.
    pub cgroup: u64,
    /// `PERF_SAMPLE_DATA_PAGE_SIZE`, bytes.
    pub data_page_size: u64,
    /// `PERF_SAMPLE_CODE_PAGE_SIZE`, bytes.
    pub code_page_size: u64,
    /// `PERF_SAMPLE_AUX`.
    pub aux: Vec<u8>,
}

/// The fields of `struct sample_id`.
const ID_FIELDS: u64 = sample::TID | sample::TIME | sample::ID | sample::STREAM_ID | sample::CPU | sample::IDENTIFIER;

/// `struct perf_branch_entry`: mispred, predicted, in_tx, abort, cycles, type, spec, new_type, priv, reserved.
const BRANCH_WIDTHS: [u32; 10] = [1, 1, 1, 1, 16, 4, 2, 4, 3, 31];

impl Clear for ReadValues {
    fn clear(&mut self) {
        (self.time_enabled, self.time_running) = (0, 0);
        self.counters.clear();
    }
}

impl Clear for Regs {
    fn clear(&mut self) {
        self.abi = 0;
        self.values.clear();
    }
}

impl Clear for BranchStack {
    fn clear(&mut self) {
        self.hw_index = 0;
        self.entries.clear();
        self.counters.clear();
    }
}

impl Clear for StackUser {
    fn clear(&mut self) {
        self.bytes.clear();
        self.dyn_size = 0;
    }
}

impl ReadValues {
    /// `perf_output_read()`: `read_format` decides. Single: value, times, id, lost; group: count, times, and value, id,
    /// lost of each.
    pub(crate) fn fields<C: Codec>(&mut self, c: &mut C, format: u64) -> Coded {
        let counter = |c: &mut C, counter: &mut ReadCounter| {
            c.u64_if(format & read_format::ID != 0, &mut counter.id)?;
            c.u64_if(format & read_format::LOST != 0, &mut counter.lost)
        };
        let group = format & read_format::GROUP != 0;
        let mut first = self.counters.first().copied().unwrap_or_default();
        let mut count = self.counters.len() as u64;
        c.u64(if group { &mut count } else { &mut first.value })?;
        c.u64_if(format & read_format::TOTAL_TIME_ENABLED != 0, &mut self.time_enabled)?;
        c.u64_if(format & read_format::TOTAL_TIME_RUNNING != 0, &mut self.time_running)?;
        if group {
            return c.each(&mut self.counters, count, |c, each| {
                c.u64(&mut each.value)?;
                counter(c, each)
            });
        }
        counter(c, &mut first)?;
        self.counters.clear();
        self.counters.push(first);
        Ok(())
    }
}

impl Regs {
    fn fields<C: Codec>(&mut self, c: &mut C, mask: u64) -> Coded {
        c.u64(&mut self.abi)?;
        let len = if self.abi == 0 { 0 } else { mask.count_ones() };
        c.u64s(&mut self.values, len.into())
    }
}

impl BranchStack {
    fn fields<C: Codec>(&mut self, c: &mut C, format: u64) -> Coded {
        let mut len = self.entries.len() as u64;
        c.u64(&mut len)?;
        // Absent for some: see `SampleFormat::decode_without_index`.
        let index = format & branch::HW_INDEX != 0 && c.more(true);
        c.u64_if(index, &mut self.hw_index)?;
        c.each(&mut self.entries, len, |c, branch| {
            c.u64(&mut branch.from)?;
            c.u64(&mut branch.to)?;
            c.bits64(&mut branch.flags, &BRANCH_WIDTHS)
        })?;
        c.u64s(&mut self.counters, if format & branch::COUNTERS == 0 { 0 } else { len })
    }
}

impl StackUser {
    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let mut len = self.bytes.len() as u64;
        c.u64(&mut len)?;
        c.bytes(&mut self.bytes, len)?;
        c.u64_if(len != 0, &mut self.dyn_size)
    }
}

impl SampleId {
    /// `struct sample_id`, at the end of every record that is not a sample.
    fn fields<C: Codec>(&mut self, c: &mut C, sample_type: u64) -> Coded {
        let has = |bit| sample_type & bit != 0;
        self.task(c, sample_type)?;
        c.u64_if(has(sample::TIME), &mut self.time)?;
        c.u64_if(has(sample::ID), &mut self.id)?;
        c.u64_if(has(sample::STREAM_ID), &mut self.stream_id)?;
        self.cpu(c, sample_type)?;
        if has(sample::IDENTIFIER) {
            c.u64(&mut self.id)?;
        }
        Ok(())
    }

    fn task<C: Codec>(&mut self, c: &mut C, sample_type: u64) -> Coded {
        c.u32_if(sample_type & sample::TID != 0, &mut self.pid)?;
        c.u32_if(sample_type & sample::TID != 0, &mut self.tid)
    }

    fn cpu<C: Codec>(&mut self, c: &mut C, sample_type: u64) -> Coded {
        c.u32_if(sample_type & sample::CPU != 0, &mut self.cpu)?;
        c.u32_if(sample_type & sample::CPU != 0, &mut 0)
    }
}

impl Sample {
    /// The numbers that every sample of an event has at the same place: `IDENTIFIER` to `PERIOD`.
    #[inline]
    fn head<C: Codec>(&mut self, c: &mut C, sample_type: u64) -> Coded {
        let has = |bit| sample_type & bit != 0;
        c.u64_if(has(sample::IDENTIFIER), &mut self.id.id)?;
        c.u64_if(has(sample::IP), &mut self.ip)?;
        self.id.task(c, sample_type)?;
        c.u64_if(has(sample::TIME), &mut self.id.time)?;
        c.u64_if(has(sample::ADDR), &mut self.addr)?;
        if has(sample::ID) {
            c.u64(&mut self.id.id)?;
        }
        c.u64_if(has(sample::STREAM_ID), &mut self.id.stream_id)?;
        self.id.cpu(c, sample_type)?;
        c.u64_if(has(sample::PERIOD), &mut self.period)
    }

    /// The counters between the head and the call chain.
    #[inline]
    fn counters<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        let there = format.sample_type & sample::READ != 0;
        c.part_if(there, &mut self.read, |c, read| read.fields(c, format.read_format))
    }

    /// All fields in order.
    #[inline]
    pub(crate) fn fields<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        self.head(c, format.sample_type)?;
        self.counters(c, format)?;
        self.chain(c, format)?;
        self.between(c, format)?;
        self.user_stack(c, format)?;
        self.tail(c, format)
    }

    /// The call chain.
    #[inline]
    fn chain<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        c.part_if(format.sample_type & sample::CALLCHAIN != 0, &mut self.callchain, |c, chain| {
            let mut len = chain.len() as u64;
            c.u64(&mut len)?;
            c.u64s(chain, len)
        })
    }

    /// What stands between the call chain and the user registers.
    #[inline]
    fn between<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        let has = |bit| format.sample_type & bit != 0;
        c.part_if(has(sample::RAW), &mut self.raw, |c, raw| {
            let mut len = u32::try_from(raw.len()).map_err(|_| Short)?;
            c.u32(&mut len)?;
            c.bytes(raw, len.into())?;
            // The kernel's own lengths fill up; perf misreads what follows other ones.
            c.align(8)
        })?;
        c.part_if(has(sample::BRANCH_STACK), &mut self.branch_stack, |c, stack| {
            stack.fields(c, format.branch_sample_type)
        })
    }

    /// User registers and the copy of the user stack.
    #[inline]
    fn user_stack<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        let has = |bit| format.sample_type & bit != 0;
        c.part_if(has(sample::REGS_USER), &mut self.regs_user, |c, regs| regs.fields(c, format.sample_regs_user))?;
        c.part_if(has(sample::STACK_USER), &mut self.stack_user, |c, stack| stack.fields(c))
    }

    /// What follows the stack copy.
    #[inline]
    fn tail<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        let has = |bit| format.sample_type & bit != 0;
        c.u64_if(has(sample::WEIGHT | sample::WEIGHT_STRUCT), &mut self.weight)?;
        c.u64_if(has(sample::DATA_SRC), &mut self.data_src)?;
        c.u64_if(has(sample::TRANSACTION), &mut self.transaction)?;
        c.part_if(has(sample::REGS_INTR), &mut self.regs_intr, |c, regs| regs.fields(c, format.sample_regs_intr))?;
        c.u64_if(has(sample::PHYS_ADDR), &mut self.phys_addr)?;
        c.u64_if(has(sample::CGROUP), &mut self.cgroup)?;
        c.u64_if(has(sample::DATA_PAGE_SIZE), &mut self.data_page_size)?;
        c.u64_if(has(sample::CODE_PAGE_SIZE), &mut self.code_page_size)?;
        c.part_if(has(sample::AUX), &mut self.aux, |c, aux| {
            let mut len = aux.len() as u64;
            c.u64(&mut len)?;
            c.bytes(aux, len)
        })
    }
}

impl SampleFormat {
    /// Bytes of the [`SampleId`] that ends other records; 0 without `sample_id_all`.
    pub fn trailer_len(&self) -> usize {
        if self.sample_id_all { self.id_fields().count_ones() as usize * 8 } else { 0 }
    }

    /// Which fields of a [`SampleId`] there are.
    pub(crate) fn id_fields(&self) -> u64 {
        self.sample_type & ID_FIELDS
    }

    /// Decodes the body of a SAMPLE record into `into`, whose vectors keep their memory.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the body ends inside a field; `into` then holds a part of the sample.
    #[inline]
    pub fn decode_sample(&self, body: &[u8], into: &mut Sample) -> Result<()> {
        self.decode_to(body, into).map_err(|at| ends_inside("SAMPLE", body.len(), 0, at))
    }

    /// [`SampleFormat::decode_sample`]; the error is the place of the field that the body ends in.
    #[inline]
    pub(crate) fn decode_to(&self, body: &[u8], into: &mut Sample) -> std::result::Result<(), usize> {
        let mut decoder = Decoder::<false>::new(body, 0, self.order);
        into.id.fields = self.id_fields();
        match into.fields(&mut decoder, self) {
            Ok(()) => Ok(()),
            Err(Short) if self.decode_without_index(body, into) => Ok(()),
            Err(Short) => Err(decoder.position()),
        }
    }

    /// An event without branches (a software event in a group) has a count of 0 and no index behind it, although its
    /// attr asks for one. What follows then seems to lie 8 bytes further than it does, past the end. Tells whether
    /// `into` now holds such a sample.
    #[cold]
    fn decode_without_index(&self, body: &[u8], into: &mut Sample) -> bool {
        let asked = self.sample_type & sample::BRANCH_STACK != 0 && self.branch_sample_type & branch::HW_INDEX != 0;
        let plain = SampleFormat { branch_sample_type: self.branch_sample_type & !branch::HW_INDEX, ..self.clone() };
        let mut decoder = Decoder::<false>::new(body, 0, self.order);
        asked && into.fields(&mut decoder, &plain).is_ok() && into.branch_stack.entries.is_empty()
    }

    /// Appends the body of a SAMPLE record. The sample is as before afterwards; it is borrowed mutably because one
    /// description serves both directions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the sample does not fit the format: a number of registers or counters that the
    /// format does not say.
    pub fn encode_sample(&self, sample: &mut Sample, out: &mut Vec<u8>) -> Result<()> {
        let mut encoder = Encoder::new(out, self.order);
        let coded = sample.fields(&mut encoder, self).and_then(|()| encoder.align(8));
        coded.map_err(|Short| Error::Unsupported { what: "a sample that does not have the fields of its event".into() })
    }

    /// Decodes the sample id at the end of the body of a record that is not a sample, and returns the bytes before it.
    /// Without `sample_id_all` that is the whole body, and an id of zeros.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the body is shorter than the id.
    pub fn decode_id<'a>(&self, body: &'a [u8]) -> Result<(SampleId, &'a [u8])> {
        let mut id = SampleId::default();
        if !self.sample_id_all {
            return Ok((id, body));
        }
        let cut = || ends_inside("side-band", body.len(), 0, 0);
        let (rest, trailer) = body.split_at_checked(body.len().wrapping_sub(self.trailer_len())).ok_or_else(cut)?;
        id.fields = self.id_fields();
        id.fields(&mut Decoder::<false>::new(trailer, 0, self.order), self.sample_type).map_err(|Short| cut())?;
        Ok((id, rest))
    }

    /// Appends the sample id that ends a record; nothing without `sample_id_all`.
    pub fn encode_id(&self, id: &SampleId, out: &mut Vec<u8>) {
        if self.sample_id_all {
            // There is no array in it that could be of a wrong length.
            let _ = id.clone().fields(&mut Encoder::new(out, self.order), self.sample_type);
        }
    }
}

/// The error for a record at `offset` whose body of `len` bytes ends in the field at byte `at` of it.
#[cold]
pub(crate) fn ends_inside(record: &str, len: usize, offset: u64, at: usize) -> Error {
    Error::damaged(
        format!("a {record} record whose body of {len} bytes ends inside the field at its byte {at}"),
        offset,
    )
}
