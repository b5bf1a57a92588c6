//! When a FINISHED_ROUND may be written.
//!
//! A reader that meets the second of two rounds emits everything that came before the first. So a round may be
//! written only when no record is still to come that is older than one written before the round before it: when
//! every ring has handed over all that it held at the instant of that round.

/// The rings' progress, ns on the session's clock.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// For each ring: everything older has arrived.
    until: Vec<u64>,
    /// When the last round was written: everything written before it is older.
    mark: u64,
}

impl Rounds {
    /// No ring has said anything.
    pub(crate) fn new(rings: u32) -> Self {
        Rounds { until: vec![0; rings as usize], mark: 0 }
    }

    /// A ring has handed over everything older than `until`. True when a round may be written: say so with
    /// [`Rounds::written`].
    pub(crate) fn passed(&mut self, ring: u32, until: u64) -> bool {
        let Some(slot) = self.until.get_mut(ring as usize) else { return false };
        *slot = until.max(*slot);
        // Only the slowest ring can complete a round, and mostly it is not this one.
        until > self.mark && self.until.iter().all(|&u| u > self.mark)
    }

    /// A round has been written; `now` was read after everything before it had arrived.
    pub(crate) fn written(&mut self, now: u64) {
        self.mark = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_waits_for_the_slowest_ring() {
        let mut rounds = Rounds::new(2);
        assert!(!rounds.passed(0, 10));
        assert!(rounds.passed(1, 5));
        rounds.written(12);
        assert!(!rounds.passed(0, 20));
        assert!(!rounds.passed(0, 30));
        assert!(!rounds.passed(1, 12), "a record of instant 12 may still come");
        assert!(rounds.passed(1, 13));
    }

    #[test]
    fn a_ring_that_says_nothing_or_does_not_exist_holds_everything() {
        let mut rounds = Rounds::new(2);
        assert!(!rounds.passed(0, 10));
        assert!(!rounds.passed(1, 0));
        assert!(!rounds.passed(7, 10));
    }
}
