//! `jit-PID.dump`: what a just-in-time compiler tells of its code in the binary form of the kernel's
//! tools/perf/Documentation/jitdump-specification.txt. Names and places are read; the code itself only of a function that is shown.
//!
//! Like a map in text it is read as a list in which what comes later wins.

use std::fmt::Write as _;
use std::io;

use xprof_perfdata::source::Source;

use super::perf_map::PerfMap;

/// `JITHEADER_MAGIC`, as the number that it is.
const MAGIC: u32 = 0x4a69_5444;
/// `JIT_CODE_LOAD` and `JIT_CODE_MOVE`.
const LOAD: u32 = 0;
const MOVE: u32 = 1;
/// Bytes of the file's head, and of the heads of a record, of a load and of a move.
const HEADER: usize = 40;
const RECORD: usize = 16;
const LOADED: usize = 40;
const MOVED: usize = 48;
/// A longer name is cut, bytes.
const LONGEST_NAME: usize = 4096;
/// Pieces of code that are told apart when one is looked for.
const MOST_PIECES: usize = 8 << 20;
/// Bytes of names that are kept.
const MOST_TEXT: usize = 512 << 20;

/// Numbers in the byte order of the machine that wrote them.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    bytes: &'a [u8],
    swapped: bool,
}

impl Numbers<'_> {
    fn u32(self, at: usize) -> Option<u32> {
        let number = u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?);
        Some(if self.swapped { number.swap_bytes() } else { number })
    }

    fn u64(self, at: usize) -> Option<u64> {
        let number = u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?);
        Some(if self.swapped { number.swap_bytes() } else { number })
    }
}

/// A record: code that was made, or that was moved.
enum Told<'a> {
    Load { name: &'a [u8], code: u64 },
    Move,
}

/// A piece of code: its address, its length and its number.
#[derive(Clone, Copy)]
struct Place {
    addr: u64,
    len: u64,
    index: u64,
}

