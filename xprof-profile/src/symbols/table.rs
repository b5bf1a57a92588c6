//! A sorted table of symbols, and the one way to look addresses up in it.
//!
//! The rules are perf's, so that sums by symbol are the same: a symbol of size 0 reaches to the next one; of several at
//! one address, one is chosen by size, binding and name. A table has 24 bytes per symbol; names stay where they are (in the
//! file, or in one buffer) and are made only for the symbols that are hit, once: who looks at samples while they come asks
//! for new addresses of known functions all the time. So of several symbols at one address the best is chosen at lookup
//! too, when an address falls there.
//!
//! Where sized symbols overlap, the one that starts last before the address wins. (perf takes the first that the
//! shape of its tree leads to.)

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use xprof_perfdata::source::Source;

use super::demangle;
use super::{Reference, Symbol};

/// Longest name that is read, in bytes.
const LONGEST_NAME: usize = 64 << 10;
/// Names are read from files in pieces of this many bytes.
const PIECE: u64 = 16 << 10;
/// Symbols per block; of each block the largest end is kept, to pass over it.
const BLOCK: usize = 64;
/// Symbols and blocks looked at for one address, so that a hostile table cannot cost the square of its size.
const MOST_STEPS: usize = 1 << 14;
/// Where the kernel's half of the address space begins.
const UPPER_HALF: u64 = 1 << 63;
/// The page that perf lets the last symbol of unknown size reach to the end of.
const PAGE: u64 = 4096;

/// How visible a symbol is (`STB_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// `STB_LOCAL`, and all others.
    Local,
    /// `STB_GLOBAL`.
    Global,
    /// `STB_WEAK`.
    Weak,
}

/// One symbol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// First address.
    pub(crate) start: u64,
    /// First address behind it; `start` while the size is not known.
    pub(crate) end: u64,
    /// Where its name begins in its strings.
    pub(crate) name: u32,
    /// Which strings.
    pub(crate) strings: u8,
    /// Visibility.
    pub(crate) binding: Binding,
    /// A procedure linkage entry: `@plt` follows the name.
    pub(crate) plt: bool,
    /// Of a kernel module, which lies apart from the kernel.
    pub(crate) in_module: bool,
}

/// Where names are: each ends at a NUL byte.
#[derive(Clone)]
pub(crate) enum Strings {
    /// In a file, at an offset, so many bytes.
    File(Arc<dyn Source>, u64, u64),
    /// In memory.
    Memory(Vec<u8>),
}

/// What is done to a name before it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// C++, Rust, OCaml and Java names are demangled.
    Demangled,
    /// A kernel name: as it is, without the module behind a tab.
    Kernel,
}

/// A sorted table.
pub(crate) struct Table {
    entries: Vec<Entry>,
    block_ends: Vec<u64>,
    strings: Vec<Strings>,
    style: Style,
    made: Mutex<Made>,
}

/// What lookups have found out.
#[derive(Default)]
struct Made {
    /// By start: the first symbol there, and the one of all there that is shown.
    chosen: FxHashMap<u64, (usize, usize)>,
    /// By symbol.
    names: FxHashMap<usize, Arc<str>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(style: Style) -> Table {
        Table { entries: Vec::new(), block_ends: Vec::new(), strings: Vec::new(), style, made: Mutex::default() }
    }

    /// True when no symbol is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds strings; the number that entries name them by. `None` when there are 256 already.
    pub(crate) fn add_strings(&mut self, strings: Strings) -> Option<u8> {
        let number = u8::try_from(self.strings.len()).ok()?;
        self.strings.push(strings);
        Some(number)
    }

    /// Adds symbols behind those that are there (of several at one address the earlier are asked first). They are found
    /// once the table is sealed.
    pub(crate) fn add(&mut self, mut more: Vec<Entry>) {
        if self.entries.is_empty() {
            self.entries = more;
        } else {
            self.entries.append(&mut more);
        }
    }

    /// Gives sizes to the symbols that have none: up to the next symbol; between the kernel and a module, and for the last,
    /// up to the end of the next page.
    pub(crate) fn seal(&mut self) {
        self.entries.sort_by_key(|e| e.start);
        for i in 1..self.entries.len() {
            let (previous, next) = (self.entries[i - 1], self.entries[i]);
            if previous.end == previous.start {
                self.entries[i - 1].end = match previous.in_module != next.in_module {
                    true => page_end(previous.end.saturating_add(PAGE)),
                    false => next.start,
                };
            }
        }
        if let Some(last) = self.entries.last_mut()
            && last.end == last.start
        {
            last.end = page_end(last.start).saturating_add(PAGE);
        }
        self.entries.shrink_to_fit();
        self.block_ends = self.entries.chunks(BLOCK).map(|b| b.iter().map(|e| e.end).max().unwrap_or(0)).collect();
    }

