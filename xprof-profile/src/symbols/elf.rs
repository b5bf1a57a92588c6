//! ELF files, read piece by piece from a [`Source`]: headers, then only the sections that are asked for.
//!
//! Files are untrusted and can be larger than memory, so nothing is mapped or read whole: every length is held against
//! what the source really has, and a file that is cut short gives what is left of it. Layouts: the System V gABI,
//! chapters 4 and 5.

use std::io::{self, Read};
use std::sync::Arc;

use xprof_perfdata::source::Source;

use crate::supply::BuildId;

/// `ET_REL`: an object file, such as a kernel module.
pub(crate) const ET_REL: u16 = 1;
/// `EM_386`.
pub(crate) const EM_386: u16 = 3;
/// `EM_ARM`.
pub(crate) const EM_ARM: u16 = 40;
/// `EM_X86_64`.
pub(crate) const EM_X86_64: u16 = 62;
/// `EM_AARCH64`.
pub(crate) const EM_AARCH64: u16 = 183;

/// `SHT_SYMTAB`.
pub(crate) const SHT_SYMTAB: u32 = 2;
/// `SHT_RELA`.
pub(crate) const SHT_RELA: u32 = 4;
/// `SHT_NOBITS`: takes no space in the file.
pub(crate) const SHT_NOBITS: u32 = 8;
/// `SHT_REL`.
pub(crate) const SHT_REL: u32 = 9;
/// `SHT_DYNSYM`.
pub(crate) const SHT_DYNSYM: u32 = 11;
/// `SHF_ALLOC`: in memory while the program runs.
pub(crate) const SHF_ALLOC: u64 = 2;
const SHF_COMPRESSED: u64 = 0x800;
const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// No file has more sections or segments than this; a larger number is a lie. (librustc_driver has 43, an object
/// built with `-ffunction-sections` some 100,000.)
const MOST_HEADERS: u64 = 1 << 20;
/// Names of sections and notes: more is not read.
const MOST_SMALL: u64 = 16 << 20;

/// One section header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    name: u32,
    /// `SHT_*`.
    pub(crate) kind: u32,
    /// `SHF_*`.
    pub(crate) flags: u64,
    /// Address in memory.
    pub(crate) addr: u64,
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Index of the section that this one refers to (a symbol table's strings).
    pub(crate) link: u32,
    /// Bytes of one entry, or 0.
    pub(crate) entsize: u64,
}

/// One program header.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
}

/// An open ELF file.
pub(crate) struct Elf {
    source: Arc<dyn Source>,
    fields: Fields,
    /// `ET_*`.
    pub(crate) kind: u16,
    /// `EM_*`.
    pub(crate) machine: u16,
    sections: Vec<Section>,
    section_names: Vec<u8>,
    segments: Vec<Segment>,
}

/// How numbers stand in this file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    little: bool,
    /// 64-bit layout.
    pub(crate) wide: bool,
}

