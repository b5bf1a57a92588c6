//! The records that the kernel writes, sample and sample id apart.
//!
//! Layouts: the comments of `enum perf_event_type` in `include/uapi/linux/perf_event.h`. perf writes MMAP2, COMM, FORK,
//! NAMESPACES, KSYMBOL, CGROUP and LOST_SAMPLES too, for what was there before it.

use crate::abi::{BUILD_ID_SIZE, misc};
use crate::codec::{Codec, Coded, Short};
use crate::sample::{ReadValues, SampleFormat};

/// Where the mapped bytes come from: MMAP2's two forms, or MMAP's none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MmapFile {
    /// A plain MMAP record says nothing.
    #[default]
    Unknown,
    /// Device and inode.
    Inode {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
        /// Inode number.
        inode: u64,
        /// Inode generation.
        generation: u64,
    },
    /// Build id (`PERF_RECORD_MISC_MMAP_BUILD_ID`), 1 to 20 bytes.
    BuildId(Vec<u8>),
}

/// MMAP and MMAP2. A plain MMAP has prot 0, flags 0 and [`MmapFile::Unknown`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mmap {
    /// True for MMAP2.
    pub v2: bool,
    /// Process; `u32::MAX` for the kernel.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// File offset, bytes (for the kernel's own map: the address of its reference symbol).
    pub pgoff: u64,
    /// Device and inode, or build id.
    pub file: MmapFile,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// Path as the kernel saw it, without its terminating zeros.
    pub path: Vec<u8>,
}

/// pid and tid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskId {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
}

/// COMM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comm {
    /// Who.
    pub task: TaskId,
    /// The new name, without zeros. Whether by exec is in misc.
    pub comm: Vec<u8>,
}

/// FORK and EXIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Process.
    pub pid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent thread.
    pub ptid: u32,
    /// ns.
    pub time: u64,
}

/// LOST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Event id.
    pub id: u64,
    /// Records lost.
    pub lost: u64,
}

/// THROTTLE and UNTHROTTLE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// ns.
    pub time: u64,
    /// Event id.
    pub id: u64,
    /// Stream id.
    pub stream_id: u64,
}

/// READ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Who.
    pub task: TaskId,
    /// Counts, in the `read_format` of their event.
    pub values: ReadValues,
}

/// AUX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aux {
    /// Offset in the aux stream, bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// `PERF_AUX_FLAG_*`.
    pub flags: u64,
}

/// NAMESPACES.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Who.
    pub task: TaskId,
    /// (device, inode) in the order net, uts, ipc, pid, user, mnt, cgroup.
    pub links: Vec<(u64, u64)>,
}

/// KSYMBOL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ksymbol {
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `PERF_RECORD_KSYMBOL_TYPE_*`.
    pub ksym_type: u16,
    /// `PERF_RECORD_KSYMBOL_FLAGS_*` (1: unregistered).
    pub flags: u16,
    /// Name.
    pub name: Vec<u8>,
}

/// BPF_EVENT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfEvent {
    /// `PERF_BPF_EVENT_*`.
    pub event: u16,
    /// Flags.
    pub flags: u16,
    /// Program id.
    pub prog_id: u32,
    /// Tag.
    pub tag: [u8; 8],
}

/// CGROUP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Id, as in `PERF_SAMPLE_CGROUP`.
    pub id: u64,
    /// Path under the cgroup root.
    pub path: Vec<u8>,
}

/// TEXT_POKE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextPoke {
    /// Address.
    pub addr: u64,
    /// Bytes before.
    pub old: Vec<u8>,
    /// Bytes after.
    pub new: Vec<u8>,
}

/// CALLCHAIN_DEFERRED.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallchainDeferred {
    /// Matches the cookie that follows `PERF_CONTEXT_USER_DEFERRED` in a sample's chain.
    pub cookie: u64,
    /// The user half.
    pub ips: Vec<u64>,
}

impl Mmap {
    /// An empty MMAP2, with a build id or with an inode.
    pub(super) fn empty_v2(build_id: bool) -> Mmap {
        let inode = MmapFile::Inode { major: 0, minor: 0, inode: 0, generation: 0 };
        Mmap { v2: true, file: if build_id { MmapFile::BuildId(Vec::new()) } else { inode }, ..Mmap::default() }
    }

