//! A PMU as sysfs describes it: its number, the fields of its configs, its named events, the CPUs it is bound to.
//!
//! Format of the files: `Documentation/ABI/testing/sysfs-bus-event_source-devices-*` of the kernel.

use std::path::PathBuf;

use xprof_perfdata::attr::Attr;

use crate::machine::{self, Machine};

/// One directory of `/sys/bus/event_source/devices`.
#[derive(Clone, Debug)]
pub(crate) struct Pmu {
    pub(crate) name: String,
    /// `perf_event_attr.type`.
    pub(crate) kind: u32,
    /// `cpumask` (uncore: one CPU per package) or `cpus` (the cores of this type).
    pub(crate) cpus: Option<Vec<u32>>,
    dir: PathBuf,
}

/// A named event of a PMU.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// Its terms, as `name=value,..`.
    pub(crate) terms: String,
    /// What the count is multiplied with, and the unit after that.
    pub(crate) scale_unit: Option<(String, String)>,
}

/// Bits of one of the attr's configs that make up a field; ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// 0 to 4: config, config1 ..
    config: u8,
    /// First and last bit of each range.
    ranges: Vec<(u8, u8)>,
}

impl Pmu {
    /// Reads one PMU; `None` when there is none of this name, or its number is unreadable.
    pub(crate) fn read(machine: &Machine, name: &str) -> Option<Pmu> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let dir = machine.devices().join(name);
        let kind = machine::text(&dir.join("type")).ok()?.trim().parse().ok()?;
        let list = |file: &str| machine::text(&dir.join(file)).ok().and_then(|t| machine::cpu_list(&t));
        let cpus = list("cpumask").or_else(|| list("cpus")).filter(|c| !c.is_empty());
        Some(Pmu { name: name.to_owned(), kind, cpus, dir })
    }

    /// Every PMU of the machine, by name.
    pub(crate) fn all(machine: &Machine) -> Vec<Pmu> {
        names(machine).iter().filter_map(|n| Pmu::read(machine, n)).collect()
    }

    /// The PMUs of the cores themselves, on which hardware and cache events open: more than one on hybrid machines.
    pub(crate) fn cores(machine: &Machine) -> Vec<Pmu> {
        // Arm's core PMUs are those with `cpus`; x86 has `cpu`, or on hybrid machines `cpu_core` and `cpu_atom`.
        let core = |n: &String| n == "cpu" || n.starts_with("cpu_") || n.starts_with("armv") || n.starts_with("apple_");
        names(machine)
            .iter()
            .filter(|n| core(n) && (*n == "cpu" || machine.devices().join(n).join("cpus").exists()))
            .filter_map(|n| Pmu::read(machine, n))
            .collect()
    }

    /// Whether it keeps the last branches of its CPU: the kernel then says how many.
    pub(crate) fn keeps_branches(&self) -> bool {
        self.dir.join("caps/branches").exists()
    }

    /// Names of its events.
    pub(crate) fn aliases(&self) -> Vec<String> {
        let mut list = machine::names(&self.dir.join("events")).unwrap_or_default();
        list.retain(|n| ![".scale", ".unit", ".per-pkg", ".snapshot"].iter().any(|s| n.ends_with(s)));
        list
    }

    /// One of its events; letters' case does not matter.
    pub(crate) fn alias(&self, name: &str) -> Option<Alias> {
        if name.contains(['/', '.']) {
            return None;
        }
        let dir = self.dir.join("events");
        let file = match machine::text(&dir.join(name)) {
            Ok(terms) => return Some(self.read_alias(name, terms)),
            Err(_) => self.aliases().into_iter().find(|n| n.eq_ignore_ascii_case(name))?,
        };
        Some(self.read_alias(&file, machine::text(&dir.join(&file)).ok()?))
    }

    fn read_alias(&self, name: &str, terms: String) -> Alias {
        let beside = |suffix: &str| {
            machine::text(&self.dir.join("events").join(format!("{name}.{suffix}"))).ok().map(|t| t.trim().to_owned())
        };
        let scale = beside("scale");
        let unit = beside("unit");
        let scale_unit = (scale.is_some() || unit.is_some())
            .then(|| (scale.unwrap_or_else(|| "1".into()), unit.unwrap_or_default()));
        Alias { terms: terms.trim().to_owned(), scale_unit }
    }

    /// Names of its config fields.
    pub(crate) fn formats(&self) -> Vec<String> {
        machine::names(&self.dir.join("format")).unwrap_or_default()
    }

    /// One of its config fields.
    pub(crate) fn format(&self, name: &str) -> Option<Format> {
        if name.contains(['/', '.']) {
            return None;
        }
        Format::parse(&machine::text(&self.dir.join("format").join(name)).ok()?)
    }
}

