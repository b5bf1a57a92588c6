//! Modules (perf's DSOs): what mappings point to, each once.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::is_unseen;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::record::{Ksymbol, Mmap, MmapFile};

use super::guest::DEFAULT_GUEST;
use super::{Mode, build_id};
use crate::supply::BuildId;
use crate::symbols::{GuestPart, Module, ModuleKind, Reference};

/// Index of a module. Dense from 0; the first ones stand for "nothing is mapped there", one per [`Mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// `PROT_EXEC` of the kernel's `mman-common.h`.
const PROT_EXEC: u32 = 4;
/// `MAP_HUGETLB` of the kernel's `mman.h`.
const MAP_HUGETLB: u32 = 0x40000;
/// Name of the kernel's own map in MMAP records, before the name of its reference symbol.
const KERNEL: &[u8] = b"[kernel.kallsyms]";

/// What the name of a guest's kernel begins with.
const GUEST_KERNEL: &[u8] = b"[guest.kernel.kallsyms";

const MODES: [Mode; 6] =
    [Mode::Unknown, Mode::Kernel, Mode::User, Mode::Hypervisor, Mode::GuestKernel, Mode::GuestUser];

/// What makes two mappings the same module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    path: Vec<u8>,
    kind: ModuleKind,
    /// Build id, or device and inode; empty when the record says neither.
    file: Vec<u8>,
}

/// All modules of a recording.
#[derive(Debug)]
pub struct Modules {
    list: Vec<Module>,
    short: Vec<Vec<u8>>,
    modes: Vec<Mode>,
    ids: FxHashMap<Identity, ModuleId>,
    table: FxHashMap<Vec<u8>, BuildId>,
    /// Paths of `jit-PID.dump`, by the process that mapped one.
    dumps: FxHashMap<u32, Arc<[u8]>>,
    /// Mappings without a file, by path: programs that take memory from the kernel and give it back write most records.
    memory: FxHashMap<Vec<u8>, ModuleId>,
}

impl Modules {
    pub(super) fn new(build_ids: &[BuildIdEntry]) -> Modules {
        let mut modules = Modules {
            list: Vec::new(),
            short: Vec::new(),
            modes: Vec::new(),
            ids: FxHashMap::default(),
            table: FxHashMap::default(),
            dumps: FxHashMap::default(),
            memory: FxHashMap::default(),
        };
        for mode in MODES {
            // perf prints [unknown] for hypervisor samples too.
            let (path, kind) = match mode {
                Mode::Hypervisor => (&b"[hypervisor]"[..], ModuleKind::Hypervisor),
                _ => (&b"[unknown]"[..], ModuleKind::Pseudo),
            };
            modules.push(Module { path: path.to_vec(), kind, build_id: None, pid: None }, path.to_vec(), mode);
        }
        modules.add_build_ids(build_ids);
        modules
    }

    fn push(&mut self, module: Module, short: Vec<u8>, mode: Mode) -> ModuleId {
        let id = ModuleId(self.list.len() as u32);
        self.list.push(module);
        self.short.push(short);
        self.modes.push(mode);
        id
    }

    pub(super) fn add_build_ids(&mut self, entries: &[BuildIdEntry]) {
        for entry in entries.iter().filter(|e| e.pid == -1) {
            let Some(id) = build_id(&entry.build_id) else { continue };
            for module in self.list.iter_mut().filter(|m| m.build_id.is_none() && m.path == entry.path) {
                module.build_id = Some(id.clone());
            }
            self.table.insert(entry.path.clone(), id);
        }
    }

    /// The module of addresses where nothing is mapped.
    pub fn unknown(mode: Mode) -> ModuleId {
        ModuleId(mode as u32)
    }

    /// True for the modules of [`Modules::unknown`].
    pub fn is_unknown(id: ModuleId) -> bool {
        (id.0 as usize) < MODES.len()
    }

    /// True for the path of the kernel's own MMAP record.
    pub(super) fn is_kernel_image(path: &[u8]) -> bool {
        path.starts_with(KERNEL) || path.starts_with(b"[kernel.vmlinux]")
    }

    fn intern(&mut self, identity: Identity, pid: Option<u32>, short: Vec<u8>, mode: Mode) -> ModuleId {
        if let Some(&id) = self.ids.get(&identity) {
            return id;
        }
        let named = match &identity.file[..] {
            [b'b', id @ ..] => build_id(id),
            _ => None,
        };
        let build_id = named.or_else(|| self.table.get(&identity.path).cloned());
        let module = Module { path: identity.path.clone(), kind: identity.kind.clone(), build_id, pid };
        let id = self.push(module, short, mode);
        self.ids.insert(identity, id);
        id
    }

