//! The file header, and the facts about the recording machine and run that a recording carries.
//!
//! Layout: `struct perf_file_header`, `perf_pipe_file_header` and `perf_file_attr` of `tools/perf/util/header.h`. The
//! magic is a number, so its bytes tell the byte order; the sizes in the header are the writer's and may differ from
//! those known here. Every offset and size is untrusted.

use std::io;

use rustc_hash::FxHashMap;

use crate::attr::Attr;
use crate::codec::{ByteOrder, Codec, Coded, Decoder, Encoder};
use crate::events::Events;
use crate::feature::Features;
use crate::name;
use crate::order::Head;
use crate::source::Source;
use crate::write::TABLE_RECORD;
use crate::{Error, Result, abi};

/// Everything a recording says about itself, gathered from header, feature sections and pipe-mode records.
#[derive(Clone, Debug)]
pub struct Description {
    /// The events.
    pub events: Events,
    /// The feature sections.
    pub features: Features,
}

/// `struct perf_file_section`: a place in the file, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Section {
    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.offset)?;
        c.u64(&mut self.size)
    }
}

/// `struct perf_file_header` after its magic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Bytes of the header itself; [`FileHeader::PIPE_SIZE`] in pipe mode.
    pub(crate) size: u64,
    /// Bytes of one attr and the place of its ids.
    pub(crate) attr_size: u64,
    pub(crate) attrs: Section,
    pub(crate) data: Section,
    pub(crate) event_types: Section,
    /// One bit per feature section.
    pub(crate) flags: [u64; 4],
}

