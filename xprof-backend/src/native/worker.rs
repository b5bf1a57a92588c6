//! The drain loop: bytes from rings to the session's channel, undecoded.
//!
//! A worker sleeps until the kernel says that one of its rings is half full, and looks into all of them every 50 ms, so
//! that idle rings do not hold back the order of records in time. It reads the clock before a ring's head; a record's
//! own time is read by the kernel before its place in the ring is reserved, so `until` stays [`SLACK`] behind.
//! Buffers come back through a channel of their own: a warm worker allocates nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xprof_perfdata::abi::{record, sample};
use xprof_perfdata::events::Events;
use xprof_perfdata::source::Source;

use super::open::{Handle, OpenRing};
use crate::machine::cpu_list;
use crate::sys::file::File;
use crate::sys::{clock, limits, perf};
use crate::{Drained, Error, Message};

/// Every ring is looked into this often.
const TICK: Duration = Duration::from_millis(50);
/// How long a record may take from its time stamp to its place in the ring (a call chain is walked in between, and a
/// virtual CPU may be taken away), ns.
const SLACK: u64 = 10_000_000;
/// Bytes under way before workers wait. The writer sleeps when the disk does not keep up; this bridges a second of a
/// storm, within the 64 MiB that a recorder may take.
const MOST_BYTES: usize = 40 << 20;
/// Messages under way before workers wait; what is beyond is kept free for the last drain, which never waits.
pub(crate) const UNDER_WAY: usize = 1024;
/// Bytes of one message, at most (a record is at most 64 KiB).
pub(crate) const MESSAGE_BYTES: usize = 1 << 20;
/// How often the list of online CPUs is looked at.
const CPU_CHECK: Duration = Duration::from_secs(1);

/// Bytes of the stack of a thread of this process that are handed over: these threads use less.
const OWN_MOST: usize = 8 << 10;

/// Finds the stack copies in records of some events.
#[derive(Debug)]
pub(crate) struct Copies {
    events: Events,
    /// This process.
    own: u32,
}

impl Copies {
    /// `None` when none of the events copies stacks.
    pub(crate) fn of(events: &Events) -> Option<Copies> {
        let copies = events.list().iter().any(|event| event.attr.sample_type & sample::STACK_USER != 0);
        copies.then(|| Copies { events: events.clone(), own: std::process::id() })
    }

    /// Where a copy begins in the record that begins so, and how much of it is wanted. Of a thread's stack the kernel copies what is
    /// mapped above it too: a recorder that samples its own threads would be busy with their copies.
    fn stack_at(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let (head, body) = bytes.split_first_chunk::<8>()?;
        if u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) != record::SAMPLE {
            return None;
        }
        let list = self.events.list();
        let event = match list.len() {
            1 => 0,
            _ => self.events.by_id(u64::from_ne_bytes(*body.first_chunk()?))?,
        };
        let event = list.get(event)?;
        let view = event.layout.view(body)?;
        let is_own = view.pid() == self.own && view.tid() != self.own;
        Some((8 + event.format.user_stack_at(body)?, if is_own { OWN_MOST } else { usize::MAX }))
    }
}

/// What the session and its workers share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) stop: AtomicBool,
    /// Raised by one for each snapshot asked for.
    pub(crate) snapshots: AtomicU32,
    /// Rings that still have a live event.
    pub(crate) live: AtomicUsize,
    pub(crate) wakeups: AtomicU64,
    /// Bytes of the buffers that were handed over and not given back.
    held: AtomicUsize,
}

impl Control {
    fn hand_over(&self, capacity: usize) {
        self.held.fetch_add(capacity, Ordering::Relaxed);
    }

