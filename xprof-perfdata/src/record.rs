//! Every record: one struct each, one enum of them all, decoded and encoded by one list of kinds.
//!
//! A record of the kernel's ends in the sample id of its event ([`SampleId`]); a sample and a record of perf's own do
//! not. A body may be longer than what is known of it: new fields come last.

mod kernel;
mod user;

pub use kernel::*;
pub use user::*;

use crate::abi::{RECORD_MAX, record as number};
use crate::codec::{Codec, Coded, Decoder, Encoder, Short};
use crate::events::Events;
use crate::order::RawRecord;
use crate::sample::{Sample, SampleFormat, SampleId, ends_inside};
use crate::{Error, Result};

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A sample.
    Sample(Box<Sample>),
    /// MMAP or MMAP2.
    Mmap(Mmap),
    /// COMM.
    Comm(Comm),
    /// FORK.
    Fork(Task),
    /// EXIT.
    Exit(Task),
    /// LOST.
    Lost(Lost),
    /// LOST_SAMPLES: how many.
    LostSamples(u64),
    /// THROTTLE.
    Throttle(Throttle),
    /// UNTHROTTLE.
    Unthrottle(Throttle),
    /// READ.
    Read(Read),
    /// AUX.
    Aux(Aux),
    /// ITRACE_START.
    ItraceStart(TaskId),
    /// SWITCH; out and preempt are in misc.
    Switch,
    /// SWITCH_CPU_WIDE: the next (or previous) task.
    SwitchCpuWide(TaskId),
    /// NAMESPACES.
    Namespaces(Namespaces),
    /// KSYMBOL.
    Ksymbol(Ksymbol),
    /// BPF_EVENT.
    BpfEvent(BpfEvent),
    /// CGROUP.
    Cgroup(Cgroup),
    /// TEXT_POKE.
    TextPoke(TextPoke),
    /// AUX_OUTPUT_HW_ID.
    AuxOutputHwId(u64),
    /// CALLCHAIN_DEFERRED.
    CallchainDeferred(CallchainDeferred),
    /// HEADER_ATTR.
    HeaderAttr(HeaderAttr),
    /// HEADER_EVENT_TYPE.
    HeaderEventType(HeaderEventType),
    /// HEADER_TRACING_DATA: how many bytes of tracing data follow the record, filled up to a multiple of 8.
    HeaderTracingData(u32),
    /// HEADER_BUILD_ID.
    HeaderBuildId(HeaderBuildId),
    /// ID_INDEX.
    IdIndex(IdIndex),
    /// AUXTRACE_INFO.
    AuxtraceInfo(AuxtraceInfo),
    /// AUXTRACE.
    Auxtrace(Auxtrace),
    /// AUXTRACE_ERROR.
    AuxtraceError(AuxtraceError),
    /// THREAD_MAP: threads and their names.
    ThreadMap(Vec<(u64, Vec<u8>)>),
    /// CPU_MAP.
    CpuMap(CpuMap),
    /// STAT_CONFIG: `PERF_STAT_CONFIG_TERM__*` and their values.
    StatConfig(Vec<(u64, u64)>),
    /// STAT.
    Stat(Stat),
    /// STAT_ROUND.
    StatRound(StatRound),
    /// EVENT_UPDATE.
    EventUpdate(EventUpdate),
    /// TIME_CONV.
    TimeConv(TimeConv),
    /// HEADER_FEATURE.
    HeaderFeature(HeaderFeature),
    /// COMPRESSED: a chunk of a zstd stream.
    Compressed(Vec<u8>),
    /// COMPRESSED2: the same, filled up to a multiple of 8.
    Compressed2(Vec<u8>),
    /// FINISHED_ROUND.
    FinishedRound,
    /// FINISHED_INIT.
    FinishedInit,
    /// A record of an unknown type.
    Other {
        /// Its type.
        kind: u32,
        /// Its bytes after the header, as they were recorded.
        body: Vec<u8>,
    },
}

