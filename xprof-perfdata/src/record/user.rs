//! The records that perf writes between those of the kernel.
//!
//! Layouts: `tools/lib/perf/include/perf/event.h`. None of them ends in a sample id (perf 6.15 and newer end
//! HEADER_BUILD_ID in one, which is not read: it says nothing that the record does not).

use crate::abi::{BUILD_ID_SIZE, misc};
use crate::attr::Attr;
use crate::codec::{Codec, Coded, Short};

/// ID_INDEX: which CPU and thread, in which machine, every sample id stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdIndex {
    /// The ids.
    pub entries: Vec<IdIndexEntry>,
    /// The second array, of `machine_pid` and `vcpu`, is there.
    pub guests: bool,
}

/// One entry of ID_INDEX; machine_pid and vcpu come from its second array and are 0 without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdIndexEntry {
    /// Sample id.
    pub id: u64,
    /// Index of the event.
    pub idx: u64,
    /// CPU, or `u64::MAX`.
    pub cpu: u64,
    /// Thread, or `u64::MAX`.
    pub tid: u64,
    /// Guest machine's pid (a domain's id on Xen), 0 for the host.
    pub machine_pid: u64,
    /// vCPU of the guest.
    pub vcpu: u64,
}

/// TIME_CONV: TSC to ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeConv {
    /// Shift.
    pub time_shift: u64,
    /// Multiplier.
    pub time_mult: u64,
    /// ns at TSC 0.
    pub time_zero: u64,
    /// Cycles.
    pub time_cycles: u64,
    /// Mask.
    pub time_mask: u64,
    /// Bit 0: `time_zero` valid; bit 1: short.
    pub caps: u16,
}

/// HEADER_ATTR: an event in pipe mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderAttr {
    /// The event's attr.
    pub attr: Attr,
    /// Ids of its instances.
    pub ids: Vec<u64>,
}

/// HEADER_EVENT_TYPE, which perf stopped writing in 2012: the name of a tracepoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEventType {
    /// Number of the tracepoint.
    pub event_id: u64,
    /// Its name, at most 64 bytes.
    pub name: Vec<u8>,
}

/// HEADER_BUILD_ID: also the form of an entry of the build-id table of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBuildId {
    /// -1 for the host, else the guest machine's pid.
    pub pid: i32,
    /// 1 to 20 bytes; always 20 when misc lacks [`misc::EXT_RESERVED`].
    pub build_id: Vec<u8>,
    /// Path.
    pub path: Vec<u8>,
}

/// HEADER_FEATURE: a feature section in pipe mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFeature {
    /// Feature number ([`crate::abi::feature`]).
    pub feature: u64,
    /// The section.
    pub section: Vec<u8>,
}

/// AUXTRACE_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuxtraceInfo {
    /// `PERF_AUXTRACE_*`: 1 Intel PT, 2 Intel BTS, 3 CoreSight, 4 SPE, ..
    pub kind: u32,
    /// What the decoder of that trace needs.
    pub private: Vec<u64>,
}

/// AUXTRACE: `size` bytes of trace follow the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auxtrace {
    /// Bytes that follow.
    pub size: u64,
    /// Offset in the aux stream, bytes.
    pub offset: u64,
    /// Says which buffer comes first.
    pub reference: u64,
    /// Index of the aux ring.
    pub idx: u32,
    /// Thread, or `u32::MAX`.
    pub tid: u32,
    /// CPU, or `u32::MAX`.
    pub cpu: u32,
}

/// AUXTRACE_ERROR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuxtraceError {
    /// 1: instruction trace.
    pub kind: u32,
    /// Code of the decoder.
    pub code: u32,
    /// CPU.
    pub cpu: u32,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Form: 0 without time, 1 with time, 2 with machine and vCPU too.
    pub form: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// ns.
    pub time: u64,
    /// Message, at most 64 bytes.
    pub message: Vec<u8>,
    /// Guest machine's pid.
    pub machine_pid: u32,
    /// vCPU of the guest.
    pub vcpu: u32,
}

/// A set of CPUs, in the form in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuMap {
    /// One number each; `u16::MAX` for "any CPU".
    Cpus(Vec<u16>),
    /// Bits in words of 32.
    Mask32(Vec<u32>),
    /// Bits in words of 64.
    Mask64(Vec<u64>),
    /// All from first to last.
    Range {
        /// "Any CPU" is in the set too.
        any: bool,
        /// First.
        first: u16,
        /// Last.
        last: u16,
    },
    /// A form not known here.
    Other {
        /// `PERF_CPU_MAP__*`.
        kind: u16,
        /// What follows.
        bytes: Vec<u8>,
    },
}

/// STAT: one count of `perf stat record`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Event id.
    pub id: u64,
    /// CPU index.
    pub cpu: u32,
    /// Thread index.
    pub thread: u32,
    /// Count.
    pub value: u64,
    /// ns enabled.
    pub enabled: u64,
    /// ns running.
    pub running: u64,
}

