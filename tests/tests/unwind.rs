//! Stacks of programs whose stacks are known: every sample that falls into `leaf` has exactly the expected frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_tests::{run, stdout, tree, xprof};

/// Frames as `script` names them, innermost first, with what stands between the program's frames left out where it is a
/// library's own (`..`).
type Stack = Vec<String>;

fn sources() -> PathBuf {
    tree().join("tests/programs/stacks")
}

fn cc(compiler: &str, source: &str, to: &Path, options: &[&str]) {
    let mut command = Command::new(compiler);
    command.args(["-O2", "-fomit-frame-pointer", "-w"]).arg(sources().join(source)).arg("-o").arg(to).args(options);
    stdout(&mut command);
}

/// Records `program ARGS` and gives the stacks of the samples whose innermost frame is `leaf`, and how often each came.
fn stacks_in(dir: &Path, program: &Path, args: &[&str], options: &[&str], leaf: &str) -> BTreeMap<Stack, u32> {
    let file = dir.join("perf.data");
    let mut record = Command::new(xprof());
    record.args(["record", "-e", "cpu-clock:u", "-F", "997"]).args(options).arg("-o").arg(&file).arg("--");
    let output = run(record.arg(program).args(args).env("HOME", dir));
    assert!(output.status.success(), "{record:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut script = Command::new(xprof());
    let text = stdout(script.args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"]).arg(&file).env("HOME", dir));
    stacks_of(&text, leaf)
}

/// The stacks in the text of `script` whose innermost frame is `leaf`.
fn stacks_of(text: &str, leaf: &str) -> BTreeMap<Stack, u32> {
    let mut stacks = BTreeMap::new();
    for sample in text.split("\n\n") {
        let frames = sample.lines().filter(|line| line.starts_with([' ', '\t']));
        let names: Stack = frames.map(name_of).collect();
        if names.first().is_some_and(|first| first == leaf) {
            *stacks.entry(names).or_default() += 1;
        }
    }
    stacks
}

/// `  55d0 second ([..]/truth)` is `second`; a frame without name is its file's.
fn name_of(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [_, "[unknown]", file, ..] => file.trim_matches(['(', ')']).rsplit('/').next().unwrap_or_default().into(),
        [_, name @ .., _] => name.join(" "),
        _ => line.into(),
    }
}

/// What comes between `main` and the start of a program.
fn is_start(name: &str) -> bool {
    name.starts_with("__libc_start") || name == "libc.so.6"
}

/// Every stack in `leaf` is `expected`, then nothing but libc's own frames, then `root`.
fn exactly(stacks: &BTreeMap<Stack, u32>, expected: &[&str], root: &str) {
    assert!(stacks.values().sum::<u32>() >= 20, "too few samples: {stacks:?}");
    for (stack, count) in stacks {
        let (own, rest) = stack.split_at(expected.len().min(stack.len()));
        assert_eq!(own, expected, "{count} samples of {stack:?}");
        let (last, between) = rest.split_last().unwrap_or_else(|| panic!("no root: {stack:?}"));
        assert_eq!(last, root, "{stack:?}");
        let mut between = between.iter();
        assert!(between.all(|name| is_start(name) || name == "start_thread"), "{stack:?}");
    }
}

const DWARF: &[&str] = &["--call-graph", "dwarf"];

/// The cases that every kind of program has, by what `truth CASE` is.
const CASES: [(&str, &[&str], &str); 6] = [
    ("plain", &["leaf", "third", "second", "first", "main"], "_start"),
    ("tail", &["leaf", "third", "tail", "main"], "_start"),
    ("alloca", &["leaf", "with_alloca", "main"], "_start"),
    ("realigned", &["leaf", "realigned", "main"], "_start"),
    ("thread", &["leaf", "third", "second", "first", "thread"], "__clone3"),
    ("jit", &["leaf", "JIT", "generated", "main"], "_start"),
];

fn case(dir: &Path, program: &Path, options: &[&str], (what, expected, root): (&str, &[&str], &str)) {
    let mut stacks = stacks_in(dir, program, &[what], options, "leaf");
    if what == "jit" {
        // Code without a name: [JIT] tid N, or the map that nobody wrote.
        stacks = stacks
            .into_iter()
            .map(|(mut stack, count)| {
                let frame = stack.get_mut(1).unwrap();
                assert!(frame.starts_with("perf-") || frame.contains("JIT") || frame.contains("anon"), "{frame}");
                *frame = "JIT".into();
                (stack, count)
            })
            .collect();
    }
    if what == "thread" {
        stacks = stacks
            .into_iter()
            .map(|(mut stack, count)| {
                if let Some(last) = stack.last_mut().filter(|last| last.ends_with("clone3") || *last == "clone") {
                    *last = "__clone3".into();
                }
                (stack, count)
            })
            .collect();
    }
    exactly(&stacks, expected, root);
}

#[test]
fn position_independent_and_at_fixed_addresses() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [("pie", &[][..]), ("fixed", &["-no-pie"]), ("static", &["-static", "-DSTATIC"])] {
        let program = dir.path().join(name);
        cc("gcc", "truth.c", &program, options);
        for expected in CASES {
            case(dir.path(), &program, DWARF, expected);
        }
    }
}

