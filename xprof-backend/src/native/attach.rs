//! Targets and their threads; no thread missed, none opened twice.
//!
//! While threads of a running process are opened one by one, it makes new ones. A new thread inherits its maker's
//! events if the maker was opened by then, and must be opened itself if not. /proc says which threads there are; the
//! FORK records of the dummies, which are opened first, say who made them and when. So: look at /proc until it shows
//! nothing new, and leave out a new thread whose maker had all its events when it was made. When a thread made another while
//! it was being opened, that one (and what it made) has some of the events: the maker's are closed again, which takes away
//! whatever was inherited from them, and both are opened in the next round.
//!
//! A maker may be preempted between letting a thread inherit, showing it in /proc and writing the FORK record. So a maker
//! that did not sleep while it was opened is judged once it has been seen past that point ([`Progress`]; the wait has an
//! end), and a thread whose FORK record comes late, when it has been opened itself, is closed again.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustc_hash::FxHashMap;

use super::open::{On, Opener};
use crate::sys::clock;
use crate::{Drained, Error, Result};

/// How long a process that makes threads faster than they can be opened is followed, with inheritance: in the end a maker
/// is opened before it makes another.
const FOLLOWED: Duration = Duration::from_secs(10);
/// Rounds over /proc without inheritance, when every new thread has to be opened.
const ROUNDS: usize = 100;
/// Threads between two looks into the side-band rings, which must not fill.
const BETWEEN_DRAINS: usize = 64;

/// The threads of a process now.
pub(crate) fn threads(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = match fs::read_dir(Path::new(&path)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoTarget { what: format!("process {pid}") });
        }
        Err(error) => return Err(Error::os(format!("read {path}"), error)),
    };
    let mut threads: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    if threads.is_empty() {
        return Err(Error::NoTarget { what: format!("process {pid}") });
    }
    threads.sort_unstable();
    Ok(threads)
}

/// Opens everything on one thread; false when it is gone.
pub(crate) fn thread(opener: &mut Opener<'_>, tid: u32) -> Result<bool> {
    let all = 0..opener.completed.events.len();
    Ok(opener.side_band(On::thread(tid))? && opener.events(On::thread(tid), all)?)
}

/// How long a thread may be on its way from inheriting events to its FORK record while its maker has a CPU, ns.
const MAKING: u64 = 2_000_000;
/// How long to wait for a maker to come past that.
const PREEMPTED: Duration = Duration::from_millis(200);

/// What the scheduler did with a thread, from proc_pid_status(5) and proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// Sleeps in a way that no thread does in the middle of making another, or is stopped, or has ended.
    asleep: bool,
    /// How often it left a CPU.
    switches: u64,
    /// CPU time, in ticks of the clock.
    ticks: u64,
}

