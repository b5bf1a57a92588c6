//! Stacks with the code that each of their frames is: for forms that show addresses and source lines.
//!
//! Apart from [`Stacks`], whose functions are all that most views want. Addresses are those that the file's own symbols have, which
//! objdump and addr2line take: the same in every process, wherever it was loaded.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::events::Events;

use super::builder::Builder;
use super::frames::FrameId;
use super::names::{FunctionAt, Names, Wanted};
use super::stacks::Stacks;
use crate::supply::BuildId;
use crate::symbols::{ModuleKind, Symbolizer};
use crate::timeline::ModuleId;

/// A piece of a module that frames lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Path of the module.
    pub path: Arc<str>,
    /// Its build id, if the recording says it.
    pub build_id: Option<BuildId>,
    /// The first address, and the one after the last.
    pub addresses: std::ops::Range<u64>,
    /// Where the first stands in the file; 0 for what is no file.
    pub offset: u64,
}

/// A code address with the functions that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedFrame {
    /// Index of its mapping.
    pub mapping: u32,
    /// Address, of a return address one byte less: within the call. Of a file as its own symbols number it, or a file offset when it
    /// is not here to tell; else the run-time address.
    pub address: u64,
    /// The functions, innermost first: what was compiled into the last one, and that.
    pub functions: Vec<FunctionAt>,
}

/// Stacks, and their frames.
#[derive(Clone, Debug)]
pub struct Located {
    /// The stacks.
    pub stacks: Stacks,
    /// What frames lie in.
    pub mappings: Vec<Mapping>,
    /// The frames, each once.
    pub frames: Vec<LocatedFrame>,
    /// By event and stack: its frames, leaf first, by index.
    pub of_stacks: Vec<Vec<Vec<u32>>>,
}

impl Builder {
    /// [`Builder::stacks`], with the code of the frames.
    pub fn located(&mut self, events: &Events, symbolizer: &Symbolizer, inline: bool) -> Located {
        self.adopt_kernel(symbolizer);
        let names = self.names(symbolizer, Wanted { inlined: inline, places: true, ..Wanted::default() });
        let mut frames = Places::new(self, symbolizer, &names);
        let mut of_stacks = vec![Vec::new(); events.list().len()];
        let stacks = self.stacks_of((events, &names, true), [self.cells.list()], (&self.keys, &[]), |event, stack| {
            if let Some(of_event) = of_stacks.get_mut(event) {
                of_event.push(stack.iter().map(|&frame| frames.id(frame)).collect());
            }
        });
        let Places { mappings, frames, .. } = frames;
        Located { stacks, mappings, frames, of_stacks }
    }
}

/// Frames on their way to places.
struct Places<'a> {
    builder: &'a Builder,
    symbolizer: &'a Symbolizer,
    names: &'a Names,
    ids: FxHashMap<FrameId, u32>,
    frames: Vec<LocatedFrame>,
    mappings: Vec<Mapping>,
    /// By module: its mappings, with what their addresses are higher than those of the timeline.
    of_modules: FxHashMap<ModuleId, Vec<(u32, u64)>>,
}

impl<'a> Places<'a> {
    fn new(builder: &'a Builder, symbolizer: &'a Symbolizer, names: &'a Names) -> Places<'a> {
        let (ids, of_modules) = (FxHashMap::default(), FxHashMap::default());
        Places { builder, symbolizer, names, ids, frames: Vec::new(), mappings: Vec::new(), of_modules }
    }

    fn id(&mut self, frame: FrameId) -> u32 {
        if let Some(&id) = self.ids.get(&frame) {
            return id;
        }
        let place = self.builder.frames.place(frame);
        let mappings = &mut self.mappings;
        let of_module = self.of_modules.entry(place.module).or_insert_with(|| {
            let added = mappings_of(self.builder, self.symbolizer, place.module);
            let from = mappings.len() as u32;
            let ids = (from..).zip(&added).map(|(id, (_, moved))| (id, *moved)).collect();
            mappings.extend(added.into_iter().map(|(mapping, _)| mapping));
            ids
        });
        let lies = |&&(id, moved): &&(u32, u64)| {
            let mapping = mappings.get(id as usize);
            mapping.is_some_and(|mapping| mapping.addresses.contains(&place.addr.wrapping_add(moved)))
        };
        // Damaged files have code outside of what they load.
        let (mapping, moved) = of_module.iter().find(lies).or(of_module.first()).copied().unwrap_or_default();
        let (address, functions) = (place.addr.wrapping_add(moved), self.names.located(frame).to_vec());
        let id = self.frames.len() as u32;
        self.frames.push(LocatedFrame { mapping, address, functions });
        self.ids.insert(frame, id);
        id
    }
}

/// The mappings of a module: at least one. Each with what its addresses are higher than those of the timeline.
fn mappings_of(builder: &Builder, symbolizer: &Symbolizer, id: ModuleId) -> Vec<(Mapping, u64)> {
    let module = builder.timeline.modules().get(id);
    let path: Arc<str> = module.map_or("".into(), |module| String::from_utf8_lossy(&module.path).into());
    let build_id = module.and_then(|module| module.build_id.clone());
    let mapping = |addresses, offset| Mapping { path: path.clone(), build_id: build_id.clone(), addresses, offset };
    let segments = module.map_or(Vec::new(), |module| symbolizer.code_segments(module));
    if !segments.is_empty() {
        let of_segment = |segment: crate::symbols::CodeSegment| {
            let addresses = segment.address..segment.address.saturating_add(segment.size);
            (mapping(addresses, segment.offset), segment.address.wrapping_sub(segment.offset))
        };
        return segments.into_iter().map(of_segment).collect();
    }
    let kernel = module.filter(|module| matches!(module.kind, ModuleKind::Kernel { .. }));
    let extent = kernel.map(|kernel| symbolizer.kernel_extent(kernel)).filter(|extent| !extent.is_empty());
    let addresses = extent.unwrap_or_else(|| {
        /// A page of all machines that are recorded, bytes.
        const PAGE: u64 = 4096;
        let places = builder.frames.places().iter().filter(|place| place.module == id);
        let (from, to) = places.fold((u64::MAX, 0), |(from, to), place| (from.min(place.addr), to.max(place.addr)));
        let is_file = module.is_some_and(|module| module.kind == ModuleKind::User);
        (if is_file { 0 } else { from / PAGE * PAGE })..(to / PAGE * PAGE).saturating_add(PAGE)
    });
    vec![(mapping(addresses, 0), 0)]
}
