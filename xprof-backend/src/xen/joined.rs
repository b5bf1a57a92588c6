//! Samples of counters that count the whole host (`--source vpmu`): dom0's kernel takes them, and does not say whose they are. Xen's trace does.
//!
//! [`Joined`] stands behind a session with both: rings of samples, and one of what vCPUs did (`vcpu-states`). A sample waits until it is known
//! what its pCPU did around its time ([`turns`]), and is handed on in guest form: with an id that stands for a domain and a vCPU. Its address, its mode and
//! its time are what they were. What fell into dom0 itself stays as it is; what fell into Xen is Xen's, because Xen does not say whom it worked for
//! (`DOMID_XEN` takes the place of the domain, and dom0 may be who called it). What cannot be joined is of a domain that is none.

pub mod turns;

use std::collections::VecDeque;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{attr_flag, context, misc, record, sample};
use xprof_perfdata::domain::{
    Domain, GOES_ON, Guest, Guests, HYPERVISOR, HYPERVISOR_NAME, JOINED_FACT, NO_TASK, RunState, STATES_EVENT,
    TRACE_ERROR_FACT, UNJOINED_FACT, UNKNOWN, UNKNOWN_NAME,
};
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{IdIndex, IdIndexEntry, Record};
use xprof_perfdata::sample::{Sample, SampleId};

use self::turns::Turns;
use super::guest_form::StateSample;
use super::msr::vpmu::{self, Mode, Trap};
use crate::event::EventGroup;
use crate::msr::Error as Refused;
use crate::native::mended::is_of_hardware;
use crate::sys::xen::Hypervisor;
use crate::{Description, Drained, Error, Image, Message, Result, Session, Stats};

/// Ids that are reserved for domains and vCPUs, for each event; whoever finds none left is [`UNKNOWN`].
const IDS: usize = 4096;
/// The first of them: far above those of the guest form.
const FIRST_ID: u64 = 1 << 41;
/// Bytes that wait for the trace; beyond, samples are handed on as they are known.
const WAITING_MAX: usize = 64 << 20;
/// Messages between the session and the receiver.
const UNDER_WAY: usize = 16;
/// Turns are kept so long behind what is known: rings that nobody waits for may still send what is older, ns.
const KEPT: u64 = 5_000_000_000;
/// pCPUs (Xen's own limit is 4095).
const CPUS_MAX: u32 = 4096;
/// Xen's part of the address space (`HYPERVISOR_VIRT_START` and `_END` of public/arch-x86/xen-x86_64.h).
const XEN: std::ops::Range<u64> = 0xffff_8000_0000_0000..0xffff_8800_0000_0000;
/// Who samples are of that fell into Xen, and that nobody knows.
const XENS: Guest = Guest { machine_pid: HYPERVISOR, vcpu: 0 };
const NOBODYS: Guest = Guest { machine_pid: UNKNOWN, vcpu: 0 };

/// What stands among the domains for samples that are no domain's.
pub(crate) fn nobodies() -> [Domain; 2] {
    let of = |Guest { machine_pid: id, .. }, name: &str| Domain {
        id,
        name: name.into(),
        vcpus: 1,
        until: u64::MAX,
        ..Domain::default()
    };
    [of(XENS, HYPERVISOR_NAME), of(NOBODYS, UNKNOWN_NAME)]
}

/// Looks whether this host's counters count everybody, and whether a sample's CPU is its pCPU.
///
/// # Errors
/// What is in the way.
pub(super) fn possible(xen: &mut Hypervisor) -> Result<()> {
    let mode = vpmu::mode(xen)?;
    if mode != Mode::All {
        return Err(Refused::Unsupported(format!(
            "the vPMU's mode is {mode}: dom0's counters do not count other domains"
        ))
        .into());
    }
    let (cpus, _) = xen.cpus()?;
    let vcpus = xen.domains()?.iter().find(|info| info.id == 0).map_or(0, |info| info.online_vcpus);
    let elsewhere = (0..vcpus).find(|&vcpu| xen.affinity(0, vcpu, cpus).as_deref() != Some(&[vcpu]));
    let why = match elsewhere {
        Some(vcpu) => format!("vCPU {vcpu} of dom0, which has the interrupts of pCPU {vcpu}, is not pinned to it"),
        None if vcpus != cpus => Trap::Pinning { vcpus, cpus, pinned: true }.to_string(),
        None => return Ok(()),
    };
    Err(Refused::Unsupported(format!("a sample's pCPU is not known: {why}")).into())
}

