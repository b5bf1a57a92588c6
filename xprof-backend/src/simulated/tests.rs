use super::*;

#[test]
fn options_are_read_and_mistakes_named() {
    let read = |text: &str| text.parse::<Simulated>();
    assert_eq!(read(""), Ok(Simulated::default()));
    let made = read("seed=7,seconds=0.5,cpus=4,scope=local,skid=20,pace=1").unwrap();
    assert_eq!((made.seed, made.duration, made.cpus, made.skid), (7, 500_000_000, 4, 20));
    assert_eq!((made.scope, made.pace), (Scope::Local, 1.0));
    for bad in ["seed", "seed=x", "cpus=0", "cpus=65", "seconds=0", "seconds=-1", "seconds=nan", "scope=x", "what=1"] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let error = read("family=z80").unwrap_err();
    assert!(error.contains("perfmon-v2"), "{error}");
}

use std::collections::BTreeMap;
use std::time::Duration;

use xprof_perfdata::abi::record;
use xprof_perfdata::sample::Sample;

use super::machine::SLICE;
use super::pmu::PER;
use super::world::{FUNCTION, STRETCH};
use crate::Message;
use crate::counters::{Count, CountPlan, Counters};
use crate::msr::{Caller, Class, Contract, DomId, Entry, On};
use crate::plan::{CallGraph, Rate};

/// Cycles between samples: more than a stretch, so that no two samples fall into one.
const PERIOD: u64 = 10_007;

fn small(family: &str, scope: Scope) -> Simulated {
    Simulated { duration: 600_000_000, family: family.into(), scope, ..Simulated::default() }
}

fn plan() -> Plan {
    Plan { rate: Rate::Period(PERIOD), ..Plan::default() }
}

/// The raw bytes of all rings, and samples lost.
fn bytes(simulated: &Simulated, plan: &Plan) -> (Vec<Vec<u8>>, u64) {
    let mut session = Backend::open(simulated, plan).unwrap();
    let mut rings = vec![Vec::new(); session.describe().rings as usize];
    session.start().unwrap();
    for message in session.messages().iter() {
        match message {
            Message::Drained(drained) => {
                rings[drained.ring as usize].extend_from_slice(&drained.bytes);
                session.recycle(drained.bytes);
            }
            Message::TargetsGone => break,
            other => panic!("{other:?}"),
        }
    }
    let stats = session.stop().unwrap();
    (rings, stats.lost.unwrap().iter().sum())
}

fn samples(simulated: &Simulated, plan: &Plan) -> Vec<Sample> {
    let events = Backend::open(simulated, plan).unwrap().describe().events.clone();
    let (rings, lost) = bytes(simulated, plan);
    assert_eq!(lost, 0);
    let mut list = Vec::new();
    for mut rest in rings.iter().map(Vec::as_slice) {
        while !rest.is_empty() {
            let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
            if rest[..4] == record::SAMPLE.to_ne_bytes() {
                let mut sample = Sample::default();
                let event = events.event_of(record::SAMPLE, &rest[8..size]).unwrap();
                events.list()[event as usize].format.decode_sample(&rest[8..size], &mut sample).unwrap();
                list.push(sample);
            }
            rest = &rest[size..];
        }
    }
    list
}

/// The function of a sample, as (pid, name).
fn named(world: &World, samples: &[Sample]) -> BTreeMap<(u32, String), u64> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        let process = world.processes.iter().find(|process| process.pid == sample.id.pid).unwrap();
        let path = process.paths.iter().find(|path| (path.leaf..path.leaf + FUNCTION).contains(&sample.ip)).unwrap();
        *counts.entry((process.pid, path.function.clone())).or_default() += 1;
    }
    counts
}

