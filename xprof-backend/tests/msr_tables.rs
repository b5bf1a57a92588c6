//! The class tables against an independent witness: the addresses in Linux's own headers, as Debian ships them
//! (linux-headers-*-common), and their internal order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xprof_backend::msr::tables::pmuv3::sys_reg;
use xprof_backend::msr::tables::{self, FAMILIES, netburst};
use xprof_backend::msr::{Access, Class, Fault, Kind, Limits, Table};

/// Names that came after 6.1, the kernel of Debian 12, with what later headers say.
const LATER: [(&str, u32); 10] = [
    ("MSR_IA32_PMC_V6_GP0_CTR", 0x1900),
    ("MSR_IA32_PMC_V6_GP0_CFG_A", 0x1901),
    ("MSR_IA32_PMC_V6_GP0_CFG_B", 0x1902),
    ("MSR_IA32_PMC_V6_GP0_CFG_C", 0x1903),
    ("MSR_IA32_PMC_V6_FX0_CTR", 0x1980),
    ("MSR_IA32_PMC_V6_FX0_CFG_B", 0x1982),
    ("MSR_IA32_PMC_V6_FX0_CFG_C", 0x1983),
    ("MSR_IA32_QM_EVTSEL", 0xc8d),
    ("MSR_IA32_QM_CTR", 0xc8e),
    ("MSR_AMD64_PERF_CNTR_GLOBAL_STATUS_SET", 0xc000_0303),
];

/// `arch` of the newest linux-headers-*-common.
fn headers() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/src")
        .expect("/usr/src")
        .filter_map(|entry| Some(entry.ok()?.path().join("arch")))
        .filter(|path| path.to_string_lossy().ends_with("-common/arch") && path.is_dir())
        .collect();
    found.sort();
    found.pop().expect("linux-headers-*-common is not installed: tests/run does that")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `#define NAME VALUE`, numbers and `OTHER`, `(OTHER + n)`.
fn msr_index(text: &str) -> BTreeMap<String, u32> {
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("#define ") else { continue };
        let mut words = rest.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        let number = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        if let Some(value) = number(value).or_else(|| names.get(value).copied()) {
            names.insert(name.to_owned(), value);
        } else if let (Some(base), Some("+"), Some(offset)) =
            (value.strip_prefix('(').and_then(|base| names.get(base)), words.next(), words.next())
            && let Ok(offset) = offset.trim_end_matches(')').parse::<u32>()
        {
            names.insert(name.to_owned(), base + offset);
        }
    }
    names
}

/// `#define SYS_X sys_reg(a, b, c, d, e)`, the counters' macros for counter 0.
fn sysreg(text: &str) -> BTreeMap<String, u32> {
    let mut names = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("#define SYS_")) {
        let (Some((name, _)), Some((_, arguments))) = (line.split_once(['\t', ' ', '(']), line.split_once("sys_reg("))
        else {
            continue;
        };
        let zero =
            arguments.replace("__CNTR_CRm(n)", "8").replace("__TYPER_CRm(n)", "12").replace("__PMEV_op2(n)", "0");
        let numbers: Vec<u32> = zero.trim_end_matches(')').split(',').filter_map(|n| n.trim().parse().ok()).collect();
        if let [op0, op1, crn, crm, op2] = numbers[..] {
            names.insert(format!("SYS_{name}"), sys_reg(op0, op1, crn, crm, op2));
        }
    }
    names
}

#[test]
fn addresses_are_those_of_linux() {
    let arch = headers();
    let x86 = msr_index(&text(&arch.join("x86/include/asm/msr-index.h")));
    let arm = sysreg(&text(&arch.join("arm64/include/asm/sysreg.h")));
    let (mut compared, mut later) = (0, Vec::new());
    for row in FAMILIES.iter().flat_map(|family| family.rows()) {
        let (names, name) = match row.source.split_once(' ') {
            Some(("msr-index.h", name)) => (&x86, name),
            Some(("sysreg.h", name)) => (&arm, name),
            _ => continue,
        };
        match name.split_once(" (Linux ") {
            None => {
                let value = names.get(name).unwrap_or_else(|| panic!("{}: the header has no {name}", row.name));
                assert_eq!(*value, row.first, "{} is {name}", row.name);
                compared += 1;
            }
            Some((name, _)) => {
                assert!(LATER.contains(&(name, row.first)), "{name} {:#x}", row.first);
                later.push(name);
            }
        }
    }
    assert!(compared > 200, "{compared}");
    assert!(LATER.iter().all(|(name, _)| later.contains(name)), "{later:?}");
}

