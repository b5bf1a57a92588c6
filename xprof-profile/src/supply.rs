//! What symbol logic needs, and who gives it. This crate does no I/O: a [`Supplier`] is given a [`Need`] and
//! returns bytes. The command supplies files of this machine, tests supply memory, a Xen guest its own.

use std::io;
use std::sync::Arc;

use xprof_perfdata::source::Source;

/// 1 to 20 bytes of `NT_GNU_BUILD_ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(pub Vec<u8>);

impl std::fmt::Display for BuildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Something to be read. The supplier answers from where it can: it does not judge (that a file's build id or CRC is
/// right is checked by the asker).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A file by its path, as seen by process `pid` (through `/proc/PID/root` while it lives) or, with `None`, by
    /// this machine. `--symfs` is the supplier's business.
    Path {
        /// Path.
        path: Vec<u8>,
        /// Process whose mount namespace the path is in.
        pid: Option<u32>,
    },
    /// The very file that a process mapped, where whoever records holds it open: its path may lead nowhere, or to another
    /// file.
    Mapped {
        /// Path as recorded, with the kernel's mark of a deleted file.
        path: Vec<u8>,
        /// Build id, when the recording says it.
        build_id: Option<BuildId>,
    },
    /// The binary of a build id from the cache `~/.debug` (perf's layout: `.build-id/xx/yyy../elf`, `/kallsyms`, `/vdso`, `/debug`).
    Cached {
        /// Build id.
        build_id: BuildId,
        /// `elf`, `kallsyms`, `vdso` or `debug`.
        kind: &'static str,
    },
    /// A source file, by the path that the compiler wrote: from where the user says that sources are, else as seen by a process
    /// that mapped what was compiled from it.
    Source {
        /// Path.
        path: Vec<u8>,
        /// Process whose mount namespace the path may be in.
        pid: Option<u32>,
    },
    /// Separate debug information of a build id: `/usr/lib/debug/.build-id/xx/yyy...debug`.
    Debug {
        /// Build id.
        build_id: BuildId,
    },
    /// A file of a build id from elsewhere (debuginfod): asked for last, because it may take long.
    Download {
        /// Build id.
        build_id: BuildId,
        /// `debuginfo` or `executable`.
        what: &'static str,
    },
    /// `/proc/kallsyms` of this machine; only if the running kernel has this build id (`None`: any).
    Kallsyms {
        /// Build id of the kernel that was recorded.
        build_id: Option<BuildId>,
    },
    /// `/proc/kcore` of this machine, the memory of its kernel as an ELF file; only if the running kernel has this build id
    /// (`None`: any). A kernel that does not show its memory is another error (`Unsupported`) than `NotFound`.
    KernelMemory {
        /// Build id of the kernel that was recorded.
        build_id: Option<BuildId>,
    },
    /// The recorded kernel's own file with symbols, where the user gave one (`--vmlinux`). A file that was given and
    /// cannot be opened is another error than `NotFound`.
    Vmlinux,
    /// The symbols of the recorded hypervisor, as in Xen's `/proc/xen/xensyms`.
    Hypervisor,
    /// Something of a guest: from what the user gave for it, or from the guest itself.
    Guest {
        /// Its machine: the id of a Xen domain, the process of a KVM guest.
        machine: u32,
        /// What is needed.
        what: OfGuest,
    },
    /// This machine's vdso.
    Vdso,
    /// `/tmp/perf-PID.map`, also through `/proc/PID/root`, under its pid in its own namespace.
    PerfMap {
        /// Process.
        pid: u32,
    },
}

/// What may be needed of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfGuest {
    /// Its kernel's file with symbols (`--guest-vmlinux`).
    Vmlinux,
    /// Its `/proc/kallsyms` (`--guest-kallsyms`).
    Kallsyms,
    /// Its one program (`--guest-exe`).
    Program,
    /// A file by its path in the guest.
    File(Vec<u8>),
}

/// Gives bytes. Called from several threads.
pub trait Supplier: Send + Sync {
    /// The bytes; an error of kind `NotFound` when there are none.
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>>;
}
