//! Sessions on the real kernel, against programs with known answers, and on stand-ins that refuse what older kernels do.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use xprof_perfdata::abi::{attr_flag as flag, event_type, read_format, record, software};
use xprof_perfdata::attr::Attr;

use super::{Kernel, Native};
use crate::event::{EventGroup, EventSpec};
use crate::plan::{Plan, Rate, Target};
use crate::sys::process::{Ended, prepare};
use crate::{Backend, Description, Error, Message, Stats};

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

/// Runs `command` under the plan and collects everything.
fn run(native: &Native, plan: &Plan, command: &[&str]) -> Run {
    let words: Vec<OsString> = command.iter().map(Into::into).collect();
    let waiting = prepare(&words).unwrap();
    let plan = Plan { target: Target::Command(waiting.pid()), ..plan.clone() };
    let mut session = native.open(&plan).unwrap();
    session.start().unwrap();
    let mut child = waiting.go().unwrap();
    let description = session.describe().clone();
    let mut rings = vec![Vec::new(); description.rings as usize];
    let mut take = |message| match message {
        Message::Drained(drained) => rings[drained.ring as usize].extend(drained.bytes),
        Message::TargetsGone => {}
        other => panic!("{other:?}"),
    };
    while child.try_wait().unwrap().is_none() {
        while let Ok(message) = session.messages().recv_timeout(std::time::Duration::from_millis(5)) {
            take(message);
        }
    }
    let stats = session.stop().unwrap();
    session.messages().iter().for_each(take);
    Run { description, rings, stats, ended: child.try_wait().unwrap() }
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
        let kept =
            flag::MMAP2 | flag::COMM_EXEC | flag::BPF_EVENT | flag::CGROUP | flag::NAMESPACES | flag::USE_CLOCKID;
        assert_eq!(attr.flags & (kept | flag::BUILD_ID | flag::KSYMBOL), kept);
        assert_eq!(attr.read_format, read_format::ID);
        assert_eq!(run.stats.lost, None);
        assert_eq!(run.description.notes.len(), 2, "{:?}", run.description.notes);
    }
}

#[test]
fn a_target_that_is_gone_has_no_session() {
    let waiting = prepare(&["true".into()]).unwrap();
    let pid = waiting.pid();
    drop(waiting);
    let plan = Plan { target: Target::Processes(vec![pid]), ..Plan::default() };
    match Native::new().open(&plan) {
        Err(Error::NoTarget { what }) => assert_eq!(what, format!("process {pid}")),
        other => panic!("{:?}", other.map(|session| session.describe().clone())),
    }
}
