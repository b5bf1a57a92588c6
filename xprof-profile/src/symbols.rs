//! Names of addresses.
//!
//! A [`Symbolizer`] turns (module, address) into a name. Lookups are made in bulk, one per unique address; every file is
//! opened once. The rules are those of perf 6.1, so that sums by symbol can be compared. Where they differ, it is for one of
//! these causes:
//!
//! * *linkage table*: entries are also named in `.plt.sec`, and where the linker left the entry size 0 or wrong; perf names
//!   `.plt` only.
//! * *overlap*: several sized symbols cover the address, or one whose size is a guess. The one that starts last wins here; perf
//!   takes the first that the shape of its tree leads to.
//! * *spelling*: rare C++ and Rust names (under 1 in 1,000) are demangled to other words; also which of several names of one
//!   address is shown, where perf gave up (below).
//! * *perf gave up*: perf stops at the first symbol that it does not understand (one in a section that does not exist), with
//!   half a table.
//! * *more names*: `.gnu_debugdata`, which perf does not read.
//! * *refused*: a debug file whose build id or checksum is wrong; perf does not look at the checksum.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxHashMap;

pub use self::elf::{CodeSegment, Linked, build_id_of, build_id_of_notes};
pub use self::lines::{Line, LineReader};
use self::load::Loaded;
use crate::annotation::SourceText;
use crate::code::Reader;
use crate::supply::{BuildId, Supplier};

mod debug_file;
mod demangle;
pub(crate) mod elf;
pub(crate) mod jitdump;
mod kallsyms;
mod lines;
pub(crate) mod load;
mod perf_map;
mod symtab;
mod table;

/// What kind of module an address lies in, and how its symbols are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// An ELF file mapped by a process.
    User,
    /// The kernel itself (kallsyms or vmlinux).
    Kernel {
        /// Where the recorded kernel had one of its symbols, if the recording says it.
        reference: Option<Reference>,
    },
    /// A kernel module.
    KernelModule,
    /// `[vdso]` (and `[vdso32]`, `[vdsox32]`).
    Vdso,
    /// Code without a file: `//anon`, `[heap]`, `/memfd:..`: `perf-PID.map` of this process, or its `jit-PID.dump`.
    Jit {
        /// Process.
        pid: u32,
        /// Path of the dump, when the process mapped one, as such compilers do to tell of it.
        dump: Option<Arc<[u8]>>,
    },
    /// A piece of kernel code that a KSYMBOL record names (a BPF program, a trampoline): the module's path is the
    /// symbol's name, and no file is asked for.
    Ksymbol {
        /// First address.
        start: u64,
        /// Bytes.
        len: u32,
    },
    /// The hypervisor, by run-time addresses.
    Hypervisor,
    /// Something of a guest: its files and its kernel are none of this machine's.
    Guest {
        /// Its machine: the id of a Xen domain, the process of a KVM guest.
        machine: u32,
        /// What it is.
        part: GuestPart,
    },
    /// `[vsyscall]`, `[stack]`, other pseudo mappings: nothing to look up.
    Pseudo,
}

/// What a module of a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestPart {
    /// Its kernel, by run-time addresses.
    Kernel,
    /// A module of its kernel, by run-time addresses.
    KernelModule,
    /// A file that a process mapped, by file offsets.
    File,
    /// The only program that it runs, linked statically, by run-time addresses.
    Program,
}

/// A symbol of the kernel and the address it had while it was recorded: a kernel may lie elsewhere than it was linked for
/// (KASLR), all of it by the same distance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Name of the symbol: `_text` or `_stext`.
    pub name: Vec<u8>,
    /// Run-time address.
    pub address: u64,
}

/// A module: what a mapping points to. perf calls it a DSO.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// Path as recorded, or the pseudo name (`[kernel.kallsyms]`, `[vdso]`, `//anon`, `[unknown]`).
    pub path: Vec<u8>,
    /// Kind.
    pub kind: ModuleKind,
    /// Build id, when the recording says it.
    pub build_id: Option<BuildId>,
    /// A process that had it mapped, for its mount namespace.
    pub pid: Option<u32>,
}

/// The answer for one address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Symbol {
    /// Demangled name.
    pub name: Arc<str>,
    /// First address of the symbol, in the same space as the address asked for.
    pub start: u64,
    /// Size in bytes as the symbol table says (or up to the next symbol where it says 0).
    pub size: u64,
}

/// Why a module's addresses have no names; printed below the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was looked for, and what would supply it, one sentence.
    pub advice: String,
}

/// Filled when its module is first looked up; the kernel's may share that of its modules.
type Cell = Arc<OnceLock<Arc<Loaded>>>;

/// Gives names. Cloning it shares what was loaded.
#[derive(Clone)]
pub struct Symbolizer {
    supplier: Arc<dyn Supplier>,
    kernel: Option<BuildId>,
    loaded: Arc<Mutex<FxHashMap<Module, Cell>>>,
    /// Bytes that compilers had told when their modules were last looked at for more.
    told: Arc<Mutex<FxHashMap<Module, u64>>>,
}

impl std::fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Symbolizer")
    }
}

impl Symbolizer {
    /// Names from what `supplier` gives.
    pub fn new(supplier: Arc<dyn Supplier>) -> Symbolizer {
        Symbolizer { supplier, kernel: None, loaded: Arc::default(), told: Arc::default() }
    }

