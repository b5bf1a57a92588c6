//! Unwinding while recording: between the rings and the writer, samples lose their stack copies and get call chains.
//!
//! Rings are put in order first, because what is mapped where changes with time; a sample is unwound some 60 ms after it was
//! taken. Nothing leaves before the maps of the processes that were running are known.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use xprof_backend::plan::{CallGraph, Plan};
use xprof_backend::sys::clock;
use xprof_backend::sys::file::{File, read_small};
use xprof_backend::{Description, Drained};
use xprof_perfdata::events::Events;
use xprof_perfdata::order::{Batch, Live};
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::unwind::{Counts, Memory, Stage};

use super::keep::HeldFiles;
use crate::supply::FileSupplier;

/// Bytes that wait for the maps of running processes before they are unwound without.
const WAITING_MAX: usize = 32 << 20;
/// Threads whose stack's end is remembered.
const TOPS_MAX: usize = 1 << 16;
/// The largest stack copy that the kernel makes, bytes.
pub(crate) const SIZE_MAX: u32 = 65_528;
/// Texts of `/proc` are read up to this many bytes.
const SMALL: usize = 4 << 20;

/// Files of this machine, and those that the recording holds open.
#[derive(Debug)]
struct Files {
    files: FileSupplier,
    held: HeldFiles,
}

impl Supplier for Files {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        match need {
            Need::Mapped { path, build_id } => {
                let file = self.held.get(path, build_id.as_ref().map(|id| &id.0[..]));
                file.map_or(Err(io::ErrorKind::NotFound.into()), |file| Ok(Arc::new(file)))
            }
            other => self.files.supply(other),
        }
    }
}

/// The memory of the processes that are recorded, and the clock of their samples.
#[derive(Debug)]
struct Running(i32);

impl Memory for Running {
    fn of(&self, pid: u32) -> io::Result<Box<dyn Source>> {
        Ok(Box::new(File::open(Path::new(&format!("/proc/{pid}/mem")))?))
    }

    fn now(&self) -> Option<u64> {
        clock::now(self.0).ok()
    }
}

/// The unwinding of a recording.
#[derive(Debug)]
pub(crate) struct Unwinding {
    /// Files that the writer holds.
    pub(crate) held: HeldFiles,
    order: Live,
    stage: Stage,
    unwound: Batch,
    spare: Option<Batch>,
    /// Bytes asked for.
    size: u32,
    /// Bytes that came while the maps of running processes were being read; `None` when those are known.
    waiting: Option<usize>,
    /// Where the stack of a thread ends that was cut; `None` when nobody could tell.
    tops: HashMap<(u32, u32), Option<u64>>,
}

impl Unwinding {
    /// For a session with stack copies; `None` when it has none, and when its records cannot be put in order.
    pub(crate) fn new(session: &Description, plan: &Plan) -> Option<Unwinding> {
        let CallGraph::StackCopies { size, kept: false } = plan.call_graph else { return None };
        let clockid = session.clockid.filter(|_| !plan.overwrite)?;
        let held = HeldFiles::default();
        let files = Files { files: FileSupplier::new(None, None, None), held: held.clone() };
        let mut stage = Stage::new(&session.events, Some(std::env::consts::ARCH), &[], Arc::new(files), false)?;
        stage.complete_from(Box::new(Running(clockid)));
        Some(Unwinding {
            held,
            order: Live::new(session.events.clone(), session.rings),
            stage,
            unwound: Batch::default(),
            spare: None,
            size,
            waiting: Some(0),
            tops: HashMap::new(),
        })
    }

    /// The events as the file has them.
    pub(crate) fn events(&self) -> &Events {
        self.stage.events()
    }

    /// Sees records of what was running.
    pub(crate) fn synthesized(&mut self, bytes: &[u8]) {
        if self.waiting.is_some() {
            self.stage.see_all(bytes);
        }
    }

    /// All that was running is known.
    pub(crate) fn synthesis_done(&mut self) {
        self.waiting = None;
    }

