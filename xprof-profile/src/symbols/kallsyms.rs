//! `/proc/kallsyms`: the running kernel's own list of its symbols, and copies of it.
//!
//! It is text made by the kernel while it is read, of unknown length, so it is read from front to back in pieces. Without
//! the right to see addresses every address in it is 0: that is said, not believed.

use std::io;

use xprof_perfdata::source::Source;

use super::table::{Binding, Entry, Strings, Style, Table};

/// Read in pieces of this many bytes.
const PIECE: usize = 256 << 10;
/// The kernel's own limit (`KSYM_NAME_LEN`), and the module behind it; the rest of a longer line is dropped.
const LONGEST_LINE: usize = 1024;
/// Names of more bytes in all are not kept: 32-bit offsets, and no kernel comes near.
const MOST_NAMES: usize = 1 << 30;

/// What was read.
pub(crate) enum Kallsyms {
    /// Symbols by run-time address.
    Table(Table),
    /// Every address is 0 (`kernel.kptr_restrict`).
    Hidden,
}

/// Reads all of it.
///
/// # Errors
/// What reading said, when it said so before the first line.
pub(crate) fn read(source: &dyn Source) -> io::Result<Kallsyms> {
    let mut lines = Lines { entries: Vec::new(), names: Vec::new(), seen: false, shown: false };
    let mut buffer = vec![0; PIECE];
    let (mut offset, mut kept) = (0u64, 0usize);
    loop {
        match source.read_at(offset, &mut buffer[kept..]) {
            Ok(0) => break,
            Ok(n) => {
                offset += n as u64;
                let filled = kept + n;
                let whole = buffer[..filled].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
                lines.take(&buffer[..whole]);
                kept = filled - whole;
                buffer.copy_within(whole..filled, 0);
                // A line longer than the buffer is none.
                if kept == buffer.len() {
                    kept = 0;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if offset == 0 => return Err(e),
            Err(_) => break,
        }
    }
    lines.take(&buffer[..kept]);
    if lines.seen && !lines.shown {
        return Ok(Kallsyms::Hidden);
    }
    let mut table = Table::new(Style::Kernel);
    let number = table.add_strings(Strings::Memory(lines.names)).unwrap_or(0);
    lines.entries.iter_mut().for_each(|e| e.strings = number);
    // The last symbol of the kernel or of a module does not reach to the next module.
    table.add(lines.entries, |a, b, strings| in_module(a, strings) != in_module(b, strings));
    Ok(Kallsyms::Table(table))
}

fn in_module(entry: &Entry, strings: &[Strings]) -> bool {
    match strings.first() {
        Some(Strings::Memory(names)) => super::table::name_at(names, entry.name as usize).0.contains(&b'['),
        _ => false,
    }
}

struct Lines {
    entries: Vec<Entry>,
    names: Vec<u8>,
    /// A code symbol was there.
    seen: bool,
    /// One of them with an address.
    shown: bool,
}

impl Lines {
    /// Whole lines: `ffffffff81000000 T _stext`, with `\t[module]` behind symbols of modules.
    fn take(&mut self, text: &[u8]) {
        for line in text.split(|&b| b == b'\n') {
            let Some((start, rest)) = hex(line) else { continue };
            let [b' ', letter, b' ', name @ ..] = rest else { continue };
            // Code (T, W for weak) and data (D, B), as perf has it; `$` marks kinds of code on Arm.
            if !matches!(letter.to_ascii_uppercase(), b'T' | b'W' | b'D' | b'B') || matches!(name, [] | [b'$', ..]) {
                continue;
            }
            if matches!(letter.to_ascii_uppercase(), b'T' | b'W') {
                self.seen = true;
                self.shown |= start != 0;
            }
            if self.names.len() > MOST_NAMES {
                return;
            }
            let binding = match letter {
                b'W' => Binding::Weak,
                b'A'..=b'Z' => Binding::Global,
                _ => Binding::Local,
            };
            let at = self.names.len() as u32;
            self.entries.push(Entry { start, end: start, name: at, strings: 0, binding, plt: false });
            self.names.extend_from_slice(&name[..name.len().min(LONGEST_LINE)]);
            self.names.push(0);
        }
    }
}

/// A hexadecimal number of 1 to 16 digits in front of something else.
pub(crate) fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in text.iter().enumerate().take(17) {
        let Some(digit) = (b as char).to_digit(16) else { return (i > 0).then(|| (value, &text[i..])) };
        value = value << 4 | u64::from(digit);
    }
    (text.len() <= 16 && !text.is_empty()).then_some((value, &[]))
}
