//! Reading a recording: a file, a pipe stream, a directory of `perf record --threads`, or one whose recording
//! was killed. Hands out [`Batch`]es in time order.
//!
//! The data are read through windows of a megabyte and never mapped or held whole, so a reader needs the memory of the
//! records that are waiting for their turn: two rounds of the recorder. What is damaged ends the reading of its file with
//! a [`Note`]; everything before it is delivered.

mod feed;
mod part;
mod unpack;

use std::io;

use crate::header::{Description, FileHeader};
use crate::order::{Batch, Order};
use crate::source::Source;
use crate::{Error, Result};
use part::Part;

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
pub struct Recording {
    parts: Vec<Part>,
    reader: Reader,
    /// Where the data section lies: offset and size as the header says them, bytes. `None` for perf's pipe format.
    data: Option<(u64, u64)>,
}

/// What the parts of a recording share.
struct Reader {
    description: Description,
    notes: Vec<Note>,
    order: Order,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("description", &self.reader.description).finish_non_exhaustive()
    }
}

impl Recording {
    /// Opens a recording and reads its header (in pipe mode: the records before the first one with data).
    ///
    /// # Errors
    /// [`Error::NotPerfData`], [`Error::Unsupported`]; [`Error::Damaged`] when not even the events can be read;
    /// [`Error::Io`].
    pub fn open(input: Input) -> Result<Recording> {
        match input {
            Input::File(source) => Self::open_file(source, None),
            Input::Stream(stream) => Self::open_stream(stream),
            Input::Directory { header, parts } => Self::open_file(header, Some(parts)),
        }
    }

    fn open_file(source: Box<dyn Source>, parts: Option<Vec<Box<dyn Source>>>) -> Result<Recording> {
        let mut bytes = vec![0; FileHeader::SIZE.min(source.len()) as usize];
        source.read_exact_at(0, &mut bytes).map_err(|error| Error::io("read the file header", error))?;
        let (header, order) = FileHeader::decode(&bytes)?;
        if header.size == FileHeader::PIPE_SIZE {
            let end = source.len();
            let feed = feed::Feed::File { source, at: FileHeader::PIPE_SIZE, end };
            return Self::piped(Part::new(feed, FileHeader::PIPE_SIZE, true), order);
        }
        let mut notes = Vec::new();
        let events = header.read_events(&*source, order)?;
        let len = source.len();
        let data = header.data;
        let said = data.offset.saturating_add(data.size);
        // perf writes the sections when it is done; until then the header announces none, or has no size.
        let no_sections = data.size == 0 && parts.is_none() || header.features().next().is_none() && said < len;
        let features = if no_sections { Default::default() } else { header.read_features(&*source, order) };
        let unfinished = no_sections || header.is_provisional(&*source, order);
        let mut description = Description { events, features };
        description.name_events();
        if !unfinished && said > len {
            notes.push(Note::Truncated { at: len });
        }
        let feed = feed::Feed::File { source, at: data.offset, end: if unfinished { len } else { said.min(len) } };
        let mut main = Part::new(feed, data.offset, false);
        main.unfinished = unfinished;
        let mut all = vec![main];
        for source in parts.into_iter().flatten() {
            let end = source.len();
            all.push(Part::new(feed::Feed::File { source, at: 0, end }, 0, false));
        }
        let reader = Reader { order: Order::new(order), description, notes };
        Ok(Recording { parts: all, reader, data: Some((data.offset, data.size)) })
    }

    fn open_stream(mut stream: Box<dyn io::Read + Send>) -> Result<Recording> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut stream, FileHeader::PIPE_SIZE), &mut bytes)
            .map_err(|error| Error::io("read the stream's header", error))?;
        let order = FileHeader::order(&bytes)?;
        let (header, _) = FileHeader::decode(&bytes).map_err(|_| Error::Unsupported {
            what: "a perf.data file on a stream that cannot seek; only perf's pipe format can be read there".into(),
        })?;
        let _ = header;
        Self::piped(Part::new(feed::Feed::Stream(stream), FileHeader::PIPE_SIZE, true), order)
    }

    fn piped(part: Part, order: crate::codec::ByteOrder) -> Result<Recording> {
        let description = Description { events: crate::events::Events::new(order), features: Default::default() };
        let reader = Reader { order: Order::new(order), description, notes: Vec::new() };
        let mut recording = Recording { parts: vec![part], reader, data: None };
        while recording.reader.order.is_empty() && recording.advance()? {}
        recording.reader.description.name_events();
        Ok(recording)
    }

    /// What the recording says about itself. In pipe mode build ids and sample times are complete
    /// only when [`Recording::next_batch`] has returned `None`.
    pub fn description(&self) -> &Description {
        &self.reader.description
    }

    /// True for perf's pipe format, streamed or stored.
    pub fn is_pipe(&self) -> bool {
        self.data.is_none()
    }

    /// Where the header says that the data section lies: offset and size, bytes. `None` for perf's pipe format.
    pub fn data_section(&self) -> Option<(u64, u64)> {
        self.data
    }

    /// What makes the result partial, so far.
    pub fn notes(&self) -> &[Note] {
        &self.reader.notes
    }

    /// The next records in time order; `None` at the end. `reuse` is an old batch, for its memory.
    ///
    /// # Errors
    /// [`Error::Io`]. Damage is no error: it ends in a [`Note`].
    pub fn next_batch(&mut self, mut reuse: Option<Batch>) -> Result<Option<Batch>> {
        loop {
            // A stream may be silent for long: what it has said must not wait for more.
            let now = self.parts.last().is_none_or(Part::is_live);
            if let Some(batch) = self.reader.order.batch(&mut reuse, now) {
                return Ok(Some(batch));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Reads a window. `false`: there was nothing left to read.
    fn advance(&mut self) -> Result<bool> {
        // A directory's files have no rounds. They are read side by side, so that what is held back spans little time.
        let next = (0..self.parts.len()).min_by_key(|&index| self.parts[index].newest);
        let Some((next, part)) = next.and_then(|next| Some((next, self.parts.get_mut(next)?))) else {
            return Ok(false);
        };
        if !part.window(&mut self.reader)? {
            self.parts.remove(next);
            if self.parts.is_empty() {
                self.reader.order.finish();
                let late = self.reader.order.late();
                if late > 0 {
                    self.reader.notes.push(Note::OutOfOrder { records: late });
                }
            }
        }
        self.reader.order.relieve();
        Ok(true)
    }
}