/// Samples fall as the programs are written.
///
/// The bound: no two samples of a process fall into one stretch, and stretches are chosen independently, so among n
/// samples of a process the share of a function with probability p is off by more than e with probability at most
/// 2 exp(-2 n e^2) (Hoeffding). With all rows together below 1e-9 that gives e. The share of a process is no matter of
/// chance: each of its slices holds SLICE / PERIOD samples, rounded either way, and may run over by one stretch.
fn samples_are_the_truth(simulated: &Simulated) {
    let (family, scope) = (&simulated.family, simulated.scope);
    let world = World::new();
    let list = samples(simulated, &plan());
    let counts = named(&world, &list);
    let truth = simulated.truth();
    let slices = (simulated.duration / SLICE) as f64 * f64::from(simulated.cpus);
    for process in &world.processes {
        let of: Vec<&Truth> = truth.iter().filter(|row| row.pid == process.pid).collect();
        let share: f64 = of.iter().map(|row| row.samples).sum();
        let n: u64 = counts.iter().filter(|((pid, _), _)| *pid == process.pid).map(|(_, n)| n).sum();
        let each = SLICE as f64 / PERIOD as f64;
        let expected = slices * share * each;
        let off = slices * share * (1.0 + STRETCH as f64 / PERIOD as f64) + each;
        assert!((n as f64 - expected).abs() <= off, "{family} {scope:?} {}: {n} of {expected} +- {off}", process.comm);
        let e = ((2.0 * truth.len() as f64 / 1e-9).ln() / (2.0 * n as f64)).sqrt();
        for row in of {
            let seen = counts.get(&(process.pid, row.symbol.clone())).copied().unwrap_or(0) as f64 / n as f64;
            let true_share = row.samples / share;
            assert!((seen - true_share).abs() <= e, "{family} {scope:?} {}: {seen} of {true_share} +- {e}", row.symbol);
            // What runs with interrupts off is never where a sample falls.
            assert!(row.samples > 0.0 || seen == 0.0, "{}", row.symbol);
        }
    }
}