/// Names of the PMUs, sorted.
pub(crate) fn names(machine: &Machine) -> Vec<String> {
    machine::names(&machine.devices()).unwrap_or_default()
}

/// Does the name that a user wrote (`imc`, `uncore_imc`, `uncore_*`) mean this PMU (`uncore_imc_0`)?
pub(crate) fn matches(written: &str, pmu: &str) -> bool {
    let pmu = match pmu.strip_prefix("uncore_") {
        Some(short) if !written.starts_with("uncore_") => short,
        _ => pmu,
    };
    match pmu.strip_prefix(written) {
        Some(rest) => {
            let digits = rest.strip_prefix('_').unwrap_or(rest);
            rest.is_empty() || !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        }
        None => written.contains(['*', '?']) && super::tracepoint::glob(written, pmu),
    }
}

impl Format {
    /// `config:0-7,32-35`, `config1:0`.
    fn parse(text: &str) -> Option<Format> {
        let (config, bits) = text.trim().split_once(':')?;
        let config = match config {
            "config" => 0,
            other => other.strip_prefix("config")?.parse().ok().filter(|n| (1..=4).contains(n))?,
        };
        let mut ranges = Vec::new();
        for part in bits.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u8, u8) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > 63 {
                return None;
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        Some(Format { config, ranges })
    }

    /// The largest value that fits.
    pub(crate) fn max(&self) -> u64 {
        let width: u32 = self.ranges.iter().map(|&(a, b)| u32::from(b - a) + 1).sum();
        1u64.checked_shl(width).map_or(u64::MAX, |v| v - 1)
    }

    /// Spreads the value over its bits.
    pub(crate) fn set(&self, attr: &mut Attr, mut value: u64) {
        let config = match self.config {
            0 => &mut attr.config,
            1 => &mut attr.config1,
            2 => &mut attr.config2,
            3 => &mut attr.config3,
            _ => &mut attr.config4,
        };
        for &(first, last) in &self.ranges {
            for bit in first..=last {
                *config = *config & !(1 << bit) | (value & 1) << bit;
                value >>= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_spread_over_its_ranges() {
        let mut attr = Attr::default();
        let event = Format::parse("config:0-7,32-35\n").unwrap();
        assert_eq!(event.max(), 0xfff);
        event.set(&mut attr, 0xabc);
        assert_eq!(attr.config, 0xa_0000_00bc);
        Format::parse("config3:63").unwrap().set(&mut attr, 1);
        assert_eq!(attr.config3, 1 << 63);
        assert_eq!(Format::parse("config1:0-63").unwrap().max(), u64::MAX);
        for bad in ["config5:0", "config:64", "config:5-1", "config", "xconfig:1", "config:"] {
            assert_eq!(Format::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_uncore_pmus_may_be_shortened() {
        assert!(matches("imc", "uncore_imc_0"));
        assert!(matches("uncore_imc", "uncore_imc_12"));
        assert!(matches("uncore_i*", "uncore_imc_0"));
        assert!(!matches("imc", "uncore_imc_free_running"));
        assert!(!matches("cpu", "cpu_core"));
    }
}
