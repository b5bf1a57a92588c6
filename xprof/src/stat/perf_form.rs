//! The lines of `perf stat -x` and `perf stat -j`: fields, order and formats of perf 6.1 (`tools/perf/util/stat-display.c`,
//! `stat-shadow.c`), for programs that read those.
//!
//! As perf's, the value of a counter that had to share its hardware is the estimate for the whole time; the share of time
//! that it was measured stands two fields behind it.

use std::fmt::Write as _;

use xprof_backend::counters::{Count, Counter};

use super::Outcome;
use super::print::{base, beside, is_clock};

/// What a count means beside others; -x leaves the unit out where there is no value, -j does not.
#[derive(Default)]
struct Metric {
    value: Option<f64>,
    decimals: usize,
    unit: &'static str,
}

/// What goes into one line.
struct Line {
    value: Option<f64>,
    refused: bool,
    unit: &'static str,
    /// Percent; with `-r` only.
    spread: Option<f64>,
    running: u64,
    measured: f64,
    metric: Metric,
}

fn line(outcome: &Outcome, counter: &Counter, count: Option<(usize, &Count)>) -> Line {
    let clock = is_clock(&counter.name);
    let estimate = count.and_then(|(at, _)| outcome.estimate(at));
    let (enabled, running) = count.map_or((0, 0), |(_, count)| (count.enabled, count.running));
    Line {
        value: estimate.map(|value| if clock { value / 1e6 } else { value }),
        refused: counter.refusal.is_some(),
        unit: if clock { "msec" } else { "" },
        spread: outcome.repeats.as_ref().map(|repeats| {
            count.and_then(|(at, _)| repeats.estimates.get(at)).map_or(0.0, super::repeat::Moments::percent)
        }),
        running,
        measured: if running == enabled { 100.0 } else { 100.0 * running as f64 / enabled as f64 },
        metric: match (count, estimate) {
            (Some((_, count)), Some(estimate)) => metric(outcome, counter, count, estimate),
            _ => Metric::default(),
        },
    }
}

/// Events whose misses perf shows as a share of another event.
const SHARES: [(&str, &str, &str); 10] = [
    ("branch-misses", "branches", "of all branches"),
    ("cache-misses", "cache-references", "of all cache refs"),
    ("L1-dcache-load-misses", "L1-dcache-loads", "of all L1-dcache accesses"),
    ("L1-icache-load-misses", "L1-icache-loads", "of all L1-icache accesses"),
    ("LLC-load-misses", "LLC-loads", "of all LL-cache accesses"),
    ("dTLB-load-misses", "dTLB-loads", "of all dTLB cache accesses"),
    ("iTLB-load-misses", "iTLB-loads", "of all iTLB cache accesses"),
    ("stalled-cycles-frontend", "cycles", "frontend cycles idle"),
    ("stalled-cycles-backend", "cycles", "backend cycles idle"),
    ("instructions", "cycles", "insn per cycle"),
];

fn metric(outcome: &Outcome, counter: &Counter, count: &Count, value: f64) -> Metric {
    let name = base(&counter.name);
    if is_clock(name) {
        let elapsed = outcome.elapsed.as_nanos() as f64;
        return Metric { value: (elapsed > 0.0).then(|| value / elapsed), decimals: 3, unit: "CPUs utilized" };
    }
    let other = |name: &str| beside(outcome, name, counter, count.cpu).filter(|other| *other > 0.0);
    if let Some((_, of, unit)) = SHARES.iter().find(|(of, ..)| *of == name) {
        let scale = if name == "instructions" { 1.0 } else { 100.0 };
        return Metric { value: other(of).map(|other| scale * value / other), decimals: 2, unit };
    }
    // perf takes any clock for this, whatever modes it counts.
    let clock = outcome.counters.iter().position(|counter| is_clock(&counter.name));
    let same = |at: &Count| Some(at.counter) == clock && at.cpu == count.cpu;
    let clock = outcome.counts.iter().position(same).and_then(|at| outcome.estimate(at)).filter(|ns| *ns > 0.0);
    match (name, clock) {
        ("cycles", Some(clock)) => Metric { value: Some(value / clock), decimals: 3, unit: "GHz" },
        // perf's own spelling where there is none.
        ("cycles", None) => Metric { unit: "Ghz", ..Metric::default() },
        (_, None) => Metric::default(),
        (_, Some(clock)) => {
            let mut rate = 1e9 * value / clock;
            let mut unit = "/sec";
            for larger in ["K/sec", "M/sec", "G/sec"] {
                if rate > 1000.0 {
                    rate /= 1000.0;
                    unit = larger;
                }
            }
            Metric { value: Some(rate), decimals: 3, unit }
        }
    }
}

