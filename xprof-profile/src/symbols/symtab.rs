//! The symbols of an ELF file as a [`Table`] of file offsets: `.symtab`, `.dynsym`, and names for the procedure linkage
//! table. Those of the kernel's own file by the addresses where it was running.
//!
//! Which symbols count is perf's rule: functions, objects, and labels in sections whose name says text or data. Data stays
//! in, since it ends the symbols of unknown size before it, and names the addresses that loads and stores touch.

use std::io;

use object::Endianness;
use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_X86_64, ET_REL, Machine, Rel32, Rel64, Rela32, Rela64, SHF_ALLOC, SHN_UNDEF,
    SHN_XINDEX, SHT_DYNSYM, SHT_NOBITS, SHT_REL, SHT_RELA, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC,
    STT_NOTYPE, STT_OBJECT, STV_HIDDEN, STV_INTERNAL, SectionType, Sym32, Sym64, SymbolBind, SymbolSection, SymbolType,
    SymbolVisibility,
};

use super::Reference;
use super::elf::{Elf, Section, entries};
use super::table::{Binding, Entry, Strings, Style, Table, name_at};

/// Symbol tables are read in pieces of about this many bytes.
const PIECE: u64 = 1 << 20;
/// Strings that stand compressed in a file: more of them is not unpacked.
const MOST_STRINGS: u64 = 1 << 30;

/// True when there is a `.symtab`.
pub(crate) fn has_symtab(elf: &Elf) -> bool {
    elf.section_named(b".symtab").is_some_and(|(_, s)| s.kind == SHT_SYMTAB && s.size > 0)
}

/// The table of the file `names`, whose addresses are loaded as the headers of `loaded` say. They are the same file, or
/// `names` is its separate debug file.
///
/// # Errors
/// What reading said. A table that is cut short gives the symbols that are there.
pub(crate) fn table(names: &Elf, loaded: &Elf) -> io::Result<Table> {
    let mut table = Table::new(Style::Demangled);
    add(&mut table, names, loaded, b".symtab", SHT_SYMTAB)?;
    add(&mut table, names, loaded, b".dynsym", SHT_DYNSYM)?;
    if table.is_empty() && !std::ptr::eq(names, loaded) {
        add(&mut table, loaded, loaded, b".dynsym", SHT_DYNSYM)?;
    }
    add_plt(&mut table, loaded)?;
    table.seal();
    Ok(table)
}

/// The table of a stripped file with the names that it carries compressed (`.gnu_debugdata`): those of `mini`, then its own
/// exported ones.
///
/// # Errors
/// What reading said.
pub(crate) fn with_mini(elf: &Elf, mini: &Elf) -> io::Result<Table> {
    let mut table = Table::new(Style::Demangled);
    add(&mut table, mini, elf, b".symtab", SHT_SYMTAB)?;
    add(&mut table, elf, elf, b".dynsym", SHT_DYNSYM)?;
    add_plt(&mut table, elf)?;
    table.seal();
    Ok(table)
}

/// The table of the kernel's own file, by the addresses it had when its reference symbol was where `reference` says;
/// without one, by those it was linked for; and how much higher these are than the file's. Empty when the file has no symbols.
///
/// # Errors
/// What reading said; `InvalidData` when its addresses cannot be told.
pub(crate) fn kernel_table(elf: &Elf, reference: Option<&Reference>) -> io::Result<(Table, u64)> {
    by_address(elf, Style::Kernel, reference)
}

/// The table of a program that runs where it was linked for, by run-time addresses. Empty when it has no symbols.
///
/// # Errors
/// What reading said.
pub(crate) fn program_table(elf: &Elf) -> io::Result<Table> {
    Ok(by_address(elf, Style::Demangled, None)?.0)
}

/// The table, and by how much its addresses are higher than the file's.
fn by_address(elf: &Elf, style: Style, reference: Option<&Reference>) -> io::Result<(Table, u64)> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut table = Table::new(style);
    let Some((symbols, strings)) = symbols_of(elf, b".symtab", SHT_SYMTAB) else { return Ok((table, 0)) };
    let mut moved = 0;
    if elf.kind == ET_REL {
        return Err(invalid("they are those of an object file".into()));
    }
    let strings = elf.bytes(strings, MOST_STRINGS)?;
    let mapping_symbols = has_mapping_symbols(elf);
    let (mut entries, mut linked) = (Vec::new(), None);
    each_symbol(elf, symbols, |symbol| {
        let name = name_at(&strings, symbol.name as usize).0;
        if mapping_symbols && is_mapping_symbol(name) {
            return;
        }
        if reference.is_some_and(|r| r.name == name) && symbol.section != SHN_UNDEF {
            linked = Some(symbol.value);
        }
        entries.extend(entry(&symbol, 0, elf, Places::Addresses));
    })?;
    if let Some(reference) = reference {
        let name = String::from_utf8_lossy(&reference.name);
        let linked = linked.ok_or_else(|| invalid(format!("{name} is not among them, which says where they were")))?;
        moved = reference.address.wrapping_sub(linked);
        for entry in &mut entries {
            let size = entry.end.saturating_sub(entry.start);
            entry.start = entry.start.wrapping_add(moved);
            entry.end = entry.start.saturating_add(size);
        }
    }
    table.add_strings(Strings::Memory(strings));
    table.add(entries);
    table.seal();
    Ok((table, moved))
}

