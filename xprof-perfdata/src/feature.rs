//! The feature sections of perf.data, typed, decoded and encoded from one description each.
//!
//! Every section is described once, by a function over [`Codec`]: numbers, strings with a length in front, and counted lists. A section
//! without a type of its own is kept as bytes. The contents are untrusted: a section that does not decode is named in
//! [`Features::damaged`] and left out.
//!
//! Source: `tools/perf/Documentation/perf.data-file-format.txt` and `tools/perf/util/header.c`.

use crate::abi::{BUILD_ID_SIZE, feature as f, misc};
use crate::codec::{ByteOrder, Codec, Coded, Decoder, Encoder, Short};
use crate::domain::Domains;
use crate::order::Head;

/// One entry of the build-id table (`HEADER_BUILD_ID`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildIdEntry {
    /// misc of its header: the cpumode says kernel or user.
    pub misc: u16,
    /// -1 for the host, else the guest machine's pid.
    pub pid: i32,
    /// 1 to 20 bytes.
    pub build_id: Vec<u8>,
    /// Path.
    pub path: Vec<u8>,
}

/// One event of `HEADER_EVENT_DESC`: its name, beside attr and ids that the attr section holds too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventDescEntry {
    /// Encoded `perf_event_attr`, in the recording's byte order.
    pub attr: Vec<u8>,
    /// perf's name of the event.
    pub name: String,
    /// Ids.
    pub ids: Vec<u64>,
}

/// `HEADER_CLOCK_DATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockData {
    /// `CLOCK_*` of the samples.
    pub clockid: u32,
    /// ns of wall clock at the reference instant.
    pub wall_ns: u64,
    /// ns of the samples' clock at the same instant.
    pub clock_ns: u64,
}

/// `HEADER_COMPRESSED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compressed {
    /// 1.
    pub version: u32,
    /// 1: zstd.
    pub kind: u32,
    /// zstd level.
    pub level: u32,
    /// Compression ratio reached, rounded.
    pub ratio: u32,
    /// Length of one ring in bytes: the most that one record decompresses to.
    pub mmap_len: u32,
}

/// One group of `HEADER_GROUP_DESC`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDesc {
    /// Name, often `{anon_group}` or empty.
    pub name: String,
    /// Index of the leader.
    pub leader: u32,
    /// Members, the leader included.
    pub members: u32,
}

/// The feature sections. A section that is absent is `None` or empty; one that cannot be decoded is
/// left out and named in `damaged`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// TRACING_DATA, as bytes (`tools/perf/util/trace-event-info.c`).
    pub tracing_data: Option<Vec<u8>>,
    /// BUILD_ID.
    pub build_ids: Vec<BuildIdEntry>,
    /// HOSTNAME.
    pub hostname: Option<String>,
    /// OSRELEASE.
    pub os_release: Option<String>,
    /// VERSION of the recorder.
    pub version: Option<String>,
    /// ARCH (`uname -m`).
    pub arch: Option<String>,
    /// NRCPUS: (online, available).
    pub nr_cpus: Option<(u32, u32)>,
    /// CPUDESC.
    pub cpu_desc: Option<String>,
    /// CPUID.
    pub cpuid: Option<String>,
    /// TOTAL_MEM, kB.
    pub total_mem: Option<u64>,
    /// CMDLINE.
    pub cmdline: Vec<String>,
    /// EVENT_DESC.
    pub event_desc: Vec<EventDescEntry>,
    /// PMU_MAPPINGS: (type, name).
    pub pmu_mappings: Vec<(u32, String)>,
    /// GROUP_DESC.
    pub group_desc: Vec<GroupDesc>,
    /// SAMPLE_TIME: first and last, ns.
    pub sample_time: Option<(u64, u64)>,
    /// CLOCKID: resolution of the samples' clock, ns.
    pub clockid_res_ns: Option<u64>,
    /// DIR_FORMAT: version.
    pub dir_format: Option<u64>,
    /// COMPRESSED.
    pub compressed: Option<Compressed>,
    /// CLOCK_DATA.
    pub clock_data: Option<ClockData>,
    /// BRANCH_STACK is there.
    pub branch_stack: bool,
    /// DOMAINS: a Xen host and its domains.
    pub domains: Option<Domains>,
    /// Sections kept as bytes, by feature number (topologies, caches, caps, and numbers not known here).
    pub other: Vec<(u32, Vec<u8>)>,
    /// Feature numbers whose section could not be decoded.
    pub damaged: Vec<u32>,
}

