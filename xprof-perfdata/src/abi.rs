//! The numbers of the kernel's ABI and of perf's file format.
//!
//! Kernel numbers are those of `include/uapi/linux/perf_event.h` (Linux 7.x), under the kernel's names without
//! their common prefix; numbers of the file are those of `tools/perf/util/{header.h,event.h}` and
//! `tools/lib/perf/include/perf/event.h`. They stand here, and not in a generated binding, because this crate
//! reads recordings of any machine on any machine.

/// Record types: `enum perf_event_type` and `enum perf_user_event_type`.
pub mod record {
    /// `PERF_RECORD_MMAP`.
    pub const MMAP: u32 = 1;
    /// `PERF_RECORD_LOST`.
    pub const LOST: u32 = 2;
    /// `PERF_RECORD_COMM`.
    pub const COMM: u32 = 3;
    /// `PERF_RECORD_EXIT`.
    pub const EXIT: u32 = 4;
    /// `PERF_RECORD_THROTTLE`.
    pub const THROTTLE: u32 = 5;
    /// `PERF_RECORD_UNTHROTTLE`.
    pub const UNTHROTTLE: u32 = 6;
    /// `PERF_RECORD_FORK`.
    pub const FORK: u32 = 7;
    /// `PERF_RECORD_READ`.
    pub const READ: u32 = 8;
    /// `PERF_RECORD_SAMPLE`.
    pub const SAMPLE: u32 = 9;
    /// `PERF_RECORD_MMAP2`.
    pub const MMAP2: u32 = 10;
    /// `PERF_RECORD_AUX`.
    pub const AUX: u32 = 11;
    /// `PERF_RECORD_ITRACE_START`.
    pub const ITRACE_START: u32 = 12;
    /// `PERF_RECORD_LOST_SAMPLES`.
    pub const LOST_SAMPLES: u32 = 13;
    /// `PERF_RECORD_SWITCH`.
    pub const SWITCH: u32 = 14;
    /// `PERF_RECORD_SWITCH_CPU_WIDE`.
    pub const SWITCH_CPU_WIDE: u32 = 15;
    /// `PERF_RECORD_NAMESPACES`.
    pub const NAMESPACES: u32 = 16;
    /// `PERF_RECORD_KSYMBOL`.
    pub const KSYMBOL: u32 = 17;
    /// `PERF_RECORD_BPF_EVENT`.
    pub const BPF_EVENT: u32 = 18;
    /// `PERF_RECORD_CGROUP`.
    pub const CGROUP: u32 = 19;
    /// `PERF_RECORD_TEXT_POKE`.
    pub const TEXT_POKE: u32 = 20;
    /// `PERF_RECORD_AUX_OUTPUT_HW_ID`.
    pub const AUX_OUTPUT_HW_ID: u32 = 21;
    /// `PERF_RECORD_CALLCHAIN_DEFERRED`.
    pub const CALLCHAIN_DEFERRED: u32 = 22;
    /// `PERF_RECORD_USER_TYPE_START`: from here on the records are perf's, not the kernel's.
    pub const USER_START: u32 = 64;
    /// `PERF_RECORD_HEADER_ATTR`.
    pub const HEADER_ATTR: u32 = 64;
    /// `PERF_RECORD_HEADER_EVENT_TYPE`.
    pub const HEADER_EVENT_TYPE: u32 = 65;
    /// `PERF_RECORD_HEADER_TRACING_DATA`.
    pub const HEADER_TRACING_DATA: u32 = 66;
    /// `PERF_RECORD_HEADER_BUILD_ID`.
    pub const HEADER_BUILD_ID: u32 = 67;
    /// `PERF_RECORD_FINISHED_ROUND`.
    pub const FINISHED_ROUND: u32 = 68;
    /// `PERF_RECORD_ID_INDEX`.
    pub const ID_INDEX: u32 = 69;
    /// `PERF_RECORD_AUXTRACE_INFO`.
    pub const AUXTRACE_INFO: u32 = 70;
    /// `PERF_RECORD_AUXTRACE`.
    pub const AUXTRACE: u32 = 71;
    /// `PERF_RECORD_AUXTRACE_ERROR`.
    pub const AUXTRACE_ERROR: u32 = 72;
    /// `PERF_RECORD_THREAD_MAP`.
    pub const THREAD_MAP: u32 = 73;
    /// `PERF_RECORD_CPU_MAP`.
    pub const CPU_MAP: u32 = 74;
    /// `PERF_RECORD_STAT_CONFIG`.
    pub const STAT_CONFIG: u32 = 75;
    /// `PERF_RECORD_STAT`.
    pub const STAT: u32 = 76;
    /// `PERF_RECORD_STAT_ROUND`.
    pub const STAT_ROUND: u32 = 77;
    /// `PERF_RECORD_EVENT_UPDATE`.
    pub const EVENT_UPDATE: u32 = 78;
    /// `PERF_RECORD_TIME_CONV`.
    pub const TIME_CONV: u32 = 79;
    /// `PERF_RECORD_HEADER_FEATURE`.
    pub const HEADER_FEATURE: u32 = 80;
    /// `PERF_RECORD_COMPRESSED`.
    pub const COMPRESSED: u32 = 81;
    /// `PERF_RECORD_FINISHED_INIT`.
    pub const FINISHED_INIT: u32 = 82;
    /// `PERF_RECORD_COMPRESSED2`.
    pub const COMPRESSED2: u32 = 83;
}

