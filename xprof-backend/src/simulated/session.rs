//! A recording of the simulated machine: one thread runs it and empties its rings.
//!
//! Simulated time stands still while the receiver is busy, so that nothing is lost and the same seed gives the same
//! records, however loaded the real machine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use xprof_perfdata::abi::{attr_flag, event_type, misc, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::domain::{Domains, PCPUS_FACT, TRACE_ERROR_FACT, WALL_FACT};
use xprof_perfdata::events::Events;
use xprof_perfdata::record::{Comm, Mmap, MmapFile, Record, TaskId};
use xprof_perfdata::sample::{SampleFormat, SampleId};

use super::Simulated;
use super::below::{self, Tracing};
use super::machine::{BEGIN, Machine};
use super::sampler::{self, Out, Shape, Wanted, lock};
use super::world::World;
use crate::event::EventSpec;
use crate::msr::counting::{self, Counted, Program, Setup};
use crate::msr::{Caller, Class, Contract, DomId, Entry, On, Scope};
use crate::native::worker::{MESSAGE_BYTES, UNDER_WAY};
use crate::plan::{CallGraph, Plan, Rate, Target};
use crate::sys::ring::{self, Ring};
use crate::xen::joined;
use crate::{Description, Drained, Error, Image, Message, Result, Session, Stats};

/// Simulated CPUs run so long one after the other, ns.
const ROUND: u64 = 1_000_000;
/// Rings are emptied after so many rounds at the latest.
const ROUNDS: u64 = 50;
/// Pages of a ring's data area.
const PAGES: usize = 128;
/// Samples per second and CPU when as many as possible are asked for.
const MOST: u64 = 100_000;
/// Cycles per second of a simulated CPU.
const HZ: u64 = 1_000_000_000;

const PROT_READ: u32 = 1;
const PROT_EXEC: u32 = 4;
const MAP_PRIVATE: u32 = 2;

/// A handle with what it programs.
pub(super) struct Armed {
    pub(super) handle: Box<dyn Contract + Send>,
    pub(super) program: Program,
}

impl Armed {
    /// Starts its counters, or sets all that it wrote to the defaults. A batch that is not done to its end is an error.
    pub(super) fn enable(&mut self, on: bool) -> crate::msr::Result<()> {
        let mut entries = self.program.start.clone();
        let count = if on {
            self.handle.write(Class::Perf, false, &mut entries)?
        } else {
            entries.reverse();
            self.handle.set_default(Class::Perf, &mut entries)?
        };
        whole(&entries, count)
    }
}

/// The entry that ended a batch before its end, as an error.
pub(super) fn whole(entries: &[Entry], count: usize) -> crate::msr::Result<()> {
    let Some(entry) = entries.get(count) else { return Ok(()) };
    let why = entry.fault().map_or_else(|| format!("errno {}", -entry.status), |fault| fault.to_string());
    Err(crate::msr::Error::Unsupported(format!("register {:#x}: {why}", entry.msr)))
}

/// What the thread runs.
struct Runner {
    machine: Machine,
    armed: Vec<Armed>,
    outs: Vec<Arc<Mutex<Out>>>,
    until: u64,
    pace: f64,
    on: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    tracing: Option<Tracing>,
    out: Sender<Message>,
    spare: Receiver<Vec<u8>>,
}

/// A session of the simulated machine.
pub(super) struct SimulatedSession {
    description: Description,
    images: Vec<Image>,
    ready: Option<Runner>,
    first: Option<Drained>,
    starts_on: bool,
    on: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    messages: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    thread: Option<JoinHandle<Vec<u64>>>,
}

/// The event that a spec names, if the simulated machine has it.
pub(super) fn counted(attr: &Attr) -> Option<Counted> {
    match (attr.kind, attr.config) {
        // PERF_COUNT_HW_CPU_CYCLES, INSTRUCTIONS, CACHE_MISSES, BRANCH_INSTRUCTIONS; a GHz makes cpu-clock cycles too.
        (event_type::HARDWARE, 0) | (event_type::SOFTWARE, 0 | 1) => Some(Counted::Cycles),
        (event_type::HARDWARE, 1) => Some(Counted::Instructions),
        (event_type::HARDWARE, 3) => Some(Counted::Misses),
        (event_type::HARDWARE, 4) => Some(Counted::Branches),
        (event_type::RAW, config) => Some(Counted::Raw(config)),
        _ => None,
    }
}