impl Progress {
    /// `None` when the thread is gone.
    fn of(tid: u32) -> Option<Progress> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{tid}/{name}")).ok();
        Some(Progress::parse(&read("status")?, &read("stat")?))
    }

    fn parse(status: &str, stat: &str) -> Progress {
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let count = |name| value(name).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        // utime and stime are fields 14 and 15; the name, field 2, ends at the last parenthesis.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
        Progress {
            asleep: value("State:").is_some_and(|state| state.starts_with(['S', 'T', 't', 'Z', 'X'])),
            switches: count("voluntary_ctxt_switches:").saturating_add(count("nonvoluntary_ctxt_switches:")),
            ticks: fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).fold(0, u64::saturating_add),
        }
    }

    /// Whether a thread that was like this is past whatever it was in the middle of: it sleeps, or has had a CPU, left
    /// it and had it again, or was seen running by two ticks.
    fn is_past(self, now: Progress) -> bool {
        now.asleep || now.switches >= self.switches.saturating_add(2) || now.ticks >= self.ticks.saturating_add(2)
    }

    /// Waits until each of these threads is past what it was in, or gone; not for ever.
    fn await_each(mut since: Vec<(u32, Progress)>) {
        let started = Instant::now();
        loop {
            since.retain(|&(tid, then)| Progress::of(tid).is_some_and(|now| !then.is_past(now)));
            if since.is_empty() || started.elapsed() >= PREEMPTED {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Threads whose events are complete, since when (ns).
#[derive(Default, Debug)]
struct Known(FxHashMap<u32, u64>);

/// A FORK record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fork {
    tid: u32,
    parent: u32,
    time: u64,
}

/// The FORK records in `bytes`.
fn forks(mut bytes: &[u8], found: &mut Vec<Fork>) {
    const FORK: u32 = 7;
    let word = |at: &[u8], i: usize| at.get(i..i + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    while let (Some(kind), Some(size)) = (word(bytes, 0), word(bytes, 4).map(|word| misc_and_size(word).1)) {
        let Some(record) = bytes.get(..size).filter(|record| record.len() >= 8) else { return };
        if kind == FORK
            && let (Some(tid), Some(parent)) = (word(record, 16), word(record, 20))
            && let Some(time) = record.get(24..32).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)
        {
            found.push(Fork { tid, parent, time });
        }
        bytes = &bytes[size..];
    }
}

/// A thread that was just opened.
struct Opened {
    tid: u32,
    /// ns, before its first event was.
    from: u64,
    /// ns, after its last one was, when it slept meanwhile.
    complete: Option<u64>,
    after: Option<Progress>,
}

/// Threads that were opened themselves, with their handles, in the order of these.
#[derive(Default, Debug)]
struct Owned(Vec<(u32, Range<usize>)>);

impl Owned {
    /// Closes what was opened on a thread; false when that was nothing, or a ring is its.
    fn close(&mut self, tid: u32, opener: &mut Opener<'_>) -> bool {
        let Some(at) = self.0.iter().rposition(|&(other, _)| other == tid) else { return false };
        let handles = self.0[at].1.clone();
        if !opener.close(handles.clone()) {
            return false;
        }
        self.0.remove(at);
        for (_, later) in &mut self.0[at..] {
            *later = later.start - handles.len()..later.end - handles.len();
        }
        true
    }
}

impl Known {
    /// Learns which threads have inherited everything: those of a maker that was complete. What was opened on them
    /// before their FORK record came would count twice: `close` closes it, and says whether there was something.
    fn learn(&mut self, forks: &[Fork], mut close: impl FnMut(u32) -> bool) {
        for fork in forks {
            let has_inherited = self.0.get(&fork.parent).is_some_and(|&since| since <= fork.time);
            if has_inherited && (close(fork.tid) || !self.0.contains_key(&fork.tid)) {
                self.0.insert(fork.tid, fork.time);
            }
        }
    }
}

/// The second word of a record's header.
fn misc_and_size(word: u32) -> (u16, usize) {
    let [a, b, c, d] = word.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), usize::from(u16::from_ne_bytes([c, d])))
}

/// Opens everything on all threads of these processes. What the side-band rings hold meanwhile goes to `early`.
pub(crate) fn processes(
    opener: &mut Opener<'_>,
    pids: &[u32],
    inherit: bool,
    clockid: i32,
    early: &mut Vec<Drained>,
) -> Result<()> {
    let (mut known, mut owned) = (Known::default(), Owned::default());
    let mut gone = None;
    let started = Instant::now();
    for round in 0.. {
        let last = if inherit { started.elapsed() >= FOLLOWED } else { round + 1 >= ROUNDS };
        let mut new = Vec::new();
        for &pid in pids {
            match threads(pid) {
                Ok(threads) => new.extend(threads.into_iter().filter(|tid| !known.0.contains_key(tid))),
                Err(error) => gone = Some(error),
            }
        }
        if round > 0 && inherit && !new.is_empty() {
            known.learn(&drain(opener, early), |tid| owned.close(tid, opener));
            new.retain(|tid| !known.0.contains_key(tid));
            // The newest is the likeliest to make another next. (The very first to be opened owns rings and stays open:
            // a process's first thread, not one that is on its way to make another.)
            new.reverse();
        }
        if new.is_empty() {
            break;
        }
        opener.reserve(new.len())?;
        let now = || clock::now(clockid).unwrap_or(u64::MAX);
        for batch in new.chunks(BETWEEN_DRAINS) {
            let mut opened: Vec<Opened> = Vec::new();
            for &tid in batch.iter().filter(|tid| !known.0.contains_key(tid)) {
                let look = || if inherit { Progress::of(tid) } else { None };
                let before = look();
                let (from, first) = (now(), opener.handles.len());
                thread(opener, tid)?;
                let (to, after) = (now(), look());
                let slept = before.is_some_and(|before| before.asleep) && before == after;
                opened.push(Opened { tid, from, complete: slept.then_some(to), after });
                owned.0.push((tid, first..opener.handles.len()));
            }
            if !inherit {
                known.0.extend(opened.iter().map(|opened| (opened.tid, u64::MAX)));
                drain(opener, early);
                continue;
            }
            let unsure = opened.iter().filter(|opened| opened.complete.is_none());
            let unsure: Vec<_> = unsure.filter_map(|opened| Some((opened.tid, opened.after?))).collect();
            if !unsure.is_empty() {
                std::thread::sleep(Duration::from_nanos(MAKING));
                Progress::await_each(unsure);
            }
            let seen_past = now();
            let forks = drain(opener, early);
            for Opened { tid, from, complete, .. } in opened.into_iter().rev() {
                let complete = complete.unwrap_or(seen_past);
                let half = forks.iter().any(|f| f.parent == tid && (from..complete).contains(&f.time));
                if half && !last && owned.close(tid, opener) {
                    continue;
                }
                known.0.insert(tid, complete);
            }
            known.learn(&forks, |tid| owned.close(tid, opener));
        }
        if last {
            opener.notes.push("new threads appear faster than they can be opened: some are not measured".into());
            break;
        }
    }
    if inherit {
        // A thread runs, and then sleeps, after its FORK record is written.
        let opened = owned.0.iter().map(|&(tid, _)| (tid, Progress { asleep: false, switches: 0, ticks: 0 }));
        Progress::await_each(opened.collect());
        known.learn(&drain(opener, early), |tid| owned.close(tid, opener));
    }
    match gone {
        Some(error) if opener.handles.is_empty() => Err(error),
        _ => Ok(()),
    }
}

