//! A writer of tar files: ustar headers, with GNU's forms for long names and large files, which every tar reads.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// `name` and `linkname` of a header, bytes.
const NAME: usize = 100;

/// Writes members one after the other.
#[derive(Debug)]
pub(crate) struct Tar<W: Write> {
    out: W,
}

impl<W: Write> Tar<W> {
    /// Begins an archive.
    pub(crate) fn new(out: W) -> Self {
        Tar { out }
    }

    /// Adds a file of `size` bytes. One that turns out shorter is filled with zeros, one longer is cut.
    pub(crate) fn file(&mut self, name: &[u8], size: u64, from: impl Read) -> io::Result<()> {
        self.header(name, size, b'0', 0o644, b"")?;
        let copied = io::copy(&mut from.take(size), &mut self.out)?;
        io::copy(&mut io::repeat(0).take(size - copied), &mut self.out)?;
        self.pad(size)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.header(name, 0, b'2', 0o777, target)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn header(&mut self, name: &[u8], size: u64, kind: u8, mode: u64, target: &[u8]) -> io::Result<()> {
        for (text, long) in [(name, b'L'), (target, b'K')] {
            if text.len() > NAME {
                let size = text.len() as u64 + 1;
                self.block(b"././@LongLink", size, long, 0o644, b"")?;
                self.out.write_all(text)?;
                self.out.write_all(&[0])?;
                self.pad(size)?;
            }
        }
        self.block(name, size, kind, mode, target)
    }

    fn block(&mut self, name: &[u8], size: u64, kind: u8, mode: u64, target: &[u8]) -> io::Result<()> {
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name[..name.len().min(NAME)]);
        put(100, octal(mode, 7).as_bytes());
        put(108, octal(0, 7).as_bytes());
        put(116, octal(0, 7).as_bytes());
        if size < 1 << 33 {
            put(124, octal(size, 11).as_bytes());
        } else {
            // GNU: a binary number of twelve bytes, its first bit set.
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
        put(136, octal(0, 11).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &target[..target.len().min(NAME)]);
        put(257, b"ustar\x0000");
        let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
        block[148..154].copy_from_slice(octal(sum, 6).as_bytes());
        block[154] = 0;
        self.out.write_all(&block)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][over..]) }
    }
}

fn octal(number: u64, digits: usize) -> String {
    format!("{number:0digits$o}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_lists_and_unpacks_it() {
        let dir = tempfile::tempdir().unwrap();
        let long = "d/".repeat(80) + "file";
        let mut tar = Tar::new(std::fs::File::create(dir.path().join("t.tar")).unwrap());
        tar.file(b"a/short", 5, &b"hello"[..]).unwrap();
        tar.file(long.as_bytes(), 700, &[7; 900][..]).unwrap();
        tar.file(b"cut", 10, &b"abc"[..]).unwrap();
        tar.link(b".build-id/ab/cd", b"../../a").unwrap();
        tar.finish().unwrap();
        let status = std::process::Command::new("tar").args(["xf", "t.tar"]).current_dir(dir.path()).status().unwrap();
        assert!(status.success());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read("a/short"), b"hello");
        assert_eq!(read(&long), [7; 700]);
        assert_eq!(read("cut"), b"abc\0\0\0\0\0\0\0");
        assert_eq!(read(".build-id/ab/cd/short"), b"hello");
    }
}
