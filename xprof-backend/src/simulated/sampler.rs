//! The sampler: programs the counters through the contract, and for each interrupt writes a record, as the kernel would,
//! into a ring of the kernel's layout. It knows the machine by its contract, its memory and its symbols alone.

use std::sync::{Arc, Mutex, PoisonError};

use xprof_perfdata::abi::{misc, record};
use xprof_perfdata::events::Events;
use xprof_perfdata::sample::{Sample, SampleFormat, SampleId};

use super::world::{World, process_of};
use crate::msr::counting::Program;
use crate::msr::{Class, Contract, DomId, Entry, Handler, Mode, Overflow};
use crate::sys::ring::Ring;

/// `PERF_CONTEXT_KERNEL` and `PERF_CONTEXT_USER` of `include/uapi/linux/perf_event.h`.
const CONTEXT_KERNEL: u64 = -128i64 as u64;
const CONTEXT_USER: u64 = -512i64 as u64;
/// Addresses of kernels are in the upper half.
const UPPER_HALF: u64 = 1 << 63;
/// Frames of a chain at most (`kernel.perf_event_max_stack`).
const FRAMES: usize = 127;

/// What one CPU's samples go to.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) ring: Ring,
    /// Bytes written since the ring was last emptied.
    pub(super) fresh: usize,
    /// Samples that found no room, by event.
    pub(super) lost: Vec<u64>,
    bytes: Vec<u8>,
    sample: Sample,
}

impl Out {
    pub(super) fn new(ring: Ring, events: usize) -> Out {
        Out { ring, fresh: 0, lost: vec![0; events], bytes: Vec::new(), sample: Sample::default() }
    }
}

/// Which samples are kept.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    All,
    Processes(Vec<u32>),
    Threads(Vec<u32>),
}

/// What samples look like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) formats: Vec<SampleFormat>,
    pub(super) ids: Vec<u64>,
    pub(super) periods: Vec<u64>,
    pub(super) chains: bool,
    pub(super) wanted: Wanted,
    /// As dom0's kernel writes them in the vPMU's mode all: whether it was another domain is said, and not which; the task is dom0's.
    pub(super) of_a_dom0: bool,
}

impl Shape {
    pub(super) fn of(events: &Events, chains: bool, wanted: Wanted) -> Shape {
        let list = events.list();
        Shape {
            formats: list.iter().map(|event| event.format.clone()).collect(),
            ids: list.iter().map(|event| event.ids.first().copied().unwrap_or(0)).collect(),
            periods: list.iter().map(|event| event.attr.sample_period).collect(),
            chains,
            wanted,
            of_a_dom0: false,
        }
    }
}

/// Locks what no panic can leave half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handler of one vCPU's or CPU's interrupts. `rearm` is a handle of the same caller.
pub(super) fn handler(
    mut rearm: Box<dyn Contract + Send>,
    program: &Program,
    world: &Arc<World>,
    shape: &Arc<Shape>,
    out: &Arc<Mutex<Out>>,
) -> Handler {
    let (bits, reload) = (program.bits.clone(), program.reload.clone());
    let (world, shape, out) = (Arc::clone(world), Arc::clone(shape), Arc::clone(out));
    let mut flagged: Vec<Entry> = Vec::with_capacity(bits.len());
    Box::new(move |overflow: &Overflow, _cpu| {
        flagged.clear();
        for (at, (bit, reload)) in bits.iter().zip(&reload).enumerate() {
            if overflow.overflow >> bit & 1 != 0 {
                flagged.push(*reload);
                write(&mut lock(&out), &world, &shape, at, overflow);
            }
        }
        let ours = !flagged.is_empty();
        // What cannot be rearmed samples no more: the counts show it.
        let _ = rearm.write(Class::Perf, true, &mut flagged);
        ours
    })
}

fn write(out: &mut Out, world: &World, shape: &Shape, event: usize, overflow: &Overflow) {
    let elsewhere = shape.of_a_dom0 && overflow.domain != DomId::ZERO;
    let pid =
        if elsewhere { world.processes.first().map_or(0, |process| process.pid) } else { process_of(overflow.space) };
    let tid = pid + overflow.pcpu;
    match &shape.wanted {
        Wanted::All => {}
        Wanted::Processes(pids) if pids.contains(&pid) => {}
        Wanted::Threads(tids) if tids.contains(&tid) => {}
        _ => return,
    }
    let sample = &mut out.sample;
    sample.ip = overflow.ip;
    sample.period = shape.periods[event];
    sample.id =
        SampleId { pid, tid, time: overflow.time, id: shape.ids[event], cpu: overflow.pcpu, ..SampleId::default() };
    sample.callchain.clear();
    if shape.chains && !elsewhere {
        chain(&mut sample.callchain, world, overflow);
    }
    let mode = match overflow.mode {
        Mode::User if elsewhere => misc::GUEST_USER,
        Mode::Kernel if elsewhere => misc::GUEST_KERNEL,
        Mode::User => misc::USER,
        Mode::Kernel => misc::KERNEL,
        Mode::Hypervisor => misc::HYPERVISOR,
    };
    out.bytes.clear();
    out.bytes.extend(record::SAMPLE.to_ne_bytes());
    out.bytes.extend(mode.to_ne_bytes());
    out.bytes.extend([0, 0]);
    let encoded = shape.formats[event].encode_sample(&mut out.sample, &mut out.bytes);
    let size = u16::try_from(out.bytes.len());
    let (Ok(()), Ok(size)) = (encoded, size) else {
        out.lost[event] += 1;
        return;
    };
    out.bytes[6..8].copy_from_slice(&size.to_ne_bytes());
    if out.ring.produce(&out.bytes) {
        out.fresh += out.bytes.len();
    } else {
        out.lost[event] += 1;
    }
}

/// Walks the frames, as the kernel does.
fn chain(chain: &mut Vec<u64>, world: &World, overflow: &Overflow) {
    let mut user = overflow.ip < UPPER_HALF;
    chain.extend([if user { CONTEXT_USER } else { CONTEXT_KERNEL }, overflow.ip]);
    let mut bp = overflow.bp;
    for _ in 0..FRAMES {
        let Some((next, back)) = world.frame(overflow.space, bp) else { break };
        if back == 0 {
            break;
        }
        if !user && back < UPPER_HALF {
            user = true;
            chain.push(CONTEXT_USER);
        }
        chain.push(back);
        bp = next;
    }
}
