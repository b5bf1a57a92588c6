//! The rows of one event while cells are added to them, and their trees.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use super::cells::{Cell, Sum};
use super::fold::{CellSpot, Fold, RowSpot};
use super::frames::{CallersId, FrameId, StackId};
use super::key::{Key, Value};
use super::names::FunctionId;
use super::rows::Row;
use super::tree::{Arena, Order, Trees};

/// The rows of one event while they are added up.
#[derive(Debug, Default)]
pub(super) struct EventTable {
    index: FxHashMap<Vec<Value>, usize>,
    /// Rows that were found already.
    found: FxHashMap<RowSpot, usize>,
    /// The rows of the callers of a stack, each once, by the cell's part of their spots: where in `callers` they stand. What calls a
    /// leaf is the same for nearly all of its addresses, and from one slice of `top` to the next.
    of_callers: FxHashMap<(CellSpot, CallersId), (u32, u32)>,
    callers: Vec<u32>,
    pub(super) rows: Vec<Row>,
    /// By row: the number of the stack that it was counted with last. A set for each stack took longer than all else.
    counted: Vec<u32>,
    count: u32,
    pub(super) total: Sum,
    /// The squares of all periods, added up.
    pub(super) squares: f64,
    /// The trees of rows: root by row, where it has one.
    pub(super) arena: Arena,
    pub(super) roots: Vec<Option<u32>>,
    pub(super) truncated: u64,
    pub(super) completed: u64,
}

impl EventTable {
    /// With these rows.
    pub(super) fn of_rows(rows: Vec<Row>) -> EventTable {
        let index = rows.iter().enumerate().map(|(at, row)| (row.values.clone(), at)).collect();
        EventTable { index, rows, ..EventTable::default() }
    }

    /// Whether rows were found by more than `most` numbers.
    pub(super) fn is_crowded(&self, most: usize) -> bool {
        self.found.len().max(self.callers.len() / 8) > most
    }

    /// The numbers that rows were found by mean something else from now on.
    pub(super) fn forget(&mut self) {
        self.found.clear();
        self.of_callers.clear();
        self.callers.clear();
    }

    pub(super) fn row(&mut self, fold: &mut Fold<'_>, cell: &Cell, spot: RowSpot) -> usize {
        if let Some(&row) = self.found.get(&spot) {
            return row;
        }
        let row = self.row_of(fold, cell, spot.code);
        self.found.insert(spot, row);
        row
    }

