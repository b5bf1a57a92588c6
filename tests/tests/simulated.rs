//! `--backend simulated`, as a user types it: the report is the programmed truth, and perf says the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use xprof_tests::{run, stdout, xprof};

/// Cycles between samples; a program changes its path every 1,000.
const PERIOD: &str = "10007";
/// What the programs do, in percent of the samples: a third of the time is each domain's.
const TRUTH: [(&str, &str, f64); 11] = [
    ("spin", "square", 100.0 / 6.0 * 0.50),
    ("spin", "cube", 100.0 / 6.0 * 0.25),
    ("spin", "remainder", 100.0 / 6.0 * 0.15),
    ("spin", "copy_page", 100.0 / 6.0 * 0.06),
    // fill_batch runs with interrupts off: its samples fall where they come on again.
    ("spin", "irq_restore", 100.0 / 6.0 * 0.04),
    ("logger", "crc32", 100.0 / 6.0 * 0.70),
    ("logger", "memcpy", 100.0 / 6.0 * 0.30),
    ("httpd", "parse", 100.0 / 3.0 * 0.40),
    ("httpd", "checksum", 100.0 / 3.0 * 0.60),
    ("db", "compare", 100.0 / 3.0 * 0.80),
    ("db", "hash", 100.0 / 3.0 * 0.20),
];

/// A program with a symbol cache of its own.
fn at(home: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", home).env_remove("PERF_BUILDID_DIR").current_dir(home);
    command
}

fn record(home: &Path, options: &[&str]) -> std::process::Output {
    run(at(home, xprof()).args(["record", "-o", "a.data"]).args(options))
}

/// (comm, symbol) -> samples, by `xprof report`.
fn reported(home: &Path) -> BTreeMap<(String, String), f64> {
    let text = stdout(at(home, xprof()).args([
        "report",
        "-i",
        "a.data",
        "--no-children",
        "-s",
        "comm,symbol",
        "--format",
        "csv",
    ]));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name| header.iter().position(|have| *have == name).unwrap_or_else(|| panic!("{name} of {header:?}"));
    let (comm, symbol, samples) = (column("comm"), column("symbol"), column("samples"));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        ((fields[comm].to_owned(), fields[symbol].to_owned()), fields[samples].parse().unwrap())
    };
    lines.map(row).collect()
}

/// The same by perf.
fn perfs(home: &Path) -> BTreeMap<(String, String), f64> {
    let mut perf = at(home, "perf");
    perf.args(["report", "-i", "a.data", "--stdio", "--no-children", "-g", "none", "-q", "-t", ",", "-s", "comm,sym"]);
    let text = stdout(perf.args(["-F", "sample,comm,sym"]));
    let rows = text.lines().filter(|line| line.contains(',')).map(|line| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let symbol = fields[2].split_once("] ").map_or(fields[2], |(_, name)| name);
        ((fields[1].to_owned(), symbol.trim().to_owned()), fields[0].parse().unwrap())
    });
    rows.collect()
}

/// The bound: two samples of a process fall into different stretches of its path, and these are chosen independently, so
/// the share of a function among its n samples is off by more than e with probability at most 2 exp(-2 n e^2)
/// (Hoeffding): below 1e-9 for all rows together. The processes' own shares are exact but for one sample in each slice of a
/// millisecond, of the 100 that fall into one, and what interrupts that are off put into the next.
#[test]
fn the_report_is_the_truth_and_perf_agrees() {
    let home = tempfile::tempdir().unwrap();
    let kinds = ["simulated:seconds=1", "simulated:seconds=1,family=netburst,scope=local,wire=yes,seed=9"];
    for backend in kinds {
        let output = record(home.path(), &["--backend", backend, "-g", "-c", PERIOD]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rows = reported(home.path());
        assert_eq!(rows, perfs(home.path()), "{backend}");
        let total: f64 = rows.values().sum();
        assert_eq!(rows.len(), TRUTH.len(), "{rows:?}");
        for (comm, symbol, percent) in TRUTH {
            let own: f64 = rows.iter().filter(|((of, _), _)| of == comm).map(|(_, samples)| samples).sum();
            let share: f64 = TRUTH.iter().filter(|(of, ..)| *of == comm).map(|(.., percent)| percent).sum();
            let e = ((2.0 * TRUTH.len() as f64 / 1e-9).ln() / (2.0 * own)).sqrt();
            let bound = share * e + 0.02 * share;
            let seen = rows[&(comm.to_owned(), symbol.to_owned())] * 100.0 / total;
            assert!((seen - percent).abs() <= bound, "{backend} {comm} {symbol}: {seen} of {percent} +- {bound}");
        }
    }
}

#[test]
fn targets_events_and_pipes_work_as_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    // One process; another event, whose period is its own.
    let options = ["--backend", "simulated:seconds=0.2", "-p", "3100", "-e", "instructions", "-c", PERIOD];
    assert!(record(home.path(), &options).status.success());
    let comms: Vec<String> = reported(home.path()).into_keys().map(|(comm, _)| comm).collect();
    assert_eq!(comms, ["db", "db"]);
    // Two events at once.
    let options = ["--backend", "simulated:seconds=0.2", "-e", "cycles,instructions", "-c", PERIOD];
    assert!(record(home.path(), &options).status.success());
    let events = stdout(at(home.path(), "perf").args(["evlist", "-i", "a.data"]));
    assert_eq!(events.lines().take(2).collect::<Vec<_>>(), ["cycles", "instructions"]);
    // A pipe into perf.
    let pipe =
        "\"$0\" record --backend simulated:seconds=0.1 -c 10007 -o - | perf script -i - -F comm,ip,sym | sort -u";
    let lines = stdout(at(home.path(), "bash").args(["-c", pipe]).arg(xprof()));
    assert!(lines.lines().any(|line| line.contains("db ") && line.ends_with(" compare")), "{lines}");
}

