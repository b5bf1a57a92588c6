//! perf's build-id cache: `DIR/PATH/BUILDID/{elf,kallsyms,vdso}`, and `DIR/.build-id/xx/yyyy` that points there.
//!
//! Everything appears at once or not at all: files and links are made under another name and renamed.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xprof_backend::machine::Machine;
use xprof_backend::sys::file;
use xprof_backend::sys::xen::symbols::names;
use xprof_perfdata::abi::misc;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_profile::symbols;

use crate::{archive, supply};

/// The name of the kernel among mappings, as perf writes it.
pub(super) const KERNEL: &[u8] = b"[kernel.kallsyms]";

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `PERF_BUILDID_DIR`, else `~/.debug`.
    pub(crate) fn open() -> Option<Cache> {
        supply::cache_directory().map(|root| Cache { root })
    }

    /// A cache elsewhere.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Cache {
        Cache { root: root.into() }
    }

    /// The file of a build id.
    pub(crate) fn file(&self, build_id: &[u8], kind: &str) -> PathBuf {
        self.link(build_id).join(kind)
    }

    /// True when the cache has that file.
    pub(crate) fn has(&self, build_id: &[u8], kind: &str) -> bool {
        self.file(build_id, kind).exists()
    }

    /// Copies `from` in, as the `kind` of `build_id`.
    pub(crate) fn add(&self, path: &[u8], build_id: &[u8], kind: &str, from: &mut dyn Read) -> io::Result<()> {
        let inside = archive::inside(path).join(hex(build_id));
        let directory = self.root.join(&inside);
        fs::create_dir_all(&directory)?;
        let part = directory.join(format!(".{kind}.{}", std::process::id()));
        let copied = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&part)
            .and_then(|mut to| io::copy(from, &mut to))
            .and_then(|_| fs::rename(&part, directory.join(kind)));
        if let Err(error) = copied {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        let link = self.link(build_id);
        let parent = link.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        let part = parent.join(format!(".link.{}", std::process::id()));
        let _ = fs::remove_file(&part);
        symlink(Path::new("../..").join(&inside), &part)?;
        fs::rename(&part, &link).inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })
    }

    /// Keeps the vdso of this machine.
    pub(super) fn add_vdso(&self, notes: &mut Vec<String>) -> Option<BuildIdEntry> {
        let image = supply::own_vdso().ok()?;
        let id = symbols::build_id_of(Arc::clone(&image))?.0;
        if !self.has(&id, "vdso") {
            let bytes = image.read_vec(0, image.len());
            if let Err(error) = bytes.and_then(|bytes| self.add(b"[vdso]", &id, "vdso", &mut bytes.as_slice())) {
                notes.push(format!("cannot keep the vdso: {error}"));
            }
        }
        Some(BuildIdEntry { misc: misc::USER, pid: -1, build_id: id, path: b"[vdso]".to_vec() })
    }

    /// Keeps the symbols of the running kernel, unless they are hidden or here already.
    pub(super) fn add_kallsyms(&self, build_id: &[u8], notes: &mut Vec<String>) {
        if self.has(build_id, "kallsyms") || !kallsyms_shown() {
            return;
        }
        let copied = fs::File::open("/proc/kallsyms").and_then(|mut f| self.add(KERNEL, build_id, "kallsyms", &mut f));
        if let Err(error) = copied {
            notes.push(format!("cannot keep the kernel's symbols: {error}"));
        }
    }

    /// Keeps the names of the running Xen, which dom0 alone can read; its part of the table of build ids.
    pub(super) fn add_xensyms(&self, notes: &mut Vec<String>) -> Option<BuildIdEntry> {
        let build_id = supply::running_xen()?;
        if !self.has(&build_id, "kallsyms") {
            let names = names(&Machine::here()).ok()?;
            if let Err(error) = self.add(supply::HYPERVISOR, &build_id, "kallsyms", &mut names.as_bytes()) {
                notes.push(format!("cannot keep Xen's symbols: {error}"));
                return None;
            }
        }
        Some(BuildIdEntry { misc: misc::HYPERVISOR, pid: -1, build_id, path: supply::HYPERVISOR.to_vec() })
    }

    fn link(&self, build_id: &[u8]) -> PathBuf {
        let hex = hex(build_id);
        let (first, rest) = hex.split_at_checked(2).unwrap_or((&hex, "_"));
        self.root.join(".build-id").join(first).join(rest)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// kptr_restrict shows every address as zero.
fn kallsyms_shown() -> bool {
    let start = file::read_small(Path::new("/proc/kallsyms"), 4096).unwrap_or_default();
    start.split(|&b| b == b'\n').filter_map(|line| line.get(..8)).any(|address| address.iter().any(|&b| b != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_perfs() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let id = [0xab, 0xcd, 0xef];
        cache.add(b"/usr/bin/x", &id, "elf", &mut &b"one"[..]).unwrap();
        assert_eq!(fs::read(dir.path().join("usr/bin/x/abcdef/elf")).unwrap(), b"one");
        let link = fs::read_link(dir.path().join(".build-id/ab/cdef")).unwrap();
        assert_eq!(link, Path::new("../../usr/bin/x/abcdef"));
        assert!(cache.has(&id, "elf") && !cache.has(&id, "vdso"));
        cache.add(b"/usr/bin/x", &id, "elf", &mut &b"two"[..]).unwrap();
        assert_eq!(fs::read(cache.file(&id, "elf")).unwrap(), b"two");
    }

    #[test]
    fn a_hostile_path_stays_inside() {
        assert_eq!(archive::inside(b"/../../etc/./passwd"), Path::new("etc/passwd"));
    }
}
