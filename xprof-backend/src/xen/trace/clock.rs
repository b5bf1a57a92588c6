//! One clock: from the TSC of a trace to the session's clock.
//!
//! The TSC that a program reads in a PVH dom0 is not the trace's, so it is not read at all. Instead this vCPU gives its pCPU away: that call
//! stands in the trace with its time, and the session's clock is read before and after it. Some of them in a burst, with pauses of
//! different lengths between them, are found in the trace by those lengths alone; the one whose two clock readings are closest is an anchor.
//! Between two anchors time is a straight line. Where an anchor is not where the line before it leads, one of the clocks was changed,
//! and nothing between the two anchors has a time.

/// Calls of a burst, and the pauses after them, ns.
pub const PAUSES: [u64; 6] = [20_000, 150_000, 60_000, 250_000, 90_000, 0];
/// How much the clocks' rates may differ from what is expected, parts per million: adjtime(2) slews by 500, and Xen and Linux measure
/// the TSC's rate each for itself.
const DRIFT_PPM: u64 = 2_000;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// By the TSC.
    pub tsc: u64,
    /// By the session's clock, ns.
    pub time: u64,
    /// The time is right by this, ns.
    pub error: u64,
}

/// Time between two anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub from: Anchor,
    /// Where it ends.
    pub to: Anchor,
}

impl Line {
    /// ns on the session's clock; beyond the ends, the end's.
    pub fn time(&self, tsc: u64) -> u64 {
        let Line { from, to } = self;
        let ticks = to.tsc.saturating_sub(from.tsc).max(1);
        let tsc = tsc.clamp(from.tsc, to.tsc.max(from.tsc));
        let ns = to.time.saturating_sub(from.time);
        from.time.saturating_add((u128::from(tsc - from.tsc) * u128::from(ns) / u128::from(ticks)) as u64)
    }
}

/// How many ns so many ticks are, at `khz`.
fn ns(ticks: u64, khz: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(khz.max(1))).unwrap_or(u64::MAX)
}

/// The burst in the trace: `brackets` are the clock's readings around each call, `yields` the (TSC, vCPU) of all such calls of dom0. `None`
/// when it is not there, or more than one could be it.
pub fn find(brackets: &[(u64, u64)], yields: &[(u64, u16)], khz: u64) -> Option<Anchor> {
    let count = brackets.len();
    let mut found = None;
    let mut vcpus: Vec<u16> = yields.iter().map(|(_, vcpu)| *vcpu).collect();
    vcpus.sort_unstable();
    vcpus.dedup();
    for vcpu in vcpus {
        let mut own: Vec<u64> = yields.iter().filter(|(_, of)| *of == vcpu).map(|(tsc, _)| *tsc).collect();
        own.sort_unstable();
        for window in own.windows(count.max(1)).filter(|window| fits(brackets, window, khz)) {
            let narrowest = (0..count).min_by_key(|&at| brackets[at].1.saturating_sub(brackets[at].0))?;
            let (before, after) = brackets[narrowest];
            let width = after.saturating_sub(before);
            let anchor = Anchor { tsc: window[narrowest], time: before + width / 2, error: width.div_ceil(2) };
            if found.replace(anchor).is_some() {
                return None;
            }
        }
    }
    found
}

/// Whether there is a time of the first call at which each of them is between its two readings.
fn fits(brackets: &[(u64, u64)], window: &[u64], khz: u64) -> bool {
    let Some(first) = window.first() else { return false };
    let (mut low, mut high) = (0, u64::MAX);
    for (&(before, after), tsc) in brackets.iter().zip(window) {
        let since = ns(tsc.saturating_sub(*first), khz);
        let slack = drift(since);
        low = low.max(before.saturating_sub(since.saturating_add(slack)));
        high = high.min(after.saturating_sub(since.saturating_sub(slack)));
    }
    low <= high
}

/// How far clocks may be apart after `ns`.
fn drift(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(DRIFT_PPM) / 1_000_000) as u64
}

/// The anchors so far.
#[derive(Clone, Copy, Debug)]
pub struct TraceClock {
    khz: u64,
    last: Option<Anchor>,
    /// Anchors that were taken, and the largest error of one, ns.
    pub anchors: u64,
    /// See [`TraceClock::anchors`].
    pub error: u64,
    /// Anchors that were not where they were expected.
    pub disagreements: u64,
}

