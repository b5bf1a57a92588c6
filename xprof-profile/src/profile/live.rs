//! Samples added up while they come, for a table that is drawn again and again.
//!
//! Time is cut into slices. A slice has cells of its own; the table is the sum of the last few, and the trail of a row is
//! what each slice of the last minute gave it. So memory follows what runs in a minute, not how long one looks: slices
//! beyond a minute are dropped, and so are rows that had nothing in it and stacks that no slice has. What names and address
//! spaces of processes that are gone leave behind is not taken apart: when it has become too much ([`Live::is_heavy`]), the
//! timeline is begun anew ([`Live::renew`]).

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::domain::Domain;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;

use super::books::Books;
use super::builder::{Builder, LostCount};
use super::cells::{Cell, Sum};
use super::domains::Seen;
use super::event_table::EventTable;
use super::fold::Fold;
use super::frames::{FrameId, StackId};
use super::key::{Key, Value};
use super::names::{Names, Read, Unread, Wanted};
use super::rows::{EventProfile, Profile, Row};
use super::view::View;
use crate::symbols::Symbolizer;
use crate::timeline::ModuleId;

/// Slices that are kept.
pub const SLICES: usize = 60;
/// Cells of all slices: 40 MB.
const CELLS_MAX: usize = 1 << 20;
/// Frames of stacks beyond which those that no slice has are dropped: twice 16 MB.
const FRAMES_MAX: usize = 4 << 20;
/// Threads and code addresses beyond which the timeline is begun anew.
const THREADS_MAX: usize = 200_000;
const PLACES_MAX: usize = 2 << 20;

/// What one slice gave to a row.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    samples: u64,
    period: u64,
    children: u64,
}

impl Part {
    fn is_nothing(&self) -> bool {
        self.children == 0 && self.samples == 0
    }
}

/// What the last slices gave to a row; the newest last.
#[derive(Debug, Default)]
struct Trail {
    parts: VecDeque<Part>,
    /// How many of the newest gave nothing.
    silent: usize,
}

impl Trail {
    fn push(&mut self, part: Part) {
        self.silent = if part.is_nothing() { self.silent.saturating_add(1) } else { 0 };
        if self.parts.len() == SLICES {
            self.parts.pop_front();
        }
        self.parts.push_back(part);
    }

    /// Nothing came in any slice that is kept.
    fn is_idle(&self) -> bool {
        self.silent >= self.parts.len()
    }

    /// The sum of the last slices; `None` when nothing came in them.
    fn sum(&self, window: usize) -> Option<Part> {
        let sum = |sum: Part, part: &Part| Part {
            samples: sum.samples + part.samples,
            period: sum.period.saturating_add(part.period),
            children: sum.children.saturating_add(part.children),
        };
        (self.silent < window).then(|| self.parts.iter().rev().take(window).fold(Part::default(), sum))
    }
}

#[derive(Debug, Default)]
struct Slice {
    cells: Vec<(Cell, Sum)>,
    seen: FxHashMap<u32, Seen>,
    /// Samples with truncated stacks, by event, and without names, by module: counted once, not for each look at the slice.
    truncated: FxHashMap<u32, u64>,
    unnamed: FxHashMap<ModuleId, u64>,
}

/// One event's rows, each with its trail.
#[derive(Debug, Default)]
struct LiveTable {
    table: EventTable,
    trails: Vec<Trail>,
    totals: Trail,
}

impl LiveTable {
    /// Ends a slice: what the table holds goes to the trails.
    fn end_slice(&mut self) {
        self.trails.resize_with(self.table.rows.len(), Trail::default);
        for (row, trail) in self.table.rows.iter_mut().zip(&mut self.trails) {
            let part = Part { samples: row.samples, period: row.period, children: row.children };
            (row.samples, row.period, row.children) = (0, 0, 0);
            trail.push(part);
        }
        let Sum { samples, period } = std::mem::take(&mut self.table.total);
        self.totals.push(Part { samples, period, children: period });
    }

    /// Rows that had nothing in any slice that is kept.
    fn idle(&self) -> usize {
        self.trails.iter().filter(|trail| trail.is_idle()).count()
    }

