//! Functions that were compiled into others, and source lines, of a program whose every page fault is known, for every way in
//! which compilers and distributions keep debug information.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xprof_tests::{run, stdout, tree, xprof};

/// Compiles, then prepares, then records.
fn recorded(dir: &Path, options: &[&str], prepare: &str) -> PathBuf {
    let source = tree().join("tests/programs/inlined.c");
    let flags = ["-O2", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o", "inlined"];
    stdout(Command::new("gcc").args(options).args(flags).arg(source).current_dir(dir));
    stdout(Command::new("sh").args(["-ec", prepare]).current_dir(dir));
    let file = dir.join("inlined.data");
    let record = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
    stdout(Command::new(xprof()).args(record).arg(&file).arg("--").arg(dir.join("inlined")));
    file
}

fn report(file: &Path, options: &[&str]) -> Value {
    let text = stdout(Command::new(xprof()).args(["report", "--format", "json", "-i"]).arg(file).args(options));
    serde_json::from_str(&text).unwrap()
}

/// Samples of rows by a key, those of 1000 and more.
fn sums(report: &Value, key: &str) -> Vec<(String, u64)> {
    let rows = report["events"][0]["rows"].as_array().unwrap().iter();
    let mut sums: Vec<_> = rows
        .map(|r| (r[key].as_str().unwrap().to_owned(), r["samples"].as_u64().unwrap()))
        .filter(|r| r.1 >= 900)
        .collect();
    sums.sort();
    sums
}

/// The way down of the heaviest nodes.
fn way(node: &Value) -> String {
    let Some(next) = node["callees"].as_array().unwrap().first() else { return String::new() };
    let inlined = if next["inlined"] == true { "*" } else { "" };
    format!(" {}{inlined}={}{}", next["symbol"].as_str().unwrap(), next["samples"], way(next))
}

fn check(file: &Path) {
    let name = file.display();
    let lines = report(file, &["-s", "srcline", "--no-children"]);
    let lines: Vec<String> = sums(&lines, "srcline").into_iter().map(|(line, _)| line).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line == "inlined.c:11"), "{name}: {lines:?}");
    let trees = report(file, &["-g", "caller,0"]);
    let row = |symbol: &str| {
        let rows = trees["events"][0]["rows"].as_array().unwrap();
        rows.iter().find(|r| r["symbol"] == symbol).unwrap_or_else(|| panic!("{name}: no {symbol}: {trees}")).clone()
    };
    assert_eq!(way(&row("outer")), " between*=2000 innermost*=2000", "{name}");
    assert_eq!(way(&row("main")), " outer=2000 between*=2000 innermost*=2000", "{name}");
    let folded = |options: &[&str]| {
        let text = stdout(Command::new(xprof()).args(["export", "--to", "folded", "-i"]).arg(file).args(options));
        let heavy = text.lines().filter(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 900);
        heavy.map(|l| l.split_once(";main").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(folded(&[]), [";innermost 1000", ";outer;between;innermost 2000"], "{name}");
    assert_eq!(folded(&["--no-inline"]), [" 1000", ";outer 2000"], "{name}");
    let script = |options: &[&str]| {
        let text = stdout(Command::new(xprof()).args(["script", "-F", "ip,sym", "-i"]).arg(file).args(options));
        let names = text.lines().map(|line| line.trim().split_once(' ').map_or("", |(_, name)| name));
        let text = names.collect::<Vec<_>>().join(";");
        ["innermost (inlined);between (inlined);outer;main;", "innermost (inlined);main;", ";outer;main;"]
            .map(|frames| text.matches(frames).count())
    };
    assert_eq!(script(&[]), [2000, 1000, 2000], "{name}");
    assert_eq!(script(&["--no-inline"]), [0, 0, 2000], "{name}");
}

/// perf's own unwinding and its own look-up of what was compiled into what, line by line, up to `main`: what comes behind is
/// libc's, where perf calls a function inlined when its symbol has another name than its debug information.
#[test]
fn script_beside_perf() {
    let dir = tempfile::tempdir().unwrap();
    let source = tree().join("tests/programs/inlined.c");
    stdout(Command::new("gcc").args(["-O2", "-g", "-o", "inlined"]).arg(source).current_dir(dir.path()));
    let file = dir.path().join("perf.data");
    let mut record = Command::new("perf");
    record
        .args(["record", "-q", "-e", "page-faults:u", "-c", "1", "-m", "16M", "--call-graph", "dwarf,1024", "-o"])
        .arg(&file);
    stdout(record.arg("--").arg(dir.path().join("inlined")));
    for options in [&[][..], &["--no-inline"], &["-F", "ip,sym,symoff,dso"], &["-F", "comm,ip,sym"]] {
        let of = |program: &Path| {
            let text = stdout(Command::new(program).args(["script", "-i"]).arg(&file).args(options));
            let samples = text.split("\n\n").filter_map(|sample| {
                let main = sample.lines().position(|line| line.contains(" main"))?;
                Some(sample.lines().take(main + 1).map(str::to_owned).collect::<Vec<_>>())
            });
            samples.collect::<Vec<_>>()
        };
        let (ours, theirs) = (of(xprof()), of(Path::new("perf")));
        assert!(theirs.len() >= 3000, "{options:?}: {}", theirs.len());
        assert_eq!(ours.len(), theirs.len(), "{options:?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{options:?}");
        }
    }
}