/// How an event is set up.
pub(super) fn setup(attr: &Attr, event: Counted, period: Option<u64>) -> Setup {
    Setup { event, user: !attr.has(attr_flag::EXCLUDE_USER), kernel: !attr.has(attr_flag::EXCLUDE_KERNEL), period }
}

/// cycles, when nothing is asked for.
pub(super) fn default_event() -> EventSpec {
    EventSpec {
        name: "cycles".into(),
        attr: Attr { kind: event_type::HARDWARE, ..Attr::default() },
        cpus: None,
        precise_is_fixed: false,
        rate_is_fixed: false,
    }
}

fn wanted(target: &Target, notes: &mut Vec<String>) -> Result<Wanted> {
    Ok(match target {
        Target::System => Wanted::All,
        Target::Command(_) => {
            notes.push("the simulated machine runs its own programs: the command only says how long".into());
            Wanted::All
        }
        Target::Processes(pids) => Wanted::Processes(pids.clone()),
        Target::Threads(tids) => Wanted::Threads(tids.clone()),
        Target::Cgroups(_) => return Err(Error::Other("the simulated machine has no cgroups".into())),
        Target::Domains(_) => return Err(Error::Other("the simulated machine has no domains".into())),
    })
}

/// The handles through which the machine is sampled, with the CPU of each; the scope is allocated.
pub(super) fn callers(machine: &Machine, scope: Scope, cpus: &[u32]) -> Result<Vec<(Caller, u32)>> {
    let mut zero = machine.handle(Caller { domain: DomId::ZERO, on: On::Vcpu(0) });
    let mut list = Vec::new();
    match scope {
        Scope::Local => {
            for domain in machine.world.domains() {
                zero.allocate(Class::Perf, domain, Scope::Local).map_err(refused)?;
                list.extend(cpus.iter().map(|&cpu| (Caller { domain, on: On::Vcpu(cpu) }, cpu)));
            }
        }
        _ => {
            zero.allocate(Class::Perf, DomId::ZERO, Scope::Global).map_err(refused)?;
            list.extend(cpus.iter().map(|&cpu| (Caller { domain: DomId::ZERO, on: On::Cpu(cpu) }, cpu)));
        }
    }
    Ok(list)
}

pub(super) fn refused(error: crate::msr::Error) -> Error {
    Error::Other(error.to_string())
}