    /// A buffer of this capacity, bytes, is given back.
    pub(crate) fn given_back(&self, capacity: usize) {
        let less = |held: usize| Some(held.saturating_sub(capacity));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// One thread's share of a session.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) rings: Vec<OpenRing>,
    pub(crate) handles: Arc<Vec<Handle>>,
    pub(crate) control: Arc<Control>,
    /// Wakes the worker for stop and snapshot.
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) out: Sender<Message>,
    pub(crate) spare: Receiver<Vec<u8>>,
    /// One answer for each snapshot done.
    pub(crate) done: Sender<()>,
    /// Clock of the records; `None`: it cannot be read.
    pub(crate) clockid: Option<i32>,
    /// Of stack copies only what is stack is handed over; `None`: there are none, or they are wanted as they are.
    pub(crate) copies: Option<Arc<Copies>>,
    /// Records on their way from a ring, without what is no stack.
    pub(crate) trimmed: Vec<u8>,
    /// Watches CPUs going away: one worker does, with the CPUs that are measured.
    pub(crate) watches: Option<Vec<u32>>,
}

/// The receiver is gone: the session is over.
struct Over;

impl Worker {
    /// Runs until the session stops; the CPUs that went away.
    pub(crate) fn run(mut self) -> Vec<u32> {
        // A worker that comes late loses samples, and takes little time: it copies what is there, and waits when 40 MiB are under
        // way.
        limits::hurry();
        let mut gone = Vec::new();
        let _: Result<(), Over> = self.work(&mut gone);
        gone
    }