    /// From the first symbol to the end of the last, those of kernel modules left out.
    pub(crate) fn extent(&self) -> std::ops::Range<u64> {
        let mut own = self.entries.iter().filter(|e| !e.in_module);
        let start = own.next().map_or(0, |e| e.start);
        start..own.next_back().map_or(start, |e| e.end)
    }

    /// The same symbols where they were when the reference was: a kernel that was booted again lies elsewhere, all of it by the same
    /// distance. Those of modules are left out, as they were loaded anew wherever there was room. `None` where the reference is where
    /// it was, and where there is none.
    pub(crate) fn where_it_was(&self, reference: &Reference) -> Option<Table> {
        let is_named = |entry: &&Entry| match self.strings.get(usize::from(entry.strings)) {
            Some(Strings::Memory(names)) => {
                let name = names.get(entry.name as usize..).and_then(|rest| rest.strip_prefix(&reference.name[..]));
                name.is_some_and(|rest| rest.first().is_none_or(|&end| end == 0))
            }
            _ => false,
        };
        let from = self.entries.partition_point(|e| e.start < reference.address);
        if self.entries[from..].iter().take_while(|e| e.start == reference.address).any(|e| is_named(&e)) {
            return None;
        }
        let moved = reference.address.wrapping_sub(self.entries.iter().find(is_named)?.start);
        // Below are offsets into what each CPU has of its own, and no addresses.
        let own = self.entries.iter().filter(|e| !e.in_module && e.start >= UPPER_HALF);
        let entries =
            own.map(|e| Entry { start: e.start.wrapping_add(moved), end: e.end.wrapping_add(moved), ..*e }).collect();
        let mut table = Table { entries, strings: self.strings.clone(), ..Table::new(self.style) };
        table.seal();
        Some(table)
    }

    /// Looks up sorted addresses; one answer each.
    pub(crate) fn lookup(&self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names { table: self, piece: Piece::default(), made };
        let mut from = 0;
        let mut last: Option<(usize, Symbol)> = None;
        addresses
            .iter()
            .map(|&address| {
                from += self.entries[from..].partition_point(|e| e.start <= address);
                let hit = self.cover(from, address, &mut names)?;
                if let Some((index, symbol)) = &last
                    && *index == hit
                {
                    return Some(symbol.clone());
                }
                let entry = &self.entries[hit];
                let symbol = Symbol {
                    name: names.shown_once(hit),
                    start: entry.start,
                    size: entry.end.saturating_sub(entry.start),
                };
                last = Some((hit, symbol.clone()));
                Some(symbol)
            })
            .collect()
    }

    /// The symbol that has `address`, among those before `upper`: all that start at or before it.
    fn cover(&self, upper: usize, address: u64, names: &mut Names<'_>) -> Option<usize> {
        let mut end = upper;
        for _ in 0..MOST_STEPS {
            let last = end.checked_sub(1)?;
            if end.is_multiple_of(BLOCK) && self.block_ends[last / BLOCK] <= address {
                end -= BLOCK;
                continue;
            }
            if self.entries[last].end <= address {
                end = last;
                continue;
            }
            let start = self.entries[last].start;
            let (first, winner) = match names.made.chosen.get(&start) {
                Some(&known) => known,
                None => {
                    let first = self.entries[..end].partition_point(|e| e.start < start);
                    let after = last + self.entries[last..].partition_point(|e| e.start <= start);
                    let chosen = (first, self.best(first, after, names));
                    names.made.chosen.insert(start, chosen);
                    chosen
                }
            };
            if self.entries[winner].end > address {
                return Some(winner);
            }
            end = first;
        }
        None
    }

    /// The one of several symbols at one address that is shown, as perf chooses it.
    fn best(&self, first: usize, after: usize, names: &mut Names<'_>) -> usize {
        (first + 1..after)
            .take(MOST_STEPS)
            .fold(first, |a, b| if self.prefer_second(&self.entries[a], &self.entries[b], names) { b } else { a })
    }

    fn prefer_second(&self, a: &Entry, b: &Entry, names: &mut Names<'_>) -> bool {
        let sized = |e: &Entry| e.end != e.start;
        if sized(a) != sized(b) {
            return sized(b);
        }
        if (a.binding == Binding::Weak) != (b.binding == Binding::Weak) {
            return a.binding == Binding::Weak;
        }
        if (a.binding == Binding::Global) != (b.binding == Binding::Global) {
            return b.binding == Binding::Global;
        }
        if a.name == b.name && a.strings == b.strings {
            return false;
        }
        let (a, b) = (names.compared(a), names.compared(b));
        let underscores = |name: &str| name.bytes().take_while(|&c| c == b'_').count();
        let (ua, ub) = (underscores(&a), underscores(&b));
        if ua != ub {
            return ub < ua;
        }
        if a.len() != b.len() {
            return b.len() > a.len();
        }
        // Names of system calls before Linux 4.17.
        a.starts_with("SyS") || a.starts_with("compat_SyS")
    }
}

