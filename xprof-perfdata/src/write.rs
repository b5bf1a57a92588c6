//! Writing a recording: file mode (with a header that is refreshed while it grows) or pipe mode.
//!
//! A recording that is killed must open, with what its records need to be understood (COMPRESSED, TRACING_DATA). So
//! the feature sections known at the start stand in front of the data. Their table must stand right behind the data,
//! wherever they end: each refresh appends a record whose body is the table ([`TABLE_RECORD`]), and then makes the header
//! say that the data end behind the head of that record. Nothing that a header ever pointed at is written over, so one
//! write of 104 bytes leads from one whole recording to the next. The sections that are known only at the end stand
//! behind the data, where the last table is, outside of any record.
//!
//! perf 6.1 takes an attr of at most 128 bytes from a file and one of exactly 128 from a stream, so attrs are written
//! with that size unless a newer field of them is in use.

use std::io::{Seek, SeekFrom, Write};

use crate::abi::{ATTR_SIZES, RECORD_MAX, feature, record};
use crate::codec::ByteOrder;
use crate::events::{Event, Events};
use crate::feature::{EventDescEntry, Features};
use crate::header::{FileHeader, Section};
use crate::order::Head;
use crate::{Error, Result};

/// `PERF_ATTR_SIZE_VER7`, bytes: the newest that perf 6.1 knows.
const ATTR_SIZE: u32 = ATTR_SIZES[7];
/// `PERF_EVENT_UPDATE__NAME`.
const UPDATE_NAME: u64 = 2;
/// Feature sections that a stream carries in records of their own, or that only a file has.
const NOT_IN_STREAMS: [u32; 5] =
    [feature::TRACING_DATA, feature::BUILD_ID, feature::AUXTRACE, feature::STAT, feature::DIR_FORMAT];
/// The record in whose body a table of feature sections stands. Readers look at nothing in it but its type, and every
/// recording of perf 6.1 has one.
pub(crate) const TABLE_RECORD: u32 = record::FINISHED_INIT;
/// `HEADER_LAST_FEATURE` of perf 6.1, which ends the features of a stream; it takes a higher number for an error.
const LAST_FEATURE: u32 = 32;

/// What a recording is written to. A stream may be of another type, for one that cannot seek.
#[derive(Debug)]
pub enum Output<W, P = W> {
    /// A file that can seek, empty: header in front, features behind the data.
    File(W),
    /// A stream: perf's pipe format.
    Pipe(P),
}

/// Writes one recording.
#[derive(Debug)]
pub struct Writer<W: Write + Seek, P: Write = W> {
    output: Output<W, P>,
    order: ByteOrder,
    header: FileHeader,
    events: Vec<EventDescEntry>,
    /// Sections that were written already.
    written: Vec<Written>,
}

/// A feature section that was written.
#[derive(Debug)]
struct Written {
    number: u32,
    bytes: Vec<u8>,
    /// Where, in a file.
    offset: u64,
}

impl<W: Write + Seek, P: Write> Writer<W, P> {
    /// Writes the header and the attrs (in pipe mode: HEADER_ATTR, HEADER_FEATURE and TRACING_DATA records).
    /// `features` are those known at the start. EVENT_DESC is always made from `events`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unsupported`] when an event has more ids than a stream can carry.
    pub fn begin(output: Output<W, P>, events: &Events, features: &Features) -> Result<Self> {
        let size = attr_size(events.list());
        let desc = |event: &Event| EventDescEntry {
            attr: event.attr.encode(events.order, size),
            name: event.name.clone(),
            ids: event.ids.clone(),
        };
        let mut writer = Writer {
            output,
            order: events.order,
            header: FileHeader::default(),
            events: events.list().iter().map(desc).collect(),
            written: Vec::new(),
        };
        match writer.output {
            Output::File(_) => writer.begin_file(size, features)?,
            Output::Pipe(_) => writer.begin_stream(features)?,
        }
        Ok(writer)
    }

