//! Recordings made by perf, taken apart with as little as a test needs: the file header, attrs, ids and records.

use std::path::PathBuf;
use std::process::Command;

use xprof_perfdata::abi::{misc, record as number};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;

/// Ways to record: a name, and the arguments of `perf record`.
pub(crate) const RECORDINGS: &[(&str, &[&str])] = &[
    ("chains", &["-e", "page-faults", "-c", "1", "-d", "-g", "--", "ls", "/"]),
    (
        "two-events",
        &[
            "-e",
            "page-faults",
            "-c",
            "1",
            "-e",
            "cpu-clock",
            "-d",
            "--data-page-size",
            "--code-page-size",
            "--phys-data",
            "-T",
            "-P",
            "--",
            "ls",
            "/",
        ],
    ),
    ("group", &["-e", "{cpu-clock,page-faults}:S", "-F", "20000", "--", "ls", "-R", "/etc"]),
    ("tracepoint", &["-e", "raw_syscalls:sys_enter", "-c", "1", "--", "ls", "/"]),
    (
        "side-band",
        &[
            "-e",
            "page-faults",
            "-c",
            "1",
            "--all-cgroups",
            "--switch-events",
            "--namespaces",
            "--",
            "sh",
            "-c",
            "ls / > /dev/null; sleep 0.01",
        ],
    ),
    (
        "registers",
        &[
            "-e",
            "page-faults",
            "-c",
            "1",
            "-W",
            "--call-graph",
            "dwarf,1024",
            "--user-regs=ip,sp",
            "--intr-regs=ip,sp",
            "--",
            "ls",
            "/",
        ],
    ),
    ("every-cpu", &["-a", "-e", "cpu-clock,page-faults", "-F", "2000", "--", "sleep", "0.05"]),
];

/// A directory for one test's files.
pub(crate) fn directory(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Records with perf, which must be installed and allowed to. The build-id bit of MMAP2 is cleared: these recordings ask
/// for none, but the kernel leaves it set when somebody else records build ids at the same time, and perf believes it.
pub(crate) fn record(path: &std::path::Path, arguments: &[&str]) -> Recording {
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "--no-buildid", "--no-bpf-event", "-o"]).arg(path).args(arguments);
    let output = perf.output().expect("perf is installed");
    assert!(output.status.success(), "{perf:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut recording = Recording::new(std::fs::read(path).unwrap());
    let mappings: Vec<_> =
        recording.records().iter().filter(|raw| raw.kind == number::MMAP2).map(|raw| raw.offset as usize).collect();
    for at in mappings {
        recording.bytes[at + 5] &= !((misc::MMAP_BUILD_ID >> 8) as u8);
    }
    std::fs::write(path, &recording.bytes).unwrap();
    recording
}

/// What perf prints.
pub(crate) fn perf_script(path: &std::path::Path, arguments: &[&str]) -> String {
    let mut perf = Command::new("perf");
    perf.arg("script").args(arguments).arg("-i").arg(path).env("DEBUGINFOD_URLS", "");
    let output = perf.output().expect("perf is installed");
    assert!(output.status.success(), "{perf:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A little-endian recording in file mode.
pub(crate) struct Recording {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Events,
}

impl Recording {
    pub(crate) fn new(bytes: Vec<u8>) -> Recording {
        assert_eq!(&bytes[..8], b"PERFILE2");
        let mut recording = Recording { bytes, events: Events::new(ByteOrder::Little) };
        let (at, len) = recording.section(24);
        let step = recording.u64(16) as usize;
        for entry in (at..at + len).step_by(step) {
            let attr = Attr::decode(&recording.bytes[entry..entry + step - 16], ByteOrder::Little).unwrap();
            let (ids, len) = recording.section(entry + step - 16);
            let ids = (ids..ids + len).step_by(8).map(|at| recording.u64(at)).collect();
            recording.events.push(attr, String::new(), ids);
        }
        recording
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.bytes[at..].first_chunk().unwrap())
    }

    /// The section whose offset and size stand at `at`.
    pub(crate) fn section(&self, at: usize) -> (usize, usize) {
        (self.u64(at) as usize, self.u64(at + 8) as usize)
    }

    /// The records, in the order of the file.
    pub(crate) fn records(&self) -> Vec<RawRecord<'_>> {
        let (mut at, len) = self.section(40);
        let end = at + len;
        let mut list = Vec::new();
        while at < end {
            let head = &self.bytes[at..at + 8];
            let kind = u32::from_le_bytes(*head.first_chunk().unwrap());
            let size = usize::from(u16::from_le_bytes([head[6], head[7]]));
            let body = &self.bytes[at + 8..at + size];
            let event = self.events.event_of(kind, body).unwrap_or(u32::MAX);
            let time = self.events.time_of(kind, body).unwrap_or(0);
            let misc = u16::from_le_bytes([head[4], head[5]]);
            list.push(RawRecord { kind, misc, body, time, event, offset: at as u64 });
            at += size;
        }
        list
    }
}
