//! The thread that ticks: when, how much of a pCPU it may take, and what it sends.
//!
//! Ticks are jittered, so that they do not keep step with a guest's own timer. A tick that was due while another was made is missed and
//! counted, not made up for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{EventfdFlags, eventfd};
use xprof_perfdata::domain::{TRACE_ERROR_FACT, WAITED_FACT, WALL_FACT};

use super::following::Following;
use super::{LAST, MESSAGE_BYTES, UNDER_WAY};
use crate::machine::Machine;
use crate::sys::xen::Holder;
use crate::sys::{clock, limits};
use crate::xen::frames::FrameCache;
use crate::xen::guest_form::GuestForm;
use crate::xen::host::Host;
use crate::xen::serving;
use crate::xen::tick::{Pausing, Ticks, Vcpu};
use crate::xen::trace::Trace;
use crate::{Drained, Message};

/// Domains are looked for this often: what was mapped of one that dies is let go within twice this time.
const FOLLOW: Duration = Duration::from_millis(40);
/// The same where nothing of domains is mapped; before each anchor of the trace they are looked for, too.
const FOLLOW_TIMES: Duration = Duration::from_secs(1);
/// Whom dom0's processes work for is looked up this often.
const SERVING: Duration = Duration::from_secs(5);
/// A tick may take this part of the time between two: the sampler keeps to a fifth of one pCPU.
const BUDGET: u32 = 5;
/// A message is sent when it has this age.
const MESSAGE_AGE: Duration = Duration::from_millis(100);
/// Bytes of states that wait for the receiver; beyond, seconds are left out.
const TRACED_MAX: usize = 64 << 20;
/// Facts of vCPUs that are kept.
const FACTS_MAX: usize = 4096;

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Sampler {
    pub(super) host: Host,
    pub(super) form: GuestForm,
    pub(super) ticks: Ticks,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) cache: FrameCache,
    /// With `--consistent`.
    pub(super) holder: Option<Holder>,
    pub(super) following: Following,
    /// With `--source trace`.
    pub(super) trace: Option<Trace>,
    pub(super) traced: Traced,
    /// Registers are read.
    pub(super) contexts: bool,
    /// How long vCPUs waited that are gone.
    pub(super) waited: Vec<((u16, u32), u64)>,
    pub(super) interval: Duration,
    /// `CLOCK_*` of the samples.
    pub(super) clockid: i32,
    pub(super) bytes: Vec<u8>,
    pub(super) control: Arc<Control>,
}

#[derive(Debug)]
pub(super) struct Control {
    /// Wakes the thread when one of these has changed.
    wake: OwnedFd,
    pub(super) stop: AtomicBool,
    pub(super) paused: AtomicBool,
    pub(super) ticks: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Control {
    pub(super) fn new() -> crate::Result<Control> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| crate::Error::os("make an eventfd", e))?;
        let (stop, paused) = Default::default();
        let (ticks, missed, refused) = Default::default();
        Ok(Control { wake, stop, paused, ticks, missed, refused })
    }

    /// After a change.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// What came of the trace: a ring of its own, behind the sampler's.
#[derive(Debug, Default)]
pub(super) struct Traced {
    bytes: Vec<u8>,
    /// Up to when it is known what vCPUs did, ns.
    until: u64,
}

/// Time that this thread has had a CPU.
fn own_time() -> Duration {
    Duration::from_nanos(clock::now(clock::THREAD_CPUTIME).unwrap_or(0))
}

/// The mean cost of ticks after one more. One slow tick (everything mapped anew) is none to slow down for, so that none counts for
/// more than four times what fits in the budget, or than the mean.
fn mean(mean: Duration, cost: Duration, interval: Duration) -> Duration {
    let most = 4 * mean.max(interval / BUDGET);
    (mean * 7 + cost.min(most)) / 8
}

/// A buffer that the receiver has given back, or a new one.
fn empty(spare: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut buffer = spare.try_recv().unwrap_or_default();
    buffer.clear();
    buffer
}

/// The receiver is gone.
struct Over;

impl Sampler {
    /// ns on the session's clock.
    pub(super) fn now(&self) -> u64 {
        clock::now(self.clockid).unwrap_or(0)
    }

    /// Begins with a domain: its vCPUs, its frames.
    pub(super) fn serving(&mut self) -> Vec<(String, String)> {
        let living = self.following.followed.iter().filter(|known| !known.ended);
        let domains: Vec<u32> = living.map(|known| known.domain.id).collect();
        serving::facts(&mut self.host, &Machine::here().proc, &domains)
    }

