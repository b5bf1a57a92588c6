//! Finding the names of one module: which files are asked for, in which order, and why there are none.

use std::io;
use std::sync::Arc;

use xprof_perfdata::source::Source;

use super::elf::Elf;
use super::kallsyms::{self, Kallsyms};
use super::perf_map::PerfMap;
use super::table::Table;
use super::{Module, ModuleKind, Reference, Symbol, debug_file, jitdump, symtab};
use crate::supply::{BuildId, Need, Supplier};

pub(crate) mod guest;

/// How the kernel marks the path of a mapped file that was deleted (`d_path`).
const DELETED: &[u8] = b" (deleted)";

/// What was found for one module.
pub(crate) struct Loaded {
    names: Names,
    /// What to say when an address has no name.
    advice: Option<String>,
}

enum Names {
    Table(Table),
    PerfMap(PerfMap),
    /// All of the module is one symbol.
    One(Symbol),
    None,
}

impl Loaded {
    fn none(advice: impl Into<String>) -> Loaded {
        Loaded { names: Names::None, advice: Some(advice.into()) }
    }

    /// Looks up sorted addresses.
    pub(crate) fn lookup(&self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        match &self.names {
            Names::Table(table) => table.lookup(addresses),
            Names::PerfMap(map) => map.lookup(addresses),
            Names::One(symbol) => addresses
                .iter()
                .map(|a| a.checked_sub(symbol.start).is_some_and(|o| o < symbol.size).then(|| symbol.clone()))
                .collect(),
            Names::None => vec![None; addresses.len()],
        }
    }

    /// The same names where they were when the reference was; `None` where that is so.
    pub(crate) fn where_it_was(&self, reference: &Reference) -> Option<Loaded> {
        let Names::Table(table) = &self.names else { return None };
        Some(Loaded { names: Names::Table(table.where_it_was(reference)?), advice: self.advice.clone() })
    }

    /// From the first symbol to the end of the last.
    pub(crate) fn extent(&self) -> std::ops::Range<u64> {
        if let Names::Table(table) = &self.names { table.extent() } else { 0..0 }
    }

    /// Why some addresses have no names, when that can be helped.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

/// Loads the names of a module.
pub(crate) fn load(supplier: &dyn Supplier, module: &Module) -> Loaded {
    match &module.kind {
        ModuleKind::User => user(supplier, module),
        ModuleKind::Vdso => vdso(supplier, module),
        ModuleKind::Kernel { .. } | ModuleKind::KernelModule => kernel(supplier, module),
        ModuleKind::Jit { pid, dump } => jit(supplier, *pid, dump.as_deref()),
        ModuleKind::Ksymbol { start, len } => {
            let symbol = Symbol { name: shown(&module.path).into(), start: *start, size: u64::from(*len) };
            Loaded { names: Names::One(symbol), advice: None }
        }
        ModuleKind::Hypervisor => guest::hypervisor(supplier),
        ModuleKind::Guest { machine, part } => guest::load(supplier, module, *machine, *part),
        ModuleKind::Pseudo => Loaded { names: Names::None, advice: None },
    }
}

/// A path as it is shown.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn user(supplier: &dyn Supplier, module: &Module) -> Loaded {
    match file_of(supplier, module) {
        Ok(elf) => of_elf(supplier, &elf, on_disk(&module.path), module.pid),
        Err(advice) => Loaded::none(advice),
    }
}

/// A path as it is on the disk, without the mark of a deleted file.
pub(crate) fn on_disk(path: &[u8]) -> &[u8] {
    path.strip_suffix(DELETED).unwrap_or(path)
}