#[test]
fn every_form_of_debug_information() {
    let separate = "objcopy --only-keep-debug inlined inlined.debug && strip -g inlined";
    let linked = format!("{separate} && objcopy --add-gnu-debuglink=inlined.debug inlined");
    let by_crc = format!("{linked} && mkdir .debug && mv inlined.debug .debug/");
    // What cannot be compressed that way here would prove nothing.
    let zstd =
        "objcopy --compress-debug-sections=zstd inlined && readelf -t inlined | grep -A4 debug_info | grep -q ZSTD";
    // What two programs have in common stands in a third file.
    let dwz = "cp inlined other && dwz -m common.debug inlined other && readelf -S inlined | grep -q gnu_debugaltlink";
    for (options, prepare) in [
        (&["-g", "-gdwarf-4"][..], "true"),
        (&["-g", "-gdwarf-5"], "true"),
        (&["-g", "-no-pie"], "true"),
        (&["-g", "-gz=zlib"], "true"),
        (&["-g"], zstd),
        (&["-g"], &linked),
        (&["-g", "-Wl,--build-id=none"], &by_crc),
        (&["-g", "-gsplit-dwarf", "-gdwarf-4"], "true"),
        (&["-g", "-gsplit-dwarf", "-gdwarf-5"], "true"),
        (&["-g", "-gsplit-dwarf", "-gdwarf-4"], "dwp -e inlined && rm -f *.dwo"),
        (&["-g", "-gdwarf-4"], dwz),
        (&["-g", "-gdwarf-5"], dwz),
    ] {
        let dir = tempfile::tempdir().unwrap();
        check(&recorded(dir.path(), options, prepare));
    }
}

/// The debug file of another build is not believed, and what is no debug information does no harm.
#[test]
fn wrong_and_lying_debug_information() {
    let other = "objcopy --only-keep-debug inlined inlined.debug && objcopy --add-gnu-debuglink=inlined.debug inlined \
                 && strip -g inlined && printf x >> inlined.debug";
    let zeros = "objcopy --dump-section .debug_info=i inlined && head -c $(stat -c %s i) /dev/zero > z \
                 && objcopy --update-section .debug_info=z inlined";
    let noise = "objcopy --dump-section .debug_abbrev=a inlined && head -c $(stat -c %s a) /dev/urandom > z \
                 && objcopy --update-section .debug_abbrev=z inlined";
    for (options, prepare) in [(&["-g", "-Wl,--build-id=none"][..], other), (&["-g"], zeros), (&["-g"], noise)] {
        let dir = tempfile::tempdir().unwrap();
        let file = recorded(dir.path(), options, prepare);
        let output = run(Command::new(xprof()).args(["report", "-g", "--format", "json", "-i"]).arg(&file));
        assert!(output.status.success());
        let trees: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(sums(&trees, "symbol"), [("main".to_owned(), 1000), ("outer".to_owned(), 2000)], "{prepare}");
    }
}
