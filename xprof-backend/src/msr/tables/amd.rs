//! AMD, K7 to family 1Ah, and Hygon. Counters have 48 bits; what is written above them is not kept.

use super::perfmon::QOS;
use super::{counter, debug, debug_value, perf, perf_value};
use crate::msr::{Access, Family, Kind, Rearm, Row};

/// PerfEvtSel of K7 and K8: event 7:0, unit mask 15:8, USR OS E PC INT 20:16, EN 22, INV 23, CntMask 31:24.
const SELECT_K7: u64 = 0xffdf_ffff;
/// Since family 10h: event 11:8 in 35:32, GuestOnly 40, HostOnly 41 (`perf_event.h` AMD64_EVENTSEL_*). PC (19) is
/// reserved since then, and left as it is.
const SELECT: u64 = 0x30f_ffd7_ffff;
/// Counters of the north bridge, data fabric and L3 have no rings and no interrupt of a core; their other bits differ by
/// model and the CPU refuses them itself.
const SELECT_SHARED: u64 = !(1 << 21);

const fn pair(row: Row) -> Row {
    Row { stride: 2, ..row }
}

const K7_COUNTERS: Row =
    counter("PERFCTR", Kind::Counter, 0xc001_0004, 4, 48, Access::ReadWrite, "msr-index.h MSR_K7_PERFCTR0");

const K7_ROWS: &[Row] =
    &[perf("EVNTSEL", Kind::Select, 0xc001_0000, 4, SELECT_K7, "msr-index.h MSR_K7_EVNTSEL0"), K7_COUNTERS];
const F10_ROWS: &[Row] =
    &[perf("EVNTSEL", Kind::Select, 0xc001_0000, 4, SELECT, "msr-index.h MSR_K7_EVNTSEL0"), K7_COUNTERS];

/// Six counters; the first four have their old addresses as well.
const F15_ROWS: &[Row] = &[
    pair(perf("PERF_CTL", Kind::Select, 0xc001_0200, 6, SELECT, "msr-index.h MSR_F15H_PERF_CTL")),
    pair(counter("PERF_CTR", Kind::Counter, 0xc001_0201, 6, 48, Access::ReadWrite, "msr-index.h MSR_F15H_PERF_CTR")),
    perf("PERF_LEGACY_CTL", Kind::Select, 0xc001_0000, 4, SELECT, "msr-index.h MSR_K7_EVNTSEL0"),
    Row { name: "PERF_LEGACY_CTR", kind: Kind::CounterAlias, ..K7_COUNTERS },
];
/// The north bridge's; of families 17h and later the data fabric's.
const NB_ROWS: &[Row] = &[
    pair(perf("NB_PERF_CTL", Kind::Other, 0xc001_0240, 4, SELECT_SHARED, "msr-index.h MSR_F15H_NB_PERF_CTL")),
    pair(counter(
        "NB_PERF_CTR",
        Kind::Other,
        0xc001_0241,
        4,
        48,
        Access::ReadWrite,
        "msr-index.h MSR_F15H_NB_PERF_CTR",
    )),
];
/// The L2's of family 16h (four); since family 17h the L3's (six).
const fn cache(ctl: bool, count: u32) -> Row {
    pair(match ctl {
        true => {
            perf("L2I_PERF_CTL", Kind::Other, 0xc001_0230, count, SELECT_SHARED, "msr-index.h MSR_F16H_L2I_PERF_CTL")
        }
        false => counter(
            "L2I_PERF_CTR",
            Kind::Other,
            0xc001_0231,
            count,
            48,
            Access::ReadWrite,
            "msr-index.h MSR_F16H_L2I_PERF_CTR",
        ),
    })
}
const F16_ROWS: &[Row] = &[cache(true, 4), cache(false, 4)];
const F17_ROWS: &[Row] = &[
    Row { name: "L3_PERF_CTL", ..cache(true, 6) },
    Row { name: "L3_PERF_CTR", ..cache(false, 6) },
    perf_value("IRPERF", Kind::Other, 0xc000_00e9, 1, "msr-index.h MSR_F17H_IRPERF"),
];