impl Record {
    /// An empty record of a kind, to decode into.
    fn empty(kind: u32) -> Record {
        match kind {
            number::SAMPLE => Record::Sample(Box::default()),
            number::MMAP => Record::Mmap(Mmap::default()),
            number::MMAP2 => Record::Mmap(Mmap::empty_v2(false)),
            number::COMM => Record::Comm(Comm::default()),
            number::FORK => Record::Fork(Task::default()),
            number::EXIT => Record::Exit(Task::default()),
            number::LOST => Record::Lost(Lost::default()),
            number::LOST_SAMPLES => Record::LostSamples(0),
            number::THROTTLE => Record::Throttle(Throttle::default()),
            number::UNTHROTTLE => Record::Unthrottle(Throttle::default()),
            number::READ => Record::Read(Read::default()),
            number::AUX => Record::Aux(Aux::default()),
            number::ITRACE_START => Record::ItraceStart(TaskId::default()),
            number::SWITCH => Record::Switch,
            number::SWITCH_CPU_WIDE => Record::SwitchCpuWide(TaskId::default()),
            number::NAMESPACES => Record::Namespaces(Namespaces::default()),
            number::KSYMBOL => Record::Ksymbol(Ksymbol::default()),
            number::BPF_EVENT => Record::BpfEvent(BpfEvent::default()),
            number::CGROUP => Record::Cgroup(Cgroup::default()),
            number::TEXT_POKE => Record::TextPoke(TextPoke::default()),
            number::AUX_OUTPUT_HW_ID => Record::AuxOutputHwId(0),
            number::CALLCHAIN_DEFERRED => Record::CallchainDeferred(CallchainDeferred::default()),
            number::HEADER_ATTR => Record::HeaderAttr(HeaderAttr::default()),
            number::HEADER_EVENT_TYPE => Record::HeaderEventType(HeaderEventType::default()),
            number::HEADER_TRACING_DATA => Record::HeaderTracingData(0),
            number::HEADER_BUILD_ID => Record::HeaderBuildId(HeaderBuildId::default()),
            number::FINISHED_ROUND => Record::FinishedRound,
            number::ID_INDEX => Record::IdIndex(IdIndex::default()),
            number::AUXTRACE_INFO => Record::AuxtraceInfo(AuxtraceInfo::default()),
            number::AUXTRACE => Record::Auxtrace(Auxtrace::default()),
            number::AUXTRACE_ERROR => Record::AuxtraceError(AuxtraceError::default()),
            number::THREAD_MAP => Record::ThreadMap(Vec::new()),
            number::CPU_MAP => Record::CpuMap(CpuMap::default()),
            number::STAT_CONFIG => Record::StatConfig(Vec::new()),
            number::STAT => Record::Stat(Stat::default()),
            number::STAT_ROUND => Record::StatRound(StatRound::default()),
            number::EVENT_UPDATE => Record::EventUpdate(EventUpdate::default()),
            number::TIME_CONV => Record::TimeConv(TimeConv::default()),
            number::HEADER_FEATURE => Record::HeaderFeature(HeaderFeature::default()),
            number::COMPRESSED => Record::Compressed(Vec::new()),
            number::COMPRESSED2 => Record::Compressed2(Vec::new()),
            number::FINISHED_INIT => Record::FinishedInit,
            kind => Record::Other { kind, body: Vec::new() },
        }
    }

