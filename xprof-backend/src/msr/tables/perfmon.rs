//! Intel's architectural performance monitoring, versions 1 to 6. The counts are CPUID leaf 0xA's: the rows here are the
//! most there can be, and [`Limits`](crate::msr::Limits) cuts them.

use super::{counter, debug, debug_value, perf, perf_value};
use crate::msr::{Access, Family, Kind, Rearm, Row};

/// IA32_PERFEVTSELx: event 7:0, umask 15:8, USR OS E PC INT 20:16, EN 22, INV 23, CMASK 31:24 (`perf_event.h`
/// ARCH_PERFMON_EVENTSEL_*).
const SELECT: u64 = 0xffdf_ffff;
/// Version 6: EQ 36 and UMASK2 47:40 (`perf_event.h` ARCH_PERFMON_EVENTSEL_EQ, ARCH_PERFMON_EVENTSEL_UMASK2), at the old
/// addresses as in CFG_A.
const EXTENDED: u64 = 1 << 36 | 0xff << 40;
/// Bit 21, from version 3 to 4.
const ANY_THREAD: u64 = 1 << 21;

const fn selects(bits: u64) -> Row {
    perf("IA32_PERFEVTSEL", Kind::Select, 0x186, 8, bits, "msr-index.h MSR_P6_EVNTSEL0")
}

const fn fixed(count: u32) -> Row {
    let source = "msr-index.h MSR_CORE_PERF_FIXED_CTR0";
    counter("IA32_FIXED_CTR", Kind::Fixed, 0x309, count, 64, Access::ReadWrite, source)
}

/// Each counter's four bits: enable 1:0, AnyThread 2, PMI 3.
const fn fixed_control(bits: u64) -> Row {
    perf("IA32_FIXED_CTR_CTRL", Kind::Enable, 0x38d, 1, bits, "msr-index.h MSR_CORE_PERF_FIXED_CTR_CTRL")
}

/// The CPU's own reset enables every general counter (Intel SDM vol. 3, states following power-up, reset or INIT, edition
/// 079), for software that knows version 1 alone. The default here is off: what is set to its default counts nothing.
const fn control(bits: u64) -> Row {
    perf("IA32_PERF_GLOBAL_CTRL", Kind::Enable, 0x38f, 1, bits, "msr-index.h MSR_CORE_PERF_GLOBAL_CTRL")
}

const STATUS: Row =
    perf_value("IA32_PERF_GLOBAL_STATUS", Kind::Status, 0x38e, 1, "msr-index.h MSR_CORE_PERF_GLOBAL_STATUS");

const fn clear(name: &'static str, bits: u64) -> Row {
    perf(name, Kind::StatusClear, 0x390, 1, bits, "msr-index.h MSR_CORE_PERF_GLOBAL_OVF_CTRL")
}

/// General counters 7:0, fixed 34:32.
const COUNTERS_V2: u64 = 0x7_0000_00ff;
/// As many as the layout has room for: general 31:0, fixed 47:32.
const COUNTERS_V5: u64 = 0xffff_ffff_ffff;
/// OvfDSBuffer 62, CondChgd 63.
const CLEAR_V2: u64 = 3 << 62;
/// Also OvfUncore 61.
const CLEAR_V3: u64 = 7 << 61;
/// Also TraceToPAPMI 55, LBR_FRZ 58, CTR_FRZ 59, ASCI 60 (`perf_event.h` GLOBAL_STATUS_*).
const CLEAR_V4: u64 = CLEAR_V3 | 1 << 55 | 7 << 58;
/// `perf_event.h` GLOBAL_CTRL_EN_PERF_METRICS.
const METRICS: u64 = 1 << 48;

/// General counters: version 1. They take 32 bits and extend the sign.
const GENERAL: &[Row] =
    &[counter("IA32_PMC", Kind::Counter, 0xc1, 8, 64, Access::SignExtended32, "msr-index.h MSR_P6_PERFCTR0")];
const SELECTS_V1: &[Row] = &[selects(SELECT)];
const SELECTS_V3: &[Row] = &[selects(SELECT | ANY_THREAD)];

const SELECTS_V6: &[Row] = &[selects(SELECT | EXTENDED)];