    fn work(&mut self, gone: &mut Vec<u32>) -> Result<(), Over> {
        let handles = Arc::clone(&self.handles);
        let wake = Arc::clone(&self.wake);
        // For each ring the handle that is polled: any live writer will do.
        let mut polled = vec![0usize; self.rings.len()];
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.rings.len() + 1);
        fds.push(PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN));
        for open in &self.rings {
            fds.push(poll_of(&handles, open, 0, wake.as_fd()));
        }
        let mut online = self.watches.is_some().then(Online::new).flatten();
        let mut snapshots = 0;
        let mut last_pass = Instant::now();
        loop {
            let stop = self.control.stop.load(Ordering::Acquire);
            let asked = self.control.snapshots.load(Ordering::Acquire);
            if stop || asked != snapshots {
                let mut number = [0; 8];
                let _ = rustix::io::read(wake.as_fd(), &mut number);
                self.snapshot(&handles)?;
                if stop {
                    return self.pass(true);
                }
                snapshots = asked;
                let _ = self.done.try_send(());
            }
            if self.is_ahead() {
                // The receiver is slow: let the rings fill, never memory.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let now = Instant::now();
            if now.duration_since(last_pass) >= TICK {
                last_pass = now;
                self.pass(false)?;
                if let Some(online) = &mut online {
                    self.watch(online, gone)?;
                }
            }
            let left = TICK.saturating_sub(now.duration_since(last_pass));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => {
                    let _ = self.out.send(Message::Failed(Error::os("wait for the rings", error)));
                    return Err(Over);
                }
            }
            self.control.wakeups.fetch_add(1, Ordering::Relaxed);
            self.side_band()?;
            for at in 0..self.rings.len() {
                let ready = fds[at + 1].revents();
                if ready.contains(PollFlags::IN) && !self.rings[at].overwritten {
                    self.drain(at, false)?;
                }
                if ready.intersects(PollFlags::HUP | PollFlags::ERR) {
                    polled[at] += 1;
                    fds[at + 1] = poll_of(&handles, &self.rings[at], polled[at], wake.as_fd());
                    let dead = polled[at] == self.rings[at].writers.len();
                    if dead && self.control.live.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.pass(false)?;
                        self.send(Message::TargetsGone)?;
                    }
                }
            }
        }
    }

    /// Hands over the side-band records that there are. They go before the samples of a wake-up: who must let samples go
    /// before every ring was looked into, for want of memory, then knows where these fell.
    fn side_band(&mut self) -> Result<(), Over> {
        for at in 0..self.rings.len() {
            if self.rings[at].side_band && !self.rings[at].ring.is_empty() {
                self.drain(at, false)?;
            }
        }
        Ok(())
    }

    /// Looks into every ring.
    fn pass(&mut self, last: bool) -> Result<(), Over> {
        for at in 0..self.rings.len() {
            if !self.rings[at].overwritten {
                self.drain(at, last)?;
            }
        }
        Ok(())
    }

    /// Whether the receiver has enough to do.
    fn is_ahead(&self) -> bool {
        if self.out.is_empty() {
            // The receiver has it all, and need not give back every buffer.
            self.control.held.store(0, Ordering::Relaxed);
        }
        self.out.len() >= UNDER_WAY || self.control.held.load(Ordering::Relaxed) >= MOST_BYTES
    }

    fn until(&self, last: bool) -> u64 {
        match self.clockid.map(clock::now) {
            // Nothing is being written any more.
            Some(Ok(now)) if last => now,
            Some(Ok(now)) => now.saturating_sub(SLACK),
            _ => 0,
        }
    }

    fn drain(&mut self, at: usize, last: bool) -> Result<(), Over> {
        loop {
            let until = self.until(last);
            let mut bytes = self.spare.try_recv().unwrap_or_default();
            bytes.clear();
            let open = &mut self.rings[at];
            let taken = match &self.copies {
                None => open.ring.take(&mut bytes, MESSAGE_BYTES),
                Some(copies) => {
                    self.trimmed.clear();
                    let at = |record: &[u8]| copies.stack_at(record);
                    let taken = open.ring.take_trimmed(&mut self.trimmed, MESSAGE_BYTES - 65_536, at);
                    // A buffer that grows step by step touches new memory again and again.
                    bytes.extend_from_slice(&self.trimmed);
                    taken
                }
            };
            if taken.damaged != 0 {
                let note = format!("ring {} contradicts itself: {} bytes are lost", open.number, taken.damaged);
                self.send(Message::Note(note))?;
            }
            let until = if taken.left == 0 { until } else { 0 };
            let ring = self.rings[at].number;
            self.control.hand_over(bytes.capacity());
            self.send(Message::Drained(Drained { ring, bytes, until }))?;
            if taken.left == 0 || (!last && self.is_ahead()) {
                return Ok(());
            }
        }
    }

    /// Hands over what the overwritten rings hold.
    fn snapshot(&mut self, handles: &[Handle]) -> Result<(), Over> {
        for at in 0..self.rings.len() {
            let open = &mut self.rings[at];
            let owner = open.writers.first().and_then(|&owner| handles.get(owner as usize));
            let (true, Some(owner)) = (open.overwritten, owner) else { continue };
            let paused = perf::pause_output(owner.counter.as_fd(), true);
            let mut bytes = self.spare.try_recv().unwrap_or_default();
            bytes.clear();
            let failed = match paused {
                Ok(()) => {
                    open.ring.take_overwritten(&mut bytes);
                    perf::pause_output(owner.counter.as_fd(), false).err()
                }
                Err(error) => Some(error),
            };
            let ring = open.number;
            let until = self.until(false);
            self.send(Message::Drained(Drained { ring, bytes, until }))?;
            if let Some(error) = failed {
                self.send(Message::Failed(Error::os(format!("pause ring {ring}"), error)))?;
            }
        }
        Ok(())
    }

    fn watch(&self, online: &mut Online, gone: &mut Vec<u32>) -> Result<(), Over> {
        let Some(now) = online.changed() else { return Ok(()) };
        for &cpu in self.watches.iter().flatten() {
            if !now.contains(&cpu) && !gone.contains(&cpu) {
                gone.push(cpu);
                self.send(Message::Note(format!("CPU {cpu} went offline: it is not measured any more")))?;
            }
        }
        Ok(())
    }

    fn send(&self, message: Message) -> Result<(), Over> {
        self.out.send(message).map_err(|_| Over)
    }
}

/// What to poll for a ring: its `nth` writer; the wake-up descriptor, for nothing, when there is none left.
fn poll_of<'a>(handles: &'a [Handle], open: &OpenRing, nth: usize, none: std::os::fd::BorrowedFd<'a>) -> PollFd<'a> {
    match open.writers.get(nth).and_then(|&at| handles.get(at as usize)) {
        Some(handle) => PollFd::from_borrowed_fd(handle.counter.as_fd(), PollFlags::IN),
        None => PollFd::from_borrowed_fd(none, PollFlags::empty()),
    }
}

