//! Intel's architectural performance monitoring. The counts are CPUID leaf 0xA's: the rows here are the most there
//! can be, and [`Limits`](crate::msr::Limits) cuts them.

use crate::msr::{Access, Class, Family, Kind, Rearm, Row};

/// IA32_PERFEVTSELx: event 7:0, umask 15:8, USR OS E PC INT 20:16, EN 22, INV 23, CMASK 31:24. Bit 21 (AnyThread) came
/// with version 3; 63:32 are reserved without TSX and PEBS.
const SELECT_RESERVED: u64 = 0xffff_ffff_0020_0000;
/// GLOBAL_CTRL: general counters 7:0, fixed 34:32.
const GLOBAL: u64 = 0x7_0000_00ff;

/// General counters and their selects: version 1.
pub const GENERAL: &[Row] = &[
    Row {
        name: "IA32_PMC",
        class: Class::Perf,
        kind: Kind::Counter,
        first: 0xc1,
        stride: 1,
        count: 8,
        counter: 0,
        width: 64,
        reserved: 0,
        reset: 0,
        access: Access::SignExtended32,
        source: "Intel SDM vol. 3, 20.2.1.1",
    },
    Row {
        name: "IA32_PERFEVTSEL",
        class: Class::Perf,
        kind: Kind::Select,
        first: 0x186,
        stride: 1,
        count: 8,
        counter: 0,
        width: 32,
        reserved: SELECT_RESERVED,
        reset: 0,
        access: Access::ReadWrite,
        source: "Intel SDM vol. 3, 20.2.1.1",
    },
];

/// Fixed counters and the global registers: version 2.
pub const GLOBALS: &[Row] = &[
    Row {
        name: "IA32_FIXED_CTR",
        class: Class::Perf,
        kind: Kind::Fixed,
        first: 0x309,
        stride: 1,
        count: 3,
        counter: 0,
        width: 64,
        reserved: 0,
        reset: 0,
        access: Access::ReadWrite,
        source: "Intel SDM vol. 3, 20.2.2",
    },
    Row {
        name: "IA32_FIXED_CTR_CTRL",
        class: Class::Perf,
        kind: Kind::Enable,
        first: 0x38d,
        stride: 1,
        count: 1,
        counter: 0,
        width: 64,
        // Per counter: enable 1:0, AnyThread 2 (version 3), PMI 3.
        reserved: !0xbbb,
        reset: 0,
        access: Access::ReadWrite,
        source: "Intel SDM vol. 3, 20.2.2",
    },
    Row {
        name: "IA32_PERF_GLOBAL_STATUS",
        class: Class::Perf,
        kind: Kind::Status,
        first: 0x38e,
        stride: 1,
        count: 1,
        counter: 0,
        width: 64,
        reserved: 0,
        reset: 0,
        access: Access::ReadOnly,
        source: "Intel SDM vol. 3, 20.2.2",
    },
    Row {
        name: "IA32_PERF_GLOBAL_CTRL",
        class: Class::Perf,
        kind: Kind::Enable,
        first: 0x38f,
        stride: 1,
        count: 1,
        counter: 0,
        width: 64,
        reserved: !GLOBAL,
        reset: 0,
        access: Access::ReadWrite,
        source: "Intel SDM vol. 3, 20.2.2",
    },
    Row {
        name: "IA32_PERF_GLOBAL_OVF_CTRL",
        class: Class::Perf,
        kind: Kind::StatusClear,
        first: 0x390,
        stride: 1,
        count: 1,
        counter: 0,
        width: 64,
        // OvfDSBuffer 62, CondChgd 63.
        reserved: !(GLOBAL | 3 << 62),
        reset: 0,
        access: Access::ReadWrite,
        source: "Intel SDM vol. 3, 20.2.2",
    },
];

/// Version 2: Core 2.
pub static V2: Family =
    Family { name: "perfmon-v2", cpus: "Intel Core 2", rearm: Rearm::Perfmon, rows: &[GENERAL, GLOBALS] };
