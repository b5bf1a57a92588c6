//! Counts as text, JSON and CSV, and what looks wrong about them.

use std::fmt::Write;

use serde_json::{Value, json};
use xprof_backend::counters::{Count, Counter};

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

/// The counters with their counts; one without any stands alone.
fn rows(outcome: &Outcome) -> Vec<(&Counter, Option<&Count>)> {
    let mut rows = Vec::new();
    for (index, counter) in outcome.counters.iter().enumerate() {
        let before = rows.len();
        rows.extend(outcome.counts.iter().filter(|count| count.counter == index).map(|count| (counter, Some(count))));
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

/// The name without its modifiers.
fn base(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// The estimate of the event `name` with the same modifiers as `beside`, on the same CPU.
fn beside(outcome: &Outcome, name: &str, beside: &Counter, cpu: Option<u32>) -> Option<u64> {
    let modifiers = beside.name.strip_prefix(base(&beside.name))?;
    let index = outcome.counters.iter().position(|c| c.name.strip_prefix(name) == Some(modifiers))?;
    outcome.counts.iter().find(|count| count.counter == index && count.cpu == cpu)?.estimate()
}

/// What a count means beside another one.
fn meaning(outcome: &Outcome, counter: &Counter, count: &Count) -> Option<String> {
    let value = count.estimate()? as f64;
    let per = |name, unit| {
        let other = beside(outcome, name, counter, count.cpu).filter(|other| *other > 0)?;
        Some(format!("{:.2} {unit}", value / other as f64))
    };
    match base(&counter.name) {
        "task-clock" | "cpu-clock" if outcome.elapsed.as_nanos() > 0 => {
            Some(format!("{:.3} CPUs used", value / outcome.elapsed.as_nanos() as f64))
        }
        "instructions" => per("cycles", "per cycle"),
        "branch-misses" => {
            let branches = beside(outcome, "branches", counter, count.cpu).filter(|b| *b > 0)?;
            Some(format!("{:.2} % of branches", 100.0 * value / branches as f64))
        }
        _ => None,
    }
}

/// A table for people.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut out = format!("\n Counts of {}:\n\n", outcome.target);
    let by_cpu = outcome.counts.iter().any(|count| count.cpu.is_some());
    for (counter, count) in rows(outcome) {
        let cpu = match count.and_then(|count| count.cpu) {
            Some(cpu) => format!("CPU{cpu:<5}"),
            None if by_cpu => " ".repeat(8),
            None => String::new(),
        };
        let time = matches!(base(&counter.name), "task-clock" | "cpu-clock");
        let shown = match count.and_then(Count::estimate) {
            _ if counter.refusal.is_some() => "<not supported>".to_owned(),
            None => "<not counted>".to_owned(),
            Some(ns) if time => format!("{:.2} ms", ns as f64 / 1e6),
            Some(value) => grouped(value),
        };
        let mut line = format!("{cpu}{shown:>20}  {:<28}", counter.name);
        if let Some(count) = count {
            if let Some(meaning) = meaning(outcome, counter, count) {
                let _ = write!(line, " # {meaning}");
            }
            if count.running > 0 && count.running < count.enabled {
                let share = 100.0 * count.running as f64 / count.enabled as f64;
                let _ =
                    write!(line, " (estimated: measured {share:.2} % of the time, {} counted)", grouped(count.value));
            }
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let _ = writeln!(out, "\n{:>20.9}  seconds\n", outcome.elapsed.as_secs_f64());
    out
}

/// One document.
pub(super) fn json(outcome: &Outcome) -> String {
    let events: Vec<Value> = rows(outcome)
        .into_iter()
        .map(|(counter, count)| {
            let counted = count.filter(|count| count.running > 0);
            json!({
                "event": counter.name,
                "cpu": count.and_then(|count| count.cpu),
                "state": state(counter, count),
                "value": counted.map(|count| count.value),
                "estimate": counted.and_then(Count::estimate),
                "enabled_ns": count.map(|count| count.enabled),
                "running_ns": count.map(|count| count.running),
                "measured": count.and_then(Count::share),
                "reason": counter.refusal,
            })
        })
        .collect();
    let elapsed = u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX);
    format!("{}\n", json!({"schema": 1, "target": outcome.target, "elapsed_ns": elapsed, "events": events}))
}

/// One line for each count; empty fields where nothing was counted.
pub(super) fn csv(outcome: &Outcome) -> String {
    let mut out = String::from("event,cpu,state,value,estimate,enabled_ns,running_ns,measured\n");
    let number = |value: Option<u64>| value.map(|v| v.to_string()).unwrap_or_default();
    for (counter, count) in rows(outcome) {
        let counted = count.filter(|count| count.running > 0);
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{}",
            quoted(&counter.name),
            number(count.and_then(|count| count.cpu).map(u64::from)),
            state(counter, count),
            number(counted.map(|count| count.value)),
            number(counted.and_then(Count::estimate)),
            number(count.map(|count| count.enabled)),
            number(count.map(|count| count.running)),
            count.and_then(Count::share).map(|share| format!("{share:.6}")).unwrap_or_default(),
        );
    }
    out
}

/// A field as RFC 4180 wants it.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
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
        let csv = csv(&outcome());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[3], "instructions:u,,counted,1000,4000,1000000000,250000000,0.250000");
        assert_eq!(lines[5], "\"cpu/a,b=1/\",,not supported,,,,,");
        assert_eq!(lines[6], "page-faults,,not counted,,,1000000000,0,0.000000");
    }
}