    /// What is known at the end.
    fn facts(&self) -> Vec<(String, String)> {
        let now = self.vcpus.iter().map(|vcpu| ((vcpu.domain, vcpu.vcpu), vcpu.waited));
        let mut sums = std::collections::BTreeMap::new();
        self.waited.iter().copied().chain(now).for_each(|(vcpu, waited)| *sums.entry(vcpu).or_insert(0) += waited);
        let wall = (WALL_FACT.to_owned(), self.ticks.wall.to_string());
        let waits = sums.into_iter().take(FACTS_MAX);
        std::iter::once(wall)
            .chain(waits.map(|((domain, vcpu), ns)| (format!("{WAITED_FACT}{domain}.{vcpu}"), ns.to_string())))
            .collect()
    }

    /// Looks which domains came, went, were renamed; messages for what changed.
    pub(super) fn run(mut self, out: &Sender<Message>, spare: &Receiver<Vec<u8>>) {
        // A tick that comes late is a time of guests that nobody saw; all ticks together take a fifth of a pCPU at most.
        limits::hurry();
        let _: std::result::Result<(), Over> = self.work(out, spare);
    }

    /// Reads the trace; at its anchors it tells what vCPUs did up to there.
    fn trace(&mut self, stop: bool, paused: bool, messages: &mut Vec<Message>) {
        let Sampler { trace: Some(trace), traced, form, clockid, .. } = self else { return };
        if stop {
            let (notes, facts) = trace.finish(form, &mut traced.bytes);
            messages.extend(notes.into_iter().map(Message::Note));
            messages.push(Message::Facts(facts));
        } else if trace.is_over() {
            traced.until = clock::now(*clockid).unwrap_or(0);
        } else {
            trace.drain();
            if Instant::now() >= trace.due() {
                let kept = traced.bytes.len();
                let anchored = trace.anchor(form, &mut traced.bytes);
                // What is not wanted, and what nobody takes.
                if paused || kept > TRACED_MAX {
                    traced.bytes.truncate(kept);
                }
                traced.until = anchored.until.unwrap_or(traced.until);
                messages.extend(anchored.note.map(Message::Note));
            }
        }
    }

    fn send(out: &Sender<Message>, message: Message) -> std::result::Result<(), Over> {
        out.send(message).map_err(|_| Over)
    }

