//! Decompression of COMPRESSED records: one zstd stream runs through a file, cut anywhere.

use std::io;

use zstd::stream::raw::{Decoder, Operation};

/// The most that one record may become, bytes. perf never writes more than a ring into one.
const UNPACKED_MAX: usize = 64 << 20;
/// Room made at a time, bytes: a block of zstd.
const STEP: usize = 128 << 10;

/// The state of one file's stream.
pub(super) struct Unpack {
    decoder: Decoder<'static>,
    /// The beginning of a record whose end is in the next compressed one.
    pub(super) partial: Vec<u8>,
}

impl Unpack {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Unpack { decoder: Decoder::new()?, partial: Vec::new() })
    }

    /// Unpacks `packed` into `bytes` from `fill` on, behind the partial record left by the one before. Returns the end.
    pub(super) fn run(&mut self, packed: &[u8], bytes: &mut Vec<u8>, fill: usize) -> io::Result<usize> {
        let mut end = fill + self.partial.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[fill..end].copy_from_slice(&self.partial);
        self.partial.clear();
        let mut packed = packed;
        loop {
            if bytes.len() < end + STEP {
                bytes.resize(end + STEP, 0);
            }
            let room = bytes.len() - end;
            let status = self.decoder.run_on_buffers(packed, &mut bytes[end..])?;
            packed = packed.get(status.bytes_read..).unwrap_or(&[]);
            end += status.bytes_written;
            if packed.is_empty() && status.bytes_written < room {
                return Ok(end);
            }
            if end - fill > UNPACKED_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it unpacks to more than 64 MiB"));
            }
        }
    }
}
