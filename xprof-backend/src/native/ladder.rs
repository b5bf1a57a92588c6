//! Opening one event on a kernel that may refuse parts of its attr.
//!
//! A refusal does not say which bit is at fault. So bits are given up one at a time, newest first, until the kernel
//! accepts; then each is asked for again alone, so that only what this kernel really refuses stays given up.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use xprof_perfdata::abi::{attr_flag as flag, branch, event_type, read_format, sample};
use xprof_perfdata::attr::Attr;

use super::Kernel;

/// Where an event is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) pid: i32,
    pub(crate) cpu: i32,
    pub(crate) group: Option<BorrowedFd<'a>>,
    pub(crate) flags: u64,
}

/// What may be given up for an event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct May {
    /// `precise_ip` may be lowered.
    pub(crate) lower_precision: bool,
    /// The clock was xprof's choice, not the user's.
    pub(crate) drop_clock: bool,
}

/// One thing to give up.
struct Step {
    /// Gives it up; false when the attr does not have it.
    apply: fn(&mut Attr, May) -> bool,
    /// For which refusals.
    permission: bool,
    /// What the user misses; empty when nothing.
    note: &'static str,
}

fn drop_flag(attr: &mut Attr, bit: u64) -> bool {
    let had = attr.flags & bit != 0;
    attr.flags &= !bit;
    had
}

fn lower_precision(attr: &mut Attr, may: May) -> bool {
    let precise = (attr.flags & flag::PRECISE_IP) >> flag::PRECISE_SHIFT;
    if precise == 0 || !may.lower_precision {
        return false;
    }
    attr.flags = attr.flags & !flag::PRECISE_IP | (precise - 1) << flag::PRECISE_SHIFT;
    true
}

const LOWER: Step = Step { apply: lower_precision, permission: false, note: "" };

/// Newest first; the versions are those of the kernel that brought the bit.
const STEPS: &[Step] = &[
    // 6.0.
    Step {
        apply: |attr, _| {
            let had = attr.read_format & read_format::LOST != 0;
            attr.read_format &= !read_format::LOST;
            had
        },
        permission: false,
        note: "",
    },
    // 5.12.
    Step {
        apply: |attr, _| drop_flag(attr, flag::BUILD_ID),
        permission: false,
        note: "this kernel does not give build-ids of mapped files (Linux 5.12 does): files that change while recording may be named wrongly",
    },
    // 5.7.
    Step { apply: |attr, _| drop_flag(attr, flag::CGROUP), permission: false, note: "" },
    Step {
        apply: |attr, _| {
            let had = attr.branch_sample_type & branch::HW_INDEX != 0;
            attr.branch_sample_type &= !branch::HW_INDEX;
            had
        },
        permission: false,
        note: "",
    },
    // 5.1.
    Step {
        apply: |attr, _| drop_flag(attr, flag::BPF_EVENT),
        permission: false,
        note: "this kernel does not report BPF programs (Linux 5.1 does)",
    },
    // 5.1.
    Step {
        apply: |attr, _| drop_flag(attr, flag::KSYMBOL),
        permission: false,
        note: "this kernel does not report symbols that it makes at run time (Linux 5.1 does)",
    },
    // 4.1.
    Step {
        apply: |attr, may| {
            let drop = may.drop_clock && drop_flag(attr, flag::USE_CLOCKID);
            if drop {
                attr.clockid = 0;
            }
            drop
        },
        permission: false,
        note: "this kernel cannot stamp records with CLOCK_MONOTONIC (Linux 4.1 can): records are put in order at the end only",
    },
    // 3.16.
    Step { apply: |attr, _| drop_flag(attr, flag::COMM_EXEC), permission: false, note: "" },
    // 3.12.
    Step { apply: |attr, _| drop_flag(attr, flag::MMAP2), permission: false, note: "" },
    // A PMU's own limits.
    Step {
        apply: |attr, _| drop_flag(attr, flag::EXCLUDE_GUEST),
        permission: false,
        note: "the PMU cannot leave out guests: their samples are counted too",
    },
    LOWER,
    LOWER,
    LOWER,
    // Before 6.13 a sample cannot read a group of inherited events.
    Step {
        apply: |attr, _| attr.sample_type & sample::READ != 0 && drop_flag(attr, flag::INHERIT),
        permission: false,
        note: "this kernel cannot follow children with :S (Linux 6.13 can): only the threads there are now are measured",
    },
    // perf_event_paranoid of 2 and more.
    Step {
        apply: |attr, _| {
            let measures_both = attr.flags & (flag::EXCLUDE_KERNEL | flag::EXCLUDE_USER) == 0;
            let can = measures_both && attr.kind != event_type::TRACEPOINT;
            if can {
                attr.flags |= flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV;
            }
            can
        },
        permission: true,
        note: "only user space is measured: kernel.perf_event_paranoid does not allow this user more",
    },
];

/// Whether a refusal is about rights (`true`) or about the attr (`false`); `None`: about neither.
fn about_rights(error: &io::Error) -> Option<bool> {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Some(true),
        Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV) => Some(false),
        _ => None,
    }
}

/// Opens an event at `place`. `attr` becomes what the kernel accepted; a sentence for each thing that the user will miss
/// goes to `notes`, once.
pub(crate) fn open(
    kernel: &dyn Kernel,
    attr: &mut Attr,
    place: Place<'_>,
    may: May,
    notes: &mut Vec<String>,
) -> io::Result<OwnedFd> {
    let attempt = |attr: &Attr| kernel.open(attr, place.pid, place.cpu, place.group, place.flags);
    let mut refusal = match attempt(attr) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let wanted = attr.clone();
    let mut given_up = vec![false; STEPS.len()];
    let mut now = wanted.clone();
    let mut fd = loop {
        let Some(rights) = about_rights(&refusal) else { return Err(refusal) };
        let next = STEPS
            .iter()
            .enumerate()
            .position(|(i, step)| !given_up[i] && step.permission == rights && (step.apply)(&mut now, may));
        let Some(next) = next else { return Err(refusal) };
        given_up[next] = true;
        match attempt(&now) {
            Ok(fd) => break fd,
            // With the rights out of the way the kernel says what else is wrong; of one kind the first answer counts.
            Err(error) if about_rights(&error) != Some(rights) => refusal = error,
            Err(_) => {}
        }
    };
    for i in 0..STEPS.len() {
        if given_up[i] {
            given_up[i] = false;
            let again = without(&wanted, &given_up, may);
            match attempt(&again) {
                Ok(better) => (fd, now) = (better, again),
                Err(_) => given_up[i] = true,
            }
        }
    }
    for (step, _) in STEPS.iter().zip(&given_up).filter(|(step, up)| **up && !step.note.is_empty()) {
        if !notes.iter().any(|note| note == step.note) {
            notes.push(step.note.to_owned());
        }
    }
    *attr = now;
    Ok(fd)
}

fn without(wanted: &Attr, given_up: &[bool], may: May) -> Attr {
    let mut attr = wanted.clone();
    for (step, _) in STEPS.iter().zip(given_up).filter(|(_, up)| **up) {
        (step.apply)(&mut attr, may);
    }
    attr
}
