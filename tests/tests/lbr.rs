//! The calls that CPUs keep (`--call-graph lbr`): a synthetic recording, for this was seen on no hardware, with perf as the
//! witness of what it means; and what is said where a CPU keeps none.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_perfdata::abi::{attr_flag, branch, context, misc, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::Features;
use xprof_perfdata::record::{Comm, Mmap, MmapFile, Record, TaskId};
use xprof_perfdata::sample::{Branch, BranchStack, Sample, SampleId};
use xprof_perfdata::write::{Output, Writer};
use xprof_tests::{run, stdout, xprof};

const PID: u32 = 4_100_000;
/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;

/// A program at fixed addresses, and where its functions are.
fn program(dir: &Path) -> (PathBuf, HashMap<String, u64>) {
    let (source, program) = (dir.join("calls.c"), dir.join("calls"));
    let functions = ["leaf", "inner", "outer"].map(|name| {
        format!("__attribute__((noinline)) int {name}(int n) {{ volatile int a[9]; a[n & 7] = n; return a[3] + n; }}\n")
    });
    std::fs::write(&source, functions.concat() + "int main(int n) { return leaf(n) + inner(n) + outer(n); }\n")
        .unwrap();
    stdout(Command::new("gcc").args(["-O1", "-no-pie", "-fno-pie", "-o"]).arg(&program).arg(&source));
    let symbols = stdout(Command::new("nm").arg(&program));
    let symbol = |line: &str| {
        let mut words = line.split(' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((words.nth(1)?.to_owned(), address))
    };
    (program, symbols.lines().filter_map(symbol).collect())
}

/// Four samples: two in user space and one in the kernel with calls, and one that has none.
fn recording(dir: &Path) -> PathBuf {
    let (program, at) = program(dir);
    let ids = sample::IP | sample::TID | sample::TIME;
    let mut events = Events::new(ByteOrder::Little);
    let attr = Attr {
        kind: 0,
        size: 128,
        sample_period: 1,
        sample_type: ids | sample::CALLCHAIN | sample::BRANCH_STACK,
        branch_sample_type: branch::USER | branch::CALL_STACK | branch::NO_CYCLES | branch::NO_FLAGS | branch::HW_INDEX,
        flags: attr_flag::SAMPLE_ID_ALL | attr_flag::MMAP | attr_flag::COMM,
        ..Attr::default()
    };
    events.push(attr, "cycles".into(), vec![7]);
    let format = events.list()[0].format.clone();
    let id = SampleId { fields: ids, pid: PID, tid: PID, time: 1, ..SampleId::default() };
    let comm = Record::Comm(Comm { task: TaskId { pid: PID, tid: PID }, comm: b"calls".to_vec() });
    let text = at["leaf"] & !0xfff;
    let map = Record::Mmap(Mmap {
        v2: true,
        pid: PID,
        tid: PID,
        start: text,
        len: 0x1000,
        pgoff: text - 0x40_0000,
        file: MmapFile::Inode { major: 0, minor: 0, inode: 0, generation: 0 },
        prot: 5,
        flags: 2,
        path: program.to_str().unwrap().into(),
    });
    let mut bytes = comm.encode(&id, misc::USER, &format).unwrap();
    bytes.extend(map.encode(&id, misc::USER, &format).unwrap());
    let call = |from: u64, to: u64| Branch { from, to, ..Branch::default() };
    // leaf <- inner <- outer <- main, newest first.
    let calls = vec![
        call(at["inner"] + 9, at["leaf"]),
        call(at["outer"] + 5, at["inner"]),
        // The first instruction of a function is a call: one byte less is another function.
        call(at["main"], at["outer"]),
    ];
    let leaf = at["leaf"] + 4;
    let user = [context::USER, leaf, at["main"] + 7];
    let kernel = [context::KERNEL, 0xffff_ffff_8000_0010, context::USER, leaf, at["main"] + 7];
    for (time, chain, entries) in [
        (2, &user[..], calls.clone()),
        (3, &kernel[..], calls.clone()),
        (4, &user[..], Vec::new()),
        // The function called last jumped to another one.
        (5, &user[..], vec![call(at["outer"] + 5, at["inner"]), call(at["main"], at["outer"])]),
    ] {
        let in_kernel = chain.len() == 5;
        let mut sample = Sample {
            id: SampleId { time, ..id },
            ip: if in_kernel { kernel[1] } else { leaf },
            callchain: chain.to_vec(),
            branch_stack: BranchStack { hw_index: 0, entries, counters: Vec::new() },
            ..Sample::default()
        };
        let at = bytes.len();
        bytes.extend(SAMPLE.to_le_bytes());
        bytes.extend((if in_kernel { misc::KERNEL } else { misc::USER }).to_le_bytes());
        bytes.extend([0, 0]);
        format.encode_sample(&mut sample, &mut bytes).unwrap();
        let size = (bytes.len() - at) as u16;
        bytes[at + 6..at + 8].copy_from_slice(&size.to_le_bytes());
    }
    let path = dir.join("perf.data");
    let features = Features { arch: Some("x86_64".into()), ..Features::default() };
    let file = Output::File(File::create(&path).unwrap());
    let mut writer = Writer::<File>::begin(file, &events, &features).unwrap();
    writer.records(&bytes).unwrap();
    writer.finish(&features).unwrap();
    path
}

/// The samples of a script, each as its frames without white space.
fn chains(text: &str) -> Vec<Vec<String>> {
    let frame = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let chains = text.split("\n\n").map(|sample| sample.lines().map(frame).filter(|f| !f.is_empty()).collect());
    chains.filter(|chain: &Vec<String>| !chain.is_empty()).collect()
}

#[test]
fn calls_that_a_cpu_kept_are_the_chain_that_perf_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let script = |program: &Path| {
        let mut command = Command::new(program);
        command.args(["script", "--no-inline", "-F", "ip,sym", "-i"]).arg(&path).env("HOME", dir.path());
        chains(&stdout(&mut command))
    };
    let (ours, perfs) = (script(xprof()), script(Path::new("perf")));
    assert_eq!(ours.len(), 4, "{ours:?}");
    // perf reads the first of no calls, which is whatever follows: the kernel's own chain is shown here.
    for shown in [0, 1, 3] {
        assert_eq!(ours[shown], perfs[shown], "sample {shown}");
    }
    let names =
        |chain: &[String]| chain.iter().map(|f| f.split(' ').next_back().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&ours[0]), ["leaf", "inner", "outer", "main"]);
    assert_eq!(names(&ours[1]), ["[unknown]", "leaf", "inner", "outer", "main"]);
    assert_eq!(names(&ours[2]), ["leaf", "main"]);
}

#[test]
fn stacks_of_calls_begin_where_the_sample_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let mut export = Command::new(xprof());
    export.args(["export", "--no-inline", "--to", "folded", "-i"]).arg(&path).env("HOME", dir.path());
    let wanted = [
        "calls;main;leaf 1",
        "calls;main;outer;inner;leaf 1",
        "calls;main;outer;inner;leaf;[unknown] 1",
        // Called was inner, which leaf has taken the place of.
        "calls;main;outer;leaf 1",
    ];
    assert_eq!(stdout(&mut export).lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_cpu_that_keeps_no_calls_is_refused_with_what_works() {
    let keeps = std::fs::read_dir("/sys/bus/event_source/devices").into_iter().flatten().flatten();
    if { keeps }.any(|pmu| pmu.path().join("caps/branches").exists()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut record = Command::new(xprof());
    let output =
        run(record.args(["record", "--call-graph", "lbr", "-o"]).arg(dir.path().join("out")).arg("--").arg("true"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--call-graph dwarf"), "{error}");
    assert!(!dir.path().join("out").exists());
}
