//! The kernel's own maps and build ids: its text, its modules.
//!
//! Addresses that `kptr_restrict` hides read as zero: then there is no map, and the reason is given. The end of the
//! text is taken from `/proc/iomem` where that is possible, because reading all of kallsyms costs 30 ms.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use xprof_perfdata::abi::misc;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::record::{Mmap, MmapFile, Record};

use super::maps::hex;
use crate::machine::{self, Machine};
use crate::sys::file;
use crate::{Error, Result};

/// `NT_GNU_BUILD_ID`.
const NT_GNU_BUILD_ID: u32 = 3;
/// What perf calls the running kernel.
const KERNEL_NAME: &[u8] = b"[kernel.kallsyms]";
/// The longest text that a kernel can have, bytes: what lies further apart is not its text.
const TEXT_MAX: u64 = 1 << 30;
const NOTES_MAX: usize = 64 << 10;

/// The kernel's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Address of `_text` (`_stext` where there is no `_text`).
    pub start: u64,
    /// Bytes up to `_etext`.
    pub len: u64,
    /// The symbol the start was taken from.
    pub symbol: &'static str,
}

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, as in `/proc/modules`.
    pub name: String,
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Its file below `/lib/modules`, or `[name]` when that is unknown.
    pub path: Vec<u8>,
}

/// Finds the kernel's text. `Err` says why there is none, in a sentence for the user.
pub fn kernel(machine: &Machine) -> Result<Kernel> {
    let path = machine.proc.join("kallsyms");
    let failed = |e| Error::os(format!("read {}", path.display()), e);
    let mut lines = BufReader::with_capacity(64 << 10, fs::File::open(&path).map_err(failed)?);
    let mut line = Vec::new();
    let mut start = None;
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let Some((address, symbol)) = text_symbol(&line) else { continue };
        match (symbol, start) {
            (b"_text", _) => start = Some((address, "_text")),
            (b"_stext", None) => start = Some((address, "_stext")),
            (b"_etext", Some((first, symbol))) => return span(first, address, symbol),
            _ => continue,
        }
        // kallsyms is sorted: _stext and _text stand together at its beginning.
        if let (b"_text", Some((first, symbol))) = (symbol, start) {
            if first == 0 {
                return Err(hidden(machine));
            }
            if let Some(end) = end_from_iomem(machine, first) {
                return span(first, end, symbol);
            }
        }
    }
    match start {
        Some((0, _)) => Err(hidden(machine)),
        _ => Err(Error::Other(format!("{} does not say where the kernel's text is", path.display()))),
    }
}

fn span(start: u64, end: u64, symbol: &'static str) -> Result<Kernel> {
    let len = end.checked_sub(start).filter(|l| (1..TEXT_MAX).contains(l) && start != 0);
    let len =
        len.ok_or_else(|| Error::Other(format!("kallsyms puts the kernel's text from {start:#x} to {end:#x}")))?;
    Ok(Kernel { start, len, symbol })
}

fn hidden(machine: &Machine) -> Error {
    let setting = |name: &str| machine.kernel_setting(name).map_or_else(|| "unknown".into(), |v| v.to_string());
    let (restrict, paranoid) = (setting("kptr_restrict"), setting("perf_event_paranoid"));
    Error::Other(format!(
        "the kernel's addresses are hidden (kptr_restrict is {restrict}, perf_event_paranoid is {paranoid})"
    ))
}

/// Address and name of a line of kallsyms that is a function (`T`, `t`, `W`, `w`) of the kernel itself, or the end of its
/// text, which arm64 lists as data.
fn text_symbol(line: &[u8]) -> Option<(u64, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let space = line.iter().position(|&c| c == b' ')?;
    let [kind, b' ', name @ ..] = &line[space + 1..] else { return None };
    let is_text = matches!(kind, b'T' | b't' | b'W' | b'w') || name == b"_etext";
    is_text.then_some((hex(&line[..space])?, name))
}

/// On x86 `/proc/iomem` has the kernel's code from `_text` to `_etext - 1`; zeros for those who may not see it.
/// Elsewhere its borders are other symbols, so it is not asked.
fn end_from_iomem(machine: &Machine, start: u64) -> Option<u64> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let text = machine::text(&machine.proc.join("iomem")).ok()?;
    let line = text.lines().find(|l| l.ends_with(": Kernel code"))?;
    let (first, last) = line.trim().split(' ').next()?.split_once('-')?;
    let (first, last) = (hex(first.as_bytes())?, hex(last.as_bytes())?);
    let len = last.checked_sub(first)?.checked_add(1)?;
    if first == 0 || len == 1 {
        return None;
    }
    start.checked_add(len)
}

impl Kernel {
    /// perf's record for it, to be written with misc `KERNEL`.
    pub fn record(&self) -> Record {
        let path = [KERNEL_NAME, self.symbol.as_bytes()].concat();
        mmap(self.start, self.len, self.start, path)
    }
}

impl Module {
    /// perf's record for it, to be written with misc `KERNEL`.
    pub fn record(&self) -> Record {
        mmap(self.start, self.len, 0, self.path.clone())
    }
}

fn mmap(start: u64, len: u64, pgoff: u64, path: Vec<u8>) -> Record {
    let file = MmapFile::Unknown;
    Record::Mmap(Mmap { v2: false, pid: u32::MAX, tid: 0, start, len, pgoff, file, prot: 0, flags: 0, path })
}

