//! A session: plan to open events, start, snapshot, stop.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};
use xprof_perfdata::abi::{attr_flag, read_format, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;

use super::attrs::{self, SIDE_BAND};
use super::count::is_hardware;
use super::counter::PerfCounter;
use super::open::{Handle, On, OpenRing, Opener, Options, Pages};
use super::worker::{Control, Copies, MESSAGE_BYTES, UNDER_WAY, Worker};
use super::{Kernel, attach, cpus, default_event, mended};
use crate::event::EventGroup;
use crate::event::pmu::Pmu;
use crate::machine::Machine;
use crate::plan::{CallGraph, Plan, Rate, Target};
use crate::sys::file::{open_directory, read_small};
use crate::sys::{clock, perf, ring};
use crate::{Description, Drained, Error, Message, Result, Session, Stats};

/// CPUs for one worker, and workers at most: one thread keeps up with many rings, and every thread costs wake-ups.
const CPUS_PER_WORKER: usize = 8;
const MOST_WORKERS: usize = 16;
/// Samples per second and CPU that rings are sized for when nobody knows, Hz.
const USUAL_RATE: u64 = 997;

/// A session of `perf_event_open`.
#[derive(Debug)]
pub(crate) struct NativeSession {
    description: Description,
    handles: Arc<Vec<Handle>>,
    /// Until the workers have them.
    rings: Vec<OpenRing>,
    cpus: Vec<u32>,
    early: Vec<Drained>,
    /// Number of events that sample; the dummy follows them.
    sampling: usize,
    enable_at_start: bool,
    /// Stack copies, unless they are kept as they are.
    copies: Option<Arc<Copies>>,
    control: Arc<Control>,
    out: Option<Sender<Message>>,
    messages: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    snapshot_done: (Sender<()>, Receiver<()>),
    workers: Vec<(JoinHandle<Vec<u32>>, Arc<OwnedFd>)>,
}

impl NativeSession {
    pub(crate) fn open(kernel: &Arc<dyn Kernel>, plan: &Plan) -> Result<NativeSession> {
        let mut notes = Vec::new();
        let default;
        let groups: &[EventGroup] = if plan.events.is_empty() {
            let (groups, note) = default_event::default_event(kernel.as_ref());
            notes.push(note);
            default = groups;
            &default
        } else {
            &plan.events
        };
        let with_switches;
        let groups = if plan.off_cpu {
            with_switches = [groups, &[default_event::off_cpu()]].concat();
            &with_switches
        } else {
            groups
        };
        if plan.call_graph == CallGraph::CallsOfTheCpu {
            attrs::can_have_calls(groups, Pmu::cores(&Machine::here()).iter().any(Pmu::keeps_branches))?;
        }
        let online = cpus::online()?;
        let cpus = match &plan.cpus {
            Some(asked) => {
                if let Some(missing) = asked.iter().find(|cpu| !online.contains(cpu)) {
                    return Err(Error::NoTarget { what: format!("CPU {missing}") });
                }
                asked.clone()
            }
            None => online,
        };
        if cpus.is_empty() {
            return Err(Error::NoTarget { what: "any CPU to measure".into() });
        }
        let mut pages = match plan.mmap_pages {
            Some(samples) if !samples.is_power_of_two() => {
                return Err(Error::Other(format!("a ring of {samples} pages: the number must be a power of two")));
            }
            Some(samples) => Pages { samples, side_band: Pages::usual().side_band.min(samples) },
            None => match (plan.call_graph.copied(), plan.rate) {
                (0, _) => Pages::usual(),
                (copied, Rate::Frequency(hz)) => Pages::usual().for_copies(copied, hz.min(max_rate()), cpus.len()),
                (copied, _) => Pages::usual().for_copies(copied, USUAL_RATE, cpus.len()),
            },
        };
        let whole = pages;
        loop {
            let mut notes = notes.clone();
            let mut completed = attrs::complete(plan, groups, max_rate(), &mut notes);
            if mended::is_needed(&Machine::here()) {
                completed.events.iter_mut().for_each(|event| mended::ask(&mut event.attr));
            }
            let options = Options { pages, overwrite: plan.overwrite, drop_clock: plan.clockid.is_none() };
            let mut opener = Opener::new(kernel.as_ref(), completed, cpus.clone(), options);
            let mut early = Vec::new();
            match open_targets(&mut opener, plan, groups, &mut early) {
                Ok(()) => {
                    if pages != whole {
                        notes.push(format!(
                            "rings of {} instead of {} pages: kernel.perf_event_mlock_kb and `ulimit -l` allow no more",
                            pages.samples, whole.samples
                        ));
                    }
                    return Ok(NativeSession::of(opener, plan, pages, notes, early));
                }
                Err(Error::Os { attempt, source })
                    if source.raw_os_error() == Some(libc::EPERM) && plan.mmap_pages.is_none() =>
                {
                    pages = pages.smaller().ok_or(Error::Os { attempt, source })?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn of(opener: Opener<'_>, plan: &Plan, pages: Pages, mut notes: Vec<String>, early: Vec<Drained>) -> NativeSession {
        notes.extend(opener.notes);
        let reads = |attr: &Attr| attr.sample_type & sample::READ != 0 && attr.flags & attr_flag::INHERIT != 0;
        if opener.completed.events.iter().any(|ready| reads(&ready.attr)) {
            notes.push(
                "groups with :S follow children, which perf before 6.13 cannot read; for it: --no-inherit".into(),
            );
        }
        let order = if cfg!(target_endian = "big") { ByteOrder::Big } else { ByteOrder::Little };
        let mut events = Events::new(order);
        let side_band = &opener.completed.side_band;
        let clockid = side_band.has(attr_flag::USE_CLOCKID).then_some(side_band.clockid);
        for (ready, ids) in opener.completed.events.iter().zip(opener.ids) {
            let mut attr = ready.attr.clone();
            if opener.completed.lone {
                // What the dummy takes part in is what a reader of the file expects of the event.
                attr.flags |= side_band.flags & SIDE_BAND_FLAGS;
            }
            events.push(attr, ready.true_name(), ids);
        }
        let sampling = events.list().len();
        if !opener.completed.lone {
            events.push(side_band.clone(), SIDE_BAND.into(), opener.side_ids);
        }
        let kept = matches!(plan.call_graph, CallGraph::StackCopies { kept: true, .. });
        let copies = Copies::of(&events).filter(|_| !kept).map(Arc::new);
        let rings = opener.rings;
        let pieces: usize = rings.iter().map(|open| open.ring.size() / (MESSAGE_BYTES - 65_535) + 3).sum();
        let (out, messages) = bounded(UNDER_WAY + pieces + early.len() + opener.cpus.len() + 16);
        let (give_back, spare) = bounded(UNDER_WAY);
        let control = Control::default();
        control.live.store(rings.len(), Ordering::Relaxed);
        NativeSession {
            description: Description {
                events,
                clockid,
                rings: rings.len() as u32,
                ring_bytes: pages.samples * ring::page_size(),
                notes,
                head: Vec::new(),
                domains: None,
            },
            handles: Arc::new(opener.handles),
            rings,
            cpus: opener.cpus,
            early,
            sampling,
            copies,
            enable_at_start: !plan.start_disabled && !matches!(plan.target, Target::Command(_)),
            control: Arc::new(control),
            out: Some(out),
            messages,
            give_back,
            spare,
            snapshot_done: bounded(MOST_WORKERS),
            workers: Vec::new(),
        }
    }

    fn wake(&self) {
        for (_, wake) in &self.workers {
            let _ = rustix::io::write(wake.as_fd(), &1u64.to_ne_bytes());
        }
    }

    fn end_workers(&mut self) -> Result<Vec<u32>> {
        self.control.stop.store(true, Ordering::Release);
        self.wake();
        let mut gone = Vec::new();
        let mut died = false;
        for (worker, _) in self.workers.drain(..) {
            match worker.join() {
                Ok(cpus) => gone.extend(cpus),
                Err(_) => died = true,
            }
        }
        self.out = None;
        if died { Err(Error::Other("a worker thread died".into())) } else { Ok(gone) }
    }
}

/// Flags that a lone event shows in a recording's attr although the dummy carries them.
const SIDE_BAND_FLAGS: u64 = attr_flag::MMAP
    | attr_flag::MMAP2
    | attr_flag::MMAP_DATA
    | attr_flag::COMM
    | attr_flag::COMM_EXEC
    | attr_flag::TASK
    | attr_flag::KSYMBOL
    | attr_flag::BPF_EVENT
    | attr_flag::CGROUP
    | attr_flag::BUILD_ID;

/// `perf_event_max_sample_rate`, Hz.
fn max_rate() -> u64 {
    Machine::here()
        .kernel_setting("perf_event_max_sample_rate")
        .and_then(|rate| u64::try_from(rate).ok())
        .filter(|&rate| rate > 0)
        .unwrap_or(100_000)
}

fn open_targets(opener: &mut Opener<'_>, plan: &Plan, groups: &[EventGroup], early: &mut Vec<Drained>) -> Result<()> {
    let all = 0..opener.completed.events.len();
    match &plan.target {
        Target::Domains(_) => return Err(Error::Other("the native backend sees no domains of a Xen host".into())),
        Target::System => {
            opener.reserve(1)?;
            opener.side_band(On::ALL)?;
            opener.events(On::ALL, all)?;
        }
        Target::Command(pid) => {
            opener.reserve(1)?;
            if !attach::thread(opener, *pid)? {
                return Err(Error::NoTarget { what: format!("process {pid}") });
            }
        }
        Target::Threads(tids) => {
            opener.reserve(tids.len())?;
            let mut alive = false;
            for &tid in tids {
                alive |= attach::thread(opener, tid)?;
            }
            if !alive {
                let names: Vec<String> = tids.iter().map(u32::to_string).collect();
                return Err(Error::NoTarget { what: format!("thread {}", names.join(",")) });
            }
        }
        Target::Processes(pids) => {
            let clockid = plan.clockid.unwrap_or(clock::MONOTONIC);
            attach::processes(opener, pids, plan.inherit, clockid, early)?;
        }
        Target::Cgroups(paths) => {
            opener.reserve(paths.len())?;
            opener.side_band(On::ALL)?;
            let mut first = 0;
            let ranges: Vec<_> = groups
                .iter()
                .map(|group| {
                    let range = first..first + group.events.len();
                    first = range.end;
                    range
                })
                .collect();
            if paths.len() != 1 && paths.len() != ranges.len() {
                let what = format!("{} cgroups for {} events: one for all, or one for each", paths.len(), ranges.len());
                return Err(Error::Other(what));
            }
            for (at, path) in paths.iter().enumerate() {
                let directory = cgroup(path)?;
                let on = On { pid: directory.as_raw_fd(), flags: perf::FLAG_PID_CGROUP };
                let which = if paths.len() == 1 { all.clone() } else { ranges[at].clone() };
                opener.events(on, which)?;
            }
        }
    }
    if opener.ids.iter().any(Vec::is_empty) && opener.handles.is_empty() {
        return Err(Error::NoTarget { what: "a target to measure".into() });
    }
    Ok(())
}

/// Opens a cgroup's directory: below the mount of the perf_event controller, else below that of version 2, which has
/// the controller unless a hierarchy of version 1 took it (`/proc/cgroups`, cgroups(7)).
fn cgroup(path: &str) -> Result<OwnedFd> {
    let mounts =
        read_small(Path::new("/proc/self/mounts"), 1 << 20).map_err(|e| Error::os("read /proc/self/mounts", e))?;
    let mounts = String::from_utf8_lossy(&mounts);
    let root = |wanted: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            wanted(kind, options).then(|| PathBuf::from(place))
        })
    };
    let root = root(&|kind, options| kind == "cgroup" && options.split(',').any(|option| option == "perf_event"))
        .or_else(|| root(&|kind, _| kind == "cgroup2" && !controller_is_elsewhere()))
        .ok_or(Error::NoCgroups)?;
    let whole = root.join(path.trim_start_matches('/'));
    match open_directory(&whole) {
        Ok(fd) => Ok(fd),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NoTarget { what: format!("cgroup {path} ({})", whole.display()) })
        }
        Err(error) => Err(Error::os(format!("open cgroup {}", whole.display()), error)),
    }
}

