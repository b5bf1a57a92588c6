//! The call frame information of one file: from a code address to the row that holds there.
//!
//! `.eh_frame` is found through the sorted table of `.eh_frame_hdr`; where there is none, or for `.debug_frame`, an index
//! is made of all entries. Files are untrusted: sections are read up to a limit, an index has no more entries than its
//! section has bytes, and the program of one entry is run only when it is short.

use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice, Endianity, FrameDescriptionEntry, RegisterRule,
    RunTimeEndian, UnwindContext, UnwindExpression, UnwindSection, Vendor,
};
use object::elf::{EM_AARCH64, EM_X86_64};

use super::code;
use super::registers::Arch;
use super::row::{self, Cfa, Row, Rule};
use crate::symbols::elf::Elf;

/// No file has more call frame information, bytes (a browser of 250 MB has 12 MB of it).
const MOST_CFI: u64 = 128 << 20;
/// The longest entry whose program is run, bytes: a function has some hundred.
const LONGEST_ENTRY: usize = 256 << 10;
/// Sections that hold linkage tables.
const LINKAGE: [&[u8]; 4] = [b".plt", b".plt.sec", b".plt.got", b".iplt"];

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;

/// A section in memory.
#[derive(Debug, Default)]
struct Section {
    addr: u64,
    bytes: Vec<u8>,
}

/// Entries by the addresses that they are for: first, last, place in the section.
type Index = Vec<(u64, u64, usize)>;

/// The call frame information of a file.
pub(crate) struct Cfi {
    elf: Elf,
    arch: Arch,
    eh_frame: Section,
    header: Section,
    debug_frame: Section,
    bases: BaseAddresses,
    /// Of `.eh_frame`, made when there is no usable table.
    eh_index: Option<Index>,
    debug_index: Option<Index>,
    /// Addresses of linkage tables.
    linkage: Vec<(u64, u64)>,
    context: UnwindContext<usize>,
}

impl std::fmt::Debug for Cfi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cfi({} + {} bytes)", self.eh_frame.bytes.len(), self.debug_frame.bytes.len())
    }
}

/// What is known of a code address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    /// A row.
    Row(Row),
    /// It is not code: a recording may tell of data mappings too.
    NotCode,
    /// No CFI covers it.
    Nothing,
    /// CFI covers it and is damaged.
    Bad,
}

impl Cfi {
    /// Reads the sections of a file of a 64-bit machine; `None` for another one.
    pub(crate) fn of(elf: Elf) -> Option<Cfi> {
        let arch = match elf.machine {
            EM_X86_64 => Arch::X86_64,
            EM_AARCH64 => Arch::Aarch64,
            _ => return None,
        };
        if !elf.wide {
            return None;
        }
        let read = |name: &[u8]| {
            let section = elf.section_named(name).map(|(_, section)| section);
            section.map_or_else(Section::default, |s| Section {
                addr: s.addr,
                bytes: elf.bytes(s, MOST_CFI).unwrap_or_default(),
            })
        };
        let (eh_frame, header, debug_frame) = (read(b".eh_frame"), read(b".eh_frame_hdr"), read(b".debug_frame"));
        let address = |name: &[u8]| elf.section_named(name).map_or(0, |(_, s)| s.addr);
        let bases = BaseAddresses::default()
            .set_eh_frame(eh_frame.addr)
            .set_eh_frame_hdr(header.addr)
            .set_text(address(b".text"))
            .set_got(address(b".got"));
        let linkage = LINKAGE.iter().filter_map(|name| elf.section_named(name));
        let linkage = linkage.map(|(_, s)| (s.addr, s.addr.saturating_add(s.size))).collect();
        Some(Cfi {
            elf,
            arch,
            eh_frame,
            header,
            debug_frame,
            bases,
            eh_index: None,
            debug_index: None,
            linkage,
            context: UnwindContext::new(),
        })
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        let index = |index: &Option<Index>| index.as_ref().map_or(0, |index| index.capacity() * 24);
        let sections =
            self.eh_frame.bytes.capacity() + self.header.bytes.capacity() + self.debug_frame.bytes.capacity();
        sections + index(&self.eh_index) + index(&self.debug_index)
    }