/// The ELF file that a module of processes was mapped from: where it was, or in the cache. A file with another build id than
/// the recorded one is not taken.
///
/// # Errors
/// Why there is none, and what would supply it, one sentence.
pub(crate) fn file_of(supplier: &dyn Supplier, module: &Module) -> Result<Elf, String> {
    let (path, pid) = (&module.path[..], module.pid);
    let mut why = String::from("is not here");
    let mapped = Need::Mapped { path: path.to_vec(), build_id: module.build_id.clone() };
    let mut found = supplier.supply(&mapped).ok().and_then(|source| accept(source, module.build_id.as_ref(), &mut why));
    if found.is_some() {
        return found.ok_or(why);
    }
    // A deleted file's path may hold another file by now: only a build id tells.
    if !path.ends_with(DELETED) || module.build_id.is_some() {
        // With a build id to check it by, a container's file may also come from this machine.
        let pids = [Some(pid), pid.and(module.build_id.as_ref()).map(|_| None)];
        for pid in pids.into_iter().flatten() {
            match supplier.supply(&Need::Path { path: on_disk(path).to_vec(), pid }) {
                Ok(source) => found = accept(source, module.build_id.as_ref(), &mut why),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => why = format!("cannot be read ({e})"),
            }
            if found.is_some() {
                break;
            }
        }
    } else {
        why = "was deleted, and the recording has no build id to find it by".into();
    }
    if found.is_none()
        && let Some(build_id) = &module.build_id
    {
        let cached = supplier.supply(&Need::Cached { build_id: build_id.clone(), kind: "elf" }).ok();
        found = cached.and_then(|source| accept(source, Some(build_id), &mut String::new()));
        if found.is_none() {
            let download = supplier.supply(&Need::Download { build_id: build_id.clone(), what: "executable" }).ok();
            found = download.and_then(|source| accept(source, Some(build_id), &mut String::new()));
        }
    }
    // A debug file alone does not help: it does not say where in the file its addresses are.
    found.ok_or_else(|| {
        let id = module.build_id.as_ref().map_or(String::new(), |id| format!(" with build id {id}"));
        format!(
            "{}: {why}; give the folder that has it{id} with --symfs, or run `xprof archive` where it was recorded",
            shown(path)
        )
    })
}

/// The ELF file in a source, if its build id is the one that was recorded; else `why` says what it is.
fn accept(source: Arc<dyn Source>, recorded: Option<&BuildId>, why: &mut String) -> Option<Elf> {
    let elf = match Elf::open(source) {
        Ok(elf) => elf,
        Err(e) => {
            *why = e.to_string();
            return None;
        }
    };
    let Some(recorded) = recorded else { return Some(elf) };
    match elf.build_id() {
        Some(id) if same(&id, recorded) => Some(elf),
        Some(id) => {
            *why = format!("was changed since (its build id is {id} now)");
            None
        }
        None => {
            *why = "was changed since (it has no build id now)".into();
            None
        }
    }
}

/// Recorders before Linux 5.12 wrote every build id as 20 bytes, a shorter one with zeros behind it.
fn same(a: &BuildId, b: &BuildId) -> bool {
    let (short, long) = if a.0.len() <= b.0.len() { (&a.0, &b.0) } else { (&b.0, &a.0) };
    !short.is_empty() && long.starts_with(short) && long[short.len()..].iter().all(|&b| b == 0)
}

fn of_elf(supplier: &dyn Supplier, elf: &Elf, path: &[u8], pid: Option<u32>) -> Loaded {
    let stripped = !symtab::has_symtab(elf);
    let debug = if stripped { debug_file::find(supplier, elf, path, pid) } else { None };
    let mini = if stripped && debug.is_none() { debug_file::mini(elf) } else { None };
    let table = match (&debug, &mini) {
        (Some(debug), _) => symtab::table(debug, elf),
        (None, Some(mini)) => symtab::with_mini(elf, mini),
        (None, None) => symtab::table(elf, elf),
    };
    let advice = match (&table, stripped && debug.is_none()) {
        (Err(e), _) => Some(format!("{}: its symbols cannot be read: {e}", shown(path))),
        (Ok(_), false) => None,
        (Ok(table), true) => Some(format!(
            "{}: {}; install its debug symbols (Debian: the -dbgsym or -dbg package), or build it without stripping",
            shown(path),
            if table.is_empty() { "has no symbols" } else { "is stripped, only exported functions have names" }
        )),
    };
    Loaded { names: table.map_or(Names::None, Names::Table), advice }
}

fn vdso(supplier: &dyn Supplier, module: &Module) -> Loaded {
    let table = vdso_of(supplier, module).and_then(|elf| symtab::table(&elf, &elf).map_err(|e| e.to_string()));
    match table {
        Ok(table) => Loaded { names: Names::Table(table), advice: None },
        Err(advice) => Loaded::none(advice),
    }
}

/// The vdso that a module is: the one in the cache, or this machine's.
///
/// # Errors
/// Why there is none, and what would supply it, one sentence.
pub(crate) fn vdso_of(supplier: &dyn Supplier, module: &Module) -> Result<Elf, String> {
    let cached = module.build_id.as_ref().map(|id| Need::Cached { build_id: id.clone(), kind: "vdso" });
    let mut why = String::from("is not here");
    let mut sources = cached.into_iter().chain([Need::Vdso]).filter_map(|need| supplier.supply(&need).ok());
    sources.find_map(|source| accept(source, module.build_id.as_ref(), &mut why)).ok_or_else(|| {
        let path = shown(&module.path);
        format!("{path}: the one of the recorded kernel {why}; run `xprof archive` where it was recorded")
    })
}

