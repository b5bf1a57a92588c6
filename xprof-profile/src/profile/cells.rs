//! The sums that samples are added to.
//!
//! Nine samples of ten fall where one fell a moment ago. For those a small direct-mapped memo gives the cell at once,
//! without asking the timeline; it forgets everything when a side-band record changes what it knows.

use rustc_hash::FxHashMap;

use super::frames::ChainHash;

/// Slots of the memo, a power of two; with 48 bytes each they stay in a second-level cache.
const SLOTS: usize = 2048;
/// Chains that are remembered, at first and at most; both powers of two.
const CHAINS: (usize, usize) = (1 << 12, 1 << 18);

/// What a cell adds up. Parts that no key and no filter asks for are 0, so that few cells are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) event: u32,
    pub(super) thread: u32,
    pub(super) frame: u32,
    pub(super) stack: u32,
    pub(super) cpu: u32,
    /// See [`super::domains::Origin`].
    pub(super) origin: u32,
    pub(super) cgroup: u64,
}

/// What a cell has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) samples: u64,
    pub(super) period: u64,
}

/// Whose a sample is: the machine (0: the host), and the [`super::domains::Origin`] where somebody asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) machine: u32,
    pub(super) origin: u32,
}

/// Where a sample fell, as the record says it: samples of the same spot belong to the same cell until the timeline
/// changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) ip: u64,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) event: u32,
    pub(super) cpu: u32,
    pub(super) who: Who,
    pub(super) misc: u16,
}

impl Spot {
    fn slot(&self) -> usize {
        // An odd number with well spread bits (fraction of the golden ratio).
        let mixed =
            (self.ip ^ u64::from(self.tid) << 32 ^ u64::from(self.cpu) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize % SLOTS
    }
}

/// All cells.
#[derive(Debug)]
pub(super) struct Cells {
    list: Vec<(Cell, Sum)>,
    /// Sums of the squares of the periods, by cell.
    squares: Vec<f64>,
    /// Samples whose stacks were completed, by cell that has some.
    completed: FxHashMap<u32, u64>,
    index: FxHashMap<Cell, u32>,
    /// Index of a cell plus one; 0 in an empty slot.
    memo: Vec<(Spot, u32)>,
    /// Something is remembered.
    remembers: bool,
    chains: Chains,
}

/// Which cell a sample with a stack was added to, by all that decides it: the newest of each slot. Nothing that comes later
/// changes what a key means, so that it need not forget.
#[derive(Debug, Default)]
struct Chains {
    /// Index of a cell plus one; 0 in an empty slot.
    slots: Vec<(ChainHash, u32)>,
    used: usize,
}

impl Chains {
    fn slot(&self, key: ChainHash) -> usize {
        key.0 as usize & self.slots.len().wrapping_sub(1)
    }

    fn find(&self, key: ChainHash) -> Option<u32> {
        let (known, index) = *self.slots.get(self.slot(key))?;
        if known == key { index.checked_sub(1) } else { None }
    }

    fn remember(&mut self, key: ChainHash, index: u32) {
        if self.used * 2 >= self.slots.len() && self.slots.len() < CHAINS.1 {
            let slots = vec![(ChainHash::default(), 0); (self.slots.len() * 2).max(CHAINS.0)];
            self.used = 0;
            for (key, index) in std::mem::replace(&mut self.slots, slots).into_iter().filter(|(_, index)| *index > 0) {
                self.put(key, index);
            }
        }
        self.put(key, index.saturating_add(1));
    }

    fn put(&mut self, key: ChainHash, index: u32) {
        let at = self.slot(key);
        if let Some(slot) = self.slots.get_mut(at) {
            self.used += usize::from(slot.1 == 0);
            *slot = (key, index);
        }
    }
}

impl Cells {
    /// No cells.
    pub(super) fn new() -> Cells {
        Cells {
            list: Vec::new(),
            squares: Vec::new(),
            completed: FxHashMap::default(),
            index: FxHashMap::default(),
            memo: vec![(Spot::default(), 0); SLOTS],
            remembers: false,
            chains: Chains::default(),
        }
    }

