//! Samples of a PV dom0 whose vPMU is on, as they should be.
//!
//! Linux asks Xen's shared page who was interrupted (`xen_guest_state()`), whatever interrupted it. The page holds the last counter
//! interrupt, and in most hosts there was none: so samples of software events and tracepoints say that they are of a guest, at address
//! 0 or at one of another domain, and have no call chain. What the registers of the interrupted code were is right
//! (`PERF_SAMPLE_REGS_INTR`), and so are the user registers and the stack copy. So these are asked for, and a sample gets its
//! address and its mode from there before anybody sees it. Where a kernel was entered from stays unknown; the user's half of a
//! stack comes from its copy.
//!
//! Of hardware events the page is right, and registers and stacks of a sample may be another domain's: of them these are not asked for.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use xprof_perfdata::abi::{attr_flag, context, event_type, misc, record, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::events::Events;
use xprof_perfdata::sample::{Sample, SampleFormat};

use crate::machine::{self, Machine};
use crate::plan::{CallGraph, Plan};
use crate::{Description, Error, Message, Result, Session, Stats};

/// `PERF_REG_X86_IP`: the one register that is asked for.
const IP: u64 = 1 << 8;
/// Bytes of a stack that are copied at most: the kernel makes a copy fit into a record (64 KiB) before it adds these registers, and a size that
/// does not fit wraps around.
const COPY_MAX: u32 = 60 << 10;
/// Messages between the session and the receiver.
const UNDER_WAY: usize = 16;
/// Marks of call chains (`PERF_CONTEXT_MAX`) are above this.
const MARKS: u64 = context::MAX;

/// Whether this kernel mislabels its samples: it is a PV dom0, and Xen has a vPMU for it. Linux lets its mode be read then only.
pub fn is_needed(machine: &Machine) -> bool {
    cfg!(target_arch = "x86_64") && machine::text(&machine.sys.join("hypervisor/pmu/pmu_mode")).is_ok()
}

/// What a kernel that follows no call chains does instead of following frame pointers: it copies stacks. The command asks for it before it
/// opens a session, because it is who unwinds them.
pub fn stacks(machine: &Machine, plan: &mut Plan) {
    if plan.call_graph == CallGraph::FramePointers && is_needed(machine) {
        plan.call_graph = CallGraph::StackCopies { size: COPY_MAX, kept: false };
    }
}

/// Whether a counter of the CPU counts this event.
pub(crate) fn is_of_hardware(attr: &Attr) -> bool {
    matches!(attr.kind, event_type::HARDWARE | event_type::HW_CACHE | event_type::RAW)
}

/// Asks for what a sample is mended with.
pub(super) fn ask(attr: &mut Attr) {
    if is_of_hardware(attr) {
        attr.sample_type &= !(sample::REGS_USER | sample::STACK_USER);
        (attr.sample_regs_user, attr.sample_stack_user) = (0, 0);
        attr.flags &= !attr_flag::EXCLUDE_CALLCHAIN_USER;
    } else if attr.config != xprof_perfdata::abi::software::DUMMY || attr.kind != event_type::SOFTWARE {
        attr.sample_type |= sample::REGS_INTR;
        attr.sample_regs_intr = IP;
        attr.sample_stack_user = attr.sample_stack_user.min(COPY_MAX);
    }
}

/// How the samples of an event are taken, and given on.
#[derive(Debug)]
struct Way {
    taken: SampleFormat,
    given: SampleFormat,
}

/// What mends records.
#[derive(Debug)]
struct Mending {
    events: Events,
    /// `None` for events that are right.
    ways: Vec<Option<Way>>,
    sample: Sample,
}

impl Mending {
    /// For records of these events; also the events as they are afterwards.
    fn of(events: &Events) -> (Mending, Events) {
        let mut given = Events::new(events.order);
        let mut ways = Vec::new();
        for event in events.list() {
            let mut attr = event.attr.clone();
            let mended = attr.sample_regs_intr == IP && attr.sample_type & sample::REGS_INTR != 0;
            if mended {
                attr.sample_type &= !sample::REGS_INTR;
                attr.sample_regs_intr = 0;
            }
            let given_format = attr.sample_format(events.order);
            ways.push(mended.then(|| Way { taken: event.format.clone(), given: given_format }));
            given.push(attr, event.name.clone(), event.ids.clone());
        }
        (Mending { events: events.clone(), ways, sample: Sample::default() }, given)
    }