const GLOBALS_V2: &[Row] = &[
    fixed(3),
    fixed_control(0xbbb),
    STATUS,
    control(COUNTERS_V2),
    clear("IA32_PERF_GLOBAL_OVF_CTRL", COUNTERS_V2 | CLEAR_V2),
];
const GLOBALS_V3: &[Row] = &[
    fixed(3),
    fixed_control(0xfff),
    STATUS,
    control(COUNTERS_V2),
    clear("IA32_PERF_GLOBAL_OVF_CTRL", COUNTERS_V2 | CLEAR_V3),
];
const GLOBALS_V4: &[Row] = &[
    fixed(3),
    fixed_control(0xfff),
    STATUS,
    control(COUNTERS_V2),
    clear("IA32_PERF_GLOBAL_STATUS_RESET", COUNTERS_V2 | CLEAR_V4),
    set(COUNTERS_V2),
    IN_USE,
];
const GLOBALS_V5: &[Row] = &[
    fixed(16),
    fixed_control(0xbbbb_bbbb_bbbb_bbbb),
    STATUS,
    control(COUNTERS_V5 | METRICS),
    clear("IA32_PERF_GLOBAL_STATUS_RESET", COUNTERS_V5 | METRICS | CLEAR_V4),
    set(COUNTERS_V5 | METRICS),
    IN_USE,
    perf("PERF_METRICS", Kind::Other, 0x329, 1, u64::MAX, "msr-index.h MSR_PERF_METRICS"),
];

/// Bit 63 cannot be set.
const fn set(counters: u64) -> Row {
    let bits = (counters | CLEAR_V4) & !(1 << 63);
    perf("IA32_PERF_GLOBAL_STATUS_SET", Kind::StatusSet, 0x391, 1, bits, "Intel SDM vol. 3, 20.2.4.2")
}
/// Whether others use a counter; read-only.
const IN_USE: Row = perf_value("IA32_PERF_GLOBAL_INUSE", Kind::Other, 0x392, 1, "Intel SDM vol. 3, 20.2.4.3");

/// Capabilities, and what lets the CPU write to memory: read-only here.
const MEMORY: &[Row] = &[
    perf_value("IA32_PERF_CAPABILITIES", Kind::Other, 0x345, 1, "msr-index.h MSR_IA32_PERF_CAPABILITIES"),
    perf_value("IA32_PEBS_ENABLE", Kind::Other, 0x3f1, 1, "msr-index.h MSR_IA32_PEBS_ENABLE"),
];

/// The full-width addresses of the general counters, and Nehalem's and its successors' helpers of events. Which bits of a
/// response mask exist differs by model: the CPU refuses the others itself.
const WIDE: &[Row] = &[
    counter("IA32_A_PMC", Kind::CounterAlias, 0x4c1, 8, 64, Access::ReadWrite, "msr-index.h MSR_IA32_PMC0"),
    perf("OFFCORE_RSP_0", Kind::Other, 0x1a6, 1, u64::MAX, "msr-index.h MSR_OFFCORE_RSP_0"),
    perf("OFFCORE_RSP_1", Kind::Other, 0x1a7, 1, u64::MAX, "msr-index.h MSR_OFFCORE_RSP_1"),
    perf("PEBS_LD_LAT_THRESHOLD", Kind::Other, 0x3f6, 1, 0xffff, "msr-index.h MSR_PEBS_LD_LAT_THRESHOLD"),
    perf("PEBS_FRONTEND", Kind::Other, 0x3f7, 1, 0xff_ffff, "msr-index.h MSR_PEBS_FRONTEND"),
];

/// Version 6's range: four addresses a counter. CFG_A is EVNTSEL with EQ 36 and UMASK2 47:40; CFG_B says which counters
/// reload, CFG_C what (bits 31:0; above it are those of arch PEBS, which writes to memory).
const V6_RANGE: &[Row] = &[
    v6(counter(
        "IA32_PMC_GPn_CTR",
        Kind::CounterAlias,
        0x1900,
        32,
        64,
        Access::ReadWrite,
        "msr-index.h MSR_IA32_PMC_V6_GP0_CTR (Linux 6.11)",
    )),
    v6(perf(
        "IA32_PMC_GPn_CFG_A",
        Kind::Select,
        0x1901,
        32,
        SELECT | EXTENDED,
        "msr-index.h MSR_IA32_PMC_V6_GP0_CFG_A (Linux 6.11)",
    )),
    v6(perf(
        "IA32_PMC_GPn_CFG_B",
        Kind::Other,
        0x1902,
        32,
        COUNTERS_V5,
        "msr-index.h MSR_IA32_PMC_V6_GP0_CFG_B (Linux 6.16)",
    )),
    v6(perf(
        "IA32_PMC_GPn_CFG_C",
        Kind::Other,
        0x1903,
        32,
        0xffff_ffff,
        "msr-index.h MSR_IA32_PMC_V6_GP0_CFG_C (Linux 6.16)",
    )),
    v6(counter(
        "IA32_PMC_FXm_CTR",
        Kind::Other,
        0x1980,
        16,
        64,
        Access::ReadWrite,
        "msr-index.h MSR_IA32_PMC_V6_FX0_CTR (Linux 6.11)",
    )),
    v6(perf(
        "IA32_PMC_FXm_CFG_B",
        Kind::Other,
        0x1982,
        16,
        COUNTERS_V5,
        "msr-index.h MSR_IA32_PMC_V6_FX0_CFG_B (Linux 6.16)",
    )),
    v6(perf(
        "IA32_PMC_FXm_CFG_C",
        Kind::Other,
        0x1983,
        16,
        0xffff_ffff,
        "msr-index.h MSR_IA32_PMC_V6_FX0_CFG_C (Linux 6.16)",
    )),
];

