//! perf as witness: what is decoded here is what `perf script -D` prints of the same record, found by its offset.

mod support;

use std::collections::HashMap;
use std::fmt::Write;

use support::{RECORDINGS, Recording, directory, perf_script, record};
use xprof_perfdata::abi::{misc, sample};
use xprof_perfdata::events::Event;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{CpuMap, MmapFile, Record, Update};
use xprof_perfdata::sample::{Regs, Sample};

/// A number as C's `%#x`, which prints 0 without prefix.
fn hex(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn page(size: u64) -> String {
    match size {
        0 => "N/A".into(),
        4096 => "4K".into(),
        0x20_0000 => "2M".into(),
        0x4000_0000 => "1G".into(),
        size => panic!("a page of {size} bytes"),
    }
}

/// The lines that perf prints of a record, the first from its name on; `None` for records that it prints nothing of.
fn dump(record: &Record, raw: &RawRecord<'_>, event: Option<&Event>) -> Option<String> {
    let mut out = String::new();
    match record {
        Record::Sample(s) => dump_sample(s, raw, event.expect("the event of a sample is known"), &mut out),
        Record::Mmap(m) => {
            let range = format!("[{}({}) @ {}", hex(m.start), hex(m.len), hex(m.pgoff));
            let _ = match &m.file {
                MmapFile::Inode { major, minor, inode, generation } => {
                    let flag = |bit, letter| if m.prot & bit != 0 { letter } else { '-' };
                    let prot = [flag(1, 'r'), flag(2, 'w'), flag(4, 'x')].iter().collect::<String>();
                    let kind = if m.flags & 1 != 0 { 's' } else { 'p' };
                    let file = format!("{major:02x}:{minor:02x} {inode} {generation}");
                    write!(out, "MMAP2 {}/{}: {range} {file}]: {prot}{kind} {}", m.pid, m.tid, text(&m.path))
                }
                _ => {
                    let kind = if raw.misc & misc::MMAP_DATA != 0 { 'r' } else { 'x' };
                    write!(out, "MMAP {}/{}: {range}]: {kind} {}", m.pid as i32, m.tid, text(&m.path))
                }
            };
        }
        Record::Comm(c) => {
            let exec = if raw.misc & misc::COMM_EXEC != 0 { " exec" } else { "" };
            let _ = write!(out, "COMM{exec}: {}:{}/{}", text(&c.comm), c.task.pid as i32, c.task.tid as i32);
        }
        Record::Fork(t) => {
            let _ = write!(out, "FORK({}:{}):({}:{})", t.pid as i32, t.tid as i32, t.ppid as i32, t.ptid as i32);
        }
        Record::Exit(t) => {
            let _ = write!(out, "EXIT({}:{}):({}:{})", t.pid as i32, t.tid as i32, t.ppid as i32, t.ptid as i32);
        }
        Record::Switch => {
            let preempt = raw.misc & misc::SWITCH_OUT_PREEMPT != 0;
            let out_of = raw.misc & misc::SWITCH_OUT != 0;
            out += match (out_of, preempt) {
                (false, _) => "SWITCH IN",
                (true, false) => "SWITCH OUT",
                (true, true) => "SWITCH OUT preempt",
            };
        }
        Record::SwitchCpuWide(t) => {
            let out_of = raw.misc & misc::SWITCH_OUT != 0;
            let preempt = if raw.misc & misc::SWITCH_OUT_PREEMPT != 0 { " preempt" } else { "" };
            let (way, who) = if out_of { ("OUT", "next") } else { ("IN", "prev") };
            let _ = write!(out, "SWITCH_CPU_WIDE {way}{preempt} {who} pid/tid: {}/{}", t.pid, t.tid);
        }
        Record::Cgroup(c) => {
            let _ = write!(out, "CGROUP cgroup: {} {}", c.id, text(&c.path));
        }
        Record::Namespaces(n) => {
            let _ = write!(out, "NAMESPACES {}/{} - nr_namespaces: {}", n.task.pid, n.task.tid, n.links.len());
            let names = ["net", "uts", "ipc", "pid", "user", "mnt", "cgroup"];
            out += "\n[";
            for (i, (name, (device, inode))) in names.iter().zip(&n.links).enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let gap = if i == 4 {
                    "\n"
                } else if i == 0 {
                    ""
                } else {
                    " "
                };
                let _ = write!(out, "{comma}{gap}{i}/{name}: {device}/{}", hex(*inode));
            }
            out += "]";
        }
        Record::IdIndex(index) => {
            let _ = write!(out, "ID_INDEX nr: {}", index.entries.len());
            for e in &index.entries {
                let (cpu, tid) = (e.cpu as i64, e.tid as i64);
                let _ = write!(out, "\n... id: {} idx: {} cpu: {cpu} tid: {tid}", e.id, e.idx);
            }
        }
        Record::ThreadMap(threads) => {
            let _ = write!(out, "THREAD_MAP nr: {}", threads.len());
            for (pid, _) in threads {
                let _ = write!(out, " thread: {}", *pid as i64 as i32);
            }
        }
        Record::CpuMap(CpuMap::Range { first, last, .. }) => {
            let _ = write!(out, "CPU_MAP: {first}-{last}");
        }
        Record::EventUpdate(update) => {
            let Update::Cpus(CpuMap::Range { first, last, .. }) = &update.update else { return None };
            let _ = write!(out, "EVENT_UPDATE\n... id: {}\n... cpus: {first}-{last}", update.id);
        }
        _ => return None,
    }
    Some(out)
}

