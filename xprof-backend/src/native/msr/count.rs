//! Counts of whole CPUs from their registers, without perf: one thread pinned to each CPU, counters programmed through
//! the contract, the time stamp counter beside them.
//!
//! Nothing is multiplexed: events beyond the CPU's counters are refused. Registers know of no tasks, so a command only
//! says how long.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::{Places, Registers, cpus};
use crate::counters::{Count, CountPlan, Counter, Counters, Counting};
use crate::event::EventSpec;
use crate::msr::counting::{self, Counted, Setup};
use crate::msr::{Class, Contract, DomId, Entry, Scope, Table};
use crate::plan::Target;
use crate::{Error, Result, msr};

use xprof_perfdata::abi::{attr_flag, event_type};

const TSC: u32 = 0x10;

/// The machine's registers as counters.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Where the devices are.
    pub places: Places,
    /// The table of every CPU; `None`: its own.
    pub table: Option<Table>,
    /// The CPUs, and what they are called; `None`: those of the plan, or all that have a device.
    pub cpus: Option<Vec<Place>>,
    /// What is to be said of the counts.
    pub notes: Vec<String>,
}

/// A CPU, and the number that its counts are shown under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The system's number.
    pub cpu: u32,
    /// The number that is shown.
    pub shown: u32,
}

/// What an event is on registers.
#[derive(Clone, Copy, Debug)]
enum What {
    /// The time stamp counter (`msr/tsc/`).
    Tsc,
    Event(Setup),
}

fn what(spec: &EventSpec) -> Option<What> {
    if spec.name.starts_with("msr/tsc/") {
        return Some(What::Tsc);
    }
    // PERF_COUNT_HW_CPU_CYCLES, INSTRUCTIONS, CACHE_MISSES, BRANCH_INSTRUCTIONS.
    let event = match (spec.attr.kind, spec.attr.config) {
        (event_type::HARDWARE, 0) => Counted::Cycles,
        (event_type::HARDWARE, 1) => Counted::Instructions,
        (event_type::HARDWARE, 3) => Counted::Misses,
        (event_type::HARDWARE, 4) => Counted::Branches,
        (event_type::RAW, config) => Counted::Raw(config),
        _ => return None,
    };
    let (user, kernel) = (!spec.attr.has(attr_flag::EXCLUDE_USER), !spec.attr.has(attr_flag::EXCLUDE_KERNEL));
    Some(What::Event(Setup { event, user, kernel, period: None }))
}

/// What a CPU's thread is asked.
enum Ask {
    Start,
    Read,
}

type Answer = msr::Result<Vec<u64>>;

