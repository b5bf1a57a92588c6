//! From cells to named rows.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::domain::{BETWEEN_TICKS, NO_TASK};
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Sum};
use super::domains::{DomainNames, DomainTime};
use super::filter::Filter;
use super::frames::{FrameId, StackId};
use super::key::{Key, Value};
use crate::symbols::{Missing, Module, ModuleKind, Symbol, Symbolizer};
use crate::timeline::{Mode, ModuleId, ThreadId, ThreadName};

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Records that the kernel could not store.
    pub lost: u64,
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
    /// By event, in file order.
    pub events: Vec<EventProfile>,
    /// Modules without names, the heaviest first.
    pub unnamed: Vec<Unnamed>,
    /// Records that could not be decoded.
    pub damaged: u64,
    /// The domains of a Xen host with the time that their vCPUs ran, the most first.
    pub domains: Vec<DomainTime>,
}

/// The function of every frame.
pub(super) struct Names {
    pub(super) by_frame: Vec<Option<Symbol>>,
    missing: Vec<(ModuleId, Missing)>,
}

impl Builder {
    /// Names the frames and folds the cells into rows.
    pub fn finish(self, events: &Events, symbolizer: &Symbolizer, has_children: bool) -> Profile {
        let needs_names = self.keys.contains(&Key::Symbol) || !self.filter.symbols.is_empty();
        let names = if needs_names {
            self.names(symbolizer)
        } else {
            Names { by_frame: vec![None; self.frames.places().len()], missing: Vec::new() }
        };
        let event_names: Vec<Arc<str>> = events.list().iter().map(|e| e.name.as_str().into()).collect();
        let domains = self.domain_names();
        let mut fold =
            Fold { builder: &self, domains: &domains, names: &names, events: &event_names, texts: Texts::default() };
        let mut profiles: Vec<EventTable> = events.list().iter().map(|_| EventTable::default()).collect();
        let mut unnamed: FxHashMap<ModuleId, u64> = FxHashMap::default();
        for &(ref cell, sum) in self.cells.list() {
            let Some(table) = profiles.get_mut(cell.event as usize) else { continue };
            if !self.takes(&names, cell) {
                continue;
            }
            let place = self.frames.place(FrameId(cell.frame));
            if needs_names && names.by_frame.get(cell.frame as usize).is_some_and(Option::is_none) {
                *unnamed.entry(place.module).or_default() += sum.samples;
            }
            table.add(&mut fold, cell, sum, has_children);
        }
        let rows = |table: EventTable| table.into_rows(has_children);
        let events = events.list().iter().zip(profiles).enumerate().map(|(index, (event, table))| EventProfile {
            name: event.name.clone(),
            samples: table.total.samples,
            period: table.total.period,
            lost: self.lost.get(index).map_or(0, |l| l.count()),
            rows: rows(table),
        });
        Profile {
            events: events.collect(),
            unnamed: self.advice(&names, unnamed),
            keys: self.keys.clone(),
            has_children,
            damaged: self.damaged,
            domains: self.origins.times(&domains),
        }
    }

    fn domain_names(&self) -> DomainNames {
        let comm = |machine| self.timeline.comm(machine, NO_TASK).map(|c| String::from_utf8_lossy(c).into_owned());
        self.origins.names(comm)
    }

    /// Looks up every frame once, module by module, the modules spread over the cores.
    pub(super) fn names(&self, symbolizer: &Symbolizer) -> Names {
        let places = self.frames.places();
        let mut by_module: Vec<Vec<(u64, u32)>> = vec![Vec::new(); self.timeline.modules().list().len()];
        for (index, place) in places.iter().enumerate() {
            if let Some(list) = by_module.get_mut(place.module.0 as usize) {
                list.push((place.addr, index as u32));
            }
        }
        let mut jobs: Vec<(ModuleId, Vec<(u64, u32)>)> = (0u32..).map(ModuleId).zip(by_module).collect();
        jobs.retain(|(_, list)| !list.is_empty());
        for (_, list) in &mut jobs {
            list.sort_unstable();
        }
        // The module with the most addresses first: it is likely the slowest.
        jobs.sort_by_key(|(_, list)| std::cmp::Reverse(list.len()));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((id, list)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Some(module) = self.timeline.modules().get(*id) else { continue };
                let addresses: Vec<u64> = list.iter().map(|&(addr, _)| addr).collect();
                done.push((*id, list, lookup(symbolizer, module, &addresses)));
            }
            done
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(jobs.len());
        let done: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            done.extend(others.into_iter().filter_map(|t| t.join().ok()).flatten());
            done
        });
        let mut names = Names { by_frame: vec![None; places.len()], missing: Vec::new() };
        for (id, list, (symbols, missing)) in done {
            for (&(_, frame), symbol) in list.iter().zip(symbols) {
                if let (Some(slot), Some(symbol)) = (names.by_frame.get_mut(frame as usize), symbol) {
                    *slot = Some(symbol);
                }
            }
            names.missing.extend(missing.map(|m| (id, m)));
        }
        names
    }

    fn advice(&self, names: &Names, unnamed: FxHashMap<ModuleId, u64>) -> Vec<Unnamed> {
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

fn lookup(symbolizer: &Symbolizer, module: &Module, addresses: &[u64]) -> (Vec<Option<Symbol>>, Option<Missing>) {
    match module.kind {
        ModuleKind::Pseudo if module.path == BETWEEN_TICKS.as_bytes() => {
            let symbol = Symbol { name: BETWEEN_TICKS.into(), start: 0, size: u64::MAX };
            (vec![Some(symbol); addresses.len()], None)
        }
        ModuleKind::Pseudo => (vec![None; addresses.len()], None),
        ModuleKind::Ksymbol { start, len } => {
            let name: Arc<str> = String::from_utf8_lossy(&module.path).into();
            let symbol = Symbol { name, start, size: u64::from(len) };
            (vec![Some(symbol); addresses.len()], None)
        }
        _ => symbolizer.lookup(module, addresses),
    }
}

/// Texts of ids, made once.
#[derive(Default)]
struct Texts {
    comms: FxHashMap<ThreadName, Arc<str>>,
    dsos: FxHashMap<ModuleId, Arc<str>>,
    cgroups: FxHashMap<u64, Arc<str>>,
    modes: FxHashMap<Mode, Arc<str>>,
}

struct Fold<'a> {
    builder: &'a Builder,
    domains: &'a DomainNames,
    names: &'a Names,
    events: &'a [Arc<str>],
    texts: Texts,
}