/// Counters that count everybody: neither guests nor the host are left out.
pub(super) fn of_everybody(groups: &[EventGroup]) -> Vec<EventGroup> {
    let mut groups = groups.to_vec();
    for event in groups.iter_mut().flat_map(|group| &mut group.events).filter(|event| is_of_hardware(&event.attr)) {
        event.attr.flags &= !(attr_flag::EXCLUDE_GUEST | attr_flag::EXCLUDE_HOST);
    }
    groups
}

/// Refuses events of which none is counted by the CPU.
///
/// # Errors
/// With their names.
pub(super) fn counted(events: &Events) -> Result<()> {
    if events.list().iter().any(|event| is_of_hardware(&event.attr)) {
        return Ok(());
    }
    let names: Vec<&str> = events.list().iter().map(|event| event.name.as_str()).collect();
    Err(Refused::Unsupported(format!("none of the events is counted by the CPU: {}", names.join(", "))).into())
}

/// What joins records.
#[derive(Debug)]
struct Joining {
    events: Events,
    /// The event `vcpu-states`.
    states: usize,
    states_ring: u32,
    turns: Vec<Turns>,
    /// Until when it is known what vCPUs did, and how far its times may be off, ns.
    known: u64,
    error: u64,
    /// What waits, by ring, and up to when the ring is known, ns.
    waiting: Vec<VecDeque<Waiting>>,
    until: Vec<u64>,
    bytes: usize,
    /// Ids that stand for somebody, how many of each event's, and whom those of the session stand for.
    ids: FxHashMap<(usize, Guest), u64>,
    used: FxHashMap<usize, usize>,
    guests: Guests,
    joined: u64,
    unjoined: u64,
    sample: Sample,
}

/// A message that waits until the last sample in it can be joined.
#[derive(Debug)]
struct Waiting {
    drained: Drained,
    /// Time of that sample, ns; 0 where nothing in it wants to be joined.
    last: u64,
}

/// What is done with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// It stays as it is.
    Nothing,
    /// It fell into Xen.
    Xen,
    /// It fell into some other domain.
    Domain,
}

/// The whole records of a ring.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let size = usize::from(u16::from_ne_bytes([*bytes.get(6)?, *bytes.get(7)?])).clamp(8, bytes.len());
        let (whole, rest) = bytes.split_at(size);
        bytes = rest;
        Some(whole)
    })
}

impl Joining {
    /// For records of these events; also the events with the ids that samples get.
    fn of(events: &Events, rings: u32, states_ring: u32) -> Result<(Joining, Events)> {
        let states = events.list().iter().position(|event| event.name == STATES_EVENT);
        let states = states.ok_or_else(|| Error::Other("there is no trace to join samples with".into()))?;
        let mut given = events.clone();
        for (at, _) in events.list().iter().enumerate().filter(|(_, event)| is_of_hardware(&event.attr)) {
            let ids: Vec<u64> = (0..IDS).map(|place| id_of(at, place)).collect();
            given.insert_ids(at, &ids);
        }
        let joining = Joining {
            events: events.clone(),
            states,
            states_ring,
            turns: Vec::new(),
            known: 0,
            error: 0,
            waiting: (0..rings).map(|_| VecDeque::new()).collect(),
            until: vec![0; rings as usize],
            bytes: 0,
            ids: FxHashMap::default(),
            used: FxHashMap::default(),
            guests: Guests::default(),
            joined: 0,
            unjoined: 0,
            sample: Sample::default(),
        };
        Ok((joining, given))
    }

