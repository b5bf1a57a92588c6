//! Whether frame pointers are enough for `-g`: they are when all code that is mapped at the start keeps them.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xprof_backend::plan::Target;
use xprof_backend::sys::file::read_small;
use xprof_profile::symbols::Linked;
use xprof_profile::unwind::keeps_frame_pointers;

use crate::supply::open;

/// `/proc/PID/maps` is read up to this many bytes.
const MAPS: usize = 4 << 20;
/// Files that are looked into; with more, stack copies are the safe choice.
const MOST_FILES: usize = 512;
/// Where libraries are, when they are where everybody's are.
const FOLDERS: [&str; 6] = [
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// Whether all executable mappings of a target keep frame pointers. What cannot be found out is no.
pub(crate) fn are_enough(target: &Target, command: &[OsString]) -> bool {
    let mut seen = HashSet::new();
    match target {
        Target::Command(_) => command.first().is_some_and(|name| command_keeps(name, &mut seen)),
        Target::Processes(ids) | Target::Threads(ids) => ids.iter().all(|&id| process_keeps(id, &mut seen)),
        Target::System | Target::Cgroups(_) => {
            let Ok(entries) = fs::read_dir("/proc") else { return false };
            let mut ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            ids.all(|id| process_keeps(id, &mut seen))
        }
        Target::Domains(_) => false,
    }
}

/// True for a file that keeps them; each is looked into once.
fn keeps(path: PathBuf, seen: &mut HashSet<PathBuf>) -> bool {
    if seen.len() >= MOST_FILES {
        return false;
    }
    seen.contains(&path) || (open(&path).is_ok_and(keeps_frame_pointers) && seen.insert(path))
}

/// A process that is gone, or the kernel's own, has nothing that does not.
fn process_keeps(id: u32, seen: &mut HashSet<PathBuf>) -> bool {
    let Ok(maps) = read_small(Path::new(&format!("/proc/{id}/maps")), MAPS) else { return true };
    let mut paths = maps.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(6, |&b| b == b' ');
        let executable = fields.nth(1)?.get(2) == Some(&b'x');
        let path = fields.nth(3)?.trim_ascii_start();
        (executable && path.starts_with(b"/")).then(|| Path::new(OsStr::from_bytes(path)).to_path_buf())
    });
    // As the process sees it: what is deleted, or in another mount namespace, is there too.
    paths.all(|path| keeps(path, seen))
}

fn command_keeps(name: &OsStr, seen: &mut HashSet<PathBuf>) -> bool {
    let Some(program) = in_path(name) else { return false };
    let mut files = vec![program];
    let mut asked = HashSet::new();
    while let Some(file) = files.pop() {
        let linked = open(&file).ok().and_then(Linked::of);
        let (Some(linked), true) = (linked, keeps(file, seen)) else { return false };
        let interpreter = linked.interpreter.map(|path| PathBuf::from(OsStr::from_bytes(&path)));
        files.extend(interpreter.filter(|path| asked.insert(path.clone())));
        for name in linked.needed {
            let name = OsStr::from_bytes(&name);
            let place = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
            let Some(place) = place else { return false };
            files.extend(Some(place).filter(|path| asked.insert(path.clone())));
        }
    }
    true
}

/// The file that a command's name leads to.
fn in_path(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