/// `PERF_RECORD_MISC_*`, the `misc` field of a record's header. Bits 12 to 15 mean different things in different records.
pub mod misc {
    /// Where the CPU was.
    pub const CPUMODE_MASK: u16 = 7;
    /// Unknown mode.
    pub const CPUMODE_UNKNOWN: u16 = 0;
    /// Host kernel.
    pub const KERNEL: u16 = 1;
    /// Host user space.
    pub const USER: u16 = 2;
    /// Hypervisor.
    pub const HYPERVISOR: u16 = 3;
    /// Guest kernel.
    pub const GUEST_KERNEL: u16 = 4;
    /// Guest user space.
    pub const GUEST_USER: u16 = 5;
    /// MMAP2 made by perf: reading /proc/PID/maps took too long.
    pub const PROC_MAP_PARSE_TIMEOUT: u16 = 1 << 12;
    /// MMAP, MMAP2: not executable.
    pub const MMAP_DATA: u16 = 1 << 13;
    /// COMM: by exec.
    pub const COMM_EXEC: u16 = 1 << 13;
    /// FORK made by perf.
    pub const FORK_EXEC: u16 = 1 << 13;
    /// SWITCH, SWITCH_CPU_WIDE: away from this task.
    pub const SWITCH_OUT: u16 = 1 << 13;
    /// SAMPLE: the ip is exact.
    pub const EXACT_IP: u16 = 1 << 14;
    /// SWITCH: preempted.
    pub const SWITCH_OUT_PREEMPT: u16 = 1 << 14;
    /// MMAP2: a build id stands in place of device and inode.
    pub const MMAP_BUILD_ID: u16 = 1 << 14;
    /// HEADER_BUILD_ID in pipe mode and in the feature section: the build id's size is given (`PERF_RECORD_MISC_BUILD_ID_SIZE`).
    pub const EXT_RESERVED: u16 = 1 << 15;
}