    /// Whether the code keeps frame pointers: 99 of 100 bytes lie in functions that set one up. Functions that call nothing
    /// must, too, or their callers are lost (GCC leaves them away). `None` where no CFI tells.
    pub(crate) fn keeps_frame_pointers(&mut self) -> Option<bool> {
        /// Shorter functions may do without, bytes: they have no time to call anything.
        const SHORT: u64 = 32;
        /// Functions that are looked at, spread over the file.
        const MOST_LOOKED_AT: usize = 4096;
        let (endian, vendor, arch) = (self.endian(), self.vendor(), self.arch);
        let Cfi { eh_frame, bases, context, .. } = self;
        let mut section = EhFrame::new(&eh_frame.bytes, endian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        let index = index(&section, bases);
        let (mut all, mut keeping) = (0u64, 0u64);
        for &(first, last, place) in index.iter().step_by(index.len().div_ceil(MOST_LOOKED_AT).max(1)) {
            let size = (last - first).saturating_add(1);
            let Ok(fde) = section.fde_from_offset(bases, place.into(), EhFrame::cie_from_offset) else { continue };
            if size <= SHORT || fde.entry_len() > LONGEST_ENTRY {
                continue;
            }
            let Ok(mut rows) = fde.rows(&section, bases, context) else { continue };
            let mut keeps = false;
            while let Ok(Some(row)) = rows.next_row() {
                keeps |= match arch {
                    Arch::X86_64 => {
                        matches!(row.cfa(), CfaRule::RegisterAndOffset { register, offset: 16 } if register.0 == 6)
                    }
                    Arch::Aarch64 => matches!(row.register(gimli::Register(29)), Some(RegisterRule::Offset(_))),
                };
            }
            all = all.saturating_add(size);
            keeping = keeping.saturating_add(if keeps { size } else { 0 });
        }
        (all > 0).then_some(100 * u128::from(keeping) >= 99 * u128::from(all))
    }

    /// The machine that the file is for.
    pub(crate) fn arch(&self) -> Arch {
        self.arch
    }

    /// What holds at an offset of the file.
    pub(crate) fn at(&mut self, offset: u64) -> Found {
        let Some(address) = self.elf.address_of(offset).filter(|_| self.elf.is_code(offset)) else {
            return Found::NotCode;
        };
        let found = match self.eh_row(address) {
            Found::Nothing => self.debug_row(address),
            found => found,
        };
        match found {
            // The trampoline's own CFI (where it is right) says the same; arm64's gives two registers only.
            Found::Row(row) if row.signal => self.trampoline(offset).map_or(Found::Row(row), Found::Row),
            Found::Nothing => {
                let row = self.trampoline(offset).or_else(|| self.linkage_entry(address, offset));
                row.map_or(Found::Nothing, Found::Row)
            }
            found => found,
        }
    }

    fn trampoline(&self, offset: u64) -> Option<Row> {
        // A return address was looked up by the byte before it, which is not of the trampoline.
        let code = self.elf.code(offset, code::TRAMPOLINE_BYTES + 1).ok()?;
        let after = code.get(1..).unwrap_or_default();
        code::trampoline(self.arch, &code).or_else(|| code::trampoline(self.arch, after))
    }

    fn linkage_entry(&self, address: u64, offset: u64) -> Option<Row> {
        let (start, _) = self.linkage.iter().find(|(start, end)| (*start..*end).contains(&address))?;
        let at = (address - start) % code::LINKAGE_ENTRY;
        let code = self.elf.code(offset.checked_sub(at)?, code::LINKAGE_ENTRY).ok()?;
        Some(code::linkage_entry(self.arch, &code, at as usize))
    }

    fn endian(&self) -> RunTimeEndian {
        if self.elf.endian == object::Endianness::Big { RunTimeEndian::Big } else { RunTimeEndian::Little }
    }

    fn vendor(&self) -> Vendor {
        if self.arch == Arch::Aarch64 { Vendor::AArch64 } else { Vendor::Default }
    }

    fn eh_row(&mut self, address: u64) -> Found {
        if self.eh_frame.bytes.is_empty() {
            return Found::Nothing;
        }
        let (endian, vendor) = (self.endian(), self.vendor());
        let Cfi { eh_frame, header, bases, eh_index, context, .. } = self;
        let mut section = EhFrame::new(&eh_frame.bytes, endian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        if eh_index.is_none() {
            if let Some(entry) = entry_in_table(header, endian, address) {
                let place = entry.and_then(|entry| usize::try_from(entry.checked_sub(eh_frame.addr)?).ok());
                return place.map_or(Found::Nothing, |place| row_in(&section, bases, context, place, address));
            }
            *eh_index = Some(index(&section, bases));
        }
        indexed(&section, bases, context, eh_index.as_deref().unwrap_or_default(), address)
    }

    fn debug_row(&mut self, address: u64) -> Found {
        if self.debug_frame.bytes.is_empty() {
            return Found::Nothing;
        }
        let (endian, vendor) = (self.endian(), self.vendor());
        let Cfi { debug_frame, bases, debug_index, context, .. } = self;
        let mut section = DebugFrame::new(&debug_frame.bytes, endian);
        section.set_address_size(8);
        section.set_vendor(vendor);
        let index = debug_index.get_or_insert_with(|| index(&section, bases));
        indexed(&section, bases, context, index, address)
    }
}

/// The address of the entry that may cover `address`, by the sorted table of `.eh_frame_hdr`; outer `None` when there is no
/// table of the one kind that linkers write: numbers of 4 bytes, relative to the header. (gimli's look-up believes the
/// table's own count.)
fn entry_in_table(header: &Section, endian: RunTimeEndian, address: u64) -> Option<Option<u64>> {
    // Version 1; how the section's address is written (any way of 4 bytes), the count (udata4), the table (datarel sdata4).
    let ([1, 0x1b | 0x03 | 0x0b, 0x03, 0x3b], rest) = header.bytes.split_first_chunk::<4>()? else { return None };
    let (numbers, table) = rest.split_first_chunk::<8>()?;
    let (rows, _) = table.as_chunks::<8>();
    let count = endian.read_u32(&numbers[4..]) as usize;
    let rows = rows.get(..count.min(rows.len()))?;
    let number = |bytes: &[u8]| header.addr.wrapping_add_signed(i64::from(endian.read_i32(bytes)));
    let behind = rows.partition_point(|row| number(&row[..4]) <= address);
    Some(behind.checked_sub(1).and_then(|at| rows.get(at)).map(|row| number(&row[4..])))
}

/// All entries of a section, sorted; what stands behind a damaged one is left out.
fn index<'a, S: UnwindSection<Slice<'a>>>(section: &S, bases: &BaseAddresses) -> Index
where
    S::Offset: gimli::UnwindOffset<usize>,
{
    let mut list = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(S::cie_from_offset)
            && fde.len() > 0
        {
            list.push((fde.initial_address(), fde.initial_address().saturating_add(fde.len() - 1), fde.offset()));
        }
    }
    list.sort_unstable();
    list
}

fn indexed<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    index: &[(u64, u64, usize)],
    address: u64,
) -> Found
where
    S::Offset: gimli::UnwindOffset<usize>,
{
    let behind = index.partition_point(|(first, _, _)| *first <= address);
    match behind.checked_sub(1).and_then(|at| index.get(at)) {
        Some((_, last, place)) if address <= *last => row_in(section, bases, context, *place, address),
        _ => Found::Nothing,
    }
}

