//! perf as a witness: makes recordings and says what is in them.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of it")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use xprof_perfdata::abi::record as r;
use xprof_perfdata::read::{Input, Recording};
use xprof_perfdata::source::Source;

/// A file as a source.
pub struct FileSource(pub File);

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

/// A directory of recordings.
pub struct Recordings(tempfile::TempDir);

impl Recordings {
    pub fn new() -> Self {
        Recordings(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `perf record OPTIONS -o NAME -- sh -c SCRIPT`.
    pub fn record(&self, name: &str, options: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-N", "-o"]).arg(&path).args(options.split_whitespace());
        ok(perf.args(["--", "sh", "-c", script]).env("HOME", self.0.path()));
        path
    }

    /// Runs `perf record OPTIONS -o - -- sh -c SCRIPT`, its output going to a file.
    pub fn record_stream(&self, name: &str, options: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        let mut perf = Command::new("perf");
        perf.args(["record", "-q", "-N", "-o", "-"]).args(options.split_whitespace());
        perf.args(["--", "sh", "-c", script]).env("HOME", self.0.path()).stdout(File::create(&path).unwrap());
        assert!(perf.stderr(Stdio::null()).status().unwrap().success(), "{perf:?}");
        path
    }
}

/// Runs a command that must succeed.
pub fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A program with many faults on several CPUs.
pub const FAULTS: &str = "for i in 1 2 3; do ls -R /etc >/dev/null & done; ls -R /usr/share/doc; wait";

/// One record: time in ns, offset, size, `PERF_RECORD_` name.
pub type Line = (u64, u64, u64, String);

/// What `perf script -D` says is in a recording, in its order.
pub fn perf_dump(path: &Path) -> Vec<Line> {
    let output = Command::new("perf").args(["script", "-D", "-i"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(dump_line).collect()
}

fn dump_line(line: &str) -> Option<Line> {
    let (front, back) = line.split_once("]: PERF_RECORD_")?;
    let mut words = front.split_whitespace();
    let size = hex(words.next_back()?.strip_prefix('[')?)?;
    let offset = hex(words.next_back()?)?;
    let time = words.next_back().map_or(0, |time| time.parse().unwrap_or(0));
    let name = back
        .find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
        .map_or(back, |end| &back[..end]);
    Some((time, offset, size, name.into()))
}

fn hex(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Opens a recording: a file, or a directory.
pub fn open(path: &Path) -> Recording {
    let source = |path: PathBuf| -> Box<dyn Source> { Box::new(FileSource(File::open(path).unwrap())) };
    let input = if path.is_dir() {
        let parts = (0..).map(|n| path.join(format!("data.{n}"))).take_while(|part| part.exists());
        Input::Directory { header: source(path.join("data")), parts: parts.map(source).collect() }
    } else {
        Input::File(source(path.into()))
    };
    Recording::open(input).unwrap()
}

/// What we say is in a recording, in our order.
pub fn our_dump(recording: &mut Recording) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut reuse = None;
    while let Some(batch) = recording.next_batch(reuse.take()).unwrap() {
        for record in batch.iter() {
            lines.push((record.time, record.offset, record.body.len() as u64 + 8, name(record.kind)));
        }
        assert_eq!(batch.iter().count(), batch.slots.len());
        reuse = Some(batch);
    }
    lines
}

fn name(kind: u32) -> String {
    let name = match kind {
        r::MMAP => "MMAP",
        r::LOST => "LOST",
        r::COMM => "COMM",
        r::EXIT => "EXIT",
        r::THROTTLE => "THROTTLE",
        r::UNTHROTTLE => "UNTHROTTLE",
        r::FORK => "FORK",
        r::READ => "READ",
        r::SAMPLE => "SAMPLE",
        r::MMAP2 => "MMAP2",
        r::AUX => "AUX",
        r::ITRACE_START => "ITRACE_START",
        r::LOST_SAMPLES => "LOST_SAMPLES",
        r::SWITCH => "SWITCH",
        r::SWITCH_CPU_WIDE => "SWITCH_CPU_WIDE",
        r::NAMESPACES => "NAMESPACES",
        r::KSYMBOL => "KSYMBOL",
        r::BPF_EVENT => "BPF_EVENT",
        r::CGROUP => "CGROUP",
        r::TEXT_POKE => "TEXT_POKE",
        r::FINISHED_ROUND => "FINISHED_ROUND",
        r::ID_INDEX => "ID_INDEX",
        r::THREAD_MAP => "THREAD_MAP",
        r::CPU_MAP => "CPU_MAP",
        r::TIME_CONV => "TIME_CONV",
        r::EVENT_UPDATE => "EVENT_UPDATE",
        r::FINISHED_INIT => "FINISHED_INIT",
        other => return other.to_string(),
    };
    name.into()
}
