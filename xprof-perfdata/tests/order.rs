//! The order of records equals perf's, record by record: time, offset, size and type.

mod witness;

use std::path::Path;

use witness::{FAULTS, Line, Recordings, open, our_dump, perf_dump};
use xprof_perfdata::read::Note;

/// Records that describe the recording are perf's to print and ours to consume.
fn described((_, _, _, name): &Line) -> bool {
    [
        "HEADER_ATTR",
        "FEATURE",
        "HEADER_TRACING_DATA",
        "HEADER_BUILD_ID",
        "EVENT_UPDATE",
        "ATTR",
        "COMPRESSED",
        "BUILD_ID",
        "TRACING_DATA",
        "HEADER_FEATURE",
    ]
    .contains(&name.as_str())
}

/// perf counts a stream from behind its header.
const STREAM_HEADER: u64 = 16;

fn same(path: &Path, before: u64) -> Vec<Note> {
    let mut theirs = perf_dump(path);
    theirs.iter_mut().for_each(|(_, offset, ..)| *offset += before);
    theirs.retain(|line| !described(line));
    let mut recording = open(path);
    let mut ours = our_dump(&mut recording);
    if path.is_dir() {
        // Two CPUs stamp records with one time now and then, and no order between files holds for those.
        for lines in [&mut theirs, &mut ours] {
            lines.chunk_by_mut(|a, b| a.0 == b.0).for_each(|tied| tied.sort());
        }
    }
    for (index, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(our, their, "record {index} of {path:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{path:?}");
    assert!(ours.len() > 50, "{path:?} holds {} records", ours.len());
    recording.notes().to_vec()
}

#[test]
fn of_files() {
    let recordings = Recordings::new();
    for (name, options) in [
        ("plain", "-e page-faults -c 1"),
        ("stacks", "-g -e page-faults -c 1"),
        ("packed", "-z -g -e page-faults -c 1"),
        ("several", "-e page-faults,context-switches,cpu-clock -c 1000"),
        ("group", "-e {page-faults,minor-faults}:S -c 1"),
        ("tracepoint", "-e raw_syscalls:sys_enter -c 1"),
        ("system", "-a -e cpu-clock -F 20000"),
        ("no-build-ids", "-B -N -e page-faults -c 1"),
        ("switches", "--switch-events --namespaces -e page-faults -c 1"),
    ] {
        assert_eq!(same(&recordings.record(name, options, FAULTS), 0), [], "{name}");
    }
}

#[test]
fn of_streams() {
    let recordings = Recordings::new();
    for (name, options) in [
        ("plain", "-e page-faults -c 1"),
        ("packed", "-z -g -e page-faults -c 1"),
        ("tracepoints", "-e raw_syscalls:sys_enter,page-faults -c 1"),
    ] {
        assert_eq!(same(&recordings.record_stream(name, options, FAULTS), STREAM_HEADER), [], "{name}");
    }
}

#[test]
fn of_directories() {
    let recordings = Recordings::new();
    for (name, options) in
        [("threads", "--threads -e page-faults -c 1"), ("packed-threads", "--threads -z -e page-faults -c 1")]
    {
        assert_eq!(same(&recordings.record(name, options, FAULTS), 0), [], "{name}");
    }
}
