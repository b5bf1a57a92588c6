//! Processes that were running before the recording began, as the records that the kernel would have written.
//!
//! Of perf's shape: FORK, COMM and MMAP2 with time 0. A process that dies while it is read is left out; one whose
//! maps take too long keeps those read so far, its last record marked as perf marks it.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use xprof_perfdata::abi::misc;
use xprof_perfdata::record::{Comm, Mmap, MmapFile, Record, Task, TaskId};
use xprof_perfdata::sample::{SampleFormat, SampleId};

use super::maps;
use crate::machine::Machine;
use crate::sys::file;

/// `TASK_COMM_LEN - 1` of the kernel.
const COMM_MAX: usize = 15;
/// The longest that reading one process's maps may take; perf's default for `--proc-map-timeout`.
const MAPS_TIME: Duration = Duration::from_millis(500);
/// The longest line of maps that is kept whole: a path has at most 4,096 bytes, four times that when escaped.
const LINE_MAX: usize = 4 * 4096 + 256;
const CHUNK: usize = 64 << 10;
/// `PF_KTHREAD` of `include/linux/sched.h`, in the flags of `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Writes the records of running processes: their threads, names and maps.
#[derive(Debug)]
pub struct Synthesis<'a> {
    machine: &'a Machine,
    format: &'a SampleFormat,
    data: bool,
    chunk: Vec<u8>,
    /// Processes whose maps took too long: they are not complete.
    pub cut: Vec<u32>,
}

/// What `/proc/PID/stat` says.
struct Stat {
    comm: Vec<u8>,
    ppid: u32,
    is_kernel: bool,
}

impl<'a> Synthesis<'a> {
    /// Records of this machine; `format` is that of the event whose sample id ends them (the dummy event's). With
    /// `data` the maps are all there are, not the executable ones alone.
    pub fn new(machine: &'a Machine, format: &'a SampleFormat, data: bool) -> Self {
        Synthesis { machine, format, data, chunk: Vec::new(), cut: Vec::new() }
    }

    /// Appends the records of every process.
    pub fn everything(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut pids: Vec<u32> = numbers(&self.machine.proc)?;
        pids.sort_unstable();
        for pid in pids {
            self.process(pid, out);
        }
        Ok(())
    }

    /// Appends the records of one process with all its threads; nothing when it is gone.
    pub fn process(&mut self, pid: u32, out: &mut Vec<u8>) {
        let dir = self.machine.proc.join(pid.to_string());
        let Some(stat) = read_stat(&dir) else { return };
        let threads = if stat.is_kernel { vec![pid] } else { numbers(&dir.join("task")).unwrap_or_default() };
        self.fork(pid, stat.ppid, pid, stat.ppid, out);
        self.named(pid, pid, stat.comm, out);
        for tid in threads.into_iter().filter(|&t| t != pid) {
            let task = dir.join("task").join(tid.to_string());
            let Ok(comm) = file::read_small(&task.join("comm"), 256) else { continue };
            self.fork(pid, pid, tid, pid, out);
            self.named(pid, tid, comm, out);
        }
        if !stat.is_kernel {
            self.maps(pid, &dir, out);
        }
    }

    fn fork(&self, pid: u32, ppid: u32, tid: u32, ptid: u32, out: &mut Vec<u8>) {
        self.push(&Record::Fork(Task { pid, ppid, tid, ptid, time: 0 }), misc::FORK_EXEC, out);
    }

    fn named(&self, pid: u32, tid: u32, mut comm: Vec<u8>, out: &mut Vec<u8>) {
        let task = TaskId { pid, tid };
        if comm.last() == Some(&b'\n') {
            comm.pop();
        }
        comm.truncate(COMM_MAX);
        self.push(&Record::Comm(Comm { task, comm }), 0, out);
    }

    fn maps(&mut self, pid: u32, dir: &Path, out: &mut Vec<u8>) {
        let Ok(mut file) = fs::File::open(dir.join("maps")) else { return };
        let started = Instant::now();
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(CHUNK + LINE_MAX, 0);
        let mut kept = 0;
        loop {
            let read = match file.read(&mut chunk[kept..]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let filled = kept + read;
            let late = started.elapsed() > MAPS_TIME;
            let mut lines = chunk[..filled].split(|&c| c == b'\n').peekable();
            let mut rest = &b""[..];
            while let Some(line) = lines.next() {
                if lines.peek().is_none() {
                    rest = line;
                } else {
                    self.mapping(pid, line, if late { misc::PROC_MAP_PARSE_TIMEOUT } else { 0 }, out);
                }
                if late {
                    break;
                }
            }
            if late {
                self.cut.push(pid);
                break;
            }
            // A line longer than any path is not one of the kernel's: it is dropped.
            let rest = if rest.len() > LINE_MAX { filled..filled } else { filled - rest.len()..filled };
            kept = rest.len();
            chunk.copy_within(rest, 0);
        }
        self.chunk = chunk;
    }

    fn mapping(&self, pid: u32, line: &[u8], mark: u16, out: &mut Vec<u8>) {
        let Some(map) = maps::parse_line(line) else { return };
        let mut mark = mark | misc::USER;
        if !map.is_executable() {
            if !self.data || !map.is_readable() {
                return;
            }
            mark |= misc::MMAP_DATA;
        }
        let (major, minor) = map.device;
        let record = Record::Mmap(Mmap {
            v2: true,
            pid,
            tid: pid,
            start: map.start,
            len: map.end - map.start,
            pgoff: map.offset,
            file: MmapFile::Inode { major, minor, inode: map.inode, generation: 0 },
            prot: map.prot,
            flags: map.flags,
            path: if map.path.is_empty() { b"//anon".to_vec() } else { maps::unescaped(map.path) },
        });
        self.push(&record, mark, out);
    }

    /// A record that does not fit (a path of 64 KiB) is left out.
    fn push(&self, record: &Record, mark: u16, out: &mut Vec<u8>) {
        if let Ok(bytes) = record.encode(&SampleId::default(), mark, self.format) {
            out.extend_from_slice(&bytes);
        }
    }
}

/// The entries of a directory that are numbers.
fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    Ok(fs::read_dir(dir)?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// `pid (comm) state ppid pgrp session tty tpgid flags ..`; the comm may hold anything, parentheses too.
fn read_stat(dir: &Path) -> Option<Stat> {
    let text = file::read_small(&dir.join("stat"), 4096).ok()?;
    let open = text.iter().position(|&c| c == b'(')?;
    let close = text.iter().rposition(|&c| c == b')')?;
    let mut comm = text.get(open + 1..close)?.to_vec();
    if comm.contains(&b'\\') {
        // Escaped here, but not there.
        comm = file::read_small(&dir.join("comm"), 256).ok()?;
    }
    let mut fields = text[close + 1..].split(|&c| c == b' ').filter(|f| !f.is_empty());
    let ppid = u32::try_from(maps::decimal(fields.nth(1)?)?).ok()?;
    let flags = maps::decimal(fields.nth(4)?)?;
    Some(Stat { comm, ppid, is_kernel: flags & PF_KTHREAD != 0 })
}