#[test]
fn lld_lays_files_out_in_its_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]));
    let lld = format!("-B{}/lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld", sysroot.trim());
    let program = dir.path().join("lld");
    cc("gcc", "truth.c", &program, &["-fuse-ld=lld", &lld]);
    for expected in CASES {
        case(dir.path(), &program, &["-g"], expected);
    }
}

/// `-g` goes without stack copies where all code keeps frame pointers, and the stacks are as whole.
#[test]
fn frame_pointers_where_they_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-O2",
        "-static",
        "-nostdlib",
        "-fno-stack-protector",
        "-fno-optimize-sibling-calls",
        "-fno-omit-frame-pointer",
        "-w",
        "-o",
    ];
    let source = sources().join("freestanding.c");
    for (name, option, expected) in [
        ("kept", "-DFRAME", true),
        // Then leaf's caller is not to be had by them.
        ("leaf", "-fno-omit-frame-pointer", false),
        ("omitted", "-fomit-frame-pointer", false),
    ] {
        let program = dir.path().join(name);
        stdout(Command::new("gcc").args(flags).arg(&program).arg(option).arg(&source));
        let mut record = Command::new(xprof());
        record.args(["record", "-v", "-e", "cpu-clock:u", "-g", "-o"]).arg(dir.path().join("perf.data"));
        let output = run(record.arg("--").arg(&program).env("HOME", dir.path()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("stacks are taken by these"), expected, "{name}: {said}");
        let stacks = stacks_in(dir.path(), &program, &[], &["-g"], "leaf");
        exactly(&stacks, &["leaf", "third", "second", "first", "begin"], "_start");
    }
    // libc does not keep them.
    assert_eq!(
        Command::new("gcc")
            .args(["-O2", "-fno-omit-frame-pointer", "-o"])
            .arg(dir.path().join("linked"))
            .arg(sources().join("truth.c"))
            .arg("-w")
            .status()
            .unwrap()
            .code(),
        Some(0)
    );
    let mut record = Command::new(xprof());
    record.args(["record", "-v", "-e", "cpu-clock:u", "-g", "-o"]).arg(dir.path().join("perf.data")).arg("--");
    let output = run(record.arg(dir.path().join("linked")).arg("plain").env("HOME", dir.path()));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("stacks are taken by these"));
}

