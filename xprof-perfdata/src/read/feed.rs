//! Where a part's bytes come from: windows of a file, or a stream.

use std::io;

use crate::source::Source;

/// The bytes still to be read.
pub(super) enum Feed {
    /// From `at` to `end`.
    File { source: Box<dyn Source>, at: u64, end: u64 },
    /// Whatever comes.
    Stream(Box<dyn io::Read + Send>),
}

impl Feed {
    /// Reads at most `buf.len()` bytes; 0 at the end. From a stream: what is there now, but at least a byte.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Feed::Stream(stream) => loop {
                match stream.read(buf) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            },
            Feed::File { source, at, end } => {
                let len = end.saturating_sub(*at).min(buf.len() as u64) as usize;
                let mut got = 0;
                while got < len {
                    match source.read_at(*at, &mut buf[got..len])? {
                        0 => {
                            // The file is shorter than it said, or than it was.
                            *end = *at;
                            break;
                        }
                        n => {
                            *at += n as u64;
                            got += n;
                        }
                    }
                }
                Ok(got)
            }
        }
    }

    /// The most bytes that one read can give, at least 1.
    pub(super) fn most(&self) -> usize {
        match self {
            Feed::File { at, end, .. } => usize::try_from(end.saturating_sub(*at)).unwrap_or(usize::MAX).max(1),
            Feed::Stream(_) => 64 << 10,
        }
    }

    /// Passes over as much of `len` bytes as can be passed over without reading; returns how much.
    pub(super) fn skip(&mut self, len: u64) -> u64 {
        match self {
            Feed::Stream(_) => 0,
            Feed::File { at, end, .. } => {
                let len = len.min(end.saturating_sub(*at));
                *at += len;
                len
            }
        }
    }
}