    fn begin_file(&mut self, attr_size: u32, features: &Features) -> Result<()> {
        let mut ids = Vec::new();
        let mut attrs = Vec::new();
        for event in &self.events {
            let place = [FileHeader::SIZE + ids.len() as u64, 8 * event.ids.len() as u64];
            attrs.extend_from_slice(&event.attr);
            place.iter().for_each(|number| attrs.extend_from_slice(&self.order.bytes64(*number)));
            event.ids.iter().for_each(|id| ids.extend_from_slice(&self.order.bytes64(*id)));
        }
        let each = u64::from(attr_size) + 16;
        let attrs_at = Section { offset: FileHeader::SIZE + ids.len() as u64, size: attrs.len() as u64 };
        let mut data = Section { offset: attrs_at.offset + attrs_at.size, size: 0 };
        let sections = self.sections(features);
        let known = self.place(sections, &mut data.offset);
        self.header =
            FileHeader { size: FileHeader::SIZE, attr_size: each, attrs: attrs_at, data, ..Default::default() };
        let bytes = [self.header.encode(self.order), ids, attrs, known].concat();
        self.put(&bytes, "write the header")
    }

    /// Gives new sections their place from `at` on, and moves `at` behind them; their bytes.
    fn place(&mut self, sections: Vec<(u32, Vec<u8>)>, at: &mut u64) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in sections {
            out.extend_from_slice(&bytes);
            let offset = *at;
            *at = at.saturating_add(bytes.len() as u64);
            self.written.retain(|old| old.number != number);
            self.written.push(Written { number, bytes, offset });
        }
        out
    }

    /// The sections that are not written yet as they are now.
    fn news(&mut self, features: &Features) -> Vec<(u32, Vec<u8>)> {
        let mut sections = self.sections(features);
        sections.retain(|(number, bytes)| !self.written.iter().any(|old| old.number == *number && old.bytes == *bytes));
        sections
    }

    /// The table of the sections that a file has, and the header that announces them.
    fn table(&mut self) -> (Vec<u8>, FileHeader) {
        let mut header = self.header;
        let mut table = Vec::new();
        self.written.sort_by_key(|section| section.number);
        for Written { number, bytes, offset } in &self.written {
            table.extend_from_slice(&self.order.bytes64(*offset));
            table.extend_from_slice(&self.order.bytes64(bytes.len() as u64));
            header.set_feature(*number);
        }
        (table, header)
    }

    fn begin_stream(&mut self, features: &Features) -> Result<()> {
        let order = self.order;
        self.header.size = FileHeader::PIPE_SIZE;
        let mut out = self.header.encode(order);
        for event in &self.events {
            let ids = event.ids.iter().flat_map(|id| order.bytes64(*id));
            let body: Vec<u8> = event.attr.iter().copied().chain(ids).collect();
            append(&mut out, record::HEADER_ATTR, &body, order).ok_or_else(|| Error::Unsupported {
                what: format!("{} ids of event {} are more than a stream can carry", event.ids.len(), event.name),
            })?;
        }
        for event in &self.events {
            let Some(id) = event.ids.first() else { continue };
            let mut body = [order.bytes64(UPDATE_NAME), order.bytes64(*id)].concat();
            body.extend_from_slice(event.name.as_bytes());
            body.resize((body.len() + 1).next_multiple_of(8), 0);
            // A name too long for a record has to do without.
            let _ = append(&mut out, record::EVENT_UPDATE, &body, order);
        }
        self.stream_features(features, &mut out);
        // The mark behind the features.
        let _ = append(&mut out, record::HEADER_FEATURE, &order.bytes64(LAST_FEATURE.into()), order);
        if let Some(formats) = &features.tracing_data
            && let Ok(size) = u32::try_from(formats.len())
        {
            let size = if order == ByteOrder::Little { size.to_le_bytes() } else { size.to_be_bytes() };
            let _ = append(&mut out, record::HEADER_TRACING_DATA, &size, order);
            out.extend_from_slice(formats);
            out.resize(out.len() + formats.len().next_multiple_of(8) - formats.len(), 0);
        }
        self.put(&out, "write the stream's head")
    }

    /// Appends the features that the stream does not carry yet. One that is too long for a record is left out, as perf
    /// does.
    fn stream_features(&mut self, features: &Features, out: &mut Vec<u8>) {
        for (number, section) in self.news(features) {
            if number >= LAST_FEATURE || NOT_IN_STREAMS.contains(&number) {
                continue;
            }
            let body = [&self.order.bytes64(number.into())[..], &section].concat();
            let _ = append(out, record::HEADER_FEATURE, &body, self.order);
            self.place(vec![(number, section)], &mut 0);
        }
    }

    fn sections(&mut self, features: &Features) -> Vec<(u32, Vec<u8>)> {
        let mut features = features.clone();
        features.event_desc = std::mem::take(&mut self.events);
        let sections = features.encode(self.order);
        self.events = features.event_desc;
        sections
    }

    fn put(&mut self, bytes: &[u8], attempt: &str) -> Result<()> {
        match &mut self.output {
            Output::File(file) => file.write_all(bytes),
            Output::Pipe(pipe) => pipe.write_all(bytes),
        }
        .map_err(|error| Error::io(attempt, error))
    }

    /// Appends whole records as they are.
    ///
    /// # Errors
    /// [`Error::Io`]. The header still says what was there before.
    pub fn records(&mut self, bytes: &[u8]) -> Result<()> {
        self.put(bytes, "write records")?;
        self.header.data.size += bytes.len() as u64;
        Ok(())
    }

    /// Appends FINISHED_ROUND: nothing older than the latest record in front of the FINISHED_ROUND before this one will
    /// follow.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finished_round(&mut self) -> Result<()> {
        self.records(&Head { kind: record::FINISHED_ROUND, misc: 0, size: 8 }.bytes(self.order))
    }

    /// File mode: makes the header say what is there now, so that a killed recording opens. Pipe mode: flushes.
    ///
    /// # Errors
    /// [`Error::Io`]. The header still says what was there before.
    pub fn refresh(&mut self) -> Result<()> {
        let (table, mut header) = self.table();
        let end = self.end();
        let mut out = Vec::new();
        append(&mut out, TABLE_RECORD, &table, self.order);
        header.data.size += 8;
        match &mut self.output {
            Output::Pipe(pipe) => pipe.flush(),
            Output::File(file) => rewrite(file, &out, end, &header.encode(self.order)).map(|()| {
                self.header.data.size += out.len() as u64;
            }),
        }
        .map_err(|error| Error::io("refresh the header", error))
    }

    /// Where the data end, in a file.
    fn end(&self) -> u64 {
        self.header.data.offset.saturating_add(self.header.data.size)
    }

    /// Writes the features that have changed and the final header; returns what it wrote to.
    ///
    /// # Errors
    /// [`Error::Io`]. The data written so far open as a recording that was not finished.
    pub fn finish(mut self, features: &Features) -> Result<Output<W, P>> {
        if matches!(self.output, Output::Pipe(_)) {
            let mut out = Vec::new();
            self.stream_features(features, &mut out);
            for entry in &features.build_ids {
                entry.encode(record::HEADER_BUILD_ID, self.order, &mut out);
            }
            self.put(&out, "write the stream's end")?;
            self.refresh()?;
            return Ok(self.output);
        }
        let sections = self.sections(features);
        self.written.retain(|old| sections.iter().any(|(number, bytes)| *number == old.number && *bytes == old.bytes));
        let news = self.news(features);
        let end = self.end();
        let sections = self.place(news, &mut end.saturating_add(16 * sections.len() as u64));
        let (table, header) = self.table();
        if let Output::File(file) = &mut self.output {
            rewrite(file, &[table, sections].concat(), end, &header.encode(self.order))
                .map_err(|error| Error::io("write the feature sections", error))?;
        }
        Ok(self.output)
    }
}

