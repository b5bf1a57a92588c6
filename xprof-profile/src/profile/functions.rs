//! From cells to functions and the addresses in them that samples fell on: what `annotate` shows.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::cells::{Cell, Sum};
use super::frames::FrameId;
use super::names::{Names, Wanted};
use crate::symbols::{Module, Symbol, Symbolizer};
use crate::timeline::ModuleId;

/// Samples that fell on one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heat {
    /// Samples.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
}

impl Heat {
    /// Adds another.
    pub fn add(&mut self, other: Heat) {
        self.samples += other.samples;
        self.period = self.period.saturating_add(other.period);
    }
}

/// A function that samples of one event fell in.
#[derive(Clone, Debug)]
pub struct Function {
    /// The module it is part of.
    pub module: Module,
    /// Short name of the module.
    pub dso: String,
    /// Its name and place. Addresses are the module's: file offsets for files, run-time addresses for the kernel.
    pub symbol: Symbol,
    /// Index of the event.
    pub event: usize,
    /// All of its samples.
    pub heat: Heat,
    /// Its samples by address.
    pub spots: BTreeMap<u64, Heat>,
}

/// The functions of a recording.
#[derive(Clone, Debug)]
pub struct Functions {
    /// Names of the events and all their samples, those outside of functions too.
    pub events: Vec<(String, Heat)>,
    /// By event, and by falling period.
    pub list: Vec<Function>,
    /// Records that could not be decoded.
    pub damaged: u64,
}

impl Builder {
    /// Names the code addresses and adds samples up by function. Samples without a name are in no function.
    pub fn functions(mut self, events: &Events, symbolizer: &Symbolizer) -> Functions {
        self.adopt_kernel(symbolizer);
        let names = self.names(symbolizer, Wanted::default());
        self.functions_of(events, &names, [self.cells.list()], |_| true)
    }

    /// The functions of cells, of those frames that are wanted.
    pub(super) fn functions_of<'a>(
        &self,
        events: &Events,
        names: &Names,
        cells: impl IntoIterator<Item = &'a [(Cell, Sum)]>,
        mut is_wanted: impl FnMut(FrameId) -> bool,
    ) -> Functions {
        let mut totals: Vec<(String, Heat)> =
            events.list().iter().map(|event| (event.name.clone(), Heat::default())).collect();
        let mut index: FxHashMap<(usize, ModuleId, u64), usize> = FxHashMap::default();
        let mut list: Vec<Function> = Vec::new();
        for &(ref cell, Sum { samples, period }) in cells.into_iter().flatten() {
            let event = cell.event as usize;
            let (heat, frame) = (Heat { samples, period }, FrameId(cell.frame));
            match totals.get_mut(event) {
                Some((_, total)) if self.takes(names, cell) => total.add(heat),
                _ => continue,
            }
            if !is_wanted(frame) {
                continue;
            }
            let place = self.frames.place(frame);
            let modules = self.timeline.modules();
            let symbol = names.symbol(frame);
            let (Some(symbol), Some(module)) = (symbol, modules.get(place.module)) else { continue };
            let at = *index.entry((event, place.module, symbol.start)).or_insert_with(|| {
                let dso = String::from_utf8_lossy(modules.short_name(place.module)).into_owned();
                let (module, symbol, spots) = (module.clone(), symbol.clone(), BTreeMap::new());
                list.push(Function { module, dso, symbol, event, heat: Heat::default(), spots });
                list.len() - 1
            });
            let function = &mut list[at];
            function.heat.add(heat);
            function.spots.entry(place.addr).or_default().add(heat);
        }
        list.sort_by(|a, b| {
            (a.event, b.heat.period, &a.symbol.name, a.symbol.start).cmp(&(
                b.event,
                a.heat.period,
                &b.symbol.name,
                b.symbol.start,
            ))
        });
        Functions { events: totals, list, damaged: self.damaged }
    }
}
