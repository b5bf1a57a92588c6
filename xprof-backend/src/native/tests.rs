//! Sessions on the real kernel, against programs with known answers, and on stand-ins that refuse what older kernels do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use xprof_perfdata::abi::{attr_flag as flag, event_type, read_format, record, sample, software};
use xprof_perfdata::attr::Attr;

use super::{Kernel, Native};
use crate::event::{EventGroup, EventSpec};
use crate::plan::{Plan, Rate, Target};
use crate::sys::process::{Ended, prepare};
use crate::{Backend, Description, Error, Message, Session, Stats};

/// The bytes of each ring, and the totals.
struct Run {
    description: Description,
    rings: Vec<Vec<u8>>,
    stats: Stats,
    ended: Option<Ended>,
}

impl Run {
    /// Records of one kind, header included.
    fn records(&self, kind: u32) -> Vec<&[u8]> {
        let mut found = Vec::new();
        for ring in &self.rings {
            let mut rest = ring.as_slice();
            while !rest.is_empty() {
                let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
                if u32_at(rest, 0) == kind {
                    found.push(&rest[..size]);
                }
                rest = &rest[size..];
            }
        }
        found
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The program of tests/programs/faults.c, compiled once.
fn faults() -> &'static str {
    static PROGRAM: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults").to_str().unwrap().to_owned();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/faults.c");
        assert!(Command::new("cc").args(["-O1", "-pthread", "-o", &path, source]).status().unwrap().success());
        (dir, path)
    });
    path
}

/// Where the program's pages lie.
const BASE: u64 = 0x1000_0000_0000;

/// Samples of each of the program's pages. A sample is IP, TID, TIME, ADDR.
fn touched(run: &Run) -> BTreeMap<u64, u32> {
    let mut pages = BTreeMap::new();
    for sample in run.records(record::SAMPLE) {
        assert_eq!(sample.len(), 40);
        let address = u64_at(sample, 32);
        if (BASE..BASE + (1 << 30)).contains(&address) {
            *pages.entry((address - BASE) / 4096).or_default() += 1;
        }
    }
    pages
}

fn each_once(pages: u64) -> BTreeMap<u64, u32> {
    (0..pages).map(|page| (page, 1)).collect()
}

/// Page faults of user space with their addresses, each of them.
fn fault_plan() -> Plan {
    let mut event = page_faults();
    event.attr.sample_type = sample::ADDR;
    Plan { events: groups(vec![event]), rate: Rate::Period(1), ..Plan::default() }
}

fn spec(name: &str, config: u64, flags: u64) -> EventSpec {
    let attr = Attr { kind: event_type::SOFTWARE, config, flags, ..Attr::default() };
    EventSpec { name: name.into(), attr, cpus: None, precise_is_fixed: false, rate_is_fixed: false }
}

fn groups(events: Vec<EventSpec>) -> Vec<EventGroup> {
    events
        .into_iter()
        .map(|event| EventGroup { events: vec![event], leader_sampling: false, name: String::new() })
        .collect()
}

fn page_faults() -> EventSpec {
    spec("page-faults:u", software::PAGE_FAULTS, flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV)
}

/// Runs a session until `over`, and collects everything.
fn collect(mut session: Box<dyn Session>, mut over: impl FnMut(&mut dyn Session) -> bool) -> Run {
    let description = session.describe().clone();
    let mut rings = vec![Vec::new(); description.rings as usize];
    let mut take = |message| match message {
        Message::Drained(drained) => rings[drained.ring as usize].extend(drained.bytes),
        Message::TargetsGone => {}
        other => panic!("{other:?}"),
    };
    while !over(session.as_mut()) {
        while let Ok(message) = session.messages().recv_timeout(Duration::from_millis(5)) {
            take(message);
        }
    }
    let stats = session.stop().unwrap();
    session.messages().iter().for_each(take);
    Run { description, rings, stats, ended: None }
}

