//! Where and how long tasks wait: a program that knows it.

use std::process::Command;

use xprof_tests::{stdout, tree, xprof};

#[test]
fn waits_of_known_length() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("waits");
    let source = tree().join("tests/programs/waits.c");
    stdout(Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source));
    for stacks in ["-g", "--call-graph=dwarf,8192"] {
        let file = dir.path().join("perf.data");
        let mut record = Command::new(xprof());
        record.args(["record", "-q", "--off-cpu", "-e", "cpu-clock", stacks, "-o"]).arg(&file).arg("--").arg(&program);
        let own = stdout(&mut record);
        let export = ["export", "--to", "folded", "-e", "off-cpu", "-i"];
        let folded = stdout(Command::new(xprof()).args(export).arg(&file));
        for (name, least) in [("in_long", 450_000_000), ("in_short", 100_000_000), ("in_thread", 200_000_000)] {
            let took = own.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
            let of = |line: &str| line.split([';', ' ']).any(|frame| frame == name);
            let waited: u64 = folded
                .lines()
                .filter(|line| of(line))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum();
            // A join may begin after a part of the thread's sleep: the program has to be told to run.
            let least = if name == "in_thread" { least / 2 } else { least };
            assert!((least..=took).contains(&waited), "{name}: {waited} of {took}, {least} at least:\n{folded}");
        }
        // The sleep of the thread itself.
        let sleeps =
            folded.lines().filter(|line| line.contains(";sleeps")).map(|line| line.rsplit(' ').next().unwrap());
        assert!(sleeps.map(|n| n.parse::<u64>().unwrap()).sum::<u64>() >= 200_000_000, "{folded}");
        // Beside it the event that samples what runs, and perf opens it all.
        let events = stdout(Command::new("perf").args(["evlist", "-i"]).arg(&file));
        assert!(events.contains("cpu-clock") && events.contains("off-cpu"), "{events}");
    }
}

/// A program of this name that runs again and again until the guard is dropped.
struct Again(std::process::Child);

impl Drop for Again {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn waits_while_they_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("waits");
    let source = tree().join("tests/programs/waits.c");
    stdout(Command::new("gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source));
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"while :; do "$0"; done >/dev/null"#]).arg(&program);
    let shell = Again(shell.spawn().unwrap());
    let mut top = Command::new(xprof());
    top.args(["top", "-q", "--off-cpu", "-e", "cpu-clock", "--call-graph", "dwarf,8192", "--batch", "10"]);
    top.args(["--format", "csv", "-s", "event,symbol", "-p"]).arg(shell.0.id().to_string());
    let seen = stdout(&mut top);
    // Each name, with the share of all waits that ended in a refresh while it was on the stack.
    for name in ["in_long", "in_short", "in_thread", "sleeps"] {
        let of = format!(",off-cpu,{name},");
        let shares = seen.lines().filter(|line| line.contains(&of)).map(|line| line.rsplit(',').next().unwrap());
        assert!(shares.map(|share| share.parse::<f64>().unwrap()).any(|share| share > 0.0), "{name}:\n{seen}");
    }
}
