//! Every record but the sample: one struct each, one enum of them all.
//!
//! Layouts: the comments of `enum perf_event_type` in `include/uapi/linux/perf_event.h`, and
//! `tools/lib/perf/include/perf/event.h` for the records that perf writes.

use crate::events::Events;
use crate::order::RawRecord;
use crate::sample::{ReadValues, Sample, SampleId};
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
    /// ID_INDEX.
    IdIndex(Vec<IdIndexEntry>),
    /// THREAD_MAP.
    ThreadMap(Vec<(u64, Vec<u8>)>),
    /// TIME_CONV.
    TimeConv(TimeConv),
    /// FINISHED_ROUND.
    FinishedRound,
    /// FINISHED_INIT.
    FinishedInit,
    /// A record whose meaning is kept as bytes: one that the reader itself consumes, or an unknown type.
    Other {
        /// Its type.
        kind: u32,
        /// Its bytes after the header.
        body: Vec<u8>,
    },
}

/// Where the mapped bytes come from: MMAP2's two forms, or MMAP's none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MmapFile {
    /// A plain MMAP record says nothing.
    Unknown,
    /// Device and inode.
    Inode {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
        /// Inode number.
        inode: u64,
        /// Inode generation.
        generation: u64,
    },
    /// Build id (`PERF_RECORD_MISC_MMAP_BUILD_ID`), 1 to 20 bytes.
    BuildId(Vec<u8>),
}

/// MMAP and MMAP2. A plain MMAP has prot 0, flags 0 and [`MmapFile::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mmap {
    /// True for MMAP2.
    pub v2: bool,
    /// Process; `u32::MAX` for the kernel.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// File offset, bytes (for the kernel's own map: the address of its reference symbol).
    pub pgoff: u64,
    /// Device and inode, or build id.
    pub file: MmapFile,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// Path as the kernel saw it, without its terminating zeros.
    pub path: Vec<u8>,
}

/// pid and tid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskId {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
}

/// COMM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comm {
    /// Who.
    pub task: TaskId,
    /// The new name, without zeros. Whether by exec is in misc.
    pub comm: Vec<u8>,
}

/// FORK and EXIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Process.
    pub pid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent thread.
    pub ptid: u32,
    /// ns.
    pub time: u64,
}

/// LOST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Event id.
    pub id: u64,
    /// Records lost.
    pub lost: u64,
}

/// THROTTLE and UNTHROTTLE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// ns.
    pub time: u64,
    /// Event id.
    pub id: u64,
    /// Stream id.
    pub stream_id: u64,
}

/// READ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Who.
    pub task: TaskId,
    /// Counts (never a group).
    pub values: ReadValues,
}

/// AUX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aux {
    /// Offset in the aux stream, bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// `PERF_AUX_FLAG_*`.
    pub flags: u64,
}

/// NAMESPACES.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Who.
    pub task: TaskId,
    /// (device, inode) in the order net, uts, ipc, pid, user, mnt, cgroup.
    pub links: Vec<(u64, u64)>,
}

/// KSYMBOL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ksymbol {
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `PERF_RECORD_KSYMBOL_TYPE_*`.
    pub ksym_type: u16,
    /// `PERF_RECORD_KSYMBOL_FLAGS_*` (1: unregistered).
    pub flags: u16,
    /// Name.
    pub name: Vec<u8>,
}

/// BPF_EVENT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfEvent {
    /// `PERF_BPF_EVENT_*`.
    pub event: u16,
    /// Flags.
    pub flags: u16,
    /// Program id.
    pub prog_id: u32,
    /// Tag.
    pub tag: [u8; 8],
}

/// CGROUP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Id, as in `PERF_SAMPLE_CGROUP`.
    pub id: u64,
    /// Path under the cgroup root.
    pub path: Vec<u8>,
}

/// TEXT_POKE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPoke {
    /// Address.
    pub addr: u64,
    /// Bytes before.
    pub old: Vec<u8>,
    /// Bytes after.
    pub new: Vec<u8>,
}

/// CALLCHAIN_DEFERRED.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallchainDeferred {
    /// Matches the cookie that follows `PERF_CONTEXT_USER_DEFERRED` in a sample's chain.
    pub cookie: u64,
    /// The user half.
    pub ips: Vec<u64>,
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

impl Record {
    /// Decodes a record and the sample id that ends it (all zero when the recording has none).
    pub fn decode(raw: &RawRecord<'_>, events: &Events) -> Result<(Record, SampleId)> {
        let _ = (raw, events);
        Err(Error::damaged("not written yet", 0))
    }
}