#[test]
fn samples_are_the_truth_on_every_family_in_both_scopes() {
    let families: Vec<_> = families().collect();
    for needed in ["p6", "pentium-m", "netburst", "perfmon-v2", "amd-k8", "amd-perfmon-v2"] {
        assert!(families.contains(&needed), "{needed} of {families:?}");
    }
    samples_are_the_truth(&small("perfmon-v2", Scope::Global));
    let shorter = |family: &str, scope| Simulated { duration: 120_000_000, ..small(family, scope) };
    for family in families {
        samples_are_the_truth(&shorter(family, Scope::Global));
    }
    for family in ["p6", "netburst", "perfmon-v2", "amd-k8"] {
        samples_are_the_truth(&shorter(family, Scope::Local));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let one = Simulated { duration: 100_000_000, ..Simulated::default() };
    let other = Simulated { seed: 2, ..one.clone() };
    assert!(bytes(&one, &plan()) == bytes(&one, &plan()));
    assert!(bytes(&one, &plan()) != bytes(&other, &plan()));
}

#[test]
fn the_wire_form_changes_nothing() {
    for family in ["netburst", "pentium-m", "perfmon-v4", "amd-17h"] {
        for scope in [Scope::Local, Scope::Global] {
            let calls = Simulated { duration: 30_000_000, ..small(family, scope) };
            let wire = Simulated { wire: true, ..calls.clone() };
            let (calls, wire) = (bytes(&calls, &plan()), bytes(&wire, &plan()));
            assert!(calls == wire && calls.0[0].len() > 1000, "{family} {scope:?}");
        }
    }
}

#[test]
fn a_skid_moves_samples_and_loses_none() {
    let without = samples(&small("perfmon-v2", Scope::Global), &plan());
    let skidding = Simulated { skid: 300, ..small("perfmon-v2", Scope::Global) };
    let with = samples(&skidding, &plan());
    // The skid does not add up: counters go on counting from their overflow. One period may be cut at the end.
    let longest = PERIOD + 300 + STRETCH;
    assert!(with.len() as u64 >= without.len() as u64 * PERIOD / longest - 2, "{} {}", with.len(), without.len());
    assert_ne!(with[0].id.time, without[0].id.time);
}

#[test]
fn chains_are_those_of_the_programs() {
    let simulated = small("perfmon-v2", Scope::Global);
    let list = samples(&simulated, &Plan { call_graph: CallGraph::FramePointers, ..plan() });
    let world = World::new();
    let name = |pid: u32, address: u64| {
        let process = world.processes.iter().find(|process| process.pid == pid).unwrap();
        let images = world.images.iter().enumerate().filter(|(at, image)| image.kernel || *at == process.image);
        images.filter_map(|(_, image)| image.name(address)).next().unwrap().to_owned()
    };
    let chains: std::collections::BTreeSet<String> = list
        .iter()
        .map(|sample| {
            let frames = sample.callchain.iter().map(|&ip| match ip as i64 {
                -128 => "k".into(),
                -512 => "u".into(),
                _ => name(sample.id.pid, ip),
            });
            frames.collect::<Vec<_>>().join(" ")
        })
        .collect();
    let expected = [
        "u square work main",
        "u cube work main",
        "u remainder work main",
        "k copy_page vfs_read do_syscall_64 u load main",
        "k irq_restore vfs_read do_syscall_64 u load main",
        "u crc32 flush main",
        "u memcpy flush main",
        "u parse serve main",
        "k checksum tcp_sendmsg do_syscall_64 u send serve main",
        "u compare scan scan scan query main",
        "u hash query main",
    ];
    assert_eq!(chains, expected.map(String::from).into());
}

#[test]
fn counts_are_exact() {
    let simulated = Simulated { cpus: 1, ..small("perfmon-v2", Scope::Global) };
    let mut machine = simulated.machine().unwrap();
    machine
        .handle(Caller { domain: DomId(0), on: On::Vcpu(0) })
        .allocate(Class::Perf, DomId(0), Scope::Global)
        .unwrap();
    let mut handle = machine.handle(Caller { domain: DomId(0), on: On::Cpu(0) });
    let setups = [msr::counting::Counted::Cycles, msr::counting::Counted::Instructions]
        .map(|event| msr::counting::Setup { event, user: true, kernel: true, period: None });
    let table = *machine.arbiter().table();
    let mut program = msr::counting::program(&table, &setups).unwrap();
    let entries = program.start.len();
    assert_eq!(handle.write(Class::Perf, false, &mut program.start).unwrap(), entries);
    let end = machine::BEGIN + 30 * SLICE;
    machine.run(0, end);
    let mut values = [Entry::of(program.reload[0].msr), Entry::of(program.reload[1].msr)];
    assert_eq!(handle.read(Class::Perf, &mut values).unwrap(), 2);
    // It stops at the end, or where interrupts come on again.
    assert!((30 * SLICE..30 * SLICE + STRETCH).contains(&values[0].value), "{}", values[0].value);
    // Between the slowest and the fastest path.
    assert!(values[1].value > 30 * SLICE * 512 / PER && values[1].value < 30 * SLICE * 2500 / PER);
}

/// All counts of one CPU at the machine's end, by event.
fn counts(simulated: &Simulated, events: &str) -> Vec<Count> {
    let plan = counted(events);
    let mut counting = Counters::open(&Simulated { cpus: 1, ..simulated.clone() }, &plan).unwrap();
    counting.enable(true).unwrap();
    let counts = counting.advance(Duration::MAX).unwrap().unwrap();
    assert!(counting.advance(Duration::MAX).unwrap().is_none());
    counts
}

fn counted(events: &str) -> CountPlan {
    let events = crate::event::parse(events).unwrap();
    CountPlan { events, target: crate::plan::Target::System, cpus: None, inherit: false }
}

#[test]
fn two_events_are_two_counters_on_every_family() {
    let of = |family: &str| -> Vec<u64> {
        let simulated = Simulated { duration: 20_000_000, ..small(family, Scope::Global) };
        counts(&simulated, "cycles,instructions").iter().map(|count| count.value).collect()
    };
    let expected = of("perfmon-v2");
    assert!(expected[0] >= 20_000_000 && expected[1] > expected[0], "{expected:?}");
    for family in families() {
        assert_eq!(of(family), expected, "{family}");
    }
    // EN is in the first select alone, and both sample.
    let plan = Plan { events: crate::event::parse("cycles,instructions").unwrap(), ..plan() };
    for family in ["p6", "pentium-m"] {
        let list = samples(&Simulated { duration: 20_000_000, ..small(family, Scope::Global) }, &plan);
        let of = |id| list.iter().filter(|sample| sample.id.id == id).count();
        assert!(of(1) > 1000 && of(2) > of(1), "{family}: {} {}", of(1), of(2));
    }
}

#[test]
fn a_set_up_that_the_machine_refuses_is_an_error() {
    let table = table_of(tables::named("p6").unwrap());
    let reserved = msr::Entry { status: msr::Fault::Reserved.status(), ..Entry::with(0x187, 1 << 22) };
    assert!(table.find(Class::Perf, 0x187).unwrap().accept(reserved.value).is_err());
    let error = session::whole(&[Entry::of(0x186), reserved], 1).unwrap_err();
    assert!(error.to_string().contains("0x187"), "{error}");
    assert!(session::whole(&[reserved], 1).is_ok());
}

#[test]
fn events_of_one_escr_take_turns() {
    let simulated = Simulated { duration: 200_000_000, ..small("netburst", Scope::Global) };
    let counts = counts(&simulated, "cycles,cycles:u,cycles:k");
    let estimate: Vec<f64> = counts.iter().map(|count| count.estimate().unwrap() as f64).collect();
    for count in &counts {
        assert!((0.3..0.4).contains(&count.share().unwrap()), "{counts:?}");
    }
    assert!(estimate[2] < estimate[1] && estimate[1] < estimate[0], "{estimate:?}");
    let plan = Plan { events: crate::event::parse("cycles:u,cycles:k").unwrap(), ..plan() };
    let error = Backend::open(&simulated, &plan).err().unwrap();
    assert!(error.to_string().contains("cannot count cycles:u, cycles:k at once"), "{error}");
}

/// The share of the kernel, from turns that see a third of the time.
///
/// The bound: the scheduler's order comes again after P, and the share of the kernel at a time x of it is a step function
/// f. The mean over turns is off by at most V(f) D (Koksma), V the variation of f and D the star discrepancy of the turns'
/// beginnings modulo P: both are computed here. The last turn may be short (1/n); each turn begins and ends within a
/// stretch (2 STRETCH/TURN); and stretches are chosen at random, by which the share of m of them is off by more than e with
/// probability at most 2 exp(-2 m e^2) = 1e-9 (Hoeffding).
#[test]
fn turns_are_not_in_step_with_the_scheduler() {
    let simulated = Simulated { duration: 1_000_000_000, ..small("perfmon-v2", Scope::Global) };
    let events = "cycles,instructions,branches,cycles:u,cycles:k,instructions:u,instructions:k,branches:u,branches:k";
    let counts = counts(&simulated, events);
    let kernel = |pid: u32| -> f64 {
        let own = simulated.truth().into_iter().filter(|row| row.pid == pid);
        let (inside, all) = own.fold((0.0, 0.0), |(inside, all), row| {
            (inside + if row.dso.starts_with('[') { row.cycles } else { 0.0 }, all + row.cycles)
        });
        inside / all
    };
    // Three domains in turn, of which the first has two processes.
    let order = [1100, 2100, 3100, 1200, 2100, 3100].map(kernel);
    let truth = order.iter().sum::<f64>() / order.len() as f64;
    let variation: f64 = (0..order.len()).map(|at| (order[at] - order[(at + 1) % order.len()]).abs()).sum();
    let period = SLICE * order.len() as u64;
    let sets = 3;
    let turns = simulated.duration / super::count::TURN;
    for (at, sign) in [(3, 1.0 - truth), (4, truth)] {
        let share = counts[at].estimate().unwrap() as f64 / simulated.duration as f64;
        let bound = (0..sets).map(|set| {
            let begins = (0..turns).filter(|turn| turn % sets == set);
            let mut phases: Vec<f64> =
                begins.map(|turn| (turn * super::count::TURN % period) as f64 / period as f64).collect();
            phases.sort_by(f64::total_cmp);
            let n = phases.len() as f64;
            let off = phases.iter().enumerate().map(|(i, x)| ((i + 1) as f64 / n - x).max(x - i as f64 / n));
            let turn = super::count::TURN as f64;
            let chance = ((2.0_f64 / 1e-9).ln() / (2.0 * n * turn / STRETCH as f64)).sqrt();
            variation * off.fold(0.0, f64::max) + 1.0 / n + 2.0 * STRETCH as f64 / turn + chance
        });
        let bound = bound.fold(0.0, f64::max);
        assert!(bound < 0.1 && (share - sign).abs() <= bound, "{share} of {sign} +- {bound}");
    }
}

#[test]
fn it_goes_on_by_its_own_time() {
    let simulated = Simulated { cpus: 1, duration: 35_000_000, ..small("perfmon-v2", Scope::Global) };
    let mut counting = Counters::open(&simulated, &counted("cpu-clock")).unwrap();
    counting.enable(true).unwrap();
    let mut seen = Vec::new();
    while let Some(counts) = counting.advance(Duration::from_millis(10)).unwrap() {
        seen.push((counting.elapsed().unwrap().as_millis(), counts[0].value));
    }
    assert_eq!(seen, [(10, 10_000_000), (20, 20_000_000), (30, 30_000_000), (35, 35_000_000)]);
    assert_eq!(counting.read().unwrap()[0].value, 35_000_000);
}

/// The simulated machine under the suite, through calls or the wire form.
struct OnStand {
    machine: Machine,
    wire: bool,
    now: u64,
}

impl msr::conformance::Stand for OnStand {
    fn ability(&self) -> msr::conformance::Ability {
        msr::conformance::Ability { domains: true, writes: true, interrupts: true }
    }

    fn table(&self) -> Table {
        *self.machine.arbiter().table()
    }

    fn handle(&mut self, caller: Caller) -> Box<dyn Contract + Send> {
        match (self.wire, caller.on) {
            (false, _) => Box::new(self.machine.handle(caller)),
            (true, On::Vcpu(cpu) | On::Cpu(cpu)) => Box::new(self.machine.encoded(caller, cpu)),
        }
    }

    fn rearming(&mut self, caller: Caller) -> Box<dyn Contract + Send> {
        match (self.wire, caller.on) {
            (false, _) => self.handle(caller),
            (true, On::Vcpu(cpu) | On::Cpu(cpu)) => Box::new(self.machine.encoded(caller, cpu).posting()),
        }
    }

    fn run(&mut self) {
        self.now += 7 * SLICE / 2;
        for cpu in 0..2 {
            self.machine.run(cpu, self.now);
        }
    }

    fn kill(&mut self, domain: DomId) {
        self.machine.arbiter().destroy_domain(domain);
    }
}

#[test]
fn the_contract_is_kept_by_every_family_through_calls_and_through_the_wire_form() {
    for family in families() {
        for wire in [false, true] {
            msr::conformance::suite(&mut || {
                let machine = small(family, Scope::Global).machine().unwrap();
                Box::new(OnStand { machine, wire, now: machine::BEGIN })
            });
        }
    }
}

/// A domain (none: dom0's kernel names the task), a vCPU, a mode, an address.
type Told = (Option<u32>, u32, u16, u64);

/// Samples of a recording with `--source vpmu` by CPU, in order, and whose they are said to be.
fn told(simulated: &Simulated, plan: &Plan) -> Vec<Vec<Told>> {
    let mut session = Backend::open(simulated, plan).unwrap();
    let events = session.describe().events.clone();
    let mut guests = xprof_perfdata::domain::Guests::default();
    let mut list = vec![Vec::new(); simulated.cpus as usize];
    session.start().unwrap();
    for message in session.messages().iter() {
        let Message::Drained(drained) = message else {
            if matches!(message, Message::TargetsGone) {
                break;
            }
            continue;
        };
        let mut rest = &drained.bytes[..];
        while !rest.is_empty() {
            let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
            let (kind, misc, body) = (&rest[..4], u16::from_ne_bytes([rest[4], rest[5]]), &rest[8..size]);
            if kind == record::ID_INDEX.to_ne_bytes() {
                let kind = record::ID_INDEX;
                let raw = xprof_perfdata::order::RawRecord { kind, misc, body, time: 0, event: u32::MAX, offset: 0 };
                let (xprof_perfdata::record::Record::IdIndex(index), _) =
                    xprof_perfdata::record::Record::decode(&raw, &events).unwrap()
                else {
                    panic!("not an index")
                };
                guests.learn(&index);
            } else if kind == record::SAMPLE.to_ne_bytes() && drained.ring < simulated.cpus {
                let mut sample = Sample::default();
                let event = events.event_of(record::SAMPLE, body).unwrap();
                events.list()[event as usize].format.decode_sample(body, &mut sample).unwrap();
                let guest = guests.of(sample.id.id);
                let vcpu = guest.map_or(sample.id.cpu, |guest| guest.vcpu);
                list[sample.id.cpu as usize].push((guest.map(|guest| guest.machine_pid), vcpu, misc, sample.ip));
            }
            rest = &rest[size..];
        }
    }
    session.stop().unwrap();
    list
}

#[test]
fn what_xens_trace_tells_of_counters_is_what_the_machine_knows() {
    use xprof_perfdata::abi::misc;
    for wire in [false, true] {
        let simulated = Simulated { wire, cpus: 3, ..small("perfmon-v2", Scope::Global) };
        let sources = crate::plan::Sources { context: false, trace: true, vpmu: true };
        let told = told(&simulated, &Plan { sources, ..plan() });
        // The machine itself says whose its processes are: the thousands of their numbers.
        let truth = samples(&simulated, &plan());
        let mut joined = 0;
        for cpu in 0..simulated.cpus {
            let truth: Vec<_> = truth
                .iter()
                .filter(|sample| sample.id.cpu == cpu)
                .map(|sample| {
                    let (domain, kernel) = (sample.id.pid / 1000 - 1, sample.ip >> 63 == 1);
                    let mode = match (domain, kernel) {
                        (0, false) => misc::USER,
                        (0, true) => misc::KERNEL,
                        (_, false) => misc::GUEST_USER,
                        (_, true) => misc::GUEST_KERNEL,
                    };
                    (Some(domain).filter(|domain| *domain != 0), cpu, mode, sample.ip)
                })
                .collect();
            joined += truth.iter().filter(|(domain, ..)| domain.is_some()).count();
            assert_eq!(told[cpu as usize], truth, "CPU {cpu}");
        }
        assert!(joined > 3 * 600_000_000 / PERIOD as usize / 2, "{joined}");
    }
    let local = Simulated { scope: Scope::Local, ..Simulated::default() };
    let sources = crate::plan::Sources { vpmu: true, ..Default::default() };
    assert!(Backend::open(&local, &Plan { sources, ..plan() }).is_err());
}
