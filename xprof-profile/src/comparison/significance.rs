//! Whether a share really changed, or differs by no more than sampling makes it differ.
//!
//! Samples are counts: of `n` samples, those that fall on a row with a true share `s` are about `n*s`, give or take the root
//! of `n*s*(1-s)`. Two recordings give the table (here, elsewhere) x (old, new). Fisher's exact test says how often chance
//! alone would share the samples of the row out at least as unevenly, were its share the same in both: `p`. It holds for
//! rows of five samples as for rows of a million, and it tests shares, so that recordings need not be of the same length.
//!
//! A table has thousands of rows, and of a thousand rows that did not change fifty have a `p` below 0.05. So the rows
//! are judged together: of the rows that are called changed, 5 % at most are noise on average (Benjamini and Hochberg, 1995).
//! Rows with so few samples that no way of sharing them out could be called a change are said to be that, and take no
//! part (Tarone, 1990; Gilbert, 2005); otherwise a long tail of rare functions would hide the change of a frequent one.
//!
//! What the test cannot know: that a program does different work each time it runs. It answers whether two recordings differ,
//! not why; for the noise of the program itself record the same program twice and compare these.

/// The share of false alarms among the changes that is accepted.
pub const FALSE_ALARMS: f64 = 0.05;

/// Counts above this are scaled down, which makes a test say less, never more: its time grows with their root.
const LARGEST: u64 = 1 << 28;

/// What is said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its share grew.
    Grew,
    /// Its share shrank.
    Shrank,
    /// It differs by no more than noise.
    Noise,
    /// Too few samples to tell a change from noise, were there one.
    TooFew,
    /// One recording has samples without names that may be this function's: they could make up for all of the difference.
    NoNames,
}

impl Verdict {
    /// Its word in tables, JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Grew => "grew",
            Verdict::Shrank => "shrank",
            Verdict::Noise => "noise",
            Verdict::TooFew => "too few",
            Verdict::NoNames => "no names",
        }
    }
}

/// Samples of a row in two recordings, and all samples of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Samples of the row, old and new.
    pub row: [u64; 2],
    /// All samples, old and new; not less than the row's.
    pub all: [u64; 2],
}

impl Counts {
    /// The two-sided `p` of Fisher's exact test: the probability of all tables with the same sums at the sides that
    /// are no more probable than this one. 1 where a side has no samples.
    pub fn p(self) -> f64 {
        let table = Hypergeometric::of(self);
        table.p(table.observed)
    }

    /// The smallest `p` that these many samples in the row could have.
    fn least_p(self) -> f64 {
        let table = Hypergeometric::of(self);
        let ends = [table.least, table.most];
        ends.iter().map(|&end| table.p(end)).fold(1.0, f64::min)
    }

    /// Whether the row would still have changed in the same way with so many samples more, as a share of all, on the side where its share
    /// is smaller.
    pub(super) fn holds_with(self, hidden: [f64; 2]) -> bool {
        let low = usize::from(!self.grew());
        let mut more = self;
        let extra = (hidden[low].max(0.0) * self.all[low] as f64).round() as u64;
        more.row[low] = self.row[low].saturating_add(extra).min(self.all[low]);
        more.grew() == self.grew() && more.p() <= FALSE_ALARMS
    }

    fn grew(self) -> bool {
        let share = |side: usize| self.row[side] as f64 / self.all[side].max(1) as f64;
        share(1) > share(0)
    }
}

/// `p` and verdict of every row of one event.
pub fn judge(rows: &[Counts]) -> Vec<(f64, Verdict)> {
    let mut least_by_row: rustc_hash::FxHashMap<(u64, [u64; 2]), f64> = rustc_hash::FxHashMap::default();
    let least: Vec<f64> = rows
        .iter()
        .map(|counts| {
            let sum = counts.row[0].saturating_add(counts.row[1]);
            *least_by_row.entry((sum, counts.all)).or_insert_with(|| counts.least_p())
        })
        .collect();
    let can_be = testable(&least);
    let p: Vec<f64> = rows.iter().map(|counts| counts.p()).collect();
    let mut tested: Vec<f64> = p.iter().zip(&least).filter(|(_, least)| **least <= can_be).map(|(p, _)| *p).collect();
    tested.sort_by(f64::total_cmp);
    let step = FALSE_ALARMS / tested.len().max(1) as f64;
    let changed = tested.iter().enumerate().rfind(|&(rank, p)| *p <= (rank + 1) as f64 * step);
    let changed = changed.map_or(-1.0, |(_, p)| *p);
    let verdict = |index: usize| match () {
        () if least[index] > can_be => Verdict::TooFew,
        () if p[index] > changed => Verdict::Noise,
        () if rows[index].grew() => Verdict::Grew,
        () => Verdict::Shrank,
    };
    (0..rows.len()).map(|index| (p[index], verdict(index))).collect()
}

