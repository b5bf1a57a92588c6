//! `-z`: COMPRESSED records, each a zstd frame of its own that holds whole records.
//!
//! A frame that depends on nothing before it costs a little in size, and gains that a file cut short, or read from
//! the middle, loses one record and not the rest.

use anyhow::Context;
use xprof_perfdata::abi::{RECORD_MAX, record};
use zstd::bulk::Compressor;

/// Bytes of a record's header.
const HEADER: usize = 8;
/// Most bytes of records in one frame: even incompressible, they fit into a record.
const CHUNK: usize = 65_000;
/// What the recording says of the decompressed size of one record (`compressed.mmap_len`), bytes.
pub(crate) const DECOMPRESSED_MAX: u32 = 65_536;

/// Packs records into COMPRESSED records.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    packed: Vec<u8>,
    /// Bytes in and out, for the ratio.
    taken: u64,
    given: u64,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("taken", &self.taken).field("given", &self.given).finish_non_exhaustive()
    }
}

impl Packer {
    /// zstd level 1 to 22.
    pub(crate) fn new(level: i32) -> anyhow::Result<Packer> {
        let compressor = Compressor::new(level).context("cannot start zstd")?;
        Ok(Packer { compressor, packed: Vec::new(), taken: 0, given: 0 })
    }

    /// The same records, packed. The bytes are valid until the next call.
    pub(crate) fn pack(&mut self, records: &[u8]) -> &[u8] {
        self.packed.clear();
        let mut rest = records;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_of(rest));
            self.pack_chunk(chunk);
            rest = after;
        }
        self.taken += records.len() as u64;
        self.given += self.packed.len() as u64;
        &self.packed
    }

    fn pack_chunk(&mut self, chunk: &[u8]) {
        let start = self.packed.len();
        let room = RECORD_MAX - HEADER;
        self.packed.resize(start + RECORD_MAX, 0);
        let frame = &mut self.packed[start + HEADER..];
        match self.compressor.compress_to_buffer(chunk, &mut frame[..room]) {
            Ok(length) => {
                let size = (HEADER + length) as u16;
                let header = &mut self.packed[start..start + HEADER];
                header[..4].copy_from_slice(&record::COMPRESSED.to_ne_bytes());
                header[4..6].copy_from_slice(&0u16.to_ne_bytes());
                header[6..].copy_from_slice(&size.to_ne_bytes());
                self.packed.truncate(start + usize::from(size));
            }
            // A single record near 64 KiB that zstd cannot shrink stays as it is.
            Err(_) => {
                self.packed.truncate(start);
                self.packed.extend_from_slice(chunk);
            }
        }
    }

    /// How many times smaller the records have become, rounded.
    pub(crate) fn ratio(&self) -> u32 {
        let ratio = (self.taken + self.given / 2).checked_div(self.given).unwrap_or(1);
        u32::try_from(ratio).unwrap_or(u32::MAX)
    }
}

/// Length of the whole records at the front that make one chunk; at least one record, and progress is sure.
fn chunk_of(bytes: &[u8]) -> usize {
    let mut length = 0;
    while let Some(head) = bytes.get(length..length + HEADER) {
        let size = usize::from(u16::from_ne_bytes([head[6], head[7]])).max(HEADER);
        if length > 0 && length + size > CHUNK {
            return length;
        }
        length += size;
    }
    length.clamp(1, bytes.len()).max(if length == 0 { bytes.len() } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(((HEADER + body.len()) as u16).to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn unpack(packed: &[u8]) -> Vec<u8> {
        let (mut all, mut at) = (Vec::new(), 0);
        while at < packed.len() {
            let size = usize::from(u16::from_ne_bytes([packed[at + 6], packed[at + 7]]));
            let kind = u32::from_ne_bytes(packed[at..at + 4].try_into().unwrap());
            if kind == record::COMPRESSED {
                let chunk = zstd::bulk::decompress(&packed[at + HEADER..at + size], 1 << 17).unwrap();
                assert!(chunk.len() <= DECOMPRESSED_MAX as usize);
                all.extend(chunk);
            } else {
                all.extend(&packed[at..at + size]);
            }
            at += size;
        }
        all
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        // Records of all sizes, some larger than a chunk and incompressible.
        let mut state = 1u64;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut bytes = Vec::new();
        for size in [0, 8, 40, 4096, 60_000, 65_520, 16, 65_527] {
            bytes.extend(record(9, &(0..size).map(|_| noise()).collect::<Vec<_>>()));
        }
        for _ in 0..5000 {
            bytes.extend(record(9, &[7; 40]));
        }
        let mut packer = Packer::new(1).unwrap();
        let packed = packer.pack(&bytes).to_vec();
        assert_eq!(unpack(&packed), bytes);
        assert!(packed.len() < bytes.len());
        assert_eq!(unpack(packer.pack(&bytes)), bytes, "the second call starts anew");
    }

    #[test]
    fn records_that_lie_about_their_size_end_the_walk() {
        for bytes in [vec![0; 5], record(9, &[1; 100])[..50].to_vec(), vec![0; 64]] {
            let mut packer = Packer::new(1).unwrap();
            assert_eq!(unpack(packer.pack(&bytes)), bytes);
        }
    }
}