/// The share of each process, and its paths' instructions per 1,024 cycles by weight, as they are programmed; a path is taken
/// anew every 1,000 cycles.
const INSTRUCTIONS: [(f64, &[(f64, f64)]); 4] = [
    // spin, logger, httpd, db
    (1.0 / 6.0, &[(0.50, 2048.0), (0.25, 1536.0), (0.15, 512.0), (0.06, 800.0), (0.04, 700.0)]),
    (1.0 / 6.0, &[(0.70, 2500.0), (0.30, 900.0)]),
    (1.0 / 3.0, &[(0.40, 1800.0), (0.60, 1300.0)]),
    (1.0 / 3.0, &[(0.80, 1000.0), (0.20, 2200.0)]),
];

#[test]
fn counts_are_the_programmed_ones() {
    let home = tempfile::tempdir().unwrap();
    let counted = |backend: &str| -> (u64, Vec<u64>) {
        let events = ["-e", "cycles", "-e", "cycles:u", "-e", "cycles:k", "-e", "instructions", "-e", "branches"];
        let json =
            stdout(at(home.path(), xprof()).args(["stat", "--backend", backend, "--format", "json"]).args(events));
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let counts = document["events"].as_array().unwrap().iter().map(|event| event["value"].as_u64().unwrap());
        (document["elapsed_ns"].as_u64().unwrap(), counts.collect())
    };
    let (elapsed, counts) = counted("simulated:seconds=1,cpus=2,family=amd-15h");
    assert_eq!(elapsed, 1_000_000_000);
    assert_eq!(counts.len(), 5, "{counts:?}");
    // A cycle takes 1 ns. Of the kernel is load's part of spin, and httpd's in send.
    let cycles = 2_000_000_000;
    assert_eq!((counts[0], counts[1] + counts[2]), (cycles, cycles));
    let stretches = cycles as f64 / 1000.0;
    let (mut mean, mut variance) = (0.0, 0.0);
    for (share, paths) in INSTRUCTIONS {
        let own: f64 = paths.iter().map(|(weight, rate)| weight * rate).sum();
        mean += share * own;
        variance += share * paths.iter().map(|(weight, rate)| weight * (rate - own).powi(2)).sum::<f64>();
    }
    let expected = cycles as f64 * mean / 1024.0;
    let five_sigma = 5.0 * (stretches * variance).sqrt() * 1000.0 / 1024.0;
    assert!((counts[3] as f64 - expected).abs() < five_sigma, "{} of {expected} +- {five_sigma}", counts[3]);
    // The same through the wire form.
    assert_eq!(counted("simulated:seconds=1,cpus=2,family=amd-15h,wire=yes"), (elapsed, counts));
}