const fn v6(row: Row) -> Row {
    Row { stride: 4, ..row }
}

/// The L3's monitoring: event 7:0, RMID 41:32. Bits 63:62 of the counter say error and unavailable.
pub(super) const QOS: &[Row] = &[
    perf("IA32_QM_EVTSEL", Kind::Other, 0xc8d, 1, 0x3ff_0000_00ff, "msr-index.h MSR_IA32_QM_EVTSEL (Linux 6.2)"),
    perf_value("IA32_QM_CTR", Kind::Other, 0xc8e, 1, "msr-index.h MSR_IA32_QM_CTR (Linux 6.2)"),
];

/// DEBUGCTL without TR, BTS, BTINT (8:6), which let the CPU write to the DS area: LBR 0, BTF 1, BTS_OFF_OS 9, BTS_OFF_USR
/// 10, FREEZE_LBRS_ON_PMI 11, FREEZE_PERFMON_ON_PMI 12, FREEZE_WHILE_SMM 14.
const DEBUGCTL_V2: u64 = 0x5e03;
/// Also UNCORE_PMI_EN 13 and RTM_DEBUG 15.
const DEBUGCTL_V3: u64 = DEBUGCTL_V2 | 1 << 13 | 1 << 15;
/// Also BUS_LOCK_DETECT 2.
const DEBUGCTL_V5: u64 = DEBUGCTL_V3 | 1 << 2;

const fn debug_control(bits: u64) -> Row {
    debug("IA32_DEBUGCTL", 0x1d9, 1, bits, "msr-index.h MSR_IA32_DEBUGCTLMSR")
}
const TOP: Row = debug_value("LASTBRANCH_TOS", 0x1c9, 1, "msr-index.h MSR_LBR_TOS");
const LAST_EXCEPTION: [Row; 2] = [
    debug_value("LER_FROM_LIP", 0x1dd, 1, "msr-index.h MSR_IA32_LASTINTFROMIP"),
    debug_value("LER_TO_LIP", 0x1de, 1, "msr-index.h MSR_IA32_LASTINTTOIP"),
];

/// Core 2: four branches. Atoms up to Silvermont have eight at the same addresses.
const fn core_stack(name: &'static str, from: bool, depth: u32) -> Row {
    match from {
        true => debug_value(name, 0x40, depth, "msr-index.h MSR_LBR_CORE_FROM"),
        false => debug_value(name, 0x60, depth, "msr-index.h MSR_LBR_CORE_TO"),
    }
}
const CORE_2_DEBUG: &[Row] = &[
    debug_control(DEBUGCTL_V2),
    TOP,
    core_stack("LASTBRANCH_FROM_IP", true, 4),
    core_stack("LASTBRANCH_TO_IP", false, 4),
    LAST_EXCEPTION[0],
    LAST_EXCEPTION[1],
];
const ATOM_DEBUG: &[Row] = &[
    debug_control(DEBUGCTL_V2),
    TOP,
    core_stack("LASTBRANCH_FROM_IP", true, 8),
    core_stack("LASTBRANCH_TO_IP", false, 8),
    LAST_EXCEPTION[0],
    LAST_EXCEPTION[1],
];

