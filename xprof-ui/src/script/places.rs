//! Addresses as text, each made once: `ffffffff8162fef3 __kmem_cache_alloc_bulk+0xc3 ([kernel.kallsyms])`.
//!
//! A recording has many samples and few addresses. What is kept is bounded: past [`MOST_TEXT`] it is made anew.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::sample::Callchain;
use xprof_profile::profile::{FrameAddr, chain_hash, walk};
use xprof_profile::symbols::{LineReader, ModuleKind, Symbolizer};
use xprof_profile::timeline::{Mode, ModuleId, Modules, Place, Timeline};
use xprof_profile::tracepoint::Functions;

use super::fields::Fields;
use super::number::{hex, hex_padded};
use crate::Plain;

/// Bytes of text that are kept.
const MOST_TEXT: usize = 96 << 20;
/// Addresses with their symbols that are kept.
const MOST_PLACES: usize = 1 << 20;
/// Frames of a chain that are shown when nothing else is asked for, as perf (`kernel.perf_event_max_stack`).
pub const MOST_FRAMES: usize = 127;

/// A symbol, and where it starts, in the address space of its module.
pub(super) type Named = Option<(Arc<str>, u64)>;

/// Addresses of a chain, leaf first, with the mode each is in.
type Shown = Vec<(Mode, FrameAddr)>;

/// Where text stands.
type Range = (u32, u32);

/// Texts by what they are made from.
#[derive(Debug)]
pub(super) struct Places {
    symbolizer: Symbolizer,
    named: FxHashMap<Place, Named>,
    lines: FxHashMap<Line, Range>,
    chains: FxHashMap<((u64, u64), Mode), Range>,
    text: Vec<u8>,
    /// Readers of what was compiled into others, by module; `None` when that is not shown.
    inlined: Option<FxHashMap<ModuleId, LineReader>>,
    unwound: bool,
    max_stack: usize,
    /// Where the symbols of the kernel lie, once somebody asked.
    kernel: Option<std::ops::Range<u64>>,
}

/// One line: an address in a state of an address space, and which parts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    epoch: u32,
    parts: u32,
    address: u64,
}

/// A line of a call chain: a tab before it, a line end behind it, and user addresses as the file counts.
const CHAIN: u32 = 1 << 31;
/// The address is one that a call returns to.
const RETURN: u32 = 1 << 30;

/// Modules whose debug information is held open.
const MOST_READERS: usize = 64;

impl Places {
    /// `inlined`: functions that were compiled into others are shown in chains; `unwound`: of a user's frames the call is
    /// shown, not what it returns to; `max_stack`: of a chain so many frames.
    pub(super) fn new(symbolizer: Symbolizer, (inlined, unwound): (bool, bool), max_stack: usize) -> Places {
        Places {
            unwound,
            max_stack,
            inlined: inlined.then(FxHashMap::default),
            symbolizer,
            named: FxHashMap::default(),
            lines: FxHashMap::default(),
            chains: FxHashMap::default(),
            text: Vec::new(),
            kernel: None,
        }
    }

    /// Where an address lies. The kernel has what lies among its symbols, as in perf.
    pub(super) fn place(&mut self, timeline: &Timeline, pid: u32, mode: Mode, address: u64) -> Place {
        let place = timeline.place(pid, mode, address);
        if place.module != Modules::unknown(Mode::Kernel) {
            return place;
        }
        let Some(image) = timeline.modules().kernel_image() else { return place };
        let symbolizer = &self.symbolizer;
        let load = || timeline.modules().get(image).map_or(0..0, |kernel| symbolizer.kernel_extent(kernel));
        let extent = self.kernel.get_or_insert_with(load);
        if extent.contains(&address) { Place { module: image, ..place } } else { place }
    }

    /// The symbol at a place.
    pub(super) fn named(&mut self, timeline: &Timeline, place: Place) -> Named {
        if let Some(named) = self.named.get(&place) {
            return named.clone();
        }
        let module = timeline.modules().get(place.module);
        let symbol = module.and_then(|module| self.symbolizer.lookup(module, &[place.addr]).0.pop().flatten());
        let named = symbol.map(|symbol| {
            let name = if symbol.name.contains(char::is_control) {
                Plain(&symbol.name).to_string().into()
            } else {
                symbol.name
            };
            (name, symbol.start)
        });
        if self.named.len() >= MOST_PLACES {
            self.named.clear();
        }
        self.named.insert(place, named.clone());
        named
    }

