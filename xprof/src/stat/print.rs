//! Counts as text, JSON and CSV, and what looks wrong about them.

use std::fmt::Write;

use serde_json::{Value, json};
use xprof_backend::counters::{Count, Counter};
use xprof_ui::plain::csv_field;

use super::Outcome;

/// A hardware counter that ran this long (ns) and saw nothing is not believed.
const LONG_ENOUGH: u64 = 1_000_000_000;

/// What happened to a counter.
fn state(counter: &Counter, count: Option<&Count>) -> &'static str {
    match count {
        _ if counter.refusal.is_some() => "not supported",
        Some(count) if count.running > 0 => "counted",
        _ => "not counted",
    }
}

/// The counters with their counts (and the places of these); one without any stands alone.
fn rows(outcome: &Outcome) -> Vec<(&Counter, Option<(usize, &Count)>)> {
    let mut rows = Vec::new();
    for (index, counter) in outcome.counters.iter().enumerate() {
        let before = rows.len();
        let counts = outcome.counts.iter().enumerate().filter(|(_, count)| count.counter == index);
        rows.extend(counts.map(|count| (counter, Some(count))));
        if rows.len() == before {
            rows.push((counter, None));
        }
    }
    rows
}

/// Sentences about counts that are not what they seem.
pub(super) fn suspicions(outcome: &Outcome) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, counter) in outcome.counters.iter().enumerate() {
        let counts = || outcome.counts.iter().filter(|count| count.counter == index);
        let (enabled, running) = (counts().map(|c| c.enabled).sum::<u64>(), counts().map(|c| c.running).sum::<u64>());
        if counter.hardware && running >= LONG_ENOUGH && counts().all(|count| count.value == 0) {
            notes.push(format!(
                "{} counted nothing in {:.1} s: this processor or virtual machine may not have the event",
                counter.name,
                running as f64 / 1e9
            ));
        }
        if running == 0 && enabled > 0 {
            let members = outcome.counters.iter().filter(|other| other.group == counter.group).count();
            let why = if members > 1 {
                format!("its group of {members} does not fit at once")
            } else {
                "its counter was taken by others".into()
            };
            notes.push(format!("{} was never measured: {why}", counter.name));
        }
    }
    notes
}

/// A number with a comma every three digits.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The name, and its modifiers with what parts them from it.
fn parted(name: &str) -> (&str, &str) {
    let split = name.rfind(':').filter(|&at| name[at + 1..].chars().all(|c| "ukhGHpPSDWeIb".contains(c)));
    name.split_at(split.unwrap_or(name.len()))
}

/// The name without its modifiers.
pub(super) fn base(name: &str) -> &str {
    parted(name).0
}

/// Counts ns.
pub(super) fn is_clock(name: &str) -> bool {
    matches!(base(name), "task-clock" | "cpu-clock")
}

/// The estimate of the event `name` with the same modifiers as `beside`, on the same CPU.
pub(super) fn beside(outcome: &Outcome, name: &str, beside: &Counter, cpu: Option<u32>) -> Option<f64> {
    let wanted = (name, parted(&beside.name).1);
    let index = outcome.counters.iter().position(|counter| parted(&counter.name) == wanted)?;
    outcome.estimate(outcome.counts.iter().position(|count| count.counter == index && count.cpu == cpu)?)
}

/// What a count means beside another one.
fn meaning(outcome: &Outcome, counter: &Counter, count: &Count, value: f64) -> Option<String> {
    let other = |name| beside(outcome, name, counter, count.cpu).filter(|other| *other > 0.0);
    let share = |name, unit| Some(format!("{:.2} % of {unit}", 100.0 * value / other(name)?));
    match base(&counter.name) {
        name if is_clock(name) && outcome.elapsed.as_nanos() > 0 => {
            Some(format!("{:.3} CPUs used", value / outcome.elapsed.as_nanos() as f64))
        }
        "instructions" => Some(format!("{:.2} per cycle", value / other("cycles")?)),
        "branch-misses" => share("branches", "branches"),
        "cache-misses" => share("cache-references", "cache references"),
        "L1-dcache-load-misses" => share("L1-dcache-loads", "loads"),
        "L1-icache-load-misses" => share("L1-icache-loads", "fetches"),
        "LLC-load-misses" => share("LLC-loads", "loads of the last cache"),
        "dTLB-load-misses" => share("dTLB-loads", "loads"),
        "iTLB-load-misses" => share("iTLB-loads", "fetches"),
        _ => None,
    }
}