/// `PERF_SAMPLE_*`: what a sample holds.
pub mod sample {
    /// `PERF_SAMPLE_IP`.
    pub const IP: u64 = 1 << 0;
    /// `PERF_SAMPLE_TID`.
    pub const TID: u64 = 1 << 1;
    /// `PERF_SAMPLE_TIME`.
    pub const TIME: u64 = 1 << 2;
    /// `PERF_SAMPLE_ADDR`.
    pub const ADDR: u64 = 1 << 3;
    /// `PERF_SAMPLE_READ`.
    pub const READ: u64 = 1 << 4;
    /// `PERF_SAMPLE_CALLCHAIN`.
    pub const CALLCHAIN: u64 = 1 << 5;
    /// `PERF_SAMPLE_ID`.
    pub const ID: u64 = 1 << 6;
    /// `PERF_SAMPLE_CPU`.
    pub const CPU: u64 = 1 << 7;
    /// `PERF_SAMPLE_PERIOD`.
    pub const PERIOD: u64 = 1 << 8;
    /// `PERF_SAMPLE_STREAM_ID`.
    pub const STREAM_ID: u64 = 1 << 9;
    /// `PERF_SAMPLE_RAW`.
    pub const RAW: u64 = 1 << 10;
    /// `PERF_SAMPLE_BRANCH_STACK`.
    pub const BRANCH_STACK: u64 = 1 << 11;
    /// `PERF_SAMPLE_REGS_USER`.
    pub const REGS_USER: u64 = 1 << 12;
    /// `PERF_SAMPLE_STACK_USER`.
    pub const STACK_USER: u64 = 1 << 13;
    /// `PERF_SAMPLE_WEIGHT`.
    pub const WEIGHT: u64 = 1 << 14;
    /// `PERF_SAMPLE_DATA_SRC`.
    pub const DATA_SRC: u64 = 1 << 15;
    /// `PERF_SAMPLE_IDENTIFIER`.
    pub const IDENTIFIER: u64 = 1 << 16;
    /// `PERF_SAMPLE_TRANSACTION`.
    pub const TRANSACTION: u64 = 1 << 17;
    /// `PERF_SAMPLE_REGS_INTR`.
    pub const REGS_INTR: u64 = 1 << 18;
    /// `PERF_SAMPLE_PHYS_ADDR`.
    pub const PHYS_ADDR: u64 = 1 << 19;
    /// `PERF_SAMPLE_AUX`.
    pub const AUX: u64 = 1 << 20;
    /// `PERF_SAMPLE_CGROUP`.
    pub const CGROUP: u64 = 1 << 21;
    /// `PERF_SAMPLE_DATA_PAGE_SIZE`.
    pub const DATA_PAGE_SIZE: u64 = 1 << 22;
    /// `PERF_SAMPLE_CODE_PAGE_SIZE`.
    pub const CODE_PAGE_SIZE: u64 = 1 << 23;
    /// `PERF_SAMPLE_WEIGHT_STRUCT`.
    pub const WEIGHT_STRUCT: u64 = 1 << 24;
}

/// `PERF_FORMAT_*`: what a read holds.
pub mod read_format {
    /// `PERF_FORMAT_TOTAL_TIME_ENABLED`.
    pub const TOTAL_TIME_ENABLED: u64 = 1 << 0;
    /// `PERF_FORMAT_TOTAL_TIME_RUNNING`.
    pub const TOTAL_TIME_RUNNING: u64 = 1 << 1;
    /// `PERF_FORMAT_ID`.
    pub const ID: u64 = 1 << 2;
    /// `PERF_FORMAT_GROUP`.
    pub const GROUP: u64 = 1 << 3;
    /// `PERF_FORMAT_LOST`.
    pub const LOST: u64 = 1 << 4;
}