fn dump_sample(s: &Sample, raw: &RawRecord<'_>, event: &Event, out: &mut String) {
    let has = |bit| event.format.sample_type & bit != 0;
    let period = if has(sample::PERIOD) { s.period } else { event.attr.sample_period };
    let (pid, tid) = (s.id.pid as i32, s.id.tid as i32);
    let (ip, addr) = (hex(s.ip), hex(s.addr));
    let _ = write!(out, "SAMPLE(IP, {:#x}): {pid}/{tid}: {ip} period: {period} addr: {addr}", raw.misc);
    if has(sample::CALLCHAIN) {
        let _ = write!(out, "\n... FP chain: nr:{}", s.callchain.len());
        for (i, ip) in s.callchain.iter().enumerate() {
            let _ = write!(out, "\n..... {i}: {ip:016x}");
        }
    }
    let regs = |name: &str, regs: &Regs, out: &mut String| {
        if regs.abi != 0 {
            let _ = write!(out, "\n... {name} regs: mask 0x180 ABI 64-bit");
            let _ = write!(out, "\n.... SP {:#018x}\n.... IP {:#018x}", regs.values[0], regs.values[1]);
        }
    };
    regs("user", &s.regs_user, out);
    regs("intr", &s.regs_intr, out);
    if has(sample::STACK_USER) {
        let _ = write!(out, "\n... ustack: size {}, offset ", s.stack_user.dyn_size);
    }
    if has(sample::WEIGHT | sample::WEIGHT_STRUCT) {
        // perf prints the first part alone.
        let _ = write!(out, "\n... weight: {}", s.weight & 0xffff_ffff);
    }
    if has(sample::DATA_SRC) {
        let _ = write!(out, "\n. data_src: {:#x}", s.data_src);
    }
    if has(sample::PHYS_ADDR) {
        let _ = write!(out, "\n.. phys_addr: {:#x}", s.phys_addr);
    }
    if has(sample::DATA_PAGE_SIZE) {
        let _ = write!(out, "\n.. data page size: {}", page(s.data_page_size));
    }
    if has(sample::CODE_PAGE_SIZE) {
        let _ = write!(out, "\n.. code page size: {}", page(s.code_page_size));
    }
    if has(sample::READ) {
        let _ = write!(out, "\n... sample_read:\n.... group nr {}", s.read.counters.len());
        for c in &s.read.counters {
            let _ = write!(out, "\n..... id {:016x}, value {:016x}, lost {}", c.id, c.value, c.lost);
        }
    }
}

/// One record as perf printed it.
struct Printed {
    /// What stands before the offset: CPU and time, as far as the recording has them.
    stamp: Vec<String>,
    size: u64,
    /// From the name on, blanks made single.
    lines: String,
}

