//! `--to perf`: the recording with every domain as ordinary processes, for tools that know nothing of guests.
//!
//! A process of a guest becomes one of the host, with a number that no process has. The code of its kernel becomes a mapping
//! of that process: as code of the kernel it would get the names of the host's.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::abi::{context, misc, record};
use xprof_perfdata::domain::Guests;
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_perfdata::sample::{SampleFormat, SampleId};

use super::Job;
use crate::record::is_of_guest;
use crate::{input, rewrite};

/// The numbers of processes begin behind those that Linux gives (`PID_MAX_LIMIT`, 4,194,304).
const FIRST: u32 = 5_000_000;
/// Where the kernel's half of an address space begins.
const KERNEL_START: u64 = 1 << 63;

/// Writes the recording.
pub(crate) fn run(job: &mut Job) -> anyhow::Result<()> {
    let Some(path) = job.options.output.as_deref().filter(|path| *path != Path::new("-")) else {
        bail!("--to perf writes a file: give one with -o FILE");
    };
    let recording = input::open(&job.options.input)?;
    let out = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut processes = Processes::default();
    rewrite::rewrite(
        recording,
        out,
        |features| features.domains = None,
        |passing, events, out| {
            let raw = &passing.raw;
            if raw.kind != record::ID_INDEX && !is_of_guest(raw.misc) {
                out.extend_from_slice(passing.whole);
                return Ok(());
            }
            let Ok((mut decoded, mut id)) = Record::decode(raw, events) else { return Ok(()) };
            let format = events.list().get(raw.event as usize).or(events.list().first()).map(|event| &event.format);
            let Some(format) = format else { return Ok(()) };
            if let Record::IdIndex(index) = &decoded {
                processes.guests.learn(index);
                return Ok(());
            }
            let machine = processes.guests.of(id.id).map_or(id.pid, |guest| guest.machine_pid);
            if let Record::Sample(sample) = &mut decoded {
                processes.kernel(machine, &sample.id, format, out)?;
                sample.callchain.iter_mut().filter(|entry| **entry == context::KERNEL).for_each(|e| *e = context::USER);
            }
            processes.renumber(machine, &mut decoded, &mut id);
            let flags = raw.misc & !misc::CPUMODE_MASK | misc::USER;
            out.extend(decoded.encode(&id, flags, format)?);
            Ok(())
        },
    )
}

/// The processes of guests under their new numbers.
#[derive(Debug, Default)]
struct Processes {
    guests: Guests,
    numbers: FxHashMap<(u32, u32), u32>,
    /// Those whose kernel has been mapped.
    mapped: FxHashSet<u32>,
}

impl Processes {
    fn number(&mut self, machine: u32, pid: u32) -> u32 {
        let next = FIRST.saturating_add(self.numbers.len() as u32);
        *self.numbers.entry((machine, pid)).or_insert(next)
    }

    fn renumber(&mut self, machine: u32, decoded: &mut Record, id: &mut SampleId) {
        let mut change = |pid: &mut u32, tid: &mut u32| {
            (*pid, *tid) = (self.number(machine, *pid), self.number(machine, *tid));
        };
        match decoded {
            Record::Sample(sample) => change(&mut sample.id.pid, &mut sample.id.tid),
            Record::Mmap(mmap) => change(&mut mmap.pid, &mut mmap.tid),
            Record::Comm(comm) => change(&mut comm.task.pid, &mut comm.task.tid),
            Record::Fork(task) | Record::Exit(task) => {
                change(&mut task.pid, &mut task.tid);
                change(&mut task.ppid, &mut task.ptid);
            }
            _ => {}
        }
        change(&mut id.pid, &mut id.tid);
    }

    /// Maps the kernel of a guest into a process, once.
    fn kernel(&mut self, machine: u32, of: &SampleId, format: &SampleFormat, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let pid = self.number(machine, of.pid);
        if !self.mapped.insert(pid) {
            return Ok(());
        }
        let mmap = Record::Mmap(Mmap {
            v2: true,
            pid,
            tid: pid,
            start: KERNEL_START,
            len: u64::MAX - KERNEL_START,
            pgoff: KERNEL_START,
            prot: 5,
            file: MmapFile::Inode { major: 0, minor: 0, inode: 0, generation: 0 },
            path: format!("[guest.kernel.kallsyms.{machine}]").into_bytes(),
            ..Mmap::default()
        });
        let id = SampleId { pid, tid: pid, time: 0, ..*of };
        out.extend(mmap.encode(&id, misc::USER, format)?);
        Ok(())
    }
}