    /// Says which kernel was recorded, so that no other one's list is believed. Without it, the running one's is.
    #[must_use]
    pub fn with_kernel(self, build_id: Option<BuildId>) -> Symbolizer {
        Symbolizer { kernel: build_id, loaded: Arc::default(), ..self }
    }

    /// Looks up `addresses` (sorted, unique) of one module. For files and the vdso they are file offsets
    /// (`addr - start + pgoff`), for the kernel, its modules and JIT code run-time addresses. One answer per address, in
    /// order; `None` where no symbol covers it. With it, when some have no name and something could be done: what.
    ///
    /// A module is loaded at its first lookup and kept. May be called from several threads, for different modules at the
    /// same time.
    pub fn lookup(&self, module: &Module, addresses: &[u64]) -> (Vec<Option<Symbol>>, Option<Missing>) {
        let key = self.key(module);
        let mut loaded = self.loaded(key.clone(), module.pid);
        let mut symbols = loaded.lookup(addresses);
        if symbols.iter().any(Option::is_none) && self.has_grown(&key) {
            loaded = self.loaded(key, module.pid);
            symbols = loaded.lookup(addresses);
        }
        let missing = loaded.advice().filter(|_| symbols.iter().any(Option::is_none));
        (symbols, missing.map(|advice| Missing { advice: advice.into() }))
    }

    /// The source lines at sorted addresses of one module, each with the functions compiled into one another there,
    /// innermost first; the last of them is the one that [`Symbolizer::lookup`] names. Empty where nothing is known.
    pub fn lines(&self, module: &Module, addresses: &[u64]) -> Vec<Vec<Line>> {
        lines::lines(&*self.supplier, module, addresses)
    }

    /// A source file by the path that lines say, of a module; `None` when it is not here.
    pub fn source(&self, module: &Module, path: &str) -> Option<SourceText> {
        SourceText::read(&*self.supplier, path, module.pid)
    }

    /// [`Symbolizer::lines`] for who does not know all addresses beforehand.
    pub fn line_reader(&self, module: &Module) -> LineReader {
        LineReader::new(self.supplier.clone(), module.clone())
    }

    /// The machine code of a module, from the file its names come from.
    ///
    /// # Errors
    /// Why there is none, and what would supply it, one sentence.
    pub fn code(&self, module: &Module) -> Result<Reader, String> {
        Reader::open(&*self.supplier, module)
    }

    /// What of a module's file is loaded to be executed; nothing where its addresses are no file offsets, or the file is not here.
    pub fn code_segments(&self, module: &Module) -> Vec<CodeSegment> {
        let elf = match module.kind {
            ModuleKind::User => load::file_of(&*self.supplier, module),
            ModuleKind::Vdso => load::vdso_of(&*self.supplier, module),
            _ => return Vec::new(),
        };
        elf.map_or_else(|_| Vec::new(), |elf| elf.code_segments().collect())
    }

    /// The run-time addresses that the symbols of a kernel lie at. Its map in a recording covers only its text; perf widens it
    /// to these when it reads them.
    pub fn kernel_extent(&self, kernel: &Module) -> std::ops::Range<u64> {
        self.loaded(self.key(kernel), None).extent()
    }

    /// Reads the list of the recorded kernel's symbols, if it is known which kernel that is: the kernel takes long to write it, so who
    /// will want it asks early, on a thread of its own.
    pub fn read_kernel(&self) {
        if self.kernel.is_some() {
            let kind = ModuleKind::KernelModule;
            let list = Module { path: Vec::new(), kind, build_id: None, pid: None };
            self.loaded(self.key(&list), None);
        }
    }

    /// Whether a compiler has told of more code since its module was loaded, which is then let go.
    fn has_grown(&self, key: &Module) -> bool {
        if !matches!(key.kind, ModuleKind::Jit { .. }) {
            return false;
        }
        let told = load::jit_told(&*self.supplier, key);
        let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), told);
        let grown = before != Some(told);
        if grown {
            self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
        grown
    }

    /// What was loaded for a key; loads it the first time. `pid`: a process that had it mapped.
    fn loaded(&self, key: Module, pid: Option<u32>) -> Arc<Loaded> {
        let cell = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(loaded.entry(key.clone()).or_default())
        };
        let load = || match &key.kind {
            ModuleKind::Kernel { reference } => {
                match load::vmlinux(&*self.supplier, key.build_id.as_ref(), reference.as_ref()) {
                    Some(loaded) => Arc::new(loaded),
                    None => {
                        let list = self.loaded(Module { kind: ModuleKind::KernelModule, ..key.clone() }, pid);
                        reference.as_ref().and_then(|reference| list.where_it_was(reference)).map_or(list, Arc::new)
                    }
                }
            }
            _ => Arc::new(load::load(&*self.supplier, &Module { pid, ..key.clone() })),
        };
        Arc::clone(cell.get_or_init(load))
    }

    /// What makes two modules the same: the kernel's modules share its one list; a build id says more than who mapped it.
    fn key(&self, module: &Module) -> Module {
        let build_id = module.build_id.clone();
        match module.kind {
            ModuleKind::Kernel { .. } | ModuleKind::KernelModule => Module {
                path: b"[kernel.kallsyms]".into(),
                kind: module.kind.clone(),
                build_id: self.kernel.clone().or(build_id.filter(|_| module.kind != ModuleKind::KernelModule)),
                pid: None,
            },
            _ => Module { pid: module.pid.filter(|_| build_id.is_none()), ..module.clone() },
        }
    }
}