/// One line for each count, without what stands around them.
fn lines(outcome: &Outcome, before: &str) -> String {
    let mut out = String::new();
    let by_cpu = outcome.counts.iter().any(|count| count.cpu.is_some());
    for (counter, count) in rows(outcome) {
        let cpu = match count.and_then(|(_, count)| count.cpu) {
            Some(cpu) => format!("CPU{cpu:<5}"),
            None if by_cpu => " ".repeat(8),
            None => String::new(),
        };
        let estimate = count.and_then(|(at, _)| outcome.estimate(at));
        let shown = match estimate {
            _ if counter.refusal.is_some() => "<not supported>".to_owned(),
            None => "<not counted>".to_owned(),
            Some(ns) if is_clock(&counter.name) => format!("{:.2} ms", ns / 1e6),
            // Exact below 2^53; what was not repeated is exact everywhere.
            Some(value) => {
                let whole = count.filter(|_| outcome.repeats.is_none()).and_then(|(_, count)| count.estimate());
                grouped(whole.unwrap_or(value.round() as u64))
            }
        };
        let mut line = format!("{before}{cpu}{shown:>20}  {:<28}", counter.name);
        if let (Some((at, count)), Some(estimate)) = (count, estimate) {
            if let Some(meaning) = meaning(outcome, counter, count, estimate) {
                let _ = write!(line, " # {meaning}");
            }
            if let Some(spread) = outcome.repeats.as_ref().and_then(|repeats| repeats.estimates.get(at)) {
                let _ = write!(line, " ( +- {:.2} % )", spread.percent());
            }
            if count.running < count.enabled {
                let share = 100.0 * count.running as f64 / count.enabled as f64;
                let _ =
                    write!(line, " (estimated: measured {share:.2} % of the time, {} counted)", grouped(count.value));
            }
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A table for people.
pub(super) fn text(outcome: &Outcome) -> String {
    let (runs, spread) = match &outcome.repeats {
        None => (String::new(), String::new()),
        Some(repeats) => (
            format!(", means of {} runs", repeats.runs),
            format!(" +- {:.9} ( +- {:.2} % )", repeats.elapsed.error(), repeats.elapsed.percent()),
        ),
    };
    format!(
        "\n Counts of {}{runs}:\n\n{}\n{:>20.9}{spread}  seconds\n\n",
        outcome.target,
        lines(outcome, ""),
        outcome.elapsed.as_secs_f64()
    )
}

/// The lines of one interval, the time before each.
pub(super) fn interval(outcome: &Outcome, first: bool) -> String {
    let at = outcome.at.unwrap_or_default();
    let head = if first { "#     seconds              counts  event\n" } else { "" };
    format!("{head}{}", lines(outcome, &format!("{:>15.9} ", at.as_secs_f64())))
}

/// One document; one on each line for intervals.
pub(super) fn json(outcome: &Outcome) -> String {
    let events: Vec<Value> = rows(outcome)
        .into_iter()
        .map(|(counter, place)| {
            let count = place.map(|(_, count)| count);
            let counted = count.filter(|count| count.running > 0);
            let mut event = json!({
                "event": counter.name,
                "cpu": count.and_then(|count| count.cpu),
                "state": state(counter, count),
                "value": counted.map(|count| count.value),
                "estimate": counted.and_then(Count::estimate),
                "enabled_ns": count.map(|count| count.enabled),
                "running_ns": count.map(|count| count.running),
                "measured": count.and_then(Count::share),
                "reason": counter.refusal,
            });
            if let Some(repeats) = &outcome.repeats {
                let moments = place.and_then(|(at, _)| repeats.estimates.get(at));
                event["mean"] = json!(moments.and_then(|m| m.mean()));
                event["spread"] = json!(moments.map(|m| m.error()));
            }
            event
        })
        .collect();
    let elapsed = u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX);
    let mut document = json!({"schema": 1, "target": outcome.target, "elapsed_ns": elapsed, "events": events});
    if let Some(at) = outcome.at {
        document["at_ns"] = json!(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    }
    if let Some(repeats) = &outcome.repeats {
        document["runs"] = json!(repeats.runs);
        document["elapsed_spread_ns"] = json!(repeats.elapsed.error() * 1e9);
    }
    format!("{document}\n")
}

/// One line for each count; empty fields where nothing was counted. Intervals and repeats add columns at the end.
pub(super) fn csv(outcome: &Outcome, first: bool) -> String {
    let mut out = String::new();
    if first {
        out.push_str("event,cpu,state,value,estimate,enabled_ns,running_ns,measured");
        out.push_str(if outcome.at.is_some() { ",at_ns" } else { "" });
        out.push_str(if outcome.repeats.is_some() { ",runs,mean,spread\n" } else { "\n" });
    }
    let number = |value: Option<u64>| value.map(|v| v.to_string()).unwrap_or_default();
    for (counter, place) in rows(outcome) {
        let count = place.map(|(_, count)| count);
        let counted = count.filter(|count| count.running > 0);
        let _ = write!(
            out,
            "{},{},{},{},{},{},{},{}",
            csv_field(&counter.name),
            number(count.and_then(|count| count.cpu).map(u64::from)),
            state(counter, count),
            number(counted.map(|count| count.value)),
            number(counted.and_then(Count::estimate)),
            number(count.map(|count| count.enabled)),
            number(count.map(|count| count.running)),
            count.and_then(Count::share).map(|share| format!("{share:.6}")).unwrap_or_default(),
        );
        if let Some(at) = outcome.at {
            let _ = write!(out, ",{}", at.as_nanos());
        }
        if let Some(repeats) = &outcome.repeats {
            let moments = place.and_then(|(at, _)| repeats.estimates.get(at)).filter(|m| m.mean().is_some());
            let float = |value: Option<f64>| value.map(|v| format!("{v:.3}")).unwrap_or_default();
            let spread = float(moments.map(|m| m.error()));
            let _ = write!(out, ",{},{},{spread}", repeats.runs, float(moments.and_then(|m| m.mean())));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counter(name: &str, hardware: bool) -> Counter {
        Counter { name: name.into(), hardware, refusal: None, group: 0 }
    }

    fn outcome() -> Outcome {
        let second = 1_000_000_000;
        let count = |counter, value, running| Count { counter, cpu: None, value, enabled: second, running };
        Outcome {
            target: "work".into(),
            elapsed: Duration::from_secs(2),
            at: None,
            repeats: None,
            counters: vec![
                counter("task-clock:u", false),
                counter("cycles:u", true),
                counter("instructions:u", true),
                counter("r03", true),
                Counter { refusal: Some("No such file".into()), ..counter("cpu/a,b=1/", true) },
                Counter { group: 1, ..counter("page-faults", false) },
            ],
            counts: vec![
                count(0, second, second),
                count(1, 1000, second),
                count(2, 1000, second / 4),
                count(3, 0, second),
                count(5, 0, 0),
            ],
        }
    }

    #[test]
    fn text_says_what_was_estimated() {
        let text = text(&outcome());
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().trim().to_owned();
        assert_eq!(line("task-clock"), "1000.00 ms  task-clock:u                 # 0.500 CPUs used");
        assert_eq!(line("cycles:u"), "1,000  cycles:u");
        assert_eq!(
            line("instructions"),
            "4,000  instructions:u               # 4.00 per cycle (estimated: measured 25.00 % of the time, 1,000 counted)"
        );
        assert_eq!(line("a,b"), "<not supported>  cpu/a,b=1/");
        assert_eq!(line("page-faults"), "<not counted>  page-faults");
    }

    #[test]
    fn zeros_of_hardware_are_not_believed() {
        let notes = suspicions(&outcome());
        assert_eq!(
            notes,
            [
                "r03 counted nothing in 1.0 s: this processor or virtual machine may not have the event",
                "page-faults was never measured: its counter was taken by others",
            ]
        );
    }

    #[test]
    fn json_and_csv_keep_the_count_and_the_estimate_apart() {
        let document: Value = serde_json::from_str(&json(&outcome())).unwrap();
        let event = &document["events"][2];
        assert_eq!(
            (&event["value"], &event["estimate"], &event["measured"]),
            (&json!(1000), &json!(4000), &json!(0.25))
        );
        assert_eq!(document["events"][5]["value"], Value::Null);
        let csv = csv(&outcome(), true);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[3], "instructions:u,,counted,1000,4000,1000000000,250000000,0.250000");
        assert_eq!(lines[5], "\"cpu/a,b=1/\",,not supported,,,,,");
        assert_eq!(lines[6], "page-faults,,not counted,,,1000000000,0,0.000000");
    }
}
