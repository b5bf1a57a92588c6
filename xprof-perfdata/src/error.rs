//! What can be wrong with a recording.

use std::io;

/// An error of reading or writing a recording; says what was attempted and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes come from somewhere that failed.
    #[error("cannot {attempt}: {source}")]
    Io {
        /// What was attempted, e.g. "read the file header".
        attempt: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The first bytes are not those of a perf.data file.
    #[error("not a perf.data file: {}", beginning(.found))]
    NotPerfData {
        /// The first eight bytes (fewer when there are fewer).
        found: Vec<u8>,
    },
    /// A structure ends before its fields do, or lies about its own size.
    #[error("damaged recording: {what} at byte {offset}")]
    Damaged {
        /// What is wrong, e.g. "a SAMPLE record of 12 bytes ends inside its callchain".
        what: String,
        /// Offset into the file (or into the structure, when it has no file).
        offset: u64,
    },
    /// A form that exists but that this reader does not know.
    #[error("unsupported recording: {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
}

fn beginning(found: &[u8]) -> String {
    match found {
        [] => "it is empty".into(),
        found => format!("it starts with \"{}\" instead of \"PERFILE2\"", found.escape_ascii()),
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Shorthand for [`Error::Damaged`].
    pub fn damaged(what: impl Into<String>, offset: u64) -> Self {
        Error::Damaged { what: what.into(), offset }
    }

    /// Shorthand for [`Error::Io`].
    pub fn io(attempt: impl Into<String>, source: io::Error) -> Self {
        Error::Io { attempt: attempt.into(), source }
    }
}
