//! The trace of this host while somebody records: begun, read, brought onto the session's clock, and put back.
//!
//! What is changed on the host is the event mask and that the trace is written. Both are written down first
//! ([`crate::xen::msr::journal`]) and put back when this is dropped, or by `xprof doctor --restore`. The buffers stay: Xen cannot give them back.
//! Only one program can read them, and who does has `VIRQ_TBUF`; a trace that is written although nobody has that is somebody's too.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use xprof_perfdata::domain::{
    EXITS_FACT, Guest, RunState, SVM_FACT, TRACE_ERROR_FACT, TRACE_LOST_FACT, TRACE_UNKNOWN_FACT,
};

use super::clock::{self, Anchor, Line, TraceClock};
use super::reading::{NOBODY, Reading};
use super::records::{MASK, Vcpu};
use super::states::{States, Stint};
use crate::machine::Machine;
use crate::msr::{self, Class, journal::Outcome};
use crate::sys::clock::now;
use crate::sys::xen::trace::{Rings, TraceSignal};
use crate::sys::xen::{Hypervisor, XenError};
use crate::xen::guest_form::{GuestForm, StateSample};
use crate::xen::msr::journal::{Change, JOURNALS, Notes, Subject};

/// Frames of each pCPU's buffer, where there are none yet: 256 KiB, 25 MB/s between two ticks at 97 Hz.
const FRAMES: u32 = 64;
/// Anchors are taken this often; until one is found, this often instead.
const ANCHORS: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);
/// Without an anchor for so long the trace is given up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Anchors that disagree, one after the other, before it is.
const DISAGREEMENTS: u32 = 3;
/// Facts of exits.
const FACTS_MAX: usize = 4096;

/// What is said before buffers are made, which stay; `None`: there are some already, or the host cannot be asked (which is an error later).
pub fn first_use() -> Option<String> {
    let mut xen = Hypervisor::open().ok()?;
    let info = xen.trace_info().ok()?;
    let (cpus, _) = xen.cpus().ok()?;
    let kib = u64::from(FRAMES) * 4;
    let said = format!(
        "--source trace: Xen makes trace buffers of {kib} KiB for each of {cpus} pCPUs now. Xen cannot give that memory back: it is used until the host reboots"
    );
    (!info.has_buffers()).then_some(said)
}

/// The trace, while it is read.
#[derive(Debug)]
pub(in crate::xen) struct Trace {
    xen: Hypervisor,
    rings: Rings,
    signal: Option<TraceSignal>,
    notes: Option<Notes>,
    /// `CLOCK_*` of the session.
    clockid: i32,
    reading: Reading,
    states: States,
    clock: TraceClock,
    space: Vec<u8>,
    /// Empty, but while they are made.
    stints: Vec<Stint>,
    last: Option<Anchor>,
    due: Instant,
    anchored: Instant,
    disagreeing: u32,
    /// Time without states, ns.
    unknown: u64,
    khz: u32,
    /// Nothing is read any more.
    over: bool,
}

/// What [`Trace::anchor`] says.
#[derive(Debug, Default)]
pub(in crate::xen) struct Anchored {
    /// Up to when samples were written, ns.
    pub(in crate::xen) until: Option<u64>,
    /// For the user.
    pub(in crate::xen) note: Option<String>,
}

/// Who may be using the buffers, by name.
fn reader() -> String {
    let named = |path: &Path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let name = name.trim();
        ["xentrace", "xenbaked", "xprof"].contains(&name).then(|| name.to_owned())
    };
    let own = std::process::id().to_string();
    let processes = fs::read_dir(Machine::here().proc).into_iter().flatten().flatten();
    let found = processes.filter(|entry| entry.file_name().to_str() != Some(&own)).find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some(format!("{}, process {pid}", named(&entry.path())?))
    });
    found.unwrap_or_else(|| "a program that has VIRQ_TBUF".to_owned())
}

impl Trace {
    /// Begins; `clockid`: what samples are stamped with.
    pub(in crate::xen) fn begin(clockid: i32) -> crate::Result<Trace> {
        Trace::of(Hypervisor::open()?, Path::new(JOURNALS), clockid)
    }

