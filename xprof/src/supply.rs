//! Files of this machine for `xprof-profile`: programs (also those in containers and under `--symfs`), debug files, perf's
//! cache `~/.debug`, kallsyms, the vdso, and the maps that just-in-time compilers write.
//!
//! Paths come from recordings and from other users' processes, so only regular files are opened, without waiting, and below
//! a root (`--symfs`, `/proc/PID/root`) no link leads out of it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use xprof_backend::machine::Machine;
use xprof_backend::sys::file::{File, read_small};
use xprof_backend::sys::xen::symbols::names;
use xprof_perfdata::source::Source;
use xprof_profile::supply::{BuildId, Need, Supplier};
use xprof_profile::symbols::build_id_of_notes;

use crate::debuginfod::Debuginfod;
use crate::guest_files::GuestFiles;

/// Gives files of this machine.
#[derive(Debug)]
pub(crate) struct FileSupplier {
    /// `--symfs`: programs and debug files are looked for below this folder only.
    pub(crate) symfs: Option<PathBuf>,
    /// `--kallsyms`: instead of `/proc/kallsyms`, whatever kernel was recorded.
    pub(crate) kallsyms: Option<PathBuf>,
    /// `--vmlinux`: the kernel's own file.
    pub(crate) vmlinux: Option<PathBuf>,
    /// `--source-path`: where source files are looked for first.
    pub(crate) sources: Vec<PathBuf>,
    /// Maps of generated code that the recording kept in the cache, by process.
    pub(crate) perf_maps: HashMap<u32, BuildId>,
    /// Files that the user gave for guests, by machine.
    pub(crate) guests: FxHashMap<u32, GuestFiles>,
    /// `--xensyms`, and the build id of the recorded hypervisor.
    pub(crate) xensyms: Option<PathBuf>,
    pub(crate) xen: Option<BuildId>,
    /// Servers of debug information.
    pub(crate) downloads: Option<Arc<Debuginfod>>,
    /// perf's cache.
    cache: Option<PathBuf>,
    /// Whether a process lives in another mount namespace than we.
    elsewhere: Mutex<HashMap<u32, bool>>,
}

impl FileSupplier {
    /// With the cache of `PERF_BUILDID_DIR`, or else `~/.debug`.
    pub(crate) fn new(symfs: Option<PathBuf>, kallsyms: Option<PathBuf>, vmlinux: Option<PathBuf>) -> FileSupplier {
        let (perf_maps, elsewhere) = (HashMap::new(), Mutex::default());
        FileSupplier {
            symfs,
            kallsyms,
            vmlinux,
            sources: Vec::new(),
            perf_maps,
            guests: FxHashMap::default(),
            xensyms: None,
            xen: None,
            downloads: None,
            cache: cache_directory(),
            elsewhere,
        }
    }

    fn path(&self, path: &[u8], pid: Option<u32>) -> io::Result<Arc<dyn Source>> {
        if let Some(symfs) = &self.symfs {
            return open_below(symfs, path);
        }
        match pid {
            Some(pid) if self.lives_elsewhere(pid) => open_below(Path::new(&format!("/proc/{pid}/root")), path),
            _ => open(Path::new(OsStr::from_bytes(path))),
        }
    }

    /// A source file: below the user's folders the longest end of its path that leads to one, else where it was compiled.
    fn source(&self, path: &[u8], pid: Option<u32>) -> io::Result<Arc<dyn Source>> {
        let starts = path.iter().enumerate().filter(|(at, b)| *at == 0 || **b == b'/').map(|(at, _)| at);
        let below = |folder: &PathBuf| starts.clone().find_map(|at| open_below(folder, &path[at..]).ok());
        match self.sources.iter().find_map(below) {
            Some(found) => Ok(found),
            None => self.path(path, pid).or_else(|_| open(Path::new(OsStr::from_bytes(path)))),
        }
    }

    fn lives_elsewhere(&self, pid: u32) -> bool {
        let mut known = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(pid).or_insert_with(|| {
            let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
            namespace(&pid.to_string()).is_some_and(|theirs| namespace("self") != Some(theirs))
        })
    }