    /// Adds one sample of `period` to a cell; its index, for [`Cells::remember`].
    pub(super) fn add(&mut self, cell: Cell, period: u64) -> u32 {
        let next = self.list.len() as u32;
        let index = *self.index.entry(cell).or_insert(next);
        if index == next {
            self.list.push((cell, Sum::default()));
            self.squares.push(0.0);
        }
        self.count(index, period);
        index
    }

    /// Adds so many samples to a cell, which have `period` together; its index.
    pub(super) fn add_part(&mut self, cell: Cell, samples: u64, period: u64) -> u32 {
        let index = self.add(cell, period);
        if let (Some((_, sum)), Some(squares)) =
            (self.list.get_mut(index as usize), self.squares.get_mut(index as usize))
        {
            let (samples, period) = (samples.max(1), period as f64);
            sum.samples += samples - 1;
            // The sum of squares of so many equal parts in place of the square of the whole.
            *squares += period * period * (1.0 / samples as f64 - 1.0);
        }
        index
    }

    /// Adds one sample to the cell of the last sample of this spot; false when that is not known.
    pub(super) fn add_again(&mut self, spot: &Spot, period: u64) -> bool {
        match self.memo[spot.slot()] {
            (known, index) if index > 0 && known == *spot => {
                self.count(index - 1, period);
                true
            }
            _ => false,
        }
    }

    /// Adds one sample to the cell of an earlier one with this key; its index, or `None` when that is not known.
    pub(super) fn add_known(&mut self, key: ChainHash, period: u64) -> Option<u32> {
        let index = self.chains.find(key)?;
        self.count(index, period);
        Some(index)
    }

    /// Samples with this key belong to this cell.
    pub(super) fn remember_chain(&mut self, key: ChainHash, index: u32) {
        self.chains.remember(key, index);
    }

    /// Samples of this spot belong to this cell.
    pub(super) fn remember(&mut self, spot: Spot, index: u32) {
        self.memo[spot.slot()] = (spot, index.saturating_add(1));
        self.remembers = true;
    }

    /// The timeline has changed: no spot is known any more.
    pub(super) fn forget(&mut self) {
        // Side-band records come in crowds.
        if std::mem::take(&mut self.remembers) {
            self.memo.fill((Spot::default(), 0));
        }
    }

    fn count(&mut self, index: u32, period: u64) {
        if let (Some((_, sum)), Some(squares)) =
            (self.list.get_mut(index as usize), self.squares.get_mut(index as usize))
        {
            sum.samples += 1;
            sum.period = sum.period.saturating_add(period);
            *squares += period as f64 * period as f64;
        }
    }

    /// The stack of the sample that was just added to a cell was completed.
    pub(super) fn add_completed(&mut self, index: u32) {
        *self.completed.entry(index).or_default() += 1;
    }

    /// How many samples of a cell have stacks that were completed.
    pub(super) fn completed(&self, index: usize) -> u64 {
        if self.completed.is_empty() {
            return 0;
        }
        u32::try_from(index).ok().and_then(|index| self.completed.get(&index)).copied().unwrap_or(0)
    }

    /// The squares of the periods of each cell, added up.
    pub(super) fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// The cells so far; none are left.
    pub(super) fn take(&mut self) -> Vec<(Cell, Sum)> {
        self.forget();
        self.chains = Chains::default();
        self.index.clear();
        self.squares.clear();
        self.completed.clear();
        let next = Vec::with_capacity(self.list.len());
        std::mem::replace(&mut self.list, next)
    }

    /// The cells, in order of their first sample.
    pub(super) fn list(&self) -> &[(Cell, Sum)] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_spot_is_the_same_cell_until_forgotten() {
        let mut cells = Cells::new();
        let cell = Cell { event: 0, thread: 1, frame: 2, stack: 0, cpu: 3, origin: 0, cgroup: 0 };
        let spot = Spot { ip: 0x1000, pid: 1, tid: 2, event: 0, cpu: 3, who: Who::default(), misc: 2 };
        assert!(!cells.add_again(&spot, 5));
        let index = cells.add(cell, 5);
        cells.remember(spot, index);
        assert!(cells.add_again(&spot, 7));
        assert!(!cells.add_again(&Spot { misc: 1, ..spot }, 7));
        assert_eq!(cells.list(), [(cell, Sum { samples: 2, period: 12 })]);
        cells.forget();
        assert!(!cells.add_again(&spot, 7));
    }
}
