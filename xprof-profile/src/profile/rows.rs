//! From cells to named rows.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::NO_TASK;
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Cells, Sum};
use super::domains::{DomainNames, DomainTime, HostTime};
use super::filter::Filter;
use super::frames::{FrameId, StackId};
use super::key::{Key, Value};
use super::names::{FunctionId, FunctionName, Names, Wanted};
use super::tree::{Arena, Chain, Node, Order, Trees};
use super::view::{RowOf, least};
use crate::symbols::{ModuleKind, Symbolizer};
use crate::timeline::{Mode, ModuleId, Place, ThreadId, ThreadName};
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
        let wanted = Wanted { inlined, lines: self.keys.contains(&Key::Srcline) };
        let names = if needs_names || wanted.lines { self.names(symbolizer, wanted) } else { Names::default() };
        self.fold(
            events,
            &names,
            ([self.cells.list()], Some(&self.cells)),
            Asked { keys: &self.keys, within: &[], has_children, trees },
        )
    }

    /// Folds cells into rows. `whole` are the builder's own, which know more of each than its sum.
    pub(super) fn fold<'a>(
        &self,
        events: &Events,
        names: &Names,
        (cells, whole): (impl IntoIterator<Item = &'a [(Cell, Sum)], IntoIter: Clone>, Option<&Cells>),
        Asked { keys, within, has_children, trees }: Asked<'_>,
    ) -> Profile {
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold = Fold::new((self, keys), &domains, names, &event_names);
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
                let path = String::from_utf8_lossy(&modules.get(*id)?.path).into_owned();
                Some(Unnamed { path, samples, advice: missing.advice.clone() })
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
        (row, order): (&RowOf, Order),
    ) -> Option<(u64, (u64, u64), Vec<Node>)> {
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold = Fold::new((self, &row.keys), &domains, names, &event_names);
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
}

/// Texts of ids, made once.
#[derive(Default)]
struct Texts {
    comms: FxHashMap<ThreadName, Arc<str>>,
    dsos: FxHashMap<ModuleId, Arc<str>>,
    cgroups: FxHashMap<u64, Arc<str>>,
    modes: FxHashMap<Mode, Arc<str>>,
}

pub(super) struct Fold<'a> {
    builder: &'a Builder,
    keys: &'a [Key],
    domains: &'a DomainNames,
    names: &'a Names,
    events: &'a [Arc<str>],
    texts: Texts,
}

impl Builder {
    /// The address shown of a place without a name: perf counts in a kernel module from its start.
    fn unnamed(&self, place: Place) -> u64 {
        let module = self.timeline.modules().get(place.module);
        let map = self.timeline.map(0, Mode::Kernel, place.addr);
        match (module, map) {
            (Some(module), Some(map)) if module.kind == ModuleKind::KernelModule => place.addr - map.start,
            _ => place.addr,
        }
    }

    /// What only names can decide: whether the filters let a cell through.
    pub(super) fn takes(&self, names: &Names, cell: &Cell) -> bool {
        let filter = &self.filter;
        let timeline = &self.timeline;
        if !filter.comms.is_empty() {
            let key = timeline.tasks().key(ThreadId(cell.thread));
            if !Filter::names(&filter.comms, &[&String::from_utf8_lossy(timeline.tasks().comm(key.comm))]) {
                return false;
            }
        }
        if !filter.dsos.is_empty() {
            let module = self.frames.place(FrameId(cell.frame)).module;
            let short = String::from_utf8_lossy(timeline.modules().short_name(module));
            let path = timeline.modules().get(module).map(|m| String::from_utf8_lossy(&m.path)).unwrap_or_default();
            if !Filter::names(&filter.dsos, &[&short, &path]) {
                return false;
            }
        }
        if !filter.symbols.is_empty() {
            let name = names.name(FrameId(cell.frame));
            if !name.is_some_and(|name| Filter::names(&filter.symbols, &[&**name])) {
                return false;
            }
        }
        filter.cgroups.is_empty()
            || Filter::names(
                &filter.cgroups,
                &[&String::from_utf8_lossy(timeline.cgroup(cell.cgroup).unwrap_or_default())],
            )
    }
}

