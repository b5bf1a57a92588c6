//! Which row a frame of a cell belongs to: first in numbers, then in the values of the keys.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::builder::Builder;
use super::cells::Cell;
use super::domains::DomainNames;
use super::filter::Filter;
use super::frames::FrameId;
use super::key::{Key, Value};
use super::names::{FunctionId, Names};
use crate::comparison::UNNAMED;
use crate::symbols::ModuleKind;
use crate::timeline::{Mode, ModuleId, Place, ThreadId, ThreadName};

/// Texts of ids, made once.
#[derive(Default)]
struct Texts {
    comms: FxHashMap<ThreadName, Arc<str>>,
    dsos: FxHashMap<ModuleId, Arc<str>>,
    cgroups: FxHashMap<u64, Arc<str>>,
    modes: FxHashMap<Mode, Arc<str>>,
}

/// Cells on their way to rows of some keys.
pub(super) struct Fold<'a> {
    pub(super) builder: &'a Builder,
    pub(super) keys: &'a [Key],
    domains: &'a DomainNames,
    pub(super) names: &'a Names,
    events: &'a [Arc<str>],
    texts: Texts,
    /// With functions that were compiled into others, as far as names were looked up with them.
    pub(super) inline: bool,
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
        Fold { builder, keys, domains, names, events, texts: Texts::default(), inline: true }
    }

    /// With functions that were compiled into others, or without.
    pub(super) fn inlined(self, inline: bool) -> Fold<'a> {
        Fold { inline, ..self }
    }

    /// The functions of a frame, innermost first.
    pub(super) fn functions(&self, frame: FrameId) -> impl Iterator<Item = FunctionId> + use<'a> {
        self.names.functions(frame, self.inline)
    }

    /// The functions of a stack with the frame that each is in, leaf first.
    pub(super) fn expand<'s>(&self, stack: &'s [FrameId]) -> impl Iterator<Item = (FrameId, FunctionId)> + use<'a, 's> {
        let (names, inline) = (self.names, self.inline);
        stack.iter().flat_map(move |&frame| names.functions(frame, inline).map(move |function| (frame, function)))
    }

    /// Whether all this holds of a cell.
    pub(super) fn is_within(&mut self, cell: &Cell, within: &[(Key, Value)]) -> bool {
        within.iter().all(|(key, value)| self.value(*key, cell, FrameId(cell.frame), None) == *value)
    }

    /// What decides a row, in numbers: two times the same means the same row. The name of a thread may come late, so it is
    /// part of it. This is of the cell's own frame; [`RowSpot::at`] is of another one.
    pub(super) fn spot(&self, cell: &Cell) -> RowSpot {
        let has = |key| self.keys.contains(&key);
        let comm = self.builder.timeline.tasks().key(ThreadId(cell.thread)).comm;
        let of_cell = CellSpot {
            thread: (if has(Key::Pid) || has(Key::Tid) || has(Key::For) { cell.thread } else { 0 }, comm),
            cpu: if has(Key::Cpu) { cell.cpu } else { 0 },
            origin: if has(Key::Domain) || has(Key::Vcpu) || has(Key::For) { cell.origin } else { 0 },
            cgroup: if has(Key::Cgroup) { cell.cgroup } else { 0 },
        };
        RowSpot { cell: of_cell, code: (FrameId(cell.frame), None) }
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
                None if self.builder.unnamed_as_one => Value::Text(UNNAMED.into()),
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
pub(super) struct RowSpot {
    pub(super) cell: CellSpot,
    pub(super) code: (FrameId, Option<FunctionId>),
}

/// The part of a [`RowSpot`] that is the same for all frames of a cell's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CellSpot {
    thread: (u32, ThreadName),
    cpu: u32,
    origin: u32,
    cgroup: u64,
}

impl CellSpot {
    /// The same in numbers.
    pub(super) fn numbers(&self) -> [u32; 6] {
        let (thread, comm) = self.thread;
        [thread, comm.0, self.cpu, self.origin, self.cgroup as u32, (self.cgroup >> 32) as u32]
    }
}

impl RowSpot {
    /// Of a frame of the cell's stack, or of a function that was compiled into it.
    pub(super) fn at(self, names: &Names, (frame, function): (FrameId, FunctionId)) -> RowSpot {
        RowSpot { code: (frame, Some(function).filter(|&f| names.function(f).0)), ..self }
    }
}
