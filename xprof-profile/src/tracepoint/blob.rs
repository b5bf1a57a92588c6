//! The TRACING_DATA section: the tracepoint part of a recorded machine's tracing directory
//! (`tools/perf/util/trace-event-info.c` writes it, `trace-event-read.c` reads it).

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::{Error, Result};

use super::{Format, Strings};

/// The tracepoint formats of a recording, by number; each is read when it is asked for.
#[derive(Clone, Debug)]
pub struct Formats {
    blob: Arc<[u8]>,
    by_id: FxHashMap<u32, Entry>,
    strings: Arc<Strings>,
    long_size: usize,
    order: ByteOrder,
}

#[derive(Clone, Debug)]
struct Entry {
    system: Arc<str>,
    text: Range<usize>,
}

impl Formats {
    /// Reads the section's table of contents.
    pub fn parse(blob: &[u8]) -> Result<Formats> {
        let blob: Arc<[u8]> = blob.into();
        let shared = Arc::clone(&blob);
        let mut reader = Reader { blob: &shared, at: 0, order: ByteOrder::Little };
        if reader.take(10)? != b"\x17\x08\x44tracing" {
            return Err(Error::damaged("tracing data without its magic", 0));
        }
        let _version = reader.string()?;
        reader.order = if reader.byte()? == 0 { ByteOrder::Little } else { ByteOrder::Big };
        let long_size = usize::from(reader.byte()?);
        if long_size != 4 && long_size != 8 {
            return Err(Error::damaged(format!("tracing data of a machine with longs of {long_size} bytes"), 0));
        }
        let _page_size = reader.u32()?;
        for section in [&b"header_page"[..], b"header_event"] {
            if reader.string()? != section {
                return Err(Error::damaged("tracing data without its page headers", reader.at as u64));
            }
            reader.sized()?;
        }
        for _ in 0..reader.u32()? {
            reader.sized()?;
        }
        let mut by_id = FxHashMap::default();
        for _ in 0..reader.u32()? {
            let system: Arc<str> = String::from_utf8_lossy(reader.string()?).into();
            for _ in 0..reader.u32()? {
                let text = reader.sized()?;
                if let Some(id) = shared.get(text.clone()).and_then(id) {
                    by_id.insert(id, Entry { system: Arc::clone(&system), text });
                }
            }
        }
        // What follows only names things: a recording that ends here is of use.
        let strings = reader.strings().unwrap_or_default();
        let (order, strings) = (reader.order, Arc::new(strings));
        Ok(Formats { blob, by_id, strings, long_size, order })
    }

    /// The tracepoint with this number (`attr.config`).
    pub fn get(&self, id: u32) -> Option<Format> {
        let text = self.blob.get(self.by_id.get(&id)?.text.clone())?;
        Format::parse(text, Arc::clone(&self.strings), self.long_size, self.order)
    }

    /// Its system, e.g. `sched`.
    pub fn system(&self, id: u32) -> Option<&str> {
        self.by_id.get(&id).map(|entry| &*entry.system)
    }

    /// The numbers of all tracepoints here, in no order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.by_id.keys().copied()
    }
}

/// The number in a `format` file.
fn id(text: &[u8]) -> Option<u32> {
    let line = text.split(|&c| c == b'\n').find_map(|line| line.trim_ascii().strip_prefix(b"ID:"))?;
    std::str::from_utf8(line.trim_ascii()).ok()?.parse().ok()
}

struct Reader<'a> {
    blob: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.blob.len());
        let bytes = end.and_then(|end| self.blob.get(self.at..end));
        let bytes = bytes.ok_or_else(|| Error::damaged("tracing data ends too early", self.at as u64))?;
        self.at += length;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes: [u8; 4] = self.take(4)?.try_into().unwrap_or_default();
        Ok(if self.order == ByteOrder::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u64(&mut self) -> Result<u64> {
        let bytes: [u8; 8] = self.take(8)?.try_into().unwrap_or_default();
        Ok(if self.order == ByteOrder::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }

    /// Text up to a zero byte.
    fn string(&mut self) -> Result<&'a [u8]> {
        let rest = self.blob.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&c| c == 0).unwrap_or(rest.len());
        let text = self.take(length)?;
        self.take(1)?;
        Ok(text)
    }

    /// A file: its size in 8 bytes, then its bytes.
    fn sized(&mut self) -> Result<Range<usize>> {
        let size = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let start = self.at;
        self.take(size)?;
        Ok(start..self.at)
    }

    /// kallsyms (always empty in recordings of this decade), then `printk_formats`.
    fn strings(&mut self) -> Result<Strings> {
        let kallsyms = self.u32()? as usize;
        self.take(kallsyms)?;
        let size = self.u32()? as usize;
        let mut strings = Strings::default();
        for line in self.take(size)?.split(|&c| c == b'\n') {
            let Some(colon) = line.iter().position(|&c| c == b':') else { continue };
            let (address, text) = line.split_at(colon);
            let address = address.trim_ascii();
            let address = address.strip_prefix(b"0x").unwrap_or(address);
            let address = std::str::from_utf8(address).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
            let text = text.get(1..).unwrap_or_default().trim_ascii_start();
            let text = text.strip_prefix(b"\"").unwrap_or(text);
            let text = text.strip_suffix(b"\"").unwrap_or(text);
            let text = text.strip_suffix(b"\\n").unwrap_or(text);
            if let Some(address) = address {
                strings.insert(address, text.into());
            }
        }
        Ok(strings)
    }
}