/// `PERF_SAMPLE_BRANCH_*`: which branches, and what beside them.
pub mod branch {
    /// `PERF_SAMPLE_BRANCH_USER`.
    pub const USER: u64 = 1 << 0;
    /// `PERF_SAMPLE_BRANCH_KERNEL`.
    pub const KERNEL: u64 = 1 << 1;
    /// `PERF_SAMPLE_BRANCH_HV`.
    pub const HV: u64 = 1 << 2;
    /// `PERF_SAMPLE_BRANCH_ANY`.
    pub const ANY: u64 = 1 << 3;
    /// `PERF_SAMPLE_BRANCH_ANY_CALL`.
    pub const ANY_CALL: u64 = 1 << 4;
    /// `PERF_SAMPLE_BRANCH_ANY_RETURN`.
    pub const ANY_RETURN: u64 = 1 << 5;
    /// `PERF_SAMPLE_BRANCH_IND_CALL`.
    pub const IND_CALL: u64 = 1 << 6;
    /// `PERF_SAMPLE_BRANCH_ABORT_TX`.
    pub const ABORT_TX: u64 = 1 << 7;
    /// `PERF_SAMPLE_BRANCH_IN_TX`.
    pub const IN_TX: u64 = 1 << 8;
    /// `PERF_SAMPLE_BRANCH_NO_TX`.
    pub const NO_TX: u64 = 1 << 9;
    /// `PERF_SAMPLE_BRANCH_COND`.
    pub const COND: u64 = 1 << 10;
    /// `PERF_SAMPLE_BRANCH_CALL_STACK`.
    pub const CALL_STACK: u64 = 1 << 11;
    /// `PERF_SAMPLE_BRANCH_IND_JUMP`.
    pub const IND_JUMP: u64 = 1 << 12;
    /// `PERF_SAMPLE_BRANCH_CALL`.
    pub const CALL: u64 = 1 << 13;
    /// `PERF_SAMPLE_BRANCH_NO_FLAGS`.
    pub const NO_FLAGS: u64 = 1 << 14;
    /// `PERF_SAMPLE_BRANCH_NO_CYCLES`.
    pub const NO_CYCLES: u64 = 1 << 15;
    /// `PERF_SAMPLE_BRANCH_TYPE_SAVE`.
    pub const TYPE_SAVE: u64 = 1 << 16;
    /// `PERF_SAMPLE_BRANCH_HW_INDEX`.
    pub const HW_INDEX: u64 = 1 << 17;
    /// `PERF_SAMPLE_BRANCH_PRIV_SAVE`.
    pub const PRIV_SAVE: u64 = 1 << 18;
    /// `PERF_SAMPLE_BRANCH_COUNTERS`.
    pub const COUNTERS: u64 = 1 << 19;
}