    pub(super) fn of(mut xen: Hypervisor, journals: &Path, clockid: i32) -> crate::Result<Trace> {
        let call = |attempt: &'static str| move |source: io::Error| XenError::Call { attempt: attempt.into(), source };
        let info = xen.trace_info().map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => XenError::NoTrace,
            _ => XenError::Call { attempt: "describe its trace buffers".into(), source: error },
        })?;
        let signal = xen.trace_signal().map_err(|error| match error.raw_os_error() {
            Some(libc::EEXIST) => XenError::TraceBusy(reader()),
            _ => XenError::Call { attempt: "tell when trace buffers fill (/dev/xen/evtchn)".into(), source: error },
        })?;
        if !info.has_buffers() {
            match xen.make_trace_buffers(FRAMES) {
                // Xen begins to write at once.
                Ok(()) => xen.enable_trace(false).map_err(call("end its trace"))?,
                Err(error) if ![Some(libc::EBUSY), Some(libc::EINVAL)].contains(&error.raw_os_error()) => {
                    return Err(call("make trace buffers")(error).into());
                }
                _ => {}
            }
        }
        let info = xen.trace_info().map_err(call("describe its trace buffers"))?;
        let rings = Rings::map(&mut xen, &info)?;
        let (_, khz) = xen.cpus()?;
        let notes = Notes::take(journals, "trace", Class::Perf, "read Xen's trace").map_err(|error| match error {
            msr::Error::Busy { .. } => crate::Error::from(XenError::TraceBusy("another xprof".into())),
            error => error.into(),
        })?;
        let mut trace = Trace {
            xen,
            rings,
            signal: Some(signal),
            notes: Some(notes),
            clockid,
            reading: Reading::default(),
            states: States::default(),
            clock: TraceClock::new(khz),
            space: Vec::new(),
            stints: Vec::new(),
            last: None,
            due: Instant::now(),
            anchored: Instant::now(),
            disagreeing: 0,
            unknown: 0,
            khz,
            over: false,
        };
        trace.note(Subject::TraceMask, info.mask.into(), MASK.into())?;
        trace.xen.set_trace_mask(MASK).map_err(call("set the event mask of its trace"))?;
        // Xen does not say whether the trace is on: it is when what we do appears in it.
        let before = trace.rings.positions();
        let full = info.has_buffers() && trace.rings.is_full();
        for _ in 0..3 {
            trace.xen.yield_pcpu().map_err(call("yield"))?;
        }
        if full || trace.rings.positions() != before {
            return Err(XenError::TraceBusy("it is on, and nobody reads it".into()).into());
        }
        trace.note(Subject::Trace, 0, 1)?;
        trace.rings.discard();
        trace.xen.enable_trace(true).map_err(call("write its trace"))?;
        for info in trace.xen.domains()? {
            for vcpu in 0..info.vcpus.min(u16::MAX.into()) {
                trace.states.expect(Vcpu { domain: info.id, vcpu: vcpu as u16 }, 0);
            }
        }
        Ok(trace)
    }

    fn note(&mut self, of: Subject, old: u64, new: u64) -> crate::Result<()> {
        match &mut self.notes {
            Some(notes) => Ok(notes.note(&[Change { of, old, new }])?),
            None => Ok(()),
        }
    }

    /// Waits until a buffer is half full or `wake` is written to, so long at most.
    pub(in crate::xen) fn wait(&mut self, most: Duration, wake: BorrowedFd<'_>) {
        match &mut self.signal {
            Some(signal) if !self.over => {
                signal.wait(most, wake);
            }
            _ => std::thread::sleep(most.min(AGAIN)),
        }
    }

    /// Empties the buffers.
    pub(in crate::xen) fn drain(&mut self) {
        if self.over {
            return;
        }
        let reading = &mut self.reading;
        self.rings.drain(&mut self.space, |drained| reading.ring(drained.cpu, drained.bytes, drained.full));
    }

    /// How far its times may be off, ns.
    pub(in crate::xen) fn error(&self) -> u64 {
        self.clock.error
    }

    /// Nothing comes from it any more.
    pub(in crate::xen) fn is_over(&self) -> bool {
        self.over
    }

    /// When [`Trace::anchor`] wants to be called.
    pub(in crate::xen) fn due(&self) -> Instant {
        if self.over { Instant::now() + PATIENCE } else { self.due }
    }

    /// Takes an anchor, and appends the states up to it to `out`.
    pub(in crate::xen) fn anchor(&mut self, form: &GuestForm, out: &mut Vec<u8>) -> Anchored {
        if self.over {
            return Anchored::default();
        }
        self.drain();
        let silent: Vec<(Vcpu, u64)> = self.states.silent().collect();
        let told = self.ask(&silent);
        self.reading.yields.clear();
        let brackets = self.burst();
        self.drain();
        let found = clock::find(&brackets, &self.reading.yields, self.khz.into());
        let is_ours = self.xen.trace_info().is_ok_and(|info| info.mask == MASK);
        if !is_ours {
            return self.give_up("somebody has changed the event mask of Xen's trace");
        }
        let Some(anchor) = found else {
            self.due = Instant::now() + AGAIN;
            if self.anchored.elapsed() >= PATIENCE {
                return self
                    .give_up("this program's own calls are not found in Xen's trace, so its times cannot be told");
            }
            return Anchored::default();
        };
        (self.due, self.anchored) = (Instant::now() + ANCHORS, Instant::now());
        let before = self.last.replace(anchor);
        let line = self.clock.line_to(anchor);
        // What the line has no times for is taken in all the same: who is in which state.
        let mut stints = std::mem::take(&mut self.stints);
        for change in self.reading.until(anchor.tsc) {
            self.states.change(&change, &mut |stint| stints.push(stint));
        }
        for ((of, since), (state, cpu)) in told {
            self.states.told(of, since, state, cpu);
        }
        self.states.cut(anchor.tsc, &mut |stint| stints.push(stint));
        self.states.restart(anchor.tsc);
        let mut done = Anchored { until: Some(anchor.time), note: None };
        match (line, before) {
            (Some(line), _) => {
                self.disagreeing = 0;
                write(&line, &mut stints, form, out);
            }
            (None, None) => {}
            (None, Some(before)) => {
                self.disagreeing += 1;
                let lost = anchor.time.saturating_sub(before.time);
                self.unknown = self.unknown.saturating_add(lost);
                if self.disagreeing >= DISAGREEMENTS {
                    return self.give_up("its clock and CLOCK_MONOTONIC run apart");
                }
                done.note = Some(format!(
                    "a clock was changed: {:.3} s of Xen's trace have no times and are left out",
                    lost as f64 / 1e9
                ));
            }
        }
        stints.clear();
        self.stints = stints;
        done
    }

    fn give_up(&mut self, why: &str) -> Anchored {
        self.end();
        let until = now(self.clockid).ok();
        Anchored { until, note: Some(format!("Xen's trace is not read any more: {why}")) }
    }

    /// Calls that stand in the trace, and the clock before and after each.
    fn burst(&self) -> Vec<(u64, u64)> {
        let time = || now(self.clockid).unwrap_or(0);
        clock::PAUSES
            .into_iter()
            .map(|pause| {
                let before = time();
                let _ = self.xen.yield_pcpu();
                let after = time();
                let until = Instant::now() + Duration::from_nanos(pause);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                (before, after)
            })
            .collect()
    }

    /// In which state vCPUs are that have not been heard of. Those of domains that are gone are forgotten.
    fn ask(&mut self, silent: &[(Vcpu, u64)]) -> Vec<((Vcpu, u64), (RunState, u32))> {
        if let Ok(list) = self.xen.domains() {
            let there: FxHashSet<u16> = list.iter().map(|info| info.id).collect();
            self.states.keep(|domain| there.contains(&domain));
        }
        let asked: Vec<(u16, u32)> = silent.iter().map(|(of, _)| (of.domain, u32::from(of.vcpu))).collect();
        let mut answers = Vec::new();
        if asked.is_empty() || self.xen.vcpus(&asked, &mut answers).is_err() {
            return Vec::new();
        }
        let state = |info: crate::sys::xen::VcpuInfo| match (info.online, info.running, info.blocked) {
            (true, true, _) => Some((RunState::Running, info.cpu)),
            (true, false, true) => Some((RunState::Blocked, info.cpu)),
            // Ready or paused: the next record says which.
            _ => None,
        };
        silent.iter().copied().zip(answers).filter_map(|(of, info)| Some((of, state(info?)?))).collect()
    }

    /// The last states, and what is known at the end; the host is as it was.
    pub(in crate::xen) fn finish(
        &mut self,
        form: &GuestForm,
        out: &mut Vec<u8>,
    ) -> (Vec<String>, Vec<(String, String)>) {
        let mut notes = Vec::new();
        let mut done = self.over;
        for _ in 0..20 {
            if done {
                break;
            }
            let anchored = self.anchor(form, out);
            notes.extend(anchored.note);
            done = anchored.until.is_some();
            if !done {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        notes.extend(self.end());
        if self.reading.lost > 0 {
            notes.push(format!(
                "{} records of Xen's trace were lost: for {:.3} s it is not known what vCPUs did",
                self.reading.lost,
                self.unknown_ns() as f64 / 1e9
            ));
        }
        if self.clock.anchors < 2 {
            notes.push("Xen's trace was too short to tell its times: no states of vCPUs are in the recording".into());
        }
        (notes, self.facts())
    }

    fn unknown_ns(&self) -> u64 {
        let ticks = u128::from(self.states.unknown) * 1_000_000 / u128::from(self.khz.max(1));
        self.unknown.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    fn facts(&self) -> Vec<(String, String)> {
        let mut exits: Vec<_> = self.reading.exits.iter().filter(|((of, _), _)| *of != NOBODY).collect();
        exits.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let exits = exits.into_iter().take(FACTS_MAX).map(|((of, reason), count)| {
            (format!("{EXITS_FACT}{}.{}.{reason:x}", of.domain, of.vcpu), count.to_string())
        });
        let svm = is_svm().then(|| (SVM_FACT.to_owned(), "1".to_owned()));
        [
            (TRACE_ERROR_FACT, self.clock.error),
            (TRACE_LOST_FACT, self.reading.lost),
            (TRACE_UNKNOWN_FACT, self.unknown_ns()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_string()))
        .into_iter()
        .chain(svm)
        .chain(exits)
        .collect()
    }

    /// Puts back what was changed; what could not be.
    fn end(&mut self) -> Vec<String> {
        self.over = true;
        // Whoever puts it back looks whether somebody has it.
        self.signal = None;
        let Some(notes) = self.notes.take() else { return Vec::new() };
        let failed = |(change, outcome): (Change, Outcome)| match outcome {
            Outcome::Failed(error) => {
                Some(format!("{} cannot be put back: {error}; xprof doctor --restore", change.of))
            }
            _ => None,
        };
        notes.undo(&mut self.xen).into_iter().filter_map(failed).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Appends the stints between two anchors, which are put in order of their ends.
pub(crate) fn write(line: &Line, stints: &mut [Stint], form: &GuestForm, out: &mut Vec<u8>) {
    stints.sort_by_key(|stint| (stint.to, stint.of));
    let guest = |of: Vcpu| Guest { machine_pid: of.domain.into(), vcpu: of.vcpu.into() };
    for &mut Stint { of, state, from, to, cpu, by, goes_on } in stints {
        let (from, to) = (line.time(from), line.time(to));
        if from < to {
            let of = guest(of);
            form.state(
                &StateSample { time: to, period: to - from, of, pcpu: cpu, state, by: by.map(guest), goes_on },
                out,
            );
        }
    }
}

/// Whether exits are numbered as SVM numbers them.
fn is_svm() -> bool {
    let cpu = fs::read_to_string(Machine::here().proc.join("cpuinfo")).unwrap_or_default();
    cpu.contains("AuthenticAMD") || cpu.contains("HygonGenuine")
}

/// Takes a change of the trace back; what somebody else uses by now is left alone.
///
/// # Errors
/// Xen's answer.
pub(in crate::xen) fn back(xen: &mut Hypervisor, change: &Change) -> io::Result<Outcome> {
    let info = xen.trace_info()?;
    let now = u64::from(info.mask);
    let is_ours = now == u64::from(MASK) && xen.trace_signal().is_ok();
    Ok(match change.of {
        Subject::TraceMask if !is_ours => {
            Outcome::back(change.old, change.new, now, |_| Err(io::ErrorKind::ResourceBusy.into()))
        }
        Subject::TraceMask => Outcome::back(change.old, change.new, now, |old| xen.set_trace_mask(old as u32)),
        _ if !is_ours => Outcome::Left { now: 1 },
        _ => {
            xen.enable_trace(false)?;
            // Nobody takes what is left for a trace that is on.
            if let Ok(mut rings) = Rings::map(xen, &info) {
                rings.discard();
            }
            Outcome::Restored
        }
    })
}

#[cfg(test)]
mod tests;
