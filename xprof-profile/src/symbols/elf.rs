//! ELF files, read piece by piece from a [`Source`]: headers, then only the sections that are asked for.
//!
//! Files are untrusted and can be larger than memory, so nothing is mapped or read whole: every length is held against
//! what the source really has, and a file that is cut short gives what is left of it. What the pieces mean is known by
//! the crate `object`. Its own readers of whole files are not used: they want all of a file in memory, or keep all that was
//! read of it, and give nothing of a table whose end is missing.

use std::io::{self, Read};
use std::sync::Arc;

use object::Endianness;
use object::elf::{
    CompressionHeader32, CompressionHeader64, CompressionType, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, FileHeader32,
    FileHeader64, FileType, Machine, NT_GNU_BUILD_ID, PF_X, PN_XNUM, PT_LOAD, PT_NOTE, ProgramType, SHF_COMPRESSED,
    SHN_XINDEX, SHT_NOBITS, SectionFlags, SectionType,
};
use object::pod::{self, Pod};
use object::read::elf::{CompressionHeader, FileHeader, NoteIterator, ProgramHeader, SectionHeader};
use xprof_perfdata::source::Source;

use crate::supply::BuildId;

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
    pub(crate) kind: SectionType,
    /// `SHF_*`.
    pub(crate) flags: SectionFlags,
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
    kind: ProgramType,
    executable: bool,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
}

