//! `/tmp/perf-PID.map`: where a just-in-time compiler put its code: lines of start, size (both hexadecimal) and name.
//!
//! The compiler writes it while it runs and may put new code where old code was: a later line wins. A line may be torn (the
//! process was killed, or has not written it out yet); such lines are left out.

use std::io;
use std::sync::Arc;

use xprof_perfdata::source::Source;

use super::Symbol;
use super::kallsyms::hex;

/// Read in pieces of this many bytes.
const PIECE: usize = 256 << 10;
/// More of a file than this is not read: 32-bit offsets into it.
const MOST: usize = u32::MAX as usize;

/// The code of one process.
pub(crate) struct PerfMap {
    text: Vec<u8>,
    code: Vec<Code>,
    /// Ranges that do not overlap, sorted: start, end, and whose they are.
    ranges: Vec<(u64, u64, u32)>,
}

#[derive(Clone, Copy)]
struct Code {
    start: u64,
    size: u64,
    name: u32,
    len: u32,
}

impl PerfMap {
    /// Reads all of it, also while it grows.
    ///
    /// # Errors
    /// What reading said.
    pub(crate) fn read(source: &dyn Source) -> io::Result<PerfMap> {
        let mut text = Vec::new();
        let mut piece = vec![0; PIECE];
        while text.len() < MOST {
            match source.read_at(text.len() as u64, &mut piece)? {
                0 => break,
                n => text.extend_from_slice(&piece[..n]),
            }
        }
        text.truncate(MOST);
        Ok(PerfMap::parse(text))
    }

    /// Reads the lines.
    pub(crate) fn parse(text: Vec<u8>) -> PerfMap {
        let mut code = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive(|&b| b == b'\n') {
            let next = at + line.len();
            code.extend(parse_line(line, at));
            at = next;
        }
        let ranges = ranges(&code);
        PerfMap { text, code, ranges }
    }

    /// True when it names nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Looks up sorted addresses.
    pub(crate) fn lookup(&self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let mut last: Option<(u32, Symbol)> = None;
        let mut from = 0;
        addresses
            .iter()
            .map(|&address| {
                from += self.ranges[from..].partition_point(|r| r.1 <= address);
                let &(_, _, index) = self.ranges.get(from).filter(|r| r.0 <= address)?;
                if let Some((seen, symbol)) = &last
                    && *seen == index
                {
                    return Some(symbol.clone());
                }
                let code = self.code.get(index as usize)?;
                let name = self.text.get(code.name as usize..)?.get(..code.len as usize)?;
                let name: Arc<str> = String::from_utf8_lossy(name).into();
                let symbol = Symbol { name, start: code.start, size: code.size };
                last = Some((index, symbol.clone()));
                Some(symbol)
            })
            .collect()
    }
}

fn parse_line(line: &[u8], at: usize) -> Option<Code> {
    let whole = line.strip_suffix(b"\n")?;
    let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
    let number = |text| {
        let text: &[u8] = text;
        let (value, rest) = hex(text.strip_prefix(b"0x").unwrap_or(text))?;
        Some((value, rest.strip_prefix(b" ")?))
    };
    let (start, rest) = number(whole)?;
    let (size, name) = number(rest)?;
    if name.is_empty() || size == 0 || start.checked_add(size).is_none() {
        return None;
    }
    let name_at = at + (whole.len() - name.len());
    Some(Code { start, size, name: u32::try_from(name_at).ok()?, len: u32::try_from(name.len()).ok()? })
}

/// Cuts the code into ranges, of which each belongs to the latest line that covers it: a sweep over all starts, with the
/// lines that reach the current place in a heap, the latest on top.
fn ranges(code: &[Code]) -> Vec<(u64, u64, u32)> {
    let mut order: Vec<u32> = (0..code.len() as u32).collect();
    order.sort_by_key(|&i| code[i as usize].start);
    let mut ranges: Vec<(u64, u64, u32)> = Vec::with_capacity(code.len());
    let mut open = std::collections::BinaryHeap::new();
    let mut place = 0;
    let mut starts = order.into_iter().peekable();
    loop {
        let next_start = starts.peek().map(|&i| code[i as usize].start);
        // What is on top, up to where it ends or the next one starts.
        while let Some(&top) = open.peek() {
            let end = code[top as usize].start + code[top as usize].size;
            if end <= place {
                open.pop();
                continue;
            }
            let to = next_start.map_or(end, |s| s.min(end));
            if to <= place {
                break;
            }
            match ranges.last_mut() {
                Some(last) if last.1 == place && last.2 == top => last.1 = to,
                _ => ranges.push((place, to, top)),
            }
            place = to;
        }
        let Some(i) = starts.next() else { return ranges };
        place = place.max(code[i as usize].start);
        open.push(i);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PerfMap;

    #[test]
    fn lines_of_node_and_java() {
        let text = b"7f00 10 LazyCompile:~add /srv/app.js:3\n0x7f10 0x8 Interpreter\nbroken\n7f20 0 empty\nzz 1 x\n7f30 4 t\xc3\xa9st\n7f40 4 torn";
        let map = PerfMap::parse(text.to_vec());
        let found = map.lookup(&[0x7eff, 0x7f00, 0x7f0f, 0x7f10, 0x7f18, 0x7f20, 0x7f33, 0x7f34, 0x7f40]);
        let names: Vec<_> = found.iter().map(|s| s.as_ref().map_or("-", |s| &*s.name)).collect();
        let add = "LazyCompile:~add /srv/app.js:3";
        assert_eq!(names, ["-", add, add, "Interpreter", "-", "-", "t\u{e9}st", "-", "-"]);
        assert_eq!(found[2].as_ref().map(|s| (s.start, s.size)), Some((0x7f00, 0x10)));
    }

    proptest! {
        #[test]
        fn the_latest_line_wins(code in prop::collection::vec((0u64..200, 1u64..60), 0..60)) {
            let text: String = code.iter().enumerate().map(|(i, (s, n))| format!("{s:x} {n:x} f{i}\n")).collect();
            let map = PerfMap::parse(text.into_bytes());
            let addresses: Vec<u64> = (0..300).collect();
            for (&address, found) in addresses.iter().zip(map.lookup(&addresses)) {
                let wanted = code.iter().rposition(|&(s, n)| s <= address && address < s + n);
                prop_assert_eq!(found.map(|f| (f.name.to_string(), f.start, f.size)),
                    wanted.map(|i| (format!("f{i}"), code[i].0, code[i].1)));
            }
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut map = bytes;
            map.extend_from_slice(b"\nffffffffffffffff ffffffffffffffff x\n0 ffffffffffffffff all\n10 1 one\n");
            let found = PerfMap::parse(map).lookup(&[0, 0x10, u64::MAX]);
            prop_assert_eq!(found[1].as_ref().map(|s| s.name.to_string()), Some("one".into()));
        }
    }
}