/// A symbol table and its strings.
fn symbols_of<'a>(elf: &'a Elf, name: &[u8], kind: SectionType) -> Option<(&'a Section, &'a Section)> {
    let (_, symbols) = elf.section_named(name).filter(|(_, s)| s.kind == kind)?;
    Some((symbols, elf.section(symbols.link as usize)?))
}

/// Adds one symbol table of `names`; nothing when it has none of that name.
fn add(table: &mut Table, names: &Elf, loaded: &Elf, section: &[u8], kind: SectionType) -> io::Result<()> {
    let Some((symbols, strings)) = symbols_of(names, section, kind) else { return Ok(()) };
    let strings = match names.plain(strings) {
        Some((source, offset, size)) => Strings::File(source.clone(), offset, size),
        None => Strings::Memory(names.bytes(strings, MOST_STRINGS)?),
    };
    let mapping_symbols = has_mapping_symbols(names);
    let marks = match (&strings, mapping_symbols) {
        (_, false) => Vec::new(),
        (Strings::Memory(bytes), true) => bytes.clone(),
        (Strings::File(source, offset, size), true) => {
            super::elf::read_up_to(&**source, *offset, (*size).min(MOST_STRINGS))?
        }
    };
    let Some(number) = table.add_strings(strings) else { return Ok(()) };
    let mut entries = Vec::new();
    each_symbol(names, symbols, |symbol| {
        if mapping_symbols && is_mapping_symbol(name_at(&marks, symbol.name as usize).0) {
            return;
        }
        entries.extend(entry(&symbol, number, names, Places::Offsets(loaded)));
    })?;
    table.add(entries);
    Ok(())
}

/// One symbol as it stands in the file.
struct Sym {
    name: u32,
    kind: SymbolType,
    binding: SymbolBind,
    visibility: SymbolVisibility,
    section: SymbolSection,
    value: u64,
    size: u64,
}

impl Sym {
    fn decode<S: object::read::elf::Sym<Endian = Endianness>>(symbol: &S, endian: Endianness) -> Sym {
        Sym {
            name: symbol.st_name(endian),
            kind: symbol.st_type(),
            binding: symbol.st_bind(),
            visibility: symbol.st_visibility(),
            section: symbol.st_shndx(endian),
            value: symbol.st_value(endian).into(),
            size: symbol.st_size(endian).into(),
        }
    }
}

fn each_symbol(elf: &Elf, symbols: &Section, mut each: impl FnMut(Sym)) -> io::Result<()> {
    let endian = elf.endian;
    let mut read = |bytes: &[u8]| match elf.wide {
        true => entries::<Sym64<Endianness>>(bytes).iter().for_each(|s| each(Sym::decode(s, endian))),
        false => entries::<Sym32<Endianness>>(bytes).iter().for_each(|s| each(Sym::decode(s, endian))),
    };
    let Some((source, mut offset, mut left)) = elf.plain(symbols) else {
        read(&elf.bytes(symbols, MOST_STRINGS)?);
        return Ok(());
    };
    let entry = if elf.wide { size_of::<Sym64<Endianness>>() } else { size_of::<Sym32<Endianness>>() } as u64;
    while left > 0 {
        let bytes = super::elf::read_up_to(&**source, offset, left.min(PIECE / entry * entry))?;
        if bytes.is_empty() {
            break;
        }
        read(&bytes);
        offset += bytes.len() as u64;
        left -= bytes.len() as u64;
    }
    Ok(())
}

/// What a table counts in.
#[derive(Clone, Copy)]
enum Places<'a> {
    /// Offsets in this file.
    Offsets(&'a Elf),
    /// The addresses that the file was linked for.
    Addresses,
}

fn entry(symbol: &Sym, strings: u8, names: &Elf, places: Places<'_>) -> Option<Entry> {
    let label = match symbol.kind {
        STT_FUNC | STT_GNU_IFUNC | STT_OBJECT => false,
        STT_NOTYPE if !matches!(symbol.visibility, STV_INTERNAL | STV_HIDDEN) => true,
        _ => return None,
    };
    if symbol.name == 0 || symbol.section == SHN_UNDEF {
        return None;
    }
    let section = match symbol.section {
        // Its section stands in another table; the segments give its place all the same.
        SHN_XINDEX if !label => None,
        section => {
            let index = section.index()?;
            let mut elf = names;
            let mut section = elf.section(usize::from(index))?;
            if !section.flags.contains(SHF_ALLOC) {
                return None;
            }
            // A debug file has only the headers of what is loaded, and their offsets mean nothing.
            if let (SHT_NOBITS, Places::Offsets(loaded)) = (section.kind, places) {
                elf = loaded;
                section = elf.section(usize::from(index))?;
            }
            if label && !says_text_or_data(elf.name(section)) {
                return None;
            }
            Some(section)
        }
    };
    let mut value = symbol.value;
    if names.machine == EM_ARM && symbol.kind == STT_FUNC {
        value &= !1; // Thumb code is marked by the lowest bit.
    }
    let in_section = |s: &Section| value.wrapping_sub(s.addr).wrapping_add(s.offset);
    let start = match (places, section) {
        (Places::Addresses, _) => value,
        (Places::Offsets(loaded), Some(s)) if loaded.kind == ET_REL => in_section(s),
        (Places::Offsets(loaded), _) => loaded.offset_of(value).or_else(|| section.map(in_section))?,
    };
    let binding = match symbol.binding {
        STB_GLOBAL => Binding::Global,
        STB_WEAK => Binding::Weak,
        _ => Binding::Local,
    };
    Some(Entry {
        start,
        end: start.saturating_add(symbol.size),
        name: symbol.name,
        strings,
        binding,
        plt: false,
        in_module: false,
    })
}