    /// Names of the functions that were compiled into the one at an address of a chain, innermost first.
    pub(super) fn inlined(
        &mut self,
        timeline: &Timeline,
        (pid, mode, address): (u32, Mode, FrameAddr),
    ) -> Vec<Arc<str>> {
        if self.inlined.is_none() || mode != Mode::User {
            return Vec::new();
        }
        let (shown, call) = (address.recorded(), address.for_lookup());
        // A call that ends a function comes back to the next one, which is shown: what is known of the call is not of that.
        if shown != call && !self.is_one_function(timeline, (pid, mode), [shown, call]) {
            return Vec::new();
        }
        let place = self.place(timeline, pid, mode, call);
        let (Some(readers), Some(module)) = (&mut self.inlined, timeline.modules().get(place.module)) else {
            return Vec::new();
        };
        if readers.len() >= MOST_READERS && !readers.contains_key(&place.module) {
            readers.clear();
        }
        let reader = readers.entry(place.module).or_insert_with(|| self.symbolizer.line_reader(module));
        let mut lines = reader.at(place.addr);
        // The outermost is the function itself.
        lines.pop();
        lines.into_iter().filter_map(|line| line.name).collect()
    }

    /// Appends ` IP SYM+OFF (DSO)`, as far as `fields` say, without the first space.
    pub(super) fn one(
        &mut self,
        timeline: &Timeline,
        (pid, mode, address): (u32, Mode, u64),
        fields: Fields,
        out: &mut Vec<u8>,
    ) {
        let parts = (fields.0 & (Fields::IP.0 | Fields::SYM.0 | Fields::SYMOFF.0 | Fields::DSO.0)) as u32;
        self.line(timeline, (pid, mode, address), parts, out);
    }

    fn line(&mut self, timeline: &Timeline, (pid, mode, address): (u32, Mode, u64), parts: u32, out: &mut Vec<u8>) {
        let key = Line { epoch: timeline.epoch(pid, mode), parts, address };
        if key.epoch != 0
            && let Some(&(from, to)) = self.lines.get(&key)
        {
            out.extend_from_slice(self.text.get(from as usize..to as usize).unwrap_or_default());
            return;
        }
        let start = out.len();
        self.write(timeline, (pid, mode, address), parts, out);
        if key.epoch != 0 {
            let range = self.keep(out.get(start..).unwrap_or_default());
            self.lines.insert(key, range);
        }
    }

    fn keep(&mut self, text: &[u8]) -> Range {
        if self.text.len() + text.len() > MOST_TEXT {
            self.text.clear();
            self.lines.clear();
            self.chains.clear();
        }
        let from = self.text.len();
        self.text.extend_from_slice(text);
        (from as u32, self.text.len() as u32)
    }

    fn write(&mut self, timeline: &Timeline, (pid, mode, address): (u32, Mode, u64), parts: u32, out: &mut Vec<u8>) {
        let shows = |field: Fields| u64::from(parts) & field.0 != 0;
        let place = self.place(timeline, pid, mode, address);
        let named = if shows(Fields::SYM) { self.named(timeline, place) } else { None };
        let mut shown = address;
        if parts & CHAIN != 0 {
            let addr = if parts & RETURN != 0 { FrameAddr::Return(address) } else { FrameAddr::Ip(address) };
            // In a chain a user address is shown as the file counts.
            shown = if mode == Mode::User { place.addr } else { address };
            let inlined = if shows(Fields::SYM) { self.inlined(timeline, (pid, mode, addr)) } else { Vec::new() };
            for name in inlined {
                out.push(b'\t');
                if shows(Fields::IP) {
                    hex_padded(shown, out);
                }
                out.push(b' ');
                // perf counts from the function that it is part of.
                let start = named.as_ref().map_or(0, |(_, start)| *start);
                let name = Plain(&name).to_string().into();
                symbol(&Some((name, start)), place, shows(Fields::SYMOFF), out);
                out.extend_from_slice(b" (inlined)\n");
            }
            out.push(b'\t');
        }
        if shows(Fields::IP) {
            hex_padded(shown, out);
        }
        if shows(Fields::SYM) {
            out.push(b' ');
            symbol(&named, place, shows(Fields::SYMOFF), out);
        }
        if shows(Fields::DSO) {
            out.extend_from_slice(b" (");
            dso(timeline, place, out);
            out.push(b')');
        }
        if parts & CHAIN != 0 {
            out.push(b'\n');
        }
    }

