//! From cells to named rows.

use std::cmp::Ordering;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::NO_TASK;
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Cells, Sum};
use super::domains::{DomainNames, DomainTime, HostTime};
use super::event_table::EventTable;
use super::fold::Fold;
use super::frames::{FrameId, StackId};
use super::key::{Key, Value};
use super::names::{FunctionName, Names, Wanted};
use super::tree::{Chain, Node, Order, Trees};
use super::view::{RowOf, least};
use crate::supply::BuildId;
use crate::symbols::Symbolizer;
use crate::timeline::ModuleId;
use crate::unwind::TRUNCATED_NAME;

/// One line of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// One value per key.
    pub values: Vec<Value>,
    /// perf's letter of the mode the code ran in.
    pub letter: char,
    /// Samples that fell here.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
    /// Periods of samples that fell here or in something called from here; equal to `period` without stacks.
    pub children: u64,
    /// What its function calls, or what calls it ([`Order`]); empty without trees. Without a children column, and from
    /// callers to callees, the ways from the outermost callers down to it.
    pub nodes: Vec<Node>,
    /// Its stacks ([`Order::Flat`]).
    pub chains: Vec<Chain>,
}

impl Row {
    /// The heavier first; equal ones by their values.
    pub(super) fn by_weight(a: &Row, b: &Row, has_children: bool) -> Ordering {
        let weight = |row: &Row| if has_children { (row.children, row.period) } else { (row.period, row.samples) };
        weight(b).cmp(&weight(a)).then_with(|| a.values.cmp(&b.values))
    }
}

/// One event's share of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventProfile {
    /// Name.
    pub name: String,
    /// Samples that the filters let through.
    pub samples: u64,
    /// Sum of their periods (events).
    pub period: u64,
    /// How many samples of equal periods would tell as much as these: (sum of periods)^2 / (sum of their squares) (Kish).
    /// That is `samples` where all have one period.
    pub effective: u64,
    /// Records that the kernel could not store.
    pub lost: u64,
    /// Samples whose stack is larger than what was copied of it: it ends in `[truncated]`.
    pub truncated: u64,
    /// Samples whose stack is larger than what was copied of it, and whose outer frames are what the same thread showed before
    /// and after.
    pub completed: u64,
    /// Rows, by falling period (by falling children with stacks).
    pub rows: Vec<Row>,
}

/// A module that could not name all its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// Path of the module.
    pub path: String,
    /// Its short name.
    pub dso: String,
    /// Its build id, if the recording says it.
    pub build_id: Option<BuildId>,
    /// Samples in it without a name.
    pub samples: u64,
    /// What would supply names.
    pub advice: String,
}

/// What a report shows.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The keys of the rows.
    pub keys: Vec<Key>,
    /// Whether stacks were counted: rows have a children column.
    pub has_children: bool,
    /// How call trees were made, if they were.
    pub trees: Option<Trees>,
    /// The functions of the nodes, by [`super::FunctionId`].
    pub functions: Vec<FunctionName>,
    /// By event, in file order.
    pub events: Vec<EventProfile>,
    /// Modules without names, the heaviest first.
    pub unnamed: Vec<Unnamed>,
    /// Records that could not be decoded.
    pub damaged: u64,
    /// The domains of a Xen host with the time that their vCPUs ran, the most first.
    pub domains: Vec<DomainTime>,
    /// The host, where the recording says how long it was looked at.
    pub host: Option<HostTime>,
}

impl Builder {
    /// Names the frames and folds the cells into rows, with trees if they are asked for.
    pub fn finish(
        &mut self,
        events: &Events,
        symbolizer: &Symbolizer,
        has_children: bool,
        trees: Option<Trees>,
    ) -> Profile {
        self.adopt_kernel(symbolizer);
        let needs_names = self.keys.contains(&Key::Symbol) || !self.filter.symbols.is_empty() || trees.is_some();
        let inlined = trees.is_some_and(|trees| trees.inline);
        let wanted = Wanted { inlined, lines: self.keys.contains(&Key::Srcline), ..Wanted::default() };
        let names = if needs_names || wanted.lines { self.names(symbolizer, wanted) } else { Names::default() };
        self.fold(
            events,
            &names,
            ([self.cells.list()], Some(&self.cells)),
            Asked { keys: &self.keys, within: &[], has_children, trees, inline: true },
        )
    }