#[test]
fn only_debug_frame() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("debug_frame");
    cc("gcc", "truth.c", &program, &["-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]);
    for expected in &CASES[..4] {
        case(dir.path(), &program, DWARF, *expected);
    }
}

#[test]
fn recursion_of_two_hundred_calls() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("truth");
    cc("gcc", "truth.c", &program, &["-fno-optimize-sibling-calls"]);
    let mut expected = vec!["leaf"];
    expected.extend(["recursion"; 201]);
    expected.push("main");
    stacks_in(dir.path(), &program, &["recursion"], DWARF, "leaf");
    // `script` ends, as perf does, after 127 frames; perf can be asked for more, and reads the chains of the file.
    let mut perf = Command::new("perf");
    perf.args(["script", "--max-stack", "300", "-F", "ip,sym,dso", "-i"]).arg(dir.path().join("perf.data"));
    exactly(&stacks_of(&stdout(perf.env("HOME", dir.path())), "leaf"), &expected, "_start");
    // A copy that is too small ends in its mark, and nothing is made up (while recording, the process's memory has the rest).
    let small = ["--call-graph", "dwarf,1024", "--keep-stacks"];
    for (stack, _) in stacks_in(dir.path(), &program, &["recursion"], &small, "leaf") {
        assert_eq!(stack.last().map(String::as_str), Some("[truncated]"), "{stack:?}");
        let mut report = Command::new(xprof());
        report.args(["report", "--stdio", "-i"]).arg(dir.path().join("perf.data")).env("HOME", dir.path());
        assert!(stdout(&mut report).contains("are larger than what was copied of them and end in [truncated]"));
        assert!(stack.len() > 30 && stack[1..stack.len() - 1].iter().all(|name| name == "recursion"), "{stack:?}");
    }
}

/// Stacks of 160 KB, of which the kernel copies 64: each one is right to its root or says that it was cut, and those of the
/// other bottom, whose inner frames are the same bit by bit, are never taken for these.
#[test]
fn deeper_than_any_copy() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("deep");
    cc("gcc", "deep.c", &program, &["-fno-optimize-sibling-calls"]);
    let stacks_of_rounds = |rounds: &[&str]| {
        stacks_in(dir.path(), &program, &[&["160"][..], rounds].concat(), &["-g"], "leaf_of_a");
        let mut perf = Command::new("perf");
        perf.args(["script", "--max-stack", "1000", "-F", "ip,sym,dso", "-i"]).arg(dir.path().join("perf.data"));
        let text = stdout(perf.env("HOME", dir.path()));
        (stacks_of(&text, "leaf_of_a"), stacks_of(&text, "leaf_of_b"))
    };
    let is_cut = |stack: &Stack| stack.last().is_some_and(|last| last == "[truncated]");
    let whole = |stacks: &BTreeMap<Stack, u32>| {
        let whole = stacks.iter().filter(|(stack, _)| !is_cut(stack));
        whole.map(|(stack, count)| (stack.clone(), *count)).collect::<BTreeMap<_, _>>()
    };
    let expected = |leaf, bottom| [&[leaf][..], &["deep"; 161], &[bottom, "main"]].concat();
    // One bottom: what is missing is what nobody had looked at before.
    let (of_a, _) = stacks_of_rounds(&["3000", "1"]);
    let (all, completed) = (of_a.values().sum::<u32>(), whole(&of_a));
    exactly(&completed, &expected("leaf_of_a", "bottom_a"), "_start");
    assert!(completed.values().sum::<u32>() > all / 2, "{of_a:?}");
    let mut report = Command::new(xprof());
    report.args(["report", "--stdio", "-i"]).arg(dir.path().join("perf.data")).env("HOME", dir.path());
    // Of all functions, so of a few more.
    let said = stdout(&mut report);
    let line = said.lines().find(|line| line.ends_with("completed from what the same thread showed before and after"));
    let number: u32 = line.and_then(|line| line.split(' ').nth(1)).and_then(|n| n.parse().ok()).expect("a count");
    let number_of_leaf = completed.values().sum::<u32>();
    assert!((number_of_leaf..=number_of_leaf + all / 2).contains(&number), "{number} {number_of_leaf} of {all}");
    // Two by turns.
    let (of_a, of_b) = stacks_of_rounds(&["1000", "4"]);
    for (stacks, leaf, bottom) in [(of_a, "leaf_of_a", "bottom_a"), (of_b, "leaf_of_b", "bottom_b")] {
        let (cut, inner) = (stacks.keys().filter(|stack| is_cut(stack)), [&[leaf][..], &["deep"; 40]].concat());
        for stack in cut {
            assert_eq!(stack[..inner.len()], inner, "{stack:?}");
        }
        if whole(&stacks).values().sum::<u32>() > 20 {
            exactly(&whole(&stacks), &expected(leaf, bottom), "_start");
        } else {
            assert!(whole(&stacks).keys().all(|stack| stack[162] == bottom), "{stacks:?}");
        }
    }
}