/// The header names every register of the ranges one by one: counters and CCCRs of NetBurst, ESCRs, family 15h's pairs.
#[test]
fn ranges_are_those_of_linux() {
    let names = msr_index(&text(&headers().join("x86/include/asm/msr-index.h")));
    let netburst = Table { family: &netburst::NETBURST, limits: Limits::NONE };
    let mut seen = 0;
    for (name, &address) in names.iter().filter(|(name, _)| name.starts_with("MSR_P4_")) {
        // The header's guess, and the IA-64 alias of a NetBurst register.
        if name == "MSR_P4_SSU_ESCR1" {
            assert!(netburst.find(Class::Perf, address).is_none());
            continue;
        }
        let found = netburst.find(Class::Perf, address).unwrap_or_else(|| panic!("{name} is in no row"));
        let kind = match name {
            name if name.contains("PERFCTR") => Kind::Counter,
            name if name.contains("CCCR") => Kind::Cccr,
            name if name.contains("ESCR") => Kind::Escr,
            _ => Kind::Other,
        };
        assert_eq!(found.row.kind, kind, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 18 + 18 + 45 + 1);
    // A counter and its CCCR have the same number.
    for unit in ["BPU", "MS", "FLAME", "IQ"] {
        for i in 0..4 {
            let of = |what| netburst.find(Class::Perf, names[&format!("MSR_P4_{unit}_{what}{i}")]).unwrap().counter();
            assert_eq!(of("PERFCTR"), of("CCCR"));
        }
    }
    for family in [&tables::amd::F15H, &tables::amd::F17H, &tables::amd::PERFMON_V2] {
        let table = Table { family, limits: Limits::NONE };
        for i in 0..6 {
            assert_eq!(table.address(Kind::Select, i), Some(names[&format!("MSR_F15H_PERF_CTL{i}")]));
            assert_eq!(table.address(Kind::Counter, i), Some(names[&format!("MSR_F15H_PERF_CTR{i}")]));
        }
    }
    let k8 = Table { family: &tables::amd::K8, limits: Limits::NONE };
    for i in 0..4 {
        assert_eq!(k8.address(Kind::Select, i), Some(names[&format!("MSR_K7_EVNTSEL{i}")]));
        assert_eq!(k8.address(Kind::Counter, i), Some(names[&format!("MSR_K7_PERFCTR{i}")]));
    }
}

/// The bits that may be written, against the masks that Linux gives names.
#[test]
fn writable_bits_are_those_of_linux() {
    let arch = headers();
    let mask = |file: &str, names: &[&str]| -> u64 {
        let text = text(&arch.join(file));
        let value = |name: &str| {
            let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
            let line = line.unwrap_or_else(|| panic!("{file} has no {name}"));
            let value = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
            let value = value.split("/*").next().unwrap().trim().trim_matches(['(', ')']).replace(['U', 'L'], "");
            match value.split_once("<<") {
                Some((base, shift)) => base.trim().parse::<u64>().unwrap() << shift.trim().parse::<u32>().unwrap(),
                None => u64::from_str_radix(value.trim_start_matches("0x"), 16).unwrap(),
            }
        };
        names.iter().map(|name| value(name)).fold(0, |all, bits| all | bits)
    };
    let writable = |family, name: &str| {
        let table = Table { family, limits: Limits::NONE };
        let row = table.family.rows().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name}"));
        !row.reserved
    };
    let perf_event = "x86/include/asm/perf_event.h";
    let select = mask(
        perf_event,
        &[
            "ARCH_PERFMON_EVENTSEL_EVENT",
            "ARCH_PERFMON_EVENTSEL_UMASK",
            "ARCH_PERFMON_EVENTSEL_USR",
            "ARCH_PERFMON_EVENTSEL_OS",
            "ARCH_PERFMON_EVENTSEL_EDGE",
            "ARCH_PERFMON_EVENTSEL_PIN_CONTROL",
            "ARCH_PERFMON_EVENTSEL_INT",
            "ARCH_PERFMON_EVENTSEL_ENABLE",
            "ARCH_PERFMON_EVENTSEL_INV",
            "ARCH_PERFMON_EVENTSEL_CMASK",
        ],
    );
    let any = mask(perf_event, &["ARCH_PERFMON_EVENTSEL_ANY"]);
    let perfmon = |v: &str| tables::named(v).unwrap();
    for v in ["perfmon-v1", "perfmon-v2", "perfmon-v5"] {
        assert_eq!(writable(perfmon(v), "IA32_PERFEVTSEL"), select, "{v}");
    }
    // ARCH_PERFMON_EVENTSEL_EQ and ARCH_PERFMON_EVENTSEL_UMASK2: Linux 6.11, newer than the headers here.
    assert_eq!(writable(perfmon("perfmon-v6"), "IA32_PERFEVTSEL"), select | 1 << 36 | 0xff << 40);
    for v in ["perfmon-v3", "perfmon-v3-atom", "perfmon-v4"] {
        assert_eq!(writable(perfmon(v), "IA32_PERFEVTSEL"), select | any, "{v}");
    }
    let guests = mask(perf_event, &["AMD64_EVENTSEL_GUESTONLY", "AMD64_EVENTSEL_HOSTONLY"]);
    let pin = mask(perf_event, &["ARCH_PERFMON_EVENTSEL_PIN_CONTROL"]);
    assert_eq!(writable(&tables::amd::F17H, "PERF_CTL"), (select & !pin) | guests | 0xf << 32);
    let p4 = "x86/include/asm/perf_event_p4.h";
    let cccr = [
        "P4_CCCR_OVF",
        "P4_CCCR_CASCADE",
        "P4_CCCR_OVF_PMI_T0",
        "P4_CCCR_OVF_PMI_T1",
        "P4_CCCR_FORCE_OVF",
        "P4_CCCR_EDGE",
        "P4_CCCR_THRESHOLD_MASK",
        "P4_CCCR_COMPLEMENT",
        "P4_CCCR_COMPARE",
        "P4_CCCR_ESCR_SELECT_MASK",
        "P4_CCCR_ENABLE",
        "P4_CCCR_THREAD_ANY",
    ];
    assert_eq!(writable(&netburst::NETBURST, "CCCR"), mask(p4, &cccr));
    assert_eq!(writable(&netburst::NETBURST, "CCCR") & mask(p4, &["P4_CCCR_RESERVED"]), 0);
    let escr = [
        "P4_ESCR_EVENT_MASK",
        "P4_ESCR_EVENTMASK_MASK",
        "P4_ESCR_TAG_MASK",
        "P4_ESCR_TAG_ENABLE",
        "P4_ESCR_T0_OS",
        "P4_ESCR_T0_USR",
        "P4_ESCR_T1_OS",
        "P4_ESCR_T1_USR",
    ];
    assert_eq!(writable(&netburst::NETBURST, "TC_ESCR"), mask(p4, &escr));
    let arm = "arm64/include/asm/perf_event.h";
    assert_eq!(writable(&tables::pmuv3::PMUV3, "PMEVTYPER"), mask(arm, &["ARMV8_PMU_EVTYPE_MASK"]));
    assert_eq!(writable(&tables::pmuv3::PMUV3, "PMCR_EL0"), mask(arm, &["ARMV8_PMU_PMCR_MASK"]));
    // Nothing that makes the CPU write to the DS area.
    let branch_trace = mask("x86/include/asm/msr-index.h", &["DEBUGCTLMSR_TR", "DEBUGCTLMSR_BTS", "DEBUGCTLMSR_BTINT"]);
    for family in FAMILIES.iter().filter(|family| family.name.starts_with("perfmon-v")) {
        let table = Table { family, limits: Limits::NONE };
        assert_eq!(
            table.find(Class::Debug, 0x1d9).unwrap().accept(branch_trace),
            Err(Fault::Reserved),
            "{}",
            family.name
        );
        assert!(table.find(Class::Perf, 0x600).is_none());
    }
}

