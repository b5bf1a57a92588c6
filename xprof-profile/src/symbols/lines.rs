//! Functions that were compiled into others, and source lines, from DWARF 4 and 5.
//!
//! addr2line's `Context` reads it; what it reads comes from a [`Supplier`]: the program itself, its separate debug file, the
//! supplementary file that `dwz` made, `.dwo` and `.dwp` files. Only the units that cover an address are read. Sections are
//! used where they are mapped, and copied only where they are compressed.

mod batches;

use std::sync::{Arc, mpsc};

use addr2line::{Context, LookupResult, SplitDwarfLoad};
use gimli::{Dwarf, DwarfPackage, EndianSlice, RunTimeEndian, Section, SectionId};
use object::Endianness;
use rustc_hash::FxHashSet;
use typed_arena::Arena;
use xprof_perfdata::source::Source;

use super::elf::Elf;
use super::{GuestPart, Module, ModuleKind, debug_file, demangle, load};
use crate::supply::{BuildId, Need, Supplier};

/// Functions compiled into one another at one address; more are not believed.
const MOST_FRAMES: usize = 256;
/// Bytes of a section that is compressed.
const MOST_UNPACKED: u64 = 2 << 30;
/// Units whose `.dwo` file is loaded.
const MOST_SPLIT: usize = 1 << 16;

/// A function at an address, and the line in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Demangled name.
    pub name: Option<Arc<str>>,
    /// Path of the source file, as the compiler wrote it.
    pub file: Option<Arc<str>>,
    /// Line in it; 0 where it is not known.
    pub line: u32,
}

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// A section where it lies.
enum Bytes {
    Mapped(Arc<dyn Source>, usize, usize),
    Copied(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Mapped(source, from, to) => source.bytes().and_then(|b| b.get(*from..*to)).unwrap_or_default(),
            Bytes::Copied(bytes) => bytes,
        }
    }
}

/// The lines at addresses (file offsets; of a guest's program where it is loaded) of a module, each with the functions it was compiled into, innermost
/// first; empty where nothing is known.
pub(crate) fn lines(supplier: &dyn Supplier, module: &Module, addresses: &[u64]) -> Vec<Vec<Line>> {
    let found = with_debug(supplier, module, |debug| {
        let offsets: Vec<u64> = addresses.iter().map(|address| debug.offset(*address)).collect();
        batches::lines(debug, &offsets)
    });
    found.unwrap_or_else(|| vec![Vec::new(); addresses.len()])
}

/// The debug information of a module, to be read by several threads.
struct Debug<'a> {
    supplier: &'a dyn Supplier,
    module: &'a Module,
    path: &'a [u8],
    /// The program, which knows the address at a file offset.
    elf: &'a Elf,
    dwarf: Arc<Dwarf<Slice<'a>>>,
    package: Option<DwarfPackage<Slice<'a>>>,
}

impl<'a> Debug<'a> {
    /// The file offset of what a module is asked about.
    fn offset(&self, address: u64) -> u64 {
        match self.module.kind {
            // None has such an offset.
            ModuleKind::Guest { .. } => self.elf.offset_of(address).unwrap_or(u64::MAX),
            _ => address,
        }
    }

    /// Files of one thread: what it reads of split units lives as long as they.
    fn files(&self) -> Files<'_> {
        Files { supplier: self.supplier, module: self.module, path: self.path, sections: Arena::new() }
    }

    /// Reads units, and keeps what it read of them.
    fn reader<'s>(&'s self, files: &'s Files<'s>) -> Option<Reader<'s>> {
        let dwarf: Arc<Dwarf<Slice<'s>>> = self.dwarf.clone();
        let context = Context::from_arc_dwarf(dwarf).ok()?;
        Some(Reader {
            context,
            elf: self.elf,
            files,
            package: self.package.as_ref(),
            split: 0,
            split_bytes: 0,
            texts: Texts::default(),
        })
    }
}