impl Fields {
    /// Two bytes at `at`; 0 past the end.
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let b = array(bytes, at);
        if self.little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) }
    }
    /// Four bytes at `at`; 0 past the end.
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let b = array(bytes, at);
        if self.little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) }
    }
    /// Eight bytes at `at`; 0 past the end.
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let b = array(bytes, at);
        if self.little { u64::from_le_bytes(b) } else { u64::from_be_bytes(b) }
    }
    /// An address or offset: four bytes at `narrow`, or eight at `wide`.
    pub(crate) fn word(self, bytes: &[u8], narrow: usize, wide: usize) -> u64 {
        if self.wide { self.u64(bytes, wide) } else { u64::from(self.u32(bytes, narrow)) }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// At most `len` bytes at `offset`, fewer where the source ends.
pub(crate) fn read_up_to(source: &dyn Source, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let left = source.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(len.min(left)).map_err(|_| io::ErrorKind::OutOfMemory)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// `InvalidData` when it is no ELF file, else what reading said. Section and program headers that lie outside the
    /// file are left out.
    pub(crate) fn open(source: Arc<dyn Source>) -> io::Result<Elf> {
        let head = read_up_to(&*source, 0, 64)?;
        if head.len() < 52 || head[..4] != *b"\x7fELF" {
            return Err(invalid("not an ELF file"));
        }
        let wide = match head[4] {
            1 => false,
            2 if head.len() == 64 => true,
            _ => return Err(invalid("ELF file of an unknown class")),
        };
        let little = match head[5] {
            1 => true,
            2 => false,
            _ => return Err(invalid("ELF file of an unknown byte order")),
        };
        let f = Fields { little, wide };
        let half = |narrow, at_wide| f.u16(&head, if wide { at_wide } else { narrow });
        let (phoff, shoff) = (f.word(&head, 28, 32), f.word(&head, 32, 40));
        let (phentsize, mut phnum) = (half(42, 54), u64::from(half(44, 56)));
        let (shentsize, mut shnum) = (half(46, 58), u64::from(half(48, 60)));
        let mut shstrndx = u32::from(half(50, 62));
        if shoff != 0 && usize::from(shentsize) >= section_bytes(wide) {
            let first = read_up_to(&*source, shoff, u64::from(shentsize))?;
            let first = section(f, &first);
            // Numbers that do not fit their field stand in section 0.
            if shnum == 0 {
                shnum = first.size;
            }
            if shstrndx == 0xffff {
                shstrndx = first.link;
            }
            if phnum == 0xffff {
                phnum = u64::from(f.u32(&read_up_to(&*source, shoff, 64)?, if wide { 44 } else { 28 }));
            }
        } else {
            shnum = 0;
        }
        let table = |offset: u64, entry: u16, count: u64| {
            read_up_to(&*source, offset, u64::from(entry) * count.min(MOST_HEADERS))
        };
        let bytes = table(shoff, shentsize, shnum)?;
        let sections: Vec<Section> = match shnum {
            0 => Vec::new(),
            _ => bytes.chunks_exact(usize::from(shentsize)).map(|b| section(f, b)).collect(),
        };
        let mut segments = Vec::new();
        if phoff != 0 && usize::from(phentsize) >= if wide { 56 } else { 32 } {
            let bytes = table(phoff, phentsize, phnum)?;
            segments.extend(bytes.chunks_exact(usize::from(phentsize)).map(|b| segment(f, b)));
        }
        let section_names = match sections.get(shstrndx as usize) {
            Some(s) if s.kind != SHT_NOBITS => read_up_to(&*source, s.offset, s.size.min(MOST_SMALL))?,
            _ => Vec::new(),
        };
        let (kind, machine) = (f.u16(&head, 16), f.u16(&head, 18));
        Ok(Elf { source, fields: f, kind, machine, sections, section_names, segments })
    }

    /// How numbers stand in this file.
    pub(crate) fn fields(&self) -> Fields {
        self.fields
    }

    /// Section by its index.
    pub(crate) fn section(&self, index: usize) -> Option<&Section> {
        self.sections.get(index)
    }

    /// First section of a name, with its index.
    pub(crate) fn section_named(&self, name: &[u8]) -> Option<(usize, &Section)> {
        self.sections.iter().enumerate().skip(1).find(|(_, s)| self.name(s) == name)
    }

    /// A section's name.
    pub(crate) fn name(&self, section: &Section) -> &[u8] {
        let rest = self.section_names.get(section.name as usize..).unwrap_or_default();
        &rest[..rest.iter().position(|&b| b == 0).unwrap_or(rest.len())]
    }

    /// The bytes of a section, decompressed; at most `limit` of them, and fewer where the file is cut short.
    pub(crate) fn bytes(&self, section: &Section, limit: u64) -> io::Result<Vec<u8>> {
        if section.kind == SHT_NOBITS {
            return Ok(Vec::new());
        }
        if section.flags & SHF_COMPRESSED == 0 {
            return read_up_to(&*self.source, section.offset, section.size.min(limit));
        }
        let f = self.fields;
        let packed = read_up_to(&*self.source, section.offset, section.size.min(limit))?;
        let data = packed.get(if f.wide { 24 } else { 12 }..).ok_or_else(|| invalid("compressed section cut short"))?;
        let size = f.word(&packed, 4, 8).min(limit);
        let mut out = Vec::new();
        match f.u32(&packed, 0) {
            ELFCOMPRESS_ZLIB => drop(flate2::read::ZlibDecoder::new(data).take(size).read_to_end(&mut out)?),
            ELFCOMPRESS_ZSTD => drop(zstd::stream::read::Decoder::new(data)?.take(size).read_to_end(&mut out)?),
            _ => return Err(invalid("section compressed in an unknown way")),
        }
        Ok(out)
    }

    /// A section's place in the file, when it stands there as it is (neither compressed nor `NOBITS`).
    pub(crate) fn plain(&self, section: &Section) -> Option<(&Arc<dyn Source>, u64, u64)> {
        if section.kind == SHT_NOBITS || section.flags & SHF_COMPRESSED != 0 {
            return None;
        }
        let left = self.source.len().saturating_sub(section.offset);
        Some((&self.source, section.offset, section.size.min(left)))
    }

    /// Where in the file address `vaddr` is loaded from, by the first loaded segment that has it.
    pub(crate) fn offset_of(&self, vaddr: u64) -> Option<u64> {
        self.segments
            .iter()
            .filter(|s| s.kind == PT_LOAD)
            .find(|s| vaddr.checked_sub(s.vaddr).is_some_and(|o| o < s.memsz.max(s.filesz)))
            .map(|s| vaddr.wrapping_sub(s.vaddr).wrapping_add(s.offset))
    }

    /// `NT_GNU_BUILD_ID`, from the note sections or, without sections, from the note segments.
    pub(crate) fn build_id(&self) -> Option<BuildId> {
        let sections = [&b".note.gnu.build-id"[..], b".notes", b".note"]
            .into_iter()
            .filter_map(|name| self.section_named(name))
            .filter_map(|(_, s)| self.bytes(s, MOST_SMALL).ok());
        let segments = self
            .segments
            .iter()
            .filter(|s| s.kind == PT_NOTE)
            .filter_map(|s| read_up_to(&*self.source, s.offset, s.filesz.min(MOST_SMALL)).ok());
        sections.chain(segments).find_map(|notes| build_id_in(self.fields, &notes))
    }
}

/// The build id of an ELF file; `None` when it is none, or has none.
pub fn build_id_of(source: Arc<dyn Source>) -> Option<BuildId> {
    Elf::open(source).ok()?.build_id()
}

/// The build id among notes of this machine's byte order, as in `/sys/kernel/notes` and `/sys/module/NAME/notes`.
pub fn build_id_of_notes(notes: &[u8]) -> Option<BuildId> {
    build_id_in(Fields { little: cfg!(target_endian = "little"), wide: true }, notes)
}

fn build_id_in(f: Fields, mut notes: &[u8]) -> Option<BuildId> {
    let align = |n: u32| (n as usize).checked_add(3).map(|n| n & !3);
    while notes.len() >= 12 {
        let (namesz, descsz, kind) = (f.u32(notes, 0), f.u32(notes, 4), f.u32(notes, 8));
        let name_end = align(namesz)?.checked_add(12)?;
        let desc = notes.get(name_end..)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && namesz == 4 && (1..=20).contains(&descsz) {
            return desc.get(..descsz as usize).map(|id| BuildId(id.to_vec()));
        }
        notes = desc.get(align(descsz)?..)?;
    }
    None
}

fn section_bytes(wide: bool) -> usize {
    if wide { 64 } else { 40 }
}

fn section(f: Fields, b: &[u8]) -> Section {
    Section {
        name: f.u32(b, 0),
        kind: f.u32(b, 4),
        flags: f.word(b, 8, 8),
        addr: f.word(b, 12, 16),
        offset: f.word(b, 16, 24),
        size: f.word(b, 20, 32),
        link: f.u32(b, if f.wide { 40 } else { 24 }),
        entsize: f.word(b, 36, 56),
    }
}

fn segment(f: Fields, b: &[u8]) -> Segment {
    Segment {
        kind: f.u32(b, 0),
        offset: f.word(b, 4, 8),
        vaddr: f.word(b, 8, 16),
        filesz: f.word(b, 16, 32),
        memsz: f.word(b, 20, 40),
    }
}