    /// Appends the records of a ring, mended.
    fn mend(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while bytes.len() >= 8 {
            let size = usize::from(u16::from_ne_bytes([bytes[6], bytes[7]])).clamp(8, bytes.len());
            let (whole, rest) = bytes.split_at(size);
            bytes = rest;
            let start = out.len();
            if u32::from_ne_bytes([whole[0], whole[1], whole[2], whole[3]]) == record::SAMPLE
                && self.one(whole, out).is_some()
            {
                continue;
            }
            out.truncate(start);
            out.extend_from_slice(whole);
        }
    }

    /// `None`: it is as it should be, or not a sample that can be decoded.
    fn one(&mut self, whole: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let body = whole.get(8..)?;
        let event = match self.events.list().len() {
            1 => 0,
            _ => self.events.by_id(u64::from_ne_bytes(*body.first_chunk()?))?,
        };
        let way = self.ways.get(event)?.as_ref()?;
        let sample = &mut self.sample;
        way.taken.decode_sample(body, sample).ok()?;
        sample.ip = *sample.regs_intr.values.first()?;
        // The upper half of the address space is the kernel's.
        let (mode, mark) = match sample.ip >> 63 {
            0 => (misc::USER, context::USER),
            _ => (misc::KERNEL, context::KERNEL),
        };
        if sample.callchain.iter().all(|entry| *entry >= MARKS) {
            sample.callchain.clear();
            sample.callchain.extend([mark, sample.ip]);
        }
        let start = out.len();
        out.extend_from_slice(&whole[..8]);
        way.given.encode_sample(sample, out).ok()?;
        let old = u16::from_ne_bytes([whole[4], whole[5]]);
        let size = u16::try_from(out.len() - start).ok()?;
        out[start + 4..start + 6].copy_from_slice(&(old & !misc::CPUMODE_MASK | mode).to_ne_bytes());
        out[start + 6..start + 8].copy_from_slice(&size.to_ne_bytes());
        Some(())
    }
}

/// A session whose samples are mended on their way.
#[derive(Debug)]
pub(super) struct Mended<S> {
    session: S,
    description: Description,
    /// Until it starts.
    mending: Option<Mending>,
    messages: Option<Receiver<Message>>,
    forwarder: Option<JoinHandle<()>>,
    none: Receiver<Message>,
}

impl<S: Session> Mended<S> {
    pub(super) fn new(session: S, stacks: bool) -> Mended<S> {
        let mut description = session.describe().clone();
        let (mending, given) = Mending::of(&description.events);
        description.events = given;
        if stacks {
            description.notes.push(
                "Xen's vPMU is on: of this dom0's kernel samples tell where it was, not who called it (xprof doctor)"
                    .into(),
            );
        }
        let none = bounded(0).1;
        Mended { session, description, mending: Some(mending), messages: None, forwarder: None, none }
    }
}

impl<S: Session> Session for Mended<S> {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        self.session.start()
    }

    fn messages(&self) -> &Receiver<Message> {
        self.messages.as_ref().unwrap_or(&self.none)
    }

    fn recycle(&self, buffer: Vec<u8>) {
        self.session.recycle(buffer);
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        self.session.enable(on)
    }

    fn snapshot(&mut self) -> Result<()> {
        self.session.snapshot()
    }

    fn stop(&mut self) -> Result<Stats> {
        self.session.stop()
    }
}

