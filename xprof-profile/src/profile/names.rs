//! The names of frames: every code address is looked up once, module by module, the modules spread over the cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::BETWEEN_TICKS;

use super::builder::Builder;
use super::frames::FrameId;
use super::key::Value;
use crate::symbols::{Missing, Module, ModuleKind, Symbol, Symbolizer};
use crate::timeline::{Mode, ModuleId, Modules, Place};

/// Index of a function as stacks show it: one per symbol of a module, and one per address that has no symbol. Dense
/// from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// A function as views name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Name, or the address where there is none.
    pub symbol: Value,
    /// Short name of the module.
    pub dso: Arc<str>,
    /// Path of the module.
    pub path: Arc<str>,
    /// perf's letter of the mode its code runs in.
    pub letter: char,
}

/// A function: its name and where it, or the code that has no name, is.
#[derive(Clone, Debug)]
struct Function {
    name: Option<Arc<str>>,
    place: Place,
}

/// The names of all frames.
#[derive(Debug, Default)]
pub(super) struct Names {
    functions: Vec<Function>,
    /// By frame.
    by_frame: Vec<(FunctionId, Option<Symbol>)>,
    pub(super) missing: Vec<(ModuleId, Missing)>,
}

impl Names {
    /// The function that a frame is in.
    pub(super) fn function(&self, frame: FrameId) -> FunctionId {
        self.by_frame.get(frame.0 as usize).map_or(FunctionId(0), |f| f.0)
    }

    /// The symbol of a frame.
    pub(super) fn symbol(&self, frame: FrameId) -> Option<&Symbol> {
        self.by_frame.get(frame.0 as usize)?.1.as_ref()
    }

    /// Its name.
    pub(super) fn name(&self, frame: FrameId) -> Option<&Arc<str>> {
        Some(&self.symbol(frame)?.name)
    }
}

impl Builder {
    /// Gives the kernel the frames outside of its map that lie among its symbols. To be done before names are asked for.
    pub(super) fn adopt_kernel(&mut self, symbolizer: &Symbolizer) {
        let orphans = Modules::unknown(Mode::Kernel);
        let modules = self.timeline.modules();
        if let Some(id) = modules.kernel_image()
            && let Some(kernel) = modules.get(id)
            && self.frames.places().iter().any(|place| place.module == orphans)
        {
            self.frames.adopt(&symbolizer.kernel_extent(kernel), id);
        }
    }

    /// Looks up every frame.
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
        let mut functions = Functions::default();
        let mut by_frame = vec![(FunctionId(0), None); places.len()];
        let mut missing = Vec::new();
        for (id, list, (symbols, why)) in done {
            for (&(addr, frame), symbol) in list.iter().zip(symbols) {
                if let Some(slot) = by_frame.get_mut(frame as usize) {
                    *slot = (functions.of(Place { module: id, addr }, symbol.as_ref()), symbol);
                }
            }
            missing.extend(why.map(|m| (id, m)));
        }
        Names { functions: functions.list, by_frame, missing }
    }

    /// perf's letter of the mode in which a module's code runs; `-` for time in which nothing was seen.
    pub(super) fn letter(&self, module: ModuleId) -> char {
        let modules = self.timeline.modules();
        let unseen = modules.get(module).is_some_and(|m| m.path == BETWEEN_TICKS.as_bytes());
        if unseen { '-' } else { modules.mode(module).letter() }
    }

    /// All functions, by id.
    pub(super) fn function_names(&self, names: &Names) -> Vec<FunctionName> {
        let modules = self.timeline.modules();
        let mut texts: FxHashMap<ModuleId, (Arc<str>, Arc<str>)> = FxHashMap::default();
        let name = |Function { name, place }: &Function| {
            let (dso, path) = texts.entry(place.module).or_insert_with(|| {
                let path = modules.get(place.module).map(|m| String::from_utf8_lossy(&m.path)).unwrap_or_default();
                (String::from_utf8_lossy(modules.short_name(place.module)).into(), path.into())
            });
            let symbol = name.as_ref().map_or(Value::Address(place.addr), |name| Value::Text(name.clone()));
            let letter = self.letter(place.module);
            FunctionName { symbol, dso: dso.clone(), path: path.clone(), letter }
        };
        names.functions.iter().map(name).collect()
    }
}

/// Functions, each once.
#[derive(Default)]
struct Functions {
    list: Vec<Function>,
    ids: FxHashMap<(ModuleId, u64, bool), FunctionId>,
}

impl Functions {
    fn of(&mut self, place: Place, symbol: Option<&Symbol>) -> FunctionId {
        let start = symbol.map_or(place.addr, |s| s.start);
        let next = FunctionId(self.list.len() as u32);
        let id = *self.ids.entry((place.module, start, symbol.is_some())).or_insert(next);
        if id == next {
            let place = Place { addr: start, ..place };
            self.list.push(Function { name: symbol.map(|s| s.name.clone()), place });
        }
        id
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