/// The kernel's own file that the user gave; `None` when none was given.
///
/// # Errors
/// Why it cannot be used, and what would help, as the end of a sentence.
fn vmlinux_file(supplier: &dyn Supplier, recorded: Option<&BuildId>) -> Option<Result<Elf, String>> {
    let elf = match supplier.supply(&Need::Vmlinux) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        other => other.and_then(Elf::open),
    };
    Some(elf.map_err(|e| format!("cannot be read: {e}")).and_then(|elf| match (recorded, elf.build_id()) {
        (Some(recorded), Some(id)) if !same(&id, recorded) => {
            Err(format!("is of another kernel: its build id is {id}; give the one with build id {recorded}"))
        }
        _ => Ok(elf),
    }))
}

/// The names of the kernel from the file that the user gave; `None` when none was given.
pub(crate) fn vmlinux(
    supplier: &dyn Supplier,
    recorded: Option<&BuildId>,
    reference: Option<&Reference>,
) -> Option<Loaded> {
    let refused = |why: String| Some(Loaded::none(format!("[kernel.kallsyms]: the file of --vmlinux {why}")));
    let elf = match vmlinux_file(supplier, recorded)? {
        Ok(elf) => elf,
        Err(why) => return refused(why),
    };
    match symtab::kernel_table(&elf, reference) {
        Ok((table, _)) if table.is_empty() => {
            refused("has no symbols; give one that is not stripped (Debian: linux-image-*-dbg)".into())
        }
        Ok((table, _)) => Some(Loaded { names: Names::Table(table), advice: None }),
        Err(e) => refused(format!("has symbols that cannot be used: {e}")),
    }
}

/// What holds the code of the kernel, and how far from where it stands there for the recorded kernel lay: the file that the
/// user gave, or the memory of the running kernel, if it is the one that was recorded.
///
/// # Errors
/// Why there is none, and what would supply it, one sentence.
pub(crate) fn kernel_file(
    supplier: &dyn Supplier,
    module: &Module,
    reference: Option<&Reference>,
) -> Result<(Elf, u64), String> {
    let path = shown(&module.path);
    let Some(elf) = vmlinux_file(supplier, module.build_id.as_ref()) else {
        return kernel_memory(supplier, module.build_id.as_ref(), reference).map(|elf| (elf, 0)).map_err(|why| {
            let id = module.build_id.as_ref().map_or(String::new(), |id| format!(" with build id {id}"));
            format!("{path}: {why}; or give the kernel's file{id} with --vmlinux FILE (Debian: linux-image-*-dbg)")
        });
    };
    let refused = |why: String| format!("{path}: the file of --vmlinux {why}");
    let elf = elf.map_err(refused)?;
    let (_, moved) = symtab::kernel_table(&elf, reference)
        .map_err(|e| refused(format!("does not say where its code was: {e}; give one that is not stripped")))?;
    Ok((elf, moved))
}

/// The memory of the running kernel, if it is the one that was recorded, where it was then. Its code is what runs: with what the
/// kernel has patched since it was started.
///
/// # Errors
/// Why there is none, and what would help, as the middle of a sentence.
fn kernel_memory(
    supplier: &dyn Supplier,
    recorded: Option<&BuildId>,
    reference: Option<&Reference>,
) -> Result<Elf, String> {
    let memory = supplier.supply(&Need::KernelMemory { build_id: recorded.cloned() }).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            "a recording holds no code of the kernel, and the one that runs here is another; run this where it was recorded".into()
        }
        io::ErrorKind::Unsupported => {
            "a recording holds no code of the kernel, and the one that runs here has no /proc/kcore; boot one with CONFIG_PROC_KCORE".into()
        }
        io::ErrorKind::PermissionDenied => {
            "a recording holds no code of the kernel, and only root may read /proc/kcore, where no lockdown forbids it (cat /sys/kernel/security/lockdown); run this as root".into()
        }
        _ => format!("a recording holds no code of the kernel, and /proc/kcore cannot be read: {e}; run this as root"),
    })?;
    // The same kernel may lie elsewhere since it was booted again.
    if let Some(reference) = reference
        && let Ok(source) = supplier.supply(&Need::Kallsyms { build_id: recorded.cloned() })
        && let Ok(Kallsyms::Table(table)) = kallsyms::read(&*source)
        && !is_there(&table, reference)
    {
        return Err(
            "the machine was booted again since it was recorded, and its kernel lies elsewhere now; record again"
                .into(),
        );
    }
    Elf::open(memory).map_err(|e| format!("/proc/kcore: {e}; run this as root"))
}

