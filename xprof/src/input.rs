//! Opening a recording, and reading and unwinding it on threads of their own, ahead of whoever uses the records.

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, Sender, bounded};
use xprof_backend::sys::file::File;
use xprof_perfdata::header::Description;
use xprof_perfdata::order::Batch;
use xprof_perfdata::read::{Input, Note, Recording};
use xprof_perfdata::source::Source;
use xprof_profile::unwind::Stage;

use crate::naming::Naming;

/// Batches that are read ahead.
const AHEAD: usize = 4;

/// Where `-i` points when it is not given.
pub(crate) const DEFAULT: &str = "perf.data";

/// Opens a recording: a file, a directory of `perf record --threads`, or `-` for standard input.
pub(crate) fn open(path: &Path) -> anyhow::Result<Recording> {
    let name = path.display();
    if path.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            bail!(
                "-i - reads a recording from standard input, which is a terminal; pipe one in: xprof record -o - -- CMD | xprof report -i -"
            );
        }
        return Recording::open(Input::Stream(Box::new(io::stdin())))
            .context("cannot read the recording on standard input");
    }
    let input = (|| -> io::Result<Input> {
        if fs::metadata(path)?.is_dir() {
            return directory(path);
        }
        let file = File::open(path)?;
        if file.is_regular() {
            Ok(Input::File(Box::new(file)))
        } else {
            Ok(Input::Stream(Box::new(fs::File::open(path)?)))
        }
    })();
    let input = input.map_err(|error| {
        let next = match error.kind() {
            io::ErrorKind::NotFound => "; make one with: xprof record -- CMD",
            io::ErrorKind::PermissionDenied => "; read it as its owner, or change its mode",
            _ => "",
        };
        anyhow::anyhow!("cannot open the recording {name}: {error}{next}")
    })?;
    Recording::open(input).map_err(|error| {
        let next = match &error {
            xprof_perfdata::Error::NotPerfData { .. } => "; make one with: xprof record -- CMD",
            _ => "",
        };
        anyhow::anyhow!("cannot read the recording {name}: {error}{next}")
    })
}

fn directory(path: &Path) -> io::Result<Input> {
    let open = |path: PathBuf| -> io::Result<Box<dyn Source>> { Ok(Box::new(File::open(&path)?)) };
    let mut parts: Vec<(u32, PathBuf)> = fs::read_dir(path)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("data.")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    parts.sort();
    let parts = parts.into_iter().map(|(_, path)| open(path)).collect::<io::Result<_>>()?;
    let header = open(path.join("data")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other("it is a directory, and none of perf record --threads: it has no file data")
        }
        _ => error,
    })?;
    Ok(Input::Directory { header, parts })
}

/// What a reader thread sends.
enum Read {
    Batch(Batch),
    End(Box<End>),
}

/// What is known when all records have been read.
pub(crate) struct End {
    /// What the recording says about itself, now complete.
    pub(crate) description: Description,
    /// What makes the result partial.
    pub(crate) notes: Vec<Note>,
    /// Why reading stopped early, if it did.
    pub(crate) error: Option<xprof_perfdata::Error>,
}

/// The unwinding of a recording with stack copies, if it has any; `description` then says what events look like with call
/// chains in their place. `keep_registers`: samples keep their user registers.
pub(crate) fn unwinding(description: &mut Description, naming: &Naming, keep_registers: bool) -> Option<Stage> {
    let features = &description.features;
    let supplier = naming.supplier(description);
    let machine = features.arch.as_deref();
    let stage = Stage::new(&description.events, machine, &features.build_ids, supplier, keep_registers)?;
    description.events = stage.events().clone();
    Some(stage)
}

/// Reads `recording` on another thread and calls `take` with each batch, in time order, as it leaves `unwinding`, which has a
/// thread of its own too.
///
/// `Break` ends the reading; the end then knows what was known at the start.
pub(crate) fn for_each_batch(
    mut recording: Recording,
    unwinding: Option<Stage>,
    mut take: impl FnMut(&Batch) -> ControlFlow<()>,
) -> End {
    let description = recording.description().clone();
    thread::scope(|scope| {
        let (batches, received) = bounded(AHEAD);
        let (give_back, used) = bounded(AHEAD + 1);
        scope.spawn(move || read_ahead(&mut recording, &batches, &used));
        let (received, give_back) = match unwinding {
            None => (received, give_back),
            Some(mut stage) => {
                let (unwound, received_unwound) = bounded(AHEAD);
                let (give_unwound_back, used) = bounded(AHEAD + 1);
                scope.spawn(move || unwind_ahead(&mut stage, (&received, &give_back), (&unwound, &used)));
                (received_unwound, give_unwound_back)
            }
        };
        loop {
            match received.recv() {
                Ok(Read::Batch(batch)) => {
                    if take(&batch).is_break() {
                        drop(received);
                        return End { description, notes: Vec::new(), error: None };
                    }
                    let _ = give_back.try_send(batch);
                }
                Ok(Read::End(end)) => return *end,
                Err(_) => unreachable!("the reader thread always sends its end"),
            }
        }
    })
}

/// Unwinds batch after batch, until there are no more or nobody wants them.
fn unwind_ahead(
    stage: &mut Stage,
    (copies, copies_back): (&Receiver<Read>, &Sender<Batch>),
    (unwound, used): (&Sender<Read>, &Receiver<Batch>),
) {
    for read in copies {
        let read = match read {
            Read::Batch(batch) => {
                let mut to = used.try_recv().unwrap_or_default();
                stage.batch(&batch, &mut to);
                let _ = copies_back.try_send(batch);
                Read::Batch(to)
            }
            end => end,
        };
        if unwound.send(read).is_err() {
            return;
        }
    }
}

fn read_ahead(recording: &mut Recording, batches: &Sender<Read>, used: &Receiver<Batch>) {
    let error = loop {
        match recording.next_batch(used.try_recv().ok()) {
            Ok(Some(batch)) => {
                if batches.send(Read::Batch(batch)).is_err() {
                    return;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let end = End { description: recording.description().clone(), notes: recording.notes().to_vec(), error };
    let _ = batches.send(Read::End(Box::new(end)));
}

/// A note in words.
pub(crate) fn explain(note: &Note) -> String {
    match note {
        Note::Unfinished { until } => {
            format!("the recording was not finished (its recorder was killed); it is shown up to byte {until}")
        }
        Note::Truncated { at } => format!("the recording is cut off; it is shown up to byte {at}"),
        Note::Skipped { what, offset } => format!("left out at byte {offset}: {what}"),
        Note::OutOfOrder { records } => format!("{records} records were out of order; their names may be wrong"),
    }
}
