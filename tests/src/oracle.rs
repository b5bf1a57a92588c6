//! perf's own numbers for a recording, and xprof's, in the same shape.
//!
//! What perf 6.1 calls `pid` in reports is the thread; it has no key for the process, so that one is added up from
//! `perf script`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::{stdout, xprof};

/// (event, values of the keys) -> (samples, period).
pub type Sums = BTreeMap<(String, Vec<String>), (u64, u64)>;

/// Widths of perf's columns, as many as it may have, wider than any name.
const WIDE: &str = "300,300,300,300,300,300,300,300";

/// perf's sums by `comm`, `dso`, `sym`, `pid` (alone), `tid`, `cpu`.
pub fn perf_sums(recording: &Path, keys: &[&str]) -> Sums {
    if keys == ["pid"] {
        return perf_process_sums(recording);
    }
    let perfs: Vec<&str> = keys.iter().map(|&key| if key == "tid" { "pid" } else { key }).collect();
    let fields = format!("sample,period,{}", perfs.join(","));
    let text = stdout(
        Command::new("perf")
            .args([
                "report",
                "--stdio",
                "--no-children",
                "-g",
                "none",
                "--no-group",
                "--no-inline",
                // Else perf cuts a name at the longest that a thread had at its end: `perf-exec` at `perf-ex`.
                "-w",
                WIDE,
                "-t",
                "\x01",
                "-F",
                &fields,
                "-i",
            ])
            .arg(recording),
    );
    let mut sums = Sums::new();
    let mut event = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# Samples: ") {
            event = rest.split('\'').nth(1).unwrap_or_default().to_owned();
        }
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let mut parts = line.split('\x01').map(str::trim);
        let (Some(samples), Some(period)) = (parts.next(), parts.next()) else { continue };
        let values: Vec<String> = keys.iter().zip(parts).map(|(key, value)| perf_value(key, value)).collect();
        let sum = sums.entry((event.clone(), values)).or_default();
        sum.0 += samples.parse::<u64>().unwrap_or_else(|_| panic!("perf's line {line:?}"));
        sum.1 += period.parse::<u64>().unwrap_or_else(|_| panic!("perf's line {line:?}"));
    }
    sums
}

fn perf_process_sums(recording: &Path) -> Sums {
    let text = stdout(
        Command::new("perf").args(["script", "--no-inline", "-G", "-F", "pid,period,event", "-i"]).arg(recording),
    );
    let mut sums = Sums::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
        let (Some(pid), Some(period)) = (number(), number()) else { panic!("perf's line {line:?}") };
        let event = words.next().unwrap_or_default().trim_end_matches(':').to_owned();
        let sum = sums.entry((event, vec![pid.to_string()])).or_default();
        *sum = (sum.0 + 1, sum.1 + period);
    }
    sums
}

/// perf decorates: `  123:comm` for threads, `[k] name` for symbols.
fn perf_value(key: &str, value: &str) -> String {
    match key {
        "tid" => value.split(':').next().unwrap_or_default().trim().to_owned(),
        "cpu" => value.parse::<i64>().map_or(value.to_owned(), |n| n.to_string()),
        "sym" => value.split_once("] ").map_or(value, |(_, name)| name).to_owned(),
        _ => value.to_owned(),
    }
}

/// `xprof report`'s sums by the same keys.
pub fn xprof_sums(recording: &Path, keys: &[&str]) -> Sums {
    let keys: Vec<&str> = keys.iter().map(|&k| if k == "sym" { "symbol" } else { k }).collect();
    let text = stdout(
        Command::new(xprof())
            .args(["report", "--no-children", "--format", "json", "-s", &keys.join(","), "-i"])
            .arg(recording),
    );
    let json: serde_json::Value = serde_json::from_str(&text).expect("xprof prints JSON");
    assert_eq!(json["schema"], 1);
    let mut sums = Sums::new();
    for event in json["events"].as_array().expect("events") {
        let name = event["name"].as_str().expect("a name").to_owned();
        for row in event["rows"].as_array().expect("rows") {
            let values = keys
                .iter()
                .map(|&key| match &row[key] {
                    serde_json::Value::String(text) => text.trim().to_owned(),
                    other => other.to_string(),
                })
                .collect();
            let sum = sums.entry((name.clone(), values)).or_default();
            sum.0 += row["samples"].as_u64().expect("samples");
            sum.1 += row["period"].as_u64().expect("period");
        }
    }
    sums
}

/// Panics with the rows that differ.
pub fn assert_equal(recording: &Path, keys: &[&str]) {
    let (perfs, ours) = (perf_sums(recording, keys), xprof_sums(recording, keys));
    assert!(!perfs.is_empty(), "perf finds no samples in {}", recording.display());
    let differ: Vec<String> = perfs
        .keys()
        .chain(ours.keys().filter(|k| !perfs.contains_key(*k)))
        .filter(|k| perfs.get(*k) != ours.get(*k))
        .map(|k| format!("{k:?}: perf {:?}, xprof {:?}", perfs.get(k), ours.get(k)))
        .collect();
    assert!(
        differ.is_empty(),
        "{} by {keys:?}: {} rows differ:\n{}",
        recording.display(),
        differ.len(),
        differ.join("\n")
    );
}
