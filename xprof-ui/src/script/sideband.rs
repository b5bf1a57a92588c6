//! Lines of records that are not samples (`--show-mmap-events` and its like), as `tools/perf/util/event.c` of
//! Linux 6.1 prints them.

use xprof_perfdata::abi::misc;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_perfdata::sample::SampleId;
use xprof_profile::unwind::TRUNCATED_NAME;

use super::Script;
use super::text::Head;
use crate::Plain;

/// Untrusted bytes as text that acts on nothing.
fn plain(bytes: &[u8]) -> String {
    Plain(&String::from_utf8_lossy(bytes)).to_string()
}

/// `%#x` of C: no prefix before a zero.
fn alternate(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}

impl Script {
    /// Appends the line of a record, when it is one that is shown. The timeline has seen it.
    pub(super) fn sideband(&mut self, raw: &RawRecord<'_>, record: &Record, id: &SampleId, out: &mut Vec<u8>) {
        let shown = self.options.shown;
        let (task, text) = match record {
            // Declared while stacks were unwound here: the recording does not have it.
            Record::Mmap(mmap) if self.options.unwound && mmap.path == TRUNCATED_NAME => return,
            Record::Mmap(mmap) if shown.mmap => ((mmap.pid, mmap.tid), mapping(mmap, raw.misc)),
            Record::Comm(comm) if shown.task => {
                let exec = if raw.misc & misc::COMM_EXEC != 0 { " exec" } else { "" };
                let (pid, tid) = (comm.task.pid as i32, comm.task.tid as i32);
                ((comm.task.pid, comm.task.tid), format!("COMM{exec}: {}:{pid}/{tid}", plain(&comm.comm)))
            }
            Record::Fork(task) | Record::Exit(task) if shown.task => {
                let name = if matches!(record, Record::Fork(_)) { "FORK" } else { "EXIT" };
                let text = format!("{name}({}:{}):({}:{})", task.pid, task.tid, task.ppid, task.ptid);
                ((task.pid, task.tid), text)
            }
            Record::Lost(lost) if shown.lost => ((id.pid, id.tid), format!("LOST lost {}", lost.lost)),
            Record::LostSamples(lost) if shown.lost => ((id.pid, id.tid), format!("LOST_SAMPLES lost {lost}")),
            Record::Switch if shown.switch => ((id.pid, id.tid), format!("SWITCH {}", direction(raw.misc))),
            Record::SwitchCpuWide(other) if shown.switch => {
                let which = if raw.misc & misc::SWITCH_OUT != 0 { "next" } else { "prev" };
                let (pid, tid) = (other.pid as i32, other.tid as i32);
                let text = format!("SWITCH_CPU_WIDE {}  {which} pid/tid: {pid:5}/{tid:<5}", direction(raw.misc));
                ((id.pid, id.tid), text)
            }
            Record::Namespaces(namespaces) if shown.namespaces => {
                let task = namespaces.task;
                let mut text =
                    format!("NAMESPACES {}/{} - nr_namespaces: {}", task.pid, task.tid, namespaces.links.len());
                text.push_str("\n\t\t[");
                const NAMES: [&str; 7] = ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup"];
                for (i, (device, inode)) in namespaces.links.iter().enumerate() {
                    let name = NAMES.get(i).copied().unwrap_or("unknown");
                    let comma = if i == 0 { "" } else { ", " };
                    let line = if i > 0 && i % 4 == 0 { "\n\t\t " } else { "" };
                    text.push_str(&format!("{comma}{line}{i}/{name}: {device}/{}", alternate(*inode)));
                }
                text.push(']');
                ((task.pid, task.tid), text)
            }
            Record::Cgroup(cgroup) if shown.cgroup => {
                ((id.pid, id.tid), format!("CGROUP cgroup: {} {}", cgroup.id, plain(&cgroup.path)))
            }
            Record::Ksymbol(ksymbol) if shown.bpf => {
                let text = format!(
                    "KSYMBOL addr {:x} len {} type {} flags {:#x} name {}",
                    ksymbol.addr,
                    ksymbol.len,
                    ksymbol.ksym_type,
                    ksymbol.flags,
                    plain(&ksymbol.name)
                );
                ((id.pid, id.tid), text)
            }
            Record::BpfEvent(event) if shown.bpf => {
                let text = format!("BPF_EVENT type {}, flags {}, id {}", event.event, event.flags, event.prog_id);
                ((id.pid, id.tid), text)
            }
            _ => return,
        };
        let Some(view) = self.views.get(raw.event as usize) else { return };
        let (fields, chain) = (view.fields, view.chains && view.fields.has(super::Fields::IP));
        let (_, machine) = self.timeline.machine(raw.misc, id.id, id.pid);
        let thread = self.timeline.thread(machine, task.0, task.1);
        // Records without a sample id: perf takes their own pid and no time.
        let named = id.fields != 0;
        let head = Head {
            thread,
            pid: if named { id.pid } else { task.0 },
            tid: if named { id.tid } else { task.1 },
            cpu: if named { id.cpu } else { 0 },
            time: if named { id.time } else { 0 },
            misc: raw.misc,
            kind: raw.kind,
        };
        self.head(&head, fields, chain, out);
        out.extend_from_slice(b"PERF_RECORD_");
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

fn direction(record_misc: u16) -> &'static str {
    match (record_misc & misc::SWITCH_OUT != 0, record_misc & misc::SWITCH_OUT_PREEMPT != 0) {
        (false, _) => "IN         ",
        (true, false) => "OUT        ",
        (true, true) => "OUT preempt",
    }
}

fn mapping(mmap: &Mmap, record_misc: u16) -> String {
    let (pid, tid) = (mmap.pid as i32, mmap.tid as i32);
    let (start, len, pgoff) = (alternate(mmap.start), alternate(mmap.len), alternate(mmap.pgoff));
    let path = plain(&mmap.path);
    if !mmap.v2 {
        let kind = if record_misc & misc::MMAP_DATA != 0 { 'r' } else { 'x' };
        return format!("MMAP {pid}/{tid}: [{start}({len}) @ {pgoff}]: {kind} {path}");
    }
    let file = match &mmap.file {
        MmapFile::Unknown => String::new(),
        MmapFile::Inode { major, minor, inode, generation } => {
            format!("{major:02x}:{minor:02x} {inode} {generation}")
        }
        MmapFile::BuildId(id) => format!("<{}>", id.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    };
    let bit = |bit: u32, letter: char| if mmap.prot & bit != 0 { letter } else { '-' };
    // MAP_SHARED is 1.
    let shared = if mmap.flags & 1 != 0 { 's' } else { 'p' };
    let prot: String = [bit(1, 'r'), bit(2, 'w'), bit(4, 'x'), shared].iter().collect();
    format!("MMAP2 {pid}/{tid}: [{start}({len}) @ {pgoff} {file}]: {prot} {path}")
}