impl Builder {
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
            let symbol = names.by_frame.get(cell.frame as usize).and_then(Option::as_ref);
            if !symbol.is_some_and(|symbol| Filter::names(&filter.symbols, &[&symbol.name])) {
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

impl Fold<'_> {
    fn value(&mut self, key: Key, cell: &Cell, frame: FrameId) -> Value {
        let timeline = &self.builder.timeline;
        let tasks = timeline.tasks();
        let place = self.builder.frames.place(frame);
        match key {
            Key::Domain => Value::Text(self.domains.name(self.builder.origins.get(cell.origin))),
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
            Key::Dso => {
                let text = || String::from_utf8_lossy(timeline.modules().short_name(place.module)).into();
                Value::Text(self.texts.dsos.entry(place.module).or_insert_with(text).clone())
            }
            Key::Symbol => match self.names.by_frame.get(frame.0 as usize) {
                Some(Some(symbol)) => Value::Text(symbol.name.clone()),
                _ => Value::Address(place.addr),
            },
            Key::Addr => Value::Address(place.addr),
            Key::Event => Value::Text(self.events.get(cell.event as usize).cloned().unwrap_or_else(|| "".into())),
            Key::Mode => {
                let mode = timeline.modules().mode(place.module);
                Value::Text(self.texts.modes.entry(mode).or_insert_with(|| mode.name().into()).clone())
            }
        }
    }

    fn values(&mut self, cell: &Cell, frame: FrameId) -> Vec<Value> {
        let builder = self.builder;
        builder.keys.iter().map(|&key| self.value(key, cell, frame)).collect()
    }
}

/// The rows of one event while they are added up.
#[derive(Default)]
struct EventTable {
    index: FxHashMap<Vec<Value>, usize>,
    rows: Vec<Row>,
    total: Sum,
}

impl EventTable {
    fn row(&mut self, fold: &mut Fold<'_>, cell: &Cell, frame: FrameId) -> usize {
        match self.index.entry(fold.values(cell, frame)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let module = fold.builder.frames.place(frame).module;
                let modules = fold.builder.timeline.modules();
                let unseen = modules.get(module).is_some_and(|m| m.path == BETWEEN_TICKS.as_bytes());
                let letter = if unseen { '-' } else { modules.mode(module).letter() };
                let values = entry.key().clone();
                self.rows.push(Row { values, letter, samples: 0, period: 0, children: 0 });
                *entry.insert(self.rows.len() - 1)
            }
        }
    }

    fn add(&mut self, fold: &mut Fold<'_>, cell: &Cell, sum: Sum, has_children: bool) {
        self.total.samples += sum.samples;
        self.total.period = self.total.period.saturating_add(sum.period);
        let own = self.row(fold, cell, FrameId(cell.frame));
        if let Some(row) = self.rows.get_mut(own) {
            row.samples += sum.samples;
            row.period = row.period.saturating_add(sum.period);
            row.children = row.children.saturating_add(sum.period);
        }
        if !has_children {
            return;
        }
        // A row counts a stack once, however often it recurs in it.
        let mut counted = FxHashSet::from_iter([own]);
        let builder = fold.builder;
        for &frame in builder.frames.frames_of(StackId(cell.stack)) {
            let row = self.row(fold, cell, frame);
            if counted.insert(row)
                && let Some(row) = self.rows.get_mut(row)
            {
                row.children = row.children.saturating_add(sum.period);
            }
        }
    }

    fn into_rows(self, has_children: bool) -> Vec<Row> {
        let mut rows = self.rows;
        let weight = |row: &Row| if has_children { (row.children, row.period) } else { (row.period, row.samples) };
        rows.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.values.cmp(&b.values)));
        rows
    }
}
