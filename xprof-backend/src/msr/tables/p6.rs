//! P6 (Pentium Pro to Pentium III) and Pentium M: two general counters, an enable bit that is common to both.

use super::{counter, debug, debug_value, perf};
use crate::msr::{Access, Family, Kind, Rearm, Row};

/// PerfEvtSel: event 7:0, unit mask 15:8, USR OS E PC INT 20:16, INV 23, CMASK 31:24; bit 21 is reserved.
/// EN (22) exists in PerfEvtSel0 alone and starts both counters.
const SELECT: u64 = 0xff9f_ffff;
const ENABLE: u64 = 1 << 22;

pub(super) const COUNTERS: &[Row] = &[
    counter("PERFCTR", Kind::Counter, 0xc1, 2, 40, Access::SignExtended32, "msr-index.h MSR_P6_PERFCTR0"),
    perf("EVNTSEL0", Kind::Select, 0x186, 1, SELECT | ENABLE, "msr-index.h MSR_P6_EVNTSEL0"),
    Row { counter: 1, ..perf("EVNTSEL1", Kind::Select, 0x187, 1, SELECT, "msr-index.h MSR_P6_EVNTSEL1") },
];

/// LBR 0, BTF 1, PB0 to PB3 5:2. TR (6) puts branches on the bus and slows the machine; it stays as it is.
const DEBUG: &[Row] = &[
    debug("DEBUGCTL", 0x1d9, 1, 0x3f, "msr-index.h MSR_IA32_DEBUGCTLMSR"),
    debug_value("LASTBRANCHFROMIP", 0x1db, 1, "msr-index.h MSR_IA32_LASTBRANCHFROMIP"),
    debug_value("LASTBRANCHTOIP", 0x1dc, 1, "msr-index.h MSR_IA32_LASTBRANCHTOIP"),
    debug_value("LASTINTFROMIP", 0x1dd, 1, "msr-index.h MSR_IA32_LASTINTFROMIP"),
    debug_value("LASTINTTOIP", 0x1de, 1, "msr-index.h MSR_IA32_LASTINTTOIP"),
];

/// Eight branches, from in 31:0 and to in 63:32. Also Core Solo and Core Duo.
pub(super) const PENTIUM_M_DEBUG: &[Row] = &[
    // LBR 0, BTF 1, PB 5:2. TR, BTS, BTINT (8:6) let the CPU write to the DS area.
    debug("DEBUGCTLB", 0x1d9, 1, 0x3f, "msr-index.h MSR_IA32_DEBUGCTLMSR"),
    debug_value("LASTBRANCH", 0x40, 8, "msr-index.h MSR_LBR_CORE_FROM"),
    debug_value("LASTBRANCH_TOS", 0x1c9, 1, "msr-index.h MSR_LBR_TOS"),
    debug_value("LER_TO_LIP", 0x1dd, 1, "msr-index.h MSR_IA32_LASTINTFROMIP"),
    debug_value("LER_FROM_LIP", 0x1de, 1, "msr-index.h MSR_IA32_LASTINTTOIP"),
];

/// P6.
pub static P6: Family =
    Family { name: "p6", cpus: "Intel Pentium Pro, II, III", rearm: Rearm::P6, rows: &[super::TSC, COUNTERS, DEBUG] };

/// Pentium M, whose local APIC masks LVTPC.
pub static PENTIUM_M: Family = Family {
    name: "pentium-m",
    cpus: "Intel Pentium M",
    rearm: Rearm::PentiumM,
    rows: &[super::TSC, COUNTERS, PENTIUM_M_DEBUG],
};
