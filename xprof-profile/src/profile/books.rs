//! Dom0's part of a whole host's books: what its kernel's own samples say of the time that Xen says it ran.
//!
//! A recording of a whole host knows how long every vCPU of dom0 ran from one tick to the next, and samples of its kernel's clock
//! know what ran there. Those samples count time that dom0 did not have (its clock runs on while others have its pCPU) and miss time
//! that it had, so they are taken as parts of Xen's: each of them gets its part of what its vCPU ran in the interval it fell into.
//!
//! Samples of the idle task are what wakes an idle vCPU up: they get something only where there is nothing else. The CPU
//! number of Linux is the number of the vCPU. What is in an interval that does not end is not counted.

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{attr_flag, event_type, hardware, software};
use xprof_perfdata::domain::{IDLE, RUNNING_EVENT};
use xprof_perfdata::events::{Event, Events};
use xprof_perfdata::header::Description;

use super::cells::Cell;

/// Cells of one interval of one vCPU; more are one with the first.
const MOST_CELLS: usize = 1 << 16;

/// Samples of one cell in an interval; `None`: of what a filter leaves out.
type Parts = FxHashMap<Option<Cell>, Part>;

/// What a cell has of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) samples: u64,
    pub(super) period: u64,
}

/// An interval that has not ended: the samples of the idle task stand apart.
#[derive(Debug, Default)]
struct Interval {
    busy: Parts,
    idle: Parts,
}

/// The open intervals, by vCPU.
#[derive(Debug)]
pub(super) struct Books {
    /// The event that says how long vCPUs ran, and the clock of dom0's kernel.
    running: u32,
    clock: u32,
    open: FxHashMap<u32, Interval>,
}

/// An event whose samples divide time: its index in a recording.
fn is_clock(event: &Event) -> bool {
    let attr = &event.attr;
    let clocks = match attr.kind {
        event_type::SOFTWARE => [software::CPU_CLOCK, software::TASK_CLOCK],
        event_type::HARDWARE => [hardware::CPU_CYCLES; 2],
        _ => return false,
    };
    clocks.contains(&attr.config) && !attr.has(attr_flag::EXCLUDE_KERNEL) && !attr.has(attr_flag::EXCLUDE_USER)
}

impl Books {
    /// `None` where a recording is of no whole host, or of no clock of its dom0.
    pub(super) fn of(description: &Description) -> Option<Books> {
        let host = description.features.domains.as_ref()?.list.iter().any(|domain| domain.id == IDLE);
        let of = |events: &Events, wanted: &dyn Fn(&Event) -> bool| {
            events.list().iter().position(wanted).map(|at| at as u32)
        };
        let running = of(&description.events, &|event| event.name == RUNNING_EVENT)?;
        let clock = of(&description.events, &|event| event.name != RUNNING_EVENT && is_clock(event))?;
        host.then(|| Books { running, clock, open: FxHashMap::default() })
    }

    /// Whether samples of this event divide dom0's time.
    pub(super) fn is_clock(&self, event: u32) -> bool {
        event == self.clock
    }

    /// A sample of dom0's clock on this vCPU; `cell`: where it fell, `None` when it is left out.
    pub(super) fn add(&mut self, vcpu: u32, is_idle: bool, cell: Option<Cell>, period: u64) {
        let interval = self.open.entry(vcpu).or_default();
        let parts = if is_idle { &mut interval.idle } else { &mut interval.busy };
        let cell = cell.map(|cell| Cell { event: self.running, ..cell });
        let cell = if parts.len() < MOST_CELLS || parts.contains_key(&cell) { cell } else { None };
        let part = parts.entry(cell).or_default();
        part.samples += 1;
        part.period = part.period.saturating_add(period);
    }

    /// Forgets the intervals that are open.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// The vCPU ran so long since its interval began, which ends now: calls `take` with each cell and what it has of that.
    /// False, and nothing taken, when nobody saw anything of it.
    pub(super) fn end(&mut self, vcpu: u32, ran: u64, mut take: impl FnMut(Cell, Part)) -> bool {
        let Some(interval) = self.open.remove(&vcpu) else { return false };
        let parts = if interval.busy.is_empty() { interval.idle } else { interval.busy };
        let whole: u128 = parts.values().map(|part| u128::from(part.period)).sum();
        if whole == 0 {
            return false;
        }
        // Rounded so that the parts are together what it ran.
        let (mut seen, mut given) = (0u128, 0u64);
        for (cell, part) in parts {
            seen += u128::from(part.period);
            let until = (u128::from(ran) * seen / whole) as u64;
            if let Some(cell) = cell {
                take(cell, Part { period: until - given, ..part });
            }
            given = until;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(frame: u32) -> Option<Cell> {
        Some(Cell { event: 1, thread: 0, frame, stack: 0, cpu: u32::MAX, origin: 0, cgroup: 0 })
    }

    fn books() -> Books {
        Books { running: 0, clock: 1, open: FxHashMap::default() }
    }

    fn ended(books: &mut Books, vcpu: u32, ran: u64) -> (bool, Vec<(u32, u32, u64, u64)>) {
        let mut list = Vec::new();
        let take = |cell: Cell, part: Part| list.push((cell.event, cell.frame, part.samples, part.period));
        let seen = books.end(vcpu, ran, take);
        list.sort_unstable();
        (seen, list)
    }

    #[test]
    fn samples_are_parts_of_what_the_vcpu_ran() {
        let mut books = books();
        for (vcpu, frame, period) in [(0, 1, 10), (0, 2, 10), (0, 1, 10), (1, 9, 10)] {
            books.add(vcpu, false, cell(frame), period);
        }
        // Of 100 ns two thirds and a third, whole.
        let (seen, list) = ended(&mut books, 0, 100);
        assert!(seen && list.iter().map(|part| part.3).sum::<u64>() == 100, "{list:?}");
        assert!(matches!(list[..], [(0, 1, 2, 66 | 67), (0, 2, 1, 33 | 34)]), "{list:?}");
        assert_eq!(ended(&mut books, 0, 100), (false, vec![]), "nobody saw the next interval");
        assert_eq!(ended(&mut books, 1, 7), (true, vec![(0, 9, 1, 7)]));
    }

    #[test]
    fn what_is_left_out_keeps_its_part_and_the_idle_task_gets_what_nobody_else_does() {
        let mut books = books();
        books.add(0, false, None, 30);
        books.add(0, false, cell(1), 10);
        books.add(0, true, cell(5), 1000);
        assert_eq!(ended(&mut books, 0, 80).1.iter().map(|part| part.1).collect::<Vec<_>>(), [1]);
        books.add(0, false, None, 30);
        assert_eq!(ended(&mut books, 0, 80), (true, vec![]));
        books.add(0, true, cell(5), 1000);
        assert_eq!(ended(&mut books, 0, 3), (true, vec![(0, 5, 1, 3)]));
        books.add(0, false, cell(1), 0);
        assert_eq!(ended(&mut books, 0, 3), (false, vec![]));
    }
}