impl SimulatedSession {
    pub(super) fn open(options: &Simulated, plan: &Plan) -> Result<SimulatedSession> {
        let mut notes = Vec::new();
        if plan.overwrite {
            return Err(Error::Other(
                "the simulated machine's rings are not overwritten: leave --overwrite away".into(),
            ));
        }
        let cpus = match &plan.cpus {
            Some(asked) => asked.clone(),
            None => (0..options.cpus).collect(),
        };
        if let Some(missing) = cpus.iter().find(|&&cpu| cpu >= options.cpus) {
            return Err(Error::NoTarget { what: format!("CPU {missing} of the simulated machine") });
        }
        let wanted = wanted(&plan.target, &mut notes)?;
        let traced = plan.sources.vpmu;
        if traced && options.scope != Scope::Global {
            return Err(Error::Other(
                "--source vpmu is of counters that count everybody: simulated:scope=global".into(),
            ));
        }
        let mut machine = options.machine()?;
        let has = |pid: u32, tid: u32| machine.world.processes.iter().any(|p| p.pid == pid) && tid - pid < options.cpus;
        let missing = match &wanted {
            Wanted::All => None,
            Wanted::Processes(pids) => pids.iter().find(|&&pid| !has(pid, pid)),
            // Threads are numbered from their process's id on, and processes by hundreds.
            Wanted::Threads(tids) => tids.iter().find(|&&tid| !has(tid / 100 * 100, tid)),
        };
        if let Some(missing) = missing {
            let all: Vec<_> = machine.world.processes.iter().map(|p| format!("{} ({})", p.pid, p.comm)).collect();
            let all = all.join(", ");
            return Err(Error::Other(format!(
                "the simulated machine has no process or thread {missing}; its processes are {all}"
            )));
        }
        let chains = plan.call_graph != CallGraph::None;
        let (mut events, setups) = describe(plan, chains)?;
        let table = *machine.arbiter().table();
        let program = counting::program(&table, &setups).ok_or_else(|| {
            let names: Vec<_> = events.list().iter().map(|event| event.name.as_str()).collect();
            Error::Other(format!("the simulated {} cannot count {} at once", table.family.name, names.join(", ")))
        })?;
        let pages = plan.mmap_pages.unwrap_or(PAGES);
        let outs = (0..options.cpus)
            .map(|_| Ring::plain(pages).map(|ring| Arc::new(Mutex::new(Out::new(ring, setups.len())))))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|e| Error::os("map a ring", e))?;
        let shape = Arc::new(Shape { of_a_dom0: traced, ..Shape::of(&events, chains, wanted) });
        let mut armed = Vec::new();
        for (caller, cpu) in callers(&machine, options.scope, &cpus)? {
            let (mut handle, rearm): (Box<dyn Contract + Send>, Box<dyn Contract + Send>) = if options.wire {
                let encoded = machine.encoded(caller, cpu);
                let posting = encoded.posting();
                (Box::new(encoded), Box::new(posting))
            } else {
                (Box::new(machine.handle(caller)), Box::new(machine.handle(caller)))
            };
            let handler = sampler::handler(rearm, &program, &machine.world, &shape, &outs[cpu as usize]);
            handle.irq_handler(Class::Perf, Some(handler)).map_err(refused)?;
            armed.push(Armed { handle, program: program.clone() });
        }
        let (out, messages) = bounded(UNDER_WAY + 4 * outs.len() + 4);
        let (give_back, spare) = bounded(UNDER_WAY);
        let (on, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let images = machine.world.images.iter().map(|image| Image {
            path: image.path.clone().into_bytes(),
            build_id: image.build_id(),
            kernel: image.kernel,
            file: image.file(),
        });
        let images = images.collect();
        let format = events.list().last().map(|event| event.format.clone());
        let bytes = format.map(|format| side_band(&machine.world, options.cpus, &format)).unwrap_or_default();
        let mut rings = options.cpus + 1;
        let (mut tracing, mut head, mut known) = (None, Vec::new(), None);
        if traced {
            machine.trace();
            let domains = below::domains(&machine.world.domains(), options.cpus);
            let (made, names) = Tracing::new(&domains, &joined::nobodies())?;
            let mut all = made.form.events();
            for event in events.list() {
                all.push(event.attr.clone(), event.name.clone(), event.ids.clone());
            }
            (events, head, tracing) = (all, names, Some(made));
            let list = domains.into_iter().chain(joined::nobodies()).collect();
            known = Some(Domains { facts: vec![(PCPUS_FACT.to_owned(), options.cpus.to_string())], list });
            rings += 1;
        }
        Ok(SimulatedSession {
            description: Description {
                events,
                clockid: None,
                rings,
                ring_bytes: pages * ring::page_size(),
                notes,
                head,
                domains: known,
            },
            images,
            first: Some(Drained { ring: options.cpus, bytes, until: u64::MAX }),
            ready: Some(Runner {
                machine,
                armed,
                outs,
                until: BEGIN.saturating_add(options.duration),
                pace: options.pace,
                on: Arc::clone(&on),
                stop: Arc::clone(&stop),
                tracing,
                out,
                spare,
            }),
            starts_on: !plan.start_disabled,
            on,
            stop,
            messages,
            give_back,
            thread: None,
        })
    }
}