    fn work(&mut self, out: &Sender<Message>, spare: &Receiver<Vec<u8>>) -> std::result::Result<(), Over> {
        let mut messages = Vec::new();
        let mut next_tick = Instant::now();
        let follow = if self.contexts { FOLLOW } else { FOLLOW_TIMES };
        let mut next_follow = Instant::now() + follow;
        let mut sent = Instant::now();
        let mut served = Instant::now();
        let (mut slowed, mut failed, mut cost) = (false, false, Duration::ZERO);
        let mut was_paused = false;
        loop {
            let stop = self.control.stop.load(Ordering::Acquire);
            let paused = self.control.paused.load(Ordering::Acquire);
            let (started, spent) = (Instant::now(), own_time());
            let full = out.len() >= UNDER_WAY && !stop;
            // Nobody takes what there is, for so long that a message is full too.
            if full && self.bytes.len() >= MESSAGE_BYTES && started >= next_tick {
                self.control.missed.fetch_add(1, Ordering::Relaxed);
                next_tick = started + self.interval;
            } else if (started >= next_tick || stop) && !paused {
                let time = self.now();
                if was_paused {
                    self.ticks.pause(&mut self.vcpus);
                }
                self.cache.trim(started);
                let Sampler { host, form, ticks, vcpus, cache, bytes, holder, clockid, .. } = self;
                let held = holder.is_some();
                let mut pausing = Pausing { xen: &mut host.xen, holder, stuck: false, clockid: *clockid };
                let done = ticks.tick(&mut pausing, vcpus, cache, time, form, bytes);
                let stuck = pausing.stuck;
                if held && holder.is_none() {
                    ticks.consistent = false;
                    messages.push(Message::Note(
                        "the process that pauses domains was killed: stacks are read without pausing from here on"
                            .into(),
                    ));
                    if stuck {
                        messages.push(Message::Note(
                            "a domain stays paused, which Xen did not let go: xprof doctor --restore".into(),
                        ));
                    }
                }
                match done {
                    Ok(done) => {
                        self.control.ticks.fetch_add(1, Ordering::Relaxed);
                        self.control.refused.fetch_add(done.refused, Ordering::Relaxed);
                    }
                    Err(error) if !failed => {
                        failed = true;
                        messages.push(Message::Failed(error.into()));
                    }
                    Err(_) => {}
                }
                // Time in which others had this CPU is none of the sampler's.
                cost = mean(cost, own_time().saturating_sub(spent), self.interval);
                let step = self.interval.max(cost * BUDGET);
                if !slowed && step > self.interval.mul_f64(1.1) && self.control.ticks.load(Ordering::Relaxed) > 16 {
                    slowed = true;
                    let hz = 1.0 / step.as_secs_f64();
                    messages.push(Message::Note(format!(
                        "sampling {} vCPUs takes {:.1} ms: about {hz:.0} Hz is what a fifth of a pCPU allows",
                        self.vcpus.len(),
                        cost.as_secs_f64() * 1e3
                    )));
                }
                // Between 3/4 and 5/4 of the interval.
                let jitter = 0.75 + 0.5 * (self.ticks.random() >> 11) as f64 / (1u64 << 53) as f64;
                next_tick += step.mul_f64(jitter);
                let late = Instant::now().saturating_duration_since(next_tick);
                if late > Duration::ZERO {
                    let missed = late.as_nanos() / step.as_nanos().max(1) + 1;
                    self.control.missed.fetch_add(missed as u64, Ordering::Relaxed);
                    next_tick = Instant::now() + step / 2;
                }
            }
            was_paused = paused;
            // Before an anchor too: of a domain that is not known yet no states are told.
            let anchors = self.trace.as_ref().is_some_and(|trace| Instant::now() >= trace.due());
            if Instant::now() >= next_follow || anchors || stop {
                self.follow(&mut messages);
                next_follow = Instant::now() + follow;
            }
            self.trace(stop, paused, &mut messages);
            if self.following.target.host && (stop || served.elapsed() >= SERVING) {
                messages.push(Message::Facts(self.serving()));
                served = Instant::now();
            }
            if stop {
                self.ticks.books.iter().for_each(|books| books.close(&self.form, &mut self.bytes));
                messages.push(Message::Facts(self.facts()));
            }
            let traced = self.trace.is_some() && (stop || (!full && self.traced.until > 0));
            let due = self.bytes.len() >= MESSAGE_BYTES || sent.elapsed() >= MESSAGE_AGE || !messages.is_empty();
            let due = due || traced;
            if stop || (due && !full) {
                let bytes = std::mem::replace(&mut self.bytes, empty(spare));
                let until = self.now();
                Self::send(out, Message::Drained(Drained { ring: 0, bytes, until }))?;
                sent = Instant::now();
            }
            // Behind the names of new domains, and behind how exact it is.
            if traced {
                let error = self.trace.as_ref().map_or(0, Trace::error).to_string();
                Self::send(out, Message::Facts(vec![(TRACE_ERROR_FACT.to_owned(), error)]))?;
                let until = if stop { self.now() } else { std::mem::take(&mut self.traced.until) };
                let bytes = std::mem::replace(&mut self.traced.bytes, empty(spare));
                Self::send(out, Message::Drained(Drained { ring: 1, bytes, until }))?;
            }
            if stop {
                let ticks = self.control.ticks.load(Ordering::Relaxed);
                let missed = self.control.missed.load(Ordering::Relaxed);
                if missed != 0 {
                    messages.push(Message::Note(format!(
                        "{missed} of {} ticks were missed; the time of each went to the next",
                        ticks + missed
                    )));
                }
            }
            if stop || !full {
                messages.truncate(LAST / 2);
                for message in messages.drain(..) {
                    Self::send(out, message)?;
                }
            }
            if stop {
                return Ok(());
            }
            let now = Instant::now();
            let age = if self.bytes.is_empty() { FOLLOW_TIMES } else { MESSAGE_AGE };
            let wait = next_follow.min(next_tick.max(now)).min(sent + age).saturating_duration_since(now);
            // Paused: domains are followed all the same, so that nothing dead stays mapped.
            let wait = if paused { wait.max(Duration::from_millis(5)) } else { wait };
            match &mut self.trace {
                Some(trace) => {
                    let wait = wait.min(trace.due().saturating_duration_since(now));
                    trace.wait(wait, self.control.wake.as_fd());
                }
                None => std::thread::sleep(wait),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of 10 s had five ticks, as the first had mapped everything in two seconds.
    #[test]
    fn one_slow_tick_is_none_to_slow_down_for_and_slow_ticks_are() {
        let (interval, fast, slow) = (Duration::from_millis(10), Duration::from_micros(500), Duration::from_secs(2));
        let step = |mean: Duration| interval.max(mean * BUDGET);
        let first = mean(Duration::ZERO, slow, interval);
        assert_eq!(step(first), interval);
        let then = (0..100).fold(first, |known, _| mean(known, fast, interval));
        assert_eq!(step(mean(then, slow, interval)), interval);
        let all = (0..100).fold(first, |known, _| mean(known, slow, interval));
        assert!(all > slow * 99 / 100 && all <= slow, "{all:?}");
        assert_eq!(step(all), all * BUDGET);
    }
}