    /// How exact the trace's times are.
    fn told(&mut self, message: &Message) {
        if let Message::Facts(facts) = message {
            let error = facts.iter().find(|(key, _)| key == TRACE_ERROR_FACT).and_then(|(_, value)| value.parse().ok());
            self.error = error.unwrap_or(self.error);
        }
    }

    /// Takes what a ring held, and hands on what can be.
    fn drained(&mut self, drained: Drained, out: &mut dyn FnMut(Drained)) {
        if drained.ring == self.states_ring {
            self.learn(&drained.bytes);
            self.known = self.known.max(drained.until);
            out(drained);
            self.release(false, out);
            return;
        }
        let last = self.look(&drained.bytes);
        self.bytes += drained.bytes.len();
        if let Some(queue) = self.waiting.get_mut(drained.ring as usize) {
            queue.push_back(Waiting { drained, last });
        }
        self.release(false, out);
    }

    /// What vCPUs did, to the pCPUs that it concerns.
    fn learn(&mut self, bytes: &[u8]) {
        let event = &self.events.list()[self.states];
        for whole in records(bytes).filter(|whole| kind(whole) == record::SAMPLE) {
            let Some(view) = event.layout.view(&whole[8..]) else { continue };
            let Some((state, _)) = RunState::of_address(view.addr()) else { continue };
            // Somebody it was.
            let of = self.guests.of(view.id()).unwrap_or(NOBODYS);
            let stint = StateSample {
                time: view.time(),
                period: view.period().unwrap_or(0),
                of,
                pcpu: view.cpu(),
                state,
                by: None,
                goes_on: view.addr() & GOES_ON != 0,
            };
            let own = if of.machine_pid == 0 { of.vcpu } else { stint.pcpu };
            for cpu in [Some(own), Some(stint.pcpu).filter(|pcpu| *pcpu != own)].into_iter().flatten() {
                if let Some(turns) = turns_of(&mut self.turns, cpu) {
                    turns.stint(&stint);
                }
            }
        }
    }

    /// Time of the last sample that wants to be joined; takes in what ids stand for.
    fn look(&mut self, bytes: &[u8]) -> u64 {
        let mut last = 0;
        for whole in records(bytes) {
            match kind(whole) {
                record::ID_INDEX => self.name(whole),
                record::SAMPLE => {
                    if let Some((_, time, Want::Domain)) = self.want(whole) {
                        last = last.max(time);
                    }
                }
                _ => {}
            }
        }
        last
    }

    fn name(&mut self, whole: &[u8]) {
        let raw = RawRecord { kind: kind(whole), misc: 0, body: &whole[8..], time: 0, event: u32::MAX, offset: 0 };
        if let Ok((Record::IdIndex(index), _)) = Record::decode(&raw, &self.events) {
            self.guests.learn(&index);
        }
    }

    /// The event of a sample, its time, and what is done with it; `None` for one that cannot be read.
    fn want(&self, whole: &[u8]) -> Option<(usize, u64, Want)> {
        let body = &whole[8..];
        let at = self.events.event_of(record::SAMPLE, body)? as usize;
        let event = self.events.list().get(at)?;
        let view = event.layout.view(body)?;
        let want = match misc_of(whole) & misc::CPUMODE_MASK {
            _ if !is_of_hardware(&event.attr) => Want::Nothing,
            misc::GUEST_KERNEL | misc::GUEST_USER => Want::Domain,
            misc::HYPERVISOR => Want::Xen,
            misc::KERNEL if XEN.contains(&view.ip()) => Want::Xen,
            _ => Want::Nothing,
        };
        Some((at, view.time(), want))
    }

