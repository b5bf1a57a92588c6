//! What the report will need and might not find later: binaries that are deleted or in another mount namespace,
//! maps of generated code, the vdso and the kernel's symbols; and the table of build ids.
//!
//! Decided from side-band records alone. A file is looked at when it is first mapped, once, however many processes
//! map it; a descriptor holds what its path does not lead to. At the end a file counts when a process that mapped it,
//! or a descendant of one, has samples: that is known without decoding a sample, and it keeps the binaries of callers
//! too, which the sampled addresses alone would miss.

pub(crate) mod cache;
mod held;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_backend::Image;
use xprof_backend::machine::Machine;
use xprof_backend::proc;
use xprof_backend::sys::file;
use xprof_perfdata::abi::{misc, record};
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_profile::symbols;

use super::census::{Census, is_of_guest};
use cache::Cache;
pub(crate) use held::HeldFiles;
use held::{Held, Holder};

/// Files that are remembered at most; beyond, new ones are neither listed nor held.
const FILES_MAX: usize = 1 << 17;
/// Processes remembered for one file; a file that more processes map counts as sampled.
const PIDS_MAX: usize = 1 << 12;
/// Processes whose parents are remembered.
const PARENTS_MAX: usize = 1 << 20;
/// `PROT_EXEC`.
const PROT_EXEC: u32 = 4;

/// A file that was mapped.
#[derive(Debug)]
struct Mapped {
    path: Vec<u8>,
    file: MmapFile,
    kernel: bool,
    pids: Vec<u32>,
    held: Option<Held>,
}

/// The files behind the mappings of a recording.
#[derive(Debug)]
pub(crate) struct Keep {
    /// Build id (or device and inode) and path -> place in `files`.
    known: FxHashMap<(Vec<u8>, Vec<u8>), usize>,
    files: Vec<Mapped>,
    parents: FxHashMap<u32, u32>,
    holder: Holder,
    /// Who else wants what is held.
    shared: Option<HeldFiles>,
    /// Maps of generated code, by process.
    maps: FxHashMap<u32, Option<Held>>,
    vdso: bool,
}

impl Keep {
    /// Nothing is mapped yet.
    pub(crate) fn new(shared: Option<HeldFiles>) -> Self {
        Keep {
            shared,
            known: FxHashMap::default(),
            files: Vec::new(),
            parents: FxHashMap::default(),
            holder: Holder::new(),
            maps: FxHashMap::default(),
            vdso: false,
        }
    }

    /// Looks at one whole record that is neither sample nor loss.
    pub(crate) fn record(&mut self, kind: u32, flags: u16, whole: &[u8], events: &Events) {
        let wanted = matches!(kind, record::MMAP2 | record::MMAP | record::EXIT | record::FORK);
        if !wanted || is_of_guest(flags) {
            return;
        }
        let Some(body) = whole.get(8..) else { return };
        let raw = RawRecord { kind, misc: flags, body, time: 0, event: u32::MAX, offset: 0 };
        match Record::decode(&raw, events) {
            Ok((Record::Mmap(mmap), _)) if mmap.prot & PROT_EXEC != 0 || !mmap.v2 => self.mapped(mmap, flags),
            Ok((Record::Fork(task), _)) if task.pid != task.ppid && self.parents.len() < PARENTS_MAX => {
                self.parents.insert(task.pid, task.ppid);
            }
            Ok((Record::Exit(task), _)) if task.pid == task.tid => self.hold_map(task.pid),
            _ => {}
        }
    }

    fn mapped(&mut self, mmap: Mmap, flags: u16) {
        if mmap.path == b"[vdso]" {
            self.vdso = true;
        }
        let kernel = flags & misc::CPUMODE_MASK == misc::KERNEL;
        if (!kernel && matches!(mmap.path.first(), None | Some(b'['))) || mmap.path.starts_with(b"//") {
            return;
        }
        let identity = match &mmap.file {
            MmapFile::BuildId(id) => id.clone(),
            MmapFile::Inode { major, minor, inode, .. } => {
                let words = [u64::from(*major), u64::from(*minor), *inode];
                words.iter().flat_map(|w| w.to_ne_bytes()).collect()
            }
            MmapFile::Unknown => Vec::new(),
        };
        let place = match self.known.get(&(identity.clone(), mmap.path.clone())) {
            Some(&place) => place,
            None if self.files.len() >= FILES_MAX => return,
            None => {
                let held = if kernel { None } else { self.holder.hold(&mmap) };
                if let (Some(shared), Some(held)) = (&self.shared, &held) {
                    shared.share(&mmap.path, held);
                }
                self.known.insert((identity, mmap.path.clone()), self.files.len());
                self.files.push(Mapped { path: mmap.path, file: mmap.file, kernel, pids: Vec::new(), held });
                self.files.len() - 1
            }
        };
        let Some(file) = self.files.get_mut(place) else { return };
        if file.pids.len() < PIDS_MAX && file.pids.last() != Some(&mmap.pid) {
            file.pids.push(mmap.pid);
        }
    }