/// The row for an address in the entry at `place`.
fn row_in<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    place: usize,
    address: u64,
) -> Found
where
    S::Offset: gimli::UnwindOffset<usize>,
{
    let fde: FrameDescriptionEntry<Slice<'a>> = match section.fde_from_offset(bases, place.into(), S::cie_from_offset) {
        Ok(fde) => fde,
        Err(_) => return Found::Bad,
    };
    if !fde.contains(address) {
        return Found::Nothing;
    }
    if fde.entry_len() > LONGEST_ENTRY || fde.cie().entry_len() > LONGEST_ENTRY {
        return Found::Bad;
    }
    let Ok(return_register) = u8::try_from(fde.cie().return_address_register().0) else { return Found::Bad };
    let signal = fde.is_signal_trampoline();
    let Ok(unwind) = fde.unwind_info_for_address(section, bases, context, address) else { return Found::Bad };
    let code = |expression: &UnwindExpression<usize>| -> Option<Arc<[u8]>> {
        expression.get(section).ok().map(|expression| expression.0.slice().into())
    };
    let cfa = match unwind.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            u8::try_from(register.0).ok().map(|register| Cfa::Offset(register, *offset))
        }
        CfaRule::Expression(expression) => {
            code(expression).map(|code| row::loaded(&code).unwrap_or(Cfa::Expression(code)))
        }
    };
    let Some(cfa) = cfa else { return Found::Bad };
    let mut rules = Vec::new();
    for (register, rule) in unwind.registers() {
        // Vector registers and arm64's state of signed addresses are of no use here.
        let Some(register) = u8::try_from(register.0).ok().filter(|r| usize::from(*r) < super::registers::COUNT) else {
            continue;
        };
        let rule = match rule {
            RegisterRule::Undefined => Some(Rule::Undefined),
            RegisterRule::SameValue => Some(Rule::Same),
            RegisterRule::Offset(offset) => Some(Rule::At(*offset)),
            RegisterRule::ValOffset(offset) => Some(Rule::Is(*offset)),
            RegisterRule::Register(other) => u8::try_from(other.0).ok().map(Rule::In),
            RegisterRule::Constant(value) => Some(Rule::Constant(*value)),
            RegisterRule::Expression(expression) => code(expression).map(Rule::AtExpression),
            RegisterRule::ValExpression(expression) => code(expression).map(Rule::IsExpression),
            _ => None,
        };
        match rule {
            Some(rule) => rules.push((register, rule)),
            None => return Found::Bad,
        }
    }
    rules.sort_by_key(|(register, _)| *register);
    Found::Row(Row { cfa, rules: rules.into(), return_register, signal })
}