/// Runs `command` under the plan and collects everything.
fn run(native: &Native, plan: &Plan, command: &[&str]) -> Run {
    let words: Vec<OsString> = command.iter().map(Into::into).collect();
    let waiting = prepare(&words, false).unwrap();
    let plan = Plan { target: Target::Command(waiting.pid()), ..plan.clone() };
    let mut session = native.open(&plan).unwrap();
    session.start().unwrap();
    let mut child = waiting.go().unwrap();
    let mut run = collect(session, |_| child.try_wait().unwrap().is_some());
    run.ended = child.try_wait().unwrap();
    run
}

#[test]
fn every_fault_of_a_program_is_one_sample() {
    let run = run(&Native::new(), &fault_plan(), &[faults(), "touch", "5000"]);
    assert_eq!(touched(&run), each_once(5000));
    assert_eq!(run.stats.lost, Some(vec![0]));
}

#[test]
fn threads_and_children_are_followed() {
    let whole = run(&Native::new(), &fault_plan(), &[faults(), "family", "300"]);
    assert_eq!(touched(&whole), each_once(1500));
    let alone = run(&Native::new(), &Plan { inherit: false, ..fault_plan() }, &[faults(), "family", "300"]);
    assert_eq!(touched(&alone), each_once(300));
}

/// Threads that are made without a pause outrun whoever opens them; with one the newest is opened before it makes another.
#[test]
fn attaching_while_threads_are_made_misses_none_and_counts_none_twice() {
    attach_in_a_storm(2000, "0");
    attach_in_a_storm(1000, "200");
    attach_in_a_storm(500, "2000");
}