    /// Takes what a ring held.
    pub(crate) fn push(&mut self, drained: Drained) {
        if let Some(waiting) = &mut self.waiting {
            *waiting += drained.bytes.len();
        }
        self.order.push(drained.ring, drained.bytes, drained.until);
    }

    /// The rings are closed.
    pub(crate) fn finish(&mut self) {
        self.waiting = None;
        self.order.finish();
    }

    /// A new file begins.
    pub(crate) fn begin_file(&mut self) {
        self.stage.begin_file();
    }

    /// The next records, in time order; `give_back` is given buffers that are used up.
    pub(crate) fn next(&mut self, give_back: impl Fn(Vec<u8>)) -> Option<&[u8]> {
        if self.waiting.is_some_and(|bytes| bytes < WAITING_MAX) {
            return None;
        }
        let mut batch = self.order.batch(self.spare.take())?;
        let cut = self.stage.counts().cut;
        self.stage.batch(&batch, &mut self.unwound);
        if self.stage.counts().cut != cut {
            self.find_tops();
        }
        give_back(std::mem::take(&mut batch.bytes));
        self.spare = Some(batch);
        Some(&self.unwound.bytes)
    }

    /// Asks where the stacks of newly cut threads end, while the threads live.
    fn find_tops(&mut self) {
        for cut in self.stage.cuts() {
            if self.tops.len() < TOPS_MAX {
                self.tops.entry((cut.pid, cut.tid)).or_insert_with(|| top_of_stack(cut.pid, cut.sp));
            }
        }
    }

    /// What the user should know at the end.
    pub(crate) fn notes(&self) -> Vec<String> {
        let Counts { stacks, cut, narrow, completed, .. } = self.stage.counts();
        let mut notes = Vec::new();
        if completed > 0 {
            notes.push(format!(
                "{completed} of {stacks} stacks are larger than the {} bytes that were copied and were completed from what \
                 the same thread showed before and after",
                self.size
            ));
        }
        if cut > 0 {
            let needs = self.stage.cuts().map(|cut| match self.tops.get(&(cut.pid, cut.tid)) {
                Some(Some(top)) => top.saturating_sub(cut.sp).next_multiple_of(8),
                _ => u64::from(SIZE_MAX),
            });
            let need = needs.max().unwrap_or(0).max(u64::from(self.size) + 8);
            let advice = if need <= u64::from(SIZE_MAX) {
                format!("--call-graph dwarf,{need} keeps them whole")
            } else if self.size < SIZE_MAX {
                format!("--call-graph dwarf,{SIZE_MAX} keeps more of them; the deepest are larger than that")
            } else {
                "the kernel copies no more".into()
            };
            notes.push(format!(
                "{cut} of {stacks} stacks are larger than the {} bytes that were copied and end in [truncated]: {advice}",
                self.size
            ));
        }
        if narrow > 0 {
            notes.push(format!("{narrow} stacks of 32-bit programs were followed by frame pointers only"));
        }
        notes
    }
}

/// Where the stack ends that has `sp` in it; `None` when the process is gone.
fn top_of_stack(pid: u32, sp: u64) -> Option<u64> {
    let maps = read_small(Path::new(&format!("/proc/{pid}/maps")), SMALL).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let (end, line) = maps.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        (start..end).contains(&sp).then_some((end, line))
    })?;
    if !line.ends_with("[stack]") {
        return Some(end);
    }
    // Above the first frame lie the arguments and the environment: field 28 of stat is where the stack started.
    let stat = read_small(Path::new(&format!("/proc/{pid}/stat")), SMALL).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let start: u64 = fields.nth(25)?.parse().ok()?;
    Some(if (sp..end).contains(&start) { start + 64 } else { end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_our_own_stacks() {
        let here = 0u8;
        let sp = std::ptr::from_ref(&here) as u64;
        let top = top_of_stack(std::process::id(), sp).unwrap();
        assert!(top > sp && top - sp < 64 << 20, "{sp:x} {top:x}");
        assert_eq!(top_of_stack(std::process::id(), 8), None);
    }
}
