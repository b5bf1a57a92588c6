//! Counts of the simulated machine. More events than counters take turns ([`TURN`]), and say so by their share.

use std::time::{Duration, Instant};

use xprof_perfdata::abi::event_type;

use super::Simulated;
use super::machine::{BEGIN, Machine, SLICE};
use super::session::{Armed, callers, counted, refused, setup, whole};
use crate::counters::{Count, CountPlan, Counter, Counters, Counting};
use crate::event::EventSpec;
use crate::msr::counting::{self, Program, Setup};
use crate::msr::{Class, Entry};
use crate::plan::Target;
use crate::{Error, Result};

/// How long a set counts before the next one does, simulated ns: the golden ratio's part of a slice more than one, so that
/// turns are never in step with the scheduler's. No ratio is further from all simple fractions.
pub(super) const TURN: u64 = SLICE + SLICE * 618_034 / 1_000_000;

/// Counters that count together, in turn with other sets.
struct Set {
    /// Index of each in the plan's order.
    counters: Vec<usize>,
    program: Program,
}

struct SimulatedCounting {
    machine: Machine,
    counters: Vec<Counter>,
    notes: Vec<String>,
    sets: Vec<Set>,
    /// Counted by the clock itself.
    clocks: Vec<usize>,
    armed: Vec<(Armed, u32)>,
    counts: Vec<Count>,
    cpus: Vec<u32>,
    now: u64,
    end: u64,
    pace: f64,
    /// When it began in our time, while that drives it (`pace=`): once it is advanced by its own, it is no more.
    began: Option<Instant>,
}

impl Counters for Simulated {
    fn open(&self, plan: &CountPlan) -> Result<Box<dyn Counting>> {
        let machine = self.machine()?;
        let mut notes = Vec::new();
        match &plan.target {
            Target::System => {}
            Target::Command(_) => {
                notes.push("the simulated machine counts its own programs: all of it, whatever the command".into());
            }
            _ => return Err(Error::Other("the simulated machine counts as a whole: leave -p, -t and -G away".into())),
        }
        let cpus = plan.cpus.clone().unwrap_or_else(|| (0..self.cpus).collect());
        if let Some(missing) = cpus.iter().find(|&&cpu| cpu >= self.cpus) {
            return Err(Error::NoTarget { what: format!("CPU {missing} of the simulated machine") });
        }
        let table = *machine.arbiter().table();
        let (mut counters, mut clocks, mut sets) = (Vec::new(), Vec::new(), Vec::<(Vec<usize>, Vec<Setup>)>::new());
        for (number, group) in plan.events.iter().enumerate() {
            let mut members = (Vec::new(), Vec::new());
            for spec in &group.events {
                let at = counters.len();
                counters.push(counter(spec, number));
                if is_clock(spec) {
                    clocks.push(at);
                } else if let Some(event) = counted(&spec.attr) {
                    let one = setup(&spec.attr, event, None);
                    if counting::program(&table, &[one]).is_some() {
                        members.0.push(at);
                        members.1.push(one);
                        continue;
                    }
                    counters[at].refusal = Some(format!("the simulated {} does not count it", table.family.name));
                } else {
                    counters[at].refusal = Some("the simulated machine has no such event".into());
                }
            }
            if members.0.is_empty() {
                continue;
            }
            if counting::program(&table, &members.1).is_none() {
                let why = "the events of the group are more than the simulated machine has counters".to_owned();
                members.0.iter().for_each(|&at| counters[at].refusal = Some(why.clone()));
                continue;
            }
            // Beside what counts already, or else in a turn of its own.
            let with = |set: &(Vec<usize>, Vec<Setup>)| [set.1.as_slice(), &members.1].concat();
            match sets.iter_mut().find(|set| counting::program(&table, &with(set)).is_some()) {
                Some(set) => {
                    set.1 = with(set);
                    set.0.extend(members.0);
                }
                None => sets.push(members),
            }
        }
        if counters.iter().all(|counter: &Counter| counter.refusal.is_some()) {
            let first = counters.first().and_then(|counter| counter.refusal.clone()).unwrap_or_default();
            return Err(Error::Other(first));
        }
        let armed = callers(&machine, self.scope, &cpus)?.into_iter().map(|(caller, cpu)| {
            let handle = Box::new(machine.handle(caller));
            (Armed { handle, program: Program::default() }, cpu)
        });
        let armed = armed.collect();
        let counts = (0..counters.len())
            .filter(|&at| counters[at].refusal.is_none())
            .flat_map(|counter| cpus.iter().map(move |&cpu| Count { counter, cpu: Some(cpu), ..Count::default() }));
        let counts = counts.collect();
        let sets = sets
            .into_iter()
            .filter_map(|(counters, setups)| Some(Set { counters, program: counting::program(&table, &setups)? }));
        let sets = sets.collect();
        let end = BEGIN.saturating_add(self.duration);
        Ok(Box::new(SimulatedCounting {
            machine,
            counters,
            notes,
            sets,
            clocks,
            armed,
            counts,
            cpus,
            now: BEGIN,
            end,
            pace: self.pace,
            began: None,
        }))
    }
}

