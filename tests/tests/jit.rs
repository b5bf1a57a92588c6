//! Code made at run time, by a real compiler: node, which tells of it in a map in text and in a jitdump.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_tests::{stdout, tree, xprof};

/// Samples by symbol, as `report --format csv -s symbol` gives them.
fn sums(file: &Path, dir: &Path) -> BTreeMap<String, u64> {
    let mut report = Command::new(xprof());
    report.args(["report", "-q", "--no-children", "-s", "symbol", "--format", "csv", "-i"]).arg(file);
    let rows = stdout(report.env("HOME", dir).current_dir(dir));
    let row = |line: &str| {
        let mut fields = line.rsplitn(5, ',');
        let samples = fields.nth(3)?.parse().ok()?;
        Some((fields.next()?.trim_matches('"').to_owned(), samples))
    };
    rows.lines().skip(1).filter_map(row).collect()
}

fn of(sums: &BTreeMap<String, u64>, name: &str) -> u64 {
    sums.iter().filter(|(symbol, _)| symbol.contains(name)).map(|(_, samples)| samples).sum()
}

fn recorded(dir: &Path, mut recorder: Command, option: &str) -> PathBuf {
    let file = dir.join("perf.data");
    recorder.arg("-o").arg(&file).args(["--", "node", option, "--interpreted-frames-native-stack"]);
    stdout(recorder.arg(tree().join("tests/programs/hot.js")).current_dir(dir).env("HOME", dir));
    file
}

#[test]
fn nodes_map() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = Command::new(xprof());
    record.args(["record", "-q", "-e", "cpu-clock:u", "-F", "997", "-g"]);
    let file = recorded(dir.path(), record, "--perf-basic-prof");
    let sums = sums(&file, dir.path());
    // Its compiler may compile the one into the other.
    let (hot, all) = (of(&sums, "hottest ") + of(&sums, "caller "), sums.values().sum::<u64>());
    assert!(hot >= 100 && 2 * hot > all, "{hot} of {all}: {sums:?}");
    // Its callers are known through frame pointers, out of the generated code into node's own.
    let mut export = Command::new(xprof());
    export.args(["export", "--to", "folded", "--no-inline", "-i"]).arg(&file);
    let folded = stdout(export.env("HOME", dir.path()));
    let (mut whole, mut seen) = (0, 0);
    for line in folded.lines().filter(|line| line.contains("caller ")) {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        seen += count;
        let frames = ["_start;", "main;", "caller "].map(|frame| line.find(frame));
        whole += if frames.is_sorted() && frames[0].is_some() { count } else { 0 };
    }
    assert!(whole * 100 >= seen * 95, "{whole} of {seen}:\n{folded}");
}

/// The sums of a jitdump against `perf inject -j`, which makes files out of it.
#[test]
fn nodes_jitdump_beside_perf_inject() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-k", "mono", "-e", "cpu-clock:u", "-F", "997", "-g"]);
    let file = recorded(dir.path(), record, "--perf-prof");
    let ours = sums(&file, dir.path());
    let injected = dir.path().join("injected.data");
    let mut inject = Command::new("perf");
    inject.args(["inject", "-j", "-i"]).arg(&file).arg("-o").arg(&injected);
    stdout(inject.current_dir(dir.path()).env("HOME", dir.path()));
    let mut script = Command::new("perf");
    script.args(["script", "-G", "-F", "ip,sym", "-i"]).arg(&injected);
    let theirs = stdout(script.env("HOME", dir.path()));
    let mut all = 0;
    // Optimised and interpreted, as V8's letters before the name say.
    for name in ["*hottest ", "~hottest ", "*caller ", "~caller "] {
        let perfs = theirs.lines().filter(|line| line.contains(name)).count() as u64;
        assert_eq!(of(&ours, name), perfs, "{name}: {ours:?}");
        all += perfs;
    }
    assert!(all >= 100, "{all}");
    // The code that is annotated out of the dump is that of perf's files: the same instructions with the same samples.
    let annotated = [&file, &injected].map(|file| instructions(file, dir.path()));
    assert!(annotated[0].len() >= 2, "{annotated:?}");
    assert_eq!(annotated[0], annotated[1]);
}

/// The mnemonics and samples of the instructions of node's hot functions.
fn instructions(file: &Path, dir: &Path) -> Vec<(String, Vec<(String, u64)>)> {
    let mut annotate = Command::new(xprof());
    annotate.args(["annotate", "-q", "--format", "json", "-i"]).arg(file);
    let text = stdout(annotate.env("HOME", dir).current_dir(dir));
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let functions = document["functions"].as_array().unwrap().iter();
    let line = |line: &serde_json::Value| {
        let mnemonic = line["text"].as_str().unwrap().split(' ').next().unwrap().to_owned();
        (mnemonic, line["samples"].as_u64().unwrap())
    };
    let hot = functions.filter_map(|function| {
        let name = function["symbol"].as_str()?;
        let is_hot = ["*hottest ", "*caller "].iter().any(|hot| name.contains(hot));
        let lines = function["lines"].as_array()?.iter().map(line).collect();
        (is_hot && function["missing"].is_null()).then(|| (name.to_owned(), lines))
    });
    let mut hot: Vec<_> = hot.collect();
    hot.sort();
    hot
}
