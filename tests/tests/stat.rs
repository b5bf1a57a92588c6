//! `xprof stat` beside `perf stat`: the lines of -x and -j field by field, repeats, intervals, ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use xprof_tests::{run, stdout, xprof};

/// Every number becomes 0 (its decimals stay), and what depends on a rate's size is left out.
fn masked(text: &str) -> Vec<String> {
    let mask = |line: &str| {
        let mut out = String::new();
        let mut decimals = false;
        for c in line.trim_start().chars() {
            if c.is_ascii_digit() && !decimals && out.ends_with('0') {
                continue;
            }
            decimals = c == '.' || decimals && c.is_ascii_digit();
            out.push(if c.is_ascii_digit() { '0' } else { c });
        }
        ["K/sec", "M/sec", "G/sec"].iter().fold(out, |out, unit| out.replace(unit, "/sec"))
    };
    text.lines().map(mask).collect()
}

const EVENTS: &str = "task-clock,page-faults,syscalls:sys_enter_read,context-switches:u,cycles";

fn both(options: &[&str], command: &[&str]) -> (String, String) {
    let ours = stdout(Command::new(xprof()).args(["-q", "stat", "-e", EVENTS]).args(options).arg("--").args(command));
    let perf = run(Command::new("perf").args(["stat", "-e", EVENTS]).args(options).arg("--").args(command));
    assert!(perf.status.success(), "{perf:?}");
    (ours, String::from_utf8(perf.stderr).unwrap())
}

#[test]
fn lines_are_perfs_field_by_field() {
    let dd = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=3000", "status=none"];
    for options in [
        &["-x,"][..],
        &["-x", ";"],
        &["-x", r"\t"],
        &["-j"],
        &["-x,", "-r", "2"],
        &["-j", "-r", "2"],
        &["-a", "-x,"],
        &["-a", "-A", "-x,"],
        &["-a", "-A", "-j"],
        &["-x,", "-d"],
        &["-x,", "-dd"],
        &["-x,", "-ddd"],
    ] {
        let (ours, perf) = both(options, &dd);
        assert_eq!(masked(&ours), masked(&perf), "{options:?}\n{ours}\n{perf}");
    }
    // What dd reads does not depend on who counts.
    let reads = |text: &str| {
        let line = text.lines().find(|line| line.contains("sys_enter_read")).unwrap();
        line.split(',').next().unwrap().to_owned()
    };
    let (ours, perf) = both(&["-x,"], &dd);
    assert_eq!(reads(&ours), reads(&perf));
    assert!(reads(&ours).parse::<u32>().unwrap() > 3000);
}

#[test]
fn intervals_have_perfs_fields() {
    for options in [&["-I", "2000", "-x,"][..], &["-I", "2000", "-j"], &["-I", "2000", "-a", "-A", "-x,"]] {
        let (ours, perf) = both(options, &["sleep", "0.05"]);
        assert_eq!(masked(&ours), masked(&perf), "{options:?}\n{ours}\n{perf}");
    }
}

/// Run k of the command reads 100 k bytes one by one: 100, 200, 300 and what is always the same.
fn growing(dir: &Path) -> String {
    let counter = dir.join("n");
    std::fs::write(&counter, "0\n").unwrap();
    let n = counter.display();
    format!(
        "read n <{n}; echo $((n+1)) >{n}; exec dd if=/dev/zero of=/dev/null bs=1 status=none count=$(( (n+1) * 100 ))"
    )
}

#[test]
fn mean_and_spread_over_repeats_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let event = ["-e", "syscalls:sys_enter_read", "-r", "3"];
    let json = stdout(Command::new(xprof()).args(["stat", "--format", "json"]).args(event).args([
        "sh",
        "-c",
        &growing(dir.path()),
    ]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let event_of = &json["events"][0];
    let (mean, spread) = (event_of["mean"].as_f64().unwrap(), event_of["spread"].as_f64().unwrap());
    assert_eq!((&json["runs"], mean.fract()), (&3.into(), 0.0));
    // The standard error of the mean of x, x + 100, x + 200.
    assert!((spread - 100.0 / 3f64.sqrt()).abs() < 1e-9, "{spread}");
    assert!((200.0..240.0).contains(&mean), "{mean}");

    let perf = run(Command::new("perf").args(["stat", "-x,"]).args(event).args(["sh", "-c", &growing(dir.path())]));
    let perf = String::from_utf8(perf.stderr).unwrap();
    let fields: Vec<&str> = perf.trim().split(',').collect();
    // perf 6.1 shows the last run's value, and the spread over all runs in percent of that.
    let last = fields[0].parse::<f64>().unwrap();
    assert_eq!(last, mean + 100.0, "{perf}");
    assert_eq!(fields[3], format!("{:.2}%", 100.0 * spread / last), "{perf}");
}

#[test]
fn intervals_add_up_to_the_whole() {
    let script = "for i in 1 2 3 4 5; do dd if=/dev/zero of=/dev/null bs=1 count=1000 status=none; sleep 0.02; done";
    let count = |options: &[&str]| -> Vec<u64> {
        let text = stdout(
            Command::new(xprof())
                .args(["stat", "-e", "syscalls:sys_enter_read", "--format", "csv"])
                .args(options)
                .args(["sh", "-c", script]),
        );
        text.lines().skip(1).filter_map(|line| line.split(',').nth(3)?.parse().ok()).collect()
    };
    let parts = count(&["-I", "10"]);
    assert!(parts.len() > 3, "{parts:?}");
    assert_eq!(parts.iter().sum::<u64>(), count(&[])[0]);
}

/// SIGINT, not from a terminal, ends the command and shows what the last interval held.
#[test]
fn an_interrupt_shows_the_last_interval() {
    let mut child = Command::new(xprof())
        .args(["stat", "-I", "60000", "-x,", "-e", "syscalls:sys_enter_read", "--"])
        .args(["sh", "-c", "dd if=/dev/zero of=/dev/null bs=1 count=500 status=none; echo ready; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    stdout(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let fields: Vec<&str> = rest.trim().split(',').collect();
    assert_eq!((rest.lines().count(), fields[3]), (1, "syscalls:sys_enter_read"), "{rest}");
    assert!(fields[1].parse::<u32>().unwrap() > 500, "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn statuses() {
    let stat =
        |words: &[&str]| -> Output { run(Command::new(xprof()).args(["stat", "-e", "page-faults"]).args(words)) };
    let status = |words: &[&str]| stat(words).status.code();
    assert_eq!(status(&["sh", "-c", "exit 41"]), Some(41));
    assert_eq!(status(&["-r", "2", "sh", "-c", "exit 41"]), Some(41));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(status(&["/no/such/command"]), Some(127));
    assert_eq!(status(&["/etc/passwd"]), Some(126));
    for usage in [
        &["-r", "0", "true"][..],
        &["-I", "0", "true"],
        &["-x,", "-j", "true"],
        &["-I", "9", "-r", "2", "true"],
        &["-r", "2", "-a"],
    ] {
        assert_eq!(status(usage), Some(2), "{usage:?}");
    }
    // The command is not started when its counts have no place to go.
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    assert_eq!(status(&["-o", "/no/such/dir/file", "touch", ran.to_str().unwrap()]), Some(125));
    assert_eq!(status(&["-e", "no-such-event", "touch", ran.to_str().unwrap()]), Some(2));
    assert!(!ran.exists());
}
