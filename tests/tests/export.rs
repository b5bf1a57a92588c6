//! Exports, read back by the programs that they are for: `go tool pprof`, `callgrind_annotate`, `samply load`. speedscope's
//! own page is in `tests/browser`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use xprof_tests::{compile, run, stdout, tree, xprof};

/// A program whose page faults are known, with functions that are compiled into others.
fn recorded(dir: &Path) -> PathBuf {
    let program = compile(dir, &tree().join("tests/programs/inlined.c"), &["-O2", "-fno-optimize-sibling-calls"]);
    let file = dir.join("inlined.data");
    let options = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
    stdout(Command::new(xprof()).args(options).arg(&file).arg("--").arg(program));
    file
}

/// A recording of the domains of a host: the simulated one.
fn simulated(dir: &Path) -> PathBuf {
    let file = dir.join("simulated.data");
    let options = ["record", "-q", "-g", "--backend", "simulated:seed=1,seconds=1", "-o"];
    stdout(Command::new(xprof()).args(options).arg(&file));
    file
}

fn exported(file: &Path, form: &str, options: &[&str]) -> PathBuf {
    let to = file.with_extension(form);
    stdout(Command::new(xprof()).args(["export", "--to", form, "-i"]).arg(file).args(options).arg("-o").arg(&to));
    to
}

/// Function -> (own period, samples), by our report; names of functions in different modules are added up.
fn reported(file: &Path) -> BTreeMap<String, (u64, u64)> {
    let arguments = ["report", "--no-children", "--format", "json", "-s", "dso,symbol", "-i"];
    let report: Value = serde_json::from_str(&stdout(Command::new(xprof()).args(arguments).arg(file))).unwrap();
    let mut sums = BTreeMap::new();
    for row in report["events"][0]["rows"].as_array().unwrap() {
        let symbol = row["symbol"].as_str().unwrap();
        let name = if symbol.starts_with("0x") {
            format!("{symbol} [{}]", row["dso"].as_str().unwrap())
        } else {
            symbol.into()
        };
        let sum: &mut (u64, u64) = sums.entry(name).or_default();
        sum.0 += row["period"].as_u64().unwrap();
        sum.1 += row["samples"].as_u64().unwrap();
    }
    sums
}

/// Flat values by function, from `go tool pprof -top`; without a unit in words.
fn pprof_top(profile: &Path, index: &str, options: &[&str]) -> BTreeMap<String, u64> {
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-top", "-nodecount=0", "-nodefraction=0", "-edgefraction=0", "-unit=count"]);
    let text = stdout(pprof.arg(format!("-sample_index={index}")).args(options).arg(profile).env("HOME", "/tmp"));
    let rows = text.split_once("flat%").unwrap().1.lines().skip(1);
    let mut flat = BTreeMap::new();
    for line in rows {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value: u64 = words[0].trim_end_matches("ns").parse().unwrap_or_else(|_| panic!("{line:?}"));
        let name = words[5..].join(" ").trim_end_matches(" (inline)").to_owned();
        *flat.entry(name).or_default() += value;
    }
    flat.retain(|_, value| *value > 0);
    flat
}

#[test]
fn pprof_is_read_by_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let reported = reported(&file);
    let top = pprof_top(&exported(&file, "pprof", &["--no-inline"]), "page-faults:u", &[]);
    assert_eq!(top, reported.iter().map(|(name, sum)| (name.clone(), sum.0)).collect());
    assert!(top["outer"] == 2000 && top["main"] == 1000, "{top:?}");
    let inlined = exported(&file, "pprof", &[]);
    let top = pprof_top(&inlined, "samples", &[]);
    assert_eq!((top["innermost"], top.get("outer")), (3000, None));
    let raw = stdout(Command::new("go").args(["tool", "pprof", "-traces"]).arg(&inlined).env("HOME", "/tmp"));
    // The comm is a label, and what is compiled into a function one frame with it.
    assert!(raw.contains("comm:  inlined") || raw.contains("comm:inlined"), "{raw}");
}

#[test]
fn domains_are_labels_of_pprof() {
    let dir = tempfile::tempdir().unwrap();
    let file = simulated(dir.path());
    let profile = exported(&file, "pprof", &[]);
    let text = stdout(
        Command::new(xprof()).args(["report", "--no-children", "--format", "csv", "-s", "comm", "-i"]).arg(&file),
    );
    let mut compared = 0;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (comm, period) = (fields[0], fields[2].parse::<u64>().unwrap());
        let top = pprof_top(&profile, "cycles", &[&format!("-tagfocus=comm=^{comm}$")]);
        assert_eq!(top.values().sum::<u64>(), period, "{comm}");
        compared += 1;
    }
    assert!(compared >= 3, "{text}");
}

#[test]
fn callgrind_annotate_has_the_same_totals() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let to = exported(&file, "callgrind", &["--no-inline"]);
    let text = stdout(Command::new("callgrind_annotate").args(["--threshold=100", "--show-percs=no"]).arg(&to));
    let number = |text: &str| text.replace(',', "").trim().parse::<u64>().unwrap_or_else(|_| panic!("{text:?}"));
    let reported = reported(&file);
    let total = text.lines().find_map(|line| line.strip_suffix("PROGRAM TOTALS")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(number(total), reported.values().map(|sum| sum.0).sum::<u64>());
    let mut own: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((cost, name)) = line.split_once("???:") else { continue };
        // `name [module]`
        let name = name.rsplit_once(" [").map_or(name, |(name, _)| name);
        *own.entry(name.to_owned()).or_default() += number(cost);
    }
    own.retain(|_, cost| *cost > 0);
    assert_eq!(own, reported.iter().map(|(name, sum)| (name.clone(), sum.0)).collect());
}

