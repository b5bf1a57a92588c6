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

/// Choosing one function does not make it the whole.
#[test]
fn the_share_of_a_chosen_function_is_of_all_samples() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recorded(dir.path());
    let functions = |args: &[&str]| -> Vec<serde_json::Value> {
        let text =
            stdout(Command::new(xprof()).args(["annotate", "--format", "json", "-i"]).arg(&recording).args(args));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["functions"].as_array().unwrap().clone()
    };
    let all = functions(&[]);
    assert!(all.len() > 1);
    let first = &all[0];
    assert!(first["percent"].as_f64().unwrap() < 100.0, "{}", first["percent"]);
    let chosen = functions(&["-s", first["symbol"].as_str().unwrap()]);
    assert_eq!(chosen[0]["percent"], first["percent"]);
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

/// A program whose hot code is compiled into `main` from a header, through a function of its own; where its sources are.
fn inlining(dir: &Path) -> std::path::PathBuf {
    let sources = dir.join("src");
    std::fs::create_dir(&sources).unwrap();
    let header =
        "static inline unsigned mix(unsigned x)\n{\n\tx ^= x << 13;\n\tx ^= x >> 17;\n\treturn x ^ x << 5;\n}\n";
    std::fs::write(sources.join("mix.h"), header).unwrap();
    let program = "#include \"mix.h\"\n\nstatic inline unsigned twice(unsigned x)\n{\n\treturn mix(mix(x) + 1);\n}\n\n\
        int main(void)\n{\n\tvolatile unsigned sink = 1;\n\n\tfor (unsigned i = 0; i < 60000000; i++)\n\t\tsink = twice(sink);\n\treturn 0;\n}\n";
    std::fs::write(sources.join("work.c"), program).unwrap();
    xprof_tests::compile(dir, &sources.join("work.c"), &["-O2", "-no-pie"])
}

/// What addr2line says of addresses: the functions and lines compiled into one another there, innermost first.
fn addr2line(program: &Path, addresses: &[u64]) -> BTreeMap<u64, Vec<(String, String)>> {
    let mut command = Command::new("addr2line");
    let text = stdout(command.args(["-aif", "-e"]).arg(program).args(addresses.iter().map(|a| format!("{a:#x}"))));
    let mut places: BTreeMap<u64, Vec<(String, String)>> = BTreeMap::new();
    let mut address = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(hex) = line.strip_prefix("0x") {
            address = u64::from_str_radix(hex, 16).unwrap();
        } else {
            let place = lines.next().unwrap().split(" (discriminator").next().unwrap();
            places.entry(address).or_default().push((line.to_owned(), place.to_owned()));
        }
    }
    places
}

#[test]
fn every_source_line_has_the_samples_of_its_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let program = inlining(dir.path());
    let recording = dir.path().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-N", "-e", "cpu-clock:u", "-F", "4000", "-o"]).arg(&recording).arg("--").arg(&program);
    assert!(run(&mut perf).status.success());

    // perf's addresses, and addr2line's places of them.
    let text = stdout(Command::new("perf").args(["script", "-F", "ip,dso", "-i"]).arg(&recording));
    let mut samples: BTreeMap<u64, u64> = BTreeMap::new();
    for line in text.lines().filter(|line| line.ends_with(&format!("({})", program.display()))) {
        let address = line.split_whitespace().next().unwrap();
        *samples.entry(u64::from_str_radix(address, 16).unwrap()).or_default() += 1;
    }
    let places = addr2line(&program, &samples.keys().copied().collect::<Vec<_>>());
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (address, count) in &samples {
        *expected.entry(places[address][0].1.clone()).or_default() += count;
    }
    expected.retain(|place, _| !place.starts_with("??"));
    assert!(expected.keys().filter(|place| place.contains("/mix.h:")).count() >= 2, "{expected:?}");

    // Ours, by line and by address.
    let annotate =
        |options: &[&str]| stdout(Command::new(xprof()).arg("annotate").args(options).arg("-i").arg(&recording));
    let document: serde_json::Value = serde_json::from_str(&annotate(&["--format", "json"])).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("??").to_owned();
    let place = |at: &serde_json::Value| format!("{}:{}", text(&at["file"]), at["line"].as_u64().unwrap_or(0));
    let mut ours: BTreeMap<String, u64> = BTreeMap::new();
    for function in document["functions"].as_array().unwrap().iter().filter(|f| f["dso"] == "work") {
        for line in function["source"].as_array().unwrap().iter().filter(|line| line["samples"] != 0) {
            *ours.entry(place(line)).or_default() += line["samples"].as_u64().unwrap();
            assert!(line["text"].is_string(), "{line}");
        }
        for line in function["lines"].as_array().unwrap().iter().filter(|line| line["samples"] != 0) {
            let address = u64::from_str_radix(line["addr"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
            let inlined = line["inlined"].as_array().unwrap();
            let names = inlined.iter().map(|call| text(&call["symbol"])).chain([text(&function["symbol"])]);
            let lines = [place(line)].into_iter().chain(inlined.iter().map(place));
            assert_eq!(names.zip(lines).collect::<Vec<_>>(), places[&address], "{line}");
        }
    }
    assert_eq!(ours, expected);

    // What people read: the lines of the header in their place, with where they come from; and the sources, moved.
    let shown = annotate(&["--source", "-s", "main"]);
    assert!(shown.contains("twice, inlined from work.c") && shown.contains("mix, inlined from mix.h"), "{shown}");
    assert!(shown.contains("x ^= x << 13;"), "{shown}");
    let both = annotate(&["--both", "-s", "main"]);
    assert!(both.contains("; inlined: mix (work.c:5) in twice (work.c:13)"), "{both}");
    std::fs::rename(dir.path().join("src"), dir.path().join("moved")).unwrap();
    let without = annotate(&["--source", "-s", "main"]);
    assert!(without.contains("say where sources are with --source-path DIR"), "{without}");
    let moved = annotate(&["--source", "-s", "main", "--source-path", dir.path().join("moved").to_str().unwrap()]);
    assert_eq!(moved, shown);
}