/// Whether the perf_event controller belongs to a hierarchy of version 1, mounted or not.
fn controller_is_elsewhere() -> bool {
    let controllers = read_small(Path::new("/proc/cgroups"), 1 << 16).unwrap_or_default();
    String::from_utf8_lossy(&controllers).lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.next() == Some("perf_event") && fields.next().is_some_and(|hierarchy| hierarchy != "0")
    })
}

impl Session for NativeSession {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        let Some(out) = self.out.take() else { return Err(Error::Other("the session has run already".into())) };
        for drained in self.early.drain(..) {
            let _ = out.send(Message::Drained(drained));
        }
        let count = self.cpus.len().div_ceil(CPUS_PER_WORKER).clamp(1, MOST_WORKERS);
        let mut shares: Vec<Vec<OpenRing>> = (0..count).map(|_| Vec::new()).collect();
        for open in self.rings.drain(..) {
            // Neighbouring rings are those of one CPU.
            let share = (open.number as usize / 2) % count;
            shares[share].push(open);
        }
        for (at, rings) in shares.into_iter().enumerate() {
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| Error::os("make an eventfd", e))?;
            let wake = Arc::new(wake);
            let worker = Worker {
                rings,
                handles: Arc::clone(&self.handles),
                control: Arc::clone(&self.control),
                wake: Arc::clone(&wake),
                out: out.clone(),
                spare: self.spare.clone(),
                done: self.snapshot_done.0.clone(),
                clockid: self.description.clockid,
                copies: self.copies.clone(),
                trimmed: Vec::new(),
                watches: (at == 0).then(|| self.cpus.clone()),
            };
            let thread = std::thread::Builder::new()
                .name(format!("ring{at}"))
                .spawn(move || worker.run())
                .map_err(|e| Error::os("start a worker thread", e))?;
            self.workers.push((thread, wake));
        }
        if self.enable_at_start { self.enable(true) } else { Ok(()) }
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    fn recycle(&self, buffer: Vec<u8>) {
        self.control.given_back(buffer.capacity());
        if buffer.capacity() != 0 {
            let _ = self.give_back.try_send(buffer);
        }
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        type Act = fn(&PerfCounter) -> std::io::Result<()>;
        let (act, what): (Act, _) = if on { (PerfCounter::rearm, "enable") } else { (PerfCounter::stop, "disable") };
        for handle in self.handles.iter().filter(|handle| handle.leads) {
            if (handle.event as usize) < self.sampling {
                act(&handle.counter).map_err(|e| Error::os(format!("{what} an event"), e))?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        self.control.snapshots.fetch_add(1, Ordering::AcqRel);
        self.wake();
        for _ in 0..self.workers.len() {
            if self.snapshot_done.1.recv_timeout(std::time::Duration::from_secs(10)).is_err() {
                return Err(Error::Other("a worker does not answer the snapshot".into()));
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<Stats> {
        for handle in self.handles.iter() {
            // A CPU may be gone, with its event: nothing to stop there.
            let _ = handle.counter.stop();
        }
        let cpus_gone = self.end_workers()?;
        let (lost, silent) = self.totals();
        Ok(Stats { lost, wakeups: self.control.wakeups.load(Ordering::Relaxed), cpus_gone, silent })
    }
}

impl NativeSession {
    /// Lost samples of each event, where the kernel counts them; and the hardware events that counted nothing.
    fn totals(&self) -> (Option<Vec<u64>>, Vec<usize>) {
        let list = self.description.events.list();
        let mut lost =
            list.iter().all(|event| event.attr.read_format & read_format::LOST != 0).then(|| vec![0u64; list.len()]);
        let mut counted: Vec<Option<u64>> = vec![None; list.len()];
        let mut words = [0u64; 128];
        for handle in self.handles.iter() {
            let index = handle.event as usize;
            let Some(event) = list.get(index) else { continue };
            let Ok(count) = handle.counter.read(&mut words) else { continue };
            // Of a group that is read together only the leader samples, and every member's read begins with it.
            if event.attr.read_format & read_format::GROUP != 0 && !handle.leads {
                continue;
            }
            let (value, missed) = places(&event.attr);
            if let Some(&value) = words[..count].get(value) {
                let sum = counted[index].get_or_insert(0);
                *sum = sum.saturating_add(value);
            }
            if let (Some(lost), Some(&number)) = (&mut lost, words[..count].get(missed)) {
                lost[index] += number;
            }
        }
        let is_silent = |&index: &usize| counted[index] == Some(0) && is_hardware(list[index].attr.kind);
        (lost, (0..list.len()).filter(is_silent).collect())
    }
}

/// Where the count and the lost count of the event (of the leader, for a group) are in what a read gives.
fn places(attr: &Attr) -> (usize, usize) {
    let has = |bit: u64| usize::from(attr.read_format & bit != 0);
    let times = has(read_format::TOTAL_TIME_ENABLED) + has(read_format::TOTAL_TIME_RUNNING);
    // {nr, times, {value, id, lost} ..} or {value, times, id, lost}.
    let value = if has(read_format::GROUP) == 1 { 1 + times } else { 0 };
    (value, 1 + times + has(read_format::ID) + has(read_format::GROUP))
}

impl Drop for NativeSession {
    fn drop(&mut self) {
        let _ = self.end_workers();
    }
}