fn read_dump(text: &str) -> HashMap<u64, Printed> {
    let mut all = HashMap::new();
    let mut last: Option<(u64, Printed)> = None;
    for line in text.lines() {
        if let Some((head, tail)) = line.split_once("]: PERF_RECORD_") {
            let mut words: Vec<_> = head.split_whitespace().map(String::from).collect();
            let number = |word: String| u64::from_str_radix(word.trim_matches(['[', ']']).trim_start_matches("0x"), 16);
            let size = number(words.pop().unwrap()).unwrap();
            let offset = number(words.pop().unwrap()).unwrap();
            all.extend(last.replace((offset, Printed { stamp: words, size, lines: single(tail) })));
        } else if line.starts_with("0x") || line.is_empty() {
            all.extend(last.take());
        } else if let Some((_, printed)) = &mut last {
            printed.lines += "\n";
            printed.lines += &single(line);
        }
    }
    all.extend(last);
    all
}

fn single(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Compares every record; returns how many of which kind.
fn compare(name: &str, recording: &Recording, printed: &HashMap<u64, Printed>) -> HashMap<u32, usize> {
    let mut kinds = HashMap::new();
    for raw in recording.records() {
        let (record, id) = Record::decode(&raw, &recording.events).unwrap();
        let event = recording.events.list().get(raw.event as usize);
        let witness = printed.get(&raw.offset);
        let witness = witness.unwrap_or_else(|| panic!("{name}: perf does not show the record at {:#x}", raw.offset));
        assert_eq!(witness.size, raw.body.len() as u64 + 8);
        if raw.kind < 64 {
            let format = &event.expect("the event of a kernel record is known").format;
            let mut stamp = Vec::new();
            if format.sample_type & sample::CPU != 0 {
                stamp.push(id.cpu.to_string());
            }
            stamp.push(id.time.to_string());
            assert_eq!(witness.stamp, stamp, "{name} {record:?}");
            assert_eq!(raw.time, id.time);
            let format = &event.unwrap().format;
            let again = record.encode(&id, raw.misc, format).unwrap();
            assert_eq!(again[8..], *raw.body, "{name}: a record of the kernel's, encoded again");
        }
        if let Some(expected) = dump(&record, &raw, event) {
            for line in expected.lines() {
                assert!(
                    witness.lines.lines().any(|own| own.starts_with(line)),
                    "{name}, {:#x}: no line {line:?} in\n{}",
                    raw.offset,
                    witness.lines
                );
            }
            assert!(witness.lines.starts_with(expected.lines().next().unwrap()));
            *kinds.entry(raw.kind).or_default() += 1;
        }
    }
    kinds
}

#[test]
fn decoded_fields_are_those_that_perf_prints() {
    let directory = directory("perf_dump");
    let mut seen = std::collections::HashSet::new();
    for (name, arguments) in RECORDINGS {
        let path = directory.join(format!("{name}.data"));
        let recording = record(&path, arguments);
        let printed = read_dump(&perf_script(&path, &["-D"]));
        let kinds = compare(name, &recording, &printed);
        assert!(kinds[&9] >= 10, "{name}: {kinds:?}");
        seen.extend(kinds.into_keys());
    }
    for kind in [1, 3, 4, 7, 9, 10, 14, 16, 19, 69, 73, 74] {
        assert!(seen.contains(&kind), "no recording had a record of type {kind}");
    }
}

#[test]
fn raw_bytes_are_the_tracepoint_that_perf_prints() {
    let directory = directory("perf_dump_raw");
    let path = directory.join("raw.data");
    let recording = record(&path, RECORDINGS.iter().find(|(name, _)| *name == "tracepoint").unwrap().1);
    let mut ours: Vec<_> = recording.records();
    ours.retain(|raw| raw.kind == 9);
    ours.sort_by_key(|raw| raw.time);
    let ours: Vec<_> = ours
        .iter()
        .map(|raw| {
            let (Record::Sample(sample), _) = Record::decode(raw, &recording.events).unwrap() else { unreachable!() };
            let at = |at: usize| u64::from_le_bytes(*sample.raw[at..].first_chunk().unwrap());
            let arguments: Vec<_> = (0..6).map(|i| format!("{:x}", at(16 + 8 * i))).collect();
            format!("NR {} ({})", at(8), arguments.join(", "))
        })
        .collect();
    let printed = perf_script(&path, &["-F", "trace"]);
    assert_eq!(printed.lines().map(str::trim).collect::<Vec<_>>(), ours);
}
