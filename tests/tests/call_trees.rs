//! Call trees and folded stacks of a program whose every page fault is known, and of recordings that perf reads as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xprof_tests::{compile, run, stdout, storm, tree, xprof};

fn recorded(dir: &Path) -> PathBuf {
    let program = compile(dir, &tree().join("tests/programs/calls.c"), &["-fno-optimize-sibling-calls"]);
    let file = dir.join("calls.data");
    stdout(
        Command::new(xprof())
            .args(["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"])
            .arg(&file)
            .arg("--")
            .arg(program),
    );
    file
}

fn report(file: &Path, options: &[&str]) -> Value {
    let text = stdout(Command::new(xprof()).args(["report", "--format", "json", "-i"]).arg(file).args(options));
    serde_json::from_str(&text).unwrap()
}

/// The row of a function.
fn row<'a>(report: &'a Value, symbol: &str) -> &'a Value {
    let rows = report["events"][0]["rows"].as_array().unwrap();
    rows.iter().find(|row| row["symbol"] == symbol).unwrap_or_else(|| panic!("no row {symbol} in {report}"))
}

/// `name=samples(..)` of the nodes below, by name, without those of less than 10 samples (what the program's start faults).
fn shape(node: &Value, key: &str) -> String {
    let nodes = node[key].as_array().unwrap().iter().filter(|n| n["samples"].as_u64().unwrap() >= 10);
    let mut parts: Vec<String> = nodes
        .map(|n| {
            let below = shape(n, key);
            let below = if below.is_empty() { below } else { format!("({below})") };
            format!("{}={}{below}", n["symbol"].as_str().unwrap(), n["samples"])
        })
        .collect();
    parts.sort();
    parts.join(" ")
}

#[test]
fn trees_of_a_known_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let callees = report(&file, &["-g", "caller,0"]);
    assert_eq!(
        shape(row(&callees, "main"), "callees"),
        "a=3000(touch=3000) b=300(a=100(touch=100) touch=200) even=500(touch=500)"
    );
    assert_eq!(shape(row(&callees, "odd"), "callees"), "even=500(touch=500)");
    assert_eq!(shape(row(&callees, "a"), "callees"), "touch=3100");
    let callers = report(&file, &["-g", "callee,0", "--no-children"]);
    let all = shape(row(&callers, "touch"), "callers");
    // libc's own frames above main have other names on other systems.
    assert!(all.starts_with("a=3100(b=100(main=100"), "{all}");
    assert!(all.contains("main=3000"), "{all}");
    assert!(all.contains("b=200(main=200") && all.contains("even=500(main=500"), "{all}");
    let down = report(&file, &["-g", "caller,0", "--no-children"]);
    let all = shape(row(&down, "touch"), "callees");
    assert!(
        all.contains("main=3800(a=3000(touch=3000) b=300(a=100(touch=100) touch=200) even=500(touch=500))"),
        "{all}"
    );
    let flat = report(&file, &["-g", "flat,0", "--no-children"]);
    let chains = row(&flat, "touch")["chains"].as_array().unwrap();
    let names = |chain: &Value| {
        let names = chain["frames"].as_array().unwrap().iter().map(|f| f["symbol"].as_str().unwrap().to_owned());
        names.take(3).collect::<Vec<_>>().join(" ")
    };
    let chains: Vec<_> = chains.iter().take(4).map(|c| (names(c), c["period"].as_u64().unwrap())).collect();
    let wanted = [("touch a main", 3000), ("touch even main", 500), ("touch b main", 200), ("touch a b", 100)];
    assert_eq!(chains, wanted.map(|(names, period)| (names.to_owned(), period)));
}

/// Every node, and every row of the column that its tree is about, is the sum of what ends in it and of its nodes.
#[test]
fn percentages_add_up() {
    fn check(node: &Value, key: &str, whole: f64) {
        let below: f64 = node[key].as_array().unwrap().iter().map(|n| n["children"].as_f64().unwrap()).sum();
        let own = node["self"].as_f64().unwrap();
        assert!((own + below - whole).abs() < 1e-6, "{own} + {below} is not {whole}: {node}");
        for node in node[key].as_array().unwrap() {
            check(node, key, node["children"].as_f64().unwrap());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    for limit in ["caller,0", "caller", "caller,20"] {
        let report = report(&file, &["-g", limit]);
        for symbol in ["main", "a", "b", "even", "touch"] {
            let row = row(&report, symbol);
            // What is below the limit has no tree.
            if limit == "caller,20" && row["children"].as_f64().unwrap() < 20.0 {
                continue;
            }
            check(row, "callees", row["children"].as_f64().unwrap());
        }
    }
}

#[test]
fn folded_stacks_are_those_of_perf_and_inferno() {
    let dir = tempfile::tempdir().unwrap();
    let program = storm(dir.path());
    let calls = recorded(dir.path());
    let storms = dir.path().join("storm.data");
    let clock = dir.path().join("clock.data");
    let record = |file: &Path, options: &[&str], command: &str| {
        let mut perf = Command::new("perf");
        perf.args(["record", "-N", "-q", "-g"]).args(options).arg("-o").arg(file).args(["--", "sh", "-c", command]);
        assert!(run(&mut perf).status.success(), "{perf:?}");
    };
    let program = program.display();
    record(&storms, &["-e", "page-faults", "-c", "1"], &format!("{program} deep 2000 9"));
    record(&clock, &["-e", "cpu-clock", "-F", "5000"], &format!("{program} spin 30000000; {program} deep 2000 20"));
    for file in [&calls, &storms, &clock] {
        let ours = stdout(Command::new(xprof()).args(["export", "--to", "folded", "--no-inline", "-i"]).arg(file));
        let theirs = format!("perf script --no-inline -i {} | inferno-collapse-perf", file.display());
        let theirs = stdout(Command::new("bash").args(["-o", "pipefail", "-c", &theirs]));
        // perf looks a return address up as it is: a call at the very end of a function is then in the next one. And it keeps
        // the maps of the program that an exec ends.
        let ends = |line: &&str| !["_dl_start_user", ";_start;", "execve;"].iter().any(|name| line.contains(name));
        let lines = |text: &str| text.lines().filter(ends).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&ours), lines(&theirs), "{}", file.display());
        assert!(lines(&ours).len() > 5);
    }
}