/// The list of online CPUs, looked at without allocating unless it has changed.
#[derive(Debug)]
struct Online {
    file: File,
    text: [u8; 1024],
    length: usize,
    checked: Instant,
}

impl Online {
    fn new() -> Option<Online> {
        let file = File::open(Path::new("/sys/devices/system/cpu/online")).ok()?;
        let mut text = [0; 1024];
        let length = file.read_at(0, &mut text).ok()?;
        Some(Online { file, text, length, checked: Instant::now() })
    }

    fn changed(&mut self) -> Option<Vec<u32>> {
        if self.checked.elapsed() < CPU_CHECK {
            return None;
        }
        self.checked = Instant::now();
        let mut text = [0; 1024];
        let length = self.file.read_at(0, &mut text).ok()?;
        if text[..length] == self.text[..self.length] {
            return None;
        }
        (self.text, self.length) = (text, length);
        cpu_list(&String::from_utf8_lossy(&text[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{allocations, ring::Ring};
    use crossbeam_channel::bounded;

    fn record(size: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(size)];
        bytes[6..8].copy_from_slice(&size.to_ne_bytes());
        bytes
    }

    /// A worker over plain rings, the receiver of its messages, and where buffers go back.
    fn worker(rings: u32) -> (Worker, Receiver<Message>, Sender<Vec<u8>>) {
        let (out, messages) = bounded(1000);
        let (give_back, spare) = bounded(UNDER_WAY);
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let open = |number| {
            let ring = Ring::plain(64).unwrap();
            OpenRing { number, ring, writers: Vec::new(), overwritten: false, side_band: false }
        };
        let worker = Worker {
            rings: (0..rings).map(open).collect(),
            handles: Arc::default(),
            control: Arc::default(),
            wake: Arc::new(wake),
            out,
            spare,
            done: bounded(1).0,
            clockid: Some(clock::MONOTONIC),
            copies: None,
            trimmed: Vec::new(),
            watches: None,
        };
        (worker, messages, give_back)
    }

    #[test]
    fn a_warm_worker_allocates_nothing() {
        let (mut worker, messages, give_back) = worker(4);
        let record = record(64);
        let mut round = |count: usize| {
            for open in &worker.rings {
                for _ in 0..count {
                    assert!(open.ring.produce(&record));
                }
            }
            assert!(worker.pass(false).is_ok());
            for _ in 0..4 {
                let Ok(Message::Drained(drained)) = messages.try_recv() else { panic!("no message") };
                assert_eq!(drained.bytes.len(), count * 64);
                give_back.try_send(drained.bytes).unwrap();
            }
        };
        (0..4).for_each(|_| round(4096));
        let before = allocations::count();
        (0..1000).for_each(|i| round(i * 4));
        assert_eq!(allocations::count(), before);
    }

    #[test]
    fn until_is_never_ahead_of_what_was_handed_over() {
        let (mut worker, messages, _) = worker(1);
        worker.rings[0].ring = Ring::plain(1024).unwrap();
        let sent = 4 << 20;
        for _ in 0..sent / 65_528 {
            assert!(worker.rings[0].ring.produce(&record(65_528)));
        }
        let before = clock::now(clock::MONOTONIC).unwrap();
        assert!(worker.pass(true).is_ok());
        let parts: Vec<Drained> = messages
            .try_iter()
            .map(|message| match message {
                Message::Drained(drained) => drained,
                other => panic!("{other:?}"),
            })
            .collect();
        let (last, first) = parts.split_last().unwrap();
        // A ring that holds more than a message says nothing of time until its last piece.
        assert!(first.len() >= 3 && first.iter().all(|part| part.until == 0 && part.bytes.len() <= MESSAGE_BYTES));
        assert!(last.until >= before && last.until <= clock::now(clock::MONOTONIC).unwrap());
        assert_eq!(parts.iter().map(|part| part.bytes.len()).sum::<usize>(), sent / 65_528 * 65_528);
    }
}
