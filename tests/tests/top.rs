//! `xprof top --batch`: what its refreshes say together is what `report` says of the same recording, and what is known of the
//! simulated machine; live, it is the process that was asked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use xprof_tests::{run, stdout, storm, xprof};

/// (comm, dso, symbol) -> samples, period.
type Sums = BTreeMap<[String; 3], (u64, u64)>;

fn add(document: &Value, sums: &mut Sums) {
    for row in document["events"][0]["rows"].as_array().unwrap() {
        let key = ["comm", "dso", "symbol"].map(|key| row[key].as_str().unwrap().to_owned());
        let (samples, period) = (row["samples"].as_u64().unwrap(), row["period"].as_u64().unwrap());
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + samples, sum.1 + period);
    }
}

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record(dir: &Path, options: &[&str]) -> String {
    let file = dir.join("storm.data").to_str().unwrap().to_owned();
    stdout(
        Command::new(xprof())
            .args(["record", "-q", "-o", &file])
            .args(options)
            .arg("--")
            .arg(storm(dir))
            .args(["spin", "300000000"]),
    );
    file
}

#[test]
fn refreshes_add_up_to_the_report() {
    let dir = tempfile::tempdir().unwrap();
    for options in [&["-F", "1999"][..], &["--call-graph", "fp"], &["--call-graph", "dwarf,8192", "--keep-stacks"]] {
        let file = record(dir.path(), options);
        let mut report = Sums::new();
        add(
            &serde_json::from_str(&stdout(Command::new(xprof()).args(["report", "--format", "json", "-i", &file])))
                .unwrap(),
            &mut report,
        );
        let mut top = Command::new(xprof());
        top.args(["top", "--format", "json", "--batch", "1000", "-I", "50", "--backend", &format!("replay:{file}")]);
        let documents = documents(&stdout(&mut top));
        assert!(documents.len() > 1, "{options:?}");
        let mut sums = Sums::new();
        documents.iter().for_each(|document| add(document, &mut sums));
        assert_eq!(sums, report, "{options:?}");
        for (at, document) in documents.iter().enumerate() {
            assert_eq!((document["schema"].as_u64(), document["refresh"].as_u64()), (Some(1), Some(at as u64 + 1)));
        }
    }
}

#[test]
fn the_simulated_machine_is_the_same_every_time() {
    let refreshes = || {
        let mut top = Command::new(xprof());
        top.args(["top", "--batch", "3", "--format", "csv", "--call-graph", "fp", "-s", "comm,symbol"]);
        stdout(top.args(["--backend", "simulated:seed=7,seconds=5"]))
    };
    let text = refreshes();
    assert_eq!(text, refreshes());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("refresh,comm,symbol,samples,period,self,children"));
    let samples = |refresh: &str, name: &str| -> f64 {
        let row = text.lines().find(|line| line.starts_with(&format!("{refresh},{name},"))).unwrap();
        row.split(',').nth(3).unwrap().parse().unwrap()
    };
    // A third of the time is httpd's, three fifths of it checksum's; the binomial's five sigmas of 1,994 samples.
    for refresh in ["1", "2", "3"] {
        let checksum = samples(refresh, "httpd,checksum");
        assert!((checksum - 1994.0 * 0.2).abs() < 5.0 * (1994.0f64 * 0.2 * 0.8).sqrt(), "{refresh}: {checksum}");
        assert_eq!(samples(refresh, "httpd,main"), 0.0);
    }
}

#[test]
fn a_process_is_looked_at_while_it_runs() {
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let pid = busy.id().to_string();
    let mut top = Command::new(xprof());
    top.args(["top", "-p", &pid, "-e", "cpu-clock", "-c", "1000000", "-I", "200", "--batch", "2", "--format", "json"]);
    let text = stdout(top.args(["-s", "pid,comm"]));
    // A second one is ended by a signal, after its first refresh.
    let mut endless = Command::new(xprof())
        .args(["top", "-p", &pid, "-I", "100", "--batch", "1000000", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    // Read from to the end: a pipe that breaks would end it before the signal does.
    let mut refreshes = BufReader::new(endless.stdout.take().unwrap());
    refreshes.read_line(&mut first).unwrap();
    stdout(Command::new("kill").args(["-TERM", &endless.id().to_string()]));
    std::io::copy(&mut refreshes, &mut std::io::sink()).unwrap();
    let ended = endless.wait().unwrap();
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert!(ended.success() && first.ends_with('\n'), "{ended} {first}");
    let documents = documents(&text);
    assert_eq!(documents.len(), 2);
    for document in documents {
        for row in document["events"][0]["rows"].as_array().unwrap() {
            let (samples, period) = (row["samples"].as_u64().unwrap(), row["period"].as_u64().unwrap());
            assert_eq!((row["pid"].to_string(), row["comm"].as_str()), (pid.clone(), Some("sh")));
            assert_eq!(period, samples * 1_000_000);
            assert!(samples <= 201, "{samples} milliseconds of 200");
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let status = |arguments: &[&str]| run(Command::new(xprof()).arg("top").args(arguments)).status.code();
    assert_eq!(status(&["--batch", "0"]), Some(2));
    assert_eq!(status(&["--batch", "1", "-p", "1", "-a"]), Some(2));
    assert_eq!(status(&["--batch", "1", "-s", "srcline"]), Some(2));
    assert_eq!(status(&["--batch", "1", "--backend", "replay:/nowhere"]), Some(125));
}
