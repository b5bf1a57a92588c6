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

/// Addresses (in hexadecimal) of the program's frames, leaf first, of every sample: of return addresses those of the calls, one byte less.
type Ways = BTreeMap<Vec<u64>, u64>;

/// Of `script`, which shows where in the file they are; they are linked `higher`.
fn script_ways(file: &Path, higher: u64) -> Ways {
    let text = stdout(Command::new(xprof()).args(["script", "--no-inline", "-F", "ip,dso", "-i"]).arg(file));
    let mut ways = Ways::new();
    for sample in text.split("\n\n") {
        let lines = sample
            .lines()
            .filter(|line| !line.trim().is_empty())
            .enumerate()
            .filter(|(_, line)| line.contains("/inlined)"));
        let address = |line: &str| u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap();
        let way: Vec<u64> = lines.map(|(at, line)| address(line) - u64::from(at > 0) + higher).collect();
        if !way.is_empty() {
            *ways.entry(way).or_default() += 1;
        }
    }
    ways
}

/// What `go tool pprof -raw` shows: the ways of all samples through the mapping of the program, and of each address the functions
/// (innermost first) with their lines.
fn pprof_ways(profile: &Path, mapping: &str) -> (Ways, BTreeMap<u64, Vec<String>>) {
    let text = stdout(Command::new("go").args(["tool", "pprof", "-raw"]).arg(profile).env("HOME", "/tmp"));
    let part = |from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
    let (mut addresses, mut places) = (BTreeMap::new(), BTreeMap::<u64, Vec<String>>::new());
    let mut address = None;
    for line in part("\nLocations\n", "\nMappings\n").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // `12: 0x401136 M=1 innermost /path/inlined.c:11:0 s=0`; what it was compiled into is on lines of its own.
        let place = match words[..] {
            [id, at, of, ref place @ ..] if id.ends_with(':') && at.starts_with("0x") => {
                let number = u64::from_str_radix(&at[2..], 16).unwrap();
                address = (of == mapping).then_some(number);
                if let Some(address) = address {
                    addresses.insert(id.trim_end_matches(':').parse::<u64>().unwrap(), address);
                }
                place
            }
            ref place => place,
        };
        if let (Some(address), [function, file, ..]) = (address, place) {
            let line = file.rsplit('/').next().unwrap().trim_end_matches(":0");
            places.entry(address).or_default().push(format!("{function} {line}"));
        }
    }
    let mut ways = Ways::new();
    for line in part("\nSamples:\n", "\nLocations\n").lines() {
        // `2000 2000: 1 2 3`, then labels.
        let Some((values, frames)) =
            line.split_once(": ").filter(|(v, _)| v.trim().parse::<u64>().is_ok() || v.split_whitespace().count() == 2)
        else {
            continue;
        };
        let Some(Ok(samples)) = values.split_whitespace().next().map(str::parse::<u64>) else { continue };
        let ids = frames.split_whitespace().map(|id| id.parse::<u64>().unwrap());
        let way: Vec<u64> = ids.filter_map(|id| addresses.get(&id).copied()).collect();
        if !way.is_empty() {
            *ways.entry(way).or_default() += samples;
        }
    }
    (ways, places)
}