impl<S: Session> Mended<S> {
    /// Begins to hand messages on; before anybody asks for them.
    pub(super) fn forward(mut self) -> Result<Mended<S>> {
        let Some(mut mending) = self.mending.take() else { return Ok(self) };
        let (out, messages) = bounded(UNDER_WAY);
        let from = self.session.messages().clone();
        let work = move || {
            let mut spare: Vec<u8> = Vec::new();
            for mut message in from {
                if let Message::Drained(drained) = &mut message {
                    spare.clear();
                    mending.mend(&drained.bytes, &mut spare);
                    std::mem::swap(&mut drained.bytes, &mut spare);
                }
                if out.send(message).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("mended".into()).spawn(work);
        self.forwarder = Some(thread.map_err(|e| Error::os("start a thread", e))?);
        self.messages = Some(messages);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xprof_perfdata::abi::software;
    use xprof_perfdata::codec::ByteOrder;
    use xprof_perfdata::sample::Regs;

    fn events(kinds: &[u32]) -> Events {
        let mut events = Events::new(ByteOrder::NATIVE);
        for (at, kind) in kinds.iter().enumerate() {
            let mut attr = Attr {
                kind: *kind,
                config: software::CPU_CLOCK,
                sample_type: sample::IDENTIFIER | sample::IP | sample::TID | sample::CALLCHAIN,
                ..Attr::default()
            };
            ask(&mut attr);
            events.push(attr, "x".into(), vec![at as u64 + 5]);
        }
        events
    }

    fn taken(events: &Events, id: u64, registers: u64, chain: &[u64]) -> Vec<u8> {
        let mut sample = Sample { ip: 0, callchain: chain.to_vec(), ..Sample::default() };
        sample.id.id = id;
        (sample.id.pid, sample.id.tid) = (7, 8);
        sample.regs_intr = Regs { abi: 2, values: vec![registers] };
        let event = &events.list()[events.by_id(id).unwrap()];
        let mut bytes = vec![0; 8];
        event.format.encode_sample(&mut sample, &mut bytes).unwrap();
        bytes[..4].copy_from_slice(&record::SAMPLE.to_ne_bytes());
        bytes[4..6].copy_from_slice(&(misc::GUEST_KERNEL | 1 << 14).to_ne_bytes());
        let size = bytes.len() as u16;
        bytes[6..8].copy_from_slice(&size.to_ne_bytes());
        bytes
    }

    #[test]
    fn address_mode_and_leaf_come_from_the_registers() {
        let events = events(&[event_type::SOFTWARE, event_type::HARDWARE]);
        let (mut mending, given) = Mending::of(&events);
        let kernel = 0xffff_ffff_8100_0000;
        let hardware = taken(&events, 6, 1, &[context::KERNEL, 0x77]);
        let comm = [&record::COMM.to_ne_bytes()[..], &[0, 0, 16, 0], &[9; 8]].concat();
        let bytes = [
            taken(&events, 5, kernel, &[context::KERNEL, context::USER]),
            comm.clone(),
            taken(&events, 5, 0x40_1000, &[]),
            hardware.clone(),
        ]
        .concat();
        let mut out = Vec::new();
        mending.mend(&bytes, &mut out);
        let mut found = Vec::new();
        let mut rest = out.as_slice();
        let format = &given.list()[0].format;
        for (ip, mode, mark) in [(kernel, misc::KERNEL, context::KERNEL), (0x40_1000, misc::USER, context::USER)] {
            let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
            let mut sample = Sample::default();
            format.decode_sample(&rest[8..size], &mut sample).unwrap();
            assert_eq!(u16::from_ne_bytes([rest[4], rest[5]]), mode | 1 << 14, "the other bits stay");
            assert_eq!((sample.ip, sample.id.tid, sample.callchain.clone()), (ip, 8, vec![mark, ip]));
            rest = &rest[size..];
            found.push(ip);
            if found.len() == 1 {
                assert_eq!(rest[..16], comm, "other records pass");
                rest = &rest[16..];
            }
        }
        assert_eq!(rest, hardware, "hardware samples are right");
        assert_eq!(given.list()[0].attr.sample_type & sample::REGS_INTR, 0);
        // What cannot be decoded passes.
        let cut = [&record::SAMPLE.to_ne_bytes()[..], &[0, 0, 16, 0], &5u64.to_ne_bytes()].concat();
        let mut out = Vec::new();
        mending.mend(&cut, &mut out);
        assert_eq!(out, cut);
    }

    #[test]
    fn only_a_dom0_whose_vpmu_can_be_read_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::below(dir.path());
        assert!(!is_needed(&machine));
        std::fs::create_dir_all(dir.path().join("sys/hypervisor/pmu")).unwrap();
        std::fs::write(dir.path().join("sys/hypervisor/pmu/pmu_mode"), "self\n").unwrap();
        assert_eq!(is_needed(&machine), cfg!(target_arch = "x86_64"));
        let mut plan = Plan { call_graph: CallGraph::FramePointers, ..Plan::default() };
        stacks(&machine, &mut plan);
        assert_eq!(plan.call_graph.copied(), if cfg!(target_arch = "x86_64") { COPY_MAX } else { 0 });
    }
}