/// Strings are filled up to a multiple of this (`NAME_ALIGN`), bytes.
const STRING_ALIGN: usize = 64;

/// A string: its length, then that many bytes, filled up with zeros.
pub(crate) fn string<C: Codec>(c: &mut C, text: &mut String) -> Coded {
    let mut len = (text.len() + 1).next_multiple_of(STRING_ALIGN) as u32;
    c.u32(&mut len)?;
    let mut bytes = std::mem::take(text).into_bytes();
    c.name_in(&mut bytes, len as usize)?;
    *text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(())
}

/// A section that is one value.
fn one<C: Codec, T: Default>(c: &mut C, value: &mut Option<T>, fields: impl FnOnce(&mut C, &mut T) -> Coded) -> Coded {
    fields(c, value.get_or_insert_default())
}

/// A section that is a list behind its length.
pub(crate) fn list<C: Codec, T: Default>(
    c: &mut C,
    items: &mut Vec<T>,
    each: impl FnMut(&mut C, &mut T) -> Coded,
) -> Coded {
    let mut len = items.len() as u32;
    c.u32(&mut len)?;
    c.each(items, len.into(), each)
}

/// `struct perf_record_header_build_id` after its header. `misc` says whether the build id's size is there.
fn build_id<C: Codec>(c: &mut C, entry: &mut BuildIdEntry) -> Coded {
    c.i32(&mut entry.pid)?;
    let mut id = [0; BUILD_ID_SIZE];
    let mut size = entry.build_id.len().min(BUILD_ID_SIZE);
    id[..size].copy_from_slice(&entry.build_id[..size]);
    let mut stated = size as u8;
    c.array(&mut id)?;
    c.u8(&mut stated)?;
    c.zeros(3)?;
    size = if entry.misc & misc::EXT_RESERVED != 0 { usize::from(stated).min(BUILD_ID_SIZE) } else { BUILD_ID_SIZE };
    entry.build_id = id[..size].to_vec();
    c.name(&mut entry.path, STRING_ALIGN)
}

/// Bytes of a build-id entry before its path, the header included.
const BUILD_ID_FIXED: usize = 36;

impl BuildIdEntry {
    /// Decodes the body of a HEADER_BUILD_ID record, or of an entry of the table.
    pub(crate) fn decode(misc: u16, body: &[u8], order: ByteOrder) -> Option<BuildIdEntry> {
        let mut entry = BuildIdEntry { misc, ..BuildIdEntry::default() };
        // Old perf did not end a path that filled its field.
        let mut ended = body.to_vec();
        ended.push(0);
        build_id(&mut Decoder::<false>::new(&ended, 0, order), &mut entry).ok()?;
        Some(entry)
    }

    /// Appends the entry as a record of this type (0 in the table, HEADER_BUILD_ID in a stream). A path that makes it
    /// too long for a record is cut.
    pub(crate) fn encode(&self, kind: u32, order: ByteOrder, out: &mut Vec<u8>) {
        let mut entry = BuildIdEntry { misc: self.misc | misc::EXT_RESERVED, ..self.clone() };
        entry.path.truncate(crate::abi::RECORD_MAX - BUILD_ID_FIXED - STRING_ALIGN);
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        let body = out.len();
        let mut path = std::mem::take(&mut entry.path);
        // The path's field is a multiple of 64 bytes by itself, not with what stands before it.
        let room = (path.len() + 1).next_multiple_of(STRING_ALIGN);
        path.resize(room, 0);
        let mut fixed = Vec::new();
        if build_id(&mut Encoder::new(&mut fixed, order), &mut entry).is_ok() {
            out.extend_from_slice(fixed.get(..BUILD_ID_FIXED - 8).unwrap_or(&[]));
        }
        out.extend_from_slice(&path);
        let size = (8 + out.len() - body) as u16;
        out[start..body].copy_from_slice(&Head { kind, misc: entry.misc, size }.bytes(order));
    }
}