    /// A process has ended: its map of generated code, if it wrote one, may be removed any time.
    fn hold_map(&mut self, pid: u32) {
        let map = self.holder.hold_perf_map(pid);
        self.maps.insert(pid, map);
    }

    /// Copies what has samples into the cache and returns the build-id table of the recording. `notes` is given
    /// what could not be kept.
    pub(crate) fn finish(mut self, census: &Census, images: &[Image], notes: &mut Vec<String>) -> Vec<BuildIdEntry> {
        let mut table = Vec::new();
        if census.samples == 0 {
            return table;
        }
        if !images.is_empty() {
            return keep_images(images, notes);
        }
        let sampled = self.sampled(census);
        for &pid in &sampled {
            if !self.maps.contains_key(&pid) {
                self.hold_map(pid);
            }
        }
        let counts = |pids: &[u32]| {
            !census.pids_known() || pids.len() >= PIDS_MAX || pids.iter().any(|pid| sampled.contains(pid))
        };
        let cache = Cache::open();
        if cache.is_none() {
            notes.push("neither PERF_BUILDID_DIR nor HOME is set: nothing is kept for the report".into());
        }
        let files = self.files.iter().filter(|f| !f.kernel && counts(&f.pids));
        for file in files {
            let build_id = match (&file.held, &cache) {
                (Some(held), Some(cache)) => match held.store(&file.path, cache) {
                    Ok(id) => id,
                    Err(error) => {
                        notes.push(format!("cannot keep {}: {error}", String::from_utf8_lossy(&file.path)));
                        None
                    }
                },
                _ => None,
            };
            if let Some(id) = build_id.or_else(|| file.build_id()) {
                table.push(BuildIdEntry { misc: misc::USER, pid: -1, build_id: id, path: file.path.clone() });
            }
        }
        if let Some(cache) = &cache {
            for (pid, map) in &self.maps {
                if let Some(map) = map.as_ref().filter(|_| counts(&[*pid])) {
                    match map.store_map(*pid, cache) {
                        Ok(entry) => table.extend(entry),
                        Err(error) => notes.push(format!("cannot keep /tmp/perf-{pid}.map: {error}")),
                    }
                }
            }
            if self.vdso {
                table.extend(cache.add_vdso(notes));
            }
            table.extend(cache.add_xensyms(notes));
        }
        if census.kernel {
            let machine = Machine::here();
            let kernel = proc::build_ids(&machine, &proc::modules(&machine));
            if let (Some(cache), Some(entry)) = (&cache, kernel.iter().find(|entry| entry.path == cache::KERNEL)) {
                cache.add_kallsyms(&entry.build_id, notes);
            }
            table.extend(kernel);
        }
        if self.holder.refused > 0 {
            notes.push(format!("{} deleted or foreign binaries were not held: more than 1,000", self.holder.refused));
        }
        let mut seen = FxHashSet::default();
        table.retain(|entry| seen.insert((entry.path.clone(), entry.build_id.clone())));
        table
    }

    /// The processes that have samples, and all their ancestors: children run what their parents mapped.
    fn sampled(&self, census: &Census) -> FxHashSet<u32> {
        let mut set = FxHashSet::default();
        for mut pid in census.pids() {
            while set.insert(pid) {
                let Some(&parent) = self.parents.get(&pid) else { break };
                pid = parent;
            }
        }
        set
    }
}

/// Copies into the cache what exists in the recording only; its part of the build-id table.
fn keep_images(images: &[Image], notes: &mut Vec<String>) -> Vec<BuildIdEntry> {
    let cache = Cache::open();
    if cache.is_none() {
        notes.push("neither PERF_BUILDID_DIR nor HOME is set: nothing is kept for the report".into());
    }
    for image in images {
        let kind = if image.kernel { "kallsyms" } else { "elf" };
        let Some(cache) = cache.as_ref().filter(|cache| !cache.has(&image.build_id, kind)) else { continue };
        if let Err(error) = cache.add(&image.path, &image.build_id, kind, &mut image.file.as_slice()) {
            notes.push(format!("cannot keep {}: {error}", String::from_utf8_lossy(&image.path)));
        }
    }
    let entry = |image: &Image| BuildIdEntry {
        misc: if image.kernel { misc::KERNEL } else { misc::USER },
        pid: -1,
        build_id: image.build_id.clone(),
        path: image.path.clone(),
    };
    images.iter().map(entry).collect()
}

impl Mapped {
    /// What the recording says, or else the file that is still at the path.
    fn build_id(&self) -> Option<Vec<u8>> {
        match &self.file {
            MmapFile::BuildId(id) => Some(id.clone()),
            _ if self.kernel => None,
            MmapFile::Unknown => None,
            MmapFile::Inode { inode, .. } => {
                let file = file::File::open(Path::new(OsStr::from_bytes(&self.path))).ok()?;
                let same = file.is_regular() && file.identity().is_ok_and(|identity| identity.inode == *inode);
                same.then(|| symbols::build_id_of(Arc::new(file)))?.map(|id| id.0)
            }
        }
    }
}
