//! Which class table this CPU has, from what CPUID says. A hybrid machine has two: the answer is the running CPU's.

use super::tables::{NO_PMU, amd, netburst, p6, perfmon, pmuv3};
use super::{Family, Limits, Table};
use crate::sys;

/// The table of the CPU that runs this.
pub fn table() -> Table {
    if cfg!(target_arch = "aarch64") {
        // How many counters there are is in PMCR_EL0, which only the kernel reads.
        return Table { family: &pmuv3::PMUV3, limits: Limits::NONE };
    }
    table_by(&sys::cpuid::leaf)
}

/// The table of a CPU that answers CPUID so (EAX, EBX, ECX, EDX of leaf and sub-leaf).
pub fn table_by(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> Table {
    let [_, b, c, d] = cpuid(0, 0);
    let mut vendor = [0; 12];
    for (bytes, word) in vendor.chunks_exact_mut(4).zip([b, d, c]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    match &vendor {
        b"AuthenticAMD" | b"HygonGenuine" => amd(cpuid),
        b"GenuineIntel" => intel(cpuid),
        // Zhaoxin has Intel's leaf.
        _ => architectural(cpuid).unwrap_or(NONE),
    }
}

/// The table of the counters that Xen's vPMU lends a PV dom0 on this CPU.
pub fn lent() -> Table {
    lent_by(&sys::cpuid::leaf)
}

/// AMD: the four of K7 at their old addresses, which Xen mirrors where a CPU has more (`vpmu_amd.c`, `k7_counters_mirrored`; dom0's Linux
/// uses the same). CPUID hides them from virtual machines, so that the bare CPU is asked for. Of Intel's CPUID says what Xen lends.
fn lent_by(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> Table {
    let bare = |leaf: u32, sub: u32| {
        let mut answer = cpuid(leaf, sub);
        if leaf == 1 {
            answer[2] &= !(1 << 31);
        }
        answer
    };
    let [_, b, c, d] = cpuid(0, 0);
    match [b, d, c].map(u32::to_le_bytes).as_flattened() {
        b"AuthenticAMD" | b"HygonGenuine" if amd(&bare).family.name != NO_PMU.name => {
            Table { family: &amd::F10H, limits: Limits { general: 4, fixed: 0, general_width: 48, fixed_width: 0 } }
        }
        _ => table_by(cpuid),
    }
}

const NONE: Table =
    Table { family: &NO_PMU, limits: Limits { general: 0, fixed: 0, general_width: 0, fixed_width: 0 } };

/// Family and model of leaf 1 (Intel SDM vol. 2, CPUID, figure 3-6), and whether there is a hypervisor (ECX bit 31).
fn signature(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> (u32, u32, bool) {
    let [a, _, c, _] = cpuid(1, 0);
    let (family, model) = (a >> 8 & 0xf, a >> 4 & 0xf);
    let long = family == 0xf || family == 6;
    (
        if family == 0xf { family + (a >> 20 & 0xff) } else { family },
        if long { model | (a >> 16 & 0xf) << 4 } else { model },
        c >> 31 != 0,
    )
}

/// Leaf 0xA: version 7:0, general counters 15:8 and their width 23:16 of EAX; fixed counters 4:0 and their width 12:5 of
/// EDX; which fixed counters, since version 5, in ECX.
fn architectural(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> Option<Table> {
    if cpuid(0, 0)[0] < 0xa {
        return None;
    }
    let [a, _, c, d] = cpuid(0xa, 0);
    // Leaf 7, EDX bit 19: architectural LBR.
    let has_arch_lbr = || cpuid(7, 0)[3] >> 19 & 1 != 0;
    let (_, model, _) = signature(cpuid);
    let family: &'static Family = match a & 0xff {
        0 => return None,
        1 => &perfmon::V1,
        2 => &perfmon::V2,
        3 if is_small(model) => &perfmon::V3_ATOM,
        3 => &perfmon::V3,
        4 => &perfmon::V4,
        5 if has_arch_lbr() => &perfmon::V5_ARCH_LBR,
        5 => &perfmon::V5,
        _ => &perfmon::V6,
    };
    let by_number = if a & 0xff > 1 { d & 0x1f } else { 0 };
    let by_mask = if a & 0xff >= 5 { u32::BITS - c.leading_zeros() } else { 0 };
    let limits = Limits {
        general: a >> 8 & 0xff,
        fixed: by_number.max(by_mask),
        general_width: (a >> 16 & 0xff).min(64) as u8,
        fixed_width: (d >> 5 & 0xff).min(64) as u8,
    };
    Some(Table { family, limits })
}

/// Bonnell, Saltwell, Silvermont, Airmont (`intel-family.h` INTEL_FAM6_ATOM_*).
fn is_small(model: u32) -> bool {
    matches!(model, 0x1c | 0x26 | 0x27 | 0x35 | 0x36 | 0x37 | 0x4a | 0x4c | 0x4d | 0x5a | 0x5d | 0x75)
}

fn intel(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> Table {
    let (family, model, virtual_machine) = signature(cpuid);
    if let Some(table) = architectural(cpuid) {
        return table;
    }
    let limits = |general| Limits { general, fixed: 0, general_width: 40, fixed_width: 0 };
    match (family, model) {
        // Without the leaf nothing says that a virtual machine has counters.
        _ if virtual_machine => NONE,
        (0xf, ..=2) => Table { family: &netburst::NETBURST, limits: limits(18) },
        (0xf, _) => Table { family: &netburst::NETBURST_3, limits: limits(18) },
        (6, 9 | 13) => Table { family: &p6::PENTIUM_M, limits: limits(2) },
        (6, ..=11) => Table { family: &p6::P6, limits: limits(2) },
        _ => NONE,
    }
}

fn amd(cpuid: &dyn Fn(u32, u32) -> [u32; 4]) -> Table {
    let highest = cpuid(0x8000_0000, 0)[0];
    let extended = |leaf: u32| if highest >= leaf { cpuid(leaf, 0) } else { [0; 4] };
    // PerfCtrExtCore: six counters; Fn8000_0022: PerfMonV2, and how many there are.
    let has_six = extended(0x8000_0001)[2] >> 23 & 1 != 0;
    let [v2, counts, ..] = extended(0x8000_0022);
    let limits = |general| Limits { general, fixed: 0, general_width: 48, fixed_width: 0 };
    let (family, _, virtual_machine) = signature(cpuid);
    if v2 & 1 != 0 {
        return Table { family: &amd::PERFMON_V2, limits: limits(counts & 0xf) };
    }
    let table: &'static Family = match family {
        // The first four counters have no bit of their own, and virtual machines have the family without them.
        _ if virtual_machine && !has_six => return NONE,
        6 | 0xf => &amd::K8,
        0x10..=0x14 => &amd::F10H,
        0x15 => &amd::F15H,
        0x16 => &amd::F16H,
        0x17.. => &amd::F17H,
        _ => return NONE,
    };
    Table { family: table, limits: limits(if has_six { 6 } else { 4 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU of these leaves, everything else zero.
    fn of(leaves: &[(u32, [u32; 4])]) -> Table {
        table_by(&|leaf, _| leaves.iter().find(|(number, _)| *number == leaf).map_or([0; 4], |(_, answer)| *answer))
    }

    const INTEL: [u32; 3] = [u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ntel"), u32::from_le_bytes(*b"ineI")];
    const AMD: [u32; 3] = [u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"cAMD"), u32::from_le_bytes(*b"enti")];

    fn leaf0(highest: u32, [b, c, d]: [u32; 3]) -> (u32, [u32; 4]) {
        (0, [highest, b, c, d])
    }

    /// Signatures and leaves as `cpuid -r` shows them.
    #[test]
    fn cpus_have_their_tables() {
        let name = |table: Table| (table.family.name, table.limits.general, table.limits.fixed);
        // Core 2 Duo E8400, 1067a: version 2, 2 of 40 bits, 3 fixed.
        let core2 = of(&[leaf0(0xd, INTEL), (1, [0x1067a, 0, 0, 0]), (0xa, [0x0728_0202, 0, 0, 0x503])]);
        assert_eq!(name(core2), ("perfmon-v2", 2, 3));
        assert_eq!((core2.limits.general_width, core2.limits.fixed_width), (40, 40));
        // Skylake, 506e3: version 4, 4 of 48 with hyper-threading, 3 fixed.
        let skylake = of(&[leaf0(0x16, INTEL), (1, [0x506e3, 0, 0, 0]), (0xa, [0x0730_0404, 0, 0, 0x603])]);
        assert_eq!(name(skylake), ("perfmon-v4", 4, 3));
        // Sapphire Rapids, 806f8: version 5, 8 of 48, fixed 0 to 3 by mask, architectural LBR.
        let leaves = [(1, [0x806f8, 0, 0, 0]), (0xa, [0x0830_0805, 0, 0xf, 0x8604]), (7, [0, 0, 0, 1 << 19])];
        assert_eq!(name(of(&[&[leaf0(0x20, INTEL)][..], &leaves].concat())), ("perfmon-v5-lbr", 8, 4));
        // A guest of a VMM that hides the counters.
        assert_eq!(name(of(&[leaf0(0x20, INTEL), (1, [0x806f8, 0, 1 << 31, 0])])), ("no-pmu", 0, 0));
        // Silvermont; Pentium III; Pentium M; Pentium 4 of both kinds.
        let silvermont = of(&[leaf0(0xb, INTEL), (1, [0x30678, 0, 0, 0]), (0xa, [0x0728_0203, 0, 0, 0x503])]);
        assert_eq!(name(silvermont), ("perfmon-v3-atom", 2, 3));
        for (signature, wanted) in [
            (0x6b1, ("p6", 2, 0)),
            (0x6d8, ("pentium-m", 2, 0)),
            (0xf27, ("netburst", 18, 0)),
            (0xf43, ("netburst-3", 18, 0)),
        ] {
            assert_eq!(name(of(&[leaf0(2, INTEL), (1, [signature, 0, 0, 0])])), wanted);
        }
    }

    #[test]
    fn amd_cpus_have_their_tables() {
        let amd = |signature: u32, features: u32, v2: [u32; 4], ecx: u32| {
            let table = of(&[
                leaf0(0xd, AMD),
                (1, [signature, 0, ecx, 0]),
                (0x8000_0000, [0x8000_0022, 0, 0, 0]),
                (0x8000_0001, [0, 0, features, 0]),
                (0x8000_0022, v2),
            ]);
            (table.family.name, table.limits.general)
        };
        let six = 1 << 23;
        assert_eq!(amd(0x20fb1, 0, [0; 4], 0), ("amd-k8", 4));
        assert_eq!(amd(0x100f42, 0, [0; 4], 0), ("amd-10h", 4));
        assert_eq!(amd(0x600f12, six, [0; 4], 0), ("amd-15h", 6));
        assert_eq!(amd(0x730f01, 0, [0; 4], 0), ("amd-16h", 4));
        assert_eq!(amd(0x830f10, six, [0; 4], 0), ("amd-17h", 6));
        assert_eq!(amd(0xa10f11, six, [3, 6, 0, 0], 0), ("amd-perfmon-v2", 6));
        // QEMU's qemu64 says K8, in a virtual machine, with no counters behind it.
        assert_eq!(amd(0x60fb1, 0, [0; 4], 1 << 31), ("no-pmu", 0));
    }

    #[test]
    fn amd_lends_four_counters_at_their_old_addresses() {
        // Zen as Xen shows it to dom0: in a virtual machine, without PerfCtrExtCore.
        let zen = |leaf: u32, _| match leaf {
            0 => [0xd, AMD[0], AMD[1], AMD[2]],
            1 => [0x0083_0f10, 0, 1 << 31, 0],
            0x8000_0000 => [0x8000_001f, 0, 0, 0],
            _ => [0; 4],
        };
        assert_eq!((lent_by(&zen).family.name, lent_by(&zen).limits.general), ("amd-10h", 4));
        // Skylake: Xen caps the version at 3.
        let skylake = |leaf: u32, _| match leaf {
            0 => [0x16, INTEL[0], INTEL[1], INTEL[2]],
            1 => [0x506e3, 0, 1 << 31, 0],
            0xa => [0x0730_0403, 0, 0, 0x603],
            _ => [0; 4],
        };
        assert_eq!((lent_by(&skylake).family.name, lent_by(&skylake).limits.fixed), ("perfmon-v3", 3));
    }
}
