//! The names of frames: every code address is looked up once, module by module, the modules spread over the cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::domain::is_unseen;

use super::builder::Builder;
use super::frames::FrameId;
use super::key::Value;
use crate::symbols::{Line, Missing, Module, ModuleKind, Symbol, Symbolizer};
use crate::timeline::{Mode, ModuleId, Modules, Place};
use crate::unwind::TRUNCATED_NAME;

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
    /// It was compiled into the function that calls it.
    pub inlined: bool,
}

/// A function: its name and where it, or the code that has no name, is.
#[derive(Clone, Debug)]
struct Function {
    name: Option<Arc<str>>,
    place: Place,
    inlined: bool,
}

/// What is known of a frame.
#[derive(Clone, Debug)]
struct Named {
    symbol: Option<Symbol>,
    /// Where its innermost line stands, if it is known.
    line: Option<u32>,
}

/// What stacks show of a frame, apart from the rest because they ask for it millions of times.
#[derive(Clone, Copy, Debug)]
struct Code {
    function: FunctionId,
    /// Functions compiled into it.
    inlined: (u32, u32),
}

/// What is looked up besides symbols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Functions compiled into others.
    pub(super) inlined: bool,
    /// Source lines.
    pub(super) lines: bool,
    /// Where each function of a frame goes on: [`Names::located`].
    pub(super) places: bool,
}

/// A function of a frame, and the source file and line (0: not known) at which it runs or calls.
pub type FunctionAt = (FunctionId, Option<(Arc<str>, u32)>);

/// The names of all frames.
#[derive(Debug, Default)]
pub(super) struct Names {
    functions: Functions,
    by_frame: Vec<Option<Named>>,
    code: Vec<Code>,
    inlined: Vec<FunctionId>,
    /// By frame, if that was wanted.
    located: Vec<Vec<FunctionAt>>,
    pub(super) missing: Vec<(ModuleId, Missing)>,
}

impl Names {
    fn named(&self, frame: FrameId) -> Option<&Named> {
        self.by_frame.get(frame.0 as usize)?.as_ref()
    }