/// The bit field of `struct perf_event_attr`, in its order.
pub mod attr_flag {
    /// `disabled`.
    pub const DISABLED: u64 = 1 << 0;
    /// `inherit`.
    pub const INHERIT: u64 = 1 << 1;
    /// `pinned`.
    pub const PINNED: u64 = 1 << 2;
    /// `exclusive`.
    pub const EXCLUSIVE: u64 = 1 << 3;
    /// `exclude_user`.
    pub const EXCLUDE_USER: u64 = 1 << 4;
    /// `exclude_kernel`.
    pub const EXCLUDE_KERNEL: u64 = 1 << 5;
    /// `exclude_hv`.
    pub const EXCLUDE_HV: u64 = 1 << 6;
    /// `exclude_idle`.
    pub const EXCLUDE_IDLE: u64 = 1 << 7;
    /// `mmap`.
    pub const MMAP: u64 = 1 << 8;
    /// `comm`.
    pub const COMM: u64 = 1 << 9;
    /// `freq`.
    pub const FREQ: u64 = 1 << 10;
    /// `inherit_stat`.
    pub const INHERIT_STAT: u64 = 1 << 11;
    /// `enable_on_exec`.
    pub const ENABLE_ON_EXEC: u64 = 1 << 12;
    /// `task`.
    pub const TASK: u64 = 1 << 13;
    /// `watermark`.
    pub const WATERMARK: u64 = 1 << 14;
    /// `precise_ip0`.
    pub const PRECISE_IP0: u64 = 1 << 15;
    /// `precise_ip1`.
    pub const PRECISE_IP1: u64 = 1 << 16;
    /// `mmap_data`.
    pub const MMAP_DATA: u64 = 1 << 17;
    /// `sample_id_all`.
    pub const SAMPLE_ID_ALL: u64 = 1 << 18;
    /// `exclude_host`.
    pub const EXCLUDE_HOST: u64 = 1 << 19;
    /// `exclude_guest`.
    pub const EXCLUDE_GUEST: u64 = 1 << 20;
    /// `exclude_callchain_kernel`.
    pub const EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
    /// `exclude_callchain_user`.
    pub const EXCLUDE_CALLCHAIN_USER: u64 = 1 << 22;
    /// `mmap2`.
    pub const MMAP2: u64 = 1 << 23;
    /// `comm_exec`.
    pub const COMM_EXEC: u64 = 1 << 24;
    /// `use_clockid`.
    pub const USE_CLOCKID: u64 = 1 << 25;
    /// `context_switch`.
    pub const CONTEXT_SWITCH: u64 = 1 << 26;
    /// `write_backward`.
    pub const WRITE_BACKWARD: u64 = 1 << 27;
    /// `namespaces`.
    pub const NAMESPACES: u64 = 1 << 28;
    /// `ksymbol`.
    pub const KSYMBOL: u64 = 1 << 29;
    /// `bpf_event`.
    pub const BPF_EVENT: u64 = 1 << 30;
    /// `aux_output`.
    pub const AUX_OUTPUT: u64 = 1 << 31;
    /// `cgroup`.
    pub const CGROUP: u64 = 1 << 32;
    /// `text_poke`.
    pub const TEXT_POKE: u64 = 1 << 33;
    /// `build_id`.
    pub const BUILD_ID: u64 = 1 << 34;
    /// `inherit_thread`.
    pub const INHERIT_THREAD: u64 = 1 << 35;
    /// `remove_on_exec`.
    pub const REMOVE_ON_EXEC: u64 = 1 << 36;
    /// `sigtrap`.
    pub const SIGTRAP: u64 = 1 << 37;
    /// `defer_callchain`.
    pub const DEFER_CALLCHAIN: u64 = 1 << 38;
    /// `defer_output`.
    pub const DEFER_OUTPUT: u64 = 1 << 39;
    /// `precise_ip`, two bits.
    pub const PRECISE_IP: u64 = 3 << 15;
    /// Shift of `precise_ip`.
    pub const PRECISE_SHIFT: u64 = 15;
}

/// `PERF_TYPE_*`.
pub mod event_type {
    /// `PERF_TYPE_HARDWARE`.
    pub const HARDWARE: u32 = 0;
    /// `PERF_TYPE_SOFTWARE`.
    pub const SOFTWARE: u32 = 1;
    /// `PERF_TYPE_TRACEPOINT`.
    pub const TRACEPOINT: u32 = 2;
    /// `PERF_TYPE_HW_CACHE`.
    pub const HW_CACHE: u32 = 3;
    /// `PERF_TYPE_RAW`.
    pub const RAW: u32 = 4;
    /// `PERF_TYPE_BREAKPOINT`.
    pub const BREAKPOINT: u32 = 5;
}

/// `PERF_COUNT_SW_*`.
pub mod software {
    /// `PERF_COUNT_SW_CPU_CLOCK`.
    pub const CPU_CLOCK: u64 = 0;
    /// `PERF_COUNT_SW_TASK_CLOCK`.
    pub const TASK_CLOCK: u64 = 1;
    /// `PERF_COUNT_SW_PAGE_FAULTS`.
    pub const PAGE_FAULTS: u64 = 2;
    /// `PERF_COUNT_SW_CONTEXT_SWITCHES`.
    pub const CONTEXT_SWITCHES: u64 = 3;
    /// `PERF_COUNT_SW_CPU_MIGRATIONS`.
    pub const CPU_MIGRATIONS: u64 = 4;
    /// `PERF_COUNT_SW_PAGE_FAULTS_MIN`.
    pub const PAGE_FAULTS_MIN: u64 = 5;
    /// `PERF_COUNT_SW_PAGE_FAULTS_MAJ`.
    pub const PAGE_FAULTS_MAJ: u64 = 6;
    /// `PERF_COUNT_SW_ALIGNMENT_FAULTS`.
    pub const ALIGNMENT_FAULTS: u64 = 7;
    /// `PERF_COUNT_SW_EMULATION_FAULTS`.
    pub const EMULATION_FAULTS: u64 = 8;
    /// `PERF_COUNT_SW_DUMMY`.
    pub const DUMMY: u64 = 9;
    /// `PERF_COUNT_SW_BPF_OUTPUT`.
    pub const BPF_OUTPUT: u64 = 10;
    /// `PERF_COUNT_SW_CGROUP_SWITCHES`.
    pub const CGROUP_SWITCHES: u64 = 11;
}