/// A piece of a file that is loaded to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    /// Its first address, as the file's own symbols number it.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// An open ELF file.
pub(crate) struct Elf {
    source: Arc<dyn Source>,
    /// Byte order.
    pub(crate) endian: Endianness,
    /// 64-bit layout.
    pub(crate) wide: bool,
    /// `ET_*`.
    pub(crate) kind: FileType,
    /// `EM_*`.
    pub(crate) machine: Machine,
    sections: Vec<Section>,
    section_names: Vec<u8>,
    segments: Vec<Segment>,
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

/// The entries of a table, as many as stand whole in these bytes.
pub(crate) fn entries<T: Pod>(bytes: &[u8]) -> &[T] {
    pod::slice_from_bytes(bytes, bytes.len() / size_of::<T>()).map_or(&[], |(entries, _)| entries)
}

/// A table of at most `count` entries, as bytes for [`entries`]; empty when the file says that its entries have another
/// size.
fn table<T: Pod>(source: &dyn Source, offset: u64, size: u16, count: u64) -> io::Result<Vec<u8>> {
    if offset == 0 || usize::from(size) != size_of::<T>() {
        return Ok(Vec::new());
    }
    read_up_to(source, offset, u64::from(size) * count.min(MOST_HEADERS))
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// `InvalidData` when it is no ELF file, else what reading said. Section and program headers that lie outside the
    /// file are left out.
    pub(crate) fn open(source: Arc<dyn Source>) -> io::Result<Elf> {
        let head = read_up_to(&*source, 0, size_of::<FileHeader64<Endianness>>() as u64)?;
        match head.get(..5) {
            Some(b"\x7fELF\x01") => Elf::read::<FileHeader32<Endianness>>(source, &head),
            Some(b"\x7fELF\x02") => Elf::read::<FileHeader64<Endianness>>(source, &head),
            Some(b) if b.starts_with(b"\x7fELF") => Err(invalid("ELF file of an unknown class")),
            _ => Err(invalid("not an ELF file")),
        }
    }

    fn read<H: FileHeader<Endian = Endianness>>(source: Arc<dyn Source>, head: &[u8]) -> io::Result<Elf> {
        let header = H::parse(head).map_err(|e| invalid(&e.to_string()))?;
        let endian = header.endian().map_err(|e| invalid(&e.to_string()))?;
        let table_of_sections = |count| {
            table::<H::SectionHeader>(&*source, header.e_shoff(endian).into(), header.e_shentsize(endian), count)
        };
        // Numbers that do not fit their field stand in section 0.
        let bytes = table_of_sections(1)?;
        let first = entries::<H::SectionHeader>(&bytes).first();
        let shnum = match header.e_shnum(endian) {
            0 => first.map_or(0, |s| s.sh_size(endian).into()),
            n => u64::from(n),
        };
        let phnum = match header.e_phnum(endian) {
            PN_XNUM => first.map_or(0, |s| u64::from(s.sh_info(endian))),
            n => u64::from(n),
        };
        let shstrndx = match header.e_shstrndx(endian) {
            SHN_XINDEX => first.map_or(0, |s| s.sh_link(endian)),
            n => u32::from(n.0),
        };
        let bytes = table_of_sections(shnum)?;
        let sections: Vec<Section> =
            entries::<H::SectionHeader>(&bytes).iter().map(|s| Section::decode(s, endian)).collect();
        let bytes =
            table::<H::ProgramHeader>(&*source, header.e_phoff(endian).into(), header.e_phentsize(endian), phnum)?;
        let segments = entries::<H::ProgramHeader>(&bytes).iter().map(|s| Segment::decode(s, endian)).collect();
        let section_names = match sections.get(shstrndx as usize) {
            Some(s) if s.kind != SHT_NOBITS => read_up_to(&*source, s.offset, s.size.min(MOST_SMALL))?,
            _ => Vec::new(),
        };
        let (kind, machine, wide) = (header.e_type(endian), header.e_machine(endian), header.is_type_64());
        Ok(Elf { source, endian, wide, kind, machine, sections, section_names, segments })
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
        if !section.flags.contains(SHF_COMPRESSED) {
            return read_up_to(&*self.source, section.offset, section.size.min(limit));
        }
        let packed = read_up_to(&*self.source, section.offset, section.size.min(limit))?;
        let header = match self.wide {
            true => compression::<CompressionHeader64<Endianness>>(&packed, self.endian),
            false => compression::<CompressionHeader32<Endianness>>(&packed, self.endian),
        };
        let (how, size, data) = header.ok_or_else(|| invalid("compressed section cut short"))?;
        let size = size.min(limit);
        // Growing step by step would move it again and again; what is said to be packed tighter than usual must show it.
        const USUAL: u64 = 8;
        let mut out = Vec::with_capacity(size.min(data.len() as u64 * USUAL) as usize);
        match how {
            ELFCOMPRESS_ZLIB => drop(flate2::read::ZlibDecoder::new(data).take(size).read_to_end(&mut out)?),
            ELFCOMPRESS_ZSTD => drop(zstd::stream::read::Decoder::new(data)?.take(size).read_to_end(&mut out)?),
            _ => return Err(invalid("section compressed in an unknown way")),
        }
        Ok(out)
    }

    /// A section's place in the file, when it stands there as it is (neither compressed nor `NOBITS`).
    pub(crate) fn plain(&self, section: &Section) -> Option<(&Arc<dyn Source>, u64, u64)> {
        if section.kind == SHT_NOBITS || section.flags.contains(SHF_COMPRESSED) {
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

    /// At which address the byte at a file offset is loaded: the opposite of [`Elf::offset_of`]. lld's segments share pages
    /// of the file: an executable one goes first.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        let loads = || self.segments.iter().filter(|s| s.kind == PT_LOAD);
        let within = |s: &&Segment| offset.checked_sub(s.offset).is_some_and(|o| o < s.filesz);
        let mut found = loads().filter(|s| s.executable).chain(loads().filter(|s| !s.executable)).filter(within);
        found.next().map(|s| offset.wrapping_sub(s.offset).wrapping_add(s.vaddr))
    }

    /// What is loaded to be executed.
    pub(crate) fn code_segments(&self) -> impl Iterator<Item = CodeSegment> {
        let code = self.segments.iter().filter(|s| s.kind == PT_LOAD && s.executable);
        code.map(|s| CodeSegment { address: s.vaddr, offset: s.offset, size: s.filesz })
    }

    /// Whether the byte at a file offset is loaded to be executed.
    pub(crate) fn is_code(&self, offset: u64) -> bool {
        let mut code = self.segments.iter().filter(|s| s.kind == PT_LOAD && s.executable);
        code.any(|s| offset.checked_sub(s.offset).is_some_and(|o| o < s.filesz))
    }

    /// At most `len` bytes at a file offset, fewer where the file ends.
    pub(crate) fn code(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        read_up_to(&*self.source, offset, len)
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
        sections.chain(segments).find_map(|notes| build_id_in(self.endian, &notes))
    }
}

/// What a program is started with besides itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// Path of the dynamic linker; `None` for a static program.
    pub interpreter: Option<Vec<u8>>,
    /// Names of libraries.
    pub needed: Vec<Vec<u8>>,
}

impl Linked {
    /// Of an ELF file with sections; `None` when it is none.
    pub fn of(source: Arc<dyn Source>) -> Option<Linked> {
        /// `DT_NEEDED`.
        const NEEDED: u64 = 1;
        let elf = Elf::open(source).ok().filter(|elf| elf.wide && elf.endian == Endianness::Little)?;
        let bytes =
            |name: &[u8]| elf.section_named(name).and_then(|(_, s)| elf.bytes(s, MOST_SMALL).ok()).unwrap_or_default();
        let text = |bytes: &[u8]| bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec();
        let (strings, dynamic) = (bytes(b".dynstr"), bytes(b".dynamic"));
        let entries = dynamic.as_chunks::<16>().0.iter().map(|entry| {
            let number = |at: usize| entry[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            (number(0), number(8))
        });
        let name = |(_, at)| strings.get(usize::try_from(at).ok()?..).map(text);
        let needed = entries.filter(|(tag, _)| *tag == NEEDED).filter_map(name).collect();
        Some(Linked { interpreter: elf.section_named(b".interp").map(|_| text(&bytes(b".interp"))), needed })
    }
}

/// The build id of an ELF file; `None` when it is none, or has none.
pub fn build_id_of(source: Arc<dyn Source>) -> Option<BuildId> {
    Elf::open(source).ok()?.build_id()
}

/// The build id among notes of this machine's byte order, as in `/sys/kernel/notes` and `/sys/module/NAME/notes`.
pub fn build_id_of_notes(notes: &[u8]) -> Option<BuildId> {
    build_id_in(Endianness::default(), notes)
}

/// Notes are aligned to 4 bytes, and look the same in files of both layouts.
fn build_id_in(endian: Endianness, notes: &[u8]) -> Option<BuildId> {
    let notes = NoteIterator::<FileHeader64<Endianness>>::new(endian, 4, notes).ok()?;
    let is_id = |n_type, name: &[u8], len| n_type == NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=20).contains(&len);
    let mut notes = notes.map_while(Result::ok);
    let note = notes.find(|note| is_id(note.n_type(endian), note.name_bytes(), note.desc().len()))?;
    Some(BuildId(note.desc().to_vec()))
}

/// How a section is compressed, its size without that, and what is behind the header that says so.
fn compression<C: CompressionHeader<Endian = Endianness>>(
    packed: &[u8],
    endian: Endianness,
) -> Option<(CompressionType, u64, &[u8])> {
    let (header, data) = pod::from_bytes::<C>(packed).ok()?;
    Some((header.ch_type(endian), header.ch_size(endian).into(), data))
}

impl Section {
    fn decode<H: SectionHeader<Endian = Endianness>>(header: &H, endian: Endianness) -> Section {
        Section {
            name: header.sh_name(endian),
            kind: header.sh_type(endian),
            flags: header.sh_flags(endian),
            addr: header.sh_addr(endian).into(),
            offset: header.sh_offset(endian).into(),
            size: header.sh_size(endian).into(),
            link: header.sh_link(endian),
            entsize: header.sh_entsize(endian).into(),
        }
    }
}

impl Segment {
    fn decode<H: ProgramHeader<Endian = Endianness>>(header: &H, endian: Endianness) -> Segment {
        Segment {
            kind: header.p_type(endian),
            executable: header.p_flags(endian).contains(PF_X),
            offset: header.p_offset(endian).into(),
            vaddr: header.p_vaddr(endian).into(),
            filesz: header.p_filesz(endian).into(),
            memsz: header.p_memsz(endian).into(),
        }
    }
}