impl<'a> Fold<'a> {
    /// Of rows with these keys.
    pub(super) fn new(
        (builder, keys): (&'a Builder, &'a [Key]),
        domains: &'a DomainNames,
        names: &'a Names,
        events: &'a [Arc<str>],
    ) -> Fold<'a> {
        Fold { builder, keys, domains, names, events, texts: Texts::default() }
    }

    /// Whether all this holds of a cell.
    pub(super) fn is_within(&mut self, cell: &Cell, within: &[(Key, Value)]) -> bool {
        within.iter().all(|(key, value)| self.value(*key, cell, FrameId(cell.frame), None) == *value)
    }

    /// What decides a row, in numbers: two times the same means the same row. The name of a thread may come late, so it is
    /// part of it. This is the cell's part; [`RowSpot::at`] adds the frame's.
    fn spot(&self, cell: &Cell) -> RowSpot {
        let has = |key| self.keys.contains(&key);
        let comm = self.builder.timeline.tasks().key(ThreadId(cell.thread)).comm;
        RowSpot {
            thread: (if has(Key::Pid) || has(Key::Tid) || has(Key::For) { cell.thread } else { 0 }, comm),
            code: (FrameId(cell.frame), None),
            cpu: if has(Key::Cpu) { cell.cpu } else { 0 },
            origin: if has(Key::Domain) || has(Key::Vcpu) || has(Key::For) { cell.origin } else { 0 },
            cgroup: if has(Key::Cgroup) { cell.cgroup } else { 0 },
        }
    }

    fn value(&mut self, key: Key, cell: &Cell, frame: FrameId, inlined: Option<FunctionId>) -> Value {
        let timeline = &self.builder.timeline;
        let tasks = timeline.tasks();
        let place = self.builder.frames.place(frame);
        match key {
            Key::Domain => Value::Text(self.domains.name(self.builder.origins.get(cell.origin))),
            Key::For => {
                let thread = tasks.key(ThreadId(cell.thread));
                let origin = self.builder.origins.get(cell.origin);
                Value::Text(self.domains.served(origin, tasks.comm(thread.comm), thread.pid))
            }
            Key::Vcpu => Value::Number(self.builder.origins.get(cell.origin).vcpu),
            Key::Comm => {
                let name = tasks.key(ThreadId(cell.thread)).comm;
                let text = || String::from_utf8_lossy(tasks.comm(name)).into();
                Value::Text(self.texts.comms.entry(name).or_insert_with(text).clone())
            }
            Key::Pid => Value::Number(i64::from(tasks.key(ThreadId(cell.thread)).pid as i32)),
            Key::Tid => Value::Number(i64::from(tasks.key(ThreadId(cell.thread)).tid as i32)),
            Key::Cpu => Value::Number(i64::from(cell.cpu as i32)),
            Key::Cgroup => {
                let text = || match timeline.cgroup(cell.cgroup) {
                    Some(path) => String::from_utf8_lossy(path).into(),
                    None => format!("unknown[{}]", cell.cgroup).into(),
                };
                Value::Text(self.texts.cgroups.entry(cell.cgroup).or_insert_with(text).clone())
            }
            Key::Dso => Value::Text(self.dso(place.module)),
            Key::Symbol if let Some(name) = inlined.and_then(|f| self.names.function(f).1) => {
                Value::Text(format!("{name} (inlined)").into())
            }
            Key::Srcline => {
                let line = self.names.line(frame).cloned();
                Value::Text(line.unwrap_or_else(|| "??:0".into()))
            }
            Key::Symbol => match self.names.name(frame) {
                Some(name) => Value::Text(name.clone()),
                None => Value::Address(self.builder.unnamed(place)),
            },
            Key::Addr => Value::Address(place.addr),
            Key::Event => Value::Text(self.events.get(cell.event as usize).cloned().unwrap_or_else(|| "".into())),
            Key::Mode => {
                let mode = timeline.modules().mode(place.module);
                Value::Text(self.texts.modes.entry(mode).or_insert_with(|| mode.name().into()).clone())
            }
        }
    }

    fn dso(&mut self, module: ModuleId) -> Arc<str> {
        let text = || String::from_utf8_lossy(self.builder.timeline.modules().short_name(module)).into();
        self.texts.dsos.entry(module).or_insert_with(text).clone()
    }

    /// The values of a frame, or of a function that was compiled into it.
    pub(super) fn values(&mut self, cell: &Cell, frame: FrameId, inlined: Option<FunctionId>) -> Vec<Value> {
        let keys = self.keys;
        keys.iter().map(|&key| self.value(key, cell, frame, inlined)).collect()
    }
}