/// STAT_ROUND.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatRound {
    /// 0: an interval, 1: the end.
    pub kind: u64,
    /// ns.
    pub time: u64,
}

/// EVENT_UPDATE: what pipe mode says of an event beside its attr.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventUpdate {
    /// An id of the event.
    pub id: u64,
    /// What it says.
    pub update: Update,
}

/// `PERF_EVENT_UPDATE__*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Unit of the count.
    Unit(Vec<u8>),
    /// Factor to the unit, as the bits of an `f64`.
    Scale(u64),
    /// Name of the event.
    Name(Vec<u8>),
    /// CPUs of its PMU.
    Cpus(CpuMap),
    /// A kind not known here.
    Other {
        /// Its number.
        kind: u64,
        /// What follows.
        bytes: Vec<u8>,
    },
}

impl Default for CpuMap {
    fn default() -> Self {
        CpuMap::Other { kind: u16::MAX, bytes: Vec::new() }
    }
}

impl Default for Update {
    fn default() -> Self {
        Update::Other { kind: u64::MAX, bytes: Vec::new() }
    }
}

impl IdIndex {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let mut len = self.entries.len() as u64;
        c.u64(&mut len)?;
        c.each(&mut self.entries, len, |c, entry| {
            c.u64(&mut entry.id)?;
            c.u64(&mut entry.idx)?;
            c.u64(&mut entry.cpu)?;
            c.u64(&mut entry.tid)
        })?;
        self.guests = c.more(self.guests);
        if self.guests {
            for entry in &mut self.entries {
                c.u64(&mut entry.machine_pid)?;
                c.u64(&mut entry.vcpu)?;
            }
        }
        Ok(())
    }
}

impl TimeConv {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.time_shift)?;
        c.u64(&mut self.time_mult)?;
        c.u64(&mut self.time_zero)?;
        // perf before 5.10 ended here.
        if !c.more(true) {
            return Ok(());
        }
        c.u64(&mut self.time_cycles)?;
        c.u64(&mut self.time_mask)?;
        let [mut zero, mut short] = [self.caps as u8 & 1, (self.caps >> 1) as u8 & 1];
        c.u8(&mut zero)?;
        c.u8(&mut short)?;
        self.caps = u16::from(zero != 0) | u16::from(short != 0) << 1;
        c.zeros(6)
    }
}

impl HeaderAttr {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        self.attr.sized(c)?;
        c.u64s_to_end(&mut self.ids)
    }
}

impl HeaderEventType {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.event_id)?;
        c.name_in(&mut self.name, 64)
    }
}

impl HeaderBuildId {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C, misc: u16) -> Coded {
        c.i32(&mut self.pid)?;
        let mut bytes = [0; BUILD_ID_SIZE];
        let own = self.build_id.len().min(BUILD_ID_SIZE);
        bytes[..own].copy_from_slice(&self.build_id[..own]);
        c.array(&mut bytes)?;
        let mut len = own as u8;
        c.u8(&mut len)?;
        c.zeros(3)?;
        let len = if misc & misc::EXT_RESERVED == 0 { BUILD_ID_SIZE } else { usize::from(len).min(BUILD_ID_SIZE) };
        self.build_id.clear();
        self.build_id.extend_from_slice(&bytes[..len]);
        c.name(&mut self.path, 64)
    }
}

impl HeaderFeature {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.feature)?;
        c.rest(&mut self.section)
    }
}

impl AuxtraceInfo {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.kind)?;
        c.zeros(4)?;
        c.u64s_to_end(&mut self.private)
    }
}

impl Auxtrace {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.size)?;
        c.u64(&mut self.offset)?;
        c.u64(&mut self.reference)?;
        c.u32(&mut self.idx)?;
        c.u32(&mut self.tid)?;
        c.u32(&mut self.cpu)?;
        c.zeros(4)
    }
}

impl AuxtraceError {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.kind)?;
        c.u32(&mut self.code)?;
        c.u32(&mut self.cpu)?;
        c.u32(&mut self.pid)?;
        c.u32(&mut self.tid)?;
        c.u32(&mut self.form)?;
        c.u64(&mut self.ip)?;
        c.u64_if(self.form > 0, &mut self.time)?;
        if self.form < 2 {
            return c.name(&mut self.message, 8);
        }
        c.name_in(&mut self.message, 64)?;
        c.u32(&mut self.machine_pid)?;
        c.u32(&mut self.vcpu)
    }
}

/// THREAD_MAP: threads and their names, at most 16 bytes each.
pub(super) fn thread_map<C: Codec>(threads: &mut Vec<(u64, Vec<u8>)>, c: &mut C) -> Coded {
    let mut len = threads.len() as u64;
    c.u64(&mut len)?;
    c.each(threads, len, |c, (pid, comm)| {
        c.u64(pid)?;
        c.name_in(comm, 16)
    })
}