/// Calls `each` for every line: the CPU (with `-A`), the counter, its line.
fn lines(outcome: &Outcome, mut each: impl FnMut(Option<u32>, &Counter, Line)) {
    let mut cpus: Vec<u32> = outcome.counts.iter().filter_map(|count| count.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    for (index, counter) in outcome.counters.iter().enumerate() {
        let mut any = false;
        for (at, count) in outcome.counts.iter().enumerate().filter(|(_, count)| count.counter == index) {
            any = true;
            each(count.cpu, counter, line(outcome, counter, Some((at, count))));
        }
        match any {
            true => {}
            false if cpus.is_empty() => each(None, counter, line(outcome, counter, None)),
            false => cpus.iter().for_each(|&cpu| each(Some(cpu), counter, line(outcome, counter, None))),
        }
    }
}

fn missing(line: &Line) -> &'static str {
    if line.refused { "<not supported>" } else { "<not counted>" }
}

/// `-x`: `[time,][CPUn,]value,unit,event,[spread,]run time,percent,metric,unit of the metric`.
pub(super) fn separated(outcome: &Outcome, separator: &str) -> String {
    let mut out = String::new();
    let s = separator;
    lines(outcome, |cpu, counter, line| {
        if let Some(at) = outcome.at {
            let _ = write!(out, "{:6}.{:09}{s}", at.as_secs(), at.subsec_nanos());
        }
        if let Some(cpu) = cpu {
            let _ = write!(out, "CPU{cpu}{s}");
        }
        let value = match line.value {
            None => missing(&line).to_owned(),
            Some(value) if line.unit.is_empty() => format!("{value:.0}"),
            Some(value) => format!("{value:.2}"),
        };
        let _ = write!(out, "{value}{s}{}{s}{}{s}", line.unit, counter.name);
        if let Some(spread) = line.spread {
            let _ = write!(out, "{spread:.2}%{s}");
        }
        let _ = write!(out, "{}{s}{:.2}{s}", line.running, line.measured);
        let Metric { value, decimals, unit } = line.metric;
        let _ = match value {
            Some(value) => writeln!(out, "{value:.decimals$}{s}{unit}"),
            None => writeln!(out, "{s}"),
        };
    });
    out
}

/// `-j`: one object a line.
pub(super) fn objects(outcome: &Outcome) -> String {
    let mut out = String::new();
    lines(outcome, |cpu, counter, line| {
        out.push('{');
        if let Some(at) = outcome.at {
            let _ = write!(out, "\"interval\" : {}.{:09}, ", at.as_secs(), at.subsec_nanos());
        }
        if let Some(cpu) = cpu {
            let _ = write!(out, "\"cpu\" : \"{cpu}\", ");
        }
        let value = line.value.map_or_else(|| missing(&line).to_owned(), |value| format!("{value:.6}"));
        let name = serde_json::Value::from(counter.name.as_str());
        let _ = write!(out, "\"counter-value\" : \"{value}\", \"unit\" : \"{}\", \"event\" : {name}, ", line.unit);
        if let Some(spread) = line.spread {
            let _ = write!(out, "\"variance\" : {spread:.2}, ");
        }
        let _ = write!(out, "\"event-runtime\" : {}, \"pcnt-running\" : {:.2}, ", line.running, line.measured);
        let Metric { value, unit, .. } = line.metric;
        let value = value.unwrap_or(0.0);
        let _ = writeln!(out, "\"metric-value\" : {value:.6}, \"metric-unit\" : \"{unit}\"}}");
    });
    out
}
