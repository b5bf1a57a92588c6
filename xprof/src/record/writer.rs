//! The writer: whole records go into the recording undecoded, rounds are marked when order allows, the header is
//! refreshed so that a recording that is cut short opens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use xprof_backend::sys::clock;
use xprof_backend::{Drained, Image, Session, Stats};
use xprof_perfdata::abi::record;
use xprof_perfdata::domain::Domain;
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::{Compressed, Features};
use xprof_perfdata::record::Record;
use xprof_perfdata::sample::SampleId;
use xprof_perfdata::write::{Output, Writer};

use super::census::{self, Census};
use super::compress::{DECOMPRESSED_MAX, Packer};
use super::guests::Guests;
use super::keep::{HeldFiles, Keep};
use super::output::{self, Pending};
use super::plan;
use super::rounds::Rounds;
use super::unwinding::Unwinding;

/// The header is refreshed this often at first, and half as often each time after that..
const REFRESH_FIRST: Duration = Duration::from_millis(50);
/// ..until this often.
const REFRESH: Duration = Duration::from_secs(1);

/// What has been written, for the last line on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Samples.
    pub(crate) samples: u64,
    /// Samples lost.
    pub(crate) lost: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
}

/// Writes a recording, or several one after the other (`--switch-output`).
#[derive(Debug)]
pub(crate) struct Sink {
    to: plan::File,
    events: Events,
    /// Where held files are shared.
    held: Option<HeldFiles>,
    /// Programs and kernels that are nowhere on this machine.
    images: Vec<Image>,
    clockid: Option<i32>,
    /// What is known from the start.
    features: Features,
    /// `None` when no order can be promised: no clock, or rings that are overwritten.
    rounds: Option<Rounds>,
    open: Open,
    guests: Guests,
    /// Of files finished before this one.
    before: Totals,
}

/// The file being written.
#[derive(Debug)]
struct Open {
    /// `None` once it is finished.
    writer: Option<Writer<fs::File>>,
    packer: Option<Packer>,
    census: Census,
    keep: Keep,
    /// Bytes of records.
    bytes: u64,
    /// When the header was refreshed last, and the time until it is again.
    refreshed: (Instant, Duration),
    stale: bool,
    /// The records of what was running are all there.
    complete: bool,
}

impl Open {
    fn new(
        to: &plan::File,
        events: &Events,
        features: &Features,
        held: Option<&HeldFiles>,
    ) -> anyhow::Result<(Open, Pending)> {
        let mut features = features.clone();
        let packer = to.compression.map(Packer::new).transpose()?;
        features.compressed = to.compression.map(|level| compressed(level, 1));
        let (output, pending) = output::create(to.path.as_deref())?;
        let writer = Writer::begin(output, events, &features).context("cannot begin the recording")?;
        let open = Open {
            writer: Some(writer),
            packer,
            census: Census::new(events),
            keep: Keep::new(held.cloned()),
            bytes: 0,
            refreshed: (Instant::now(), Duration::ZERO),
            stale: false,
            complete: false,
        };
        Ok((open, pending))
    }

    /// Sees what must be kept of what these records tell.
    fn hold(&mut self, bytes: &[u8], events: &Events) {
        census::each(bytes, |kind, misc, whole| self.keep.record(kind, misc, whole, events));
    }

    /// Appends records that were not held before ([`Open::hold`]).
    fn append(&mut self, bytes: &[u8], events: &Events, guests: &mut Guests) -> xprof_perfdata::Result<()> {
        let keep = &mut self.keep;
        let before = (self.census.samples, self.census.lost);
        self.census.walk(bytes, |kind, misc, whole| {
            keep.record(kind, misc, whole, events);
            guests.record(kind, misc, whole);
        });
        // What was not written is none of the file's samples.
        self.write(bytes).inspect_err(|_| (self.census.samples, self.census.lost) = before)
    }

    fn write(&mut self, bytes: &[u8]) -> xprof_perfdata::Result<()> {
        let packed = match &mut self.packer {
            Some(packer) => packer.pack(bytes),
            None => bytes,
        };
        self.bytes += packed.len() as u64;
        self.stale = true;
        self.writer.as_mut().map_or(Ok(()), |writer| writer.records(packed))
    }

