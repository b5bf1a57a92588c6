//! Waits: from where a task left its CPU to when it came back. A sample says the one, a SWITCH record the other. What has not ended when
//! the recording does is not counted.

use rustc_hash::FxHashMap;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::Record;

use super::cells::Cell;

/// Tasks that wait at a time; more are not counted.
const MOST_TASKS: usize = 1 << 20;

/// Waits that have begun, by process and thread: cell and time, ns.
#[derive(Debug, Default)]
pub(super) struct Waits(FxHashMap<(u32, u32), (Cell, u64)>);

impl Waits {
    /// A task leaves its CPU.
    pub(super) fn begin(&mut self, task: (u32, u32), cell: Cell, time: u64) {
        // The idle tasks, one a CPU, are all 0, and wait for nothing.
        if task != (0, 0) && self.0.len() < MOST_TASKS {
            self.0.insert(task, (cell, time));
        }
    }

    /// Waits that have begun are not counted: their cells mean something else from now on.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// A task comes back: where it left, and how long it waited, ns.
    pub(super) fn end(&mut self, raw: &RawRecord<'_>, events: &Events) -> Option<(Cell, u64)> {
        if self.0.is_empty() {
            return None;
        }
        let (_, id) = Record::decode(raw, events).ok()?;
        let (cell, began) = self.0.remove(&(id.pid, id.tid))?;
        Some((cell, id.time.saturating_sub(began)))
    }
}