    /// Whether the body of an MMAP2 holds a build id. `misc` alone does not tell: the kernel makes one header for all
    /// events that see a mapping, and the bit that it sets for an event with build ids, somebody else's even, stays set
    /// for those behind it, which get an inode. So without an event that asked for build ids (`asked`) the bit is
    /// believed when the bytes look like one of 16 bytes or more, as `perf inject` writes them.
    pub(super) fn holds_build_id(misc: u16, asked: bool, body: &[u8]) -> bool {
        let looks = || {
            let Some((&[len, reserved @ ..], id)) = body.get(32..56).and_then(|bytes| bytes.split_first_chunk::<4>())
            else {
                return false;
            };
            let after = id.get(usize::from(len)..);
            len >= 16 && reserved == [0; 3] && after.is_some_and(|after| after.iter().all(|&b| b == 0))
        };
        misc & misc::MMAP_BUILD_ID != 0 && (asked || looks())
    }

    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.pid)?;
        c.u32(&mut self.tid)?;
        c.u64(&mut self.start)?;
        c.u64(&mut self.len)?;
        c.u64(&mut self.pgoff)?;
        if self.v2 {
            self.file.fields(c)?;
            c.u32(&mut self.prot)?;
            c.u32(&mut self.flags)?;
        }
        c.name(&mut self.path, 8)
    }
}

impl MmapFile {
    /// The form is chosen before: see [`Mmap::holds_build_id`].
    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        match self {
            MmapFile::Unknown => Err(Short),
            MmapFile::Inode { major, minor, inode, generation } => {
                c.u32(major)?;
                c.u32(minor)?;
                c.u64(inode)?;
                c.u64(generation)
            }
            MmapFile::BuildId(id) => {
                let mut bytes = [0; BUILD_ID_SIZE];
                let own = id.len().min(BUILD_ID_SIZE);
                bytes[..own].copy_from_slice(&id[..own]);
                let mut len = own as u8;
                c.u8(&mut len)?;
                c.zeros(3)?;
                c.array(&mut bytes)?;
                id.clear();
                id.extend_from_slice(&bytes[..usize::from(len).min(BUILD_ID_SIZE)]);
                Ok(())
            }
        }
    }
}

impl TaskId {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.pid)?;
        c.u32(&mut self.tid)
    }
}

impl Comm {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        self.task.fields(c)?;
        c.name(&mut self.comm, 8)
    }
}

impl Task {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.pid)?;
        c.u32(&mut self.ppid)?;
        c.u32(&mut self.tid)?;
        c.u32(&mut self.ptid)?;
        c.u64(&mut self.time)
    }
}

impl Lost {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.id)?;
        c.u64(&mut self.lost)
    }
}

impl Throttle {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.time)?;
        c.u64(&mut self.id)?;
        c.u64(&mut self.stream_id)
    }
}

impl Read {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C, format: &SampleFormat) -> Coded {
        self.task.fields(c)?;
        self.values.fields(c, format.read_format)
    }
}

impl Aux {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.offset)?;
        c.u64(&mut self.size)?;
        c.u64(&mut self.flags)
    }
}

impl Namespaces {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        self.task.fields(c)?;
        let mut len = self.links.len() as u64;
        c.u64(&mut len)?;
        c.each(&mut self.links, len, |c, (device, inode)| {
            c.u64(device)?;
            c.u64(inode)
        })
    }
}

impl Ksymbol {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.addr)?;
        c.u32(&mut self.len)?;
        c.u16(&mut self.ksym_type)?;
        c.u16(&mut self.flags)?;
        c.name(&mut self.name, 8)
    }
}

impl BpfEvent {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u16(&mut self.event)?;
        c.u16(&mut self.flags)?;
        c.u32(&mut self.prog_id)?;
        c.array(&mut self.tag)
    }
}

impl Cgroup {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.id)?;
        c.name(&mut self.path, 8)
    }
}

impl TextPoke {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.addr)?;
        let mut old = u16::try_from(self.old.len()).map_err(|_| Short)?;
        let mut new = u16::try_from(self.new.len()).map_err(|_| Short)?;
        c.u16(&mut old)?;
        c.u16(&mut new)?;
        c.bytes(&mut self.old, old.into())?;
        c.bytes(&mut self.new, new.into())?;
        c.align(8)
    }
}

impl CallchainDeferred {
    pub(super) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u64(&mut self.cookie)?;
        let mut len = self.ips.len() as u64;
        c.u64(&mut len)?;
        c.u64s(&mut self.ips, len)
    }
}
