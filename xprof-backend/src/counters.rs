//! Counting without samples: a small trait beside [`crate::Backend`], cut by the same lifecycle.
//!
//! What is read is never scaled. A counter that had to share its hardware says for how long it was wanted and for how
//! long it really counted; whoever shows the number shows that share with it.

use std::time::Duration;

use crate::Result;
use crate::event::EventGroup;
use crate::plan::Target;

/// What is to be counted.
#[derive(Clone, Debug)]
pub struct CountPlan {
    /// Events, in groups: a group counts together or not at all.
    pub events: Vec<EventGroup>,
    /// On what. A [`Target::Command`] counts from its exec on.
    pub target: Target,
    /// CPUs to count on; `None`: all online ones ([`Target::System`]), or wherever the tasks run.
    pub cpus: Option<Vec<u32>>,
    /// Children are counted too.
    pub inherit: bool,
}

/// One event of an open set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// perf's name, with the modifiers that the kernel insisted on.
    pub name: String,
    /// Counts with hardware of the CPU or of a device, not in the kernel's software.
    pub hardware: bool,
    /// Why it cannot be counted here (the system's answer); `None`: it is open.
    pub refusal: Option<String>,
    /// Members of one group have the same number.
    pub group: usize,
}

/// What one counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Index in [`Counting::counters`].
    pub counter: usize,
    /// The CPU that this was counted on; `None`: wherever the tasks ran.
    pub cpu: Option<u32>,
    /// Events seen while the counter ran.
    pub value: u64,
    /// ns in which it was to count, summed over threads.
    pub enabled: u64,
    /// ns of these in which it did count.
    pub running: u64,
}

impl Count {
    /// Share of the time in which it was measured, 0 to 1; `None` when its target never ran.
    pub fn share(&self) -> Option<f64> {
        (self.enabled > 0).then(|| self.running as f64 / self.enabled as f64)
    }

    /// What the count would be if the rest of the time was like the time measured. The count itself when all of it was
    /// measured; `None` when none of it was.
    pub fn estimate(&self) -> Option<u64> {
        if self.running == 0 {
            return None;
        }
        if self.running >= self.enabled {
            return Some(self.value);
        }
        let scaled = u128::from(self.value) * u128::from(self.enabled) / u128::from(self.running);
        Some(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// Something that can count.
pub trait Counters {
    /// Opens everything; nothing is counted yet. Events that this machine does not have are no error: their
    /// [`Counter::refusal`] says so. It is an error when not one could be opened.
    fn open(&self, plan: &CountPlan) -> Result<Box<dyn Counting>>;
}

/// Open counters.
pub trait Counting {
    /// The events, in the plan's order.
    fn counters(&self) -> &[Counter];
    /// What was asked for and could not be had, one sentence each.
    fn notes(&self) -> &[String];
    /// Starts or stops counting. A command's counters start by its exec.
    fn enable(&mut self, on: bool) -> Result<()>;
    /// The counts so far, by counter and, for [`Target::System`], CPU.
    fn read(&mut self) -> Result<Vec<Count>>;
    /// Lets a machine with a time of its own ([`Counting::elapsed`]) go on for so long, and no longer than to its end: the
    /// counts then. `None`: it has ended, or its time is ours.
    fn advance(&mut self, _by: Duration) -> Result<Option<Vec<Count>>> {
        Ok(None)
    }
    /// How long was counted by the counted machine's own time; `None`: by ours.
    fn elapsed(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        let count = |value, enabled, running| Count { value, enabled, running, ..Count::default() };
        assert_eq!((count(7, 100, 100).share(), count(7, 100, 100).estimate()), (Some(1.0), Some(7)));
        assert_eq!((count(7, 100, 50).share(), count(7, 100, 50).estimate()), (Some(0.5), Some(14)));
        assert_eq!((count(0, 100, 0).share(), count(0, 100, 0).estimate()), (Some(0.0), None));
        assert_eq!((count(0, 0, 0).share(), count(0, 0, 0).estimate()), (None, None));
        assert_eq!(count(u64::MAX, u64::MAX, 1).estimate(), Some(u64::MAX));
    }
}
