//! The feature sections of perf.data, typed, decoded and encoded from one description each.
//!
//! Source: `tools/perf/Documentation/perf.data-file-format.txt` and `tools/perf/util/header.c`.

/// One entry of the build-id table (`HEADER_BUILD_ID`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildIdEntry {
    /// misc of its header: the cpumode says kernel or user.
    pub misc: u16,
    /// -1 for the host, else the guest machine's pid.
    pub pid: i32,
    /// 1 to 20 bytes.
    pub build_id: Vec<u8>,
    /// Path.
    pub path: Vec<u8>,
}

/// One event of `HEADER_EVENT_DESC`: its name, beside attr and ids that the attr section holds too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDescEntry {
    /// Encoded `perf_event_attr`, in the recording's byte order.
    pub attr: Vec<u8>,
    /// perf's name of the event.
    pub name: String,
    /// Ids.
    pub ids: Vec<u64>,
}

/// `HEADER_CLOCK_DATA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockData {
    /// `CLOCK_*` of the samples.
    pub clockid: u32,
    /// ns of wall clock at the reference instant.
    pub wall_ns: u64,
    /// ns of the samples' clock at the same instant.
    pub clock_ns: u64,
}

/// `HEADER_COMPRESSED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// 1.
    pub version: u32,
    /// 1: zstd.
    pub kind: u32,
    /// zstd level.
    pub level: u32,
    /// Compression ratio reached, rounded.
    pub ratio: u32,
    /// Length of one ring in bytes: the most that one record decompresses to.
    pub mmap_len: u32,
}

/// One group of `HEADER_GROUP_DESC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    /// Name, often `{anon_group}` or empty.
    pub name: String,
    /// Index of the leader.
    pub leader: u32,
    /// Members, the leader included.
    pub members: u32,
}

/// The feature sections. A section that is absent is `None` or empty; one that cannot be decoded is
/// left out and named in `damaged`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// TRACING_DATA, as bytes (`tools/perf/util/trace-event-info.c`).
    pub tracing_data: Option<Vec<u8>>,
    /// BUILD_ID.
    pub build_ids: Vec<BuildIdEntry>,
    /// HOSTNAME.
    pub hostname: Option<String>,
    /// OSRELEASE.
    pub os_release: Option<String>,
    /// VERSION of the recorder.
    pub version: Option<String>,
    /// ARCH (`uname -m`).
    pub arch: Option<String>,
    /// NRCPUS: (online, available).
    pub nr_cpus: Option<(u32, u32)>,
    /// CPUDESC.
    pub cpu_desc: Option<String>,
    /// CPUID.
    pub cpuid: Option<String>,
    /// TOTAL_MEM, kB.
    pub total_mem: Option<u64>,
    /// CMDLINE.
    pub cmdline: Vec<String>,
    /// EVENT_DESC.
    pub event_desc: Vec<EventDescEntry>,
    /// PMU_MAPPINGS: (type, name).
    pub pmu_mappings: Vec<(u32, String)>,
    /// GROUP_DESC.
    pub group_desc: Vec<GroupDesc>,
    /// SAMPLE_TIME: first and last, ns.
    pub sample_time: Option<(u64, u64)>,
    /// CLOCKID: its resolution... frequency field, ns (`clockid_res_ns`).
    pub clockid_res_ns: Option<u64>,
    /// DIR_FORMAT: version.
    pub dir_format: Option<u64>,
    /// COMPRESSED.
    pub compressed: Option<Compressed>,
    /// CLOCK_DATA.
    pub clock_data: Option<ClockData>,
    /// BRANCH_STACK is there.
    pub branch_stack: bool,
    /// Sections kept as bytes, by feature number (topologies, caches, caps, and numbers not known here).
    pub other: Vec<(u32, Vec<u8>)>,
    /// Feature numbers whose section could not be decoded.
    pub damaged: Vec<u32>,
}
