//! The header's sections on CPUs, nodes, caches and memory blocks, as the bytes perf writes.
//!
//! Layouts: `tools/perf/util/header.c` of the kernel, the functions `write_cpu_topology`, `write_numa_topology`,
//! `write_cache`, `write_mem_topology`; numbers in the byte order of this machine.

use std::path::Path;

use crate::machine::{self, Machine};

/// Strings are padded to a multiple of this, bytes (`NAME_ALIGN`).
const NAME_ALIGN: usize = 64;
/// Cache levels that are looked for per CPU (`MAX_CACHE_LVL`).
const CACHE_INDICES: usize = 10;
/// Memory blocks beyond this are not described.
const BLOCKS_MAX: u64 = 1 << 20;

/// A section being written.
#[derive(Default)]
struct Section(Vec<u8>);

impl Section {
    fn u32(&mut self, n: u32) {
        self.0.extend(n.to_ne_bytes());
    }
    fn u64(&mut self, n: u64) {
        self.0.extend(n.to_ne_bytes());
    }
    fn string(&mut self, text: &str) {
        let padded = (text.len() + 1).next_multiple_of(NAME_ALIGN);
        self.u32(padded as u32);
        let end = self.0.len() + padded;
        self.0.extend(text.as_bytes());
        self.0.resize(end, 0);
    }
    fn strings(&mut self, list: &[String]) {
        self.u32(list.len() as u32);
        list.iter().for_each(|s| self.string(s));
    }
}

fn line(path: &Path) -> Option<String> {
    machine::text(path).ok().map(|t| t.trim_end().to_owned())
}

fn cpu_dir(machine: &Machine, cpu: u32) -> std::path::PathBuf {
    machine.sys.join(format!("devices/system/cpu/cpu{cpu}"))
}

/// CPU_TOPOLOGY: sibling lists of packages, threads and dies, then core, package and die of each CPU.
pub(super) fn cpus(machine: &Machine, cpus: &[u32]) -> Option<Vec<u8>> {
    let read = |cpu: u32, name: &str| line(&cpu_dir(machine, cpu).join("topology").join(name));
    let lists = |names: [&str; 2]| {
        let mut list: Vec<String> = Vec::new();
        for &cpu in cpus {
            if let Some(text) = names.iter().find_map(|n| read(cpu, n)).filter(|t| !list.contains(t)) {
                list.push(text);
            }
        }
        list
    };
    let packages = lists(["package_cpus_list", "core_siblings_list"]);
    let threads = lists(["core_cpus_list", "thread_siblings_list"]);
    let dies =
        if read(*cpus.first()?, "die_id").is_some() { lists(["die_cpus_list", "die_cpus_list"]) } else { vec![] };
    if packages.is_empty() || threads.is_empty() {
        return None;
    }
    // perf writes -1 for what it cannot read, as an unsigned number.
    let id = |cpu: u32, name: &str| read(cpu, name).and_then(|t| t.parse::<i32>().ok()).unwrap_or(-1) as u32;
    let mut out = Section::default();
    out.strings(&packages);
    out.strings(&threads);
    for &cpu in cpus {
        out.u32(id(cpu, "core_id"));
        out.u32(id(cpu, "physical_package_id"));
    }
    if !dies.is_empty() {
        out.strings(&dies);
        cpus.iter().for_each(|&cpu| out.u32(id(cpu, "die_id")));
    }
    Some(out.0)
}

/// NUMA_TOPOLOGY: total and free memory (kB) and the CPUs of each node.
pub(super) fn nodes(machine: &Machine) -> Option<Vec<u8>> {
    let dir = machine.sys.join("devices/system/node");
    let nodes = machine::cpu_list(&line(&dir.join("online"))?)?;
    let mut out = Section::default();
    out.u32(nodes.len() as u32);
    for node in nodes {
        let dir = dir.join(format!("node{node}"));
        let meminfo = line(&dir.join("meminfo"))?;
        // "Node 0 MemTotal:       14248152 kB"
        let kb = |key: &str| {
            let line = meminfo.lines().find(|l| l.split_whitespace().nth(2) == Some(key))?;
            line.split_whitespace().nth(3)?.parse::<u64>().ok()
        };
        out.u32(node);
        out.u64(kb("MemTotal:")?);
        out.u64(kb("MemFree:")?);
        out.string(&line(&dir.join("cpulist"))?);
    }
    Some(out.0)
}

/// CACHE: level, line size, sets, ways, kind, size and sharing CPUs of each cache, ordered by level.
pub(super) fn caches(machine: &Machine, cpus: &[u32]) -> Option<Vec<u8>> {
    let mut list: Vec<([u32; 4], [String; 3])> = Vec::new();
    for &cpu in cpus {
        for index in 0..CACHE_INDICES {
            let dir = cpu_dir(machine, cpu).join(format!("cache/index{index}"));
            let Some(level) = line(&dir.join("level")).and_then(|t| t.parse().ok()) else { break };
            let number = |name: &str| line(&dir.join(name)).and_then(|t| t.parse().ok()).unwrap_or(0);
            let text = |name: &str| line(&dir.join(name)).unwrap_or_default();
            let cache = (
                [level, number("coherency_line_size"), number("number_of_sets"), number("ways_of_associativity")],
                [text("type"), text("size"), text("shared_cpu_list")],
            );
            if !list.contains(&cache) {
                list.push(cache);
            }
        }
    }
    if list.is_empty() {
        return None;
    }
    list.sort_by_key(|c| c.0[0]);
    let mut out = Section::default();
    out.u32(1);
    out.u32(list.len() as u32);
    for (numbers, texts) in &list {
        numbers.iter().for_each(|&n| out.u32(n));
        texts.iter().for_each(|t| out.string(t));
    }
    Some(out.0)
}

/// MEM_TOPOLOGY: which memory blocks (by number, in blocks of a fixed size) each node has.
pub(super) fn memory(machine: &Machine) -> Option<Vec<u8>> {
    let block = line(&machine.sys.join("devices/system/memory/block_size_bytes"))?;
    let block = u64::from_str_radix(&block, 16).ok()?;
    let dir = machine.sys.join("devices/system/node");
    let mut nodes: Vec<(u64, Vec<u64>)> = Vec::new();
    for name in machine::names(&dir).ok()? {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else { continue };
        let entries = machine::names(&dir.join(&name)).ok()?;
        let mut blocks: Vec<u64> =
            entries.iter().filter_map(|e| e.strip_prefix("memory")?.parse().ok()).filter(|&b| b < BLOCKS_MAX).collect();
        blocks.sort_unstable();
        nodes.push((node, blocks));
    }
    nodes.sort();
    let mut out = Section::default();
    out.u64(1);
    out.u64(block);
    out.u64(nodes.len() as u64);
    for (node, blocks) in nodes {
        let size = blocks.last().map_or(0, |last| last + 1);
        let mut bits = vec![0u64; (size as usize).div_ceil(64)];
        for b in blocks {
            if let Some(word) = bits.get_mut((b / 64) as usize) {
                *word |= 1 << (b % 64);
            }
        }
        out.u64(node);
        out.u64(size);
        // The bitmap says its own size once more.
        out.u64(size);
        bits.into_iter().for_each(|w| out.u64(w));
    }
    Some(out.0)
}