#[test]
fn a_register_is_in_one_row_of_one_class() {
    for family in FAMILIES {
        let table = Table { family, limits: Limits::NONE };
        let mut seen = BTreeMap::new();
        for class in [Class::Perf, Class::Debug] {
            for (address, found) in table.registers(class) {
                let other = seen.insert(address, found.row.name);
                assert!(other.is_none(), "{}: {address:#x} is {other:?} and {}", family.name, found.row.name);
                assert_eq!(table.find(class, address).unwrap().row.name, found.row.name);
            }
        }
        assert!(seen.len() >= 10 || ["no-pmu", "xen"].contains(&family.name), "{}", family.name);
        assert_eq!(tables::named(family.name).unwrap().name, family.name);
    }
    let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAMILIES.len());
}

#[test]
fn rows_are_sound() {
    for row in FAMILIES.iter().flat_map(|family| family.rows()) {
        let what = format!("{} {:#x}", row.name, row.first);
        assert!(row.count > 0 && row.stride > 0 && (1..=64).contains(&row.width), "{what}");
        assert!(!row.source.is_empty() && row.source.is_ascii(), "{what}");
        let mask = if row.width == 64 { u64::MAX } else { (1 << row.width) - 1 };
        assert_eq!(row.reset & !mask, 0, "{what}: the reset value does not fit");
        assert_ne!(row.class, Class::Invalid, "{what}");
        // What may be written and what must stay are all there is, and a register that can be written has both or is a
        // counter.
        if row.access != Access::ReadOnly && !matches!(row.kind, Kind::Counter | Kind::CounterAlias | Kind::Fixed) {
            assert_ne!(!row.reserved, 0, "{what}: nothing can be written");
        }
        assert!(row.access != Access::SignExtended32 || row.kind == Kind::Counter, "{what}");
    }
    // Every family that counts has a select or a CCCR for each counter, where the table says.
    for family in FAMILIES {
        let table = Table { family, limits: Limits::NONE };
        for i in 0..64 {
            let control = table.address(Kind::Select, i).or_else(|| table.address(Kind::Cccr, i));
            if table.address(Kind::Counter, i).is_some() {
                assert!(control.is_some(), "{} counter {i}", family.name);
            }
        }
    }
}
