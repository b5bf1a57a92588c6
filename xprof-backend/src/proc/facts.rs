//! The machine as a recording's header describes it: names, CPUs, memory.
//!
//! Each fact equals what perf 6.1 writes on the same machine. One that cannot be read is left out, never guessed.

use std::path::Path;

use xprof_perfdata::abi::feature;
use xprof_perfdata::feature::Features;

use super::topology;
use crate::event::pmu::Pmu;
use crate::machine::{self, Machine};

/// Reads the machine's facts. What belongs to the run (events, command line, times) is the caller's.
pub fn facts(machine: &Machine) -> Features {
    let kernel = |name: &str| {
        let text = machine::text(&machine.proc.join("sys/kernel").join(name)).ok()?;
        Some(text.trim_end().to_owned())
    };
    let cpuinfo = machine::text(&machine.proc.join("cpuinfo")).unwrap_or_default();
    let cpus = machine.sys.join("devices/system/cpu");
    let list = |name: &str| machine::text(&cpus.join(name)).ok().and_then(|t| machine::cpu_list(&t));
    let (online, present) = (list("online"), list("present"));
    let mut features = Features {
        hostname: kernel("hostname"),
        os_release: kernel("osrelease"),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        arch: kernel("arch").or_else(|| Some(rustix::system::uname().machine().to_string_lossy().into_owned())),
        nr_cpus: online.as_ref().zip(present.as_ref()).map(|(o, p)| (o.len() as u32, p.len() as u32)),
        cpu_desc: cpu_desc(&cpuinfo),
        cpuid: cpuid(&cpuinfo, &cpus),
        total_mem: mem_total(machine),
        pmu_mappings: Pmu::all(machine).into_iter().map(|p| (p.kind, p.name)).collect(),
        ..Features::default()
    };
    let present = present.unwrap_or_default();
    let sections = [
        (feature::CPU_TOPOLOGY, topology::cpus(machine, &present)),
        (feature::NUMA_TOPOLOGY, topology::nodes(machine)),
        (feature::CACHE, topology::caches(machine, &present)),
        (feature::MEM_TOPOLOGY, topology::memory(machine)),
    ];
    features.other = sections.into_iter().filter_map(|(number, bytes)| Some((number, bytes?))).collect();
    features
}

/// The value of the first line `key : value`.
fn field<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    let line = cpuinfo.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim_end() == key))?;
    Some(line.split_once(':')?.1.trim())
}

/// perf looks for another word on each architecture; blanks are folded as it does.
fn cpu_desc(cpuinfo: &str) -> Option<String> {
    let value = ["model name", "Processor", "cpu", "uarch"].iter().find_map(|key| field(cpuinfo, key))?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// x86: `vendor,family,model,stepping`; arm64: MIDR without variant and revision.
fn cpuid(cpuinfo: &str, cpus: &Path) -> Option<String> {
    if let Some(vendor) = field(cpuinfo, "vendor_id") {
        let [family, model, stepping] = ["cpu family", "model", "stepping"].map(|key| field(cpuinfo, key));
        return Some(format!("{vendor},{},{},{}", family?, model?, stepping?));
    }
    let midr = machine::text(&cpus.join("cpu0/regs/identification/midr_el1")).ok()?;
    let midr = u64::from_str_radix(midr.trim().strip_prefix("0x")?, 16).ok()?;
    Some(format!("0x{:016x}", midr & !0xf0_000f))
}

fn mem_total(machine: &Machine) -> Option<u64> {
    let text = machine::text(&machine.proc.join("meminfo")).ok()?;
    field(&text, "MemTotal")?.split(' ').next()?.parse().ok()
}