/// The events with their attrs, and how each is counted.
fn describe(plan: &Plan, chains: bool) -> Result<(Events, Vec<Setup>)> {
    let mut specs: Vec<EventSpec> = plan.events.iter().flat_map(|group| group.events.clone()).collect();
    if specs.is_empty() {
        specs.push(default_event());
    }
    let order = if cfg!(target_endian = "big") { ByteOrder::Big } else { ByteOrder::Little };
    let mut events = Events::new(order);
    let mut setups = Vec::new();
    let several = specs.len() > 1 || plan.sources.vpmu;
    for (at, spec) in specs.into_iter().enumerate() {
        let event = counted(&spec.attr).ok_or_else(|| Error::Event {
            text: spec.name.clone(),
            at: 0,
            problem: "the simulated machine counts cycles, instructions, cache-misses, branches and raw events".into(),
        })?;
        let period = match plan.rate {
            _ if spec.rate_is_fixed && !spec.attr.has(attr_flag::FREQ) => spec.attr.sample_period,
            Rate::Period(period) => period,
            Rate::Frequency(hz) => HZ / hz.clamp(1, HZ),
            Rate::MaxFrequency => HZ / MOST,
        };
        let mut attr = Attr { sample_period: period.max(1), ..spec.attr };
        attr.flags &= !attr_flag::FREQ;
        attr.flags |= attr_flag::SAMPLE_ID_ALL
            | attr_flag::MMAP
            | attr_flag::MMAP2
            | attr_flag::COMM
            | attr_flag::TASK
            | attr_flag::BUILD_ID;
        attr.sample_type = sample::IP | sample::TID | sample::TIME | sample::CPU | sample::PERIOD;
        attr.sample_type |= if several { sample::IDENTIFIER } else { 0 };
        attr.sample_type |= if chains { sample::CALLCHAIN } else { 0 };
        setups.push(setup(&attr, event, Some(attr.sample_period)));
        events.push(attr, spec.name, vec![at as u64 + 1]);
    }
    Ok((events, setups))
}

/// Kernels, processes, threads and what they have mapped, as records.
fn side_band(world: &World, cpus: u32, format: &SampleFormat) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |record: Record, flags: u16| {
        if let Ok(bytes) = record.encode(&SampleId::default(), flags, format) {
            out.extend(bytes);
        }
    };
    let map = |pid: u32, at: usize| {
        let image = &world.images[at];
        Record::Mmap(Mmap {
            v2: true,
            pid,
            tid: if image.kernel { 0 } else { pid },
            start: image.base,
            len: image.mapped(),
            // For the kernel: the address of its reference symbol.
            pgoff: if image.kernel { image.base } else { 0 },
            file: MmapFile::BuildId(image.build_id()),
            prot: PROT_READ | PROT_EXEC,
            flags: MAP_PRIVATE,
            path: if image.kernel { format!("{}_text", image.path) } else { image.path.clone() }.into_bytes(),
        })
    };
    for (at, _) in world.images.iter().enumerate().filter(|(_, image)| image.kernel) {
        put(map(u32::MAX, at), misc::KERNEL | misc::MMAP_BUILD_ID);
    }
    for process in &world.processes {
        for number in 0..cpus {
            let task = TaskId { pid: process.pid, tid: process.pid + number };
            put(Record::Comm(Comm { task, comm: process.comm.as_bytes().to_vec() }), misc::USER);
        }
        put(map(process.pid, process.image), misc::USER | misc::MMAP_BUILD_ID);
    }
    out
}

