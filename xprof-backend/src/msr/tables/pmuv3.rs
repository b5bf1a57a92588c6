//! Armv8's PMUv3. Its registers have no numbers in one space: an address here is the kernel's `sys_reg(op0, op1, CRn,
//! CRm, op2)` (arch/arm64/include/asm/sysreg.h), which is also how KVM names them. PMXEVCNTR and PMXEVTYPER, which reach
//! other counters through PMSELR, are left out, and so is what lets user space in (PMUSERENR).

use super::{counter, perf, perf_value};
use crate::msr::{Access, Family, Kind, Rearm, Row};

/// The address of a system register.
pub const fn sys_reg(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

const COUNTERS: u64 = 0xffff_ffff;

/// One for each counter; eight a CRm, so that they lie 32 apart.
const fn each(row: Row) -> Row {
    Row { stride: 1 << 5, ..row }
}

const ROWS: &[Row] = &[
    // E P C D X DP LC LP 7:0; the rest says how many counters there are.
    perf("PMCR_EL0", Kind::Other, sys_reg(3, 3, 9, 12, 0), 1, 0xff, "sysreg.h SYS_PMCR_EL0"),
    perf("PMCNTENSET_EL0", Kind::Enable, sys_reg(3, 3, 9, 12, 1), 1, COUNTERS, "sysreg.h SYS_PMCNTENSET_EL0"),
    // Writes of 1 to clear have no value of their own.
    perf("PMCNTENCLR_EL0", Kind::StatusClear, sys_reg(3, 3, 9, 12, 2), 1, COUNTERS, "sysreg.h SYS_PMCNTENCLR_EL0"),
    perf("PMOVSCLR_EL0", Kind::StatusClear, sys_reg(3, 3, 9, 12, 3), 1, COUNTERS, "sysreg.h SYS_PMOVSCLR_EL0"),
    perf("PMOVSSET_EL0", Kind::StatusSet, sys_reg(3, 3, 9, 14, 3), 1, COUNTERS, "sysreg.h SYS_PMOVSSET_EL0"),
    perf("PMINTENSET_EL1", Kind::Enable, sys_reg(3, 0, 9, 14, 1), 1, COUNTERS, "sysreg.h SYS_PMINTENSET_EL1"),
    perf("PMINTENCLR_EL1", Kind::StatusClear, sys_reg(3, 0, 9, 14, 2), 1, COUNTERS, "sysreg.h SYS_PMINTENCLR_EL1"),
    perf_value("PMMIR_EL1", Kind::Other, sys_reg(3, 0, 9, 14, 6), 1, "sysreg.h SYS_PMMIR_EL1"),
    each(counter(
        "PMEVCNTR",
        Kind::Counter,
        sys_reg(3, 3, 14, 8, 0),
        31,
        64,
        Access::ReadWrite,
        "sysreg.h SYS_PMEVCNTRn_EL0",
    )),
    // Event 15:0, NSH 27, U 30, P 31 (`ARMV8_PMU_EVTYPE_MASK`).
    each(perf("PMEVTYPER", Kind::Select, sys_reg(3, 3, 14, 12, 0), 31, 0xc800_ffff, "sysreg.h SYS_PMEVTYPERn_EL0")),
    counter("PMCCNTR_EL0", Kind::Fixed, sys_reg(3, 3, 9, 13, 0), 1, 64, Access::ReadWrite, "sysreg.h SYS_PMCCNTR_EL0"),
    perf("PMCCFILTR_EL0", Kind::Other, sys_reg(3, 3, 14, 15, 7), 1, 0xc800_0000, "sysreg.h SYS_PMCCFILTR_EL0"),
];

/// PMUv3.
pub static PMUV3: Family =
    Family { name: "pmuv3", cpus: "Armv8 and later with FEAT_PMUv3", rearm: Rearm::Pmuv3, rows: &[ROWS] };