impl TraceClock {
    /// For a TSC of this rate.
    pub fn new(khz: u32) -> TraceClock {
        TraceClock { khz: khz.into(), last: None, anchors: 0, error: 0, disagreements: 0 }
    }

    /// Takes the next anchor: the line up to it. `None`: it is the first, or it is not where the last one leads.
    pub fn line_to(&mut self, to: Anchor) -> Option<Line> {
        let from = self.last.replace(to);
        self.anchors += 1;
        self.error = self.error.max(to.error);
        let from = from?;
        let expected = ns(to.tsc.saturating_sub(from.tsc), self.khz);
        let slack = drift(expected).saturating_add(from.error).saturating_add(to.error);
        let agrees = to.tsc > from.tsc && to.time > from.time && expected.abs_diff(to.time - from.time) <= slack;
        self.disagreements += u64::from(!agrees);
        agrees.then_some(Line { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst at `start` ns, whose calls take 8 us, in a trace whose TSC is 2,500 MHz and began 1 s earlier.
    #[expect(clippy::type_complexity, reason = "what `find` takes")]
    fn burst(start: u64) -> (Vec<(u64, u64)>, Vec<(u64, u16)>) {
        let mut now = start;
        let (mut brackets, mut yields) = (Vec::new(), Vec::new());
        for (nth, pause) in (0u64..).zip(PAUSES) {
            let took = 8_000 - nth * 100;
            brackets.push((now, now + took));
            yields.push(((now + 3_000 + 1_000_000_000) * 5 / 2, 1));
            now += took + pause;
        }
        (brackets, yields)
    }

    #[test]
    fn a_burst_is_found_among_others_and_not_where_it_is_not() {
        let (brackets, yields) = burst(5_000_000);
        let narrowest = Anchor { tsc: yields[5].0, time: brackets[5].0 + 3_750, error: 3_750 };
        assert_eq!(find(&brackets, &yields, 2_500_000), Some(narrowest));
        // The kernel's own calls, on this vCPU before and after, on another in between.
        let mut more = yields.clone();
        more.extend([(yields[0].0 - 70_000, 1), (yields[5].0 + 99_000, 1), (yields[2].0 + 1, 0), (yields[3].0 + 5, 0)]);
        assert_eq!(find(&brackets, &more, 2_500_000), Some(narrowest));
        // One in the middle on the same vCPU: rather nothing than something wrong.
        more.push((yields[2].0 + 100_000, 1));
        assert_eq!(find(&brackets, &more, 2_500_000), None);
        assert_eq!(find(&brackets, &yields[..5], 2_500_000), None);
        assert_eq!(find(&brackets, &[], 2_500_000), None);
        // Another rate is another burst.
        assert_eq!(find(&brackets, &yields, 1_250_000), None);
    }

    #[test]
    fn lines_lead_from_anchor_to_anchor_and_none_over_a_step() {
        let mut clock = TraceClock::new(2_500_000);
        let at = |tsc, time| Anchor { tsc, time, error: 5_000 };
        assert_eq!(clock.line_to(at(10_000, 1_000_000)), None);
        // A slow clock, within what adjtime may do.
        let line = clock.line_to(at(10_000 + 2_500_000_000, 1_001_000_000 - 400_000)).unwrap();
        assert_eq!((line.time(10_000), line.time(10_000 + 1_250_000_000)), (1_000_000, 1_000_000 + 499_800_000));
        assert_eq!((line.time(0), line.time(u64::MAX)), (1_000_000, 1_001_000_000 - 400_000));
        // The clock steps by 10 ms, the TSC begins anew, and goes on from there.
        assert_eq!(clock.line_to(at(10_000 + 5_000_000_000, 2_011_000_000)), None);
        assert_eq!(clock.line_to(at(500, 3_011_000_000)), None);
        assert_eq!(clock.disagreements, 2);
        assert!(clock.line_to(at(500 + 2_500_000_000, 4_011_000_000)).is_some());
        assert_eq!((clock.anchors, clock.error), (5, 5_000));
    }
}