    /// `PERF_RECORD_*` ([`crate::abi::record`]).
    pub fn kind(&self) -> u32 {
        match self {
            Record::Sample(_) => number::SAMPLE,
            Record::Mmap(mmap) if mmap.v2 => number::MMAP2,
            Record::Mmap(_) => number::MMAP,
            Record::Comm(_) => number::COMM,
            Record::Fork(_) => number::FORK,
            Record::Exit(_) => number::EXIT,
            Record::Lost(_) => number::LOST,
            Record::LostSamples(_) => number::LOST_SAMPLES,
            Record::Throttle(_) => number::THROTTLE,
            Record::Unthrottle(_) => number::UNTHROTTLE,
            Record::Read(_) => number::READ,
            Record::Aux(_) => number::AUX,
            Record::ItraceStart(_) => number::ITRACE_START,
            Record::Switch => number::SWITCH,
            Record::SwitchCpuWide(_) => number::SWITCH_CPU_WIDE,
            Record::Namespaces(_) => number::NAMESPACES,
            Record::Ksymbol(_) => number::KSYMBOL,
            Record::BpfEvent(_) => number::BPF_EVENT,
            Record::Cgroup(_) => number::CGROUP,
            Record::TextPoke(_) => number::TEXT_POKE,
            Record::AuxOutputHwId(_) => number::AUX_OUTPUT_HW_ID,
            Record::CallchainDeferred(_) => number::CALLCHAIN_DEFERRED,
            Record::HeaderAttr(_) => number::HEADER_ATTR,
            Record::HeaderEventType(_) => number::HEADER_EVENT_TYPE,
            Record::HeaderTracingData(_) => number::HEADER_TRACING_DATA,
            Record::HeaderBuildId(_) => number::HEADER_BUILD_ID,
            Record::FinishedRound => number::FINISHED_ROUND,
            Record::IdIndex(_) => number::ID_INDEX,
            Record::AuxtraceInfo(_) => number::AUXTRACE_INFO,
            Record::Auxtrace(_) => number::AUXTRACE,
            Record::AuxtraceError(_) => number::AUXTRACE_ERROR,
            Record::ThreadMap(_) => number::THREAD_MAP,
            Record::CpuMap(_) => number::CPU_MAP,
            Record::StatConfig(_) => number::STAT_CONFIG,
            Record::Stat(_) => number::STAT,
            Record::StatRound(_) => number::STAT_ROUND,
            Record::EventUpdate(_) => number::EVENT_UPDATE,
            Record::TimeConv(_) => number::TIME_CONV,
            Record::HeaderFeature(_) => number::HEADER_FEATURE,
            Record::Compressed(_) => number::COMPRESSED,
            Record::Compressed2(_) => number::COMPRESSED2,
            Record::FinishedInit => number::FINISHED_INIT,
            Record::Other { kind, .. } => *kind,
        }
    }

    /// The fields of the body, without the sample id.
    fn fields<C: Codec>(&mut self, c: &mut C, misc: u16, format: &SampleFormat) -> Coded {
        match self {
            Record::Sample(sample) => sample.fields(c, format).and_then(|()| c.align(8)),
            Record::Mmap(mmap) => mmap.fields(c),
            Record::Comm(comm) => comm.fields(c),
            Record::Fork(task) | Record::Exit(task) => task.fields(c),
            Record::Lost(lost) => lost.fields(c),
            Record::LostSamples(number) | Record::AuxOutputHwId(number) => c.u64(number),
            Record::Throttle(throttle) | Record::Unthrottle(throttle) => throttle.fields(c),
            Record::Read(read) => read.fields(c, format),
            Record::Aux(aux) => aux.fields(c),
            Record::ItraceStart(task) | Record::SwitchCpuWide(task) => task.fields(c),
            Record::Switch | Record::FinishedRound | Record::FinishedInit => Ok(()),
            Record::Namespaces(namespaces) => namespaces.fields(c),
            Record::Ksymbol(symbol) => symbol.fields(c),
            Record::BpfEvent(event) => event.fields(c),
            Record::Cgroup(cgroup) => cgroup.fields(c),
            Record::TextPoke(poke) => poke.fields(c),
            Record::CallchainDeferred(chain) => chain.fields(c),
            Record::HeaderAttr(attr) => attr.fields(c),
            Record::HeaderEventType(event) => event.fields(c),
            Record::HeaderTracingData(size) => c.u32(size),
            Record::HeaderBuildId(id) => id.fields(c, misc),
            Record::IdIndex(index) => index.fields(c),
            Record::AuxtraceInfo(info) => info.fields(c),
            Record::Auxtrace(trace) => trace.fields(c),
            Record::AuxtraceError(error) => error.fields(c),
            Record::ThreadMap(threads) => user::thread_map(threads, c),
            Record::CpuMap(map) => map.fields(c),
            Record::StatConfig(terms) => user::stat_config(terms, c),
            Record::Stat(stat) => stat.fields(c),
            Record::StatRound(round) => round.fields(c),
            Record::EventUpdate(update) => update.fields(c),
            Record::TimeConv(conversion) => conversion.fields(c),
            Record::HeaderFeature(feature) => feature.fields(c),
            Record::Compressed(chunk) | Record::Other { body: chunk, .. } => c.rest(chunk),
            Record::Compressed2(chunk) => user::compressed2(chunk, c),
        }
    }

