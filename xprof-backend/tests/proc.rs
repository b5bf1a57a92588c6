//! What we say of running processes, the kernel and the machine, against what perf's own recording says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use xprof_backend::event;
use xprof_backend::machine::Machine;
use xprof_backend::proc::{self, Synthesis};
use xprof_perfdata::abi::{self, feature, misc, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{MmapFile, Record};

/// Records a perf.data file with perf.
fn perf_record(file: &Path, args: &[&str]) {
    let output =
        Command::new("perf").args(["record", "-q", "-N", "-o"]).arg(file).args(args).output().expect("perf runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(command: &str, file: &Path, args: &[&str]) -> String {
    let output = Command::new("perf").arg(command).arg("-i").arg(file).args(args).output().expect("perf runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Events with one event, whose records end in a sample id of tid, time, cpu and id.
fn events() -> Events {
    let mut events = Events::new(ByteOrder::NATIVE);
    let attr = Attr {
        sample_type: sample::IDENTIFIER | sample::TID | sample::TIME | sample::CPU,
        flags: abi::attr_flag::SAMPLE_ID_ALL,
        ..Attr::default()
    };
    events.push(attr, "dummy".into(), vec![1]);
    events
}

fn decode(mut bytes: &[u8], events: &Events) -> Vec<(Record, u16)> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let kind = u32::from_ne_bytes(bytes[0..4].try_into().unwrap());
        let misc = u16::from_ne_bytes(bytes[4..6].try_into().unwrap());
        let size = usize::from(u16::from_ne_bytes(bytes[6..8].try_into().unwrap()));
        let raw = RawRecord { kind, misc, body: &bytes[8..size], time: 0, event: 0, offset: 0 };
        let (record, id) = Record::decode(&raw, events).expect("our own record");
        assert_eq!((id.pid, id.tid, id.time, id.cpu), (0, 0, 0, 0));
        list.push((record, misc));
        bytes = &bytes[size..];
    }
    list
}

/// As `perf script --show-mmap-events --show-task-events` prints it behind `PERF_RECORD_`.
fn as_perf_prints(record: &Record) -> Option<String> {
    Some(match record {
        Record::Comm(c) => {
            format!("COMM: {}:{}/{}", String::from_utf8_lossy(&c.comm), c.task.pid, c.task.tid)
        }
        Record::Fork(t) => format!("FORK({}:{}):({}:{})", t.pid, t.tid, t.ppid, t.ptid),
        Record::Mmap(m) if m.v2 => {
            let MmapFile::Inode { major, minor, inode, generation } = m.file else { return None };
            let bit = |bit: u32, c: char| if m.prot & bit != 0 { c } else { '-' };
            format!(
                "MMAP2 {}/{}: [{:#x}({:#x}) @ {} {major:02x}:{minor:02x} {inode} {generation}]: {}{}{}{} {}",
                m.pid,
                m.tid,
                m.start,
                m.len,
                if m.pgoff == 0 { "0".into() } else { format!("{:#x}", m.pgoff) },
                bit(1, 'r'),
                bit(2, 'w'),
                bit(4, 'x'),
                if m.flags & 1 != 0 { 's' } else { 'p' },
                String::from_utf8_lossy(&m.path),
            )
        }
        Record::Mmap(m) => format!(
            "MMAP {}/{}: [{:#x}({:#x}) @ {:#x}]: x {}",
            m.pid as i32,
            m.tid,
            m.start,
            m.len,
            m.pgoff,
            String::from_utf8_lossy(&m.path)
        ),
        _ => return None,
    })
}

fn printed(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|l| l.split_once("PERF_RECORD_").map(|p| p.1.to_owned()))
}

/// A process that stays as it is while it is looked at.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        let script = "import threading,time\n\
                      for i in range(3): threading.Thread(target=time.sleep,args=(600,),daemon=True).start()\n\
                      print(flush=True)\ntime.sleep(600)";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs");
        use std::io::Read;
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("its threads run");
        Sleeper(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_is_described_as_perf_does() {
    let sleeper = Sleeper::new();
    let pid = sleeper.0.id();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    let (machine, events) = (Machine::here(), events());
    for data in [false, true] {
        let pid_text = pid.to_string();
        let mut args = vec!["-e", "cpu-clock", "-p", &pid_text];
        if data {
            args.push("-d");
        }
        args.extend(["--", "sleep", "0.1"]);
        perf_record(&file, &args);
        let script = run("script", &file, &["--show-mmap-events", "--show-task-events"]);
        let theirs: BTreeSet<String> =
            printed(&script).filter(|l| !l.starts_with("FORK") && l.contains(&format!("{pid}/"))).collect();
        let mut bytes = Vec::new();
        Synthesis::new(&machine, &events.list()[0].format, data).process(pid, &mut bytes);
        let records = decode(&bytes, &events);
        let ours: BTreeSet<String> =
            records.iter().filter_map(|(r, _)| as_perf_prints(r)).filter(|l| !l.starts_with("FORK")).collect();
        assert_eq!(ours, theirs);
        let forks = records.iter().filter(|(r, m)| matches!(r, Record::Fork(_)) && *m == misc::FORK_EXEC).count();
        assert_eq!(forks, 4, "one for each thread");
        for (record, mark) in &records {
            if let Record::Mmap(m) = record {
                assert_eq!(*mark, misc::USER | if m.prot & 4 == 0 { misc::MMAP_DATA } else { 0 });
            }
        }
    }
}

/// Every process that neither came nor went meanwhile, kernel threads included.
#[test]
fn everything_is_what_perf_finds_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    let (machine, events) = (Machine::here(), events());
    let ours = || {
        let mut bytes = Vec::new();
        Synthesis::new(&machine, &events.list()[0].format, false).everything(&mut bytes).unwrap();
        decode(&bytes, &events).iter().filter_map(|(r, _)| as_perf_prints(r)).collect::<BTreeSet<String>>()
    };
    let before = ours();
    perf_record(&file, &["-e", "cpu-clock", "-a", "--", "true"]);
    let after = ours();
    let script = run("script", &file, &["--show-mmap-events", "--show-task-events"]);
    let theirs: BTreeSet<String> = printed(&script).collect();
    let stable: Vec<&String> = before.intersection(&after).collect();
    // Workers of the kernel rename themselves; perf gives up on a process whose maps are closed to it.
    let closed = |line: &str| {
        let ids = line.split(&['(', ':', '/', ')', ' '][..]).filter_map(|w| w.parse::<u32>().ok());
        ids.into_iter().any(|pid| fs::read(format!("/proc/{pid}/maps")).is_err())
    };
    let missing: Vec<_> =
        stable.iter().filter(|l| !theirs.contains(**l) && !l.contains("kworker") && !closed(l)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(stable.len() > 100);
}

#[test]
fn the_kernel_is_where_perf_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    perf_record(&file, &["-e", "cpu-clock", "-a", "--", "true"]);
    let machine = Machine::here();
    let script = run("script", &file, &["--show-mmap-events"]);
    let theirs: Vec<String> = printed(&script).filter(|l| l.starts_with("MMAP -1/0")).collect();
    let mut ours = vec![as_perf_prints(&proc::kernel(&machine).expect("a kernel").record()).unwrap()];
    ours.extend(proc::modules(&machine).iter().map(|m| as_perf_prints(&m.record()).unwrap()));
    assert_eq!(ours, theirs);
    let list = run("buildid-list", &file, &[]);
    let ids = proc::build_ids(&machine, &proc::modules(&machine));
    let hex: String = ids[0].build_id.iter().map(|b| format!("{b:02x}")).collect();
    assert!(list.lines().any(|l| l == format!("{hex} [kernel.kallsyms]")), "{hex}\n{list}");
}