/// The smallest possible `p` that a row may have at most to be tested: with K rows tested, one that cannot get below
/// FALSE_ALARMS/K can never be called changed; K is the smallest number for which no more than K rows remain.
fn testable(least: &[f64]) -> f64 {
    let mut sorted = least.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut tests = 1usize;
    loop {
        let limit = FALSE_ALARMS / tests as f64;
        let left = sorted.partition_point(|&p| p <= limit);
        if left <= tests {
            return limit;
        }
        // Fewer tests than there are rows left at the next limit cannot do either.
        tests += 1;
    }
}

/// How the samples of a row are shared out between two recordings by chance.
struct Hypergeometric {
    /// Samples of the row, and all others.
    row: f64,
    others: f64,
    /// Samples of the old recording, of all.
    old: f64,
    all: f64,
    observed: u64,
    least: u64,
    most: u64,
}

impl Hypergeometric {
    fn of(Counts { row, all }: Counts) -> Hypergeometric {
        let mut shift = 0;
        while (all[0] >> shift) > LARGEST || (all[1] >> shift) > LARGEST {
            shift += 1;
        }
        let all = all.map(|n| n >> shift);
        let row = [(row[0] >> shift).min(all[0]), (row[1] >> shift).min(all[1])];
        let (in_row, whole) = (row[0] + row[1], all[0] + all[1]);
        Hypergeometric {
            row: in_row as f64,
            others: (whole - in_row) as f64,
            old: all[0] as f64,
            all: whole as f64,
            observed: row[0],
            least: in_row.saturating_sub(all[1]),
            most: in_row.min(all[0]),
        }
    }

    /// Natural logarithm of the probability that `x` of the row's samples are of the old recording. By Loader's way to the
    /// binomial probabilities (2000), which loses no digits where numbers are large.
    fn ln(&self, x: u64) -> f64 {
        let share = self.old / self.all;
        let x = x as f64;
        ln_binomial(x, self.row, share) + ln_binomial(self.old - x, self.others, share)
            - ln_binomial(self.old, self.all, share)
    }

    /// Probability of `x + 1` by that of `x`.
    fn ratio(&self, x: u64) -> f64 {
        let x = x as f64;
        (self.row - x) * (self.old - x) / ((x + 1.0) * (self.others - self.old + x + 1.0))
    }

    /// Probability of `from` and all that is further away, in one direction.
    fn tail(&self, from: u64, upwards: bool) -> f64 {
        let mut term = self.ln(from).exp();
        let (mut sum, mut x) = (term, from);
        while term > sum * 1e-17 {
            if upwards && x < self.most {
                term *= self.ratio(x);
                x += 1;
            } else if !upwards && x > self.least {
                x -= 1;
                term /= self.ratio(x);
            } else {
                break;
            }
            sum += term;
        }
        sum
    }

    fn p(&self, observed: u64) -> f64 {
        if self.least == self.most {
            return 1.0;
        }
        // Equal probabilities differ in their last digits.
        let limit = self.ln(observed) + 1e-7;
        let mode = ((self.row + 1.0) * (self.old + 1.0) / (self.all + 2.0)) as u64;
        let mode = mode.clamp(self.least, self.most);
        let is_as_rare = |x: u64| self.ln(x) <= limit;
        if is_as_rare(mode) {
            return 1.0;
        }
        // The outermost that is too probable on the way out from the mode; what is beyond it belongs to the tail.
        let beyond = |end: u64| {
            let (mut inside, mut outside) = (mode, end);
            if !is_as_rare(end) {
                return None;
            }
            while inside.abs_diff(outside) > 1 {
                let middle = inside.min(outside) + inside.abs_diff(outside) / 2;
                *(if is_as_rare(middle) { &mut outside } else { &mut inside }) = middle;
            }
            Some(outside)
        };
        let below = beyond(self.least).map_or(0.0, |from| self.tail(from, false));
        let above = beyond(self.most).map_or(0.0, |from| self.tail(from, true));
        (below + above).min(1.0)
    }
}

/// Natural logarithm of the binomial probability of `x` hits in `n`.
fn ln_binomial(x: f64, n: f64, p: f64) -> f64 {
    if x <= 0.0 {
        return n * (-p).ln_1p();
    }
    if x >= n {
        return n * p.ln();
    }
    let rest = n - x;
    let main = error_of_stirling(n) - error_of_stirling(x) - error_of_stirling(rest);
    main - deviance(x, n * p) - deviance(rest, n * (1.0 - p)) - 0.5 * (std::f64::consts::TAU * x * (rest / n)).ln()
}