fn is_clock(spec: &EventSpec) -> bool {
    spec.attr.kind == event_type::SOFTWARE && spec.attr.config <= 1
}

fn counter(spec: &EventSpec, group: usize) -> Counter {
    Counter { name: spec.name.clone(), hardware: spec.attr.kind != event_type::SOFTWARE, refusal: None, group }
}

impl SimulatedCounting {
    /// One turn of one set on every CPU, or its part up to `end`.
    fn turn(&mut self, end: u64) -> Result<()> {
        let which = (self.now - BEGIN) / TURN % self.sets.len().max(1) as u64;
        let until = (BEGIN + ((self.now - BEGIN) / TURN + 1) * TURN).min(end);
        let took = until - self.now;
        self.now = until;
        let set = self.sets.get(which as usize);
        if let Some(set) = set {
            for (armed, _) in &mut self.armed {
                armed.program.clone_from(&set.program);
                armed.enable(true).map_err(refused)?;
            }
        }
        for cpu in &self.cpus {
            self.machine.run(*cpu, until);
        }
        for count in &mut self.counts {
            count.enabled += took;
            if self.clocks.contains(&count.counter) {
                count.value += took;
                count.running += took;
            }
        }
        let Some(set) = set else { return Ok(()) };
        for count in self.counts.iter_mut().filter(|count| set.counters.contains(&count.counter)) {
            count.running += took;
        }
        for (armed, cpu) in &mut self.armed {
            let mut entries: Vec<Entry> = set.program.reload.iter().map(|entry| Entry::of(entry.msr)).collect();
            let done = armed.handle.read(Class::Perf, &mut entries).map_err(refused)?;
            whole(&entries, done).map_err(refused)?;
            for (entry, &counter) in entries.iter().zip(&set.counters) {
                let same = |count: &&mut Count| count.counter == counter && count.cpu == Some(*cpu);
                if let Some(count) = self.counts.iter_mut().find(same) {
                    count.value += entry.value;
                }
            }
            armed.enable(false).map_err(refused)?;
        }
        Ok(())
    }

    fn run(&mut self, until: u64) -> Result<()> {
        let until = until.min(self.end);
        while self.now < until {
            self.turn(until)?;
        }
        Ok(())
    }
}

impl Counting for SimulatedCounting {
    fn counters(&self) -> &[Counter] {
        &self.counters
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        if on {
            self.began = (self.pace > 0.0).then(Instant::now);
        } else {
            self.read()?;
            self.began = None;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Count>> {
        if let Some(began) = self.began {
            let passed = began.elapsed().as_nanos() as f64 * self.pace;
            self.run(BEGIN.saturating_add(passed as u64))?;
        }
        Ok(self.counts.clone())
    }

    fn advance(&mut self, by: Duration) -> Result<Option<Vec<Count>>> {
        self.began = None;
        if self.now >= self.end {
            return Ok(None);
        }
        let from = self.now;
        let begun = Instant::now();
        self.run(from.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))?;
        if self.pace > 0.0 {
            let due = Duration::try_from_secs_f64((self.now - from) as f64 / 1e9 / self.pace).unwrap_or(Duration::MAX);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        Ok(Some(self.counts.clone()))
    }

    fn elapsed(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.now - BEGIN))
    }
}
