//! A ring of cells between one producer and one consumer that do not trust each other.
//!
//! The memory is a run of 64-bit words: four of header, then two for each cell. Positions only rise and are masked when
//! used. Each side keeps its own position to itself and publishes it; of the other side's it believes only what can be
//! (at most a ring's worth apart). A producer writes a record whole before it publishes it; a consumer copies a record
//! before it looks at it, and after one that cannot be, or a position that cannot be, it starts again at the end of what
//! was published: a liar costs records and nothing else.
//!
//! In one address space the words are plain atomics; over grant pages they will be those of the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Cell;

/// Words of the header: producer's position, consumer's position, two spare.
const HEADER: usize = 4;
const PRODUCED: usize = 0;
const CONSUMED: usize = 1;

/// The memory of a ring.
pub type Words = Arc<[AtomicU64]>;

/// A new ring of at least `cells` cells, both ends.
pub fn ring(cells: usize) -> (Producer, Consumer) {
    let cells = cells.next_power_of_two();
    let words: Words = (0..HEADER + 2 * cells).map(|_| AtomicU64::new(0)).collect();
    (Producer { words: Arc::clone(&words), position: 0 }, Consumer { words, position: 0 })
}

fn cells(words: &Words) -> u64 {
    ((words.len() - HEADER) / 2) as u64
}

/// The word of the first half of the cell at a position.
fn place(words: &Words, position: u64) -> usize {
    HEADER + 2 * (position & (cells(words) - 1)) as usize
}

/// The writing end.
#[derive(Debug)]
pub struct Producer {
    words: Words,
    position: u64,
}

impl Producer {
    /// Cells that fit now. None when the consumer's position cannot be.
    pub fn room(&self) -> usize {
        let used = self.position.wrapping_sub(self.words[CONSUMED].load(Ordering::Acquire));
        cells(&self.words).saturating_sub(used) as usize
    }

    /// Writes a record; false, and nothing done, when there is no room.
    pub fn push(&mut self, record: &[Cell]) -> bool {
        if record.len() > self.room() {
            return false;
        }
        for (at, cell) in record.iter().enumerate() {
            let place = place(&self.words, self.position + at as u64);
            let (low, high) = cell.split_at(8);
            for (offset, half) in [low, high].into_iter().enumerate() {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(half);
                self.words[place + offset].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            }
        }
        self.position += record.len() as u64;
        self.words[PRODUCED].store(self.position, Ordering::Release);
        true
    }

    /// The memory, for a test that forges it.
    pub fn words(&self) -> &Words {
        &self.words
    }
}

/// The producer lied: what was published is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// The reading end.
#[derive(Debug)]
pub struct Consumer {
    words: Words,
    position: u64,
}

impl Consumer {
    /// Copies the next record into `record` (emptied first); false when there is none. `length` says how many cells a
    /// record has by its first.
    ///
    /// # Errors
    /// [`Torn`] when the record or the position cannot be; everything published is skipped.
    pub fn next(&mut self, record: &mut Vec<Cell>, length: impl Fn(&Cell) -> Option<usize>) -> Result<bool, Torn> {
        record.clear();
        let produced = self.words[PRODUCED].load(Ordering::Acquire);
        let available = produced.wrapping_sub(self.position);
        if available == 0 {
            return Ok(false);
        }
        if available > cells(&self.words) {
            return self.skip(produced);
        }
        let first = self.cell(self.position);
        let Some(whole) = length(&first).filter(|&whole| whole >= 1 && whole as u64 <= available) else {
            return self.skip(produced);
        };
        record.push(first);
        record.extend((1..whole as u64).map(|at| self.cell(self.position + at)));
        self.publish(self.position + whole as u64);
        Ok(true)
    }

    fn skip(&mut self, to: u64) -> Result<bool, Torn> {
        self.publish(to);
        Err(Torn)
    }

    fn publish(&mut self, position: u64) {
        self.position = position;
        self.words[CONSUMED].store(position, Ordering::Release);
    }

    fn cell(&self, position: u64) -> Cell {
        let place = place(&self.words, position);
        let mut cell = [0; super::CELL];
        let (low, high) = cell.split_at_mut(8);
        low.copy_from_slice(&self.words[place].load(Ordering::Relaxed).to_le_bytes());
        high.copy_from_slice(&self.words[place + 1].load(Ordering::Relaxed).to_le_bytes());
        cell
    }
}
