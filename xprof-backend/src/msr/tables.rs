//! The class tables, one file per vendor's line of CPUs, each row with its source: the manual's section or the name in a
//! Linux header, against which the tests compare the addresses.
//!
//! No row lets the CPU write to memory: the DS area's address, what turns PEBS on and the BTS bits of DEBUGCTL can be
//! read at most. What only the hardware writes (stacks, samples) is read-only as well.

pub mod amd;
pub mod netburst;
pub mod p6;
pub mod perfmon;
pub mod pmuv3;
pub mod xen;

use super::{Access, Class, Family, Kind, Rearm, Row};

/// The time stamp counter, on every x86: read-only, and of the PERF class.
const TSC: &[Row] = &[perf_value("IA32_TSC", Kind::Other, 0x10, 1, "msr-index.h MSR_IA32_TSC")];

/// An x86 without counters, such as most virtual machines.
pub static NO_PMU: Family = Family { name: "no-pmu", cpus: "x86 without counters", rearm: Rearm::Amd, rows: &[TSC] };

/// The switches above all counters: IA32_PERF_GLOBAL_CTRL and AMD's PERF_CNTR_GLOBAL_CTL.
pub const GLOBAL_CONTROLS: [u32; 2] = [0x38f, 0xc000_0301];

/// Every family, by name.
pub static FAMILIES: &[&Family] = &[
    &p6::P6,
    &p6::PENTIUM_M,
    &netburst::NETBURST,
    &netburst::NETBURST_3,
    &perfmon::V1,
    &perfmon::V2,
    &perfmon::V3_ATOM,
    &perfmon::V3,
    &perfmon::V4,
    &perfmon::V5,
    &perfmon::V5_ARCH_LBR,
    &perfmon::V6,
    &amd::K8,
    &amd::F10H,
    &amd::F15H,
    &amd::F16H,
    &amd::F17H,
    &amd::PERFMON_V2,
    &pmuv3::PMUV3,
    &xen::XEN,
    &NO_PMU,
];

/// The family of that name.
pub fn named(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.name == name)
}

/// A register that controls something: `bits` may be written, the others keep their value of the reset.
const fn perf(name: &'static str, kind: Kind, first: u32, count: u32, bits: u64, source: &'static str) -> Row {
    Row {
        name,
        class: Class::Perf,
        kind,
        first,
        stride: 1,
        count,
        counter: 0,
        width: (u64::BITS - bits.leading_zeros()) as u8,
        reserved: !bits,
        reset: 0,
        access: Access::ReadWrite,
        source,
    }
}

/// A counter of so many bits; what is written above them is not kept.
const fn counter(
    name: &'static str,
    kind: Kind,
    first: u32,
    count: u32,
    width: u8,
    access: Access,
    source: &'static str,
) -> Row {
    Row { width, reserved: 0, access, ..perf(name, kind, first, count, u64::MAX, source) }
}

/// A register that can only be read.
const fn perf_value(name: &'static str, kind: Kind, first: u32, count: u32, source: &'static str) -> Row {
    Row { access: Access::ReadOnly, ..perf(name, kind, first, count, u64::MAX, source) }
}

/// [`perf`] of the DEBUG class.
const fn debug(name: &'static str, first: u32, count: u32, bits: u64, source: &'static str) -> Row {
    Row { class: Class::Debug, ..perf(name, Kind::Other, first, count, bits, source) }
}

/// [`perf_value`] of the DEBUG class.
const fn debug_value(name: &'static str, first: u32, count: u32, source: &'static str) -> Row {
    Row { class: Class::Debug, ..perf_value(name, Kind::Other, first, count, source) }
}