    /// Drops the idle rows.
    fn sweep(&mut self) {
        let (rows, trails) = (std::mem::take(&mut self.table.rows), std::mem::take(&mut self.trails));
        let left: Vec<(Row, Trail)> = rows.into_iter().zip(trails).filter(|(_, trail)| !trail.is_idle()).collect();
        let (rows, trails) = left.into_iter().unzip();
        self.table = EventTable::of_rows(rows);
        self.trails = trails;
    }
}

/// The sums of all maps.
fn added<'a, K: Copy + Eq + std::hash::Hash + 'a>(
    maps: impl Iterator<Item = &'a FxHashMap<K, u64>>,
) -> FxHashMap<K, u64> {
    let mut sums = FxHashMap::default();
    for (&key, count) in maps.flatten() {
        *sums.entry(key).or_default() += count;
    }
    sums
}

/// A table and the trail of each of its rows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The table.
    pub profile: Profile,
    /// By event and row: periods of the last slices, the newest last; with the children column, of it.
    pub trails: Vec<Vec<Vec<u64>>>,
}

/// Samples while they come.
#[derive(Debug)]
pub struct Live {
    builder: Builder,
    events: Events,
    names: Names,
    slices: VecDeque<Slice>,
    keys: Vec<Key>,
    within: Vec<(Key, Value)>,
    has_children: bool,
    tables: Vec<LiveTable>,
    /// What is sampled meanwhile is not counted.
    frozen: bool,
    /// Lost before the counts were set to zero, by event.
    lost_before: Vec<u64>,
    /// Frames that [`Live::unread`] has given away, and how often everything was begun anew before.
    asked: FxHashSet<FrameId>,
    renewed: u32,
}

impl Live {
    /// With the rows of `keys`. `has_children`: with a children column; the builder must keep stacks then.
    pub fn new(builder: Builder, events: Events, keys: &[Key], has_children: bool) -> Live {
        let mut live = Live {
            builder,
            events,
            names: Names::default(),
            slices: VecDeque::new(),
            keys: keys.to_vec(),
            within: Vec::new(),
            has_children,
            tables: Vec::new(),
            frozen: false,
            lost_before: Vec::new(),
            asked: FxHashSet::default(),
            renewed: 0,
        };
        live.clear_tables();
        live
    }

    fn clear_tables(&mut self) {
        self.tables = self.events.list().iter().map(|_| LiveTable::default()).collect();
    }

    /// Takes the next record in time order.
    pub fn record(&mut self, raw: &RawRecord<'_>) {
        self.builder.record(raw, &self.events);
    }

    /// A domain appeared, was renamed, or is gone.
    pub fn domain(&mut self, domain: Domain) {
        self.builder.origins.learn(domain);
        self.refold();
    }

    /// Shows other rows, of the slices that are kept.
    pub fn show(&mut self, keys: &[Key], within: &[(Key, Value)]) {
        if self.keys != keys || self.within != within {
            (self.keys, self.within) = (keys.to_vec(), within.to_vec());
            self.refold();
        }
    }

    fn refold(&mut self) {
        self.clear_tables();
        let slices = std::mem::take(&mut self.slices);
        slices.iter().for_each(|slice| self.fold(slice));
        self.slices = slices;
    }

    fn fold(&mut self, slice: &Slice) {
        let event_names: Vec<Arc<str>> = self.events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.builder.domain_names();
        let mut fold = Fold::new((&self.builder, &self.keys), &domains, &self.names, &event_names).inlined(false);
        for &(ref cell, sum) in &slice.cells {
            let Some(live) = self.tables.get_mut(cell.event as usize) else { continue };
            if self.builder.takes(&self.names, cell) && fold.is_within(cell, &self.within) {
                live.table.add(&mut fold, cell, sum, self.has_children);
            }
        }
        self.tables.iter_mut().for_each(LiveTable::end_slice);
    }

