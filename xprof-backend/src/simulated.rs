#![forbid(unsafe_code)]
//! A simulated machine behind the same traits as a real one: for machines without counters, for tests, and to prove the
//! contract of [`crate::msr`] on.
//!
//! CPUs run vCPUs of domains, these run programs with known hot spots, their PMUs overflow with the quirks of a CPU
//! family, and all of it is reached through the contract alone. The sampler's handlers write kernel records into rings
//! of the kernel's layout, and the drain code of every backend empties them. The same seed gives the same recording.
//!
//! * [`Simulated`]: the backend and its options. [`session`]: a recording of it. [`count`]: counts without samples.
//! * [`machine`], [`pmu`], [`world`]: CPUs, counters, and what runs. [`image`]: programs as ELF files.
//! * [`below`]: what a Xen would tell of it.
//! * [`sampler`]: programs counters through the contract and writes a record for each interrupt.

mod below;
mod count;
mod image;
mod machine;
mod pmu;
mod sampler;
mod session;
#[cfg(test)]
mod tests;
mod world;

pub use world::Truth;

use machine::Machine;
use world::World;

use crate::msr::{self, Limits, Rearm, Scope, Table, tables};
use crate::plan::Plan;
use crate::xen::joined::Joined;
use crate::{Availability, Backend, Error, Result, Session};

/// CPUs at most.
const CPUS_MAX: u32 = 64;
/// Simulated seconds at most.
const SECONDS_MAX: f64 = 86_400.0;

/// The simulated machine, as `--backend simulated[:OPTION=VALUE,..]` describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulated {
    /// What decides every random choice (`seed=`).
    pub seed: u64,
    /// How long it runs, simulated ns (`seconds=`).
    pub duration: u64,
    /// CPUs (`cpus=`).
    pub cpus: u32,
    /// Name of the PMU's family (`family=`).
    pub family: String,
    /// LOCAL: each domain samples itself; GLOBAL: domain 0 samples the machine (`scope=`).
    pub scope: Scope,
    /// Cycles from an overflow to its interrupt (`skid=`).
    pub skid: u64,
    /// Through the wire form instead of calls (`wire=yes`).
    pub wire: bool,
    /// Simulated seconds in one second (`pace=`); 0: as fast as it goes.
    pub pace: f64,
}

impl Default for Simulated {
    fn default() -> Self {
        Simulated {
            seed: 1,
            duration: 10_000_000_000,
            cpus: 2,
            family: "perfmon-v2".into(),
            scope: Scope::Global,
            skid: 0,
            wire: false,
            pace: 0.0,
        }
    }
}

impl std::str::FromStr for Simulated {
    type Err = String;

    /// Reads `OPTION=VALUE,..`; nothing at all is the default machine.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut made = Simulated::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or_else(|| format!("{option:?}: an option is NAME=VALUE"))?;
            let bad = || format!("{option:?}: no such value");
            match name {
                "seed" => made.seed = value.parse().map_err(|_| bad())?,
                "seconds" => {
                    let seconds: f64 = value.parse().map_err(|_| bad())?;
                    if !(seconds > 0.0 && seconds <= SECONDS_MAX) {
                        return Err(format!("{option:?}: seconds, more than 0 and at most {SECONDS_MAX}"));
                    }
                    made.duration = (seconds * 1e9) as u64;
                }
                "cpus" => match value.parse() {
                    Ok(cpus @ 1..=CPUS_MAX) => made.cpus = cpus,
                    _ => return Err(format!("{option:?}: 1 to {CPUS_MAX} CPUs")),
                },
                "family" => {
                    if !families().any(|name| name == value) {
                        let list: Vec<_> = families().collect();
                        return Err(format!("{option:?}: the simulated families are {}", list.join(", ")));
                    }
                    made.family = value.to_owned();
                }
                "scope" => {
                    made.scope = match value {
                        "local" => Scope::Local,
                        "global" => Scope::Global,
                        _ => return Err(format!("{option:?}: local or global")),
                    }
                }
                "skid" => {
                    made.skid = value.parse().ok().filter(|&skid| skid <= 100_000).ok_or_else(bad)?;
                }
                "wire" => {
                    made.wire = match value {
                        "yes" => true,
                        "no" => false,
                        _ => return Err(format!("{option:?}: yes or no")),
                    }
                }
                "pace" => {
                    made.pace = value.parse().ok().filter(|pace| (0.0..=1e6).contains(pace)).ok_or_else(bad)?;
                }
                _ => {
                    return Err(format!(
                        "{option:?}: the options are seed, seconds, cpus, family, scope, skid, wire, pace"
                    ));
                }
            }
        }
        Ok(made)
    }
}

/// The families whose PMUs can be simulated.
fn families() -> impl Iterator<Item = &'static str> {
    let events =
        [msr::counting::Setup { event: msr::counting::Counted::Cycles, user: true, kernel: true, period: Some(1000) }];
    tables::FAMILIES
        .iter()
        .filter(move |family| msr::counting::program(&table_of(family), &events).is_some())
        .map(|family| family.name)
}

/// A family's table with the counters that its CPUs had.
fn table_of(family: &'static msr::Family) -> Table {
    let (general, fixed, width) = match family.rearm {
        Rearm::P6 | Rearm::PentiumM => (2, 0, 40),
        Rearm::NetBurst => (18, 0, 40),
        Rearm::Perfmon => (4, 3, 48),
        Rearm::Amd | Rearm::Pmuv3 => (6, 0, 48),
    };
    Table { family, limits: Limits { general, fixed, general_width: width, fixed_width: width } }
}

impl Simulated {
    fn machine(&self) -> Result<Machine> {
        let family = tables::named(&self.family)
            .ok_or_else(|| Error::Other(format!("there is no table of a family {:?}", self.family)))?;
        Ok(Machine::new(World::new(), table_of(family), self.cpus, self.skid, self.seed))
    }

    /// The machine, for making the contract's calls one by one; nothing of it runs but by [`ByHand::run`].
    ///
    /// # Errors
    /// [`Error::Other`] for a family without a table.
    pub fn by_hand(&self) -> Result<ByHand> {
        Ok(ByHand { machine: self.machine()?, duration: self.duration })
    }

    /// What a recording of all of it should show.
    pub fn truth(&self) -> Vec<Truth> {
        World::new().truth()
    }
}

/// A simulated machine that is driven step by step.
#[derive(Debug)]
pub struct ByHand {
    machine: Machine,
    duration: u64,
}

impl ByHand {
    /// A handle of a caller.
    pub fn handle(&self, caller: msr::Caller) -> Box<dyn msr::Contract + Send> {
        Box::new(self.machine.handle(caller))
    }

    /// The class table of its CPUs.
    pub fn table(&self) -> Table {
        *self.machine.arbiter().table()
    }

    /// Its domains, by number.
    pub fn domains(&self) -> Vec<msr::DomId> {
        self.machine.world.domains()
    }

    /// Runs a CPU for so many simulated ns.
    pub fn run(&mut self, cpu: u32, ns: u64) {
        self.machine.run_on(cpu, ns);
    }

    /// How long it was made to run, simulated ns.
    pub fn duration(&self) -> u64 {
        self.duration
    }
}

impl Backend for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn probe(&self) -> Availability {
        Availability::Yes
    }

    fn open(&self, plan: &Plan) -> Result<Box<dyn Session>> {
        let session = Box::new(session::SimulatedSession::open(self, plan)?);
        // The trace's ring is the last one.
        let states = session.describe().rings - 1;
        Ok(if plan.sources.vpmu { Box::new(Joined::new(session, states)?) } else { session })
    }
}