#[test]
fn signals_coroutines_and_libraries_that_go() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("truth");
    cc("gcc", "truth.c", &program, &["-Wl,--export-dynamic"]);
    for n in 0..2 {
        let to = dir.path().join(format!("plugin{n}.so"));
        cc("gcc", "plugin.c", &to, &["-shared", "-fPIC", &format!("-DNAME={n}")]);
    }
    let stacks = stacks_in(dir.path(), &program, &["signal"], DWARF, "leaf");
    let restore = &stacks.keys().next().unwrap()[2].clone();
    assert!(restore == "__restore_rt" || restore == "libc.so.6", "{restore}");
    let expected = ["leaf", "handler_of_trap", restore, "trapped", "signalled", "main"];
    exactly(&stacks, &expected, "_start");
    // Of a handler on a stack of its own the copy has that stack alone: the interrupted function is the last frame.
    let stacks = stacks_in(dir.path(), &program, &["altstack"], DWARF, "leaf");
    assert_eq!(stacks.len(), 1, "{stacks:?}");
    assert_eq!(stacks.keys().next().unwrap()[..], ["leaf", "handler_of_trap", restore, "trapped"]);
    let stacks = stacks_in(dir.path(), &program, &["coroutine"], DWARF, "leaf");
    let start = &stacks.keys().next().unwrap()[2].clone();
    assert!(start.contains("start_context") || start == "libc.so.6", "{start}");
    assert_eq!(stacks.len(), 1, "{stacks:?}");
    assert_eq!(stacks.keys().next().unwrap()[..], ["leaf", "coroutine", start]);
    let folder = dir.path().display().to_string();
    let stacks = stacks_in(dir.path(), &program, &["dlopen", &folder], DWARF, "leaf");
    for (inner, _) in [("inner0", 0), ("inner1", 1)] {
        let of_it: BTreeMap<Stack, u32> = stacks.clone().into_iter().filter(|(stack, _)| stack[1] == inner).collect();
        exactly(&of_it, &["leaf", inner, "enter", "plugins", "main"], "_start");
    }
    let known = stacks.keys().all(|stack| stack[1] == "inner0" || stack[1] == "inner1");
    assert!(known, "{stacks:?}");
}

/// A trampoline was called by nobody: looked up one byte before its first instruction, as callers are, it has no name.
#[test]
fn a_signal_trampoline_has_its_name_in_added_stacks_too() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("truth");
    cc("gcc", "truth.c", &program, &["-static"]);
    let stacks = stacks_in(dir.path(), &program, &["signal"], DWARF, "leaf");
    exactly(&stacks, &["leaf", "handler_of_trap", "__restore_rt", "trapped", "signalled", "main"], "_start");
    let mut export = Command::new(xprof());
    export.args(["export", "--no-inline", "--to", "folded", "-i"]).arg(dir.path().join("perf.data"));
    let folded = stdout(export.env("HOME", dir.path()));
    let stack = "main;signalled;trapped;__restore_rt;handler_of_trap;leaf ";
    assert!(folded.lines().any(|line| line.contains(stack)), "{folded}");
}