    /// Ends a slice: names what is new in it, and adds it to the rows.
    pub fn cut(&mut self, symbolizer: &Symbolizer) {
        self.builder.adopt_kernel(symbolizer);
        self.builder.name_frames(&mut self.names, symbolizer, Wanted::default());
        let (cells, seen) = (self.builder.cells.take(), self.builder.origins.take_seen());
        if self.frozen {
            return;
        }
        let (truncated, unnamed) = (self.truncated(&cells), self.unnamed(&cells));
        let slice = Slice { cells, seen, truncated, unnamed };
        self.fold(&slice);
        self.slices.push_back(slice);
        let cells = |slices: &VecDeque<Slice>| slices.iter().map(|slice| slice.cells.len()).sum::<usize>();
        while self.slices.len() > SLICES || self.slices.len() > 1 && cells(&self.slices) > CELLS_MAX {
            self.slices.pop_front();
        }
        if self.builder.frames.size() > FRAMES_MAX {
            let stacks = self.slices.iter_mut().flat_map(|slice| &mut slice.cells).map(|(cell, _)| &mut cell.stack);
            self.builder.frames.keep_stacks(stacks);
            self.builder.books.iter_mut().for_each(Books::forget);
            self.builder.waits.forget();
            // Stacks have other numbers from now on.
            self.tables.iter_mut().for_each(|live| live.table.forget());
        }
        for live in &mut self.tables {
            if live.table.is_crowded(CELLS_MAX) {
                live.table.forget();
            }
            if live.idle() > live.table.rows.len() / 2 {
                live.sweep();
            }
        }
    }

    /// Counts no more (true), or again: what was counted stays as it is.
    pub fn freeze(&mut self, frozen: bool) {
        self.builder.cells.take();
        self.frozen = frozen;
    }

    /// Samples of the last `window` slices, of all events.
    pub fn samples(&self, window: usize) -> u64 {
        self.tables.iter().filter_map(|live| live.totals.sum(window)).map(|part| part.samples).sum()
    }

    /// Records that were lost, of all events.
    pub fn lost(&self) -> u64 {
        let lost: u64 = self.builder.lost.iter().map(|lost| lost.count()).sum();
        lost.saturating_sub(self.lost_before.iter().sum())
    }

    /// Forgets all that was counted.
    pub fn zero(&mut self) {
        self.slices.clear();
        self.builder.cells.take();
        self.clear_tables();
        self.lost_before = self.builder.lost.iter().map(|lost| lost.count()).collect();
    }

    /// True when processes that are gone take more memory than they should.
    pub fn is_heavy(&self) -> bool {
        self.builder.timeline.tasks().len() > THREADS_MAX || self.builder.frames.places().len() > PLACES_MAX
    }

    /// Goes on with a builder that knows nothing yet: it must be told what runs. The rows and their trails stay; views
    /// begin anew.
    pub fn renew(&mut self, builder: Builder) {
        let old = std::mem::replace(&mut self.builder, builder);
        self.builder.lost = old.lost;
        self.builder.damaged = old.damaged;
        self.names = Names::default();
        self.asked.clear();
        self.renewed += 1;
        self.slices.clear();
        self.tables.iter_mut().for_each(|live| live.table.forget());
    }

    /// The frames of the last `window` slices into which nobody knows yet what was compiled. Reading them may take seconds, which no
    /// slice can wait for: it is done elsewhere, and [`Live::learn`] told; the number goes with it. Each frame is given once.
    pub fn unread(&mut self, window: usize) -> (u32, Unread) {
        let (frames, slices) = (&self.builder.frames, &self.slices);
        let cells = slices.iter().rev().take(window).flat_map(|slice| &slice.cells);
        let of_cell = |(cell, _): &(Cell, Sum)| {
            let own = Some(FrameId(cell.frame));
            own.into_iter().chain(frames.frames_of(StackId(cell.stack)).iter().copied())
        };
        (self.renewed, self.builder.unread(cells.flat_map(of_cell), &mut self.asked))
    }

    /// Takes what was read of [`Live::unread`]; false when it means nothing any more.
    pub fn learn(&mut self, (renewed, read): (u32, Read)) -> bool {
        let is_ours = renewed == self.renewed;
        if is_ours {
            read.tell(&mut self.names);
        }
        is_ours
    }