/// One CPU: its thread, which ends when it is asked no more.
#[derive(Debug)]
struct Pinned {
    cpu: u32,
    ask: Option<Sender<Ask>>,
    answer: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct MsrCounting {
    counters: Vec<Counter>,
    notes: Vec<String>,
    /// Places in `counters` of what is counted, in the order of the answers.
    counted: Vec<usize>,
    cpus: Vec<Pinned>,
    began: Option<Instant>,
    /// ns from the start to the end, once stopped.
    took: Option<u64>,
}

impl Counters for Counts {
    fn open(&self, plan: &CountPlan) -> Result<Box<dyn Counting>> {
        let mut notes = self.notes.clone();
        match &plan.target {
            Target::System => {}
            Target::Command(_) => {
                notes.push("registers count everything on a CPU: the command only says how long".to_owned());
            }
            _ => return Err(Error::Other("registers count whole CPUs: leave -p, -t and -G away".into())),
        }
        let mut counters = Vec::new();
        let mut wanted = Vec::new();
        for (group, spec) in plan.events.iter().enumerate().flat_map(|(n, g)| g.events.iter().map(move |s| (n, s))) {
            let place = counters.len();
            let found = what(spec);
            wanted.extend(found.map(|what| (place, what)));
            let refusal = found.is_none().then(|| "the registers have no such event".to_owned());
            counters.push(Counter { name: spec.name.clone(), hardware: true, refusal, group });
        }
        let same = |list: Vec<u32>| list.into_iter().map(|cpu| Place { cpu, shown: cpu }).collect();
        let list: Vec<Place> = match (&self.cpus, &plan.cpus) {
            (Some(list), _) => list.clone(),
            (None, Some(list)) => same(list.clone()),
            (None, None) => same(cpus(&self.places)?),
        };
        // Which of them fit is the first CPU's word; another CPU of another kind may refuse on its own.
        let mut opened = Vec::new();
        for &place in &list {
            opened.push(pinned(&self.places, place, self.table, wanted.iter().map(|(_, what)| *what).collect())?);
        }
        let mut counted = Vec::new();
        for (at, (counter, _)) in wanted.iter().enumerate() {
            match opened.iter().find_map(|(_, refusals)| refusals.get(at).cloned().flatten()) {
                Some(why) => counters[*counter].refusal = Some(why),
                None => counted.push(*counter),
            }
        }
        if counted.is_empty() {
            let why = counters.iter().find_map(|counter| counter.refusal.clone()).unwrap_or_default();
            return Err(Error::Other(format!("no event can be counted: {why}")));
        }
        let cpus = opened.into_iter().map(|(pinned, _)| pinned).collect();
        Ok(Box::new(MsrCounting { counters, notes, counted, cpus, began: None, took: None }))
    }
}

/// Why each event cannot be counted on a CPU; `None`: it can.
type Refusals = Vec<Option<String>>;

/// Starts a CPU's thread; it has programmed what it can, and nothing counts yet.
fn pinned(places: &Places, place: Place, table: Option<Table>, wanted: Vec<What>) -> Result<(Pinned, Refusals)> {
    let (ask, asked) = channel();
    let (tell, answer) = channel();
    let (ready, opened) = channel();
    let places = places.clone();
    let Place { cpu, shown } = place;
    let run = move || match Programmed::open(&places, cpu, table, &wanted) {
        Err(error) => drop(ready.send(Err(error))),
        Ok((mut programmed, refusals)) => {
            let _ = ready.send(Ok(refusals));
            for ask in asked {
                let done = match ask {
                    Ask::Start => programmed.start(),
                    Ask::Read => programmed.read(),
                };
                if tell.send(done).is_err() {
                    break;
                }
            }
        }
    };
    let name = format!("msr-{cpu}");
    let thread = thread::Builder::new().name(name).spawn(run).map_err(|e| Error::os("start a thread", e))?;
    let lost = || Error::Other(format!("the thread of CPU {cpu} ended"));
    let refusals = opened.recv().map_err(|_| lost())??;
    Ok((Pinned { cpu: shown, ask: Some(ask), answer, thread: Some(thread) }, refusals))
}

/// A CPU's counters, in its own thread.
struct Programmed {
    registers: Registers,
    start: Vec<Entry>,
    /// What is read, of the events that can be counted.
    read: Vec<Entry>,
    /// What each held at the start.
    origin: Vec<u64>,
    masks: Vec<u64>,
}

impl Programmed {
    fn open(places: &Places, cpu: u32, table: Option<Table>, wanted: &[What]) -> msr::Result<(Programmed, Refusals)> {
        let mut registers = Registers::open_at(places, cpu, table)?;
        registers.allocate(Class::Perf, DomId::ZERO, Scope::Local)?;
        let table = *registers.table();
        let mut refusals: Refusals = vec![None; wanted.len()];
        let mut setups = Vec::new();
        for (what, refusal) in wanted.iter().zip(&mut refusals) {
            let What::Event(setup) = what else { continue };
            let with = [setups.as_slice(), &[*setup]].concat();
            match counting::program(&table, &with) {
                Some(_) => setups = with,
                None if counting::program(&table, &[*setup]).is_none() => {
                    *refusal = Some(format!("CPU {cpu} ({}) has no counter for it", table.family.name));
                }
                None => *refusal = Some(format!("CPU {cpu} has {} counters", setups.len())),
            }
        }
        let program = counting::program(&table, &setups).unwrap_or_default();
        let mut counters = program.reload.iter();
        let mut read = Vec::new();
        for (what, refusal) in wanted.iter().zip(&refusals) {
            match what {
                _ if refusal.is_some() => {}
                What::Tsc => read.push(Entry::of(TSC)),
                What::Event(_) => read.extend(counters.next().map(|entry| Entry::of(entry.msr))),
            }
        }
        let width = |entry: &Entry| table.find(Class::Perf, entry.msr).map_or(u64::MAX, |found| found.mask());
        let masks = read.iter().map(width).collect();
        let origin = vec![0; read.len()];
        Ok((Programmed { registers, start: program.start, read, origin, masks }, refusals))
    }