/// The bytes of a feature section of a perf.data file.
fn section(file: &Path, number: u32) -> Option<Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let table = (word(40) + word(48)) as usize;
    let bits = word(72);
    (bits >> number & 1 == 1).then(|| {
        let before = (bits & ((1 << number) - 1)).count_ones() as usize;
        let (offset, size) = (word(table + 16 * before) as usize, word(table + 16 * before + 8) as usize);
        bytes[offset..offset + size].to_vec()
    })
}

fn string(section: &[u8]) -> String {
    let end = section[4..].iter().position(|&c| c == 0).map_or(section.len(), |n| n + 4);
    String::from_utf8_lossy(&section[4..end]).into_owned()
}

#[test]
fn facts_are_those_of_perf() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    perf_record(&file, &["-e", "cpu-clock", "--", "true"]);
    let facts = proc::facts(&Machine::here());
    let theirs = |number| section(&file, number).expect("perf wrote it");
    assert_eq!(facts.hostname.as_deref(), Some(&*string(&theirs(feature::HOSTNAME))));
    assert_eq!(facts.os_release.as_deref(), Some(&*string(&theirs(feature::OSRELEASE))));
    assert_eq!(facts.arch.as_deref(), Some(&*string(&theirs(feature::ARCH))));
    assert_eq!(facts.cpu_desc.as_deref(), Some(&*string(&theirs(feature::CPUDESC))));
    assert_eq!(facts.cpuid.as_deref(), Some(&*string(&theirs(feature::CPUID))));
    let (online, available) = facts.nr_cpus.unwrap();
    // perf writes the available ones first.
    assert_eq!([available.to_ne_bytes(), online.to_ne_bytes()].concat(), theirs(feature::NRCPUS));
    assert_eq!(facts.total_mem.unwrap().to_ne_bytes().to_vec(), theirs(feature::TOTAL_MEM));
    let header = run("report", &file, &["--header-only"]);
    let mappings = header.lines().find_map(|l| l.strip_prefix("# pmu mappings: ")).expect("mappings");
    let theirs_pmus: BTreeSet<String> = mappings.split(", ").map(str::to_owned).collect();
    let ours_pmus: BTreeSet<String> = facts.pmu_mappings.iter().map(|(k, n)| format!("{n} = {k}")).collect();
    assert_eq!(ours_pmus, theirs_pmus);
    let ours = |number| facts.other.iter().find(|o| o.0 == number).map(|o| o.1.clone()).expect("written");
    for number in [feature::CPU_TOPOLOGY, feature::CACHE, feature::MEM_TOPOLOGY] {
        assert_eq!(ours(number), theirs(number), "section {number}");
    }
    // Free memory moves: it stands in bytes 16 to 24 of a section with one node.
    let (mut a, mut b) = (ours(feature::NUMA_TOPOLOGY), theirs(feature::NUMA_TOPOLOGY));
    a[16..24].fill(0);
    b[16..24].fill(0);
    assert_eq!(a, b);
}