    /// The module of the kernel's own mapping. Mappings of one kernel are one module; its reference symbol is the first
    /// that any of them says.
    pub(super) fn kernel(&mut self, mmap: &Mmap) -> ModuleId {
        let kind = ModuleKind::Kernel { reference: None };
        let identity = Identity { path: KERNEL.to_vec(), kind, file: file_identity(&mmap.file) };
        let id = self.intern(identity, None, KERNEL.to_vec(), Mode::Kernel);
        if let Some(Module { kind: ModuleKind::Kernel { reference }, .. }) = self.list.get_mut(id.0 as usize)
            && reference.is_none()
        {
            *reference = reference_of(mmap);
        }
        id
    }

    pub(super) fn kernel_module(&mut self, mmap: &Mmap) -> ModuleId {
        let (path, kind) = (mmap.path.clone(), ModuleKind::KernelModule);
        let short = kernel_module_name(&path);
        self.intern(Identity { path, kind, file: file_identity(&mmap.file) }, None, short, Mode::Kernel)
    }

    pub(super) fn ksymbol(&mut self, ksymbol: &Ksymbol) -> ModuleId {
        // The record itself is the symbol: the module's name says it all.
        let name = ksymbol.name.clone();
        let identity = Identity {
            path: name.clone(),
            kind: ModuleKind::Ksymbol { start: ksymbol.addr, len: ksymbol.len },
            file: Vec::new(),
        };
        self.intern(identity, None, name, Mode::Kernel)
    }

    /// The module of the kernel of a guest, as perf calls it.
    pub(super) fn guest_kernel(&mut self, machine: u32) -> ModuleId {
        let path = guest_kernel_name(machine);
        let kind = ModuleKind::Guest { machine, part: GuestPart::Kernel };
        self.intern(Identity { path: path.clone(), kind, file: Vec::new() }, None, path, Mode::GuestKernel)
    }

    /// The module of what is mapped into the kernel of a guest.
    pub(super) fn guest_mapping(&mut self, mmap: &Mmap, machine: u32) -> ModuleId {
        if mmap.path.starts_with(GUEST_KERNEL) {
            return self.guest_kernel(machine);
        }
        let (path, kind) = (mmap.path.clone(), ModuleKind::Guest { machine, part: GuestPart::KernelModule });
        let short = kernel_module_name(&path);
        self.intern(Identity { path, kind, file: file_identity(&mmap.file) }, None, short, Mode::GuestKernel)
    }

    /// The module of the one program of a guest.
    pub(super) fn guest_program(&mut self, machine: u32, path: &[u8]) -> ModuleId {
        let kind = ModuleKind::Guest { machine, part: GuestPart::Program };
        let identity = Identity { path: path.to_vec(), kind, file: Vec::new() };
        self.intern(identity, None, basename(path), Mode::GuestUser)
    }

    /// The module of a user mapping, and whether it is addressed by run-time addresses.
    pub(super) fn user(&mut self, mmap: &Mmap, machine: u32) -> (ModuleId, bool) {
        if is_unseen(&mmap.path) {
            let path = mmap.path.clone();
            let identity = Identity { path: path.clone(), kind: ModuleKind::Pseudo, file: Vec::new() };
            return (self.intern(identity, None, path, Mode::Unknown), false);
        }
        if machine != 0 {
            let pseudo = mmap.path.first() == Some(&b'[') || mmap.path.starts_with(b"//");
            let kind = if pseudo { ModuleKind::Pseudo } else { ModuleKind::Guest { machine, part: GuestPart::File } };
            let short = if pseudo { mmap.path.clone() } else { basename(&mmap.path) };
            let identity = Identity { path: mmap.path.clone(), kind, file: file_identity(&mmap.file) };
            return (self.intern(identity, None, short, Mode::GuestUser), pseudo);
        }
        let path = &mmap.path[..];
        if is_jitdump(path) {
            self.dumps.insert(mmap.pid, path.into());
        }
        let anonymous = mmap.flags & MAP_HUGETLB != 0
            || [&b"//anon"[..], b"/dev/zero", b"/anon_hugepage"].iter().any(|p| path.starts_with(p));
        let no_file = [&b"[stack"[..], b"/SYSV", b"[heap]"].iter().any(|p| path.starts_with(p));
        // A plain MMAP record does not say whether it is executable; it is only written for what is.
        let is_code = mmap.prot & PROT_EXEC != 0 || !mmap.v2;
        if (anonymous || no_file)
            && !is_code
            && let Some(&id) = self.memory.get(path)
        {
            self.tell_of_dump(mmap.pid);
            return (id, true);
        }
        let (path, kind, short) = if anonymous || no_file {
            if is_code {
                let short = format!("[JIT] tid {}", mmap.pid).into_bytes();
                (
                    format!("/tmp/perf-{}.map", mmap.pid).into_bytes(),
                    ModuleKind::Jit { pid: mmap.pid, dump: None },
                    short,
                )
            } else {
                (path.to_vec(), ModuleKind::Pseudo, basename(path))
            }
        } else if matches!(path, b"[vdso]" | b"[vdso32]" | b"[vdsox32]") {
            (path.to_vec(), ModuleKind::Vdso, path.to_vec())
        } else if path.first() == Some(&b'[') {
            (path.to_vec(), ModuleKind::Pseudo, path.to_vec())
        } else {
            (path.to_vec(), ModuleKind::User, basename(path))
        };
        let file = if kind == ModuleKind::User { file_identity(&mmap.file) } else { Vec::new() };
        let identity = !matches!(kind, ModuleKind::User | ModuleKind::Vdso);
        let is_memory = kind == ModuleKind::Pseudo;
        let id = self.intern(Identity { path, kind, file }, Some(mmap.pid), short, Mode::User);
        if is_memory {
            self.memory.insert(mmap.path.clone(), id);
        }
        self.tell_of_dump(mmap.pid);
        (id, identity)
    }

