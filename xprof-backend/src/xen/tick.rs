//! One tick of the sampler: how long every vCPU ran since the tick before, and where those that ran are now.
//!
//! First all vCPUs are asked how long they ran and how they are; then the registers of those that ran, in random order, are
//! read: the sampler's own activity would otherwise always fall on the same ones. cpu_time alone says how much a vCPU ran. Where it
//! is found only divides its own time: a thread of dom0 sees a guest on its own pCPU never running, and whoever counts
//! looks divides a host wrongly.

use std::time::{Duration, Instant};

use super::books::Books;
use super::frames::FrameCache;
use super::guest_form::{Callers, DomainSample, GuestForm, Kind, Registers, State};
use super::stack::{self, Stack};
use crate::sys::clock;
use crate::sys::xen::hypervisor::CONTEXTS_MAX;
use crate::sys::xen::{Context, Holder, Hypervisor, Owner, VcpuInfo, XenError};

/// Rounds of mapping for the walks of one tick: five levels of two address spaces, and some pages of stack.
const ROUNDS_MAX: u32 = 24;
/// Time after which a tick maps nothing more: domains that die in the meantime must be let go within 100 ms of it. Stacks that want more are
/// cut, which makes them as inexact as those of two moments; what they have mapped is there at the next tick.
const WALKS_MAX: Duration = Duration::from_millis(30);

/// A vCPU that is sampled.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// Its domain.
    pub domain: u16,
    /// UUID of the domain: its id may be another's one day.
    pub uuid: [u8; 16],
    /// Its number.
    pub vcpu: u32,
    /// Its domain is PV.
    pub pv: bool,
    /// Its registers have 64 bits.
    pub wide: bool,
    /// The domain is paused: it waits for nobody's pCPU.
    pub paused: bool,
    /// Its registers are not read: somebody else tells where it ran.
    pub timed: bool,
    /// How long it had run at the last tick, ns; `None` before the first.
    pub ran: Option<u64>,
    /// How long it waited for a pCPU, ns: it did not run from one tick to the next, and was ready when it was looked at.
    pub waited: u64,
}