/// `PERF_COUNT_HW_*`.
pub mod hardware {
    /// `PERF_COUNT_HW_CPU_CYCLES`.
    pub const CPU_CYCLES: u64 = 0;
    /// `PERF_COUNT_HW_INSTRUCTIONS`.
    pub const INSTRUCTIONS: u64 = 1;
    /// `PERF_COUNT_HW_CACHE_REFERENCES`.
    pub const CACHE_REFERENCES: u64 = 2;
    /// `PERF_COUNT_HW_CACHE_MISSES`.
    pub const CACHE_MISSES: u64 = 3;
    /// `PERF_COUNT_HW_BRANCH_INSTRUCTIONS`.
    pub const BRANCH_INSTRUCTIONS: u64 = 4;
    /// `PERF_COUNT_HW_BRANCH_MISSES`.
    pub const BRANCH_MISSES: u64 = 5;
    /// `PERF_COUNT_HW_BUS_CYCLES`.
    pub const BUS_CYCLES: u64 = 6;
    /// `PERF_COUNT_HW_STALLED_CYCLES_FRONTEND`.
    pub const STALLED_CYCLES_FRONTEND: u64 = 7;
    /// `PERF_COUNT_HW_STALLED_CYCLES_BACKEND`.
    pub const STALLED_CYCLES_BACKEND: u64 = 8;
    /// `PERF_COUNT_HW_REF_CPU_CYCLES`.
    pub const REF_CPU_CYCLES: u64 = 9;
}

/// `PERF_CONTEXT_*`: markers inside a call chain, as unsigned 64-bit numbers.
pub mod context {
    /// `PERF_CONTEXT_HV`.
    pub const HV: u64 = -32i64 as u64;
    /// `PERF_CONTEXT_KERNEL`.
    pub const KERNEL: u64 = -128i64 as u64;
    /// `PERF_CONTEXT_USER`.
    pub const USER: u64 = -512i64 as u64;
    /// `PERF_CONTEXT_USER_DEFERRED`.
    pub const USER_DEFERRED: u64 = -640i64 as u64;
    /// `PERF_CONTEXT_GUEST`.
    pub const GUEST: u64 = -2048i64 as u64;
    /// `PERF_CONTEXT_GUEST_KERNEL`.
    pub const GUEST_KERNEL: u64 = -2176i64 as u64;
    /// `PERF_CONTEXT_GUEST_USER`.
    pub const GUEST_USER: u64 = -2560i64 as u64;
    /// `PERF_CONTEXT_MAX`.
    pub const MAX: u64 = -4095i64 as u64;
}

