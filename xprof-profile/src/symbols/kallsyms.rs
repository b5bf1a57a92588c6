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

/// Symbols, and bytes of their names, of a distribution's kernel with its modules.
const USUAL_ENTRIES: usize = 1 << 18;
const USUAL_NAMES: usize = 8 << 20;

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
    // Room for all of a usual kernel: what is not filled is never touched, and growing would copy.
    let (entries, names) = (Vec::with_capacity(USUAL_ENTRIES), Vec::with_capacity(USUAL_NAMES));
    let mut lines = Lines { entries, names, seen: false, shown: false };
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
    table.add(lines.entries);
    table.seal();
    Ok(Kallsyms::Table(table))
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
    fn take(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
            self.line(&text[..end]);
            text = text.get(end + 1..).unwrap_or_default();
        }
    }

    #[inline]
    fn line(&mut self, line: &[u8]) {
        // Every 64-bit kernel writes sixteen digits.
        let sixteen = line.split_first_chunk().and_then(|(digits, rest)| Some((sixteen(digits)?, rest)));
        let Some((start, rest)) = sixteen.or_else(|| hex(line)) else { return };
        let [b' ', letter, b' ', name @ ..] = rest else { return };
        // Code (T, W for weak) and data (D, B), as perf has it; `$` marks kinds of code on Arm.
        let kind = letter.to_ascii_uppercase();
        if !matches!(kind, b'T' | b'W' | b'D' | b'B') || matches!(name, [] | [b'$', ..]) {
            return;
        }
        if matches!(kind, b'T' | b'W') {
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
        let in_module = name.ends_with(b"]");
        self.entries.push(Entry { start, end: start, name: at, strings: 0, binding, plt: false, in_module });
        self.names.extend_from_slice(&name[..name.len().min(LONGEST_LINE)]);
        self.names.push(0);
    }
}

/// A number of sixteen hexadecimal digits.
fn sixteen(digits: &[u8; 16]) -> Option<u64> {
    /// By byte its value as a digit, 0xff where it is none.
    const VALUES: [u8; 256] = {
        let mut values = [0xff; 256];
        let mut digit = 0;
        while digit < 16 {
            values[b"0123456789abcdef"[digit] as usize] = digit as u8;
            values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
            digit += 1;
        }
        values
    };
    let (mut value, mut all) = (0, 0);
    for &byte in digits {
        let digit = VALUES[usize::from(byte)];
        all |= digit;
        value = value << 4 | u64::from(digit & 15);
    }
    (all < 16).then_some(value)
}

/// A hexadecimal number of 1 to 16 digits in front of something else.
pub(crate) fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in text.iter().enumerate().take(17) {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            _ => return (i > 0).then(|| (value, &text[i..])),
        };
        value = value << 4 | u64::from(digit);
    }
    (text.len() <= 16 && !text.is_empty()).then_some((value, &[]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(text: &[u8]) -> Table {
        match read(&text.to_vec()).unwrap() {
            Kallsyms::Table(table) => table,
            Kallsyms::Hidden => panic!("hidden"),
        }
    }

    #[test]
    fn all_of_the_running_kernel() {
        let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
        // Address -> names, of code and data. An address with several names shows one of them.
        let mut wanted: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split([' ', '\t']).collect();
            if matches!(fields[1], "T" | "t" | "W" | "w" | "D" | "d" | "B" | "b") && !fields[2].starts_with('$') {
                wanted.entry(u64::from_str_radix(fields[0], 16).unwrap()).or_default().push(fields[2].to_owned());
            }
        }
        assert!(wanted.len() > 20_000 && wanted.keys().any(|&a| a > 1 << 63), "run as root");
        let table = table(text.as_bytes());
        let addresses: Vec<u64> = wanted.keys().copied().collect();
        for (found, (address, names)) in table.lookup(&addresses).iter().zip(&wanted) {
            let found = found.as_ref().unwrap_or_else(|| panic!("{address:#x} {names:?}: no name"));
            assert!(
                found.start == *address && names.iter().any(|n| **n == *found.name),
                "{address:#x} {names:?} {found:?}"
            );
        }
        // The last byte before the next symbol, where it is no other module's.
        let pairs: Vec<_> = addresses.windows(2).filter(|w| w[1] - w[0] > 1 && w[1] - w[0] < 4096).collect();
        let before: Vec<u64> = pairs.iter().map(|w| w[1] - 1).collect();
        for (found, pair) in table.lookup(&before).iter().zip(pairs) {
            assert_eq!(found.as_ref().map(|f| f.start), Some(pair[0]));
        }
    }

    #[test]
    fn modules_and_what_is_left_out() {
        let text = b"ffff800000001000 T _text\nffff800000001000 T __text\nffff800000001010 t helper\nffff800000001010 r table\n\
            ffff800000001020 W weak_one\nffff8000000010f0 t last\nffff900000000004 t mod_fn\t[mod]\nnonsense\n12345678901234567 T long\n\
            ffff900000000100 t other\t[other]\nffff900000000200 t $x\t[other]\nffff900000000300 T end\t[other]";
        let table = table(text);
        let asked =
            [0xfff, 0x1000, 0x100f, 0x1010, 0x101f, 0x1020, 0x10f0, 0x2fff, 0x3000].map(|a| 0xffff_8000_0000_0000 + a);
        let names = |asked: &[u64]| -> Vec<String> {
            table.lookup(asked).iter().map(|s| s.as_ref().map_or("-".into(), |s| s.name.to_string())).collect()
        };
        // Of several at one address the last has a size; the kernel's last symbol ends with a page, not at the first module.
        assert_eq!(names(&asked), ["-", "__text", "__text", "helper", "helper", "weak_one", "last", "last", "-"]);
        let asked = [0x4, 0x100, 0x250, 0x300, 0x1fff, 0x2000].map(|a| 0xffff_9000_0000_0000 + a);
        assert_eq!(names(&asked), ["mod_fn", "other", "other", "end", "end", "-"]);
    }

    #[test]
    fn zeros_are_said() {
        assert!(matches!(
            read(&b"0000000000000000 T _stext\n0000000000000000 t f\n".to_vec()).unwrap(),
            Kallsyms::Hidden
        ));
        assert!(matches!(
            read(&b"0000000000000000 D percpu\nffffffff81000000 T _stext\n".to_vec()).unwrap(),
            Kallsyms::Table(_)
        ));
        assert!(matches!(read(&b"".to_vec()).unwrap(), Kallsyms::Table(t) if t.is_empty()));
    }

    #[test]
    fn lines_across_pieces_and_endless_lines() {
        let mut text = vec![b'x'; 3 * PIECE];
        text.push(b'\n');
        for i in 0..20_000u64 {
            text.extend_from_slice(
                format!("{:016x} t function_number_{i}\n", 0xffff_ffff_8100_0000 + i * 16).as_bytes(),
            );
        }
        let addresses: Vec<u64> = (0..20_000).map(|i| 0xffff_ffff_8100_0000 + i * 16 + 7).collect();
        for (i, found) in table(&text).lookup(&addresses).iter().enumerate() {
            assert_eq!(found.as_ref().map(|f| f.name.to_string()), Some(format!("function_number_{i}")));
        }
    }
}
