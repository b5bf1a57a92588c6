//! Cells looked at from one side or another: what screens ask for, one thing at a time.
//!
//! Names are made once; a table, the calls around a row, stacks and the heat of a function are folded when they are asked for.

use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Sum};
use super::functions::Functions;
use super::key::{Key, Value};
use super::names::{FunctionName, Names, Wanted};
use super::rows::{Asked, Profile};
use super::stacks::Stacks;
use super::tree::{Node, Order};
use crate::symbols::Symbolizer;

/// Nodes below this part of the event's period are put together in [`Calls`].
const SMALLEST: u64 = 2000;

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowOf {
    /// Index of the event.
    pub event: usize,
    /// The keys of the table.
    pub keys: Vec<Key>,
    /// Only samples of which this holds.
    pub within: Vec<(Key, Value)>,
    /// The row's values, one per key.
    pub values: Vec<Value>,
}

/// What calls the function of a row, and what it calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Functions, by [`super::FunctionId`].
    pub functions: Vec<FunctionName>,
    /// Periods of all samples of the event.
    pub whole: u64,
    /// Periods of the samples that fell in the row, or in something called from there.
    pub period: u64,
    /// Periods of those that fell in the row itself.
    pub own: u64,
    /// Its callers, theirs below them.
    pub callers: Vec<Node>,
    /// What it calls.
    pub callees: Vec<Node>,
}

/// A recording whose names are made.
#[derive(Debug)]
pub struct Named {
    builder: Builder,
    names: Names,
    events: Events,
}

impl Builder {
    /// Names the frames; views are made of the result.
    pub fn name(mut self, events: &Events, symbolizer: &Symbolizer) -> Named {
        self.adopt_kernel(symbolizer);
        let names = self.names(symbolizer, Wanted { lines: self.keys.contains(&Key::Srcline), ..Wanted::default() });
        Named { builder: self, names, events: events.clone() }
    }
}

impl Named {
    /// Looks up the functions that were compiled into others: calls and stacks can show them from now on. Rows of tables are what
    /// code is part of.
    pub fn inline(&mut self, symbolizer: &Symbolizer) {
        self.names = self.builder.names(
            symbolizer,
            Wanted { inlined: true, lines: self.builder.keys.contains(&Key::Srcline), ..Wanted::default() },
        );
    }

    /// All of it.
    pub fn view(&self) -> View<'_> {
        View::new((&self.builder, &self.names, &self.events), vec![self.builder.cells.list()])
    }
}

/// Cells with their names.
#[derive(Debug)]
pub struct View<'a> {
    builder: &'a Builder,
    names: &'a Names,
    events: &'a Events,
    cells: Vec<&'a [(Cell, Sum)]>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        (builder, names, events): (&'a Builder, &'a Names, &'a Events),
        cells: Vec<&'a [(Cell, Sum)]>,
    ) -> View<'a> {
        View { builder, names, events, cells }
    }

    /// The rows with these keys, of the samples of which `within` holds.
    pub fn table(&self, keys: &[Key], within: &[(Key, Value)], has_children: bool) -> Profile {
        let asked = Asked { keys, within, has_children, trees: None, inline: false };
        self.builder.fold(self.events, self.names, (self.cells.iter().copied(), None), asked)
    }

    /// The calls around a row, with functions that were compiled into others, if they were looked up, or without; `None` when there is
    /// no such row.
    pub fn calls(&self, row: &RowOf, inline: bool) -> Option<Calls> {
        let tree =
            |order| self.builder.tree_of(self.events, self.names, self.cells.iter().copied(), (row, order, inline));
        let (whole, sums, callers) = tree(Order::Callee)?;
        let (_, _, callees) = tree(Order::Caller)?;
        let functions = self.builder.function_names(self.names);
        Some(Calls { functions, whole, period: sums.0, own: sums.1, callers, callees })
    }

    /// Stacks, by the values of `keys`, of the samples of which `within` holds; `inline` as in [`View::calls`].
    pub fn stacks(&self, keys: &[Key], within: &[(Key, Value)], inline: bool) -> Stacks {
        self.builder.stacks_of((self.events, self.names, inline), self.cells.iter().copied(), (keys, within), |_, _| ())
    }

    /// The functions of this name, in modules of this short name.
    pub fn functions(&self, dso: &str, symbol: &str) -> Functions {
        let modules = self.builder.timeline.modules();
        self.builder.functions_of(self.events, self.names, self.cells.iter().copied(), |frame| {
            let module = self.builder.frames.place(frame).module;
            self.names.name(frame).is_some_and(|name| **name == *symbol)
                && String::from_utf8_lossy(modules.short_name(module)) == dso
        })
    }
}

/// The least period of a node that is shown for itself.
pub(super) fn least(whole: u64) -> u64 {
    (whole / SMALLEST).max(1)
}