fn attach_in_a_storm(count: u64, pause: &str) {
    let words = ["storm", &count.to_string(), pause];
    let mut child = Command::new(faults()).args(words).stdin(Stdio::piped()).spawn().unwrap();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", child.id())).map_or(0, Iterator::count) as u64;
    while threads() < 20 {
        std::thread::yield_now();
    }
    let plan = Plan { target: Target::Processes(vec![child.id()]), ..fault_plan() };
    let mut session = Native::new().open(&plan).unwrap();
    let after = threads();
    session.start().unwrap();
    while threads() < count + 1 {
        std::thread::yield_now();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let run = collect(session, |_| child.try_wait().unwrap().is_some());
    let pages = touched(&run);
    let missing: Vec<u64> = (0..count * 3).filter(|page| !pages.contains_key(page)).collect();
    let twice: Vec<_> = pages.iter().filter(|(_, count)| **count != 1).collect();
    eprintln!(
        "{after} threads of {count} when the session was open, {} ids",
        run.description.events.list()[0].ids.len()
    );
    assert!(missing.is_empty(), "{} pages missing, from {:?} on", missing.len(), missing.first());
    assert!(twice.is_empty(), "{} pages more than once, from {:?} on", twice.len(), twice.first());
    assert!(child.wait().unwrap().success());
}

/// Every loss is told twice by the kernel: LOST records (which come once there is room again) and the count.
#[test]
fn lost_samples_are_counted() {
    let plan = Plan { mmap_pages: Some(1), ..fault_plan() };
    let words = [faults().into(), "touch".into(), "200000".into()];
    let waiting = prepare(&words, false).unwrap();
    let plan = Plan { target: Target::Command(waiting.pid()), ..plan };
    let mut session = Native::new().open(&plan).unwrap();
    // The workers are not started: the rings fill.
    let mut child = waiting.go().unwrap();
    child.wait().unwrap();
    session.start().unwrap();
    let run = collect(session, |_| true);
    let kept: u64 = touched(&run).values().map(|&count| u64::from(count)).sum();
    let others = run.records(record::SAMPLE).len() as u64 - kept;
    let lost = run.stats.lost.unwrap()[0];
    // What the program does besides touching its pages is in neither number for sure: it is a few hundred faults.
    assert!((200_000..200_500).contains(&(kept + others + lost)), "{kept} + {others} + {lost}");
    assert!(kept + others >= 4096 / 40 - 1, "{kept} + {others}");
}

#[test]
fn an_overwritten_ring_holds_the_newest_samples() {
    let plan = Plan { mmap_pages: Some(2), overwrite: true, ..fault_plan() };
    let waiting = prepare(&[faults().into(), "touch".into(), "3000".into()], false).unwrap();
    let plan = Plan { target: Target::Command(waiting.pid()), ..plan };
    let mut session = Native::new().open(&plan).unwrap();
    session.start().unwrap();
    let mut child = waiting.go().unwrap();
    child.wait().unwrap();
    session.snapshot().unwrap();
    let run = collect(session, |_| true);
    let pages = touched(&run);
    // The last page is there, and each ring's samples are in order of time and leave no gap within the ring's run.
    assert_eq!(pages.keys().next_back(), Some(&2999));
    assert!(pages.len() < 3000 && pages.values().all(|&count| count == 1));
    for ring in run.rings {
        let one = Run { rings: vec![ring], description: run.description.clone(), stats: Stats::default(), ended: None };
        let times: Vec<u64> = one.records(record::SAMPLE).iter().map(|r| u64_at(r, 24)).collect();
        assert!(times.is_sorted());
    }
}

#[test]
fn each_refusal_says_what_was_opened_where() {
    #[derive(Debug)]
    struct Refuses(i32);
    impl Kernel for Refuses {
        fn open(&self, attr: &Attr, p: i32, c: i32, g: Option<BorrowedFd<'_>>, f: u64) -> io::Result<OwnedFd> {
            match attr.config {
                software::PAGE_FAULTS => Err(io::Error::from_raw_os_error(self.0)),
                _ => crate::sys::perf::open(attr, p, c, g, f),
            }
        }
    }
    for errno in [libc::EMFILE, libc::EACCES, libc::ENOENT, libc::EPERM, libc::ENOSYS, libc::EBUSY, libc::EINVAL] {
        let native = Native::over(Arc::new(Refuses(errno)));
        let cpus = Some(vec![1]);
        match native.open(&Plan { target: Target::System, cpus, ..fault_plan() }) {
            Err(Error::Open { event, pid, cpu, opened, source }) => {
                assert_eq!((event.as_str(), pid, cpu, opened), ("page-faults:u", None, Some(1), 1));
                assert_eq!(source.raw_os_error(), Some(errno));
            }
            other => panic!("{:?}", other.map(|session| session.describe().clone())),
        }
    }
    // A thread that ends between two calls is a target that is gone.
    let own = std::process::id();
    match Native::over(Arc::new(Refuses(libc::ESRCH)))
        .open(&Plan { target: Target::Threads(vec![own]), ..fault_plan() })
    {
        Err(Error::NoTarget { what }) => assert_eq!(what, format!("thread {own}")),
        other => panic!("{:?}", other.map(|session| session.describe().clone())),
    }
}

#[test]
fn a_command_is_measured_from_its_exec_to_its_end() {
    let plan = Plan { events: groups(vec![page_faults()]), rate: Rate::Period(1), ..Plan::default() };
    let run = run(&Native::new(), &plan, &["sh", "-c", "/bin/true; exit 3"]);
    assert_eq!(run.ended, Some(Ended::Exit(3)));
    assert_eq!(run.stats.lost, Some(vec![0]));
    // exec of sh, fork of one child, its exec, two ends.
    let mut comms: Vec<&str> =
        run.records(record::COMM).iter().map(|r| std::str::from_utf8(&r[16..20]).unwrap()).collect();
    comms.sort_unstable();
    assert_eq!(comms, ["sh\0\0", "true"]);
    assert_eq!(run.records(record::FORK).len(), 1);
    assert_eq!(run.records(record::EXIT).len(), 2);
    assert_eq!(run.description.clockid, Some(crate::sys::clock::MONOTONIC));
}

/// A kernel that knows nothing of some bits.
#[derive(Debug)]
struct Old {
    flags: u64,
    read_format: u64,
    errno: i32,
}

impl Kernel for Old {
    fn open(&self, attr: &Attr, pid: i32, cpu: i32, group: Option<BorrowedFd<'_>>, flags: u64) -> io::Result<OwnedFd> {
        if attr.flags & self.flags != 0 || attr.read_format & self.read_format != 0 {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        crate::sys::perf::open(attr, pid, cpu, group, flags)
    }
}

#[test]
fn what_the_kernel_refuses_is_given_up_and_nothing_else() {
    for errno in [libc::EINVAL, libc::E2BIG, libc::EOPNOTSUPP] {
        let old = Old { flags: flag::BUILD_ID | flag::KSYMBOL, read_format: read_format::LOST, errno };
        let plan = Plan { events: groups(vec![page_faults()]), rate: Rate::Period(1), ..Plan::default() };
        let run = run(&Native::over(Arc::new(old)), &plan, &["true"]);
        let attr = &run.description.events.list()[0].attr;
        let kept = flag::MMAP2 | flag::COMM_EXEC | flag::BPF_EVENT | flag::CGROUP | flag::USE_CLOCKID;
        assert_eq!(attr.flags & (kept | flag::BUILD_ID | flag::KSYMBOL), kept);
        assert_eq!(attr.read_format, read_format::ID);
        assert_eq!(run.stats.lost, None);
        assert_eq!(run.description.notes.len(), 2, "{:?}", run.description.notes);
    }
}

#[test]
fn a_target_that_is_gone_has_no_session() {
    let waiting = prepare(&["true".into()], false).unwrap();
    let pid = waiting.pid();
    drop(waiting);
    let plan = Plan { target: Target::Processes(vec![pid]), ..Plan::default() };
    match Native::new().open(&plan) {
        Err(Error::NoTarget { what }) => assert_eq!(what, format!("process {pid}")),
        other => panic!("{:?}", other.map(|session| session.describe().clone())),
    }
}

#[test]
fn without_rights_user_space_is_measured_and_the_name_says_so() {
    /// What a paranoid level of 2 does to a user without CAP_PERFMON.
    #[derive(Debug)]
    struct Paranoid;
    impl Kernel for Paranoid {
        fn open(&self, attr: &Attr, p: i32, c: i32, g: Option<BorrowedFd<'_>>, f: u64) -> io::Result<OwnedFd> {
            if attr.flags & flag::EXCLUDE_KERNEL == 0 || p < 0 {
                return Err(io::Error::from_raw_os_error(libc::EACCES));
            }
            crate::sys::perf::open(attr, p, c, g, f)
        }
    }
    let native = Native::over(Arc::new(Paranoid));
    let faults = spec("page-faults", software::PAGE_FAULTS, 0);
    let plan = Plan { events: groups(vec![faults.clone()]), rate: Rate::Period(1), ..Plan::default() };
    let run = run(&native, &plan, &["true"]);
    let event = &run.description.events.list()[0];
    assert_eq!(event.name, "page-faults:u");
    assert_ne!(event.attr.flags & flag::EXCLUDE_KERNEL, 0);
    assert_eq!(run.description.notes.len(), 1, "{:?}", run.description.notes);
    // Nothing is left of an event of the kernel alone, and every task is too much.
    let mut kernel_only = faults;
    kernel_only.attr.flags = flag::EXCLUDE_USER;
    for (plan, name) in [
        (
            Plan {
                target: Target::Threads(vec![std::process::id()]),
                events: groups(vec![kernel_only]),
                ..plan.clone()
            },
            "page-faults",
        ),
        (Plan { target: Target::System, ..plan }, "page-faults"),
    ] {
        match native.open(&plan) {
            Err(Error::Open { event, source, .. }) => {
                assert_eq!((event.as_str(), source.raw_os_error()), (name, Some(libc::EACCES)));
            }
            other => panic!("{:?}", other.map(|session| session.describe().clone())),
        }
    }
}

#[test]
fn names_of_user_space_alone() {
    let names = ["cycles", "cycles:p", "cpu/event=0x3c/", "cpu/event=0x3c/p", "mem:0x1000:w", "sched:sched_switch"];
    let user = names.map(super::attrs::user_only);
    assert_eq!(
        user,
        ["cycles:u", "cycles:pu", "cpu/event=0x3c/u", "cpu/event=0x3c/pu", "mem:0x1000:w:u", "sched:sched_switch:u"]
    );
}