impl Features {
    /// The description of every section that has a type, by its number. `false`: there is none for this number.
    fn section<C: Codec>(&mut self, c: &mut C, number: u32) -> Result<bool, Short> {
        match number {
            f::TRACING_DATA => one(c, &mut self.tracing_data, |c, bytes| c.rest(bytes)),
            f::HOSTNAME => one(c, &mut self.hostname, string),
            f::OSRELEASE => one(c, &mut self.os_release, string),
            f::VERSION => one(c, &mut self.version, string),
            f::ARCH => one(c, &mut self.arch, string),
            f::NRCPUS => one(c, &mut self.nr_cpus, |c, (online, available)| {
                c.u32(available)?;
                c.u32(online)
            }),
            f::CPUDESC => one(c, &mut self.cpu_desc, string),
            f::CPUID => one(c, &mut self.cpuid, string),
            f::TOTAL_MEM => one(c, &mut self.total_mem, |c, kb| c.u64(kb)),
            f::CMDLINE => list(c, &mut self.cmdline, string),
            f::EVENT_DESC => event_desc(c, &mut self.event_desc),
            f::BRANCH_STACK => {
                self.branch_stack = true;
                Ok(())
            }
            f::PMU_MAPPINGS => list(c, &mut self.pmu_mappings, |c, (number, name)| {
                c.u32(number)?;
                string(c, name)
            }),
            f::GROUP_DESC => list(c, &mut self.group_desc, |c, group| {
                string(c, &mut group.name)?;
                c.u32(&mut group.leader)?;
                c.u32(&mut group.members)
            }),
            f::SAMPLE_TIME => one(c, &mut self.sample_time, |c, (first, last)| {
                c.u64(first)?;
                c.u64(last)
            }),
            f::CLOCKID => one(c, &mut self.clockid_res_ns, |c, ns| c.u64(ns)),
            f::DIR_FORMAT => one(c, &mut self.dir_format, |c, version| c.u64(version)),
            f::COMPRESSED => one(c, &mut self.compressed, |c, compressed| {
                c.u32(&mut compressed.version)?;
                c.u32(&mut compressed.kind)?;
                c.u32(&mut compressed.level)?;
                c.u32(&mut compressed.ratio)?;
                c.u32(&mut compressed.mmap_len)
            }),
            f::CLOCK_DATA => one(c, &mut self.clock_data, |c, clock| {
                let mut version = 1;
                c.u32(&mut version)?;
                c.u32(&mut clock.clockid)?;
                c.u64(&mut clock.wall_ns)?;
                c.u64(&mut clock.clock_ns)
            }),
            f::DOMAINS => one(c, &mut self.domains, |c, domains| domains.fields(c)),
            _ => return Ok(false),
        }?;
        Ok(true)
    }

    /// Takes in one section.
    pub(crate) fn decode(&mut self, number: u32, bytes: &[u8], order: ByteOrder) {
        if number == f::BUILD_ID {
            return self.decode_build_ids(bytes, order);
        }
        let decoder = || Decoder::<false>::new(bytes, 0, order);
        // Tried first, so that half a section is not left behind.
        match Features::default().section(&mut decoder(), number) {
            Ok(true) => {
                let _ = self.section(&mut decoder(), number);
            }
            Ok(false) => {
                self.other.retain(|(other, _)| *other != number);
                self.other.push((number, bytes.to_vec()));
            }
            Err(Short) => self.damage(number),
        }
    }