    fn start(&mut self) -> Answer {
        let mut entries = self.start.clone();
        let count = self.registers.write(Class::Perf, false, &mut entries)?;
        if let Some(entry) = entries.get(count) {
            let why = entry.fault().map_or_else(String::new, |fault| fault.to_string());
            return Err(msr::Error::Unsupported(format!("register {:#x} cannot be written: {why}", entry.msr)));
        }
        self.origin = self.values()?;
        Ok(Vec::new())
    }

    fn read(&mut self) -> Answer {
        let now = self.values()?;
        Ok(now
            .iter()
            .zip(&self.origin)
            .zip(&self.masks)
            .map(|((now, then), mask)| now.wrapping_sub(*then) & mask)
            .collect())
    }

    fn values(&mut self) -> Answer {
        let mut entries = self.read.clone();
        let count = self.registers.read(Class::Perf, &mut entries)?;
        match entries.get(count) {
            None => Ok(entries.iter().map(|entry| entry.value).collect()),
            Some(entry) => {
                let why = entry.fault().map_or_else(String::new, |fault| fault.to_string());
                Err(msr::Error::Unsupported(format!("register {:#x} cannot be read: {why}", entry.msr)))
            }
        }
    }
}

impl MsrCounting {
    fn ask(&self, pinned: &Pinned, ask: Ask) -> Result<Vec<u64>> {
        let lost = || Error::Other(format!("the thread of CPU {} ended", pinned.cpu));
        pinned.ask.as_ref().ok_or_else(lost)?.send(ask).map_err(|_| lost())?;
        Ok(pinned.answer.recv().map_err(|_| lost())??)
    }
}

impl Counting for MsrCounting {
    fn counters(&self) -> &[Counter] {
        &self.counters
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        match on {
            true => {
                for pinned in &self.cpus {
                    self.ask(pinned, Ask::Start)?;
                }
                self.began = Some(Instant::now());
            }
            false => self.took = self.began.map(|began| began.elapsed().as_nanos() as u64),
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Count>> {
        let mut counts = Vec::new();
        for pinned in &self.cpus {
            let values = self.ask(pinned, Ask::Read)?;
            let passed = self.began.map_or(0, |began| began.elapsed().as_nanos() as u64);
            let time = self.took.unwrap_or(passed);
            counts.extend(self.counted.iter().zip(values).map(|(&counter, value)| Count {
                counter,
                cpu: Some(pinned.cpu),
                value,
                enabled: time,
                running: time,
            }));
        }
        Ok(counts)
    }
}

impl Drop for MsrCounting {
    fn drop(&mut self) {
        for pinned in &mut self.cpus {
            pinned.ask = None;
            if let Some(thread) = pinned.thread.take() {
                // It puts its registers back.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventGroup;
    use xprof_perfdata::attr::Attr;

    /// A file of 24 bytes is a device whose only register is the time stamp counter.
    #[test]
    fn the_time_stamp_counter_counts_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { devices: dir.path().join("cpu"), journals: dir.path().join("journals") };
        std::fs::create_dir_all(places.devices.join("0")).unwrap();
        let set = |value: u64| {
            std::fs::write(places.devices.join("0/msr"), [[0; 16].as_slice(), &value.to_le_bytes()].concat()).unwrap();
        };
        let spec = |name: &str, kind, config| EventSpec {
            name: name.into(),
            attr: Attr { kind, config, ..Attr::default() },
            cpus: None,
            precise_is_fixed: false,
            rate_is_fixed: false,
        };
        let lone = |spec| EventGroup { events: vec![spec], leader_sampling: false, name: String::new() };
        let events = vec![lone(spec("page-faults", event_type::SOFTWARE, 2)), lone(spec("msr/tsc/", 99, 0))];
        let plan = CountPlan { events, target: Target::System, cpus: None, inherit: true };
        set(1000);
        let mut counting = Counts { places: places.clone(), ..Counts::default() }.open(&plan).unwrap();
        assert!(counting.counters()[0].refusal.is_some() && counting.counters()[1].refusal.is_none());
        set(5000);
        counting.enable(true).unwrap();
        set(5777);
        let counts = counting.read().unwrap();
        assert_eq!((counts.len(), counts[0].counter, counts[0].cpu, counts[0].value), (1, 1, Some(0), 777));
        set(6000);
        counting.enable(false).unwrap();
        let end = counting.read().unwrap();
        assert!(end[0].value == 1000 && end[0].running == end[0].enabled && end[0].enabled > 0);
        assert_eq!(counting.read().unwrap(), end);
        drop(counting);
        assert_eq!(std::fs::read_dir(&places.journals).unwrap().count(), 0);
    }
}
