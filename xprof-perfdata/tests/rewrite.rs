//! What the reader understood and the writer wrote again is the same recording to perf.

mod witness;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use witness::{FAULTS, Recordings, ok, open};
use xprof_perfdata::write::{Output, Writer};

/// Reads a recording and writes it again.
fn copy(path: &Path, to: &str, stream: bool) -> PathBuf {
    let copy = path.with_extension(to);
    let file = File::create(&copy).unwrap();
    let mut recording = open(path);
    let description = recording.description().clone();
    let output = if stream { Output::Pipe(file) } else { Output::File(file) };
    let mut writer = Writer::<File>::begin(output, &description.events, &description.features).unwrap();
    let mut reuse = None;
    while let Some(batch) = recording.next_batch(reuse.take()).unwrap() {
        let bytes: Vec<u8> = batch.slots.iter().flat_map(|slot| batch.whole(slot).unwrap()).copied().collect();
        writer.records(&bytes).unwrap();
        writer.refresh().unwrap();
        reuse = Some(batch);
    }
    writer.finish(&recording.description().features).unwrap();
    copy
}

fn perf(args: &[&str], path: &Path) -> String {
    String::from_utf8_lossy(&ok(Command::new("perf").args(args).arg("-i").arg(path)).stdout).into_owned()
}

const SCRIPT: [&str; 8] = [
    "script",
    "--no-inline",
    "-F+pid",
    "--show-mmap-events",
    "--show-task-events",
    "--show-lost-events",
    "--show-switch-events",
    "--ns",
];

/// The header as perf prints it, without what tells the two files apart.
fn header(path: &Path) -> Vec<String> {
    let text = perf(&["report", "--header-only", "-I"], path);
    let differs = ["# captured on", "# data offset", "# data size", "# feat offset"];
    text.lines().filter(|line| !differs.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
}

#[test]
fn perf_reads_copies_like_the_originals() {
    let recordings = Recordings::new();
    for (name, options) in [
        ("stacks", "-g -e page-faults -c 1"),
        ("packed", "-z -g -e page-faults -c 1"),
        ("several", "-e page-faults,context-switches,cpu-clock:u -c 1000"),
        ("group", "-e {page-faults,minor-faults}:S -c 1"),
        ("tracepoint", "-e raw_syscalls:sys_enter,sched:sched_switch -c 1"),
        ("system", "-a -e cpu-clock -F 2000"),
    ] {
        let original = recordings.record(name, options, FAULTS);
        let text = perf(&SCRIPT, &original);
        assert!(text.lines().count() > 100, "{name}: {text}");
        let file = copy(&original, "file", false);
        assert!(perf(&SCRIPT, &file) == text, "{name}: the copy prints another text");
        assert_eq!(header(&file), header(&original), "{name}");
        let stream = copy(&original, "stream", true);
        assert!(perf(&SCRIPT, &stream) == text, "{name}: the stream prints another text");
        let again = copy(&stream, "again", false);
        assert!(perf(&SCRIPT, &again) == text, "{name}: the file made of the stream prints another text");
    }
}
