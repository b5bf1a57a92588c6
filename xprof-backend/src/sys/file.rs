//! The one place where files are opened. Everyone else is given bytes, a [`Source`] or a descriptor.
//!
//! Files may change or shrink while they are read: they are read by `pread`, so that a file that shrinks is a short read and
//! not a signal. Only what asks for all bytes at once ([`Source::bytes`]: debug information) has a file mapped, with a guard.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

use xprof_perfdata::source::Source;

use super::map::Map;

/// An open file that is read at offsets.
#[derive(Debug)]
pub struct File(fs::File, OnceLock<Option<Map>>);

/// Which file a path led to, as in MMAP2 records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl File {
    /// Opens a file for reading. A FIFO without a writer does not block (it is then empty).
    pub fn open(path: &Path) -> io::Result<File> {
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        Ok(File(file, OnceLock::new()))
    }

    /// Reads from a descriptor that is already open.
    pub fn from_fd(fd: OwnedFd) -> File {
        File(fd.into(), OnceLock::new())
    }

    /// Which file it is.
    pub fn identity(&self) -> io::Result<Identity> {
        let metadata = self.0.metadata()?;
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }

    /// True for a regular file: only such a file has a length and can be read at offsets.
    pub fn is_regular(&self) -> bool {
        self.0.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// Its descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Source for File {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        let map = || Map::new(&self.0, Source::len(self)).ok();
        Some(self.1.get_or_init(map).as_ref()?.bytes())
    }
}

/// Reads a small text of /proc or /sys (which have no length), at most `limit` bytes of it.
pub fn read_small(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    use std::io::Read;
    // Room for a whole answer at once: tracefs' header_page gives nothing to a second read.
    let mut bytes = Vec::with_capacity(limit.min(4096));
    fs::File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a directory, for its descriptor (a cgroup's, as `perf_event_open` takes it).
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_is_a_short_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!((file.len(), file.read_vec(3, 4).unwrap()), (10, b"3456".to_vec()));
        fs::write(&path, b"01").unwrap();
        assert_eq!(file.len(), 2);
        let mut buf = [0; 4];
        assert_eq!(file.read_at(1, &mut buf).unwrap(), 1);
        assert_eq!(file.read_at(5, &mut buf).unwrap(), 0);
        assert!(file.read_vec(0, u64::MAX).is_err());
        assert_eq!(file.read_exact_at(1, &mut buf).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
