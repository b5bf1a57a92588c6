//! `xprof annotate` counts on every instruction what `perf annotate` counts there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use xprof_tests::{run, stdout, storm, xprof};

/// A recording by perf of a program with two hot functions, and of a shell.
fn recorded(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("perf.data");
    let command = format!("{} spin 60000000; for i in $(seq 20000); do :; done", storm(dir).display());
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-N", "-e", "cpu-clock:u", "-F", "4000", "-o"]).arg(&file).args(["--", "bash", "-c"]);
    let output = run(perf.arg(command).env("LC_ALL", "C"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

/// Samples by file and address, from `perf annotate --stdio -n`: objdump's lines with perf's counts.
fn perfs(recording: &Path) -> BTreeMap<(String, u64), u64> {
    let text = stdout(Command::new("perf").args(["annotate", "--stdio", "-n", "-i"]).arg(recording));
    let mut counts = BTreeMap::new();
    let mut dso = String::new();
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("Source code & Disassembly of ") {
            dso = rest.split(" for ").next().unwrap().to_owned();
        }
        let mut parts = line.splitn(3, ':');
        let number = |text: Option<&str>, radix| u64::from_str_radix(text.unwrap_or("").trim(), radix).ok();
        let (samples, address) = (number(parts.next(), 10), number(parts.next(), 16));
        if let (Some(samples), Some(address)) = (samples, address)
            && samples > 0
        {
            *counts.entry((dso.clone(), address)).or_default() += samples;
        }
    }
    counts
}

/// The same from ours, for functions whose code is there.
fn ours(recording: &Path) -> BTreeMap<(String, u64), u64> {
    let text = stdout(Command::new(xprof()).args(["annotate", "--format", "json", "-i"]).arg(recording));
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut counts = BTreeMap::new();
    for function in document["functions"].as_array().unwrap() {
        let lines = function["lines"].as_array().unwrap();
        let sum: u64 = lines.iter().map(|line| line["samples"].as_u64().unwrap()).sum();
        assert_eq!(sum + function["elsewhere"].as_u64().unwrap(), function["samples"].as_u64().unwrap(), "{function}");
        for line in lines.iter().filter(|line| line["samples"] != 0 && function["missing"].is_null()) {
            let address = line["addr"].as_str().unwrap().trim_start_matches("0x");
            let key = (function["dso"].as_str().unwrap().to_owned(), u64::from_str_radix(address, 16).unwrap());
            *counts.entry(key).or_default() += line["samples"].as_u64().unwrap();
        }
    }
    counts
}

#[test]
fn every_instruction_has_perfs_count() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recorded(dir.path());
    let (perfs, ours) = (perfs(&recording), ours(&recording));
    let samples: u64 = perfs.values().sum();
    assert!(samples > 500 && perfs.keys().any(|(dso, _)| dso == "storm"), "{samples} {perfs:?}");
    let differ: Vec<_> = perfs.iter().filter(|(key, count)| ours.get(key) != Some(count)).collect();
    assert!(differ.is_empty(), "{differ:?}");
    // What we have more is code that perf's objdump does not show (linkage tables, the vdso).
    let more: Vec<_> = ours.keys().filter(|key| !perfs.contains_key(key)).collect();
    assert!(more.iter().all(|(dso, _)| dso == "[vdso]" || dso.starts_with("ld-linux")), "{more:?}");
}

#[test]
fn a_function_without_samples_is_an_error_that_says_which_have_some() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recorded(dir.path());
    let output = run(Command::new(xprof()).args(["annotate", "-s", "no_such", "-i"]).arg(&recording));
    assert_eq!(output.status.code(), Some(125));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no samples in no_such") && said.contains("xprof report -s symbol"), "{said}");
}
