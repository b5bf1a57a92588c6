//! Mean and spread over the runs of `-r`.

use xprof_backend::counters::Count;

/// Mean and sum of squared differences of numbers that come one after the other (Welford, as perf's `stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    n: u32,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        self.n += 1;
        let before = value - self.mean;
        self.mean += before / f64::from(self.n);
        self.squares += before * (value - self.mean);
    }

    /// `None` before the first number.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.n > 0).then_some(self.mean)
    }

    /// The standard error of the mean; 0 for a single number, which says nothing of it.
    pub(super) fn error(&self) -> f64 {
        if self.n < 2 {
            return 0.0;
        }
        (self.squares / f64::from(self.n - 1) / f64::from(self.n)).sqrt()
    }

    /// [`Self::error`] in percent of the mean.
    pub(super) fn percent(&self) -> f64 {
        if self.mean == 0.0 { 0.0 } else { 100.0 * self.error() / self.mean }
    }
}

/// What several runs say together.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    pub(super) runs: u32,
    /// Seconds.
    pub(super) elapsed: Moments,
    /// Of the estimates, beside the counts of [`Self::counts`].
    pub(super) estimates: Vec<Moments>,
    sums: Vec<Count>,
}

impl Repeats {
    /// Takes the counts of one more run, in any order.
    pub(super) fn add(&mut self, elapsed: f64, counts: &[Count]) {
        self.runs += 1;
        self.elapsed.add(elapsed);
        for count in counts {
            let at = match self.sums.iter().position(|sum| (sum.counter, sum.cpu) == (count.counter, count.cpu)) {
                Some(at) => at,
                None => {
                    self.sums.push(Count { value: 0, enabled: 0, running: 0, ..*count });
                    self.estimates.push(Moments::default());
                    self.sums.len() - 1
                }
            };
            let sum = &mut self.sums[at];
            sum.value = sum.value.saturating_add(count.value);
            sum.enabled = sum.enabled.saturating_add(count.enabled);
            sum.running = sum.running.saturating_add(count.running);
            // A run that measured nothing of it says nothing of its mean.
            if let Some(estimate) = count.estimate() {
                self.estimates[at].add(estimate as f64);
            }
        }
    }

    /// The means, rounded.
    pub(super) fn counts(&self) -> Vec<Count> {
        let runs = u64::from(self.runs.max(1));
        let mean = |sum: u64| (sum.saturating_add(runs / 2)) / runs;
        let of = |sum: &Count| Count {
            value: mean(sum.value),
            enabled: mean(sum.enabled),
            running: mean(sum.running),
            ..*sum
        };
        self.sums.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_standard_error_of_the_mean() {
        let mut moments = Moments::default();
        assert_eq!((moments.mean(), moments.error()), (None, 0.0));
        [2.0, 4.0, 4.0, 6.0].into_iter().for_each(|value| moments.add(value));
        // Variance 8/3, of the mean 8/12.
        assert_eq!(moments.mean(), Some(4.0));
        assert!((moments.error() - (8.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        assert!((moments.percent() - 25.0 * (8.0_f64 / 12.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_run_that_measured_nothing_does_not_pull_the_mean_down() {
        let mut repeats = Repeats::default();
        let count = |value, running| Count { counter: 1, cpu: None, value, enabled: 100, running };
        repeats.add(1.0, &[count(10, 100)]);
        repeats.add(3.0, &[count(0, 0)]);
        assert_eq!(repeats.estimates[0].mean(), Some(10.0));
        assert_eq!(repeats.counts(), [count(5, 50)]);
        assert_eq!((repeats.runs, repeats.elapsed.mean()), (2, Some(2.0)));
    }
}