#[test]
fn the_vdso() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("truth");
    cc("gcc", "truth.c", &program, &[]);
    let stacks = stacks_in(dir.path(), &program, &["vdso"], DWARF, "__vdso_clock_gettime");
    assert!(!stacks.is_empty());
    for stack in stacks.keys() {
        let own: Vec<&str> = stack.iter().map(String::as_str).filter(|n| ["clocks", "main"].contains(n)).collect();
        assert_eq!((own, stack.last().map(String::as_str)), (vec!["clocks", "main"], Some("_start")), "{stack:?}");
    }
}

#[test]
fn a_program_that_is_deleted_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("deleted");
    cc("gcc", "truth.c", &program, &["-Wl,--build-id=sha1"]);
    let stacks = stacks_in(dir.path(), &program, &["plain"], DWARF, "leaf");
    exactly(&stacks, &["leaf", "third", "second", "first", "main"], "_start");
}

#[test]
fn exceptions() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("exceptions");
    cc("g++", "truth.cc", &program, &[]);
    let destructor = ["leaf", "Guard::~Guard", "guarded", "catches", "main"];
    let stacks = stacks_in(dir.path(), &program, &["destructor"], DWARF, "leaf");
    exactly(&stacks, &destructor, "_start");
    let stacks = stacks_in(dir.path(), &program, &["handler"], DWARF, "leaf");
    exactly(&stacks, &["leaf", "handles", "main"], "_start");
}

#[test]
fn rust_without_frame_pointers() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("rust");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "force-frame-pointers=no", "-C", "symbol-mangling-version=v0", "-o"]);
    stdout(rustc.arg(&program).arg(sources().join("truth.rs")));
    let stacks = stacks_in(dir.path(), &program, &[], &["-g"], "leaf");
    assert!(stacks.values().sum::<u32>() >= 20, "{stacks:?}");
    for stack in stacks.keys() {
        let own: Vec<&str> = stack
            .iter()
            .map(String::as_str)
            .filter(|name| name.contains("truth::") || name.contains("rust::"))
            .collect();
        let short: Vec<String> = own.iter().map(|n| n.replace("rust::", "truth::")).collect();
        assert_eq!(stack.last().map(String::as_str), Some("_start"), "{stack:?}");
        assert!(short.first().is_some_and(|f| f.contains("Worker as truth::Work>::work")), "{stack:?}");
        assert!(short.last().is_some_and(|f| f.ends_with("truth::main")), "{stack:?}");
        assert!(
            short.iter().any(|f| f.contains("truth::closure")) && short.iter().any(|f| f.contains("truth::generic")),
            "{stack:?}"
        );
    }
}

/// The share of whole stacks, of an optimised program of the distribution, which keeps no frame pointers: at least 95 % reach the
/// program's `_start`. What does not are samples before it runs, in the dynamic loader: some milliseconds of a second.
/// `benches/whole` has more programs, beside perf.
#[test]
fn the_stacks_of_a_distributions_program_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    // Calls between the interpreter and its libraries, of JSON, sorting with a key and regular expressions.
    let program = "import json, re\n\
        def work(n):\n    text = json.dumps([{'a': i, 'b': str(i)} for i in range(n)])\n    \
        return len(re.findall(r'(\\d+)', text)) + len(sorted(json.loads(text), key=lambda one: one['b']))\n\
        print(sum(work(2000) for _ in range(100)))";
    let mut record = Command::new(xprof());
    record.args(["record", "-q", "-e", "cpu-clock:u", "-F", "997", "-g", "-o"]).arg(&file);
    stdout(record.args(["--", "/usr/bin/python3", "-I", "-c", program]).env("HOME", dir.path()));
    let text = {
        let mut script = Command::new(xprof());
        stdout(script.args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"]).arg(&file).env("HOME", dir.path()))
    };
    let stacks = text.split("\n\n").filter_map(|sample| sample.lines().rfind(|line| line.starts_with([' ', '\t'])));
    let outermost: Vec<String> = stacks.map(name_of).collect();
    let whole = outermost.iter().filter(|name| *name == "_start").count();
    assert!(outermost.len() >= 100, "{} samples", outermost.len());
    assert!(whole * 100 >= outermost.len() * 95, "{whole} of {}: {outermost:?}", outermost.len());
}