fn page_end(address: u64) -> u64 {
    address.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}

/// Reads names, keeping the piece of the file that was read last.
struct Names<'a> {
    table: &'a Table,
    piece: Piece,
    made: MutexGuard<'a, Made>,
}

#[derive(Default)]
struct Piece {
    strings: Option<u8>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Names<'_> {
    /// The name as perf compares it with others: demangled, a kernel name with its module.
    fn compared(&mut self, entry: &Entry) -> String {
        let raw = self.raw(entry);
        match self.table.style {
            Style::Demangled => demangle::shown(&raw),
            Style::Kernel => String::from_utf8_lossy(&raw).into_owned(),
        }
    }

    /// The name as it is shown, made when it was not before.
    fn shown_once(&mut self, index: usize) -> Arc<str> {
        if let Some(name) = self.made.names.get(&index) {
            return name.clone();
        }
        let name: Arc<str> = self.table.entries.get(index).map(|entry| self.shown(entry)).unwrap_or_default().into();
        self.made.names.insert(index, name.clone());
        name
    }

    /// The name as it is shown.
    fn shown(&mut self, entry: &Entry) -> String {
        let mut name = self.compared(entry);
        if self.table.style == Style::Kernel {
            name.truncate(name.find('\t').unwrap_or(name.len()));
        }
        if entry.plt {
            name.push_str("@plt");
        }
        name
    }

    fn raw(&mut self, entry: &Entry) -> Vec<u8> {
        match self.table.strings.get(usize::from(entry.strings)) {
            Some(Strings::Memory(bytes)) => name_at(bytes, entry.name as usize).0.to_vec(),
            Some(Strings::File(source, offset, size)) => {
                self.piece.name(entry.strings, &**source, *offset, *size, u64::from(entry.name)).unwrap_or_default()
            }
            None => Vec::new(),
        }
    }
}

/// The name at an offset, and whether its end was seen.
pub(crate) fn name_at(bytes: &[u8], offset: usize) -> (&[u8], bool) {
    let rest = bytes.get(offset..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST_NAME)];
    match rest.iter().position(|&b| b == 0) {
        Some(end) => (&rest[..end], true),
        None => (rest, rest.len() == LONGEST_NAME),
    }
}

