//! What is counted: the events asked for, or perf's own when none are.

use xprof_backend::counters::Counter;
use xprof_backend::event::{self, EventGroup};
use xprof_backend::plan::Target;

use crate::commands::msr::BackendChoice;
use crate::commands::stat::Options;

/// What perf counts when nothing is named: these, and [`HARDWARE`] where it opens.
const SOFTWARE: &str = "task-clock,context-switches,cpu-migrations,page-faults";
/// The same for whole CPUs, whose clock runs without tasks.
const SOFTWARE_OF_CPUS: &str = "cpu-clock,context-switches,cpu-migrations,page-faults";
/// What every x86 has a register for.
const TIME_STAMP: &str = "msr/tsc/";
const HARDWARE: &str = "cycles,instructions,branches,branch-misses";

/// What each `-d` adds, as in perf (`tools/perf/builtin-stat.c`, `add_default_attributes`).
const DETAILS: [&str; 3] = [
    "L1-dcache-loads,L1-dcache-load-misses,LLC-loads,LLC-load-misses",
    "L1-icache-loads,L1-icache-load-misses,dTLB-loads,dTLB-load-misses,iTLB-loads,iTLB-load-misses",
    "L1-dcache-prefetches,L1-dcache-prefetch-misses",
];

/// The events to count.
pub(super) fn of(options: &Options, target: &Target) -> anyhow::Result<Vec<EventGroup>> {
    let mut groups = Vec::new();
    if options.events.is_empty() {
        let software = match options.backend {
            BackendChoice::Msr | BackendChoice::Xen => TIME_STAMP,
            BackendChoice::Simulated(_) => "cpu-clock",
            BackendChoice::Native if *target == Target::System => SOFTWARE_OF_CPUS,
            BackendChoice::Native => SOFTWARE,
        };
        groups.extend(event::parse(software)?);
        groups.extend(event::parse(HARDWARE)?);
    }
    for text in &options.events {
        groups.extend(event::parse(text)?);
    }
    for text in DETAILS.iter().take(options.detailed.into()) {
        groups.extend(event::parse(text)?);
    }
    Ok(groups)
}

/// Hardware events that were not asked for and do not exist here become one note.
pub(super) fn leave_out_refused(counters: &mut [Counter]) -> Option<String> {
    let refused: Vec<&Counter> = counters.iter().filter(|counter| counter.refusal.is_some()).collect();
    let why = refused.first()?.refusal.clone()?;
    let names: Vec<&str> = refused.iter().map(|counter| counter.name.as_str()).collect();
    Some(format!("not counted on this machine: {} ({why})", names.join(", ")))
}
