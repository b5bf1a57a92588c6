//! The event names that need no sysfs: hardware, software and cache events, in perf's spellings.
//!
//! Numbers: `include/uapi/linux/perf_event.h`; spellings: what `perf list` shows and perf's `-e` accepts.

use xprof_perfdata::abi::{hardware as hw, software as sw};

/// An event with a fixed number: config, name, aliases, what it counts.
pub(crate) struct Fixed {
    pub(crate) config: u64,
    pub(crate) names: &'static [&'static str],
    pub(crate) what: &'static str,
}

const fn fixed(config: u64, names: &'static [&'static str], what: &'static str) -> Fixed {
    Fixed { config, names, what }
}

/// `PERF_TYPE_HARDWARE`.
pub(crate) const HARDWARE: &[Fixed] = &[
    fixed(hw::CPU_CYCLES, &["cpu-cycles", "cycles"], "Cycles in which the core was not halted"),
    fixed(hw::INSTRUCTIONS, &["instructions"], "Instructions retired"),
    fixed(hw::CACHE_REFERENCES, &["cache-references"], "Accesses to the last cache level"),
    fixed(hw::CACHE_MISSES, &["cache-misses"], "Misses of the last cache level"),
    fixed(hw::BRANCH_INSTRUCTIONS, &["branch-instructions", "branches"], "Branch instructions retired"),
    fixed(hw::BRANCH_MISSES, &["branch-misses"], "Mispredicted branches"),
    fixed(hw::BUS_CYCLES, &["bus-cycles"], "Bus cycles"),
    fixed(
        hw::STALLED_CYCLES_FRONTEND,
        &["stalled-cycles-frontend", "idle-cycles-frontend"],
        "Cycles in which the front end delivered nothing",
    ),
    fixed(
        hw::STALLED_CYCLES_BACKEND,
        &["stalled-cycles-backend", "idle-cycles-backend"],
        "Cycles in which the back end accepted nothing",
    ),
    fixed(hw::REF_CPU_CYCLES, &["ref-cycles"], "Cycles at constant rate, whatever the core's frequency"),
];

/// `PERF_TYPE_SOFTWARE`.
pub(crate) const SOFTWARE: &[Fixed] = &[
    fixed(sw::CPU_CLOCK, &["cpu-clock"], "Time of the CPU, ns"),
    fixed(sw::TASK_CLOCK, &["task-clock"], "Time the task ran, ns"),
    fixed(sw::PAGE_FAULTS, &["page-faults", "faults"], "Page faults, minor and major"),
    fixed(sw::CONTEXT_SWITCHES, &["context-switches", "cs"], "Context switches"),
    fixed(sw::CPU_MIGRATIONS, &["cpu-migrations", "migrations"], "Moves of a task to another CPU"),
    fixed(sw::PAGE_FAULTS_MIN, &["minor-faults"], "Page faults served without reading a disk"),
    fixed(sw::PAGE_FAULTS_MAJ, &["major-faults"], "Page faults that read a disk"),
    fixed(sw::ALIGNMENT_FAULTS, &["alignment-faults"], "Unaligned accesses that the kernel handled"),
    fixed(sw::EMULATION_FAULTS, &["emulation-faults"], "Instructions that the kernel emulated"),
    fixed(sw::DUMMY, &["dummy"], "Nothing: carries the records of processes and mappings"),
    fixed(sw::BPF_OUTPUT, &["bpf-output"], "What a BPF program writes out"),
    fixed(sw::CGROUP_SWITCHES, &["cgroup-switches"], "Context switches into another cgroup"),
];

/// Names that count no event of the kernel: perf measures them itself, and only in `stat`.
pub(crate) const TOOL: &[&str] = &["duration_time", "user_time", "system_time"];

/// Finds a fixed event by any of its names.
pub(crate) fn find<'a>(table: &'a [Fixed], name: &str) -> Option<&'a Fixed> {
    table.iter().find(|f| f.names.contains(&name))
}

/// One cache (`PERF_COUNT_HW_CACHE_*`): spellings, the first of which is perf's own, and which operations it has.
struct Cache {
    names: &'static [&'static str],
    /// Read, write, prefetch.
    has: [bool; 3],
}