#[test]
fn what_it_cannot_do_is_said() {
    let home = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], status, words: &str| {
        let output = record(home.path(), options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains(words)), (Some(status), true), "{options:?}: {said}");
        assert!(!home.path().join("a.data").exists());
    };
    refused(&["--backend", "simulated:family=z80"], 2, "perfmon-v2");
    refused(&["--backend", "simulated", "--switch-output"], 2, "--switch-output");
    refused(&["--backend", "simulated", "-e", "page-faults"], 2, "cycles, instructions");
    refused(&["--backend", "simulated", "-C", "7"], 125, "CPU 7");
    refused(&["--backend", "simulated", "--overwrite"], 125, "--overwrite");
    refused(&["--backend", "simulated", "-p", "1"], 125, "its processes are 1100 (spin)");
    refused(&["--backend", "simulated", "-t", "3102"], 125, "no process or thread 3102");
    refused(&["--backend", "simulated:family=p6", "-e", "cycles,instructions,branches"], 125, "p6");
    refused(&["--backend", "simulated:family=netburst", "-e", "cycles:u,cycles:k"], 125, "cycles:u, cycles:k at once");
}

#[test]
fn intervals_are_of_simulated_time() {
    let home = tempfile::tempdir().unwrap();
    let stat = |options: &[&str]| stdout(at(home.path(), xprof()).args(["stat", "--backend"]).args(options));
    let lines = stat(&["simulated:seconds=2", "-I", "500", "-x,", "-e", "cycles"]);
    let fields: Vec<Vec<&str>> = lines.lines().map(|line| line.trim().split(',').take(2).collect()).collect();
    let each = |at| vec![at, "1000000000"];
    assert_eq!(fields, ["0.500000000", "1.000000000", "1.500000000", "2.000000000"].map(each));
    // The machine alone can be run several times.
    let several = stat(&["simulated:seconds=0.1", "-r", "3", "-e", "cycles", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&several).unwrap();
    assert_eq!((&document["runs"], &document["events"][0]["mean"]), (&3.into(), &200_000_000.0.into()));
}

/// Rows of an event, by one key: samples.
fn rows(home: &Path, file: &str, event: &str, key: &str) -> BTreeMap<String, u64> {
    let json = stdout(at(home, xprof()).args(["report", "-i", file, "-s", key, "--format", "json"]));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let event = report["events"].as_array().unwrap().iter().find(|of| of["name"] == event).unwrap();
    let row = |row: &serde_json::Value| (row[key].as_str().unwrap().to_owned(), row["samples"].as_u64().unwrap());
    event["rows"].as_array().unwrap().iter().map(row).collect()
}

/// The same seconds of the same machine twice: once its processes say whose a sample is, and once Xen's trace does.
#[test]
fn counters_of_the_whole_host_get_their_domains_from_the_trace() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let simulated = ["--backend", "simulated:seconds=1,seed=5", "-c", PERIOD];
    record(home, &simulated);
    let truth = rows(home, "a.data", "cycles", "comm");
    record(home, &[&simulated[..], &["--source", "vpmu"]].concat());
    let domains = rows(home, "a.data", "cycles", "domain");
    let own = truth["spin"] + truth["logger"];
    let expected = [("Domain-0", own), ("simulated1", truth["httpd"]), ("simulated2", truth["db"])];
    assert_eq!(domains, expected.map(|(name, samples)| (name.to_owned(), samples)).into());
    assert!(own > 60_000 && truth["db"] > 60_000, "{truth:?}");
    // perf reads the same file: as guests, by the ids of their samples.
    let perf = stdout(at(home, "perf").args(["script", "-i", "a.data", "-F", "event,machine_pid,vcpu,ip"]));
    let of = |id: &str| {
        let guest = |line: &&str| line.contains("cycles:") && line.split_whitespace().take(2).eq(["VM:", id]);
        perf.lines().filter(guest).count() as u64
    };
    assert_eq!((of("1"), of("2")), (truth["httpd"], truth["db"]));
    let text = stdout(at(home, xprof()).args(["report", "-i", "a.data", "--stdio", "-s", "domain"]));
    let line = format!(
        "# Counters: of {} samples of other domains Xen's trace tells whose they are, of 0 ([domain not known]) it does not",
        truth["httpd"] + truth["db"]
    );
    assert!(text.contains(&line), "{text}");
    // A domain that the recording does not have is a mistake, and no empty report.
    for option in
        [["--domain", "simulated3"], ["--guest-exe", "simulated3=/bin/sh"], ["--guest-kallsyms", "77=/proc/kallsyms"]]
    {
        let refused = at(home, xprof()).args(["report", "-i", "a.data", "--stdio"]).args(option).output().unwrap();
        let domain = option[1].split('=').next().unwrap();
        let wanted = format!("{} {domain}: there is no domain of this id, name or UUID in the recording", option[0]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(&wanted), "{said}");
    }
}