/// `HEADER_*` of `tools/perf/util/header.h`: bits of the file header, numbers of HEADER_FEATURE records.
pub mod feature {
    /// `HEADER_TRACING_DATA`.
    pub const TRACING_DATA: u32 = 1;
    /// `HEADER_BUILD_ID`.
    pub const BUILD_ID: u32 = 2;
    /// `HEADER_HOSTNAME`.
    pub const HOSTNAME: u32 = 3;
    /// `HEADER_OSRELEASE`.
    pub const OSRELEASE: u32 = 4;
    /// `HEADER_VERSION`.
    pub const VERSION: u32 = 5;
    /// `HEADER_ARCH`.
    pub const ARCH: u32 = 6;
    /// `HEADER_NRCPUS`.
    pub const NRCPUS: u32 = 7;
    /// `HEADER_CPUDESC`.
    pub const CPUDESC: u32 = 8;
    /// `HEADER_CPUID`.
    pub const CPUID: u32 = 9;
    /// `HEADER_TOTAL_MEM`.
    pub const TOTAL_MEM: u32 = 10;
    /// `HEADER_CMDLINE`.
    pub const CMDLINE: u32 = 11;
    /// `HEADER_EVENT_DESC`.
    pub const EVENT_DESC: u32 = 12;
    /// `HEADER_CPU_TOPOLOGY`.
    pub const CPU_TOPOLOGY: u32 = 13;
    /// `HEADER_NUMA_TOPOLOGY`.
    pub const NUMA_TOPOLOGY: u32 = 14;
    /// `HEADER_BRANCH_STACK`.
    pub const BRANCH_STACK: u32 = 15;
    /// `HEADER_PMU_MAPPINGS`.
    pub const PMU_MAPPINGS: u32 = 16;
    /// `HEADER_GROUP_DESC`.
    pub const GROUP_DESC: u32 = 17;
    /// `HEADER_AUXTRACE`.
    pub const AUXTRACE: u32 = 18;
    /// `HEADER_STAT`.
    pub const STAT: u32 = 19;
    /// `HEADER_CACHE`.
    pub const CACHE: u32 = 20;
    /// `HEADER_SAMPLE_TIME`.
    pub const SAMPLE_TIME: u32 = 21;
    /// `HEADER_MEM_TOPOLOGY`.
    pub const MEM_TOPOLOGY: u32 = 22;
    /// `HEADER_CLOCKID`.
    pub const CLOCKID: u32 = 23;
    /// `HEADER_DIR_FORMAT`.
    pub const DIR_FORMAT: u32 = 24;
    /// `HEADER_BPF_PROG_INFO`.
    pub const BPF_PROG_INFO: u32 = 25;
    /// `HEADER_BPF_BTF`.
    pub const BPF_BTF: u32 = 26;
    /// `HEADER_COMPRESSED`.
    pub const COMPRESSED: u32 = 27;
    /// `HEADER_CPU_PMU_CAPS`.
    pub const CPU_PMU_CAPS: u32 = 28;
    /// `HEADER_CLOCK_DATA`.
    pub const CLOCK_DATA: u32 = 29;
    /// `HEADER_HYBRID_TOPOLOGY`.
    pub const HYBRID_TOPOLOGY: u32 = 30;
    /// `HEADER_PMU_CAPS`.
    pub const PMU_CAPS: u32 = 31;
    /// `HEADER_CPU_DOMAIN_INFO`.
    pub const CPU_DOMAIN_INFO: u32 = 32;
    /// xprof's own: a Xen host and its domains ([`crate::domain::Domains`]). perf passes over sections of numbers that it
    /// does not know, and its own come from below.
    pub const DOMAINS: u32 = 232;
}

/// Sizes of `struct perf_event_attr` by version, bytes: `PERF_ATTR_SIZE_VER0` .. `VER9`.
pub const ATTR_SIZES: [u32; 10] = [64, 72, 80, 96, 104, 112, 120, 128, 136, 144];
/// `PERFILE2` as the number it is on a little-endian machine (`PERF_MAGIC2`).
pub const MAGIC2: u64 = 0x3245_4c49_4652_4550;
/// `BUILD_ID_SIZE`, bytes.
pub const BUILD_ID_SIZE: usize = 20;
/// A record is at most this long, its 8-byte header included (`size` is 16 bits).
pub const RECORD_MAX: usize = 65_535;
