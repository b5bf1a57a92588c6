//! `xprof diff`: a program that was built anew, with known counts; perf diff's own numbers; and recordings that differ by
//! noise alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use xprof_tests::{compile, run, stdout, tree, xprof};

/// Recordings of the program and of what became of it, each in a directory of its own.
fn recorded(dir: &Path) -> [PathBuf; 2] {
    [("old", &[][..]), ("new", &["-DNEW"])].map(|(name, flags)| {
        let place = dir.join(name);
        std::fs::create_dir(&place).unwrap();
        let flags: Vec<&str> = flags.iter().copied().chain(["-fno-optimize-sibling-calls"]).collect();
        let program = compile(&place, &tree().join("tests/programs/changed.c"), &flags);
        let file = dir.join(format!("{name}.data"));
        let options = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
        stdout(Command::new(xprof()).args(options).arg(&file).arg("--").arg(program));
        file
    })
}

fn diff(files: &[PathBuf], options: &[&str]) -> Value {
    let text = stdout(Command::new(xprof()).args(["diff", "--format", "json"]).args(options).args(files));
    serde_json::from_str(&text).unwrap()
}

fn rows(diff: &Value) -> &[Value] {
    diff["events"][0]["rows"].as_array().unwrap()
}

fn row<'a>(diff: &'a Value, symbol: &str) -> &'a Value {
    rows(diff).iter().find(|row| row["symbol"] == symbol).unwrap_or_else(|| panic!("no {symbol}: {diff}"))
}

#[test]
fn a_program_that_was_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let files = recorded(dir.path());
    let got = diff(&files, &[]);
    for (symbol, samples, verdict) in [
        ("same", [2000, 2000], "shrank"),
        ("more", [1000, 1400], "grew"),
        ("added", [0, 600], "grew"),
        ("removed", [300, 0], "shrank"),
        ("little", [1, 5], "too few"),
    ] {
        let row = row(&got, symbol);
        assert_eq!((&row["samples"], &row["dso"]), (&json!(samples), &json!("changed")), "{symbol}");
        assert_eq!(row["changes"][0]["verdict"], verdict, "{row}");
    }
    // Who calls: the tree of the caller, and what it and its callee had together.
    let got = diff(&files, &["--children", "-g", "caller,0"]);
    let caller = row(&got, "caller");
    assert_eq!(caller["samples"], json!([0, 0]));
    let more = &caller["nodes"][0];
    assert_eq!((&more["symbol"], &more["samples"]), (&json!("more"), &json!([1000, 1400])));
    assert_eq!(caller["children"], row(&got, "more")["self"]);
    // The same recording three times: nothing has changed.
    let same = diff(&[files[0].clone(), files[0].clone(), files[0].clone()], &[]);
    for row in rows(&same) {
        let changes = row["changes"].as_array().unwrap();
        assert!(changes.len() == 2 && changes.iter().all(|c| c["delta"] == 0.0 && c["p"] == 1.0), "{row}");
    }
}

/// (dso, symbol) -> periods, -1 where perf shows none, and the difference of the shares.
fn perfs(files: &[PathBuf]) -> BTreeMap<(String, String), (Vec<i64>, Option<String>)> {
    let mut perf = Command::new("perf");
    perf.args(["diff", "-q", "-p", "-c", "delta", "-s", "dso,sym", "-t", "\x01"]).args(files);
    let mut rows = BTreeMap::new();
    for line in stdout(&mut perf).lines().filter(|line| line.contains('\x01')) {
        let parts: Vec<&str> = line.split('\x01').map(str::trim).collect();
        let [_, before, delta, after, dso, symbol] = parts[..] else { panic!("{line:?}") };
        let Some((_, symbol)) = symbol.split_once("] ") else { continue };
        let delta = Some(delta.trim_end_matches('%').to_owned()).filter(|d| !d.is_empty());
        let periods = [before, after].map(|n| n.parse().unwrap_or(0));
        rows.insert((dso.into(), symbol.into()), (periods.to_vec(), delta));
    }
    rows
}

#[test]
fn periods_and_differences_are_perfs() {
    let dir = tempfile::tempdir().unwrap();
    let files = recorded(dir.path());
    let perfs = perfs(&files);
    let got = diff(&files, &[]);
    let mut compared = 0;
    for row in rows(&got).iter().filter(|row| row["symbol"] != "[unnamed]") {
        let key = (row["dso"].as_str().unwrap().to_owned(), row["symbol"].as_str().unwrap().to_owned());
        let Some((periods, delta)) = perfs.get(&key) else { continue };
        assert_eq!(row["period"], json!(periods), "{key:?}");
        if let Some(delta) = delta {
            let ours = row["changes"][0]["delta"].as_f64().unwrap();
            // perf rounds both to two decimals, and prints as many.
            assert!((delta.parse::<f64>().unwrap() - ours).abs() < 0.0051, "{key:?}: {delta} {ours}");
        }
        compared += 1;
    }
    let known = ["same", "more", "added", "removed", "little"];
    assert!(known.iter().all(|name| perfs.contains_key(&("changed".into(), (*name).into()))), "{perfs:?}");
    assert!(compared >= 20 && compared * 10 >= perfs.len() * 9, "{compared} of {}", perfs.len());
}