#[test]
fn tracing_data_is_that_of_perf() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("perf.data");
    let text = "sched:sched_switch,raw_syscalls:sys_enter,sched:sched_process_exec";
    perf_record(&file, &["-e", text, "--", "true"]);
    let specs: Vec<_> = event::parse(text).unwrap().into_iter().flat_map(|g| g.events).collect();
    let ours = proc::tracing_data(&Machine::here(), &specs).unwrap().expect("there are tracepoints");
    let theirs = section(&file, feature::TRACING_DATA).expect("perf wrote it");
    // perf keeps the order of the directory, ours is sorted.
    assert_eq!(ours.len(), theirs.len());
    let (ours, theirs) = (Tracing::parse(&ours), Tracing::parse(&theirs));
    assert_eq!(ours.formats.len(), 3);
    assert_eq!(ours, theirs);
    let none = event::parse("cpu-clock").unwrap();
    assert_eq!(proc::tracing_data(&Machine::here(), &none[0].events).unwrap(), None);
}

/// Tracing data taken apart, as `trace-event-read.c` does.
#[derive(Debug, PartialEq)]
struct Tracing {
    /// Magic to `header_event`, text.
    head: String,
    /// (system, format), sorted.
    formats: BTreeSet<(String, String)>,
    /// kallsyms, printk formats, saved command lines.
    tail: String,
}

impl Tracing {
    fn parse(blob: &[u8]) -> Tracing {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut at = blob.windows(12).position(|w| w == b"header_page\0").unwrap() + 12;
        let long = |at: usize| u64::from_ne_bytes(blob[at..at + 8].try_into().unwrap()) as usize;
        let word = |at: usize| u32::from_ne_bytes(blob[at..at + 4].try_into().unwrap());
        at += 8 + long(at) + "header_event\0".len();
        at += 8 + long(at);
        let head = text(&blob[..at]);
        assert_eq!(word(at), 0, "formats of ftrace");
        let mut formats = BTreeSet::new();
        at += 8;
        for _ in 0..word(at - 4) {
            let end = at + blob[at..].iter().position(|&c| c == 0).unwrap();
            let system = text(&blob[at..end]);
            at = end + 5;
            for _ in 0..word(end + 1) {
                let size = long(at);
                formats.insert((system.clone(), text(&blob[at + 8..at + 8 + size])));
                at += 8 + size;
            }
        }
        Tracing { head, formats, tail: text(&blob[at..]) }
    }
}

/// Processes that come and go while /proc is read, and a thread that ends between two reads.
#[test]
fn processes_that_die_are_left_out() {
    let (stop, stopped) = mpsc::channel::<()>();
    let busy = thread::spawn(move || {
        while stopped.try_recv().is_err() {
            let _ = Command::new("true").status();
        }
    });
    let (machine, events) = (Machine::here(), events());
    let mut synthesis = Synthesis::new(&machine, &events.list()[0].format, true);
    for _ in 0..20 {
        let mut bytes = Vec::new();
        synthesis.everything(&mut bytes).unwrap();
        decode(&bytes, &events);
    }
    let mut bytes = Vec::new();
    synthesis.process(u32::MAX, &mut bytes);
    assert!(bytes.is_empty());
    stop.send(()).unwrap();
    busy.join().unwrap();
}
