//! The simulated machine: CPUs that run vCPUs of domains that run threads, and their interrupts.
//!
//! A cycle takes 1 ns. Every CPU gives each of its vCPUs a slice in turn, and every vCPU each of its threads. The
//! machine stops at an overflow, at the end of a stretch and of a slice, and nowhere else; what a counter saw is exact.
//! Interrupts are taken [`Machine::skid`] cycles after their overflow, and not before interrupts are on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::below::TraceRing;
use super::pmu::Hardware;
use super::world::{FUNCTION, Process, World};
use crate::msr::arbiter::{Arbiter, Handle};
use crate::msr::wire::encoded::{self, Encoded};
use crate::msr::{Caller, Cause, DomId, Overflow, Table};

/// One thread's turn, ns.
pub(super) const SLICE: u64 = 1_000_000;
/// Time of the first cycle, ns.
pub(super) const BEGIN: u64 = 1_000_000_000;
/// RFLAGS with interrupts on.
const FLAGS: u64 = 0x202;

/// splitmix64: one number after the other from a seed.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

/// A thread that waits or runs.
#[derive(Clone, Debug)]
struct Thread {
    process: usize,
    path: usize,
    left: u64,
}

#[derive(Clone, Debug)]
struct Vcpu {
    domain: DomId,
    number: u32,
    threads: Vec<Thread>,
    turn: usize,
}

#[derive(Clone, Debug)]
struct Core {
    now: u64,
    slice_ends: u64,
    vcpus: Vec<Vcpu>,
    turn: usize,
    /// When the raised interrupt has reached the CPU.
    due: Option<u64>,
    random: Random,
    /// The trace of a Xen below it.
    trace: Option<TraceRing>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) world: Arc<World>,
    arbiter: Arc<Mutex<Arbiter<Hardware>>>,
    cores: Vec<Core>,
    /// Cycles from an overflow to its interrupt.
    skid: u64,
    /// Who is told by an event channel after an interrupt of each CPU.
    listeners: Vec<Vec<Encoded>>,
}

impl Machine {
    /// A machine of `cpus` CPUs; every domain has as many vCPUs, vCPU n on CPU n.
    pub(super) fn new(world: World, table: Table, cpus: u32, skid: u64, seed: u64) -> Machine {
        let mut arbiter = Arbiter::new(Hardware::new(table, cpus), table, cpus);
        for domain in world.domains() {
            arbiter.create_domain(domain, cpus);
        }
        let cores = (0..cpus)
            .map(|number| {
                let mut random = Random(seed ^ u64::from(number) << 32);
                let vcpus = world.domains().into_iter().map(|domain| {
                    let own = world.processes.iter().enumerate().filter(|(_, process)| process.domain == domain);
                    let mut start = |(process, of): (usize, &Process)| {
                        let path = of.take(random.next());
                        Thread { process, path, left: of.paths[path].cycles }
                    };
                    Vcpu { domain, number, threads: own.map(&mut start).collect(), turn: 0 }
                });
                let vcpus = vcpus.collect();
                Core { now: BEGIN, slice_ends: BEGIN, vcpus, turn: 0, due: None, random, trace: None }
            })
            .collect();
        Machine {
            world: Arc::new(world),
            arbiter: Arc::new(Mutex::new(arbiter)),
            cores,
            skid,
            listeners: vec![Vec::new(); cpus as usize],
        }
    }

    /// A Xen below it writes a trace, and wakes dom0's vCPU when another domain's counter overflows.
    pub(super) fn trace(&mut self) {
        self.cores.iter_mut().for_each(|core| core.trace = Some(TraceRing::default()));
    }

    /// The traces, by CPU.
    pub(super) fn traces(&mut self) -> impl Iterator<Item = (u32, &mut TraceRing)> {
        (0..).zip(&mut self.cores).filter_map(|(cpu, core)| Some((cpu, core.trace.as_mut()?)))
    }

    /// When the last of the CPUs has stopped, ns.
    pub(super) fn end(&self) -> u64 {
        let end = |core: &Core| core.now + core.trace.as_ref().map_or(0, |trace| trace.stolen);
        self.cores.iter().map(end).max().unwrap_or(0)
    }

    /// A handle of a caller.
    pub(super) fn handle(&self, caller: Caller) -> Handle<Hardware> {
        Handle::new(&self.arbiter, caller)
    }

    /// A handle of a caller on a CPU, over the wire form.
    pub(super) fn encoded(&mut self, caller: Caller, cpu: u32) -> Encoded {
        let (encoded, _server) = encoded::inline(Box::new(self.handle(caller)), cpu);
        if let Some(listeners) = self.listeners.get_mut(cpu as usize) {
            listeners.push(encoded.clone());
        }
        encoded
    }