    /// The table of the last `window` slices, of each event the `most` heaviest rows; rows that had nothing in them are left
    /// out.
    pub fn snapshot(&self, window: usize, most: usize) -> Snapshot {
        let mut trails = Vec::new();
        let mut events = Vec::new();
        let truncated = added(self.last(window).map(|slice| &slice.truncated));
        let weight = |part: &Part| if self.has_children { part.children } else { part.period };
        for (index, (event, live)) in self.events.list().iter().zip(&self.tables).enumerate() {
            let sums = live.trails.iter().map(|trail| trail.sum(window)).enumerate();
            let mut heaviest: Vec<(usize, Part)> =
                sums.filter_map(|(at, sum)| Some((at, sum.filter(|sum| !sum.is_nothing())?))).collect();
            if heaviest.len() > most {
                heaviest.select_nth_unstable_by_key(most, |(_, part)| std::cmp::Reverse(weight(part)));
                heaviest.truncate(most);
            }
            // In the order of a report's rows. Sums are put in order, which are small, and rows are made once.
            let values = |at: usize| live.table.rows.get(at).map(|row| &row.values);
            let second = |part: &Part| if self.has_children { part.period } else { part.samples };
            heaviest.sort_unstable_by(|(a, x), (b, y)| {
                (weight(y), second(y)).cmp(&(weight(x), second(x))).then_with(|| values(*a).cmp(&values(*b)))
            });
            let with_trail = |(at, Part { samples, period, children }): (usize, Part)| {
                let row = Row { samples, period, children, ..live.table.rows.get(at)?.clone() };
                Some((row, live.trails.get(at)?.parts.iter().map(weight).collect()))
            };
            let (rows, of_rows): (Vec<Row>, Vec<Vec<u64>>) = heaviest.into_iter().filter_map(with_trail).unzip();
            trails.push(of_rows);
            let total = live.totals.sum(window).unwrap_or_default();
            let lost = self.builder.lost.get(index).copied().map_or(0, LostCount::count);
            events.push(EventProfile {
                name: event.name.clone(),
                samples: total.samples,
                period: total.period,
                effective: total.samples,
                truncated: truncated.get(&(index as u32)).copied().unwrap_or(0),
                completed: 0,
                lost: lost.saturating_sub(self.lost_before.get(index).copied().unwrap_or(0)),
                rows,
            });
        }
        let profile = Profile {
            keys: self.keys.clone(),
            has_children: self.has_children,
            trees: None,
            functions: Vec::new(),
            events,
            unnamed: self.builder.advice(&self.names, added(self.last(window).map(|slice| &slice.unnamed))),
            damaged: self.builder.damaged,
            domains: self
                .builder
                .origins
                .times(&self.builder.domain_names(), self.last(window).map(|slice| &slice.seen)),
            host: None,
        };
        Snapshot { profile, trails }
    }

    fn last(&self, window: usize) -> impl Iterator<Item = &Slice> {
        self.slices.iter().rev().take(window)
    }

    /// Samples with truncated stacks, by event.
    fn truncated(&self, cells: &[(Cell, Sum)]) -> FxHashMap<u32, u64> {
        let mut truncated: FxHashMap<u32, u64> = FxHashMap::default();
        let modules = self.builder.truncated_modules();
        if !modules.is_empty() {
            for (cell, sum) in cells.iter().filter(|(cell, _)| self.builder.is_truncated(&modules, cell)) {
                *truncated.entry(cell.event).or_default() += sum.samples;
            }
        }
        truncated
    }

    /// Samples without names, by module.
    fn unnamed(&self, cells: &[(Cell, Sum)]) -> FxHashMap<ModuleId, u64> {
        let mut unnamed: FxHashMap<ModuleId, u64> = FxHashMap::default();
        for (cell, sum) in cells {
            let frame = FrameId(cell.frame);
            if self.names.name(frame).is_none() {
                *unnamed.entry(self.builder.frames.place(frame).module).or_default() += sum.samples;
            }
        }
        unnamed
    }

    /// The samples of the last `window` slices, to be looked at.
    pub fn view(&self, window: usize) -> View<'_> {
        let cells = self.last(window).map(|slice| slice.cells.as_slice()).collect();
        View::new((&self.builder, &self.names, &self.events), cells)
    }
}