    fn row_of(&mut self, fold: &mut Fold<'_>, cell: &Cell, (frame, inlined): (FrameId, Option<FunctionId>)) -> usize {
        match self.index.entry(fold.values(cell, frame, inlined)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let module = fold.builder.frames.place(frame).module;
                let letter = fold.builder.letter(module);
                let values = entry.key().clone();
                self.rows.push(Row {
                    values,
                    letter,
                    samples: 0,
                    period: 0,
                    children: 0,
                    nodes: Vec::new(),
                    chains: Vec::new(),
                });
                *entry.insert(self.rows.len() - 1)
            }
        }
    }

    /// Adds a cell.
    pub(super) fn add(&mut self, fold: &mut Fold<'_>, cell: &Cell, sum: Sum, has_children: bool) {
        self.total.samples += sum.samples;
        self.total.period = self.total.period.saturating_add(sum.period);
        let spot = fold.spot(cell);
        let own = self.row(fold, cell, spot);
        if let Some(row) = self.rows.get_mut(own) {
            row.samples += sum.samples;
            row.period = row.period.saturating_add(sum.period);
            row.children = row.children.saturating_add(sum.period);
        }
        if !has_children {
            return;
        }
        let (builder, names) = (fold.builder, fold.names);
        let Some((leaf, callers)) = builder.frames.frames_of(StackId(cell.stack)).split_first() else { return };
        let (from, to) = self.rows_of(fold, cell, spot, callers);
        // A row counts a stack once, however often it recurs in it.
        self.begin_counting();
        self.counts(own);
        for place in fold.expand(std::slice::from_ref(leaf)) {
            let row = self.row(fold, cell, spot.at(names, place));
            self.add_children(row, sum.period);
        }
        for at in from..to {
            let Some(&row) = self.callers.get(at as usize) else { break };
            self.add_children(row as usize, sum.period);
        }
    }

    /// Adds to a row that the stack has not been counted with yet.
    fn add_children(&mut self, row: usize, period: u64) {
        if self.counts(row)
            && let Some(row) = self.rows.get_mut(row)
        {
            row.children = row.children.saturating_add(period);
        }
    }

    /// Where the rows of a cell's callers stand in `callers`.
    fn rows_of(&mut self, fold: &mut Fold<'_>, cell: &Cell, spot: RowSpot, callers: &[FrameId]) -> (u32, u32) {
        let key = (spot.cell, fold.builder.frames.callers_of(StackId(cell.stack)));
        if let Some(&known) = self.of_callers.get(&key) {
            return known;
        }
        let from = self.callers.len() as u32;
        self.begin_counting();
        for place in fold.expand(callers) {
            let row = self.row(fold, cell, spot.at(fold.names, place));
            if self.counts(row) {
                self.callers.push(row as u32);
            }
        }
        let place = (from, self.callers.len() as u32);
        self.of_callers.insert(key, place);
        place
    }

    /// From here on no row was counted.
    fn begin_counting(&mut self) {
        self.count = self.count.wrapping_add(1);
        if self.count == 0 {
            self.counted.fill(0);
            self.count = 1;
        }
    }

    /// Whether a row is counted for the first time.
    fn counts(&mut self, row: usize) -> bool {
        if self.counted.len() <= row {
            self.counted.resize(self.rows.len().max(row + 1), 0);
        }
        std::mem::replace(&mut self.counted[row], self.count) != self.count
    }

    pub(super) fn effective(&self) -> u64 {
        let period = self.total.period as f64;
        let effective =
            if self.squares > 0.0 { (period * period / self.squares).round() as u64 } else { self.total.samples };
        effective.min(self.total.samples)
    }

    /// The periods below which a node is put together with others.
    fn least(&self, limit: f64) -> u64 {
        (limit / 100.0 * self.total.period as f64).ceil() as u64
    }

    /// Makes room for the trees of the rows that are worth one.
    pub(super) fn plant(&mut self, trees: Trees, has_children: bool) {
        let least = self.least(trees.limit);
        for row in &self.rows {
            let weight = if has_children { row.children } else { row.period };
            self.roots.push((weight > 0 && weight >= least).then(|| self.arena.root()));
        }
    }

    /// Adds a stack to the trees of the rows that it belongs to.
    pub(super) fn grow(&mut self, fold: &mut Fold<'_>, cell: &Cell, sum: Sum, (order, has_children): (Order, bool)) {
        let (builder, names) = (fold.builder, fold.names);
        let own = [FrameId(cell.frame)];
        let stack = match builder.frames.frames_of(StackId(cell.stack)) {
            [] => &own,
            stack => stack,
        };
        let of_functions = fold.keys.contains(&Key::Symbol);
        let stack: Vec<(FrameId, FunctionId)> = fold.expand(stack).collect();
        let way = |&(_, function): &(FrameId, FunctionId)| (function, names.function(function).0);
        self.begin_counting();
        let spot = fold.spot(cell);
        // The outermost frame of a row is where its tree stands; without a children column, the leaf: not what was
        // compiled into it.
        let leaf = fold.functions(stack[0].0).count() - 1;
        let places = if has_children { 0..stack.len() } else { leaf..leaf + 1 };
        for at in places.rev() {
            let (frame, function) = stack[at];
            let row = self.row(fold, cell, spot.at(names, (frame, function)));
            let Some(&Some(root)) = self.roots.get(row) else { continue };
            if !self.counts(row) {
                continue;
            }
            // The row's function stands for itself at the root of its tree; rows of something else have it in the tree.
            let anchor = Some(function).filter(|_| of_functions);
            let above = match (of_functions, has_children) {
                (true, _) => at + 1,
                (false, true) => at,
                (false, false) => 0,
            };
            match order {
                Order::Flat => self.arena.add(root, None, stack.iter().map(way), sum),
                Order::Callee => self.arena.add(root, anchor, stack[above..].iter().map(way), sum),
                Order::Caller if has_children => {
                    let below = stack[..=at].iter().rev().skip(usize::from(of_functions));
                    self.arena.add(root, anchor, below.map(way), sum);
                }
                Order::Caller => self.arena.add(root, None, stack.iter().rev().map(way), sum),
            }
        }
    }

    pub(super) fn into_rows(self, has_children: bool, trees: Option<Trees>) -> Vec<Row> {
        let least = trees.map_or(0, |trees| self.least(trees.limit));
        let mut rows = self.rows;
        for (row, root) in rows.iter_mut().zip(&self.roots) {
            match (trees, *root) {
                (Some(Trees { order: Order::Flat, .. }), Some(root)) => row.chains = self.arena.chains(root, least),
                (Some(_), Some(root)) => row.nodes = self.arena.below(root, least),
                _ => {}
            }
        }
        rows.sort_by(|a, b| Row::by_weight(a, b, has_children));
        rows
    }
}