impl Runner {
    /// Runs the machine until its time is up or the session stops; samples lost, by event.
    fn run(mut self) -> Vec<u64> {
        let began = Instant::now();
        let mut now = BEGIN;
        let mut on = self.on.load(Ordering::Acquire);
        let mut since = 0;
        while now < self.until && !self.stop.load(Ordering::Acquire) {
            if self.on.load(Ordering::Acquire) != on {
                on = !on;
                if let Err(error) = self.enable(on) {
                    let _ = self.out.send(Message::Failed(Error::Other(error.to_string())));
                    break;
                }
            }
            now = (now + ROUND).min(self.until);
            for cpu in 0..self.outs.len() as u32 {
                self.machine.run(cpu, now);
            }
            since += 1;
            let full = self.outs.iter().any(|out| {
                let out = lock(out);
                out.fresh * 4 >= out.ring.size()
            });
            if (full || since >= ROUNDS) && !self.drain(now, now) {
                break;
            }
            since = if full || since >= ROUNDS { 0 } else { since };
            if self.pace > 0.0 {
                let due = Duration::from_secs_f64((now - BEGIN) as f64 / 1e9 / self.pace);
                while !self.stop.load(Ordering::Acquire) && began.elapsed() < due {
                    std::thread::sleep((due - began.elapsed().min(due)).min(Duration::from_millis(50)));
                }
            }
        }
        let _ = self.enable(false);
        let end = self.machine.end();
        self.drain(u64::MAX, end + 1);
        let _ = self.out.try_send(Message::TargetsGone);
        let mut lost = Vec::new();
        for out in &self.outs {
            let out = lock(out);
            lost.resize(out.lost.len(), 0);
            lost.iter_mut().zip(&out.lost).for_each(|(sum, lost)| *sum += lost);
        }
        lost
    }

    fn enable(&mut self, on: bool) -> crate::msr::Result<()> {
        self.armed.iter_mut().try_for_each(|armed| armed.enable(on))
    }

    /// Hands over what the rings hold, waiting for the receiver; false when the session is over. `anchor`: up to when the trace has everything.
    fn drain(&mut self, until: u64, anchor: u64) -> bool {
        for (ring, out) in self.outs.iter().enumerate() {
            loop {
                while self.out.len() >= UNDER_WAY {
                    if self.stop.load(Ordering::Acquire) {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                let mut bytes = self.spare.try_recv().unwrap_or_default();
                bytes.clear();
                let taken = {
                    let mut out = lock(out);
                    out.fresh = 0;
                    out.ring.take(&mut bytes, MESSAGE_BYTES)
                };
                let until = if taken.left == 0 { until } else { 0 };
                let message = Message::Drained(Drained { ring: ring as u32, bytes, until });
                if self.out.send(message).is_err() {
                    return false;
                }
                if taken.left == 0 {
                    break;
                }
            }
        }
        if let Some(tracing) = &mut self.tracing {
            for (cpu, ring) in self.machine.traces() {
                tracing.read(cpu, ring);
            }
            let mut bytes = Vec::new();
            tracing.anchor(anchor, &mut bytes);
            let drained = Drained { ring: self.outs.len() as u32 + 1, bytes, until };
            let facts = [(WALL_FACT, anchor - BEGIN), (TRACE_ERROR_FACT, 0)];
            let _ = self.out.send(Message::Facts(facts.map(|(key, value)| (key.to_owned(), value.to_string())).into()));
            return self.out.send(Message::Drained(drained)).is_ok();
        }
        true
    }
}

impl Session for SimulatedSession {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn images(&self) -> &[Image] {
        &self.images
    }

    fn start(&mut self) -> Result<()> {
        let (Some(mut runner), Some(first)) = (self.ready.take(), self.first.take()) else {
            return Err(Error::Other("the session has run already".into()));
        };
        // Before the thread, so that a machine that refuses is an error of the start; also when it starts later.
        runner.enable(true).map_err(refused)?;
        if !self.starts_on {
            runner.enable(false).map_err(refused)?;
        }
        self.on.store(self.starts_on, Ordering::Release);
        let _ = runner.out.send(Message::Drained(first));
        let thread = std::thread::Builder::new()
            .name("simulated".into())
            .spawn(move || runner.run())
            .map_err(|e| Error::os("start a thread", e))?;
        self.thread = Some(thread);
        Ok(())
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    fn recycle(&self, buffer: Vec<u8>) {
        let _ = self.give_back.try_send(buffer);
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        self.on.store(on, Ordering::Release);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        Err(Error::Other("the simulated machine's rings are not overwritten".into()))
    }

    fn stop(&mut self) -> Result<Stats> {
        self.stop.store(true, Ordering::Release);
        self.ready = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(lost)) => Ok(Stats { lost: Some(lost), ..Stats::default() }),
            Some(Err(_)) => Err(Error::Other("the simulated machine died".into())),
            None => Ok(Stats::default()),
        }
    }
}

impl Drop for SimulatedSession {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