/// The default of PERF_CNTR_GLOBAL_CTL is off, as that of Intel's, though a reset enables all: nothing counts by default.
/// Counter bits 15:0 (as many as the CPU has), LBR freeze 58, counter freeze 59.
const GLOBAL: u64 = 0xffff;
const FREEZE: u64 = 3 << 58;
const PERFMON_V2_ROWS: &[Row] = &[
    perf_value(
        "PERF_CNTR_GLOBAL_STATUS",
        Kind::Status,
        0xc000_0300,
        1,
        "msr-index.h MSR_AMD64_PERF_CNTR_GLOBAL_STATUS",
    ),
    perf("PERF_CNTR_GLOBAL_CTL", Kind::Enable, 0xc000_0301, 1, GLOBAL, "msr-index.h MSR_AMD64_PERF_CNTR_GLOBAL_CTL"),
    perf(
        "PERF_CNTR_GLOBAL_STATUS_CLR",
        Kind::StatusClear,
        0xc000_0302,
        1,
        GLOBAL | FREEZE,
        "msr-index.h MSR_AMD64_PERF_CNTR_GLOBAL_STATUS_CLR",
    ),
    perf(
        "PERF_CNTR_GLOBAL_STATUS_SET",
        Kind::StatusSet,
        0xc000_0303,
        1,
        GLOBAL | FREEZE,
        "msr-index.h MSR_AMD64_PERF_CNTR_GLOBAL_STATUS_SET (Linux 6.17)",
    ),
];

/// Instruction-based sampling. FETCHCTL: count to 15:0, count 31:16, enable 48, valid 49, random 57, L3 misses only 59.
/// OPCTL: count to 15:0 and 26:20, L3 misses only 16, enable 17, valid 18, micro-ops 19, count 58:32. What they found is
/// read-only, and so is IBSCTL, which names the interrupt's entry in the local APIC.
const IBS_FETCH: u64 = 0xffff_ffff | 3 << 48 | 1 << 57 | 1 << 59;
const IBS_OP: u64 = 0x07ff_ffff_07ff_ffff;
const IBS_ROWS: &[Row] = &[
    perf("IBSFETCHCTL", Kind::Other, 0xc001_1030, 1, IBS_FETCH, "msr-index.h MSR_AMD64_IBSFETCHCTL"),
    perf_value("IBSFETCHLINAD", Kind::Other, 0xc001_1031, 1, "msr-index.h MSR_AMD64_IBSFETCHLINAD"),
    perf_value("IBSFETCHPHYSAD", Kind::Other, 0xc001_1032, 1, "msr-index.h MSR_AMD64_IBSFETCHPHYSAD"),
    perf("IBSOPCTL", Kind::Other, 0xc001_1033, 1, IBS_OP, "msr-index.h MSR_AMD64_IBSOPCTL"),
    perf_value("IBSOPRIP", Kind::Other, 0xc001_1034, 1, "msr-index.h MSR_AMD64_IBSOPRIP"),
    perf_value("IBSOPDATA", Kind::Other, 0xc001_1035, 1, "msr-index.h MSR_AMD64_IBSOPDATA"),
    perf_value("IBSOPDATA2", Kind::Other, 0xc001_1036, 1, "msr-index.h MSR_AMD64_IBSOPDATA2"),
    perf_value("IBSOPDATA3", Kind::Other, 0xc001_1037, 1, "msr-index.h MSR_AMD64_IBSOPDATA3"),
    perf_value("IBSDCLINAD", Kind::Other, 0xc001_1038, 1, "msr-index.h MSR_AMD64_IBSDCLINAD"),
    perf_value("IBSDCPHYSAD", Kind::Other, 0xc001_1039, 1, "msr-index.h MSR_AMD64_IBSDCPHYSAD"),
    perf_value("IBSCTL", Kind::Other, 0xc001_103a, 1, "msr-index.h MSR_AMD64_IBSCTL"),
];
const IBS_15_ROWS: &[Row] = &[
    perf_value("IBSBRTARGET", Kind::Other, 0xc001_103b, 1, "msr-index.h MSR_AMD64_IBSBRTARGET"),
    perf_value("ICIBSEXTDCTL", Kind::Other, 0xc001_103c, 1, "msr-index.h MSR_AMD64_ICIBSEXTDCTL"),
    perf_value("IBSOPDATA4", Kind::Other, 0xc001_103d, 1, "msr-index.h MSR_AMD64_IBSOPDATA4"),
];