impl FileHeader {
    /// Bytes of a file's header.
    pub(crate) const SIZE: u64 = 104;
    /// Bytes of a stream's header: magic and size.
    pub(crate) const PIPE_SIZE: u64 = 16;

    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.size)?;
        if self.size == Self::PIPE_SIZE {
            return Ok(());
        }
        c.u64(&mut self.attr_size)?;
        self.attrs.fields(c)?;
        self.data.fields(c)?;
        self.event_types.fields(c)?;
        self.flags.iter_mut().try_for_each(|word| c.u64(word))
    }

    /// The byte order that the magic tells.
    ///
    /// # Errors
    /// [`Error::NotPerfData`]; [`Error::Unsupported`] for the format before 2009's `PERFILE2`.
    pub(crate) fn order(magic: &[u8]) -> Result<ByteOrder> {
        match magic.first_chunk::<8>() {
            Some(magic) if u64::from_le_bytes(*magic) == abi::MAGIC2 => Ok(ByteOrder::Little),
            Some(magic) if u64::from_be_bytes(*magic) == abi::MAGIC2 => Ok(ByteOrder::Big),
            Some(b"PERFFILE" | b"ELIFFREP") => {
                Err(Error::Unsupported { what: "the perf.data format before PERFILE2".into() })
            }
            _ => Err(Error::NotPerfData { found: magic.get(..8).unwrap_or(magic).to_vec() }),
        }
    }

    /// Decodes the header, magic included.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(FileHeader, ByteOrder)> {
        let order = Self::order(bytes)?;
        let mut header = FileHeader::default();
        let short = |_| Error::damaged(format!("the file ends inside its header, after {} bytes", bytes.len()), 0);
        header.fields(&mut Decoder::<false>::new(bytes, 8, order)).map_err(short)?;
        Ok((header, order))
    }

    /// True when the recorder has not finished (see [`crate::write`]): the table of features stands inside a record.
    pub(crate) fn is_provisional(&self, source: &dyn Source, order: ByteOrder) -> bool {
        let mut bytes = [0; 8];
        let table = self.data.offset.saturating_add(self.data.size);
        source.read_exact_at(table.saturating_sub(8), &mut bytes).is_ok()
            && Head::read(&bytes, order != ByteOrder::NATIVE).is_some_and(|head| {
                head.kind == TABLE_RECORD && usize::from(head.size) == 8 + 16 * self.features().count()
            })
    }

    /// Encodes the header, magic included.
    pub(crate) fn encode(mut self, order: ByteOrder) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE as usize);
        let mut encoder = Encoder::new(&mut out, order);
        // An encoder of numbers has nothing to fail at.
        let _ = encoder.u64(&mut { abi::MAGIC2 });
        let _ = self.fields(&mut encoder);
        out
    }

    /// Numbers of the feature sections that the header announces, ascending.
    pub(crate) fn features(&self) -> impl Iterator<Item = u32> {
        let flags = self.flags;
        (0..256u32).filter(move |bit| flags[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    /// Announces a feature section; numbers from 256 on have no bit.
    pub(crate) fn set_feature(&mut self, number: u32) {
        if let Some(word) = self.flags.get_mut((number / 64) as usize) {
            *word |= 1 << (number % 64);
        }
    }

    /// The attrs and ids, named as perf would name them without EVENT_DESC.
    pub(crate) fn read_events(&self, source: &dyn Source, order: ByteOrder) -> Result<Events> {
        let fixed = u64::from(abi::ATTR_SIZES[0]) + 16;
        let each = self.attr_size;
        if each < fixed || each > 4096 {
            return Err(Error::damaged(format!("the header says that an attribute takes {each} bytes"), 16));
        }
        let at = |offset| move |error| Error::io(format!("read the events at byte {offset}"), error);
        let attrs = source.read_vec(self.attrs.offset, self.attrs.size).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::damaged("the file ends before its events do", self.attrs.offset),
            _ => at(self.attrs.offset)(error),
        })?;
        let mut events = Events::new(order);
        // Ids may be shared by mistake or malice: in all no more of them than the file could hold once.
        let mut budget = source.len();
        for (index, bytes) in attrs.chunks_exact(each as usize).enumerate() {
            let (attr, place) = bytes.split_at(each as usize - 16);
            let attr = Attr::decode(attr, order)?;
            let mut ids = Section::default();
            let _ = ids.fields(&mut Decoder::<false>::new(place, 0, order));
            let left = budget.checked_sub(ids.size).filter(|_| ids.size % 8 == 0);
            let bytes = left.and_then(|_| source.read_vec(ids.offset, ids.size).ok());
            let (Some(left), Some(bytes)) = (left, bytes) else {
                return Err(Error::damaged(format!("the ids of event {index} lie outside the file"), ids.offset));
            };
            budget = left;
            let ids = bytes.as_chunks::<8>().0.iter().map(|id| order.u64(*id)).collect();
            let name = name::of_attr(&attr);
            events.push(attr, name, ids);
        }
        Ok(events)
    }

    /// The feature sections, whose table stands behind the data.
    pub(crate) fn read_features(&self, source: &dyn Source, order: ByteOrder) -> Features {
        let mut features = Features::default();
        let table = self.data.offset.saturating_add(self.data.size);
        let mut budget = source.len();
        for (index, number) in self.features().enumerate() {
            let mut section = Section::default();
            let mut entry = [0; 16];
            let bytes = source
                .read_exact_at(table.saturating_add(16 * index as u64), &mut entry)
                .ok()
                .and_then(|()| section.fields(&mut Decoder::<false>::new(&entry, 0, order)).ok())
                .and_then(|()| budget.checked_sub(section.size))
                .and_then(|left| Some((left, source.read_vec(section.offset, section.size).ok()?)));
            match bytes {
                Some((left, bytes)) => {
                    budget = left;
                    features.decode(number, &bytes, order);
                }
                None => features.damage(number),
            }
        }
        features
    }
}

impl Description {
    /// Gives the events the names that EVENT_DESC has for them, else those that can be derived from the attrs and from
    /// the formats in TRACING_DATA.
    pub(crate) fn name_events(&mut self) {
        let Description { events, features } = self;
        let by_id: FxHashMap<u64, usize> = features
            .event_desc
            .iter()
            .enumerate()
            .filter_map(|(index, desc)| Some((*desc.ids.first()?, index)))
            .collect();
        for index in 0..events.list().len() {
            let Some(event) = events.list().get(index) else { break };
            let named = event.ids.first().map_or(Some(&index), |id| by_id.get(id));
            let name = match named.and_then(|&index| features.event_desc.get(index)) {
                Some(desc) => desc.name.clone(),
                None => name::derive(&event.attr, features),
            };
            events.rename(index, name);
        }
    }
}