fn says_text_or_data(name: &[u8]) -> bool {
    name.windows(4).any(|w| w == b"text" || w == b"data")
}

/// `$a`, `$d`, `$t`, `$x` mark kinds of code on Arm and name nothing.
fn has_mapping_symbols(elf: &Elf) -> bool {
    matches!(elf.machine, EM_ARM | EM_AARCH64)
}

fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(name, [b'$', b'a' | b'd' | b't' | b'x'] | [b'$', b'a' | b'd' | b't' | b'x', b'.', ..])
}

/// Names the entries of the procedure linkage table after what they lead to: the entries stand in the order of their
/// relocations. A `.plt.sec` (code for indirect branch tracking) has the same order and no first entry.
fn add_plt(table: &mut Table, elf: &Elf) -> io::Result<()> {
    let relocations = elf.section_named(b".rela.plt").or_else(|| elf.section_named(b".rel.plt"));
    let (Some((_, relocations)), Some((dynsym, symbols))) = (relocations, elf.section_named(b".dynsym")) else {
        return Ok(());
    };
    // Not all linkers say the symbol table (lld without symbols leaves 0).
    if symbols.kind != SHT_DYNSYM || relocations.link as usize != dynsym {
        return Ok(());
    }
    let Some(strings) = elf.section(symbols.link as usize).and_then(|s| elf.plain(s)) else { return Ok(()) };
    let Some(number) = table.add_strings(Strings::File(strings.0.clone(), strings.1, strings.2)) else {
        return Ok(());
    };
    let mut names = Vec::new();
    each_symbol(elf, symbols, |symbol| names.push(symbol.name))?;
    let targets = targets(elf, relocations)?;
    let mut linked = Vec::new();
    for (name, has_first) in [(&b".plt"[..], true), (b".plt.sec", false)] {
        let Some((_, plt)) = elf.section_named(name) else { continue };
        let (first, each) = plt_shape(elf.machine, plt.entsize, has_first);
        let places = (0..).map(|i: u64| plt.offset.saturating_add(first).saturating_add(i.saturating_mul(each)));
        let end = plt.offset.saturating_add(plt.size);
        for (start, symbol) in places.zip(&targets).take_while(|(start, _)| *start < end) {
            let name = names.get(*symbol as usize).copied().unwrap_or(0);
            let binding = Binding::Global;
            linked.push(Entry {
                start,
                end: start.saturating_add(each),
                name,
                strings: number,
                binding,
                plt: true,
                in_module: false,
            });
        }
    }
    table.add(linked);
    Ok(())
}

/// The symbols, by index, that relocations of a section are made with.
fn targets(elf: &Elf, relocations: &Section) -> io::Result<Vec<u32>> {
    let (endian, bytes) = (elf.endian, elf.bytes(relocations, MOST_STRINGS)?);
    Ok(match (relocations.kind, elf.wide) {
        (SHT_RELA, true) => entries::<Rela64<Endianness>>(&bytes).iter().map(|r| r.r_sym(endian, false)).collect(),
        (SHT_RELA, false) => entries::<Rela32<Endianness>>(&bytes).iter().map(|r| r.r_sym(endian)).collect(),
        (SHT_REL, true) => entries::<Rel64<Endianness>>(&bytes).iter().map(|r| r.r_sym(endian)).collect(),
        (SHT_REL, false) => entries::<Rel32<Endianness>>(&bytes).iter().map(|r| r.r_sym(endian)).collect(),
        _ => Vec::new(),
    })
}

/// Bytes of the first entry, which leads to the dynamic linker, and of each other. Source: the processor supplements of
/// the System V ABI.
fn plt_shape(machine: Machine, entsize: u64, has_first: bool) -> (u64, u64) {
    let (first, each) = match machine {
        EM_ARM => (20, 12),
        EM_AARCH64 => (32, 16),
        // lld leaves the entry size 0, GNU ld says 4 in 32-bit files.
        EM_X86_64 | EM_386 if !matches!(entsize, 8 | 16) => (16, 16),
        _ => (entsize, entsize.max(1)),
    };
    (if has_first { first } else { 0 }, each)
}