/// The loaded modules, in address order; none when their addresses are hidden or the kernel has no modules.
pub fn modules(machine: &Machine) -> Vec<Module> {
    let Ok(text) = machine::text(&machine.proc.join("modules")) else { return Vec::new() };
    let mut list: Vec<Module> = text.lines().filter_map(module_line).collect();
    list.retain(|m| m.start != 0);
    list.sort_by_key(|m| m.start);
    if !list.is_empty() {
        let files = module_files(machine);
        for module in &mut list {
            if let Some(path) = files.get(&module.name) {
                module.path = path.as_bytes().to_vec();
            }
        }
    }
    list
}

/// `name size refcount users state address`.
fn module_line(line: &str) -> Option<Module> {
    let mut fields = line.split(' ');
    let (name, len) = (fields.next()?, fields.next()?.parse().ok()?);
    let start = hex(fields.nth(3)?.strip_prefix("0x")?.as_bytes())?;
    Some(Module { name: name.to_owned(), start, len, path: format!("[{name}]").into_bytes() })
}

/// Module name to file, from `modules.dep` and for those built apart a look into `/lib/modules`' own list.
fn module_files(machine: &Machine) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let Ok(release) = machine::text(&machine.proc.join("sys/kernel/osrelease")) else { return files };
    let release = release.trim();
    if release.is_empty() || release.contains('/') {
        return files;
    }
    let root = machine.proc.parent().unwrap_or(Path::new("/"));
    let base = format!("/lib/modules/{release}");
    let dep = root.join(&base[1..]).join("modules.dep");
    for line in machine::text(&dep).unwrap_or_default().lines() {
        let Some((path, _)) = line.split_once(':') else { continue };
        let file = path.rsplit('/').next().unwrap_or(path);
        let name = file.split(".ko").next().unwrap_or(file).replace('-', "_");
        let full = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
        files.insert(name, full);
    }
    files
}

/// Entries for the build-id table: the kernel's and those of the given modules.
pub fn build_ids(machine: &Machine, modules: &[Module]) -> Vec<BuildIdEntry> {
    let entry = |notes: &Path, path: Vec<u8>| {
        let notes = file::read_small(notes, NOTES_MAX).ok()?;
        Some(BuildIdEntry { misc: misc::KERNEL, pid: -1, build_id: build_id_of_notes(&notes)?, path })
    };
    let kernel = entry(&machine.sys.join("kernel/notes"), KERNEL_NAME.to_vec());
    let of_modules = modules.iter().filter_map(|m| {
        let dir = machine.sys.join("module").join(&m.name).join("notes");
        // The section's name varies; each file there is one note section.
        machine::names(&dir).ok()?.iter().find_map(|n| entry(&dir.join(n), m.path.clone()))
    });
    kernel.into_iter().chain(of_modules).collect()
}

/// The GNU build id, 1 to 20 bytes, in the notes of an ELF file of this machine's byte order.
pub fn build_id_of_notes(mut notes: &[u8]) -> Option<Vec<u8>> {
    while notes.len() >= 12 {
        let word = |i: usize| u32::from_ne_bytes([notes[i], notes[i + 1], notes[i + 2], notes[i + 3]]);
        let (name_len, desc_len, kind) = (word(0) as usize, word(4) as usize, word(8));
        let desc_at = name_len.checked_next_multiple_of(4)?.checked_add(12)?;
        let name = notes.get(12..name_len.checked_add(12)?)?;
        let desc = notes.get(desc_at..desc_at.checked_add(desc_len)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=20).contains(&desc.len()) {
            return Some(desc.to_vec());
        }
        let next = desc_at.checked_add(desc_len.checked_next_multiple_of(4)?)?;
        notes = notes.get(next..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of Debian's 6.1 for arm64: no `_text`, and `_etext` is data.
    #[test]
    fn text_of_an_arm64_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "ffff800008010000 t gic_handle_irq\nffff800008010000 T _stext\nffff800008be0000 D _etext\n";
        std::fs::write(dir.path().join("kallsyms"), lines).unwrap();
        let machine = Machine { proc: dir.path().into(), ..Machine::here() };
        let kernel = kernel(&machine).unwrap();
        assert_eq!((kernel.start, kernel.len, kernel.symbol), (0xffff_8000_0801_0000, 0xbd_0000, "_stext"));
    }

    #[test]
    fn notes_that_lie_are_no_build_id() {
        let mut note = Vec::new();
        for word in [4u32, 3, 3] {
            note.extend(word.to_ne_bytes());
        }
        note.extend(b"GNU\0\x01\x02\x03\0");
        assert_eq!(build_id_of_notes(&note), Some(vec![1, 2, 3]));
        for cut in 0..note.len() - 1 {
            assert_eq!(build_id_of_notes(&note[..cut]), None, "{cut}");
        }
        note[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id_of_notes(&note), None);
    }

    #[test]
    fn module_lines() {
        let line = "nf_tables 319488 12 nft_ct,nft_compat, Live 0xffffffffc0a1b000 (E)";
        let module = module_line(line).unwrap();
        assert_eq!((module.start, module.len, module.path), (0xffff_ffff_c0a1_b000, 319_488, b"[nf_tables]".to_vec()));
        assert_eq!(module_line("x 1 2 - Live"), None);
    }
}
