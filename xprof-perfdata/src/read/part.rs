//! One file of a recording, read window by window: what the reader does with the records that are not the kernel's.

use super::feed::Feed;
use super::unpack::Unpack;
use super::{Note, Reader};
use crate::attr::Attr;
use crate::codec::ByteOrder;
use crate::feature::BuildIdEntry;
use crate::order::{BATCH_BYTES, Head, Offset, Stop, split};
use crate::{Error, Result, abi, name};

/// Bytes read at a time, when records are compressed.
const PACKED_WINDOW: usize = 128 << 10;
/// Unpacked bytes after which a window is closed.
const UNPACKED_WINDOW: usize = 4 << 20;

/// One file, or one stream.
pub(super) struct Part {
    feed: Feed,
    /// Bytes read that are no whole record yet, or that there was no room for.
    carry: Vec<u8>,
    /// Offset of `carry`.
    at: u64,
    /// Its records describe the recording too.
    pipe: bool,
    /// The recorder did not finish it: it ends where records end.
    pub(super) unfinished: bool,
    unpack: Option<Unpack>,
    packed: Vec<u8>,
    payload: Payload,
    /// Latest time in the last window, ns.
    pub(super) newest: u64,
}

/// Bytes that belong to the record in front of them.
#[derive(Clone, Copy, Debug, Default)]
struct Payload {
    /// Of TRACING_DATA: bytes to keep.
    keep: u64,
    /// Bytes to pass over.
    skip: u64,
}

/// What became of a record that is not the kernel's.
enum Done {
    Next,
    /// Enough for one window.
    Full,
    /// Nothing behind it can be read.
    Stop,
}

impl Part {
    pub(super) fn new(feed: Feed, at: u64, pipe: bool) -> Self {
        let (carry, packed, payload) = Default::default();
        Part { feed, carry, at, pipe, unfinished: false, unpack: None, packed, payload, newest: 0 }
    }