const CACHES: [Cache; 7] = [
    Cache { names: &["L1-dcache", "l1-d", "l1d", "L1-data"], has: [true, true, true] },
    Cache { names: &["L1-icache", "l1-i", "l1i", "L1-instruction"], has: [true, false, true] },
    Cache { names: &["LLC", "L2"], has: [true, true, true] },
    Cache { names: &["dTLB", "d-tlb", "Data-TLB"], has: [true, true, true] },
    Cache { names: &["iTLB", "i-tlb", "Instruction-TLB"], has: [true, false, false] },
    Cache { names: &["branch", "branches", "bpu", "btb", "bpc"], has: [true, false, false] },
    Cache { names: &["node"], has: [true, true, true] },
];

/// `PERF_COUNT_HW_CACHE_OP_*`.
const OPS: [&[&str]; 3] = [
    &["load", "loads", "read"],
    &["store", "stores", "write"],
    &["prefetch", "prefetches", "speculative-read", "speculative-load"],
];

/// `PERF_COUNT_HW_CACHE_RESULT_*`.
const RESULTS: [&[&str]; 2] = [&["refs", "Reference", "ops", "access"], &["misses", "miss"]];

/// A cache event's config, or why the name is none.
pub(crate) enum CacheName {
    /// `cache | op << 8 | result << 16`.
    Config(u64),
    /// A cache event, but of an operation this cache does not have.
    NoSuchOperation(&'static str),
    /// Not a cache event.
    No,
}

/// Reads `CACHE[-OP][-RESULT]`; the operation defaults to reads, the result to all accesses.
pub(crate) fn cache(name: &str) -> CacheName {
    for (number, cache) in CACHES.iter().enumerate() {
        for spelling in cache.names {
            let Some(rest) = strip(name, spelling) else { continue };
            let Some((op, result)) = op_and_result(rest) else { continue };
            if !cache.has[op] {
                return CacheName::NoSuchOperation(cache.names[0]);
            }
            return CacheName::Config(number as u64 | (op as u64) << 8 | (result as u64) << 16);
        }
    }
    CacheName::No
}

fn strip<'a>(name: &'a str, start: &str) -> Option<&'a str> {
    name.get(..start.len()).filter(|s| s.eq_ignore_ascii_case(start)).map(|_| &name[start.len()..])
}

/// `-op`, `-result`, `-op-result` or nothing.
fn op_and_result(rest: &str) -> Option<(usize, usize)> {
    if rest.is_empty() {
        return Some((0, 0));
    }
    let rest = rest.strip_prefix('-')?;
    let find =
        |table: &[&[&str]], word: &str| table.iter().position(|t| t.iter().any(|n| n.eq_ignore_ascii_case(word)));
    if let Some(op) = find(&OPS, rest) {
        return Some((op, 0));
    }
    if let Some(result) = find(&RESULTS, rest) {
        return Some((0, result));
    }
    let (op, result) = rest.rsplit_once('-')?;
    Some((find(&OPS, op)?, find(&RESULTS, result)?))
}

/// The cache events as `perf list` spells them, with what they count.
pub(crate) fn cache_names() -> impl Iterator<Item = (String, String)> {
    const OP: [(&str, &str); 3] = [("load", "reads"), ("store", "writes"), ("prefetch", "prefetches")];
    CACHES.iter().flat_map(|cache| {
        OP.iter().zip(cache.has).filter(|(_, has)| *has).flat_map(move |((op, what), _)| {
            let (name, plural) = (cache.names[0], if *op == "prefetch" { "prefetches" } else { "s" });
            let all = if *op == "prefetch" { format!("{name}-{plural}") } else { format!("{name}-{op}{plural}") };
            [(all, format!("{name}: {what}")), (format!("{name}-{op}-misses"), format!("{name}: misses of {what}"))]
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name listed reads back, and as a different event.
    #[test]
    fn listed_cache_names_are_read() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in cache_names() {
            let CacheName::Config(config) = cache(&name) else { panic!("{name}") };
            assert!(seen.insert(config), "{name}");
        }
        assert_eq!(seen.len(), 2 * (3 + 2 + 3 + 3 + 1 + 1 + 3));
        assert!(matches!(cache("L1-icache-stores"), CacheName::NoSuchOperation("L1-icache")));
        assert!(matches!(cache("L1-dcachex"), CacheName::No));
    }
}