/// See [`Fold::spot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RowSpot {
    thread: (u32, ThreadName),
    code: (FrameId, Option<FunctionId>),
    cpu: u32,
    origin: u32,
    cgroup: u64,
}

impl RowSpot {
    /// Of a frame of the cell's stack, or of a function that was compiled into it.
    fn at(self, names: &Names, (frame, function): (FrameId, FunctionId)) -> RowSpot {
        RowSpot { code: (frame, Some(function).filter(|&f| names.function(f).0)), ..self }
    }
}

/// The rows of one event while they are added up.
#[derive(Debug, Default)]
pub(super) struct EventTable {
    index: FxHashMap<Vec<Value>, usize>,
    /// Rows that were found already.
    found: FxHashMap<RowSpot, usize>,
    pub(super) rows: Vec<Row>,
    /// By row: the number of the stack that it was counted with last. A set for each stack took longer than all else.
    counted: Vec<u32>,
    count: u32,
    pub(super) total: Sum,
    /// The squares of all periods, added up.
    squares: f64,
    /// The trees of rows: root by row, where it has one.
    arena: Arena,
    roots: Vec<Option<u32>>,
    truncated: u64,
    completed: u64,
}

impl EventTable {
    /// With these rows.
    pub(super) fn of_rows(rows: Vec<Row>) -> EventTable {
        let index = rows.iter().enumerate().map(|(at, row)| (row.values.clone(), at)).collect();
        EventTable { index, rows, ..EventTable::default() }
    }

    /// Whether rows were found by more than `most` numbers.
    pub(super) fn is_crowded(&self, most: usize) -> bool {
        self.found.len() > most
    }

    /// The numbers that rows were found by mean something else from now on.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }

    fn row(&mut self, fold: &mut Fold<'_>, cell: &Cell, spot: RowSpot) -> usize {
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
        // A row counts a stack once, however often it recurs in it.
        self.begin_counting();
        self.counts(own);
        let (builder, names) = (fold.builder, fold.names);
        for place in expand(names, builder.frames.frames_of(StackId(cell.stack))) {
            let row = self.row(fold, cell, spot.at(names, place));
            if self.counts(row)
                && let Some(row) = self.rows.get_mut(row)
            {
                row.children = row.children.saturating_add(sum.period);
            }
        }
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

    fn effective(&self) -> u64 {
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
    fn plant(&mut self, trees: Trees, has_children: bool) {
        let least = self.least(trees.limit);
        for row in &self.rows {
            let weight = if has_children { row.children } else { row.period };
            self.roots.push((weight > 0 && weight >= least).then(|| self.arena.root()));
        }
    }

    /// Adds a stack to the trees of the rows that it belongs to.
    fn grow(&mut self, fold: &mut Fold<'_>, cell: &Cell, sum: Sum, (order, has_children): (Order, bool)) {
        let (builder, names) = (fold.builder, fold.names);
        let own = [FrameId(cell.frame)];
        let stack = match builder.frames.frames_of(StackId(cell.stack)) {
            [] => &own,
            stack => stack,
        };
        let of_functions = fold.keys.contains(&Key::Symbol);
        let stack: Vec<(FrameId, FunctionId)> = expand(names, stack).collect();
        let way = |&(_, function): &(FrameId, FunctionId)| (function, names.function(function).0);
        self.begin_counting();
        let spot = fold.spot(cell);
        // The outermost frame of a row is where its tree stands; without a children column, the leaf: not what was
        // compiled into it.
        let leaf = names.functions(stack[0].0).count() - 1;
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

    fn into_rows(self, has_children: bool, trees: Option<Trees>) -> Vec<Row> {
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

/// The functions of a stack with the frame that each is in, leaf first.
fn expand(names: &Names, stack: &[FrameId]) -> impl Iterator<Item = (FrameId, FunctionId)> {
    stack.iter().flat_map(|&frame| names.functions(frame).map(move |function| (frame, function)))
}