    /// The code that a process makes has the names of its dump, in whichever order both were mapped.
    fn tell_of_dump(&mut self, process: u32) {
        let Some(path) = self.dumps.get(&process) else { return };
        for module in &mut self.list {
            if let ModuleKind::Jit { pid, dump } = &mut module.kind
                && *pid == process
                && dump.is_none()
            {
                *dump = Some(path.clone());
            }
        }
    }

    /// The kernel itself, when a record told of it.
    pub fn kernel_image(&self) -> Option<ModuleId> {
        let index = self.list.iter().position(|module| matches!(module.kind, ModuleKind::Kernel { .. }))?;
        Some(ModuleId(index as u32))
    }

    /// The modules, by id.
    pub fn list(&self) -> &[Module] {
        &self.list
    }

    /// The module.
    pub fn get(&self, id: ModuleId) -> Option<&Module> {
        self.list.get(id.0 as usize)
    }

    /// Name as tables show it: the file's last part, `[ext4]` for a kernel module, `[JIT] tid N`.
    pub fn short_name(&self, id: ModuleId) -> &[u8] {
        self.short.get(id.0 as usize).map_or(b"[unknown]", Vec::as_slice)
    }

    /// Name as `script` shows it: the path, but for kernel modules that the recording's table of build ids does not tell
    /// of, which perf knows by their short name.
    pub fn long_name(&self, id: ModuleId) -> &[u8] {
        match self.get(id) {
            Some(module) if module.kind == ModuleKind::KernelModule && !self.table.contains_key(&module.path) => {
                self.short_name(id)
            }
            Some(module) => &module.path,
            None => b"[unknown]",
        }
    }

    /// The mode in which its code runs.
    pub fn mode(&self, id: ModuleId) -> Mode {
        self.modes.get(id.0 as usize).copied().unwrap_or(Mode::Unknown)
    }
}

/// `[guest.kernel.kallsyms.MACHINE]`; of the one guest that perf does not tell apart without number.
fn guest_kernel_name(machine: u32) -> Vec<u8> {
    match machine {
        DEFAULT_GUEST => b"[guest.kernel.kallsyms]".to_vec(),
        machine => format!("[guest.kernel.kallsyms.{machine}]").into_bytes(),
    }
}

/// `[kernel.kallsyms]_text`, with the address of `_text` for an offset; 0 when it was hidden from the recorder.
fn reference_of(mmap: &Mmap) -> Option<Reference> {
    let name = mmap.path.strip_prefix(KERNEL).filter(|name| !name.is_empty())?;
    (mmap.pgoff != 0).then(|| Reference { name: name.to_vec(), address: mmap.pgoff })
}

fn file_identity(file: &MmapFile) -> Vec<u8> {
    match file {
        MmapFile::Unknown => Vec::new(),
        MmapFile::Inode { major: 0, minor: 0, inode: 0, .. } => Vec::new(),
        MmapFile::Inode { major, minor, inode, .. } => {
            let mut bytes = vec![b'i'];
            bytes.extend_from_slice(&major.to_le_bytes());
            bytes.extend_from_slice(&minor.to_le_bytes());
            bytes.extend_from_slice(&inode.to_le_bytes());
            bytes
        }
        MmapFile::BuildId(id) => [b"b", &id[..]].concat(),
    }
}

/// `jit-PID.dump`: a compiler maps it, executable, so that whoever records learns of it.
fn is_jitdump(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    let number = name.strip_prefix(b"jit-").and_then(|rest| rest.strip_suffix(b".dump"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn basename(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    if name.is_empty() { path.to_vec() } else { name.to_vec() }
}

/// `/lib/modules/REL/kernel/fs/ext4/ext4.ko.xz` is `[ext4]`; a name in brackets stays.
fn kernel_module_name(path: &[u8]) -> Vec<u8> {
    if path.first() == Some(&b'[') {
        return path.to_vec();
    }
    let name = basename(path);
    let end = name.windows(3).position(|w| w == b".ko").unwrap_or(name.len());
    let mut short = vec![b'['];
    short.extend(name[..end].iter().map(|&b| if b == b'-' { b'_' } else { b }));
    short.push(b']');
    short
}