    /// Folds cells into rows. `whole` are the builder's own, which know more of each than its sum.
    pub(super) fn fold<'a>(
        &self,
        events: &Events,
        names: &Names,
        (cells, whole): (impl IntoIterator<Item = &'a [(Cell, Sum)], IntoIter: Clone>, Option<&Cells>),
        Asked { keys, within, has_children, trees, inline }: Asked<'_>,
    ) -> Profile {
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold = Fold::new((self, keys), &domains, names, &event_names).inlined(inline);
        let mut profiles: Vec<EventTable> = events.list().iter().map(|_| EventTable::default()).collect();
        let mut unnamed: FxHashMap<ModuleId, u64> = FxHashMap::default();
        let truncated = self.truncated_modules();
        let cells = cells.into_iter();
        for (index, &(ref cell, sum)) in cells.clone().flatten().enumerate() {
            let Some(table) = profiles.get_mut(cell.event as usize) else { continue };
            if !self.takes(names, cell) || !fold.is_within(cell, within) {
                continue;
            }
            let place = self.frames.place(FrameId(cell.frame));
            if names.name(FrameId(cell.frame)).is_none() {
                *unnamed.entry(place.module).or_default() += sum.samples;
            }
            table.add(&mut fold, cell, sum, has_children);
            if let Some(whole) = whole {
                table.squares += whole.squares().get(index).copied().unwrap_or(0.0);
                table.completed += whole.completed(index);
            }
            if self.is_truncated(&truncated, cell) {
                table.truncated += sum.samples;
            }
        }
        if let Some(trees) = trees {
            // Only what will be shown has a tree, and that is known when all is added up.
            for table in &mut profiles {
                table.plant(trees, has_children);
            }
            for &(ref cell, sum) in cells.flatten() {
                if let Some(table) = profiles.get_mut(cell.event as usize)
                    && self.takes(names, cell)
                    && fold.is_within(cell, within)
                {
                    table.grow(&mut fold, cell, sum, (trees.order, has_children));
                }
            }
        }
        let functions = if trees.is_some() { self.function_names(names) } else { Vec::new() };
        let rows = |table: EventTable| table.into_rows(has_children, trees);
        let events = events.list().iter().zip(profiles).enumerate().map(|(index, (event, table))| EventProfile {
            name: event.name.clone(),
            samples: table.total.samples,
            period: table.total.period,
            effective: table.effective(),
            lost: self.lost.get(index).map_or(0, |l| l.count()),
            truncated: table.truncated,
            completed: table.completed,
            rows: rows(table),
        });
        Profile {
            events: events.collect(),
            unnamed: self.advice(names, unnamed),
            keys: keys.to_vec(),
            has_children,
            trees,
            functions,
            damaged: self.damaged,
            domains: self.origins.times(&domains, [self.origins.seen()]),
            host: self.origins.host(),
        }
    }

    /// The modules that truncated stacks end in.
    pub(super) fn truncated_modules(&self) -> Vec<ModuleId> {
        let modules = (0u32..).map(ModuleId).zip(self.timeline.modules().list());
        modules.filter(|(_, m)| m.path == TRUNCATED_NAME).map(|(id, _)| id).collect()
    }

    /// Whether a cell's stack ends in one of these.
    pub(super) fn is_truncated(&self, truncated: &[ModuleId], cell: &Cell) -> bool {
        let outermost = self.frames.frames_of(StackId(cell.stack)).last();
        outermost.is_some_and(|&frame| truncated.contains(&self.frames.place(frame).module))
    }

    pub(super) fn domain_names(&self) -> DomainNames {
        let comm = |machine| self.timeline.comm(machine, NO_TASK).map(|c| String::from_utf8_lossy(c).into_owned());
        self.origins.names(comm)
    }

    pub(super) fn advice(&self, names: &Names, unnamed: FxHashMap<ModuleId, u64>) -> Vec<Unnamed> {
        let modules = self.timeline.modules();
        let mut list: Vec<Unnamed> = names
            .missing
            .iter()
            .filter_map(|(id, missing)| {
                let samples = *unnamed.get(id)?;
                let module = modules.get(*id)?;
                let path = String::from_utf8_lossy(&module.path).into_owned();
                let dso = String::from_utf8_lossy(modules.short_name(*id)).into_owned();
                Some(Unnamed { path, dso, build_id: module.build_id.clone(), samples, advice: missing.advice.clone() })
            })
            .collect();
        list.sort_by(|a, b| (b.samples, &a.path).cmp(&(a.samples, &b.path)));
        list
    }
}

impl Builder {
    /// The tree of one row: the event's period, the row's period with and without what it calls, and the tree. `None` when
    /// no sample is the row's.
    pub(super) fn tree_of<'a>(
        &self,
        events: &Events,
        names: &Names,
        cells: impl Iterator<Item = &'a [(Cell, Sum)]>,
        (row, order, inline): (&RowOf, Order, bool),
    ) -> Option<(u64, (u64, u64), Vec<Node>)> {
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold = Fold::new((self, &row.keys), &domains, names, &event_names).inlined(inline);
        let new = |values: &Vec<Value>| Row { values: values.clone(), ..Row::default() };
        let mut table = EventTable::of_rows(vec![new(&row.values)]);
        let root = table.arena.root();
        table.roots = vec![Some(root)];
        let (mut whole, mut own) = (0u64, 0u64);
        for &(ref cell, sum) in cells.flatten() {
            if cell.event as usize == row.event && self.takes(names, cell) && fold.is_within(cell, &row.within) {
                whole = whole.saturating_add(sum.period);
                table.grow(&mut fold, cell, sum, (order, true));
                let spot = fold.spot(cell);
                if table.row(&mut fold, cell, spot) == 0 {
                    own = own.saturating_add(sum.period);
                }
            }
        }
        let period = table.arena.period(root);
        (period > 0).then(|| (whole, (period, own), table.arena.below(root, least(whole))))
    }
}

/// What is asked of cells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// What rows are made of.
    pub(super) keys: &'a [Key],
    /// Only samples of which this holds.
    pub(super) within: &'a [(Key, Value)],
    pub(super) has_children: bool,
    pub(super) trees: Option<Trees>,
    /// With functions that were compiled into others.
    pub(super) inline: bool,
}