/// Copies fill the rings faster than the idle rings are looked into; mappings must come before the samples in them all the same.
#[test]
fn mappings_go_before_the_samples_of_a_storm() {
    let dir = tempfile::tempdir().unwrap();
    let (storm, file) = (xprof_tests::storm(dir.path()), dir.path().join("perf.data"));
    let mut record = Command::new(xprof_tests::xprof());
    record.args(["record", "-q", "-e", "page-faults", "-c", "1", "-g", "-o"]).arg(&file).arg("--").arg(storm);
    xprof_tests::stdout(record.args(["deep", "20000", "9"]));
    let mut report = Command::new(xprof_tests::xprof());
    report.args(["report", "-q", "--no-children", "-s", "dso", "--format", "csv", "-i"]).arg(&file);
    let rows = xprof_tests::stdout(&mut report);
    assert!(rows.contains("\nstorm,") && !rows.contains("[unknown]"), "{rows}");
}

/// Frame by frame beside perf's own unwinding of the same stack copies, of a large Rust program (this one). The only cause of
/// a difference: where perf gives up, at the end of a copy mostly, it shows a frame that is nowhere.
#[test]
fn every_frame_beside_perf() {
    let dir = tempfile::tempdir().unwrap();
    let (storm, input, file) =
        (xprof_tests::storm(dir.path()), dir.path().join("storm.data"), dir.path().join("perf.data"));
    let mut record = Command::new(xprof());
    record.args(["record", "-q", "-e", "page-faults", "-c", "1", "--call-graph", "fp", "-o"]).arg(&input).arg("--");
    stdout(record.arg(storm).args(["deep", "50000", "9"]));
    let mut record = Command::new("perf");
    record.args(["record", "-q", "-e", "cpu-clock:u", "-F", "4999", "-m", "16M", "--call-graph", "dwarf,8192", "-o"]);
    stdout(record.arg(&file).arg("--").arg(xprof()).args(["report", "--stdio", "-i"]).arg(&input));
    let frames = |program: &Path| {
        let mut script = Command::new(program);
        let text = stdout(script.args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"]).arg(&file));
        let stack = |sample: &str| {
            let frames = sample.lines().map(str::trim).filter(|frame| !frame.is_empty());
            frames.filter(|frame| !frame.ends_with("([truncated])")).map(str::to_owned).collect::<Vec<_>>()
        };
        text.split("\n\n").map(stack).collect::<Vec<_>>()
    };
    let (ours, perfs) = (frames(xprof()), frames(Path::new("perf")));
    assert_eq!(ours.len(), perfs.len());
    let (mut compared, mut nowhere) = (0, 0);
    for (ours, perfs) in ours.iter().zip(&perfs) {
        for (place, perfs) in perfs.iter().enumerate() {
            compared += 1;
            if perfs.ends_with("[unknown] ([unknown])") {
                nowhere += 1;
                break;
            }
            // perf has no names for the PLT of some linkers' layouts.
            let ours_of =
                |perfs: &str| ours.get(place).filter(|our| our.contains("@plt ") && perfs.contains(" [unknown] "));
            if let Some(our) = ours_of(perfs) {
                assert_eq!(our.split(' ').next(), perfs.split(' ').next(), "{ours:#?}");
                continue;
            }
            assert_eq!(ours.get(place), Some(perfs), "{ours:#?}");
        }
    }
    assert!(compared > 1000 && nowhere < compared / 5, "{nowhere} of {compared}");
}