impl Piece {
    fn name(&mut self, strings: u8, source: &dyn Source, base: u64, size: u64, at: u64) -> io::Result<Vec<u8>> {
        let within = (self.strings == Some(strings)).then(|| at.checked_sub(self.offset)).flatten();
        if let Some(within) = within.and_then(|w| usize::try_from(w).ok())
            && let (name, true) = name_at(&self.bytes, within)
        {
            return Ok(name.to_vec());
        }
        let mut len = PIECE;
        loop {
            let len_left = len.min(size.saturating_sub(at));
            self.bytes = super::elf::read_up_to(source, base.saturating_add(at), len_left)?;
            (self.strings, self.offset) = (Some(strings), at);
            let (name, whole) = name_at(&self.bytes, 0);
            if whole || self.bytes.len() as u64 == size.saturating_sub(at) || (self.bytes.len() as u64) < len {
                return Ok(name.to_vec());
            }
            len = len.saturating_mul(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table of symbols (start, size, binding); names are letters of different length, some with underscores.
    fn table(symbols: &[(u64, u64, u8)]) -> Table {
        let mut table = Table::new(Style::Demangled);
        let mut names = Vec::new();
        let mut entries = Vec::new();
        for (i, &(start, size, binding)) in symbols.iter().enumerate() {
            let name = names.len() as u32;
            names.extend_from_slice(&b"__"[..i % 3]);
            names.extend(std::iter::repeat_n(b'a' + (i % 26) as u8, 1 + i % 5));
            names.push(0);
            let binding = [Binding::Local, Binding::Global, Binding::Weak][usize::from(binding % 3)];
            entries.push(Entry { start, end: start + size, name, strings: 0, binding, plt: false, in_module: false });
        }
        table.add_strings(Strings::Memory(names));
        table.add(entries);
        table.seal();
        table
    }

    /// The same by the words of the rules: no order, no blocks.
    fn naive(symbols: &[(u64, u64, u8)], address: u64) -> Option<(usize, u64, u64)> {
        let mut sized: Vec<(u64, u64, u8, usize)> =
            symbols.iter().enumerate().map(|(i, &(s, n, b))| (s, n, b % 3, i)).collect();
        sized.sort_by_key(|s| s.0);
        let starts: Vec<u64> = sized.iter().map(|s| s.0).collect();
        for (i, symbol) in sized.iter_mut().enumerate() {
            if symbol.1 == 0 {
                // Only the last of several at one address reaches to the next.
                symbol.1 = match starts.get(i + 1) {
                    Some(next) => next - symbol.0,
                    None => symbol.0.div_ceil(4096) * 4096 + 4096 - symbol.0,
                };
            }
        }
        let rank = |&(_, size, binding, i): &(u64, u64, u8, usize)| {
            let weak = if binding == 2 { 0 } else { 1 };
            let global = if binding == 1 { 1 } else { 0 };
            (size > 0, weak, global, -((i % 3) as i64), (i % 3) + 1 + i % 5, -(i as i64))
        };
        let mut starts = starts;
        starts.dedup();
        starts.into_iter().rev().filter(|&s| s <= address).find_map(|start| {
            let best = sized.iter().filter(|s| s.0 == start).max_by_key(|s| rank(s))?;
            (address < start + best.1).then_some((best.3, start, best.1))
        })
    }

    proptest! {
        #[test]
        fn lookups_equal_a_naive_scan(
            symbols in prop::collection::vec((0u64..3000, prop_oneof![Just(0u64), 0u64..40, 0u64..3000], 0u8..3), 0..400),
            mut addresses in prop::collection::vec(0u64..9000, 0..80),
        ) {
            addresses.sort_unstable();
            addresses.dedup();
            let found = table(&symbols).lookup(&addresses);
            prop_assert_eq!(found.len(), addresses.len());
            for (&address, found) in addresses.iter().zip(found) {
                let wanted = naive(&symbols, address);
                prop_assert_eq!(found.as_ref().map(|f| (f.start, f.size)), wanted.map(|w| (w.1, w.2)), "{}", address);
                if let (Some(found), Some((i, ..))) = (found, wanted) {
                    let name = "__"[..i % 3].to_owned() + &((b'a' + (i % 26) as u8) as char).to_string().repeat(1 + i % 5);
                    prop_assert_eq!(&*found.name, &name[..]);
                }
            }
        }
    }

    #[test]
    fn a_symbol_takes_24_bytes() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn a_hostile_table_costs_bounded_time() {
        // One symbol over everything, and a million without use above it.
        let mut symbols = vec![(0, 1 << 40, 1)];
        symbols.extend((0..1_000_000).map(|i| (i, 1, 0)));
        let addresses: Vec<u64> = (2_000_000..2_010_000).collect();
        assert_eq!(table(&symbols).lookup(&addresses).len(), 10_000);
    }

    #[test]
    fn a_long_name_is_read_from_a_file_in_pieces() {
        let long = "x".repeat(40_000);
        let text = format!("\0{long}\0end").into_bytes();
        let mut table = Table::new(Style::Demangled);
        let size = text.len() as u64;
        table.add_strings(Strings::File(Arc::new(text), 0, size));
        let at = |name, start| Entry {
            start,
            end: start + 1,
            name,
            strings: 0,
            binding: Binding::Local,
            plt: false,
            in_module: false,
        };
        table.add(vec![at(1, 1), at(40_002, 2), at(90_000, 3)]);
        table.seal();
        let names: Vec<_> = table.lookup(&[1, 2, 3]).into_iter().map(|s| s.unwrap().name.to_string()).collect();
        assert_eq!(names, [&long[..], "end", ""]);
    }

    /// A file of names that counts how often it is read.
    struct Counted(std::sync::atomic::AtomicUsize);

    impl Source for Counted {
        fn len(&self) -> u64 {
            NAMES.len() as u64
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let rest = &NAMES[(offset as usize).min(NAMES.len())..];
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }

    const NAMES: &[u8] = b"__alias\0name\0";

    #[test]
    fn a_name_is_read_and_chosen_once_however_often_addresses_fall_on_it() {
        let source = Arc::new(Counted(Default::default()));
        let mut table = Table::new(Style::Demangled);
        let strings = table.add_strings(Strings::File(source.clone(), 0, NAMES.len() as u64)).unwrap();
        let entry =
            |name| Entry { start: 16, end: 32, name, strings, binding: Binding::Global, plt: false, in_module: false };
        table.add(vec![entry(0), entry(8)]);
        table.seal();
        let name = |table: &Table, address| table.lookup(&[address])[0].as_ref().unwrap().name.clone();
        let first = name(&table, 16);
        let reads = source.0.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((&*first, reads > 0), ("name", true));
        assert!(Arc::ptr_eq(&name(&table, 20), &first));
        assert!(table.lookup(&[32])[0].is_none());
        assert_eq!(source.0.load(std::sync::atomic::Ordering::Relaxed), reads);
    }
}
