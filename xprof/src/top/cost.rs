//! What xprof itself uses: CPU time of this process against time that passed.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    at: Instant,
    used: f64,
}

impl Cost {
    /// From now on.
    pub(crate) fn begin() -> Cost {
        Cost { at: Instant::now(), used: used() }
    }

    /// What was used since the last time this was asked, percent of one CPU.
    pub(crate) fn since_last(&mut self) -> f64 {
        let now = Cost::begin();
        let passed = (now.at - self.at).as_secs_f64();
        let share = if passed > 0.0 { (now.used - self.used) / passed } else { 0.0 };
        *self = now;
        share * 100.0
    }
}

/// CPU time of this process, seconds.
fn used() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
