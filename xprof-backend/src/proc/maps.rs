//! One line of `/proc/PID/maps`.
//!
//! Parsed from bytes: a path may hold anything but zero, spaces included, and need not be UTF-8.

/// `PROT_READ`, `PROT_WRITE`, `PROT_EXEC` of `include/uapi/asm-generic/mman-common.h`.
const READ: u32 = 1;
const WRITE: u32 = 2;
const EXEC: u32 = 4;
/// `MAP_SHARED`, `MAP_PRIVATE`.
const SHARED: u32 = 1;
const PRIVATE: u32 = 2;

/// A mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_SHARED` or `MAP_PRIVATE`.
    pub flags: u32,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device: major and minor number.
    pub device: (u32, u32),
    /// Inode; 0 for memory without a file.
    pub inode: u64,
    /// What the kernel calls it, ` (deleted)` included; empty for anonymous memory.
    pub path: &'a [u8],
}

impl Mapping<'_> {
    /// Can its bytes be executed?
    pub fn is_executable(&self) -> bool {
        self.prot & EXEC != 0
    }

    /// Can they be read?
    pub fn is_readable(&self) -> bool {
        self.prot & READ != 0
    }
}

/// Parses a line without its newline: `start-end rwxp offset major:minor inode path`. `None` when it is none.
pub fn parse_line(line: &[u8]) -> Option<Mapping<'_>> {
    let (range, rest) = word(line)?;
    let (perms, rest) = word(rest)?;
    let (offset, rest) = word(rest)?;
    let (device, rest) = word(rest)?;
    let (inode, rest) = word(rest).unwrap_or((rest, b""));
    let (start, end) = cut(range, b'-')?;
    let (major, minor) = cut(device, b':')?;
    let [r, w, x, shared] = perms else { return None };
    let bit = |c: &u8, letter: u8, bit: u32| if *c == letter { bit } else { 0 };
    let (start, end) = (hex(start)?, hex(end)?);
    let first = rest.iter().position(|&c| c != b' ').unwrap_or(rest.len());
    (start <= end).then_some(Mapping {
        start,
        end,
        prot: bit(r, b'r', READ) | bit(w, b'w', WRITE) | bit(x, b'x', EXEC),
        flags: if *shared == b's' { SHARED } else { PRIVATE },
        offset: hex(offset)?,
        device: (u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?),
        inode: decimal(inode)?,
        path: &rest[first..],
    })
}

/// The kernel writes a newline in a path as `\012`; the records that it makes itself hold the newline.
pub(super) fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&c, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                out.push(b'\n');
                rest = after;
            }
            None => {
                out.push(c);
                rest = after;
            }
        }
    }
    out
}

/// The text up to the next space, and what follows that space.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    cut(text, b' ')
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = text.iter().position(|&c| c == at)?;
    Some((&text[..i], &text[i + 1..]))
}

pub(super) fn hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0u64, |n, &c| Some(n << 4 | u64::from((c as char).to_digit(16)?)))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, &c| n.checked_mul(10)?.checked_add(u64::from((c as char).to_digit(10)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = b"55f6390c6000-55f639187000 r-xp 0002f000 fe:10 247003                     /usr/bin/a b (deleted)";
        assert_eq!(
            parse_line(line),
            Some(Mapping {
                start: 0x55f6_390c_6000,
                end: 0x55f6_3918_7000,
                prot: READ | EXEC,
                flags: PRIVATE,
                offset: 0x2f000,
                device: (0xfe, 0x10),
                inode: 247_003,
                path: b"/usr/bin/a b (deleted)",
            })
        );
        let anon = parse_line(b"7ffbc20bd000-7ffbc213e000 rw-s 00000000 00:00 0 ").unwrap();
        assert_eq!((anon.path, anon.flags, anon.inode), (&b""[..], SHARED, 0));
        let vsyscall = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]";
        assert_eq!(parse_line(vsyscall).unwrap().path, b"[vsyscall]");
        for bad in [&b""[..], b"x", b"1-2 rwxp", b"2-1 rwxp 0 0:0 0 ", b"1-2 rwx 0 0:0 0 ", b"1-2 rwxp 0 0:0 x /a"] {
            assert_eq!(parse_line(bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(unescaped(b"/a\\012b\\01"), b"/a\nb\\01");
    }
}
