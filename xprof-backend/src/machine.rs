//! Where this machine describes itself: the roots of procfs, sysfs and tracefs.
//!
//! Everything that reads those trees takes a [`Machine`], so that tests can hand over the tree of another machine.
//! Directories are listed with `std::fs`; the texts are read through `sys::file`, like every other file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::file;

/// The most that is read of one text file of the kernel, bytes; the largest in practice (`kallsyms` apart) is well below.
const TEXT_MAX: usize = 4 << 20;

/// The roots of a machine's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// procfs, `/proc`.
    pub proc: PathBuf,
    /// sysfs, `/sys`.
    pub sys: PathBuf,
    /// tracefs, where it is mounted; `None` when it is not.
    pub tracing: Option<PathBuf>,
}

impl Machine {
    /// The machine this runs on.
    pub fn here() -> Machine {
        Machine::below(Path::new("/"))
    }

    /// A machine whose trees stand below `root` (`root/proc`, `root/sys`).
    pub fn below(root: &Path) -> Machine {
        let sys = root.join("sys");
        // The debugfs mount is where tracefs was before Linux 4.1, and where it still appears when debugfs is mounted.
        let tracing = ["kernel/tracing", "kernel/debug/tracing"]
            .iter()
            .map(|p| sys.join(p))
            .find(|p| fs::metadata(p.join("events")).is_ok_and(|m| m.is_dir()))
            // Mounted, but closed to this user: still the place to name in an error.
            .or_else(|| Some(sys.join("kernel/tracing")).filter(|p| unreadable(p)));
        Machine { proc: root.join("proc"), sys, tracing }
    }

    /// The directory of the PMUs.
    pub fn devices(&self) -> PathBuf {
        self.sys.join("bus/event_source/devices")
    }

    /// CPUs that are online, ascending; CPU 0 when sysfs does not say.
    pub fn online_cpus(&self) -> Vec<u32> {
        text(&self.sys.join("devices/system/cpu/online")).ok().and_then(|t| cpu_list(&t)).unwrap_or_else(|| vec![0])
    }

    /// A number below `/proc/sys/kernel`, e.g. `perf_event_paranoid`.
    pub fn kernel_setting(&self, name: &str) -> Option<i64> {
        text(&self.proc.join("sys/kernel").join(name)).ok()?.trim().parse().ok()
    }
}

fn unreadable(path: &Path) -> bool {
    fs::read_dir(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
}

/// A text file of the kernel, at most 4 MiB of it. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let bytes = file::read_small(path, TEXT_MAX)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The names in a directory, sorted; those that are not UTF-8 are left out.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut list: Vec<String> = fs::read_dir(dir)?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    list.sort_unstable();
    Ok(list)
}

/// `0-3,8,10-11`, as sysfs and `-C` write CPU lists. `None` when it is not one, or names more than 65,536 CPUs.
pub fn cpu_list(text: &str) -> Option<Vec<u32>> {
    const CPUS_MAX: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list(""), Some(vec![]));
        for bad in ["3-1", "x", "1-", "0-4000000000", "-1"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }
}