    fn cached(&self, build_id: &BuildId, kind: &str) -> io::Result<Arc<dyn Source>> {
        let cache = self.cache.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let (first, rest) = split(build_id)?;
        open(&cache.join(".build-id").join(first).join(rest).join(kind))
    }

    fn debug(&self, build_id: &BuildId) -> io::Result<Arc<dyn Source>> {
        let (first, rest) = split(build_id)?;
        self.path(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug").as_bytes(), None)
    }

    fn kallsyms(&self, build_id: Option<&BuildId>) -> io::Result<Arc<dyn Source>> {
        if let Some(path) = &self.kallsyms {
            return given(path);
        }
        of_running_kernel(build_id, "/proc/kallsyms")
    }

    /// Xen's symbols: those the user gave, those kept when it was recorded, else those of the running one if it is the same.
    fn hypervisor(&self) -> io::Result<Arc<dyn Source>> {
        if let Some(path) = &self.xensyms {
            return given(path);
        }
        let Some(recorded) = &self.xen else { return Err(io::ErrorKind::NotFound.into()) };
        let kept = self.cached(recorded, "kallsyms");
        let is_here = || running_xen().is_some_and(|id| id == recorded.0);
        if kept.is_ok() || !is_here() { kept } else { Ok(Arc::new(names(&Machine::here())?.into_bytes())) }
    }

    /// The map of a process: the one that was kept, else the one that is there now, under the number that the process itself knows (the last of `NSpid`).
    fn perf_map(&self, pid: u32) -> io::Result<Arc<dyn Source>> {
        if let Some(kept) = self.perf_maps.get(&pid).and_then(|id| self.cached(id, PERF_MAP).ok()) {
            return Ok(kept);
        }
        let status = read_small(Path::new(&format!("/proc/{pid}/status")), SMALL).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let own = status.lines().find_map(|l| l.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
        let theirs = format!("/tmp/perf-{}.map", own.unwrap_or(pid));
        self.path(theirs.as_bytes(), Some(pid)).or_else(|_| self.path(format!("/tmp/perf-{pid}.map").as_bytes(), None))
    }
}

impl Supplier for FileSupplier {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        match need {
            Need::Path { path, pid } => self.path(path, *pid),
            Need::Source { path, pid } => self.source(path, *pid),
            // Only a recorder holds files.
            Need::Mapped { .. } => Err(io::ErrorKind::NotFound.into()),
            Need::Cached { build_id, kind } => self.cached(build_id, kind),
            Need::Debug { build_id } => self.debug(build_id),
            Need::Download { build_id, what } => match &self.downloads {
                Some(servers) => servers.file(build_id, what),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            Need::Kallsyms { build_id } => self.kallsyms(build_id.as_ref()),
            Need::KernelMemory { build_id } => of_running_kernel(build_id.as_ref(), KCORE),
            Need::Vmlinux => self.vmlinux.as_deref().map_or(Err(io::ErrorKind::NotFound.into()), given),
            Need::Guest { machine, what } => {
                let file = self.guests.get(machine).and_then(|files| files.file(what));
                file.map_or(Err(io::ErrorKind::NotFound.into()), given)
            }
            Need::Hypervisor => self.hypervisor(),
            Need::Vdso => own_vdso(),
            Need::PerfMap { pid } => self.perf_map(*pid),
        }
    }
}

/// A file in which the running kernel tells of itself, if it is the one that was recorded.
fn of_running_kernel(recorded: Option<&BuildId>, path: &str) -> io::Result<Arc<dyn Source>> {
    if let Some(recorded) = recorded {
        let running =
            read_small(Path::new("/sys/kernel/notes"), SMALL).ok().and_then(|notes| build_id_of_notes(&notes));
        if running.as_ref() != Some(recorded) {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    match open(Path::new(path)) {
        // Not the answer of another kernel.
        Err(e) if path == KCORE && e.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::Unsupported.into()),
        other => other,
    }
}

/// The memory of the running kernel.
const KCORE: &str = "/proc/kcore";

/// Build id of the Xen below, which dom0 alone can ask for. What Linux has in `/sys/hypervisor/properties/buildid` are its raw
/// bytes up to the first zero.
pub(crate) fn running_xen() -> Option<Vec<u8>> {
    xprof_backend::sys::xen::Hypervisor::open().ok()?.build_id().filter(|id| !id.is_empty())
}

/// Path of the hypervisor in the table of build ids.
pub(crate) const HYPERVISOR: &[u8] = b"[hypervisor]";

/// Name in the cache of a map of generated code; its build id is a hash of its bytes.
pub(crate) const PERF_MAP: &str = "perf-map";

/// The process whose map of generated code has this path.
pub(crate) fn process_of_map(path: &[u8]) -> Option<u32> {
    let number = path.strip_prefix(b"/tmp/perf-")?.strip_suffix(b".map")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// perf's cache: `PERF_BUILDID_DIR`, or else `~/.debug`.
pub(crate) fn cache_directory() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".debug"));
    std::env::var_os("PERF_BUILDID_DIR").map(PathBuf::from).or_else(home)
}

/// `xx`, `yyyy..` of a build id, as caches name it.
fn split(build_id: &BuildId) -> io::Result<(String, String)> {
    let hex = build_id.to_string();
    if hex.len() < 4 {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((hex[..2].into(), hex[2..].into()))
}

/// Texts of `/proc` and `/sys` are read up to this many bytes.
const SMALL: usize = 4 << 20;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

pub(crate) fn open(path: &Path) -> io::Result<Arc<dyn Source>> {
    regular(rustix::fs::openat(CWD, path, FLAGS, Mode::empty())?)
}

/// Opens a file that the user named: that it does not exist is an error like any other.
fn given(path: &Path) -> io::Result<Arc<dyn Source>> {
    open(path).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

fn open_below(root: &Path, path: &[u8]) -> io::Result<Arc<dyn Source>> {
    regular(fd_below(root, path)?)
}

/// Opens a path as a process sees it whose root is `root`.
pub(crate) fn fd_below(root: &Path, path: &[u8]) -> io::Result<OwnedFd> {
    let folder = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = OsStr::from_bytes(path);
    let file = match rustix::fs::openat2(&folder, path, FLAGS, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Before Linux 5.6, and under some seccomp filters.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            let relative = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
            rustix::fs::openat(&folder, relative, FLAGS, Mode::empty())?
        }
        other => other?,
    };
    Ok(file)
}

fn regular(file: OwnedFd) -> io::Result<Arc<dyn Source>> {
    let file = File::from_fd(file);
    if !file.is_regular() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Arc::new(file))
}

/// The vdso mapped into this process.
pub(crate) fn own_vdso() -> io::Result<Arc<dyn Source>> {
    let maps = read_small(Path::new("/proc/self/maps"), SMALL)?;
    let maps = String::from_utf8_lossy(&maps);
    let range = maps.lines().find(|l| l.ends_with("[vdso]")).and_then(|l| {
        let (start, end) = l.split(' ').next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    });
    let (start, end) = range.ok_or(io::ErrorKind::NotFound)?;
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    File::open(Path::new("/proc/self/mem"))?.read_exact_at(start, &mut bytes)?;
    Ok(Arc::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use xprof_profile::symbols::{Module, ModuleKind, Symbolizer};

    use super::*;

    fn text(source: io::Result<Arc<dyn Source>>) -> String {
        let source = source.unwrap();
        String::from_utf8(source.read_vec(0, source.len()).unwrap()).unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xprof-supply-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn need(path: &str, pid: Option<u32>) -> Need {
        Need::Path { path: path.into(), pid }
    }

    #[test]
    fn links_do_not_lead_out_of_symfs() {
        let symfs = folder("symfs");
        fs::create_dir_all(symfs.join("etc")).unwrap();
        fs::write(symfs.join("etc/passwd"), "of symfs").unwrap();
        symlink("/etc/passwd", symfs.join("link")).unwrap();
        symlink("../../../../../../etc/passwd", symfs.join("etc/up")).unwrap();
        let supplier = FileSupplier::new(Some(symfs.clone()), None, None);
        for path in ["/etc/passwd", "/link", "/etc/up", "/../../etc/passwd"] {
            assert_eq!(text(supplier.supply(&need(path, None))), "of symfs", "{path}");
        }
        assert_eq!(supplier.supply(&need("/proc/self/maps", None)).err().unwrap().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(symfs).unwrap();
    }

    #[test]
    fn only_regular_files_and_no_waiting() {
        let folder = folder("fifo");
        let fifo = folder.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let supplier = FileSupplier::new(None, None, None);
        for path in [fifo.to_str().unwrap(), "/dev/zero", "/tmp"] {
            assert!(supplier.supply(&need(path, None)).is_err(), "{path}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn kallsyms_of_the_recorded_kernel_only() {
        let supplier = FileSupplier::new(None, None, None);
        let running = build_id_of_notes(&fs::read("/sys/kernel/notes").unwrap()).unwrap();
        assert!(supplier.supply(&Need::Kallsyms { build_id: None }).is_ok());
        assert!(supplier.supply(&Need::Kallsyms { build_id: Some(running) }).is_ok());
        let other = Need::Kallsyms { build_id: Some(BuildId(vec![7; 20])) };
        assert_eq!(supplier.supply(&other).err().unwrap().kind(), io::ErrorKind::NotFound);
        // Its memory neither, whether this kernel shows it or not.
        let memory = |build_id| supplier.supply(&Need::KernelMemory { build_id }).err().map(|e| e.kind());
        assert_eq!(memory(Some(BuildId(vec![7; 20]))), Some(io::ErrorKind::NotFound));
        assert_ne!(memory(None), Some(io::ErrorKind::NotFound));
        // What the user gives is taken for any kernel.
        let folder = folder("kallsyms");
        fs::write(folder.join("k"), "ffff T f").unwrap();
        let supplier = FileSupplier::new(None, Some(folder.join("k")), None);
        assert_eq!(text(supplier.supply(&other)), "ffff T f");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_that_the_user_gives() {
        assert_eq!(
            FileSupplier::new(None, None, None).supply(&Need::Vmlinux).err().unwrap().kind(),
            io::ErrorKind::NotFound
        );
        let folder = folder("vmlinux");
        fs::write(folder.join("vmlinux"), "of the kernel").unwrap();
        let supplier = FileSupplier::new(None, None, Some(folder.join("vmlinux")));
        assert_eq!(text(supplier.supply(&Need::Vmlinux)), "of the kernel");
        // One that does not exist is not taken for none.
        let gone = folder.join("gone");
        let supplier = FileSupplier::new(None, Some(gone.clone()), Some(gone));
        for need in [Need::Vmlinux, Need::Kallsyms { build_id: None }] {
            let error = supplier.supply(&need).err().unwrap();
            assert!(
                error.kind() != io::ErrorKind::NotFound && error.to_string().contains("gone: No such file"),
                "{error}"
            );
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn map_of_a_process() {
        let pid = std::process::id();
        let path = format!("/tmp/perf-{pid}.map");
        fs::write(&path, "7f00 10 made at run time\n").unwrap();
        let supplier = FileSupplier::new(None, None, None);
        let found = supplier.supply(&Need::PerfMap { pid });
        fs::remove_file(&path).unwrap();
        assert_eq!(text(found), "7f00 10 made at run time\n");
    }

    #[test]
    fn a_process_with_other_mounts() {
        // A shell with mounts of its own, in which /mnt holds a file that is not here.
        let script = "mount -t tmpfs none /mnt && echo theirs > /mnt/xprof-only-there && echo ready && read line";
        let mut shell = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let supplier = FileSupplier::new(None, None, None);
        let theirs = supplier.supply(&need("/mnt/xprof-only-there", Some(shell.id())));
        let ours = supplier.supply(&need("/mnt/xprof-only-there", Some(std::process::id())));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(text(theirs), "theirs\n");
        assert_eq!(ours.err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn vdso_has_the_clock() {
        let symbolizer = Symbolizer::new(Arc::new(FileSupplier::new(None, None, None)));
        let vdso = Module { path: b"[vdso]".into(), kind: ModuleKind::Vdso, build_id: None, pid: None };
        let offsets: Vec<u64> = (0..0x2000).collect();
        let (found, missing) = symbolizer.lookup(&vdso, &offsets);
        let names: std::collections::BTreeSet<_> = found.iter().flatten().map(|s| s.name.to_string()).collect();
        // Its functions have a name for libraries and one for programs; both are in its table.
        assert!(names.iter().any(|n| n.ends_with("clock_gettime")), "{names:?} {missing:?}");
        assert_eq!(missing, None);
    }
}