/// Calls `f` with the debug information of a module; `None` where it has none.
fn with_debug<T>(supplier: &dyn Supplier, module: &Module, f: impl FnOnce(&Debug<'_>) -> T) -> Option<T> {
    let elf = &match module.kind {
        ModuleKind::User => load::file_of(supplier, module).ok()?,
        ModuleKind::Guest { machine, part: part @ GuestPart::Program } => {
            load::guest::linked(supplier, machine, part).ok()?
        }
        _ => return None,
    };
    let has_dwarf =
        |elf: &Elf| elf.section_named(b".debug_info").is_some() || elf.section_named(b".debug_line").is_some();
    let path = load::on_disk(&module.path);
    let separate;
    let debug = match has_dwarf(elf) {
        true => elf,
        false => {
            separate = debug_file::find(supplier, elf, path, module.pid).filter(has_dwarf)?;
            &separate
        }
    };
    let files = Files { supplier, module, path, sections: Arena::new() };
    let mut dwarf = files.dwarf(debug, |id| Some(id.name()))?;
    if let Some(other) = files.supplementary(debug)
        && let Some(other) = files.dwarf(&other, |id| Some(id.name()))
    {
        dwarf.set_sup(other);
    }
    dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
    let package = files.package(debug);
    Some(f(&Debug { supplier, module, path, elf, dwarf: Arc::new(dwarf), package }))
}

/// What a reader is asked.
type Question = (u64, mpsc::SyncSender<Vec<Line>>);

/// The lines of one module, one address at a time. The debug information stays open on a thread of its own, which ends with
/// this.
#[derive(Debug)]
pub struct LineReader(Option<mpsc::Sender<Question>>);

impl LineReader {
    /// Opens the debug information when it is first asked.
    pub(crate) fn new(supplier: Arc<dyn Supplier>, module: Module) -> LineReader {
        if !matches!(module.kind, ModuleKind::User | ModuleKind::Guest { part: GuestPart::Program, .. }) {
            return LineReader(None);
        }
        let (questions, asked) = mpsc::channel::<Question>();
        let answer = move || {
            let Ok((first, reply)) = asked.recv() else { return };
            with_debug(&*supplier, &module, |debug| {
                let files = debug.files();
                let Some(mut reader) = debug.reader(&files) else { return };
                let _ = reply.send(reader.at(debug.offset(first)));
                for (address, reply) in &asked {
                    let _ = reply.send(reader.at(debug.offset(address)));
                }
            });
        };
        let thread = std::thread::Builder::new().name("lines".into()).spawn(answer);
        LineReader(thread.is_ok().then_some(questions))
    }

    /// The line at a file offset, with the functions that it was compiled into, innermost first; empty where nothing is known.
    pub fn at(&mut self, offset: u64) -> Vec<Line> {
        let (reply, answer) = mpsc::sync_channel(1);
        let sent = self.0.as_ref().is_some_and(|questions| questions.send((offset, reply)).is_ok());
        match answer.recv() {
            Ok(lines) if sent => lines,
            // There is no debug information.
            _ => {
                self.0 = None;
                Vec::new()
            }
        }
    }
}

/// What one thread knows of the units that it was asked of.
struct Reader<'s> {
    context: Context<Slice<'s>>,
    elf: &'s Elf,
    files: &'s Files<'s>,
    package: Option<&'s DwarfPackage<Slice<'s>>>,
    split: usize,
    /// Bytes of the split units that were loaded: the program does not say how large they are.
    split_bytes: u64,
    texts: Texts,
}

impl Reader<'_> {
    /// The lines at a file offset.
    fn at(&mut self, offset: u64) -> Vec<Line> {
        let Some(address) = self.elf.address_of(offset) else { return Vec::new() };
        let mut result = self.context.find_frames(address);
        let frames = loop {
            match result {
                LookupResult::Output(frames) => break frames,
                LookupResult::Load { load, continuation } => {
                    self.split += 1;
                    let dwarf = if self.split <= MOST_SPLIT { self.files.split(&load, self.package) } else { None };
                    let bytes = dwarf.as_ref().map_or(0, |dwarf| dwarf.debug_info.reader().len());
                    self.split_bytes += bytes as u64;
                    result = addr2line::LookupContinuation::resume(continuation, dwarf);
                }
            }
        };
        let Ok(mut frames) = frames else { return Vec::new() };
        let mut lines = Vec::new();
        // What an error cuts off is left out.
        while let Ok(Some(frame)) = frames.next()
            && lines.len() < MOST_FRAMES
        {
            let name = frame.function.as_ref().and_then(|f| f.raw_name().ok());
            let location = frame.location.as_ref();
            lines.push(Line {
                name: name.map(|name| self.texts.shared(&demangle::shown(name.as_bytes()))),
                file: location.and_then(|l| l.file).map(|file| self.texts.shared(file)),
                line: location.and_then(|l| l.line).unwrap_or(0),
            });
        }
        lines
    }
}

/// Texts, each once.
#[derive(Default)]
struct Texts(FxHashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.0.insert(text.clone());
        text
    }
}

/// The files of a module's debug information; their sections live as long as this.
struct Files<'s> {
    supplier: &'s dyn Supplier,
    module: &'s Module,
    path: &'s [u8],
    sections: Arena<Bytes>,
}

