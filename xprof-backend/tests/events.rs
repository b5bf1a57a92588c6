//! Our attrs against those that `perf record -vv` prints, field by field, for every event that opens on this machine;
//! and against fixtures for machines that are not here.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use xprof_backend::event::{self, EventSpec};
use xprof_perfdata::abi::attr_flag as flag;

const EVENTS: &[&str] = &[
    "cpu-clock",
    "cpu-clock:u",
    "cpu-clock:k",
    "cpu-clock:uk",
    "cpu-clock:ku",
    "cpu-clock:ukh",
    "cpu-clock:h",
    "cpu-clock:G",
    "cpu-clock:H",
    "cpu-clock:GH",
    "cpu-clock:uG",
    "cpu-clock:Gu",
    "cpu-clock:I",
    "cpu-clock:uI",
    "cpu-clock:D",
    "cpu-clock:e",
    "cpu-clock:ukG",
    "cpu-clock:p",
    "page-faults:pp",
    "page-faults:upp",
    "page-faults:ppG",
    "cpu-clock:S",
    "cs",
    "faults:u",
    "task-clock",
    "minor-faults",
    "major-faults",
    "migrations",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "cgroup-switches",
    "mem:0x1000",
    "mem:4096",
    "mem:0x1000:u",
    "mem:0x1000:r",
    "mem:0x1000:rw",
    "mem:0x1000/1",
    "mem:0x1000/2:w",
    "mem:0x1000/4:w",
    "mem:0x1000/8:w:u",
    "mem:0x1000:x",
    "mem:0x1000:x:k",
    "msr/tsc/",
    "msr/tsc/u",
    "msr/event=0x12/",
    "msr/config=3,config1=4,config2=5/",
    "msr/event,name=foo/k",
    "cycles",
    "cpu-cycles:u",
    "instructions:k",
    "branches",
    "branch-misses",
    "bus-cycles",
    "ref-cycles",
    "cache-references",
    "cache-misses",
    "idle-cycles-frontend",
    "stalled-cycles-backend",
    "r1a8",
    "r1A8:u",
    "rffffffffffffffff",
    "L1-dcache",
    "L1-dcache-loads",
    "L1-dcache-load-misses",
    "L1-dcache-misses",
    "L1-dcache-prefetch-misses",
    "L1-icache-load-misses",
    "l1d-loads:k",
    "LLC-loads",
    "LLC-store-misses",
    "dTLB-store-misses",
    "iTLB-loads",
    "branch-loads",
    "branch-load-misses",
    "node-stores",
    "sched:sched_switch",
    "sched:sched_switch:u",
    "sched:sched_process_e*",
    "raw_syscalls:sys_enter:k",
    "sched:sched_switch,cpu-clock",
    "{cpu-clock,page-faults}",
    "{cpu-clock,page-faults}:u",
    "{cpu-clock:k,page-faults}:u",
    "{cpu-clock,page-faults}:D",
    "{cpu-clock:u,page-faults:k}:H",
    "{sched:sched_switch,page-faults}:u",
    "1:0",
    "1:2:u",
    "0x1:0x2",
    "1:9/name=x/",
    "software/config=2/",
    "software/config=2/u",
    "cpu-clock/name=foo/",
    "cpu-clock/period=100000/u",
    "cpu-clock/config=3/",
    "cpu-clock//u",
    "page-faults/period=3/",
];

/// The attr blocks of `perf stat -vv` or `perf record -vv`, one map of printed fields each; equal neighbours are retries.
fn perf_attrs(command: &[&str], event: &str) -> Vec<BTreeMap<String, u64>> {
    let output =
        Command::new("perf").args(command).args(["-vv", "-e", event, "--", "true"]).output().expect("perf runs");
    let mut blocks: Vec<BTreeMap<String, u64>> = Vec::new();
    let mut inside = false;
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if line.starts_with("perf_event_attr:") {
            blocks.push(BTreeMap::new());
            inside = true;
        } else if !line.starts_with(' ') {
            inside = false;
            if blocks.len() > 1 && blocks[blocks.len() - 1] == blocks[blocks.len() - 2] {
                blocks.pop();
            }
        } else if inside {
            let (key, value) = line.trim().rsplit_once(' ').expect("a field and its value");
            let value = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => value.parse(),
            };
            if let Ok(value) = value {
                blocks.last_mut().expect("a block is open").insert(key.trim().to_owned(), value);
            }
        }
    }
    blocks
}