    fn mark(&mut self, kind: u32) -> xprof_perfdata::Result<()> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(8u16.to_ne_bytes());
        self.plain(&bytes)
    }

    /// Writes records of our own, as they are.
    fn plain(&mut self, bytes: &[u8]) -> xprof_perfdata::Result<()> {
        self.bytes += bytes.len() as u64;
        self.stale = true;
        self.writer.as_mut().map_or(Ok(()), |writer| writer.records(bytes))
    }

    fn refresh(&mut self) -> xprof_perfdata::Result<()> {
        self.stale = false;
        self.writer.as_mut().map_or(Ok(()), Writer::refresh)
    }

    /// Ends the file; its size.
    fn finish(&mut self, features: &Features) -> anyhow::Result<u64> {
        let Some(writer) = self.writer.take() else { return Ok(0) };
        match writer.finish(features)? {
            Output::File(file) => Ok(file.metadata()?.len()),
            Output::Pipe(_) => Ok(self.bytes),
        }
    }
}

/// perf writes version 0, and hotspot takes no other.
fn compressed(level: i32, ratio: u32) -> Compressed {
    Compressed { version: 0, kind: 1, level: level.unsigned_abs(), ratio, mmap_len: DECOMPRESSED_MAX }
}

impl Sink {
    /// Creates the file and writes its head; it gets its name when the recording begins. `features` are those known
    /// by now.
    pub(crate) fn create(
        to: plan::File,
        session: &dyn Session,
        overwrite: bool,
        features: Features,
        unwinding: Option<&Unwinding>,
    ) -> anyhow::Result<(Sink, Pending)> {
        let description = session.describe();
        // With chains in place of stack copies the file holds other samples than the rings.
        let events = unwinding.map_or(&description.events, Unwinding::events);
        let held = unwinding.map(|unwinding| unwinding.held.clone());
        let guests = Guests::new(description);
        let features = Features { domains: guests.domains().cloned(), ..features };
        let (mut open, pending) = Open::new(&to, events, &features, held.as_ref())?;
        open.plain(guests.head())?;
        let ordered = description.clockid.is_some() && !overwrite;
        let sink = Sink {
            to,
            events: events.clone(),
            held,
            images: session.images().to_vec(),
            clockid: description.clockid,
            features,
            rounds: ordered.then(|| Rounds::new(description.rings)),
            open,
            guests,
            before: Totals::default(),
        };
        Ok((sink, pending))
    }

    /// Appends records of what was running before the recording.
    pub(crate) fn synthesized(&mut self, bytes: &[u8]) -> xprof_perfdata::Result<()> {
        self.open.append(bytes, &self.events, &mut self.guests)
    }

    /// A domain appeared, was renamed, or is gone.
    pub(crate) fn domain(&mut self, domain: Domain) {
        self.guests.domain(domain);
    }

    /// Something about the host is known now.
    pub(crate) fn facts(&mut self, facts: Vec<(String, String)>) {
        self.guests.facts(facts);
    }

    /// What was running before is all written.
    pub(crate) fn synthesis_done(&mut self) -> xprof_perfdata::Result<()> {
        self.open.complete = true;
        self.open.mark(record::FINISHED_INIT)
    }

    /// Appends what a ring held.
    pub(crate) fn drained(&mut self, drained: &Drained) -> xprof_perfdata::Result<()> {
        if !drained.bytes.is_empty() {
            self.open.append(&drained.bytes, &self.events, &mut self.guests)?;
        }
        let Some(rounds) = &mut self.rounds else { return Ok(()) };
        let ready = rounds.passed(drained.ring, drained.until);
        if ready
            && self.open.complete
            && self.open.stale
            && let Some(now) = self.clockid.and_then(|id| clock::now(id).ok())
        {
            rounds.written(now);
            self.open.mark(record::FINISHED_ROUND)?;
        }
        Ok(())
    }