    /// Appends the lines of a call chain. `link` is the sample's link register.
    pub(super) fn chain(
        &mut self,
        timeline: &Timeline,
        (pid, mode): (u32, Mode),
        (chain, link): (Callchain<'_>, Option<u64>),
        fields: Fields,
        out: &mut Vec<u8>,
    ) {
        let parts = (fields.0 & (Fields::IP.0 | Fields::SYM.0 | Fields::SYMOFF.0 | Fields::DSO.0)) as u32 | CHAIN;
        let epochs = [timeline.epoch(pid, Mode::User), timeline.epoch(pid, Mode::Kernel), parts];
        let key = (chain_hash(chain.as_bytes(), link, epochs), mode);
        if let Some(&(from, to)) = self.chains.get(&key) {
            out.extend_from_slice(self.text.get(from as usize..to as usize).unwrap_or_default());
            return;
        }
        let start = out.len();
        // perf shows nothing of a chain with an unknown marker.
        for (mode, address) in self.frames(timeline, (pid, mode), (chain, link)).unwrap_or_default() {
            let parts = if matches!(address, FrameAddr::Ip(_)) { parts } else { parts | RETURN };
            self.line(timeline, (pid, mode, address.recorded()), parts, out);
        }
        let range = self.keep(out.get(start..).unwrap_or_default());
        self.chains.insert(key, range);
    }

    /// The addresses of a chain that are shown. An unknown marker is an error with those before it.
    pub(super) fn frames(
        &mut self,
        timeline: &Timeline,
        (pid, mode): (u32, Mode),
        (chain, link): (Callchain<'_>, Option<u64>),
    ) -> Result<Shown, Shown> {
        let mut frames = Vec::new();
        for frame in walk(mode, chain, link).take(self.max_stack) {
            let Ok((mode, address)) = frame else { return Err(frames) };
            if matches!(address, FrameAddr::Link(_))
                && let Some(&(_, leaf)) = frames.last()
                && self.is_one_function(timeline, (pid, mode), [leaf.recorded(), address.for_lookup()])
            {
                // Stale: where the leaf's own last call came back to.
                continue;
            }
            let is_call = self.unwound && mode == Mode::User;
            frames.push((mode, if is_call { FrameAddr::Ip(address.for_lookup()) } else { address }));
        }
        Ok(frames)
    }

    fn is_one_function(&mut self, timeline: &Timeline, (pid, mode): (u32, Mode), addresses: [u64; 2]) -> bool {
        let [one, other] = addresses.map(|address| {
            let place = self.place(timeline, pid, mode, address);
            self.named(timeline, place).map(|(_, start)| (place.module, start))
        });
        one.is_some() && one == other
    }
}

/// Appends `name`, `name+0x1f` or `[unknown]`.
pub(super) fn symbol(named: &Named, place: Place, offset: bool, out: &mut Vec<u8>) {
    match named {
        Some((name, start)) => {
            out.extend_from_slice(name.as_bytes());
            if offset {
                out.extend_from_slice(b"+0x");
                hex(place.addr.wrapping_sub(*start), out);
            }
        }
        None => out.extend_from_slice(b"[unknown]"),
    }
}

/// Appends the path of a module.
pub(super) fn dso(timeline: &Timeline, place: Place, out: &mut Vec<u8>) {
    let module = timeline.modules().get(place.module).filter(|_| !Modules::is_unknown(place.module));
    let name = timeline.modules().long_name(place.module);
    match module {
        // perf names code that only a record knows of after its kind.
        Some(module) if matches!(module.kind, ModuleKind::Ksymbol { .. }) => {
            let prog = module.path.starts_with(b"bpf_prog_");
            out.extend_from_slice(if prog { &module.path } else { b"OOL" });
        }
        Some(_) if name.iter().any(u8::is_ascii_control) => {
            out.extend_from_slice(Plain(&String::from_utf8_lossy(name)).to_string().as_bytes());
        }
        Some(_) => out.extend_from_slice(name),
        None => out.extend_from_slice(b"[unknown]"),
    }
}

/// The names of kernel functions, for tracepoints.
pub(super) struct KernelFunctions<'a> {
    pub(super) places: &'a mut Places,
    pub(super) timeline: &'a Timeline,
}

impl Functions for KernelFunctions<'_> {
    fn function(&mut self, address: u64) -> Option<(Arc<str>, u64)> {
        let place = self.places.place(self.timeline, 0, Mode::Kernel, address);
        self.places.named(self.timeline, place)
    }
}
