//! Descriptors of files that a path of this machine does not lead to: deleted ones, those of other mount namespaces,
//! and `/tmp/perf-PID.map` of processes that have ended.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use xprof_backend::sys::file;
use xprof_perfdata::abi::misc;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::record::{Mmap, MmapFile};
use xprof_profile::symbols;

use super::cache::Cache;
use crate::supply;

/// Descriptors held at most.
const HELD_MAX: usize = 1000;
/// Largest map of generated code that is kept, bytes.
const MAP_MAX: u64 = 256 << 20;
/// What the kernel puts behind the path of a deleted file.
const DELETED: &[u8] = b" (deleted)";

/// An open file that may be needed.
#[derive(Debug)]
pub(super) struct Held {
    file: fs::File,
    /// `None` when the recording does not say (before Linux 5.12).
    build_id: Option<Vec<u8>>,
}

/// The files that are held, for whoever unwinds stacks while they are recorded: by path and build id as recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldFiles(Arc<Mutex<HashMap<FileKey, fs::File>>>);

/// Path and build id, as recorded.
type FileKey = (Vec<u8>, Option<Vec<u8>>);

impl HeldFiles {
    /// The file, if it is held.
    pub(crate) fn get(&self, path: &[u8], build_id: Option<&[u8]>) -> Option<file::File> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = held.get(&(path.to_vec(), build_id.map(<[u8]>::to_vec)))?.try_clone().ok()?;
        Some(file::File::from_fd(file.into()))
    }

    /// Shares a file.
    pub(super) fn share(&self, path: &[u8], held: &Held) {
        if let Ok(file) = held.file.try_clone() {
            let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            files.insert((path.to_vec(), held.build_id.clone()), file);
        }
    }
}

/// Opens what must be held.
#[derive(Debug)]
pub(super) struct Holder {
    /// Inode of our own mount namespace.
    namespace: Option<u64>,
    held: usize,
    /// Files that came after the limit was reached.
    pub(super) refused: u64,
}

impl Holder {
    /// Holds nothing yet.
    pub(super) fn new() -> Self {
        Holder { namespace: namespace("self"), held: 0, refused: 0 }
    }

    /// Opens the file behind a mapping when its path does not lead to it.
    pub(super) fn hold(&mut self, mmap: &Mmap) -> Option<Held> {
        let deleted = mmap.path.ends_with(DELETED);
        let foreign = !deleted && self.foreign(mmap.pid);
        if !deleted && !foreign && !self.is_gone(mmap) {
            return None;
        }
        if self.held >= HELD_MAX {
            self.refused += 1;
            return None;
        }
        let file = if foreign { open_in_root(mmap) } else { open_mapping(mmap) }?;
        self.held += 1;
        let build_id = match &mmap.file {
            MmapFile::BuildId(id) => Some(id.clone()),
            _ => None,
        };
        Some(Held { file, build_id })
    }

    /// Opens `/tmp/perf-PID.map`, if there is one.
    pub(super) fn hold_perf_map(&mut self, pid: u32) -> Option<Held> {
        if self.held >= HELD_MAX {
            return None;
        }
        let path = format!("/tmp/perf-{pid}.map");
        let file = open_regular(Path::new(&path))?;
        self.held += 1;
        Some(Held { file, build_id: None })
    }

    /// The file was mapped a moment ago and its path leads nowhere already, or to another file.
    fn is_gone(&self, mmap: &Mmap) -> bool {
        let Ok(file) = file::File::open(Path::new(OsStr::from_bytes(&mmap.path))) else { return true };
        let MmapFile::BuildId(recorded) = &mmap.file else { return false };
        symbols::build_id_of(Arc::new(file)).is_none_or(|id| !id.0.starts_with(recorded))
    }

    fn foreign(&self, pid: u32) -> bool {
        let theirs = namespace(&pid.to_string());
        theirs.is_some() && self.namespace.is_some() && theirs != self.namespace
    }
}

fn namespace(pid: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|m| m.ino())
}

/// The deleted file itself: through the mapping, or as the program of its process.
fn open_mapping(mmap: &Mmap) -> Option<fs::File> {
    let end = mmap.start.checked_add(mmap.len)?;
    let through = format!("/proc/{}/map_files/{:x}-{end:x}", mmap.pid, mmap.start);
    open_regular(Path::new(&through)).or_else(|| {
        let exe = PathBuf::from(format!("/proc/{}/exe", mmap.pid));
        let same = fs::read_link(&exe).is_ok_and(|target| {
            let target = target.as_os_str().as_bytes();
            target.strip_suffix(DELETED).unwrap_or(target) == mmap.path.strip_suffix(DELETED).unwrap_or(&mmap.path)
        });
        if same { open_regular(&exe) } else { None }
    })
}

fn open_in_root(mmap: &Mmap) -> Option<fs::File> {
    let root = format!("/proc/{}/root", mmap.pid);
    let file = fs::File::from(supply::fd_below(Path::new(&root), &mmap.path).ok()?);
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}

fn open_regular(path: &Path) -> Option<fs::File> {
    let file = file::File::open(path).ok().filter(file::File::is_regular)?;
    file.as_fd().try_clone_to_owned().ok().map(fs::File::from)
}

impl Held {
    /// Copies a binary into the cache; its build id.
    pub(super) fn store(&self, path: &[u8], cache: &Cache) -> io::Result<Option<Vec<u8>>> {
        let source = Arc::new(file::File::from_fd(self.file.try_clone()?.into()));
        // The file is what it is, not what a record about another one may have meant.
        let Some(id) = symbols::build_id_of(source).map(|id| id.0) else { return Ok(None) };
        if self.build_id.as_ref().is_some_and(|recorded| !id.starts_with(recorded)) {
            return Ok(None);
        }
        if !cache.has(&id, "elf") {
            let path = path.strip_suffix(DELETED).unwrap_or(path);
            cache.add(path, &id, "elf", &mut from_start(&self.file)?)?;
        }
        Ok(Some(id))
    }

    /// Copies a map of generated code. It has no build id: the cache knows it by a hash of its bytes.
    pub(super) fn store_map(&self, pid: u32, cache: &Cache) -> io::Result<Option<BuildIdEntry>> {
        let mut bytes = Vec::new();
        from_start(&self.file)?.take(MAP_MAX).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let path = format!("/tmp/perf-{pid}.map").into_bytes();
        let build_id = content_id(&bytes);
        if !cache.has(&build_id, supply::PERF_MAP) {
            cache.add(&path, &build_id, supply::PERF_MAP, &mut bytes.as_slice())?;
        }
        Ok(Some(BuildIdEntry { misc: misc::USER, pid: -1, build_id, path }))
    }
}

fn from_start(file: &fs::File) -> io::Result<fs::File> {
    use std::io::Seek;
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(file)
}

/// 20 bytes that stand for these: the length, and two FNV-1a hashes with different seeds.
fn content_id(bytes: &[u8]) -> Vec<u8> {
    let hash = |seed: u64| bytes.iter().fold(seed, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut id = (bytes.len() as u32).to_be_bytes().to_vec();
    id.extend(hash(0xcbf2_9ce4_8422_2325).to_be_bytes());
    id.extend(hash(0x9ae1_6a3b_2f90_404f).to_be_bytes());
    id
}