fn firefox(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(exported(file, "firefox", &[])).unwrap()).unwrap()
}

#[test]
fn firefox_has_every_sample_of_every_thread() {
    let dir = tempfile::tempdir().unwrap();
    let file = simulated(dir.path());
    let profile = firefox(&file);
    let mut samples: BTreeMap<i64, u64> = BTreeMap::new();
    for thread in profile["threads"].as_array().unwrap() {
        let tid = thread["tid"].as_str().map_or_else(|| thread["tid"].as_i64().unwrap(), |t| t.parse().unwrap());
        *samples.entry(tid).or_default() += thread["samples"]["length"].as_u64().unwrap();
        let times = thread["samples"]["timeDeltas"].as_array().unwrap();
        assert!(times.iter().all(|delta| delta.as_f64().unwrap() >= 0.0));
    }
    let text = stdout(
        Command::new(xprof()).args(["report", "--no-children", "--format", "csv", "-s", "tid", "-i"]).arg(&file),
    );
    let field = |line: &str, at: usize| line.split(',').nth(at).unwrap().parse::<i64>().unwrap();
    let reported = text.lines().skip(1).map(|line| (field(line, 0), field(line, 1) as u64)).collect();
    assert_eq!(samples, reported);
    // The crate's own reader does not exist; every stack leads to a name.
    for thread in profile["threads"].as_array().unwrap() {
        let strings = thread["stringArray"].as_array().or(profile["shared"]["stringArray"].as_array()).unwrap();
        let names = thread["funcTable"]["name"].as_array().unwrap();
        assert!(
            names.iter().all(|name| strings[name.as_u64().unwrap() as usize].as_str().is_some_and(|n| !n.is_empty()))
        );
    }
}

/// `samply load` serves what it has parsed to the page: the same profile.
#[test]
fn firefox_is_loaded_by_samply() {
    let dir = tempfile::tempdir().unwrap();
    let file = exported(&recorded(dir.path()), "firefox", &[]);
    let mut samply = Command::new("samply");
    samply.args(["load", "--no-open"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut samply = samply.spawn().expect("samply is installed by tests/run");
    // The address that a browser would open: http://127.0.0.1:PORT/TOKEN/profile.json stands in it, percent-encoded.
    // It goes on writing: the pipes stay open until it has served.
    let mut lines = BufReader::new(samply.stdout.take().unwrap())
        .lines()
        .chain(BufReader::new(samply.stderr.take().unwrap()).lines())
        .map_while(Result::ok);
    let address = lines
        .find_map(|line| {
            let at = line.find("from-url/")?;
            let encoded = line[at + 9..].split(['/', ' ', '?']).next()?.to_owned();
            Some(encoded.replace("%3A", ":").replace("%2F", "/"))
        })
        .expect("samply says where it serves the profile");
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    write!(socket, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let _ = samply.kill();
    let _ = samply.wait();
    drop(lines);
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let body = body.unwrap_or_else(|| panic!("{address}: {:?}", String::from_utf8_lossy(&answer))) + 4;
    let served: Value = serde_json::from_slice(&answer[body..]).unwrap_or_else(|e| panic!("{e}: {address}"));
    let ours: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(served, ours);
    assert!(ours["threads"][0]["samples"]["length"].as_u64().unwrap() >= 3000);
}

#[test]
fn chrome_spans_count_every_sample() {
    let dir = tempfile::tempdir().unwrap();
    let file = simulated(dir.path());
    let trace: Value = serde_json::from_slice(&std::fs::read(exported(&file, "chrome", &[])).unwrap()).unwrap();
    let mut samples = 0;
    let mut by_thread: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X") {
        let (from, lasts) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        by_thread.entry(event["tid"].as_u64().unwrap()).or_default().push((from, from + lasts));
        // Spans are written when they end, a function's after those that it called: the outermost is what no later one holds.
        samples = samples.max(event["args"]["samples"].as_u64().unwrap());
    }
    assert!(samples > 10);
    // Spans of one thread lie in each other or beside each other.
    for spans in by_thread.values_mut() {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = Vec::new();
        for &(from, to) in spans.iter() {
            while open.last().is_some_and(|&end| end <= from + 1e-6) {
                open.pop();
            }
            assert!(open.last().is_none_or(|&end| to <= end + 1e-6), "{from} {to} {open:?}");
            open.push(to);
        }
    }
}

#[test]
fn what_is_binary_is_not_written_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let command = format!("{} export --to pprof -i {}", xprof().display(), file.display());
    let output = run(Command::new("script").args(["-qec", &command, "/dev/null"]));
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stdout).contains("give a file with -o FILE"));
}

/// Nothing recorded, or nothing left by the filters: whole documents all the same.
#[test]
fn nothing_to_export() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    for form in ["pprof", "firefox", "speedscope", "callgrind", "chrome", "folded"] {
        let to = exported(&file, form, &["--comm", "nobody"]);
        let bytes = std::fs::read(&to).unwrap();
        match form {
            "pprof" => stdout(Command::new("go").args(["tool", "pprof", "-raw"]).arg(&to).env("HOME", "/tmp")).clear(),
            "callgrind" => stdout(Command::new("callgrind_annotate").arg(&to)).clear(),
            "folded" => assert!(bytes.is_empty()),
            _ => drop(serde_json::from_slice::<Value>(&bytes).unwrap_or_else(|error| panic!("{form}: {error}"))),
        }
    }
}