/// What perf would print of our attr.
fn our_fields(spec: &EventSpec, sampling: bool) -> BTreeMap<&'static str, u64> {
    let attr = &spec.attr;
    let bit = |f: u64| u64::from(attr.has(f));
    let mut fields = BTreeMap::from([
        ("type", u64::from(attr.kind)),
        ("config", attr.config),
        ("exclude_user", bit(flag::EXCLUDE_USER)),
        ("exclude_kernel", bit(flag::EXCLUDE_KERNEL)),
        ("exclude_hv", bit(flag::EXCLUDE_HV)),
        ("exclude_idle", bit(flag::EXCLUDE_IDLE)),
        ("exclude_host", bit(flag::EXCLUDE_HOST)),
        ("exclude_guest", bit(flag::EXCLUDE_GUEST)),
        ("pinned", bit(flag::PINNED)),
        ("exclusive", bit(flag::EXCLUSIVE)),
        ("precise_ip", (attr.flags & flag::PRECISE_IP) >> flag::PRECISE_SHIFT),
        ("bp_type", u64::from(attr.bp_type)),
        ("{ bp_addr, config1 }", attr.config1),
        ("{ bp_len, config2 }", attr.config2),
    ]);
    if sampling && attr.sample_period != 0 {
        fields.insert("{ sample_period, sample_freq }", attr.sample_period);
        fields.insert("freq", bit(flag::FREQ));
    }
    fields
}

fn compare(command: &[&str], text: &str, sampling: bool) {
    let ours: Vec<EventSpec> =
        event::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).into_iter().flat_map(|g| g.events).collect();
    let theirs = perf_attrs(command, text);
    assert!(theirs.len() >= ours.len(), "{text}: perf opened {} of {} events", theirs.len(), ours.len());
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        for (field, value) in our_fields(ours, sampling) {
            assert_eq!(value, theirs.get(field).copied().unwrap_or(0), "{text}, event {i}, {field}\n{theirs:#?}");
        }
    }
}

#[test]
fn attrs_equal_those_of_perf() {
    for text in EVENTS {
        compare(&["stat"], text, false);
    }
}

#[test]
fn periods_equal_those_of_perf() {
    for text in
        ["sched:sched_switch", "mem:0x1000:x", "cpu-clock/period=100000/u", "cpu-clock/freq=100/,page-faults/period=3/"]
    {
        compare(&["record", "-N", "-o", "/dev/null"], text, true);
    }
}

/// perf's own name list is the witness that no spelling is missing.
#[test]
fn every_name_that_perf_lists_is_known() {
    let output = Command::new("perf").args(["list", "--raw-dump"]).output().expect("perf runs");
    let list = String::from_utf8_lossy(&output.stdout);
    // The lines after the first are metrics, as are words without these characters; sdt_ events stand in perf's cache
    // of build ids, and the _time ones are perf's own.
    let events = list.lines().next().expect("a line of events").split_whitespace();
    let others = |n: &&str| n.contains([':', '-', '/']) && !n.starts_with("sdt_") && !n.ends_with("_time");
    let names: Vec<&str> = events.filter(others).collect();
    assert!(names.len() > 100, "{names:?}");
    for name in names {
        if let Err(error) = event::parse(name) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn names_are_those_that_perf_writes() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("perf.data");
    for text in [
        "cpu-clock:u",
        "cs",
        "cpu-clock/period=100000/u",
        "cpu-clock/name=foo/",
        "cpu-clock//u",
        "{cpu-clock,page-faults}:u",
        "{cpu-clock:k,page-faults}:u",
        "sched:sched_process_e*:u",
        "1:0:u",
        "software/config=2/u",
        "mem:0x1000:u",
        "cpu-clock , cs",
    ] {
        let ours: Vec<String> =
            event::parse(text).expect(text).into_iter().flat_map(|g| g.events).map(|e| e.name).collect();
        assert_eq!(ours, perf_names(&file, text), "{text}");
    }
}

fn perf_names(file: &Path, event: &str) -> Vec<String> {
    // perf itself fails now and then when several run at once on a busy machine: three tries, then its words.
    for last in [false, false, true] {
        let record = Command::new("perf").args(["record", "-N", "-o"]).arg(file).args(["-e", event, "true"]).output();
        let record = record.expect("perf runs");
        let said = String::from_utf8_lossy(&record.stderr);
        assert!(record.status.success() || !last, "{event}: {}\n{said}", record.status);
        if record.status.success() {
            break;
        }
        eprintln!("{event}: perf failed, {}\n{said}", record.status);
    }
    let list = Command::new("perf").args(["evlist", "-i"]).arg(file).output().expect("perf runs");
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    text.lines().filter(|l| !l.starts_with('#')).map(|l| l.trim().to_owned()).collect()
}