    pub(super) fn arbiter(&self) -> MutexGuard<'_, Arbiter<Hardware>> {
        self.arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a CPU for so many ns.
    pub(super) fn run_on(&mut self, cpu: u32, ns: u64) {
        if let Some(core) = self.cores.get(cpu as usize) {
            self.run(cpu, core.now.saturating_add(ns));
        }
    }

    /// Runs a CPU until a time, ns, or a little longer where interrupts are off then.
    pub(super) fn run(&mut self, cpu: u32, until: u64) {
        let Machine { world, arbiter, cores, skid, listeners } = self;
        let Some(core) = cores.get_mut(cpu as usize) else { return };
        let mut guard = arbiter.lock().unwrap_or_else(PoisonError::into_inner);
        while core.now < until {
            // An interrupt that was raised is taken before anybody else runs.
            if core.now >= core.slice_ends && !core.interrupts_off(world) && !guard.hardware().raised(cpu) {
                core.next_turn(cpu, &mut guard);
            }
            let Core { now, slice_ends, vcpus, turn, due, random, trace } = core;
            let vcpu = &mut vcpus[*turn];
            let thread = &mut vcpu.threads[vcpu.turn];
            let process = &world.processes[thread.process];
            let path = &process.paths[thread.path];
            let kernel = path.mode != crate::msr::Mode::User;
            if guard.hardware().raised(cpu) && !path.interrupts_off && *now >= *due.get_or_insert(*now + *skid) {
                *due = None;
                guard.hardware().take(cpu);
                // The place in the leaf's code follows from how far the stretch is.
                let step = (thread.left.wrapping_mul(0x9e37_79b1) >> 8) % (FUNCTION / 8 - 4);
                let (of, own) = ((vcpu.domain, vcpu.number), (DomId::ZERO, vcpu.number));
                let time = match trace {
                    Some(trace) if of.0 == DomId::ZERO => *now + trace.stolen,
                    Some(trace) => trace.interrupted(of, own, *now),
                    None => *now,
                };
                let state = Overflow {
                    time,
                    cause: Cause::Counter,
                    mode: path.mode,
                    ip: path.leaf + 0x10 + 4 * step,
                    sp: path.bp - 0x20,
                    bp: path.bp,
                    flags: FLAGS,
                    space: process.space(),
                    ..Overflow::default()
                };
                if let Some(mut delivery) = guard.interrupt(cpu, state) {
                    drop(guard);
                    let claimed = (delivery.handler)(&delivery.overflow, delivery.cpu);
                    for encoded in &listeners[cpu as usize] {
                        encoded.poll();
                    }
                    guard = arbiter.lock().unwrap_or_else(PoisonError::into_inner);
                    guard.finish(delivery, claimed);
                }
                continue;
            }
            let mut cycles = thread.left.min(guard.hardware().until_overflow(cpu, &path.rates, kernel));
            if !path.interrupts_off {
                cycles = cycles.min(slice_ends.checked_sub(*now).filter(|&left| left > 0).unwrap_or(u64::MAX));
                if let Some(due) = due.filter(|due| due > now) {
                    cycles = cycles.min(due - *now);
                }
            }
            guard.hardware().advance(cpu, cycles, &path.rates, kernel);
            *now += cycles;
            thread.left -= cycles;
            if thread.left == 0 {
                thread.path = path.then.unwrap_or_else(|| process.take(random.next()));
                thread.left = process.paths[thread.path].cycles;
            }
            if guard.hardware().raised(cpu) && due.is_none() {
                *due = Some(*now + *skid);
            }
        }
    }
}

impl Core {
    fn interrupts_off(&self, world: &World) -> bool {
        let vcpu = &self.vcpus[self.turn];
        let thread = &vcpu.threads[vcpu.turn];
        let path = &world.processes[thread.process].paths[thread.path];
        path.interrupts_off && thread.left < path.cycles
    }

    /// The next vCPU, and its next thread.
    fn next_turn(&mut self, cpu: u32, arbiter: &mut Arbiter<Hardware>) {
        self.slice_ends = (self.now / SLICE + 1) * SLICE;
        let before = (self.vcpus[self.turn].domain, self.vcpus[self.turn].number);
        self.turn = (self.turn + 1) % self.vcpus.len();
        let vcpu = &mut self.vcpus[self.turn];
        if let Some(trace) = &mut self.trace {
            trace.switch(before, (vcpu.domain, vcpu.number), self.now);
        }
        vcpu.turn = (vcpu.turn + 1) % vcpu.threads.len();
        arbiter.switch(cpu, Some((vcpu.domain, vcpu.number)));
    }
}