    /// Hands on what has waited long enough; at the end everything.
    fn release(&mut self, everything: bool, out: &mut dyn FnMut(Drained)) {
        let known = if everything { u64::MAX } else { self.known.saturating_sub(self.error) };
        for ring in 0..self.waiting.len() {
            while self.waiting[ring]
                .front()
                .is_some_and(|first| first.last == 0 || first.last < known || self.bytes > WAITING_MAX)
            {
                let Some(Waiting { mut drained, .. }) = self.waiting[ring].pop_front() else { break };
                self.bytes -= drained.bytes.len();
                self.join(&mut drained.bytes);
                self.until[ring] = drained.until;
                out(drained);
            }
        }
        // Samples come in order, by ring; what none of those that wait can want is let go.
        let waiting = self.waiting.iter().flatten().map(|waiting| self.until[waiting.drained.ring as usize]);
        let oldest = waiting.min().unwrap_or(u64::MAX).min(self.known.saturating_sub(KEPT));
        let passed = oldest.saturating_sub(self.error);
        self.turns.iter_mut().for_each(|turns| turns.passed(passed));
    }

    /// Puts samples in guest form.
    fn join(&mut self, bytes: &mut Vec<u8>) {
        if !records(bytes).any(|whole| kind(whole) == record::SAMPLE) {
            return;
        }
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 4);
        for whole in records(bytes) {
            let of = match kind(whole) {
                record::SAMPLE => self.want(whole),
                _ => None,
            };
            let start = out.len();
            let done = match of {
                Some((event, _, Want::Xen)) => self.write(whole, event, XENS, &mut out),
                Some((event, time, Want::Domain)) => {
                    let cpu = self.events.list()[event].layout.view(&whole[8..]).map_or(u32::MAX, |view| view.cpu());
                    let turns = self.turns.get(cpu as usize);
                    let found = turns.and_then(|turns| turns.at(time, self.error)).filter(|found| *found != NOBODYS);
                    let of = found.filter(|of| self.id(event, *of, &mut out).is_some()).unwrap_or(NOBODYS);
                    *(if of == NOBODYS { &mut self.unjoined } else { &mut self.joined }) += 1;
                    self.write(whole, event, of, &mut out)
                }
                _ => None,
            };
            if done.is_none() {
                out.truncate(start);
                out.extend_from_slice(whole);
            }
        }
        *bytes = out;
    }

    /// The id of an event's samples of a vCPU, which is told before its first; `None` when there is none left for anybody but nobody.
    fn id(&mut self, event: usize, of: Guest, out: &mut Vec<u8>) -> Option<u64> {
        if let Some(id) = self.ids.get(&(event, of)) {
            return Some(*id);
        }
        let used = self.used.entry(event).or_default();
        let reserved = if of == XENS || of == NOBODYS { 0 } else { 2 };
        if *used + reserved >= IDS {
            return None;
        }
        let id = id_of(event, *used);
        *used += 1;
        let entry = IdIndexEntry {
            id,
            idx: event as u64,
            cpu: u64::MAX,
            tid: u64::MAX,
            machine_pid: of.machine_pid.into(),
            vcpu: of.vcpu.into(),
        };
        let index = Record::IdIndex(IdIndex { entries: vec![entry], guests: true });
        let format = &self.events.list().get(event)?.format;
        out.extend(index.encode(&SampleId::default(), 0, format).ok()?);
        self.ids.insert((event, of), id);
        Some(id)
    }

    /// Appends a sample as one of `of`.
    fn write(&mut self, whole: &[u8], event: usize, of: Guest, out: &mut Vec<u8>) -> Option<()> {
        let id = self.id(event, of, out)?;
        let format = &self.events.list().get(event)?.format;
        let start = out.len();
        let sample = &mut self.sample;
        format.decode_sample(&whole[8..], sample).ok()?;
        sample.id.id = id;
        // Who of dom0 was interrupted says nothing.
        (sample.id.pid, sample.id.tid) = (NO_TASK, NO_TASK);
        if format.sample_type & sample::CALLCHAIN != 0 && of != XENS {
            let user = misc_of(whole) & misc::CPUMODE_MASK == misc::GUEST_USER;
            let mark = if user { context::USER } else { context::KERNEL };
            sample.callchain.clear();
            sample.callchain.extend([mark, sample.ip]);
        }
        out.extend_from_slice(&whole[..8]);
        format.encode_sample(sample, out).ok()?;
        let size = u16::try_from(out.len() - start).ok()?;
        out[start + 6..start + 8].copy_from_slice(&size.to_ne_bytes());
        Some(())
    }

    /// What is known at the end.
    fn finish(&mut self, out: &mut dyn FnMut(Message)) {
        self.release(true, &mut |drained| out(Message::Drained(drained)));
        let facts = [(JOINED_FACT, self.joined), (UNJOINED_FACT, self.unjoined)];
        out(Message::Facts(facts.map(|(key, value)| (key.to_owned(), value.to_string())).into()));
        if self.unjoined != 0 {
            out(Message::Note(format!(
                "of {} samples of other domains Xen's trace does not tell whose {} are: they are in {UNKNOWN_NAME}",
                self.joined + self.unjoined,
                self.unjoined
            )));
        }
    }
}