/// Recordings of the same simulated machine, by seed the same every time, differ by noise alone.
#[test]
fn noise_is_called_noise() {
    let dir = tempfile::tempdir().unwrap();
    let record = |seed: usize| {
        let file = dir.path().join(format!("{seed}.data"));
        let backend = format!("simulated:seed={seed},seconds=1");
        stdout(Command::new(xprof()).args(["record", "-q", "--backend", &backend, "-o"]).arg(&file));
        file
    };
    let files: Vec<PathBuf> = (1..=4).map(record).collect();
    let got = diff(&files, &[]);
    assert!(rows(&got).len() > 8);
    for row in rows(&got) {
        for change in row["changes"].as_array().unwrap() {
            assert_eq!(change["verdict"], "noise", "{row}");
        }
    }
}

/// A program that was built over the old one: which of its functions changed cannot be told, and is not.
#[test]
fn the_old_program_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("old", &[][..]), ("new", &["-DNEW"])].map(|(name, flags)| {
        let program = compile(dir.path(), &tree().join("tests/programs/changed.c"), flags);
        let file = dir.path().join(format!("{name}.data"));
        let options = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
        stdout(Command::new(xprof()).args(options).arg(&file).arg("--").arg(program));
        file
    });
    for options in [&[][..], &["-s", "symbol"], &["--children"], &["-s", "comm,dso,symbol"]] {
        let got = diff(&files, options);
        let verdict = |symbol: &str| row(&got, symbol)["changes"][0]["verdict"].as_str().unwrap().to_owned();
        for symbol in ["same", "more", "added", "[unnamed]"] {
            assert_eq!(verdict(symbol), "no names", "{symbol} {options:?}: {got}");
        }
        // A stack counts once, however many of its functions have no names.
        let shares =
            rows(&got).iter().flat_map(|row| row["children"].as_array().unwrap()).map(|share| share.as_f64().unwrap());
        assert!(shares.into_iter().all(|share| share <= 100.0), "{got}");
        let notes = got["notes"].to_string();
        let program = dir.path().join("changed");
        let says =
            [&*format!("samples of {} have no names", program.display()), "was changed since", "xprof archive -i"];
        assert!(says.iter().all(|text| notes.contains(text)), "{notes}");
        assert_eq!(notes.matches("was changed since").count(), 1, "{notes}");
    }
    // Both are gone: of the module as a whole there is something to say.
    compile(dir.path(), &tree().join("tests/programs/changed.c"), &["-DNEW", "-O2"]);
    let got = diff(&files, &[]);
    let of_program = |row: &&Value| row["dso"] == "changed";
    let [one] = rows(&got).iter().filter(of_program).collect::<Vec<_>>()[..] else { panic!("{got}") };
    assert_eq!(one["symbol"], "[unnamed]");
    assert_ne!(one["changes"][0]["verdict"], "no names", "{got}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = recorded(dir.path());
    let other = dir.path().join("other.data");
    let spin = ["-e", "cpu-clock:u", "--", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"];
    stdout(Command::new(xprof()).args(["record", "-q", "-o"]).arg(&other).args(spin));
    for (files, options, says) in [
        (vec![&old, &other], &[][..], "no event in common (only some have page-faults:u, cpu-clock:u)"),
        (vec![&old, &new], &["-e", "cycles"], "no recording has samples of \"cycles\""),
        (vec![&other, &other], &["-g", "callee"], "xprof record -g -- CMD"),
    ] {
        let output = run(Command::new(xprof()).arg("diff").args(options).args(files));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(run(Command::new(xprof()).arg("diff").arg(&old)).status.code(), Some(2));
}

#[test]
fn the_flame_graph_is_the_one_of_flamegraph() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = recorded(dir.path());
    let file = |name: &str| dir.path().join(name);
    stdout(Command::new(xprof()).args(["diff", "-q", "--flame"]).arg(file("a.svg")).args([&old, &new]));
    stdout(
        Command::new(xprof()).args(["flamegraph", "-q"]).arg(&new).arg("--diff").arg(&old).arg("-o").arg(file("b.svg")),
    );
    let read = |name| std::fs::read_to_string(file(name)).unwrap();
    assert!(read("a.svg").contains("added"));
    assert_eq!(read("a.svg"), read("b.svg"));
}
