#![forbid(unsafe_code)]
//! `replay:FILE`: a recording read back through the same trait, as fast as it is taken.
//!
//! What takes live records can so be driven by a file, and tested with one. The records come in time order out of one
//! ring, as they stand in the file (its byte order is that of [`Description::events`]); perf's own records are left out, but for ID_INDEX,
//! without which nobody could tell guests apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use xprof_perfdata::abi::attr_flag;
use xprof_perfdata::abi::record::ID_INDEX;
use xprof_perfdata::order::Batch;
use xprof_perfdata::read::{Input, Note, Recording};
use xprof_perfdata::source::Source;

use crate::plan::Plan;
use crate::sys::file::File;
use crate::{Availability, Backend, Description, Drained, Error, Message, Result, Session, Stats};

/// Messages under way.
const UNDER_WAY: usize = 8;
/// `PERF_RECORD_USER_TYPE_START`: from here on records are perf's own, not the kernel's.
const PERFS_OWN: u32 = 64;
/// How often a reader that waits for its receiver looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(10);

/// A recording as a backend.
#[derive(Clone, Debug)]
pub struct Replay {
    path: PathBuf,
}

impl Replay {
    /// The recording at `path`: a file, or a directory of `perf record --threads`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Replay { path: path.into() }
    }
}

impl Backend for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn probe(&self) -> Availability {
        match input(&self.path) {
            Ok(_) => Availability::Yes,
            Err(error) => {
                Availability::No { reason: error.to_string(), remedy: format!("ls -l {}", self.path.display()) }
            }
        }
    }

    /// The plan has no say: what was measured has been measured.
    fn open(&self, _plan: &Plan) -> Result<Box<dyn Session>> {
        let recording = Recording::open(input(&self.path)?)?;
        let events = recording.description().events.clone();
        let domains = recording.description().features.domains.clone();
        let clock = events.list().first().filter(|event| event.attr.has(attr_flag::USE_CLOCKID));
        let clockid = clock.map(|event| event.attr.clockid);
        let (out, messages) = bounded(UNDER_WAY);
        let (give_back, spare) = bounded(UNDER_WAY);
        Ok(Box::new(ReplaySession {
            description: Description {
                events,
                clockid,
                rings: 1,
                ring_bytes: 0,
                notes: Vec::new(),
                head: Vec::new(),
                domains,
            },
            ready: Some((recording, out, spare)),
            messages,
            give_back,
            stop: Arc::default(),
            reader: None,
        }))
    }
}

fn open(path: &Path) -> Result<Box<dyn Source>> {
    let file = File::open(path).map_err(|e| Error::os(format!("open {}", path.display()), e))?;
    Ok(Box::new(file))
}

fn input(path: &Path) -> Result<Input> {
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(Input::File(open(path)?));
    }
    let mut parts = Vec::new();
    while let Some(part) = Some(path.join(format!("data.{}", parts.len()))).filter(|part| part.exists()) {
        parts.push(open(&part)?);
    }
    Ok(Input::Directory { header: open(&path.join("data"))?, parts })
}

#[derive(Debug)]
struct ReplaySession {
    description: Description,
    ready: Option<(Recording, Sender<Message>, Receiver<Vec<u8>>)>,
    messages: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// Sends, unless the session is over; false then.
fn send(out: &Sender<Message>, mut message: Message, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Acquire) {
        match out.send_timeout(message, PATIENCE) {
            Ok(()) => return true,
            Err(SendTimeoutError::Timeout(back)) => message = back,
            Err(SendTimeoutError::Disconnected(_)) => return false,
        }
    }
    false
}

fn sentence(note: &Note) -> String {
    match note {
        Note::Unfinished { until } => format!("the recording was not finished: read up to byte {until}"),
        Note::Truncated { at } => format!("the recording is cut short at byte {at}"),
        Note::Skipped { what, offset } => format!("left out at byte {offset}: {what}"),
        Note::OutOfOrder { records } => format!("{records} records are not in order of time"),
    }
}

/// The kernel's records of a batch in time order, appended to `bytes`; the time of the last.
fn copy(batch: &Batch, bytes: &mut Vec<u8>) -> u64 {
    let mut until = 0;
    for slot in &batch.slots {
        if let (Some(record), Some(whole)) = (batch.record(slot), batch.whole(slot))
            && (record.kind < PERFS_OWN || record.kind == ID_INDEX)
        {
            bytes.extend_from_slice(whole);
            until = record.time.max(until);
        }
    }
    until
}

