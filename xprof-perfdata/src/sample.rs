//! `PERF_RECORD_SAMPLE` and the sample id that ends every other record.
//!
//! Layout: `perf_output_sample()` in `kernel/events/core.c`; which fields are there is
//! `perf_event_attr.sample_type`, carried here as [`SampleFormat`].

use crate::codec::ByteOrder;

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