    /// True for the kinds that end in a sample id.
    fn has_trailer(kind: u32) -> bool {
        kind < number::CALLCHAIN_DEFERRED + 1 && kind != number::SAMPLE
    }

    /// Decodes a record and the sample id that ends it (all zero when it has none). `raw.event` says whose format it
    /// has; when that is not known, the format of the events' side-band records is taken.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the body ends inside a field, or is a record of the kernel's and no multiple of 8 bytes.
    pub fn decode(raw: &RawRecord<'_>, events: &Events) -> Result<(Record, SampleId)> {
        let format = events.format_of(raw.event);
        let cut = |at: usize| ends_inside(&format!("type {}", raw.kind), raw.body.len(), raw.offset, at);
        if raw.kind < number::USER_START && !raw.body.len().is_multiple_of(8) {
            return Err(cut(raw.body.len()));
        }
        if raw.kind == number::SAMPLE {
            let mut sample = Box::<Sample>::default();
            format.decode_to(raw.body, &mut sample).map_err(cut)?;
            let id = sample.id;
            return Ok((Record::Sample(sample), id));
        }
        let mut id = SampleId::default();
        let mut body = raw.body;
        if Self::has_trailer(raw.kind) {
            (id, body) = format.decode_id(body)?;
        }
        let mut record = Record::empty(raw.kind);
        if raw.kind == number::MMAP2 && Mmap::holds_build_id(raw.misc, events.ask_build_ids(), body) {
            record = Record::Mmap(Mmap::empty_v2(true));
        }
        let mut decoder = Decoder::<false>::new(body, 0, events.order);
        record.fields(&mut decoder, raw.misc, &format).map_err(|Short| cut(decoder.position()))?;
        Ok((record, id))
    }

    /// Encodes the whole record, header included, in the byte order of `format`, which is that of its event. Together
    /// with [`Record::decode`] it brings a record into the other byte order; bytes without structure (raw samples, user
    /// stacks, features, unknown types) stay as they were recorded.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the record is longer than 65,535 bytes, the most that its header can say, or
    /// does not have the fields that `format` and `misc` ask for.
    pub fn encode(&self, id: &SampleId, misc: u16, format: &SampleFormat) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(128);
        let kind = self.kind();
        let refused = |why: &str| Error::Unsupported { what: format!("a record of type {kind} that {why}") };
        // The size comes when the body is there.
        let mut header = (kind, misc, 0);
        let _ = header_fields(&mut header, &mut Encoder::new(&mut out, format.order));
        // One description serves both directions, so it borrows the fields mutably.
        let fields = self.clone().fields(&mut Encoder::new(&mut out, format.order), misc, format);
        fields.map_err(|Short| refused("does not have the fields of its event"))?;
        if Self::has_trailer(kind) {
            format.encode_id(id, &mut out);
        }
        if out.len() > RECORD_MAX {
            return Err(refused(&format!("has {} bytes", out.len())));
        }
        header.2 = out.len() as u16;
        let mut head = Vec::with_capacity(8);
        let _ = header_fields(&mut header, &mut Encoder::new(&mut head, format.order));
        out[..8].copy_from_slice(&head);
        Ok(out)
    }
}

/// `struct perf_event_header`: type, misc, size.
fn header_fields<C: Codec>((kind, misc, size): &mut (u32, u16, u16), c: &mut C) -> Coded {
    c.u32(kind)?;
    c.u16(misc)?;
    c.u16(size)
}