    /// Whether its bytes come as somebody makes them.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.feed, Feed::Stream(_))
    }

    /// Reads one window and adds its records to the order. `false`: the part is at its end.
    pub(super) fn window(&mut self, reader: &mut Reader) -> Result<bool> {
        let mut bytes = reader.order.buffer();
        let carried = self.carry.len();
        let read = if self.unpack.is_some() { PACKED_WINDOW } else { BATCH_BYTES };
        let read = read.min(self.feed.most());
        if bytes.capacity() < carried + read {
            // Fresh memory has its zeros from the kernel. What is carried from one window to the next is less than a record.
            bytes = vec![0; read + carried.max(1 << 16)];
        } else if bytes.len() < carried + read {
            bytes.resize(carried + read, 0);
        }
        bytes[..carried].copy_from_slice(&self.carry);
        self.carry.clear();
        let got = self.feed.read(&mut bytes[carried..carried + read]);
        let got =
            got.map_err(|error| Error::io(format!("read records at byte {}", self.at + carried as u64), error))?;
        let end = carried + got;
        reader.order.open_window();
        let mut fill = end;
        let (from, more) = self.records(reader, &mut bytes, end, &mut fill);
        // A batch has room for records of other windows behind its own, without becoming longer each time.
        bytes.truncate(fill);
        reader.order.close_window(bytes_of(bytes, &mut self.carry, from..end));
        self.newest = reader.order.newest_of_window();
        self.at = self.at.saturating_add(from as u64);
        // Without new bytes and without progress the rest is the beginning of a record.
        let more = more && (got > 0 || from > 0);
        if !more {
            self.end(reader);
        }
        Ok(more)
    }

    /// Says what is wrong with the end.
    fn end(&mut self, reader: &mut Reader) {
        let partial = self.unpack.as_ref().is_some_and(|unpack| !unpack.partial.is_empty());
        if self.unfinished {
            reader.notes.push(Note::Unfinished { until: self.at });
        } else if !self.carry.is_empty() || partial || self.payload.keep > 0 || self.payload.skip > 0 {
            // The header may have told already.
            reader.notes.retain(|note| !matches!(note, Note::Truncated { .. }));
            reader.notes.push(Note::Truncated { at: self.at });
        }
    }

    /// Adds the records in `bytes[..end]`; unpacked ones are appended from `fill` on. Returns where it stopped, and
    /// whether there may be more.
    fn records(&mut self, reader: &mut Reader, bytes: &mut Vec<u8>, end: usize, fill: &mut usize) -> (usize, bool) {
        let mut from = 0;
        loop {
            from += self.payload(reader, &bytes[from..end]);
            let Reader { description, order, .. } = reader;
            let (at, stop) = split(&description.events, order, &bytes[..end], from, Offset::From(self.at));
            from = at;
            match stop {
                Stop::End => return (from, true),
                Stop::Impossible => {
                    self.impossible(reader, Offset::From(self.at).at(from));
                    return (from, false);
                }
                Stop::Control(head) => {
                    if self.unfinished && head.kind > abi::record::COMPRESSED2 {
                        return (from, false);
                    }
                    let done = match head.kind {
                        abi::record::COMPRESSED | abi::record::COMPRESSED2 => {
                            self.compressed(reader, head, bytes, from, fill)
                        }
                        _ => self.control(reader, head, &bytes[..end], from, Offset::From(self.at)),
                    };
                    if matches!(done, Done::Stop) {
                        return (from, false);
                    }
                    from += usize::from(head.size);
                    if matches!(done, Done::Full) {
                        return (from, true);
                    }
                }
            }
        }
    }

    fn impossible(&mut self, reader: &mut Reader, offset: u64) {
        if !self.unfinished {
            let what = "a record without type or shorter than its header; nothing behind it was read".into();
            reader.notes.push(Note::Skipped { what, offset });
        }
    }

    /// Consumes the payload of the record before; returns its bytes in this window.
    fn payload(&mut self, reader: &mut Reader, bytes: &[u8]) -> usize {
        let Payload { keep, skip } = &mut self.payload;
        if *keep == 0 && *skip == 0 {
            return 0;
        }
        let kept = (*keep).min(bytes.len() as u64);
        *keep -= kept;
        if kept > 0 {
            let data = reader.description.features.tracing_data.get_or_insert_default();
            data.extend_from_slice(&bytes[..kept as usize]);
        }
        let skipped = (*skip).min(bytes.len() as u64 - kept);
        *skip -= skipped;
        if *skip > 0 && *keep == 0 {
            let beyond = self.feed.skip(*skip);
            *skip -= beyond;
            self.at = self.at.saturating_add(beyond);
        }
        (kept + skipped) as usize
    }

    fn compressed(
        &mut self,
        reader: &mut Reader,
        head: Head,
        bytes: &mut Vec<u8>,
        from: usize,
        fill: &mut usize,
    ) -> Done {
        let offset = Offset::From(self.at).at(from);
        let order = reader.description.events.order;
        self.packed.clear();
        let body = bytes.get(from + 8..from + usize::from(head.size)).unwrap_or(&[]);
        let packed = match (head.kind, body.split_first_chunk::<8>()) {
            (abi::record::COMPRESSED, _) => Some(body),
            (_, Some((size, data))) => usize::try_from(order.u64(*size)).ok().and_then(|size| data.get(..size)),
            _ => None,
        };
        let Some(packed) = packed else {
            reader.notes.push(Note::Skipped { what: "a compressed record longer than itself".into(), offset });
            return Done::Stop;
        };
        self.packed.extend_from_slice(packed);
        let unpacked = match &mut self.unpack {
            Some(unpack) => unpack.run(&self.packed, bytes, *fill),
            none => Unpack::new().and_then(|new| none.insert(new).run(&self.packed, bytes, *fill)),
        };
        let end = match unpacked {
            Ok(end) => end,
            Err(error) => {
                let what = format!("a compressed record ({error}); nothing behind it was read");
                reader.notes.push(Note::Skipped { what, offset });
                return Done::Stop;
            }
        };
        let mut at = *fill;
        loop {
            let Reader { description, order, .. } = reader;
            let (stopped, stop) = split(&description.events, order, &bytes[..end], at, Offset::Of(offset));
            at = stopped;
            match stop {
                Stop::End => break,
                Stop::Control(head) if has_no_payload(head.kind) => {
                    self.control(reader, head, &bytes[..end], at, Offset::Of(offset));
                    at += usize::from(head.size);
                }
                _ => {
                    self.impossible(reader, offset);
                    return Done::Stop;
                }
            }
        }
        if let Some(unpack) = &mut self.unpack {
            unpack.partial.extend_from_slice(&bytes[at..end]);
        }
        *fill = at;
        if *fill > UNPACKED_WINDOW { Done::Full } else { Done::Next }
    }

    /// A record of perf's own at `bytes[at..]`.
    fn control(&mut self, reader: &mut Reader, head: Head, bytes: &[u8], at: usize, offset: Offset) -> Done {
        use abi::record as r;
        let body = bytes.get(at + 8..at + usize::from(head.size)).unwrap_or(&[]);
        let order = reader.description.events.order;
        let word = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|word| order.u64(*word));
        match head.kind {
            r::FINISHED_ROUND => {
                reader.order.add_at_once(head, at, offset);
                reader.order.finish_round();
            }
            r::AUXTRACE => {
                reader.order.add_at_once(head, at, offset);
                self.payload.skip = word(0).unwrap_or(0);
            }
            r::HEADER_TRACING_DATA => {
                let size = body.first_chunk::<4>().map_or(0, |size| order.u32(*size));
                reader.description.features.tracing_data = None;
                self.payload = Payload { keep: size.into(), skip: (size.wrapping_neg() % 8).into() };
            }
            r::HEADER_ATTR if self.pipe => return self.attr(reader, body, offset.at(at)),
            r::HEADER_EVENT_TYPE => {}
            r::HEADER_BUILD_ID => {
                let entry = BuildIdEntry::decode(head.misc, body, order);
                reader.description.features.build_ids.extend(entry);
            }
            r::HEADER_FEATURE => {
                if let (Some(number), Some(section)) = (word(0), body.get(8..)) {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    // perf marks the end of the features with the number behind the last it knows, and nothing in it.
                    if number > abi::feature::PMU_CAPS && section.is_empty() {
                        return Done::Next;
                    }
                    reader.description.features.decode(number, section, order);
                    if number == abi::feature::EVENT_DESC {
                        reader.description.name_events();
                    }
                }
            }
            r::EVENT_UPDATE => event_update(reader, body),
            _ => reader.order.add_at_once(head, at, offset),
        }
        Done::Next
    }

    fn attr(&mut self, reader: &mut Reader, body: &[u8], offset: u64) -> Done {
        let order: ByteOrder = reader.description.events.order;
        match Attr::decode(body, order) {
            Ok(attr) => {
                let size = if attr.size == 0 { abi::ATTR_SIZES[0] } else { attr.size };
                let ids = body.get(size as usize..).unwrap_or(&[]);
                let ids = ids.as_chunks::<8>().0.iter().map(|id| order.u64(*id)).collect();
                let name = name::of_attr(&attr);
                reader.description.events.push(attr, name, ids);
                Done::Next
            }
            Err(error) => {
                reader.notes.push(Note::Skipped { what: format!("an event ({error})"), offset });
                Done::Next
            }
        }
    }
}

/// Whether a record ends where it says.
fn has_no_payload(kind: u32) -> bool {
    use abi::record as r;
    !matches!(kind, r::COMPRESSED | r::COMPRESSED2 | r::AUXTRACE | r::HEADER_TRACING_DATA)
}

/// EVENT_UPDATE: of its forms only the name is ours.
fn event_update(reader: &mut Reader, body: &[u8]) {
    const NAME: u64 = 2;
    let events = &mut reader.description.events;
    let Some(([kind, id], name)) = body.split_first_chunk::<16>().map(|(numbers, name)| {
        let (numbers, _) = numbers.as_chunks::<8>();
        ([events.order.u64(numbers[0]), events.order.u64(numbers[1])], name)
    }) else {
        return;
    };
    if kind == NAME
        && let Some(event) = events.by_id(id)
    {
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        events.rename(event, String::from_utf8_lossy(&name[..len]).into_owned());
    }
}

/// Puts the bytes that were not used into `carry`.
fn bytes_of(bytes: Vec<u8>, carry: &mut Vec<u8>, rest: std::ops::Range<usize>) -> Vec<u8> {
    carry.extend_from_slice(bytes.get(rest).unwrap_or(&[]));
    bytes
}