/// STAT_CONFIG: terms and their values.
pub(super) fn stat_config<C: Codec>(terms: &mut Vec<(u64, u64)>, c: &mut C) -> Coded {
    let mut len = terms.len() as u64;
    c.u64(&mut len)?;
    c.each(terms, len, |c, (tag, value)| {
        c.u64(tag)?;
        c.u64(value)
    })
}

/// COMPRESSED2: the length without the padding, then the chunk.
pub(super) fn compressed2<C: Codec>(chunk: &mut Vec<u8>, c: &mut C) -> Coded {
    let mut len = chunk.len() as u64;
    c.u64(&mut len)?;
    c.bytes(chunk, len)?;
    c.align(8)
}

impl CpuMap {
    /// The numbers that say which form follows: kind, and bytes of a word for masks.
    fn form(&self) -> (u16, u16) {
        match self {
            CpuMap::Cpus(_) => (0, 0),
            CpuMap::Mask32(_) => (1, 4),
            CpuMap::Mask64(_) => (1, 8),
            CpuMap::Range { .. } => (2, 0),
            CpuMap::Other { kind, .. } => (*kind, 0),
        }
    }

    /// An empty map of a form; `None` for words of an unknown size.
    fn empty(form: (u16, u16)) -> Option<CpuMap> {
        Some(match form {
            (0, _) => CpuMap::Cpus(Vec::new()),
            (1, 4) => CpuMap::Mask32(Vec::new()),
            (1, 8) => CpuMap::Mask64(Vec::new()),
            (1, _) => return None,
            (2, _) => CpuMap::Range { any: false, first: 0, last: 0 },
            (kind, _) => CpuMap::Other { kind, bytes: Vec::new() },
        })
    }

    /// `struct perf_record_cpu_map_data`, packed.
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let (mut kind, mut word) = self.form();
        let len = match self {
            CpuMap::Cpus(cpus) => cpus.len(),
            CpuMap::Mask32(words) => words.len(),
            CpuMap::Mask64(words) => words.len(),
            CpuMap::Range { .. } | CpuMap::Other { .. } => 0,
        };
        let mut len = u16::try_from(len).map_err(|_| Short)?;
        c.u16(&mut kind)?;
        if kind < 2 {
            c.u16(&mut len)?;
        }
        if kind == 1 {
            c.u16(&mut word)?;
        }
        if (kind, word) != self.form() {
            *self = CpuMap::empty((kind, word)).ok_or(Short)?;
        }
        match self {
            CpuMap::Cpus(cpus) => c.each(cpus, len.into(), |c, cpu| c.u16(cpu))?,
            CpuMap::Mask32(words) => c.each(words, len.into(), |c, word| c.u32(word))?,
            CpuMap::Mask64(words) => {
                c.zeros(4)?;
                c.u64s(words, len.into())?;
            }
            CpuMap::Range { any, first, last } => {
                let mut byte = u8::from(*any);
                c.u8(&mut byte)?;
                *any = byte != 0;
                c.zeros(1)?;
                c.u16(first)?;
                c.u16(last)?;
            }
            CpuMap::Other { kind: 0..=2, .. } => return Err(Short),
            CpuMap::Other { bytes, .. } => return c.rest(bytes),
        }
        c.align(8)
    }
}

impl Stat {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.id)?;
        c.u32(&mut self.cpu)?;
        c.u32(&mut self.thread)?;
        c.u64(&mut self.value)?;
        c.u64(&mut self.enabled)?;
        c.u64(&mut self.running)
    }
}

impl StatRound {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.kind)?;
        c.u64(&mut self.time)
    }
}

impl Update {
    fn kind(&self) -> u64 {
        match self {
            Update::Unit(_) => 0,
            Update::Scale(_) => 1,
            Update::Name(_) => 2,
            Update::Cpus(_) => 3,
            Update::Other { kind, .. } => *kind,
        }
    }

    fn empty(kind: u64) -> Update {
        match kind {
            0 => Update::Unit(Vec::new()),
            1 => Update::Scale(0),
            2 => Update::Name(Vec::new()),
            3 => Update::Cpus(CpuMap::default()),
            kind => Update::Other { kind, bytes: Vec::new() },
        }
    }
}

impl EventUpdate {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let mut kind = self.update.kind();
        c.u64(&mut kind)?;
        c.u64(&mut self.id)?;
        if kind != self.update.kind() {
            self.update = Update::empty(kind);
        }
        match &mut self.update {
            Update::Unit(name) | Update::Name(name) => c.name(name, 8),
            Update::Scale(bits) => c.u64(bits),
            Update::Cpus(cpus) => cpus.fields(c),
            Update::Other { kind: 0..=3, .. } => Err(Short),
            Update::Other { bytes, .. } => c.rest(bytes),
        }
    }
}