/// The turns of a pCPU, made when it is new.
fn turns_of(list: &mut Vec<Turns>, cpu: u32) -> Option<&mut Turns> {
    let known = list.len() as u32;
    if cpu >= known && cpu < CPUS_MAX {
        list.extend((known..=cpu).map(Turns::new));
    }
    list.get_mut(cpu as usize)
}

fn kind(whole: &[u8]) -> u32 {
    whole.first_chunk().map_or(0, |kind| u32::from_ne_bytes(*kind))
}

fn misc_of(whole: &[u8]) -> u16 {
    u16::from_ne_bytes([whole[4], whole[5]])
}

fn id_of(event: usize, place: usize) -> u64 {
    FIRST_ID + (event * IDS + place) as u64
}

/// A session whose samples are joined on their way.
pub(crate) struct Joined {
    session: Box<dyn Session>,
    description: Description,
    messages: Receiver<Message>,
    /// Until it starts.
    ready: Option<(Joining, Sender<Message>)>,
    forwarder: Option<JoinHandle<()>>,
}

impl Joined {
    /// Behind a session whose ring `states` has what vCPUs did.
    ///
    /// # Errors
    /// [`Error::Other`] when the session has no such event.
    pub(crate) fn new(session: Box<dyn Session>, states: u32) -> Result<Joined> {
        let mut description = session.describe().clone();
        let (mut joining, given) = Joining::of(&description.events, description.rings, states)?;
        joining.look(&description.head);
        description.events = given;
        let (out, messages) = bounded(UNDER_WAY);
        Ok(Joined { session, description, messages, ready: Some((joining, out)), forwarder: None })
    }
}

impl Session for Joined {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn images(&self) -> &[Image] {
        self.session.images()
    }

    fn start(&mut self) -> Result<()> {
        let Some((mut joining, out)) = self.ready.take() else {
            return Err(Error::Other("the session has run already".into()));
        };
        // First, so that whoever waits for the receiver in its start does not wait for ever.
        self.session.start()?;
        let from = self.session.messages().clone();
        let work = move || {
            // Nobody listens any more: what comes is thrown away.
            let mut send = |message| {
                let _ = out.send(message);
            };
            for message in from {
                match message {
                    Message::Drained(drained) => {
                        joining.drained(drained, &mut |drained| send(Message::Drained(drained)))
                    }
                    message => {
                        if matches!(message, Message::TargetsGone) {
                            joining.release(true, &mut |drained| send(Message::Drained(drained)));
                        }
                        joining.told(&message);
                        send(message);
                    }
                }
            }
            joining.finish(&mut send);
        };
        let thread = std::thread::Builder::new().name("joined".into()).spawn(work);
        self.forwarder = Some(thread.map_err(|e| Error::os("start a thread", e))?);
        Ok(())
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
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

#[cfg(test)]
mod tests;