/// What Xen is asked in a tick. The hypervisor, or a stand-in.
pub trait Source {
    /// See [`Hypervisor::vcpus`].
    ///
    /// # Errors
    /// Of the call as a whole.
    fn vcpus(&mut self, asked: &[(u16, u32)], answers: &mut Vec<Option<VcpuInfo>>) -> Result<(), XenError>;
    /// See [`Hypervisor::vcpus_owned`].
    ///
    /// # Errors
    /// Of the call as a whole.
    fn vcpus_owned(
        &mut self,
        asked: &[(u16, u32)],
        answers: &mut Vec<Option<VcpuInfo>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError>;
    /// See [`Hypervisor::contexts`].
    ///
    /// # Errors
    /// Of the call as a whole.
    fn contexts(
        &mut self,
        asked: &[(u16, u32, bool)],
        answers: &mut Vec<Option<Context>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError>;
    /// Maps what walks want.
    fn fetch(&mut self, cache: &mut FrameCache, wanted: &mut Vec<(u16, u64)>);
    /// How long every pCPU has been idle, ns; nothing where nobody asks.
    ///
    /// # Errors
    /// Of the call.
    fn idle(&mut self, _times: &mut Vec<u64>) -> Result<(), XenError> {
        Ok(())
    }
    /// ns on the session's clock; `None` where there is none.
    fn now(&self) -> Option<u64> {
        None
    }
    /// Pauses a domain, for a short time at most; false: it was left as it was.
    fn hold(&mut self, _domain: u16) -> bool {
        false
    }
    /// Unpauses it; true: it has stood still all the time.
    fn release(&mut self) -> bool {
        false
    }
}

impl Source for Hypervisor {
    fn vcpus(&mut self, asked: &[(u16, u32)], answers: &mut Vec<Option<VcpuInfo>>) -> Result<(), XenError> {
        Hypervisor::vcpus(self, asked, answers)
    }

    fn vcpus_owned(
        &mut self,
        asked: &[(u16, u32)],
        answers: &mut Vec<Option<VcpuInfo>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError> {
        Hypervisor::vcpus_owned(self, asked, answers, owners)
    }

    fn contexts(
        &mut self,
        asked: &[(u16, u32, bool)],
        answers: &mut Vec<Option<Context>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError> {
        Hypervisor::contexts(self, asked, answers, owners)
    }

    fn fetch(&mut self, cache: &mut FrameCache, wanted: &mut Vec<(u16, u64)>) {
        cache.fetch(self, wanted, Instant::now());
    }
}

/// The hypervisor, and what pauses domains for it (`--consistent`).
#[derive(Debug)]
pub struct Pausing<'a> {
    /// Hypercalls.
    pub xen: &'a mut Hypervisor,
    /// `None` once it has died.
    pub holder: &'a mut Option<Holder>,
    /// What it held could not be let go.
    pub stuck: bool,
    /// `CLOCK_*` of the session.
    pub clockid: i32,
}

impl Pausing<'_> {
    fn told(&mut self, answer: std::io::Result<bool>) -> bool {
        answer.unwrap_or_else(|_| {
            if let Some(mut dead) = self.holder.take() {
                self.stuck |= !dead.heal(self.xen);
            }
            false
        })
    }
}

impl Source for Pausing<'_> {
    fn vcpus(&mut self, asked: &[(u16, u32)], answers: &mut Vec<Option<VcpuInfo>>) -> Result<(), XenError> {
        self.xen.vcpus(asked, answers)
    }

    fn vcpus_owned(
        &mut self,
        asked: &[(u16, u32)],
        answers: &mut Vec<Option<VcpuInfo>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError> {
        self.xen.vcpus_owned(asked, answers, owners)
    }

    fn contexts(
        &mut self,
        asked: &[(u16, u32, bool)],
        answers: &mut Vec<Option<Context>>,
        owners: &mut Vec<Owner>,
    ) -> Result<(), XenError> {
        self.xen.contexts(asked, answers, owners)
    }

    fn fetch(&mut self, cache: &mut FrameCache, wanted: &mut Vec<(u16, u64)>) {
        cache.fetch(self.xen, wanted, Instant::now());
    }

    fn idle(&mut self, times: &mut Vec<u64>) -> Result<(), XenError> {
        self.xen.idle(times)
    }

    fn now(&self) -> Option<u64> {
        clock::now(self.clockid).ok()
    }

    fn hold(&mut self, domain: u16) -> bool {
        let answer = self.holder.as_mut().map(|holder| holder.hold(domain));
        answer.is_some_and(|answer| self.told(answer))
    }

    fn release(&mut self) -> bool {
        let answer = self.holder.as_mut().map(Holder::release);
        answer.is_some_and(|answer| self.told(answer))
    }
}

/// A vCPU that ran since the last tick.
#[derive(Clone, Copy, Debug)]
struct Moved {
    /// Its place in the list.
    at: usize,
    info: VcpuInfo,
    /// ns it ran, and ns it waited.
    ran: u64,
    waited: u64,
    /// When its registers were read, ns, and how long that took.
    time: u64,
    width: u64,
}

impl Moved {
    /// False when its domain has gone since it was asked about: where it was is not to be believed then. When another domain
    /// has the id by now, what it ran may be the other's, and is nobody's here.
    fn still(&mut self, vcpu: &mut Vcpu, owner: &Owner) -> bool {
        if owner.is_some_and(|owner| owner != vcpu.uuid) {
            (self.ran, self.waited, vcpu.ran) = (0, 0, None);
        }
        *owner == Some(vcpu.uuid)
    }

    /// The clock before and after the call that its registers came by.
    fn bracket(&mut self, bracket: Option<(u64, u64)>) {
        if let Some((before, after)) = bracket {
            self.width = after.saturating_sub(before);
            self.time = before + self.width / 2;
        }
    }
}

/// What ticks need, kept from one to the next.
#[derive(Debug, Default)]
pub struct Ticks {
    /// Stacks are walked.
    pub stacks: bool,
    /// Time of waiting is sampled too.
    pub waiting: bool,
    /// A stack that may be of two moments is walked again while its domain is paused.
    pub consistent: bool,
    /// The books of the host are kept too.
    pub books: Option<Books>,
    /// ns that were measured, from the first tick to the last.
    pub wall: u64,
    idle: Vec<u64>,
    asked: Vec<(u16, u32)>,
    infos: Vec<Option<VcpuInfo>>,
    after: Vec<Option<VcpuInfo>>,
    moved: Vec<Moved>,
    contexts_asked: Vec<(u16, u32, bool)>,
    contexts: Vec<Option<Context>>,
    again: Vec<Option<Context>>,
    owners: Vec<Owner>,
    held: Vec<usize>,
    walked: Vec<(Stack, bool)>,
    wanted: Vec<(u16, u64)>,
    last: Option<u64>,
    random: u64,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Samples written.
    pub samples: u64,
    /// Samples that had no id left.
    pub refused: u64,
}

impl Ticks {
    /// No tick yet.
    pub fn new(stacks: bool, waiting: bool, consistent: bool, seed: u64) -> Ticks {
        Ticks { stacks, waiting, consistent, random: seed | 1, ..Ticks::default() }
    }

    /// Nothing was measured for a while: what happened belongs to nobody.
    pub fn pause(&mut self, vcpus: &mut [Vcpu]) {
        self.last = None;
        vcpus.iter_mut().for_each(|vcpu| vcpu.ran = None);
        self.books.iter_mut().for_each(Books::pause);
    }

    /// The next random number (xorshift64): for jitter and order, nothing else.
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Makes a tick at `time` (ns on the session's clock) and appends its samples.
    ///
    /// # Errors
    /// When Xen does not answer at all.
    pub fn tick(
        &mut self,
        xen: &mut dyn Source,
        vcpus: &mut [Vcpu],
        cache: &mut FrameCache,
        time: u64,
        form: &GuestForm,
        out: &mut Vec<u8>,
    ) -> Result<Done, XenError> {
        let time = self.look(xen, vcpus, time)?;
        let mut done = Done::default();
        if let Some(books) = &mut self.books {
            let ran = self.moved.iter().map(|moved| moved.ran).sum();
            done.samples += books.tick(time, &self.idle, ran, form, out);
        }
        self.shuffle();
        if self.moved.is_empty() {
            return Ok(done);
        }
        self.read(xen, vcpus)?;
        if self.stacks {
            self.walk(xen, vcpus, cache)?;
        }
        for (index, moved) in self.moved.iter().enumerate() {
            let vcpu = &vcpus[moved.at];
            let context = self.contexts.get(index).copied().flatten();
            let none = (Stack::default(), false);
            let (stack, torn) = self.walked.get(index).filter(|_| self.stacks).unwrap_or(&none);
            let mut sample = DomainSample {
                time: moved.time,
                width: moved.width,
                domain: vcpu.domain.into(),
                vcpu: vcpu.vcpu,
                pcpu: moved.info.cpu,
                state: state(&moved.info, context.is_some()),
                callers: Callers { kernel: &stack.kernel, user: &stack.user, torn: *torn },
                ..DomainSample::default()
            };
            if let Some(context) = context {
                sample.ip = context.rip;
                sample.mode = stack::mode(&context, vcpu.pv);
                let Context { rbp, rsp, cr3, .. } = context;
                sample.registers = Some(Registers { rbp, rsp, cr3, wide: vcpu.wide });
            }
            for (kind, period) in [(Kind::Running, moved.ran), (Kind::Waiting, moved.waited)] {
                if period != 0 {
                    sample.period = period;
                    let written = form.sample(kind, &sample, out);
                    done.samples += u64::from(written);
                    done.refused += u64::from(!written);
                }
            }
        }
        Ok(done)
    }

    /// Asks all vCPUs; keeps those that ran, and with `waiting` those that wait. When that was: the middle of the look.
    fn look(&mut self, xen: &mut dyn Source, vcpus: &mut [Vcpu], time: u64) -> Result<u64, XenError> {
        self.asked.clear();
        self.asked.extend(vcpus.iter().map(|vcpu| (vcpu.domain, vcpu.vcpu)));
        xen.vcpus(&self.asked, &mut self.infos)?;
        if self.books.is_some() {
            xen.idle(&mut self.idle)?;
        }
        let time = time + xen.now().map_or(0, |after| after.saturating_sub(time)) / 2;
        let elapsed = self.last.map_or(0, |last| time.saturating_sub(last));
        self.last = Some(time);
        self.wall += elapsed;
        self.moved.clear();
        for (at, (vcpu, info)) in vcpus.iter_mut().zip(&self.infos).enumerate() {
            let Some(info) = info.filter(|info| info.online) else { continue };
            let before = vcpu.ran.replace(info.cpu_time);
            let ran = before.map_or(0, |before| info.cpu_time.saturating_sub(before));
            let waits = before.is_some() && !info.blocked && !info.running && !vcpu.paused;
            let waited = if waits { elapsed.saturating_sub(ran) } else { 0 };
            vcpu.waited += waited;
            let waited = if self.waiting { waited } else { 0 };
            if ran != 0 || waited != 0 {
                self.moved.push(Moved { at, info, ran, waited, time, width: 0 });
            }
        }
        Ok(time)
    }

    /// Reads the registers of those that ran; a sample's time is the middle of the call that they came by.
    fn read(&mut self, xen: &mut dyn Source, vcpus: &mut [Vcpu]) -> Result<(), XenError> {
        self.contexts.clear();
        self.contexts.resize(self.moved.len(), None);
        let mut read = std::mem::take(&mut self.held);
        read.clear();
        read.extend((0..self.moved.len()).filter(|index| !vcpus[self.moved[*index].at].timed));
        for part in read.chunks(CONTEXTS_MAX) {
            self.contexts_asked.clear();
            self.contexts_asked.extend(part.iter().map(|&index| {
                let vcpu = &vcpus[self.moved[index].at];
                (vcpu.domain, vcpu.vcpu, vcpu.wide)
            }));
            let before = xen.now();
            xen.contexts(&self.contexts_asked, &mut self.again, &mut self.owners)?;
            let bracket = before.zip(xen.now());
            for ((&index, context), owner) in part.iter().zip(&self.again).zip(&self.owners) {
                let moved = &mut self.moved[index];
                moved.bracket(bracket);
                self.contexts[index] = moved.still(&mut vcpus[moved.at], owner).then_some(*context).flatten();
            }
        }
        self.held = read;
        Ok(())
    }

    fn shuffle(&mut self) {
        for at in (1..self.moved.len()).rev() {
            let other = self.random() as usize % (at + 1);
            self.moved.swap(at, other);
        }
    }

    /// Walks the stacks of those whose registers were read and are to be believed.
    fn walk(&mut self, xen: &mut dyn Source, vcpus: &mut [Vcpu], cache: &mut FrameCache) -> Result<(), XenError> {
        self.walked.resize_with(self.moved.len().max(self.walked.len()), Default::default);
        let mut open: Vec<usize> = Vec::with_capacity(self.moved.len());
        for (index, moved) in self.moved.iter().enumerate() {
            let vcpu = &vcpus[moved.at];
            self.walked[index].0.kernel.clear();
            self.walked[index].0.user.clear();
            let seen = self.contexts.get(index).is_some_and(Option::is_some) && !moved.info.blocked;
            // dom0 cannot map its own memory as another domain's.
            if seen && vcpu.domain != 0 && vcpu.wide {
                open.push(index);
            }
        }
        let walking = open.clone();
        let began = Instant::now();
        let cut = self.rounds(xen, vcpus, cache, open, began);
        // Exact is what did not run meanwhile.
        self.asked.clear();
        self.asked.extend(walking.iter().map(|&index| {
            let vcpu = &vcpus[self.moved[index].at];
            (vcpu.domain, vcpu.vcpu)
        }));
        xen.vcpus_owned(&self.asked, &mut self.after, &mut self.owners)?;
        for ((&index, after), owner) in walking.iter().zip(&self.after).zip(&self.owners) {
            let moved = &mut self.moved[index];
            if !moved.still(&mut vcpus[moved.at], owner) {
                self.contexts[index] = None;
            }
            self.walked[index].1 = after.is_none_or(|after| after.cpu_time != moved.info.cpu_time);
        }
        cut.into_iter().for_each(|index| self.walked[index].1 = true);
        if self.consistent {
            self.walk_held(xen, vcpus, cache, began)?;
        }
        Ok(())
    }

    /// Walks until nothing is left to be mapped, or time is up: those that are cut.
    fn rounds(
        &mut self,
        xen: &mut dyn Source,
        vcpus: &[Vcpu],
        cache: &mut FrameCache,
        mut open: Vec<usize>,
        began: Instant,
    ) -> Vec<usize> {
        for _ in 0..ROUNDS_MAX {
            self.wanted.clear();
            open.retain(|&index| {
                let vcpu = &vcpus[self.moved[index].at];
                let (Some(frames), Some(context)) = (cache.of(vcpu.domain), self.contexts[index]) else { return false };
                match stack::walk(&context, vcpu.pv, frames, &mut self.walked[index].0) {
                    Ok(()) => false,
                    Err(frame) => {
                        self.wanted.push((vcpu.domain, frame));
                        true
                    }
                }
            });
            if self.wanted.is_empty() || began.elapsed() >= WALKS_MAX {
                break;
            }
            xen.fetch(cache, &mut self.wanted);
        }
        open
    }

    /// Walks the stacks that may be of two moments once more, domain by domain, while the domain stands still. What they
    /// need is mapped from the first walk, so it does not stand long.
    fn walk_held(
        &mut self,
        xen: &mut dyn Source,
        vcpus: &mut [Vcpu],
        cache: &mut FrameCache,
        began: Instant,
    ) -> Result<(), XenError> {
        let torn = (0..self.moved.len()).filter(|index| self.walked[*index].1 && self.contexts[*index].is_some());
        let mut torn: Vec<(u16, usize)> = torn.map(|index| (vcpus[self.moved[index].at].domain, index)).collect();
        torn.sort_unstable();
        for group in torn.chunk_by(|a, b| a.0 == b.0) {
            if began.elapsed() >= WALKS_MAX {
                break;
            }
            if !xen.hold(group[0].0) {
                continue;
            }
            self.held.clear();
            self.held.extend(group.iter().map(|(_, index)| *index));
            let walked = self.walk_group(xen, vcpus, cache, began);
            // Whatever Xen said, the domain must run on.
            let stood_still = xen.release();
            let cut = walked?;
            for &(_, index) in group {
                self.walked[index].1 = !stood_still || cut.contains(&index);
            }
        }
        Ok(())
    }

    fn walk_group(
        &mut self,
        xen: &mut dyn Source,
        vcpus: &mut [Vcpu],
        cache: &mut FrameCache,
        began: Instant,
    ) -> Result<Vec<usize>, XenError> {
        let group = std::mem::take(&mut self.held);
        self.asked.clear();
        self.asked.extend(group.iter().map(|&index| {
            let vcpu = &vcpus[self.moved[index].at];
            (vcpu.domain, vcpu.vcpu)
        }));
        self.contexts_asked.clear();
        self.contexts_asked.extend(self.asked.iter().map(|&(domain, vcpu)| (domain, vcpu, true)));
        xen.vcpus(&self.asked, &mut self.after)?;
        let before = xen.now();
        xen.contexts(&self.contexts_asked, &mut self.again, &mut self.owners)?;
        let bracket = before.zip(xen.now());
        for (at, &index) in group.iter().enumerate() {
            let moved = &mut self.moved[index];
            moved.bracket(bracket);
            moved.info.blocked |= self.after[at].is_none_or(|info| info.blocked);
            // What is held has not ended when it is walked.
            let still = moved.still(&mut vcpus[moved.at], &self.owners[at]);
            self.contexts[index] = self.again[at].filter(|_| still);
        }
        let cut = self.rounds(xen, vcpus, cache, group.clone(), began);
        self.held = group;
        Ok(cut)
    }
}

/// Where what a vCPU ran goes. Of one that has blocked since nobody saw where it ran, nor of the one that asks.
fn state(info: &VcpuInfo, seen: bool) -> State {
    match (seen && !info.blocked, info.running) {
        (false, _) => State::Blocked,
        (true, true) => State::Running,
        (true, false) => State::Preempted,
    }
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::domain::{Domain, DomainKind};

    use super::*;
    use crate::xen::guest_form::Options;

    /// vCPUs whose answers are written down.
    #[derive(Debug, Default)]
    struct Script {
        infos: Vec<Option<VcpuInfo>>,
        contexts: Vec<Option<Context>>,
        asked: Vec<(u16, u32, bool)>,
        /// Ids that are another domain's, or nobody's, once registers were read (`true`), or once stacks were walked.
        taken: Vec<(u16, bool, Owner)>,
    }

    impl Script {
        fn owner(&self, domain: u16, walked: bool) -> Owner {
            let taken = self.taken.iter().find(|(id, at, _)| *id == domain && (*at || walked));
            taken.map_or(Some([domain as u8; 16]), |(.., owner)| *owner)
        }
    }

    impl Source for Script {
        fn vcpus(&mut self, asked: &[(u16, u32)], answers: &mut Vec<Option<VcpuInfo>>) -> Result<(), XenError> {
            answers.clear();
            answers.extend(asked.iter().map(|(domain, _)| self.infos[usize::from(*domain) - 1]));
            Ok(())
        }

        fn vcpus_owned(
            &mut self,
            asked: &[(u16, u32)],
            answers: &mut Vec<Option<VcpuInfo>>,
            owners: &mut Vec<Owner>,
        ) -> Result<(), XenError> {
            owners.clear();
            owners.extend(asked.iter().map(|(domain, _)| self.owner(*domain, true)));
            self.vcpus(asked, answers)
        }

        fn contexts(
            &mut self,
            asked: &[(u16, u32, bool)],
            answers: &mut Vec<Option<Context>>,
            owners: &mut Vec<Owner>,
        ) -> Result<(), XenError> {
            self.asked = asked.to_vec();
            answers.clear();
            answers.extend(asked.iter().map(|(domain, ..)| self.contexts[usize::from(*domain) - 1]));
            owners.clear();
            owners.extend(asked.iter().map(|(domain, ..)| self.owner(*domain, false)));
            Ok(())
        }

        fn fetch(&mut self, _: &mut FrameCache, _: &mut Vec<(u16, u64)>) {}
    }

    fn info(cpu_time: u64, running: bool, blocked: bool) -> Option<VcpuInfo> {
        Some(VcpuInfo { online: true, blocked, running, cpu_time, cpu: 1 })
    }

    fn host(count: u16, waiting: bool) -> (GuestForm, Vec<Vcpu>) {
        let domains: Vec<Domain> = (1..=count)
            .map(|id| Domain {
                id: id.into(),
                name: format!("d{id}"),
                kind: DomainKind::Pv,
                vcpus: 1,
                ..Domain::default()
            })
            .collect();
        let mut form = GuestForm::new(&Options { frequency: 97, call_graph: false, clockid: 1, waiting }, &domains);
        form.domains(&domains, 0, &mut Vec::new()).unwrap();
        let uuid = |domain| [domain as u8; 16];
        let vcpu = |domain| Vcpu {
            domain,
            uuid: uuid(domain),
            vcpu: 0,
            pv: true,
            wide: true,
            paused: false,
            timed: false,
            ran: None,
            waited: 0,
        };
        (form, (1..=count).map(vcpu).collect())
    }

    fn word(sample: &[u8], at: usize) -> u64 {
        u64::from_ne_bytes(sample[at..at + 8].try_into().unwrap())
    }

    fn samples(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut list = Vec::new();
        while !bytes.is_empty() {
            let (sample, rest) = bytes.split_at(usize::from(u16::from_ne_bytes([bytes[6], bytes[7]])));
            list.push(sample);
            bytes = rest;
        }
        list
    }

    #[test]
    fn time_is_cpu_time_and_is_told_by_state() {
        let (form, mut vcpus) = host(4, false);
        let at = |rip| Some(Context { rip, ..Context::default() });
        let mut xen = Script {
            infos: vec![
                info(100, true, false),
                info(200, false, false),
                info(300, false, true),
                info(400, true, false),
            ],
            contexts: vec![at(0x1000), at(0x2000), at(0x3000), None],
            ..Script::default()
        };
        let mut ticks = Ticks::new(false, false, false, 1);
        let mut out = Vec::new();
        let mut tick = |xen: &mut Script, time| {
            out.clear();
            let done = ticks.tick(xen, &mut vcpus, &mut FrameCache::default(), time, &form, &mut out).unwrap();
            (done.samples, out.clone())
        };
        assert_eq!(tick(&mut xen, 1000).0, 0, "the first look only says where the clocks stand");
        assert_eq!(tick(&mut xen, 2000).0, 0, "nobody ran");
        xen.infos =
            vec![info(110, true, false), info(220, false, false), info(330, false, true), info(440, true, false)];
        let (count, bytes) = tick(&mut xen, 3000);
        assert_eq!(count, 4);
        let mut list: Vec<[u64; 4]> = samples(&bytes).iter().map(|s| [8, 16, 40, 56].map(|at| word(s, at))).collect();
        list.sort_unstable();
        let told: Vec<(u64, u64)> = list.iter().map(|[_, _, state, period]| (*state, *period)).collect();
        // Running, preempted, unseen because blocked, unseen because it is the one that asks.
        assert_eq!(told, [(1, 10), (2, 20), (3, 30), (3, 40)]);
        assert_eq!([list[0][1], list[1][1]], [0x1000, 0x2000]);
        assert!(list[2][1] > 1 << 55 && list[3][1] == list[2][1], "what is not believed has no ip");
    }

    #[test]
    fn weights_are_what_cpu_time_says() {
        // As measured with weights 256:1024 on one pCPU: both are always seen preempted.
        let (form, mut vcpus) = host(2, true);
        let mut xen = Script { contexts: vec![Some(Context::default()); 2], ..Script::default() };
        let mut ticks = Ticks::new(false, true, false, 7);
        let mut out = Vec::new();
        for n in 0..101u64 {
            xen.infos = vec![info(n * 2, false, false), info(n * 8, false, false)];
            ticks.tick(&mut xen, &mut vcpus, &mut FrameCache::default(), n * 10, &form, &mut out).unwrap();
        }
        let mut sums = std::collections::BTreeMap::new();
        for sample in samples(&out) {
            *sums.entry(word(sample, 8)).or_insert(0) += word(sample, 56);
        }
        // Running 200 and 800 ns, waiting 800 and 200.
        assert_eq!(sums.into_values().collect::<Vec<_>>(), [200, 800, 800, 200]);
    }

    #[test]
    fn an_id_that_is_anothers_by_now_gives_nothing_and_one_that_is_nobodys_no_address() {
        let other = Some([0xee; 16]);
        // (its owner after registers were read, or after stacks were walked) -> samples of it, and their state.
        let cases = [
            ((true, other), None),
            ((false, other), None),
            ((true, None), Some(3)),
            ((false, None), Some(3)),
            ((true, Some([1; 16])), Some(2)),
        ];
        for ((at, owner), expected) in cases {
            let (form, mut vcpus) = host(2, true);
            let context = Context { rip: 0x1000, ..Context::default() };
            let mut xen = Script { contexts: vec![Some(context); 2], ..Script::default() };
            let mut cache = FrameCache::default();
            let mut ticks = Ticks::new(true, true, false, 7);
            let mut out = Vec::new();
            xen.infos = vec![info(100, false, false), info(100, false, false)];
            ticks.tick(&mut xen, &mut vcpus, &mut cache, 10, &form, &mut out).unwrap();
            xen.infos = vec![info(140, false, false), info(140, false, false)];
            xen.taken = vec![(1, at, owner)];
            out.clear();
            ticks.tick(&mut xen, &mut vcpus, &mut cache, 50, &form, &mut out).unwrap();
            let (mut one, mut two) = (Vec::new(), Vec::new());
            for sample in samples(&out) {
                // The first id is of the first domain, and waiting has another event.
                let of = if word(sample, 8) == 1 << 40 { &mut one } else { &mut two };
                of.push((word(sample, 40) & 0xff, word(sample, 56)));
            }
            assert_eq!(two, [(2, 40)], "the other domain is not touched");
            assert_eq!(one, expected.map(|state| (state, 40)).into_iter().collect::<Vec<_>>(), "{at} {owner:?}");
            assert_eq!(vcpus[0].ran, if owner == other { None } else { Some(140) });
        }
    }

    #[test]
    fn a_vcpu_that_is_gone_or_a_clock_that_goes_back_gives_nothing() {
        let (form, mut vcpus) = host(2, true);
        let mut xen =
            Script { infos: vec![info(100, true, false), None], contexts: vec![None; 2], ..Script::default() };
        let mut ticks = Ticks::new(false, true, false, 7);
        let mut out = Vec::new();
        for cpu_time in [100, 50] {
            xen.infos[0] = info(cpu_time, true, false);
            ticks.tick(&mut xen, &mut vcpus, &mut FrameCache::default(), 10, &form, &mut out).unwrap();
        }
        assert!(out.is_empty());
    }
}