/// LBR 0, BTF 1, PB3 to PB0 5:2.
const DEBUG_ROWS: &[Row] = &[
    debug("DEBUGCTL", 0x1d9, 1, 0x3f, "msr-index.h MSR_IA32_DEBUGCTLMSR"),
    debug_value("LASTBRANCHFROMIP", 0x1db, 1, "msr-index.h MSR_IA32_LASTBRANCHFROMIP"),
    debug_value("LASTBRANCHTOIP", 0x1dc, 1, "msr-index.h MSR_IA32_LASTBRANCHTOIP"),
    debug_value("LASTINTFROMIP", 0x1dd, 1, "msr-index.h MSR_IA32_LASTINTFROMIP"),
    debug_value("LASTINTTOIP", 0x1de, 1, "msr-index.h MSR_IA32_LASTINTTOIP"),
];
/// Which address bits a breakpoint does not compare.
pub(super) const MASK_ROWS: &[Row] = &[
    debug("DR1_ADDR_MASK", 0xc001_1019, 1, 0xffff_ffff, "msr-index.h MSR_F16H_DR1_ADDR_MASK"),
    debug("DR2_ADDR_MASK", 0xc001_101a, 1, 0xffff_ffff, "msr-index.h MSR_F16H_DR2_ADDR_MASK"),
    debug("DR3_ADDR_MASK", 0xc001_101b, 1, 0xffff_ffff, "msr-index.h MSR_F16H_DR3_ADDR_MASK"),
    debug("DR0_ADDR_MASK", 0xc001_1027, 1, 0xffff_ffff, "msr-index.h MSR_F16H_DR0_ADDR_MASK"),
];
/// The stack of Zen 4 (Zen 3's branch sampling uses the same addresses). Bits 4:3 of the configuration are always set;
/// LBRV2EN is bit 6. LBR_SELECT: CPL and branch types 8:0.
const LBR_V2_ROWS: &[Row] = &[
    debug("LBR_SELECT", 0xc000_010e, 1, 0x1ff, "msr-index.h MSR_AMD64_LBR_SELECT"),
    Row { reset: 3 << 3, ..debug("DBG_EXTN_CFG", 0xc000_010f, 1, 1 << 6, "msr-index.h MSR_AMD_DBG_EXTN_CFG") },
    pair(debug_value("SAMP_BR_FROM", 0xc001_0300, 16, "msr-index.h MSR_AMD_SAMP_BR_FROM")),
    pair(debug_value("SAMP_BR_TO", 0xc001_0301, 16, "Linux arch/x86/events/amd/lbr.c amd_pmu_lbr_get_to")),
];

/// K7, K8.
pub static K8: Family = Family {
    name: "amd-k8",
    cpus: "AMD K7, K8 (families 6 and 0Fh)",
    rearm: Rearm::Amd,
    rows: &[super::TSC, K7_ROWS, DEBUG_ROWS],
};
/// 10h, 11h, 12h, 14h.
pub static F10H: Family = Family {
    name: "amd-10h",
    cpus: "AMD families 10h, 11h, 12h, 14h",
    rearm: Rearm::Amd,
    rows: &[super::TSC, F10_ROWS, IBS_ROWS, DEBUG_ROWS],
};
/// 15h.
pub static F15H: Family = Family {
    name: "amd-15h",
    cpus: "AMD family 15h",
    rearm: Rearm::Amd,
    rows: &[super::TSC, F15_ROWS, NB_ROWS, IBS_ROWS, IBS_15_ROWS, DEBUG_ROWS, MASK_ROWS],
};
/// 16h.
pub static F16H: Family = Family {
    name: "amd-16h",
    cpus: "AMD family 16h",
    rearm: Rearm::Amd,
    rows: &[super::TSC, F10_ROWS, NB_ROWS, F16_ROWS, IBS_ROWS, IBS_15_ROWS, DEBUG_ROWS, MASK_ROWS],
};
/// 17h to 19h before Zen 4, Hygon 18h.
pub static F17H: Family = Family {
    name: "amd-17h",
    cpus: "AMD families 17h, 19h up to Zen 3, Hygon 18h",
    rearm: Rearm::Amd,
    rows: &[super::TSC, F15_ROWS, NB_ROWS, F17_ROWS, IBS_ROWS, IBS_15_ROWS, QOS, DEBUG_ROWS, MASK_ROWS],
};
/// With PerfMonV2: Zen 4 and later.
pub static PERFMON_V2: Family = Family {
    name: "amd-perfmon-v2",
    cpus: "AMD Zen 4 and Zen 5 (families 19h, 1Ah)",
    rearm: Rearm::Amd,
    rows: &[
        super::TSC,
        F15_ROWS,
        PERFMON_V2_ROWS,
        NB_ROWS,
        F17_ROWS,
        IBS_ROWS,
        IBS_15_ROWS,
        QOS,
        DEBUG_ROWS,
        MASK_ROWS,
        LBR_V2_ROWS,
    ],
};