/// Addresses of pprof's locations are those of the file's own symbols, of the very frames that `script` shows, with addr2line's
/// functions and lines; build id and program headers are readelf's.
#[test]
fn pprof_has_addresses_and_lines() {
    for kind in ["-no-pie", "-pie"] {
        let dir = tempfile::tempdir().unwrap();
        let source = tree().join("tests/programs/inlined.c");
        let program = compile(dir.path(), &source, &["-O2", "-fno-optimize-sibling-calls", kind]);
        let file = dir.path().join("inlined.data");
        let options = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
        stdout(Command::new(xprof()).args(options).arg(&file).arg("--").arg(&program));
        let profile = exported(&file, "pprof", &[]);
        let text = stdout(Command::new("go").args(["tool", "pprof", "-raw"]).arg(&profile).env("HOME", "/tmp"));
        let mapping = text.split_once("\nMappings\n").unwrap().1.lines().next().unwrap();
        let words: Vec<&str> = mapping.split_whitespace().collect();
        let [id, place, path, build_id, "[FN][FL][LN][IN]"] = words[..] else { panic!("{mapping}") };
        assert_eq!((id, path), ("1:", program.to_str().unwrap()));
        let elf = stdout(Command::new("readelf").args(["-lnW"]).arg(&program));
        assert!(elf.contains(&format!("Build ID: {build_id}")), "{mapping}: {elf}");
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let load = elf.lines().find(|line| line.contains("LOAD") && line.contains(" R E ")).unwrap();
        let load: Vec<u64> = load.split_whitespace().skip(1).take(4).map(number).collect();
        let [offset, address, _, size] = load[..] else { panic!("{elf}") };
        assert_eq!(place, format!("{address:#x}/{:#x}/{offset:#x}", address + size), "{elf}");

        let (ways, places) = pprof_ways(&profile, "M=1");
        assert_eq!(ways, script_ways(&file, address - offset), "{kind}");
        assert!(ways.values().any(|&samples| samples == 2000), "{ways:?}");
        for (address, lines) in places {
            let mut addr2line = Command::new("addr2line");
            let told = stdout(addr2line.args(["-f", "-i", "-e"]).arg(&program).arg(format!("{address:#x}")));
            let told: Vec<&str> = told.lines().collect();
            let told = told.chunks(2).map(|pair| {
                let line = pair[1].rsplit('/').next().unwrap();
                format!("{} {}", pair[0], line.split(' ').next().unwrap())
            });
            // What has no debug information has no line.
            let told: Vec<String> = told.filter(|line| !line.contains("??") && !line.contains(":?")).collect();
            if !told.is_empty() {
                assert_eq!(lines, told, "{address:#x}");
            }
        }
    }
}

/// `-list` shows the lines, `-disasm` the instructions, from the files that the profile names.
#[test]
fn pprof_finds_source_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let profile = exported(&recorded(dir.path()), "pprof", &[]);
    let shown = |how: &str| {
        let mut pprof = Command::new("go");
        stdout(pprof.args(["tool", "pprof", how, "outer|innermost"]).arg(&profile).env("HOME", "/tmp"))
    };
    let heavy = |text: &str, sign: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(sign));
        let words = lines.map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
        words.filter(|line| line.starts_with(['1', '2', '3'])).collect()
    };
    assert_eq!(heavy(&shown("-list"), "line 11"), ["3000 3000 11:"]);
    let code = shown("-disasm");
    let stores: Vec<String> =
        heavy(&code, "$0x1, 0(AX)").into_iter().map(|line| line.split(' ').next().unwrap().into()).collect();
    assert_eq!(stores, ["2000"], "{code}");
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
    for line in text.lines().filter(|line| line.ends_with(']')) {
        // `1,000  file:name [module]`
        let Some((cost, name)) = line.trim_start().split_once("  ") else { continue };
        let name = name.rsplit_once(" [").map_or(name, |(name, _)| name);
        let name = name.split_once(':').map_or(name, |(_, name)| name);
        *own.entry(name.to_owned()).or_default() += number(cost);
    }
    own.retain(|_, cost| *cost > 0);
    assert_eq!(own, reported.iter().map(|(name, sum)| (name.clone(), sum.0)).collect());
}

#[test]
fn callgrind_annotate_shows_the_lines() {
    let dir = tempfile::tempdir().unwrap();
    let to = exported(&recorded(dir.path()), "callgrind", &[]);
    let mut annotate = Command::new("callgrind_annotate");
    let text = stdout(annotate.args(["--auto=yes", "--show-percs=no", "--context=99"]).arg(&to));
    let of = |line: &str| {
        let line = text.lines().find(|l| l.contains(line)).unwrap_or_else(|| panic!("no {line}: {text}"));
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(of("/* line 11 */"), "3,000");
    // A call costs what fell below it, on the line that calls.
    let calls = |line: &str, what: &str| {
        let mut lines = text.lines().skip_while(|l| !l.contains(line)).skip(1).take_while(|l| l.contains("=> "));
        lines.any(|l| l.trim_start().starts_with(what))
    };
    assert!(
        calls("/* line 16 */", "2,000") && calls("/* line 22 */", "2,000") && calls("/* line 33 */", "1,000"),
        "{text}"
    );
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