    /// The functions of a frame, innermost first: those compiled into it, if they are wanted, then the one that its code is part of.
    pub(super) fn functions(&self, frame: FrameId, inline: bool) -> impl Iterator<Item = FunctionId> + use<'_> {
        let (inlined, function) = self.code(frame, inline);
        inlined.iter().copied().chain([function])
    }

    /// The functions compiled into a frame, innermost first, and the one that its code is part of.
    #[inline]
    pub(super) fn code(&self, frame: FrameId, inline: bool) -> (&[FunctionId], FunctionId) {
        match self.code.get(frame.0 as usize) {
            Some(Code { function, inlined: (from, to) }) if inline && from < to => {
                (self.inlined.get(*from as usize..*to as usize).unwrap_or_default(), *function)
            }
            Some(Code { function, .. }) => (&[], *function),
            None => (&[], FunctionId(0)),
        }
    }

    /// Whether a function was compiled into others; and its name, if it has one.
    pub(super) fn function(&self, id: FunctionId) -> (bool, Option<&Arc<str>>) {
        self.functions.list.get(id.0 as usize).map_or((false, None), |f| (f.inlined, f.name.as_ref()))
    }

    /// The symbol of a frame.
    pub(super) fn symbol(&self, frame: FrameId) -> Option<&Symbol> {
        self.named(frame)?.symbol.as_ref()
    }

    /// Its name.
    pub(super) fn name(&self, frame: FrameId) -> Option<&Arc<str>> {
        Some(&self.symbol(frame)?.name)
    }

    /// Tells which functions were compiled into a frame, by the lines at its address.
    fn learn_inlined(&mut self, module: ModuleId, frame: u32, at: &[Line]) {
        let from = self.inlined.len() as u32;
        // The outermost is the function itself.
        for line in at.split_last().map_or(&[][..], |(_, inlined)| inlined) {
            self.inlined.extend(line.name.as_ref().map(|name| self.functions.inlined(module, name)));
        }
        let inlined = (from, self.inlined.len() as u32);
        if let Some(code) = self.code.get_mut(frame as usize) {
            code.inlined = inlined;
        }
    }

    /// Whether the places of frames were looked up.
    pub(super) fn is_located(&self) -> bool {
        !self.located.is_empty()
    }

    /// What [`Names::functions`] gives, with the places in the source of each.
    pub(super) fn located(&self, frame: FrameId) -> &[FunctionAt] {
        self.located.get(frame.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Source file and line of a frame.
    pub(super) fn line(&self, frame: FrameId) -> Option<&Arc<str>> {
        self.functions.lines.get(self.named(frame)?.line? as usize)
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
    pub(super) fn names(&self, symbolizer: &Symbolizer, wanted: Wanted) -> Names {
        let mut names = Names::default();
        self.name_frames(&mut names, symbolizer, wanted);
        names
    }

    /// Looks up the frames that `names` has not looked up yet.
    pub(super) fn name_frames(&self, names: &mut Names, symbolizer: &Symbolizer, wanted: Wanted) {
        let places = self.frames.places();
        let known = names.by_frame.len();
        let mut by_module: Vec<Vec<(u64, u32)>> = vec![Vec::new(); self.timeline.modules().list().len()];
        for (index, place) in places.iter().enumerate().skip(known) {
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
                let lines = match wanted {
                    Wanted { inlined: false, lines: false, places: false } => Vec::new(),
                    _ => symbolizer.lines(module, &addresses),
                };
                done.push((*id, list, lookup(symbolizer, module, &addresses), lines));
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
        names.by_frame.resize(places.len(), None);
        names.code.resize(places.len(), Code { function: FunctionId(0), inlined: (0, 0) });
        if wanted.places {
            names.located.resize(places.len(), Vec::new());
        }
        for (id, list, (symbols, why), lines) in done {
            let mut lines = lines.into_iter();
            for (&(addr, frame), symbol) in list.iter().zip(symbols) {
                let functions = &mut names.functions;
                let function = functions.of(Place { module: id, addr }, symbol.as_ref());
                let at = lines.next().unwrap_or_default();
                let line = at
                    .first()
                    .filter(|_| wanted.lines)
                    .and_then(|line| Some(functions.line(line.file.as_ref()?, line.line)));
                if let Some(slot) = names.located.get_mut(frame as usize) {
                    *slot = functions.located(id, function, &at, wanted.inlined);
                }
                if let Some(slot) = names.by_frame.get_mut(frame as usize) {
                    *slot = Some(Named { symbol, line });
                }
                if let Some(slot) = names.code.get_mut(frame as usize) {
                    *slot = Code { function, inlined: (0, 0) };
                }
                if wanted.inlined {
                    names.learn_inlined(id, frame, &at);
                }
            }
            if let Some(why) = why {
                names.missing.retain(|(known, _)| *known != id);
                names.missing.push((id, why));
            }
        }
    }

    /// Frames among these whose lines have not been asked for yet, by module, their addresses sorted. What is only an address, or
    /// has no file, has none.
    pub(super) fn unread(&self, frames: impl Iterator<Item = FrameId>, asked: &mut FxHashSet<FrameId>) -> Unread {
        let mut by_module: FxHashMap<ModuleId, Addresses> = FxHashMap::default();
        for frame in frames.filter(|frame| asked.insert(*frame)) {
            let place = self.frames.place(frame);
            by_module.entry(place.module).or_default().push((place.addr, frame.0));
        }
        let modules = self.timeline.modules();
        let of_module = |(id, mut list): (ModuleId, Vec<(u64, u32)>)| {
            let module = modules.get(id).filter(|module| module.kind == ModuleKind::User)?.clone();
            list.sort_unstable();
            Some((id, module, list))
        };
        Unread(by_module.into_iter().filter_map(of_module).collect())
    }

    /// perf's letter of the mode in which a module's code runs; `-` for time in which nothing was seen.
    pub(super) fn letter(&self, module: ModuleId) -> char {
        let modules = self.timeline.modules();
        let unseen = modules.get(module).is_some_and(|m| is_unseen(&m.path));
        if unseen { '-' } else { modules.mode(module).letter() }
    }

    /// All functions, by id.
    pub(super) fn function_names(&self, names: &Names) -> Vec<FunctionName> {
        let modules = self.timeline.modules();
        let mut texts: FxHashMap<ModuleId, (Arc<str>, Arc<str>)> = FxHashMap::default();
        let name = |Function { name, place, inlined }: &Function| {
            let (dso, path) = texts.entry(place.module).or_insert_with(|| {
                let path = modules.get(place.module).map(|m| String::from_utf8_lossy(&m.path)).unwrap_or_default();
                (String::from_utf8_lossy(modules.short_name(place.module)).into(), path.into())
            });
            let symbol = name.as_ref().map_or(Value::Address(place.addr), |name| Value::Text(name.clone()));
            let letter = self.letter(place.module);
            FunctionName { symbol, dso: dso.clone(), path: path.clone(), letter, inlined: *inlined }
        };
        names.functions.list.iter().map(name).collect()
    }
}

/// Addresses of a module and the frames that they are, in order.
type Addresses = Vec<(u64, u32)>;

/// Frames whose lines are still to be read: by module, with their addresses.
#[derive(Clone, Debug, Default)]
pub struct Unread(Vec<(ModuleId, Module, Addresses)>);

impl Unread {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them, which takes as long as their debug information is large.
    pub fn read(self, symbolizer: &Symbolizer) -> Read {
        let of_module = |(id, module, list): (ModuleId, Module, Addresses)| {
            let addresses: Vec<u64> = list.iter().map(|&(addr, _)| addr).collect();
            let lines = symbolizer.lines(&module, &addresses);
            (id, list.into_iter().map(|(_, frame)| frame).zip(lines).collect())
        };
        Read(self.0.into_iter().map(of_module).collect())
    }
}

/// The lines of one frame after the other.
type FrameLines = Vec<(u32, Vec<Line>)>;

/// The lines of frames, by module.
#[derive(Clone, Debug, Default)]
pub struct Read(Vec<(ModuleId, FrameLines)>);

impl Read {
    /// Tells names of the functions that were compiled into the frames.
    pub(super) fn tell(self, names: &mut Names) {
        for (module, list) in self.0 {
            for (frame, lines) in list {
                names.learn_inlined(module, frame, &lines);
            }
        }
    }
}

/// Functions and lines, each once.
#[derive(Debug, Default)]
struct Functions {
    list: Vec<Function>,
    ids: FxHashMap<(ModuleId, u64, bool), FunctionId>,
    inlined: FxHashMap<(ModuleId, Arc<str>), FunctionId>,
    lines: Vec<Arc<str>>,
    line_ids: FxHashMap<(Arc<str>, u32), u32>,
}

impl Functions {
    fn of(&mut self, place: Place, symbol: Option<&Symbol>) -> FunctionId {
        let start = symbol.map_or(place.addr, |s| s.start);
        let next = FunctionId(self.list.len() as u32);
        let id = *self.ids.entry((place.module, start, symbol.is_some())).or_insert(next);
        if id == next {
            let place = Place { addr: start, ..place };
            self.list.push(Function { name: symbol.map(|s| s.name.clone()), place, inlined: false });
        }
        id
    }

    fn inlined(&mut self, module: ModuleId, name: &Arc<str>) -> FunctionId {
        let next = FunctionId(self.list.len() as u32);
        let id = *self.inlined.entry((module, name.clone())).or_insert(next);
        if id == next {
            let place = Place { module, addr: 0 };
            self.list.push(Function { name: Some(name.clone()), place, inlined: true });
        }
        id
    }

    /// The functions of a frame, innermost first, with the places in the source; `inlined`: with those compiled into the last.
    fn located(&mut self, module: ModuleId, function: FunctionId, at: &[Line], inlined: bool) -> Vec<FunctionAt> {
        let place = |line: &Line| Some((line.file.clone()?, line.line));
        let (last, rest) = at.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
        let rest = rest.iter().filter(|_| inlined);
        let mut list: Vec<FunctionAt> =
            rest.filter_map(|line| Some((self.inlined(module, line.name.as_ref()?), place(line)))).collect();
        list.push((function, last.and_then(place)));
        list
    }

    fn line(&mut self, file: &Arc<str>, line: u32) -> u32 {
        let next = self.lines.len() as u32;
        let id = *self.line_ids.entry((file.clone(), line)).or_insert(next);
        if id == next {
            self.lines.push(format!("{}:{line}", file.rsplit('/').next().unwrap_or_default()).into());
        }
        id
    }
}

fn lookup(symbolizer: &Symbolizer, module: &Module, addresses: &[u64]) -> (Vec<Option<Symbol>>, Option<Missing>) {
    match module.kind {
        // Such a mapping is what it is called.
        ModuleKind::Pseudo if is_unseen(&module.path) || module.path == TRUNCATED_NAME => {
            let name = String::from_utf8_lossy(&module.path).into();
            let symbol = Symbol { name, start: 0, size: u64::MAX };
            (vec![Some(symbol); addresses.len()], None)
        }
        ModuleKind::Pseudo => (vec![None; addresses.len()], None),
        ModuleKind::Ksymbol { start, len } => {
            let name: Arc<str> = String::from_utf8_lossy(&module.path).into();
            let symbol = Symbol { name, start, size: u64::from(len) };
            (vec![Some(symbol); addresses.len()], None)
        }
        _ => {
            let (mut symbols, missing) = symbolizer.lookup(module, addresses);
            entered(symbolizer, module, addresses, &mut symbols);
            (symbols, missing)
        }
    }
}

/// Frames that nothing has called: a signal's trampoline and the like were entered by a return, and are looked up one byte before
/// their first instruction, where no function is. They have the name of the one that begins there.
fn entered(symbolizer: &Symbolizer, module: &Module, addresses: &[u64], symbols: &mut [Option<Symbol>]) {
    let unnamed = addresses.iter().zip(symbols).filter(|(_, symbol)| symbol.is_none());
    let (next, unnamed): (Vec<u64>, Vec<&mut Option<Symbol>>) =
        unnamed.map(|(address, symbol)| (address.saturating_add(1), symbol)).unzip();
    if next.is_empty() {
        return;
    }
    let (found, _) = symbolizer.lookup(module, &next);
    for ((next, slot), found) in next.into_iter().zip(unnamed).zip(found) {
        *slot = found.filter(|symbol| symbol.start == next);
    }
}
