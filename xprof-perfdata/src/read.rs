//! Reading a recording: a file, a pipe stream, a directory of `perf record --threads`, or one whose recording
//! was killed. Hands out [`Batch`]es in time order.

use std::io;

use crate::Result;
use crate::header::Description;
use crate::order::Batch;
use crate::source::Source;

/// What to read.
pub enum Input {
    /// A file of known length (file mode, or a stored pipe stream).
    File(Box<dyn Source>),
    /// A stream (pipe mode only).
    Stream(Box<dyn io::Read + Send>),
    /// The files of a directory recording: the header file `data`, and `data.0`, `data.1`, ..
    Directory {
        /// `DIR/data`.
        header: Box<dyn Source>,
        /// `DIR/data.N`, in order of N.
        parts: Vec<Box<dyn Source>>,
    },
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Input::File(_) => "File",
            Input::Stream(_) => "Stream",
            Input::Directory { .. } => "Directory",
        })
    }
}

/// Something a reader of the report should know: the result is partial, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The recorder did not finish the file; records up to this offset were recovered.
    Unfinished {
        /// Bytes.
        until: u64,
    },
    /// The file ends inside a record (or its data section ends past the file).
    Truncated {
        /// Offset of the last whole record's end.
        at: u64,
    },
    /// Damaged bytes were left out.
    Skipped {
        /// What was wrong.
        what: String,
        /// Where.
        offset: u64,
    },
    /// Records came out of order by more than a round.
    OutOfOrder {
        /// How many.
        records: u64,
    },
}

/// An open recording.
#[derive(Debug)]
pub struct Recording {
    description: Description,
    notes: Vec<Note>,
}

impl Recording {
    /// Opens a recording and reads its header (in pipe mode: the records before the first one with data).
    pub fn open(input: Input) -> Result<Recording> {
        let _ = input;
        Err(crate::Error::Unsupported { what: "not written yet".into() })
    }

    /// What the recording says about itself. In pipe mode build ids and sample times are complete
    /// only when [`Recording::next_batch`] has returned `None`.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What makes the result partial, so far.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The next records in time order; `None` at the end. `reuse` is an old batch, for its memory.
    pub fn next_batch(&mut self, reuse: Option<Batch>) -> Result<Option<Batch>> {
        let _ = reuse;
        Ok(None)
    }
}