/// What Stirling's formula lacks: ln n! - ln(sqrt(2 pi n) (n/e)^n).
fn error_of_stirling(n: f64) -> f64 {
    if n < 16.0 {
        let factorial: f64 = (1..=n as u32).map(f64::from).product();
        return factorial.ln() - ((n + 0.5) * n.max(1e-300).ln() - n + 0.5 * std::f64::consts::TAU.ln());
    }
    let square = n * n;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * square)) / square) / square) / square)
        / n
}

/// x ln(x/m) + m - x.
fn deviance(x: f64, m: f64) -> f64 {
    let difference = x - m;
    if difference.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() - difference;
    }
    // A series in v, for what would be a small difference of large numbers.
    let v = difference / (x + m);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for odd in (3u32..1000).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(row: [u64; 2], all: [u64; 2]) -> f64 {
        Counts { row, all }.p()
    }

    /// Two examples that stand in every book, and those of `fisher.py`, which computes with whole numbers.
    #[test]
    fn known_answers() {
        // Fisher, The Design of Experiments (1935): the lady who tasted tea. 34/70.
        assert!((p([3, 1], [4, 4]) - 34.0 / 70.0).abs() < 1e-14);
        // Fisher (1935), criminal twins, by way of R's manual: 0.0005367.
        assert!((p([2, 10], [17, 13]) - 0.000_536_724_1).abs() < 1e-9);
        for line in include_str!("fisher.csv").lines().skip(1) {
            let numbers: Vec<f64> = line.split(',').map(|n| n.parse().unwrap()).collect();
            let [a, b, n, m, truth] = numbers[..] else { panic!("{line}") };
            let got = p([a as u64, b as u64], [n as u64, m as u64]);
            assert!((got - truth).abs() <= truth * 1e-9, "{line}: {got}");
        }
    }

    #[test]
    fn nothing_is_no_change() {
        assert_eq!(p([0, 0], [0, 0]), 1.0);
        assert_eq!(p([0, 0], [10, 20]), 1.0);
        assert_eq!(p([0, 5], [0, 10]), 1.0);
        assert_eq!(p([10, 20], [10, 20]), 1.0);
        assert_eq!(judge(&[]), []);
    }

    #[test]
    fn huge_counts_are_tested_in_bounded_time() {
        assert!(p([u64::MAX / 4, u64::MAX / 2], [u64::MAX, u64::MAX]) < 1e-300);
        let same = p([1 << 60, 1 << 60], [1 << 62, 1 << 62]);
        assert!(same > 0.99, "{same}");
        assert!(p([1, u64::MAX], [u64::MAX, u64::MAX]) < 1e-300);
    }

    #[test]
    fn a_long_tail_does_not_hide_a_change() {
        let all = [2000, 2000];
        let changed = Counts { row: [400, 500], all };
        let noise = Counts { row: [300, 310], all };
        let rare = Counts { row: [0, 3], all };
        let mut rows = vec![changed, noise];
        rows.extend(std::iter::repeat_n(rare, 1000));
        let verdicts: Vec<Verdict> = judge(&rows).into_iter().map(|(_, v)| v).collect();
        assert_eq!(&verdicts[..3], [Verdict::Grew, Verdict::Noise, Verdict::TooFew]);
        assert!(verdicts[2..].iter().all(|&v| v == Verdict::TooFew));
        let back = judge(&[Counts { row: [500, 400], all }]);
        assert_eq!(back[0].1, Verdict::Shrank);
    }

    /// Tables without any change: changes are found in no more than 5 % of them (the bound is 10 of 100 at a chance of 1.2 %;
    /// the numbers are always the same).
    #[test]
    fn without_a_change_there_are_few_false_alarms() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        // Shares of 200 rows: 1/1, 1/2, 1/3 .. of the first.
        let weights: Vec<f64> = (1..=200).map(|rank| 1.0 / f64::from(rank)).collect();
        let total: f64 = weights.iter().sum();
        let mut alarms = 0;
        for _ in 0..100 {
            let mut rows = vec![[0u64; 2]; weights.len()];
            let all = [3000, 2000];
            for (side, &samples) in all.iter().enumerate() {
                for _ in 0..samples {
                    let mut at = random() * total;
                    let row = weights.iter().position(|w| {
                        at -= w;
                        at < 0.0
                    });
                    rows[row.unwrap_or(0)][side] += 1;
                }
            }
            let rows: Vec<Counts> = rows.into_iter().map(|row| Counts { row, all }).collect();
            let found = judge(&rows).iter().any(|(_, v)| matches!(v, Verdict::Grew | Verdict::Shrank));
            alarms += u32::from(found);
        }
        assert!(alarms <= 10, "{alarms}");
    }
}