fn read(mut recording: Recording, out: &Sender<Message>, spare: &Receiver<Vec<u8>>, stop: &AtomicBool) {
    let mut reuse = None;
    let mut said = 0;
    let mut reached = 0;
    loop {
        let last = match recording.next_batch(reuse.take()) {
            Ok(Some(batch)) => {
                let mut bytes = spare.try_recv().unwrap_or_default();
                bytes.clear();
                reached = copy(&batch, &mut bytes).max(reached);
                reuse = Some(batch);
                if !send(out, Message::Drained(Drained { ring: 0, bytes, until: reached }), stop) {
                    return;
                }
                false
            }
            Ok(None) => true,
            Err(error) => {
                send(out, Message::Failed(error.into()), stop);
                true
            }
        };
        for note in recording.notes().iter().skip(said) {
            if !send(out, Message::Note(sentence(note)), stop) {
                return;
            }
        }
        said = recording.notes().len();
        if last {
            send(out, Message::TargetsGone, stop);
            return;
        }
    }
}

impl Session for ReplaySession {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        let Some((recording, out, spare)) = self.ready.take() else {
            return Err(Error::Other("the session has run already".into()));
        };
        let stop = Arc::clone(&self.stop);
        let reader = std::thread::Builder::new()
            .name("replay".into())
            .spawn(move || read(recording, &out, &spare, &stop))
            .map_err(|e| Error::os("start a reader thread", e))?;
        self.reader = Some(reader);
        Ok(())
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    fn recycle(&self, buffer: Vec<u8>) {
        let _ = self.give_back.try_send(buffer);
    }

    fn enable(&mut self, _on: bool) -> Result<()> {
        Err(Error::Other("a recording that is replayed cannot be switched on and off".into()))
    }

    fn snapshot(&mut self) -> Result<()> {
        Err(Error::Other("a recording that is replayed has no snapshots".into()))
    }

    fn stop(&mut self) -> Result<Stats> {
        self.stop.store(true, Ordering::Release);
        self.ready = None;
        match self.reader.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::Other("the reader thread died".into())),
            _ => Ok(Stats::default()),
        }
    }
}

impl Drop for ReplaySession {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn recorded(dir: &Path) -> PathBuf {
        let path = dir.join("perf.data");
        let status = Command::new("perf")
            .args(["record", "-q", "-N", "-e", "page-faults", "-c", "1", "-o"])
            .arg(&path)
            .args(["--", "sh", "-c", "ls -R /usr/include >/dev/null; true"])
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn a_recording_comes_back_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = recorded(dir.path());
        let script = Command::new("perf").args(["script", "-F", "time", "--ns", "-i"]).arg(&path).output().unwrap();
        let expected: Vec<u64> = String::from_utf8_lossy(&script.stdout)
            .lines()
            .map(|line| line.trim().trim_end_matches(':').replace('.', "").parse().unwrap())
            .collect();
        assert!(expected.len() > 100, "{} {}", expected.len(), String::from_utf8_lossy(&script.stderr));
        let mut session = Replay::new(&path).open(&Plan::default()).unwrap();
        let names: Vec<_> = session.describe().events.list().iter().map(|event| event.name.clone()).collect();
        assert_eq!(names, ["page-faults"]);
        session.start().unwrap();
        // A sample is IP, TID, TIME.
        let (mut times, mut until) = (Vec::new(), 0);
        for message in session.messages().iter() {
            match message {
                Message::Drained(drained) => {
                    let mut rest = drained.bytes.as_slice();
                    while rest.len() >= 8 {
                        let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
                        if rest[..4] == 9u32.to_ne_bytes() {
                            times.push(u64::from_ne_bytes(rest[24..32].try_into().unwrap()));
                        }
                        rest = &rest[size..];
                    }
                    assert!(drained.until >= until);
                    until = drained.until;
                    session.recycle(drained.bytes);
                }
                Message::TargetsGone => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(times == expected, "{} {}", times.len(), expected.len());
        assert!(until >= *times.last().unwrap());
        session.stop().unwrap();
        assert!(session.messages().recv().is_err());
    }

    #[test]
    fn stopping_does_not_wait_for_the_receiver() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = Replay::new(recorded(dir.path())).open(&Plan::default()).unwrap();
        session.start().unwrap();
        session.stop().unwrap();
        assert!(session.enable(true).is_err());
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(matches!(Replay::new("/nonexistent").open(&Plan::default()), Err(Error::Os { .. })));
        assert!(matches!(Replay::new("/etc/passwd").open(&Plan::default()), Err(Error::Recording(_))));
        assert!(matches!(Replay::new("/nonexistent").probe(), Availability::No { .. }));
    }
}