/// Whether a kernel's symbol is where it was when it was recorded.
fn is_there(table: &Table, reference: &Reference) -> bool {
    matches!(&table.lookup(&[reference.address])[..], [Some(symbol)] if symbol.start == reference.address)
}

/// The dump of a compiler that holds the code which a process made at run time.
///
/// # Errors
/// Why there is none, and what would supply it, one sentence.
pub(crate) fn jit_dump(supplier: &dyn Supplier, pid: u32, dump: Option<&[u8]>) -> Result<Arc<dyn Source>, String> {
    let source = jit_sources(supplier, pid, dump).find(|(_, is_dump)| *is_dump);
    source.map(|(source, _)| source).ok_or_else(|| match dump {
        Some(path) => format!("{}: is not here; it has the code that process {pid} made at run time", shown(path)),
        None => format!(
            "code that process {pid} made at run time is kept by nobody; let the runtime write it while it is recorded (node --perf-prof, java with libperf-jvmti.so)"
        ),
    })
}

fn kernel(supplier: &dyn Supplier, module: &Module) -> Loaded {
    let running = Need::Kallsyms { build_id: module.build_id.clone() };
    let cached = module.build_id.as_ref().map(|id| Need::Cached { build_id: id.clone(), kind: "kallsyms" });
    let mut hidden = false;
    let mut refused = None;
    for need in std::iter::once(running).chain(cached) {
        match supplier.supply(&need).and_then(|source| kallsyms::read(&*source)) {
            Ok(Kallsyms::Table(table)) if !table.is_empty() => {
                return Loaded { names: Names::Table(table), advice: None };
            }
            Ok(Kallsyms::Table(_)) => {}
            Ok(Kallsyms::Hidden) => hidden = true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => refused = Some(e),
        }
    }
    let path = shown(&module.path);
    Loaded::none(match (hidden, refused) {
        (true, _) => format!(
            "{path}: the kernel hides its addresses (/proc/kallsyms has only zeros); run as root, or: sysctl kernel.kptr_restrict=0"
        ),
        (false, Some(e)) => format!("{path}: reading kallsyms: {e}; give a copy with --kallsyms"),
        (false, None) => format!(
            "{path}: this is not the kernel that was recorded; give its symbols with --kallsyms or --vmlinux, or run `xprof archive` where it was recorded"
        ),
    })
}

fn jit(supplier: &dyn Supplier, pid: u32, dump: Option<&[u8]>) -> Loaded {
    for (source, is_dump) in jit_sources(supplier, pid, dump) {
        let map = if is_dump { jitdump::read(&*source) } else { PerfMap::read(&*source) };
        if let Some(map) = map.ok().filter(|map| !map.is_empty()) {
            return Loaded { names: Names::PerfMap(map), advice: None };
        }
    }
    Loaded::none(format!(
        "code made at run time by process {pid}: there is no /tmp/perf-{pid}.map; let the runtime write one (node --perf-basic-prof or --perf-prof, java -XX:+DumpPerfMapAtExit, PYTHONPERFSUPPORT=1)"
    ))
}

/// What a compiler tells of the code of a process, best first; true: as a jitdump.
fn jit_sources(
    supplier: &dyn Supplier,
    pid: u32,
    dump: Option<&[u8]>,
) -> impl Iterator<Item = (Arc<dyn Source>, bool)> {
    let dump = dump.map(|path| Need::Path { path: path.to_vec(), pid: Some(pid) });
    let needs = [dump.map(|need| (need, true)), Some((Need::PerfMap { pid }, false))];
    needs.into_iter().flatten().filter_map(|(need, is_dump)| Some((supplier.supply(&need).ok()?, is_dump)))
}

/// Bytes that a compiler has told so far of the code of a module: it writes while the program runs.
pub(crate) fn jit_told(supplier: &dyn Supplier, module: &Module) -> u64 {
    match &module.kind {
        ModuleKind::Jit { pid, dump } => {
            jit_sources(supplier, *pid, dump.as_deref()).map(|(source, _)| source.len()).sum()
        }
        _ => 0,
    }
}