    /// Says that a section could not be decoded.
    pub(crate) fn damage(&mut self, number: u32) {
        if !self.damaged.contains(&number) {
            self.damaged.push(number);
        }
    }

    fn decode_build_ids(&mut self, mut bytes: &[u8], order: ByteOrder) {
        self.build_ids.clear();
        while let Some(head) = Head::read(bytes, order != ByteOrder::NATIVE) {
            let entry = bytes.get(8..usize::from(head.size)).and_then(|b| BuildIdEntry::decode(head.misc, b, order));
            let Some(entry) = entry else { break };
            self.build_ids.push(entry);
            bytes = &bytes[usize::from(head.size)..];
        }
        if !bytes.is_empty() {
            self.damage(f::BUILD_ID);
        }
    }

    /// The sections that are there, encoded, in ascending order of their numbers.
    pub fn encode(&self, order: ByteOrder) -> Vec<(u32, Vec<u8>)> {
        let mut source = self.clone();
        let mut sections: Vec<_> =
            (0..256).filter_map(|number| Some((number, source.encode_one(number, order)?))).collect();
        sections.sort_by_key(|(number, _)| *number);
        sections
    }

    fn encode_one(&mut self, number: u32, order: ByteOrder) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if number == f::BUILD_ID {
            self.build_ids.iter().for_each(|entry| entry.encode(0, order, &mut out));
            return (!self.build_ids.is_empty()).then_some(out);
        }
        if !self.has(number) {
            return None;
        }
        match self.section(&mut Encoder::new(&mut out, order), number) {
            Ok(true) => Some(out),
            _ => self.other.iter().find(|(other, _)| *other == number).map(|(_, bytes)| bytes.clone()),
        }
    }

    /// Whether the section of this number is there.
    pub fn has(&self, number: u32) -> bool {
        match number {
            f::TRACING_DATA => self.tracing_data.is_some(),
            f::BUILD_ID => !self.build_ids.is_empty(),
            f::HOSTNAME => self.hostname.is_some(),
            f::OSRELEASE => self.os_release.is_some(),
            f::VERSION => self.version.is_some(),
            f::ARCH => self.arch.is_some(),
            f::NRCPUS => self.nr_cpus.is_some(),
            f::CPUDESC => self.cpu_desc.is_some(),
            f::CPUID => self.cpuid.is_some(),
            f::TOTAL_MEM => self.total_mem.is_some(),
            f::CMDLINE => !self.cmdline.is_empty(),
            f::EVENT_DESC => !self.event_desc.is_empty(),
            f::BRANCH_STACK => self.branch_stack,
            f::PMU_MAPPINGS => !self.pmu_mappings.is_empty(),
            f::GROUP_DESC => !self.group_desc.is_empty(),
            f::SAMPLE_TIME => self.sample_time.is_some(),
            f::CLOCKID => self.clockid_res_ns.is_some(),
            f::DIR_FORMAT => self.dir_format.is_some(),
            f::COMPRESSED => self.compressed.is_some(),
            f::CLOCK_DATA => self.clock_data.is_some(),
            f::DOMAINS => self.domains.is_some(),
            _ => self.other.iter().any(|(other, _)| *other == number),
        }
    }
}

/// `HEADER_EVENT_DESC`. All attrs have one size.
fn event_desc<C: Codec>(c: &mut C, events: &mut Vec<EventDescEntry>) -> Coded {
    let mut len = events.len() as u32;
    let mut size = events.first().map_or(0, |event| event.attr.len() as u32);
    c.u32(&mut len)?;
    c.u32(&mut size)?;
    c.each(events, len.into(), |c, event| {
        c.bytes(&mut event.attr, size.into())?;
        let mut ids = event.ids.len() as u32;
        c.u32(&mut ids)?;
        string(c, &mut event.name)?;
        c.u64s(&mut event.ids, ids.into())
    })
}