impl Files<'_> {
    fn section(&self, elf: &Elf, name: Option<&'static str>) -> Slice<'_> {
        let endian = match elf.endian {
            Endianness::Little => RunTimeEndian::Little,
            Endianness::Big => RunTimeEndian::Big,
        };
        let section = name.and_then(|name| elf.section_named(name.as_bytes())).map(|(_, section)| section);
        let Some(section) = section else { return EndianSlice::new(&[], endian) };
        let mapped = elf.plain(section).and_then(|(source, offset, size)| {
            source.bytes()?;
            let from = usize::try_from(offset).ok()?;
            Some(Bytes::Mapped(source.clone(), from, from.checked_add(usize::try_from(size).ok()?)?))
        });
        let bytes = mapped.unwrap_or_else(|| Bytes::Copied(elf.bytes(section, MOST_UNPACKED).unwrap_or_default()));
        let kept: &Bytes = self.sections.alloc(bytes);
        EndianSlice::new(kept.get(), endian)
    }

    fn dwarf(&self, elf: &Elf, name: impl Fn(SectionId) -> Option<&'static str>) -> Option<Dwarf<Slice<'_>>> {
        // Where variables are, and macros, nobody asks; where sections are compressed, unpacking them takes as long as the rest.
        use SectionId::{DebugLoc, DebugLocLists, DebugMacinfo, DebugMacro};
        let is_read = |id: &SectionId| !matches!(id, DebugLoc | DebugLocLists | DebugMacinfo | DebugMacro);
        Dwarf::load(|id| Ok::<_, gimli::Error>(self.section(elf, Some(id).filter(is_read).and_then(&name)))).ok()
    }

    fn open(&self, path: Vec<u8>) -> Option<Elf> {
        Elf::open(self.supplier.supply(&Need::Path { path, pid: self.module.pid }).ok()?).ok()
    }

    /// The file that `dwz` moved common parts of several debug files to: `.gnu_debugaltlink` is its path and build id.
    fn supplementary(&self, debug: &Elf) -> Option<Elf> {
        let (_, section) = debug.section_named(b".gnu_debugaltlink")?;
        let bytes = debug.bytes(section, 4096).ok()?;
        let end = bytes.iter().position(|&b| b == 0)?;
        let (name, id) = (&bytes[..end], BuildId(bytes[end + 1..].to_vec()));
        let folder = &self.path[..self.path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1)];
        let beside = if name.starts_with(b"/") { name.to_vec() } else { [folder, name].concat() };
        // Debian's are relative to the debug file, which lies three folders below /usr/lib/debug.
        let common = name.rsplit(|&b| b == b'/').next().map(|last| [b"/usr/lib/debug/.dwz/", last].concat());
        let file = name.windows(6).position(|w| w == b"/.dwz/").map(|at| [b"/usr/lib/debug", &name[at..]].concat());
        let paths = [Some(beside), file, common].into_iter().flatten();
        let is_it = |elf: &Elf| elf.build_id().is_some_and(|found| found == id);
        let by_id = || Elf::open(self.supplier.supply(&Need::Debug { build_id: id.clone() }).ok()?).ok().filter(is_it);
        let here = paths.filter_map(|path| self.open(path)).find(is_it).or_else(by_id);
        here.or_else(|| debug_file::download(self.supplier, &id))
    }

    /// `PROGRAM.dwp`: all split units of a program in one file.
    fn package(&self, debug: &Elf) -> Option<DwarfPackage<Slice<'_>>> {
        debug.section_named(b".debug_addr")?;
        let elf = self.open([self.path, b".dwp"].concat())?;
        let empty = self.section(&elf, None);
        DwarfPackage::load(|id| Ok::<_, gimli::Error>(self.section(&elf, id.dwo_name())), empty).ok()
    }

    /// A split unit: from the package, else from its `.dwo` file, if that has the id that the program says.
    fn split<'a>(
        &'a self,
        load: &SplitDwarfLoad<Slice<'a>>,
        package: Option<&DwarfPackage<Slice<'a>>>,
    ) -> Option<Arc<Dwarf<Slice<'a>>>> {
        if let Some(unit) = package.and_then(|p| p.find_cu(load.dwo_id, &load.parent).ok().flatten()) {
            return Some(Arc::new(unit));
        }
        let path = load.path.as_ref()?.slice();
        let path = match (path.first(), &load.comp_dir) {
            (Some(b'/'), _) | (_, None) => path.to_vec(),
            (_, Some(folder)) => [folder.slice(), b"/", path].concat(),
        };
        let elf = self.open(path)?;
        let mut dwarf = self.dwarf(&elf, SectionId::dwo_name)?;
        let header = dwarf.units().next().ok()??;
        let unit = dwarf.unit(header).ok()?;
        if unit.dwo_id != Some(load.dwo_id) {
            return None;
        }
        dwarf.make_dwo(&load.parent);
        Some(Arc::new(dwarf))
    }
}
