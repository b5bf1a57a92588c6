//! The samples one by one, for the views that need to know when: flame charts, timelines.
//!
//! What makes a sample (thread, CPU, stack, ..) is its cell; here stand its time and its weight.

/// Samples that are kept at most, 24 bytes each; what comes after is counted.
const MOST: usize = 1 << 26;

/// One sample, by the cell that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfCell {
    /// ns on the recording's clock.
    pub(super) time: u64,
    /// Its period (events).
    pub(super) period: u64,
    /// Index of its cell.
    pub(super) cell: u32,
}

/// Samples in the order they came, which is that of their times.
#[derive(Debug, Default)]
pub(super) struct Times {
    list: Vec<OfCell>,
    /// Samples that there was no room for.
    left_out: u64,
}

impl Times {
    pub(super) fn add(&mut self, sample: OfCell) {
        if self.list.len() < MOST {
            self.list.push(sample);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn list(&self) -> &[OfCell] {
        &self.list
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}