/// Calls `told` with every record until it says no, also while the file grows; what stands behind a damaged record is left out.
/// The machine that the code is for (`EM_*`).
fn each(source: &dyn Source, mut told: impl FnMut(Place, Told<'_>) -> bool) -> io::Result<u16> {
    let mut head = [0; HEADER];
    let bytes = piece(source, 0, &mut head)?;
    let swapped = match (Numbers { bytes, swapped: false }).u32(0) {
        Some(MAGIC) => false,
        Some(other) if other.swap_bytes() == MAGIC => true,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a jitdump file")),
    };
    let head = Numbers { bytes, swapped };
    let machine = head.u32(12).unwrap_or(0) as u16;
    let mut offset = head.u32(8).map_or(HEADER as u64, u64::from).max(HEADER as u64);
    let mut buffer = vec![0; RECORD + MOVED + LONGEST_NAME];
    loop {
        let numbers = Numbers { bytes: piece(source, offset, &mut buffer)?, swapped };
        let (Some(kind), Some(size)) = (numbers.u32(0), numbers.u32(4)) else { break };
        let bytes = numbers.bytes.get(RECORD..numbers.bytes.len().min(size as usize)).unwrap_or_default();
        if size < RECORD as u32 {
            break;
        }
        let body = Numbers { bytes, swapped };
        let place = |at| Some(Place { addr: body.u64(at)?, len: body.u64(at + 8)?, index: body.u64(at + 16)? });
        let end = offset.saturating_add(size.into());
        let goes_on = match kind {
            LOAD => place(16).is_none_or(|place| {
                let name = bytes.get(LOADED..).unwrap_or_default();
                let until = name.iter().position(|&b| b == 0).unwrap_or(name.len().min(LONGEST_NAME));
                // The code stands last in the record.
                told(place, Told::Load { name: &name[..until], code: end.saturating_sub(place.len) })
            }),
            MOVE => place(24).is_none_or(|place| told(place, Told::Move)),
            _ => true,
        };
        if !goes_on {
            break;
        }
        offset = end;
    }
    Ok(machine)
}

/// Reads the names of all code.
///
/// # Errors
/// `InvalidData` when it is no such file, else what reading said.
pub(crate) fn read(source: &dyn Source) -> io::Result<PerfMap> {
    let mut text = String::new();
    // Names by the number of their code, for moves.
    let mut names = rustc_hash::FxHashMap::default();
    each(source, |Place { addr, len, index }, told| {
        match told {
            Told::Load { name, .. } => {
                let name = String::from_utf8_lossy(name).replace(char::is_control, " ");
                let from = text.len();
                let _ = writeln!(text, "{addr:x} {len:x} {name}");
                names.insert(index, (from..text.len(), name.len()));
            }
            Told::Move => {
                if let Some((line, name)) = names.get(&index) {
                    let name = text.get(line.end - 1 - name..line.end - 1).unwrap_or_default().to_owned();
                    let _ = writeln!(text, "{addr:x} {len:x} {name}");
                }
            }
        }
        text.len() < MOST_TEXT
    })?;
    Ok(PerfMap::parse(text.into_bytes()))
}

/// The machine that the code is for (`EM_*`), and the code that was at an address last, at most `most` bytes; `None` when there
/// was none.
///
/// # Errors
/// `InvalidData` when it is no such file, else what reading said.
pub(crate) fn code(source: &dyn Source, at: u64, most: u64) -> io::Result<Option<(u16, Vec<u8>)>> {
    // Where the code of a number stands; moved code stays what it was.
    let mut made = rustc_hash::FxHashMap::default();
    let mut found: Option<(u64, u64)> = None;
    let machine = each(source, |Place { addr, len, index }, told| {
        if let Told::Load { code, .. } = told {
            made.insert(index, code);
        }
        let inside = at.checked_sub(addr).filter(|inside| *inside < len);
        if let (Some(inside), Some(code)) = (inside, made.get(&index)) {
            found = Some((code.saturating_add(inside), len - inside));
        }
        made.len() < MOST_PIECES
    })?;
    let Some((offset, len)) = found else { return Ok(None) };
    Ok(Some((machine, super::elf::read_up_to(source, offset, len.min(most))?)))
}

/// What stands at an offset, as much as fits.
fn piece<'b>(source: &dyn Source, offset: u64, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(&buffer[..filled])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[(u32, Vec<u8>)], order: fn(u64) -> [u8; 8], short: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, 1, 40, 62, 0, 7] {
            bytes.extend(short(word));
        }
        bytes.extend([order(0), order(0)].concat());
        for (kind, body) in records {
            bytes.extend([short(*kind), short((RECORD + body.len()) as u32)].concat());
            bytes.extend(order(0));
            bytes.extend(body);
        }
        bytes
    }

    fn load(addr: u64, size: u64, index: u64, name: &[u8], order: fn(u64) -> [u8; 8]) -> (u32, Vec<u8>) {
        let numbers = [7 | 7 << 32, addr, addr, size, index].map(order).concat();
        (LOAD, [&numbers, name, b"\0", &vec![0xc0 + index as u8; size as usize]].concat())
    }

    #[test]
    fn loads_moves_and_both_byte_orders() {
        for (order, short) in [
            (u64::to_le_bytes as fn(u64) -> [u8; 8], u32::to_le_bytes as fn(u32) -> [u8; 4]),
            (u64::to_be_bytes, u32::to_be_bytes),
        ] {
            let moved = (MOVE, [7, 0x1000, 0x1000, 0x3000, 0x10, 1].map(order).concat());
            let debug = (2, [0x1000, 0].map(order).concat());
            let records = [
                load(0x1000, 0x10, 1, b"JS:*hot a.js:1", order),
                debug,
                load(0x2000, 0x20, 2, b"line\nend", order),
                moved,
                load(0x2000, 8, 3, b"later", order),
            ];
            let whole = file(&records, order, short);
            let map = read(&whole).unwrap();
            let found = map.lookup(&[0x1000, 0x100f, 0x1010, 0x2007, 0x2008, 0x3000]);
            let names: Vec<_> = found.iter().map(|s| s.as_ref().map_or("-", |s| &*s.name)).collect();
            assert_eq!(names, ["JS:*hot a.js:1", "JS:*hot a.js:1", "-", "later", "line end", "JS:*hot a.js:1"]);
            // The code is what was at the address last.
            let code = |at| code(&whole, at, 0x100).unwrap();
            assert_eq!(code(0x1002), Some((62, vec![0xc1; 0xe])));
            assert_eq!(code(0x2000), Some((62, vec![0xc3; 8])));
            assert_eq!(code(0x2008), Some((62, vec![0xc2; 0x18])));
            assert_eq!(code(0x300f), Some((62, vec![0xc1])));
            assert_eq!(code(0x3010), None);
            assert_eq!(super::code(&whole, 0x1000, 3).unwrap().unwrap().1.len(), 3);
            // Cut anywhere, it gives what stands whole before.
            for end in 0..whole.len() {
                let cut = read(&whole[..end].to_vec());
                assert_eq!(cut.is_err(), end < 4);
                let _ = super::code(&whole[..end].to_vec(), 0x1002, 0x100);
            }
        }
        assert!(read(&b"ELF".to_vec()).is_err());
    }
}