/// CPL_EQ_0, CPL_NEQ_0, JCC, NEAR_REL_CALL, NEAR_IND_CALL, NEAR_RET, NEAR_IND_JMP, NEAR_REL_JMP, FAR_BRANCH 8:0,
/// EN_CALLSTACK 9.
const SELECT_BRANCHES: Row = debug("LBR_SELECT", 0x1c8, 1, 0x3ff, "msr-index.h MSR_LBR_SELECT");
const fn nehalem_from(depth: u32) -> Row {
    debug_value("LASTBRANCH_FROM_IP", 0x680, depth, "msr-index.h MSR_LBR_NHM_FROM")
}
const fn nehalem_to(depth: u32) -> Row {
    debug_value("LASTBRANCH_TO_IP", 0x6c0, depth, "msr-index.h MSR_LBR_NHM_TO")
}
/// Nehalem to Broadwell: sixteen.
const NEHALEM_DEBUG: &[Row] = &[
    debug_control(DEBUGCTL_V3),
    SELECT_BRANCHES,
    TOP,
    nehalem_from(16),
    nehalem_to(16),
    LAST_EXCEPTION[0],
    LAST_EXCEPTION[1],
];
/// Skylake, Ice Lake: thirty-two, with cycles and prediction.
const SKYLAKE_DEBUG: &[Row] = &[
    debug_control(DEBUGCTL_V3),
    SELECT_BRANCHES,
    TOP,
    nehalem_from(32),
    nehalem_to(32),
    debug_value("LBR_INFO", 0xdc0, 32, "msr-index.h MSR_LBR_INFO_0"),
    LAST_EXCEPTION[0],
    LAST_EXCEPTION[1],
];
/// Architectural LBR: enable 0, CPL 2:1, call stack 3, filter 22:16; the depth is written to 5:0 of DEPTH and clears the
/// stack.
const ARCH_LBR: &[Row] = &[
    debug_control(DEBUGCTL_V5),
    debug("IA32_LBR_CTL", 0x14ce, 1, 0x7f_000f, "msr-index.h MSR_ARCH_LBR_CTL"),
    debug("IA32_LBR_DEPTH", 0x14cf, 1, 0x3f, "msr-index.h MSR_ARCH_LBR_DEPTH"),
    debug_value("IA32_LBR_FROM_IP", 0x1500, 32, "msr-index.h MSR_ARCH_LBR_FROM_0"),
    debug_value("IA32_LBR_TO_IP", 0x1600, 32, "msr-index.h MSR_ARCH_LBR_TO_0"),
    debug_value("IA32_LBR_INFO", 0x1200, 32, "msr-index.h MSR_ARCH_LBR_INFO_0"),
    LAST_EXCEPTION[0],
    LAST_EXCEPTION[1],
    debug_value("IA32_LER_INFO", 0x1e0, 1, "Intel SDM vol. 3, 19.1.1.3"),
];

/// Version 1: Core Solo, Core Duo.
pub static V1: Family = Family {
    name: "perfmon-v1",
    cpus: "Intel Core Solo, Core Duo",
    rearm: Rearm::PentiumM,
    rows: &[super::TSC, GENERAL, SELECTS_V1, super::p6::PENTIUM_M_DEBUG],
};
/// Version 2: Core 2.
pub static V2: Family = Family {
    name: "perfmon-v2",
    cpus: "Intel Core 2",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V1, GLOBALS_V2, MEMORY, CORE_2_DEBUG],
};
/// Version 3 of the small cores: Bonnell to Airmont.
pub static V3_ATOM: Family = Family {
    name: "perfmon-v3-atom",
    cpus: "Intel Atom, Bonnell to Airmont",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V3, GLOBALS_V3, MEMORY, WIDE, ATOM_DEBUG],
};
/// Version 3: Nehalem to Broadwell.
pub static V3: Family = Family {
    name: "perfmon-v3",
    cpus: "Intel Nehalem to Broadwell",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V3, GLOBALS_V3, MEMORY, WIDE, QOS, NEHALEM_DEBUG],
};
/// Version 4: Skylake to Comet Lake, Goldmont.
pub static V4: Family = Family {
    name: "perfmon-v4",
    cpus: "Intel Skylake to Comet Lake, Goldmont",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V3, GLOBALS_V4, MEMORY, WIDE, QOS, SKYLAKE_DEBUG],
};
/// Version 5 with the model-specific branch stack: Ice Lake, Tremont.
pub static V5: Family = Family {
    name: "perfmon-v5",
    cpus: "Intel Ice Lake, Tiger Lake, Tremont",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V1, GLOBALS_V5, MEMORY, WIDE, QOS, SKYLAKE_DEBUG],
};
/// Version 5 with architectural LBR: Alder Lake, Sapphire Rapids.
pub static V5_ARCH_LBR: Family = Family {
    name: "perfmon-v5-lbr",
    cpus: "Intel Alder Lake, Sapphire Rapids",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V1, GLOBALS_V5, MEMORY, WIDE, QOS, ARCH_LBR],
};
/// Version 6: Lunar Lake and later.
pub static V6: Family = Family {
    name: "perfmon-v6",
    cpus: "Intel Lunar Lake, Arrow Lake, Clearwater Forest",
    rearm: Rearm::Perfmon,
    rows: &[super::TSC, GENERAL, SELECTS_V6, GLOBALS_V5, MEMORY, WIDE, V6_RANGE, QOS, ARCH_LBR],
};