    /// Sees what must be kept of records that are written later ([`Sink::in_order`]).
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.open.hold(bytes, &self.events);
    }

    /// Appends records that were held before, in time order: nothing older follows.
    pub(crate) fn in_order(&mut self, bytes: &[u8]) -> xprof_perfdata::Result<()> {
        let guests = &mut self.guests;
        self.open.census.walk(bytes, |kind, misc, whole| guests.record(kind, misc, whole));
        self.open.write(bytes)?;
        if self.open.complete { self.open.mark(record::FINISHED_ROUND) } else { Ok(()) }
    }

    /// Makes the header true, when it is time and something was written.
    pub(crate) fn refresh(&mut self, now: Instant) -> xprof_perfdata::Result<()> {
        let (at, after) = self.open.refreshed;
        if !self.open.stale || now.duration_since(at) < after {
            return Ok(());
        }
        self.open.refreshed = (now, (after * 2).clamp(REFRESH_FIRST, REFRESH));
        self.open.refresh()
    }

    /// Bytes of records in the file being written.
    pub(crate) fn bytes(&self) -> u64 {
        self.open.bytes
    }

    /// Ends the file and begins another; where the finished one is now. The new one wants its synthesized records.
    pub(crate) fn switch(&mut self, notes: &mut Vec<String>) -> anyhow::Result<Option<PathBuf>> {
        let finished = self.close(notes)?;
        let (open, pending) = Open::new(&self.to, &self.events, &self.features, self.held.as_ref())?;
        pending.begin()?;
        self.open = open;
        self.open.plain(self.guests.head())?;
        if let (Some(rounds), Some(now)) = (&mut self.rounds, self.clockid.and_then(|id| clock::now(id).ok())) {
            rounds.written(now);
        }
        Ok(finished)
    }

    /// Ends the current file and gives it its stamped name.
    fn close(&mut self, notes: &mut Vec<String>) -> anyhow::Result<Option<PathBuf>> {
        let fresh = Census::new(&self.events);
        let census = std::mem::replace(&mut self.open.census, fresh);
        let keep = std::mem::replace(&mut self.open.keep, Keep::new(None));
        self.before.samples += census.samples;
        self.before.lost += census.lost;
        let mut features = self.features.clone();
        features.domains = self.guests.domains().cloned();
        features.sample_time = census.times;
        features.build_ids = keep.finish(&census, &self.images, notes);
        if let (Some(level), Some(packer)) = (self.to.compression, &self.open.packer) {
            features.compressed = Some(compressed(level, packer.ratio()));
        }
        self.before.bytes += self.open.finish(&features).with_context(|| self.cannot_write())?;
        match &self.to.path {
            Some(path) if self.to.stamped => output::stamp(path).map(Some),
            path => Ok(path.clone()),
        }
    }

    /// Ends the recording. `stats` are the session's, when it could be asked.
    pub(crate) fn finish(
        mut self,
        stats: &Stats,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<(Totals, Option<PathBuf>)> {
        if let Some(lost) = &stats.lost {
            self.write_lost(lost).with_context(|| self.cannot_write())?;
        }
        let path = self.close(notes)?;
        let mut totals = self.before;
        if let Some(lost) = &stats.lost {
            totals.lost = lost.iter().sum();
        }
        Ok((totals, path))
    }

    /// The kernel's own totals of lost samples, as perf writes them: one LOST_SAMPLES for each event that lost any.
    fn write_lost(&mut self, lost: &[u64]) -> xprof_perfdata::Result<()> {
        let mut bytes = Vec::new();
        for (event, &lost) in self.events.list().iter().zip(lost).filter(|(_, lost)| **lost > 0) {
            let id = SampleId { id: event.ids.first().copied().unwrap_or_default(), ..SampleId::default() };
            bytes.extend(Record::LostSamples(lost).encode(&id, 0, &event.format)?);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.open.plain(&bytes)
    }

    /// Saves what is there after a failed write: the header says no more than what was written whole.
    pub(crate) fn rescue(mut self) -> Totals {
        let _ = self.open.refresh();
        // With the machine's description and the tracepoints' formats, if there is room for them.
        let _ = self.open.finish(&self.features);
        Totals {
            samples: self.before.samples + self.open.census.samples,
            lost: self.before.lost + self.open.census.lost,
            bytes: self.before.bytes + self.open.bytes,
        }
    }

    /// What failed, for an error.
    pub(crate) fn cannot_write(&self) -> String {
        format!("cannot write {}", self.to.path.as_deref().unwrap_or(Path::new("stdout")).display())
    }
}
