//! What holds for every sub-command: exit statuses, help, colours, pipes that close.

use std::process::Command;

use xprof_tests::{run, stdout, xprof};

#[test]
fn usage_errors_are_2_and_name_what_was_meant() {
    for (args, word) in [
        (&["recrod"][..], "'record'"),
        (&["list", "--fromat", "json"], "'--format'"),
        (&["list", "--format", "jsn"], "'json'"),
        (&[], "Usage:"),
    ] {
        let output = run(Command::new(xprof()).args(args));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(message.contains(word), "{args:?}: {message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn help_is_short_and_help_command_long() {
    for command in ["record", "report", "script", "stat", "list", "msr", "doctor", "archive"] {
        let short = stdout(Command::new(xprof()).args([command, "--help"]));
        let long = stdout(Command::new(xprof()).args(["help", command]));
        assert!(short.contains("Usage: xprof ") && long.contains("Usage: xprof "), "{command}");
        assert!(long.lines().count() >= short.lines().count(), "{command}");
        assert_eq!(short, stdout(Command::new(xprof()).args([command, "-h"])), "{command}");
    }
    let version = stdout(Command::new(xprof()).arg("--version"));
    assert_eq!(version.lines().count(), 1);
    assert!(version.starts_with("xprof 0."), "{version}");
}

/// The reader ends before the first byte: no message, and success.
#[test]
fn a_broken_pipe_is_success() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    let file = file.to_str().unwrap();
    stdout(Command::new("perf").args([
        "record",
        "-q",
        "-N",
        "-e",
        "cpu-clock",
        "-F",
        "5000",
        "-o",
        file,
        "perf",
        "list",
    ]));
    for view in [
        "list".to_owned(),
        "list --format json".to_owned(),
        "doctor".to_owned(),
        "doctor --format csv".to_owned(),
        format!("report -i {file}"),
        format!("report --format json -i {file}"),
        "help record".to_owned(),
        "--version".to_owned(),
    ] {
        let pipe = format!("{} {view} | true; exit ${{PIPESTATUS[0]}}", xprof().display());
        let output = run(Command::new("bash").args(["-c", &pipe]));
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*message), (Some(0), ""), "{view}");
    }
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let doctor = |color: &str| stdout(Command::new(xprof()).args(["doctor", "--color", color]).env_remove("NO_COLOR"));
    assert!(!doctor("auto").contains('\x1b') && !doctor("never").contains('\x1b'));
    assert!(doctor("always").contains("\x1b["));
    let forced = stdout(Command::new(xprof()).arg("doctor").env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR"));
    assert!(forced.contains("\x1b["));
}

/// perf's own list is the witness: every event that perf lists of the kernel, we list.
#[test]
fn list_has_what_perf_lists() {
    let json: serde_json::Value =
        serde_json::from_str(&stdout(Command::new(xprof()).args(["list", "--format", "json"]))).expect("JSON");
    assert_eq!(json["schema"], 1);
    let mut ours = std::collections::BTreeSet::new();
    for event in json["events"].as_array().expect("events") {
        ours.insert(event["name"].as_str().expect("a name").to_owned());
        ours.extend(event["aliases"].as_array().expect("aliases").iter().map(|a| a.as_str().unwrap().to_owned()));
    }
    for kind in ["sw", "tracepoint", "pmu", "hw", "cache"] {
        let theirs = stdout(Command::new("perf").args(["list", "--raw-dump", kind]));
        for name in theirs.lines().next().unwrap_or_default().split_whitespace() {
            let own_of_perf = name.starts_with("sdt_") || name.ends_with("_time");
            assert!(own_of_perf || ours.contains(name), "{kind}: {name}");
        }
    }
    // What is said not to open does not, and what is said to open does.
    for event in
        json["events"].as_array().unwrap().iter().filter(|e| e["kind"] == "software" || e["kind"] == "hardware")
    {
        let name = event["name"].as_str().unwrap();
        let perf = run(Command::new("perf").args(["stat", "-x,", "-e", name, "true"]));
        let supported = !String::from_utf8_lossy(&perf.stderr).contains("<not supported>");
        assert_eq!(event["opens"], supported, "{name}");
    }
}
