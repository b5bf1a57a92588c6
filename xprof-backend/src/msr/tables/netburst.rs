//! NetBurst (Pentium 4 and its Xeons): 18 counters, each with a CCCR that selects one of the ESCRs it can reach.

use super::{counter, debug, debug_value, perf, perf_value};
use crate::msr::{Access, Family, Kind, Rearm, Row};

/// CCCR: ENABLE 12, ESCR select 15:13, thread 17:16, COMPARE 18, COMPLEMENT 19, threshold 23:20, EDGE 24, FORCE_OVF 25,
/// OVF_PMI_T0 26, OVF_PMI_T1 27, CASCADE 30, OVF 31 (`perf_event_p4.h` P4_CCCR_*).
const CCCR: u64 = 0xcfff_f000;
/// ESCR: T1_USR, T1_OS, T0_USR, T0_OS 3:0, tag enable 4, tag 8:5, event mask 24:9, event 30:25 (`perf_event_p4.h`
/// P4_ESCR_*).
const ESCR: u64 = 0x7fff_ffff;

const fn escr(name: &'static str, first: u32, count: u32, source: &'static str) -> Row {
    perf(name, Kind::Escr, first, count, ESCR, source)
}

/// The counters' numbers are those of the header: BPU 0 to 3, MS 4 to 7, FLAME 8 to 11, IQ 12 to 17.
const COUNTERS: &[Row] = &[
    counter("PERFCTR", Kind::Counter, 0x300, 18, 40, Access::ReadWrite, "msr-index.h MSR_P4_BPU_PERFCTR0"),
    perf("CCCR", Kind::Cccr, 0x360, 18, CCCR, "msr-index.h MSR_P4_BPU_CCCR0"),
    escr("BSU_ESCR", 0x3a0, 2, "msr-index.h MSR_P4_BSU_ESCR0"),
    escr("FSB_ESCR", 0x3a2, 2, "msr-index.h MSR_P4_FSB_ESCR0"),
    escr("FIRM_ESCR", 0x3a4, 2, "msr-index.h MSR_P4_FIRM_ESCR0"),
    escr("FLAME_ESCR", 0x3a6, 2, "msr-index.h MSR_P4_FLAME_ESCR0"),
    escr("DAC_ESCR", 0x3a8, 2, "msr-index.h MSR_P4_DAC_ESCR0"),
    escr("MOB_ESCR", 0x3aa, 2, "msr-index.h MSR_P4_MOB_ESCR0"),
    escr("PMH_ESCR", 0x3ac, 2, "msr-index.h MSR_P4_PMH_ESCR0"),
    escr("SAAT_ESCR", 0x3ae, 2, "msr-index.h MSR_P4_SAAT_ESCR0"),
    escr("U2L_ESCR", 0x3b0, 2, "msr-index.h MSR_P4_U2L_ESCR0"),
    escr("BPU_ESCR", 0x3b2, 2, "msr-index.h MSR_P4_BPU_ESCR0"),
    escr("IS_ESCR", 0x3b4, 2, "msr-index.h MSR_P4_IS_ESCR0"),
    escr("ITLB_ESCR", 0x3b6, 2, "msr-index.h MSR_P4_ITLB_ESCR0"),
    escr("CRU_ESCR", 0x3b8, 2, "msr-index.h MSR_P4_CRU_ESCR0"),
    escr("RAT_ESCR", 0x3bc, 2, "msr-index.h MSR_P4_RAT_ESCR0"),
    // The header marks the second as a guess: it is left out.
    escr("SSU_ESCR", 0x3be, 1, "msr-index.h MSR_P4_SSU_ESCR0"),
    escr("MS_ESCR", 0x3c0, 2, "msr-index.h MSR_P4_MS_ESCR0"),
    escr("TBPU_ESCR", 0x3c2, 2, "msr-index.h MSR_P4_TBPU_ESCR0"),
    escr("TC_ESCR", 0x3c4, 2, "msr-index.h MSR_P4_TC_ESCR0"),
    escr("IX_ESCR", 0x3c8, 2, "msr-index.h MSR_P4_IX_ESCR0"),
    escr("ALF_ESCR", 0x3ca, 2, "msr-index.h MSR_P4_ALF_ESCR0"),
    escr("CRU_ESCR2", 0x3cc, 2, "msr-index.h MSR_P4_CRU_ESCR2"),
    escr("CRU_ESCR4", 0x3e0, 2, "msr-index.h MSR_P4_CRU_ESCR4"),
    // With a DS area it lets the CPU write to memory.
    perf_value("PEBS_ENABLE", Kind::Other, 0x3f1, 1, "msr-index.h MSR_IA32_PEBS_ENABLE"),
    perf("PEBS_MATRIX_VERT", Kind::Other, 0x3f2, 1, 0x1fff, "msr-index.h MSR_P4_PEBS_MATRIX_VERT"),
];

/// Models 1 and 2 alone have these (Intel SDM vol. 4, MSRs in Pentium 4 and Intel Xeon Processors).
const EARLY: &[Row] = &[escr("IQ_ESCR", 0x3ba, 2, "msr-index.h MSR_P4_IQ_ESCR0")];

/// LBR 0, BTF 1, BTS_OFF_OS 5, BTS_OFF_USR 6; TR, BTS, BTINT (4:2) let the CPU write to the DS area.
const CONTROL: &[Row] = &[
    debug("DEBUGCTLA", 0x1d9, 1, 0x63, "Intel SDM vol. 3, Last Branch, Interrupt, and Exception Recording (NetBurst)"),
    debug_value("LER_FROM_LIP", 0x1d7, 1, "Intel SDM vol. 4, MSRs in Pentium 4 and Intel Xeon Processors"),
    debug_value("LER_TO_LIP", 0x1d8, 1, "Intel SDM vol. 4, MSRs in Pentium 4 and Intel Xeon Processors"),
    debug_value("LASTBRANCH_TOS", 0x1da, 1, "Intel SDM vol. 4, MSRs in Pentium 4 and Intel Xeon Processors"),
];
/// Models 0 to 2: four branches, from in 63:32 and to in 31:0.
const SHORT_STACK: &[Row] =
    &[debug_value("LASTBRANCH", 0x1db, 4, "Intel SDM vol. 4, MSRs in Pentium 4 and Intel Xeon Processors")];
/// Model 3 and later: sixteen.
const LONG_STACK: &[Row] = &[
    debug_value("LASTBRANCH_FROM_LIP", 0x680, 16, "msr-index.h MSR_LBR_NHM_FROM"),
    debug_value("LASTBRANCH_TO_LIP", 0x6c0, 16, "msr-index.h MSR_LBR_NHM_TO"),
];

/// Models 0 to 2.
pub static NETBURST: Family = Family {
    name: "netburst",
    cpus: "Intel Pentium 4, models 0 to 2",
    rearm: Rearm::NetBurst,
    rows: &[super::TSC, COUNTERS, EARLY, CONTROL, SHORT_STACK],
};

/// Model 3 and later.
pub static NETBURST_3: Family = Family {
    name: "netburst-3",
    cpus: "Intel Pentium 4, models 3 to 6",
    rearm: Rearm::NetBurst,
    rows: &[super::TSC, COUNTERS, CONTROL, LONG_STACK],
};