fn drain(opener: &mut Opener<'_>, early: &mut Vec<Drained>) -> Vec<Fork> {
    let mut found = Vec::new();
    opener.drain_side_band(|ring, bytes| {
        forks(&bytes, &mut found);
        early.push(Drained { ring, bytes, until: 0 });
    });
    // Of each CPU's ring apart; a child's own children come after it.
    found.sort_by_key(|fork| fork.time);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(tid: u32, parent: u32, time: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(32u16.to_ne_bytes());
        for word in [1, 1, tid, parent] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(time.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_thread_inherits_from_a_maker_that_was_complete() {
        let mut known = Known::default();
        known.0.insert(10, 500);
        let records = [fork(11, 10, 499), fork(12, 10, 501), fork(13, 12, 600), fork(14, 99, 700)].concat();
        let mut found = Vec::new();
        forks(&records, &mut found);
        // 13 was opened itself before its record came.
        known.0.insert(13, 650);
        let mut closed = Vec::new();
        known.learn(&found, |tid| {
            closed.push(tid);
            tid == 13
        });
        let mut complete: Vec<(u32, u64)> = known.0.into_iter().collect();
        complete.sort_unstable();
        assert_eq!(complete, [(10, 500), (12, 501), (13, 600)]);
        // What has not inherited is not touched.
        assert_eq!(closed, [12, 13]);
    }

    #[test]
    fn a_thread_is_past_what_it_did_when_it_sleeps_or_has_come_and_gone() {
        let own = Progress::of(std::process::id()).unwrap();
        assert!(own.switches > 0, "{own:?}");
        assert_eq!(Progress::of(u32::MAX), None);
        let status = |state: &str, switches| {
            format!("Name:\tx\nState:\t{state}\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t1\n")
        };
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 12 30 0 0 20 0";
        let then = Progress::parse(&status("R (running)", 2), stat);
        assert_eq!(then, Progress { asleep: false, switches: 3, ticks: 42 });
        let is_past = |state: &str, switches| then.is_past(Progress::parse(&status(state, switches), stat));
        // In the middle of making a thread it may wait for a CPU or a lock, and have left its CPU for that.
        assert!(!is_past("R (running)", 3) && !is_past("D (disk sleep)", 3));
        assert!(is_past("S (sleeping)", 3) && is_past("R (running)", 4));
        assert!(then.is_past(Progress { ticks: 44, ..then }) && !then.is_past(Progress { ticks: 43, ..then }));
    }

    #[test]
    fn records_that_lie_about_their_size_end_the_reading() {
        let mut found = Vec::new();
        for cut in 0..32 {
            forks(&fork(11, 10, 5)[..cut], &mut found);
        }
        let mut zero = fork(11, 10, 5);
        zero[6] = 0;
        forks(&zero, &mut found);
        assert_eq!(found, []);
    }
}
