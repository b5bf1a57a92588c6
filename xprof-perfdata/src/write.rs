//! Writing a recording: file mode (with a header that is refreshed while it grows) or pipe mode.

use std::io::{Seek, Write};

use crate::Result;
use crate::events::Events;
use crate::feature::Features;

/// What a recording is written to.
#[derive(Debug)]
pub enum Output<W> {
    /// A file that can seek: header in front, features behind the data.
    File(W),
    /// A stream: perf's pipe format.
    Pipe(W),
}

/// Writes one recording.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    output: Output<W>,
}

impl<W: Write + Seek> Writer<W> {
    /// Writes the header and the attrs (in pipe mode: HEADER_ATTR, HEADER_FEATURE and TRACING_DATA records).
    /// `features` are those known at the start.
    pub fn begin(output: Output<W>, events: &Events, features: &Features) -> Result<Self> {
        let _ = (events, features);
        Ok(Writer { output })
    }

    /// Appends whole records as they are.
    pub fn records(&mut self, bytes: &[u8]) -> Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// File mode: makes the header say what is there now, so that a killed recording opens.
    pub fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes the features and the final header; returns what it wrote to.
    pub fn finish(self, features: &Features) -> Result<Output<W>> {
        let _ = features;
        Ok(self.output)
    }
}