/// Writes `more` behind what is there, then the header, and goes on behind it all. A write that failed before may have
/// left the file's position anywhere.
fn rewrite<W: Write + Seek>(file: &mut W, more: &[u8], end: u64, header: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(end))?;
    file.write_all(more)?;
    file.flush()?;
    file.rewind()?;
    file.write_all(header)?;
    file.seek(SeekFrom::Start(end.saturating_add(more.len() as u64))).map(|_| ())
}

/// Appends a record; `None` when it would be too long for one.
fn append(out: &mut Vec<u8>, kind: u32, body: &[u8], order: ByteOrder) -> Option<()> {
    let size = u16::try_from(body.len() + 8).ok().filter(|size| usize::from(*size) <= RECORD_MAX)?;
    out.extend_from_slice(&Head { kind, misc: 0, size }.bytes(order));
    out.extend_from_slice(body);
    Some(())
}

/// The smallest size, from 128 bytes on, that leaves out no field in use.
fn attr_size(events: &[Event]) -> u32 {
    let lossless = |size: u32| {
        let newest = ATTR_SIZES[ATTR_SIZES.len() - 1];
        events.iter().all(|event| {
            let whole = event.attr.encode(ByteOrder::NATIVE, newest);
            whole.get(size as usize..).is_none_or(|rest| rest.iter().all(|&byte| byte == 0))
        })
    };
    ATTR_SIZES.into_iter().find(|&size| size >= ATTR_SIZE && lossless(size)).unwrap_or(ATTR_SIZE)
}
